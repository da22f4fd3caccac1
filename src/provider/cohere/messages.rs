//! Messages in Cohere's words. Roles are the same; parts and what a turn may hold are not.

use serde_json::{Map, Value, json};

use super::NAME;
use crate::chat::{Content, Message, Part, Role};
use crate::provider::adapter::Untranslatable;
use crate::provider::media;
use crate::provider::wanted::refuse;

/// What the messages became, and whether names of speakers got lost.
pub struct Messages {
    pub list: Vec<Value>,
    pub names_lost: bool,
}

impl Messages {
    /// `thinks`: the model takes its earlier thinking back as a part of its message, others as a plan for their tools.
    pub fn of(messages: &[Message], thinks: bool) -> Result<Self, Untranslatable> {
        let mut all = Self { list: Vec::with_capacity(messages.len()), names_lost: false };
        for (index, message) in messages.iter().enumerate() {
            let path = format!("messages[{index}]");
            all.names_lost |= message.name.is_some() && message.role != Role::Tool;
            all.list.push(match message.role {
                Role::System | Role::Developer => json!({"role": "system", "content": texts(message, &path)?}),
                Role::User => json!({"role": "user", "content": user(message, &path)?}),
                Role::Assistant => assistant(message, &path, thinks)?,
                Role::Tool => tool(message, &path)?,
                Role::Function => {
                    return Err(refuse(path, "the deprecated role `function` is not translated; use `tool`"));
                }
            });
        }
        Ok(all)
    }
}

/// Text as it stands: one text, or a list of parts.
fn texts(message: &Message, path: &str) -> Result<Value, Untranslatable> {
    Ok(match &message.content {
        Content::None => json!(""),
        Content::Text(text) => json!(text),
        Content::Parts(parts) => {
            let blocks = parts.iter().enumerate().map(|(index, part)| match part {
                Part::Text { text, .. } | Part::Refusal(text) => Ok(json!({"type": "text", "text": text})),
                _ => Err(refuse(format!("{path}.content[{index}]"), format!("{NAME} takes only text here"))),
            });
            Value::Array(blocks.collect::<Result<_, _>>()?)
        }
    })
}

fn user(message: &Message, path: &str) -> Result<Value, Untranslatable> {
    let Content::Parts(parts) = &message.content else { return texts(message, path) };
    let blocks = parts.iter().enumerate().map(|(index, part)| {
        let path = || format!("{path}.content[{index}]");
        Ok(match part {
            Part::Text { text, .. } | Part::Refusal(text) => json!({"type": "text", "text": text}),
            Part::Image { url, detail, .. } => {
                if media::inline(url).is_none() && !media::is_https(url) {
                    return Err(refuse(path(), "an image must be a base64 data URL or an https URL"));
                }
                let mut image = json!({ "url": url });
                if let Some(detail) = detail {
                    image["detail"] = json!(detail);
                }
                json!({"type": "image_url", "image_url": image})
            }
            Part::Audio { .. } => return Err(refuse(path(), format!("{NAME} takes no audio"))),
            Part::File { .. } => {
                return Err(refuse(path(), format!("{NAME} takes no files; put their text into `documents`")));
            }
            Part::Other { kind, .. } => return Err(refuse(path(), format!("{NAME} knows no part of type `{kind}`"))),
        })
    });
    Ok(Value::Array(blocks.collect::<Result<_, _>>()?))
}

fn assistant(message: &Message, path: &str, thinks: bool) -> Result<Value, Untranslatable> {
    if message.extra.iter().any(|(name, raw)| &**name == "function_call" && raw.get() != "null") {
        return Err(refuse(format!("{path}.function_call"), "the deprecated form is not translated; use `tool_calls`"));
    }
    let mut turn = Map::new();
    turn.insert("role".into(), json!("assistant"));
    let calls = &message.tool_calls;
    let mut content = texts(message, path)?;
    let thoughts = message.reasoning_content.as_deref().unwrap_or_default();
    if thinks && !thoughts.is_empty() {
        let said = match content {
            Value::Array(blocks) => blocks,
            text if text == "" => Vec::new(),
            text => vec![json!({"type": "text", "text": text})],
        };
        let thinking = json!({"type": "thinking", "thinking": thoughts});
        content = std::iter::once(thinking).chain(said).collect();
    } else if !calls.is_empty() && !thoughts.is_empty() {
        turn.insert("tool_plan".into(), json!(thoughts));
    }
    // A turn that only calls tools has no content at all.
    if calls.is_empty() || !(content == "" || content == json!([])) {
        turn.insert("content".into(), content);
    }
    if !calls.is_empty() {
        let calls = calls.iter().map(|call| {
            let arguments = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
            json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}})
        });
        turn.insert("tool_calls".into(), calls.collect());
    }
    Ok(Value::Object(turn))
}

fn tool(message: &Message, path: &str) -> Result<Value, Untranslatable> {
    let id = message.tool_call_id.as_deref();
    let id = id.ok_or_else(|| refuse(format!("{path}.tool_call_id"), "a tool's result needs the id of its call"))?;
    Ok(json!({"role": "tool", "tool_call_id": id, "content": texts(message, path)?}))
}
