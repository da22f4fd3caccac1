//! What is known of a model: price, windows, capabilities.

use serde::Serialize;

use super::{Origin, Skills, Speed};
use crate::money::PerMillion;

/// A model as one provider serves it.
#[derive(Clone, Debug, Serialize)]
pub struct Model {
    /// The provider's own id, as clients write it.
    pub id: String,
    /// What the provider is told instead of `id`; Azure calls it the deployment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
    /// `None`: nobody knows. Only an explicit zero is free.
    pub price: Option<Price>,
    /// Tokens of question and answer together.
    pub context: Option<u64>,
    /// Tokens of an answer.
    pub max_output: Option<u64>,
    pub supports: Supports,
    pub skills: Skills,
    pub speed: Speed,
    /// Whether `auto` and the other aliases may pick it. Asking for it by name always works.
    pub routable: bool,
    /// Whether the configuration file names it.
    pub declared: bool,
}

impl Model {
    pub fn upstream_id(&self) -> &str {
        self.deployment.as_deref().unwrap_or(&self.id)
    }
}

/// List prices. The optional ones fall back to `input` or `output`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Price {
    pub input: PerMillion,
    pub output: PerMillion,
    /// Input read from the provider's prompt cache.
    pub cached_input: Option<PerMillion>,
    /// Input written to the provider's prompt cache.
    pub cache_write: Option<PerMillion>,
    pub reasoning_output: Option<PerMillion>,
    /// All input and output of a request whose input exceeds 200,000 tokens.
    pub input_above_200k: Option<PerMillion>,
    pub output_above_200k: Option<PerMillion>,
    pub origin: Origin,
}

impl Price {
    /// Two plain prices; the rest unknown.
    pub fn new(input: PerMillion, output: PerMillion, origin: Origin) -> Self {
        Self {
            input,
            output,
            cached_input: None,
            cache_write: None,
            reasoning_output: None,
            input_above_200k: None,
            output_above_200k: None,
            origin,
        }
    }

    /// `price: free`.
    pub fn free(origin: Origin) -> Self {
        Self::new(PerMillion::default(), PerMillion::default(), origin)
    }

    /// Dollars per million tokens of a typical mix: three in, one out.
    pub fn blended_usd(&self) -> f64 {
        (3.0 * self.input.0.usd() + self.output.0.usd()) / 4.0
    }
}

/// What a model can take and give.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Supports {
    pub tools: bool,
    pub parallel_tools: bool,
    pub vision: bool,
    pub json_schema: bool,
    pub reasoning: bool,
    pub pdf: bool,
    pub audio_in: bool,
    pub prompt_caching: bool,
    pub system: bool,
    /// Whether anybody told us. If not, all members are guesses and must not exclude the model.
    pub known: bool,
}

impl Supports {
    /// The names as they stand in the file, for messages and suggestions.
    pub const NAMES: [&'static str; 9] = [
        "tools",
        "parallel_tools",
        "vision",
        "json_schema",
        "reasoning",
        "pdf",
        "audio_in",
        "prompt_caching",
        "system",
    ];

    /// Nobody told us.
    pub const UNKNOWN: Self = Self {
        tools: false,
        parallel_tools: false,
        vision: false,
        json_schema: false,
        reasoning: false,
        pdf: false,
        audio_in: false,
        prompt_caching: false,
        system: true,
        known: false,
    };

    /// From names; unknown names are left out. System prompts count as understood even unlisted: sources list them for
    /// few of the models that take them.
    pub fn of<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Self {
        let mut supports = Self { known: true, ..Self::UNKNOWN };
        for name in names {
            match name.as_ref() {
                "tools" => supports.tools = true,
                "parallel_tools" => supports.parallel_tools = true,
                "vision" => supports.vision = true,
                "json_schema" => supports.json_schema = true,
                "reasoning" => supports.reasoning = true,
                "pdf" => supports.pdf = true,
                "audio_in" => supports.audio_in = true,
                "prompt_caching" => supports.prompt_caching = true,
                _ => {}
            }
        }
        supports
    }
}
