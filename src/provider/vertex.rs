//! Vertex AI: Gemini's format at another address, and Anthropic's for Claude.
//!
//! The base URL ends with project and location. Access tokens expire; see `provider::credential`.

use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value};

use super::adapter::{Adapter, Decoder, Outgoing, Untranslatable, headers, url};
use super::failure::Failure;
use super::wanted::refuse;
use super::{anthropic, gemini};
use crate::catalog::{Model, Target};
use crate::chat::{Dialect, Request, Response};

/// Stands in the body instead of Anthropic's header (Claude on Vertex AI, Request body).
const CLAUDE_VERSION: &str = "vertex-2023-10-16";

/// Whether Vertex serves the model in Anthropic's format.
pub fn is_claude(model: &Model) -> bool {
    model.upstream_id().starts_with("claude")
}

/// Google's own models.
pub struct Gemini;

impl Adapter for Gemini {
    fn name(&self) -> &'static str {
        "vertex"
    }

    fn encode(&self, request: &Request, target: &Target, task: &str) -> Result<Outgoing, Untranslatable> {
        let model = target.model.upstream_id();
        if model.contains('/') {
            return Err(refuse("model", "of Vertex AI's models, Gemini's and Claude's are spoken to"));
        }
        let outgoing = gemini::Gemini.encode(request, target, task)?;
        let method = if request.stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
        Ok(Outgoing { url: url(target, &format!("/publishers/google/models/{model}:{method}")), ..outgoing })
    }

    fn decode(&self, body: &[u8]) -> Result<Response, Failure> {
        gemini::Gemini.decode(body)
    }

    fn decoder(&self) -> Box<dyn Decoder> {
        gemini::Gemini.decoder()
    }

    fn failure(&self, status: StatusCode, headers: &HeaderMap, body: &[u8], now_unix: i64) -> Failure {
        gemini::Gemini.failure(status, headers, body, now_unix)
    }
}

/// Anthropic's models at Google.
pub struct Claude;

impl Adapter for Claude {
    fn name(&self) -> &'static str {
        "vertex"
    }

    fn speaks(&self) -> Option<Dialect> {
        Some(Dialect::Messages)
    }

    fn encode(&self, request: &Request, target: &Target, _task: &str) -> Result<Outgoing, Untranslatable> {
        let own = request.native.as_ref().filter(|native| self.speaks() == Some(native.dialect));
        let (body, warnings) = match own {
            Some(native) => anthropic::encode::native(request, &native.body, &target.model)?,
            None => anthropic::encode::body(request, &target.model)?,
        };
        let unreadable = |error: serde_json::Error| refuse("messages", error.to_string());
        let mut body: Map<String, Value> = serde_json::from_slice(&body).map_err(unreadable)?;
        // The model is in the address.
        body.shift_remove("model");
        body.insert("anthropic_version".into(), CLAUDE_VERSION.into());
        let method = if request.stream { "streamRawPredict" } else { "rawPredict" };
        let model = target.model.upstream_id();
        Ok(Outgoing {
            url: url(target, &format!("/publishers/anthropic/models/{model}:{method}")),
            headers: headers(&target.provider),
            body: serde_json::to_vec(&body).map_err(unreadable)?.into(),
            script: None,
            warnings,
        })
    }

    fn decode(&self, body: &[u8]) -> Result<Response, Failure> {
        anthropic::Anthropic.decode(body)
    }

    fn decoder(&self) -> Box<dyn Decoder> {
        anthropic::Anthropic.decoder()
    }

    /// Google refuses what does not reach Claude, in Google's words; Claude's own errors are read the same way.
    fn failure(&self, status: StatusCode, headers: &HeaderMap, body: &[u8], now_unix: i64) -> Failure {
        gemini::Gemini.failure(status, headers, body, now_unix)
    }
}
