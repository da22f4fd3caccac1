//! Opens the accounts of budgets and daily tokens with what the ledger says was spent: at the start, and when a reload
//! brings a budget that was not there before.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use jiff::tz::TimeZone;

use crate::admission::budget::{Account, Scope, Unit};
use crate::admission::calendar::{Period, stretch};
use crate::admission::outstanding::{Orphan, Settled};
use crate::gateway::Gateway;
use crate::ledger::Ledger;
use crate::ledger::journal::Failure;
use crate::ledger::record::{Record, Status};
use crate::ledger::usage::{Dimension, UsageQuery};
use crate::money::NanoUsd;
use crate::store::holds::Holds;
use crate::tenant::keyring::Keyring;
use crate::tenant::settings::{Budget, Limits, Settings};

/// How long rows that are not saved yet are waited for; those that are not there by then are in the accounts already.
const CATCH_UP: Duration = Duration::from_secs(2);

/// How long the rows of an earlier process may take to be saved.
const ADOPTION: Duration = Duration::from_secs(20);

/// Call before the rules are in force, and once more after it: what was settled in between is not missed.
pub async fn open(gateway: &Gateway, settings: &Settings, ring: &Keyring) -> Result<(), Failure> {
    let periods = periods(settings, ring);
    let zone = TimeZone::get(&settings.budgets.time_zone).unwrap_or(TimeZone::UTC);
    let now_ms = jiff::Timestamp::now().as_millisecond();
    if !periods.is_empty() {
        gateway.ledger.caught_up(CATCH_UP).await;
    }
    let spent = spent(&gateway.ledger, periods, &zone, now_ms).await?;
    gateway.accounts.open(zone, spent, now_ms);
    Ok(())
}

/// What a group of rows is summed by, so that [`scopes`] can tell whose it is.
pub const BY_SCOPE: [Dimension; 4] = [Dimension::Provider, Dimension::Tier, Dimension::Team, Dimension::Key];

/// Whose spending a group by [`BY_SCOPE`] is.
pub fn scopes(labels: &[String]) -> Vec<Scope> {
    let [provider, tier, team, key, ..] = labels else { return Vec::new() };
    let named = |name: &String, scope: fn(Arc<str>) -> Scope| (!name.is_empty()).then(|| scope(name.as_str().into()));
    let scopes = [
        Some(Scope::Total),
        named(provider, Scope::Provider),
        named(tier, Scope::Tier),
        named(team, Scope::Team),
        Some(Scope::Key(key.as_str().into())),
    ];
    scopes.into_iter().flatten().collect()
}

/// What the ledger says was spent in the stretch of each period that is on at `now_ms`. Accounts without rows are missing.
pub async fn spent(
    ledger: &Ledger,
    periods: BTreeSet<Period>,
    zone: &TimeZone,
    now_ms: i64,
) -> Result<HashMap<Account, i64>, Failure> {
    let mut spent: HashMap<Account, i64> = HashMap::new();
    for period in periods {
        let query = UsageQuery {
            group_by: BY_SCOPE.to_vec(),
            since_ms: Some(stretch(period, zone, now_ms).start_ms),
            ..UsageQuery::default()
        };
        for group in ledger.groups(&query).await? {
            let bought = &group.cell.bought;
            let tokens = i64::try_from(bought.prompt_tokens + bought.completion_tokens).unwrap_or(i64::MAX);
            for scope in scopes(&group.labels) {
                for (unit, amount) in [(Unit::Money, group.cell.cost.0), (Unit::Tokens, tokens)] {
                    let account = Account { scope: scope.clone(), period, unit };
                    *spent.entry(account).or_default() += amount;
                }
            }
        }
    }
    Ok(spent)
}

/// Requests that were under way when an earlier process was killed get their rows: at what they cost, if that was known,
/// else at the most they could have cost, for nobody knows what was paid. Returns the log that goes on from here.
pub async fn adopt_orphans(gateway: &Gateway, database: &Path) -> anyhow::Result<Holds> {
    let left = Holds::left_behind(database).context("the log of holds beside the database cannot be read")?;
    let mut adopted = 0;
    for Orphan { hold, end } in left {
        // By both: a job that is begun twice has two rows of one id, and so has a caller who repeats one.
        let is_known = gateway.ledger.has(&hold.id, hold.began_unix_ms).await?;
        if is_known || end.as_ref().is_some_and(Settled::is_nothing) {
            continue;
        }
        adopted += 1;
        let mut record = Record::new(hold.id.into(), hold.began_unix_ms);
        record.key = hold.key.map(Into::into);
        record.team = hold.team.map(Into::into);
        record.tier = hold.tier.map(Into::into);
        record.tags = hold.tags.into();
        record.status = Status::Interrupted;
        record.error = Some("router_stopped".to_owned());
        match end {
            Some(Settled { cost, used, provider, model, .. }) => {
                (record.provider, record.model) = (provider.into(), model);
                (record.prompt_tokens, record.completion_tokens) = (used.prompt_tokens, used.completion_tokens);
                (record.cached_tokens, record.reasoning_tokens) = (used.cached_tokens, used.reasoning_tokens);
                record.estimated_usage = used.estimated;
                record.cost = cost.map(NanoUsd);
                record.reason = "the router was stopped before this row was saved".to_owned();
            }
            None => {
                record.estimated_usage = true;
                record.cost = Some(NanoUsd(hold.worst));
                record.reason = "the router was stopped while this request was under way; the cost is the most it can \
                                 have been"
                    .to_owned();
            }
        }
        if record.provider.is_empty() {
            (record.provider, record.model) = (hold.provider.into(), hold.model);
        }
        gateway.ledger.append(record);
    }
    if adopted > 0 {
        tracing::warn!(
            requests = adopted,
            "requests were under way when the router was last stopped; they count as spent"
        );
        if !gateway.ledger.caught_up(ADOPTION).await {
            anyhow::bail!(
                "the rows of requests that were under way at the last stop cannot be saved; the log has the reason"
            );
        }
    }
    Holds::begin(database, gateway.ledger.clone()).context("the log of holds beside the database cannot be begun")
}

/// The periods that any budget or limit names.
fn periods(settings: &Settings, ring: &Keyring) -> BTreeSet<Period> {
    let of_tiers = settings.tiers.values().chain(settings.teams.values());
    let limits: Vec<&Limits> = of_tiers.chain(ring.keys().iter().map(|key| &key.limits)).collect();
    let budgets = &settings.budgets;
    let of_many = std::iter::once(&budgets.total).chain(budgets.providers.values()).chain(budgets.tiers.values());
    let all: Vec<&Budget> = of_many.chain(limits.iter().map(|limits| &limits.budget)).collect();
    let mut periods = BTreeSet::new();
    if all.iter().any(|budget| budget.day.is_some()) || limits.iter().any(|limits| limits.tokens_per_day.is_some()) {
        periods.insert(Period::Day);
    }
    if all.iter().any(|budget| budget.month.is_some()) {
        periods.insert(Period::Month);
    }
    let windows = all.iter().filter_map(|budget| budget.window);
    periods
        .extend(windows.map(|window| Period::Window(i64::try_from(window.length.0.as_millis()).unwrap_or(i64::MAX))));
    periods
}
