//! Whose model it is, by its id, and what may be asked of it beyond what Converse says for all.

use crate::catalog::Model;
use crate::provider::anthropic::generation::Generation;

/// Makers whose models take something special.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    Claude(Generation),
    /// Amazon's Nova, the second generation of which thinks.
    Nova {
        thinks: bool,
    },
    OpenAi,
    /// Answers by a schema (Bedrock user guide, Structured outputs, Supported models).
    OtherWithSchemas,
    Other,
}

impl Maker {
    /// By the id that Bedrock is told; where that is the ARN of a profile of one's own, by the id that clients use.
    pub fn of(model: &Model) -> Self {
        match Self::of_id(model.upstream_id()) {
            Self::Other => Self::of_id(&model.id),
            maker => maker,
        }
    }

    fn of_id(id: &str) -> Self {
        let says = |word: &str| id.contains(word);
        const WITH_SCHEMAS: [&str; 9] = [
            "qwen.qwen3",
            "deepseek.v3",
            "google.gemma-3",
            "minimax.",
            "mistral.magistral",
            "mistral.ministral-3",
            "mistral.mistral-large-3",
            "moonshot",
            "nvidia.nemotron",
        ];
        match id {
            _ if says("claude") => Self::Claude(Generation::of(id)),
            _ if says("amazon.nova") => Self::Nova { thinks: says("nova-2") },
            _ if says("openai.") => Self::OpenAi,
            _ if WITH_SCHEMAS.iter().any(|word| says(word)) => Self::OtherWithSchemas,
            _ => Self::Other,
        }
    }

    /// Answers by a schema in `outputConfig`. The catalogue's word is no guide: it means any way to a schema.
    pub fn answers_by_schema(self) -> bool {
        match self {
            Self::Claude(generation) => generation.has_structured_output(),
            Self::OpenAi | Self::OtherWithSchemas => true,
            Self::Nova { .. } | Self::Other => false,
        }
    }

    /// Takes cache points among messages; only Claude also takes them among tools (user guide, Prompt caching).
    pub fn takes_cache_points(self) -> bool {
        matches!(self, Self::Claude(_) | Self::Nova { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_maker_is_known_by_the_id() {
        for (id, schema, cache) in [
            ("us.anthropic.claude-haiku-4-5-20251001-v1:0", true, true),
            ("anthropic.claude-3-7-sonnet-20250219-v1:0", false, true),
            ("eu.amazon.nova-lite-v1:0", false, true),
            ("openai.gpt-oss-120b-1:0", true, false),
            ("qwen.qwen3-32b-v1:0", true, false),
            ("meta.llama3-3-70b-instruct-v1:0", false, false),
        ] {
            let maker = Maker::of_id(id);
            assert_eq!((maker.answers_by_schema(), maker.takes_cache_points()), (schema, cache), "{id}");
        }
    }
}
