//! The port to the log: how events are read and, for what has no state of its own, added. Implemented in `store`, where
//! events about jobs are written in the same transaction as the change that they tell.

use std::time::Duration;

use super::{Event, Facts, Kind};
use crate::ledger::journal::Answer;

/// An event that is not in the log yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    pub at_unix_ms: i64,
    pub kind: Kind,
    pub subject: String,
    pub key: Option<String>,
    pub facts: Facts,
}

/// Which events are wanted. Whatever is `None` or empty passes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    pub kinds: Vec<Kind>,
    pub subject: Option<String>,
    pub key: Option<String>,
    /// Inclusive.
    pub since_ms: Option<i64>,
    /// Exclusive.
    pub until_ms: Option<i64>,
}

impl Wanted {
    pub fn takes(&self, event: &Event) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(&event.kind))
            && self.subject.as_deref().is_none_or(|subject| subject == event.subject)
            && self.key.as_deref().is_none_or(|key| event.key.as_deref() == Some(key))
            && self.since_ms.is_none_or(|since| event.at_unix_ms >= since)
            && self.until_ms.is_none_or(|until| event.at_unix_ms < until)
    }
}

pub trait Log: Send + Sync {
    /// Adds events, all or none.
    fn note<'a>(&'a self, notes: &'a [Note]) -> Answer<'a, ()>;

    /// At most `most` events behind a place in the log, oldest first. An event that is given was committed before every
    /// one that will be: who continues behind the last one misses none.
    fn behind<'a>(&'a self, place: i64, wanted: &'a Wanted, most: usize) -> Answer<'a, Vec<Event>>;

    /// The last place of the log.
    fn end(&self) -> Answer<'_, i64>;

    /// Takes the turn to tell a consumer what happens, or keeps it, for a time; no time gives it back. Returns the last place
    /// that was dealt with, to begin with the end of the log; `None` while it is somebody else's turn.
    fn take_turn<'a>(&'a self, consumer: &'a str, holder: &'a str, lease: Duration) -> Answer<'a, Option<i64>>;

    /// A consumer was told everything up to a place. False: it is somebody else's turn by now.
    fn advance<'a>(&'a self, consumer: &'a str, holder: &'a str, place: i64) -> Answer<'a, bool>;

    /// Deletes events before a moment, but for those of jobs that have not ended. Returns how many.
    fn forget_before(&self, moment_ms: i64) -> Answer<'_, u64>;
}
