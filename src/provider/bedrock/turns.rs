//! Messages as Converse's `system` and its alternating turns.

use serde_json::{Value, json};

use super::NAME;
use super::block::{self, Blocks};
use super::maker::Maker;
use crate::chat::{Content, Message, Part, Role, THINKING_BLOCKS};
use crate::provider::adapter::Untranslatable;
use crate::provider::anthropic::block::input;
use crate::provider::wanted::refuse;

/// What the messages became.
#[derive(Debug, Default)]
pub struct Turns {
    system: Vec<Value>,
    /// Alternating user and assistant turns.
    turns: Vec<(&'static str, Vec<Value>)>,
    /// Names of the tools that the conversation has used.
    pub called: Vec<String>,
    blocks: Blocks,
    names_lost: bool,
}

impl Turns {
    /// Translates `messages`. With `thinking`, signed thinking of earlier turns is given back.
    pub fn of(messages: &[Message], maker: Maker, thinking: bool) -> Result<Self, Untranslatable> {
        let mut turns = Self { blocks: Blocks::new(maker.takes_cache_points()), ..Self::default() };
        for (index, message) in messages.iter().enumerate() {
            let path = format!("messages[{index}]");
            turns.names_lost |= message.name.is_some() && message.role != Role::Tool;
            match message.role {
                Role::System | Role::Developer => {
                    let blocks = turns.content(message, &path)?;
                    if blocks.iter().any(|block| block.get("text").is_none() && block.get("cachePoint").is_none()) {
                        return Err(refuse(path, "a system prompt is text"));
                    }
                    turns.system.extend(blocks);
                }
                Role::User => {
                    let blocks = turns.content(message, &path)?;
                    turns.push("user", blocks);
                }
                Role::Assistant => turns.assistant(message, &path, thinking)?,
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

    /// The content of a message. A cache mark on the message itself stands behind its last block.
    fn content(&mut self, message: &Message, path: &str) -> Result<Vec<Value>, Untranslatable> {
        let mut out = Vec::new();
        match &message.content {
            Content::None => {}
            Content::Text(text) => out.extend(block::text(text)),
            Content::Parts(parts) => {
                for (index, part) in parts.iter().enumerate() {
                    self.blocks.part(part, &format!("{path}.content[{index}]"), &mut out)?;
                }
            }
        }
        if out.last().is_some_and(|last| last.get("cachePoint").is_none()) {
            self.blocks.cache_point(&message.extra, &mut out);
        }
        Ok(out)
    }

    /// Thinking, then text, then calls: the order in which the model wrote them.
    fn assistant(&mut self, message: &Message, path: &str, thinking: bool) -> Result<(), Untranslatable> {
        if message.extra.iter().any(|(name, raw)| &**name == "function_call" && raw.get() != "null") {
            let reason = "the deprecated form is not translated; use `tool_calls`";
            return Err(refuse(format!("{path}.function_call"), reason));
        }
        let kept = message.extra.iter().find(|(name, _)| thinking && &**name == THINKING_BLOCKS);
        let kept = kept.and_then(|(_, raw)| serde_json::from_str::<Vec<Value>>(raw.get()).ok()).unwrap_or_default();
        let mut all: Vec<Value> = kept.iter().filter_map(reasoning).collect();
        all.extend(self.content(message, path)?);
        for call in &message.tool_calls {
            self.called.push(call.name.clone());
            all.push(json!({"toolUse": {
                "toolUseId": block::tool_id(&call.id),
                "name": call.name,
                "input": input(&call.arguments),
            }}));
            self.blocks.cache_point(&call.extra, &mut all);
        }
        self.push("assistant", all);
        Ok(())
    }

    /// All results of one assistant turn stand in one user turn, before any text.
    fn tool_result(&mut self, message: &Message, path: &str) -> Result<(), Untranslatable> {
        let id = message.tool_call_id.as_deref();
        let id =
            id.ok_or_else(|| refuse(format!("{path}.tool_call_id"), "a tool's result needs the id of its call"))?;
        let is_plain = |part: &Part| matches!(part, Part::Text { extra, .. } if extra.is_empty());
        let mut content = match &message.content {
            Content::Parts(parts) if !parts.iter().all(is_plain) => {
                let mut bare = message.clone();
                bare.extra.clear();
                self.content(&bare, path)?
            }
            content => block::text(&content.text()).into_iter().collect(),
        };
        // No cache point stands inside a result; one behind it says the same.
        let mut behind = None;
        content.retain(|block| {
            let is_point = block.get("cachePoint").is_some();
            behind = is_point.then(|| block.clone()).or(behind.take());
            !is_point
        });
        let mut result = json!({"toolUseId": block::tool_id(id), "content": content});
        if message.extra.iter().any(|(name, raw)| &**name == "is_error" && raw.get() == "true") {
            result["status"] = json!("error");
        }
        let mut results = vec![json!({ "toolResult": result })];
        self.blocks.cache_point(&message.extra, &mut results);
        if results.len() == 1 {
            results.extend(behind);
        }
        match self.turns.last_mut() {
            Some(("user", held)) => {
                let is_result = |block: &Value| block.get("toolResult").is_some() || block.get("cachePoint").is_some();
                let leading = match held.first() {
                    Some(first) if first.get("toolResult").is_some() => {
                        held.iter().take_while(|block| is_result(block)).count()
                    }
                    _ => 0,
                };
                held.splice(leading..leading, results);
            }
            _ => self.turns.push(("user", results)),
        }
        Ok(())
    }

    /// What the API insists on: somebody speaks, the user speaks first, a document comes with a text, and a turn to
    /// continue does not end in a space.
    fn straighten(&mut self) {
        if self.turns.is_empty() {
            self.turns.push(("user", std::mem::take(&mut self.system)));
        }
        if let Some(("assistant", _)) = self.turns.first() {
            self.turns.insert(0, ("user", vec![json!({"text": "(The conversation begins.)"})]));
        }
        for (_, blocks) in &mut self.turns {
            let has = |member: &str| blocks.iter().any(|block| block.get(member).is_some());
            if has("document") && !has("text") {
                blocks.push(json!({"text": "(See the attached document.)"}));
            }
        }
        if let Some(("assistant", blocks)) = self.turns.last_mut()
            && let Some(Value::String(text)) = blocks.last_mut().and_then(|block| block.get_mut("text"))
        {
            text.truncate(text.trim_end().len());
        }
    }

    pub fn system(&mut self, more: Option<&str>) -> Vec<Value> {
        let mut blocks = std::mem::take(&mut self.system);
        blocks.extend(more.and_then(block::text));
        blocks
    }

    pub fn messages(&mut self) -> Value {
        let turns = std::mem::take(&mut self.turns).into_iter();
        turns.map(|(role, blocks)| json!({"role": role, "content": blocks})).collect()
    }

    /// True if the model is in the middle of using tools and its last turn shows no thinking. Claude then refuses to
    /// turn thinking on (Anthropic's API reference, Extended thinking with tool use).
    pub fn forbids_new_thinking(&self) -> bool {
        let [.., ("assistant", called), ("user", results)] = &self.turns[..] else { return false };
        results.iter().any(|block| block.get("toolResult").is_some())
            && called.first().is_none_or(|block| block.get("reasoningContent").is_none())
    }

    /// What could not be said.
    pub fn notes(&self) -> impl Iterator<Item = String> {
        let note = |lost: bool, what: &str| lost.then(|| format!("{what} and was left out"));
        let names = note(self.names_lost, &format!("`messages[].name` has no equivalent at {NAME}"));
        let marks = note(self.blocks.marks_lost, "`cache_control` has no equivalent for this model");
        names.into_iter().chain(marks)
    }
}

/// A block of signed thinking in Anthropic's shape, as Converse wants it back.
fn reasoning(block: &Value) -> Option<Value> {
    match block["type"].as_str()? {
        "thinking" => {
            let text = block["thinking"].as_str()?;
            let signature = block["signature"].as_str().filter(|signature| !signature.is_empty())?;
            Some(json!({"reasoningContent": {"reasoningText": {"text": text, "signature": signature}}}))
        }
        "redacted_thinking" => Some(json!({"reasoningContent": {"redactedContent": block["data"].as_str()?}})),
        _ => None,
    }
}
