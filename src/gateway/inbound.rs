//! A request on its way through, and what its caller has been told so far.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::treatment::Treatment;
use crate::admission::Caller;
use crate::admission::rate::Headrooms;
use crate::chat::Request;
use crate::ledger::record::Arrival;
use crate::rank::hints::Hints;
use crate::tenant::Tenant;

/// A request as it came in, read but not yet decided about.
pub struct Inbound {
    pub request: Request,
    pub hints: Hints,
    /// The request id, the caller's own if it is sane.
    pub id: Arc<str>,
    pub began: Instant,
    pub began_unix_ms: i64,
    /// Who asks.
    pub tenant: Arc<Tenant>,
    /// Whose answers may be shared; empty without a credential.
    pub partition: Arc<str>,
    /// `cache-control: no-store`: neither read nor write the cache.
    pub no_store: bool,
    /// `cache-control: no-cache`: do not read, but write.
    pub refresh: bool,
    pub delivery: Arc<Delivery>,
    /// Whom fairness counts this request for.
    pub caller: Caller,
    pub arrival: Arrival,
    /// What transformations and guards have to do with it; filled in on the way.
    pub treatment: Option<Arc<Treatment>>,
}

/// What the caller has been told before there was an answer. Decides what a row says about a request that gets none.
#[derive(Debug, Default)]
pub struct Delivery {
    /// The 200 of a stream went out early, to keep the connection alive.
    began: AtomicBool,
    /// The server ended the request, because it stops itself.
    stopped: AtomicBool,
    /// The stream ended with an error event.
    broken: AtomicBool,
    /// What is left to the caller, once that is known.
    headrooms: OnceLock<Headrooms>,
}

impl Delivery {
    pub fn begin(&self) {
        self.began.store(true, Ordering::Relaxed);
    }

    /// Call before the request's future is dropped.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Call when an error ends a stream that has begun.
    pub fn break_off(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }

    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    pub(super) fn left(&self, headrooms: Headrooms) {
        let _ = self.headrooms.set(headrooms);
    }

    /// What is left to the caller of its limits, this request taken; `None` before that is known.
    pub fn headrooms(&self) -> Option<&Headrooms> {
        self.headrooms.get()
    }

    pub fn has_begun(&self) -> bool {
        self.began.load(Ordering::Relaxed)
    }

    pub fn was_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}
