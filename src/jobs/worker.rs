//! Claims jobs, has them carried out, ends them.
//!
//! Several servers may do this on one queue: who claims a job holds it until it is not heard of for the span of a lease.
//! A job is begun at least once and ended exactly once, because only the newest claim can end it. When the server stops,
//! it claims no more, waits for what it holds, and gives back what it cannot finish.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, gauge};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::bell::Bell;
use super::job::{Claimed, End, Hold, Kind, Status};
use super::queue::Queue;
use super::settings::Settings;
use crate::telemetry::metric::Metric;

/// Whoever knows what jobs are about.
pub trait Execute: Send + Sync {
    /// Carries a job out. Dropped if the job was cancelled; also if it is somebody else's by now, unless it is a request: a
    /// provider that was asked is paid, and what it says it used belongs into the ledger.
    fn run<'a>(&'a self, claimed: &'a Claimed) -> Pin<Box<dyn Future<Output = End> + Send + 'a>>;
}

/// How often other processes' jobs are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The pause after the queue could not be read.
const UNREADABLE: Duration = Duration::from_secs(1);
/// Jobs claimed together, so that one claim is no long transaction.
const AT_ONCE: usize = 64;

/// This server's part of the work.
pub struct Workers {
    pub queue: Arc<dyn Queue>,
    pub execute: Arc<dyn Execute>,
    pub bell: Bell,
    /// Who claims, for the history: unique among all processes.
    pub name: String,
}

impl Workers {
    /// Works until `stop`, then for at most `grace`. `settings` is asked again and again: it follows reloads.
    pub async fn run(self: Arc<Self>, settings: impl Fn() -> Settings, stop: CancellationToken, grace: Duration) {
        let mut running = JoinSet::new();
        let drop_all = CancellationToken::new();
        while !stop.is_cancelled() {
            let now = settings();
            let free = (now.workers as usize).saturating_sub(running.len()).min(AT_ONCE);
            let mut wait = LOOK_EVERY;
            if free > 0 {
                match self.queue.claim(&self.name, free, now.lease.0).await {
                    Ok(claimed) => {
                        // There may be more than was taken at once.
                        if claimed.len() == free {
                            wait = Duration::ZERO;
                        }
                        for claimed in claimed {
                            self.bell.ring(&claimed.job.id);
                            let work = self.clone().work(claimed, now.clone(), drop_all.clone());
                            running.spawn(work);
                        }
                    }
                    Err(failure) => {
                        tracing::warn!(error = %failure, "jobs cannot be claimed");
                        wait = UNREADABLE;
                    }
                }
            }
            gauge!(Metric::JobsRunning.name()).set(running.len() as f64);
            let is_full = running.len() >= now.workers as usize;
            tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = running.join_next() => {}
                () = self.bell.work(), if !is_full => {}
                () = tokio::time::sleep(wait), if !is_full => {}
                () = tokio::time::sleep(LOOK_EVERY), if is_full => {}
            }
            while running.try_join_next().is_some() {}
        }
        let finished = async { while running.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, finished).await.is_err() {
            drop_all.cancel();
            while running.join_next().await.is_some() {}
        }
        gauge!(Metric::JobsRunning.name()).set(0.0);
    }

    /// One job, from its claim to its end.
    async fn work(self: Arc<Self>, claimed: Claimed, settings: Settings, give_back: CancellationToken) {
        let hold = claimed.hold.clone();
        let beat = settings.lease.0 / 3;
        let listener = self.bell.listen(&hold.id);
        let mut run = self.execute.run(&claimed);
        let end = loop {
            tokio::select! {
                end = &mut run => break end,
                () = give_back.cancelled() => break End::Released,
                // Somebody has changed the job: most likely it is cancelled.
                () = listener.changed() => {}
                () = tokio::time::sleep(beat) => {}
            }
            // Asked for the job beside the work, so that a slow store does not hold it up.
            tokio::select! {
                end = &mut run => break end,
                held = self.queue.renew(&hold, settings.lease.0) => match held {
                    Ok(true) => {}
                    Ok(false) => return self.finish_for_the_books(&claimed, run, &give_back).await,
                    Err(failure) => tracing::warn!(job = hold.id, error = %failure, "a lease cannot be prolonged"),
                },
            }
        };
        drop(run);
        self.end(&hold, &end, &settings).await;
    }

    /// The job is somebody else's by now, or was cancelled. Nothing that is done here can end it any more.
    async fn finish_for_the_books(
        &self,
        claimed: &Claimed,
        run: Pin<Box<dyn Future<Output = End> + Send + '_>>,
        give_back: &CancellationToken,
    ) {
        let is_wanted = async {
            let found = self.queue.find(&claimed.hold.id).await;
            claimed.job.kind == Kind::Request && !matches!(found, Ok(Some(job)) if job.status == Status::Cancelled)
        };
        tracing::debug!(job = claimed.hold.id, "a job was cancelled, or has gone to another worker");
        // Whatever the store says, the answer may be there first.
        let rest = async {
            tokio::pin!(is_wanted);
            let mut run = run;
            tokio::select! {
                biased;
                _ = &mut run => return,
                is_wanted = &mut is_wanted => if !is_wanted { return },
            }
            run.await;
        };
        tokio::select! {
            () = rest => {}
            () = give_back.cancelled() => {}
        }
    }

    /// Writes the end down, for as long as the lease may still be ours.
    async fn end(&self, hold: &Hold, end: &End, settings: &Settings) {
        let outcome = match end {
            End::Completed { .. } => "completed",
            End::Failed { .. } => "failed",
            End::Again { .. } => "again",
            End::Deferred { .. } | End::Waits { .. } => "deferred",
            End::Released => "released",
            End::Cancelled { .. } => "cancelled",
        };
        let write = async {
            let mut pause = Duration::from_millis(50);
            loop {
                match self.queue.end(hold, end).await {
                    Ok(was_held) => return was_held,
                    Err(failure) => {
                        tracing::warn!(job = hold.id, error = %failure, "the end of a job cannot be written yet");
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(UNREADABLE);
                    }
                }
            }
        };
        match tokio::time::timeout(settings.lease.0, write).await {
            Ok(true) => counter!(Metric::JobsEnded.name(), "outcome" => outcome).increment(1),
            Ok(false) => tracing::debug!(job = hold.id, "a job ended elsewhere first; this end is dropped"),
            // The lease is over by now: whoever claims the job next does it again.
            Err(_) => tracing::error!(job = hold.id, "the end of a job could not be written"),
        }
        self.bell.ring(&hold.id);
        self.bell.ring_work();
    }
}
