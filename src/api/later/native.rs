//! Lines of batches that a provider answers in a batch of its own: one job takes care of each part, from its first line to
//! its last.
//!
//! What is about to be done is written down before it is done, so that whoever goes on after a crash knows what to look for.
//! The one thing that must not be done twice is to make the provider's batch: it is looked for there before another one is
//! made. Between two looks the job waits in the queue and takes no worker's place.

mod collect; // what the provider answered
mod hand_over; // what it is given
pub mod sort; // which lines go there

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use dashmap::{DashMap, DashSet};
use http::HeaderValue;
use metrics::counter;

use super::Desk;
use super::carry_out::{failed, random, store_failed};
use super::work::{Owner, Work};
use crate::admission::budget::Hold;
use crate::api::caller::Caller;
use crate::api::chat::{Understood, understood};
use crate::api::edge::REQUEST_ID;
use crate::batch::native::{Carried, Part, Phase};
use crate::batch::{Batch, Status};
use crate::catalog::Target;
use crate::events::log::Note;
use crate::events::{Facts, Kind as Happened, facts};
use crate::gateway::native::{NotHeldForPart, Told, Unfit};
use crate::gateway::snapshot::Snapshot;
use crate::jobs::job::{Claimed, End, Hold as JobHold};
use crate::ledger::journal::Failure as StoreFailure;
use crate::ledger::record::Arrival;
use crate::money::Discount;
use crate::provider::batches::{Call, Protocol, Standing};
use crate::provider::failure::{Failure, FailureKind};
use crate::provider::transport::{Dial, Incoming};
use crate::telemetry::metric::Metric;

/// For one question that is no file.
const SHORT: Duration = Duration::from_secs(60);
/// Of an answer that is no file.
const LARGEST_ANSWER: usize = 4 << 20;
/// How long a batch may stay unlisted that was made: from the first look on, so long nobody makes another one.
const LISTED_WITHIN: Duration = Duration::from_secs(30);
/// A provider that has not taken the lines by then does not get them: a share of the batch's time.
const GIVE_UP_AFTER: i64 = 4;
/// How long an ended batch is waited for that its provider does not end.
const LAST_PATIENCE_MS: i64 = 3_600_000;
/// Until the next look where something is about to happen.
const SOON_MS: i64 = 1_000;

/// What is held for parts, and who holds it.
pub struct Holds {
    of_parts: DashMap<String, Hold>,
    /// Parts with which a worker here goes on. What is held for them may not be noted in the store yet.
    in_hands: DashSet<String>,
    /// Since when a part's batch is looked for that may have been made.
    looked_for: DashMap<String, Instant>,
    /// This server among all.
    holder: String,
}

impl Default for Holds {
    fn default() -> Self {
        let holder = uuid::Uuid::new_v4().simple().to_string();
        Self { of_parts: DashMap::new(), in_hands: DashSet::new(), looked_for: DashMap::new(), holder }
    }
}

/// As long as this is there, nobody else gives back what is held for a part.
struct InHands<'h> {
    all: &'h DashSet<String>,
    id: String,
}

impl<'h> InHands<'h> {
    fn take(holds: &'h Holds, id: &str) -> Self {
        holds.in_hands.insert(id.to_owned());
        Self { all: &holds.in_hands, id: id.to_owned() }
    }
}

impl Drop for InHands<'_> {
    fn drop(&mut self) {
        self.all.remove(&self.id);
    }
}

impl Desk {
    /// Holds what all parts under way may still cost. At the start, before anybody else can spend it.
    pub async fn hold_parts(&self) {
        let open = match self.kept.parts.open().await {
            Ok(open) => open,
            Err(failure) => return tracing::warn!(error = %failure, "parts of batches cannot be looked up"),
        };
        for part in open.into_iter().filter(|part| part.phase.is_committed()) {
            let id = part.id.clone();
            let held = async {
                let mut carrier = Carrier::of(self, part, None).await?;
                carrier.secure().await
            };
            if held.await.is_err() {
                tracing::warn!(part = id, "what a part may cost cannot be held yet");
            }
        }
    }

    /// Gives back what is held for parts that have ended, or that another server goes on with.
    pub async fn let_stale_holds_go(&self) {
        let is_idle = |id: &str| !self.holds.in_hands.contains(id);
        let all = self.holds.of_parts.iter().map(|held| held.key().clone());
        // Before the store is asked: what is held from now on is not in its answer.
        let held: Vec<String> = all.filter(|id| is_idle(id)).collect();
        if held.is_empty() {
            return;
        }
        let Ok(open) = self.kept.parts.open().await else { return };
        let is_ours = |id: &str| {
            let part = open.iter().find(|part| part.id == id);
            part.is_some_and(|part| part.phase.is_committed() && part.holder.as_ref() == Some(&self.holds.holder))
        };
        for id in held.into_iter().filter(|id| is_idle(id) && !is_ours(id)) {
            self.let_hold_go(&id);
        }
    }

    /// Gives back everything that is held for parts.
    pub fn let_all_holds_go(&self) {
        let held: Vec<String> = self.holds.of_parts.iter().map(|held| held.key().clone()).collect();
        held.iter().for_each(|id| self.let_hold_go(id));
    }

    fn let_hold_go(&self, id: &str) {
        if let Some((_, hold)) = self.holds.of_parts.remove(id) {
            hold.cancel();
        }
    }
}

/// Goes on with a part.
pub(super) async fn carry(desk: &Desk, claimed: &Claimed) -> End {
    let _in_hands = InHands::take(&desk.holds, &claimed.job.id);
    let part = match desk.kept.parts.find(&claimed.job.id).await {
        Ok(Some(part)) => part,
        Ok(None) => return failed("no_part", "the part is not there any more"),
        Err(failure) => return store_failed(&failure),
    };
    let went_on = async {
        let mut carrier = Carrier::of(desk, part, Some(&claimed.hold)).await?;
        carrier.secure().await?;
        carrier.go_on().await
    };
    match went_on.await {
        Ok(()) => End::Completed { http_status: 200, result: Vec::new() },
        Err(Stop::Store(failure)) => store_failed(&failure),
        Err(Stop::Later { after_ms, reason }) => End::Deferred { after_ms, reason },
    }
}

/// Why a part does not end now.
enum Stop {
    Store(StoreFailure),
    Later { after_ms: i64, reason: String },
}

impl From<StoreFailure> for Stop {
    fn from(failure: StoreFailure) -> Self {
        Self::Store(failure)
    }
}

fn later(after_ms: i64, reason: impl Into<String>) -> Stop {
    Stop::Later { after_ms, reason: reason.into() }
}

/// A part in a worker's hands.
struct Carrier<'d> {
    desk: &'d Desk,
    rules: Arc<Snapshot>,
    /// The right to the part's job; `None` where only its money is held.
    claim: Option<&'d JobHold>,
    part: Part,
    batch: Batch,
    /// As they are now; why they may do nothing any more.
    caller: Result<Caller, String>,
    /// `None`: it was sealed with another secret, as its lines were.
    owner: Option<Owner>,
    /// `None`: the configuration does not have it any more.
    target: Option<(Arc<Target>, Protocol)>,
    /// This claim began when answers were being read.
    resumes_collecting: bool,
}

impl<'d> Carrier<'d> {
    async fn of(desk: &'d Desk, part: Part, claim: Option<&'d JobHold>) -> Result<Self, Stop> {
        let found = desk.kept.batches.find(&part.batch).await?;
        let batch = found.ok_or_else(|| StoreFailure(format!("the batch `{}` is not there any more", part.batch)))?;
        let owner = desk.open(&batch.id, &batch.owner).and_then(|owner| serde_json::from_slice::<Owner>(&owner).ok());
        let caller = match &owner {
            Some(owner) => owner.caller(&desk.access, now_ms()),
            None => Err("the batch's owner cannot be opened: the secret has changed".to_owned()),
        };
        let rules = desk.gateway.rules();
        let is_it = |target: &&Arc<Target>| {
            *target.provider.name == *part.provider
                && target.model.id == part.model
                && target.provider.identity.is_none()
        };
        let target = rules.index.targets().iter().find(is_it).cloned();
        let target = target.and_then(|target| Protocol::of(target.provider.format).map(|protocol| (target, protocol)));
        let resumes_collecting = part.phase == Phase::Collecting;
        Ok(Self { desk, rules, claim, part, batch, caller, owner, target, resumes_collecting })
    }

    /// Nobody waits for more answers.
    fn is_over(&self) -> bool {
        self.batch.status == Status::Cancelling || now_ms() >= self.batch.expires
    }

    fn over_since_ms(&self) -> i64 {
        self.batch.cancelling.unwrap_or(i64::MAX).min(self.batch.expires)
    }

    fn discount(&self) -> Discount {
        Discount::of_millionths(self.part.discount)
    }

    /// The mark of the part's lines: one part's answers are never taken for another's.
    fn mark(&self) -> String {
        format!("s{}", &blake3::hash(self.part.id.as_bytes()).to_hex()[..16])
    }

    async fn save(&self) -> Result<(), Stop> {
        match self.desk.kept.parts.save(&self.part, self.claim).await? {
            true => Ok(()),
            // What is said of the end of this claim is void, too.
            false => Err(later(0, "lost: another server has taken the part over")),
        }
    }

    async fn note(&self, kind: Happened, told: Facts) -> Result<(), Stop> {
        let mut all =
            facts([("provider", self.part.provider.clone().into()), ("model", self.part.model.clone().into())]);
        all.extend(told);
        let (subject, key) = (self.batch.id.clone(), self.batch.key.clone());
        let note = Note { at_unix_ms: now_ms(), kind, subject, key, facts: all };
        Ok(self.desk.kept.log.note(&[note]).await?)
    }

    fn count(&self, outcome: &'static str, lines: u64) {
        counter!(Metric::NativeLines.name(), "provider" => self.part.provider.clone(), "outcome" => outcome)
            .increment(lines);
    }

    /// Whose budgets pay.
    fn payer(&self) -> Caller {
        self.caller.clone().unwrap_or_else(|_| self.owner.clone().unwrap_or_default().as_it_was())
    }

    /// Holds what may have been spent already and is not in the ledger.
    async fn secure(&mut self) -> Result<(), Stop> {
        let holds = &self.desk.holds;
        // One that another server has taken over meanwhile is about to be given back here.
        let is_held = self.part.holder.as_ref() == Some(&holds.holder) && holds.of_parts.contains_key(&self.part.id);
        if !self.part.phase.is_committed() || is_held {
            return Ok(());
        }
        let Some((target, _)) = self.target.clone() else { return Ok(()) };
        let money = self.part.worst.map(|worst| (worst - self.part.spent).max(0));
        let tokens = (self.part.tokens - self.part.used).max(0);
        let at_ms = self.part.submitted.unwrap_or(self.part.created);
        let tenant = self.payer().tenant;
        let when = (at_ms, now_ms());
        match self.desk.gateway.hold_part(&tenant, &target, money, tokens, when, true).await {
            Ok(hold) => self.keep(hold),
            // What is committed always fits; this is for the sake of the type.
            Err(NotHeldForPart::TooMuch) => {}
            Err(NotHeldForPart::Gone) => {
                return Err(later(SOON_MS, "no_shared_store: what is left of a budget is not known"));
            }
        }
        self.part.holder = Some(self.desk.holds.holder.clone());
        self.save().await
    }

    /// At once: a hold that is dropped counts as spent.
    fn keep(&self, hold: Hold) {
        if let Some(before) = self.desk.holds.of_parts.insert(self.part.id.clone(), hold) {
            before.cancel();
        }
    }

    async fn go_on(&mut self) -> Result<(), Stop> {
        if self.owner.is_none() && self.part.phase != Phase::Ended {
            return self.abandon().await;
        }
        loop {
            if self.part.phase.is_committed() && !self.has_patience() {
                tracing::error!(
                    part = self.part.id,
                    "the provider has not ended its batch; what it did may be paid for"
                );
                return self.let_go("given_up: the provider has not ended its batch").await;
            }
            match self.part.phase {
                Phase::Gathering => return Err(later(SOON_MS, "gathering: its lines are being taken in")),
                Phase::Ready => self.begin().await?,
                Phase::Creating => self.find_or_create().await?,
                Phase::Waiting | Phase::Collecting => self.look().await?,
                Phase::Ended => return Ok(()),
            }
        }
    }

    /// No line can be opened, nor could its answer be written down: they end as every line does that cannot be opened.
    async fn abandon(&mut self) -> Result<(), Stop> {
        if let (Some((target, protocol)), Some(id)) = (self.target.clone(), &self.part.remote_batch) {
            let is_cancelled = self.ask(protocol.cancel(&target, id), &target).await.is_ok();
            tracing::error!(
                part = self.part.id,
                is_cancelled,
                "a provider answers lines that nobody can open any more"
            );
        }
        self.let_go("unreadable: the secret has changed").await
    }

    /// Looks how far the provider is.
    async fn look(&mut self) -> Result<(), Stop> {
        let (target, protocol) = self.reachable()?;
        let id = self.part.remote_batch.clone().unwrap_or_default();
        let standing = match self.ask(protocol.look(&target, &id), &target).await {
            Ok(body) => protocol.standing(&body),
            Err(failure) => Err(failure),
        };
        match standing {
            Ok(Standing::Ended(paths)) => {
                if self.part.phase != Phase::Collecting {
                    self.part.phase = Phase::Collecting;
                    self.save().await?;
                }
                self.collect(&target, protocol, &paths).await
            }
            Ok(Standing::Refused(reason)) => {
                let reason = format!("refused: {}", crate::ledger::words::without_content(&reason));
                self.let_go(&reason).await
            }
            Ok(Standing::Running) => {
                if self.is_over() {
                    // However often it is said, it is cancelled once.
                    if let Err(failure) = self.ask(protocol.cancel(&target, &id), &target).await {
                        tracing::debug!(
                            part = self.part.id,
                            error = failure.message,
                            "a batch cannot be cancelled yet"
                        );
                    }
                    return Err(later(SOON_MS, "ending: the provider is asked to end its batch"));
                }
                Err(later(self.pause_ms(), "waiting: the provider works on it"))
            }
            Err(failure) if failure.status == Some(404) => {
                tracing::error!(part = self.part.id, "the provider does not know its batch any more");
                self.let_go("gone: the provider does not know its batch any more").await
            }
            Err(failure) => Err(later(self.pause_ms(), format!("unreachable: {}", failure.kind.as_str()))),
        }
    }

    /// The target, if the configuration still has it; without it there is nobody to ask, and it may come back.
    fn reachable(&self) -> Result<(Arc<Target>, Protocol), Stop> {
        let gone = || later(self.pause_ms(), "not_configured: the configuration does not have its model any more");
        self.target.clone().ok_or_else(gone)
    }

    /// Whether there is any sense in waiting for the provider.
    fn has_patience(&self) -> bool {
        !self.is_over() || now_ms() < self.over_since_ms().saturating_add(LAST_PATIENCE_MS)
    }

    /// Until the next look.
    fn pause_ms(&self) -> i64 {
        let now_ms = now_ms();
        let poll = i64::try_from(self.rules.settings.batches.poll.0.as_millis()).unwrap_or(i64::MAX);
        let since = now_ms - self.part.submitted.unwrap_or(now_ms);
        let pause = (since / 10).clamp(poll, poll.saturating_mul(10)) as f64 * (0.9 + 0.2 * random());
        let left = (self.batch.expires - now_ms).max(SOON_MS);
        (pause as i64).min(left)
    }

    /// Everything that still waits is answered one by one, and the part is over.
    async fn let_go(&mut self, reason: &str) -> Result<(), Stop> {
        let released = self.desk.kept.parts.release(&self.part.id, None, self.batch.expires).await?;
        self.count("released", released);
        tracing::info!(part = self.part.id, lines = released, reason, "lines are answered one by one");
        self.end(facts([("released", released.into()), ("reason", reason.into())])).await
    }

    /// No line is carried any more.
    async fn end(&mut self, told: Facts) -> Result<(), Stop> {
        self.part.phase = Phase::Ended;
        self.part.ended = Some(now_ms());
        self.save().await?;
        self.desk.let_hold_go(&self.part.id);
        self.desk.holds.looked_for.remove(&self.part.id);
        self.desk.bell.ring_work();
        let found = self.desk.kept.parts.find(&self.part.id).await?;
        let spent = found.filter(|_| self.part.worst.is_some()).map(|part| part.spent as f64 / 1e9);
        let mut all = facts([("lines", self.part.sent.into()), ("cost_usd", spent.into())]);
        all.extend(told);
        self.note(Happened::NativeBatchEnded, all).await
    }

    /// Asks for something short; what is not 2xx is a failure.
    async fn ask(&self, call: Call, target: &Target) -> Result<Bytes, Failure> {
        let dial = self.dial(target);
        let asked = async {
            let incoming = self.desk.gateway.dispatcher.transport.call(call, dial).await?;
            heard(incoming, target).await
        };
        let late = || Failure::new(FailureKind::Timeout, "the provider did not answer in time");
        let answered = tokio::time::timeout(SHORT, asked).await.unwrap_or_else(|_| Err(late()));
        answered.map_err(|failure| failure.without_secrets(&target.provider))
    }

    fn dial(&self, target: &Target) -> Dial {
        let connect = self.rules.policy(&target.provider).timeouts.connect.0;
        Dial { connect, insecure_tls: target.provider.insecure_tls, fresh: false }
    }

    /// A line as its caller asked, as if it had come in at `began`.
    fn read(&self, line: &Carried, caller: &Caller, began: Instant) -> Option<(Understood, Work)> {
        let work = self.desk.open(&line.job, &line.request).and_then(Work::from_bytes)?;
        let mut headers = work.header_map();
        headers.insert(REQUEST_ID, HeaderValue::try_from(line.job.as_str()).ok()?);
        let arrival = Arrival { ingress: work.speech.as_str(), ..Arrival::default() };
        let read = understood(caller, &headers, work.body.clone(), began, work.speech, &arrival).ok()?;
        Some((read, work))
    }

    /// A line as its target gets it.
    fn told(&self, line: &Carried, target: &Target) -> Result<Told, Unfit> {
        let caller = self.caller.as_ref().map_err(|_| Unfit)?;
        let ((mut inbound, ..), _) = self.read(line, caller, Instant::now()).ok_or(Unfit)?;
        self.desk.gateway.retell(&self.rules, &mut inbound, target, self.discount())
    }
}

/// The body of an answer, if it is a good one.
async fn heard(incoming: Incoming, target: &Target) -> Result<Bytes, Failure> {
    let (status, headers) = (incoming.status, incoming.headers.clone());
    let body = incoming.head(LARGEST_ANSWER).await;
    if status.is_success() {
        return Ok(body);
    }
    let adapter = crate::provider::adapter_for(target);
    let failure = adapter.failure(status, &headers, &body, now_ms() / 1000);
    Err(Failure { status: Some(status.as_u16()), ..failure })
}

/// The provider has said no, and would say so again.
fn is_refusal(failure: &Failure) -> bool {
    failure.status.is_some_and(|status| (400..500).contains(&status) && ![408, 409, 425, 429].contains(&status))
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
