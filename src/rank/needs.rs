//! What a request needs of a model, whatever its task.

use crate::chat::{Request, ResponseFormat};
use crate::meter::estimate;

#[derive(Clone, Debug, Default)]
pub struct Needs {
    pub prompt: estimate::Prompt,
    /// The caller's limit on the answer.
    pub max_tokens: Option<u64>,
    /// The same where two limits were given: the larger one.
    pub most_tokens: Option<u64>,
    /// How many answers are wanted at once; 0 counts as one.
    pub choices: u32,
    pub tools: bool,
    pub vision: bool,
    pub audio: bool,
    pub files: bool,
    pub json_schema: bool,
    /// Vectors: the window holds for each text by itself.
    pub embedding: bool,
    /// The answer is streamed: what counts is how soon it starts.
    pub stream: bool,
    /// Input tokens that an earlier turn of this conversation has probably left in a provider's prompt cache.
    pub cacheable_tokens: u64,
}

/// Shorter prefixes are not cached by the providers that document a minimum (OpenAI, Anthropic: 1024 tokens).
const MIN_CACHEABLE: u64 = 1024;

impl Needs {
    pub fn of(request: &Request) -> Self {
        let prompt = estimate::prompt(request);
        // In a running conversation all but the newest turn was sent before.
        let before = prompt.expected.saturating_sub((request.prompt().length as u64) / 4);
        Self {
            prompt,
            max_tokens: request.max_tokens,
            most_tokens: request.most_tokens,
            choices: request.n,
            tools: request.tools > 0,
            vision: request.images() > 0,
            audio: request.audio() > 0,
            files: request.files() > 0,
            embedding: request.embed.is_some(),
            json_schema: request.response_format == ResponseFormat::JsonSchema,
            stream: request.stream,
            cacheable_tokens: if request.turns() > 2 && before >= MIN_CACHEABLE { before } else { 0 },
        }
    }
}
