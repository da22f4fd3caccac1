//! An answer on its way out, counted: usage, cost and the end are settled when it ends or is dropped.

use std::sync::Arc;

use tokio::time::Instant;

use super::draft::Draft;
use super::flight::Source;
use super::inbound::Inbound;
use super::recall::Recall;
use crate::cache::key::Key;
use crate::cache::{Cache, Entry};
use crate::catalog::{Format, Target};
use crate::chat::{Assembly, Chunk, Finish, Request, Response, Usage};
use crate::dispatch::attempt::Answer;
use crate::dispatch::cascade::Delivered;
use crate::dispatch::fleet::Ticket;
use crate::dispatch::patience::until;
use crate::dispatch::stream::OpenStream;
use crate::ledger::record::Answered;
use crate::meter::estimate;
use crate::provider::failure::{Failure, FailureKind};
use crate::rank::explain::Explanation;
use crate::telemetry::metric::Metric;

/// What is known of an answer before its first byte goes out.
#[derive(Clone)]
pub struct Facts {
    pub id: String,
    /// Unix seconds.
    pub created: i64,
    /// The model in the provider's own words.
    pub model: String,
    pub target: Arc<Target>,
    pub explanation: Arc<Explanation>,
    pub warnings: Vec<String>,
    pub attempts: usize,
}

/// Of a provider's id or model in a trace, in characters: whatever a provider says there, it is no place for an answer.
const LONGEST_NAME: usize = 200;

impl Facts {
    fn answered(&self, finish: Vec<&'static str>) -> Answered {
        let short = |text: &str| text.chars().take(LONGEST_NAME).collect();
        Answered { id: short(&self.id), model: short(&self.model), finish }
    }
}

/// A stream that is counted as it passes.
pub struct Metered {
    pub facts: Facts,
    stream: OpenStream,
    ticket: Ticket,
    first_token: Instant,
    deadline: Instant,
    assembly: Assembly,
    inbound: Arc<Inbound>,
    draft: Arc<Draft>,
    recall: Arc<Recall>,
    store: Option<(Key, Arc<Cache>)>,
    /// Usage with its cost, once the answer has ended.
    settled: Option<Usage>,
}

impl Metered {
    /// Takes over what the dispatcher delivered. A whole answer is settled at once.
    pub fn receive(
        delivered: Delivered,
        explanation: Arc<Explanation>,
        inbound: Arc<Inbound>,
        draft: Arc<Draft>,
        recall: &Arc<Recall>,
        store: Option<(Key, Arc<Cache>)>,
        deadline: Instant,
    ) -> Source {
        let Delivered { answer, target, mut ticket, first_token, warnings } = delivered;
        let streamed = matches!(answer, Answer::Stream(_));
        draft.answered_by(&target, streamed.then(|| first_token.into_std()));
        let (id, model) = match &answer {
            Answer::Whole(response) => (response.id.as_str(), response.model.as_str()),
            Answer::Stream(stream) => (stream.id().unwrap_or_default(), stream.model().unwrap_or_default()),
        };
        let own = || format!("chatcmpl-{}", uuid::Uuid::now_v7().simple());
        let facts = Facts {
            id: if id.is_empty() { own() } else { id.to_owned() },
            created: inbound.began_unix_ms / 1000,
            model: if model.is_empty() { target.model.id.clone() } else { model.to_owned() },
            target,
            explanation,
            warnings,
            attempts: draft.trail().len(),
        };
        match answer {
            Answer::Whole(response) => {
                if draft.is_traced() {
                    let finish = response.choices.iter().map(|choice| choice.finish.as_str()).collect();
                    draft.answered(facts.answered(finish));
                }
                let replies = response.choices.iter().map(|choice| &choice.message);
                recall.keep(&inbound.partition, facts.target.provider.format, replies);
                let response = settle_whole(*response, &facts, &inbound, &draft, store);
                let tokens = response.usage.as_ref().map_or(0, |usage| usage.completion_tokens);
                ticket.answered(Instant::now().into_std(), tokens);
                Source::Whole { facts, response: Arc::new(response) }
            }
            Answer::Stream(stream) => Source::Stream(Box::new(Self {
                facts,
                stream: *stream,
                ticket,
                first_token,
                deadline,
                assembly: Assembly::default(),
                inbound,
                draft,
                recall: recall.clone(),
                store,
                settled: None,
            })),
        }
    }

    /// The next chunk; `Ok(None)` once the answer is complete, with its usage settled. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<Chunk>, Failure> {
        let late = |_| {
            Failure::new(
                FailureKind::Deadline,
                "the request took longer than `timeouts.total`, or than its caller gave it",
            )
        };
        match until(self.deadline, self.stream.next()).await.map_err(late).and_then(|result| result) {
            Ok(Some(chunk)) => {
                self.assembly.push(&chunk);
                Ok(Some(chunk))
            }
            Ok(None) => {
                self.complete();
                Ok(None)
            }
            Err(failure) => {
                let failure = failure.without_secrets(&self.facts.target.provider);
                let now = Instant::now().into_std();
                if self.ticket.failed(now, &failure) {
                    self.draft.trail().opened(&self.facts.target.id);
                }
                self.draft.trail().spoil(now, &failure.without_quotations(&self.inbound.request.words()));
                self.settle();
                Err(failure)
            }
        }
    }

    fn complete(&mut self) {
        if self.settled.is_some() {
            return;
        }
        let usage = self.settle();
        let now = Instant::now();
        self.ticket.streamed(now.into_std(), usage.completion_tokens, now - self.first_token);
        self.recall.keep(&self.inbound.partition, self.facts.target.provider.format, self.assembly.replies());
        if self.stream.unreadable > 0 {
            // Something was left out: good enough for a reader who saw it happen, not for another one later.
            self.store = None;
        }
        if let Some((key, cache)) = self.store.take().filter(|_| self.stream.ended_with_stop()) {
            let facts = &self.facts;
            let assembly = std::mem::take(&mut self.assembly);
            let response = assembly.into_response(facts.id.clone(), facts.created, facts.model.clone(), Some(usage));
            cache.put(key, entry(response, facts));
        }
    }

    /// Puts usage and cost into the row, once. A stream that was cut or left costs what was seen of it.
    fn settle(&mut self) -> Usage {
        if let Some(usage) = &self.settled {
            return usage.clone();
        }
        let request = &self.inbound.request;
        let mut usage =
            believed(self.stream.usage().cloned(), &self.facts, &self.inbound.request).unwrap_or_else(|| {
                Usage::estimate(estimate::count(&request.all_text()), estimate::count(&self.assembly.text()))
            });
        if self.draft.is_traced() {
            self.draft.answered(self.facts.answered(self.assembly.finishes().collect()));
        }
        usage.cost = self.draft.used(&self.facts.target, &usage);
        self.settled = Some(usage.clone());
        usage
    }

    /// What the answer used and cost; `None` until it has ended.
    pub fn usage(&self) -> Option<&Usage> {
        self.settled.as_ref()
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        self.settle();
    }
}

/// The provider's count, unless it was absurd; that is counted, so that somebody can ask the provider about it.
fn believed(usage: Option<Usage>, facts: &Facts, request: &Request) -> Option<Usage> {
    let usage = usage?;
    if usage.is_refused || is_absurd(&usage, facts, request) {
        let provider = facts.target.provider.name.to_string();
        metrics::counter!(Metric::UsageRefused.name(), "provider" => provider).increment(1);
        return None;
    }
    Some(usage)
}

/// More than the request can have used, by a wide margin: longer answers than the model or the caller allows, more of a
/// prompt than there are bytes. Wide, because a limit in the catalogue may be old, and a provider's own instructions count.
fn is_absurd(usage: &Usage, facts: &Facts, request: &Request) -> bool {
    const MARGIN: u64 = 4;
    const INSTRUCTIONS: u64 = 100_000;
    const LONGEST_ANSWER: u64 = 256_000;
    let longest = facts.target.model.max_output.unwrap_or(LONGEST_ANSWER).max(request.most_tokens.unwrap_or(0));
    let media = (request.images() + request.audio() + request.files()) as u64;
    let sent = request.body().len() as u64 + request.embed.as_ref().map_or(0, |embed| embed.body.len() as u64);
    usage.completion_tokens > longest.saturating_mul(MARGIN * u64::from(request.n.max(1)))
        || usage.prompt_tokens > sent * MARGIN + INSTRUCTIONS * (1 + media)
}

/// Puts usage and cost of a whole answer into its row.
pub(super) fn settle_whole(
    mut response: Response,
    facts: &Facts,
    inbound: &Inbound,
    draft: &Draft,
    store: Option<(Key, Arc<Cache>)>,
) -> Response {
    response.id.clone_from(&facts.id);
    response.model.clone_from(&facts.model);
    if response.created == 0 {
        response.created = facts.created;
    }
    let mut usage = believed(response.usage.take(), facts, &inbound.request).unwrap_or_else(|| {
        let written: String = response.choices.iter().filter_map(|choice| choice.message.content.as_deref()).collect();
        Usage::estimate(estimate::count(&inbound.request.all_text()), estimate::count(&written))
    });
    usage.cost = draft.used(&facts.target, &usage);
    response.usage = Some(usage);
    if let Some((key, cache)) = store
        && response.choices.iter().all(|choice| choice.finish == Finish::Stop)
    {
        cache.put(key, entry(response.clone(), facts));
    }
    response
}

fn entry(response: Response, facts: &Facts) -> Entry {
    Entry {
        cost: response.usage.as_ref().and_then(|usage| usage.cost),
        response,
        task: facts.explanation.task.name.as_str().into(),
        strategy: facts.explanation.plan.strategy.as_str(),
        provider: facts.target.provider.name.clone(),
        model: facts.target.model.id.clone(),
        demo: facts.target.provider.format == Format::Demo,
        until: None,
    }
}
