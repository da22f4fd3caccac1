//! A whole answer, `chat.completion`.

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::message::{ToolCall, is_custom};
use super::object::{Extra, write_extra};
use super::usage::Usage;

/// Why a choice ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    Stop,
    Length,
    ToolCalls,
    ContentFilter,
    FunctionCall,
}

impl Finish {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::ContentFilter => "content_filter",
            Self::FunctionCall => "function_call",
        }
    }

    /// OpenAI's words and the near misses of its dialects; `None` for a word that no one documents.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "stop" | "eos" | "eos_token" | "end_turn" | "stop_sequence" | "STOP" | "COMPLETE" => Self::Stop,
            "length" | "max_tokens" | "model_length" | "MAX_TOKENS" | "max_output_tokens" => Self::Length,
            // Z.ai and Anthropic, where the window was full before the limit was reached.
            "model_context_window_exceeded" | "context_length_exceeded" => Self::Length,
            "tool_calls" | "tool_use" | "tool_call" => Self::ToolCalls,
            // Z.ai says "sensitive", Gemini's layers "recitation".
            "content_filter" | "safety" | "SAFETY" | "refusal" | "sensitive" | "recitation" => Self::ContentFilter,
            "function_call" => Self::FunctionCall,
            _ => return None,
        })
    }
}

/// The assistant's message inside a choice.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// `None` is `null`, as with tool calls only.
    pub content: Option<String>,
    pub refusal: Option<String>,
    pub reasoning_content: Option<String>,
    pub tool_calls: Vec<ToolCall>,
    pub extra: Extra,
}

#[derive(Clone, Debug)]
pub struct Choice {
    pub index: u32,
    pub message: Reply,
    pub finish: Finish,
    /// `logprobs` and whatever else the provider put beside the message.
    pub extra: Extra,
}

/// One embedding.
#[derive(Clone, Debug, PartialEq)]
pub enum Vector {
    Floats(Vec<f32>),
    /// Little-endian 32-bit floats in base64, which OpenAI's SDKs ask for by default.
    Base64(String),
}

#[derive(Clone, Debug)]
pub struct Response {
    pub id: String,
    /// Unix seconds.
    pub created: i64,
    /// The model that answered, in the provider's own words.
    pub model: String,
    pub choices: Vec<Choice>,
    /// What an embeddings request gets instead of choices, in the order of its inputs.
    pub vectors: Vec<Vector>,
    /// `None` if the provider sent no believable count.
    pub usage: Option<Usage>,
    pub extra: Extra,
}

impl Serialize for Response {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &self.id)?;
        map.serialize_entry("object", "chat.completion")?;
        map.serialize_entry("created", &self.created)?;
        map.serialize_entry("model", &self.model)?;
        map.serialize_entry("choices", &self.choices)?;
        if let Some(usage) = &self.usage {
            map.serialize_entry("usage", usage)?;
        }
        write_extra(&mut map, &self.extra)?;
        map.end()
    }
}

impl Serialize for Choice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("index", &self.index)?;
        map.serialize_entry("message", &self.message)?;
        if !self.extra.iter().any(|(name, _)| &**name == "logprobs") {
            map.serialize_entry("logprobs", &())?;
        }
        map.serialize_entry("finish_reason", self.finish.as_str())?;
        write_extra(&mut map, &self.extra)?;
        map.end()
    }
}

impl Serialize for Reply {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("role", "assistant")?;
        map.serialize_entry("content", &self.content)?;
        map.serialize_entry("refusal", &self.refusal)?;
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

impl Serialize for ToolCall {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        struct Function<'a> {
            name: &'a str,
            arguments: &'a str,
        }
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &self.id)?;
        if is_custom(&self.extra) {
            map.serialize_entry("type", "custom")?;
        } else {
            map.serialize_entry("type", "function")?;
            map.serialize_entry("function", &Function { name: &self.name, arguments: &self.arguments })?;
        }
        write_extra(&mut map, &self.extra)?;
        map.end()
    }
}
