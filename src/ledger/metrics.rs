//! What finished requests say as metrics, for Prometheus. Recorded when rows are saved, off the requests' path.
//!
//! Every label has few values: providers, models, tasks and keys are the configuration's, never a client's text.

use super::record::Record;

/// Counts one finished request.
pub fn observe(record: &Record) {
    let (provider, model) = (record.provider.to_string(), record.model.clone());
    let (task, demo) = (record.task.to_string(), if record.demo { "true" } else { "false" });
    metrics::counter!(
        "stepwell_requests_total",
        "provider" => provider.clone(), "model" => model.clone(), "task" => task,
        "status" => record.status.as_str(), "cache" => record.cache.as_str(), "demo" => demo
    )
    .increment(1);
    let by_model = |name: &'static str, amount: u64, kind: &'static str| {
        if amount > 0 {
            metrics::counter!(name, "provider" => provider.clone(), "model" => model.clone(), "type" => kind)
                .increment(amount);
        }
    };
    if record.cache.is_bought() {
        by_model("stepwell_tokens_total", record.prompt_tokens, "input");
        by_model("stepwell_tokens_total", record.completion_tokens, "output");
        by_model("stepwell_tokens_total", record.cached_tokens, "cached_input");
        match record.cost {
            Some(cost) => by_model("stepwell_cost_nano_usd_total", cost.0.unsigned_abs(), "known"),
            // An unknown price is a count of its own, never a cost of zero.
            None => by_model("stepwell_unpriced_requests_total", 1, "unknown"),
        }
    }
    by_model("stepwell_failovers_total", u64::from(record.failovers), "failover");
    let seconds = |ms: u64| ms as f64 / 1000.0;
    metrics::histogram!("stepwell_request_duration_seconds", "provider" => provider.clone(), "status" => record.status.as_str())
        .record(seconds(record.total_ms));
    if let Some(first_token_ms) = record.first_token_ms {
        metrics::histogram!("stepwell_time_to_first_token_seconds", "provider" => provider.clone())
            .record(seconds(first_token_ms));
    }
}
