//! Google's Gemini API: chat requests written as `generateContent`, answers and streams read back.
//!
//! Gemini 3 refuses a turn whose function call lost its signature. It travels where Google's own compatibility layer puts
//! it, in `tool_calls[].extra_content.google.thought_signature`, and is accepted back from there. A stream has no end
//! mark: a finish reason and the end of the bytes are the end.

mod answer;
mod embed;
mod encode;
mod finish;
mod generation;
mod parts;
mod schema;
mod stream;
mod turns;

use http::{HeaderMap, StatusCode};

use super::adapter::{Adapter, Decoder, Outgoing, Untranslatable, headers, url};
use super::failure::{Failure, FailureKind};
use crate::catalog::Target;
use crate::chat::{Embed, Request, Response};

/// How warnings and refusals call the provider.
const NAME: &str = "Gemini";

pub struct Gemini;

impl Adapter for Gemini {
    fn name(&self) -> &'static str {
        "gemini"
    }

    fn encode(&self, request: &Request, target: &Target, _task: &str) -> Result<Outgoing, Untranslatable> {
        let (body, warnings) = encode::body(request, &target.model)?;
        let model = target.model.upstream_id();
        let model = model.strip_prefix("models/").unwrap_or(model);
        // Without `alt=sse` the stream is one long JSON array.
        let method = if request.stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
        Ok(Outgoing {
            url: url(target, &format!("/models/{model}:{method}")),
            headers: headers(&target.provider),
            body: body.into(),
            script: None,
            warnings,
        })
    }

    fn decode(&self, body: &[u8]) -> Result<Response, Failure> {
        answer::answer(body)
    }

    fn encode_embed(&self, _request: &Request, embed: &Embed, target: &Target) -> Result<Outgoing, Untranslatable> {
        let path = format!("/models/{}:batchEmbedContents", target.model.upstream_id());
        let body = embed::body(embed, target)?;
        let headers = headers(&target.provider);
        Ok(Outgoing { url: url(target, &path), headers, body, script: None, warnings: Vec::new() })
    }

    fn vectors(&self, body: &[u8]) -> Result<Response, Failure> {
        embed::answer(body)
    }

    fn decoder(&self) -> Box<dyn Decoder> {
        Box::new(stream::ContentStream::default())
    }

    fn failure(&self, status: StatusCode, headers: &HeaderMap, body: &[u8], now_unix: i64) -> Failure {
        let mut failure = Failure::of_answer(status, headers, body, now_unix);
        let says = |words: &str| memchr::memmem::find(body, words.as_bytes()).is_some();
        failure.kind = match failure.kind {
            // A wrong or expired key is a 400 INVALID_ARGUMENT with this reason in its details (recording).
            FailureKind::BadRequest if says("API_KEY_INVALID") => FailureKind::Credential,
            // "You exceeded your current quota" is said of the limit per minute too (recording); only what is counted
            // by the day does not come back in seconds.
            FailureKind::QuotaExhausted if status.as_u16() == 429 && !says("PerDay") => FailureKind::RateLimited,
            kind => kind,
        };
        failure
    }
}
