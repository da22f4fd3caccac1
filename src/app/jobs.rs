//! What runs beside requests so that others can be answered later: workers, and whoever cleans up behind them.

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

/// How often jobs are counted, for metrics and for the limit of those that wait.
const COUNT_EVERY: Duration = Duration::from_secs(2);
/// How often what is too old is deleted.
const TIDY_EVERY: Duration = Duration::from_secs(60);

/// How often the write-ahead log is looked at.
const TIDY_LOG_EVERY: Duration = Duration::from_millis(500);
/// How soon events that could not be written are tried again.
const RETRY_NOTES: Duration = Duration::from_secs(1);

/// This server's workers.
pub fn workers(desk: &Arc<Desk>) -> Arc<Workers> {
    let (queue, bell) = (desk.kept.queue.clone(), desk.bell.clone());
    let name = format!("{}-{}", std::process::id(), &uuid::Uuid::new_v4().simple().to_string()[..8]);
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

/// Counts jobs, and deletes what nobody has to keep, until `stop`.
pub async fn keep_house(desk: Arc<Desk>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(COUNT_EVERY);
    let mut tidied = tokio::time::Instant::now();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
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
        if tidied.elapsed() >= TIDY_EVERY {
            tidied = tokio::time::Instant::now();
            if let Err(failure) = tidy(&desk).await {
                tracing::warn!(error = %failure, "what is too old cannot be deleted");
            }
        }
    }
}

async fn tidy(desk: &Desk) -> Result<(), crate::ledger::journal::Failure> {
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let keep = desk.gateway.rules().settings.jobs.keep.0;
    let before_ms = now_ms.saturating_sub(i64::try_from(keep.as_millis()).unwrap_or(i64::MAX));
    let jobs = desk.kept.queue.forget_ended_before(before_ms).await?;
    let files = desk.kept.files.forget_expired(now_ms).await?;
    desk.kept.parts.forget_ended_before(before_ms).await?;
    if jobs + files > 0 {
        tracing::info!(jobs, files, "deleted what is not kept any longer");
    }
    Ok(())
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
