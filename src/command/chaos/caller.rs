//! Callers who know what they should have got.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderValue};
use serde::Serialize;
use serde_json::{Value, json};

use super::stage::ANSWER;
use crate::provider::adapter::Outgoing;
use crate::provider::transport::Transport;

/// What a crowd of callers saw.
#[derive(Debug, Default, Serialize)]
pub struct Seen {
    pub asked: usize,
    /// Whole and right.
    pub answered: usize,
    /// Who answered, and how often.
    pub by: BTreeMap<String, usize>,
    /// Streams that broke after their first words, and said so.
    pub cut: usize,
    /// Errors with a status.
    pub errors: usize,
    /// Everything else: an answer that looks whole and is not, a connection that broke without a word.
    pub lied: usize,
    #[serde(rename = "median_ms", serialize_with = "millis")]
    pub median: Duration,
    #[serde(rename = "longest_ms", serialize_with = "millis")]
    pub longest: Duration,
}

fn millis<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(duration.as_millis() as u64)
}

/// Who answered, as far as it was told.
enum By {
    Provider(String),
    /// Where the answer was long in coming, its head had to go out before anybody was known to answer.
    Model(String),
}

enum Sight {
    Answered(By),
    Cut,
    Error,
    Lie,
}

/// How many ask at once.
const AT_ONCE: usize = 10;

/// `requests` callers, every second one streaming, who all prefer `provider`.
/// `owner` says whose a model is.
pub async fn crowd(url: &str, provider: &str, requests: usize, owner: impl Fn(&str) -> String) -> Seen {
    let transport = Transport::default();
    let (mut seen, mut times) = (Seen { asked: requests, ..Seen::default() }, Vec::new());
    let numbers: Vec<usize> = (0..requests).collect();
    for batch in numbers.chunks(AT_ONCE) {
        let asked = batch.iter().map(|number| async {
            let began = Instant::now();
            let sight = ask(&transport, url, provider, *number).await.unwrap_or(Sight::Lie);
            (sight, began.elapsed())
        });
        for (sight, took) in join_all(asked).await {
            times.push(took);
            match sight {
                Sight::Answered(by) => {
                    let by = match by {
                        By::Provider(name) => name,
                        By::Model(model) => owner(&model),
                    };
                    seen.answered += 1;
                    *seen.by.entry(by).or_default() += 1;
                }
                Sight::Cut => seen.cut += 1,
                Sight::Error => seen.errors += 1,
                Sight::Lie => seen.lied += 1,
            }
        }
    }
    times.sort_unstable();
    seen.median = times.get(times.len() / 2).copied().unwrap_or_default();
    seen.longest = times.last().copied().unwrap_or_default();
    seen
}

/// One request; `None` if not even an error was told.
async fn ask(transport: &Transport, url: &str, provider: &str, number: usize) -> Option<Sight> {
    let stream = number % 2 == 1;
    let body = json!({
        "model": "auto", "stream": stream, "provider": {"order": [provider]},
        "messages": [{"role": "user", "content": format!("Count to twelve in words. ({number})")}],
    });
    let outgoing = Outgoing {
        url: url.to_owned(),
        headers: HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]),
        body: Bytes::from(body.to_string()),
        script: None,
        warnings: Vec::new(),
    };
    let incoming = transport.send(outgoing, Duration::from_secs(3)).await.ok()?;
    let (status, headers) = (incoming.status, incoming.headers.clone());
    let body = incoming.collect().await.ok()?;
    let by = headers.get("x-stepwell-provider").and_then(|name| name.to_str().ok()).unwrap_or_default().to_owned();
    Some(match (status.is_success(), stream) {
        (false, _) => told(&body),
        (true, true) => streamed(&body, &by),
        (true, false) => {
            let answer: Value = serde_json::from_slice(&body).ok()?;
            let choice = &answer["choices"][0];
            let whole = choice["message"]["content"] == ANSWER && choice["finish_reason"] == "stop";
            if whole { Sight::Answered(By::Provider(by)) } else { Sight::Lie }
        }
    })
}

/// An error has to have OpenAI's shape, or an SDK cannot tell it.
fn told(body: &[u8]) -> Sight {
    let error = serde_json::from_slice::<Value>(body).unwrap_or_default();
    if error["error"]["message"].is_string() { Sight::Error } else { Sight::Lie }
}

fn streamed(body: &[u8], by: &str) -> Sight {
    let text = String::from_utf8_lossy(body);
    let data: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    let chunks: Vec<Value> = data.iter().filter_map(|data| serde_json::from_str(data).ok()).collect();
    let said: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    let finished = chunks.iter().any(|chunk| chunk["choices"][0]["finish_reason"].is_string());
    let failed = chunks.iter().any(|chunk| chunk["error"]["message"].is_string());
    let done = data.last() == Some(&"[DONE]");
    let model = || chunks.iter().find_map(|chunk| chunk["model"].as_str()).unwrap_or("?").to_owned();
    let by = if by.is_empty() { By::Model(model()) } else { By::Provider(by.to_owned()) };
    match (failed, finished || done) {
        (false, true) if done && said == ANSWER => Sight::Answered(by),
        (true, false) => {
            if said.is_empty() {
                Sight::Error
            } else {
                Sight::Cut
            }
        }
        _ => Sight::Lie,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(content: &str, finish: Value) -> String {
        format!("data: {}\n\n", json!({"choices": [{"delta": {"content": content}, "finish_reason": finish}]}))
    }

    #[test]
    fn only_a_whole_answer_is_an_answer() {
        let error = format!("data: {}\n\n", json!({"error": {"message": "cut"}}));
        let done = "data: [DONE]\n\n";
        let (whole, half) = (chunk(ANSWER, json!("stop")), chunk("one two", Value::Null));
        let sight = |body: String| streamed(body.as_bytes(), "");
        assert!(matches!(sight(format!("{whole}{done}")), Sight::Answered(_)));
        assert!(matches!(sight(format!("{half}{error}")), Sight::Cut));
        assert!(matches!(sight(error.clone()), Sight::Error));
        for lie in [format!("{half}{done}"), half.clone(), whole.clone(), format!("{half}{error}{done}"), String::new()]
        {
            assert!(matches!(sight(lie.clone()), Sight::Lie), "{lie}");
        }
    }
}
