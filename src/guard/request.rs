//! What callers write, screened: all texts of the messages, in whatever dialect, the inputs of embeddings, and what calls
//! and their results say. Definitions of tools, schemas, addresses of images and data in base64 are left alone, and so is
//! what a provider signed: changed, it would be refused.

use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use super::arguments::Arguments;
use super::screen::Screen;
use super::{Rejected, Shield, Tally};
use crate::chat::{Inputs, Invalid, Request};

/// Members that hold no text of anybody's: names of kinds, ids, addresses, what is encoded or signed.
const NO_TEXT: [&str; 18] = [
    "type",
    "role",
    "id",
    "name",
    "index",
    "tool_call_id",
    "tool_use_id",
    "file_id",
    "url",
    "detail",
    "format",
    "media_type",
    "file_data",
    "signature",
    "encrypted_content",
    "cache_control",
    "thinking_blocks",
    "extra_content",
];

/// Members of a chat body with texts, and of a body in Messages.
const CHAT: [&str; 2] = ["messages", "prediction"];
const MESSAGES: [&str; 2] = ["system", "messages"];

/// Why a request does not pass.
#[derive(Debug)]
pub enum Refused {
    Rejected(Rejected),
    /// What was left of it is no request. Does not happen: only texts are changed.
    Invalid(Invalid),
}

impl From<Rejected> for Refused {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

/// The request with what is to be masked masked; `None` if nothing is.
pub fn screened(shield: &Shield, request: &Request, tally: &mut Tally) -> Result<Option<Request>, Refused> {
    let mut edits: Vec<(&str, Box<RawValue>)> = Vec::new();
    for name in CHAT {
        let Some(raw) = request.member(name) else { continue };
        if let Some(edited) = raw_list(shield, raw, tally)? {
            edits.push((name, edited));
        }
    }
    let mut passed = match edits.is_empty() {
        true => None,
        false => Some(request.with_members(&edits).map_err(Refused::Invalid)?),
    };
    // The same words once more, as the caller wrote them: counted before, but for what chat cannot say.
    let mut again = Tally::default();
    if let Some(native) = &request.native
        && let Some(body) = members(shield, &native.body, &MESSAGES, &mut again)?
        && let Some(native) = &mut passed.get_or_insert_with(|| request.clone()).native
    {
        native.body = body.into();
    }
    if tally.is_empty() {
        tally.merge(&again);
    }
    if let Some(embed) = passed.as_mut().and_then(|passed| passed.embed.as_mut()) {
        if let Some(body) = members(shield, &embed.body, &["input"], &mut again)? {
            embed.body = body.into();
        }
        if let Inputs::Texts(texts) = &mut embed.inputs {
            for text in texts {
                if let Some(masked) = Screen::whole(shield, text, &mut again)? {
                    *text = masked;
                }
            }
        }
    }
    Ok(passed)
}

/// A list of messages, or one value: those that do not change keep their bytes.
fn raw_list(shield: &Shield, raw: &str, tally: &mut Tally) -> Result<Option<Box<RawValue>>, Rejected> {
    let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(raw) else {
        return raw_value(shield, raw, tally);
    };
    let mut changed = false;
    let mut passed: Vec<Box<RawValue>> = Vec::with_capacity(items.len());
    for item in items {
        let edited = raw_value(shield, item.get(), tally)?;
        changed |= edited.is_some();
        passed.push(edited.unwrap_or_else(|| item.to_owned()));
    }
    Ok(changed.then(|| to_raw_value(&passed).ok()).flatten())
}

fn raw_value(shield: &Shield, raw: &str, tally: &mut Tally) -> Result<Option<Box<RawValue>>, Rejected> {
    let Ok(mut value) = serde_json::from_str::<Value>(raw) else { return Ok(None) };
    let changed = screen(shield, &mut value, tally)?;
    Ok(changed.then(|| to_raw_value(&value).ok()).flatten())
}

/// Some members of an object.
fn members(shield: &Shield, body: &[u8], names: &[&str], tally: &mut Tally) -> Result<Option<Vec<u8>>, Rejected> {
    let Ok(mut object) = serde_json::from_slice::<Map<String, Value>>(body) else { return Ok(None) };
    let mut changed = false;
    for (name, value) in &mut object {
        changed |= names.contains(&name.as_str()) && screen(shield, value, tally)?;
    }
    Ok(changed.then(|| serde_json::to_vec(&object).ok()).flatten())
}

/// Screens every text in a value. True if it changed.
pub(super) fn screen(shield: &Shield, value: &mut Value, tally: &mut Tally) -> Result<bool, Rejected> {
    match value {
        Value::String(text) => {
            let Some(passed) = Screen::whole(shield, text, tally)? else { return Ok(false) };
            *text = passed;
            Ok(true)
        }
        // A card number may be one; masked, it is a text.
        Value::Number(number) => {
            let Some(passed) = Screen::whole(shield, &number.to_string(), tally)? else { return Ok(false) };
            *value = Value::String(passed);
            Ok(true)
        }
        Value::Array(items) => {
            items.iter_mut().try_fold(false, |changed, item| Ok(screen(shield, item, tally)? | changed))
        }
        Value::Object(members) => object(shield, members, tally),
        Value::Null | Value::Bool(_) => Ok(false),
    }
}

fn object(shield: &Shield, members: &mut Map<String, Value>, tally: &mut Tally) -> Result<bool, Rejected> {
    let kind = members.get("type").and_then(Value::as_str).unwrap_or_default();
    if matches!(kind, "thinking" | "redacted_thinking") {
        return Ok(false);
    }
    let is_text = kind == "text";
    let mut changed = false;
    for (name, value) in members {
        changed |= match (name.as_str(), &mut *value) {
            (name, _) if NO_TEXT.contains(&name) => false,
            // Base64, unless it says that it is text.
            ("data", Value::String(_)) if !is_text => false,
            ("image_url", Value::String(_)) => false,
            // What a call was made with is arbitrary JSON: there, no name means anything.
            ("input", value @ Value::Object(_)) => anything(shield, value, tally)?,
            ("arguments", Value::String(text)) => match Arguments::whole(shield, text, tally)? {
                Some(passed) => {
                    *text = passed;
                    true
                }
                None => false,
            },
            (_, value) => screen(shield, value, tally)?,
        };
    }
    Ok(changed)
}

/// Screens every text, whatever the name of its member.
fn anything(shield: &Shield, value: &mut Value, tally: &mut Tally) -> Result<bool, Rejected> {
    match value {
        Value::Object(members) => {
            members.values_mut().try_fold(false, |changed, value| Ok(anything(shield, value, tally)? | changed))
        }
        Value::Array(items) => {
            items.iter_mut().try_fold(false, |changed, item| Ok(anything(shield, item, tally)? | changed))
        }
        leaf => screen(shield, leaf, tally),
    }
}
