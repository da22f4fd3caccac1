//! The walk along the plan.
//!
//! A request never waits where another target could answer: moving on is immediate. Only when nobody else is left is
//! the same target tried again, after a jittered pause and within the provider's retry budget.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::attempt::{Answer, Heard, Limits, Question, attempt};
use super::fleet::{self, Fleet, Reserved, Ticket};
use super::settings::{Hedge, Policy};
use super::trail::Trail;
use crate::catalog::{Provider, Target};
use crate::chat::Request;
use crate::money::NanoUsd;
use crate::provider::failure::{Blow, Failure, FailureKind, Verdict};
use crate::provider::transport::Transport;
use crate::rank::plan::{Candidate, Plan};
use crate::resilience::backoff::{self, Budget};
use crate::telemetry::metric::Metric;
use crate::transform::Headers;

/// Until the first token while another candidate is left (DESIGN section 10).
const SOFT_FIRST_TOKEN: Duration = Duration::from_secs(10);
/// Until the first token otherwise, unless configured.
const HARD_FIRST_TOKEN: Duration = Duration::from_secs(20);
/// An unconfigured limit gives a target this many times what it usually takes.
const PATIENCE: u32 = 2;

#[derive(Default)]
pub struct Dispatcher {
    pub fleet: Fleet,
    pub transport: Transport,
    /// What hedges may still be spent.
    pub(super) hedges: Mutex<Option<Budget>>,
}

/// One request to be answered.
pub struct Errand<'a> {
    pub plan: &'a Plan,
    pub request: &'a Request,
    /// What goes to a provider of this name instead of the request.
    pub variants: &'a [(Arc<str>, Request)],
    /// Changes to headers, whoever is asked.
    pub headers: &'a [&'a Headers],
    pub task: &'a str,
    pub policy: &'a (dyn Fn(&Provider) -> &'a Policy + Send + Sync),
    pub trail: &'a Trail,
    /// The hint `max_latency`: also the limit of each attempt.
    pub max_latency: Option<Duration>,
    /// End of the whole request.
    pub deadline: Instant,
    /// What the caller allows in all, further tries on the same model included.
    pub most_tries: Option<u32>,
    /// The hint `provider.require_parameters`.
    pub require_parameters: bool,
    pub hedge: &'a Hedge,
    /// A candidate whose worst case is above is not tried; without a ceiling all may be.
    pub ceiling: Option<NanoUsd>,
}

/// An answer, and who gave it.
pub struct Delivered {
    pub answer: Answer,
    pub target: Arc<Target>,
    /// To be told how a stream ends.
    pub ticket: Ticket,
    /// When this attempt began, and when its first token was there.
    pub first_token: Instant,
    /// What the provider's format could not say.
    pub warnings: Vec<String>,
}

/// Nobody answered.
#[derive(Clone, Debug)]
pub struct Defeat {
    /// The last failure, `None` if no candidate could be tried.
    pub failure: Option<Failure>,
    /// The target of that failure.
    pub target: Option<Arc<Target>>,
}

impl Defeat {
    /// Which of two failures tells the caller what to do. One that passes says "later"; one of a single target ("too long
    /// for this model") says less than that, unless no target that failed otherwise could do more.
    fn yields_to(&self, failure: &Failure, target: &Target) -> bool {
        let (Some(known), Some(before)) = (&self.failure, &self.target) else { return true };
        let larger = || target.model.context.is_none_or(|window| before.model.context.is_some_and(|w| w <= window));
        match (passes(known.kind), passes(failure.kind)) {
            (true, false) => failure.kind == FailureKind::ContextLength && larger(),
            (false, true) => true,
            _ => !known.kind.verdict().callers_fault || failure.kind == FailureKind::ContextLength,
        }
    }
}

/// The same request could succeed there later.
fn passes(kind: FailureKind) -> bool {
    let verdict = kind.verdict();
    !verdict.callers_fault
        && (verdict.retry_here || matches!(kind, FailureKind::Timeout | FailureKind::Deadline | FailureKind::Stalled))
}

/// One try at one candidate, permitted.
pub(super) struct Try<'a> {
    pub candidate: &'a Candidate,
    pub policy: &'a Policy,
    pub ticket: Ticket,
    /// Somebody else could be asked after it.
    pub others_left: bool,
    /// On a new connection.
    pub fresh: bool,
}

/// How it ended.
pub(super) struct Tried<'a> {
    pub made: Try<'a>,
    pub result: Result<Answer, Failure>,
    pub heard: Heard,
    pub now: Instant,
}

/// What failed one model would probably fail the provider's others: they come after everybody else's, or all attempts
/// could go to one that is down. A refusal for load often concerns one model only, so another one may still be asked
/// while an attempt at somebody else is left. An order of the caller's own is kept, unless nobody is there at all.
fn spreads(failure: &Failure, target: &Target, errand: &Errand<'_>, tried: usize) -> bool {
    if failure.kind == FailureKind::Connect || errand.plan.listed {
        return failure.kind == FailureKind::Connect;
    }
    let tries_here = || errand.trail.list().iter().filter(|attempt| *attempt.provider == *target.provider.name).count();
    match failure.kind.verdict().breaker {
        Blow::Hard => true,
        Blow::Busy => tried + 1 >= errand.plan.max_attempts || tries_here() > 1,
        Blow::None => false,
    }
}

enum Step {
    Next,
    /// At once and on a new connection: the last one had been kept.
    Afresh,
    Again(Duration),
    GiveUp,
}

impl Dispatcher {
    /// Tries the candidates in order. Dropping the future stops everything: no further attempt starts.
    /// `place` is one that the request has waited for.
    pub async fn run(&self, errand: &Errand<'_>, mut place: Option<Reserved>) -> Result<Delivered, Defeat> {
        let candidates = &errand.plan.candidates;
        let mut defeat = Defeat { failure: None, target: None };
        let mut tried = 0;
        // Set by a context-length failure: only larger windows can help.
        let mut window_above = 0;
        let is_covered = |candidate: &&Candidate| {
            errand.ceiling.is_none_or(|ceiling| candidate.estimate.worst_cost.is_some_and(|worst| worst <= ceiling))
        };
        let mut waiting: VecDeque<&Candidate> = candidates.iter().filter(is_covered).collect();
        while let Some(candidate) = waiting.pop_front() {
            if tried >= errand.plan.max_attempts || Instant::now() >= errand.deadline {
                break;
            }
            if window_above > 0 && candidate.target.model.context.is_none_or(|window| window <= window_above) {
                continue;
            }
            let policy = (errand.policy)(&candidate.target.provider);
            let mut others_left = tried + 1 < errand.plan.max_attempts && !waiting.is_empty();
            let (mut retries, mut fresh) = (0, false);
            while let Some(ticket) = self.fleet.begin(&candidate.target, policy, Instant::now().into_std(), &mut place)
            {
                // Asked elsewhere, after all: the next one gets it.
                place = None;
                if retries == 0 && !fresh {
                    tried += 1;
                }
                let first = Try { candidate, policy, ticket, others_left, fresh };
                let ended = if errand.hedge.enabled && tried == 1 && retries == 0 {
                    let second = waiting.front().copied().filter(|_| others_left);
                    self.hedge(errand, first, second).await
                } else {
                    [Some(self.make(errand, first).await), None]
                };
                let mut step = Step::Next;
                for Tried { made: Try { candidate: asked, mut ticket, policy, .. }, result, heard, now } in
                    ended.into_iter().flatten()
                {
                    if asked.target.id != candidate.target.id {
                        // A hedge took the next place in the plan.
                        waiting.retain(|other| other.target.id != asked.target.id);
                        tried += 1;
                        others_left = tried < errand.plan.max_attempts && !waiting.is_empty();
                    }
                    let failure = match result {
                        Ok(answer) => {
                            if matches!(answer, Answer::Stream(_)) {
                                ticket.first_token(now.into_std());
                            }
                            let target = asked.target.clone();
                            return Ok(Delivered {
                                answer,
                                target,
                                ticket,
                                first_token: now,
                                warnings: heard.warnings,
                            });
                        }
                        Err(failure) => failure,
                    };
                    let opened = ticket.failed(now.into_std(), &failure);
                    drop(ticket);
                    if opened {
                        errand.trail.opened(&asked.target.id);
                    }
                    report(asked, &failure, opened, others_left);
                    step = self.decide(&failure, asked, policy, errand, others_left, retries);
                    if asked.target.id != candidate.target.id && matches!(step, Step::Afresh | Step::Again(_)) {
                        // Trying again means the candidate, and this was its hedge.
                        step = Step::Next;
                    }
                    if failure.kind == FailureKind::ContextLength {
                        window_above = window_above.max(asked.target.model.context.unwrap_or(0));
                    }
                    if spreads(&failure, &asked.target, errand, tried) {
                        let same = |other: &&Candidate| other.target.provider.name == asked.target.provider.name;
                        waiting.make_contiguous().sort_by_key(same);
                    }
                    if defeat.yields_to(&failure, &asked.target) {
                        defeat = Defeat { failure: Some(failure), target: Some(asked.target.clone()) };
                    }
                }
                match step {
                    Step::Afresh if !fresh => fresh = true,
                    Step::Next | Step::Afresh => break,
                    Step::GiveUp => return Err(defeat),
                    Step::Again(wait) => {
                        retries += 1;
                        tokio::time::sleep(wait).await;
                    }
                }
            }
        }
        Err(defeat)
    }

    /// Makes one try, and notes how it ended. Dropped in the middle it is noted as abandoned.
    pub(super) async fn make<'a>(&self, errand: &Errand<'a>, made: Try<'a>) -> Tried<'a> {
        let Try { candidate, policy, ticket, others_left, fresh } = &made;
        let allowed = first_token_limit(candidate, policy, errand, *others_left);
        let first_token = hurried(allowed, candidate, errand);
        let limits = Limits {
            first_token,
            deadline: errand.deadline,
            require_parameters: errand.require_parameters,
            is_hurried: first_token < allowed,
            fresh: *fresh,
            is_later: !errand.trail.is_empty(),
        };
        let mut trying = errand.trail.begin(&candidate.target, ticket.started);
        let mut heard = Heard::default();
        let trace = errand.trail.trace().map(|trace| (&**trace, trying.span));
        let provider = &candidate.target.provider.name;
        let variant = errand.variants.iter().find(|(name, _)| name == provider);
        let request = variant.map_or(errand.request, |(_, variant)| variant);
        let question = Question { policy, request, task: errand.task, limits, trace, headers: errand.headers };
        let result = attempt(&self.transport, &candidate.target, question, &mut heard).await;
        let now = Instant::now();
        ticket.headroom(now.into_std(), &heard.headroom);
        let status = result.as_ref().ok().map(|_| 200);
        // What is kept holds no prompt, though a provider may have quoted it.
        let noted = result.as_ref().err().map(|failure| failure.without_quotations(&errand.request.words()));
        trying.moments = heard.moments;
        trying.ended(now.into_std(), status, noted.as_ref());
        Tried { made, result, heard, now }
    }

    fn decide(
        &self,
        failure: &Failure,
        candidate: &Candidate,
        policy: &Policy,
        errand: &Errand<'_>,
        others_left: bool,
        retries: u32,
    ) -> Step {
        let Verdict { retry_here, next_target, .. } = failure.kind.verdict();
        if failure.kind == FailureKind::StaleConnection {
            return Step::Afresh;
        }
        if next_target && others_left {
            return Step::Next;
        }
        let is_used_up = || errand.most_tries.is_some_and(|most| errand.trail.list().len() >= most as usize);
        if !retry_here || retries >= policy.retry.same_target || is_used_up() {
            return if next_target { Step::Next } else { Step::GiveUp };
        }
        let backoff = &policy.retry.backoff;
        let wait = match failure.retry_after {
            // A caller is better served by an honest Retry-After than by a connection that hangs for half a minute.
            Some(hint) if hint > backoff.max.0 => return Step::Next,
            Some(hint) => hint,
            None => backoff::full_jitter(backoff.start.0, backoff.max.0, retries, fleet::random()),
        };
        let now = Instant::now();
        let cools = !self.fleet.admits(&candidate.target, policy, (now + wait).into_std());
        if now + wait >= errand.deadline
            || cools
            || !self.fleet.may_retry(&candidate.target.provider.name, now.into_std())
        {
            return Step::Next;
        }
        Step::Again(wait)
    }
}

/// How long this try may take to its first token. What the file says holds to the letter; the defaults are stretched for
/// targets that are known to be slow, such as models that think first, or plain answers that arrive in one piece.
fn first_token_limit(candidate: &Candidate, policy: &Policy, errand: &Errand<'_>, others_left: bool) -> Duration {
    let estimate = &candidate.estimate;
    let usual = if errand.request.stream { estimate.first_token } else { estimate.awaited };
    let configured = policy.timeouts.first_token.map(|span| span.0);
    let mut limit = configured.unwrap_or_else(|| HARD_FIRST_TOKEN.max(usual * PATIENCE));
    if others_left {
        let soft = if configured.is_some() { SOFT_FIRST_TOKEN } else { SOFT_FIRST_TOKEN.max(usual * PATIENCE) };
        limit = limit.min(soft);
    }
    limit
}

/// The same, cut to the hint `max_latency`.
fn hurried(limit: Duration, candidate: &Candidate, errand: &Errand<'_>) -> Duration {
    let estimate = &candidate.estimate;
    match errand.max_latency {
        Some(latency) if errand.request.stream => limit.min(latency),
        // A plain answer's first byte comes with its last token.
        Some(latency) => {
            limit.min(latency.saturating_add(estimate.awaited.saturating_sub(estimate.first_token) * PATIENCE))
        }
        None => limit,
    }
}

fn report(candidate: &Candidate, failure: &Failure, opened: bool, others_left: bool) {
    let target = &candidate.target.id;
    let (kind, status) = (failure.kind.as_str(), failure.status);
    metrics::counter!(Metric::AttemptFailures.name(), "provider" => target.provider().to_owned(), "kind" => kind)
        .increment(1);
    if opened {
        metrics::counter!(Metric::BreakerOpened.name(), "provider" => target.provider().to_owned()).increment(1);
        tracing::warn!(target.id = %target, kind, "breaker of `{target}` opened");
    }
    if failure.kind == FailureKind::Credential {
        tracing::error!(target.id = %target, status, "`{target}` refuses our credential; check the provider's api_key");
    }
    let next = if others_left { "trying the next target" } else { "no other target is left" };
    tracing::debug!(target.id = %target, kind, status, "`{target}` failed ({kind}); {next}");
}
