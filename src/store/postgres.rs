//! Everything that is kept for good in PostgreSQL, for several servers at once: ledger, keys, idempotency, jobs, events,
//! batches and files.
//!
//! Everything runs on the runtime that opened the store, because a connection belongs to the runtime that made it and those
//! of the workers end before the last rows are saved. Everything has a deadline, and whoever leaves before it leaves the work
//! to its end. What waits for this store on a request's way (idempotency) waits at most [`HOT_PATH`].
//!
//! Rows are never lost or doubled by a connection that breaks: a batch is one statement that saves it once, see `rows.rs`.
//! Sums are made by one server at a time and exact at any moment, see `projection.rs`. A job belongs to one server at a time,
//! by the database's clock, see `jobs.rs`; how the log keeps its order, see `events.rs`.

mod address; // where it is, and how it is shown
mod batches; // many requests in one file
mod change; // a change with the events that tell it
mod events; // the log
mod files; // of callers and of batches
mod idempotency; // requests that are done once
mod jobs; // requests that are answered later
mod keys; // keys of callers
mod native; // lines that providers answer in batches of their own
mod pool; // connections, and what became of them
mod projection; // sums per hour and day, and reports from them
mod rows; // requests in and out
mod schema; // set up, brought up to date, or refused

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use sqlx::PgConnection;
use tokio::runtime::Handle;
use tracing::warn;

use crate::admission::idempotency::Place;
use crate::config::PostgresUrl;
use crate::ledger::journal::{Answer, Batch, Cursor, Failure, Filter, Journal};
use crate::ledger::report::Group;
use crate::ledger::row::Row;
use crate::ledger::usage::{DAY_MS, UsageQuery, floor};
use crate::store::FORGOTTEN_AT_ONCE;
use pool::Pool;

pub use schema::OpenError;

/// How long a request waits for this store, at most (faults D05).
pub const HOT_PATH: Duration = Duration::from_millis(50);
/// How long whoever hands in a request for later, or looks for one, waits for that.
const SUBMIT: Duration = Duration::from_secs(2);
/// How long a look-up or a change of keys may take: one that has to wait longer is better tried again.
const LOOK_UP: Duration = Duration::from_secs(10);
/// How long a report may take, and the saving of rows: a server that takes five seconds for every answer still gets them.
const WORK: Duration = Duration::from_secs(60);
/// How long the server is waited for at the start: it may be starting, too.
const START: Duration = Duration::from_secs(10);
/// Rows that this server saves until it sums what there is. A report reads those that no sum holds one by one.
const UNSUMMED: u64 = 2_048;
/// Batches summed in one transaction, and rows deleted in one; bounds how long others wait.
const BATCHES: i64 = 512;
/// What the server says when two change the same rows of one snapshot, and how often that is tried again.
const CONFLICT: &str = "40001";
const CONFLICTS: u32 = 20;
/// Marks of idempotency that may be under way at once; what comes beyond is refused, and finds the database slow anyway.
const MARKS: usize = 64;

/// The store. Cheap to clone.
#[derive(Clone)]
pub struct Postgres(Arc<Shared>);

struct Shared {
    pool: Pool,
    runtime: Handle,
    /// Who writes, for whoever reads the tables.
    instance: String,
    /// Rows saved by this server since it last summed.
    unsummed: AtomicU64,
    /// Idempotency keys that are being marked.
    marks: Mutex<HashSet<Place>>,
}

impl Postgres {
    /// Connects and brings the database up to date; an empty one is set up. Waits a while for a server that is starting.
    pub async fn open(url: &PostgresUrl) -> Result<Self, OpenError> {
        Self::with(url, schema::Wish::UpToDate).await
    }

    /// Like [`Postgres::open`], for commands that only look: nothing is created or changed.
    pub async fn open_existing(url: &PostgresUrl) -> Result<Self, OpenError> {
        Self::with(url, schema::Wish::AsItIs).await
    }

    async fn with(url: &PostgresUrl, wish: schema::Wish) -> Result<Self, OpenError> {
        let pool = Pool::new(address::options(url)?, url.connections);
        schema::prepare(&pool, url.shown(), wish, START).await?;
        let shared = Shared {
            pool,
            runtime: Handle::current(),
            instance: instance(),
            unsummed: AtomicU64::new(0),
            marks: Mutex::default(),
        };
        Ok(Self(Arc::new(shared)))
    }

    /// The secret under which keys are hashed, of all servers of this database: the one that is there, or `fresh` if there
    /// is none.
    pub async fn secret(&self, fresh: String) -> Result<String, Failure> {
        self.run(LOOK_UP, |connection| Box::pin(keys::secret(connection, fresh))).await
    }

    /// Recreates all sums from the requests. Returns a report as it was before and as it is from them, of one moment.
    pub async fn rebuild(&self, query: &UsageQuery) -> Result<(Vec<Group>, Vec<Group>), Failure> {
        let mut conflicts = 0;
        let found = loop {
            // Without sums in the way there is nothing to conflict with.
            self.catch_up(projection::Turn::Wait).await?;
            let query = query.clone();
            let cleared = self.run(WORK, |connection| {
                Box::pin(async move {
                    match projection::clear(connection, &query).await {
                        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(CONFLICT) => Ok(None),
                        other => other.map(Some),
                    }
                })
            });
            match cleared.await? {
                Some(found) => break found,
                None if conflicts < CONFLICTS => conflicts += 1,
                None => return Err(Failure("other servers sum all the time; try again".to_owned())),
            }
        };
        self.catch_up(projection::Turn::Wait).await?;
        Ok(found)
    }

    /// Closes all connections; those that are in use, when they are no longer.
    pub async fn close(&self) {
        self.0.pool.close().await;
    }

    /// Sums what no sum holds, until nothing is left. Returns how many batches were summed.
    async fn catch_up(&self, turn: projection::Turn) -> Result<u64, Failure> {
        self.until_none(move |connection| Box::pin(projection::sum(connection, turn, BATCHES))).await
    }

    /// Does a little at a time, until nothing is left to do; in between others have their turn. Returns how much it was.
    async fn until_none(
        &self,
        some: impl for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<u64, sqlx::Error>> + Clone + Send + 'static,
    ) -> Result<u64, Failure> {
        let mut done = 0;
        loop {
            match self.run(WORK, some.clone()).await? {
                0 => return Ok(done),
                more => done += more,
            }
        }
    }

    /// Does something with a connection, within a time. A connection is used again only if all went well.
    async fn run<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, sqlx::Error>> + Send + 'static,
    ) -> Result<T, Failure> {
        let shared = self.0.clone();
        let task = self.0.runtime.spawn(async move {
            let bounded = tokio::time::timeout(limit, async {
                let mut lease = shared.pool.lease().await?;
                let result = work(&mut lease).await;
                lease.settle(&result);
                result
            });
            match bounded.await {
                Ok(result) => result.map_err(failure),
                Err(_) => Err(Failure(format!("the database did not answer within {limit:?}"))),
            }
        });
        task.await.unwrap_or_else(|_| Err(Failure("the work was ended with the server".to_owned())))
    }
}

impl Journal for Postgres {
    fn append<'a>(&'a self, batch: &'a Batch) -> Answer<'a, ()> {
        Box::pin(async move {
            let columns = rows::Columns::of(&batch.records).await?;
            let (run, number, instance) = (batch.run, batch.number, self.0.instance.clone());
            self.run(WORK, move |connection| Box::pin(rows::save(connection, run, number, instance, columns))).await?;
            // The rows are safe by now; sums that are late cost a report time, not truth.
            let rows = batch.records.len() as u64;
            if self.0.unsummed.fetch_add(rows, Ordering::Relaxed) + rows >= UNSUMMED {
                self.0.unsummed.store(0, Ordering::Relaxed);
                if let Err(failure) = self.catch_up(projection::Turn::OrNever).await {
                    warn!("the ledger's sums could not be brought up to date: {failure}");
                }
            }
            Ok(())
        })
    }

    fn usage<'a>(&'a self, query: &'a UsageQuery) -> Answer<'a, Vec<Group>> {
        let query = query.clone();
        Box::pin(async move { self.run(WORK, |connection| Box::pin(projection::usage(connection, query))).await })
    }

    fn find<'a>(&'a self, id: &'a str) -> Answer<'a, Option<Row>> {
        let id = id.to_owned();
        Box::pin(async move { self.run(LOOK_UP, |connection| Box::pin(rows::find(connection, id))).await })
    }

    fn has<'a>(&'a self, id: &'a str, started_unix_ms: i64) -> Answer<'a, bool> {
        let id = id.to_owned();
        Box::pin(async move {
            self.run(LOOK_UP, move |connection| Box::pin(rows::has(connection, id, started_unix_ms))).await
        })
    }

    fn recent<'a>(&'a self, filter: &'a Filter, limit: usize, before: Option<&'a Cursor>) -> Answer<'a, Vec<Row>> {
        let (filter, before) = (filter.clone(), before.cloned());
        Box::pin(async move {
            self.run(LOOK_UP, move |connection| Box::pin(rows::recent(connection, filter, limit, before))).await
        })
    }

    fn forget_before(&self, moment_ms: i64) -> Answer<'_, u64> {
        Box::pin(async move {
            let before_ms = floor(moment_ms, DAY_MS);
            self.catch_up(projection::Turn::Wait).await?;
            self.run(LOOK_UP, move |connection| Box::pin(projection::keep_since(connection, before_ms))).await?;
            self.until_none(|connection| Box::pin(projection::purge(connection, FORGOTTEN_AT_ONCE))).await
        })
    }
}

/// This server among all that ever wrote: host, process, and an id that begins with the time.
fn instance() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{host}-{}-{}", std::process::id(), uuid::Uuid::now_v7().simple())
}

/// For the log and `/health`: what the server said, or what happened on the way to it.
fn failure(error: sqlx::Error) -> Failure {
    Failure(match error {
        sqlx::Error::Database(error) => format!("the database says: {}", error.message()),
        sqlx::Error::Io(error) => format!("the database cannot be reached: {error}"),
        other => other.to_string(),
    })
}

#[cfg(test)]
impl Postgres {
    pub(super) async fn sum_some(&self) {
        let summed = self.run(WORK, |connection| Box::pin(projection::sum(connection, projection::Turn::Wait, 1)));
        summed.await.expect("summed");
    }
}

#[cfg(test)]
mod tests;
