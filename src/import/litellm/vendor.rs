//! Who answers, by the first part of LiteLLM's model names.

use crate::catalog::presets::{self, Preset};

/// One prefix and what it means here.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Vendor {
    pub prefix: &'static str,
    /// Our name for it; empty where only an address says who it is.
    pub preset: &'static str,
    /// Where it is, if no preset says so.
    pub base_url: &'static str,
}

const fn vendor(prefix: &'static str, preset: &'static str) -> Vendor {
    Vendor { prefix, preset, base_url: "" }
}

/// As LiteLLM's documentation lists them ("Providers").
const ALL: &[Vendor] = &[
    vendor("openai", "openai"),
    vendor("text-completion-openai", "openai"),
    vendor("azure", "azure"),
    vendor("anthropic", "anthropic"),
    vendor("gemini", "gemini"),
    vendor("vertex_ai", "vertex"),
    vendor("vertex_ai_beta", "vertex"),
    vendor("bedrock", "bedrock"),
    vendor("bedrock_converse", "bedrock"),
    vendor("mistral", "mistral"),
    vendor("groq", "groq"),
    vendor("deepseek", "deepseek"),
    vendor("xai", "xai"),
    vendor("together_ai", "together"),
    vendor("fireworks_ai", "fireworks"),
    vendor("openrouter", "openrouter"),
    vendor("perplexity", "perplexity"),
    vendor("cerebras", "cerebras"),
    vendor("deepinfra", "deepinfra"),
    vendor("sambanova", "sambanova"),
    vendor("nebius", "nebius"),
    vendor("novita", "novita"),
    vendor("moonshot", "moonshot"),
    vendor("zai", "zai"),
    vendor("cohere", "cohere"),
    vendor("cohere_chat", "cohere"),
    vendor("dashscope", "dashscope"),
    vendor("hyperbolic", "hyperbolic"),
    vendor("minimax", "minimax"),
    vendor("ollama", "ollama"),
    vendor("ollama_chat", "ollama"),
    vendor("lm_studio", "lmstudio"),
    vendor("hosted_vllm", "vllm"),
    vendor("vllm", "vllm"),
    vendor("llamafile", "llamacpp"),
    Vendor { prefix: "nvidia_nim", preset: "", base_url: "https://integrate.api.nvidia.com/v1" },
    vendor("azure_ai", ""),
    vendor("custom_openai", ""),
    vendor("openai_like", ""),
    vendor("litellm_proxy", ""),
    vendor("databricks", ""),
    vendor("github", ""),
    vendor("infinity", ""),
    vendor("xinference", ""),
];

/// Names without a prefix that LiteLLM knows: how they begin, and whose they are.
const BARE: [(&str, &str); 13] = [
    ("gpt-", "openai"),
    ("chatgpt-", "openai"),
    ("o1", "openai"),
    ("o3", "openai"),
    ("o4", "openai"),
    ("text-embedding-3", "openai"),
    ("text-embedding-ada", "openai"),
    ("ft:gpt-", "openai"),
    ("claude-", "anthropic"),
    ("gemini-", "vertex_ai"),
    ("command-", "cohere"),
    ("anthropic.", "bedrock"),
    ("amazon.", "bedrock"),
];

impl Vendor {
    pub fn find(prefix: &str) -> Option<Self> {
        ALL.iter().find(|vendor| vendor.prefix == prefix).copied()
    }

    pub fn preset(&self) -> Option<&'static Preset> {
        presets::find(self.preset)
    }

    /// What it speaks, as `format` is written.
    pub fn format(&self) -> &'static str {
        match self.preset {
            own @ ("anthropic" | "gemini" | "azure" | "bedrock" | "vertex" | "cohere") => own,
            _ => "openai",
        }
    }

    pub fn is_local(&self) -> bool {
        self.preset().is_some_and(Preset::is_local)
    }
}

/// `provider/model` taken apart; `None` for names that say nothing about who answers.
pub fn split(model: &str) -> Option<(Vendor, String)> {
    if let Some((prefix, rest)) = model.split_once('/')
        && let Some(vendor) = Vendor::find(prefix)
    {
        return Some((vendor, rest.to_owned()));
    }
    let (_, prefix) = BARE.iter().find(|(start, _)| model.starts_with(start))?;
    Some((Vendor::find(prefix)?, model.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_that_is_named_exists() {
        for vendor in ALL {
            assert!(vendor.preset.is_empty() || vendor.preset().is_some(), "{}", vendor.prefix);
        }
    }

    #[test]
    fn names_are_taken_apart_at_the_first_slash_only() {
        let of = |model: &str| split(model).map(|(vendor, rest)| (vendor.preset, rest));
        assert_eq!(of("openrouter/meta/llama"), Some(("openrouter", "meta/llama".to_owned())));
        assert_eq!(of("claude-sonnet-4-5"), Some(("anthropic", "claude-sonnet-4-5".to_owned())));
        assert_eq!(of("gemini-2.5-pro").map(|(preset, _)| preset), Some("vertex"));
        assert_eq!(of("my-model"), None);
        assert_eq!(of("sagemaker/x"), None);
    }
}
