//! One piece of a streamed answer, `chat.completion.chunk`.

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::message::is_custom;
use super::object::{Extra, write_extra};
use super::response::Finish;
use super::usage::Usage;

/// What a decoder makes of one upstream event. The envelope (`id`, `created`, `model`) is written by whoever sends the
/// chunk on, so that a stream has one of each whatever the provider does.
#[derive(Clone, Debug, Default)]
pub struct Chunk {
    /// The provider's id, where it gave one; only the first counts.
    pub id: Option<String>,
    /// The model that answers, in the provider's own words.
    pub model: Option<String>,
    pub choices: Vec<ChunkChoice>,
    pub usage: Option<Usage>,
    pub extra: Extra,
}

#[derive(Clone, Debug, Default)]
pub struct ChunkChoice {
    pub index: u32,
    pub delta: Delta,
    pub finish: Option<Finish>,
    pub extra: Extra,
}

#[derive(Clone, Debug, Default)]
pub struct Delta {
    /// True on the first chunk of a choice: `role: "assistant"` is written.
    pub role: bool,
    pub content: Option<String>,
    pub refusal: Option<String>,
    pub reasoning_content: Option<String>,
    pub tool_calls: Vec<ToolCallDelta>,
    /// For callers who speak Messages: chat has no place for it and carries `thinking_blocks` at the end instead.
    pub seal: Option<Seal>,
    pub extra: Extra,
}

/// What must come back unchanged with the thinking that it belongs to (Anthropic, Extended thinking).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seal {
    /// Signs the thinking before it.
    Signature(String),
    /// A block of thinking that is encrypted as a whole, as JSON.
    Redacted(String),
}

/// A fragment of a tool call. `id` and `name` come once, with the first fragment of `index`.
#[derive(Clone, Debug, Default)]
pub struct ToolCallDelta {
    pub index: u32,
    pub id: Option<String>,
    pub name: Option<String>,
    pub arguments: String,
    pub extra: Extra,
}

impl Delta {
    /// True if a caller could see something: the moment at which a stream is committed to its provider.
    pub fn has_content(&self) -> bool {
        let shown = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        shown(&self.content)
            || shown(&self.refusal)
            || shown(&self.reasoning_content)
            || !self.tool_calls.is_empty()
            || self.seal.is_some()
            || !self.extra.is_empty()
    }
}

impl Chunk {
    /// A chunk that only carries text for the first choice.
    pub fn text(content: impl Into<String>) -> Self {
        let delta = Delta { content: Some(content.into()), ..Delta::default() };
        Self { choices: vec![ChunkChoice { delta, ..ChunkChoice::default() }], ..Self::default() }
    }

    /// A chunk that only ends the first choice.
    pub fn finish(finish: Finish) -> Self {
        Self { choices: vec![ChunkChoice { finish: Some(finish), ..ChunkChoice::default() }], ..Self::default() }
    }

    pub fn has_content(&self) -> bool {
        self.choices.iter().any(|choice| choice.delta.has_content())
    }

    /// True if it says nothing in chat's words: only a [`Seal`], which other dialects need.
    pub fn is_silent(&self) -> bool {
        self.choices.iter().all(|choice| {
            let Delta { role, content, refusal, reasoning_content, tool_calls, seal, extra } = &choice.delta;
            let texts = content.is_none() && refusal.is_none() && reasoning_content.is_none();
            seal.is_some()
                && texts
                && tool_calls.is_empty()
                && extra.is_empty()
                && !role
                && choice.finish.is_none()
                && choice.extra.is_empty()
        })
    }
}

impl Serialize for ChunkChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("index", &self.index)?;
        map.serialize_entry("delta", &self.delta)?;
        if !self.extra.iter().any(|(name, _)| &**name == "logprobs") {
            map.serialize_entry("logprobs", &())?;
        }
        map.serialize_entry("finish_reason", &self.finish.map(Finish::as_str))?;
        write_extra(&mut map, &self.extra)?;
        map.end()
    }
}

impl Serialize for Delta {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if self.role {
            map.serialize_entry("role", "assistant")?;
        }
        if let Some(content) = &self.content {
            map.serialize_entry("content", content)?;
        }
        if let Some(refusal) = &self.refusal {
            map.serialize_entry("refusal", refusal)?;
        }
        if let Some(reasoning) = &self.reasoning_content {
            map.serialize_entry("reasoning_content", reasoning)?;
        }
        if !self.tool_calls.is_empty() {
            map.serialize_entry("tool_calls", &self.tool_calls)?;
        }
        write_extra(&mut map, &self.extra)?;
        map.end()
    }
}

impl Serialize for ToolCallDelta {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        struct Function<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            name: Option<&'a str>,
            arguments: &'a str,
        }
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("index", &self.index)?;
        if let Some(id) = &self.id {
            map.serialize_entry("id", id)?;
            map.serialize_entry("type", if is_custom(&self.extra) { "custom" } else { "function" })?;
        }
        if !is_custom(&self.extra) {
            map.serialize_entry("function", &Function { name: self.name.as_deref(), arguments: &self.arguments })?;
        }
        write_extra(&mut map, &self.extra)?;
        map.end()
    }
}
