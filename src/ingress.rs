//! The other dialects that callers speak: read into chat requests, and answers written back in the same words.
//!
//! Everything here is a pure function or a state machine over values; one path serves all dialects, so routing, cascade,
//! cache and ledger know only chat. What a dialect can say and chat cannot is refused or noted, never dropped in silence.

pub mod completions;
pub mod embeddings;
pub mod messages;
mod reading;
pub mod responses;
pub mod wellformed; // what parsers that only scan let pass

use bytes::Bytes;
use serde_json::Value;

use crate::chat::{Chunk, Response, Usage};

/// A request as chat, and who writes its answer.
pub struct Asked {
    /// The body of a chat request.
    pub chat: Bytes,
    /// The caller's own words, where a provider may speak the same dialect.
    pub native: Option<crate::chat::Native>,
    /// What could not be said as chat, whoever answers.
    pub notes: Vec<String>,
    pub writer: Box<dyn Writer>,
}

/// What is the same in every piece of one answer.
#[derive(Clone, Debug, Default)]
pub struct Envelope {
    /// The id of the chat answer.
    pub id: String,
    /// Unix seconds.
    pub created: i64,
    /// The model that answers, in the provider's own words.
    pub model: String,
    /// The decision as a JSON object, for callers who asked for it; the member `stepwell`.
    pub explanation: Option<Vec<u8>>,
}

impl Envelope {
    /// The envelope of a whole answer.
    fn of(answer: &Response) -> Self {
        Self { id: answer.id.clone(), created: answer.created, model: answer.model.clone(), explanation: None }
    }
}

/// Writes one answer in the caller's dialect. A stream is `begin`, any number of `chunk`, then `end` or `broken`.
pub trait Writer: Send {
    /// A whole answer as JSON.
    fn whole(&mut self, answer: &Response, out: &mut Vec<u8>);

    fn begin(&mut self, envelope: Envelope, out: &mut Vec<u8>);

    fn chunk(&mut self, chunk: &Chunk, out: &mut Vec<u8>);

    /// The answer is complete.
    fn end(&mut self, usage: Option<&Usage>, out: &mut Vec<u8>);

    /// The answer ends without being complete, and must not look as if it were. `error` is OpenAI's error body.
    fn broken(&mut self, error: &Value, out: &mut Vec<u8>);
}

/// Puts the decision, where it was asked for, into the first object of a stream.
fn explain(object: &mut Value, explanation: Option<&[u8]>) {
    if let Some(explanation) = explanation.and_then(|raw| serde_json::from_slice(raw).ok()) {
        object["stepwell"] = explanation;
    }
}

/// An id of another dialect made from that of the chat answer, so that one can be found by the other.
fn renamed(id: &str, prefix: &str) -> String {
    let known = ["chatcmpl-", "msg_", "resp_", "cmpl-", "gen-"];
    let bare = known.iter().find_map(|known| id.strip_prefix(known)).unwrap_or(id);
    format!("{prefix}{bare}")
}

/// One named event of a stream.
fn event(out: &mut Vec<u8>, name: &str, data: &Value) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    // Writing a value to memory as JSON cannot fail.
    let _ = serde_json::to_writer(&mut *out, data);
    out.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::chat::Request;

    /// A body of each dialect that uses most of it.
    fn bodies() -> [Value; 5] {
        let tool = json!({"name": "f", "description": "d", "input_schema": {"type": "object"}});
        let blocks = json!([
            {"type": "text", "text": "é \u{1F600}", "cache_control": {"type": "ephemeral"}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
            {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "r"}]},
        ]);
        let parts = json!([
            {"type": "text", "text": "a"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
        ]);
        [
            json!({"model": "m", "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": parts}],
                "tools": [{"type": "function", "function": {"name": "f"}}], "stream": true, "stop": ["x"]}),
            json!({"model": "m", "max_tokens": 9, "system": [{"type": "text", "text": "s"}], "tools": [tool],
                "thinking": {"type": "enabled", "budget_tokens": 1024}, "messages": [{"role": "user", "content": blocks},
                {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]}]}),
            json!({"model": "m", "instructions": "s", "reasoning": {"effort": "low"}, "input": [
                {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}]},
                {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c", "output": "r"}]}),
            json!({"model": "m", "prompt": ["a"], "stream_options": {"include_usage": true}, "logprobs": 0}),
            json!({"model": "m", "input": ["a", "b"], "dimensions": 3, "encoding_format": "base64"}),
        ]
    }

    /// Reads as every dialect; whatever can be read is read to the last member.
    fn read_all(body: &[u8]) {
        let body = Bytes::copy_from_slice(body);
        let chat = |bytes: Bytes| {
            let Ok(request) = Request::parse(bytes) else { return };
            let _ = (request.messages(), request.prompt(), request.all_text(), request.text_bytes());
        };
        chat(body.clone());
        for asked in [messages::read(&body), responses::read(&body), completions::read(&body)].into_iter().flatten() {
            chat(asked.chat);
        }
        let _ = messages::count(&body);
        if let Ok((request, _)) = embeddings::read(&body) {
            let _ = (request.messages(), request.all_text());
        }
    }

    /// Puts `other` in the place of the value that stands `at` places deep into a walk of `value`.
    fn replace(value: &mut Value, at: &mut usize, other: &Value) {
        if *at == 0 {
            *value = other.clone();
        }
        *at = at.wrapping_sub(1);
        match value {
            Value::Object(members) => members.values_mut().for_each(|value| replace(value, at, other)),
            Value::Array(items) => items.iter_mut().for_each(|value| replace(value, at, other)),
            _ => {}
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            read_all(&bytes);
        }

        #[test]
        fn no_changed_byte_makes_a_reader_panic(
            which in 0usize..5,
            at in any::<proptest::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut body = bodies()[which].to_string().into_bytes();
            let at = at.index(body.len());
            body[at] = byte;
            read_all(&body);
            read_all(&body[..at]);
        }

        #[test]
        fn no_value_of_another_type_makes_a_reader_panic(which in 0usize..5, mut at in 1usize..60, other in 0usize..8) {
            let others = [json!(null), json!(-1), json!(1e300), json!(""), json!("x"), json!([]), json!({}), json!([{}])];
            let mut body = bodies()[which].clone();
            replace(&mut body, &mut at, &others[other]);
            read_all(body.to_string().as_bytes());
        }
    }
}
