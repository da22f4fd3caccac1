//! What runs beside requests so that others can be answered later: workers, and whoever counts and writes down.

use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, gauge};
use tokio_util::sync::CancellationToken;

use crate::api::later::Desk;
use crate::events::Kind;
use crate::events::notes::Notes;
use crate::jobs::job::Status;
use crate::jobs::worker::Workers;
use crate::store::sqlite::Sqlite;
use crate::telemetry::metric::Metric;

/// How often jobs are counted.
const COUNT_EVERY: Duration = Duration::from_secs(2);
/// How often the write-ahead log is looked at.
const TIDY_LOG_EVERY: Duration = Duration::from_millis(500);
/// How soon events that could not be written are tried again.
const RETRY_NOTES: Duration = Duration::from_secs(1);

/// This server's workers.
pub fn workers(desk: &Arc<Desk>, server: &str) -> Arc<Workers> {
    let (queue, bell) = (desk.kept.queue.clone(), desk.bell.clone());
    let name = format!("{server}-{}", std::process::id());
    Arc::new(Workers { queue, execute: desk.clone(), bell, name })
}

/// Works until `stop`; what is under way then has the server's grace to end.
pub async fn work(workers: Arc<Workers>, desk: Arc<Desk>, stop: CancellationToken) {
    let gateway = desk.gateway.clone();
    let grace = gateway.rules().settings.server.shutdown_grace.0;
    workers.run(move || gateway.rules().settings.jobs.clone(), stop, grace).await;
    // Held again by whoever goes on with them.
    desk.let_all_holds_go();
}

/// Counts jobs until `stop`, for metrics and for the limit of those that wait. Many take long to count: never for more than
/// a fiftieth of the time.
pub async fn count(desk: Arc<Desk>, stop: CancellationToken) {
    let mut pause = Duration::ZERO;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        let began = tokio::time::Instant::now();
        match desk.kept.queue.counts().await {
            Ok(counts) => {
                for (status, count) in &counts {
                    gauge!(Metric::Jobs.name(), "status" => status.as_str()).set(*count as f64);
                }
                let waiting = counts.iter().find(|(status, _)| *status == Status::Queued);
                desk.counted_waiting(waiting.map_or(0, |(_, count)| *count));
            }
            Err(failure) => tracing::warn!(error = %failure, "jobs cannot be counted"),
        }
        desk.let_stale_holds_go().await;
        pause = COUNT_EVERY.max(50 * began.elapsed());
    }
}

/// Writes down what the router has to say of itself, soon after it is said, until `stop`. Anomalies are told, if somebody
/// wants to be told.
pub async fn write_notes(desk: Arc<Desk>, notes: Notes, stop: CancellationToken) {
    let mut failing = false;
    let mut dropped = 0;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = notes.added() => {}
            () = tokio::time::sleep(RETRY_NOTES), if failing => {}
        }
        let now = notes.dropped();
        counter!(Metric::EventsDropped.name()).increment(now - dropped);
        dropped = now;
        match notes.write(&*desk.kept.log).await {
            Ok(written) => {
                failing = false;
                for note in written.iter().filter(|note| note.kind == Kind::Anomaly) {
                    desk.tell_operators(note).await;
                }
            }
            Err(failure) => {
                if !failing {
                    tracing::warn!(error = %failure, "events cannot be written; they wait");
                }
                failing = true;
            }
        }
    }
}

/// Keeps the write-ahead log of the database short, beside those who write, until `stop`.
pub async fn tidy_log(store: Arc<Sqlite>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(TIDY_LOG_EVERY) => {}
        }
        // A log that grows is a matter of time and space; what keeps it from being tidied is told by whoever writes.
        if let Err(failure) = store.tidy_log().await {
            tracing::debug!(error = %failure, "the write-ahead log is not folded into the database");
        }
    }
}
