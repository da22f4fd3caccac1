//! The use of one target by one attempt: what it showed, and the place that it took.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::dock::Dock;
use super::random;
use super::station::{Left, Station};
use crate::catalog::Target;
use crate::dispatch::settings::Policy;
use crate::events::{Facts, Kind, facts};
use crate::provider::failure::{Blow, Failure, FailureKind, Pause};
use crate::provider::headroom::Headroom;
use crate::resilience::breaker::{Outcome, Pass, State};
use crate::resilience::ewma::Guess;

/// What a failure adds to a target's load, in seconds: at least so much that a fast refusal never looks attractive.
const LEAST_PENALTY: f64 = 1.0;
const MOST_PENALTY: f64 = 30.0;
/// A shorter `Retry-After` is taken for this.
const LEAST_HINT: Duration = Duration::from_millis(100);

/// Permission to use a target once. Dropped without a word (the caller left), it says nothing about the target and gives
/// the probe's place back.
pub struct Ticket {
    pub(super) station: Arc<Station>,
    pub(super) dock: Arc<Dock>,
    pub(super) pass: Pass,
    pub(super) policy: Policy,
    pub(super) target: Arc<Target>,
    pub started: Instant,
    pub(super) judged: bool,
    /// Its first token has arrived.
    pub(super) begun: bool,
}

impl Ticket {
    /// The first token of a stream has arrived.
    pub fn first_token(&mut self, now: Instant) {
        self.begun = true;
        let seconds = now.saturating_duration_since(self.started).as_secs_f64();
        {
            let mut live = self.station.live.lock();
            live.first_token.record(now, seconds);
            live.recent.record(seconds);
            live.breaker.progressed(now, self.pass);
        }
        self.dock.succeeded();
    }

    /// What the provider said it would still take.
    pub fn headroom(&self, now: Instant, headroom: &Headroom) {
        if *headroom == Headroom::default() {
            return;
        }
        let left = |said: &crate::provider::headroom::Left| Left { amount: said.remaining, until: now + said.reset };
        let mut live = self.station.live.lock();
        live.rate.requests = headroom.requests.as_ref().map(left).or(live.rate.requests);
        live.rate.tokens = headroom.tokens.as_ref().map(left).or(live.rate.tokens);
    }

    /// A stream came to its end: `tokens` in `generating`.
    pub fn streamed(&mut self, now: Instant, tokens: u64, generating: Duration) {
        // A handful of tokens, or a burst out of a buffer, tells nothing about the pace.
        if tokens >= 10 && generating >= Duration::from_millis(10) {
            self.station.live.lock().tokens_per_second.record(tokens as f64 / generating.as_secs_f64());
        }
        self.judge(now, Outcome::Success);
    }

    /// A plain answer arrived. Only its total time is known: first token and pace are scaled alike to explain it.
    pub fn answered(&mut self, now: Instant, tokens: u64) {
        let seconds = now.saturating_duration_since(self.started).as_secs_f64();
        {
            let mut live = self.station.live.lock();
            let speed = &self.target.model.speed;
            let guess = Guess { value: speed.first_token.as_secs_f64(), weight: speed.weight() };
            let first = live.first_token.expected(now, guess).unwrap_or(guess.value).max(1e-4);
            let pace = live.tokens_per_second.get().unwrap_or(speed.tokens_per_second).max(0.1);
            let factor = seconds / (first + tokens as f64 / pace);
            live.first_token.record(now, first * factor);
            live.tokens_per_second.record(pace / factor.max(1e-6));
            live.recent_whole.record(seconds);
        }
        self.dock.succeeded();
        self.judge(now, Outcome::Success);
    }

    /// It failed. Returns true if this opened the breaker.
    pub fn failed(&mut self, now: Instant, failure: &Failure) -> bool {
        let verdict = failure.kind.verdict();
        let cap = self.policy.retry.respect_retry_after.0;
        // "Now" is no time at all: whoever refuses and says so would be asked again with every request.
        let hint = failure.retry_after.map(|hint| hint.min(cap).max(LEAST_HINT));
        let pause = match (verdict.pause, hint) {
            (Pause::Hinted, hint) => Some(hint),
            (Pause::OnlyIfHinted, Some(hint)) => Some(Some(hint)),
            (Pause::Fixed(pause), hint) => Some(Some(hint.unwrap_or(pause).max(pause))),
            (Pause::None, _) | (Pause::OnlyIfHinted, None) => None,
        };
        if let Some(pause) = pause {
            // An unknown key or an empty account is the same for every model; a 403 or a quota with a wait need not be.
            let account = match failure.kind {
                FailureKind::Credential => failure.status == Some(401),
                FailureKind::QuotaExhausted => failure.retry_after.is_none(),
                _ => false,
            };
            if account {
                self.dock.cool_down.lock().extend(now, pause, random(), failure.kind.as_str());
            }
            self.station.live.lock().cool_down.extend(now, pause, random(), failure.kind.as_str());
        }
        if verdict.breaker != Blow::None {
            let seconds = now.saturating_duration_since(self.started).as_secs_f64();
            self.station.live.lock().penalty.raise(now, seconds.clamp(LEAST_PENALTY, MOST_PENALTY));
        }
        if failure.kind == FailureKind::Deadline && !self.begun {
            // No failure, but a measurement: it takes longer than that.
            let seconds = now.saturating_duration_since(self.started).as_secs_f64();
            self.station.live.lock().first_token.record(now, seconds);
        }
        // A refusal for load, or a first token that does not come: fewer at once. A long answer is none of them.
        let late = failure.kind == FailureKind::Timeout && !self.begun;
        if late || matches!(failure.kind, FailureKind::RateLimited | FailureKind::Overloaded) {
            self.dock.has_refused.store(true, Ordering::Relaxed);
            self.dock.limit.lock().refused(now, self.started, self.dock.pending.load(Ordering::Relaxed));
        }
        let opened = self.judge(
            now,
            match verdict.breaker {
                Blow::Hard => Outcome::Failure,
                Blow::Busy => Outcome::Busy,
                Blow::None => Outcome::Neutral,
            },
        );
        if opened || pause.is_some() {
            // Whoever waits for a place there would wait in vain.
            self.dock.lobby.give_up_on(&self.dock.name);
        }
        opened
    }

    fn judge(&mut self, now: Instant, outcome: Outcome) -> bool {
        if std::mem::replace(&mut self.judged, true) {
            return false;
        }
        let mut live = self.station.live.lock();
        if outcome == Outcome::Success {
            live.cool_down.succeeded();
            if self.dock.is_checked.load(Ordering::Relaxed) {
                *self.dock.unwell.lock() = None;
            }
        }
        let before = live.breaker.state(now);
        let opened = live.breaker.record(&self.policy.breaker, now, self.pass, outcome, random());
        let closed = before != State::Closed && live.breaker.state(now) == State::Closed;
        if opened {
            let cause = live.breaker.cause().to_owned();
            self.dock.notes.add(Kind::BreakerOpened, self.target.id.as_str(), facts([("cause", cause.into())]));
        }
        drop(live);
        if closed {
            self.dock.limit.lock().forget();
            self.dock.notes.add(Kind::BreakerClosed, self.target.id.as_str(), Facts::new());
        }
        opened
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.judge(self.started, Outcome::Neutral);
        self.station.pending.fetch_sub(1, Ordering::Relaxed);
        self.dock.leave(self.target.provider.max_concurrency);
    }
}
