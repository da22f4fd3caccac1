//! Items of the input as chat messages.

use serde_json::{Map, Value, json};

use super::SEAL;
use crate::chat::Invalid;
use crate::ingress::reading::text;

/// The messages so far.
#[derive(Default)]
pub struct Messages {
    pub list: Vec<Value>,
    /// Kinds of items that chat has no place for.
    pub lost: Vec<String>,
    /// Thinking that belongs to the assistant's next words.
    thoughts: Thoughts,
}

#[derive(Default)]
struct Thoughts {
    text: String,
    signed: Vec<Value>,
}

impl Messages {
    /// Adds the item at `path`.
    pub fn push(&mut self, item: &Value, path: &str) -> Result<(), Invalid> {
        match (text(item, "type"), text(item, "role")) {
            (Some("message") | None, Some(role)) => self.message(role, item, path),
            (Some("function_call"), _) => self.call(item, path, "arguments"),
            (Some("custom_tool_call"), _) => self.call(item, path, "input"),
            (Some("function_call_output" | "custom_tool_call_output"), _) => self.output(item, path),
            (Some("reasoning"), _) => {
                self.reasoning(item);
                Ok(())
            }
            (Some("item_reference"), _) => {
                let message = format!("`{path}` refers to a stored item; nothing is stored here, send the item itself");
                Err(Invalid::value(path, message))
            }
            (Some(kind), _) => {
                self.lost.push(kind.chars().filter(char::is_ascii_graphic).take(40).collect());
                Ok(())
            }
            (None, None) => Err(Invalid::missing(&format!("{path}.role"))),
        }
    }

    fn message(&mut self, role: &str, item: &Value, path: &str) -> Result<(), Invalid> {
        let parts = match item.get("content") {
            Some(Value::String(words)) => json!(words),
            Some(Value::Array(parts)) => {
                let parts: Vec<Value> = parts
                    .iter()
                    .enumerate()
                    .map(|(index, part)| self.part(part, &format!("{path}.content[{index}]")))
                    .collect::<Result<Vec<_>, _>>()?
                    .into_iter()
                    .flatten()
                    .collect();
                match &parts[..] {
                    [only] if only["type"] == "text" => only["text"].clone(),
                    _ => Value::Array(parts),
                }
            }
            _ => return Err(Invalid::kind(format!("{path}.content"), "a string or a list of parts")),
        };
        if role == "assistant" {
            // An answer's parts are text; chat takes them as one.
            let words = match &parts {
                Value::Array(parts) => {
                    Value::String(parts.iter().filter_map(|part| text(part, "text")).collect::<Vec<_>>().join(""))
                }
                words => words.clone(),
            };
            let message = self.assistant();
            match message.get("content").and_then(Value::as_str) {
                Some(before) => {
                    let both = format!("{before}{}", words.as_str().unwrap_or_default());
                    message.insert("content".into(), json!(both));
                }
                None => {
                    message.insert("content".into(), words);
                }
            }
            return Ok(());
        }
        self.list.push(json!({"role": role, "content": parts}));
        Ok(())
    }

    fn part(&mut self, part: &Value, path: &str) -> Result<Option<Value>, Invalid> {
        let wrong = |expected: &str| Invalid::kind(path, expected);
        Ok(Some(match text(part, "type").ok_or_else(|| Invalid::kind(format!("{path}.type"), "a string"))? {
            "input_text" | "output_text" | "text" => {
                json!({"type": "text", "text": text(part, "text").ok_or_else(|| wrong("{type, text}"))?})
            }
            "refusal" => json!({"type": "text", "text": text(part, "refusal").unwrap_or_default()}),
            "input_image" => {
                let Some(url) = text(part, "image_url") else {
                    let message = format!("`{path}`: write image_url; a file id is known to its own provider only");
                    return Err(Invalid::value(path, message));
                };
                let mut image = json!({"url": url});
                if let Some(detail) = text(part, "detail") {
                    image["detail"] = json!(detail);
                }
                json!({"type": "image_url", "image_url": image})
            }
            "input_file" => {
                let mut file = Map::new();
                for name in ["filename", "file_data", "file_id"] {
                    file.extend(
                        part.get(name).filter(|value| value.is_string()).map(|value| (name.into(), value.clone())),
                    );
                }
                if let Some(url) = text(part, "file_url") {
                    file.insert("file_data".into(), json!(url));
                }
                json!({"type": "file", "file": file})
            }
            "input_audio" => json!({"type": "input_audio", "input_audio": part["input_audio"]}),
            other => {
                self.lost.push(other.chars().filter(char::is_ascii_graphic).take(40).collect());
                return Ok(None);
            }
        }))
    }

    /// The assistant's turn that is being written; opened anew behind anybody else's.
    fn assistant(&mut self) -> &mut Map<String, Value> {
        if self.list.last().is_none_or(|last| last["role"] != "assistant") {
            self.list.push(json!({"role": "assistant"}));
        }
        let Thoughts { text, signed } = std::mem::take(&mut self.thoughts);
        let last = self.list.len() - 1;
        let Value::Object(message) = &mut self.list[last] else { unreachable!("only objects are pushed") };
        if !text.is_empty() {
            message.insert("reasoning_content".into(), json!(text));
        }
        if !signed.is_empty() {
            message.insert("thinking_blocks".into(), Value::Array(signed));
        }
        message
    }

    fn call(&mut self, item: &Value, path: &str, written: &str) -> Result<(), Invalid> {
        let (Some(id), Some(name)) = (text(item, "call_id"), text(item, "name")) else {
            return Err(Invalid::kind(path, "{type, call_id, name, ..}"));
        };
        let words = text(item, written).unwrap_or_default();
        let call = match written {
            "input" => json!({"id": id, "type": "custom", "custom": {"name": name, "input": words}}),
            _ => json!({"id": id, "type": "function", "function": {"name": name, "arguments": words}}),
        };
        let message = self.assistant();
        message.entry("content").or_insert(Value::Null);
        match message.entry("tool_calls").or_insert_with(|| json!([])) {
            Value::Array(calls) => calls.push(call),
            other => *other = json!([call]),
        }
        Ok(())
    }

    fn output(&mut self, item: &Value, path: &str) -> Result<(), Invalid> {
        let id = text(item, "call_id").ok_or_else(|| Invalid::missing(&format!("{path}.call_id")))?;
        let mut images = Vec::new();
        let words = match &item["output"] {
            Value::String(words) => words.clone(),
            Value::Array(parts) => {
                let mut words = Vec::new();
                for (index, part) in parts.iter().enumerate() {
                    match self.part(part, &format!("{path}.output[{index}]"))? {
                        Some(part) if part["type"] == "text" => words.extend(text(&part, "text").map(str::to_owned)),
                        Some(part) => images.push(part),
                        None => {}
                    }
                }
                words.join("\n")
            }
            other => other.to_string(),
        };
        self.list.push(json!({"role": "tool", "tool_call_id": id, "content": words}));
        // A tool message holds text only: what the tool showed follows in the user's turn.
        if !images.is_empty() {
            self.list.push(json!({"role": "user", "content": images}));
        }
        Ok(())
    }

    /// Reasoning comes back in front of what it led to: as text, and sealed where a provider signed it.
    fn reasoning(&mut self, item: &Value) {
        for list in ["summary", "content"] {
            for part in item[list].as_array().into_iter().flatten() {
                self.thoughts.text.push_str(text(part, "text").unwrap_or_default());
            }
        }
        let sealed = text(item, "encrypted_content").and_then(|sealed| sealed.strip_prefix(SEAL));
        if let Some(blocks) = sealed.and_then(|json| serde_json::from_str::<Vec<Value>>(json).ok()) {
            self.thoughts.signed.extend(blocks);
        }
    }
}
