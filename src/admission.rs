//! May a request in, now: a bounded number at once, a bounded and fair queue before them, and an early refusal beyond.
//!
//! [`gate`] counts the requests in flight of the whole router, [`lobby`] holds those that wait for a provider's place;
//! both wait in a `queue` that serves callers in turn. [`intake`] counts the bytes that are being read before. Whoever leaves gives everything back at once.

pub mod budget;
pub mod calendar;
pub mod gate;
pub mod idempotency;
pub mod intake;
pub mod lobby;
pub mod outstanding;
mod queue;
pub mod rate;
pub mod settings;
pub mod shared;

use std::time::Duration;

/// Whom fairness counts as one: a caller's credential, or address where there is none. Not an identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Caller(pub u64);

/// Refused for load, before any work was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Shed {
    /// 503: the queue is full, and others wait as long.
    #[error("too many requests at once: {max_in_flight} are being answered and {queue} wait (`overload`)")]
    Full { max_in_flight: u32, queue: u32 },
    /// 429: this caller has more requests here than its share, and others wait.
    #[error("too many requests of this caller at once: others wait, and it has more than its share (`overload`)")]
    Greedy,
    /// 503: it was its turn too late.
    #[error("no place became free within {waited:?} (`overload.queue_timeout`)")]
    TooLate { waited: Duration },
    /// 503: too much is being read.
    #[error("the bodies that are being read right now have {megabytes} MB")]
    Crowded { megabytes: u64 },
}

impl Shed {
    /// One word for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full { .. } => "full",
            Self::Greedy => "greedy",
            Self::TooLate { .. } => "too_late",
            Self::Crowded { .. } => "crowded",
        }
    }
}
