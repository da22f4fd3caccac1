//! Providers known by name: where they are, what they speak, which variable usually holds their key.
//!
//! Adding one that speaks OpenAI's dialect is adding a line to [`ALL`]. Base URLs and variable names are those of each
//! provider's own quick start.

use super::{Auth, Format};

/// A well-known provider.
#[derive(Debug)]
pub struct Preset {
    pub name: &'static str,
    pub format: Format,
    /// Empty where everybody has an own one.
    pub base_url: &'static str,
    pub auth: Auth,
    /// Environment variables that usually hold the key, the first one preferred. Empty: no key is needed.
    pub key_env: &'static [&'static str],
    pub listing: Listing,
    /// Serves other makers' open weights, old ones included.
    pub is_host: bool,
    /// Models offered although the catalogue has none for this provider.
    pub starters: &'static [&'static str],
    /// It answers whole files at half the price; see `BatchTerms`.
    pub has_batches: bool,
    pub note: &'static str,
}

/// Where the list of models comes from when the configuration file names none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    Catalogue,
    /// The catalogue knows the models, but only the owner knows which ones are deployed.
    Deployments,
    /// The server is asked at run time.
    Discovered,
}

impl Preset {
    /// Whether it runs on a machine of one's own.
    pub fn is_local(&self) -> bool {
        self.listing == Listing::Discovered
    }
}

const OPENAI_LIKE: Preset = Preset {
    name: "",
    format: Format::OpenAi,
    base_url: "",
    auth: Auth::Bearer,
    key_env: &[],
    listing: Listing::Catalogue,
    is_host: false,
    starters: &[],
    has_batches: false,
    note: "",
};

#[rustfmt::skip] // one provider a line
pub const ALL: &[Preset] = &[
    Preset { name: "openai", base_url: "https://api.openai.com/v1", key_env: &["OPENAI_API_KEY"], has_batches: true, ..OPENAI_LIKE },
    Preset { name: "anthropic", base_url: "https://api.anthropic.com/v1", format: Format::Anthropic, auth: Auth::Header("x-api-key"), key_env: &["ANTHROPIC_API_KEY"], has_batches: true, ..OPENAI_LIKE },
    Preset { name: "gemini", base_url: "https://generativelanguage.googleapis.com/v1beta", format: Format::Gemini, auth: Auth::Header("x-goog-api-key"), key_env: &["GEMINI_API_KEY", "GOOGLE_API_KEY"], note: "Google AI Studio", ..OPENAI_LIKE },
    Preset { name: "azure", base_url: "", auth: Auth::Header("api-key"), key_env: &["AZURE_OPENAI_API_KEY"], listing: Listing::Deployments, note: "base_url is the resource endpoint; AZURE_OPENAI_ENDPOINT is used without one", ..OPENAI_LIKE },
    Preset { name: "bedrock", base_url: "", format: Format::Bedrock, key_env: &["AWS_BEARER_TOKEN_BEDROCK"], is_host: true, note: "Amazon Bedrock; needs a region, and a Bedrock key or the usual AWS keys", ..OPENAI_LIKE },
    Preset { name: "vertex", base_url: "", format: Format::Vertex, note: "Google Vertex AI; needs a project, a location and a service account", ..OPENAI_LIKE },
    Preset { name: "mistral", base_url: "https://api.mistral.ai/v1", key_env: &["MISTRAL_API_KEY"], ..OPENAI_LIKE },
    Preset { name: "groq", base_url: "https://api.groq.com/openai/v1", key_env: &["GROQ_API_KEY"], is_host: true, ..OPENAI_LIKE },
    Preset { name: "deepseek", base_url: "https://api.deepseek.com/v1", key_env: &["DEEPSEEK_API_KEY"], ..OPENAI_LIKE },
    Preset { name: "xai", base_url: "https://api.x.ai/v1", key_env: &["XAI_API_KEY"], ..OPENAI_LIKE },
    Preset { name: "together", base_url: "https://api.together.xyz/v1", key_env: &["TOGETHER_API_KEY"], is_host: true, ..OPENAI_LIKE },
    Preset { name: "fireworks", base_url: "https://api.fireworks.ai/inference/v1", key_env: &["FIREWORKS_API_KEY"], is_host: true, ..OPENAI_LIKE },
    Preset { name: "perplexity", base_url: "https://api.perplexity.ai", key_env: &["PERPLEXITY_API_KEY"], note: "every answer includes a web search", ..OPENAI_LIKE },
    Preset { name: "cerebras", base_url: "https://api.cerebras.ai/v1", key_env: &["CEREBRAS_API_KEY"], is_host: true, ..OPENAI_LIKE },
    Preset { name: "deepinfra", base_url: "https://api.deepinfra.com/v1/openai", key_env: &["DEEPINFRA_API_KEY", "DEEPINFRA_TOKEN"], is_host: true, ..OPENAI_LIKE },
    Preset { name: "sambanova", base_url: "https://api.sambanova.ai/v1", key_env: &["SAMBANOVA_API_KEY"], is_host: true, ..OPENAI_LIKE },
    Preset { name: "nebius", base_url: "https://api.tokenfactory.nebius.com/v1", key_env: &["NEBIUS_API_KEY"], is_host: true, note: "Nebius Token Factory", ..OPENAI_LIKE },
    Preset { name: "novita", base_url: "https://api.novita.ai/openai/v1", key_env: &["NOVITA_API_KEY"], is_host: true, ..OPENAI_LIKE },
    Preset { name: "moonshot", base_url: "https://api.moonshot.ai/v1", key_env: &["MOONSHOT_API_KEY"], note: "the international endpoint", ..OPENAI_LIKE },
    Preset { name: "zai", base_url: "https://api.z.ai/api/paas/v4", key_env: &["ZAI_API_KEY"], note: "the international endpoint", ..OPENAI_LIKE },
    Preset { name: "cohere", base_url: "https://api.cohere.com/v2", format: Format::Cohere, key_env: &["COHERE_API_KEY", "CO_API_KEY"], ..OPENAI_LIKE },
    Preset { name: "dashscope", base_url: "https://dashscope-intl.aliyuncs.com/compatible-mode/v1", key_env: &["DASHSCOPE_API_KEY"], note: "the international endpoint", ..OPENAI_LIKE },
    Preset { name: "hyperbolic", base_url: "https://api.hyperbolic.xyz/v1", key_env: &["HYPERBOLIC_API_KEY"], is_host: true, ..OPENAI_LIKE },
    Preset { name: "minimax", base_url: "https://api.minimax.io/v1", key_env: &["MINIMAX_API_KEY"], note: "the international endpoint", ..OPENAI_LIKE },
    Preset { name: "openrouter", base_url: "https://openrouter.ai/api/v1", key_env: &["OPENROUTER_API_KEY"], is_host: true, starters: &["openrouter/auto"], note: "name the models you want; without, only its own automatic choice is offered", ..OPENAI_LIKE },
    Preset { name: "ollama", base_url: "http://127.0.0.1:11434/v1", auth: Auth::None, listing: Listing::Discovered, note: "a local server; needs no key", ..OPENAI_LIKE },
    Preset { name: "lmstudio", base_url: "http://127.0.0.1:1234/v1", auth: Auth::None, listing: Listing::Discovered, note: "a local server; needs no key", ..OPENAI_LIKE },
    Preset { name: "vllm", base_url: "http://127.0.0.1:8000/v1", auth: Auth::None, listing: Listing::Discovered, note: "a local server; needs no key", ..OPENAI_LIKE },
    Preset { name: "llamacpp", base_url: "http://127.0.0.1:8080/v1", auth: Auth::None, listing: Listing::Discovered, note: "a local server; needs no key", ..OPENAI_LIKE },
    Preset { name: "demo", base_url: "demo:", format: Format::Demo, auth: Auth::None, note: "answers from inside stepwell, for trying it out", ..OPENAI_LIKE },
];

/// Where Cohere speaks OpenAI's dialect, for who writes `format: openai`.
pub const COHERE_AS_OPENAI: &str = "https://api.cohere.ai/compatibility/v1";

pub fn find(name: &str) -> Option<&'static Preset> {
    ALL.iter().find(|preset| preset.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_remote_provider_has_a_url_and_a_key() {
        for (at, preset) in ALL.iter().enumerate() {
            assert!(!ALL[..at].iter().any(|other| other.name == preset.name), "{} twice", preset.name);
            assert!(!preset.base_url.ends_with('/'), "{}", preset.name);
            let needs_key = preset.auth != Auth::None;
            // A service account is in a file, not in a variable.
            assert_eq!(needs_key && preset.name != "vertex", !preset.key_env.is_empty(), "{}", preset.name);
            let is_own = ["azure", "bedrock", "vertex"].contains(&preset.name);
            assert!(!needs_key || preset.base_url.starts_with("https://") || is_own, "{}", preset.name);
        }
    }
}
