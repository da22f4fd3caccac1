//! An answer that has to be made: classify, rank, hold what it may cost, dispatch; wait where everybody is busy.

use std::sync::Arc;
use std::time::Instant;

use super::Gateway;
use super::draft::Draft;
use super::error::{self, Error};
use super::flight::Source;
use super::inbound::Inbound;
use super::metered::Metered;
use super::snapshot::Snapshot;
use super::spending::Held;
use super::treatment::Treatment;
use crate::admission::budget::everywhere::NotHeld;
use crate::admission::lobby::Stay;
use crate::cache::Cache;
use crate::cache::key::Key;
use crate::catalog::Provider;
use crate::dispatch::cascade::{Defeat, Errand};
use crate::dispatch::fleet::Reserved;
use crate::money::NanoUsd;
use crate::provider::failure::Failure;
use crate::rank::explain::Explanation;
use crate::rank::plan::Impossible;
use crate::rank::reason::Reason;
use crate::rank::score::Availability;
use crate::rank::select::Selection;
use crate::telemetry::metric::Metric;

/// Whether a budget leaves anybody out.
fn lacks_money(explanation: &Explanation) -> bool {
    let excluded = &explanation.plan.excluded;
    excluded.iter().any(|excluded| matches!(excluded.reason, Reason::Budget(_) | Reason::BudgetRefuses))
}

/// With what a request sets out.
struct Means {
    /// At a provider, where it has waited for one.
    place: Option<Reserved>,
    /// No candidate that could cost more is tried.
    ceiling: Option<NanoUsd>,
}

impl Gateway {
    /// Classify, rank, dispatch. The answer is metered into `draft` and, if it may be, stored under `store`.
    pub(super) async fn fresh(
        self: &Arc<Self>,
        rules: &Arc<Snapshot>,
        inbound: &Arc<Inbound>,
        selection: &Selection,
        draft: &Arc<Draft>,
        store: Option<(Key, Arc<Cache>)>,
    ) -> Result<Source, Error> {
        let mut stay = Stay::begin(inbound.caller, &rules.settings.overload);
        let mut place: Option<Reserved> = None;
        loop {
            let began = Instant::now();
            let mut explanation = self.decide(rules, inbound, selection, place.as_ref());
            if self.hasten(rules, &explanation) {
                explanation = self.decide(rules, inbound, selection, place.as_ref());
            }
            let spending = self.spending(rules, inbound);
            if let Some(spending) = spending.as_ref().filter(|_| self.shared.is_some() && lacks_money(&explanation)) {
                // What others held when this replica last heard of it may have been given back.
                self.accounts.look(spending.accounts(), spending.now_ms(), draft.patience()).await;
                explanation = self.decide(rules, inbound, selection, place.as_ref());
            }
            let explanation = Arc::new(explanation);
            draft.decided(&explanation);
            draft.change(|record| record.timing.routing += began.elapsed());
            let held = match (spending, explanation.plan.impossible()) {
                (Some(spending), None) => {
                    match spending.hold(&self.accounts, &explanation.plan, draft.patience()).await {
                        Ok(held) => Some(held),
                        // Somebody was quicker: what is left now may pay for something else.
                        Err(NotHeld::Overdrawn(_)) => continue,
                        Err(NotHeld::Gone) => return Err(self.shared_is_gone()),
                    }
                }
                _ => None,
            };
            let ceiling = held.as_ref().and_then(|held| held.ceiling);
            let first = explanation.plan.candidates.first();
            draft.reserve(held.map(|held: Held| held.hold), first.map(|candidate| &*candidate.target));
            let refused = match explanation.plan.impossible() {
                None => {
                    let means = Means { place: place.take(), ceiling };
                    match self.dispatch(rules, inbound, &explanation, draft, store.clone(), means).await {
                        Ok(source) => return Ok(source),
                        Err(error) => error,
                    }
                }
                Some(Impossible::Budget(overdrawn)) => Error::Budget { overdrawn, explanation },
                Some(Impossible::NoCandidate) => Error::NoCandidate(explanation),
                Some(Impossible::Context) => Error::ContextLength(explanation),
                Some(Impossible::Unavailable { retry_after }) => Error::Unavailable { retry_after, explanation },
            };
            drop(place.take());
            draft.reserve(None, None);
            // Nobody was asked, and somebody has only too much to do: a place will become free.
            let Error::Unavailable { explanation, .. } = &refused else { return Err(refused) };
            let crowded = self.crowded(rules, explanation);
            if crowded.is_empty() {
                return Err(refused);
            }
            let missed = || self.crowded(rules, explanation).len() < crowded.len();
            let wait = self.dispatcher.fleet.lobby.wait(&mut stay, &rules.settings.overload, crowded.clone(), missed);
            let asked = Instant::now();
            let waited = wait.await;
            draft.waited(asked);
            place = match waited {
                Ok(place) => place,
                Err(shed) => {
                    metrics::counter!(Metric::Shed.name(), "reason" => shed.as_str()).increment(1);
                    return Err(refused);
                }
            };
        }
    }

    /// Where nobody can be asked, those who only pause are asked again sooner. True if that changed something.
    fn hasten(&self, rules: &Snapshot, explanation: &Explanation) -> bool {
        let plan = &explanation.plan;
        if !matches!(plan.impossible(), Some(Impossible::Unavailable { .. })) {
            return false;
        }
        let out = plan.excluded.iter().filter(|excluded| excluded.reason.remaining().is_some());
        let hastened = out.filter(|excluded| {
            let target = &excluded.target;
            self.dispatcher.fleet.hasten(target, rules.policy(&target.provider))
        });
        hastened.count() > 0
    }

    /// The providers in a plan that have as many requests as they may take.
    fn crowded(&self, rules: &Snapshot, explanation: &Explanation) -> Arc<[Arc<str>]> {
        let now = Instant::now();
        let plan = &explanation.plan;
        let candidates = plan.candidates.iter().map(|candidate| &candidate.target);
        let full = plan.excluded.iter().filter(|excluded| matches!(excluded.reason, Reason::Full { .. }));
        let mut names: Vec<Arc<str>> = candidates
            .chain(full.map(|excluded| &excluded.target))
            .filter(|target| {
                let vitals = self.dispatcher.fleet.vitals(target, rules.policy(&target.provider), now);
                matches!(vitals.availability, Availability::Full { .. })
            })
            .map(|target| target.provider.name.clone())
            .collect();
        names.sort_unstable();
        names.dedup();
        names.into()
    }

    async fn dispatch(
        &self,
        rules: &Snapshot,
        inbound: &Arc<Inbound>,
        explanation: &Arc<Explanation>,
        draft: &Arc<Draft>,
        store: Option<(Key, Arc<Cache>)>,
        Means { place, ceiling }: Means,
    ) -> Result<Source, Error> {
        let policy = |provider: &Provider| rules.policy(provider);
        let total = rules.settings.upstream.timeouts.total.0;
        let total = inbound.hints.deadline.map_or(total, |wanted| wanted.min(total));
        let deadline = tokio::time::Instant::from_std(inbound.began) + total;
        let treatment = inbound.treatment.as_deref();
        let headers = treatment.map(Treatment::request_headers).unwrap_or_default();
        let errand = Errand {
            plan: &explanation.plan,
            request: &inbound.request,
            variants: treatment.map(Treatment::variants).unwrap_or_default(),
            headers: &headers,
            task: explanation.task.name.as_str(),
            policy: &policy,
            trail: draft.trail(),
            max_latency: inbound.hints.max_latency,
            deadline,
            most_tries: inbound.hints.max_attempts,
            require_parameters: inbound.hints.require_parameters,
            hedge: &rules.settings.hedge,
            ceiling,
        };
        let explanation = explanation.clone();
        match self.dispatcher.run(&errand, place).await {
            Ok(delivered) => {
                let (inbound, recall) = (inbound.clone(), &self.recall);
                Ok(Metered::receive(delivered, explanation, inbound, draft.clone(), recall, store, deadline))
            }
            Err(defeat) => Err(self.defeated(rules, defeat, explanation, draft)),
        }
    }

    fn defeated(&self, rules: &Snapshot, defeat: Defeat, explanation: Arc<Explanation>, draft: &Draft) -> Error {
        let now = Instant::now();
        let candidates = || explanation.plan.candidates.iter().map(|candidate| &candidate.target);
        let fleet = &self.dispatcher.fleet;
        if !candidates().any(|target| fleet.admits(target, rules.policy(&target.provider), now)) {
            candidates().for_each(|target| {
                fleet.hasten(target, rules.policy(&target.provider));
            });
        }
        let retry_after = explanation
            .plan
            .candidates
            .iter()
            .filter_map(|candidate| {
                let target = &candidate.target;
                let vitals = self.dispatcher.fleet.vitals(target, rules.policy(&target.provider), now);
                error::remaining(&vitals.availability)
            })
            .min();
        match (defeat.failure, defeat.target) {
            (Some(failure), Some(target)) => Error::Upstream {
                failure: Failure {
                    // What is not believed is not passed on either.
                    retry_after: failure
                        .retry_after
                        .map(|hint| hint.min(rules.policy(&target.provider).retry.respect_retry_after.0)),
                    ..failure
                },
                target: target.id.clone(),
                attempts: draft.trail().list(),
                retry_after,
                explanation,
            },
            _ => Error::Unavailable {
                retry_after: retry_after.unwrap_or(std::time::Duration::from_secs(1)),
                explanation,
            },
        }
    }
}
