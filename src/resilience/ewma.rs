//! Moving averages of what was measured.

use std::time::{Duration, Instant};

/// Time after which an old measurement has lost two thirds of its weight.
const DECAY: Duration = Duration::from_secs(10);

/// Peak EWMA: jumps up to a worse value at once, comes down over `DECAY`. A target that turns slow is noticed with its
/// first slow answer; one that recovers has to prove it.
#[derive(Clone, Debug, Default)]
pub struct Peak {
    /// Seconds; meaningless before the first measurement.
    value: f64,
    measured: Option<Instant>,
    pub samples: u64,
}

impl Peak {
    pub fn record(&mut self, now: Instant, seconds: f64) {
        self.samples += 1;
        let Some(measured) = self.measured.replace(now) else {
            self.value = seconds;
            return;
        };
        if seconds >= self.value {
            self.value = seconds;
        } else {
            let age = now.saturating_duration_since(measured).as_secs_f64();
            // At least a tenth of the way per sample: a busy target would otherwise hold its peak for ever.
            let keep = (-age / DECAY.as_secs_f64()).exp().min(0.9);
            self.value = self.value * keep + seconds * (1.0 - keep);
        }
    }

    /// `None` before the first measurement.
    pub fn seconds(&self) -> Option<f64> {
        self.measured.map(|_| self.value)
    }
}

/// A plain moving mean over about the last ten measurements.
#[derive(Clone, Debug, Default)]
pub struct Mean {
    value: f64,
    pub samples: u64,
}

impl Mean {
    pub fn record(&mut self, value: f64) {
        self.samples += 1;
        let share = (1.0 / self.samples as f64).max(0.1);
        self.value += (value - self.value) * share;
    }

    /// `None` before the first measurement.
    pub fn get(&self) -> Option<f64> {
        (self.samples > 0).then_some(self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_rises_at_once_and_falls_slowly() {
        let now = Instant::now();
        let mut peak = Peak::default();
        peak.record(now, 0.1);
        peak.record(now, 2.0);
        assert_eq!(peak.seconds(), Some(2.0));
        peak.record(now + Duration::from_secs(1), 0.1);
        assert!(peak.seconds().is_some_and(|seconds| seconds > 1.5));
        for second in 2..60 {
            peak.record(now + Duration::from_secs(second), 0.1);
        }
        assert!(peak.seconds().is_some_and(|seconds| seconds < 0.15));
    }
}
