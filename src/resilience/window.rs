//! Exact counts of good and bad outcomes over a sliding span.
//!
//! Exact counts in slices and not a decaying mean: a burst of failures must trip the breaker as surely as a trickle,
//! and "7 of 10 failed" can be told to an operator.

use std::time::{Duration, Instant};

/// Slices of the window. Ten expire old samples smoothly and keep the sum trivial.
const SLICES: usize = 10;

#[derive(Clone, Debug)]
pub struct Window {
    slices: [(u32, u32); SLICES],
    /// Index of the slice that `slices[0]` stood for when time began; grows without bound.
    newest: u64,
    began: Instant,
}

impl Window {
    pub fn new(now: Instant) -> Self {
        Self { slices: [(0, 0); SLICES], newest: 0, began: now }
    }

    /// Counts one outcome. A clock that stands still or repeats is fine.
    pub fn record(&mut self, span: Duration, now: Instant, good: bool) {
        self.advance(span, now);
        let slice = &mut self.slices[(self.newest % SLICES as u64) as usize];
        if good { slice.0 += 1 } else { slice.1 += 1 }
    }

    /// (good, bad) over the last `span`.
    pub fn totals(&mut self, span: Duration, now: Instant) -> (u32, u32) {
        self.advance(span, now);
        self.slices.iter().fold((0, 0), |(good, bad), slice| (good + slice.0, bad + slice.1))
    }

    pub fn clear(&mut self) {
        self.slices = [(0, 0); SLICES];
    }

    fn advance(&mut self, span: Duration, now: Instant) {
        let slice = (span / SLICES as u32).max(Duration::from_millis(1));
        let current = (now.saturating_duration_since(self.began).as_nanos() / slice.as_nanos()) as u64;
        let expired = current.saturating_sub(self.newest).min(SLICES as u64);
        for step in 1..=expired {
            self.slices[((self.newest + step) % SLICES as u64) as usize] = (0, 0);
        }
        if expired == SLICES as u64 {
            self.slices = [(0, 0); SLICES];
        }
        self.newest = self.newest.max(current);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_expire_after_the_span() {
        let (start, span) = (Instant::now(), Duration::from_secs(10));
        let mut window = Window::new(start);
        window.record(span, start, false);
        window.record(span, start + Duration::from_secs(5), true);
        assert_eq!(window.totals(span, start + Duration::from_secs(9)), (1, 1));
        assert_eq!(window.totals(span, start + Duration::from_secs(11)), (1, 0));
        assert_eq!(window.totals(span, start + Duration::from_secs(60)), (0, 0));
    }
}
