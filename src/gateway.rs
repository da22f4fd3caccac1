//! The request's path: [`Gateway::complete`] names every step in order.
//!
//! Knows nothing of HTTP servers, SQL or event streams. Everything that decides is called from here and is pure;
//! what waits is in `admission` (for a place) and `dispatch` (for a provider).

mod admit; // may it come in
pub mod budgets;
pub mod draft;
pub mod error;
pub mod flight;
mod fresh; // an answer that has to be made
pub mod inbound;
pub mod metered;
pub mod native; // lines of a batch that a provider answers in a batch of its own
pub mod recall;
pub mod reply;
pub mod snapshot;
pub mod spending;
pub mod terms;
pub mod treatment;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use dashmap::DashMap;
use futures_util::FutureExt;

use crate::admission::budget::Accounts;
use crate::admission::gate::Gate;
use crate::admission::intake::Intake;
use crate::admission::outstanding::Log;
use crate::admission::rate::Limiter;
use crate::admission::shared::Shared;
use crate::cache::key::Key;
use crate::cache::{Cache, Second};
use crate::classify::{Task, TaskName};
use crate::dispatch::cascade::Dispatcher;
use crate::dispatch::fleet::Reserved;
use crate::ledger::Ledger;
use crate::ledger::record::CacheUse;
use crate::provider::failure::Failure;
use crate::rank::explain::Explanation;
use crate::rank::needs::Needs;
use crate::rank::plan::{Question, plan};
use crate::rank::score::Availability;
use crate::rank::select::Selection;
use crate::rank::settings::Strategy;
use crate::telemetry::metric::Metric;
use draft::{Draft, Leaving};
use error::Error;
use flight::Flights;
use inbound::Inbound;
use metered::Facts;
use recall::Recall;
use reply::Reply;
use snapshot::Snapshot;
use spending::Spending;
use terms::Terms;
use treatment::Foreseen;

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
    /// Where all replicas count.
    shared: Option<Shared>,
    /// Where all replicas keep answers.
    second: Option<Arc<dyn Second>>,
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
            shared: None,
            second: None,
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

    /// Limits, budgets and answers are those of all replicas from now on.
    pub fn share(&mut self, shared: Shared, second: Arc<dyn Second>) {
        self.limiter.share(shared.clone());
        self.accounts.share(shared.clone());
        self.shared = Some(shared);
        self.cache.store(Arc::new(Cache::new(&self.rules.load().settings.cache).with_second(second.clone())));
        self.second = Some(second);
    }

    /// Where all replicas count, if they do.
    pub fn shared(&self) -> Option<&Shared> {
        self.shared.as_ref()
    }

    /// Tells the shared store everything that it may have forgotten.
    pub fn tell_all(&self) {
        if let Some(Shared { counters, .. }) = &self.shared {
            let term = counters.term();
            self.accounts.tell_all(&**counters);
            self.limiter.tell_all(&**counters);
            counters.all_changed(term);
        }
    }

    /// The rules in force. Load once per request.
    pub fn rules(&self) -> Arc<Snapshot> {
        self.rules.load_full()
    }

    /// Puts new rules in force. Requests under way finish under the old ones; breakers and speeds survive.
    pub fn replace_rules(&self, snapshot: Snapshot) {
        let old = self.rules.load();
        if old.settings.cache != snapshot.settings.cache {
            let first = Cache::new(&snapshot.settings.cache);
            self.cache.store(Arc::new(match &self.second {
                Some(second) => first.with_second(second.clone()),
                None => first,
            }));
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
            self.dispatcher.fleet.notes.clone(),
            &inbound,
            &rules.settings.telemetry,
        );
        let leaving = Leaving::new(draft.clone());
        let treated = treatment::treat(&rules, &mut inbound, &draft);
        let admitted = match treated {
            Ok(()) => self.admit(&rules, &inbound, &draft).await,
            refused => refused,
        };
        if let Err(error) = admitted {
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

    /// The decision without a call.
    pub fn route(&self, mut inbound: Inbound) -> Result<Foreseen, Error> {
        let rules = self.rules();
        let guards = treatment::foresee(&rules, &mut inbound)?;
        let selection = self.select(&rules, &inbound)?;
        Ok(Foreseen { explanation: self.decide(&rules, &inbound, &selection, None), guards })
    }

    /// Refuses what could not be answered now, as far as the rules tell; no limit is touched.
    pub fn check(&self, inbound: &Inbound) -> Result<(), Error> {
        let rules = self.rules();
        let selection = self.select(&rules, inbound)?;
        if inbound.request.embed.is_some() {
            selection.of_one_model()?;
        }
        Ok(())
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
            return Reply::own(source, draft.clone(), &inbound);
        };
        if !inbound.refresh
            && let Some(entry) = cache.find(&key, draft.patience(), known_strategy).await
            // A reload may have taken the target away, or this caller may not have it: what it said is not served then.
            && selection.contains(&entry.provider, &entry.model)
        {
            return Reply::hit(&entry, &inbound, draft);
        }
        draft.cache(CacheUse::Miss);
        if !rules.settings.cache.coalesce || inbound.refresh {
            let source = self.fresh(rules, &inbound, &selection, draft, Some((key, cache))).await?;
            return Reply::own(source, draft.clone(), &inbound);
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
                Ok(source) if leads => return Reply::leader(flight, source, draft.clone(), &inbound),
                Ok(source) => match Reply::follower(flight.clone(), source.clone(), draft.clone(), &inbound).await {
                    Ok(reply) => return reply,
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
        if let Some(treatment) = &inbound.treatment {
            treatment.bar(&mut plan);
        }
        if let Some(spending) = self.spending(rules, inbound) {
            spending.afford(&self.accounts, &mut plan);
        }
        Explanation::new(task, plan)
    }

    fn spending(&self, rules: &Snapshot, inbound: &Inbound) -> Option<Spending> {
        let terms = Terms::of(rules, &inbound.tenant).ok()?;
        Spending::of(&terms, &rules.provider_budgets, rules.settings.hedge.enabled, inbound.began_unix_ms)
    }
}

fn known_strategy(word: &str) -> Option<&'static str> {
    Strategy::parse(word).map(Strategy::as_str)
}

/// A shared stream that was cut, for a follower that has seen nothing of it.
fn cut(failure: Failure, facts: &Facts) -> Error {
    let (target, explanation) = (facts.target.id.clone(), facts.explanation.clone());
    Error::Upstream { failure, target, attempts: Vec::new(), retry_after: None, explanation }
}
