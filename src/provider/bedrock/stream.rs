//! A stream of Converse events as chunks.
//!
//! A block of text has no start event; a tool call has, and its input comes as fragments of JSON. The usage follows the
//! end of the message, in `metadata`. A stream without `messageStop` was cut.

use super::answer::{Thought, native_reason, usage};
use super::{error, finish};
use crate::chat::{Chunk, ChunkChoice, Delta, Object, Seal, ToolCallDelta, object};
use crate::provider::adapter::{Decoder, Piece};
use crate::provider::anthropic::ANSWER_TOOL;
use crate::provider::anthropic::decode::thinking_blocks;
use crate::provider::framing::Event;

#[derive(Default)]
pub struct ConverseStream {
    /// Reasoning by the index of its block.
    thoughts: Vec<(u64, Thought)>,
    /// Calls by the index of their block.
    tools: Vec<(u64, Tool)>,
    /// Tool calls so far.
    calls: u32,
    stopped: bool,
}

struct Tool {
    /// The number of the call; `None` if the call carries the answer.
    call: Option<u32>,
    /// Some of the input was passed on.
    has_input: bool,
    is_closed: bool,
}

impl Decoder for ConverseStream {
    fn event(&mut self, event: &Event, pieces: &mut Vec<Piece>) {
        if event.name.is_empty()
            && let Some(event) = named(&event.data)
        {
            return self.event(&event, pieces);
        }
        if event.stray || event.name.ends_with("Exception") {
            return pieces.push(Piece::Failure(error::of_event(&event.name, &event.data)));
        }
        let Ok(mut members) = object(&event.data) else { return pieces.push(Piece::Unreadable) };
        match event.name.as_str() {
            // Nothing but the role.
            "messageStart" => pieces.push(one(Delta::default())),
            "contentBlockStart" => self.start(&mut members, pieces),
            "contentBlockDelta" => self.delta(&mut members, pieces),
            "contentBlockStop" => {
                let index = members.read("contentBlockIndex").unwrap_or(0);
                self.close(|at| at == index, pieces);
                self.seal(index, pieces);
            }
            "messageStop" => self.stop(&mut members, pieces),
            "metadata" => {
                pieces
                    .push(Piece::Chunk(Chunk { usage: members.take_as("usage").and_then(usage), ..Chunk::default() }));
                if self.stopped {
                    pieces.push(Piece::Done);
                }
            }
            // Whatever may be added.
            _ => {}
        }
    }
}

/// An event that a proxy sends as a server-sent one: its name is the only member of the payload.
fn named(data: &str) -> Option<Event> {
    let members = object(data).ok()?;
    let [(name, payload)] = &members.0[..] else { return None };
    let is_name = name.starts_with("content") || name.starts_with("message") || name == "metadata";
    let is_event = is_name || name.ends_with("Exception");
    is_event.then(|| Event { name: name.to_string(), data: payload.get().to_owned(), ..Event::default() })
}

impl ConverseStream {
    fn start(&mut self, members: &mut Object<'_>, pieces: &mut Vec<Piece>) {
        let index = members.read("contentBlockIndex").unwrap_or(0);
        let mut start: Object<'_> = members.take_as("start").unwrap_or_default();
        let Some(mut tool) = start.take_as::<Object<'_>>("toolUse") else { return };
        let name: String = tool.take_as("name").unwrap_or_default();
        let call = (name != ANSWER_TOOL).then_some(self.calls);
        if let Some(call) = call {
            self.calls += 1;
            let id = tool.take_as::<String>("toolUseId").filter(|id| !id.is_empty());
            let id = Some(id.unwrap_or_else(|| format!("call_{call}")));
            pieces.push(fragment(ToolCallDelta { index: call, id, name: Some(name), ..ToolCallDelta::default() }));
        }
        self.tools.push((index, Tool { call, has_input: false, is_closed: false }));
    }

    fn delta(&mut self, members: &mut Object<'_>, pieces: &mut Vec<Piece>) {
        let index = members.read("contentBlockIndex").unwrap_or(0);
        let mut delta: Object<'_> = members.take_as("delta").unwrap_or_default();
        if let Some(text) = delta.take_as::<String>("text") {
            if !text.is_empty() {
                pieces.push(Piece::Chunk(Chunk::text(text)));
            }
        } else if let Some(mut tool) = delta.take_as::<Object<'_>>("toolUse") {
            let input: String = tool.take_as("input").unwrap_or_default();
            let tool = self.tools.iter_mut().rev().find(|(at, tool)| *at == index && !tool.is_closed);
            if let Some((_, tool)) = tool.filter(|_| !input.is_empty()) {
                tool.has_input = true;
                pieces.push(argument(tool.call, input));
            }
        } else if let Some(mut reasoning) = delta.take_as::<Object<'_>>("reasoningContent") {
            let thought = self.thought(index);
            thought.signature.push_str(&reasoning.take_as::<String>("signature").unwrap_or_default());
            thought.redacted.push_str(&reasoning.take_as::<String>("redactedContent").unwrap_or_default());
            if let Some(text) = reasoning.take_as::<String>("text").filter(|text| !text.is_empty()) {
                thought.text.push_str(&text);
                pieces.push(one(Delta { reasoning_content: Some(text), ..Delta::default() }));
            }
        }
    }

    /// The reasoning at `index`; its first delta begins it.
    fn thought(&mut self, index: u64) -> &mut Thought {
        let place = self.thoughts.iter().rposition(|(at, _)| *at == index).unwrap_or_else(|| {
            self.thoughts.push((index, Thought::default()));
            self.thoughts.len() - 1
        });
        &mut self.thoughts[place].1
    }

    /// Ends tool calls. One whose input never came has no arguments.
    fn close(&mut self, which: impl Fn(u64) -> bool, pieces: &mut Vec<Piece>) {
        for (at, tool) in &mut self.tools {
            if which(*at) && !std::mem::replace(&mut tool.is_closed, true) && !tool.has_input {
                pieces.push(argument(tool.call, "{}".to_owned()));
            }
        }
    }

    /// Passes on what signs or hides the thinking that has ended, for callers who want it in its place.
    fn seal(&self, index: u64, pieces: &mut Vec<Piece>) {
        let Some((_, thought)) = self.thoughts.iter().rev().find(|(at, _)| *at == index) else { return };
        let seal = match thought.kept() {
            Some(block) if !thought.redacted.is_empty() => Seal::Redacted(block),
            Some(_) => Seal::Signature(thought.signature.clone()),
            None => return,
        };
        pieces.push(one(Delta { seal: Some(seal), ..Delta::default() }));
    }

    fn stop(&mut self, members: &mut Object<'_>, pieces: &mut Vec<Piece>) {
        let Some(stop_reason) = members.take_as::<String>("stopReason") else {
            return pieces.push(Piece::Unreadable);
        };
        self.close(|_| true, pieces);
        let (finish, raw_reason) = match finish(&stop_reason, self.calls > 0) {
            Ok(ending) => ending,
            Err(failure) => return pieces.push(Piece::Failure(failure)),
        };
        self.stopped = true;
        let kept: Vec<String> = self.thoughts.iter().filter_map(|(_, thought)| thought.kept()).collect();
        pieces.push(Piece::Chunk(Chunk {
            choices: vec![ChunkChoice {
                index: 0,
                // Once and whole: nobody could put a list back together from fragments.
                delta: Delta { extra: thinking_blocks(&kept), ..Delta::default() },
                finish: Some(finish),
                extra: native_reason(raw_reason),
            }],
            ..Chunk::default()
        }));
    }
}

fn argument(call: Option<u32>, piece: String) -> Piece {
    match call {
        Some(index) => fragment(ToolCallDelta { index, arguments: piece, ..ToolCallDelta::default() }),
        None => Piece::Chunk(Chunk::text(piece)),
    }
}

fn fragment(call: ToolCallDelta) -> Piece {
    one(Delta { tool_calls: vec![call], ..Delta::default() })
}

fn one(delta: Delta) -> Piece {
    Piece::Chunk(Chunk { choices: vec![ChunkChoice { delta, ..ChunkChoice::default() }], ..Chunk::default() })
}
