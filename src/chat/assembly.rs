//! From chunks to a whole answer, and back: what a cache needs to serve either shape from the other.

use super::chunk::{Chunk, ChunkChoice, Delta, ToolCallDelta};
use super::message::ToolCall;
use super::object::{Extra, MAX_MEMBERS, join};
use super::response::{Choice, Finish, Reply, Response};
use super::usage::Usage;

/// Collects the chunks of one stream.
#[derive(Clone, Debug, Default)]
pub struct Assembly {
    choices: Vec<(Choice, Option<Finish>)>,
    extra: Extra,
}

impl Assembly {
    pub fn push(&mut self, chunk: &Chunk) {
        for (name, value) in &chunk.extra {
            let has_room = self.extra.len() < MAX_MEMBERS;
            match self.extra.iter_mut().find(|(known, _)| known == name) {
                Some((_, known)) => known.clone_from(value),
                None if has_room => self.extra.push((name.clone(), value.clone())),
                None => {}
            }
        }
        for piece in &chunk.choices {
            self.push_choice(piece);
        }
    }

    fn push_choice(&mut self, piece: &ChunkChoice) {
        let position = self.choices.iter().position(|(choice, _)| choice.index == piece.index).unwrap_or_else(|| {
            let choice =
                Choice { index: piece.index, message: Reply::default(), finish: Finish::Stop, extra: Extra::new() };
            self.choices.push((choice, None));
            self.choices.len() - 1
        });
        let (choice, finish) = &mut self.choices[position];
        let message = &mut choice.message;
        append(&mut message.content, &piece.delta.content);
        append(&mut message.refusal, &piece.delta.refusal);
        append(&mut message.reasoning_content, &piece.delta.reasoning_content);
        for fragment in &piece.delta.tool_calls {
            let index = fragment.index as usize;
            while message.tool_calls.len() <= index {
                message.tool_calls.push(ToolCall {
                    id: String::new(),
                    name: String::new(),
                    arguments: String::new(),
                    extra: Extra::new(),
                });
            }
            let call = &mut message.tool_calls[index];
            call.id.push_str(fragment.id.as_deref().unwrap_or_default());
            call.name.push_str(fragment.name.as_deref().unwrap_or_default());
            call.arguments.push_str(&fragment.arguments);
            call.extra.extend(fragment.extra.iter().cloned());
        }
        message.extra.extend(piece.delta.extra.iter().cloned());
        choice.extra.extend(piece.extra.iter().cloned());
        *finish = finish.or(piece.finish);
    }

    /// The messages so far, one for each choice.
    pub fn replies(&self) -> impl Iterator<Item = &Reply> {
        self.choices.iter().map(|(choice, _)| &choice.message)
    }

    /// Why the choices ended, of those that have.
    pub fn finishes(&self) -> impl Iterator<Item = &'static str> {
        self.choices.iter().filter_map(|(_, finish)| finish.map(Finish::as_str))
    }

    /// All that the model wrote, for counting tokens.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (choice, _) in &self.choices {
            let message = &choice.message;
            for part in [&message.content, &message.refusal, &message.reasoning_content].into_iter().flatten() {
                text.push_str(part);
            }
            for call in &message.tool_calls {
                text.extend([call.name.as_str(), " ", &call.arguments]);
            }
        }
        text
    }

    /// The whole answer. A choice that never finished counts as stopped: ask the [`super::Sequence`] before.
    pub fn into_response(self, id: String, created: i64, model: String, usage: Option<Usage>) -> Response {
        let mut choices: Vec<Choice> = self
            .choices
            .into_iter()
            .map(|(choice, finish)| {
                let Choice { index, mut message, extra, .. } = choice;
                message.extra = join(message.extra);
                for call in &mut message.tool_calls {
                    call.extra = join(std::mem::take(&mut call.extra));
                }
                Choice { index, message, finish: finish.unwrap_or(choice.finish), extra: join(extra) }
            })
            .collect();
        choices.sort_by_key(|choice| choice.index);
        Response { id, created, model, choices, vectors: Vec::new(), usage, extra: self.extra }
    }
}

fn append(whole: &mut Option<String>, piece: &Option<String>) {
    if let Some(piece) = piece {
        whole.get_or_insert_default().push_str(piece);
    }
}

/// A whole answer as the chunks of a stream, without the usage.
pub fn replay(response: &Response) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let one = |index, delta, finish| Chunk {
        choices: vec![ChunkChoice { index, delta, finish, extra: Extra::new() }],
        ..Chunk::default()
    };
    for choice in &response.choices {
        let message = &choice.message;
        let mut delta = Delta { role: true, extra: message.extra.clone(), ..Delta::default() };
        delta.reasoning_content.clone_from(&message.reasoning_content);
        delta.content.clone_from(&message.content);
        delta.refusal.clone_from(&message.refusal);
        if delta.content.is_none() && message.tool_calls.is_empty() {
            delta.content = Some(String::new());
        }
        let mut first = one(choice.index, delta, None);
        first.choices[0].extra.clone_from(&choice.extra);
        if chunks.is_empty() {
            first.extra.clone_from(&response.extra);
        }
        chunks.push(first);
        for (index, call) in message.tool_calls.iter().enumerate() {
            let fragment = ToolCallDelta {
                index: index as u32,
                id: Some(call.id.clone()),
                name: Some(call.name.clone()),
                arguments: call.arguments.clone(),
                extra: call.extra.clone(),
            };
            chunks.push(one(choice.index, Delta { tool_calls: vec![fragment], ..Delta::default() }, None));
        }
        chunks.push(one(choice.index, Delta::default(), Some(choice.finish)));
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replayed_answer_assembles_to_itself() {
        let call = ToolCall { id: "c1".into(), name: "f".into(), arguments: "{\"a\":1}".into(), extra: Extra::new() };
        let message = Reply { content: Some("hi".into()), tool_calls: vec![call], ..Reply::default() };
        let choice = Choice { index: 0, message, finish: Finish::ToolCalls, extra: Extra::new() };
        let response = Response {
            id: "x".into(),
            created: 1,
            model: "m".into(),
            choices: vec![choice],
            vectors: Vec::new(),
            usage: None,
            extra: Extra::new(),
        };
        let mut assembly = Assembly::default();
        for chunk in replay(&response) {
            assembly.push(&chunk);
        }
        let again = assembly.into_response("x".into(), 1, "m".into(), None);
        let json = |response: &Response| serde_json::to_string(response).expect("json");
        assert_eq!(json(&again), json(&response));
    }
}
