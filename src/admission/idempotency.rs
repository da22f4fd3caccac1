//! Requests that may be sent twice and must be done once: what is kept of them, and where.
//!
//! The first request with a key is marked as begun before anything is done for it, and its answer is kept before its last
//! byte is handed over. So a mark without an answer after a crash means that nobody knows how far it came: it is not
//! done again.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// How long an answer is given again (faults C13).
pub const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);

/// Longest key, in characters.
pub const LONGEST: usize = 255;

/// Longest answer that is kept, in bytes as it is sent.
pub const LARGEST: usize = 16 << 20;

/// Who sent which key: a hash that tells neither.
pub type Place = [u8; 32];

/// Of the request's path and body: another one under the same key is a mistake.
pub type Fingerprint = [u8; 32];

/// A kept answer: status, headers and body, sealed so that only who has the key can read them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed(pub Vec<u8>);

/// What is known about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nobody has sent it in the last 24 hours; now it is marked.
    Nothing,
    /// It was begun, and its end is not known here.
    Begun {
        fingerprint: Fingerprint,
    },
    /// Another replica is doing it right now.
    UnderWay {
        fingerprint: Fingerprint,
    },
    Answered {
        fingerprint: Fingerprint,
        answer: Sealed,
    },
}

/// The store does not work right now; a sentence for the log.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unkept(pub String);

/// What a port's method returns; boxed, so that a [`Memory`] can be a trait object.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Unkept>> + Send + 'a>>;

/// Where keys are kept. Implemented in `store`. Every change is durable when the future is ready.
pub trait Memory: Send + Sync {
    /// Looks a key up, and marks it as begun if it is not known or older than [`KEPT_FOR`]. One of several at once is told
    /// [`Known::Nothing`].
    fn begin(&self, place: Place, fingerprint: Fingerprint, now_ms: i64) -> Answer<'_, Known>;

    fn keep(&self, place: Place, answer: Sealed) -> Answer<'_, ()>;

    /// Forgets a key, so that it can be sent again.
    fn release(&self, place: Place) -> Answer<'_, ()>;

    /// Nobody works on a key any more, and there is no answer to keep; the mark stays. Call where neither [`Self::keep`]
    /// nor [`Self::release`] is. Returns at once.
    fn abandon(&self, _place: Place) {}
}
