//! What is told to others about requests: a collector, and the providers that are asked.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use crate::units::{Share, Span};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// Where spans and metrics are sent; `None`: nowhere, and nothing is made of them.
    pub otlp: Option<Arc<Otlp>>,
    pub propagate: Propagate,
}

/// Which of the W3C headers a provider gets with a request that belongs to a trace. They hold numbers, and for
/// `tracestate` what other tracing systems wrote; a caller's `baggage` is never passed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagate {
    None,
    /// `traceparent`, with the attempt's own span.
    #[default]
    Traceparent,
    /// `tracestate`, too, as it came.
    Tracestate,
}

impl Propagate {
    pub const CHOICES: [(&'static str, Self); 3] =
        [("none", Self::None), ("traceparent", Self::Traceparent), ("tracestate", Self::Tracestate)];
}

/// An OpenTelemetry collector, by OTLP over HTTP in protobuf.
#[derive(Clone, Debug, PartialEq)]
pub struct Otlp {
    /// Without `/v1/traces` and `/v1/metrics`, which are added; no slash at the end.
    pub endpoint: String,
    /// Sent with every export; often a key, so their values are not printed.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub traces: bool,
    pub metrics: bool,
    /// Share of the requests without a caller's `traceparent` that get spans; with one, its flag decides. 0% to 100%.
    pub sample: Share,
    /// Between two exports; spans go sooner when many wait. 100ms to 1h. Short, a collector has much to do; long, spans
    /// come late.
    pub interval: Span,
    /// For one export. 10ms to 5m. What is late is tried again.
    pub timeout: Span,
    /// Who we are, such as `service.name`; more from the environment.
    pub resource: Vec<(String, String)>,
}

impl Otlp {
    /// A collector with the defaults for everything else.
    pub fn at(endpoint: String) -> Self {
        Self {
            endpoint,
            headers: Vec::new(),
            traces: true,
            metrics: true,
            sample: Share(1.0),
            interval: Span(Duration::from_secs(5)),
            timeout: Span(Duration::from_secs(10)),
            resource: Vec::new(),
        }
    }
}

impl Settings {
    /// The share of requests to be traced; `None` if none ever is.
    pub fn sampling(&self) -> Option<f64> {
        self.otlp.as_ref().filter(|otlp| otlp.traces).map(|otlp| otlp.sample.0)
    }
}
