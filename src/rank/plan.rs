//! The decision: hard filters first, then one order, with a reason for every target that is left out.

use std::sync::Arc;
use std::time::Duration;

use super::balance;
use super::hints::Hints;
use super::needs::Needs;
use super::reason::Reason;
use super::score::{self, Availability, Estimate, Vitals};
use super::select::Selection;
use super::settings::{Strategy, Weights, WhenImpossible};
use crate::admission::budget::Overdrawn;
use crate::catalog::{Format, Target};
use crate::money::NanoUsd;

/// All that a decision depends on.
pub struct Question<'a> {
    pub selection: &'a Selection,
    pub task: &'a str,
    pub needs: &'a Needs,
    pub hints: &'a Hints,
    /// The strategy in force when neither the name nor a hint asks for one.
    pub strategy: Strategy,
    pub weights: Weights,
    /// The configured floor on the skill, 0 to 1.
    pub min_skill: f64,
    pub max_attempts: u32,
    pub when_impossible: WhenImpossible,
    /// Randomness for `weighted`.
    pub seed: u64,
    /// Counts up for `round_robin`.
    pub turn: u64,
}

#[derive(Clone, Debug)]
pub struct Candidate {
    pub target: Arc<Target>,
    pub estimate: Estimate,
    pub availability: Availability,
    /// Requests in flight.
    pub pending: u32,
    /// It failed a moment ago; fades.
    pub penalty: Duration,
    /// The time to the first token that was usual before it turned much slower.
    pub slowed_from: Option<Duration>,
    /// It has answered before.
    pub measured: bool,
    /// Why it is tried after all others: the provider says that it would refuse, or a health check failed.
    pub postponed: Option<&'static str>,
}

#[derive(Clone, Debug)]
pub struct Excluded {
    pub target: Arc<Target>,
    pub reason: Reason,
}

/// Who is tried, in what order, and why not the others.
#[derive(Clone, Debug)]
pub struct Plan {
    pub strategy: Strategy,
    /// The weights behind the scores, summing to 1.
    pub weights: Weights,
    /// Best first.
    pub candidates: Vec<Candidate>,
    pub excluded: Vec<Excluded>,
    /// Targets that may be tried.
    pub max_attempts: usize,
    /// Hints that could not be met and were set aside (`when_impossible: relax`).
    pub relaxed: bool,
    /// The caller listed models in an order of its own.
    pub listed: bool,
    /// The first candidate is not the first by strategy, but less loaded than that one.
    pub balanced: bool,
}

impl Plan {
    /// One without anybody.
    pub fn empty(strategy: Strategy) -> Self {
        Self {
            strategy,
            weights: Weights::default(),
            candidates: Vec::new(),
            excluded: Vec::new(),
            max_attempts: 1,
            relaxed: false,
            listed: false,
            balanced: false,
        }
    }
}

/// Why there is no candidate.
#[derive(Clone, Debug, PartialEq)]
pub enum Impossible {
    /// The caller's hints, or needs that no model meets, exclude every one.
    NoCandidate,
    /// The prompt is too long for every model.
    Context,
    /// All are down or cooling; the earliest comes back after this long.
    Unavailable { retry_after: Duration },
    /// No budget pays for it.
    Budget(Arc<Overdrawn>),
}

/// Filters and orders the selected targets. `vitals` says what is measured of one now.
pub fn plan(question: &Question<'_>, vitals: impl Fn(&Target) -> Vitals) -> Plan {
    let strategy = question.hints.strategy.or(question.selection.strategy).unwrap_or(question.strategy);
    let weights = score::weights(strategy, question.weights, question.hints);
    let mut plan = Plan {
        weights,
        max_attempts: question.hints.attempts(question.max_attempts),
        listed: question.selection.groups.len() > 1,
        ..Plan::empty(strategy)
    };
    fill(&mut plan, question, &vitals, false);
    if plan.candidates.is_empty()
        && question.when_impossible == WhenImpossible::Relax
        && plan.excluded.iter().any(|excluded| excluded.reason.hint().is_some())
    {
        plan.excluded.clear();
        plan.relaxed = true;
        fill(&mut plan, question, &vitals, true);
    }
    plan
}

fn fill(plan: &mut Plan, question: &Question<'_>, vitals: &impl Fn(&Target) -> Vitals, relax: bool) {
    for group in &question.selection.groups {
        let mut candidates: Vec<Candidate> = Vec::with_capacity(group.targets.len());
        for target in &group.targets {
            let seen = plan.candidates.iter().any(|known| known.target.id == target.id)
                || plan.excluded.iter().any(|known| known.target.id == target.id);
            if seen && question.selection.groups.len() > 1 {
                continue;
            }
            let vitals = vitals(target);
            let estimate =
                score::estimate(target, question.task, question.needs, question.hints, plan.weights, &vitals);
            let hinted = if relax { None } else { hinted_away(target, &estimate, question) };
            let reason = hinted
                .or_else(|| unfit(target, &estimate, question, group.explicit))
                .or_else(|| unavailable(&vitals.availability));
            match reason {
                Some(reason) => plan.excluded.push(Excluded { target: target.clone(), reason }),
                None => {
                    let tokens = question.needs.prompt.expected + estimate.completion_tokens;
                    let postponed = match () {
                        () if vitals.room.lacks(tokens) => Some("rate_limit_reached"),
                        () if vitals.unwell => Some("health_check_failed"),
                        () => None,
                    };
                    candidates.push(Candidate {
                        target: target.clone(),
                        estimate,
                        availability: vitals.availability,
                        pending: vitals.pending,
                        penalty: vitals.penalty,
                        slowed_from: vitals.slowed_from,
                        measured: vitals.first_token.is_some(),
                        postponed,
                    });
                }
            }
        }
        order(&mut candidates, plan.strategy, question);
        let moved = balance::balance(&mut candidates, plan.strategy, plan.weights, question.seed);
        plan.balanced |= moved && plan.candidates.is_empty() && question.hints.order.is_empty() && !relax;
        if relax {
            closest(&mut candidates, question.hints);
        }
        if !question.hints.order.is_empty() {
            let place = |candidate: &Candidate| {
                let names =
                    |name: &String| name == candidate.target.id.as_str() || *name == *candidate.target.provider.name;
                question.hints.order.iter().position(names).unwrap_or(usize::MAX)
            };
            candidates.sort_by_key(place);
        }
        plan.candidates.append(&mut candidates);
    }
}

/// The caller's hard hints.
fn hinted_away(target: &Target, estimate: &Estimate, question: &Question<'_>) -> Option<Reason> {
    let hints = question.hints;
    if !hints.only.is_empty() && !Hints::names(&hints.only, &target.id) {
        return Some(Reason::Only);
    }
    if Hints::names(&hints.avoid, &target.id) {
        return Some(Reason::Avoided);
    }
    if let Some(ceiling) = hints.max_cost
        && estimate.worst_cost.is_none_or(|worst| worst > ceiling)
    {
        return Some(Reason::MaxCost { worst: estimate.worst_cost, ceiling });
    }
    if let Some(ceiling) = hints.max_latency
        && estimate.first_token > ceiling
    {
        return Some(Reason::MaxLatency { estimate: estimate.first_token, ceiling });
    }
    if let Some(floor) = hints.min_skill
        && skill(target, question.task) < floor
    {
        return Some(Reason::MinSkill { skill: skill(target, question.task), floor, hinted: true });
    }
    let price = |of: fn(&crate::catalog::Price) -> NanoUsd| target.model.price.as_ref().map(of);
    let above = |price: Option<NanoUsd>, ceiling: Option<f64>| {
        ceiling.is_some_and(|ceiling| price.is_none_or(|price| price.usd() > ceiling))
    };
    if above(price(|price| price.input.0), hints.max_prompt_price) {
        return Some(Reason::MaxPrice { side: "prompt" });
    }
    if above(price(|price| price.output.0), hints.max_completion_price) {
        return Some(Reason::MaxPrice { side: "completion" });
    }
    None
}

/// What the model cannot do. A model that the caller named is only refused for what is certain: its window.
fn unfit(target: &Target, estimate: &Estimate, question: &Question<'_>, explicit: bool) -> Option<Reason> {
    let (model, needs) = (&target.model, question.needs);
    // Only the estimate that is probably right may exclude: a guess on the safe side would refuse what fits.
    let tokens = needs.prompt.expected + if explicit { 0 } else { estimate.completion_tokens };
    if let Some(window) = model.context.filter(|window| tokens > *window && !needs.embedding) {
        return Some(Reason::Context { tokens, window });
    }
    if explicit && !question.hints.require_parameters {
        return None;
    }
    if let (Some(tokens), Some(limit)) = (needs.max_tokens, model.max_output)
        && tokens > limit
    {
        return Some(Reason::MaxOutput { tokens, limit });
    }
    let supports = model.supports;
    if supports.known {
        let wanted = [
            (needs.tools && !supports.tools, "tools"),
            (needs.vision && !supports.vision, "images"),
            (needs.audio && !supports.audio_in, "audio"),
            (needs.files && !supports.pdf, "files"),
            (needs.json_schema && !supports.json_schema, "json_schema"),
        ];
        if let Some((_, what)) = wanted.into_iter().find(|(lacks, _)| *lacks) {
            return Some(Reason::Lacks(what));
        }
    }
    let (floor, skill) = (question.min_skill, skill(target, question.task));
    if skill < floor && !explicit {
        return Some(Reason::MinSkill { skill, floor, hinted: false });
    }
    None
}

fn skill(target: &Target, task: &str) -> f64 {
    target.model.skills.of(task).value
}

fn unavailable(availability: &Availability) -> Option<Reason> {
    match availability {
        Availability::Closed | Availability::HalfOpen => None,
        Availability::Open { remaining, cause } => Some(Reason::Open { remaining: *remaining, cause: cause.clone() }),
        Availability::Cooling { remaining, cause } => Some(Reason::Cooling { remaining: *remaining, cause }),
        Availability::Full { limit, learned } => Some(Reason::Full { limit: *limit, learned: *learned }),
    }
}

fn order(candidates: &mut [Candidate], strategy: Strategy, question: &Question<'_>) {
    let better = |a: f64, b: f64| b.total_cmp(&a);
    let cost = |candidate: &Candidate| candidate.estimate.expected_cost.unwrap_or(NanoUsd(i64::MAX));
    // One order under every strategy for what is otherwise equal, so that a decision can be repeated.
    let equal = |a: &Candidate, b: &Candidate| {
        better(a.estimate.score, b.estimate.score)
            .then(cost(a).cmp(&cost(b)))
            .then(a.target.provider.priority.cmp(&b.target.provider.priority))
            .then_with(|| a.target.id.cmp(&b.target.id))
    };
    match strategy {
        Strategy::Balanced => candidates.sort_by(equal),
        Strategy::Cheapest => candidates.sort_by(|a, b| {
            cost(a)
                .cmp(&cost(b))
                .then(better(a.estimate.parts.capability, b.estimate.parts.capability))
                .then_with(|| equal(a, b))
        }),
        Strategy::Fastest => {
            candidates.sort_by(|a, b| a.estimate.awaited.cmp(&b.estimate.awaited).then_with(|| equal(a, b)));
        }
        Strategy::Quality => candidates
            .sort_by(|a, b| better(a.estimate.parts.capability, b.estimate.parts.capability).then_with(|| equal(a, b))),
        Strategy::Priority => {
            candidates
                .sort_by(|a, b| a.target.provider.priority.cmp(&b.target.provider.priority).then_with(|| equal(a, b)));
        }
        Strategy::Weighted => candidates.sort_by(|a, b| {
            let draw = |candidate: &Candidate| lot(&candidate.target, question.seed);
            draw(a).total_cmp(&draw(b)).then_with(|| equal(a, b))
        }),
        Strategy::RoundRobin => {
            candidates.sort_by(|a, b| a.target.id.cmp(&b.target.id));
            let length = candidates.len().max(1) as u64;
            candidates.rotate_left((question.turn % length) as usize);
        }
    }
}

/// A provider's lot: the smallest wins. Exponentially distributed with the weight as its rate, so that each provider
/// comes first in proportion to its weight (Efraimidis and Spirakis, 2006). All models of a provider share its lot.
fn lot(target: &Target, seed: u64) -> f64 {
    let provider = &target.provider;
    let uniform = (draw(&provider.name, seed) >> 11) as f64 / (1u64 << 53) as f64;
    if provider.weight == 0 { f64::INFINITY } else { -(1.0 - uniform).ln() / f64::from(provider.weight) }
}

/// A random number that belongs to a name under one seed.
pub(super) fn draw(name: &str, seed: u64) -> u64 {
    let start = seed ^ 0x9e37_79b9_7f4a_7c15;
    mix(name.bytes().fold(start, |hash, byte| mix(hash ^ u64::from(byte))))
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood, 2014).
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// With every hint impossible: those that miss it by the least come first.
fn closest(candidates: &mut [Candidate], hints: &Hints) {
    if hints.max_cost.is_some() {
        candidates.sort_by_key(|candidate| candidate.estimate.worst_cost.unwrap_or(NanoUsd(i64::MAX)));
    } else if hints.max_latency.is_some() {
        candidates.sort_by_key(|candidate| candidate.estimate.first_token);
    } else if hints.min_skill.is_some() {
        candidates.sort_by(|a, b| b.estimate.parts.capability.total_cmp(&a.estimate.parts.capability));
    }
}

impl Plan {
    /// Why nobody can be tried; `None` if somebody can.
    pub fn impossible(&self) -> Option<Impossible> {
        if !self.candidates.is_empty() {
            return None;
        }
        let unpaid = self.excluded.iter().filter_map(|excluded| match &excluded.reason {
            Reason::Budget(overdrawn) => Some(overdrawn),
            _ => None,
        });
        // The caller's own comes first; a provider's counts where nobody else will come back.
        let mut of_provider = None;
        for overdrawn in unpaid {
            if !overdrawn.is_of_a_provider() {
                return Some(Impossible::Budget(overdrawn.clone()));
            }
            of_provider.get_or_insert(overdrawn);
        }
        if let Some(retry_after) = self.excluded.iter().filter_map(|excluded| excluded.reason.remaining()).min() {
            return Some(Impossible::Unavailable { retry_after });
        }
        if let Some(overdrawn) = of_provider {
            return Some(Impossible::Budget(overdrawn.clone()));
        }
        let hinted = self.excluded.iter().any(|excluded| excluded.reason.hint().is_some());
        let context = self.excluded.iter().any(|excluded| matches!(excluded.reason, Reason::Context { .. }));
        Some(if context && !hinted { Impossible::Context } else { Impossible::NoCandidate })
    }

    /// The dearest candidate by expected cost: what "saved by routing" is measured against. Demo targets do not count.
    pub fn dearest(&self) -> Option<&Candidate> {
        let priced = |candidate: &&Candidate| candidate.estimate.expected_cost.is_some();
        let real = |candidate: &&Candidate| candidate.target.provider.format != Format::Demo;
        self.candidates
            .iter()
            .filter(priced)
            .filter(|candidate| real(candidate) || !self.candidates.iter().any(|other| real(&other)))
            .max_by_key(|candidate| candidate.estimate.expected_cost)
    }

    /// The decision in one sentence.
    pub fn sentence(&self, task: &str) -> String {
        let Some(first) = self.candidates.first() else {
            return format!("{task}: none of {} targets can take this request", self.excluded.len());
        };
        let cost =
            first.estimate.expected_cost.map_or("at an unknown price".to_owned(), |cost| format!("about {cost}"));
        let count = self.candidates.len();
        let among = match (count, self.strategy) {
            (1, _) => "the only candidate".to_owned(),
            _ if self.balanced => format!("the least loaded of the best of {count} candidates"),
            (_, Strategy::Balanced) => format!("best score ({:.3}) of {count} candidates", first.estimate.score),
            (_, Strategy::Cheapest) => format!("cheapest of {count} candidates"),
            (_, Strategy::Fastest) => format!("fastest of {count} candidates"),
            (_, Strategy::Quality) => format!("most skilled of {count} candidates"),
            (_, Strategy::Priority) => format!("first by priority of {count} candidates"),
            (_, Strategy::Weighted) => format!("drawn by weight from {count} candidates"),
            (_, Strategy::RoundRobin) => format!("next in turn of {count} candidates"),
        };
        format!(
            "{task}: {} is {among}: skill {:.2}, {cost}, first token in about {} ms",
            first.target.id,
            first.estimate.parts.capability,
            first.estimate.first_token.as_millis()
        )
    }
}
