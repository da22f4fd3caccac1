//! Limits over all replicas: what is within them here is asked of a shared store, too.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{Admitted, Allowance, Counter, Headroom, Headrooms, Limit, Limited, Limiter, MINUTE, Who};
use crate::admission::shared::{Claim, Counters, Gone, Levels, Shared};
use crate::resilience::patience::Patience;

/// A caller's requests under way here, for the other replicas to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Presence {
    pub in_flight: u32,
    /// The larger, the newer.
    pub version: u64,
}

/// One caller's counters.
#[derive(Clone, Debug)]
pub struct Handle {
    pub who: Who,
    pub(super) counter: Arc<Mutex<Counter>>,
}

impl Handle {
    pub fn presence(&self) -> Presence {
        self.counter.lock().presence()
    }
}

impl Counter {
    fn presence(&self) -> Presence {
        Presence { in_flight: self.in_flight, version: self.version }
    }
}

impl Allowance {
    /// What one of so many replicas may let in where they cannot ask each other.
    fn share(&self, replicas: u32) -> Self {
        let part = |amount: u64| amount.div_ceil(u64::from(replicas.max(1)));
        Self {
            requests_per_minute: self.requests_per_minute.map(part),
            tokens_per_minute: self.tokens_per_minute.map(part),
            concurrency: self.concurrency.map(|amount| amount.div_ceil(replicas.max(1))),
            ..self.clone()
        }
    }
}

impl Limiter {
    /// From now on limits hold over all replicas. Once.
    pub fn share(&self, shared: Shared) {
        let _ = self.shared.set(shared);
    }

    /// [`Self::admit`], over all replicas. What is over a limit here is over it everywhere, and asks nobody. While the
    /// shared store is gone, each replica lets in its part.
    pub async fn admit_everywhere(
        &self,
        allowances: &[Allowance],
        tokens: u64,
        patience: &Patience,
    ) -> Result<Admitted, Limited> {
        let now = Instant::now();
        let Some(shared) = self.shared.get() else { return self.admit(allowances, tokens, now) };
        let term = shared.counters.term();
        if term == 0 {
            return self.admit_a_part(shared, allowances, tokens, now);
        }
        let mut admitted = self.admit(allowances, tokens, now)?;
        let claim = |(counter, allowance): &(Arc<Mutex<Counter>>, Allowance)| {
            let presence = counter.lock().presence();
            Claim { allowance: allowance.clone(), tokens, presence }
        };
        let claims: Vec<Claim> = admitted.held.iter().map(claim).collect();
        // Before the question: a caller who leaves meanwhile leaves no place taken.
        admitted.shared = Some(shared.counters.clone());
        let taken = shared.counters.take(&claims, patience).await;
        match taken {
            Ok(Ok(levels)) => {
                let mut headrooms = Headrooms::default();
                let seen = admitted.held.iter().zip(levels);
                seen.for_each(|((_, allowance), levels)| headrooms.tighten(left(allowance, levels)));
                admitted.headrooms = headrooms;
                admitted.counted_in = term;
                Ok(admitted)
            }
            Ok(Err(short)) => {
                let allowance = admitted.held[short.index].1.clone();
                admitted.undo(now);
                let Allowance { who, name, .. } = allowance;
                let amount = match short.limit {
                    Limit::TokensPerMinute => allowance.tokens_per_minute,
                    Limit::Concurrency => allowance.concurrency.map(u64::from),
                    Limit::RequestsPerMinute | Limit::TokensPerDay => allowance.requests_per_minute,
                };
                let amount = amount.unwrap_or_default();
                Err(Limited { limit: short.limit, who, name, amount, retry_after: short.retry_after })
            }
            // It went in this moment.
            Err(Gone) => {
                admitted.undo(now);
                self.admit_a_part(shared, allowances, tokens, now)
            }
        }
    }

    /// What is this replica's part, as long as nobody can be asked.
    fn admit_a_part(
        &self,
        shared: &Shared,
        allowances: &[Allowance],
        tokens: u64,
        now: Instant,
    ) -> Result<Admitted, Limited> {
        let replicas = shared.counters.standing().replicas;
        let parts: Vec<_> = allowances.iter().map(|allowance| allowance.share(replicas)).collect();
        let mut admitted = self.admit(&parts, tokens, now)?;
        admitted.shared = Some(shared.counters.clone());
        Ok(admitted)
    }

    /// Tells the shared store of every request under way: it may have forgotten them.
    pub fn tell_all(&self, counters: &dyn Counters) {
        for entry in &self.counters {
            let handle = Handle { who: entry.key().clone(), counter: entry.value().clone() };
            if handle.presence().in_flight > 0 {
                counters.ended(handle, None, 0);
            }
        }
    }
}

/// What is left over all replicas.
fn left(allowance: &Allowance, levels: Levels) -> Headrooms {
    let of = |limit: Option<u64>, level: u64| {
        limit.map(|limit| {
            let nanos = MINUTE.as_nanos() * u128::from(level) / u128::from(limit.max(1));
            let reset = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
            Headroom { limit, remaining: limit.saturating_sub(level), reset }
        })
    };
    Headrooms {
        requests: of(allowance.requests_per_minute, levels.requests),
        tokens: of(allowance.tokens_per_minute, levels.tokens),
    }
}
