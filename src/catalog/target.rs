//! A target: one model at one provider, the thing that a request is sent to.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, Serializer};

use super::{Fault, Identity, Model};
use crate::money::Discount;
use crate::transform::Transform;

/// `provider/model`. The provider's name has no slash; the model's id may have several.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetId(Arc<str>);

impl TargetId {
    pub fn new(provider: &str, model: &str) -> Self {
        Self(format!("{provider}/{model}").into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn provider(&self) -> &str {
        self.0.split_once('/').map_or(&*self.0, |(provider, _)| provider)
    }

    pub fn model(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, model)| model)
    }
}

impl fmt::Display for TargetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TargetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for TargetId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// A model at a provider.
#[derive(Clone, Debug)]
pub struct Target {
    pub id: TargetId,
    pub provider: Arc<Provider>,
    pub model: Model,
}

impl Target {
    pub fn new(provider: &Arc<Provider>, model: Model) -> Self {
        Self { id: TargetId::new(&provider.name, &model.id), provider: provider.clone(), model }
    }
}

/// What is spoken on the wire. Azure speaks `OpenAi` with another header and an optional query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    OpenAi,
    Anthropic,
    Gemini,
    /// Version 2 of Cohere's chat API.
    Cohere,
    /// Ollama's own API; its other one is `OpenAi`.
    Ollama,
    /// Amazon Bedrock's Converse.
    Bedrock,
    /// Google's cloud: Gemini's format, and Anthropic's for Claude.
    Vertex,
    /// Answers from inside the program; nothing is sent.
    Demo,
}

impl Format {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Cohere => "cohere",
            Self::Ollama => "ollama",
            Self::Bedrock => "bedrock",
            Self::Vertex => "vertex",
            Self::Demo => "demo",
        }
    }
}

/// What a provider gives for many requests in one file, to be answered within a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchTerms {
    /// Off the usual price.
    pub discount: Discount,
    /// Requests in one batch.
    pub max_lines: u64,
    /// Their length together, as they are sent.
    pub max_bytes: u64,
}

impl BatchTerms {
    /// The limits of those who speak a format; `None`: it has no batches that we know.
    /// Sources: OpenAI, Batch guide (50,000 requests, 200 MB, half the price); Anthropic, Batch processing (100,000
    /// requests, 256 MB, half the price).
    pub fn usual(format: Format) -> Option<Self> {
        let (max_lines, max_bytes) = match format {
            Format::OpenAi => (50_000, 200_000_000),
            Format::Anthropic => (100_000, 256_000_000),
            Format::Gemini | Format::Cohere | Format::Ollama | Format::Bedrock | Format::Vertex | Format::Demo => {
                return None;
            }
        };
        Some(Self { discount: Discount::of_share(0.5), max_lines, max_bytes })
    }
}

/// How the key travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    /// `Authorization: Bearer ..`
    Bearer,
    /// The bare key in a header of this name.
    Header(&'static str),
    None,
}

/// Somebody who serves models, as configured. Immutable; a reload makes a new one.
#[derive(Clone)]
pub struct Provider {
    pub name: Arc<str>,
    pub format: Format,
    /// With the version segment and without a slash at the end: `https://api.openai.com/v1`. The adapter appends
    /// `/chat/completions`, `/messages` or `/models/..:generateContent`. May contain `{model}`; see [`Self::url`].
    pub base_url: String,
    pub auth: Auth,
    pub api_key: Option<SecretString>,
    /// Takes the place of the key where requests are signed or tokens expire.
    pub identity: Option<Identity>,
    /// Lower is tried first under `strategy: priority`.
    pub priority: u32,
    /// Share of traffic under `strategy: weighted`. At 0 the strategy never picks it first.
    pub weight: u32,
    /// Requests in flight at this provider; more are sent elsewhere.
    pub max_concurrency: Option<usize>,
    /// Sent with every request.
    pub headers: Vec<(String, String)>,
    /// Added to every URL, such as Azure's `api-version`.
    pub query: Vec<(String, String)>,
    pub preset: Option<&'static str>,
    /// Its certificate is not checked: whoever answers at its address gets its key.
    pub insecure_tls: bool,
    /// Trouble that the demo provider makes on purpose.
    pub fault: Option<Fault>,
    /// What is changed of requests to it, and of its answers.
    pub transform: Option<Arc<Transform>>,
    /// Its own batches. `None`: it has none, or they are not to be used.
    pub batch: Option<BatchTerms>,
}

impl Provider {
    /// A provider with nothing special about it.
    pub fn new(name: &str, format: Format, base_url: &str, auth: Auth) -> Self {
        Self {
            name: name.into(),
            format,
            base_url: base_url.trim_end_matches('/').to_owned(),
            auth,
            api_key: None,
            identity: None,
            priority: 100,
            weight: 1,
            max_concurrency: None,
            headers: Vec::new(),
            query: Vec::new(),
            preset: None,
            insecure_tls: false,
            fault: None,
            transform: None,
            batch: None,
        }
    }

    /// Everything that must not be repeated to anybody: the key, what an identity keeps, headers and
    /// query parameters named like one, and headers that a transformation sets.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        /// Shorter values are placeholders such as `none`; replacing them would garble every message.
        const SHORTEST: usize = 6;
        let named = |name: &str| {
            let name = name.to_ascii_lowercase();
            ["key", "auth", "token", "secret"].iter().any(|word| name.contains(word))
        };
        let written = self.headers.iter().chain(&self.query).filter(move |(name, _)| named(name));
        let key = self.api_key.as_ref().map(|key| key.expose_secret());
        let kept = self.identity.iter().flat_map(Identity::secrets);
        let written = written.map(|(_, value)| value.as_str());
        let set = self.transform.iter().flat_map(|transform| &transform.request.headers.set);
        let set = set.filter_map(|(_, value)| value.to_str().ok());
        key.into_iter().chain(kept).chain(written).chain(set).filter(|secret| secret.len() >= SHORTEST)
    }

    /// Below it `/models` lists the models. Cohere lists them in its first version only, Ollama where it speaks OpenAI.
    pub fn listing_url(&self) -> Cow<'_, str> {
        let version = match self.format {
            Format::Cohere => "/v2",
            Format::Ollama => "/api",
            Format::OpenAi | Format::Anthropic | Format::Gemini | Format::Bedrock | Format::Vertex | Format::Demo => {
                return self.base_url.as_str().into();
            }
        };
        let root = self.base_url.strip_suffix(version).or_else(|| self.base_url.strip_suffix("/v1"));
        format!("{}/v1", root.unwrap_or(&self.base_url)).into()
    }

    /// The base URL for one model: Azure's older API has the deployment in the path.
    pub fn url(&self, model: &Model) -> Cow<'_, str> {
        match self.base_url.contains("{model}") {
            true => self.base_url.replace("{model}", model.upstream_id()).into(),
            false => self.base_url.as_str().into(),
        }
    }
}

/// Names only where a value may be a secret: static headers often carry credentials.
impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider")
            .field("name", &self.name)
            .field("format", &self.format)
            .field("base_url", &self.base_url)
            .field("auth", &self.auth)
            .field("has_key", &self.api_key.is_some())
            .field("has_identity", &self.identity.is_some())
            .field("priority", &self.priority)
            .field("weight", &self.weight)
            .field("max_concurrency", &self.max_concurrency)
            .field("headers", &self.headers.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("query", &self.query.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("preset", &self.preset)
            .field("insecure_tls", &self.insecure_tls)
            .field("fault", &self.fault)
            .field("transform", &self.transform)
            .field("batch", &self.batch)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::AwsKeys;

    #[test]
    fn a_model_id_may_contain_slashes() {
        let id = TargetId::new("groq", "openai/gpt-oss-120b");
        assert_eq!((id.provider(), id.model()), ("groq", "openai/gpt-oss-120b"));
        assert_eq!(serde_json::to_string(&id).expect("json"), r#""groq/openai/gpt-oss-120b""#);
    }

    #[test]
    fn a_provider_does_not_show_its_secrets() {
        let mut provider = Provider::new("x", Format::OpenAi, "https://x.example/v1/", Auth::Bearer);
        provider.api_key = Some("sk-hidden".into());
        provider.headers = vec![("x-token".into(), "hidden-too".into())];
        provider.identity = Some(Identity::Aws(AwsKeys {
            access_key_id: "AKIA".to_owned(),
            secret_access_key: "hidden-key".into(),
            session_token: Some("hidden-session".into()),
            region: "us-east-1".to_owned(),
        }));
        let shown = format!("{provider:?}");
        assert!(!shown.contains("hidden"), "{shown}");
        let secrets: Vec<&str> = provider.secrets().collect();
        assert_eq!(secrets, ["sk-hidden", "hidden-key", "hidden-session", "hidden-too"]);
        assert_eq!(provider.base_url, "https://x.example/v1");
    }
}
