//! The process's metrics recorder: counts events until they are scraped.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::money::{self, NanoUsd};
use crate::telemetry::metric::{Kind, Metric};
use crate::telemetry::page::Page;

/// Metrics belong to the process: several servers in one process, as in tests, share them.
static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

/// Starts the recorder if it is not running yet.
pub fn start() -> PrometheusHandle {
    let start = || {
        let buckets = |builder: PrometheusBuilder, metric: &Metric| match metric.kind() {
            Kind::Histogram(buckets) => {
                let matcher = Matcher::Full(metric.name().to_owned());
                builder.set_buckets_for_metric(matcher, buckets).expect("a table of buckets is not empty")
            }
            Kind::Counter | Kind::Gauge => builder,
        };
        let recorder = Metric::ALL.iter().fold(PrometheusBuilder::new(), buckets).build_recorder();
        let handle = recorder.handle();
        // Refused only if somebody else's recorder is there already; then ours stays empty.
        let _ = metrics::set_global_recorder(recorder);
        Metric::describe_all();
        handle
    };
    RECORDER.get_or_init(start).clone()
}

/// Everything that was counted, with costs in dollars beside those in billionths: the recorder counts in whole numbers.
pub fn counted(handle: &PrometheusHandle) -> Page {
    let text = handle.render();
    let mut page = Page::after(text.clone());
    let prefix = format!("{}{{", Metric::CostNanoUsd.name());
    for line in text.lines().filter(|line| line.starts_with(&prefix)) {
        let Some((series, nanos)) = line.rsplit_once(' ') else { continue };
        let Ok(nanos) = nanos.parse() else { continue };
        page.add_rendered(Metric::CostUsd, &series[prefix.len() - 1..], money::decimal(NanoUsd(nanos)));
    }
    page
}
