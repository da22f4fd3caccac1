//! What a plan may cost: candidates that no budget can pay are left out, and what the others may cost is held.
//!
//! Everything goes by the worst case, never by what is likely: a budget is kept even if every answer is as long as it may
//! be. A model without a known price could cost anything, and is left out where a budget has to be kept.

use std::sync::Arc;

use super::terms::Terms;
use crate::admission::budget::everywhere::NotHeld;
use crate::admission::budget::{Account, Accounts, Allotment, Hold, Overdrawn};
use crate::money::NanoUsd;
use crate::rank::plan::{Candidate, Excluded, Plan};
use crate::rank::reason::Reason;
use crate::resilience::patience::Patience;
use crate::tenant::settings::AtLimit;

/// The budgets that concern one request.
pub struct Spending {
    /// Of the caller, whoever answers.
    caller: Vec<Allotment>,
    /// By provider.
    providers: Arc<[(Arc<str>, Vec<Allotment>)]>,
    /// A hedge may pay for two answers.
    times: i64,
    now_ms: i64,
}

/// What was held, and the worst case up to which candidates may be tried.
pub struct Held {
    pub hold: Hold,
    pub ceiling: Option<NanoUsd>,
}

impl Spending {
    /// `None` where no budget concerns the request.
    pub fn of(
        terms: &Terms<'_>,
        providers: &Arc<[(Arc<str>, Vec<Allotment>)]>,
        hedges: bool,
        now_ms: i64,
    ) -> Option<Self> {
        let caller = terms.money_allotments();
        let concerns = !caller.is_empty() || !providers.is_empty();
        concerns.then(|| Self { caller, providers: providers.clone(), times: if hedges { 2 } else { 1 }, now_ms })
    }

    fn of_provider(&self, name: &str) -> &[Allotment] {
        self.providers.iter().find(|(provider, _)| **provider == *name).map_or(&[], |(_, allotments)| allotments)
    }

    /// What has to be held where one provider answers, and nobody else is asked.
    pub fn allotments(&self, provider: &str) -> impl Iterator<Item = Allotment> {
        self.caller.iter().chain(self.of_provider(provider)).cloned()
    }

    /// All accounts that a request may be paid from.
    pub fn accounts(&self) -> impl Iterator<Item = Account> {
        let providers = self.providers.iter().flat_map(|(_, allotments)| allotments);
        self.caller.iter().chain(providers).map(|allotment| allotment.account.clone())
    }

    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }

    fn worst(&self, candidate: &Candidate) -> Option<i64> {
        candidate.estimate.worst_cost.map(|worst| worst.0.saturating_mul(self.times))
    }

    /// Why one of these budgets cannot pay for a candidate.
    fn shortfall(
        &self,
        accounts: &Accounts,
        allotments: &[Allotment],
        needed: Option<i64>,
    ) -> Option<(AtLimit, Reason)> {
        let kept = allotments.iter().filter(|allotment| allotment.at_limit != AtLimit::Warn);
        kept.filter_map(|allotment| {
            let balance = accounts.balance(&allotment.account, self.now_ms);
            let fits = needed.is_some_and(|needed| needed <= balance.left(allotment.limit));
            let account = allotment.account.clone();
            let overdrawn = || Overdrawn { account, limit: allotment.limit, balance, needed };
            (!fits).then(|| (allotment.at_limit, Reason::Budget(Arc::new(overdrawn()))))
        })
        // One that refuses is not overruled by one that would take something cheaper.
        .min_by_key(|(at_limit, _)| *at_limit != AtLimit::Reject)
    }

    /// Leaves out of a plan what cannot be paid. Takes nothing: also for a decision without a call.
    pub fn afford(&self, accounts: &Accounts, plan: &mut Plan) {
        let first = plan.candidates.first().map(|candidate| candidate.target.id.clone());
        let mut refused = false;
        let candidates = std::mem::take(&mut plan.candidates);
        for candidate in candidates {
            let needed = self.worst(&candidate);
            let own = self.of_provider(&candidate.target.provider.name);
            // A provider's budget moves traffic to the others, whatever it says about its limit.
            let reason = match self.shortfall(accounts, own, needed) {
                Some((_, reason)) => Some(reason),
                None => self.shortfall(accounts, &self.caller, needed).map(|(at_limit, reason)| {
                    refused |= at_limit == AtLimit::Reject && Some(&candidate.target.id) == first.as_ref();
                    reason
                }),
            };
            match reason {
                Some(reason) => plan.excluded.push(Excluded { target: candidate.target, reason }),
                None => plan.candidates.push(candidate),
            }
        }
        let is_changed = first != plan.candidates.first().map(|candidate| candidate.target.id.clone());
        if refused {
            // Not quietly something cheaper, where the budget says to refuse.
            let rest = plan.candidates.drain(..);
            plan.excluded.extend(rest.map(|rest| Excluded { target: rest.target, reason: Reason::BudgetRefuses }));
        } else if is_changed {
            let unpaid = plan
                .excluded
                .iter()
                .any(|excluded| matches!(&excluded.reason, Reason::Budget(overdrawn) if !overdrawn.is_of_a_provider()));
            if unpaid {
                plan.candidates.sort_by_key(|candidate| candidate.estimate.expected_cost.unwrap_or(NanoUsd(i64::MAX)));
            }
        }
    }

    /// Holds what the plan may cost: for the caller the dearest of those that come first, which is as far as later ones may
    /// go; for each provider with a budget its own dearest. Fails if somebody else was quicker; then the plan is to be made
    /// anew. Or if the store that all replicas share is gone.
    pub async fn hold(&self, accounts: &Accounts, plan: &Plan, patience: &Patience) -> Result<Held, NotHeld> {
        let first = plan.candidates.iter().take(plan.max_attempts);
        let dearest = first.filter_map(|candidate| candidate.estimate.worst_cost).max();
        // Where no budget of the caller's has to be kept, everything may be tried, also a model without a price.
        let strict = self.caller.iter().any(|allotment| allotment.at_limit != AtLimit::Warn);
        let ceiling = dearest.filter(|_| strict);
        let amount = |worst: NanoUsd| worst.0.saturating_mul(self.times);
        let mut wanted: Vec<(Allotment, i64)> =
            self.caller.iter().map(|allotment| (allotment.clone(), dearest.map_or(0, amount))).collect();
        for (name, allotments) in self.providers.iter() {
            let own = plan.candidates.iter().filter(|candidate| *candidate.target.provider.name == **name);
            let worst = own.filter_map(|candidate| candidate.estimate.worst_cost);
            let Some(most) = worst.filter(|worst| ceiling.is_none_or(|ceiling| *worst <= ceiling)).max() else {
                continue;
            };
            wanted.extend(allotments.iter().map(|allotment| (allotment.clone(), amount(most))));
        }
        let hold = accounts.hold_everywhere(wanted, false, self.now_ms, patience).await?;
        Ok(Held { hold, ceiling })
    }
}
