//! OpenAI's legacy text completions as callers speak them: one prompt in, text out.
//!
//! The prompt becomes one message of the user, so every provider can answer. What only a raw text model can do is
//! refused: `echo`, `suffix`, `best_of`, prompts as token ids.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::reading::{self, OURS, take, take_text};
use super::{Asked, Envelope, Writer, explain, renamed};
use crate::chat::{Chunk, Finish, Invalid, Response, Usage};

/// Members that mean the same in chat.
const SAME: [&str; 13] = [
    "max_tokens",
    "temperature",
    "top_p",
    "n",
    "stream",
    "stream_options",
    "stop",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "user",
    "seed",
    "metadata",
];

/// Reads a request with one prompt.
pub fn read(body: &Bytes) -> Result<Asked, Invalid> {
    let mut members = reading::members(body)?;
    let mut chat = Map::new();
    let model = take_text(&mut members, "model")?.ok_or_else(|| Invalid::missing("model"))?;
    chat.insert("model".into(), json!(model));
    let prompt = prompt(take(&mut members, "prompt"))?;
    chat.insert("messages".into(), json!([{"role": "user", "content": prompt}]));
    for (name, neutral) in
        [("echo", json!(false)), ("best_of", json!(1)), ("suffix", json!("")), ("logprobs", json!(0))]
    {
        if take(&mut members, name).is_some_and(|value| value != neutral) {
            let message = format!("`{name}` is not supported: prompts are answered by chat models");
            return Err(Invalid::value(name, message));
        }
    }
    for name in OURS.iter().chain(&SAME) {
        chat.extend(take(&mut members, name).map(|value| ((*name).to_owned(), value)));
    }
    let include_usage = chat.get("stream_options").is_some_and(|options| options["include_usage"] == true);
    let notes = members.keys().take(8).map(|name| {
        let name: String = name.chars().filter(char::is_ascii_graphic).take(40).collect();
        format!("`{name}` has no place in chat and was left out")
    });
    Ok(Asked {
        notes: notes.collect(),
        chat: reading::body(&chat),
        native: None,
        writer: Box::new(TextWriter { include_usage, ..TextWriter::default() }),
    })
}

fn prompt(prompt: Option<Value>) -> Result<String, Invalid> {
    match prompt {
        Some(Value::String(text)) => Ok(text),
        Some(Value::Array(mut list)) if list.len() == 1 && list[0].is_string() => match list.pop() {
            Some(Value::String(text)) => Ok(text),
            _ => Err(Invalid::kind("prompt", "a string")),
        },
        Some(Value::Array(list)) if list.iter().all(Value::is_string) && !list.is_empty() => {
            let message = "`prompt` with several prompts is not supported; send one request for each";
            Err(Invalid::value("prompt", message))
        }
        Some(Value::Array(_)) => {
            let message = "`prompt` as token ids is not supported: ids differ from model to model; send text";
            Err(Invalid::value("prompt", message))
        }
        Some(_) => Err(Invalid::kind("prompt", "a string")),
        None => Err(Invalid::missing("prompt")),
    }
}

/// Writes one answer.
#[derive(Default)]
struct TextWriter {
    envelope: Envelope,
    include_usage: bool,
}

impl TextWriter {
    fn object(&self, choices: Vec<Value>) -> Value {
        json!({
            "id": renamed(&self.envelope.id, "cmpl-"),
            "object": "text_completion",
            "created": self.envelope.created,
            "model": self.envelope.model,
            "choices": choices,
        })
    }

    fn event(&self, value: &Value, out: &mut Vec<u8>) {
        out.extend_from_slice(b"data: ");
        // Writing a value to memory as JSON cannot fail.
        let _ = serde_json::to_writer(&mut *out, value);
        out.extend_from_slice(b"\n\n");
    }
}

fn choice(index: u32, text: &str, finish: Option<Finish>) -> Value {
    // A text model knows no tools: whatever ended the answer otherwise, it stopped.
    let finish = finish.map(|finish| match finish {
        Finish::Length | Finish::ContentFilter => finish.as_str(),
        _ => "stop",
    });
    json!({"text": text, "index": index, "logprobs": null, "finish_reason": finish})
}

impl Writer for TextWriter {
    fn whole(&mut self, answer: &Response, out: &mut Vec<u8>) {
        self.envelope = Envelope::of(answer);
        let choices = answer.choices.iter().map(|one| {
            let text = one.message.content.as_deref().or(one.message.refusal.as_deref()).unwrap_or_default();
            choice(one.index, text, Some(one.finish))
        });
        let mut object = self.object(choices.collect());
        object["usage"] = json!(answer.usage);
        let _ = serde_json::to_writer(out, &object);
    }

    fn begin(&mut self, envelope: Envelope, _out: &mut Vec<u8>) {
        self.envelope = envelope;
    }

    fn chunk(&mut self, chunk: &Chunk, out: &mut Vec<u8>) {
        let choices = chunk.choices.iter().filter_map(|one| {
            let text = one.delta.content.as_deref().or(one.delta.refusal.as_deref()).unwrap_or_default();
            (!text.is_empty() || one.finish.is_some()).then(|| choice(one.index, text, one.finish))
        });
        let choices: Vec<Value> = choices.collect();
        if !choices.is_empty() {
            let mut object = self.object(choices);
            if self.include_usage {
                object["usage"] = Value::Null;
            }
            explain(&mut object, self.envelope.explanation.take().as_deref());
            self.event(&object, out);
        }
    }

    fn end(&mut self, usage: Option<&Usage>, out: &mut Vec<u8>) {
        if let Some(usage) = usage.filter(|_| self.include_usage) {
            let mut object = self.object(Vec::new());
            object["usage"] = json!(usage);
            self.event(&object, out);
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }

    fn broken(&mut self, error: &Value, out: &mut Vec<u8>) {
        self.event(error, out);
    }
}
