//! From weights to a winner: sums per task, then the winner's share.
//!
//! The share is a softmax over the sums, so it is the margin that counts and not the sums themselves: two tasks that
//! are both strongly supported leave a low confidence. The temperature was fitted on labelled prompts, see
//! `docs/classification.md`.

use std::sync::Arc;

/// Divides the sums. Higher values make every confidence lower.
const TEMPERATURE: f64 = 0.7;
/// What `general` has before any rule: it wins when nothing else was found.
const FALLBACK: f64 = 1.0;

/// What has been counted so far.
pub(super) struct Tally {
    sums: Vec<f64>,
    signals: Vec<(usize, Arc<str>, f64)>,
}

impl Tally {
    pub fn new(tasks: usize) -> Self {
        Self { sums: vec![0.0; tasks], signals: Vec::with_capacity(8) }
    }

    pub fn add(&mut self, task: usize, label: &Arc<str>, weight: f64) {
        self.sums[task] += weight;
        self.signals.push((task, Arc::clone(label), weight));
    }

    /// The greatest sum.
    pub fn best(&self) -> f64 {
        self.sums.iter().copied().fold(0.0, f64::max)
    }

    /// The winner and its confidence. `general` is the fallback; the earlier task wins a tie.
    pub fn decide(&mut self, general: usize) -> (usize, f64) {
        let with_fallback = |(task, sum): (usize, &f64)| if task == general { sum + FALLBACK } else { *sum };
        let sums: Vec<f64> = self.sums.iter().enumerate().map(with_fallback).collect();
        let winner = (0..sums.len()).fold(general, |best, task| if sums[task] > sums[best] { task } else { best });
        let total: f64 = sums.iter().map(|sum| ((sum - sums[winner]) / TEMPERATURE).exp()).sum();
        (winner, (1.0 / total).clamp(0.0, 1.0))
    }

    pub fn into_signals(self) -> impl Iterator<Item = (usize, Arc<str>, f64)> {
        self.signals.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_signals_general_wins_with_low_confidence() {
        let (winner, confidence) = Tally::new(13).decide(8);
        assert_eq!(winner, 8);
        assert!(confidence < 0.3, "{confidence}");
    }

    #[test]
    fn confidence_grows_with_the_margin() {
        let confidence = |second: f64| {
            let mut tally = Tally::new(13);
            tally.add(1, &"one".into(), 4.0);
            tally.add(2, &"two".into(), second);
            tally.decide(8).1
        };
        assert!(confidence(0.0) > confidence(2.0) && confidence(2.0) > confidence(3.9));
        assert!(confidence(0.0) > 0.6);
    }
}
