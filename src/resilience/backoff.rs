//! How long to wait before trying the same thing again, and whether that is affordable.

use std::time::{Duration, Instant};

/// Full jitter: a wait between 0 and `start` doubled `attempt` times, at most `max`. `random` is in 0..1.
///
/// Full jitter spreads a crowd of retries best: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
pub fn full_jitter(start: Duration, max: Duration, attempt: u32, random: f64) -> Duration {
    start.saturating_mul(1 << attempt.min(16)).min(max).mul_f64(random.clamp(0.0, 1.0))
}

/// Retries allowed as a share of ordinary traffic plus one a second: a token bucket that requests fill.
#[derive(Debug)]
pub struct Budget {
    tokens: f64,
    refilled: Instant,
}

impl Budget {
    /// Most tokens that can be saved up: enough for a blip, too few for a storm.
    const CAPACITY: f64 = 10.0;

    pub fn new(now: Instant) -> Self {
        Self { tokens: Self::CAPACITY, refilled: now }
    }

    /// Notes one ordinary request, which earns `share` of a retry.
    pub fn earn(&mut self, share: f64) {
        self.tokens = (self.tokens + share).min(Self::CAPACITY);
    }

    /// Takes one retry, if there is one.
    pub fn spend(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.refilled).as_secs_f64();
        self.refilled = now;
        self.tokens = (self.tokens + elapsed).min(Self::CAPACITY);
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
