//! A chat answer as a message.

use serde_json::{Map, Value, json};

use super::stream::Blocks;
use super::{ending, failed, tool_id, usage};
use crate::chat::{Chunk, Extra, Reply, Response, THINKING_BLOCKS, Usage};
use crate::ingress::{Envelope, Writer, event, explain, renamed};

/// Writes one answer.
#[derive(Default)]
pub struct MessageWriter {
    blocks: Blocks,
    /// What the choice says beside its message, such as why it ended.
    extra: Extra,
}

impl Writer for MessageWriter {
    fn whole(&mut self, answer: &Response, out: &mut Vec<u8>) {
        let Some(choice) = answer.choices.first() else { return };
        let (reason, sequence) = ending(Some(choice.finish), &choice.extra);
        let message = json!({
            "id": renamed(&answer.id, "msg_"),
            "type": "message",
            "role": "assistant",
            "model": answer.model,
            "content": content(&choice.message),
            "stop_reason": reason,
            "stop_sequence": sequence,
            "usage": usage(answer.usage.as_ref()),
        });
        // Writing a value to memory as JSON cannot fail.
        let _ = serde_json::to_writer(out, &message);
    }

    fn begin(&mut self, envelope: Envelope, out: &mut Vec<u8>) {
        let mut message = json!({
            "id": renamed(&envelope.id, "msg_"),
            "type": "message",
            "role": "assistant",
            "model": envelope.model,
            "content": [],
            "stop_reason": null,
            "stop_sequence": null,
            // Nobody knows yet; `message_delta` has the counts.
            "usage": {"input_tokens": 0, "output_tokens": 0},
        });
        explain(&mut message, envelope.explanation.as_deref());
        event(out, "message_start", &json!({"type": "message_start", "message": message}));
    }

    fn chunk(&mut self, chunk: &Chunk, out: &mut Vec<u8>) {
        for choice in chunk.choices.iter().filter(|choice| choice.index == 0) {
            self.extra.extend(choice.extra.iter().cloned());
            self.blocks.delta(&choice.delta, out);
            if let Some(finish) = choice.finish {
                self.blocks.finish(finish, out);
            }
        }
    }

    fn end(&mut self, counted: Option<&Usage>, out: &mut Vec<u8>) {
        let (reason, sequence) = ending(self.blocks.finished, &self.extra);
        let delta = json!({"stop_reason": reason, "stop_sequence": sequence});
        event(out, "message_delta", &json!({"type": "message_delta", "delta": delta, "usage": usage(counted)}));
        event(out, "message_stop", &json!({"type": "message_stop"}));
    }

    fn broken(&mut self, error: &Value, out: &mut Vec<u8>) {
        event(out, "error", &failed(error, "api_error"));
    }
}

/// The blocks of a whole answer, in the order in which models write them: thinking, text, calls.
fn content(message: &Reply) -> Vec<Value> {
    let mut blocks = Vec::new();
    let signed = message.extra.iter().find(|(name, _)| &**name == THINKING_BLOCKS);
    let signed = signed.and_then(|(_, raw)| serde_json::from_str::<Vec<Value>>(raw.get()).ok());
    match (signed, &message.reasoning_content) {
        (Some(signed), _) => blocks.extend(signed),
        (None, Some(thoughts)) => blocks.push(json!({"type": "thinking", "thinking": thoughts, "signature": ""})),
        (None, None) => {}
    }
    for words in [&message.content, &message.refusal].into_iter().flatten().filter(|words| !words.is_empty()) {
        blocks.push(json!({"type": "text", "text": words}));
    }
    for call in &message.tool_calls {
        let input = input(&call.arguments);
        blocks.push(json!({"type": "tool_use", "id": tool_id(&call.id), "name": call.name, "input": input}));
    }
    blocks
}

/// Arguments as the object that a block holds. What is no object stays readable under a name.
fn input(arguments: &str) -> Value {
    match serde_json::from_str(arguments) {
        Ok(Value::Object(input)) => Value::Object(input),
        Ok(Value::Null) => Value::Object(Map::new()),
        Err(_) if arguments.trim().is_empty() => Value::Object(Map::new()),
        Ok(other) => json!({ "value": other }),
        Err(_) => json!({ "text": arguments }),
    }
}
