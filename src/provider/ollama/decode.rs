//! Whole answers and streams: the same object, once or a line at a time. The line with `done: true` is the last one.

use serde_json::value::to_raw_value;

use crate::chat::{
    Assembly, Chunk, ChunkChoice, Delta, Extra, Finish, Object, Response, Sequence, ToolCallDelta, Usage, object,
};
use crate::provider::adapter::{Decoder, Piece};
use crate::provider::failure::{Failure, FailureKind, quote};
use crate::provider::framing::{Event, Framing, Splitter};

#[derive(Default)]
pub struct ChatStream {
    calls: u32,
    has_said: bool,
}

/// Reads a whole answer. Several lines are a stream that nobody asked for.
pub fn answer(body: &[u8]) -> Result<Response, Failure> {
    let text = std::str::from_utf8(body).map_err(|_| Failure::malformed("the answer is not UTF-8"))?;
    let (mut pieces, mut stream) = (Vec::new(), ChatStream::default());
    if object(text).is_ok() {
        stream.event(&Event { data: text.to_owned(), ..Event::default() }, &mut pieces);
    } else {
        let (mut splitter, mut events) = (Splitter::new(Framing::Lines), Vec::new());
        splitter.push(body, &mut events).map_err(|error| Failure::malformed(error.to_string()))?;
        splitter.finish(&mut events);
        events.iter().for_each(|event| stream.event(event, &mut pieces));
    }
    let (mut sequence, mut assembly, mut done) = (Sequence::default(), Assembly::default(), false);
    for piece in pieces {
        match piece {
            Piece::Chunk(chunk) => sequence.accept(chunk).iter().for_each(|chunk| assembly.push(chunk)),
            Piece::Done => done = true,
            Piece::Failure(failure) => return Err(failure),
            Piece::Unreadable => return Err(Failure::malformed(format!("not a JSON object: {}", quote(text, 200)))),
        }
    }
    if !done {
        return Err(Failure::malformed("an answer that is not done"));
    }
    let (id, model) = (sequence.id.unwrap_or_default(), sequence.model.unwrap_or_default());
    Ok(assembly.into_response(id, 0, model, sequence.usage))
}

impl Decoder for ChatStream {
    fn event(&mut self, event: &Event, pieces: &mut Vec<Piece>) {
        let data = event.data.trim();
        let Ok(mut members) = object(data) else { return pieces.push(Piece::Unreadable) };
        if members.get("error").is_some() {
            let failure = Failure::of_error(data, None);
            return pieces.push(Piece::Failure(
                failure.unwrap_or_else(|| Failure::new(FailureKind::ServerError, "the provider reported an error")),
            ));
        }
        let message: Option<Object<'_>> = members.take_as("message");
        let is_done = members.read::<bool>("done");
        if message.is_none() && is_done.is_none() {
            return pieces.push(Piece::Unreadable);
        }
        let stamp: String = members.take_as("created_at").unwrap_or_default();
        let delta = self.delta(message.unwrap_or_default(), &stamp);
        self.has_said |= delta.has_content();
        let mut choice = ChunkChoice { delta, extra: logprobs(&members), ..ChunkChoice::default() };
        let mut usage = None;
        if is_done == Some(true) {
            let reason: String = members.take_as("done_reason").unwrap_or_default();
            if reason == "load" && !self.has_said {
                // It had to load the model and forgot the question over it; the next try finds the model there.
                let failure = Failure::new(FailureKind::Overloaded, "the model was only loaded, and said nothing");
                return pieces.push(Piece::Failure(failure));
            }
            let (finish, raw) = self.finish(&reason);
            choice.finish = Some(finish);
            let raw = raw.and_then(|reason| to_raw_value(reason).ok());
            choice.extra.extend(raw.map(|raw| ("native_finish_reason".into(), raw)));
            usage = counts(&mut members);
        }
        let model = members.take_as("model");
        pieces.push(Piece::Chunk(Chunk { model, choices: vec![choice], usage, ..Chunk::default() }));
        if is_done == Some(true) {
            pieces.push(Piece::Done);
        }
    }
}

impl ChatStream {
    fn delta(&mut self, mut message: Object<'_>, stamp: &str) -> Delta {
        let shown = |text: Option<String>| text.filter(|text| !text.is_empty());
        let calls: Vec<Object<'_>> = message.take_as("tool_calls").unwrap_or_default();
        Delta {
            content: shown(message.take_as("content")),
            reasoning_content: shown(message.take_as("thinking")),
            tool_calls: calls.into_iter().map(|call| self.call(call, stamp)).collect(),
            ..Delta::default()
        }
    }

    /// Every call comes whole. Its `index` is 0 for each of several (ollama/ollama#15457), so they are counted here.
    fn call(&mut self, mut call: Object<'_>, stamp: &str) -> ToolCallDelta {
        let mut function: Object<'_> = call.take_as("function").unwrap_or_default();
        let name: String = function.take_as("name").unwrap_or_default();
        let arguments = match function.take("arguments").map(|raw| raw.get()) {
            None => "{}".to_owned(),
            // Some models' templates make a text of it.
            Some(raw) => serde_json::from_str::<String>(raw).unwrap_or_else(|_| raw.to_owned()),
        };
        let index = self.calls;
        self.calls += 1;
        let id = call.take_as::<String>("id").filter(|id| !id.is_empty());
        ToolCallDelta {
            index,
            id: Some(id.unwrap_or_else(|| call_id(stamp, index, &name, &arguments))),
            name: Some(name),
            arguments: if arguments.is_empty() { "{}".to_owned() } else { arguments },
            extra: Extra::new(),
        }
    }

    fn finish<'r>(&self, reason: &'r str) -> (Finish, Option<&'r str>) {
        match reason {
            "stop" | "" if self.calls > 0 => (Finish::ToolCalls, None),
            "stop" | "" => (Finish::Stop, None),
            "length" => (Finish::Length, None),
            _ => (Finish::Stop, Some(reason)),
        }
    }
}

/// An id where the server gives none. The same answer gives the same ids, and no two turns of a conversation do.
fn call_id(stamp: &str, index: u32, name: &str, arguments: &str) -> String {
    let digest = blake3::hash(format!("{stamp}\n{index}\n{name}\n{arguments}").as_bytes()).to_hex();
    format!("call_{}", &digest[..16])
}

/// A prompt that was wholly cached is not counted by older servers: half a count is none.
fn counts(members: &mut Object<'_>) -> Option<Usage> {
    members.get("prompt_eval_count")?;
    let counted = (Usage::count(members, "prompt_eval_count"), Usage::count(members, "eval_count"));
    let (Some(prompt_tokens), Some(completion_tokens)) = counted else { return Some(Usage::refused()) };
    let is_empty = prompt_tokens == 0 && completion_tokens == 0;
    (!is_empty).then(|| Usage { prompt_tokens, completion_tokens, ..Usage::default() })
}

/// Log probabilities already have OpenAI's members.
fn logprobs(members: &Object<'_>) -> Extra {
    let Some(list) = members.get("logprobs") else { return Extra::new() };
    let mut content = Object::default();
    content.0.push(("content".into(), list));
    to_raw_value(&content).map(|raw| ("logprobs".into(), raw)).into_iter().collect()
}
