//! What the caller gets: a whole answer or a stream, with the facts that go into headers. Settles the row when the last
//! piece is handed over, or when the caller leaves.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::draft::Draft;
use super::error::Error;
use super::flight::{Flight, SharedSource, Source};
use super::inbound::Inbound;
use super::metered::{Facts, Metered};
use super::treatment::Dressing;
use crate::cache::Entry;
use crate::chat::{Chunk, Response, Usage, replay};
use crate::guard::Rejected;
use crate::ledger::record::{CacheUse, Status};
use crate::ledger::timing::Timing;
use crate::money::NanoUsd;
use crate::provider::failure::Failure;
use crate::rank::explain::Explanation;
use crate::transform::Transform;

pub struct Reply {
    pub head: Head,
    pub body: Body,
}

/// What the headers say.
pub struct Head {
    pub id: String,
    /// Unix seconds.
    pub created: i64,
    /// The model in the provider's own words, for the body.
    pub model: String,
    pub provider: Arc<str>,
    /// The model's id as registered here.
    pub target_model: String,
    pub task: Arc<str>,
    pub strategy: &'static str,
    pub reason: String,
    pub attempts: usize,
    pub cache: CacheUse,
    pub warnings: Vec<String>,
    pub explanation: Option<Arc<Explanation>>,
    pub timing: Timing,
    /// Whose changes to headers of the answer are to be made, in this order.
    pub changes: Vec<Arc<Transform>>,
    /// What guards found so far, as names and counts.
    pub guards: String,
}

pub enum Body {
    /// With the usage and cost that this caller is to see.
    Whole(Arc<Response>),
    Stream(Box<ReplyStream>),
}

/// The chunks of one reply.
pub struct ReplyStream {
    feed: Feed,
    /// What is done to each chunk, and those that are done.
    dressing: Option<Box<Dressing>>,
    passed: VecDeque<Arc<Chunk>>,
    usage: Option<Usage>,
    over: bool,
    draft: Arc<Draft>,
}

enum Feed {
    Own(Box<Metered>),
    /// A place in a shared stream.
    /// `_flight` keeps the flight in the air, so that others can join, as long as somebody reads.
    Shared {
        _flight: Arc<Flight>,
        source: Arc<SharedSource>,
        index: usize,
        follows: bool,
    },
    Replay(VecDeque<Chunk>),
}

impl Reply {
    /// An answer that nobody shares.
    ///
    /// # Errors
    /// A guard holds it back; so with the others.
    pub fn own(source: Source, draft: Arc<Draft>, inbound: &Inbound) -> Result<Self, Error> {
        match source {
            Source::Whole { facts, response } => Self::whole(Head::of(&facts, &draft), response, &draft, inbound),
            Source::Stream(metered) => {
                let head = Head::of(&metered.facts, &draft);
                Ok(Self::streamed(head, Feed::Own(metered), draft, inbound))
            }
        }
    }

    /// The reply of the request that started a flight.
    pub fn leader(
        flight: Arc<Flight>,
        source: Arc<SharedSource>,
        draft: Arc<Draft>,
        inbound: &Inbound,
    ) -> Result<Self, Error> {
        let head = Head::of(source.facts(), &draft);
        if let SharedSource::Whole { response, .. } = &*source {
            return Self::whole(head, response.clone(), &draft, inbound);
        }
        let feed = Feed::Shared { _flight: flight, source, index: 0, follows: false };
        Ok(Self::streamed(head, feed, draft, inbound))
    }

    fn whole(mut head: Head, response: Arc<Response>, draft: &Arc<Draft>, inbound: &Inbound) -> Result<Self, Error> {
        let response = dressed(&mut head, response, draft, inbound)?;
        draft.ended(Status::Completed, 200, None);
        Ok(Self { head, body: Body::Whole(response) })
    }

    fn streamed(mut head: Head, feed: Feed, draft: Arc<Draft>, inbound: &Inbound) -> Self {
        let dressing = inbound.treatment.as_ref().map(|treatment| treatment.of_answer(&head.provider));
        if let Some(dressing) = &dressing {
            dressing.head(&mut head);
        }
        let dressing = dressing.filter(|dressing| !dressing.is_none()).map(Box::new);
        Self { head, body: stream(feed, dressing, None, draft) }
    }

    /// The reply of a request that joined a flight: the answer costs it nothing.
    /// Fails where the shared stream is cut before a caller who wants it whole has seen anything.
    pub async fn follower(
        flight: Arc<Flight>,
        source: Arc<SharedSource>,
        draft: Arc<Draft>,
        inbound: &Inbound,
    ) -> Result<Result<Self, Error>, Failure> {
        let facts = source.facts();
        draft.decided(&facts.explanation);
        draft.cache(CacheUse::Coalesced);
        draft.answered_by(&facts.target, None);
        draft.change(|record| record.failovers = 0);
        let mut head = Head { attempts: 0, ..Head::of(facts, &draft) };
        let response = match &*source {
            SharedSource::Whole { response, .. } => response.clone(),
            SharedSource::Stream(_) if inbound.request.stream => {
                let feed = Feed::Shared { _flight: flight, source, index: 0, follows: true };
                return Ok(Ok(Self::streamed(head, feed, draft, inbound)));
            }
            SharedSource::Stream(broadcast) => {
                let asked = Instant::now();
                let whole = broadcast.gather().await?;
                *head.timing.upstream.get_or_insert_default() += asked.elapsed();
                Arc::new(whole)
            }
        };
        let usage = response.usage.as_ref();
        saved(&draft, usage, usage.and_then(|usage| usage.cost));
        Ok(Self::copied(head, &response, inbound, draft))
    }

    /// A stored answer.
    pub fn hit(entry: &Arc<Entry>, inbound: &Inbound, draft: &Arc<Draft>) -> Result<Self, Error> {
        draft.change(|record| {
            record.cache = CacheUse::Hit;
            record.task = entry.task.clone();
            record.strategy = entry.strategy;
            record.provider = entry.provider.clone();
            record.model.clone_from(&entry.model);
            record.demo = entry.demo;
            record.reason = "an identical request was answered before".to_owned();
        });
        saved(draft, entry.response.usage.as_ref(), entry.cost);
        let head = Head {
            id: entry.response.id.clone(),
            created: entry.response.created,
            model: entry.response.model.clone(),
            provider: entry.provider.clone(),
            target_model: entry.model.clone(),
            task: entry.task.clone(),
            strategy: entry.strategy,
            reason: "an identical request was answered before".to_owned(),
            attempts: 0,
            cache: CacheUse::Hit,
            warnings: Vec::new(),
            explanation: None,
            timing: draft.ready(),
            changes: Vec::new(),
            guards: String::new(),
        };
        Self::copied(head, &entry.response, inbound, draft.clone())
    }

    /// An answer that exists already, in the shape that was asked for, at no cost.
    fn copied(mut head: Head, response: &Response, inbound: &Inbound, draft: Arc<Draft>) -> Result<Self, Error> {
        let usage = response.usage.clone().map(|usage| Usage { cost: Some(NanoUsd::ZERO), ..usage });
        let response = Arc::new(Response { usage: usage.clone(), ..response.clone() });
        let response = dressed(&mut head, response, &draft, inbound)?;
        if inbound.request.stream {
            let feed = Feed::Replay(replay(&response).into());
            return Ok(Self { head, body: stream(feed, None, usage, draft) });
        }
        draft.ended(Status::Completed, 200, None);
        Ok(Self { head, body: Body::Whole(response) })
    }
}

/// A whole answer as this caller is to get it.
fn dressed(head: &mut Head, response: Arc<Response>, draft: &Draft, inbound: &Inbound) -> Result<Arc<Response>, Error> {
    let Some(treatment) = &inbound.treatment else { return Ok(response) };
    let mut dressing = treatment.of_answer(&head.provider);
    let mut result = Ok(response);
    if !dressing.is_none() {
        result = result.and_then(|response| {
            let mut own = Arc::unwrap_or_clone(response);
            dressing.whole(&mut own).map(|()| Arc::new(own))
        });
        draft.change(|record| record.guards = dressing.tally().to_string());
    }
    dressing.head(head);
    result.map_err(|rejected| Error::Guarded { rejected, answer: true })
}

fn stream(feed: Feed, dressing: Option<Box<Dressing>>, usage: Option<Usage>, draft: Arc<Draft>) -> Body {
    Body::Stream(Box::new(ReplyStream { feed, dressing, passed: VecDeque::new(), usage, over: false, draft }))
}

/// Why a stream ended before its end.
#[derive(Debug)]
pub enum Broken {
    Upstream(Failure),
    Guarded(Rejected),
}

/// Tokens that were not paid for a second time.
fn saved(draft: &Draft, usage: Option<&Usage>, cost: Option<NanoUsd>) {
    draft.change(|record| {
        record.cost = Some(NanoUsd::ZERO);
        record.saved_by_cache = cost;
        if let Some(usage) = usage {
            record.prompt_tokens = usage.prompt_tokens;
            record.completion_tokens = usage.completion_tokens;
            record.cached_tokens = usage.cached_tokens;
            record.reasoning_tokens = usage.reasoning_tokens;
            record.estimated_usage = usage.estimated;
        }
    });
}

impl Head {
    /// Before the draft is written: how the cache took part stands there.
    fn of(facts: &Facts, draft: &Draft) -> Self {
        let cache = draft.read(|record| record.cache).unwrap_or_default();
        let explanation = &facts.explanation;
        let mut warnings = facts.warnings.clone();
        if explanation.plan.relaxed {
            warnings.push("the hints exclude every candidate; the closest one was taken".to_owned());
        }
        Self {
            id: facts.id.clone(),
            created: facts.created,
            model: facts.model.clone(),
            provider: facts.target.provider.name.clone(),
            target_model: facts.target.model.id.clone(),
            task: explanation.task.name.as_str().into(),
            strategy: explanation.plan.strategy.as_str(),
            reason: explanation.outcome(&facts.target.id),
            attempts: facts.attempts,
            cache,
            warnings,
            explanation: Some(explanation.clone()),
            timing: draft.ready(),
            changes: Vec::new(),
            guards: String::new(),
        }
    }
}

impl ReplyStream {
    /// The next chunk; `Ok(None)` once the answer is complete and its row is written. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<Arc<Chunk>>, Broken> {
        loop {
            if let Some(chunk) = self.passed.pop_front() {
                return Ok(Some(chunk));
            }
            let next = self.undressed().await.map_err(Broken::Upstream)?;
            let (Some(dressing), Some(chunk)) = (&mut self.dressing, &next) else { return Ok(next) };
            let mut passed = Vec::with_capacity(2);
            let result = dressing.chunk(chunk, &mut passed);
            if let Err(rejected) = result {
                self.over = true;
                // Whoever drives the upstream alone closes it with this, and settles what it cost.
                self.feed = Feed::Replay(VecDeque::new());
                self.note();
                self.draft.close(Status::Interrupted, 200, Some("guard_rejected"));
                return Err(Broken::Guarded(rejected));
            }
            self.passed.extend(passed.into_iter().map(Arc::new));
        }
    }

    /// Puts into the row what guards found.
    fn note(&self) {
        if let Some(dressing) = &self.dressing {
            self.draft.change(|record| record.guards = dressing.tally().to_string());
        }
    }

    async fn undressed(&mut self) -> Result<Option<Arc<Chunk>>, Failure> {
        if self.over {
            return Ok(None);
        }
        let result = match &mut self.feed {
            Feed::Own(metered) => metered.next().await.map(|chunk| chunk.map(Arc::new)),
            Feed::Shared { source, index, .. } => {
                let SharedSource::Stream(broadcast) = &**source else { return Ok(None) };
                let result = broadcast.get(*index).await;
                *index += 1;
                result
            }
            Feed::Replay(chunks) => Ok(chunks.pop_front().map(Arc::new)),
        };
        match &result {
            Ok(Some(_)) => {}
            Ok(None) => {
                self.over = true;
                self.note();
                self.take_usage();
                self.draft.ended(Status::Completed, 200, None);
            }
            Err(failure) => {
                self.over = true;
                self.note();
                self.draft.ended(Status::Interrupted, 200, Some(failure.kind.as_str()));
            }
        }
        result
    }

    /// The server ends the stream before its end, and tells the caller so.
    pub fn abandon(&mut self) {
        self.over = true;
        self.draft.close(Status::Interrupted, 200, Some("shutting_down"));
    }

    /// What the answer used, once it is complete.
    pub fn usage(&self) -> Option<&Usage> {
        self.usage.as_ref()
    }

    fn take_usage(&mut self) {
        match &self.feed {
            Feed::Own(metered) => self.usage = metered.usage().cloned(),
            Feed::Replay(_) => {}
            Feed::Shared { source, follows, .. } => {
                let SharedSource::Stream(broadcast) = &**source else { return };
                self.usage = broadcast.usage();
                if *follows {
                    let cost = self.usage.as_ref().and_then(|usage| usage.cost);
                    saved(&self.draft, self.usage.as_ref(), cost);
                    if let Some(usage) = &mut self.usage {
                        usage.cost = Some(NanoUsd::ZERO);
                    }
                }
            }
        }
    }
}

impl Drop for ReplyStream {
    fn drop(&mut self) {
        if !self.over {
            self.note();
            self.draft.close(Status::ClientClosed, 499, Some("client_closed_request"));
        }
    }
}
