//! How long to wait before trying the same thing again, and whether that is affordable.

use std::time::{Duration, Instant};

/// Full jitter: a wait between 0 and `start` doubled `attempt` times, at most `max`. `random` is in 0..1.
///
/// Full jitter spreads a crowd of retries best: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
pub fn full_jitter(start: Duration, max: Duration, attempt: u32, random: f64) -> Duration {
    start.saturating_mul(1 << attempt.min(16)).min(max).mul_f64(random.clamp(0.0, 1.0))
}

/// Extra tries allowed as a share of ordinary traffic: a token bucket that requests fill.
#[derive(Debug)]
pub struct Budget {
    tokens: f64,
    /// Tokens that come without traffic.
    per_second: f64,
    refilled: Instant,
}

impl Budget {
    /// Most tokens that can be saved up: enough for a blip, too few for a storm.
    const CAPACITY: f64 = 10.0;

    /// Full, and refilled by one a second beside the share: for retries, which a caller with little traffic needs too.
    pub fn new(now: Instant) -> Self {
        Self { tokens: Self::CAPACITY, per_second: 1.0, refilled: now }
    }

    /// Empty, and filled by nothing but the share: never more extra tries than that.
    pub fn strict(now: Instant) -> Self {
        Self { tokens: 0.0, per_second: 0.0, refilled: now }
    }

    /// Notes one ordinary request, which earns `share` of a retry.
    pub fn earn(&mut self, share: f64) {
        self.tokens = (self.tokens + share).min(Self::CAPACITY);
    }

    /// Takes one retry, if there is one.
    pub fn spend(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.refilled).as_secs_f64();
        self.refilled = now;
        self.tokens = (self.tokens + elapsed * self.per_second).min(Self::CAPACITY);
        let affordable = self.tokens >= 1.0;
        if affordable {
            self.tokens -= 1.0;
        }
        affordable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_never_beyond() {
        let (start, max) = (Duration::from_millis(250), Duration::from_secs(4));
        assert_eq!(full_jitter(start, max, 0, 1.0), start);
        assert_eq!(full_jitter(start, max, 3, 1.0), Duration::from_secs(2));
        assert_eq!(full_jitter(start, max, 40, 1.0), max);
        assert_eq!(full_jitter(start, max, 3, 0.0), Duration::ZERO);
    }

    #[test]
    fn a_strict_share_is_never_exceeded() {
        let now = Instant::now();
        let mut budget = Budget::strict(now);
        let mut spent = 0;
        for _ in 0..1000 {
            budget.earn(0.05);
            spent += u32::from(budget.spend(now));
        }
        assert!((49..=50).contains(&spent), "{spent} of 1000");
    }

    #[test]
    fn in_steady_failure_retries_stay_within_the_share() {
        let now = Instant::now();
        let mut budget = Budget::new(now);
        let mut retries = 0;
        for _ in 0..1000 {
            budget.earn(0.2);
            retries += u32::from(budget.spend(now));
        }
        assert!((200..=210).contains(&retries), "{retries} retries for 1000 requests");
    }
}
