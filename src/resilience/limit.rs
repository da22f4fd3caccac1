//! How many at once: a limit that is learned from refusals.
//!
//! Additive increase, multiplicative decrease, as TCP finds the room on a path it cannot see (Chiu and Jain, 1989). What
//! shrinks it is a refusal for load or a first sign of life that comes too late; never the total time, which for long
//! work says nothing about load. Nothing limits before the first refusal.

use std::time::{Duration, Instant};

/// A limit never falls below this: fewer in flight were hardly the reason for a refusal.
const LEAST: f64 = 4.0;
/// What remains after a refusal.
const SHRINK: f64 = 0.7;
/// Refusals of one burst shrink it once.
const APART: Duration = Duration::from_secs(1);
/// Up to this share of what was in flight at the first refusal it grows fast again.
const FAST: f64 = 0.5;
/// After this long without a refusal nothing is known any more.
const FORGET: Duration = Duration::from_secs(600);

/// One per limited thing; the caller serialises access.
#[derive(Clone, Debug, Default)]
pub struct Limit {
    learned: Option<Learned>,
}

#[derive(Clone, Debug)]
struct Learned {
    limit: f64,
    /// Up to here it grows by one per success, above by one per round of successes.
    threshold: f64,
    shrunk: Instant,
}

impl Limit {
    /// How many may be in flight; `None` while nothing was learned.
    pub fn current(&self, now: Instant) -> Option<u32> {
        let learned = self.learned.as_ref()?;
        (now.saturating_duration_since(learned.shrunk) < FORGET).then_some(learned.limit as u32)
    }

    /// A refusal for load of something that began at `began`, with `in_flight` at once (this one included). What began
    /// before the limit was last shrunk says nothing about the new one: a burst, or all that was in flight when a silence
    /// began, shrinks it once.
    pub fn refused(&mut self, now: Instant, began: Instant, in_flight: u32) {
        if self.current(now).is_none() {
            self.learned = None;
        }
        let in_flight = f64::from(in_flight);
        if in_flight <= LEAST {
            return;
        }
        let (before, threshold) = match &self.learned {
            Some(learned) if began <= learned.shrunk || now.saturating_duration_since(learned.shrunk) < APART => return,
            Some(learned) => (learned.limit.min(in_flight), learned.limit.min(in_flight) * FAST),
            None => (in_flight, in_flight * FAST),
        };
        self.learned = Some(Learned { limit: (before * SHRINK).max(LEAST), threshold, shrunk: now });
    }

    /// It works again after an outage: what the outage taught is void.
    pub fn forget(&mut self) {
        self.learned = None;
    }

    /// A success, with `in_flight` at once. Grows only where the limit was felt: room that nobody uses proves nothing.
    pub fn succeeded(&mut self, in_flight: u32) {
        let Some(learned) = &mut self.learned else { return };
        if f64::from(in_flight) * 2.0 < learned.limit {
            return;
        }
        learned.limit += if learned.limit < learned.threshold { 1.0 } else { 1.0 / learned.limit };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn nothing_limits_before_the_first_refusal() {
        let now = Instant::now();
        let mut limit = Limit::default();
        limit.succeeded(500);
        assert_eq!(limit.current(now), None);
        limit.refused(now, now, 3);
        assert_eq!(limit.current(now), None, "three at once were not too many");
    }

    #[test]
    fn a_burst_of_refusals_shrinks_it_once() {
        let now = Instant::now();
        let mut limit = Limit::default();
        for _ in 0..50 {
            limit.refused(now, now, 100);
        }
        assert_eq!(limit.current(now), Some(70));
        for second in 2..30 {
            limit.refused(now + second * SECOND, now, 70);
        }
        assert_eq!(limit.current(now), Some(70), "all of them began before");
        limit.refused(now + 2 * SECOND, now + SECOND, 70);
        assert_eq!(limit.current(now), Some(49));
    }

    #[test]
    fn it_finds_the_room_there_is_and_stays_near_it() {
        // Room for 20; every round sends as many as allowed.
        let mut now = Instant::now();
        let mut limit = Limit::default();
        let mut seen = Vec::new();
        for round in 0..400 {
            let sent = limit.current(now).unwrap_or(100);
            for _ in 0..sent {
                if sent > 20 { limit.refused(now, now, sent) } else { limit.succeeded(sent) }
            }
            now += 2 * SECOND;
            if round > 50 {
                seen.push(sent);
            }
        }
        let mean = f64::from(seen.iter().sum::<u32>()) / seen.len() as f64;
        assert!((14.0..=21.0).contains(&mean), "{mean} of 20 on average");
        assert!(seen.iter().all(|sent| *sent <= 21), "{seen:?}");
    }

    #[test]
    fn what_was_learned_long_ago_is_forgotten() {
        let now = Instant::now();
        let mut limit = Limit::default();
        limit.refused(now, now, 100);
        assert_eq!(limit.current(now + 601 * SECOND), None);
    }
}
