//! A stream of `GenerateContentResponse` events as chunks.

use super::answer::{Counts, block_reason, error, items, logprobs, raw_reason};
use super::finish::{Said, finish};
use super::parts::{Arguments, Call, Item};
use crate::chat::{Chunk, ChunkChoice, Delta, Finish, Object, ToolCallDelta, object};
use crate::provider::adapter::{Decoder, Piece};
use crate::provider::failure::Failure;
use crate::provider::framing::Event;

#[derive(Default)]
pub struct ContentStream {
    response: String,
    candidates: Vec<Candidate>,
    counts: Counts,
}

/// What has to be remembered of one candidate: a call and its finish reason come in different events.
#[derive(Default)]
struct Candidate {
    index: u32,
    said: Said,
    /// Calls so far; they are numbered over the whole stream.
    calls: u32,
    /// A call whose arguments come in fragments (Vertex AI), and its number.
    open: Option<(u32, Arguments)>,
}

impl Decoder for ContentStream {
    fn event(&mut self, event: &Event, pieces: &mut Vec<Piece>) {
        let data = event.data.trim();
        if data.is_empty() {
            return;
        }
        let members = match object(data) {
            Ok(members) if members.get("error").is_none() && !event.stray => members,
            // An overloaded model cuts its stream with a bare error (theopenco/llmgateway#3616).
            _ if data.contains("\"error\"") => return pieces.push(Piece::Failure(error(data))),
            _ => return pieces.push(Piece::Unreadable),
        };
        match self.chunk(members) {
            Ok(chunk) => pieces.push(Piece::Chunk(chunk)),
            Err(failure) => pieces.push(Piece::Failure(failure)),
        }
    }
}

impl ContentStream {
    fn chunk(&mut self, mut members: Object<'_>) -> Result<Chunk, Failure> {
        if let Some(id) = members.take_as::<String>("responseId").filter(|_| self.response.is_empty()) {
            self.response = id;
        }
        if let Some(usage) = members.take_as("usageMetadata") {
            self.counts.absorb(usage);
        }
        let mut chunk = Chunk {
            id: Some(self.response.clone()).filter(|id| !id.is_empty()),
            model: members.take_as("modelVersion"),
            usage: self.counts.usage(),
            ..Chunk::default()
        };
        let candidates: Vec<Object<'_>> = members.take_as("candidates").unwrap_or_default();
        for (position, candidate) in candidates.into_iter().enumerate() {
            chunk.choices.push(self.choice(position, candidate)?);
        }
        if chunk.choices.is_empty()
            && let Some(reason) = block_reason(&members)
        {
            let finish = Some(Finish::ContentFilter);
            chunk.choices.push(ChunkChoice { finish, extra: raw_reason(Some(&reason)), ..ChunkChoice::default() });
        }
        Ok(chunk)
    }

    fn choice(&mut self, position: usize, mut members: Object<'_>) -> Result<ChunkChoice, Failure> {
        let index = members.take_as("index").unwrap_or(position as u32);
        let place = self.candidates.iter().position(|candidate| candidate.index == index).unwrap_or_else(|| {
            self.candidates.push(Candidate { index, ..Candidate::default() });
            self.candidates.len() - 1
        });
        let candidate = &mut self.candidates[place];
        let mut delta = Delta::default();
        for item in items(&mut members) {
            match item {
                Item::Text(text) => delta.content.get_or_insert_default().push_str(&text),
                Item::Thought(text) => delta.reasoning_content.get_or_insert_default().push_str(&text),
                Item::Call(call) => candidate.call(call, &self.response, &mut delta.tool_calls),
            }
        }
        candidate.said.something |= delta.has_content();
        let reason: Option<String> = members.take_as("finishReason");
        let (finish, raw) = match finish(reason.as_deref(), candidate.said)? {
            Some((finish, raw)) => (Some(finish), raw),
            None => (None, None),
        };
        if finish.is_some() {
            candidate.close(&mut delta.tool_calls);
        }
        let mut extra = raw_reason(raw);
        extra.extend(members.take("logprobsResult").and_then(logprobs).map(|logprobs| ("logprobs".into(), logprobs)));
        Ok(ChunkChoice { index, delta, finish, extra })
    }
}

impl Candidate {
    fn call(&mut self, call: Call, response: &str, deltas: &mut Vec<ToolCallDelta>) {
        if call.name.is_some() || self.open.is_none() {
            self.close(deltas);
            if call.name.is_none() {
                // The end of nothing, or a fragment whose call never began.
                return;
            }
            (self.said.something, self.said.calls) = (true, true);
            let index = self.calls;
            self.calls += 1;
            let whole = !call.continues && call.partial.is_empty();
            deltas.push(ToolCallDelta {
                index,
                id: Some(call.id_or(response, index)),
                extra: call.extra(),
                name: call.name,
                // Arguments come whole, in one piece; none at all are an empty object.
                arguments: if whole { call.args.unwrap_or_else(|| "{}".to_owned()) } else { String::new() },
            });
            if whole {
                return;
            }
            self.open = Some((index, Arguments::default()));
        }
        if let Some((_, arguments)) = &mut self.open {
            call.partial.into_iter().for_each(|fragment| arguments.put(fragment));
        }
        if !call.continues {
            self.close(deltas);
        }
    }

    /// Sends the arguments that were collected. JSON cannot be sent before it is complete.
    fn close(&mut self, deltas: &mut Vec<ToolCallDelta>) {
        if let Some((index, arguments)) = self.open.take() {
            deltas.push(ToolCallDelta { index, arguments: arguments.finish(), ..ToolCallDelta::default() });
        }
    }
}
