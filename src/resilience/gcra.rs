//! An even rate with room for a burst: the generic cell rate algorithm (ITU-T I.371), as a virtual schedule.
//!
//! One point in time per limit is all there is to keep: when the burst will be whole again. There are no windows, so there
//! is no edge at which twice the limit gets through.

use std::time::{Duration, Instant};

/// So much in so much time. All of it may come at once after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// At least 1.
    pub amount: u64,
    pub period: Duration,
}

impl Quota {
    /// How long `cost` takes to come back.
    fn time_of(self, cost: u64) -> Duration {
        let nanos = self.period.as_nanos().saturating_mul(u128::from(cost)) / u128::from(self.amount.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// The state of one limit. New ones are whole.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gcra {
    /// When nothing is missing any more; in the past if nothing is.
    whole_at: Option<Instant>,
}

impl Gcra {
    /// Takes `cost`, or says how long until it is there. What is more than the whole burst is never there: it takes the
    /// whole burst, and what is beyond is paid off afterwards.
    pub fn take(&mut self, quota: Quota, cost: u64, now: Instant) -> Result<(), Duration> {
        let debt = self.debt(now);
        let needed = quota.time_of(cost.min(quota.amount));
        // A nanosecond is lost where the amount does not divide the period.
        let room = quota.period + Duration::from_nanos(1);
        match (debt + needed).checked_sub(room) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => {
                self.whole_at = now.checked_add(debt.saturating_add(quota.time_of(cost)));
                Ok(())
            }
        }
    }

    /// Gives back what was taken and not used.
    pub fn give_back(&mut self, quota: Quota, cost: u64, now: Instant) {
        self.whole_at = now.checked_add(self.debt(now).saturating_sub(quota.time_of(cost)));
    }

    /// Takes what was used beyond what was taken, whether it is there or not.
    pub fn owe(&mut self, quota: Quota, cost: u64, now: Instant) {
        self.whole_at = now.checked_add(self.debt(now).saturating_add(quota.time_of(cost)));
    }

    /// How much could be taken now.
    pub fn remaining(&self, quota: Quota, now: Instant) -> u64 {
        let free = quota.period.saturating_sub(self.debt(now)).as_nanos() + u128::from(quota.amount);
        let count = free * u128::from(quota.amount) / quota.period.as_nanos().max(1);
        u64::try_from(count).unwrap_or(u64::MAX).min(quota.amount)
    }

    /// Until nothing is missing.
    pub fn debt(&self, now: Instant) -> Duration {
        self.whole_at.map_or(Duration::ZERO, |whole_at| whole_at.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_burst_then_an_even_rate_and_no_double_burst_at_any_edge() {
        let quota = Quota { amount: 3, period: MINUTE };
        let (mut limit, start) = (Gcra::default(), Instant::now());
        for left in [2, 1, 0] {
            assert_eq!(limit.take(quota, 1, start), Ok(()));
            assert_eq!(limit.remaining(quota, start), left);
        }
        let wait = limit.take(quota, 1, start).expect_err("the burst is over");
        assert!(wait <= Duration::from_secs(20) && wait > Duration::from_millis(19_999), "{wait:?}");
        let later = start + Duration::from_secs(20);
        assert_eq!(limit.take(quota, 1, later), Ok(()));
        assert!(limit.take(quota, 1, later).is_err(), "a third of the minute, a third of the burst");
        assert_eq!(limit.remaining(quota, later + MINUTE), 3);
    }

    #[test]
    fn what_was_not_used_comes_back_and_what_was_used_beyond_is_paid_off() {
        let quota = Quota { amount: 1000, period: MINUTE };
        let (mut limit, now) = (Gcra::default(), Instant::now());
        limit.take(quota, 800, now).expect("room");
        limit.give_back(quota, 700, now);
        assert_eq!(limit.remaining(quota, now), 900);
        limit.owe(quota, 1900, now);
        assert_eq!(limit.remaining(quota, now), 0);
        let wait = limit.take(quota, 1, now).expect_err("in debt");
        assert!(wait > MINUTE && wait < MINUTE + Duration::from_secs(1), "{wait:?}");
        // More than the limit gets in when the burst is whole, and pays for it.
        let later = now + 2 * MINUTE;
        assert_eq!(limit.take(quota, 2500, later), Ok(()));
        assert_eq!(limit.remaining(quota, later + MINUTE), 0);
    }

    proptest! {
        /// In no stretch of time, wherever it begins, gets more through than the burst and what came back meanwhile.
        #[test]
        fn no_stretch_of_time_lets_more_through(
            amount in 1u64..200,
            steps in proptest::collection::vec((0u64..5_000, 1u64..20), 1..200),
        ) {
            let quota = Quota { amount, period: MINUTE };
            let (mut limit, start) = (Gcra::default(), Instant::now());
            let (mut at, mut taken) = (Duration::ZERO, Vec::new());
            for (pause_ms, cost) in steps {
                at += Duration::from_millis(pause_ms);
                let cost = cost.min(amount);
                if limit.take(quota, cost, start + at).is_ok() {
                    taken.push((at, cost));
                }
            }
            for from in 0..taken.len() {
                let mut sum = 0;
                for (until, cost) in &taken[from..] {
                    sum += cost;
                    let came_back = amount as f64 * (*until - taken[from].0).as_secs_f64() / 60.0;
                    prop_assert!(sum as f64 <= amount as f64 + came_back + 0.001, "{sum} of {amount} + {came_back}");
                }
            }
        }
    }
}
