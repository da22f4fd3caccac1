//! Moving averages of what was measured.

use std::time::{Duration, Instant};

/// Time after which a deviation from the usual has lost two thirds of its weight.
const DECAY: Duration = Duration::from_secs(10);
/// Time constant of what is usual: a burst of odd measurements, such as all requests in flight when a stall begins, must
/// not become the norm.
const USUAL: Duration = Duration::from_secs(300);
/// First measurements, all of the same weight.
const FIRST: u64 = 10;
/// Time after which an old measurement is worth two thirds less against the first guess.
const CONFIDENCE: Duration = Duration::from_secs(1200);
/// So many times what is usual is slow, if the difference, in seconds, can be felt.
const SLOWED: f64 = 2.0;
const FELT: f64 = 0.1;

/// What remains of a weight of 1 after `age`.
fn fade(age: Duration, constant: Duration) -> f64 {
    (-age.as_secs_f64() / constant.as_secs_f64()).exp()
}

/// A time that is measured again and again: a peak over what is usual.
///
/// The peak jumps up to a worse value at once and comes down with better ones: a target that turns slow is noticed with
/// its first slow answer. Without measurements it fades back to the usual within half a minute, because nobody asks a
/// target that looks slow: it has to be asked again before it can look better.
#[derive(Clone, Debug, Default)]
pub struct Latency {
    /// Seconds; meaningless before the first measurement, as is `usual`.
    peak: f64,
    usual: f64,
    measured: Option<Instant>,
    samples: u64,
}

impl Latency {
    pub fn record(&mut self, now: Instant, seconds: f64) {
        self.samples += 1;
        let Some(measured) = self.measured.replace(now) else {
            (self.peak, self.usual) = (seconds, seconds);
            return;
        };
        let age = now.saturating_duration_since(measured);
        let peak = self.faded(age);
        self.peak = if seconds >= peak {
            seconds
        } else {
            // At least a tenth of the way per sample: a busy target would otherwise hold its peak for ever.
            let keep = fade(age, DECAY).min(0.9);
            peak * keep + seconds * (1.0 - keep)
        };
        let share = if self.samples <= FIRST { 1.0 / self.samples as f64 } else { 1.0 - fade(age, USUAL) };
        self.usual += (seconds - self.usual) * share;
    }

    /// What was usual, in seconds, where it takes much longer than that now.
    pub fn slowed(&self, now: Instant) -> Option<f64> {
        let current = self.faded(now.saturating_duration_since(self.measured?));
        (current > self.usual * SLOWED && current - self.usual > FELT).then_some(self.usual)
    }

    fn faded(&self, age: Duration) -> f64 {
        self.usual + (self.peak - self.usual) * fade(age, DECAY)
    }

    /// Seconds to expect now, where `guess` was expected before anything was measured. `None` before that.
    pub fn expected(&self, now: Instant, guess: Guess) -> Option<f64> {
        let age = now.saturating_duration_since(self.measured?);
        let samples = self.samples as f64 * fade(age, CONFIDENCE);
        Some(blend(guess, self.faded(age), samples))
    }
}

/// A plain moving mean over about the last ten measurements.
#[derive(Clone, Debug, Default)]
pub struct Mean {
    value: f64,
    samples: u64,
}

impl Mean {
    pub fn record(&mut self, value: f64) {
        self.samples += 1;
        let share = (1.0 / self.samples as f64).max(0.1);
        self.value += (value - self.value) * share;
    }

    /// What to expect where `guess` was expected before anything was measured. `None` before that.
    pub fn expected(&self, guess: Guess) -> Option<f64> {
        (self.samples > 0).then(|| blend(guess, self.value, self.samples as f64))
    }

    /// `None` before the first measurement.
    pub fn get(&self) -> Option<f64> {
        (self.samples > 0).then_some(self.value)
    }
}

/// What was expected before anything was measured.
#[derive(Clone, Copy, Debug)]
pub struct Guess {
    pub value: f64,
    /// As many measurements as it is worth, so that one lucky or unlucky answer does not decide.
    pub weight: f64,
}

/// A guess, replaced by measurements as they come in.
fn blend(guess: Guess, measured: f64, samples: f64) -> f64 {
    let share = samples / (samples + guess.weight);
    guess.value * (1.0 - share) + measured * share
}

/// A penalty that fades. Failures are no measurements of a latency, but whoever fails fast must not look fast.
#[derive(Clone, Debug, Default)]
pub struct Penalty {
    seconds: f64,
    since: Option<Instant>,
}

impl Penalty {
    /// At least `seconds` from now on.
    pub fn raise(&mut self, now: Instant, seconds: f64) {
        self.seconds = self.at(now).max(seconds);
        self.since = Some(now);
    }

    pub fn at(&self, now: Instant) -> f64 {
        self.since.map_or(0.0, |since| self.seconds * fade(now.saturating_duration_since(since), DECAY))
    }
}

/// Measurements kept for a quantile.
const KEPT: usize = 64;
/// Fewer say nothing about a tail.
const ENOUGH: usize = 20;

/// The last measurements, for a quantile.
#[derive(Clone, Debug, Default)]
pub struct Recent {
    seconds: Vec<f32>,
    next: usize,
}

impl Recent {
    pub fn record(&mut self, seconds: f64) {
        let seconds = seconds as f32;
        if self.seconds.len() < KEPT {
            self.seconds.push(seconds);
        } else {
            self.seconds[self.next] = seconds;
        }
        self.next = (self.next + 1) % KEPT;
    }

    /// The value that 95 % of the last measurements do not exceed, in seconds; `None` before there are 20.
    pub fn p95(&self) -> Option<f64> {
        if self.seconds.len() < ENOUGH {
            return None;
        }
        let mut sorted = self.seconds.clone();
        let place = (sorted.len() * 95).div_ceil(100) - 1;
        let (_, value, _) = sorted.select_nth_unstable_by(place, f32::total_cmp);
        Some(f64::from(*value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A target that answered in 0.1 s for a minute.
    fn usual(now: Instant) -> Latency {
        let mut latency = Latency::default();
        for second in 0..60 {
            latency.record(now + second * SECOND, 0.1);
        }
        latency
    }

    #[test]
    fn a_peak_rises_at_once_and_falls_slowly() {
        let now = Instant::now();
        let mut latency = usual(now);
        latency.record(now + 60 * SECOND, 2.0);
        let at = |latency: &Latency, second: u32| {
            latency.expected(now + second * SECOND, Guess { value: 0.1, weight: 4.0 }).expect("measured")
        };
        assert!(at(&latency, 60) > 1.8);
        latency.record(now + 61 * SECOND, 0.1);
        assert!(at(&latency, 61) > 1.4);
        for second in 62..120 {
            latency.record(now + second * SECOND, 0.1);
        }
        assert!(at(&latency, 120) < 0.15);
    }

    #[test]
    fn whoever_is_not_asked_looks_usual_again_after_half_a_minute() {
        let now = Instant::now();
        let mut latency = usual(now);
        // All that was in flight when it turned slow.
        for _ in 0..50 {
            latency.record(now + 60 * SECOND, 2.0);
        }
        let at =
            |second: u32| latency.expected(now + second * SECOND, Guess { value: 0.1, weight: 4.0 }).expect("measured");
        assert_eq!(latency.slowed(now + 61 * SECOND).map(|usual| usual < 0.5), Some(true));
        assert_eq!(latency.slowed(now + 120 * SECOND), None);
        assert!(at(61) > 1.5 && at(70) > 0.6, "still looks slow: {} {}", at(61), at(70));
        assert!(at(100) < 0.2, "looks usual: {}", at(100));
    }

    #[test]
    fn what_was_measured_outweighs_the_guess_until_it_is_old() {
        let now = Instant::now();
        let latency = usual(now);
        let at =
            |second: u32| latency.expected(now + second * SECOND, Guess { value: 1.0, weight: 4.0 }).expect("measured");
        assert!(at(60) < 0.2);
        assert!(at(3 * 3600) > 0.9);
    }

    #[test]
    fn a_penalty_fades_and_is_never_lowered_by_a_smaller_one() {
        let now = Instant::now();
        let mut penalty = Penalty::default();
        penalty.raise(now, 5.0);
        penalty.raise(now, 1.0);
        assert_eq!(penalty.at(now), 5.0);
        assert!(penalty.at(now + 60 * SECOND) < 0.02);
    }

    #[test]
    fn the_tail_is_known_once_there_is_one() {
        let mut recent = Recent::default();
        for value in 1..=19 {
            recent.record(f64::from(value));
        }
        assert_eq!(recent.p95(), None);
        for value in 20..=100 {
            recent.record(f64::from(value));
        }
        // The last 64 are 37 to 100; the 61st of them is 97.
        assert_eq!(recent.p95(), Some(97.0));
    }
}
