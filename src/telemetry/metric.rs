//! Every metric: name, kind, labels and help in one table.
//!
//! `metrics::counter!` and its sisters are given [`Metric::name`], never a text; a test reads the source for that, and
//! another one compares what a running server shows with this table. `docs/metrics.md`, the dashboard and the alert rules
//! are held to it, too.

/// What kind of number it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only grows; since the start.
    Counter,
    /// True when it was asked for.
    Gauge,
    /// In seconds, with the upper ends of its buckets.
    Histogram(&'static [f64]),
}

/// From a cache hit to the longest answer.
const ANSWER: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0];
/// As recommended for `gen_ai.server.time_to_first_token`, with room for models that think first.
const FIRST_TOKEN: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 30.0, 60.0, 120.0,
];
/// As recommended for `gen_ai.server.time_per_output_token`, with one more for the fastest servers.
const PER_TOKEN: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5];
/// Microseconds are the rule, and seconds a machine in trouble.
const OWN: &[f64] = &[
    0.000_01, 0.000_02, 0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0,
];

macro_rules! metrics {
    ($($metric:ident, $name:literal, $kind:expr, [$($label:literal),*], $help:literal;)*) => {
        /// One metric. Listed in the order in which a reader wants to learn of them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Metric {
            $(#[doc = $help] $metric,)*
        }

        impl Metric {
            pub const ALL: &[Self] = &[$(Self::$metric),*];

            pub const fn name(self) -> &'static str {
                match self { $(Self::$metric => $name,)* }
            }

            pub const fn kind(self) -> Kind {
                match self { $(Self::$metric => $kind,)* }
            }

            /// Every series has exactly these.
            pub const fn labels(self) -> &'static [&'static str] {
                match self { $(Self::$metric => &[$($label),*],)* }
            }

            /// One sentence.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$metric => $help,)* }
            }
        }
    };
}

use Kind::{Counter, Gauge, Histogram};

metrics! {
    Requests, "stepwell_requests_total", Counter, ["ingress", "provider", "model", "task", "status", "code", "cache", "demo"],
        "Model requests that have ended, by how: `status` is the ledger's word, `code` the class of the HTTP status.";
    RequestSeconds, "stepwell_request_duration_seconds", Histogram(ANSWER), ["provider", "model", "status"],
        "From a request's arrival to the end of its answer.";
    FirstToken, "stepwell_time_to_first_token_seconds", Histogram(FIRST_TOKEN), ["provider", "model"],
        "From a request's arrival to the first content of its stream.";
    PerToken, "stepwell_time_per_output_token_seconds", Histogram(PER_TOKEN), ["provider", "model"],
        "Time between two tokens of a whole stream, on average.";
    Overhead, "stepwell_overhead_seconds", Histogram(OWN), [],
        "The router's own part of the time to an answer: without reading the request, waiting in line and the provider.";
    QueueWait, "stepwell_queue_wait_seconds", Histogram(ANSWER), [],
        "How long requests waited for a place, here or at a provider; only those that waited.";
    InFlight, "stepwell_requests_in_flight", Gauge, [],
        "Requests that have a place now.";
    Queued, "stepwell_requests_queued", Gauge, ["for"],
        "Requests that wait for a place now, in the `router` or at a `provider`.";
    JobsRunning, "stepwell_jobs_running", Gauge, [], "Asynchronous requests that this server is carrying out.";
    JobsEnded, "stepwell_jobs_ended_total", Counter, ["outcome"], "Attempts at asynchronous requests that ended, by what became of them.";
    Jobs, "stepwell_jobs", Gauge, ["status"], "Asynchronous requests in the store, by status. Of all servers together.";
    NativeLines, "stepwell_native_batch_lines_total", Counter, ["provider", "outcome"],
        "Lines of batches that were handed to a provider's own batch: `submitted`; then `completed` or `failed` there, or `released` to be answered one by one.";
    QueueUp, "stepwell_queue_up", Gauge, [], "1 while NATS hands jobs out; 0 while the store does instead; absent without `queue`.";
    QueueLost, "stepwell_queue_lost_total", Counter, [], "Times that NATS was lost.";
    JobsClaimed, "stepwell_jobs_claimed_total", Counter, ["by"], "Claims of jobs where there is a `queue`: by its `stream`, or by a `sweep` of the store.";
    EventsPublished, "stepwell_events_published_total", Counter, ["to"], "Events that this server told others, `nats` or a `webhook`, and they took.";
    Anomalies, "stepwell_anomalies_total", Counter, ["pattern"], "What was found out of the ordinary: many failures at once, unusual costs, latencies or error rates.";
    EventsDropped, "stepwell_events_dropped_total", Counter, [], "Events that were not written to the log because too many waited.";
    Shed, "stepwell_requests_shed_total", Counter, ["reason"],
        "Requests refused because there was no room.";
    Connections, "stepwell_connections", Gauge, [],
        "Connections of callers that are open.";
    HandshakesFailed, "stepwell_handshakes_failed_total", Counter, [],
        "Connections whose TLS handshake failed or took too long.";
    ConnectionsRefused, "stepwell_connections_refused_total", Counter, [],
        "Connections refused because there were too many.";

    Tokens, "stepwell_tokens_total", Counter, ["provider", "model", "type"],
        "Tokens bought. `input` holds `cached_input`, `output` holds `reasoning`.";
    CostUsd, "stepwell_cost_usd_total", Counter, ["provider", "model"],
        "US dollars spent on answers whose price is known.";
    CostNanoUsd, "stepwell_cost_nano_usd_total", Counter, ["provider", "model"],
        "The same in billionths of a dollar, exactly.";
    Unpriced, "stepwell_unpriced_requests_total", Counter, ["provider", "model"],
        "Answers bought at a price that is not known: in no sum of costs.";
    UsageRefused, "stepwell_usage_refused_total", Counter, ["provider"],
        "Token counts of providers that were absurd and not believed.";

    AuthRefused, "stepwell_auth_refused_total", Counter, ["reason"],
        "Requests whose credential was missing, unknown, expired, revoked or malformed.";
    RateLimited, "stepwell_rate_limited_total", Counter, ["limit"],
        "Requests refused because their caller was at a limit.";
    BudgetWarnings, "stepwell_budget_warnings_total", Counter, ["scope", "period"],
        "Budgets that came near their end.";
    BudgetSpent, "stepwell_budget_spent_usd", Gauge, ["scope", "name", "period"],
        "US dollars spent of a configured budget in its present period; those of single keys are at /v1/budgets.";
    BudgetRemaining, "stepwell_budget_remaining_usd", Gauge, ["scope", "name", "period"],
        "What is left of it, requests under way counted at their worst.";

    SharedUp, "stepwell_shared_up", Gauge, [],
        "1 while the store that all replicas share answers; absent without one.";
    SharedReplicas, "stepwell_shared_replicas", Gauge, [],
        "Replicas that share it, as last seen.";
    SharedLost, "stepwell_shared_lost_total", Counter, [],
        "Times that it was lost.";
    SharedRefused, "stepwell_shared_refused_total", Counter, [],
        "Requests refused because it was gone and they concern a budget or an idempotency key.";

    GuardHits, "stepwell_guard_hits_total", Counter, ["guard", "action", "direction"],
        "What guards found in requests and answers.";

    Attempts, "stepwell_attempts_total", Counter, ["provider", "model", "outcome"],
        "Tries at targets: `answered`, or the kind of failure.";
    AttemptFailures, "stepwell_attempt_failures_total", Counter, ["provider", "kind"],
        "Tries that failed before there was an answer, at the moment they do.";
    Failovers, "stepwell_failovers_total", Counter, ["provider", "model"],
        "Targets that failed before this one answered.";
    Hedges, "stepwell_hedges_total", Counter, ["provider", "won"],
        "Second tries beside a late first one, and whether they were faster.";
    StreamCuts, "stepwell_stream_cuts_total", Counter, ["provider", "kind"],
        "Streams that ended with an error after content had been delivered.";
    UnreadableEvents, "stepwell_unreadable_events_total", Counter, ["provider"],
        "Events of streams that could not be read and were left out.";
    BreakerState, "stepwell_breaker_state", Gauge, ["provider", "model"],
        "0 closed or full, 1 half open, 2 open, 3 cooling: no request goes to a target at 2 and 3.";
    BreakerOpened, "stepwell_breaker_opened_total", Counter, ["provider"],
        "Breakers that opened.";
    CooldownSeconds, "stepwell_target_readmitted_seconds", Gauge, ["provider", "model"],
        "Until a target that is open or cooling is asked again; 0 if it may be asked now.";
    TargetInFlight, "stepwell_target_requests_in_flight", Gauge, ["provider", "model"],
        "Requests that are being answered by a target now.";
    UsableTargets, "stepwell_usable_targets", Gauge, [],
        "Targets that may be asked now. At 0 nobody can answer.";
    HealthCheckUp, "stepwell_health_check_up", Gauge, ["provider"],
        "1 if the last health check of a provider succeeded.";

    CacheRequests, "stepwell_cache_requests_total", Counter, ["result"],
        "How the cache took part in requests: `hit`, `miss`, `coalesced` with another one, `bypass`.";
    CacheEntries, "stepwell_cache_entries", Gauge, [],
        "Answers in the cache.";
    CacheBytes, "stepwell_cache_bytes", Gauge, [],
        "Memory that they take, roughly.";

    StoreUp, "stepwell_store_up", Gauge, [],
        "1 if the database of rows and keys answered when it was last asked, which is once a second.";
    LedgerUnsaved, "stepwell_ledger_unsaved_rows", Gauge, [],
        "Rows that wait to be saved.";
    LedgerBehind, "stepwell_ledger_behind_seconds", Gauge, [],
        "Age of the oldest of them.";
    LedgerLost, "stepwell_ledger_lost_rows", Gauge, [],
        "Rows that found no place since the start.";
    LedgerDegraded, "stepwell_ledger_degraded", Gauge, [],
        "1 while the ledger's store refuses rows, lags far behind, or has lost some.";
    LedgerSaved, "stepwell_ledger_saved_rows_total", Counter, [],
        "Rows saved.";
    Unobserved, "stepwell_observations_lost_total", Counter, [],
        "Requests that are missing in these numbers, in traces and in the access log, because too many ended at once.";
    LogLinesLost, "stepwell_log_lines_lost_total", Counter, [],
        "Lines of the log that were dropped, because whoever reads it is too slow.";
    OtlpSent, "stepwell_otlp_sent_total", Counter, ["signal"],
        "Spans (`traces`) and data points (`metrics`) that the collector took.";
    OtlpLost, "stepwell_otlp_lost_total", Counter, ["signal", "reason"],
        "Spans and data points that it did not get: `full` queue, `refused` by it, `shutdown`.";
    OtlpFailures, "stepwell_otlp_failures_total", Counter, ["signal"],
        "Exports that failed; what can be sent again is.";

    Reloads, "stepwell_config_reloads_total", Counter, ["result"],
        "Reloads of the configuration, `ok` or `failed`.";
    ReloadFailed, "stepwell_config_reload_failed", Gauge, [],
        "1 if the newest configuration is not in force.";
    ConfigVersion, "stepwell_config_version", Gauge, [],
        "Counts the configurations in force from 1.";
    Draining, "stepwell_draining", Gauge, [],
        "1 once the server was told to stop.";
    BuildInfo, "stepwell_build_info", Gauge, ["version"],
        "Always 1.";
    ProcessCpu, "process_cpu_seconds_total", Counter, [],
        "CPU time, user and system.";
    ProcessResident, "process_resident_memory_bytes", Gauge, [],
        "Memory in use.";
    ProcessVirtual, "process_virtual_memory_bytes", Gauge, [],
        "Memory reserved.";
    ProcessThreads, "process_threads", Gauge, [],
        "Threads.";
    ProcessFiles, "process_open_fds", Gauge, [],
        "Open file descriptors.";
    ProcessMaxFiles, "process_max_fds", Gauge, [],
        "How many may be open.";
    ProcessStart, "process_start_time_seconds", Gauge, [],
        "When the process began, in Unix seconds.";
}

impl Metric {
    /// Tells the process's recorder what the metrics mean, and begins those without labels at 0: the first event of a
    /// counter that was absent is no increase to Prometheus.
    pub fn describe_all() {
        for metric in Self::ALL {
            match metric.kind() {
                Counter => metrics::describe_counter!(metric.name(), metric.help()),
                Gauge => metrics::describe_gauge!(metric.name(), metric.help()),
                Histogram(_) => metrics::describe_histogram!(metric.name(), metrics::Unit::Seconds, metric.help()),
            }
        }
        metrics::counter!(Self::ConnectionsRefused.name()).absolute(0);
        metrics::gauge!(Self::ReloadFailed.name()).set(0.0);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn names_are_unique_and_say_what_they_count() {
        let names: HashSet<_> = Metric::ALL.iter().map(|metric| metric.name()).collect();
        assert_eq!(names.len(), Metric::ALL.len());
        for metric in Metric::ALL {
            let name = metric.name();
            assert_eq!(name.ends_with("_total"), metric.kind() == Counter, "{name}");
            assert!(matches!(metric.kind(), Histogram(_)) <= name.ends_with("_seconds"), "{name}");
            assert!(name.starts_with("stepwell_") || name.starts_with("process_"), "{name}");
            assert!(metric.help().ends_with('.'), "{name}: help is a sentence");
            if let Histogram(buckets) = metric.kind() {
                assert!(buckets.is_sorted() && buckets.len() <= 20, "{name}");
            }
        }
    }

    #[test]
    fn no_metric_is_counted_under_a_name_that_is_not_in_the_table() {
        fn walk(directory: &Path, found: &mut Vec<String>) {
            for entry in std::fs::read_dir(directory).expect("a directory") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    walk(&path, found);
                    continue;
                }
                let text = std::fs::read_to_string(&path).expect("a file");
                let code = text.split("#[cfg(test)]").next().unwrap_or_default();
                let calls = ["counter!(", "gauge!(", "histogram!("];
                if calls.iter().any(|call| code.split(call).skip(1).any(|rest| rest.trim_start().starts_with('"'))) {
                    found.push(path.display().to_string());
                }
            }
        }
        let mut found = Vec::new();
        walk(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut found);
        assert_eq!(found, Vec::<String>::new(), "use telemetry::metric::Metric");
    }
}
