//! One target: whether it works, how fast it is, what its provider says that it would still take.

use std::sync::atomic::AtomicU32;
use std::time::Instant;

use parking_lot::Mutex;

use crate::rank::score::Room;
use crate::resilience::breaker::Breaker;
use crate::resilience::cooldown::CoolDown;
use crate::resilience::ewma::{Latency, Mean, Penalty, Recent};

/// One target.
pub(super) struct Station {
    pub(super) live: Mutex<Live>,
    pub(super) pending: AtomicU32,
}

pub(super) struct Live {
    pub(super) breaker: Breaker,
    pub(super) cool_down: CoolDown,
    pub(super) first_token: Latency,
    /// The last times to the first token of streams, and to the whole of plain answers: for a hedge's delay.
    pub(super) recent: Recent,
    pub(super) recent_whole: Recent,
    pub(super) tokens_per_second: Mean,
    pub(super) penalty: Penalty,
    pub(super) rate: Rate,
    /// When it was asked last; `None` if never.
    pub(super) asked: Option<Instant>,
}

/// What the provider said it would still take, and what it was sent since.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rate {
    pub(super) requests: Option<Left>,
    pub(super) tokens: Option<Left>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Left {
    pub(super) amount: u64,
    pub(super) until: Instant,
}

impl Rate {
    pub(super) fn room(&self, now: Instant) -> Room {
        let left = |left: Option<Left>| left.filter(|left| left.until > now);
        let (requests, tokens) = (left(self.requests), left(self.tokens));
        Room { requests: requests.map(|left| left.amount), tokens: tokens.map(|left| left.amount) }
    }
}

impl Station {
    pub(super) fn new(now: Instant) -> Self {
        let live = Live {
            breaker: Breaker::new(now),
            cool_down: CoolDown::default(),
            first_token: Latency::default(),
            recent: Recent::default(),
            recent_whole: Recent::default(),
            tokens_per_second: Mean::default(),
            penalty: Penalty::default(),
            rate: Rate::default(),
            asked: None,
        };
        Self { live: Mutex::new(live), pending: AtomicU32::new(0) }
    }
}
