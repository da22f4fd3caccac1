//! What one caller may do under the rules of one moment: its key, its tier and its team taken together.
//!
//! Looks up and compares; what is counted stands in `admission`.

use std::sync::Arc;

use super::inbound::Inbound;
use super::snapshot::Snapshot;
use crate::admission::Caller;
use crate::admission::budget::{Account, Allotment, Scope, Unit};
use crate::admission::calendar::Period;
use crate::admission::rate::{Allowance, Who};
use crate::catalog::Target;
use crate::rank::select::Selection;
use crate::tenant::Tenant;
use crate::tenant::settings::{AtLimit, Budget, DEFAULT_TIER, Limits};

/// Refused for who asks, not for what is asked: 403.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    #[error("the tier `{tier}` of this key is not in the configuration; an operator can add it under `tiers`")]
    Tier { tier: Arc<str> },
    #[error("{whose} may not ask for `{model}`; it may ask for {allowed}")]
    Model { whose: String, model: String, allowed: String },
    #[error("{whose} may use the providers {allowed} only, and none of them serves `{model}`")]
    Provider { whose: String, model: String, allowed: String },
    #[error("{whose} may not ask for the strategy `{strategy}`; it may ask for {allowed}")]
    Strategy { whose: String, strategy: &'static str, allowed: String },
}

impl Forbidden {
    pub fn code(&self) -> &'static str {
        match self {
            Self::Tier { .. } => "tier_not_found",
            Self::Model { .. } => "model_not_allowed",
            Self::Provider { .. } => "provider_not_allowed",
            Self::Strategy { .. } => "strategy_not_allowed",
        }
    }

    /// The member of the request at fault.
    pub fn param(&self) -> Option<&'static str> {
        match self {
            Self::Tier { .. } => None,
            Self::Model { .. } | Self::Provider { .. } => Some("model"),
            Self::Strategy { .. } => Some("strategy"),
        }
    }
}

/// The terms of one caller.
pub struct Terms<'r> {
    rules: &'r Snapshot,
    tenant: &'r Tenant,
    tier: Option<(&'r str, &'r Limits)>,
    team: Option<(&'r str, &'r Limits)>,
}

impl<'r> Terms<'r> {
    /// Refuses a key of a tier that does not exist: its limits are not known, and none would be too few.
    pub fn of(rules: &'r Snapshot, tenant: &'r Tenant) -> Result<Self, Forbidden> {
        let settings = &rules.settings.tenants;
        let tier = match &tenant.tier {
            Some(name) => match settings.tiers.get_key_value(&**name) {
                Some((name, limits)) => Some((name.as_str(), limits)),
                None => return Err(Forbidden::Tier { tier: name.clone() }),
            },
            None => settings.tiers.get_key_value(DEFAULT_TIER).map(|(name, limits)| (name.as_str(), limits)),
        };
        let team = tenant.team.as_ref().and_then(|name| settings.teams.get_key_value(&**name));
        Ok(Self { rules, tenant, tier, team: team.map(|(name, limits)| (name.as_str(), limits)) })
    }

    /// The tier and the team in force.
    pub fn names(&self) -> (Option<&'r str>, Option<&'r str>) {
        (self.tier.map(|(name, _)| name), self.team.map(|(name, _)| name))
    }

    /// Whose limits they are, for messages, and the limits.
    fn layers(&self) -> impl Iterator<Item = (&'static str, &str, &Limits)> {
        let key = self.tenant.name.as_deref().map(|name| ("key", name, &self.tenant.limits));
        let tier = self.tier.map(|(name, limits)| ("tier", name, limits));
        let team = self.team.map(|(name, limits)| ("team", name, limits));
        [key, tier, team].into_iter().flatten()
    }

    /// How much and how often: the key's own figures in the place of its tier's, and the team's beside them.
    pub fn allowances(&self, line: Caller) -> Vec<Allowance> {
        let (own, tier) = (&self.tenant.limits, self.tier.map(|(_, limits)| limits));
        let key = Allowance {
            who: if self.tenant.is_anonymous() { Who::Nobody(line.0) } else { Who::Key(self.tenant.id.clone()) },
            name: self.tenant.name.clone().unwrap_or_default(),
            requests_per_minute: own.requests_per_minute.or(tier.and_then(|tier| tier.requests_per_minute)),
            tokens_per_minute: own.tokens_per_minute.or(tier.and_then(|tier| tier.tokens_per_minute)),
            concurrency: own.concurrency.or(tier.and_then(|tier| tier.concurrency)),
        };
        let team = self.team.zip(self.tenant.team.clone()).map(|((_, limits), name)| Allowance {
            who: Who::Team(name.clone()),
            name,
            requests_per_minute: limits.requests_per_minute,
            tokens_per_minute: limits.tokens_per_minute,
            concurrency: limits.concurrency,
        });
        [Some(key), team].into_iter().flatten().filter(|allowance| !allowance.is_unlimited()).collect()
    }

    /// Tokens per day.
    pub fn token_allotments(&self) -> Vec<Allotment> {
        let own = self.tenant.limits.tokens_per_day.or(self.tier.and_then(|(_, limits)| limits.tokens_per_day));
        let key = own.map(|limit| (self.key_scope(), limit));
        let team = self.team.and_then(|(name, limits)| Some((Scope::Team(name.into()), limits.tokens_per_day?)));
        let allotment = |(scope, limit): (Scope, u64)| Allotment {
            account: Account { scope, period: Period::Day, unit: Unit::Tokens },
            limit: i64::try_from(limit).unwrap_or(i64::MAX),
            at_limit: AtLimit::Reject,
            warn_at: Arc::from([]),
        };
        [key, team].into_iter().flatten().map(allotment).collect()
    }

    fn key_scope(&self) -> Scope {
        Scope::Key(self.tenant.name.clone().unwrap_or_default())
    }

    /// The budgets that concern this caller, whoever answers.
    pub fn money_allotments(&self) -> Vec<Allotment> {
        let settings = &self.rules.settings.tenants;
        let mut all = Vec::new();
        allot(&mut all, &settings.budgets.total, || Scope::Total);
        if let Some((name, limits)) = self.tier {
            if let Some(budget) = settings.budgets.tiers.get(name) {
                allot(&mut all, budget, || Scope::Tier(name.into()));
            }
            if self.tenant.budget().is_none() {
                allot(&mut all, &limits.budget, || self.key_scope());
            }
        }
        if let Some((name, limits)) = self.team {
            allot(&mut all, &limits.budget, || Scope::Team(name.into()));
        }
        allot(&mut all, self.tenant.budget(), || self.key_scope());
        all
    }

    /// What is left of a selection. `names` are those that were asked for, one for each group.
    pub fn permit(&self, inbound: &Inbound, mut selection: Selection) -> Result<Selection, Forbidden> {
        let whose = |kind: &str, name: &str| format!("the {kind} `{name}`");
        let asked = inbound.hints.strategy.or(selection.strategy);
        let request = &inbound.request;
        for (kind, name, limits) in self.layers() {
            if let Some(strategy) = asked
                && !limits.strategies.is_empty()
                && !limits.strategies.iter().any(|word| crate::rank::settings::Strategy::parse(word) == Some(strategy))
            {
                let allowed = quoted(&limits.strategies);
                return Err(Forbidden::Strategy { whose: whose(kind, name), strategy: strategy.as_str(), allowed });
            }
            if !limits.models.is_empty() {
                let others = request.models.iter().filter(|other| **other != request.model);
                let mut names = std::iter::once(&request.model).chain(others);
                for group in &mut selection.groups {
                    let asked = names.next().map_or("", |name| without_suffix(name));
                    if !limits.models.iter().any(|allowed| allowed == asked) {
                        group.targets.retain(|target| lists(&limits.models, target));
                    }
                }
                if selection.groups.iter().all(|group| group.targets.is_empty()) {
                    let (model, allowed) = (short(&request.model), quoted(&limits.models));
                    return Err(Forbidden::Model { whose: whose(kind, name), model, allowed });
                }
            }
            if !limits.providers.is_empty() {
                for group in &mut selection.groups {
                    group.targets.retain(|target| lists(&limits.providers, target));
                }
                if selection.groups.iter().all(|group| group.targets.is_empty()) {
                    let (model, allowed) = (short(&request.model), quoted(&limits.providers));
                    return Err(Forbidden::Provider { whose: whose(kind, name), model, allowed });
                }
            }
        }
        selection.groups.retain(|group| !group.targets.is_empty());
        Ok(selection)
    }

    /// Whether every model and provider may be had.
    pub fn are_open(&self) -> bool {
        self.layers().all(|(_, _, limits)| limits.models.is_empty() && limits.providers.is_empty())
    }

    /// Whether a list of models shows this alias.
    pub fn shows_alias(&self, alias: &str) -> bool {
        self.layers().all(|(_, _, limits)| limits.models.is_empty() || limits.models.iter().any(|name| name == alias))
    }

    /// Whether a list of models shows this one.
    pub fn shows(&self, target: &Target) -> bool {
        self.layers().all(|(_, _, limits)| {
            (limits.models.is_empty() || lists(&limits.models, target))
                && (limits.providers.is_empty() || lists(&limits.providers, target))
        })
    }
}

/// By full name, model or provider.
fn lists(names: &[String], target: &Target) -> bool {
    names.iter().any(|name| name == target.id.as_str() || *name == target.model.id || **name == *target.provider.name)
}

fn without_suffix(name: &str) -> &str {
    name.strip_suffix(":floor").or(name.strip_suffix(":nitro")).unwrap_or(name)
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn short(name: &str) -> String {
    name.chars().take(200).collect()
}

/// One allotment for each period that a budget names.
pub fn allot(all: &mut Vec<Allotment>, budget: &Budget, scope: impl Fn() -> Scope) {
    if budget.is_none() {
        return;
    }
    let warn_at: Arc<[_]> = budget.warn_at.as_slice().into();
    let window = budget.window.map(|window| {
        let length = i64::try_from(window.length.0.as_millis()).unwrap_or(i64::MAX);
        (Period::Window(length), window.amount)
    });
    let periods = [budget.day.map(|day| (Period::Day, day)), budget.month.map(|month| (Period::Month, month)), window];
    all.extend(periods.into_iter().flatten().map(|(period, amount)| Allotment {
        account: Account { scope: scope(), period, unit: Unit::Money },
        limit: amount.0,
        at_limit: budget.at_limit,
        warn_at: warn_at.clone(),
    }));
}
