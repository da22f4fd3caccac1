//! One provider: places, retries, and what concerns all its targets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use crate::admission::lobby::Lobby;
use crate::events::notes::Notes;
use crate::rank::score::Availability;
use crate::resilience::backoff::Budget;
use crate::resilience::cooldown::CoolDown;
use crate::resilience::limit::Limit;

/// One provider.
pub(super) struct Dock {
    pub(super) name: Arc<str>,
    pub(super) lobby: Arc<Lobby<Reserved>>,
    pub(super) notes: Notes,
    pub(super) pending: AtomicU32,
    pub(super) retries: Mutex<Budget>,
    /// The account is out, with all its models.
    pub(super) cool_down: Mutex<CoolDown>,
    /// How many at once it has been found to take. Every plan asks, few providers ever refuse: `has_refused` spares the
    /// others the lock.
    pub(super) limit: Mutex<Limit>,
    pub(super) has_refused: AtomicBool,
    /// A health check failed: others go first until then, or until a request succeeds. `is_checked` as above.
    pub(super) unwell: Mutex<Option<Instant>>,
    pub(super) is_checked: AtomicBool,
}

/// A place at a provider, handed over to a request that waited for it. Dropped unused, it goes to the next one.
pub struct Reserved {
    dock: Option<Arc<Dock>>,
    max_concurrency: Option<usize>,
}

impl Reserved {
    /// Whose place it is.
    pub fn provider(&self) -> &str {
        self.dock.as_ref().map_or("", |dock| &dock.name)
    }

    /// The place belongs to whoever calls this, to be given back by [`Dock::leave`].
    pub(super) fn take_over(mut self) {
        self.dock = None;
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some(dock) = self.dock.take() {
            dock.leave(self.max_concurrency);
        }
    }
}

impl Dock {
    pub(super) fn new(name: &Arc<str>, lobby: &Arc<Lobby<Reserved>>, notes: &Notes, now: Instant) -> Self {
        Self {
            name: name.clone(),
            lobby: lobby.clone(),
            notes: notes.clone(),
            pending: AtomicU32::new(0),
            retries: Mutex::new(Budget::new(now)),
            cool_down: Mutex::default(),
            limit: Mutex::default(),
            has_refused: AtomicBool::new(false),
            unwell: Mutex::default(),
            is_checked: AtomicBool::new(false),
        }
    }

    pub(super) fn cooling(&self, now: Instant) -> Option<(Instant, &'static str)> {
        let cool_down = self.cool_down.lock();
        cool_down.active(now).map(|until| (until, cool_down.cause))
    }

    pub(super) fn is_unwell(&self, now: Instant) -> bool {
        self.is_checked.load(Ordering::Relaxed) && self.unwell.lock().is_some_and(|until| until > now)
    }

    pub(super) fn succeeded(&self) {
        if self.has_refused.load(Ordering::Relaxed) {
            self.limit.lock().succeeded(self.pending.load(Ordering::Relaxed));
        }
    }

    /// Takes a place, if there is one. Never more than there are, not even for a moment: whoever looks in between would
    /// find it full and go away.
    pub(super) fn enter(&self, max_concurrency: Option<usize>, now: Instant) -> bool {
        let configured = max_concurrency.map(|limit| u32::try_from(limit).unwrap_or(u32::MAX));
        let learned = self.learned(now);
        let limit = configured.unwrap_or(u32::MAX).min(learned.unwrap_or(u32::MAX));
        let take = |pending| (pending < limit).then_some(pending + 1);
        self.pending.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok()
    }

    fn learned(&self, now: Instant) -> Option<u32> {
        if self.has_refused.load(Ordering::Relaxed) { self.limit.lock().current(now) } else { None }
    }

    /// One request less. Its place, and any other that is free, goes to those who wait for it.
    pub(super) fn leave(self: &Arc<Self>, max_concurrency: Option<usize>) {
        self.pending.fetch_sub(1, Ordering::SeqCst);
        // Looked at anew each time: who comes to wait while a place is on offer sees no free one.
        while self.lobby.wants(&self.name) && self.enter(max_concurrency, Instant::now()) {
            let place = Reserved { dock: Some(self.clone()), max_concurrency };
            if let Some(unwanted) = self.lobby.offer(&self.name, place) {
                unwanted.take_over();
                self.pending.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }

    /// [`Availability::Full`] with `pending` requests. The configured bulkhead and the learned limit both hold.
    pub(super) fn full(&self, max_concurrency: Option<usize>, pending: u32, now: Instant) -> Option<Availability> {
        let configured = max_concurrency.map(|limit| u32::try_from(limit).unwrap_or(u32::MAX));
        match (configured, self.learned(now)) {
            (Some(limit), _) if pending >= limit => Some(Availability::Full { limit, learned: false }),
            (_, Some(limit)) if pending >= limit => Some(Availability::Full { limit, learned: true }),
            _ => None,
        }
    }
}
