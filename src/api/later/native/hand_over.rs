//! A part's lines on their way to the provider, and the batch that is made of them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use bytes::BytesMut;
use futures_util::stream;
use tokio::sync::mpsc;

use super::{Carrier, GIVE_UP_AFTER, LISTED_WITHIN, SHORT, SOON_MS, Stop, heard, is_refusal, later, now_ms};
use crate::batch::native::{Carried, Phase};
use crate::catalog::Target;
use crate::events::{Kind as Happened, facts};
use crate::gateway::native::{NotHeldForPart, Told, Unfit};
use crate::ledger::journal::Failure as StoreFailure;
use crate::provider::batches::{Listed, Protocol};
use crate::provider::failure::{Failure, FailureKind};

/// Lines read from the store together.
const AT_ONCE: usize = 20;
/// Bytes gathered before they are sent.
const PIECE: usize = 64 << 10;
/// Pieces on their way to the connection.
const PIECES: usize = 4;
/// How long a file may take to be sent, and its answer to come.
const UPLOAD: Duration = Duration::from_secs(3600);
/// How far a provider's clock may be behind ours.
const SKEW_MS: i64 = 60_000;

/// What is to be sent.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    lines: i64,
    bytes: u64,
    /// `None`: there is no known price.
    worst: Option<i64>,
    tokens: i64,
}

/// A part's lines, one after the other.
struct Walk<'c, 'd> {
    carrier: &'c Carrier<'d>,
    target: &'c Target,
    behind: i64,
    page: VecDeque<Carried>,
}

impl<'c, 'd> Walk<'c, 'd> {
    fn begin(carrier: &'c Carrier<'d>, target: &'c Target) -> Self {
        Self { carrier, target, behind: -1, page: VecDeque::new() }
    }

    async fn next(&mut self) -> Result<Option<(i64, Result<Told, Unfit>)>, StoreFailure> {
        if self.page.is_empty() {
            let parts = &self.carrier.desk.kept.parts;
            self.page = parts.carried(&self.carrier.part.id, self.behind, AT_ONCE).await?.into();
        }
        let Some(line) = self.page.pop_front() else { return Ok(None) };
        self.behind = line.place;
        Ok(Some((line.place, self.carrier.told(&line, self.target))))
    }
}

impl Carrier<'_> {
    /// Sends what is to be answered, if a budget can pay for it.
    pub(super) async fn begin(&mut self) -> Result<(), Stop> {
        if self.is_over() {
            return self.let_go("ended: the batch was over before its lines were sent").await;
        }
        let Some((target, protocol)) = self.target.clone() else {
            return self.let_go("not_configured: the configuration does not have its model any more").await;
        };
        let load = self.measure(&target, protocol).await?;
        if load.lines == 0 {
            return self.let_go("nothing: no line can be sent any more").await;
        }
        if !protocol.is_one_step() {
            match self.send(&target, protocol, load).await? {
                Ok(body) => match protocol.made(&body) {
                    Ok(file) => self.part.remote_file = Some(file),
                    Err(failure) => return self.not_taken(&failure).await,
                },
                Err(failure) => return self.not_taken(&failure).await,
            }
        }
        let now_ms = now_ms();
        let tenant = self.payer().tenant;
        let gateway = &self.desk.gateway;
        match gateway.hold_part(&tenant, &target, load.worst, load.tokens, (now_ms, now_ms), false).await {
            Ok(hold) => self.keep(hold),
            Err(NotHeldForPart::TooMuch) => {
                self.delete_remote(&target, protocol).await;
                return self.let_go("budget: no budget can pay for all lines at once").await;
            }
            Err(NotHeldForPart::Gone) => {
                return Err(later(SOON_MS, "no_shared_store: what is left of a budget is not known"));
            }
        }
        self.part.phase = Phase::Creating;
        self.part.submitted = Some(now_ms);
        (self.part.sent, self.part.worst, self.part.tokens) = (load.lines, load.worst, load.tokens);
        self.part.holder = Some(self.desk.holds.holder.clone());
        self.save().await?;
        self.create(&target, protocol, load).await
    }

    /// The lines did not arrive: that cost nothing.
    async fn not_taken(&mut self, failure: &Failure) -> Result<(), Stop> {
        let kind = failure.kind.as_str();
        if is_refusal(failure) {
            tracing::warn!(part = self.part.id, status = failure.status, kind, "the provider does not take a batch");
            return self.let_go(&format!("refused: the provider does not take it ({kind})")).await;
        }
        let patience = (self.batch.expires - self.batch.created) / GIVE_UP_AFTER;
        if now_ms() - self.batch.created > patience {
            return self.let_go(&format!("unreachable: the provider did not take it in time ({kind})")).await;
        }
        Err(later(self.pause_ms(), format!("unreachable: {kind}")))
    }

    /// How much there is to send. Lines that may not go there any more are let go, and those beyond the provider's bounds.
    async fn measure(&self, target: &Target, protocol: Protocol) -> Result<Load, Stop> {
        let terms = target.provider.batch;
        let (most_lines, most_bytes) = terms.map_or((0, 0), |terms| (terms.max_lines, terms.max_bytes));
        let around = (protocol.opening().len() + protocol.closing().len()) as u64;
        let mut load = Load { bytes: around, worst: Some(0), ..Load::default() };
        let mut unfit = Vec::new();
        let mut walk = Walk::begin(self, target);
        while let Some((place, told)) = walk.next().await? {
            let Ok(told) = told else {
                unfit.push(place);
                continue;
            };
            let line = protocol.line(&self.custom_id(place), &told.body, load.lines == 0);
            let bytes = load.bytes + line.len() as u64;
            if load.lines as u64 >= most_lines || bytes > most_bytes {
                unfit.push(place);
                continue;
            }
            load.lines += 1;
            load.bytes = bytes;
            load.worst = load.worst.zip(told.worst).map(|(sum, worst)| sum.saturating_add(worst.0));
            load.tokens = load.tokens.saturating_add(told.tokens);
        }
        if !unfit.is_empty() {
            let released = self.desk.kept.parts.release(&self.part.id, Some(&unfit), self.batch.expires).await?;
            self.count("released", released);
            self.desk.bell.ring_work();
        }
        Ok(load)
    }

    pub(super) fn custom_id(&self, place: i64) -> String {
        format!("{}-{place}", self.mark())
    }

    /// Sends the lines as they were measured: a file, or all of a batch.
    async fn send(&self, target: &Target, protocol: Protocol, load: Load) -> Result<Result<Bytes, Failure>, Stop> {
        let (pieces, taken) = mpsc::channel::<std::io::Result<Bytes>>(PIECES);
        let body = stream::unfold(taken, async |mut taken| taken.recv().await.map(|piece| (piece, taken)));
        let call = protocol.sends_lines(target);
        let transport = &self.desk.gateway.dispatcher.transport;
        let sending = async {
            let incoming = transport.call_with(call, body, load.bytes, self.dial(target)).await?;
            tokio::time::timeout(SHORT, heard(incoming, target)).await.unwrap_or_else(|_| Err(late()))
        };
        let sending = tokio::time::timeout(UPLOAD, sending);
        let (fed, sent) = tokio::join!(self.feed(target, protocol, load, pieces), sending);
        fed?;
        let sent = sent.unwrap_or_else(|_| Err(late()));
        Ok(sent.map_err(|failure| failure.without_secrets(&target.provider)))
    }

    /// Gives the lines to whoever sends them, for as long as it takes them.
    async fn feed(
        &self,
        target: &Target,
        protocol: Protocol,
        load: Load,
        pieces: mpsc::Sender<std::io::Result<Bytes>>,
    ) -> Result<(), Stop> {
        let mut piece = BytesMut::from(&protocol.opening()[..]);
        let (mut lines, mut bytes) = (0, piece.len() as u64);
        let mut walk = Walk::begin(self, target);
        let broken = || std::io::Error::other("the lines have changed meanwhile");
        loop {
            match walk.next().await {
                Ok(Some((place, Ok(told)))) => {
                    let line = protocol.line(&self.custom_id(place), &told.body, lines == 0);
                    (lines, bytes) = (lines + 1, bytes + line.len() as u64);
                    piece.extend_from_slice(&line);
                }
                Ok(Some((_, Err(Unfit)))) => break drop(pieces.send(Err(broken())).await),
                Ok(None) => {
                    piece.extend_from_slice(&protocol.closing());
                    bytes += protocol.closing().len() as u64;
                    let is_same = (lines, bytes) == (load.lines, load.bytes);
                    break drop(pieces.send(if is_same { Ok(piece.freeze()) } else { Err(broken()) }).await);
                }
                Err(failure) => {
                    let _ = pieces.send(Err(std::io::Error::other("the store cannot be read"))).await;
                    return Err(failure.into());
                }
            }
            if piece.len() >= PIECE && pieces.send(Ok(piece.split().freeze())).await.is_err() {
                // Whoever sends has an answer already, or no connection any more.
                break;
            }
        }
        Ok(())
    }

    /// The batch may have been made and not been noted: it is looked for before another one is made.
    pub(super) async fn find_or_create(&mut self) -> Result<(), Stop> {
        let (target, protocol) = self.reachable()?;
        let listed = match self.ask(protocol.list(&target), &target).await {
            Ok(body) => protocol.listed(&body),
            Err(failure) => Err(failure),
        };
        let listed = match listed {
            Ok(listed) => listed,
            Err(failure) => return Err(later(self.pause_ms(), format!("unreachable: {}", failure.kind.as_str()))),
        };
        if let Some(found) = self.ours(protocol, listed).await? {
            return self.made(found).await;
        }
        // Not since it was about to be made: until it was, hours may have passed.
        let first_look = *self.desk.holds.looked_for.entry(self.part.id.clone()).or_insert_with(Instant::now);
        if first_look.elapsed() < LISTED_WITHIN {
            return Err(later(SOON_MS * 5, "looking: the provider may have made the batch"));
        }
        if self.is_over() {
            self.delete_remote(&target, protocol).await;
            return self.let_go("ended: the batch was over before the provider made it").await;
        }
        // A file that was sent is as it is.
        let load = if protocol.is_one_step() { self.measure(&target, protocol).await? } else { Load::default() };
        if protocol.is_one_step() && load.lines == 0 {
            return self.let_go("nothing: no line can be sent any more").await;
        }
        if protocol.is_one_step() && load.lines != self.part.sent {
            // By this it is known again.
            self.part.sent = load.lines;
            self.save().await?;
        }
        self.create(&target, protocol, load).await
    }

    /// The batch of this part in a list.
    async fn ours(&self, protocol: Protocol, listed: Vec<Listed>) -> Result<Option<String>, Stop> {
        if !protocol.is_one_step() {
            let is_marked = |batch: &Listed| batch.mark.as_deref() == Some(&*self.part.id);
            return Ok(listed.into_iter().find(is_marked).map(|batch| batch.id));
        }
        // There is no place for a mark: it is the first one with as many lines since it was about to be made, which is no
        // other part's. The marks of its lines are looked at when its answers are read.
        let parts = &self.desk.kept.parts;
        let mut others: Vec<_> = parts.of_batch(&self.batch.id).await?;
        others.extend(parts.open().await?);
        let is_taken = |id: &str| others.iter().any(|other| other.remote_batch.as_deref() == Some(id));
        let since = self.part.submitted.unwrap_or_default() - SKEW_MS;
        let fits =
            |batch: &Listed| batch.lines == self.part.sent && batch.created_unix_ms >= since && !is_taken(&batch.id);
        let mut found: Vec<Listed> = listed.into_iter().filter(fits).collect();
        found.sort_by_key(|batch| batch.created_unix_ms);
        Ok(found.into_iter().next().map(|batch| batch.id))
    }

    async fn create(&mut self, target: &Arc<Target>, protocol: Protocol, load: Load) -> Result<(), Stop> {
        let answered = match (protocol.is_one_step(), &self.part.remote_file) {
            (false, Some(file)) => self.ask(protocol.create(target, file, &self.part.id), target).await,
            _ => self.send(target, protocol, load).await?,
        };
        match answered.and_then(|body| protocol.made(&body)) {
            Ok(id) => self.made(id).await,
            Err(failure) if is_refusal(&failure) => {
                let kind = failure.kind.as_str();
                tracing::warn!(part = self.part.id, status = failure.status, kind, "the provider refuses a batch");
                self.delete_remote(target, protocol).await;
                self.let_go(&format!("refused: the provider does not take it ({kind})")).await
            }
            // It may have been made: next time it is looked for.
            Err(failure) => {
                self.desk.holds.looked_for.remove(&self.part.id);
                Err(later(SOON_MS, format!("unsure: {}", failure.kind.as_str())))
            }
        }
    }

    /// The provider has the batch.
    async fn made(&mut self, id: String) -> Result<(), Stop> {
        self.desk.holds.looked_for.remove(&self.part.id);
        self.part.remote_batch = Some(id);
        self.part.phase = Phase::Waiting;
        self.save().await?;
        self.count("submitted", u64::try_from(self.part.sent).unwrap_or(0));
        let discount = self.discount().millionths();
        let told = facts([("lines", self.part.sent.into()), ("discount_millionths", discount.into())]);
        self.note(Happened::NativeBatchSubmitted, told).await
    }

    /// What was sent is not needed any more. If that does not work, it stays there.
    pub(super) async fn delete_remote(&self, target: &Target, protocol: Protocol) {
        let sent = if protocol.is_one_step() { &self.part.remote_batch } else { &self.part.remote_file };
        if let Some(id) = sent
            && let Err(failure) = self.ask(protocol.delete(target, id), target).await
        {
            tracing::debug!(part = self.part.id, kind = failure.kind.as_str(), "a file stays at the provider");
        }
    }
}

fn late() -> Failure {
    Failure::new(FailureKind::Timeout, "the provider did not answer in time")
}
