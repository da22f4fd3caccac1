//! A chat answer as a response object.

use serde_json::{Map, Value, json};

use super::stream::Items;
use super::{SEAL, usage};
use crate::chat::{Chunk, Finish, Reply, Response, Usage};
use crate::ingress::{Envelope, Writer, explain, renamed};

/// Members of the request that an answer repeats, with what they are when the caller says nothing.
pub struct Echo(Map<String, Value>);

impl Echo {
    pub fn of(members: &Map<String, Value>) -> Self {
        let said = |name: &str, usual: Value| {
            (name.to_owned(), members.get(name).filter(|value| !value.is_null()).cloned().unwrap_or(usual))
        };
        Self(Map::from_iter([
            said("instructions", Value::Null),
            said("max_output_tokens", Value::Null),
            said("metadata", json!({})),
            said("parallel_tool_calls", json!(true)),
            ("previous_response_id".to_owned(), Value::Null),
            said("reasoning", json!({"effort": null, "summary": null})),
            said("temperature", json!(1.0)),
            said("text", json!({"format": {"type": "text"}})),
            said("tool_choice", json!("auto")),
            said("tools", json!([])),
            said("top_p", json!(1.0)),
            ("truncation".to_owned(), json!("disabled")),
            said("user", Value::Null),
            // Nothing is kept, whatever was asked for.
            ("store".to_owned(), json!(false)),
        ]))
    }
}

/// How far a response has come.
#[derive(Clone, Copy, PartialEq)]
pub enum State {
    InProgress,
    Ended(Finish),
}

impl State {
    pub fn status(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Ended(Finish::Length | Finish::ContentFilter) => "incomplete",
            Self::Ended(_) => "completed",
        }
    }

    fn incomplete(self) -> Value {
        match self {
            Self::Ended(Finish::Length) => json!({"reason": "max_output_tokens"}),
            Self::Ended(Finish::ContentFilter) => json!({"reason": "content_filter"}),
            _ => Value::Null,
        }
    }
}

/// Writes one answer.
pub struct ResponseWriter {
    echo: Echo,
    pub envelope: Envelope,
    items: Items,
}

impl ResponseWriter {
    pub fn new(echo: Echo) -> Self {
        Self { echo, envelope: Envelope::default(), items: Items::default() }
    }

    /// The response object around `output`.
    fn object(&self, state: State, output: Vec<Value>, counted: Option<&Usage>) -> Value {
        let mut object = Map::from_iter([
            ("id".to_owned(), json!(renamed(&self.envelope.id, "resp_"))),
            ("object".to_owned(), json!("response")),
            ("created_at".to_owned(), json!(self.envelope.created)),
            ("status".to_owned(), json!(state.status())),
            ("background".to_owned(), json!(false)),
            ("error".to_owned(), Value::Null),
            ("incomplete_details".to_owned(), state.incomplete()),
            ("model".to_owned(), json!(self.envelope.model)),
            ("output".to_owned(), Value::Array(output)),
            ("usage".to_owned(), usage(counted)),
        ]);
        object.extend(self.echo.0.clone());
        Value::Object(object)
    }
}

impl Writer for ResponseWriter {
    fn whole(&mut self, answer: &Response, out: &mut Vec<u8>) {
        let Some(choice) = answer.choices.first() else { return };
        self.envelope = Envelope::of(answer);
        let state = State::Ended(choice.finish);
        let output = output(&choice.message, &answer.id, state);
        // Writing a value to memory as JSON cannot fail.
        let _ = serde_json::to_writer(out, &self.object(state, output, answer.usage.as_ref()));
    }

    fn begin(&mut self, envelope: Envelope, out: &mut Vec<u8>) {
        self.envelope = envelope;
        self.items.name(&self.envelope.id);
        for kind in ["response.created", "response.in_progress"] {
            let mut response = self.object(State::InProgress, Vec::new(), None);
            explain(&mut response, self.envelope.explanation.take().as_deref());
            self.items.event(kind, json!({"response": response}), out);
        }
    }

    fn chunk(&mut self, chunk: &Chunk, out: &mut Vec<u8>) {
        for choice in chunk.choices.iter().filter(|choice| choice.index == 0) {
            self.items.delta(&choice.delta, out);
            if let Some(finish) = choice.finish {
                self.items.finish(finish, out);
            }
        }
    }

    fn end(&mut self, counted: Option<&Usage>, out: &mut Vec<u8>) {
        let state = State::Ended(self.items.finished.unwrap_or(Finish::Stop));
        let response = self.object(state, self.items.output(), counted);
        let kind = if state.status() == "completed" { "response.completed" } else { "response.incomplete" };
        self.items.event(kind, json!({"response": response}), out);
    }

    fn broken(&mut self, error: &Value, out: &mut Vec<u8>) {
        let mut response = self.object(State::InProgress, self.items.output(), None);
        response["status"] = json!("failed");
        response["error"] = json!({"code": error["error"]["code"], "message": error["error"]["message"]});
        self.items.event("response.failed", json!({"response": response}), out);
    }
}

/// The items of a whole answer: reasoning, the message, calls.
fn output(message: &Reply, id: &str, state: State) -> Vec<Value> {
    let mut items = Vec::new();
    let sealed = message.extra.iter().find(|(name, _)| &**name == "thinking_blocks").map(|(_, raw)| raw.get());
    if message.reasoning_content.is_some() || sealed.is_some() {
        items.push(reasoning(&renamed(id, "rs_"), message.reasoning_content.as_deref(), sealed));
    }
    let mut parts = Vec::new();
    if let Some(words) = message.content.as_deref().filter(|words| !words.is_empty() || message.tool_calls.is_empty()) {
        parts.push(json!({"type": "output_text", "text": words, "annotations": [], "logprobs": []}));
    }
    parts.extend(message.refusal.as_deref().map(|words| json!({"type": "refusal", "refusal": words})));
    if !parts.is_empty() {
        items.push(json!({"id": renamed(id, "msg_"), "type": "message", "status": state.status(), "role": "assistant", "content": parts}));
    }
    for (index, call) in message.tool_calls.iter().enumerate() {
        let custom = call.extra.iter().find(|(name, _)| &**name == "custom");
        let custom = custom.and_then(|(_, raw)| serde_json::from_str::<Value>(raw.get()).ok());
        items.push(match custom {
            Some(custom) => custom_call(&renamed(id, &format!("ctc_{index}_")), &call.id, &custom),
            None => function_call(&renamed(id, &format!("fc_{index}_")), &call.id, &call.name, &call.arguments, state),
        });
    }
    items
}

/// An item of reasoning. Signed thinking rides along sealed, and is understood when it comes back.
pub fn reasoning(id: &str, text: Option<&str>, sealed: Option<&str>) -> Value {
    let summary: Vec<Value> = text.into_iter().map(|text| json!({"type": "summary_text", "text": text})).collect();
    let mut item = json!({"id": id, "type": "reasoning", "summary": summary});
    if let Some(sealed) = sealed {
        item["encrypted_content"] = json!(format!("{SEAL}{sealed}"));
    }
    item
}

pub fn function_call(id: &str, call_id: &str, name: &str, arguments: &str, state: State) -> Value {
    json!({"id": id, "type": "function_call", "status": state.status(), "call_id": call_id, "name": name, "arguments": arguments})
}

fn custom_call(id: &str, call_id: &str, custom: &Value) -> Value {
    json!({"id": id, "type": "custom_tool_call", "call_id": call_id, "name": custom["name"], "input": custom["input"]})
}
