//! Content blocks as parts of chat messages.

use serde_json::{Map, Value, json};

use crate::chat::Invalid;
use crate::ingress::reading::{data_url, text};

/// What blocks of one turn became.
#[derive(Default)]
pub struct Parts {
    pub list: Vec<Value>,
    /// Kinds that chat has no place for.
    pub lost: Vec<String>,
}

impl Parts {
    /// Adds the block at `path`.
    pub fn push(&mut self, block: &Value, path: &str) -> Result<(), Invalid> {
        let kind = text(block, "type").ok_or_else(|| Invalid::kind(format!("{path}.type"), "a string"))?;
        let part = match kind {
            "text" => {
                let words = text(block, "text").ok_or_else(|| Invalid::kind(format!("{path}.text"), "a string"))?;
                json!({"type": "text", "text": words})
            }
            "image" => image(&block["source"], path)?,
            "document" => match document(block, path)? {
                Some(part) => part,
                None => {
                    self.lost.push("document".to_owned());
                    return Ok(());
                }
            },
            "search_result" => {
                let found = block["content"].as_array().into_iter().flatten().filter_map(|part| text(part, "text"));
                let head =
                    format!("{} ({})", block["title"].as_str().unwrap_or(""), block["source"].as_str().unwrap_or(""));
                json!({"type": "text", "text": std::iter::once(&*head).chain(found).collect::<Vec<_>>().join("\n")})
            }
            _ => {
                self.lost.push(kind.to_owned());
                return Ok(());
            }
        };
        self.list.push(marked(part, block));
        Ok(())
    }

    /// A string where one plain text says it all: what most servers have seen most often.
    pub fn content(self) -> Value {
        match &self.list[..] {
            [only] if only["type"] == "text" && only.as_object().is_some_and(|part| part.len() == 2) => {
                only["text"].clone()
            }
            _ => Value::Array(self.list),
        }
    }
}

/// Carries a cache mark over: the same member is understood by OpenRouter and others in chat.
fn marked(mut part: Value, block: &Value) -> Value {
    if let Some(mark) = block.get("cache_control").filter(|mark| !mark.is_null()) {
        part["cache_control"] = mark.clone();
    }
    part
}

fn image(source: &Value, path: &str) -> Result<Value, Invalid> {
    let url = match text(source, "type") {
        Some("base64") => {
            let (Some(media), Some(data)) = (text(source, "media_type"), text(source, "data")) else {
                return Err(Invalid::kind(format!("{path}.source"), "{type: base64, media_type, data}"));
            };
            data_url(media, data)
        }
        Some("url") => {
            text(source, "url").ok_or_else(|| Invalid::kind(format!("{path}.source.url"), "a string"))?.to_owned()
        }
        _ => {
            let message =
                format!("`{path}.source`: expected base64 or url; a file id is known to its own provider only");
            return Err(Invalid::value(format!("{path}.source"), message));
        }
    };
    Ok(json!({"type": "image_url", "image_url": {"url": url}}))
}

/// A PDF as a file, plain text as text. `None` for what lies at another provider.
fn document(block: &Value, path: &str) -> Result<Option<Value>, Invalid> {
    let source = &block["source"];
    let title = text(block, "title").unwrap_or("document.pdf");
    let file = |data: String| json!({"type": "file", "file": {"filename": title, "file_data": data}});
    Ok(match text(source, "type") {
        Some("base64") => {
            let (Some(media), Some(data)) = (text(source, "media_type"), text(source, "data")) else {
                return Err(Invalid::kind(format!("{path}.source"), "{type: base64, media_type, data}"));
            };
            Some(file(data_url(media, data)))
        }
        Some("url") => text(source, "url").map(|url| file(url.to_owned())),
        Some("text") => text(source, "data").map(|data| json!({"type": "text", "text": data})),
        Some("content") => {
            let words = match &source["content"] {
                Value::String(words) => words.clone(),
                parts => {
                    let parts = parts.as_array().into_iter().flatten();
                    parts.filter_map(|part| text(part, "text")).collect::<Vec<_>>().join("\n")
                }
            };
            Some(json!({"type": "text", "text": words}))
        }
        _ => None,
    })
}

/// A result of a tool as a `tool` message, and the parts that such a message cannot hold: images and files, which go
/// into the user's turn behind it.
pub fn tool_result(block: &Value, path: &str, lost: &mut Vec<String>) -> Result<(Value, Vec<Value>), Invalid> {
    let id = text(block, "tool_use_id").ok_or_else(|| Invalid::missing(&format!("{path}.tool_use_id")))?;
    let mut parts = Parts::default();
    match &block["content"] {
        Value::Null => {}
        Value::String(words) => parts.list.push(json!({"type": "text", "text": words})),
        Value::Array(blocks) => {
            for (index, inner) in blocks.iter().enumerate() {
                parts.push(inner, &format!("{path}.content[{index}]"))?;
            }
        }
        _ => return Err(Invalid::kind(format!("{path}.content"), "a string or a list of blocks")),
    }
    lost.append(&mut parts.lost);
    let (texts, others): (Vec<Value>, Vec<Value>) = parts.list.into_iter().partition(|part| part["type"] == "text");
    let words: Vec<&str> = texts.iter().filter_map(|part| text(part, "text")).collect();
    let mut words = words.join("\n");
    if words.is_empty() && !others.is_empty() {
        words.push_str("(The result is in the next message.)");
    }
    let mut message = Map::new();
    message.insert("role".into(), json!("tool"));
    message.insert("tool_call_id".into(), json!(id));
    // Chat has no flag for it, and a model that is not told repeats the call.
    let failed = block["is_error"] == true;
    message.insert("content".into(), json!(if failed { format!("The tool failed: {words}") } else { words }));
    Ok((Value::Object(message), others))
}
