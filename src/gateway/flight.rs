//! Identical requests in flight share one upstream call.
//!
//! No task is spawned: whoever reads drives. The first poller of a shared start runs the cascade, the first reader of a
//! shared stream reads the upstream; when it leaves, the next one goes on from the same place. When all have left, the
//! upstream call is dropped and closed.

use std::sync::{Arc, Weak};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;

use super::error::Error;
use super::metered::{Facts, Metered};
use crate::cache::key::Key;
use crate::chat::{Assembly, Chunk, Response, Usage};
use crate::provider::failure::Failure;

/// An answer for one reader.
pub enum Source {
    Whole { facts: Facts, response: Arc<Response> },
    Stream(Box<Metered>),
}

/// An answer for any number of readers.
pub enum SharedSource {
    Whole { facts: Facts, response: Arc<Response> },
    Stream(Box<Broadcast>),
}

impl Source {
    pub fn into_shared(self) -> SharedSource {
        match self {
            Self::Whole { facts, response } => SharedSource::Whole { facts, response },
            Self::Stream(metered) => SharedSource::Stream(Box::new(Broadcast {
                facts: metered.facts.clone(),
                heard: Mutex::new(Heard::default()),
                live: tokio::sync::Mutex::new(*metered),
            })),
        }
    }
}

impl SharedSource {
    pub fn facts(&self) -> &Facts {
        match self {
            Self::Whole { facts, .. } => facts,
            Self::Stream(broadcast) => &broadcast.facts,
        }
    }
}

/// One stream, many readers, each at its own place.
pub struct Broadcast {
    facts: Facts,
    heard: Mutex<Heard>,
    live: tokio::sync::Mutex<Metered>,
}

#[derive(Default)]
struct Heard {
    /// All chunks so far. Bounded by the limit on an answer's size.
    chunks: Vec<Arc<Chunk>>,
    end: Option<Result<Usage, Failure>>,
}

impl Broadcast {
    /// The chunk at `index`; `Ok(None)` after the last one. Waits, and reads the upstream if nobody else does.
    pub async fn get(&self, index: usize) -> Result<Option<Arc<Chunk>>, Failure> {
        if let Some(known) = self.known(index) {
            return known;
        }
        let mut live = self.live.lock().await;
        // Another reader may have brought it in the meantime.
        if let Some(known) = self.known(index) {
            return known;
        }
        let result = live.next().await;
        let mut heard = self.heard.lock();
        match result {
            Ok(Some(chunk)) => {
                let chunk = Arc::new(chunk);
                heard.chunks.push(chunk.clone());
                Ok(Some(chunk))
            }
            Ok(None) => {
                heard.end = Some(Ok(live.usage().cloned().unwrap_or_default()));
                Ok(None)
            }
            Err(failure) => {
                heard.end = Some(Err(failure.clone()));
                Err(failure)
            }
        }
    }

    fn known(&self, index: usize) -> Option<Result<Option<Arc<Chunk>>, Failure>> {
        let heard = self.heard.lock();
        if let Some(chunk) = heard.chunks.get(index) {
            return Some(Ok(Some(chunk.clone())));
        }
        Some(match heard.end.as_ref()? {
            Ok(_) => Ok(None),
            Err(failure) => Err(failure.clone()),
        })
    }

    /// The whole answer, for a reader who wants it in one piece.
    pub async fn gather(&self) -> Result<Response, Failure> {
        let mut assembly = Assembly::default();
        let mut index = 0;
        while let Some(chunk) = self.get(index).await? {
            assembly.push(&chunk);
            index += 1;
        }
        let facts = &self.facts;
        Ok(assembly.into_response(facts.id.clone(), facts.created, facts.model.clone(), self.usage()))
    }

    /// What it used, once it is complete.
    pub fn usage(&self) -> Option<Usage> {
        self.heard.lock().end.as_ref()?.as_ref().ok().cloned()
    }
}

type Start = Shared<BoxFuture<'static, Result<Arc<SharedSource>, Error>>>;

/// One upstream call and everybody who waits for it.
pub struct Flight {
    key: Key,
    start: Start,
    flights: Weak<Flights>,
}

impl Flight {
    /// The answer's beginning: past the commit point, or an error.
    pub fn start(&self) -> Start {
        self.start.clone()
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if let Some(flights) = self.flights.upgrade() {
            // Only our own entry: a successor may have taken the place.
            flights.by_key.remove_if(&self.key, |_, flight| flight.strong_count() == 0);
        }
    }
}

/// The flights under way. Entries are weak: a flight lives as long as somebody waits for it or reads it.
#[derive(Default)]
pub struct Flights {
    by_key: DashMap<Key, Weak<Flight>>,
}

impl Flights {
    /// Joins the flight of `key`, or starts one. The flag says who leads.
    pub fn join(
        self: &Arc<Self>,
        key: Key,
        start: impl FnOnce() -> BoxFuture<'static, Result<Arc<SharedSource>, Error>>,
    ) -> (Arc<Flight>, bool) {
        let mut place = match self.by_key.entry(key) {
            Entry::Occupied(place) => match place.get().upgrade() {
                Some(flight) => return (flight, false),
                None => place,
            },
            Entry::Vacant(place) => {
                let flight = self.flight(key, start());
                place.insert(Arc::downgrade(&flight));
                return (flight, true);
            }
        };
        let flight = self.flight(key, start());
        place.insert(Arc::downgrade(&flight));
        (flight, true)
    }

    /// A failed flight is not joined again.
    pub fn leave(&self, key: Key, flight: &Arc<Flight>) {
        self.by_key.remove_if(&key, |_, known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(flight)));
    }

    fn flight(self: &Arc<Self>, key: Key, start: BoxFuture<'static, Result<Arc<SharedSource>, Error>>) -> Arc<Flight> {
        Arc::new(Flight { key, start: start.shared(), flights: Arc::downgrade(self) })
    }

    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
