//! What finished requests say as metrics, for Prometheus. Recorded off the requests' path.
//!
//! Every label has few values: providers, models and tasks are the configuration's, never a client's text.

use std::time::Duration;

use super::record::{AttemptRow, BATCH_TIER, CacheUse, Record, Status};
use crate::telemetry::metric::Metric;

/// A shorter wait for a place is none.
const WAITED: Duration = Duration::from_millis(1);

/// Counts one finished request.
pub fn observe(record: &Record) {
    let (provider, model) = (record.provider.to_string(), record.model.clone());
    let (task, demo) = (record.task.to_string(), if record.demo { "true" } else { "false" });
    let status = record.status.as_str();
    metrics::counter!(
        Metric::Requests.name(),
        "ingress" => record.ingress, "provider" => provider.clone(), "model" => model.clone(), "task" => task,
        "status" => status, "code" => class(record.http_status), "cache" => record.cache.as_str(), "demo" => demo
    )
    .increment(1);
    metrics::counter!(Metric::CacheRequests.name(), "result" => record.cache.as_str()).increment(1);
    let by_model = |metric: Metric, amount: u64| {
        if amount > 0 {
            metrics::counter!(metric.name(), "provider" => provider.clone(), "model" => model.clone())
                .increment(amount);
        }
    };
    if record.cache.is_bought() {
        for (kind, amount) in [
            ("input", record.prompt_tokens),
            ("output", record.completion_tokens),
            ("cached_input", record.cached_tokens),
            ("reasoning", record.reasoning_tokens),
        ] {
            if amount > 0 {
                let labels = [("provider", provider.clone()), ("model", model.clone()), ("type", kind.to_owned())];
                metrics::counter!(Metric::Tokens.name(), &labels).increment(amount);
            }
        }
        match record.cost {
            Some(cost) => by_model(Metric::CostNanoUsd, cost.0.unsigned_abs()),
            // An unknown price is a count of its own, never a cost of zero.
            None => by_model(Metric::Unpriced, 1),
        }
    }
    by_model(Metric::Failovers, u64::from(record.failovers));
    for AttemptRow { provider, model, kind, .. } in &record.attempts {
        let outcome = kind.clone().unwrap_or_else(|| "answered".to_owned());
        let labels = [("provider", provider.clone()), ("model", model.clone()), ("outcome", outcome)];
        metrics::counter!(Metric::Attempts.name(), &labels).increment(1);
    }
    if record.status == Status::Interrupted {
        let kind = record.error.clone().unwrap_or_default();
        metrics::counter!(Metric::StreamCuts.name(), "provider" => provider.clone(), "kind" => kind).increment(1);
    }
    observe_times(record, &provider, &model);
}

fn observe_times(record: &Record, provider: &str, model: &str) {
    let timing = &record.timing;
    let by_model = |metric: Metric, seconds: f64| {
        metrics::histogram!(metric.name(), "provider" => provider.to_owned(), "model" => model.to_owned())
            .record(seconds);
    };
    let labels =
        [("provider", provider.to_owned()), ("model", model.to_owned()), ("status", record.status.as_str().to_owned())];
    if record.service_tier == Some(BATCH_TIER) {
        // Hours in a provider's batch say nothing about anybody's speed.
        return;
    }
    metrics::histogram!(Metric::RequestSeconds.name(), &labels).record(timing.total.as_secs_f64());
    if let Some(first_token_ms) = record.first_token_ms {
        by_model(Metric::FirstToken, first_token_ms as f64 / 1000.0);
        if let Some(per_token) = per_token(record) {
            by_model(Metric::PerToken, per_token.as_secs_f64());
        }
    }
    // Whoever shares an answer waits for another request, and that is no work of ours.
    if let Some(overhead) = timing.overhead().filter(|_| record.cache != CacheUse::Coalesced) {
        metrics::histogram!(Metric::Overhead.name()).record(overhead.as_secs_f64());
    }
    if timing.queued >= WAITED {
        metrics::histogram!(Metric::QueueWait.name()).record(timing.queued.as_secs_f64());
    }
}

/// Between two tokens of a stream on average; `None` if it was not whole or has too few.
pub fn per_token(record: &Record) -> Option<Duration> {
    let first = Duration::from_millis(record.first_token_ms?);
    let gaps = u32::try_from(record.completion_tokens.checked_sub(1)?).ok().filter(|gaps| *gaps > 0)?;
    (record.status == Status::Completed).then(|| record.timing.total.saturating_sub(first) / gaps)
}

/// Of an HTTP status.
fn class(status: u16) -> &'static str {
    match status / 100 {
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        5 => "5xx",
        _ => "",
    }
}
