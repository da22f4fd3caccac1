//! A time during which something is left alone. It can be extended, never shortened.

use std::time::{Duration, Instant};

/// First pause without a hint; doubles up to [`MAX`] while failures go on.
const FIRST: Duration = Duration::from_secs(5);
/// Longest pause without a hint.
const MAX: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, Default)]
pub struct CoolDown {
    until: Option<Instant>,
    /// Unhinted pauses in a row.
    streak: u32,
    pub cause: &'static str,
    /// When the pause began, if nobody asked for it.
    unasked: Option<Instant>,
    /// Until when somebody asked to be left alone.
    asked: Option<Instant>,
}

impl CoolDown {
    /// When it ends, if it has not ended yet.
    pub fn active(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| *until > now)
    }

    /// Leaves it alone for `hint`, or for a growing pause with up to 20 % jitter if there is none. `random` is in 0..1.
    pub fn extend(&mut self, now: Instant, hint: Option<Duration>, random: f64, cause: &'static str) {
        let pause = hint.unwrap_or_else(|| {
            // Failures of one burst are one: a row needs a pause between them.
            if self.active(now).is_none() {
                self.streak += 1;
            }
            let pause = FIRST.saturating_mul(1 << self.streak.saturating_sub(1).min(8)).min(MAX);
            pause.mul_f64(1.0 + 0.2 * random)
        });
        let until = now + pause;
        if hint.is_some() {
            self.asked = self.asked.max(Some(until));
        }
        if self.until.is_none_or(|current| current < until) {
            self.until = Some(until);
            self.cause = cause;
            self.unasked = if hint.is_none() { Some(now) } else { None };
        }
    }

    /// Nothing else can be used instead: shortens a pause that nobody asked for to `most`. True if that changed it.
    pub fn hasten(&mut self, most: Duration) -> bool {
        match (self.unasked, &mut self.until) {
            (Some(since), Some(until)) => {
                let earliest = (since + most).max(self.asked.unwrap_or(since));
                let shortens = *until > earliest;
                if shortens {
                    *until = earliest;
                }
                shortens
            }
            _ => false,
        }
    }

    /// A success: the next unhinted pause starts small again.
    pub fn succeeded(&mut self) {
        self.streak = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_pause_that_nobody_asked_for_is_shortened() {
        let (now, most) = (Instant::now(), Duration::from_secs(3));
        let mut cool_down = CoolDown::default();
        cool_down.extend(now, Some(Duration::from_secs(30)), 0.0, "rate_limited");
        assert!(!cool_down.hasten(most));
        let mut cool_down = CoolDown::default();
        cool_down.extend(now, None, 0.0, "rate_limited");
        assert!(cool_down.hasten(most));
        assert_eq!(cool_down.active(now), Some(now + most));
        // Asked for 8 s, then a longer pause that nobody asked for: the 8 s stand.
        let mut cool_down = CoolDown { streak: 3, ..CoolDown::default() };
        cool_down.extend(now, Some(Duration::from_secs(8)), 0.0, "rate_limited");
        cool_down.extend(now, None, 0.0, "rate_limited");
        assert!(cool_down.active(now) > Some(now + Duration::from_secs(10)) && cool_down.hasten(most));
        assert_eq!(cool_down.active(now), Some(now + Duration::from_secs(8)));
    }

    #[test]
    fn failures_of_one_burst_are_one() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut cool_down = CoolDown::default();
        for _ in 0..10 {
            cool_down.extend(now, None, 0.0, "rate_limited");
        }
        assert_eq!(cool_down.active(now), Some(now + 5 * second));
        cool_down.extend(now + 6 * second, None, 0.0, "rate_limited");
        assert_eq!(cool_down.active(now + 6 * second), Some(now + 16 * second));
    }

    #[test]
    fn the_end_never_moves_earlier() {
        let now = Instant::now();
        let mut cool_down = CoolDown::default();
        cool_down.extend(now, Some(Duration::from_secs(30)), 0.0, "rate_limited");
        cool_down.extend(now, Some(Duration::from_secs(2)), 0.0, "rate_limited");
        cool_down.extend(now, None, 0.0, "rate_limited");
        assert_eq!(cool_down.active(now), Some(now + Duration::from_secs(30)));
        cool_down.extend(now, Some(Duration::from_secs(40)), 0.0, "rate_limited");
        assert_eq!(cool_down.active(now), Some(now + Duration::from_secs(40)));
        assert_eq!(cool_down.active(now + Duration::from_secs(40)), None);
    }
}
