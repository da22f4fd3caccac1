//! The state of the process that operators ask for: since when, under which configuration, draining or not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How often samples are moved.
const UPKEEP: Duration = Duration::from_secs(5);

/// Seconds, from a cache hit to the longest answer.
const BUCKETS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// Metrics belong to the process: several servers in one process, as in tests, share them.
static PROMETHEUS: OnceLock<PrometheusHandle> = OnceLock::new();

pub struct Operations {
    started: Instant,
    draining: AtomicBool,
    cut: CancellationToken,
    tasks: TaskTracker,
    reload: Mutex<Reload>,
    prometheus: PrometheusHandle,
}

/// The last attempt to read the configuration.
#[derive(Clone, Debug, Default)]
pub struct Reload {
    /// Where the rules in force came from.
    pub origin: String,
    /// Why the newest file is not in force; `None` if it is.
    pub error: Option<String>,
    /// Reloads that failed since the start.
    pub failed: u64,
}

impl Operations {
    /// Starts the clock, and the process's metrics recorder if it is not running yet.
    pub fn start(origin: String) -> Self {
        let prometheus = PROMETHEUS.get_or_init(|| {
            let recorder = PrometheusBuilder::new()
                .set_buckets(&BUCKETS)
                .unwrap_or_else(|_| PrometheusBuilder::new())
                .build_recorder();
            let handle = recorder.handle();
            // Refused only if somebody else's recorder is there already; then ours stays empty.
            let _ = metrics::set_global_recorder(recorder);
            handle
        });
        let prometheus = prometheus.clone();
        Self {
            started: Instant::now(),
            draining: AtomicBool::new(false),
            cut: CancellationToken::new(),
            tasks: TaskTracker::new(),
            reload: Mutex::new(Reload { origin, ..Reload::default() }),
            prometheus,
        }
    }

    pub fn started(&self) -> Instant {
        self.started
    }

    pub fn metrics(&self) -> String {
        self.prometheus.render()
    }

    /// Moves histogram samples into their buckets until `stop`: unscraped, they would pile up in memory.
    pub async fn keep_metrics_small(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(UPKEEP);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => self.prometheus.run_upkeep(),
            }
        }
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// No way back: readiness is off until the process ends.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Tells the streams that still run to end with an error event.
    pub fn cut_streams(&self) {
        self.cut.cancel();
    }

    /// Cancelled when streams have to end.
    pub fn cut(&self) -> CancellationToken {
        self.cut.clone()
    }

    /// Work that goes on when its caller leaves. A server that stops waits for it as for its connections.
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    pub fn reload(&self) -> Reload {
        self.reload.lock().clone()
    }

    pub fn reloaded(&self, origin: String) {
        let mut reload = self.reload.lock();
        reload.origin = origin;
        reload.error = None;
        metrics::gauge!("stepwell_config_reload_failed").set(0.0);
        metrics::counter!("stepwell_config_reloads_total", "result" => "ok").increment(1);
    }

    pub fn reload_failed(&self, error: String) {
        let mut reload = self.reload.lock();
        reload.error = Some(error);
        reload.failed += 1;
        metrics::gauge!("stepwell_config_reload_failed").set(1.0);
        metrics::counter!("stepwell_config_reloads_total", "result" => "failed").increment(1);
    }
}
