//! Which lines of a batch a provider is to answer in a batch of its own, and in which part.

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, HeaderValue};

use super::now_ms;
use crate::api::caller::Caller;
use crate::api::chat::understood;
use crate::api::edge::REQUEST_ID;
use crate::api::later::Desk;
use crate::api::later::work::{Owner, Work};
use crate::api::speech::Speech;
use crate::batch::native::{Part, Phase, SHORTEST_WINDOW, Use};
use crate::batch::{Batch, Native};
use crate::gateway::native::Fit;
use crate::gateway::snapshot::Snapshot;
use crate::jobs::job::{Kind, New};
use crate::ledger::journal::Failure;
use crate::ledger::record::Arrival;

/// What a line takes beside its body.
const AROUND_A_LINE: u64 = 200;
/// A part is looked at a few thousand times, and each crash of a server is an attempt: it must not run out of them.
const ATTEMPTS: u32 = 1_000_000;

/// Puts the lines of one batch into parts.
pub struct Sorter<'d> {
    desk: &'d Desk,
    batch: &'d Batch,
    rules: Arc<Snapshot>,
    /// `None`: no line goes to a provider's batch.
    caller: Option<Caller>,
    /// Those that are being filled, with lines and bytes.
    filling: Vec<(Part, u64, u64)>,
    /// Parts that there are.
    parts: usize,
}

impl<'d> Sorter<'d> {
    pub async fn open(desk: &'d Desk, batch: &'d Batch, owner: &Owner, speech: Speech) -> Result<Self, Failure> {
        let rules = desk.gateway.rules();
        let window_ms = i64::try_from(SHORTEST_WINDOW.as_millis()).unwrap_or(i64::MAX);
        let may_go = rules.settings.batches.native == Use::Auto
            && batch.native != Some(Native::Never)
            && batch.expires - batch.created >= window_ms
            && speech != Speech::Embeddings
            && rules.settings.providers.iter().any(|provider| provider.batch.is_some());
        let caller = owner.caller(&desk.access, now_ms()).ok().filter(|_| may_go);
        // Of an earlier try, that a crash has ended: its lines have their parts.
        let known = desk.kept.parts.of_batch(&batch.id).await?;
        let parts = known.len();
        let filling = known.into_iter().filter(|part| part.phase == Phase::Gathering).map(|part| (part, 0, 0));
        Ok(Self { desk, batch, rules, caller, filling: filling.collect(), parts })
    }

    /// The part that is to carry this line. What was decided is noted in it.
    pub async fn sort(&mut self, id: &str, work: &mut Work) -> Result<Option<Part>, Failure> {
        let Some(caller) = &self.caller else { return Ok(None) };
        let mut headers = HeaderMap::new();
        let Ok(value) = HeaderValue::try_from(id) else { return Ok(None) };
        headers.insert(REQUEST_ID, value);
        let arrival = Arrival { ingress: work.speech.as_str(), ..Arrival::default() };
        let read = understood(caller, &headers, work.body.clone(), Instant::now(), work.speech, &arrival);
        let Ok((mut inbound, ..)) = read else { return Ok(None) };
        let Some(fit) = self.desk.gateway.fit(&self.rules, &mut inbound).await else { return Ok(None) };
        let bytes = work.body.len() as u64 + AROUND_A_LINE;
        let part = self.part(&fit, bytes).await?;
        work.decided = Some(fit.decided);
        Ok(Some(part))
    }

    /// The part for a target that has room, or a new one.
    async fn part(&mut self, fit: &Fit, bytes: u64) -> Result<Part, Failure> {
        let (target, terms) = (&fit.target, &fit.terms);
        let is_it = |part: &Part| *part.provider == *target.provider.name && part.model == target.model.id;
        // What is sent may be somewhat longer than what came.
        let fits = |lines: u64, sum: u64| lines < terms.max_lines && sum + bytes <= terms.max_bytes / 10 * 9;
        let found = self.filling.iter_mut().find(|(part, lines, sum)| is_it(part) && fits(*lines, *sum));
        if let Some((part, lines, sum)) = found {
            *lines += 1;
            *sum += bytes;
            return Ok(part.clone());
        }
        self.parts += 1;
        let id = format!("{}.native.{}", self.batch.id, self.parts);
        let discount = terms.discount.millionths();
        let part = Part::new(id, &self.batch.id, &target.provider.name, &target.model.id, discount, now_ms());
        self.desk.kept.parts.begin(&part).await?;
        self.filling.push((part.clone(), 1, bytes));
        Ok(part)
    }

    /// All lines are there: parts with too few of them are let go, the others begin.
    pub async fn finish(self) -> Result<(), Failure> {
        let least = match self.batch.native {
            Some(Native::Wanted) => 1,
            _ => self.rules.settings.batches.min_lines,
        };
        let parts = &self.desk.kept.parts;
        for (place, mut part) in parts.of_batch(&self.batch.id).await?.into_iter().enumerate() {
            if part.phase == Phase::Gathering {
                if parts.count(&part.id).await? < least {
                    parts.release(&part.id, None, self.batch.expires).await?;
                    (part.phase, part.ended) = (Phase::Ended, Some(now_ms()));
                } else {
                    part.phase = Phase::Ready;
                }
                parts.save(&part, None).await?;
            }
            // A part that is further has its job; said twice, it is there once.
            if part.phase == Phase::Ready {
                self.desk.kept.queue.submit(&[self.job(part.id, place)]).await?;
            }
        }
        Ok(())
    }

    fn job(&self, id: String, place: usize) -> New {
        New {
            id,
            kind: Kind::NativeBatch,
            key: self.batch.key.clone(),
            part_of: Some((self.batch.id.clone(), i64::try_from(place).unwrap_or(0))),
            priority: 0,
            not_before_unix_ms: None,
            expires_unix_ms: None,
            max_attempts: ATTEMPTS,
            request: Vec::new(),
            webhook: false,
            carried_by: None,
        }
    }
}
