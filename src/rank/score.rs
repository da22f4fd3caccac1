//! The numbers behind a decision. One formula, three parts, each in 0..=1:
//!
//! `score = w_capability * capability + w_cost * cost + w_latency * latency`, the weights scaled to sum to 1.
//!
//! - capability: the model's skill for the task.
//! - cost: 1 at $0.00001 a request and below, 0 at $1, straight on a logarithmic scale: each factor of ten is 0.2. An
//!   unknown price scores 0, as if it were the dearest.
//! - latency: 1 at 0.1 s and below, 0 at 60 s, logarithmic too: each doubling is about 0.11.
//!
//! Logarithms because ratios are what people weigh: with the default weights, a model ten times as dear must be 0.12
//! more skilled to be chosen. Absolute scales because a candidate's score must not change when another one comes or goes.

use std::time::Duration;

use serde::Serialize;

use super::hints::{Budget, Hints};
use super::needs::Needs;
use super::settings::{Strategy, Weights};
use crate::catalog::Target;
use crate::chat::Usage;
use crate::meter::{estimate, price};
use crate::money::NanoUsd;

const CHEAP_USD: f64 = 1e-5;
const DEAR_USD: f64 = 1.0;
const FAST_SECONDS: f64 = 0.1;
const SLOW_SECONDS: f64 = 60.0;
/// Tokens of a stream after which a reader is busy: what comes later does not feel slow.
const TOKENS_AWAITED: u64 = 50;
/// Output assumed where neither the caller nor the catalogue sets a limit.
const DEFAULT_MAX_OUTPUT: u64 = 4096;

/// What is measured of a target at this moment.
#[derive(Clone, Debug, Default)]
pub struct Vitals {
    /// Moving average of the time to the first token; `None` before the first answer.
    pub first_token: Option<Duration>,
    /// What was usual before it turned much slower; `None` if it did not.
    pub slowed_from: Option<Duration>,
    pub tokens_per_second: Option<f64>,
    /// Requests in flight.
    pub pending: u32,
    /// Added to its load because it failed a moment ago; fades.
    pub penalty: Duration,
    /// What the provider says it would still take.
    pub room: Room,
    /// A health check failed, and no request has succeeded since.
    pub unwell: bool,
    pub availability: Availability,
}

/// What is left of a provider's own limits until they are refilled; `None` where it says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    pub requests: Option<u64>,
    pub tokens: Option<u64>,
}

impl Room {
    /// True if a request of so many tokens would probably be refused.
    pub fn lacks(&self, tokens: u64) -> bool {
        self.requests == Some(0) || self.tokens.is_some_and(|left| left < tokens)
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub enum Availability {
    #[default]
    Closed,
    /// One probe may pass.
    HalfOpen,
    /// Left alone for `remaining`, because of `cause`.
    Open {
        remaining: Duration,
        cause: String,
    },
    Cooling {
        remaining: Duration,
        cause: &'static str,
    },
    /// The provider has as many requests as it may take (`max_concurrency`), or as it was found to take (`learned`).
    Full {
        limit: u32,
        learned: bool,
    },
}

impl Availability {
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open { .. } => "open",
            Self::Cooling { .. } => "cooling",
            Self::Full { .. } => "full",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Parts {
    pub capability: f64,
    pub cost: f64,
    pub latency: f64,
}

/// What one target would probably do with one request.
#[derive(Clone, Debug)]
pub struct Estimate {
    pub score: f64,
    pub parts: Parts,
    /// `None` if the model has no known price.
    pub expected_cost: Option<NanoUsd>,
    pub worst_cost: Option<NanoUsd>,
    pub first_token: Duration,
    /// Until the part of the answer that is waited for is there.
    pub awaited: Duration,
    pub completion_tokens: u64,
}

/// The weights that a strategy stands for, shifted by the hints.
pub fn weights(strategy: Strategy, configured: Weights, hints: &Hints) -> Weights {
    let only = |capability, cost, latency| Weights { capability, cost, latency };
    let mut weights = match strategy {
        Strategy::Cheapest => return only(0.0, 1.0, 0.0),
        Strategy::Fastest => return only(0.0, 0.0, 1.0),
        Strategy::Quality => return only(1.0, 0.0, 0.0),
        Strategy::Balanced | Strategy::Priority | Strategy::Weighted | Strategy::RoundRobin => normal(configured),
    };
    weights.cost *= match hints.budget {
        Budget::Low => 4.0,
        Budget::Normal => 1.0,
        Budget::High => 0.25,
    };
    let most = |weights: Weights| 1.5 * (weights.capability + weights.cost + weights.latency);
    if hints.safety_critical {
        weights.capability = most(Weights { capability: 0.0, ..weights }).max(weights.capability);
    }
    if hints.latency_critical {
        weights.latency = most(Weights { latency: 0.0, ..weights }).max(weights.latency);
    }
    normal(weights)
}

fn normal(weights: Weights) -> Weights {
    let sum = weights.capability + weights.cost + weights.latency;
    if sum <= 0.0 || !sum.is_finite() {
        return normal(Weights::default());
    }
    Weights { capability: weights.capability / sum, cost: weights.cost / sum, latency: weights.latency / sum }
}

/// Estimates one target for one request. Weights must sum to 1.
pub fn estimate(
    target: &Target,
    task: &str,
    needs: &Needs,
    hints: &Hints,
    weights: Weights,
    vitals: &Vitals,
) -> Estimate {
    let model = &target.model;
    let skill = model.skills.of(task);
    let capability = if hints.safety_critical {
        // The `safety` skill counts most; a model must still be able to do the task.
        0.7 * model.skills.of("safety").value + 0.3 * skill.value
    } else {
        skill.value
    };
    let choices = u64::from(needs.choices.max(1));
    let completion_tokens = estimate::completion(task, needs.prompt.expected, needs.max_tokens);
    let (expected_cost, worst_cost) = match &model.price {
        None => (None, None),
        Some(prices) => {
            let cached = if prices.cached_input.is_some() { needs.cacheable_tokens } else { 0 };
            let usage =
                Usage { cached_tokens: cached, ..Usage::estimate(needs.prompt.expected, completion_tokens * choices) };
            let limit = needs.most_tokens.max(needs.max_tokens);
            let most = limit.unwrap_or(u64::MAX).min(model.max_output.unwrap_or(DEFAULT_MAX_OUTPUT));
            let most = most.max(limit.filter(|_| model.max_output.is_none()).unwrap_or(0)).saturating_mul(choices);
            (Some(price::cost(prices, &usage)), Some(price::worst_case(prices, needs.prompt.worst, most)))
        }
    };
    let first_token = vitals.first_token.unwrap_or(model.speed.first_token);
    let tokens_per_second = vitals.tokens_per_second.unwrap_or(model.speed.tokens_per_second).max(0.1);
    let tokens = if needs.stream { completion_tokens.min(TOKENS_AWAITED) } else { completion_tokens };
    let awaited = first_token + Duration::from_secs_f64((tokens as f64 / tokens_per_second).min(86_400.0));
    let parts = Parts {
        capability: capability.clamp(0.0, 1.0),
        cost: expected_cost.map_or(0.0, |cost| 1.0 - logarithmic(cost.usd(), CHEAP_USD, DEAR_USD)),
        latency: 1.0 - logarithmic(awaited.as_secs_f64(), FAST_SECONDS, SLOW_SECONDS),
    };
    Estimate {
        score: weights.capability * parts.capability + weights.cost * parts.cost + weights.latency * parts.latency,
        parts,
        expected_cost,
        worst_cost,
        first_token,
        awaited,
        completion_tokens,
    }
}

/// Where `value` lies between `low` (0) and `high` (1) on a logarithmic scale.
fn logarithmic(value: f64, low: f64, high: f64) -> f64 {
    ((value.max(low) / low).ln() / (high / low).ln()).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_shift_the_weights_in_the_promised_direction() {
        let shifted = |hints: Hints| weights(Strategy::Balanced, Weights::default(), &hints);
        let plain = shifted(Hints::default());
        assert!(shifted(Hints { budget: Budget::Low, ..Hints::default() }).cost > plain.cost);
        assert!(shifted(Hints { budget: Budget::High, ..Hints::default() }).cost < plain.cost);
        let fast = shifted(Hints { latency_critical: true, ..Hints::default() });
        assert!(fast.latency > fast.capability + fast.cost, "latency counts most: {fast:?}");
        let safe = shifted(Hints { safety_critical: true, ..Hints::default() });
        assert!(safe.capability > safe.latency + safe.cost, "capability counts most: {safe:?}");
        for weights in [plain, fast, safe] {
            assert!((weights.capability + weights.cost + weights.latency - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn a_factor_of_ten_in_price_is_a_fifth_of_the_scale() {
        let step = logarithmic(1e-3, CHEAP_USD, DEAR_USD) - logarithmic(1e-4, CHEAP_USD, DEAR_USD);
        assert!((step - 0.2).abs() < 1e-9);
    }
}
