//! A stream of chat events as chunks.
//!
//! Only `message-end` ends an answer: the `[DONE]` that follows it says nothing more, and without `message-end` the
//! stream was cut.

use std::borrow::Cow;

use super::decode::{arguments, ending, failure, logprobs, server_error, usage};
use super::finish;
use crate::chat::{Chunk, ChunkChoice, Delta, Extra, Object, ToolCallDelta, object};
use crate::provider::adapter::{Decoder, Piece};
use crate::provider::framing::Event;

/// More parallel calls than this in one turn is an attack on our memory, not an answer.
const MAX_CALLS: usize = 1024;

#[derive(Default)]
pub struct ChatStream {
    calls: Vec<Call>,
}

struct Call {
    /// The provider's own number.
    given: Option<u64>,
    has_arguments: bool,
}

impl Decoder for ChatStream {
    fn event(&mut self, event: &Event, pieces: &mut Vec<Piece>) {
        let data = event.data.trim();
        if data.is_empty() || data.starts_with("[DONE]") {
            return;
        }
        let Ok(mut members) = object(data) else { return pieces.push(Piece::Unreadable) };
        let kind: Cow<'_, str> = match members.read::<&str>("type") {
            Some(kind) => kind.into(),
            None => event.name.as_str().into(),
        };
        let is_error = kind == "error" || members.get("error").is_some();
        if is_error || (kind.is_empty() && members.read::<&str>("message").is_some()) {
            return pieces.push(Piece::Failure(failure(data).unwrap_or_else(server_error)));
        }
        let mut delta: Object<'_> = members.take_as("delta").unwrap_or_default();
        let mut message: Object<'_> = delta.take_as("message").unwrap_or_default();
        match &*kind {
            "message-start" => pieces.push(Piece::Chunk(Chunk {
                id: members.take_as("id"),
                model: members.take_as("model"),
                // Nothing but the role.
                choices: vec![ChunkChoice::default()],
                ..Chunk::default()
            })),
            "content-start" | "content-delta" => {
                let mut content: Object<'_> = message.take_as("content").unwrap_or_default();
                let text = content.take_as::<String>("text");
                let thoughts = content.take_as::<String>("thinking");
                let extra: Extra = members.take("logprobs").and_then(logprobs).into_iter().collect();
                say(Delta { content: text, reasoning_content: thoughts, ..Delta::default() }, extra, pieces);
            }
            "tool-plan-delta" => {
                let plan = message.take_as::<String>("tool_plan");
                say(Delta { reasoning_content: plan, ..Delta::default() }, Extra::new(), pieces);
            }
            "tool-call-start" | "tool-call-delta" => {
                let given = members.read("index");
                let call = first(&mut message, "tool_calls");
                self.call(&kind, given, call, pieces);
            }
            "tool-call-end" => self.close(members.read("index"), pieces),
            "citation-start" => {
                let citation = first(&mut message, "citations");
                if let Ok(list) = serde_json::value::to_raw_value(&[citation]) {
                    let extra = vec![("citations".into(), list)];
                    say(Delta { extra, ..Delta::default() }, Extra::new(), pieces);
                }
            }
            "message-end" => self.end(&mut delta, pieces),
            // What may be added one day.
            _ if event.stray => pieces.push(Piece::Unreadable),
            _ => {}
        }
    }
}

impl ChatStream {
    fn call(&mut self, kind: &str, given: Option<u64>, mut call: Object<'_>, pieces: &mut Vec<Piece>) {
        let mut function: Object<'_> = call.take_as("function").unwrap_or_default();
        let piece = arguments(&mut function).unwrap_or_default();
        let begins = kind == "tool-call-start" && self.calls.len() < MAX_CALLS;
        if begins {
            self.calls.push(Call { given, has_arguments: false });
        }
        let known = self.calls.iter().rposition(|call| call.given == given);
        let Some(index) = known.or(self.calls.len().checked_sub(1)) else { return };
        self.calls[index].has_arguments |= !piece.is_empty();
        let id = call.take_as::<String>("id").filter(|id| !id.is_empty());
        let call = ToolCallDelta {
            index: index as u32,
            id: begins.then(|| id.unwrap_or_else(|| format!("call_{index}"))),
            name: function.take_as::<String>("name").filter(|_| begins),
            arguments: piece,
            extra: Extra::new(),
        };
        say(Delta { tool_calls: vec![call], ..Delta::default() }, Extra::new(), pieces);
    }

    /// A call without arguments gets no delta at all, and "" is not JSON.
    fn close(&mut self, given: Option<u64>, pieces: &mut Vec<Piece>) {
        let Some(index) = self.calls.iter().rposition(|call| call.given == given) else { return };
        if !std::mem::replace(&mut self.calls[index].has_arguments, true) {
            let call = ToolCallDelta { index: index as u32, arguments: "{}".to_owned(), ..ToolCallDelta::default() };
            say(Delta { tool_calls: vec![call], ..Delta::default() }, Extra::new(), pieces);
        }
    }

    fn end(&mut self, delta: &mut Object<'_>, pieces: &mut Vec<Piece>) {
        let reason: String = delta.take_as("finish_reason").unwrap_or_default();
        let (finish, raw_reason) = match finish(&reason, !self.calls.is_empty()) {
            Ok(finish) => finish,
            Err(mut failure) => {
                failure.message = delta.take_as::<String>("error").unwrap_or(failure.message);
                return pieces.push(Piece::Failure(failure));
            }
        };
        let last = ChunkChoice { finish: Some(finish), extra: ending(raw_reason), ..ChunkChoice::default() };
        let usage = delta.take_as("usage").and_then(usage);
        pieces.push(Piece::Chunk(Chunk { choices: vec![last], usage, ..Chunk::default() }));
        pieces.push(Piece::Done);
    }
}

/// The one thing that an event carries: an object, which some deployments put into a list.
fn first<'a>(message: &mut Object<'a>, name: &str) -> Object<'a> {
    let Some(raw) = message.take(name) else { return Object::default() };
    match raw.get().starts_with('[') {
        true => serde_json::from_str::<Vec<Object<'a>>>(raw.get()).unwrap_or_default().into_iter().next(),
        false => serde_json::from_str(raw.get()).ok(),
    }
    .unwrap_or_default()
}

fn say(delta: Delta, extra: Extra, pieces: &mut Vec<Piece>) {
    let choices = vec![ChunkChoice { delta, extra, ..ChunkChoice::default() }];
    pieces.push(Piece::Chunk(Chunk { choices, ..Chunk::default() }));
}
