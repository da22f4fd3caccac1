//! A row as spans: one of a server for the request, and below it one of a client for every attempt, losers and failures
//! included.
//!
//! Tokens stand at the attempt that was paid for and nowhere else, so that who adds them up counts them once.

use std::time::Duration;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::trace::v1::span::{Event, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};

use super::attribute::{flag, number, real, text, texts};
use super::peer::Peer;
use crate::ledger::access::path;
use crate::ledger::record::{AttemptRow, Record};
use crate::ledger::timing::Millis;
use crate::telemetry::trace::{SpanId, Trace};

/// Whether the parent is remote is known, and it is (opentelemetry-proto, `SpanFlags`).
const PARENT_IS_REMOTE: u32 = 0x300;
const PARENT_IS_LOCAL: u32 = 0x100;

/// The request's span first.
pub fn spans(record: &Record, trace: &Trace, peer: &impl Fn(&str) -> Peer) -> Vec<Span> {
    let Some(own) = trace.span else { return Vec::new() };
    let moment = |after: Duration| {
        let began = u64::try_from(record.started_unix_ms).unwrap_or(0).saturating_mul(1_000_000);
        began.saturating_add(after.as_nanos() as u64)
    };
    let state = trace.state.as_ref().and_then(|state| state.to_str().ok()).unwrap_or_default();
    let blank = Span { trace_id: trace.id.0.to_be_bytes().to_vec(), trace_state: state.to_owned(), ..Span::default() };
    let mut all = vec![Span {
        span_id: bytes(own),
        parent_span_id: trace.parent.map(bytes).unwrap_or_default(),
        flags: 1 | PARENT_IS_REMOTE,
        name: format!("POST {}", path(record.ingress)),
        kind: SpanKind::Server as i32,
        start_time_unix_nano: moment(Duration::ZERO),
        end_time_unix_nano: moment(record.timing.total),
        attributes: about_request(record),
        events: events(record, &moment),
        status: failed(record.http_status >= 500 || record.status.is_error() && record.http_status < 400),
        ..blank.clone()
    }];
    let paid = paid(record);
    for (index, attempt) in record.attempts.iter().enumerate() {
        let Some(id) = attempt.span else { continue };
        let answers = paid == Some(index);
        // The row notes when a stream begins; it ends with the request.
        let streams = answers && record.stream && attempt.kind.is_none();
        let mut attributes = vec![
            text("gen_ai.operation.name", operation(record.ingress)),
            text("gen_ai.request.model", attempt.model.clone()),
        ];
        attributes.extend(peer(&attempt.provider).attributes());
        attributes.extend(about_attempt(record, index, attempt));
        if answers {
            attributes.extend(about_answer(record));
        }
        all.push(Span {
            span_id: bytes(id),
            parent_span_id: bytes(own),
            flags: 1 | PARENT_IS_LOCAL,
            name: format!("{} {}", operation(record.ingress), attempt.model),
            kind: SpanKind::Client as i32,
            start_time_unix_nano: moment(attempt.began),
            end_time_unix_nano: moment(if streams { record.timing.total.max(attempt.ended) } else { attempt.ended }),
            attributes,
            status: failed(is_failure(attempt)),
            ..blank.clone()
        });
    }
    all
}

fn bytes(id: SpanId) -> Vec<u8> {
    id.0.to_be_bytes().to_vec()
}

/// `gen_ai.operation.name`.
pub fn operation(ingress: &str) -> &'static str {
    match ingress {
        "embeddings" => "embeddings",
        "completions" => "text_completion",
        _ => "chat",
    }
}

/// The attempt whose tokens the row counts.
pub fn paid(record: &Record) -> Option<usize> {
    if !record.cache.is_bought() || record.prompt_tokens + record.completion_tokens == 0 {
        return None;
    }
    record.attempts.iter().rposition(|attempt| attempt.kind.as_deref() != Some("hedge_lost"))
}

/// Who lost to a faster one, or to a caller's patience, has not failed.
pub fn is_failure(attempt: &AttemptRow) -> bool {
    attempt.kind.as_deref().is_some_and(|kind| !matches!(kind, "hedge_lost" | "client_closed"))
}

fn failed(failed: bool) -> Option<Status> {
    // Without a description: it would quote a provider.
    failed.then(|| Status { code: StatusCode::Error as i32, message: String::new() })
}

fn about_request(record: &Record) -> Vec<KeyValue> {
    let mut attributes = vec![
        text("http.request.method", "POST"),
        text("http.route", path(record.ingress)),
        text("url.path", path(record.ingress)),
        number("http.response.status_code", record.http_status.into()),
        text("stepwell.request_id", &*record.id),
        text("stepwell.ingress", record.ingress),
        text("stepwell.status", record.status.as_str()),
        text("stepwell.cache", record.cache.as_str()),
        number("stepwell.attempts", record.attempts.len() as u64),
        number("stepwell.failovers", record.failovers.into()),
        flag("stepwell.stream", record.stream),
    ];
    let words = [
        ("error.type", record.error.as_deref().unwrap_or_default()),
        // Names; the key itself is known to nobody.
        ("stepwell.key", record.key.as_deref().unwrap_or_default()),
        ("stepwell.team", record.team.as_deref().unwrap_or_default()),
        ("stepwell.provider", &record.provider),
        ("stepwell.model", &record.model),
        ("stepwell.task", &record.task),
        ("stepwell.strategy", record.strategy),
        ("stepwell.reason", &record.reason),
    ];
    attributes.extend(words.into_iter().filter(|(_, word)| !word.is_empty()).map(|(key, word)| text(key, word)));
    // Unknown is left out, and not 0.
    attributes.extend(record.cost.map(|cost| real("stepwell.cost_usd", cost.0 as f64 / 1e9)));
    attributes.push(real("stepwell.queued_ms", Millis(record.timing.queued).number()));
    attributes.extend(record.timing.overhead().map(|overhead| real("stepwell.overhead_ms", Millis(overhead).number())));
    attributes
}

fn about_attempt(record: &Record, index: usize, attempt: &AttemptRow) -> Vec<KeyValue> {
    let mut attributes = vec![number("stepwell.attempt", index as u64 + 1)];
    attributes.extend(attempt.status.map(|status| number("http.response.status_code", status.into())));
    if let Some(kind) = &attempt.kind {
        attributes.push(text(if is_failure(attempt) { "error.type" } else { "stepwell.outcome" }, kind.clone()));
    }
    if is_hedge(record, attempt) {
        attributes.push(flag("stepwell.hedge", true));
    }
    attributes
}

fn about_answer(record: &Record) -> Vec<KeyValue> {
    let mut attributes = vec![
        number("gen_ai.usage.input_tokens", record.prompt_tokens),
        number("gen_ai.usage.output_tokens", record.completion_tokens),
        number("gen_ai.usage.cache_read.input_tokens", record.cached_tokens),
        flag("stepwell.estimated_usage", record.estimated_usage),
    ];
    if let Some(answered) = &record.answered {
        attributes.push(text("gen_ai.response.id", answered.id.clone()));
        attributes.push(text("gen_ai.response.model", answered.model.clone()));
        attributes.push(texts("gen_ai.response.finish_reasons", answered.finish.iter().copied()));
    }
    attributes
        .extend(record.first_token_ms.map(|first| real("gen_ai.response.time_to_first_chunk", first as f64 / 1e3)));
    attributes
}

/// It began while another one was still running.
fn is_hedge(record: &Record, attempt: &AttemptRow) -> bool {
    let earlier = |other: &AttemptRow| other.began < attempt.began && attempt.began < other.ended;
    record.attempts.iter().any(earlier)
}

/// What changed the way of the request.
fn events(record: &Record, moment: &impl Fn(Duration) -> u64) -> Vec<Event> {
    let event = |name: &str, after: Duration, attempt: &AttemptRow| Event {
        time_unix_nano: moment(after),
        name: name.to_owned(),
        attributes: vec![
            text("stepwell.provider", attempt.provider.clone()),
            text("stepwell.model", attempt.model.clone()),
        ],
        ..Event::default()
    };
    let mut events = Vec::new();
    for (index, attempt) in record.attempts.iter().enumerate() {
        if is_hedge(record, attempt) {
            events.push(event("hedge", attempt.began, attempt));
        }
        if attempt.opened {
            events.push(event("breaker_opened", attempt.ended, attempt));
        }
        let next = record.attempts.get(index + 1);
        let moved = |next: &&AttemptRow| (&next.provider, &next.model) != (&attempt.provider, &attempt.model);
        if let Some(next) = next.filter(|_| is_failure(attempt)).filter(moved).filter(|next| !is_hedge(record, next)) {
            events.push(event("failover", next.began, next));
        }
    }
    events.sort_by_key(|event| event.time_unix_nano);
    events
}
