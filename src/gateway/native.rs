//! Lines of batches that a provider answers in a batch of its own: which may go there, what they are told as, what they may
//! cost, and how their answers become rows.
//!
//! A line is decided about as every request is, when it is taken in; its answer is treated, counted and written down as every
//! answer is, when it is there. What lies between is the provider's, and so nothing may go there that needs the router in
//! between: a second try elsewhere, a header of its own, an answer within seconds.

use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::Gateway;
use super::draft::{Draft, warn};
use super::error::Error;
use super::flight::Source;
use super::inbound::Inbound;
use super::metered::{Facts, settle_whole};
use super::reply::Reply;
use super::snapshot::Snapshot;
use super::spending::Spending;
use super::terms::Terms;
use super::treatment::Treatment;
use crate::admission::budget::everywhere::NotHeld;
use crate::admission::budget::{Allotment, Hold, Unit};
use crate::catalog::{BatchTerms, Target};
use crate::chat::{Request, Response};
use crate::classify::{Task, TaskName};
use crate::dispatch::attempt::outgoing;
use crate::guard::Tally;
use crate::ledger::Ledger;
use crate::ledger::record::{CacheUse, Decision};
use crate::meter::estimate;
use crate::money::{Discount, NanoUsd};
use crate::provider::batches::Protocol;
use crate::provider::failure::Failure;
use crate::rank::explain::Explanation;
use crate::rank::needs::Needs;
use crate::rank::score::{self, Vitals};
use crate::rank::settings::{Strategy, Weights};
use crate::resilience::patience::Patience;
use crate::tenant::Tenant;
use crate::tenant::settings::AtLimit;

/// A decision, kept with the line until its row is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decided {
    task: String,
    confidence: f64,
    strategy: String,
    reason: String,
    /// The shape of `POST /v1/route`.
    decision: String,
}

/// Where a line may go.
pub struct Fit {
    pub target: Arc<Target>,
    pub terms: BatchTerms,
    pub decided: Decided,
}

/// A line as a provider gets it, and the most that it takes.
pub struct Told {
    pub body: bytes::Bytes,
    /// At the discounted price; `None` if the model has no known one.
    pub worst: Option<NanoUsd>,
    /// Expected.
    pub tokens: i64,
}

/// What a provider has said about a line.
pub struct Heard {
    pub target: Arc<Target>,
    pub discount: Discount,
    pub decided: Option<Decided>,
    pub answer: Result<Response, Failure>,
    /// The line's row is in the ledger already: a server ended between that and the end of the line.
    pub is_written: bool,
}

/// What one line took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Took {
    pub money: i64,
    pub tokens: i64,
}

/// [`Decision`] that was written down before.
struct Kept(String);

impl Decision for Kept {
    fn json(&self) -> String {
        self.0.clone()
    }
}

impl Gateway {
    /// Where a provider's own batch could answer this line, with everything that is promised to its caller. `None`: it is
    /// answered like any other request.
    pub async fn fit(&self, rules: &Arc<Snapshot>, inbound: &mut Inbound) -> Option<Fit> {
        if !treated(rules, inbound) || !is_patient(inbound) {
            return None;
        }
        let selection = self.select(rules, inbound).ok()?;
        if let Some(key) = rules.cache_key(inbound)
            && self.cache.load().find(&key, &Patience::default(), super::known_strategy).await.is_some()
        {
            // That is cheaper still.
            return None;
        }
        let explanation = self.decide(rules, inbound, &selection, None);
        if explanation.plan.impossible().is_some() {
            return None;
        }
        let target = explanation.plan.candidates.first()?.target.clone();
        let terms = target.provider.batch?;
        Protocol::of(target.provider.format)?;
        tell(inbound, &target, terms.discount).ok()?;
        let reason = format!("{}; answered in the provider's own batch, {} off", explanation.reason(), terms.discount);
        let decided = Decided {
            task: explanation.task.name.as_str().to_owned(),
            confidence: explanation.task.confidence,
            strategy: explanation.plan.strategy.as_str().to_owned(),
            reason,
            decision: explanation.json(),
        };
        Some(Fit { target, terms, decided })
    }

    /// Treats a line once more as when it was decided about, and writes it for its target.
    ///
    /// # Errors
    /// It may not go there any more, or not as it is.
    pub fn retell(
        &self,
        rules: &Arc<Snapshot>,
        inbound: &mut Inbound,
        target: &Target,
        discount: Discount,
    ) -> Result<Told, Unfit> {
        let may_go = treated(rules, inbound)
            && self
                .select(rules, inbound)
                .is_ok_and(|selection| selection.contains(&target.provider.name, &target.model.id));
        let barred = || inbound.treatment.as_ref().is_some_and(|treatment| treatment.bars(&target.provider.name));
        if !may_go || barred() {
            return Err(Unfit);
        }
        tell(inbound, target, discount)
    }

    /// Holds what a part may cost, in every budget that concerns its lines. `None` as an amount: nobody knows. `committed`:
    /// the money may be spent already, so that it is held whether it fits or not. `at_ms`: when that was.
    ///
    /// # Errors
    /// It does not fit, or the store that all replicas share is gone.
    pub async fn hold_part(
        &self,
        tenant: &Tenant,
        target: &Target,
        money: Option<i64>,
        tokens: i64,
        (at_ms, now_ms): (i64, i64),
        committed: bool,
    ) -> Result<Hold, NotHeldForPart> {
        let rules = self.rules();
        let Ok(terms) = Terms::of(&rules, tenant) else {
            return if committed { Ok(Hold::default()) } else { Err(NotHeldForPart::TooMuch) };
        };
        let spending = Spending::of(&terms, &rules.provider_budgets, false, at_ms);
        let mut wanted: Vec<Allotment> = terms.token_allotments();
        wanted.extend(spending.iter().flat_map(|spending| spending.allotments(&target.provider.name)));
        if !committed && money.is_none() {
            let is_kept = |one: &Allotment| one.account.unit == Unit::Money && one.at_limit != AtLimit::Warn;
            if wanted.iter().any(is_kept) {
                return Err(NotHeldForPart::TooMuch);
            }
        }
        // What was begun in a stretch that is over is not counted in the next one.
        wanted.retain(|one| self.accounts.balance(&one.account, now_ms).stretch.start_ms <= at_ms);
        let amount = |one: &Allotment| match one.account.unit {
            Unit::Money => money.unwrap_or(0),
            Unit::Tokens => tokens,
        };
        let wanted = wanted.into_iter().map(|mut one| {
            if committed {
                one.at_limit = AtLimit::Warn;
            }
            let amount = amount(&one);
            (one, amount)
        });
        self.accounts.hold_everywhere(wanted.collect(), false, now_ms, &Patience::default()).await.map_err(|not_held| {
            match not_held {
                NotHeld::Overdrawn(_) => NotHeldForPart::TooMuch,
                NotHeld::Gone => NotHeldForPart::Gone,
            }
        })
    }

    /// What of a part's hold a line has really used.
    pub fn draw(&self, hold: &mut Hold, took: Took, provider: &str) {
        for warning in hold.draw(took.money, took.tokens, provider) {
            warn(&warning, &self.dispatcher.fleet.notes);
        }
    }

    /// Takes over what a provider has said about a line: its row is written, and what its caller gets is returned, with what
    /// it took. `inbound` began when the line was sent.
    pub fn heard(&self, rules: &Arc<Snapshot>, mut inbound: Inbound, heard: Heard) -> (Result<Reply, Error>, Took) {
        let Heard { target, discount, decided, answer, is_written } = heard;
        let ledger = if is_written { Ledger::default() } else { self.ledger.clone() };
        let is_treatable = treated(rules, &mut inbound);
        let telemetry = &rules.settings.telemetry;
        let notes = self.dispatcher.fleet.notes.clone();
        let draft = Draft::open(ledger, self.drafts.clone(), None, notes, &inbound, telemetry);
        draft.batched(discount);
        draft.cache(CacheUse::Bypass);
        let explanation = told(decided.as_ref());
        draft.decided(&explanation);
        draft.change(|record| {
            record.decision = decided.map(|decided| Arc::new(Kept(decided.decision)) as Arc<dyn Decision>);
        });
        let trying = draft.trail().begin(&target, inbound.began);
        let now = Instant::now();
        let noted = answer.as_ref().err().map(|failure| failure.without_quotations(&inbound.request.words()));
        trying.ended(now, answer.is_ok().then_some(200), noted.as_ref());
        let mut took = Took::default();
        let reply = match answer {
            Ok(answer) => {
                draft.answered_by(&target, None);
                let warnings = outgoing(&target, sent(&inbound, &target), "", &[]).map(|written| written.warnings);
                let own = || format!("chatcmpl-{}", uuid::Uuid::now_v7().simple());
                let facts = Facts {
                    id: if answer.id.is_empty() { own() } else { answer.id.clone() },
                    created: inbound.began_unix_ms / 1000,
                    model: if answer.model.is_empty() { target.model.id.clone() } else { answer.model.clone() },
                    target,
                    explanation,
                    warnings: warnings.unwrap_or_default(),
                    attempts: 1,
                };
                let store = rules.cache_key(&inbound).filter(|_| is_treatable).map(|key| (key, self.cache.load_full()));
                let replies = answer.choices.iter().map(|choice| &choice.message);
                self.recall.keep(&inbound.partition, facts.target.provider.format, replies);
                let response = Arc::new(settle_whole(answer, &facts, &inbound, &draft, store));
                if let Some(usage) = &response.usage {
                    let tokens = i64::try_from(usage.prompt_tokens.saturating_add(usage.completion_tokens));
                    took.tokens = tokens.unwrap_or(i64::MAX);
                    took.money = usage.cost.map_or(0, |cost| cost.0);
                }
                Reply::own(Source::Whole { facts, response }, draft.clone(), &inbound)
            }
            Err(failure) => Err(Error::Upstream {
                failure: failure.without_secrets(&target.provider),
                target: target.id.clone(),
                attempts: draft.trail().list(),
                retry_after: None,
                explanation,
            }),
        };
        if let Err(error) = &reply {
            draft.refused(error);
        }
        (reply, took)
    }
}

/// A treated line in the words of its target.
fn tell(inbound: &Inbound, target: &Target, discount: Discount) -> Result<Told, Unfit> {
    let treatment = inbound.treatment.as_deref();
    if treatment.is_some_and(|treatment| !treatment.request_headers().is_empty()) {
        // They are for one request, and there is one for all lines.
        return Err(Unfit);
    }
    let written = outgoing(target, sent(inbound, target), "", &[]).map_err(|_| Unfit)?;
    let request = &inbound.request;
    let (needs, weights, vitals) = (Needs::of(request), Weights::default(), Vitals::default());
    let estimate = score::estimate(target, "", &needs, &inbound.hints, weights, &vitals);
    let tokens = estimate::prompt(request).expected + request.most_tokens.unwrap_or(0) * u64::from(request.n);
    Ok(Told {
        body: written.body,
        worst: estimate.worst_cost.map(|worst| discount.off(worst)),
        tokens: i64::try_from(tokens).unwrap_or(i64::MAX),
    })
}

/// The request as guards let its target see it.
fn sent<'i>(inbound: &'i Inbound, target: &Target) -> &'i Request {
    let variants = inbound.treatment.as_deref().map(Treatment::variants).unwrap_or_default();
    let variant = variants.iter().find(|(name, _)| *name == target.provider.name);
    variant.map_or(&inbound.request, |(_, variant)| variant)
}

/// The line may not go where it was meant to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfit;

/// Why nothing was held for a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotHeldForPart {
    TooMuch,
    /// What the other replicas have spent cannot be known right now.
    Gone,
}

/// Does to a line what the configuration does to every request. False: it is refused, or cannot be treated.
fn treated(rules: &Arc<Snapshot>, inbound: &mut Inbound) -> bool {
    match Treatment::of(rules, &inbound.tenant, &mut inbound.request, &mut Tally::default()) {
        Ok(treatment) => {
            inbound.treatment = treatment.map(Arc::new);
            true
        }
        Err(_) => false,
    }
}

/// Nothing is asked for that a batch cannot give.
fn is_patient(inbound: &Inbound) -> bool {
    let hints = &inbound.hints;
    inbound.request.embed.is_none()
        && hints.max_latency.is_none()
        && hints.deadline.is_none()
        && !hints.latency_critical
        && !hints.explain
        && !hints.require_parameters
        && inbound.request.forwarded.is_empty()
}

/// What is left of a decision when the answer is there.
fn told(decided: Option<&Decided>) -> Arc<Explanation> {
    let (task, confidence, strategy, reason) = match decided {
        Some(Decided { task, confidence, strategy, reason, .. }) => {
            (task.as_str(), *confidence, Strategy::parse(strategy).unwrap_or_default(), reason.clone())
        }
        None => ("", 0.0, Strategy::default(), String::new()),
    };
    let task = Task { name: TaskName::from(task), confidence, signals: Vec::new() };
    Arc::new(Explanation::told(task, strategy, reason))
}
