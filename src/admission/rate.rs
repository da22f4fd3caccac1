//! How often, how much and how many at once: the limits of a key, and of a team's keys together.
//!
//! Tokens are taken by an estimate before the call and set right after it. Nothing here waits: whoever is over a limit is
//! told when to come back.

pub mod everywhere; // the same over all replicas

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use parking_lot::Mutex;

use everywhere::Handle;

use super::shared::{Counters, Shared};
use crate::resilience::gcra::{Gcra, Quota};

const MINUTE: Duration = Duration::from_secs(60);
/// When a place becomes free nobody knows; soon, usually.
const CONCURRENCY_RETRY: Duration = Duration::from_secs(1);
/// Counters above this number are looked through for those that are whole again: tokens of an identity provider and
/// addresses come without end.
const MANY: usize = 20_000;

/// Whose counters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// By id.
    Key(Arc<str>),
    Team(Arc<str>),
    /// A caller without a key, by the number of its line.
    Nobody(u64),
}

/// What somebody may do. `None` means as much as it likes.
#[derive(Clone, Debug)]
pub struct Allowance {
    pub who: Who,
    /// The key's or the team's name, for messages.
    pub name: Arc<str>,
    pub requests_per_minute: Option<u64>,
    pub tokens_per_minute: Option<u64>,
    pub concurrency: Option<u32>,
}

impl Allowance {
    pub fn is_unlimited(&self) -> bool {
        self.requests_per_minute.is_none() && self.tokens_per_minute.is_none() && self.concurrency.is_none()
    }

    fn requests(&self) -> Option<Quota> {
        self.requests_per_minute.map(|amount| Quota { amount, period: MINUTE })
    }

    fn tokens(&self) -> Option<Quota> {
        self.tokens_per_minute.map(|amount| Quota { amount, period: MINUTE })
    }
}

/// Refused: this would be one too many.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} may {}; retry in {:.0} s", label(.who, .name), what(*.limit, *.amount), .retry_after.as_secs_f64().ceil().max(1.0))]
pub struct Limited {
    pub limit: Limit,
    pub who: Who,
    pub name: Arc<str>,
    pub amount: u64,
    pub retry_after: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    RequestsPerMinute,
    TokensPerMinute,
    Concurrency,
    TokensPerDay,
}

impl Limit {
    /// Its name in the configuration, and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RequestsPerMinute => "requests_per_minute",
            Self::TokensPerMinute => "tokens_per_minute",
            Self::Concurrency => "concurrency",
            Self::TokensPerDay => "tokens_per_day",
        }
    }
}

fn label(who: &Who, name: &str) -> String {
    match who {
        Who::Key(_) => format!("the key `{name}`"),
        Who::Team(_) => format!("the team `{name}`"),
        Who::Nobody(_) => "a caller without a key".to_owned(),
    }
}

fn what(limit: Limit, amount: u64) -> String {
    match limit {
        Limit::RequestsPerMinute => format!("make {amount} requests a minute (`requests_per_minute`)"),
        Limit::TokensPerMinute => format!("use {amount} tokens a minute (`tokens_per_minute`)"),
        Limit::Concurrency => format!("have {amount} requests under way at once (`concurrency`)"),
        Limit::TokensPerDay => format!("use {amount} tokens a day (`tokens_per_day`)"),
    }
}

/// What is left, for `x-ratelimit-*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headroom {
    pub limit: u64,
    pub remaining: u64,
    /// Until everything is there again.
    pub reset: Duration,
}

/// Of each kind the tightest one that concerns a caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headrooms {
    pub requests: Option<Headroom>,
    pub tokens: Option<Headroom>,
}

#[derive(Debug, Default)]
struct Counter {
    requests: Gcra,
    tokens: Gcra,
    in_flight: u32,
    /// Counts the changes of `in_flight`.
    version: u64,
}

impl Counter {
    fn is_whole(&self, now: Instant) -> bool {
        self.in_flight == 0 && self.requests.debt(now).is_zero() && self.tokens.debt(now).is_zero()
    }
}

/// All counters. They survive a reload: limits are looked up anew for every request.
#[derive(Default)]
pub struct Limiter {
    counters: DashMap<Who, Arc<Mutex<Counter>>>,
    /// Where other replicas count, too.
    shared: OnceLock<Shared>,
}

impl Limiter {
    /// Lets a request in that is expected to take `tokens`, or nothing at all is taken.
    pub fn admit(&self, allowances: &[Allowance], tokens: u64, now: Instant) -> Result<Admitted, Limited> {
        let mut admitted =
            Admitted { held: Vec::new(), headrooms: Headrooms::default(), tokens, shared: None, counted_in: 0 };
        for allowance in allowances.iter().filter(|allowance| !allowance.is_unlimited()) {
            let counter = self.counter(&allowance.who, now);
            let taken = take(&mut counter.lock(), allowance, tokens, now);
            match taken {
                Ok(headrooms) => {
                    admitted.headrooms.tighten(headrooms);
                    admitted.held.push((counter, allowance.clone()));
                }
                Err(limited) => {
                    admitted.undo(now);
                    return Err(limited);
                }
            }
        }
        Ok(admitted)
    }

    /// Refuses a request that would be refused after its body was read, too. Takes nothing.
    pub fn check(&self, allowances: &[Allowance], now: Instant) -> Result<(), Limited> {
        for allowance in allowances.iter().filter(|allowance| !allowance.is_unlimited()) {
            let Some(counter) = self.counters.get(&allowance.who).map(|counter| counter.clone()) else { continue };
            let counter = counter.lock();
            let mut copy = Counter { ..*counter };
            take(&mut copy, allowance, 0, now)?;
        }
        Ok(())
    }

    /// What is left to somebody who takes nothing now.
    pub fn headrooms(&self, allowances: &[Allowance], now: Instant) -> Headrooms {
        let mut all = Headrooms::default();
        for allowance in allowances {
            let counter = self.counters.get(&allowance.who).map(|counter| counter.clone());
            let seen = counter.map_or_else(
                || headrooms(&Counter::default(), allowance, now),
                |counter| headrooms(&counter.lock(), allowance, now),
            );
            all.tighten(seen);
        }
        all
    }

    fn counter(&self, who: &Who, now: Instant) -> Arc<Mutex<Counter>> {
        if let Some(counter) = self.counters.get(who) {
            return counter.clone();
        }
        if self.counters.len() >= MANY {
            // One that is held by a request in flight stays.
            self.counters.retain(|_, counter| Arc::strong_count(counter) > 1 || !counter.lock().is_whole(now));
        }
        self.counters.entry(who.clone()).or_default().clone()
    }
}

fn take(counter: &mut Counter, allowance: &Allowance, tokens: u64, now: Instant) -> Result<Headrooms, Limited> {
    let limited = |limit, amount, retry_after| Limited {
        limit,
        who: allowance.who.clone(),
        name: allowance.name.clone(),
        amount,
        retry_after,
    };
    if let Some(most) = allowance.concurrency.filter(|most| counter.in_flight >= *most) {
        return Err(limited(Limit::Concurrency, most.into(), CONCURRENCY_RETRY));
    }
    let before = counter.requests;
    if let Some(quota) = allowance.requests() {
        let taken = counter.requests.take(quota, 1, now);
        taken.map_err(|wait| limited(Limit::RequestsPerMinute, quota.amount, wait))?;
    }
    if let Some(quota) = allowance.tokens() {
        // At least one: whoever is in debt waits, however short the prompt.
        if let Err(wait) = counter.tokens.take(quota, tokens.max(1), now) {
            counter.requests = before;
            return Err(limited(Limit::TokensPerMinute, quota.amount, wait));
        }
    }
    counter.in_flight += 1;
    counter.version += 1;
    Ok(headrooms(counter, allowance, now))
}

fn headrooms(counter: &Counter, allowance: &Allowance, now: Instant) -> Headrooms {
    let of = |gcra: &Gcra, quota: Quota| Headroom {
        limit: quota.amount,
        remaining: gcra.remaining(quota, now),
        reset: gcra.debt(now),
    };
    Headrooms {
        requests: allowance.requests().map(|quota| of(&counter.requests, quota)),
        tokens: allowance.tokens().map(|quota| of(&counter.tokens, quota)),
    }
}

impl Headrooms {
    fn tighten(&mut self, other: Self) {
        let tighter = |mine: Option<Headroom>, other: Option<Headroom>| match (mine, other) {
            (Some(mine), Some(other)) => Some(if other.remaining < mine.remaining { other } else { mine }),
            (mine, other) => mine.or(other),
        };
        self.requests = tighter(self.requests, other.requests);
        self.tokens = tighter(self.tokens, other.tokens);
    }
}

/// A request that is in. Its place is given back by dropping it; its tokens are what was estimated until
/// [`Admitted::settle`] says better.
pub struct Admitted {
    held: Vec<(Arc<Mutex<Counter>>, Allowance)>,
    pub headrooms: Headrooms,
    tokens: u64,
    /// Who is to be told of the end.
    shared: Option<Arc<dyn Counters>>,
    /// The term in which it has taken the tokens, too; 0: it has not. A store that was found anew knows nothing of them, and
    /// nothing of them comes back there.
    counted_in: u64,
}

impl Admitted {
    /// Puts the tokens that were really used in the place of the estimate. Once.
    pub fn settle(self, used: u64, now: Instant) {
        let taken = self.tokens.max(1);
        for (counter, allowance) in &self.held {
            let Some(quota) = allowance.tokens() else { continue };
            if let Some(shared) =
                self.shared.as_ref().filter(|shared| self.counted_in > 0 && self.counted_in == shared.term())
            {
                let handle = Handle { who: allowance.who.clone(), counter: counter.clone() };
                let amount = |tokens: u64| i64::try_from(tokens).unwrap_or(i64::MAX);
                shared.ended(handle, allowance.tokens_per_minute, amount(used) - amount(taken));
            }
            let mut counter = counter.lock();
            if used < taken {
                counter.tokens.give_back(quota, taken - used, now);
            } else {
                counter.tokens.owe(quota, used - taken, now);
            }
        }
    }

    /// As if it had never come.
    fn undo(self, now: Instant) {
        for (counter, allowance) in &self.held {
            let mut counter = counter.lock();
            if let Some(quota) = allowance.requests() {
                counter.requests.give_back(quota, 1, now);
            }
            if let Some(quota) = allowance.tokens() {
                counter.tokens.give_back(quota, self.tokens.max(1), now);
            }
        }
    }
}

impl std::fmt::Debug for Admitted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admitted").field("headrooms", &self.headrooms).finish_non_exhaustive()
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        for (counter, allowance) in &self.held {
            {
                let mut counter = counter.lock();
                counter.in_flight -= 1;
                counter.version += 1;
            }
            if let Some(shared) = &self.shared {
                shared.ended(Handle { who: allowance.who.clone(), counter: counter.clone() }, None, 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Allowance {
        Allowance {
            who: Who::Key(name.into()),
            name: name.into(),
            requests_per_minute: Some(2),
            tokens_per_minute: Some(100),
            concurrency: Some(2),
        }
    }

    fn team() -> Allowance {
        Allowance { who: Who::Team("t".into()), requests_per_minute: Some(3), tokens_per_minute: None, ..key("t") }
    }

    #[test]
    fn a_refusal_by_one_limit_takes_nothing_from_the_others() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        let first = limiter.admit(&[key("a"), team()], 10, now).expect("room");
        let second = limiter.admit(&[key("a"), team()], 10, now).expect("room");
        assert_eq!(first.headrooms.requests.map(|room| room.remaining), Some(1));
        assert_eq!(second.headrooms.requests.map(|room| room.remaining), Some(0));
        let refused = limiter.admit(&[key("a"), team()], 10, now).expect_err("both are under way");
        assert_eq!(refused.limit, Limit::Concurrency);
        drop((first, second));
        assert_eq!(
            limiter.admit(&[key("a"), team()], 10, now).expect_err("both are used").limit,
            Limit::RequestsPerMinute
        );
        assert!(limiter.admit(&[team(), key("a")], 10, now).is_err(), "the team's is given back");
        assert!(
            limiter.admit(&[key("b"), team()], 10, now).is_ok(),
            "the team has one left, and the refused took none"
        );
        assert_eq!(limiter.admit(&[key("c"), team()], 10, now).expect_err("the team has none").who, team().who);
        assert_eq!(limiter.headrooms(&[key("c")], now).requests.map(|room| room.remaining), Some(2));
    }

    #[test]
    fn tokens_are_set_right_by_what_was_used() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        let left = || limiter.headrooms(&[key("a")], now).tokens.map(|room| room.remaining);
        limiter.admit(&[key("a")], 60, now).expect("room").settle(10, now);
        assert_eq!(left(), Some(90));
        limiter.admit(&[key("a")], 60, now).expect("room").settle(90, now);
        assert_eq!(left(), Some(0));
        let refused = limiter.check(&[key("a")], now).expect_err("no request is left either");
        assert!(refused.to_string().contains("the key `a` may make 2 requests a minute"), "{refused}");
    }
}
