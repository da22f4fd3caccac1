//! Messages in Ollama's words: one text, images beside it, arguments as objects.

use serde_json::{Map, Value, json};

use super::NAME;
use crate::chat::{Content, Message, Part, Role};
use crate::provider::adapter::Untranslatable;
use crate::provider::media;
use crate::provider::wanted::refuse;

/// The messages, and whether names of speakers got lost.
pub fn list(messages: &[Message]) -> Result<(Vec<Value>, bool), Untranslatable> {
    let mut list = Vec::with_capacity(messages.len());
    let mut names_lost = false;
    for (index, message) in messages.iter().enumerate() {
        let path = format!("messages[{index}]");
        names_lost |= message.name.is_some() && message.role != Role::Tool;
        let mut turn = Map::new();
        let role = match message.role {
            Role::System | Role::Developer => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
            Role::Function => {
                return Err(refuse(path, "the deprecated role `function` is not translated; use `tool`"));
            }
        };
        turn.insert("role".into(), json!(role));
        turn.insert("content".into(), json!(message.content.text()));
        let images = images(message, &path)?;
        if !images.is_empty() {
            turn.insert("images".into(), json!(images));
        }
        match message.role {
            Role::Assistant => assistant(message, &path, &mut turn)?,
            Role::Tool => result(message, &messages[..index], &mut turn),
            _ => {}
        }
        list.push(Value::Object(turn));
    }
    Ok((list, names_lost))
}

/// Images as bare base64; everything else that is no text is refused.
fn images<'m>(message: &'m Message, path: &str) -> Result<Vec<std::borrow::Cow<'m, str>>, Untranslatable> {
    let Content::Parts(parts) = &message.content else { return Ok(Vec::new()) };
    let mut images = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let path = || format!("{path}.content[{index}]");
        match part {
            Part::Text { .. } | Part::Refusal(_) => {}
            Part::Image { url, .. } => {
                let inline = media::inline(url);
                images.push(inline.ok_or_else(|| refuse(path(), "an image must be a base64 data URL"))?.data);
            }
            Part::Audio { .. } => return Err(refuse(path(), format!("{NAME} takes no audio"))),
            Part::File { .. } => return Err(refuse(path(), format!("{NAME} takes no files"))),
            Part::Other { kind, .. } => return Err(refuse(path(), format!("{NAME} knows no part of type `{kind}`"))),
        }
    }
    Ok(images)
}

fn assistant(message: &Message, path: &str, turn: &mut Map<String, Value>) -> Result<(), Untranslatable> {
    if message.extra.iter().any(|(name, raw)| &**name == "function_call" && raw.get() != "null") {
        return Err(refuse(format!("{path}.function_call"), "the deprecated form is not translated; use `tool_calls`"));
    }
    if let Some(thoughts) = &message.reasoning_content {
        turn.insert("thinking".into(), json!(thoughts));
    }
    if !message.tool_calls.is_empty() {
        let calls = message.tool_calls.iter().map(|call| {
            // What is no object is kept under a name rather than lost.
            let arguments = match serde_json::from_str(&call.arguments) {
                Ok(Value::Object(arguments)) => Value::Object(arguments),
                Ok(Value::Null) => json!({}),
                Ok(other) => json!({ "value": other }),
                Err(_) if call.arguments.trim().is_empty() => json!({}),
                Err(_) => json!({ "text": call.arguments }),
            };
            json!({"id": call.id, "function": {"name": call.name, "arguments": arguments}})
        });
        turn.insert("tool_calls".into(), calls.collect());
    }
    Ok(())
}

/// A result names the tool and, for servers that are recent enough to look, the call.
fn result(message: &Message, before: &[Message], turn: &mut Map<String, Value>) {
    let id = message.tool_call_id.as_deref();
    let mut calls = before.iter().rev().flat_map(|message| &message.tool_calls);
    let called = calls.find(|call| Some(call.id.as_str()) == id).map(|call| &call.name);
    if let Some(name) = called.or(message.name.as_ref()) {
        turn.insert("tool_name".into(), json!(name));
    }
    if let Some(id) = id {
        turn.insert("tool_call_id".into(), json!(id));
    }
}
