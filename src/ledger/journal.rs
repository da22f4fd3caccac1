//! The port to a store: what the ledger asks of it. Implemented in `store`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::record::{Record, Status};
use super::report::Group;
use super::row::Row;
use super::usage::UsageQuery;

/// What a port's method returns; boxed, so that a [`Journal`] can be a trait object.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;

/// Why a store could not do what it was asked, as a sentence for the log and for `/health`. Trying again is always right.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub String);

/// Rows to save together. A batch is offered again, unchanged and under the same number, until it is saved.
#[derive(Clone)]
pub struct Batch {
    /// One writer's life; unique among all of them.
    pub run: u128,
    /// Counts the run's batches from 1.
    pub number: u64,
    pub records: Vec<Arc<Record>>,
}

/// Where rows are kept for good.
pub trait Journal: Send + Sync {
    /// Saves a batch whole or not at all. A batch that was saved before, as (run, number) tell, is not saved again: the
    /// answer to a commit may have been lost. Ids may repeat, for callers choose them: every row is kept.
    fn append<'a>(&'a self, batch: &'a Batch) -> Answer<'a, ()>;

    /// Sums of the rows in a period, by the dimensions of the query.
    fn usage<'a>(&'a self, query: &'a UsageQuery) -> Answer<'a, Vec<Group>>;

    /// The newest row with this id.
    fn find<'a>(&'a self, id: &'a str) -> Answer<'a, Option<Row>>;

    /// Whether there is a row of the request that began then. One id may have several.
    fn has<'a>(&'a self, id: &'a str, started_unix_ms: i64) -> Answer<'a, bool>;

    /// At most `limit` rows, newest first, without decisions.
    fn recent<'a>(&'a self, filter: &'a Filter, limit: usize, before: Option<&'a Cursor>) -> Answer<'a, Vec<Row>>;

    /// Deletes the rows of requests that began before a moment, rounded down to a day (UTC). Their sums stay: reports still
    /// cover them, by whole hours. Returns how many were deleted.
    fn forget_before(&self, moment_ms: i64) -> Answer<'_, u64>;
}

/// Which rows a list shows. Everything that is `None` passes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    pub status: Option<Status>,
    pub provider: Option<String>,
    pub model: Option<String>,
    pub task: Option<String>,
    pub key: Option<String>,
    pub since_ms: Option<i64>,
    /// Exclusive.
    pub until_ms: Option<i64>,
}

impl Filter {
    pub fn passes(&self, row: &Row, before: Option<&Cursor>) -> bool {
        fn is(wanted: &Option<String>, value: &str) -> bool {
            wanted.as_deref().is_none_or(|wanted| wanted == value)
        }
        self.status.is_none_or(|status| status == row.status)
            && is(&self.provider, &row.provider)
            && is(&self.model, &row.model)
            && is(&self.task, &row.task)
            && is(&self.key, row.key.as_deref().unwrap_or_default())
            && self.since_ms.is_none_or(|since| row.started_unix_ms >= since)
            && self.until_ms.is_none_or(|until| row.started_unix_ms < until)
            && before.is_none_or(|before| (row.started_unix_ms, &row.id) < (before.started_unix_ms, &before.id))
    }
}

/// The last row of a page; the next page begins after it. Written `1790000000000.request-id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub started_unix_ms: i64,
    pub id: String,
}

impl Cursor {
    pub fn of(row: &Row) -> Self {
        Self { started_unix_ms: row.started_unix_ms, id: row.id.clone() }
    }

    pub fn parse(text: &str) -> Option<Self> {
        let (started, id) = text.split_once('.')?;
        Some(Self { started_unix_ms: started.parse().ok()?, id: id.to_owned() })
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.started_unix_ms, self.id)
    }
}
