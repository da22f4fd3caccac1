//! A stream of message events as chunks.
//!
//! Content blocks have an index over the whole message, tool calls one of their own: the n-th `tool_use` block is call n
//! wherever it stands. Events may come in any order; what refers to a block that never started is left out.

use std::borrow::Cow;

use serde_json::json;

use super::decode::{Counts, compact, endings, thinking_blocks};
use super::{ANSWER_TOOL, finish};
use crate::chat::{Chunk, ChunkChoice, Delta, Object, Seal, ToolCallDelta, object};
use crate::provider::adapter::{Decoder, Piece};
use crate::provider::failure::{Failure, FailureKind};
use crate::provider::framing::Event;

#[derive(Default)]
pub struct MessageStream {
    /// Blocks by their index, in the order in which they started.
    blocks: Vec<(u64, Block)>,
    /// Tool calls so far.
    calls: u32,
    counts: Counts,
}

enum Block {
    Thinking {
        text: String,
        signature: String,
    },
    /// Kept for the way back, word for word.
    Redacted(String),
    Tool(Tool),
    /// Text, and blocks of server tools, which have nothing to remember.
    Other,
}

struct Tool {
    /// The number of the call; `None` if the call carries the answer.
    call: Option<u32>,
    /// Input that came whole with the start; some servers send no deltas at all.
    whole: Option<String>,
    /// Some of the input was passed on.
    has_input: bool,
    is_closed: bool,
}

impl Decoder for MessageStream {
    fn event(&mut self, event: &Event, pieces: &mut Vec<Piece>) {
        let data = event.data.trim();
        if data.is_empty() {
            return;
        }
        let Ok(mut members) = object(data) else { return pieces.push(Piece::Unreadable) };
        let kind: Cow<'_, str> = match members.read::<&str>("type") {
            Some(kind) => kind.into(),
            None => event.name.as_str().into(),
        };
        if kind == "error" || members.get("error").is_some() {
            let failure = Failure::of_error(data, None);
            return pieces.push(Piece::Failure(
                failure.unwrap_or_else(|| Failure::new(FailureKind::ServerError, "the provider reported an error")),
            ));
        }
        match &*kind {
            "content_block_delta" => self.delta(&mut members, pieces),
            "content_block_start" => self.start(&mut members, pieces),
            "content_block_stop" => {
                let index = members.read("index").unwrap_or(0);
                self.close(|at| at == index, pieces);
                self.seal(index, pieces);
            }
            "message_start" => self.begin(&mut members, pieces),
            "message_delta" => self.end(&mut members, pieces),
            "message_stop" => pieces.push(Piece::Done),
            // `ping`, and whatever may be added (API reference, Streaming: ignore unknown events).
            _ if event.stray => pieces.push(Piece::Unreadable),
            _ => {}
        }
    }
}

impl MessageStream {
    fn begin(&mut self, members: &mut Object<'_>, pieces: &mut Vec<Piece>) {
        let mut message: Object<'_> = members.take_as("message").unwrap_or_default();
        if let Some(usage) = message.take_as("usage") {
            self.counts.absorb(usage);
        }
        pieces.push(Piece::Chunk(Chunk {
            id: message.take_as("id"),
            model: message.take_as("model"),
            // Nothing but the role.
            choices: vec![ChunkChoice::default()],
            ..Chunk::default()
        }));
    }

    fn start(&mut self, members: &mut Object<'_>, pieces: &mut Vec<Piece>) {
        let index = members.read("index").unwrap_or(0);
        let mut block: Object<'_> = members.take_as("content_block").unwrap_or_default();
        let kind: Option<&str> = block.read("type");
        let block = match kind {
            Some("tool_use") => {
                let name: String = block.take_as("name").unwrap_or_default();
                let whole = block.take("input").map(compact).filter(|input| input != "{}");
                let call = (name != ANSWER_TOOL).then_some(self.calls);
                if let Some(call) = call {
                    self.calls += 1;
                    let id = block.take_as::<String>("id").filter(|id| !id.is_empty());
                    pieces.push(fragment(ToolCallDelta {
                        index: call,
                        id: Some(id.unwrap_or_else(|| format!("call_{call}"))),
                        name: Some(name),
                        ..ToolCallDelta::default()
                    }));
                }
                Block::Tool(Tool { call, whole, has_input: false, is_closed: false })
            }
            Some("thinking") => {
                let text: String = block.take_as("thinking").unwrap_or_default();
                if !text.is_empty() {
                    pieces.push(reasoning(text.clone()));
                }
                Block::Thinking { text, signature: block.take_as("signature").unwrap_or_default() }
            }
            Some("redacted_thinking") => match serde_json::to_string(&block) {
                Ok(raw) => {
                    pieces.push(seal(Seal::Redacted(raw.clone())));
                    Block::Redacted(raw)
                }
                Err(_) => Block::Other,
            },
            Some("text") => {
                if let Some(text) = block.take_as::<String>("text").filter(|text| !text.is_empty()) {
                    pieces.push(Piece::Chunk(Chunk::text(text)));
                }
                Block::Other
            }
            _ => Block::Other,
        };
        self.blocks.push((index, block));
    }

    fn delta(&mut self, members: &mut Object<'_>, pieces: &mut Vec<Piece>) {
        let mut delta: Object<'_> = members.take_as("delta").unwrap_or_default();
        let kind: &str = delta.read("type").unwrap_or_default();
        if kind == "text_delta" {
            return match delta.take_as::<String>("text") {
                Some(text) => pieces.push(Piece::Chunk(Chunk::text(text))),
                None => pieces.push(Piece::Unreadable),
            };
        }
        let index: u64 = members.read("index").unwrap_or(0);
        // From the end: a delta belongs to the newest block, nearly always.
        let block = self.blocks.iter_mut().rev().find(|(at, _)| *at == index).map(|(_, block)| block);
        match (kind, block) {
            ("input_json_delta", Some(Block::Tool(tool))) => {
                let piece: String = delta.take_as("partial_json").unwrap_or_default();
                if !piece.is_empty() && !tool.is_closed {
                    tool.has_input = true;
                    pieces.push(tool.input(piece));
                }
            }
            ("thinking_delta", block) => {
                let piece: String = delta.take_as("thinking").unwrap_or_default();
                if let Some(Block::Thinking { text, .. }) = block {
                    text.push_str(&piece);
                }
                if !piece.is_empty() {
                    pieces.push(reasoning(piece));
                }
            }
            ("signature_delta", Some(Block::Thinking { signature, .. })) => {
                signature.push_str(&delta.take_as::<String>("signature").unwrap_or_default());
            }
            _ => {}
        }
    }

    /// Ends tool calls. One whose input never came still needs arguments: what stood at its start, or none.
    fn close(&mut self, which: impl Fn(u64) -> bool, pieces: &mut Vec<Piece>) {
        for (at, block) in &mut self.blocks {
            let Block::Tool(tool) = block else { continue };
            if !which(*at) || std::mem::replace(&mut tool.is_closed, true) || tool.has_input {
                continue;
            }
            let whole = tool.whole.take().unwrap_or_else(|| "{}".to_owned());
            pieces.push(tool.input(whole));
        }
    }

    /// Passes on the signature of thinking that has ended, for callers who want it in its place.
    fn seal(&self, index: u64, pieces: &mut Vec<Piece>) {
        if let Some((_, Block::Thinking { signature, .. })) = self.blocks.iter().rev().find(|(at, _)| *at == index)
            && !signature.is_empty()
        {
            pieces.push(seal(Seal::Signature(signature.clone())));
        }
    }

    fn end(&mut self, members: &mut Object<'_>, pieces: &mut Vec<Piece>) {
        if let Some(usage) = members.take_as("usage") {
            self.counts.absorb(usage);
        }
        let mut delta: Object<'_> = members.take_as("delta").unwrap_or_default();
        let Some(stop_reason) = delta.take_as::<String>("stop_reason") else { return };
        self.close(|_| true, pieces);
        let (finish, raw_reason) = finish(&stop_reason, self.calls > 0);
        let kept: Vec<String> = self.blocks.iter().filter_map(|(_, block)| block.kept()).collect();
        pieces.push(Piece::Chunk(Chunk {
            choices: vec![ChunkChoice {
                index: 0,
                // Once and whole: nobody could put a list back together from fragments.
                delta: Delta { extra: thinking_blocks(&kept), ..Delta::default() },
                finish: Some(finish),
                extra: endings(raw_reason, &delta),
            }],
            usage: self.counts.usage(),
            ..Chunk::default()
        }));
    }
}

impl Block {
    /// What has to come back on the next turn, as JSON. A block without text still has its signature.
    fn kept(&self) -> Option<String> {
        match self {
            Self::Thinking { text, signature } => {
                Some(json!({"type": "thinking", "thinking": text, "signature": signature}).to_string())
            }
            Self::Redacted(raw) => Some(raw.clone()),
            Self::Tool(_) | Self::Other => None,
        }
    }
}

impl Tool {
    fn input(&self, piece: String) -> Piece {
        match self.call {
            Some(index) => fragment(ToolCallDelta { index, arguments: piece, ..ToolCallDelta::default() }),
            None => Piece::Chunk(Chunk::text(piece)),
        }
    }
}

fn fragment(call: ToolCallDelta) -> Piece {
    one(Delta { tool_calls: vec![call], ..Delta::default() })
}

fn seal(seal: Seal) -> Piece {
    one(Delta { seal: Some(seal), ..Delta::default() })
}

fn reasoning(text: String) -> Piece {
    one(Delta { reasoning_content: Some(text), ..Delta::default() })
}

fn one(delta: Delta) -> Piece {
    Piece::Chunk(Chunk { choices: vec![ChunkChoice { delta, ..ChunkChoice::default() }], ..Chunk::default() })
}
