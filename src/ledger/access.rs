//! A finished request as a line of the access log: the words of the ledger, without its texts.
//!
//! `key` is a key's name and never the key. What a caller wrote is not in it, `model` in the request included: only what was decided and how it ended. Its path is
//! the one of the dialect, however the caller spelled it.

use super::record::Record;
use super::timing::Millis;

/// Lines of this target are written whatever the log's level is.
pub const TARGET: &str = "stepwell::access";

/// Writes the line.
pub fn log(record: &Record) {
    let trace_id = record.trace.as_ref().map(|trace| trace.id.to_string());
    let cost = record.cost.map(|cost| cost.0 as f64 / 1e9);
    tracing::info!(
        target: TARGET,
        request_id = &*record.id,
        trace_id,
        method = "POST",
        path = path(record.ingress),
        status = record.http_status,
        outcome = record.status.as_str(),
        error = record.error,
        key = record.key.as_deref(),
        team = record.team.as_deref(),
        stream = record.stream,
        provider = &*record.provider,
        model = record.model,
        task = &*record.task,
        strategy = record.strategy,
        cache = record.cache.as_str(),
        attempts = record.attempts.len(),
        failovers = record.failovers,
        prompt_tokens = record.prompt_tokens,
        completion_tokens = record.completion_tokens,
        // Left out where the price is not known: that is not 0.
        cost_usd = cost,
        first_token_ms = record.first_token_ms,
        total_ms = record.total_ms,
        queued_ms = Millis(record.timing.queued).number(),
        overhead_ms = record.timing.overhead().map(|overhead| Millis(overhead).number()),
        "request"
    );
}

/// Where a dialect is spoken.
pub fn path(ingress: &str) -> &'static str {
    match ingress {
        "messages" => "/v1/messages",
        "responses" => "/v1/responses",
        "completions" => "/v1/completions",
        "embeddings" => "/v1/embeddings",
        _ => "/v1/chat/completions",
    }
}
