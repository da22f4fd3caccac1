//! Chunks as the named events of a response: every item is added, filled and done, in this order.

use serde_json::{Value, json};

use super::write::{State, function_call, reasoning};
use crate::chat::{Delta, Finish, ToolCallDelta};
use crate::ingress::{event, renamed};

/// The items of one stream.
#[derive(Default)]
pub struct Items {
    sequence: u64,
    /// The id of the chat answer.
    id: String,
    items: Vec<Item>,
    pub finished: Option<Finish>,
}

struct Item {
    id: String,
    kind: Kind,
    is_done: bool,
    /// The item as it stands when it is done.
    done: Value,
}

enum Kind {
    Reasoning { text: String, sealed: Option<String> },
    Text(String),
    Refusal(String),
    Call { index: u32, call_id: String, name: String, arguments: String },
}

impl Items {
    pub fn name(&mut self, id: &str) {
        id.clone_into(&mut self.id);
    }

    /// One event; `type` and `sequence_number` are added.
    pub fn event(&mut self, kind: &str, mut data: Value, out: &mut Vec<u8>) {
        data["type"] = json!(kind);
        data["sequence_number"] = json!(self.sequence);
        self.sequence += 1;
        event(out, kind, &data);
    }

    pub fn delta(&mut self, delta: &Delta, out: &mut Vec<u8>) {
        let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if let Some(thoughts) = filled(&delta.reasoning_content) {
            let at = self.open(
                out,
                |kind| matches!(kind, Kind::Reasoning { .. }),
                || Kind::Reasoning { text: String::new(), sealed: None },
            );
            self.piece(at, &thoughts, out);
        }
        if let Some((_, raw)) = delta.extra.iter().find(|(name, _)| &**name == "thinking_blocks") {
            self.seal(raw.get());
        }
        if let Some(words) = filled(&delta.content) {
            let at = self.open(out, |kind| matches!(kind, Kind::Text(_)), || Kind::Text(String::new()));
            self.piece(at, &words, out);
        }
        if let Some(words) = filled(&delta.refusal) {
            let at = self.open(out, |kind| matches!(kind, Kind::Refusal(_)), || Kind::Refusal(String::new()));
            self.piece(at, &words, out);
        }
        for fragment in &delta.tool_calls {
            self.fragment(fragment, out);
        }
    }

    /// Everything is done; an answer without any item is an empty message.
    pub fn finish(&mut self, finish: Finish, out: &mut Vec<u8>) {
        if self.items.iter().all(|item| matches!(item.kind, Kind::Reasoning { .. })) && finish == Finish::Stop {
            self.open(out, |_| false, || Kind::Text(String::new()));
        }
        self.finished = Some(finish);
        self.close(State::Ended(finish), out);
    }

    /// What was written so far.
    pub fn output(&self) -> Vec<Value> {
        self.items
            .iter()
            .map(|item| if item.is_done { item.done.clone() } else { item.value(State::InProgress) })
            .collect()
    }

    /// Signed thinking comes last in chat, when its item is long done: it counts in the final object.
    fn seal(&mut self, blocks: &str) {
        if let Some(item) = self.items.iter_mut().find(|item| matches!(item.kind, Kind::Reasoning { .. })) {
            if let Kind::Reasoning { sealed, .. } = &mut item.kind {
                *sealed = Some(blocks.to_owned());
            }
            item.done = item.value(State::Ended(Finish::Stop));
        }
    }

    /// The place of the newest item if it is one of these and open, else of a new one.
    fn open(&mut self, out: &mut Vec<u8>, is: impl Fn(&Kind) -> bool, new: impl FnOnce() -> Kind) -> usize {
        let last = self.items.len().checked_sub(1);
        if let Some(last) = last.filter(|last| !self.items[*last].is_done && is(&self.items[*last].kind)) {
            return last;
        }
        // What came before is complete as soon as something of another kind begins; calls may go on side by side.
        self.close(State::Ended(Finish::Stop), out);
        self.add(new(), out)
    }

    fn add(&mut self, kind: Kind, out: &mut Vec<u8>) -> usize {
        let at = self.items.len();
        let id = match &kind {
            Kind::Reasoning { .. } => renamed(&self.id, &format!("rs_{at}_")),
            Kind::Text(_) | Kind::Refusal(_) => renamed(&self.id, &format!("msg_{at}_")),
            Kind::Call { .. } => renamed(&self.id, &format!("fc_{at}_")),
        };
        let item = Item { id: id.clone(), kind, is_done: false, done: Value::Null };
        let mut added = item.value(State::InProgress);
        let (part_event, part) = match &item.kind {
            Kind::Reasoning { .. } => {
                (Some("response.reasoning_summary_part.added"), json!({"type": "summary_text", "text": ""}))
            }
            Kind::Text(_) => (
                Some("response.content_part.added"),
                json!({"type": "output_text", "text": "", "annotations": [], "logprobs": []}),
            ),
            Kind::Refusal(_) => (Some("response.content_part.added"), json!({"type": "refusal", "refusal": ""})),
            Kind::Call { .. } => (None, Value::Null),
        };
        for list in ["content", "summary"] {
            if added.get(list).is_some() {
                added[list] = json!([]);
            }
        }
        let place = item.place();
        self.items.push(item);
        self.event("response.output_item.added", json!({"output_index": at, "item": added}), out);
        if let Some(kind) = part_event {
            let mut data = json!({"item_id": id, "output_index": at, "part": part});
            data[place] = json!(0);
            self.event(kind, data, out);
        }
        at
    }

    fn piece(&mut self, at: usize, words: &str, out: &mut Vec<u8>) {
        let item = &mut self.items[at];
        let place = item.place();
        let mut data = json!({"item_id": item.id, "output_index": at, "delta": words});
        let kind = match &mut item.kind {
            Kind::Reasoning { text, .. } => {
                text.push_str(words);
                "response.reasoning_summary_text.delta"
            }
            Kind::Text(text) => {
                text.push_str(words);
                data["logprobs"] = json!([]);
                "response.output_text.delta"
            }
            Kind::Refusal(text) => {
                text.push_str(words);
                "response.refusal.delta"
            }
            Kind::Call { arguments, .. } => {
                arguments.push_str(words);
                "response.function_call_arguments.delta"
            }
        };
        if !place.is_empty() {
            data[place] = json!(0);
        }
        self.event(kind, data, out);
    }

    fn fragment(&mut self, fragment: &ToolCallDelta, out: &mut Vec<u8>) {
        let known = self.items.iter().position(
            |item| matches!(&item.kind, Kind::Call { index, .. } if *index == fragment.index && !item.is_done),
        );
        let at = known.unwrap_or_else(|| {
            let calls = |item: &Item| matches!(item.kind, Kind::Call { .. });
            if !self.items.last().is_some_and(calls) {
                self.close(State::Ended(Finish::Stop), out);
            }
            let call = Kind::Call {
                index: fragment.index,
                call_id: fragment.id.clone().unwrap_or_default(),
                name: fragment.name.clone().unwrap_or_default(),
                arguments: String::new(),
            };
            self.add(call, out)
        });
        if !fragment.arguments.is_empty() {
            self.piece(at, &fragment.arguments, out);
        }
    }

    fn close(&mut self, state: State, out: &mut Vec<u8>) {
        for at in 0..self.items.len() {
            if self.items[at].is_done {
                continue;
            }
            let item = &mut self.items[at];
            item.is_done = true;
            item.done = item.value(state);
            let (id, place, done) = (item.id.clone(), item.place(), item.done.clone());
            let mut data = json!({"item_id": id, "output_index": at});
            if !place.is_empty() {
                data[place] = json!(0);
            }
            let mut said = data.clone();
            let (text_event, part_event, part) = match &item.kind {
                Kind::Reasoning { text, .. } => {
                    said["text"] = json!(text);
                    (
                        "response.reasoning_summary_text.done",
                        "response.reasoning_summary_part.done",
                        done["summary"][0].clone(),
                    )
                }
                Kind::Text(text) => {
                    said["text"] = json!(text);
                    said["logprobs"] = json!([]);
                    ("response.output_text.done", "response.content_part.done", done["content"][0].clone())
                }
                Kind::Refusal(text) => {
                    said["refusal"] = json!(text);
                    ("response.refusal.done", "response.content_part.done", done["content"][0].clone())
                }
                Kind::Call { arguments, name, .. } => {
                    said["arguments"] = json!(arguments);
                    said["name"] = json!(name);
                    ("response.function_call_arguments.done", "", Value::Null)
                }
            };
            self.event(text_event, said, out);
            if !part_event.is_empty() {
                data["part"] = part;
                self.event(part_event, data, out);
            }
            self.event("response.output_item.done", json!({"output_index": at, "item": done}), out);
        }
    }
}

impl Item {
    /// The member that counts the parts of such an item; empty for a call, which has none.
    fn place(&self) -> &'static str {
        match self.kind {
            Kind::Reasoning { .. } => "summary_index",
            Kind::Text(_) | Kind::Refusal(_) => "content_index",
            Kind::Call { .. } => "",
        }
    }

    fn value(&self, state: State) -> Value {
        let message = |part: Value| json!({"id": self.id, "type": "message", "status": state.status(), "role": "assistant", "content": [part]});
        match &self.kind {
            Kind::Reasoning { text, sealed } => reasoning(&self.id, Some(text), sealed.as_deref()),
            Kind::Text(text) => {
                message(json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []}))
            }
            Kind::Refusal(text) => message(json!({"type": "refusal", "refusal": text})),
            Kind::Call { call_id, name, arguments, .. } => function_call(&self.id, call_id, name, arguments, state),
        }
    }
}
