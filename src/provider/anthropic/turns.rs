//! Messages as Anthropic's `system` and its alternating turns.

use serde_json::{Value, json};

use super::{NAME, block};
use crate::chat::{Content, Extra, Message, Part, Role, THINKING_BLOCKS};
use crate::provider::adapter::Untranslatable;
use crate::provider::wanted::refuse;

/// What the messages became.
#[derive(Debug, Default)]
pub struct Turns {
    /// Blocks of text; see [`Turns::system`].
    system: Vec<Value>,
    /// Alternating user and assistant turns.
    turns: Vec<(&'static str, Vec<Value>)>,
    names_lost: bool,
}

impl Turns {
    /// Translates `messages`. With `thinking`, signed thinking blocks of earlier turns are given back.
    pub fn of(messages: &[Message], thinking: bool) -> Result<Self, Untranslatable> {
        let mut turns = Self::default();
        for (index, message) in messages.iter().enumerate() {
            let path = format!("messages[{index}]");
            turns.names_lost |= message.name.is_some() && message.role != Role::Tool;
            match message.role {
                // Later ones move to the front too: there is no system turn inside a conversation on most models.
                Role::System | Role::Developer => {
                    let blocks = blocks(message, &path)?;
                    if blocks.iter().any(|block| block["type"] != "text") {
                        return Err(refuse(path, "a system prompt is text"));
                    }
                    turns.system.extend(blocks);
                }
                Role::User => {
                    let blocks = blocks(message, &path)?;
                    turns.push("user", blocks);
                }
                Role::Assistant => {
                    let blocks = assistant(message, &path, thinking)?;
                    turns.push("assistant", blocks);
                }
                Role::Tool => turns.tool_result(message, &path)?,
                Role::Function => {
                    return Err(refuse(path, "the deprecated role `function` is not translated; use `tool`"));
                }
            }
        }
        turns.straighten();
        Ok(turns)
    }

    /// Appends blocks to the turn of `role`, opening one if the other side spoke last.
    fn push(&mut self, role: &'static str, blocks: Vec<Value>) {
        if blocks.is_empty() {
            return;
        }
        match self.turns.last_mut() {
            Some((last, held)) if *last == role => held.extend(blocks),
            _ => self.turns.push((role, blocks)),
        }
    }

    /// All results of one assistant turn stand in one user turn, before any text.
    fn tool_result(&mut self, message: &Message, path: &str) -> Result<(), Untranslatable> {
        let id = message.tool_call_id.as_deref();
        let id =
            id.ok_or_else(|| refuse(format!("{path}.tool_call_id"), "a tool's result needs the id of its call"))?;
        let mut result = json!({"type": "tool_result", "tool_use_id": block::tool_id(id)});
        let is_plain = |part: &Part| matches!(part, Part::Text { extra, .. } if extra.is_empty());
        match &message.content {
            Content::Parts(parts) if !parts.iter().all(is_plain) => {
                let mut bare = message.clone();
                bare.extra.clear();
                result["content"] = Value::Array(blocks(&bare, path)?);
            }
            content => {
                let text = content.text();
                if !text.trim().is_empty() {
                    result["content"] = json!(text);
                }
            }
        }
        if message.extra.iter().any(|(name, raw)| &**name == "is_error" && raw.get() == "true") {
            result["is_error"] = json!(true);
        }
        let result = block::with_cache(result, &message.extra);
        match self.turns.last_mut() {
            Some(("user", held)) => {
                let results = held.iter().take_while(|block| block["type"] == "tool_result").count();
                held.insert(results, result);
            }
            _ => self.turns.push(("user", vec![result])),
        }
        Ok(())
    }

    /// What the API insists on: somebody speaks, the user speaks first, and a turn to continue does not end in a space.
    fn straighten(&mut self) {
        if self.turns.is_empty() {
            self.turns.push(("user", std::mem::take(&mut self.system)));
        }
        if let Some(("assistant", _)) = self.turns.first() {
            self.turns.insert(0, ("user", vec![json!({"type": "text", "text": "(The conversation begins.)"})]));
        }
        if let Some(("assistant", blocks)) = self.turns.last_mut()
            && let Some(Value::String(text)) = blocks.last_mut().and_then(|block| block.get_mut("text"))
        {
            text.truncate(text.trim_end().len());
        }
    }

    /// The system prompt: one text, or blocks where one of them carries a cache mark.
    pub fn system(&mut self, more: Option<&str>) -> Option<Value> {
        let mut blocks = std::mem::take(&mut self.system);
        blocks.extend(more.map(|text| json!({"type": "text", "text": text})));
        if blocks.is_empty() {
            return None;
        }
        if blocks.iter().any(|block| block.get("cache_control").is_some()) {
            return Some(Value::Array(blocks));
        }
        let texts: Vec<&str> = blocks.iter().filter_map(|block| block["text"].as_str()).collect();
        Some(json!(texts.join("\n\n")))
    }

    pub fn messages(&mut self) -> Value {
        let turns = std::mem::take(&mut self.turns).into_iter();
        turns.map(|(role, blocks)| json!({"role": role, "content": plain(blocks)})).collect()
    }

    /// True if the model is in the middle of using tools and its last turn shows no thinking. Anthropic then refuses to
    /// turn thinking on (API reference, Extended thinking with tool use).
    pub fn forbids_new_thinking(&self) -> bool {
        let [.., ("assistant", called), ("user", results)] = &self.turns[..] else { return false };
        results.iter().any(|block| block["type"] == "tool_result")
            && !called
                .first()
                .is_some_and(|block| block["type"].as_str().is_some_and(|kind| kind.ends_with("thinking")))
    }

    /// What could not be said.
    pub fn notes(&self) -> Option<String> {
        self.names_lost.then(|| format!("`messages[].name` has no equivalent at {NAME} and was left out"))
    }
}

/// One unmarked text is written as a string, which is how the API reference writes it.
fn plain(blocks: Vec<Value>) -> Value {
    match &blocks[..] {
        [only] if only["type"] == "text" && only.get("cache_control").is_none() => only["text"].clone(),
        _ => Value::Array(blocks),
    }
}

/// The content of a message. A cache mark on the message itself belongs to its last block.
fn blocks(message: &Message, path: &str) -> Result<Vec<Value>, Untranslatable> {
    let mut blocks = match &message.content {
        Content::None => Vec::new(),
        Content::Text(text) => block::text(text, &Extra::new()).into_iter().collect(),
        Content::Parts(parts) => {
            let mut blocks = Vec::with_capacity(parts.len());
            for (index, part) in parts.iter().enumerate() {
                blocks.extend(block::of_part(part, &format!("{path}.content[{index}]"))?);
            }
            blocks
        }
    };
    if let Some(last) = blocks.pop() {
        blocks.push(block::with_cache(last, &message.extra));
    }
    Ok(blocks)
}

/// Thinking, then text, then calls: the order in which the model wrote them.
fn assistant(message: &Message, path: &str, thinking: bool) -> Result<Vec<Value>, Untranslatable> {
    if message.extra.iter().any(|(name, raw)| &**name == "function_call" && raw.get() != "null") {
        return Err(refuse(format!("{path}.function_call"), "the deprecated form is not translated; use `tool_calls`"));
    }
    let is_thinking = |block: &Value| matches!(block["type"].as_str(), Some("thinking" | "redacted_thinking"));
    let kept = message.extra.iter().find(|(name, _)| &**name == THINKING_BLOCKS);
    let kept = kept.and_then(|(_, raw)| serde_json::from_str::<Vec<Value>>(raw.get()).ok()).unwrap_or_default();
    let (in_content, said): (Vec<Value>, Vec<Value>) = blocks(message, path)?.into_iter().partition(is_thinking);
    let mut all = Vec::new();
    if thinking {
        all.extend(kept.into_iter().filter(is_thinking));
        if all.is_empty() {
            all = in_content;
        }
    }
    all.extend(said);
    for call in &message.tool_calls {
        let call_block = json!({
            "type": "tool_use",
            "id": block::tool_id(&call.id),
            "name": call.name,
            "input": block::input(&call.arguments),
        });
        all.push(block::with_cache(call_block, &call.extra));
    }
    Ok(all)
}
