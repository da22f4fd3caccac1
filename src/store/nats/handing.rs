//! The port `jobs::queue` with a stream between store and workers.
//!
//! A job that was committed is announced, without waiting: the acknowledgement of a request does not depend on NATS. Whoever
//! gets the message claims that job in the store, and acknowledges when the end is written there. A message that finds
//! nothing to claim is taken away. Now and then, and whenever something was done here that may have made jobs which nobody
//! announced, the store is asked instead of the stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::AckKind;
use async_nats::jetstream::message::{Acker, Message};
use dashmap::DashMap;
use futures_util::{FutureExt, StreamExt};
use metrics::counter;
use parking_lot::Mutex;

use super::Nats;
use super::line::{SLOW, Up, lane};
use crate::jobs::job::{Claimed, End, Hold, Job, New, Status};
use crate::jobs::queue::{Contents, Filter, Obeyed, Order, Queue, Standing, Taken};
use crate::ledger::journal::{Answer, Failure};
use crate::telemetry::metric::Metric;

/// How often the store is looked through for what the stream does not know.
pub const SWEEP_EVERY: Duration = Duration::from_secs(2);
/// A message whose job could not be claimed because of the store comes back after this.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// Of the announcement of a new job; later ones have the numbers of their events.
pub const FIRST: i64 = 0;

/// Messages of jobs that workers hold here.
pub type Held = DashMap<String, InHand>;

/// A message in hand.
pub struct InHand {
    acker: Acker,
    fence: i64,
    /// Others may have to go on when it ends.
    has_kin: bool,
    heard: Instant,
    lease: Duration,
}

/// When the store is to be looked through.
#[derive(Default)]
pub struct Sweep {
    soon: AtomicBool,
    last: Mutex<Option<Instant>>,
}

impl Sweep {
    /// Before the usual time.
    fn soon(&self) {
        self.soon.store(true, Ordering::Relaxed);
    }

    fn is_due(&self) -> bool {
        let mut last = self.last.lock();
        let is_due = self.soon.swap(false, Ordering::Relaxed) || last.is_none_or(|last| last.elapsed() >= SWEEP_EVERY);
        if is_due {
            *last = Some(Instant::now());
        }
        is_due
    }
}

/// Tells that a job can be claimed. `number` tells announcements of one job apart; the same one counts once. Nothing is
/// waited for: what does not fit on the way is found by the sweep.
pub fn announce(up: &Up, subject: String, id: &str, number: i64) {
    let mut headers = HeaderMap::new();
    headers.insert(NATS_MESSAGE_ID, format!("{id}.{number}"));
    let _ = up.client.publish_with_headers(subject, headers, id.to_owned().into()).now_or_never();
}

impl Nats {
    /// Messages for up to `most` jobs, best first, without waiting for one.
    async fn pull(&self, up: &Arc<Up>, most: usize) -> Vec<Message> {
        let mut pulled = Vec::new();
        for consumer in &up.lanes {
            let room = most - pulled.len();
            if room == 0 {
                break;
            }
            let pull = async {
                let mut batch = consumer.fetch().max_messages(room).messages().await.map_err(|_| ())?;
                while let Some(message) = batch.next().await {
                    pulled.push(message.map_err(|_| ())?);
                }
                Ok::<(), ()>(())
            };
            let failed = match tokio::time::timeout(SLOW, pull).await {
                Ok(Ok(())) => continue,
                Ok(Err(())) => "its stream cannot be read",
                Err(_) => "it did not answer in time",
            };
            self.line.lose(up, failed);
            break;
        }
        pulled
    }

    /// Claims what a message tells of.
    async fn take(&self, message: Message, worker: &str, lease: Duration) -> Result<Option<Claimed>, Failure> {
        let (message, acker) = message.split();
        let id = String::from_utf8_lossy(&message.payload).into_owned();
        let claimed = self.store.claim_one(&id, worker, lease).await;
        match &claimed {
            Ok(Some(claimed)) => {
                let has_kin = claimed.job.part_of.is_some() || claimed.job.webhook;
                let fence = claimed.hold.fence;
                self.held.insert(id, InHand { acker, fence, has_kin, heard: Instant::now(), lease });
            }
            Ok(None) => say(&acker, AckKind::Ack),
            Err(_) => say(&acker, AckKind::Nak(Some(STORE_PAUSE))),
        }
        claimed
    }

    async fn claim_here(&self, worker: &str, most: usize, lease: Duration) -> Result<Vec<Claimed>, Failure> {
        let Some(up) = self.line.up() else { return self.store.claim(worker, most, lease).await };
        let mut claimed = Vec::new();
        let mut failed = None;
        for message in self.pull(&up, most).await {
            match self.take(message, worker, lease).await {
                Ok(taken) => claimed.extend(taken),
                Err(failure) => failed = Some(failure),
            }
        }
        counter!(Metric::JobsClaimed.name(), "by" => "stream").increment(claimed.len() as u64);
        let room = most - claimed.len();
        // Also at once when NATS was lost just now.
        if room > 0 && failed.is_none() && (self.sweep.is_due() || self.line.up().is_none()) {
            self.held.retain(|_, held| held.heard.elapsed() < held.lease);
            match self.store.claim(worker, room, lease).await {
                Ok(found) => {
                    if found.len() == room {
                        self.sweep.soon();
                    }
                    counter!(Metric::JobsClaimed.name(), "by" => "sweep").increment(found.len() as u64);
                    claimed.extend(found);
                }
                Err(failure) => failed = Some(failure),
            }
        }
        // What was claimed is ours, whatever failed beside it.
        failed.filter(|_| claimed.is_empty()).map_or(Ok(claimed), Err)
    }

    /// Takes the message of a claim that has ended away.
    fn done(&self, hold: &Hold) {
        if let Some((_, held)) = self.held.remove_if(&hold.id, |_, held| held.fence == hold.fence) {
            say(&held.acker, AckKind::Ack);
            if held.has_kin {
                self.sweep.soon();
            }
        }
    }
}

/// Nothing is waited for: an acknowledgement that is lost has the message come once more and find nothing.
fn say(acker: &Acker, kind: AckKind) {
    let _ = acker.ack_with(kind).now_or_never();
}

impl Queue for Nats {
    fn submit<'a>(&'a self, jobs: &'a [New]) -> Answer<'a, Vec<Taken>> {
        Box::pin(async move {
            let taken = self.store.submit(jobs).await?;
            if let Some(up) = self.line.up() {
                let new = jobs.iter().zip(&taken).filter(|(_, taken)| **taken == Taken::In).map(|(job, _)| job);
                // What is due later is announced by who reads the log.
                for job in new.filter(|job| job.not_before_unix_ms.is_none()) {
                    announce(&up, self.line.names.jobs(lane(job.priority)), &job.id, FIRST);
                }
            }
            Ok(taken)
        })
    }

    fn claim<'a>(&'a self, worker: &'a str, most: usize, lease: Duration) -> Answer<'a, Vec<Claimed>> {
        Box::pin(self.claim_here(worker, most, lease))
    }

    fn claim_one<'a>(&'a self, id: &'a str, worker: &'a str, lease: Duration) -> Answer<'a, Option<Claimed>> {
        self.store.claim_one(id, worker, lease)
    }

    fn renew<'a>(&'a self, hold: &'a Hold, lease: Duration) -> Answer<'a, bool> {
        Box::pin(async move {
            let is_held = self.store.renew(hold, lease).await?;
            if !is_held {
                self.done(hold);
            } else if let Some(mut held) = self.held.get_mut(&hold.id) {
                held.heard = Instant::now();
                say(&held.acker, AckKind::Progress);
            }
            Ok(is_held)
        })
    }

    fn end<'a>(&'a self, hold: &'a Hold, end: &'a End) -> Answer<'a, bool> {
        Box::pin(async move {
            let was_held = self.store.end(hold, end).await?;
            self.done(hold);
            Ok(was_held)
        })
    }

    fn order<'a>(&'a self, id: &'a str, order: Order) -> Answer<'a, Obeyed> {
        self.store.order(id, order)
    }

    fn find<'a>(&'a self, id: &'a str) -> Answer<'a, Option<Job>> {
        self.store.find(id)
    }

    fn contents<'a>(&'a self, id: &'a str) -> Answer<'a, Option<Contents>> {
        self.store.contents(id)
    }

    fn list<'a>(&'a self, filter: &'a Filter, before: Option<i64>, most: usize) -> Answer<'a, Vec<Job>> {
        self.store.list(filter, before, most)
    }

    fn restate<'a>(&'a self, id: &'a str, status: Status) -> Answer<'a, ()> {
        self.store.restate(id, status)
    }

    fn counts(&self) -> Answer<'_, Vec<(Status, u64)>> {
        self.store.counts()
    }

    fn forget_ended_before(&self, moment_ms: i64, dead_ms: i64) -> Answer<'_, u64> {
        self.store.forget_ended_before(moment_ms, dead_ms)
    }

    fn standing(&self) -> Option<Standing> {
        Some(self.line.standing())
    }
}
