//! Parts of messages as Anthropic's content blocks.

use serde_json::{Map, Value, json};

use super::NAME;
use crate::chat::{Extra, Part};
use crate::provider::adapter::Untranslatable;
use crate::provider::media;
use crate::provider::wanted::refuse;

/// What the API reads as images (API reference, Vision).
const IMAGES: [&str; 4] = ["image/jpeg", "image/png", "image/gif", "image/webp"];

/// Blocks that a caller may write in Anthropic's own words.
const NATIVE: [&str; 5] = ["image", "document", "search_result", "thinking", "redacted_thinking"];

/// A block of text, `None` if there is none: empty text is refused.
pub fn text(text: &str, extra: &Extra) -> Option<Value> {
    (!text.trim().is_empty()).then(|| with_cache(json!({"type": "text", "text": text}), extra))
}

/// `path` is where the part stands, for a refusal.
pub fn of_part(part: &Part, path: &str) -> Result<Option<Value>, Untranslatable> {
    Ok(match part {
        Part::Text { text: words, extra } => text(words, extra),
        Part::Refusal(words) => text(words, &Extra::new()),
        Part::Image { url, extra, .. } => {
            let source = image(url).ok_or_else(|| {
                refuse(path, "an image must be a base64 data URL of type jpeg, png, gif or webp, or an https URL")
            })?;
            Some(with_cache(json!({"type": "image", "source": source}), extra))
        }
        Part::File { filename, data, extra, .. } => {
            let data = data.as_deref().ok_or_else(|| refuse(path, "a file id is known to its own provider only"))?;
            let source = document(data, filename.as_deref())
                .ok_or_else(|| refuse(path, "a file must be a PDF, as a base64 data URL"))?;
            let mut block = json!({"type": "document", "source": source});
            if let Some(name) = filename {
                block["title"] = json!(name);
            }
            Some(with_cache(block, extra))
        }
        Part::Audio { .. } => return Err(refuse(path, format!("{NAME} takes no audio"))),
        Part::Other { kind, raw } if NATIVE.contains(&kind.as_str()) => serde_json::from_str(raw.get()).ok(),
        Part::Other { kind, .. } => return Err(refuse(path, format!("{NAME} knows no part of type `{kind}`"))),
    })
}

fn image(url: &str) -> Option<Value> {
    if let Some(inline) = media::inline(url) {
        // "image/jpg" is no registered type, and a common mistake.
        let media_type = if inline.media_type == "image/jpg" { "image/jpeg" } else { &inline.media_type };
        return IMAGES
            .contains(&media_type)
            .then(|| json!({"type": "base64", "media_type": media_type, "data": inline.data}));
    }
    media::is_https(url).then(|| json!({"type": "url", "url": url}))
}

fn document(data: &str, filename: Option<&str>) -> Option<Value> {
    if media::is_https(data) {
        return Some(json!({"type": "url", "url": data}));
    }
    let (media_type, data) = match media::inline(data) {
        Some(inline) => (inline.media_type, inline.data),
        // Bare base64, with only the name to tell what it is.
        None => (filename.and_then(media::guess)?.to_owned(), data.into()),
    };
    match media_type.as_str() {
        "application/pdf" => Some(json!({"type": "base64", "media_type": media_type, "data": data})),
        _ => None,
    }
}

/// Carries `cache_control` over, the only member that means the same on both sides.
pub fn with_cache(mut block: Value, extra: &Extra) -> Value {
    let control = extra.iter().find(|(name, _)| &**name == "cache_control");
    if let Some(control) = control.and_then(|(_, raw)| serde_json::from_str::<Value>(raw.get()).ok()) {
        block["cache_control"] = control;
    }
    block
}

/// A tool call's arguments as the object that Anthropic wants. A call without arguments arrives as "", which is not
/// JSON; what is no object is kept under a name rather than lost.
pub fn input(arguments: &str) -> Value {
    if arguments.trim().is_empty() {
        return Value::Object(Map::new());
    }
    match serde_json::from_str(arguments) {
        Ok(Value::Object(input)) => Value::Object(input),
        Ok(Value::Null) => Value::Object(Map::new()),
        Ok(other) => json!({ "value": other }),
        Err(_) => json!({ "text": arguments }),
    }
}

/// An id that Anthropic accepts (`^[a-zA-Z0-9_-]+$`). Foreign ids such as `functions.weather:0` are rewritten, the same
/// way wherever they stand, and never into the id of another call.
pub fn tool_id(id: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !id.is_empty() && id.chars().all(is_plain) {
        return id.to_owned();
    }
    let plain: String = id.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    let digest = blake3::hash(id.as_bytes()).to_hex();
    format!("{plain}_{}", &digest[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_arguments_become_an_empty_object() {
        assert_eq!(input(""), json!({}));
        assert_eq!(input("null"), json!({}));
        assert_eq!(input(r#"{"a":1}"#), json!({"a": 1}));
        assert_eq!(input("{broken"), json!({"text": "{broken"}));
    }

    #[test]
    fn foreign_ids_are_rewritten_without_collision() {
        assert_eq!(tool_id("toolu_01-x"), "toolu_01-x");
        let (dot, colon) = (tool_id("f.0"), tool_id("f:0"));
        assert!(dot.starts_with("f_0_") && dot != colon, "{dot} {colon}");
        assert_eq!(tool_id("f.0"), dot, "always the same");
        assert!(!tool_id("").is_empty());
    }
}
