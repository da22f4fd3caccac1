//! The laws of ranking, for any targets and hints.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::hints::{Budget, Hints};
use super::needs::Needs;
use super::plan::{Plan, Question, plan};
use super::score::Vitals;
use super::select::{Group, Selection};
use super::settings::{Strategy as Way, Weights, WhenImpossible};
use crate::catalog::{Auth, Format, Model, Origin, Price, Provider, Skills, Speed, Supports, Target};
use crate::meter::estimate;
use crate::money::{NanoUsd, PerMillion};

#[derive(Clone, Debug)]
struct Made {
    input: f64,
    output: f64,
    priced: bool,
    skill: f64,
    first_token_ms: u64,
    pace: f64,
    context: Option<u64>,
}

impl Made {
    fn target(&self, index: usize) -> Arc<Target> {
        let provider = Arc::new(Provider::new(&format!("p{index}"), Format::OpenAi, "http://127.0.0.1:1", Auth::None));
        let usd = |usd| PerMillion::from_usd(usd).expect("a price");
        let price = Price::new(usd(self.input), usd(self.output), Origin::Configured);
        let model = Model {
            id: format!("m{index}"),
            deployment: None,
            price: self.priced.then_some(price),
            context: self.context,
            max_output: None,
            supports: Supports::UNKNOWN,
            skills: Skills::from_price(None).configured(&BTreeMap::from([("general".to_owned(), self.skill)])),
            speed: Speed {
                first_token: Duration::from_millis(self.first_token_ms),
                tokens_per_second: self.pace,
                origin: Origin::Configured,
            },
            routable: true,
            declared: true,
        };
        Arc::new(Target::new(&provider, model))
    }
}

fn made() -> impl Strategy<Value = Made> {
    (
        0.0..50.0f64,
        0.0..100.0f64,
        any::<bool>(),
        0.0..1.0f64,
        1u64..20_000,
        1.0..500.0f64,
        prop::option::of(10u64..50_000),
    )
        .prop_map(|(input, output, priced, skill, first_token_ms, pace, context)| Made {
            input,
            output,
            priced,
            skill,
            first_token_ms,
            pace,
            context,
        })
}

fn several() -> impl Strategy<Value = Vec<Made>> {
    prop::collection::vec(made(), 2..7)
}

fn needs() -> impl Strategy<Value = Needs> {
    (1u64..30_000, prop::option::of(prop_oneof![1u64..10_000, Just(u64::MAX)]), any::<bool>()).prop_map(
        |(tokens, max_tokens, stream)| Needs {
            prompt: estimate::Prompt { expected: tokens, worst: tokens * 2 },
            max_tokens,
            stream,
            ..Needs::default()
        },
    )
}

fn hints() -> impl Strategy<Value = Hints> {
    (
        prop::sample::select(vec![Budget::Low, Budget::Normal, Budget::High]),
        any::<bool>(),
        prop::option::of(0.0..2.0f64),
        prop::option::of(1u64..20_000),
        prop::option::of(0.0..1.0f64),
        prop::collection::vec(prop::sample::select(vec!["p0", "p1", "p2/m2", "p3"]), 0..3),
        prop::collection::vec(prop::sample::select(vec!["p0", "p1/m1", "p4"]), 0..2),
    )
        .prop_map(|(budget, latency_critical, cost, latency, min_skill, only, avoid)| Hints {
            budget,
            latency_critical,
            max_cost: cost.and_then(NanoUsd::from_usd),
            max_latency: latency.map(Duration::from_millis),
            min_skill,
            only: only.into_iter().map(str::to_owned).collect(),
            avoid: avoid.into_iter().map(str::to_owned).collect(),
            ..Hints::default()
        })
}

fn ranked(all: &[Made], needs: &Needs, hints: &Hints, strategy: Way) -> Plan {
    let targets = all.iter().enumerate().map(|(index, made)| made.target(index)).collect();
    let selection = Selection { groups: vec![Group { targets, explicit: false }], strategy: None, min_skill: None };
    let question = Question {
        selection: &selection,
        task: "general",
        needs,
        hints,
        strategy,
        weights: Weights::default(),
        min_skill: 0.0,
        max_attempts: 3,
        when_impossible: WhenImpossible::default(),
        seed: 7,
        turn: 0,
    };
    plan(&question, |_| Vitals::default())
}

/// The place of the first target; those that are left out come last.
fn place(plan: &Plan) -> usize {
    plan.candidates.iter().position(|candidate| &*candidate.target.provider.name == "p0").unwrap_or(usize::MAX)
}

proptest! {
    #[test]
    fn whoever_gets_better_never_falls_behind(
        all in several(),
        needs in needs(),
        hints in hints(),
        by in 0.0..1.0f64,
        what in 0..5usize,
        strategy in prop::sample::select(vec![Way::Balanced, Way::Cheapest, Way::Fastest, Way::Quality]),
    ) {
        let mut better = all.clone();
        let first = &mut better[0];
        match what {
            0 => first.input *= by,
            1 => first.output *= by,
            2 => first.first_token_ms = (first.first_token_ms as f64 * by) as u64,
            3 => first.pace /= by.max(0.01),
            _ => first.skill += (1.0 - first.skill) * by,
        }
        let (before, after) = (ranked(&all, &needs, &hints, strategy), ranked(&better, &needs, &hints, strategy));
        prop_assert!(place(&after) <= place(&before), "{} then {}: {:?} {:?}", place(&before), place(&after), all, better);
    }

    #[test]
    fn a_hard_limit_is_never_violated(
        all in several(),
        needs in needs(),
        hints in hints(),
        strategy in prop::sample::select(Way::ALL.to_vec()),
    ) {
        let plan = ranked(&all, &needs, &hints, strategy);
        prop_assert_eq!(plan.candidates.len() + plan.excluded.len(), all.len(), "everybody is accounted for");
        for candidate in &plan.candidates {
            let (target, estimate) = (&candidate.target, &candidate.estimate);
            if let Some(ceiling) = hints.max_cost {
                prop_assert!(estimate.worst_cost.is_some_and(|worst| worst <= ceiling));
            }
            if let Some(ceiling) = hints.max_latency {
                prop_assert!(estimate.first_token <= ceiling);
            }
            if let Some(floor) = hints.min_skill {
                prop_assert!(target.model.skills.of("general").value >= floor);
            }
            prop_assert!(hints.only.is_empty() || Hints::names(&hints.only, &target.id));
            prop_assert!(!Hints::names(&hints.avoid, &target.id));
            prop_assert!(target.model.context.is_none_or(|window| needs.prompt.expected <= window));
        }
    }
}

#[test]
fn a_busy_best_gives_way_to_an_equal_and_never_to_a_worse_one() {
    let made = |skill: f64| Made {
        input: 1.0,
        output: 2.0,
        priced: true,
        skill,
        first_token_ms: 200,
        pace: 100.0,
        context: None,
    };
    let first = |skills: &[f64], pending: &[u32], strategy: Way| {
        let targets: Vec<_> = skills.iter().enumerate().map(|(index, skill)| made(*skill).target(index)).collect();
        let selection = Selection { groups: vec![Group { targets, explicit: false }], strategy: None, min_skill: None };
        let (needs, hints) = (Needs::default(), Hints::default());
        let question = Question {
            selection: &selection,
            task: "general",
            needs: &needs,
            hints: &hints,
            strategy,
            weights: Weights::default(),
            min_skill: 0.0,
            max_attempts: 3,
            when_impossible: WhenImpossible::default(),
            seed: 7,
            turn: 0,
        };
        let vitals = |target: &Target| {
            let index: usize = target.provider.name[1..].parse().expect("an index");
            Vitals { pending: pending[index], ..Vitals::default() }
        };
        plan(&question, vitals).candidates[0].target.provider.name.to_string()
    };
    assert_eq!(first(&[0.8, 0.8], &[0, 0], Way::Balanced), "p0");
    assert_eq!(first(&[0.8, 0.8], &[3, 1], Way::Balanced), "p1", "the less loaded of two equals");
    assert_eq!(first(&[0.8, 0.6], &[3, 0], Way::Balanced), "p0", "load does not outweigh merit");
    assert_eq!(first(&[0.8, 0.8], &[1, 3], Way::Cheapest), "p0");
    assert_eq!(first(&[0.8, 0.8], &[3, 0], Way::Cheapest), "p1", "of the same price");
    assert_eq!(first(&[0.8, 0.8], &[3, 0], Way::RoundRobin), "p0", "turns are what was asked for");
}
