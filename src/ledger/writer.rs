//! Saves rows in batches, a fraction of a second behind the requests.
//!
//! A batch begins with its first row and is saved when it holds 512 rows or is 50 ms old, whichever is
//! first; under load it takes all that arrived meanwhile. If the store fails, the same batch is offered again, with
//! growing pauses, for as long as it takes: rows stay in memory and their number is visible in [`super::Health`].
//!
//! Dropping the future in the middle of a save is safe: the batch keeps its number, and a store saves a number once.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tracing::{info, warn};

use super::journal::{Batch, Failure, Journal};
use super::{BATCH, Ledger};

/// How long a first row waits for company. A fifth of the 250 ms that a report may lag behind.
const GATHER: Duration = Duration::from_millis(50);
/// Rows of one transaction at most: bounds how long a store's lock is held.
const LARGEST: usize = 4_096;
/// Pauses between tries of a store that fails: this, doubled, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Between half of a pause and all of it: servers that lost the same store do not come back to it at the same moment.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + f64::from(uuid::Uuid::new_v4().as_u128() as u16) / f64::from(u16::MAX) / 2.0)
}

/// Time for the last rows at shutdown. Longer than SQLite waits for a lock (10 s), shorter than a supervisor for us.
const FLUSH: Duration = Duration::from_secs(12);

/// The task that saves. Exactly one per ledger, made by [`Ledger::open`].
pub struct Writer {
    ledger: Ledger,
    journal: Arc<dyn Journal>,
    run: u128,
    number: u64,
    /// The batch on its way; kept until the store has it.
    batch: Option<Batch>,
    /// How long the last rows may take; shorter in tests.
    pub(super) flush: Duration,
}

impl Writer {
    pub(super) fn new(ledger: Ledger, journal: Arc<dyn Journal>) -> Self {
        Self { ledger, journal, run: uuid::Uuid::new_v4().as_u128(), number: 0, batch: None, flush: FLUSH }
    }

    /// Saves until `shutdown` is ready, then flushes what is left within a bounded time. Returns how many rows could
    /// not be saved. Requests must have ended before, or their rows are lost.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> usize {
        tokio::select! {
            never = self.forever() => match never {},
            () = shutdown => {}
        }
        if tokio::time::timeout(self.flush, self.drain()).await.is_err() {
            let left = self.ledger.unsaved();
            warn!(left, "the ledger could not be flushed; {left} rows are lost");
        }
        self.ledger.unsaved()
    }

    async fn forever(&mut self) -> Infallible {
        loop {
            while self.ledger.unsaved() == 0 {
                self.ledger.0.arrived.notified().await;
            }
            if self.ledger.unsaved() < BATCH {
                // Ends early when the batch is full; other wake-ups are left over from rows that are saved already.
                let _ = tokio::time::timeout(GATHER, self.full()).await;
            }
            self.drain().await;
        }
    }

    async fn full(&self) {
        while self.ledger.unsaved() < BATCH {
            self.ledger.0.arrived.notified().await;
        }
    }

    /// Saves until nothing is left.
    async fn drain(&mut self) {
        let mut pause = FIRST_PAUSE;
        while let Some(batch) = self.next_batch() {
            match self.journal.append(&batch).await {
                Ok(()) => {
                    pause = FIRST_PAUSE;
                    self.saved();
                }
                Err(failure) => {
                    self.failed(&failure);
                    tokio::time::sleep(jittered(pause)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    fn next_batch(&mut self) -> Option<Batch> {
        if self.batch.is_none() {
            let rows = self.ledger.0.rows.lock();
            let records: Vec<_> = rows.pending.iter().take(LARGEST).map(|(_, record)| record.clone()).collect();
            if records.is_empty() {
                return None;
            }
            self.number += 1;
            self.batch = Some(Batch { run: self.run, number: self.number, records });
        }
        self.batch.clone()
    }

    fn saved(&mut self) {
        let Some(batch) = self.batch.take() else { return };
        let shared = &self.ledger.0;
        let (error, _forgotten) = {
            let mut rows = shared.rows.lock();
            // Only this task takes rows away, and always from the front: the first ones are the batch.
            let forgotten: Vec<_> = rows.pending.drain(..batch.records.len()).collect();
            shared.unsaved.store(rows.pending.len(), Ordering::Release);
            shared.saved.fetch_add(batch.records.len() as u64, Ordering::Release);
            (rows.last_error.take(), forgotten)
        };
        shared.progressed.notify_waiters();
        if error.is_some() {
            info!(pending = self.ledger.unsaved(), "the ledger's store takes rows again");
        }
    }

    fn failed(&self, failure: &Failure) {
        let pending = self.ledger.unsaved();
        let first = self.ledger.0.rows.lock().last_error.replace(failure.to_string()).is_none();
        if first {
            warn!(pending, "the ledger's store refuses rows, they are kept in memory: {failure}");
        }
    }
}
