//! The live state of every target: breaker, cool-down, speed, requests in flight. Survives reloads.

mod dock;
mod station;
mod ticket;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dashmap::DashMap;

use super::settings::Policy;
use crate::admission::lobby::Lobby;
use crate::catalog::{Target, TargetId};
use crate::events::notes::Notes;
use crate::rank::score::{Availability, Vitals};
use crate::resilience::breaker::State;
use crate::resilience::cooldown::CoolDown;
use crate::resilience::ewma::Guess;
use dock::Dock;
pub use dock::Reserved;
use station::Station;
pub use ticket::Ticket;

#[derive(Default)]
pub struct Fleet {
    stations: DashMap<TargetId, Arc<Station>>,
    providers: DashMap<Arc<str>, Arc<Dock>>,
    /// Requests that wait for a place at a provider.
    pub lobby: Arc<Lobby<Reserved>>,
    /// Where breakers say that they opened or closed.
    pub notes: Notes,
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
        self.stations.entry(id.clone()).or_insert_with(|| Arc::new(Station::new(now))).clone()
    }

    fn dock(&self, provider: &Arc<str>, now: Instant) -> Arc<Dock> {
        if let Some(dock) = self.providers.get(provider) {
            return dock.clone();
        }
        self.providers
            .entry(provider.clone())
            .or_insert_with(|| Arc::new(Dock::new(provider, &self.lobby, &self.notes, now)))
            .clone()
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
        // Of several pauses the one that ends last is what counts.
        let cool_down = live.cool_down.active(now).map(|until| (until, live.cool_down.cause));
        let cool_down = [account, cool_down].into_iter().flatten().max_by_key(|(until, _)| *until);
        let availability = match (live.breaker.state(now), cool_down) {
            (State::Open { until }, pause) if pause.is_none_or(|(end, _)| end < until) => {
                Availability::Open { remaining: until - now, cause: live.breaker.cause().to_owned() }
            }
            (_, Some(pause)) => cooling(pause),
            // A probe is out: everybody else goes elsewhere until it is back.
            (State::HalfOpen, None) if !live.breaker.would_admit(&policy.breaker, now) => {
                Availability::Open { remaining: PROBE_WAIT, cause: "a probe is in flight".to_owned() }
            }
            (State::HalfOpen, None) => Availability::HalfOpen,
            (State::Closed | State::Open { .. }, None) => self.full(target, now).unwrap_or_default(),
        };
        let speed = &target.model.speed;
        let guess = |value| Guess { value, weight: speed.weight() };
        let first_token = live.first_token.expected(now, guess(speed.first_token.as_secs_f64()));
        let vitals = Vitals {
            first_token: first_token.map(Duration::from_secs_f64),
            slowed_from: live.first_token.slowed(now).map(Duration::from_secs_f64),
            tokens_per_second: live.tokens_per_second.expected(guess(speed.tokens_per_second)),
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
    /// `place` is used if it is one at this target's provider.
    pub fn begin(
        &self,
        target: &Arc<Target>,
        policy: &Policy,
        now: Instant,
        place: &mut Option<Reserved>,
    ) -> Option<Ticket> {
        let (station, dock) = (self.station(&target.id, now), self.dock(&target.provider.name, now));
        // The provider's place is taken first: it can be given back, a probe that never left cannot be judged.
        match place.take_if(|place| *place.provider() == *target.provider.name) {
            Some(reserved) => reserved.take_over(),
            None if dock.enter(target.provider.max_concurrency, now) => {}
            None => return None,
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
            begun: false,
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

/// How long others are told to wait while a probe is out.
const PROBE_WAIT: Duration = Duration::from_secs(1);

/// A number in 0..1 for jitter.
pub(super) fn random() -> f64 {
    let bits = u64::from_le_bytes(uuid::Uuid::new_v4().into_bytes()[..8].try_into().expect("eight bytes"));
    (bits >> 11) as f64 / (1u64 << 53) as f64
}
