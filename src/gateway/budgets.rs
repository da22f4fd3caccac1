//! Budgets with what is left of them, for `GET /v1/budgets`, metrics and reports.

use serde::Serialize;

use super::Gateway;
use super::terms::{Terms, allot};
use crate::admission::budget::{Allotment, Scope};
use crate::money::NanoUsd;
use crate::resilience::patience::Patience;
use crate::tenant::Tenant;
use crate::tenant::settings::{AtLimit, DEFAULT_TIER, Settings};

/// One budget in its present stretch of time.
#[derive(Clone, Debug, Serialize)]
pub struct Standing {
    /// `total`, `provider`, `tier`, `team` or `key`.
    pub scope: &'static str,
    /// Of what; empty for the total.
    pub name: String,
    /// `day`, `month` or `window`.
    pub period: &'static str,
    pub limit_usd: NanoUsd,
    pub spent_usd: NanoUsd,
    /// By requests under way, at their worst.
    pub held_usd: NanoUsd,
    pub left_usd: NanoUsd,
    pub at_limit: AtLimit,
    pub began_at: Option<jiff::Timestamp>,
    pub resets_at: Option<jiff::Timestamp>,
}

/// The configured budgets of more than one key.
pub fn shared(settings: &Settings) -> Vec<Allotment> {
    let mut all = Vec::new();
    allot(&mut all, &settings.budgets.total, || Scope::Total);
    for (name, budget) in &settings.budgets.providers {
        allot(&mut all, budget, || Scope::Provider(name.as_str().into()));
    }
    for (name, budget) in &settings.budgets.tiers {
        allot(&mut all, budget, || Scope::Tier(name.as_str().into()));
    }
    for (name, limits) in &settings.teams {
        allot(&mut all, &limits.budget, || Scope::Team(name.as_str().into()));
    }
    all
}

/// The budgets of one key alone: its own, else what its tier gives each of its keys.
pub fn of_key(settings: &Settings, tenant: &Tenant) -> Vec<Allotment> {
    let tier = settings.tiers.get(tenant.tier.as_deref().unwrap_or(DEFAULT_TIER));
    let budget = match tier {
        Some(limits) if tenant.budget().is_none() => &limits.budget,
        _ => tenant.budget(),
    };
    let mut all = Vec::new();
    allot(&mut all, budget, || Scope::Key(tenant.name.clone().unwrap_or_default()));
    all
}

impl Gateway {
    /// Learns what the other replicas have spent of the configured budgets.
    pub async fn look_at_budgets(&self, now_ms: i64) {
        let all = shared(&self.rules().settings.tenants);
        let accounts = all.into_iter().map(|allotment| allotment.account);
        self.accounts.look(accounts, now_ms, &Patience::default()).await;
    }

    /// The configured budgets of more than one key.
    pub fn shared_budgets(&self, now_ms: i64) -> Vec<Standing> {
        let all = shared(&self.rules().settings.tenants);
        all.into_iter().map(|allotment| self.standing(&allotment, now_ms)).collect()
    }

    /// The budgets of one key, and of its team.
    pub fn budgets_of(&self, tenant: &Tenant, now_ms: i64) -> Vec<Standing> {
        let rules = self.rules();
        let Ok(terms) = Terms::of(&rules, tenant) else { return Vec::new() };
        let own = terms.money_allotments().into_iter();
        let own = own.filter(|allotment| matches!(allotment.account.scope, Scope::Key(_) | Scope::Team(_)));
        own.map(|allotment| self.standing(&allotment, now_ms)).collect()
    }

    fn standing(&self, allotment: &Allotment, now_ms: i64) -> Standing {
        let Allotment { account, limit, at_limit, .. } = allotment;
        let balance = self.accounts.balance(account, now_ms);
        let time = |ms| jiff::Timestamp::from_millisecond(ms).ok();
        Standing {
            scope: account.scope.kind(),
            name: account.scope.name().to_owned(),
            period: account.period.as_str(),
            limit_usd: NanoUsd(*limit),
            spent_usd: NanoUsd(balance.spent),
            held_usd: NanoUsd(balance.held),
            left_usd: NanoUsd(balance.left(*limit)),
            at_limit: *at_limit,
            began_at: time(balance.stretch.start_ms),
            resets_at: time(balance.stretch.end_ms),
        }
    }
}
