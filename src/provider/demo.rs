//! The embedded provider: believable answers without a key or a network, and faults on demand.
//!
//! Deterministic: the same prompt gets the same answer at the same pace. What it writes goes through the same decoder as
//! any OpenAI-compatible upstream. Its rows are marked in the ledger and never mixed into real totals.

mod answer;
mod embedding;
mod fault;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::json;

use super::adapter::{Adapter, Decoder, Outgoing, Untranslatable};
use super::failure::Failure;
use super::openai::OpenAi;
use crate::catalog::Target;
use crate::catalog::fault::Breaking;
use crate::chat::{Embed, Request, Response};

/// An answer to be played: what is sent when, and how it ends.
#[derive(Debug)]
pub struct Script {
    pub head_after: Duration,
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// (wait before, bytes)
    pub steps: VecDeque<(Duration, Bytes)>,
    pub end: End,
    /// When the next step is due; set by the player.
    pub due: Option<tokio::time::Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Close,
    /// The connection breaks.
    Reset,
    /// Silence, with the connection open.
    Stall,
}

pub struct Demo;

impl Adapter for Demo {
    fn name(&self) -> &'static str {
        "demo"
    }

    fn encode(&self, request: &Request, target: &Target, task: &str) -> Result<Outgoing, Untranslatable> {
        let script = script(request, target, task);
        Ok(Outgoing {
            url: String::new(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            script: Some(script),
            warnings: Vec::new(),
        })
    }

    fn encode_embed(&self, request: &Request, embed: &Embed, target: &Target) -> Result<Outgoing, Untranslatable> {
        let outgoing = self.encode(request, target, "general")?;
        let steps = VecDeque::from([(Duration::ZERO, Bytes::from(embedding::answer(embed, &target.model.id)?))]);
        let script = outgoing.script.map(|script| match script.status.is_success() && script.end == End::Close {
            true => typed(bare(target.model.speed.first_token, StatusCode::OK, steps, End::Close), "application/json"),
            // The trouble that was asked for.
            false => script,
        });
        Ok(Outgoing { script, ..outgoing })
    }

    fn vectors(&self, body: &[u8]) -> Result<Response, Failure> {
        OpenAi.vectors(body)
    }

    fn decode(&self, body: &[u8]) -> Result<Response, Failure> {
        OpenAi.decode(body)
    }

    fn decoder(&self) -> Box<dyn Decoder> {
        OpenAi.decoder()
    }
}

fn script(request: &Request, target: &Target, task: &str) -> Script {
    let prompt = request.prompt();
    let model = &target.model;
    let fault = match fault::of(target, &prompt) {
        Ok(fault) => fault,
        Err(bad) => return error(StatusCode::BAD_REQUEST, Duration::ZERO, &bad.to_string(), &[]),
    };
    let answer = answer::of(request, &prompt, task, &model.id);
    let first_token = model.speed.first_token + fault.delay + fault.first_token;
    if let Some(status) = fault.status.and_then(|status| StatusCode::from_u16(status).ok()) {
        let wait = fault.delay + model.speed.first_token.min(Duration::from_millis(50));
        return error(status, wait, &format!("demo fault: status {}", status.as_u16()), &fault.headers);
    }
    let pieces: Vec<&str> = answer.pieces().collect();
    let per_token = Duration::from_secs_f64(1.0 / model.speed.tokens_per_second.max(1.0)) + fault.pace;
    let end = match fault.breaks.map(|breaks| breaks.how) {
        None => End::Close,
        Some(Breaking::Stall) => End::Stall,
        Some(Breaking::Cut | Breaking::Reset) => End::Reset,
    };
    // A connection breaks before a plain answer in one piece, or in the middle of a stream.
    let sent = fault.breaks.filter(|_| request.stream).map(|breaks| breaks.after);
    if fault.breaks.is_some() && sent.flatten().is_none() {
        return bare(first_token, StatusCode::OK, VecDeque::new(), end);
    }
    let id = format!("chatcmpl-demo{:016x}", answer.seed);
    let usage = json!({
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": pieces.len().max(1),
        "total_tokens": answer.prompt_tokens + pieces.len().max(1) as u64,
    });
    if !request.stream {
        let body = json!({
            "id": id, "object": "chat.completion", "created": 0, "model": model.id, "system_fingerprint": "demo",
            "choices": [{"index": 0, "message": answer.message(), "logprobs": null, "finish_reason": answer.finish()}],
            "usage": usage,
        });
        let wait = first_token + per_token * pieces.len() as u32;
        let steps = VecDeque::from([(Duration::ZERO, Bytes::from(body.to_string()))]);
        return typed(bare(wait, StatusCode::OK, steps, End::Close), "application/json");
    }
    let mut steps = VecDeque::new();
    let event = |delta: serde_json::Value, finish: Option<&str>| {
        let chunk = json!({
            "id": id, "object": "chat.completion.chunk", "created": 0, "model": model.id, "system_fingerprint": "demo",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        });
        Bytes::from(format!("data: {chunk}\n\n"))
    };
    steps.push_back((Duration::ZERO, event(json!({"role": "assistant"}), None)));
    let shown = sent.flatten().map_or(pieces.len(), |sent| pieces.len().min(sent as usize));
    for (index, delta) in answer.deltas(&pieces[..shown]).enumerate() {
        steps.push_back((if index == 0 { Duration::ZERO } else { per_token }, event(delta, None)));
    }
    if end == End::Close {
        steps.push_back((Duration::ZERO, event(json!({}), Some(answer.finish()))));
        let last = json!({"id": id, "object": "chat.completion.chunk", "created": 0, "model": model.id, "choices": [], "usage": usage});
        steps.push_back((Duration::ZERO, Bytes::from(format!("data: {last}\n\ndata: [DONE]\n\n"))));
    }
    typed(bare(first_token, StatusCode::OK, steps, end), "text/event-stream")
}

fn error(status: StatusCode, head_after: Duration, message: &str, headers: &[(String, String)]) -> Script {
    let body = json!({"error": {"message": message, "type": "demo_fault", "param": null, "code": null}});
    let steps = VecDeque::from([(Duration::ZERO, Bytes::from(body.to_string()))]);
    let mut script = typed(bare(head_after, status, steps, End::Close), "application/json");
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name.as_str()), HeaderValue::try_from(value.as_str())) {
            script.headers.insert(name, value);
        }
    }
    script
}

fn bare(head_after: Duration, status: StatusCode, steps: VecDeque<(Duration, Bytes)>, end: End) -> Script {
    Script { head_after, status, headers: HeaderMap::new(), steps, end, due: None }
}

fn typed(mut script: Script, media_type: &'static str) -> Script {
    script.headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    script
}
