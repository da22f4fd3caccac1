//! The port to where keys are kept. Implemented in `store`.

use std::future::Future;
use std::pin::Pin;

use super::key::{Kept, Key};
use super::secret::Digest;

/// What a port's method returns; boxed, so that a [`Vault`] can be a trait object.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Unreadable>> + Send + 'a>>;

/// The store does not work right now; a sentence for the log.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub String);

/// All keys at one moment.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// Grows with every change, whoever makes it.
    pub version: i64,
    /// Of the secret under which the keys are hashed; `None` before the first key.
    pub fingerprint: Option<Digest>,
    /// Oldest first.
    pub keys: Vec<Key>,
}

/// How an addition ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    Yes,
    /// Another key has, or had, this name.
    NameTaken,
    /// The keys that are there are hashed under another secret.
    OtherSecret,
}

/// Every change is durable and whole when the future is ready.
pub trait Vault: Send + Sync {
    fn version(&self) -> Answer<'_, i64>;

    fn contents(&self) -> Answer<'_, Contents>;

    fn add<'a>(&'a self, key: &'a Key, fingerprint: Digest) -> Answer<'a, Added>;

    /// A new text for a key that is not revoked; the others end at `old_until_ms`, if not before. `false`: no such key.
    fn rotate<'a>(&'a self, id: &'a str, new: Kept, old_until_ms: i64) -> Answer<'a, bool>;

    /// For good. `false`: no such key. One that is revoked keeps its first moment.
    fn revoke<'a>(&'a self, id: &'a str, at_ms: i64) -> Answer<'a, bool>;
}
