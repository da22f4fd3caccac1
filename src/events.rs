//! What has happened, in order and for good: the log from which the states of jobs, batches and breakers can be told at
//! any moment, and made anew.
//!
//! An event says what changed and never what was asked or answered. Requests that are answered at once write none: their
//! row in the ledger is their whole life, and [`life`] tells it as events.

pub mod anomaly; // what is out of the ordinary
pub mod life; // a ledger row, told as events
pub mod log; // the port: where events are kept
pub mod notes; // what the router itself has to say

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    /// Its place in the log, counting up with gaps; `None` for what is told from a ledger row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<i64>,
    pub at_unix_ms: i64,
    pub kind: Kind,
    /// What it happened to: a request's id, a batch's, `provider/model`, or `server`.
    pub subject: String,
    /// The name of the key whose request it is about; `None` for what concerns the router.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Facts by name. No prompt, no answer, no credential.
    #[serde(flatten)]
    pub facts: Facts,
}

pub type Facts = Map<String, Value>;

/// Facts from pairs; a pair whose value is null is left out.
pub fn facts<const N: usize>(pairs: [(&str, Value); N]) -> Facts {
    pairs.into_iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.to_owned(), value)).collect()
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $word:literal,)*) => {
        /// What can happen. The words are part of the contract: in answers, in streams, in the log.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Kind { $($(#[$doc])* #[serde(rename = $word)] $kind,)* }

        impl Kind {
            pub const ALL: &'static [Self] = &[$(Self::$kind,)*];

            pub fn as_str(self) -> &'static str {
                match self { $(Self::$kind => $word,)* }
            }

            pub fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$kind),)* _ => None }
            }
        }
    };
}

kinds! {
    /// A request came in.
    Received = "received",
    /// Its task was found, or said.
    Classified = "classified",
    /// Its candidates were ordered.
    Planned = "planned",
    /// A provider was asked.
    AttemptStarted = "attempt_started",
    /// It did not answer as it should.
    AttemptFailed = "attempt_failed",
    /// The first content was there.
    FirstToken = "first_token",
    /// The request's tokens and cost are known.
    Settled = "settled",

    /// A request was taken in, to be done later.
    Queued = "queued",
    /// A worker has claimed it.
    Started = "started",
    /// It did not work out and is tried again.
    RetryScheduled = "retry_scheduled",
    /// Its worker was not heard of in time.
    LeaseExpired = "lease_expired",
    /// There was no room for it; that was no attempt.
    Deferred = "deferred",
    /// Its worker stopped before it was done; that was no attempt.
    Released = "released",
    Completed = "completed",
    Failed = "failed",
    Cancelled = "cancelled",
    /// Nobody had come to it when its time was over.
    Expired = "expired",
    /// All of its attempts failed: it waits for an operator.
    DeadLettered = "dead_lettered",
    /// An operator wants it done once more.
    Requeued = "requeued",
    /// An operator does not want it done.
    Discarded = "discarded",

    BatchCreated = "batch_created",
    /// Its lines were read and are jobs now.
    BatchStarted = "batch_started",
    BatchCancelling = "batch_cancelling",
    BatchCompleted = "batch_completed",
    BatchFailed = "batch_failed",
    BatchExpired = "batch_expired",
    BatchCancelled = "batch_cancelled",

    /// Lines of a batch were handed to a provider's own batch.
    NativeBatchSubmitted = "native_batch_submitted",
    /// What the provider answered has ended; the rest is answered one by one.
    NativeBatchEnded = "native_batch_ended",

    BreakerOpened = "breaker_opened",
    BreakerClosed = "breaker_closed",
    BudgetWarning = "budget_warning",
    /// Something is out of the ordinary.
    Anomaly = "anomaly",
    ConfigurationReloaded = "configuration_reloaded",
    ConfigurationRefused = "configuration_refused",
    ServerStarted = "server_started",
    ServerStopped = "server_stopped",
}

impl Kind {
    /// Whether nothing can follow in the life of a job, unless an operator steps in.
    pub fn is_end_of_job(self) -> bool {
        use Kind::{Cancelled, Completed, DeadLettered, Discarded, Expired, Failed};
        matches!(self, Completed | Failed | Cancelled | Expired | DeadLettered | Discarded)
    }
}

impl Kind {
    pub fn is_of_batch(self) -> bool {
        self.as_str().starts_with("batch_")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_are_written_and_facts_stand_beside_them() {
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.as_str()), Some(*kind));
            assert_eq!(serde_json::to_value(kind).expect("a word"), kind.as_str());
        }
        let event = Event {
            seq: Some(7),
            at_unix_ms: 1,
            kind: Kind::Started,
            subject: "r".to_owned(),
            key: None,
            facts: facts([("attempt", 2.into()), ("nothing", Value::Null)]),
        };
        let shown = serde_json::json!({"seq": 7, "at_unix_ms": 1, "kind": "started", "subject": "r", "attempt": 2});
        assert_eq!(serde_json::to_value(&event).expect("JSON"), shown);
    }
}
