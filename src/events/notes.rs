//! What the router itself has to say: written down soon, never waited for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::log::{Log, Note};
use super::{Facts, Kind};
use crate::ledger::journal::Failure;

/// The fact that says whose note it is.
pub const SERVER: &str = "server";

/// Notes that wait to be written; beyond that the newest are dropped and counted.
const MOST: usize = 4096;

/// Cheap to share. Anybody may add to it, from any thread.
#[derive(Clone, Default)]
pub struct Notes(Arc<Inner>);

#[derive(Default)]
struct Inner {
    server: OnceLock<String>,
    waiting: Mutex<Vec<Note>>,
    added: Notify,
    dropped: AtomicU64,
}

impl Notes {
    /// From here on every note says that it is this server's. Only the first name counts.
    pub fn sign(&self, server: String) {
        let _ = self.0.server.set(server);
    }

    /// Something has happened just now.
    pub fn add(&self, kind: Kind, subject: &str, mut facts: Facts) {
        if let Some(server) = self.0.server.get() {
            facts.insert(SERVER.to_owned(), server.as_str().into());
        }
        let at_unix_ms = jiff::Timestamp::now().as_millisecond();
        let mut waiting = self.0.waiting.lock();
        if waiting.len() >= MOST {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.push(Note { at_unix_ms, kind, subject: subject.to_owned(), key: None, facts });
        drop(waiting);
        self.0.added.notify_one();
    }

    /// Notes that found no room.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// Ready when there is something to write.
    pub async fn added(&self) {
        self.0.added.notified().await;
    }

    /// Writes what waits, and returns it. What cannot be written goes on waiting, before what came meanwhile.
    pub async fn write(&self, log: &dyn Log) -> Result<Vec<Note>, Failure> {
        let taken = std::mem::take(&mut *self.0.waiting.lock());
        if taken.is_empty() {
            return Ok(taken);
        }
        if let Err(failure) = log.note(&taken).await {
            let mut waiting = self.0.waiting.lock();
            let meanwhile = std::mem::replace(&mut *waiting, taken);
            waiting.extend(meanwhile);
            waiting.truncate(MOST);
            return Err(failure);
        }
        Ok(taken)
    }
}
