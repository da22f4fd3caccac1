//! Amazon Bedrock's Converse API: chat requests written as Converse requests, answers and streams read back.
//!
//! Converse says the same for every model; what only one maker's models understand goes into
//! `additionalModelRequestFields`. Signed thinking travels as `thinking_blocks`, in Anthropic's shape, so that a
//! conversation can go on at Anthropic, on Vertex AI or here. Requests are signed later, see `provider::credential`.

mod answer;
mod block;
mod encode;
mod error;
mod maker;
mod stream;
mod tools;
mod turns;

use http::{HeaderMap, StatusCode};

use super::adapter::{Adapter, Decoder, Outgoing, Untranslatable, headers, url};
use super::failure::Failure;
use super::framing::Framing;
use crate::catalog::Target;
use crate::chat::{Finish, Request, Response};

/// How warnings and refusals call the provider.
const NAME: &str = "Bedrock";

pub struct Bedrock;

impl Adapter for Bedrock {
    fn name(&self) -> &'static str {
        "bedrock"
    }

    fn encode(&self, request: &Request, target: &Target, _task: &str) -> Result<Outgoing, Untranslatable> {
        let (body, warnings) = encode::body(request, &target.model)?;
        let method = if request.stream { "converse-stream" } else { "converse" };
        let model = escaped(target.model.upstream_id());
        Ok(Outgoing {
            url: url(target, &format!("/model/{model}/{method}")),
            headers: headers(&target.provider),
            body: body.into(),
            script: None,
            warnings,
        })
    }

    fn decode(&self, body: &[u8]) -> Result<Response, Failure> {
        answer::answer(body)
    }

    fn framing(&self) -> Framing {
        Framing::Frames
    }

    fn decoder(&self) -> Box<dyn Decoder> {
        Box::new(stream::ConverseStream::default())
    }

    fn failure(&self, status: StatusCode, headers: &HeaderMap, body: &[u8], now_unix: i64) -> Failure {
        error::of_answer(status, headers, body, now_unix)
    }
}

/// A model's id as one segment of a path: ids hold colons, and those of profiles of one's own are ARNs with slashes.
fn escaped(id: &str) -> String {
    let mut escaped = String::with_capacity(id.len() + 8);
    for byte in id.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(byte as char),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

/// Why an answer ended, and the raw reason where ours says less than it (API reference, ConverseResponse, stopReason).
fn finish(stop_reason: &str, called: bool) -> Result<(Finish, Option<&str>), Failure> {
    Ok(match stop_reason {
        "tool_use" if called => (Finish::ToolCalls, None),
        // The only tool called was the one that carries the answer.
        "tool_use" | "end_turn" => (Finish::Stop, None),
        "max_tokens" => (Finish::Length, None),
        "model_context_window_exceeded" => (Finish::Length, Some(stop_reason)),
        "guardrail_intervened" | "content_filtered" => (Finish::ContentFilter, Some(stop_reason)),
        // The model wrote what cannot be read: another try can get it right.
        "malformed_model_output" | "malformed_tool_use" => {
            return Err(Failure::malformed(format!("the model's answer is broken: {stop_reason}")));
        }
        _ => (Finish::Stop, Some(stop_reason)),
    })
}
