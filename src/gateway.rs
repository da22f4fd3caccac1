//! The request's path: [`Gateway::complete`] names every step in order.
//!
//! Knows nothing of HTTP servers, SQL or event streams. Everything that decides is called from here and is pure;
//! what waits is in `admission` (for a place) and `dispatch` (for a provider).

pub mod budgets;
pub mod draft;
pub mod error;
pub mod flight;
pub mod metered;
pub mod recall;
pub mod reply;
pub mod snapshot;
pub mod spending;
pub mod terms;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use dashmap::DashMap;
use futures_util::FutureExt;

use crate::admission::budget::Accounts;
use crate::admission::gate::Gate;
use crate::admission::intake::Intake;
use crate::admission::lobby::Stay;
use crate::admission::outstanding::Log;
use crate::admission::rate::{Headrooms, Limit, Limited, Limiter, Who};
use crate::admission::{Caller, Shed};
use crate::cache::Cache;
use crate::cache::key::Key;
use crate::catalog::Provider;
use crate::chat::Request;
use crate::classify::{Task, TaskName};
use crate::dispatch::cascade::{Defeat, Dispatcher, Errand};
use crate::dispatch::fleet::Reserved;
use crate::ledger::Ledger;
use crate::ledger::record::{Arrival, CacheUse, Record, Status};
use crate::meter::estimate;
use crate::money::NanoUsd;
use crate::provider::failure::Failure;
use crate::rank::explain::Explanation;
use crate::rank::hints::Hints;
use crate::rank::needs::Needs;
use crate::rank::plan::{Impossible, Question, plan};
use crate::rank::reason::Reason;
use crate::rank::score::Availability;
use crate::rank::select::Selection;
use crate::telemetry::metric::Metric;
use crate::tenant::Tenant;
use draft::{Draft, Leaving};
use error::Error;
use flight::{Flights, Source};
use metered::{Facts, Metered};
use recall::Recall;
use reply::Reply;
use snapshot::Snapshot;
use spending::{Held, Spending};
use terms::Terms;

/// A request as it came in, read but not yet decided about.
pub struct Inbound {
    pub request: Request,
    pub hints: Hints,
    /// The request id, the caller's own if it is sane.
    pub id: Arc<str>,
    pub began: Instant,
    pub began_unix_ms: i64,
    /// Who asks.
    pub tenant: Arc<Tenant>,
    /// Whose answers may be shared; empty without a credential.
    pub partition: Arc<str>,
    /// `cache-control: no-store`: neither read nor write the cache.
    pub no_store: bool,
    /// `cache-control: no-cache`: do not read, but write.
    pub refresh: bool,
    pub delivery: Arc<Delivery>,
    /// Whom fairness counts this request for.
    pub caller: Caller,
    pub arrival: Arrival,
}

/// What the caller has been told before there was an answer. Decides what a row says about a request that gets none.
#[derive(Debug, Default)]
pub struct Delivery {
    /// The 200 of a stream went out early, to keep the connection alive.
    began: AtomicBool,
    /// The server ended the request, because it stops itself.
    stopped: AtomicBool,
    /// The stream ended with an error event.
    broken: AtomicBool,
    /// What is left to the caller, once that is known.
    headrooms: OnceLock<Headrooms>,
}

impl Delivery {
    pub fn begin(&self) {
        self.began.store(true, Ordering::Relaxed);
    }

    /// Call before the request's future is dropped.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Call when an error ends a stream that has begun.
    pub fn break_off(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }

    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    fn left(&self, headrooms: Headrooms) {
        let _ = self.headrooms.set(headrooms);
    }

    /// What is left to the caller of its limits, this request taken; `None` before that is known.
    pub fn headrooms(&self) -> Option<&Headrooms> {
        self.headrooms.get()
    }

    pub fn has_begun(&self) -> bool {
        self.began.load(Ordering::Relaxed)
    }

    pub fn was_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

pub struct Gateway {
    rules: ArcSwap<Snapshot>,
    pub dispatcher: Dispatcher,
    cache: ArcSwap<Cache>,
    flights: Arc<Flights>,
    recall: Arc<Recall>,
    gate: Arc<Gate>,
    /// Before the gate.
    pub intake: Intake,
    limiter: Limiter,
    /// What was spent of budgets and daily tokens.
    pub accounts: Accounts,
    /// Where holds are written down.
    log: Option<Arc<dyn Log>>,
    pub ledger: Ledger,
    /// For `round_robin`.
    turn: AtomicU64,
    /// The ids of requests under way, with how many share one (callers choose theirs).
    drafts: Arc<DashMap<Arc<str>, u32>>,
}

impl Gateway {
    pub fn new(snapshot: Snapshot, ledger: Ledger) -> Self {
        Self {
            cache: ArcSwap::from_pointee(Cache::new(&snapshot.settings.cache)),
            gate: Gate::new(snapshot.settings.overload.clone()),
            rules: ArcSwap::from_pointee(snapshot),
            dispatcher: Dispatcher::default(),
            flights: Arc::new(Flights::default()),
            recall: Arc::default(),
            intake: Intake::default(),
            limiter: Limiter::default(),
            accounts: Accounts::default(),
            log: None,
            ledger,
            turn: AtomicU64::new(0),
            drafts: Arc::default(),
        }
    }

    /// Holds are written down from now on.
    pub fn log_holds(&mut self, log: Arc<dyn Log>) {
        self.log = Some(log);
    }

    /// The rules in force. Load once per request.
    pub fn rules(&self) -> Arc<Snapshot> {
        self.rules.load_full()
    }

    /// Puts new rules in force. Requests under way finish under the old ones; breakers and speeds survive.
    pub fn replace_rules(&self, snapshot: Snapshot) {
        let old = self.rules.load();
        if old.settings.cache != snapshot.settings.cache {
            self.cache.store(Arc::new(Cache::new(&snapshot.settings.cache)));
        }
        self.gate.configure(snapshot.settings.overload.clone());
        self.dispatcher.fleet.forgive_credentials();
        self.rules.store(Arc::new(snapshot));
    }

    /// Requests that have come in and are not in the ledger yet.
    pub fn in_flight(&self) -> usize {
        self.drafts.len()
    }

    pub fn is_in_flight(&self, id: &str) -> bool {
        self.drafts.contains_key(id)
    }

    /// Requests that have a place, that wait for one here, and that wait for one at a provider.
    pub fn occupancy(&self) -> (u32, usize, usize) {
        let (in_flight, queued) = self.gate.occupancy();
        (in_flight, queued, self.dispatcher.fleet.lobby.len())
    }

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

    pub fn cached_answers(&self) -> u64 {
        self.cache.load().len()
    }

    /// Memory that they take, roughly.
    pub fn cached_bytes(&self) -> u64 {
        self.cache.load().bytes()
    }

    /// Answers one request. Whatever happens, dropping the future included, one row is written to the ledger.
    pub async fn complete(self: &Arc<Self>, mut inbound: Inbound) -> Result<Reply, Error> {
        self.ledger.room().await;
        let rules = self.rules();
        let draft = Draft::open(
            self.ledger.clone(),
            self.drafts.clone(),
            self.log.clone(),
            &inbound,
            &rules.settings.telemetry,
        );
        let leaving = Leaving::new(draft.clone());
        if let Err(error) = self.admit(&rules, &inbound, &draft) {
            leaving.stays();
            draft.refused(&error);
            return Err(error);
        }
        let asked = Instant::now();
        let entered = self.gate.enter(inbound.caller).await;
        draft.waited(asked);
        match entered {
            Ok(permit) => draft.admitted(permit),
            Err(shed) => {
                leaving.stays();
                metrics::counter!(Metric::Shed.name(), "reason" => shed.as_str()).increment(1);
                let error = Error::from(shed);
                draft.refused(&error);
                return Err(error);
            }
        }
        inbound.request.recalled = self.recall.look_up(&inbound.partition, &inbound.request);
        let result = self.answer(&rules, Arc::new(inbound), &draft).await;
        leaving.stays();
        if let Err(error) = &result {
            draft.refused(error);
        }
        result
    }

    /// Takes what the request needs of its caller's limits; the draft gives back what it did not use.
    fn admit(&self, rules: &Snapshot, inbound: &Inbound, draft: &Draft) -> Result<(), Error> {
        let terms = Terms::of(rules, &inbound.tenant)?;
        let (allowances, per_day) = (terms.allowances(inbound.caller), terms.token_allotments());
        if allowances.is_empty() && per_day.is_empty() {
            return Ok(());
        }
        let request = &inbound.request;
        let tokens = estimate::prompt(request).expected + request.max_tokens.unwrap_or(0);
        let now = Instant::now();
        let admitted = self.limiter.admit(&allowances, tokens, now).map_err(|refused| {
            inbound.delivery.left(self.limiter.headrooms(&allowances, now));
            limited(refused)
        })?;
        inbound.delivery.left(admitted.headrooms);
        let mut wanted = Vec::with_capacity(per_day.len());
        for allotment in per_day {
            // An answer may be shorter than it may be: the last tokens of a day are not kept from it.
            let left = self.accounts.balance(&allotment.account, inbound.began_unix_ms).left(allotment.limit);
            wanted.push((allotment, i64::try_from(tokens).unwrap_or(i64::MAX).min(left).max(1)));
        }
        let today = self.accounts.hold(wanted, inbound.began_unix_ms).map_err(|overdrawn| {
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

    /// The decision without a call.
    pub fn route(&self, inbound: &Inbound) -> Result<Explanation, Error> {
        let rules = self.rules();
        let selection = self.select(&rules, inbound)?;
        Ok(self.decide(&rules, inbound, &selection, None))
    }

    /// From the names in a request to the targets that this caller may have.
    fn select(&self, rules: &Snapshot, inbound: &Inbound) -> Result<Selection, Error> {
        let selection = rules.index.select(&inbound.request.model, &inbound.request.models)?;
        rules.check_hints(&inbound.hints)?;
        Ok(Terms::of(rules, &inbound.tenant)?.permit(inbound, selection)?)
    }

    async fn answer(
        self: &Arc<Self>,
        rules: &Arc<Snapshot>,
        inbound: Arc<Inbound>,
        draft: &Arc<Draft>,
    ) -> Result<Reply, Error> {
        let selection = self.select(rules, &inbound)?;
        if inbound.request.embed.is_some() {
            selection.of_one_model()?;
        }
        let cache = self.cache.load_full();
        let Some(key) = rules.cache_key(&inbound) else {
            draft.cache(CacheUse::Bypass);
            let source = self.fresh(rules, &inbound, &selection, draft, None).await?;
            return Ok(Reply::own(source, draft.clone()));
        };
        if !inbound.refresh
            && let Some(entry) = cache.get(&key)
            // A reload may have taken the target away, or this caller may not have it: what it said is not served then.
            && selection.contains(&entry.provider, &entry.model)
        {
            return Ok(Reply::hit(&entry, &inbound, draft));
        }
        draft.cache(CacheUse::Miss);
        if !rules.settings.cache.coalesce || inbound.refresh {
            let source = self.fresh(rules, &inbound, &selection, draft, Some((key, cache))).await?;
            return Ok(Reply::own(source, draft.clone()));
        }
        self.fly(rules, inbound, selection, draft, key, cache).await
    }

    /// Joins an identical request in flight, or starts one. A follower whose leader fails takes over, once.
    async fn fly(
        self: &Arc<Self>,
        rules: &Arc<Snapshot>,
        inbound: Arc<Inbound>,
        selection: Selection,
        draft: &Arc<Draft>,
        key: Key,
        cache: Arc<Cache>,
    ) -> Result<Reply, Error> {
        let selection = Arc::new(selection);
        for round in 0..2 {
            let start = || {
                let (gateway, rules, inbound) = (self.clone(), rules.clone(), inbound.clone());
                let (selection, draft, cache) = (selection.clone(), draft.clone(), cache.clone());
                async move {
                    let source = gateway.fresh(&rules, &inbound, &selection, &draft, Some((key, cache))).await?;
                    Ok(Arc::new(source.into_shared()))
                }
                .boxed()
            };
            let (flight, leads) = self.flights.join(key, start);
            // Whoever takes over after a failed leader pays for a call of its own.
            draft.cache(if leads { CacheUse::Miss } else { CacheUse::Coalesced });
            let asked = Instant::now();
            let result = flight.start().await;
            if !leads {
                draft.change(|record| record.timing.upstream = Some(asked.elapsed()));
            }
            match result {
                Ok(source) if leads => return Ok(Reply::leader(flight, source, draft.clone())),
                Ok(source) => match Reply::follower(flight.clone(), source.clone(), draft.clone(), &inbound).await {
                    Ok(reply) => return Ok(reply),
                    Err(failure) if round == 1 => return Err(cut(failure, source.facts())),
                    Err(_) => self.flights.leave(key, &flight),
                },
                Err(error) if leads || round == 1 || error.is_callers_fault() => return Err(error),
                Err(_) => self.flights.leave(key, &flight),
            }
        }
        unreachable!("the second round returns")
    }

    /// `place`: where the request has a place already, though it looks full to others.
    fn decide(
        &self,
        rules: &Snapshot,
        inbound: &Inbound,
        selection: &Selection,
        place: Option<&Reserved>,
    ) -> Explanation {
        let request = &inbound.request;
        let task = match &inbound.hints.task {
            Some(name) => Task { name: TaskName::from(name.as_str()), confidence: 1.0, signals: Vec::new() },
            None => rules.classifier.classify(&request.prompt()),
        };
        let needs = Needs::of(request);
        let by_task = rules.tasks.get(task.name.as_str());
        let routing = &rules.settings.routing;
        let floors = [Some(routing.min_skill), by_task.and_then(|rule| rule.min_skill), selection.min_skill];
        let now = Instant::now();
        let question = Question {
            selection,
            task: task.name.as_str(),
            needs: &needs,
            hints: &inbound.hints,
            strategy: by_task.and_then(|rule| rule.strategy).unwrap_or(routing.strategy),
            weights: routing.weights,
            min_skill: floors.into_iter().flatten().fold(0.0, f64::max),
            max_attempts: routing.max_attempts,
            when_impossible: rules.settings.when_impossible,
            seed: now.duration_since(rules.epoch).as_nanos() as u64
                ^ u64::from(request.body().len() as u32).rotate_left(40),
            turn: self.turn.fetch_add(1, Ordering::Relaxed),
        };
        let mut plan = plan(&question, |target| {
            let mut vitals = self.dispatcher.fleet.vitals(target, rules.policy(&target.provider), now);
            let ours = place.is_some_and(|place| *place.provider() == *target.provider.name);
            if ours && matches!(vitals.availability, Availability::Full { .. }) {
                vitals.availability = Availability::Closed;
            }
            vitals
        });
        if let Some(spending) = self.spending(rules, inbound) {
            spending.afford(&self.accounts, &mut plan);
        }
        Explanation::new(task, plan)
    }

    fn spending(&self, rules: &Snapshot, inbound: &Inbound) -> Option<Spending> {
        let terms = Terms::of(rules, &inbound.tenant).ok()?;
        Spending::of(&terms, &rules.provider_budgets, rules.settings.hedge.enabled, inbound.began_unix_ms)
    }

    /// Classify, rank, dispatch. The answer is metered into `draft` and, if it may be, stored under `store`.
    async fn fresh(
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
            let explanation = Arc::new(explanation);
            draft.decided(&explanation);
            draft.change(|record| record.timing.routing += began.elapsed());
            let held = match (self.spending(rules, inbound), explanation.plan.impossible()) {
                (Some(spending), None) => match spending.hold(&self.accounts, &explanation.plan) {
                    Ok(held) => Some(held),
                    // Somebody was quicker: what is left now may pay for something else.
                    Err(_) => continue,
                },
                _ => None,
            };
            let ceiling = held.as_ref().and_then(|held| held.ceiling);
            let first = explanation.plan.candidates.first();
            draft.reserve(held.map(|held: Held| held.hold), first.map(|candidate| &*candidate.target));
            let refused = match explanation.plan.impossible() {
                None => {
                    match self.dispatch(rules, inbound, &explanation, draft, store.clone(), place.take(), ceiling).await
                    {
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
        place: Option<Reserved>,
        ceiling: Option<NanoUsd>,
    ) -> Result<Source, Error> {
        let policy = |provider: &Provider| rules.policy(provider);
        let deadline = tokio::time::Instant::from_std(inbound.began) + rules.settings.upstream.timeouts.total.0;
        let errand = Errand {
            plan: &explanation.plan,
            request: &inbound.request,
            task: explanation.task.name.as_str(),
            policy: &policy,
            trail: draft.trail(),
            max_latency: inbound.hints.max_latency,
            deadline,
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

/// Counts a refusal for a caller's own limits.
fn limited(refused: Limited) -> Error {
    metrics::counter!(Metric::RateLimited.name(), "limit" => refused.limit.as_str()).increment(1);
    Error::Limited(refused)
}

/// A shared stream that was cut, for a follower that has seen nothing of it.
fn cut(failure: Failure, facts: &Facts) -> Error {
    let (target, explanation) = (facts.target.id.clone(), facts.explanation.clone());
    Error::Upstream { failure, target, attempts: Vec::new(), retry_after: None, explanation }
}
