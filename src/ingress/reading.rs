//! What reading a body has in common in every dialect.

use std::collections::HashSet;

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::chat::{Invalid, Object, destination, object};

/// stepwell's own members, which mean the same in every dialect (CONTRACT, Hints).
pub const OURS: [&str; 3] = ["context", "provider", "models"];

/// A body as a JSON object. Members that decide where a request goes may not stand twice, so that no two parsers can
/// disagree about it. Nesting beyond 128 is refused by the parser.
pub fn members(body: &Bytes) -> Result<Map<String, Value>, Invalid> {
    let text = std::str::from_utf8(body)
        .map_err(|error| Invalid::json(format!("the body is not valid UTF-8 (byte {})", error.valid_up_to())))?;
    let value: Value =
        serde_json::from_str(text).map_err(|error| Invalid::json(format!("the body is not valid JSON: {error}")))?;
    let Value::Object(members) = value else { return Err(Invalid::json("the body must be a JSON object")) };
    let scanned: Object<'_> = object(text).map_err(|error| Invalid::json(error.to_string()))?;
    let mut seen = HashSet::new();
    if let Some((twice, _)) = scanned.0.iter().find(|(name, _)| !seen.insert(name)) {
        return Err(Invalid {
            param: Some(twice.to_string()),
            ..Invalid::json(format!("`{twice}` appears twice in the body"))
        });
    }
    destination::refuse(members.iter().map(|(name, value)| (name.as_str(), value.is_null())))?;
    Ok(members)
}

/// Removes a member; `null` is as good as absent.
pub fn take(members: &mut Map<String, Value>, name: &str) -> Option<Value> {
    members.remove(name).filter(|value| !value.is_null())
}

pub fn take_text(members: &mut Map<String, Value>, name: &str) -> Result<Option<String>, Invalid> {
    match take(members, name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Invalid::kind(name, "a string")),
    }
}

pub fn take_list(members: &mut Map<String, Value>, name: &str) -> Result<Option<Vec<Value>>, Invalid> {
    match take(members, name) {
        None => Ok(None),
        Some(Value::Array(items)) => Ok(Some(items)),
        Some(_) => Err(Invalid::kind(name, "a list")),
    }
}

/// The text of a string member inside a value.
pub fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name).and_then(Value::as_str)
}

/// A `data:` address.
pub fn data_url(media_type: &str, data: &str) -> String {
    format!("data:{media_type};base64,{data}")
}

/// A body from its members.
pub fn body(members: &Map<String, Value>) -> Bytes {
    // Writing a value to memory as JSON cannot fail.
    Bytes::from(serde_json::to_vec(members).unwrap_or_default())
}
