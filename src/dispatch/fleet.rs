//! The live state of every target: breaker, cool-down, speed, requests in flight. Survives reloads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use parking_lot::Mutex;

use super::settings::Policy;
use crate::admission::lobby::Lobby;
use crate::catalog::{Target, TargetId};
use crate::provider::failure::{Blow, Failure, FailureKind, Pause};
use crate::provider::headroom::Headroom;
use crate::rank::score::{Availability, Room, Vitals};
use crate::resilience::backoff::Budget;
use crate::resilience::breaker::{Breaker, Outcome, Pass, State};
use crate::resilience::cooldown::CoolDown;
use crate::resilience::ewma::{Latency, Mean, Penalty, Recent};
use crate::resilience::limit::Limit;

#[derive(Default)]
pub struct Fleet {
    stations: DashMap<TargetId, Arc<Station>>,
    providers: DashMap<Arc<str>, Arc<Dock>>,
    /// Requests that wait for a place at a provider.
    pub lobby: Arc<Lobby>,
}

/// One target.
struct Station {
    live: Mutex<Live>,
    pending: AtomicU32,
}

struct Live {
    breaker: Breaker,
    cool_down: CoolDown,
    first_token: Latency,
    /// The last times to the first token of streams, and to the whole of plain answers: for a hedge's delay.
    recent: Recent,
    recent_whole: Recent,
    tokens_per_second: Mean,
    penalty: Penalty,
    rate: Rate,
    /// When it was asked last; `None` if never.
    asked: Option<Instant>,
}

/// What the provider said it would still take, and what it was sent since.
#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    requests: Option<Left>,
    tokens: Option<Left>,
}

#[derive(Clone, Copy, Debug)]
struct Left {
    amount: u64,
    until: Instant,
}

impl Rate {
    fn room(&self, now: Instant) -> Room {
        let left = |left: Option<Left>| left.filter(|left| left.until > now);
        let (requests, tokens) = (left(self.requests), left(self.tokens));
        Room { requests: requests.map(|left| left.amount), tokens: tokens.map(|left| left.amount) }
    }
}

/// One provider.
struct Dock {
    name: Arc<str>,
    lobby: Arc<Lobby>,
    pending: AtomicU32,
    retries: Mutex<Budget>,
    /// The account is out, with all its models.
    cool_down: Mutex<CoolDown>,
    /// How many at once it has been found to take. Every plan asks, few providers ever refuse: `has_refused` spares the
    /// others the lock.
    limit: Mutex<Limit>,
    has_refused: AtomicBool,
    /// A health check failed: others go first until then, or until a request succeeds. `is_checked` as above.
    unwell: Mutex<Option<Instant>>,
    is_checked: AtomicBool,
}

/// The state of one target, for `/gateway/status`.
#[derive(Clone, Debug)]
pub struct Status {
    pub vitals: Vitals,
    pub opened: u64,
    pub cause: String,
}

impl Fleet {
    fn station(&self, id: &TargetId, now: Instant) -> Arc<Station> {
        if let Some(station) = self.stations.get(id) {
            return station.clone();
        }
        let fresh = || {
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
            Arc::new(Station { live: Mutex::new(live), pending: AtomicU32::new(0) })
        };
        self.stations.entry(id.clone()).or_insert_with(fresh).clone()
    }

    fn dock(&self, provider: &Arc<str>, now: Instant) -> Arc<Dock> {
        if let Some(dock) = self.providers.get(provider) {
            return dock.clone();
        }
        let fresh = || {
            Arc::new(Dock {
                name: provider.clone(),
                lobby: self.lobby.clone(),
                pending: AtomicU32::new(0),
                retries: Mutex::new(Budget::new(now)),
                cool_down: Mutex::default(),
                limit: Mutex::default(),
                has_refused: AtomicBool::new(false),
                unwell: Mutex::default(),
                is_checked: AtomicBool::new(false),
            })
        };
        self.providers.entry(provider.clone()).or_insert_with(fresh).clone()
    }

    /// What is measured of a target now.
    pub fn vitals(&self, target: &Target, policy: &Policy, now: Instant) -> Vitals {
        self.status(target, policy, now).vitals
    }

    pub fn status(&self, target: &Target, policy: &Policy, now: Instant) -> Status {
        let dock = self.providers.get(&target.provider.name).map(|dock| dock.clone());
        let account = dock.as_ref().and_then(|dock| dock.cooling(now));
        let unwell = dock.as_ref().is_some_and(|dock| dock.is_unwell(now));
        let cooling = |(until, cause): (Instant, &'static str)| Availability::Cooling { remaining: until - now, cause };
        let Some(station) = self.stations.get(&target.id).map(|station| station.clone()) else {
            let cause = account.map(|(_, cause)| cause.to_owned()).unwrap_or_default();
            let availability = account.map(cooling).unwrap_or_default();
            return Status { vitals: Vitals { availability, unwell, ..Vitals::default() }, opened: 0, cause };
        };
        let live = station.live.lock();
        let availability = if let Some(account) = account {
            cooling(account)
        } else if let Some(until) = live.cool_down.active(now) {
            Availability::Cooling { remaining: until - now, cause: live.cool_down.cause }
        } else {
            match live.breaker.state(now) {
                State::Open { until } => {
                    Availability::Open { remaining: until - now, cause: live.breaker.cause().to_owned() }
                }
                // A probe is out: everybody else goes elsewhere until it is back.
                State::HalfOpen if !live.breaker.would_admit(&policy.breaker, now) => {
                    Availability::Open { remaining: PROBE_WAIT, cause: "a probe is in flight".to_owned() }
                }
                State::HalfOpen => Availability::HalfOpen,
                State::Closed => self.full(target, now).unwrap_or_default(),
            }
        };
        let speed = &target.model.speed;
        let first_token = live.first_token.expected(now, speed.first_token.as_secs_f64());
        let vitals = Vitals {
            first_token: first_token.map(Duration::from_secs_f64),
            tokens_per_second: live.tokens_per_second.expected(speed.tokens_per_second),
            pending: station.pending.load(Ordering::Relaxed),
            penalty: Duration::from_secs_f64(live.penalty.at(now)),
            room: live.rate.room(now),
            unwell,
            availability,
        };
        let cause = match &vitals.availability {
            Availability::Cooling { cause, .. } => (*cause).to_owned(),
            _ => live.breaker.cause().to_owned(),
        };
        Status { vitals, opened: live.breaker.opened(), cause }
    }

    /// [`Availability::Full`] if the target's provider has as many requests as it may or can take.
    fn full(&self, target: &Target, now: Instant) -> Option<Availability> {
        let dock = self.providers.get(&target.provider.name)?;
        dock.full(target.provider.max_concurrency, dock.pending.load(Ordering::SeqCst), now)
    }

    /// Asks to send one request to a target. `None` if it has become unavailable since the plan was made.
    pub fn begin(&self, target: &Arc<Target>, policy: &Policy, now: Instant) -> Option<Ticket> {
        let (station, dock) = (self.station(&target.id, now), self.dock(&target.provider.name, now));
        // The provider's place is taken first: it can be given back, a probe that never left cannot be judged.
        let taken = dock.pending.fetch_add(1, Ordering::SeqCst);
        if dock.full(target.provider.max_concurrency, taken, now).is_some() {
            // Took nobody's place: nobody is woken.
            dock.pending.fetch_sub(1, Ordering::SeqCst);
            return None;
        }
        let pass = if dock.cooling(now).is_some() {
            None
        } else {
            let mut live = station.live.lock();
            let pass =
                if live.cool_down.active(now).is_some() { None } else { live.breaker.admit(&policy.breaker, now) };
            if pass.is_some() {
                live.asked = Some(now);
                if let Some(left) = &mut live.rate.requests {
                    left.amount = left.amount.saturating_sub(1);
                }
            }
            pass
        };
        let Some(pass) = pass else {
            dock.leave(target.provider.max_concurrency);
            return None;
        };
        station.pending.fetch_add(1, Ordering::Relaxed);
        dock.retries.lock().earn(policy.retry.budget.0);
        Some(Ticket {
            station,
            dock,
            pass,
            policy: policy.clone(),
            target: target.clone(),
            started: now,
            judged: false,
        })
    }

    /// Whether a target would take a request at that time, as far as is known now.
    pub fn admits(&self, target: &Target, policy: &Policy, at: Instant) -> bool {
        let vitals = self.vitals(target, policy, at);
        matches!(vitals.availability, Availability::Closed | Availability::HalfOpen)
    }

    /// How long none of a provider's targets was asked; `None` if none ever was.
    pub fn idle(&self, provider: &str, now: Instant) -> Option<Duration> {
        let stations = self.stations.iter().filter(|station| station.key().provider() == provider);
        let asked = stations.filter_map(|station| station.live.lock().asked).max();
        asked.map(|asked| now.saturating_duration_since(asked))
    }

    /// What a health check showed: trouble that counts until a moment, or none. True if that is news.
    pub fn checked(&self, provider: &Arc<str>, now: Instant, trouble_until: Option<Instant>) -> bool {
        let dock = self.dock(provider, now);
        dock.is_checked.store(true, Ordering::Relaxed);
        let before = std::mem::replace(&mut *dock.unwell.lock(), trouble_until);
        before.is_some() != trouble_until.is_some()
    }

    /// What 95 % of a target's last answers did not exceed: until the first token of a stream, or the whole of a plain
    /// one. `None` before 20 of them were seen.
    pub fn usual_wait(&self, target: &Target, stream: bool) -> Option<Duration> {
        let station = self.stations.get(&target.id)?.clone();
        let live = station.live.lock();
        let recent = if stream { &live.recent } else { &live.recent_whole };
        recent.p95().map(Duration::from_secs_f64)
    }

    /// Nobody else can answer: a pause that the provider did not ask for is shortened. True if that changed something.
    pub fn hasten(&self, target: &Target, policy: &Policy) -> bool {
        let Some(station) = self.stations.get(&target.id).map(|station| station.clone()) else { return false };
        let mut live = station.live.lock();
        let breaker = live.breaker.hasten(&policy.breaker);
        live.cool_down.hasten(policy.breaker.cooldown_without_alternative.0) || breaker
    }

    /// Takes one retry from a provider's budget.
    pub fn may_retry(&self, provider: &Arc<str>, now: Instant) -> bool {
        self.dock(provider, now).retries.lock().spend(now)
    }

    /// A reload may have brought new keys: cool-downs because of the old ones end.
    pub fn forgive_credentials(&self) {
        for dock in &self.providers {
            *dock.cool_down.lock() = CoolDown::default();
        }
        for station in &self.stations {
            let mut live = station.live.lock();
            if matches!(live.cool_down.cause, "credential" | "quota_exhausted") {
                live.cool_down = CoolDown::default();
            }
        }
    }
}

impl Dock {
    fn cooling(&self, now: Instant) -> Option<(Instant, &'static str)> {
        let cool_down = self.cool_down.lock();
        cool_down.active(now).map(|until| (until, cool_down.cause))
    }

    fn is_unwell(&self, now: Instant) -> bool {
        self.is_checked.load(Ordering::Relaxed) && self.unwell.lock().is_some_and(|until| until > now)
    }

    fn succeeded(&self) {
        if self.has_refused.load(Ordering::Relaxed) {
            self.limit.lock().succeeded(self.pending.load(Ordering::Relaxed));
        }
    }

    /// One request less. Whoever waits for its place is woken, and a second one where the limit has just grown.
    fn leave(&self, max_concurrency: Option<usize>) {
        let before = self.pending.fetch_sub(1, Ordering::SeqCst);
        if self.lobby.is_empty() {
            return;
        }
        let now = Instant::now();
        let room = |pending| self.full(max_concurrency, pending, now).is_none();
        for pending in [before.saturating_sub(1), before] {
            if room(pending) {
                self.lobby.freed(&self.name);
            }
        }
    }

    /// [`Availability::Full`] with `pending` requests. The configured bulkhead and the learned limit both hold.
    fn full(&self, max_concurrency: Option<usize>, pending: u32, now: Instant) -> Option<Availability> {
        let configured = max_concurrency.map(|limit| u32::try_from(limit).unwrap_or(u32::MAX));
        let learned = if self.has_refused.load(Ordering::Relaxed) { self.limit.lock().current(now) } else { None };
        match (configured, learned) {
            (Some(limit), _) if pending >= limit => Some(Availability::Full { limit, learned: false }),
            (_, Some(limit)) if pending >= limit => Some(Availability::Full { limit, learned: true }),
            _ => None,
        }
    }
}

/// What a failure adds to a target's load, in seconds: at least so much that a fast refusal never looks attractive.
const LEAST_PENALTY: f64 = 1.0;
const MOST_PENALTY: f64 = 30.0;

/// How long others are told to wait while a probe is out.
const PROBE_WAIT: Duration = Duration::from_secs(1);

/// Permission to use a target once. Dropped without a word (the caller left), it says nothing about the target and gives
/// the probe's place back.
pub struct Ticket {
    station: Arc<Station>,
    dock: Arc<Dock>,
    pass: Pass,
    policy: Policy,
    target: Arc<Target>,
    pub started: Instant,
    judged: bool,
}

impl Ticket {
    /// The first token of a stream has arrived.
    pub fn first_token(&self, now: Instant) {
        let seconds = now.saturating_duration_since(self.started).as_secs_f64();
        {
            let mut live = self.station.live.lock();
            live.first_token.record(now, seconds);
            live.recent.record(seconds);
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
            let guess = speed.first_token.as_secs_f64();
            let first = live.first_token.expected(now, guess).unwrap_or(guess).max(1e-4);
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
        let hint = failure.retry_after.map(|hint| hint.min(cap));
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
        // A refusal for load, or a first token that does not come: fewer at once. A slow answer is none of them.
        if matches!(failure.kind, FailureKind::RateLimited | FailureKind::Overloaded | FailureKind::Timeout) {
            self.dock.has_refused.store(true, Ordering::Relaxed);
            self.dock.limit.lock().refused(now, self.dock.pending.load(Ordering::Relaxed));
        }
        self.judge(
            now,
            match verdict.breaker {
                Blow::Hard => Outcome::Failure,
                Blow::Busy => Outcome::Busy,
                Blow::None => Outcome::Neutral,
            },
        )
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
        live.breaker.record(&self.policy.breaker, now, self.pass, outcome, random())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.judge(self.started, Outcome::Neutral);
        self.station.pending.fetch_sub(1, Ordering::Relaxed);
        self.dock.leave(self.target.provider.max_concurrency);
    }
}

/// A number in 0..1 for jitter.
pub(super) fn random() -> f64 {
    let bits = u64::from_le_bytes(uuid::Uuid::new_v4().into_bytes()[..8].try_into().expect("eight bytes"));
    (bits >> 11) as f64 / (1u64 << 53) as f64
}
