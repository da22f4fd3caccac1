//! A ledger row in the making: opened with the request, written exactly once, however the request ends.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use parking_lot::Mutex;

use super::error::Error;
use super::inbound::{Delivery, Inbound};
use crate::admission::budget::{Account, Allotment, Hold, Warning};
use crate::admission::gate::Permit;
use crate::admission::outstanding::{Log, Opened, Settled, Used};
use crate::admission::rate::Admitted;
use crate::catalog::{Format, Target};
use crate::chat::Usage;
use crate::dispatch::trail::{Attempt, Trail};
use crate::events::notes::Notes;
use crate::events::{Kind, facts};
use crate::ledger::Ledger;
use crate::ledger::record::{Answered, AttemptRow, BATCH_TIER, CacheUse, Record, Status};
use crate::ledger::timing::Timing;
use crate::meter::price;
use crate::money::{Discount, NanoUsd};
use crate::rank::explain::Explanation;
use crate::resilience::patience::Patience;
use crate::telemetry::settings::Settings as Telemetry;

/// Shared by everybody who adds to the row. The last one to let go writes it, unless it was written before.
pub struct Draft {
    ledger: Ledger,
    open: Arc<DashMap<Arc<str>, u32>>,
    trail: Trail,
    began: Instant,
    delivery: Arc<Delivery>,
    record: Mutex<Option<Record>>,
    explanation: Mutex<Option<Arc<Explanation>>>,
    /// The request's place in the router; given back with the row.
    permit: Mutex<Option<Permit>>,
    /// What it took of its caller's limits, and what it may cost: set right with the row.
    taken: Mutex<Taken>,
    log: Option<Arc<dyn Log>>,
    notes: Notes,
    /// With the store that all replicas share.
    patience: Patience,
    /// Off the usual price, in a provider's own batch.
    discount: OnceLock<Discount>,
}

#[derive(Default)]
struct Taken {
    admitted: Option<Admitted>,
    today: Option<Hold>,
    money: Option<Hold>,
}

impl Draft {
    /// `open` holds the ids of drafts that are not written yet.
    pub fn open(
        ledger: Ledger,
        open: Arc<DashMap<Arc<str>, u32>>,
        log: Option<Arc<dyn Log>>,
        notes: Notes,
        inbound: &Inbound,
        telemetry: &Telemetry,
    ) -> Arc<Self> {
        *open.entry(inbound.id.clone()).or_default() += 1;
        let mut record = Record::new(inbound.id.clone(), inbound.began_unix_ms);
        record.asked_model.clone_from(&inbound.request.model);
        record.stream = inbound.request.stream;
        record.is_of(&inbound.tenant);
        record.add_tags(&inbound.hints.tags);
        record.arrived(&inbound.arrival, telemetry);
        let trace = record.trace.clone();
        Arc::new(Self {
            ledger,
            open,
            trail: Trail::new(inbound.began, trace),
            began: inbound.began,
            delivery: inbound.delivery.clone(),
            record: Mutex::new(Some(record)),
            explanation: Mutex::new(None),
            permit: Mutex::new(None),
            taken: Mutex::default(),
            log,
            notes,
            patience: Patience::default(),
            discount: OnceLock::new(),
        })
    }

    pub fn patience(&self) -> &Patience {
        &self.patience
    }

    /// The request has a place now.
    pub fn admitted(&self, permit: Permit) {
        *self.permit.lock() = Some(permit);
    }

    /// The request is within its caller's limits.
    pub fn let_in(&self, admitted: Admitted, today: Hold) {
        let mut taken = self.taken.lock();
        taken.admitted = Some(admitted);
        taken.today = Some(today);
    }

    /// Holds what the request may cost from now on, in the place of what was held before. `first` is who is asked first.
    pub fn reserve(&self, hold: Option<Hold>, first: Option<&Target>) {
        let before = self.taken.lock().money.take();
        if let Some(before) = before {
            self.released(before);
        }
        let worst = hold.as_ref().and_then(Hold::money).filter(|worst| *worst > 0);
        if let (Some(log), Some(worst), Some(target)) = (&self.log, worst, first) {
            self.read(|record| {
                log.opened(&Opened {
                    id: record.id.to_string(),
                    began_unix_ms: record.started_unix_ms,
                    worst,
                    key: record.key.as_deref().map(str::to_owned),
                    team: record.team.as_deref().map(str::to_owned),
                    tier: record.tier.as_deref().map(str::to_owned),
                    tags: record.tags.to_string(),
                    provider: target.provider.name.to_string(),
                    model: target.model.id.clone(),
                });
            });
        }
        self.taken.lock().money = hold;
    }

    /// Nothing was used of it.
    fn released(&self, hold: Hold) {
        if let (Some(log), Some(1..)) = (&self.log, hold.money()) {
            self.read(|record| {
                let (id, began_unix_ms) = (record.id.to_string(), record.started_unix_ms);
                log.settled(&Settled { id, began_unix_ms, ..Settled::default() });
            });
        }
        hold.cancel();
    }

    /// The request waited for a place until now.
    pub fn waited(&self, since: Instant) {
        self.change(|record| record.timing.queued += since.elapsed());
    }

    pub fn trail(&self) -> &Trail {
        &self.trail
    }

    /// Changes the row, if it is not written yet.
    pub fn change(&self, change: impl FnOnce(&mut Record)) {
        if let Some(record) = self.record.lock().as_mut() {
            change(record);
        }
    }

    pub fn read<T>(&self, read: impl FnOnce(&Record) -> T) -> Option<T> {
        self.record.lock().as_ref().map(read)
    }

    pub fn explanation(&self) -> Option<Arc<Explanation>> {
        self.explanation.lock().clone()
    }

    pub fn cache(&self, use_: CacheUse) {
        self.change(|record| record.cache = use_);
    }

    /// The decision has been made.
    pub fn decided(&self, explanation: &Arc<Explanation>) {
        *self.explanation.lock() = Some(explanation.clone());
        self.change(|record| {
            record.task = explanation.task.name.as_str().into();
            record.task_confidence = explanation.task.confidence;
            record.strategy = explanation.plan.strategy.as_str();
            record.reason = explanation.reason().to_owned();
            record.decision = Some(explanation.clone());
        });
    }

    /// A target answers.
    pub fn answered_by(&self, target: &Target, first_token: Option<Instant>) {
        let first_token_ms = first_token.map(|at| at.saturating_duration_since(self.began).as_millis() as u64);
        let failovers = failed_targets(&self.trail.list(), target);
        let reason = self.explanation.lock().as_ref().map(|explanation| explanation.outcome(&target.id));
        self.change(|record| {
            record.provider = target.provider.name.clone();
            record.model.clone_from(&target.model.id);
            record.demo = target.provider.format == Format::Demo;
            record.first_token_ms = first_token_ms;
            record.failovers = failovers;
            record.reason = reason.unwrap_or_default();
        });
    }

    /// There is something to send. Returns where the time went.
    pub fn ready(&self) -> Timing {
        let (ready, upstream) = (Some(self.began.elapsed()), self.trail.upstream());
        let mut timing = Timing::default();
        self.change(|record| {
            // Whoever asked nobody itself may have waited for another one's answer.
            record.timing = Timing { ready, upstream: upstream.or(record.timing.upstream), ..record.timing };
            timing = record.timing;
        });
        timing
    }

    /// Spans of this request are wanted.
    pub fn is_traced(&self) -> bool {
        self.trail.trace().is_some_and(|trace| trace.is_recorded())
    }

    /// What a trace says of the answer.
    pub fn answered(&self, answered: Answered) {
        self.change(|record| record.answered = Some(Box::new(answered)));
    }

    /// It was bought in a provider's own batch, for this much less.
    pub fn batched(&self, discount: Discount) {
        let _ = self.discount.set(discount);
        self.change(|record| record.service_tier = Some(BATCH_TIER));
    }

    /// What the answer used. Returns its cost; `None` if the model has no known price.
    pub fn used(&self, target: &Target, usage: &Usage) -> Option<NanoUsd> {
        let discount = self.discount.get().copied().unwrap_or_default();
        let cost = target.model.price.as_ref().map(|prices| discount.off(price::cost(prices, usage)));
        let dearest = self.explanation.lock().as_ref().and_then(|explanation| {
            let dearest = explanation.plan.dearest()?;
            dearest.target.model.price.as_ref().map(|prices| price::cost(prices, usage))
        });
        self.change(|record| {
            record.prompt_tokens = usage.prompt_tokens;
            record.completion_tokens = usage.completion_tokens;
            record.cached_tokens = usage.cached_tokens;
            record.reasoning_tokens = usage.reasoning_tokens;
            record.estimated_usage = usage.estimated;
            record.cost = cost;
            record.saved_by_routing = dearest.zip(cost).map(|(dearest, cost)| dearest.saturating_sub(cost));
        });
        cost
    }

    /// The request got no answer.
    pub fn refused(&self, error: &Error) {
        let begun = self.delivery.has_begun();
        let mut status = if self.trail.is_empty() { Status::Rejected } else { Status::Failed };
        if let (None, Some(explanation)) = (self.explanation(), error.explanation()) {
            // Somebody else's decision, shared.
            self.decided(explanation);
        }
        if let Error::Upstream { target, attempts, .. } = error {
            status = Status::Failed;
            let demo = attempts.iter().any(|attempt| attempt.target == *target && attempt.demo);
            self.change(|record| {
                record.demo = demo;
                record.provider = target.provider().into();
                record.model = target.model().to_owned();
            });
        }
        let last = self.trail.list().into_iter().rfind(|attempt| !attempt.outrun);
        self.change(|record| {
            record.status = status;
            record.error = Some(error.code().to_owned());
            record.http_status = if begun { 200 } else { error.status() };
            if let Some(last) = last {
                asked(record, last);
            }
            record.failovers = 0;
        });
        self.write();
    }

    /// The caller has seen the end of it.
    pub fn ended(&self, status: Status, http_status: u16, error: Option<&str>) {
        self.close(status, http_status, error);
        self.write();
    }

    /// Notes how it ended for the caller without writing: others may still add to the row.
    pub fn close(&self, status: Status, http_status: u16, error: Option<&str>) {
        let total = self.began.elapsed();
        self.change(|record| {
            if record.status == Status::InProgress {
                record.status = status;
                record.http_status = http_status;
                record.error = error.map(str::to_owned);
                record.total_ms = total.as_millis() as u64;
                record.timing.total = total;
            }
        });
    }

    /// There is no answer and nobody waits for one any more.
    fn left(&self) {
        let seen = |status| if self.delivery.has_begun() { 200 } else { status };
        if std::thread::panicking() {
            self.close(Status::Failed, seen(500), Some("internal_error"));
        } else if self.delivery.was_stopped() {
            self.close(Status::Failed, seen(503), Some("shutting_down"));
        } else {
            self.close(Status::ClientClosed, 499, Some("client_closed_request"));
        }
    }

    fn write(&self) {
        let Some(mut record) = self.record.lock().take() else { return };
        drop(self.permit.lock().take());
        let taken = std::mem::take(&mut *self.taken.lock());
        if let (Some(log), Some(1..)) = (&self.log, taken.money.as_ref().and_then(Hold::money)) {
            log.settled(&settled(&record));
        }
        for warning in taken.settle(&record) {
            warn(&warning, &self.notes);
        }
        if record.timing.total.is_zero() {
            record.timing.total = self.began.elapsed();
            record.total_ms = record.timing.total.as_millis() as u64;
        }
        if record.provider.is_empty()
            && let Some(last) = self.trail.list().into_iter().rfind(|attempt| !attempt.outrun)
        {
            asked(&mut record, last);
        }
        record.attempts = self.trail.list().into_iter().map(row).collect();
        let id = record.id.clone();
        self.ledger.append(record);
        if let Entry::Occupied(mut open) = self.open.entry(id) {
            *open.get_mut() -= 1;
            if *open.get() == 0 {
                open.remove();
            }
        }
    }
}

impl Taken {
    /// Puts what was really used in the place of what was expected.
    fn settle(self, record: &Record) -> Vec<Warning> {
        // An answer from the cache, or somebody else's, used nothing.
        let is_bought = record.cache.is_bought();
        let tokens = if is_bought { record.prompt_tokens + record.completion_tokens } else { 0 };
        if let Some(admitted) = self.admitted {
            admitted.settle(tokens, Instant::now());
        }
        let tokens = i64::try_from(tokens).unwrap_or(i64::MAX);
        if let Some(today) = self.today {
            today.settle(0, tokens, "");
        }
        if let Some(hold) = self.money {
            // Without a price only budgets that cannot be passed are left, and nothing is known to add.
            let cost = record.cost.map_or(0, |cost| cost.0);
            return hold.settle(cost, 0, &record.provider);
        }
        Vec::new()
    }
}

/// For the log of holds: what the row says of money and tokens that were bought.
fn settled(record: &Record) -> Settled {
    let used = Used {
        prompt_tokens: record.prompt_tokens,
        completion_tokens: record.completion_tokens,
        cached_tokens: record.cached_tokens,
        reasoning_tokens: record.reasoning_tokens,
        estimated: record.estimated_usage,
    };
    Settled {
        id: record.id.to_string(),
        began_unix_ms: record.started_unix_ms,
        cost: record.cost.map(|cost| cost.0),
        // What was not bought is no use of anything.
        used: if record.cache.is_bought() { used } else { Used::default() },
        provider: record.provider.to_string(),
        model: record.model.clone(),
    }
}

/// Tells that a share of a budget has been reached.
pub fn warn(warning: &Warning, notes: &Notes) {
    let Allotment { account: Account { scope, period, .. }, limit, .. } = &warning.allotment;
    let percent = warning.share.0 * 100.0;
    let (spent, limit) = (NanoUsd(warning.balance.spent), NanoUsd(*limit));
    metrics::counter!(crate::telemetry::metric::Metric::BudgetWarnings.name(), "scope" => scope.kind(), "period" => period.as_str())
        .increment(1);
    tracing::warn!(
        target: "stepwell::budget",
        scope = scope.kind(),
        name = scope.name(),
        period = period.as_str(),
        percent,
        spent_usd = spent.usd(),
        limit_usd = limit.usd(),
        "{scope} has spent {percent:.0} % of the budget of this {}: {spent} of {limit}",
        period.as_str()
    );
    let told = facts([
        ("period", period.as_str().into()),
        ("percent", percent.into()),
        ("spent_usd", spent.usd().into()),
        ("limit_usd", limit.usd().into()),
    ]);
    notes.add(Kind::BudgetWarning, &scope.to_string(), told);
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Nobody said how it ended: whoever waited for it is gone.
        self.left();
        self.write();
    }
}

/// Who was asked last, where nobody answered.
fn asked(record: &mut Record, last: Attempt) {
    record.demo = last.demo;
    record.provider = last.provider.into();
    record.model = last.model;
}

/// Targets that failed before `answering` did not. A second try at the same one is no failover.
fn failed_targets(attempts: &[Attempt], answering: &Target) -> u32 {
    let others = attempts.iter().enumerate().filter(|(index, attempt)| {
        attempt.target != answering.id
            && !attempt.outrun
            && attempts[..*index].iter().all(|before| before.target != attempt.target)
    });
    others.count() as u32
}

fn row(attempt: Attempt) -> AttemptRow {
    AttemptRow {
        provider: attempt.provider,
        model: attempt.model,
        status: attempt.status,
        kind: match attempt.kind {
            None if attempt.outrun => Some("hedge_lost".to_owned()),
            None if attempt.abandoned => Some("client_closed".to_owned()),
            kind => kind.map(|kind| kind.as_str().to_owned()),
        },
        started_ms: attempt.started_ms,
        duration_ms: attempt.duration_ms,
        message: attempt.message,
        span: attempt.span,
        began: attempt.began,
        ended: attempt.ended,
        opened: attempt.opened,
    }
}

/// Notes a caller who leaves before there is an answer. A flight that others follow may keep the draft alive.
pub struct Leaving(Option<Arc<Draft>>);

impl Leaving {
    pub fn new(draft: Arc<Draft>) -> Self {
        Self(Some(draft))
    }

    pub fn stays(mut self) {
        self.0 = None;
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        if let Some(draft) = &self.0 {
            draft.left();
        }
    }
}
