//! The port to where jobs are kept. Implemented in `store`; every change and its event are one transaction, and durable
//! when the future is ready.

use std::time::Duration;

use super::job::{Claimed, End, Hold, Job, New, Status};
use crate::ledger::journal::Answer;

/// What became of a job that was to be taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    In,
    /// There is one with this id already.
    Known,
}

/// Which jobs a list shows. Everything that is `None` passes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    pub status: Option<Status>,
    pub key: Option<String>,
    pub part_of: Option<String>,
    /// Also those that the router made for itself.
    pub internal: bool,
}

/// What an operator or a caller wants of a job that stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Not done, or not to its end.
    Cancel,
    /// A dead, failed or expired one is done once more, with all attempts.
    Retry,
    /// A dead one is not done any more.
    Discard,
}

/// What became of an order.
#[derive(Clone, Debug, PartialEq)]
pub enum Obeyed {
    Done(Job),
    /// It is in a state in which this makes no sense.
    Impossible(Job),
    Unknown,
}

/// How whatever hands jobs out is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub is_up: bool,
    /// Why it is not, without an address or a secret.
    pub reason: Option<String>,
}

/// What a job is about, and its result.
pub type Contents = (Vec<u8>, Option<Vec<u8>>);

pub trait Queue: Send + Sync {
    /// Takes jobs in, in one transaction.
    fn submit<'a>(&'a self, jobs: &'a [New]) -> Answer<'a, Vec<Taken>>;

    /// Claims up to `most` jobs that are due, best first, for a time. On the way, jobs whose lease is over are
    /// given back or buried, and those whose time is over end.
    fn claim<'a>(&'a self, worker: &'a str, most: usize, lease: Duration) -> Answer<'a, Vec<Claimed>>;

    /// Claims this job, if it is due and nobody has it; a lease of it that is over is settled first. `None`: there is nothing
    /// to be done about it now.
    fn claim_one<'a>(&'a self, id: &'a str, worker: &'a str, lease: Duration) -> Answer<'a, Option<Claimed>>;

    /// Prolongs a lease. False: the job is somebody else's by now, or was cancelled.
    fn renew<'a>(&'a self, hold: &'a Hold, lease: Duration) -> Answer<'a, bool>;

    /// Ends a claim. False: the hold was void, and nothing has changed.
    fn end<'a>(&'a self, hold: &'a Hold, end: &'a End) -> Answer<'a, bool>;

    fn order<'a>(&'a self, id: &'a str, order: Order) -> Answer<'a, Obeyed>;

    fn find<'a>(&'a self, id: &'a str) -> Answer<'a, Option<Job>>;

    /// What a job is about, and its result if it has one; both sealed.
    fn contents<'a>(&'a self, id: &'a str) -> Answer<'a, Option<Contents>>;

    /// At most `most` jobs, newest first, older than `before` (a [`Job::seq`]).
    fn list<'a>(&'a self, filter: &'a Filter, before: Option<i64>, most: usize) -> Answer<'a, Vec<Job>>;

    /// Puts a job into the state that its events tell. For whoever tells the log again.
    fn restate<'a>(&'a self, id: &'a str, status: Status) -> Answer<'a, ()>;

    /// How many there are in each state.
    fn counts(&self) -> Answer<'_, Vec<(Status, u64)>>;

    /// Deletes jobs that ended before a moment, with what they were about; dead ones, for which an operator may still come,
    /// before a moment of their own. Returns how many.
    fn forget_ended_before(&self, moment_ms: i64, dead_ms: i64) -> Answer<'_, u64>;

    /// How whatever hands jobs out on behalf of the store is; `None` where the store does it alone.
    fn standing(&self) -> Option<Standing> {
        None
    }
}
