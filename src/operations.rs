//! The state of the process that operators ask for: since when, under which configuration, draining or not; and the
//! place where finished requests are counted, logged and traced.

mod process;
mod recorder;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use metrics_exporter_prometheus::PrometheusHandle;
use parking_lot::Mutex;
use tokio::sync::{Notify, broadcast, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing_appender::non_blocking::ErrorCounter;

use crate::events::anomaly::{Anomaly, Detector};
use crate::events::notes::Notes;
use crate::events::{Kind, facts};
use crate::gateway::Gateway;
use crate::ledger::record::Record;
use crate::otlp::{Exporter, Peer};
use crate::telemetry::metric::Metric;
use crate::telemetry::page::Page;

/// How often samples are moved.
const UPKEEP: Duration = Duration::from_secs(5);

/// Rows that ended within this span are observed together.
const GATHER: Duration = Duration::from_millis(20);

/// Rows kept for followers who are slow to read.
const FOLLOWED: usize = 1024;

/// Tells an anomaly to everybody who wants to know.
fn report(anomaly: &Anomaly, notes: &Notes) {
    let Anomaly { pattern, subject, value, usual, z_score } = anomaly;
    metrics::counter!(Metric::Anomalies.name(), "pattern" => pattern.as_str()).increment(1);
    tracing::warn!(pattern = pattern.as_str(), subject, value, usual, z_score, "something is out of the ordinary");
    let told = facts([
        ("pattern", pattern.as_str().into()),
        ("value", (*value).into()),
        ("usual", (*usual).into()),
        ("z_score", (*z_score).into()),
    ]);
    notes.add(Kind::Anomaly, subject, told);
}

/// How many lines of the log were dropped, if somebody counts that.
static LOG_LINES_LOST: OnceLock<ErrorCounter> = OnceLock::new();

/// Lets the metrics show what this process's log has lost.
pub fn watch_log(counter: ErrorCounter) {
    let _ = LOG_LINES_LOST.set(counter);
}

pub struct Operations {
    started: Instant,
    draining: AtomicBool,
    cut: CancellationToken,
    tasks: TaskTracker,
    reload: Mutex<Reload>,
    /// Why the store did not answer when it was last asked.
    store: Mutex<Option<String>>,
    /// Somebody wants one.
    reload_wanted: Notify,
    /// Counts those that have ended.
    reloads: watch::Sender<u64>,
    prometheus: PrometheusHandle,
    exporter: Exporter,
    /// Rows as they end, for whoever follows.
    rows: broadcast::Sender<Arc<Record>>,
    detector: Mutex<Detector>,
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
        Self {
            started: Instant::now(),
            draining: AtomicBool::new(false),
            cut: CancellationToken::new(),
            tasks: TaskTracker::new(),
            reload: Mutex::new(Reload { origin, ..Reload::default() }),
            store: Mutex::default(),
            reload_wanted: Notify::new(),
            reloads: watch::Sender::new(0),
            prometheus: recorder::start(),
            exporter: Exporter::default(),
            rows: broadcast::Sender::new(FOLLOWED),
            detector: Mutex::default(),
        }
    }

    /// Rows of this process from now on. Who reads too slowly loses the oldest.
    pub fn follow_rows(&self) -> broadcast::Receiver<Arc<Record>> {
        self.rows.subscribe()
    }

    pub fn started(&self) -> Instant {
        self.started
    }

    /// What was counted and what the process is like, to be completed with the states of the moment.
    pub fn metrics(&self) -> Page {
        let mut page = recorder::counted(&self.prometheus);
        page.add(Metric::Draining, &[], u8::from(self.is_draining()));
        page.add(Metric::StoreUp, &[], u8::from(self.store_error().is_none()));
        page.add(Metric::BuildInfo, &[env!("CARGO_PKG_VERSION")], 1);
        let lines = LOG_LINES_LOST.get().map_or(0, ErrorCounter::dropped_lines);
        page.add(Metric::LogLinesLost, &[], lines);
        process::describe(&mut page);
        page
    }

    /// Whether the store of rows and keys answered, as whoever asks it once a second found.
    pub fn store_answered(&self, error: Option<String>) {
        *self.store.lock() = error;
    }

    /// Why the store did not answer; `None` if it did.
    pub fn store_error(&self) -> Option<String> {
        self.store.lock().clone()
    }

    /// Counts, logs and traces the requests that have ended since the last call.
    pub fn observe(&self, gateway: &Gateway) {
        let fresh = gateway.ledger.take_fresh();
        if fresh.is_empty() {
            return;
        }
        let settings = gateway.rules().settings.clone();
        let peer = |name: &str| settings.provider(name).map_or_else(|| Peer::unknown(name), |known| Peer::of(known));
        let mut detector = self.detector.lock();
        for record in &fresh {
            let now = self.started.elapsed().as_secs_f64();
            for anomaly in detector.add(record, &settings.anomalies, now) {
                report(&anomaly, &gateway.dispatcher.fleet.notes);
            }
            crate::ledger::metrics::observe(record);
            if self.rows.receiver_count() > 0 {
                let _ = self.rows.send(record.clone());
            }
            if settings.logging.access {
                crate::ledger::access::log(record);
            }
            if let Some(otlp) = &settings.telemetry.otlp {
                self.exporter.add(record, otlp, peer);
            }
        }
    }

    /// Observes requests soon after they have ended, until `stop`.
    pub async fn observe_all(self: Arc<Self>, gateway: Arc<Gateway>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = gateway.ledger.freshened() => {}
            }
            tokio::time::sleep(GATHER).await;
            self.observe(&gateway);
        }
    }

    /// Sends what a collector is to know, until `stop`.
    pub async fn export(self: Arc<Self>, gateway: Arc<Gateway>, stop: CancellationToken) {
        let settings = || gateway.rules().settings.telemetry.otlp.clone();
        self.exporter.run(&gateway.dispatcher.transport, settings, stop).await;
    }

    /// Observes and sends the last requests, once all have ended. Takes 2 s at most.
    pub async fn finish(&self, gateway: &Gateway) {
        self.observe(gateway);
        if let Some(otlp) = gateway.rules().settings.telemetry.otlp.clone() {
            self.exporter.flush(&gateway.dispatcher.transport, &otlp).await;
        }
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

    /// Waits until the configuration was read anew, or could not be.
    pub async fn ask_for_reload(&self) {
        let mut reloads = self.reloads.subscribe();
        self.reload_wanted.notify_one();
        // The sender is ours: it does not go before us.
        let _ = reloads.changed().await;
    }

    /// Until somebody asks for a reload.
    pub async fn reload_wanted(&self) {
        self.reload_wanted.notified().await;
    }

    pub fn reload(&self) -> Reload {
        self.reload.lock().clone()
    }

    pub fn reloaded(&self, origin: String) {
        let mut reload = self.reload.lock();
        reload.origin = origin;
        reload.error = None;
        metrics::gauge!(Metric::ReloadFailed.name()).set(0.0);
        metrics::counter!(Metric::Reloads.name(), "result" => "ok").increment(1);
        drop(reload);
        self.reloads.send_modify(|count| *count += 1);
    }

    pub fn reload_failed(&self, error: String) {
        let mut reload = self.reload.lock();
        reload.error = Some(error);
        reload.failed += 1;
        metrics::gauge!(Metric::ReloadFailed.name()).set(1.0);
        metrics::counter!(Metric::Reloads.name(), "result" => "failed").increment(1);
        drop(reload);
        self.reloads.send_modify(|count| *count += 1);
    }
}
