//! Finished requests for an OpenTelemetry collector: spans and the GenAI metrics, by OTLP over HTTP in protobuf.
//!
//! A ledger row knows at its end all that happened, so nothing is told while a request runs: only its ids are drawn before,
//! for those who are asked. What is made of rows waits in a queue that is bounded, and is sent by one task. A collector
//! that is slow, wrong or gone loses telemetry, which is counted, and never touches a request. No prompt, no answer, no key
//! and no provider's message is in any of it: rows hold none of the former, and the latter is left out.
//!
//! gRPC is not spoken. It would bring a second HTTP client with a TLS of its own; every collector takes HTTP on port 4318.

mod attribute; // key and value
mod measure; // the GenAI metrics
mod peer; // who was asked, in the words of the conventions
mod span; // a row as spans
mod upload; // batches on their way

use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::trace::v1::Span;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::ledger::record::Record;
use crate::telemetry::metric::Metric;
use crate::telemetry::settings::Otlp;
use measure::Measures;
pub use peer::Peer;

/// Spans that wait at most, about 10 MB of memory.
const MOST: usize = 8_192;
/// Spans of one export; as many wake the task early.
const BATCH: usize = 512;

/// What is to be told. One per process; the settings in force say where and whether.
pub struct Exporter {
    spans: Mutex<VecDeque<Span>>,
    measures: Mutex<Measures>,
    /// There are enough spans for an export.
    filled: Notify,
    /// Since when the metrics count, in Unix nanoseconds.
    since: u64,
}

impl Default for Exporter {
    fn default() -> Self {
        Self { spans: Mutex::default(), measures: Mutex::default(), filled: Notify::new(), since: unix_nanos() }
    }
}

impl Exporter {
    /// Takes one finished request. `peer` knows the providers of the configuration. Never waits: spans beyond the limit
    /// are dropped and counted.
    pub fn add(&self, record: &Record, otlp: &Otlp, peer: impl Fn(&str) -> Peer) {
        if otlp.metrics {
            self.measures.lock().add(record, &peer);
        }
        let Some(trace) = record.trace.as_deref().filter(|trace| otlp.traces && trace.is_recorded()) else { return };
        let made = span::spans(record, trace, &peer);
        let mut spans = self.spans.lock();
        if spans.len() + made.len() > MOST {
            lost("traces", "full", made.len());
            return;
        }
        spans.extend(made);
        if spans.len() >= BATCH {
            self.filled.notify_one();
        }
    }
}

fn lost(signal: &'static str, reason: &'static str, count: usize) {
    metrics::counter!(Metric::OtlpLost.name(), "signal" => signal, "reason" => reason).increment(count as u64);
}

fn unix_nanos() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::telemetry::settings::Settings;
    use crate::telemetry::trace::Trace;

    #[test]
    fn spans_that_nobody_takes_are_bounded() {
        let exporter = Exporter::default();
        let otlp = Arc::new(Otlp::at("http://nowhere".to_owned()));
        let settings = Settings { otlp: Some(otlp.clone()), ..Settings::default() };
        let mut record = Record::new("x".into(), 0);
        record.trace = Trace::begin(None, &settings).map(Arc::new);
        for _ in 0..MOST + 100 {
            exporter.add(&record, &otlp, Peer::unknown);
        }
        assert_eq!(exporter.spans.lock().len(), MOST);
    }
}
