//! `stepwell chat`: one answer, or a conversation, from a running server.

use std::io::{BufRead, IsTerminal, Write};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::{Exit, Outcome, block_on};
use crate::dispatch::stream::OpenStream;
use crate::provider::adapter::{Adapter, Outgoing};
use crate::provider::failure::Failure;
use crate::provider::framing::Framing;
use crate::provider::openai::OpenAi;
use crate::provider::transport::Transport;

const CONNECT: Duration = Duration::from_secs(3);
const SILENCE: Duration = Duration::from_secs(120);

pub fn run(prompt: Option<String>, model: &str, url: &str, api_key: Option<&str>) -> Outcome {
    let server = Server { transport: Transport::default(), url, api_key, model };
    block_on(async {
        let mut messages = Vec::new();
        if let Some(prompt) = prompt {
            return server.turn(&mut messages, prompt).await;
        }
        eprintln!("talking to {url}, model {model}; an empty line or Ctrl-D ends");
        loop {
            if std::io::stdin().is_terminal() {
                eprint!("> ");
            }
            let mut line = String::new();
            let read = std::io::stdin().lock().read_line(&mut line);
            if !matches!(read, Ok(1..)) || line.trim().is_empty() {
                return Ok(());
            }
            server.turn(&mut messages, line.trim().to_owned()).await?;
        }
    })?
}

struct Server<'a> {
    transport: Transport,
    url: &'a str,
    api_key: Option<&'a str>,
    model: &'a str,
}

impl Server<'_> {
    /// One question and its answer, printed as it comes and appended to the conversation.
    async fn turn(&self, messages: &mut Vec<Value>, prompt: String) -> Outcome {
        messages.push(json!({"role": "user", "content": prompt}));
        let body = json!({
            "model": self.model, "messages": messages, "stream": true, "stream_options": {"include_usage": true},
        });
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(key) = self.api_key
            && let Ok(value) = HeaderValue::try_from(format!("Bearer {key}"))
        {
            headers.insert(AUTHORIZATION, value);
        }
        let outgoing = Outgoing {
            url: format!("{}/chat/completions", self.url.trim_end_matches('/')),
            headers,
            body: Bytes::from(body.to_string()),
            script: None,
            warnings: Vec::new(),
        };
        let incoming = self.transport.send(outgoing, CONNECT).await.map_err(|failure| {
            Exit::new(
                Exit::NOTHING_REACHABLE,
                format!("no server at {}: {}; start one with `stepwell`", self.url, failure.message),
            )
        })?;
        if !incoming.status.is_success() {
            let (status, headers) = (incoming.status, incoming.headers.clone());
            let failure = OpenAi.failure(status, &headers, &incoming.head(64 << 10).await, 0);
            return Err(Exit::new(Exit::FAILED, failure.message));
        }
        let said =
            |name: &str| incoming.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("?").to_owned();
        let who = format!("{}/{} ({})", said("x-stepwell-provider"), said("x-stepwell-model"), said("x-stepwell-task"));
        let mut stream = OpenStream::new(incoming, &OpenAi, Framing::Sse, SILENCE, &"stepwell".into());
        let answer = print_all(&mut stream).await.map_err(|failure| Exit::new(Exit::FAILED, failure.message))?;
        let usage =
            stream.usage().map(|usage| format!(", {} + {} tokens", usage.prompt_tokens, usage.completion_tokens));
        eprintln!("\n[{who}{}]", usage.unwrap_or_default());
        messages.push(json!({"role": "assistant", "content": answer}));
        Ok(())
    }
}

async fn print_all(stream: &mut OpenStream) -> Result<String, Failure> {
    let mut answer = String::new();
    while let Some(chunk) = stream.next().await? {
        for text in chunk.choices.iter().filter_map(|choice| choice.delta.content.as_deref()) {
            answer.push_str(text);
            print!("{text}");
            // A terminal that cannot show it now will show it with the next piece.
            let _ = std::io::stdout().flush();
        }
    }
    Ok(answer)
}
