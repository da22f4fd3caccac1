//! Live balance: among candidates that are as good as the best, the less loaded one goes first.
//!
//! Power of two choices: the best is compared with one other, drawn at random. Comparing all would send everybody to the
//! same idle target at once; two suffice to keep queues short (Mitzenmacher, 2001). Only a best that is busy, slower
//! than usual, or failed a moment ago has to stand the comparison: without load a decision can be repeated.

use std::cmp::Ordering;
use std::time::Duration;

use super::plan::Candidate;
use super::settings::{Strategy, Weights};

/// Merits this close are the same.
const MERIT: f64 = 0.02;
/// Waits this close, as a ratio, are the same.
const WAIT: f64 = 1.25;
/// Skills this close are the same.
const SKILL: f64 = 0.005;

/// Puts the less loaded of two first, and those last whose provider says that it would refuse, or
/// whose health check failed. `candidates` are in the
/// strategy's order. True if that changed who is first.
pub fn balance(candidates: &mut [Candidate], strategy: Strategy, weights: Weights, seed: u64) -> bool {
    let before = candidates.first().map(|first| first.target.id.clone());
    // Stable: the strategy's order holds among the others.
    candidates.sort_by_key(|candidate| candidate.postponed.is_some());
    if let Some(other) = drawn(candidates, strategy, weights, seed)
        && load(&candidates[other], &candidates[0]).total_cmp(&load(&candidates[0], &candidates[0])) == Ordering::Less
    {
        candidates[..=other].rotate_right(1);
    }
    before != candidates.first().map(|first| first.target.id.clone())
}

/// The place of the one that a busy best is compared with.
fn drawn(candidates: &[Candidate], strategy: Strategy, weights: Weights, seed: u64) -> Option<usize> {
    let best = candidates.first()?;
    if best.pending == 0 && best.penalty.is_zero() && best.slowed_from.is_none() {
        return None;
    }
    let equals = candidates.iter().enumerate().skip(1).filter(|(_, other)| is_equal(best, other, strategy, weights));
    let lot = |candidate: &Candidate| super::plan::draw(candidate.target.id.as_str(), seed);
    equals.min_by_key(|(_, other)| lot(other)).map(|(place, _)| place)
}

/// As good as the best in what the strategy is about.
fn is_equal(best: &Candidate, other: &Candidate, strategy: Strategy, weights: Weights) -> bool {
    if best.postponed.is_some() != other.postponed.is_some() {
        return false;
    }
    // Without latency: that is what the loads are compared by.
    let merit = |candidate: &Candidate| {
        let parts = candidate.estimate.parts;
        weights.capability * parts.capability + weights.cost * parts.cost
    };
    let merits = merit(best) - merit(other) <= MERIT;
    match strategy {
        Strategy::Balanced => merits,
        Strategy::Cheapest => best.estimate.expected_cost == other.estimate.expected_cost,
        Strategy::Fastest => {
            let unknown = !other.measured && best.slowed_from.is_some();
            unknown || other.estimate.awaited <= best.estimate.awaited.mul_f64(WAIT)
        }
        Strategy::Quality => best.estimate.parts.capability - other.estimate.parts.capability <= SKILL,
        Strategy::Priority => merits && best.target.provider.priority == other.target.provider.priority,
        // Shares and turns are what was asked for.
        Strategy::Weighted | Strategy::RoundRobin => false,
    }
}

/// Seconds that one more request would probably wait there.
fn load(candidate: &Candidate, best: &Candidate) -> f64 {
    // Who never answered is taken to be as fast as the best, or as the best was before it turned slow, if nothing is known
    // of its speed: a guess on the safe side would keep all traffic in one place.
    let is_unknown = !candidate.measured && (best.slowed_from.is_some() || !candidate.target.model.speed.is_known());
    let guess = best.slowed_from.unwrap_or(best.estimate.first_token);
    let first_token = if is_unknown { guess } else { candidate.estimate.first_token }.max(Duration::from_micros(100));
    (first_token + candidate.penalty).as_secs_f64() * f64::from(candidate.pending + 1)
}
