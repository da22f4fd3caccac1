//! An OpenTelemetry collector: takes what is exported and decodes it with the protocol's own types.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::routing::post;
use http::{HeaderMap, StatusCode};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::HistogramDataPoint;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::trace::v1::Span;
use parking_lot::Mutex;
use prost::Message;

use super::process::until;

#[derive(Clone)]
pub struct Collector {
    pub url: String,
    heard: Arc<Heard>,
}

#[derive(Default)]
struct Heard {
    /// Answered to every export; 0 is 200.
    status: AtomicU16,
    exports: AtomicUsize,
    headers: Mutex<HeaderMap>,
    traces: Mutex<Vec<ExportTraceServiceRequest>>,
    metrics: Mutex<Vec<ExportMetricsServiceRequest>>,
    raw: Mutex<Vec<u8>>,
}

/// Starts a collector that takes everything.
pub async fn collector() -> Collector {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let heard = Arc::<Heard>::default();
    let router = Router::new().route("/v1/{signal}", post(take)).with_state(heard.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    Collector { url, heard }
}

async fn take(
    State(heard): State<Arc<Heard>>,
    Path(signal): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    heard.exports.fetch_add(1, Ordering::SeqCst);
    let status = StatusCode::from_u16(heard.status.load(Ordering::SeqCst)).unwrap_or(StatusCode::OK);
    if !status.is_success() {
        return status;
    }
    *heard.headers.lock() = headers;
    heard.raw.lock().extend_from_slice(&body);
    match signal.as_str() {
        "traces" => heard.traces.lock().push(ExportTraceServiceRequest::decode(body).expect("spans")),
        "metrics" => heard.metrics.lock().push(ExportMetricsServiceRequest::decode(body).expect("metrics")),
        other => panic!("nothing is exported to {other}"),
    }
    status
}

impl Collector {
    /// How exports are answered from now on.
    pub fn answers(&self, status: u16) {
        self.heard.status.store(status, Ordering::SeqCst);
    }

    pub fn exports(&self) -> usize {
        self.heard.exports.load(Ordering::SeqCst)
    }

    /// Of the last export.
    pub fn header(&self, name: &str) -> String {
        let headers = self.heard.headers.lock();
        headers.get(name).map(|value| value.to_str().expect("text").to_owned()).unwrap_or_default()
    }

    /// Every byte that came.
    pub fn raw(&self) -> Vec<u8> {
        self.heard.raw.lock().clone()
    }

    pub fn spans(&self) -> Vec<Span> {
        let traces = self.heard.traces.lock();
        let resources = traces.iter().flat_map(|request| &request.resource_spans);
        resources.flat_map(|resource| &resource.scope_spans).flat_map(|scope| scope.spans.clone()).collect()
    }

    /// Waits until there are spans of so many requests, and returns all spans: each request's own first.
    pub async fn requests(&self, count: usize) -> Vec<Vec<Span>> {
        until("the spans arrive", async || roots(&self.spans()) >= count).await;
        let mut requests: Vec<Vec<Span>> = Vec::new();
        for span in self.spans() {
            let server = span.kind == 2;
            let known = |request: &&mut Vec<Span>| request[0].span_id == span.parent_span_id;
            match requests.iter_mut().find(known).filter(|_| !server) {
                Some(request) => request.push(span),
                None => requests.push(vec![span]),
            }
        }
        requests
    }

    /// What the last export says about who sends it.
    pub fn resource(&self) -> BTreeMap<String, String> {
        let traces = self.heard.traces.lock();
        let resource = traces.last().and_then(|request| request.resource_spans[0].resource.clone());
        attributes(&resource.expect("a resource").attributes)
    }

    /// The histogram of a metric in the last export of metrics that has it, by its attributes.
    pub fn points(&self, name: &str) -> Vec<(BTreeMap<String, String>, HistogramDataPoint)> {
        let metrics = self.heard.metrics.lock();
        let resources = metrics.iter().flat_map(|request| &request.resource_metrics);
        let mut all = resources.flat_map(|resource| &resource.scope_metrics).flat_map(|scope| &scope.metrics);
        let Some(metric) = all.rfind(|metric| metric.name == name) else { return Vec::new() };
        let Some(Data::Histogram(histogram)) = &metric.data else { panic!("{name} is a histogram") };
        assert_eq!(histogram.aggregation_temporality, 2, "cumulative");
        histogram.data_points.iter().map(|point| (attributes(&point.attributes), point.clone())).collect()
    }
}

fn roots(spans: &[Span]) -> usize {
    spans.iter().filter(|span| span.kind == 2).count()
}

/// As text, whatever their types are.
pub fn attributes(all: &[KeyValue]) -> BTreeMap<String, String> {
    fn shown(value: &AnyValue) -> String {
        match value.value.as_ref().expect("a value") {
            Value::StringValue(text) => text.clone(),
            Value::IntValue(number) => number.to_string(),
            Value::DoubleValue(number) => number.to_string(),
            Value::BoolValue(flag) => flag.to_string(),
            Value::ArrayValue(array) => array.values.iter().map(shown).collect::<Vec<_>>().join(","),
            other => panic!("{other:?}"),
        }
    }
    let shown = |attribute: &KeyValue| (attribute.key.clone(), shown(attribute.value.as_ref().expect("a value")));
    all.iter().map(shown).collect()
}

pub fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
