//! Messages as Gemini's system instruction and contents.

use serde_json::{Map, Value, json};

use super::NAME;
use crate::chat::{Content, EXTRA_CONTENT, Message, Part, Role, ToolCall};
use crate::provider::adapter::Untranslatable;
use crate::provider::media;
use crate::provider::wanted::refuse;

/// Stands for a signature that was lost, for instance because another provider made the call: Google documents it for
/// histories that come from elsewhere (Gemini API, Thought signatures, FAQ).
const NO_SIGNATURE: &str = "skip_thought_signature_validator";

#[derive(Debug, Default)]
pub struct Turns {
    system: Vec<Value>,
    contents: Vec<(&'static str, Vec<Value>)>,
    /// The calls of the model's last turn, as (id, name), in order.
    calls: Vec<(String, String)>,
    /// Results of those calls, as (place among the calls, part).
    results: Vec<(usize, Value)>,
    /// What tools returned beside text; a function's response holds none.
    attached: Vec<Value>,
    names_lost: bool,
}

impl Turns {
    /// Translates `messages`. `sign`: calls need a signature, if only a stand-in.
    pub fn of(messages: &[Message], sign: bool) -> Result<Self, Untranslatable> {
        let mut turns = Self::default();
        for (index, message) in messages.iter().enumerate() {
            let path = format!("messages[{index}]");
            turns.names_lost |= message.name.is_some() && message.role != Role::Tool;
            if message.role != Role::Tool {
                turns.flush_results();
            }
            match message.role {
                Role::System | Role::Developer => {
                    let parts = parts(message, &path)?;
                    turns.system.extend(parts);
                }
                Role::User => {
                    let parts = parts(message, &path)?;
                    turns.push("user", parts);
                }
                Role::Assistant => turns.assistant(message, &path, sign)?,
                Role::Tool => turns.tool_result(message, &path)?,
                Role::Function => {
                    return Err(refuse(path, "the deprecated role `function` is not translated; use `tool`"));
                }
            }
        }
        turns.flush_results();
        if turns.contents.is_empty() {
            // At least one content with a part: a lone system prompt becomes the question.
            let system = std::mem::take(&mut turns.system);
            turns.push("user", system);
        }
        Ok(turns)
    }

    fn push(&mut self, role: &'static str, parts: Vec<Value>) {
        if parts.is_empty() {
            return;
        }
        match self.contents.last_mut() {
            Some((last, held)) if *last == role => held.extend(parts),
            _ => self.contents.push((role, parts)),
        }
    }

    fn assistant(&mut self, message: &Message, path: &str, sign: bool) -> Result<(), Untranslatable> {
        if message.extra.iter().any(|(name, raw)| &**name == "function_call" && raw.get() != "null") {
            return Err(refuse(
                format!("{path}.function_call"),
                "the deprecated form is not translated; use `tool_calls`",
            ));
        }
        let mut parts = parts(message, path)?;
        let any_signed = message.tool_calls.iter().any(|call| signature(call).is_some());
        for (index, call) in message.tool_calls.iter().enumerate() {
            let mut part = json!({"functionCall": {"name": call.name, "args": args(&call.arguments)}});
            // Of parallel calls only the first one is signed.
            let stand_in = (sign && !any_signed && index == 0).then(|| NO_SIGNATURE.to_owned());
            if let Some(signature) = signature(call).or(stand_in) {
                part["thoughtSignature"] = json!(signature);
            }
            parts.push(part);
        }
        if !message.tool_calls.is_empty() {
            self.calls = message.tool_calls.iter().map(|call| (call.id.clone(), call.name.clone())).collect();
        }
        self.push("model", parts);
        Ok(())
    }

    fn tool_result(&mut self, message: &Message, path: &str) -> Result<(), Untranslatable> {
        let id = message.tool_call_id.as_deref().unwrap_or_default();
        let place = self.calls.iter().position(|(call, _)| call == id);
        let name = place.map(|place| self.calls[place].1.clone()).or_else(|| message.name.clone());
        let name =
            name.ok_or_else(|| refuse(format!("{path}.tool_call_id"), format!("no earlier call has the id `{id}`")))?;
        if let Content::Parts(parts) = &message.content {
            for (index, part) in parts.iter().enumerate().filter(|(_, part)| !matches!(part, Part::Text { .. })) {
                self.attached.extend(of_part(part, &format!("{path}.content[{index}]"))?);
            }
        }
        let part = json!({"functionResponse": {"name": name, "response": response(&message.content.text())}});
        self.results.push((place.unwrap_or(usize::MAX), part));
        Ok(())
    }

    /// Results stand in one turn, in the order of the calls, whatever the order in which the tools came back.
    fn flush_results(&mut self) {
        let mut results = std::mem::take(&mut self.results);
        results.sort_by_key(|(place, _)| *place);
        let attached = std::mem::take(&mut self.attached);
        self.push("user", results.into_iter().map(|(_, part)| part).chain(attached).collect());
    }

    pub fn system(&mut self, more: Option<String>) -> Option<Value> {
        let mut parts = std::mem::take(&mut self.system);
        parts.extend(more.map(|text| json!({"text": text})));
        (!parts.is_empty()).then(|| json!({ "parts": parts }))
    }

    pub fn contents(&mut self) -> Value {
        std::mem::take(&mut self.contents)
            .into_iter()
            .map(|(role, parts)| json!({"role": role, "parts": parts}))
            .collect()
    }

    pub fn notes(&self) -> Option<String> {
        self.names_lost.then(|| format!("`messages[].name` has no equivalent at {NAME} and was left out"))
    }
}

/// The signature that an earlier answer put beside a call.
fn signature(call: &ToolCall) -> Option<String> {
    let (_, raw) = call.extra.iter().find(|(name, _)| &**name == EXTRA_CONTENT)?;
    let content: Value = serde_json::from_str(raw.get()).ok()?;
    content["google"]["thought_signature"].as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

/// Arguments must be an object; "" means none.
fn args(arguments: &str) -> Value {
    match serde_json::from_str(arguments) {
        Ok(Value::Object(args)) => Value::Object(args),
        Ok(Value::Null) => json!({}),
        Ok(other) => json!({ "value": other }),
        Err(_) if arguments.trim().is_empty() => json!({}),
        Err(_) => json!({ "text": arguments }),
    }
}

/// A tool's result must be an object too. One that holds references is sent as text: they are refused even here
/// (vercel/ai#14369).
fn response(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) if !holds_reference(&object) => Value::Object(object),
        Ok(Value::Object(_)) | Err(_) => json!({ "result": text }),
        Ok(other) => json!({ "result": other }),
    }
}

fn holds_reference(object: &Map<String, Value>) -> bool {
    fn inside(value: &Value) -> bool {
        match value {
            Value::Object(object) => holds_reference(object),
            Value::Array(items) => items.iter().any(inside),
            _ => false,
        }
    }
    object.iter().any(|(name, value)| matches!(name.as_str(), "$ref" | "$defs") || inside(value))
}

fn parts(message: &Message, path: &str) -> Result<Vec<Value>, Untranslatable> {
    match &message.content {
        Content::None => Ok(Vec::new()),
        Content::Text(text) => Ok(text_part(text).into_iter().collect()),
        Content::Parts(parts) => {
            let mut out = Vec::with_capacity(parts.len());
            for (index, part) in parts.iter().enumerate() {
                out.extend(of_part(part, &format!("{path}.content[{index}]"))?);
            }
            Ok(out)
        }
    }
}

fn text_part(text: &str) -> Option<Value> {
    (!text.is_empty()).then(|| json!({ "text": text }))
}

fn of_part(part: &Part, path: &str) -> Result<Option<Value>, Untranslatable> {
    Ok(match part {
        Part::Text { text, .. } | Part::Refusal(text) => text_part(text),
        Part::Image { url, .. } => {
            Some(bytes(url).ok_or_else(|| refuse(path, "an image must be a base64 data URL or an https URL"))?)
        }
        Part::Audio { data, format } => {
            Some(json!({"inlineData": {"mimeType": format!("audio/{}", format.to_ascii_lowercase()), "data": data}}))
        }
        Part::File { filename, data, file_id, .. } => {
            let bare = |data: &str| {
                // Bare base64, with only the name to tell what it is.
                let media_type = filename.as_deref().and_then(media::guess)?;
                (!data.contains(':')).then(|| json!({"inlineData": {"mimeType": media_type, "data": data}}))
            };
            let part = match (data, file_id) {
                (Some(data), _) => bytes(data).or_else(|| bare(data)),
                (None, Some(id)) => bytes(id),
                (None, None) => None,
            };
            Some(part.ok_or_else(|| refuse(path, "a file must be a base64 data URL, or the URI of a file at Google"))?)
        }
        Part::Other { kind, .. } => return Err(refuse(path, format!("{NAME} knows no part of type `{kind}`"))),
    })
}

/// The bytes of a `data:` address, or a reference to what Gemini fetches by itself.
fn bytes(url: &str) -> Option<Value> {
    if let Some(inline) = media::inline(url) {
        return Some(json!({"inlineData": {"mimeType": inline.media_type, "data": inline.data}}));
    }
    if !media::is_https(url) && !url.starts_with("gs://") {
        return None;
    }
    let mut file = json!({ "fileUri": url });
    if let Some(media_type) = media::guess(url) {
        file["mimeType"] = json!(media_type);
    }
    Some(json!({ "fileData": file }))
}
