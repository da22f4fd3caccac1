//! Whether a request may come in: its caller's own limits, then room in the router. And the rows of those that may not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Gateway;
use super::draft::Draft;
use super::error::Error;
use super::inbound::Inbound;
use super::snapshot::Snapshot;
use super::terms::Terms;
use crate::admission::budget::everywhere::NotHeld;
use crate::admission::rate::{Headrooms, Limit, Limited, Who};
use crate::admission::{Caller, Shed};
use crate::ledger::record::{Arrival, CacheUse, Record, Status};
use crate::meter::estimate;
use crate::telemetry::metric::Metric;
use crate::tenant::Tenant;

impl Gateway {
    /// Refuses a request that has no chance of a place, or is one too many of its caller's, before its body is read.
    pub fn check_room(&self, caller: Caller, tenant: &Tenant) -> Result<(), Error> {
        let rules = self.rules.load();
        let allowances = Terms::of(&rules, tenant)?.allowances(caller);
        self.limiter.check(&allowances, Instant::now()).map_err(limited)?;
        self.gate.check(caller).map_err(|shed| self.shed(shed))
    }

    /// What is left to a caller who takes nothing now; `None` without limits.
    pub fn headrooms(&self, caller: Caller, tenant: &Tenant) -> Option<Headrooms> {
        let rules = self.rules.load();
        let allowances = Terms::of(&rules, tenant).ok()?.allowances(caller);
        (!allowances.is_empty()).then(|| self.limiter.headrooms(&allowances, Instant::now()))
    }

    /// Counts a refusal for load.
    pub fn shed(&self, shed: Shed) -> Error {
        metrics::counter!(Metric::Shed.name(), "reason" => shed.as_str()).increment(1);
        Error::from(shed)
    }

    /// A request that could not even be read is a row too.
    pub fn refuse(&self, id: &str, began: Instant, arrival: &Arrival, http_status: u16, code: &str, tenant: &Tenant) {
        let mut record = Record::new(id.into(), jiff::Timestamp::now().as_millisecond());
        record.is_of(tenant);
        record.arrived(arrival, &self.rules().settings.telemetry);
        record.status = Status::Rejected;
        record.http_status = http_status;
        record.error = Some(code.to_owned());
        record.timing.total = began.elapsed();
        record.total_ms = record.timing.total.as_millis() as u64;
        self.ledger.append(record);
    }

    /// An answer that was given before was given again, for the same idempotency key: a request, at no cost.
    pub fn replayed(&self, id: &str, http_status: u16, tenant: &Tenant) {
        let mut record = Record::new(id.into(), jiff::Timestamp::now().as_millisecond());
        record.is_of(tenant);
        record.status = Status::Completed;
        record.http_status = http_status;
        record.cache = CacheUse::Hit;
        record.reason = "the answer to the same `Idempotency-Key` was given again".to_owned();
        self.ledger.append(record);
    }

    /// Takes what the request needs of its caller's limits; the draft gives back what it did not use.
    pub(super) async fn admit(&self, rules: &Snapshot, inbound: &Inbound, draft: &Draft) -> Result<(), Error> {
        let terms = Terms::of(rules, &inbound.tenant)?;
        let (allowances, per_day) = (terms.allowances(inbound.caller), terms.token_allotments());
        if allowances.is_empty() && per_day.is_empty() {
            return Ok(());
        }
        let request = &inbound.request;
        let tokens = estimate::prompt(request).expected + request.most_tokens.unwrap_or(0) * u64::from(request.n);
        let patience = draft.patience();
        let admitted = self.limiter.admit_everywhere(&allowances, tokens, patience).await.map_err(|refused| {
            inbound.delivery.left(self.limiter.headrooms(&allowances, Instant::now()));
            limited(refused)
        })?;
        inbound.delivery.left(admitted.headrooms);
        // An answer may be shorter than it may be: the last tokens of a day are not kept from it.
        let wanted = per_day.into_iter().map(|allotment| (allotment, i64::try_from(tokens.max(1)).unwrap_or(i64::MAX)));
        let held = self.accounts.hold_everywhere(wanted.collect(), true, inbound.began_unix_ms, patience).await;
        let today = held.map_err(|not_held| {
            let overdrawn = match not_held {
                NotHeld::Overdrawn(overdrawn) => overdrawn,
                NotHeld::Gone => return self.shared_is_gone(),
            };
            let until = overdrawn.balance.stretch.end_ms.saturating_sub(inbound.began_unix_ms);
            let name = Arc::from(overdrawn.account.scope.name());
            let who = match overdrawn.account.scope.kind() {
                "team" => Who::Team(name),
                _ => Who::Key(name),
            };
            limited(Limited {
                limit: Limit::TokensPerDay,
                name: overdrawn.account.scope.name().into(),
                who,
                amount: overdrawn.limit.unsigned_abs(),
                retry_after: Duration::from_millis(until.unsigned_abs()),
            })
        })?;
        draft.let_in(admitted, today);
        Ok(())
    }
}

impl Gateway {
    /// Counts a request that is refused because nobody knows what the other replicas have spent.
    pub(super) fn shared_is_gone(&self) -> Error {
        metrics::counter!(Metric::SharedRefused.name()).increment(1);
        Error::SharedGone
    }
}

/// Counts a refusal for a caller's own limits.
fn limited(refused: Limited) -> Error {
    metrics::counter!(Metric::RateLimited.name(), "limit" => refused.limit.as_str()).increment(1);
    Error::Limited(refused)
}
