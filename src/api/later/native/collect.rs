//! What a provider has answered: read line by line, counted, written down, and given to the lines.
//!
//! First the rows are in the ledger, then the lines end: a server that ends in between finds the rows when it reads the
//! answers once more, and writes none twice.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Carrier, SHORT, SOON_MS, Stop, later, now_ms};
use crate::api::chat::answer_heard;
use crate::api::later::carry_out::failed;
use crate::batch::line::Splitter;
use crate::batch::native::{Carried, Spent};
use crate::catalog::Target;
use crate::events::facts;
use crate::gateway::native::Heard;
use crate::jobs::job::End;
use crate::provider::batches::{Protocol, Said};
use crate::provider::failure::Failure;
use crate::provider::transport::Incoming;

/// Lines that end together.
const AT_ONCE: usize = 50;
/// How long rows may take to be saved.
const SAVED: Duration = Duration::from_secs(20);

/// How many lines there were of each kind.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    completed: u64,
    failed: u64,
    /// Answers to lines that are not ours.
    foreign: u64,
}

impl Carrier<'_> {
    /// Reads all answers, ends their lines, and lets the others go.
    pub(super) async fn collect(
        &mut self,
        target: &Arc<Target>,
        protocol: Protocol,
        paths: &[String],
    ) -> Result<(), Stop> {
        let mut tally = Tally::default();
        for path in paths {
            self.read_results(target, protocol, path, &mut tally).await?;
        }
        let Tally { completed, failed, foreign } = tally;
        if foreign > 0 {
            tracing::error!(
                part = self.part.id,
                foreign,
                "the provider's batch has answers to requests of somebody else"
            );
        } else {
            self.delete_remote_files(target, protocol, paths).await;
        }
        let released = self.desk.kept.parts.release(&self.part.id, None, self.batch.expires).await?;
        self.count("released", released);
        tracing::info!(part = self.part.id, completed, failed, released, "a provider's batch has ended");
        let told = [("completed", completed.into()), ("failed", failed.into()), ("released", released.into())];
        self.end(facts(told)).await
    }

    async fn delete_remote_files(&self, target: &Target, protocol: Protocol, paths: &[String]) {
        self.delete_remote(target, protocol).await;
        if protocol.is_one_step() {
            return;
        }
        for file in paths.iter().filter_map(|path| path.strip_prefix("/files/")?.strip_suffix("/content")) {
            let _ = self.ask(protocol.delete(target, file), target).await;
        }
    }

    async fn read_results(
        &mut self,
        target: &Arc<Target>,
        protocol: Protocol,
        path: &str,
        tally: &mut Tally,
    ) -> Result<(), Stop> {
        let unread = |failure: &Failure| later(self.pause_ms(), format!("unread: {}", failure.kind.as_str()));
        let transport = &self.desk.gateway.dispatcher.transport;
        let asked = tokio::time::timeout(SHORT, transport.call(protocol.results(target, path), self.dial(target)));
        let mut incoming = match asked.await {
            Ok(Ok(incoming)) => incoming,
            Ok(Err(failure)) => return Err(unread(&failure)),
            Err(_) => return Err(later(self.pause_ms(), "unread: timeout")),
        };
        match incoming.status.as_u16() {
            200 => {}
            // It has been deleted, or there never was one.
            404 | 410 => return Ok(()),
            status => return Err(later(self.pause_ms(), format!("unread: status {status}"))),
        }
        incoming.unbounded();
        let mut splitter = Splitter::default();
        let mut page = Vec::with_capacity(AT_ONCE);
        // The rest of a line that is too long to be read: it is asked again, and the others have their answers.
        let mut is_skipping = false;
        loop {
            let mut piece = next(&mut incoming).await.map_err(|failure| unread(&failure))?;
            let is_last = piece.is_none();
            if let Some(bytes) = piece.as_mut().filter(|_| is_skipping) {
                let end = bytes.iter().position(|byte| *byte == b'\n');
                is_skipping = end.is_none();
                let _ = bytes.split_to(end.unwrap_or(bytes.len()));
            }
            let lines = match piece {
                Some(piece) => splitter.push(&piece).unwrap_or_else(|error| {
                    tracing::warn!(part = self.part.id, error = error.message, "a provider's answer is not read");
                    (splitter, is_skipping) = (Splitter::default(), true);
                    Vec::new()
                }),
                None => splitter.finish(),
            };
            for (_, line) in lines {
                let Some((id, said)) = protocol.said(&line, target) else {
                    tracing::warn!(part = self.part.id, "a line of a provider's answers cannot be read");
                    continue;
                };
                match id.strip_prefix(&self.mark()).and_then(|rest| rest.strip_prefix('-')?.parse().ok()) {
                    Some(place) => page.push((place, said)),
                    None => tally.foreign += 1,
                }
                if page.len() == AT_ONCE {
                    self.settle(target, std::mem::take(&mut page), tally).await?;
                }
            }
            if is_last {
                return self.settle(target, page, tally).await;
            }
        }
    }

    /// Writes the rows of some lines, then ends them.
    async fn settle(&self, target: &Arc<Target>, page: Vec<(i64, Said)>, tally: &mut Tally) -> Result<(), Stop> {
        let mut ends: Vec<(String, End)> = Vec::with_capacity(page.len());
        let mut spent = Spent::default();
        // An answer that is told twice is one: until the page has ended, its line does not know of the first.
        let mut answered = HashSet::with_capacity(page.len());
        for (place, said) in page {
            let answer = match said {
                Said::Answer(answer) => Ok(*answer),
                // The same anywhere: nobody else need be asked.
                Said::Failure(failure) if failure.kind.verdict().callers_fault => Err(failure),
                Said::Failure(_) | Said::Nothing => continue,
            };
            if !answered.insert(place) {
                continue;
            }
            let Some(line) = self.desk.kept.parts.line(&self.part.id, place).await? else { continue };
            // Only who goes on after somebody else can meet rows, or lines that were ended by their callers.
            let looks = self.resumes_collecting || line.has_ended;
            let is_written = looks && self.row_of(&line).await?;
            if line.has_ended && is_written {
                continue;
            }
            let Some((end, took)) = self.heard(&line, target, answer, is_written).await else { continue };
            spent.money = spent.money.saturating_add(took.money);
            spent.tokens = spent.tokens.saturating_add(took.tokens);
            if let Some(mut hold) = self.desk.holds.of_parts.get_mut(&self.part.id).filter(|_| !is_written) {
                self.desk.gateway.draw(&mut hold, took, &self.part.provider);
            }
            match &end {
                End::Completed { .. } => tally.completed += 1,
                End::Failed { .. } => tally.failed += 1,
                // It may work elsewhere, or later.
                _ => continue,
            }
            ends.push((line.job, end));
        }
        if !self.desk.gateway.ledger.caught_up(SAVED).await {
            return Err(later(SOON_MS, "unsaved: rows cannot be saved yet"));
        }
        let ended = self.desk.kept.parts.end_lines(&self.part.id, &ends, spent).await?;
        let failed = ends.iter().filter(|(_, end)| matches!(end, End::Failed { .. })).count() as u64;
        self.count("completed", ended.saturating_sub(failed));
        self.count("failed", failed.min(ended));
        ends.iter().for_each(|(id, _)| self.desk.bell.ring(id));
        self.desk.bell.ring_work();
        Ok(())
    }

    async fn row_of(&self, line: &Carried) -> Result<bool, Stop> {
        let row = self.desk.gateway.ledger.find(&line.job).await?;
        Ok(row.is_some_and(|row| row.service_tier.is_some()))
    }

    /// What becomes of a line, and what it took. `None`: what was kept of it cannot be read.
    async fn heard(
        &self,
        line: &Carried,
        target: &Arc<Target>,
        answer: Result<crate::chat::Response, Failure>,
        is_written: bool,
    ) -> Option<(End, crate::gateway::native::Took)> {
        let submitted = self.part.submitted.unwrap_or(self.part.created);
        let age = Duration::from_millis(u64::try_from(now_ms() - submitted).unwrap_or(0));
        let now = Instant::now();
        let began = now.checked_sub(age).unwrap_or(now);
        let ((mut inbound, writer, notes), work) = self.read(line, &self.payer(), began)?;
        inbound.began_unix_ms = submitted;
        let heard =
            Heard { target: target.clone(), discount: self.discount(), decided: work.decided, answer, is_written };
        let desk = self.desk;
        let read = (inbound, writer, notes);
        let (response, took) = answer_heard(&desk.gateway, &desk.operations, read, work.speech, heard);
        let end = match &self.caller {
            Ok(_) => desk.ended(&line.job, response, &1).await,
            Err(reason) => failed("key_not_valid", reason),
        };
        Some((end, took))
    }
}

/// The next piece of a file. Silence ends it.
async fn next(incoming: &mut Incoming) -> Result<Option<axum::body::Bytes>, Failure> {
    let late = || Failure::new(crate::provider::failure::FailureKind::Stalled, "the answers stalled");
    let piece = tokio::time::timeout(SHORT, incoming.next()).await.map_err(|_| late())?;
    piece.transpose()
}
