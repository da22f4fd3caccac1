//! Batches on their way to the collector. One task, one export at a time.
//!
//! An export that may succeed later is tried again, with growing pauses; what comes meanwhile waits in the queue. Trouble
//! is said once when it begins, once a minute while it lasts, and when it is over.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::attribute::text;
use super::{BATCH, Exporter, lost, unix_nanos};
use crate::provider::transport::Transport;
use crate::telemetry::metric::Metric;
use crate::telemetry::settings::Otlp;

/// How often a server without a collector looks whether a reload brought one.
const IDLE: Duration = Duration::from_millis(500);
/// Longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Between two complaints.
const COMPLAIN: Duration = Duration::from_secs(60);
/// How long the last export may take.
const FLUSH: Duration = Duration::from_secs(2);

/// What came of an export.
enum Sent {
    /// All but so many were taken.
    Taken { refused: usize },
    /// It will not get better.
    Refused(String),
    /// It may succeed later.
    Failed(String),
}

/// How it has been going.
#[derive(Default)]
struct Mood {
    failures: u32,
    complained: Option<Instant>,
}

impl Exporter {
    /// Sends until `stop`. `settings` are those in force.
    pub async fn run(&self, transport: &Transport, settings: impl Fn() -> Option<Arc<Otlp>>, stop: CancellationToken) {
        let mut mood = Mood::default();
        while !stop.is_cancelled() {
            let Some(otlp) = settings() else {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(IDLE) => continue,
                }
            };
            let pause =
                otlp.interval.0.saturating_mul(1 << mood.failures.min(6)).min(LONGEST_PAUSE.max(otlp.interval.0));
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                () = self.filled.notified(), if mood.failures == 0 => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.export(transport, &otlp, &mut mood) => {}
            }
        }
    }

    /// The last export, once nothing is added any more. Takes 2 s at most; what it could not send is lost.
    pub async fn flush(&self, transport: &Transport, otlp: &Otlp) {
        let _ = tokio::time::timeout(FLUSH, self.export(transport, otlp, &mut Mood::default())).await;
        let left = std::mem::take(&mut *self.spans.lock()).len();
        if left > 0 {
            lost("traces", "shutdown", left);
            tracing::warn!(left, "{left} spans could not be sent to the collector");
        }
    }

    async fn export(&self, transport: &Transport, otlp: &Otlp, mood: &mut Mood) {
        let mut trouble = self.export_spans(transport, otlp).await;
        if otlp.metrics {
            trouble = trouble.or(self.export_metrics(transport, otlp).await);
        }
        mood.note(trouble, &otlp.endpoint);
    }

    /// Why it stopped, if not because there were no more.
    async fn export_spans(&self, transport: &Transport, otlp: &Otlp) -> Option<String> {
        loop {
            let batch: Vec<Span> = self.spans.lock().iter().take(BATCH).cloned().collect();
            if batch.is_empty() {
                return None;
            }
            let count = batch.len();
            let request = ExportTraceServiceRequest {
                resource_spans: vec![ResourceSpans {
                    resource: Some(resource(otlp)),
                    scope_spans: vec![ScopeSpans { scope: Some(scope()), spans: batch, ..ScopeSpans::default() }],
                    ..ResourceSpans::default()
                }],
            };
            let rejected = |body: Bytes| {
                let partial = ExportTraceServiceResponse::decode(body).ok()?.partial_success?;
                usize::try_from(partial.rejected_spans).ok()
            };
            let sent = post(transport, otlp, "traces", request.encode_to_vec(), rejected).await;
            if let Sent::Failed(reason) = sent {
                return Some(reason);
            }
            // Only this task takes spans away, and new ones come behind them.
            self.spans.lock().drain(..count);
            match sent {
                Sent::Taken { refused } => taken("traces", count.saturating_sub(refused), refused),
                Sent::Refused(reason) => {
                    lost("traces", "refused", count);
                    return Some(reason);
                }
                Sent::Failed(_) => {}
            }
        }
    }

    async fn export_metrics(&self, transport: &Transport, otlp: &Otlp) -> Option<String> {
        let metrics = self.measures.lock().export(self.since, unix_nanos());
        let points = |data: &Option<Data>| match data {
            Some(Data::Histogram(histogram)) => histogram.data_points.len(),
            _ => 0,
        };
        let count = metrics.iter().map(|metric| points(&metric.data)).sum::<usize>();
        if count == 0 {
            return None;
        }
        let request = ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(resource(otlp)),
                scope_metrics: vec![ScopeMetrics { scope: Some(scope()), metrics, ..ScopeMetrics::default() }],
                ..ResourceMetrics::default()
            }],
        };
        let rejected = |body: Bytes| {
            let partial = ExportMetricsServiceResponse::decode(body).ok()?.partial_success?;
            usize::try_from(partial.rejected_data_points).ok()
        };
        match post(transport, otlp, "metrics", request.encode_to_vec(), rejected).await {
            Sent::Taken { refused } => {
                taken("metrics", count.saturating_sub(refused), refused);
                None
            }
            // The next export holds all of this one.
            Sent::Refused(reason) | Sent::Failed(reason) => Some(reason),
        }
    }
}

impl Mood {
    fn note(&mut self, trouble: Option<String>, endpoint: &str) {
        let Some(reason) = trouble else {
            if std::mem::take(&mut self.failures) > 0 && self.complained.take().is_some() {
                tracing::info!("the collector at `{endpoint}` takes telemetry again");
            }
            return;
        };
        self.failures = self.failures.saturating_add(1);
        if self.complained.is_none_or(|last| last.elapsed() >= COMPLAIN) {
            self.complained = Some(Instant::now());
            tracing::warn!(
                "the collector at `{endpoint}` does not take telemetry, requests are not affected: {reason}"
            );
        }
    }
}

fn taken(signal: &'static str, sent: usize, refused: usize) {
    metrics::counter!(Metric::OtlpSent.name(), "signal" => signal).increment(sent as u64);
    if refused > 0 {
        lost(signal, "refused", refused);
    }
}

/// `rejected` reads from an answer how many were not taken.
async fn post(
    transport: &Transport,
    otlp: &Otlp,
    signal: &'static str,
    body: Vec<u8>,
    rejected: impl Fn(Bytes) -> Option<usize>,
) -> Sent {
    let mut headers: HeaderMap = otlp.headers.iter().cloned().collect();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    let url = format!("{}/v1/{signal}", otlp.endpoint);
    let sent = match transport.deliver(&url, headers, body, otlp.timeout.0).await {
        Ok((status, body)) if status.is_success() => Sent::Taken { refused: rejected(body).unwrap_or(0) },
        Ok((status, _)) => {
            let reason = format!("it answers {}", status.as_u16());
            // Those that OTLP's specification calls retryable.
            let passes = [
                StatusCode::TOO_MANY_REQUESTS,
                StatusCode::BAD_GATEWAY,
                StatusCode::SERVICE_UNAVAILABLE,
                StatusCode::GATEWAY_TIMEOUT,
            ];
            if passes.contains(&status) { Sent::Failed(reason) } else { Sent::Refused(reason) }
        }
        Err(failure) => Sent::Failed(failure.message),
    };
    if !matches!(sent, Sent::Taken { .. }) {
        metrics::counter!(Metric::OtlpFailures.name(), "signal" => signal).increment(1);
    }
    sent
}

fn resource(otlp: &Otlp) -> Resource {
    let mut attributes: Vec<_> = otlp.resource.iter().map(|(key, value)| text(key, value.clone())).collect();
    let usual = [("service.name", "stepwell"), ("service.version", env!("CARGO_PKG_VERSION"))];
    let missing = |key: &str| otlp.resource.iter().all(|(written, _)| written != key);
    attributes.extend(usual.into_iter().filter(|(key, _)| missing(key)).map(|(key, value)| text(key, value)));
    Resource { attributes, ..Resource::default() }
}

fn scope() -> InstrumentationScope {
    let (name, version) = ("stepwell".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    InstrumentationScope { name, version, ..InstrumentationScope::default() }
}
