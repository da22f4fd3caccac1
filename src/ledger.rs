//! Every request, whatever its end: who asked, what was decided, what was tried, what it cost.
//!
//! The ledger knows no SQL (see the port [`journal::Journal`]) and never loses a row for lack of time: appending is
//! immediate, a [`writer::Writer`] saves batches a fraction of a second behind, and new requests wait a moment at
//! [`Ledger::room`] while too many rows are unsaved. A store that fails does not fail requests: rows stay in memory and
//! are saved once it works again. What was just appended can be read at once, from memory.

pub mod record; // one request's row, as the gateway makes it
pub mod timing; // where its time went

pub mod row; // the same row as it is kept and shown
pub mod words; // what of a provider's words is kept

pub mod access; // the same rows as lines of a log
pub mod journal; // the port: what a store can do
pub mod metrics; // and for Prometheus
pub mod writer; // saves batches, retries, flushes

pub mod latency; // a distribution of times in few numbers

pub mod cell; // sums over many rows

pub mod usage; // the question: period and dimensions

pub mod report; // the answer: rows, total, shares

pub mod compare; // what would this traffic have cost elsewhere
pub mod csv;
pub mod forecast; // what the month will have cost // reports for spreadsheets

mod figures; // numbers, money and times for people

pub mod explain; // one request as text
pub mod table; // reports as text

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Notify;

use journal::{Cursor, Failure, Filter, Journal};
use record::Record;
use report::Report;
use row::Row;
use usage::UsageQuery;
use writer::Writer;

/// Unsaved rows at which new requests wait a moment each. Bounds memory (a row with its decision takes a few kilobytes); at a
/// thousand requests per second it rides out 20 seconds without a disk.
pub const ROOM: usize = 20_000;
/// How long a new request waits for room.
const PATIENCE: Duration = Duration::from_millis(50);
/// Unsaved rows beyond which a new one is kept without its decision, a tenth of its size.
const SLIM: usize = 2 * ROOM;
/// Unsaved rows at most, about 100 MB of memory. What comes beyond is counted as lost, and shown: a store that has been
/// refusing for that long is not a matter of minutes, and a router without memory serves nobody.
pub const MOST: usize = 200_000;
/// Finished rows that stay readable from memory after they were saved.
const REMEMBERED: usize = 2_048;
/// Finished rows that wait to be observed. Whoever does that needs a few microseconds for each, so that this many is a
/// process that stands still.
const UNOBSERVED: usize = 16_384;
/// Rows of a batch at which the writer is woken early.
const BATCH: usize = 512;

/// The handle that requests hold. Cheap to clone. The default one has no store: it remembers the latest rows only.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Shared>);

#[derive(Default)]
struct Shared {
    journal: Option<Arc<dyn Journal>>,
    rows: Mutex<Rows>,
    /// Rows appended and not yet saved; read without the lock by every request.
    unsaved: AtomicUsize,
    saved: AtomicU64,
    /// Rows that found no place.
    lost: AtomicU64,
    /// There is something to save.
    arrived: Notify,
    /// Some rows were saved.
    progressed: Notify,
    /// There is something to observe.
    finished: Notify,
    /// Rows that nobody observed.
    unobserved: AtomicU64,
}

#[derive(Default)]
struct Rows {
    /// In the order of arrival, the ones being saved included. A row leaves once the store has it.
    pending: VecDeque<(Instant, Arc<Record>)>,
    recent: VecDeque<Arc<Record>>,
    /// Not yet counted, logged or traced. Empty without a store, where nobody asks for it.
    fresh: Vec<Arc<Record>>,
    last_error: Option<String>,
}

/// How far behind the store is.
#[derive(Clone, Debug, Serialize)]
pub struct Health {
    /// `ok`, or `degraded` while the store refuses rows, too many wait or some were lost.
    pub status: &'static str,
    /// Rows not yet saved.
    pub pending: usize,
    /// Age of the oldest of them.
    pub behind_ms: u64,
    /// Why the store refuses rows; `None` once it takes them again.
    pub last_error: Option<String>,
    /// More rows wait than are meant to: memory grows until the store takes them.
    pub crowded: bool,
    /// Rows saved since the start.
    pub saved: u64,
    /// Rows that are in no store, because more were unsaved than memory is set aside for.
    pub lost: u64,
}

impl Ledger {
    /// A ledger over a store, and the writer that somebody must run.
    pub fn open(journal: Arc<dyn Journal>) -> (Self, Writer) {
        let ledger = Self(Arc::new(Shared { journal: Some(journal.clone()), ..Shared::default() }));
        let writer = Writer::new(ledger.clone(), journal);
        (ledger, writer)
    }

    /// Waits a moment while too many rows are unsaved, so that a store that lags can catch up; not longer, because a
    /// store that fails must not fail requests (faults D03, D05). One atomic load if there is room.
    pub async fn room(&self) {
        if self.unsaved() < ROOM {
            return;
        }
        let _ = tokio::time::timeout(PATIENCE, self.until(|| self.unsaved() < ROOM)).await;
    }

    /// Takes a finished row. Never blocks; drops it only if [`MOST`] others are unsaved, and then counts it.
    pub fn append(&self, mut record: Record) {
        if self.unsaved() >= SLIM {
            record.decision = None;
        }
        for attempt in &mut record.attempts {
            attempt.message = attempt.message.as_deref().map(words::without_content);
        }
        let record = Arc::new(record);
        let stored = self.0.journal.is_some();
        let (waiting, is_first, _forgotten) = {
            let mut rows = self.0.rows.lock();
            if stored && rows.pending.len() >= MOST {
                self.0.lost.fetch_add(1, Ordering::Relaxed);
            } else if stored {
                rows.pending.push_back((Instant::now(), record.clone()));
                self.0.unsaved.store(rows.pending.len(), Ordering::Release);
            }
            let is_first = stored && rows.fresh.is_empty();
            if stored && rows.fresh.len() >= UNOBSERVED {
                self.0.unobserved.fetch_add(1, Ordering::Relaxed);
            } else if stored {
                rows.fresh.push(record.clone());
            }
            rows.recent.push_back(record);
            // Given out of the lock: a forgotten row may own a large decision.
            let forgotten = if rows.recent.len() > REMEMBERED { rows.recent.pop_front() } else { None };
            (rows.pending.len(), is_first, forgotten)
        };
        if is_first {
            self.0.finished.notify_one();
        }
        if waiting == 1 || waiting == BATCH {
            self.0.arrived.notify_one();
        }
    }

    /// Rows that have ended since the last call, each given out once: to be counted, logged and traced, off the requests'
    /// way and whether the store takes them or not.
    pub fn take_fresh(&self) -> Vec<Arc<Record>> {
        std::mem::take(&mut self.0.rows.lock().fresh)
    }

    /// Waits until there is something for [`Ledger::take_fresh`]. For one task.
    pub async fn freshened(&self) {
        self.0.finished.notified().await;
    }

    /// Rows since the start that were not given out, because too many waited.
    pub fn unobserved(&self) -> u64 {
        self.0.unobserved.load(Ordering::Relaxed)
    }

    /// Waits until everything appended before this call is saved. `false` if that takes longer than `limit`.
    pub async fn caught_up(&self, limit: Duration) -> bool {
        let goal = {
            // Both change under the lock only.
            let rows = self.0.rows.lock();
            self.0.saved.load(Ordering::Acquire) + rows.pending.len() as u64
        };
        let reached = || self.0.saved.load(Ordering::Acquire) >= goal;
        tokio::time::timeout(limit, self.until(reached)).await.is_ok()
    }

    /// Rows appended since the start, and those of them that are saved.
    pub fn appended(&self) -> u64 {
        let rows = self.0.rows.lock();
        self.saved() + rows.pending.len() as u64
    }

    pub fn saved(&self) -> u64 {
        self.0.saved.load(Ordering::Acquire)
    }

    pub fn health(&self) -> Health {
        let rows = self.0.rows.lock();
        let lost = self.0.lost.load(Ordering::Relaxed);
        let degraded = rows.last_error.is_some() || rows.pending.len() >= ROOM || lost > 0;
        Health {
            status: if degraded { "degraded" } else { "ok" },
            lost,
            pending: rows.pending.len(),
            behind_ms: rows.pending.front().map_or(0, |(since, _)| since.elapsed().as_millis() as u64),
            last_error: rows.last_error.clone(),
            crowded: rows.pending.len() >= ROOM,
            saved: self.0.saved.load(Ordering::Acquire),
        }
    }

    /// The newest row of this id in memory: every unsaved one, and the latest saved ones.
    pub fn remembered(&self, id: &str) -> Option<Arc<Record>> {
        let rows = self.0.rows.lock();
        let pending = rows.pending.iter().map(|(_, record)| record);
        let newest = rows.recent.iter().rev().chain(pending.rev());
        newest.into_iter().find(|record| &*record.id == id).cloned()
    }

    /// The newest row of this id, from memory or from the store.
    pub async fn find(&self, id: &str) -> Result<Option<Row>, Failure> {
        if let Some(record) = self.remembered(id) {
            return Ok(Some(Row::of(&record)));
        }
        match &self.0.journal {
            Some(journal) => journal.find(id).await,
            None => Ok(None),
        }
    }

    /// Whether the store has a row of the request that began then.
    pub async fn has(&self, id: &str, started_unix_ms: i64) -> Result<bool, Failure> {
        match &self.0.journal {
            Some(journal) => journal.has(id, started_unix_ms).await,
            None => Ok(false),
        }
    }

    /// The latest rows that pass the filter, newest first, without their decisions; unsaved ones included.
    pub async fn recent(&self, filter: &Filter, limit: usize, before: Option<&Cursor>) -> Result<Vec<Row>, Failure> {
        let mut rows: Vec<Row> = {
            let state = self.0.rows.lock();
            let pending = state.pending.iter().map(|(_, record)| record);
            // Without a store there is only what is remembered. Taken before the store is read: a row that is saved
            // in between shows twice rather than not at all, and the double is dropped below.
            let all: Vec<Arc<Record>> = if self.0.journal.is_some() {
                pending.cloned().collect()
            } else {
                state.recent.iter().cloned().collect()
            };
            drop(state);
            all.iter().map(|record| Row::without_decision(record)).filter(|row| filter.passes(row, before)).collect()
        };
        if let Some(journal) = &self.0.journal {
            rows.extend(journal.recent(filter, limit, before).await?);
        }
        rows.sort_by(|a, b| (b.started_unix_ms, &b.id).cmp(&(a.started_unix_ms, &a.id)));
        rows.dedup_by(|a, b| a.started_unix_ms == b.started_unix_ms && a.id == b.id);
        rows.truncate(limit);
        Ok(rows)
    }

    /// The usage report. Rows that are not saved yet are missing: see [`Ledger::caught_up`].
    pub async fn usage(&self, query: &UsageQuery) -> Result<Report, Failure> {
        let groups = match &self.0.journal {
            Some(journal) => journal.usage(query).await?,
            None => self.memory_groups(query),
        };
        Ok(Report::new(query, groups))
    }

    /// What the month of `now` will have cost, of the rows that pass the query's filters. Days are those of its time zone.
    pub async fn forecast(&self, query: &UsageQuery, now: &jiff::Zoned) -> Result<forecast::Forecast, Failure> {
        let groups = self.groups(&forecast::query(query, &[], now)).await?;
        Ok(forecast::forecast(&forecast::Days::of(&groups, now), now))
    }

    /// The sums behind [`Ledger::usage`], for [`compare::compare`].
    pub async fn groups(&self, query: &UsageQuery) -> Result<Vec<report::Group>, Failure> {
        match &self.0.journal {
            Some(journal) => journal.usage(query).await,
            None => Ok(self.memory_groups(query)),
        }
    }

    fn memory_groups(&self, query: &UsageQuery) -> Vec<report::Group> {
        let recent: Vec<Arc<Record>> = self.0.rows.lock().recent.iter().cloned().collect();
        let mut grouping = report::Grouping::new(&query.group_by);
        for record in recent.iter().filter(|record| query.covers(record.started_unix_ms)) {
            let labels = cell::Labels::of(record);
            if query.shows(&labels) {
                grouping.add(record.started_unix_ms, &labels, &cell::Facts::of(record));
            }
        }
        grouping.into_groups()
    }

    fn unsaved(&self) -> usize {
        self.0.unsaved.load(Ordering::Acquire)
    }

    /// Waits for a condition that can only come true when rows are saved.
    async fn until(&self, reached: impl Fn() -> bool) {
        loop {
            let mut progressed = pin!(self.0.progressed.notified());
            // Register before looking, so that rows saved in between are not missed.
            progressed.as_mut().enable();
            if reached() {
                return;
            }
            progressed.await;
        }
    }
}

#[cfg(test)]
mod tests;
