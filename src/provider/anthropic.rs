//! Anthropic's Messages API: chat requests written as messages, answers and streams read back.
//!
//! Chat completions has no place for signed thinking. It travels in an extension of the assistant message,
//! `thinking_blocks`, which is accepted back on later turns. Anthropic wants it unchanged while tools are being used.
//! A model without structured output is made to call one tool, `ANSWER_TOOL`; that call's input is the answer's text.

pub(super) mod block;
pub(super) mod decode;
pub(super) mod encode;
pub(super) mod generation;
mod stream;
pub(super) mod thinking;
mod turns;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::adapter::{Adapter, Decoder, Outgoing, Untranslatable, headers, url};
use super::failure::Failure;
use crate::catalog::Target;
use crate::chat::{Dialect, Finish, Request, Response};

/// The version of the API; its only one since 2023 (API reference, Versioning).
const VERSION: (HeaderName, HeaderValue) =
    (HeaderName::from_static("anthropic-version"), HeaderValue::from_static("2023-06-01"));

/// How warnings and refusals call the provider.
const NAME: &str = "Anthropic";

/// The tool whose input is the answer. Decoders know it by its name, since they see no request.
pub(super) const ANSWER_TOOL: &str = "stepwell_answer_in_json";

pub struct Anthropic;

impl Adapter for Anthropic {
    fn name(&self) -> &'static str {
        "anthropic"
    }

    fn speaks(&self) -> Option<Dialect> {
        Some(Dialect::Messages)
    }

    fn encode(&self, request: &Request, target: &Target, _task: &str) -> Result<Outgoing, Untranslatable> {
        let own = request.native.as_ref().filter(|native| self.speaks() == Some(native.dialect));
        let (body, warnings) = match own {
            Some(native) => encode::native(request, &native.body, &target.model)?,
            None => encode::body(request, &target.model)?,
        };
        let mut headers = headers(&target.provider);
        forward(&mut headers, &request.forwarded);
        version(&mut headers);
        Ok(Outgoing { url: url(target, "/messages"), headers, body: body.into(), script: None, warnings })
    }

    fn decode(&self, body: &[u8]) -> Result<Response, Failure> {
        decode::answer(body)
    }

    fn decoder(&self) -> Box<dyn Decoder> {
        Box::new(stream::MessageStream::default())
    }
}

/// Says which version of the API is meant, where nobody said so.
pub(super) fn version(headers: &mut HeaderMap) {
    headers.entry(VERSION.0).or_insert(VERSION.1);
}

/// Passes the caller's choice of features on, beside those that the configuration names.
fn forward(headers: &mut HeaderMap, forwarded: &[(&'static str, String)]) {
    for (name, value) in forwarded {
        let value = match headers.get(*name).and_then(|configured| configured.to_str().ok()) {
            Some(configured) if *name == "anthropic-beta" => format!("{configured},{value}"),
            // What the configuration says of the version is meant for this provider.
            Some(_) => continue,
            None => value.clone(),
        };
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(*name, value);
        }
    }
}

/// Why an answer ended, and the raw reason where ours says less than it.
fn finish(stop_reason: &str, called: bool) -> (Finish, Option<&str>) {
    match stop_reason {
        "tool_use" if called => (Finish::ToolCalls, None),
        // The only tool called was the one that carries the answer.
        "tool_use" => (Finish::Stop, None),
        "end_turn" => (Finish::Stop, None),
        "max_tokens" => (Finish::Length, None),
        "model_context_window_exceeded" => (Finish::Length, Some(stop_reason)),
        "refusal" => (Finish::ContentFilter, None),
        // `stop_sequence`, which chat does not tell from the end; `pause_turn`, a server tool's turn to be continued.
        _ => (Finish::Stop, Some(stop_reason)),
    }
}
