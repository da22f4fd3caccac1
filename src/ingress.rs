//! The other dialects that callers speak: read into chat requests, and answers written back in the same words.
//!
//! Everything here is a pure function or a state machine over values; one path serves all dialects, so routing, cascade,
//! cache and ledger know only chat. What a dialect can say and chat cannot is refused or noted, never dropped in silence.

pub mod completions;
pub mod embeddings;
pub mod messages;
mod reading;
pub mod responses;

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
