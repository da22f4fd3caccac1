//! One replica at a time reads the log: it announces jobs that wait again, when they are due, and publishes events.
//!
//! Whose turn it is stands in a stream of its own, together with how far the log was read, and is written there again and again. Who
//! sees the same revision for a while takes over at that revision, and whoever was replaced finds out with its next
//! write: no clock is compared with another one's. A replica that was frozen may publish some events a second time before
//! it finds out; NATS drops those that come within two minutes, and `seq` tells the others.
//!
//! Jobs that are due later are kept in memory. With the replica they are forgotten, and found by the sweep.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::header::{NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_MESSAGE_ID};
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use metrics::counter;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::handing::{FIRST, announce};
use super::line::{Line, SLOW, Up, lane};
use crate::events::log::{Log, Wanted};
use crate::events::{Event, Kind};
use crate::jobs::job::Status;
use crate::jobs::queue::Queue;
use crate::telemetry::metric::Metric;

/// How often the log is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often whose turn it is is written again.
const BEAT: Duration = Duration::from_secs(1);
/// Whoever has not written for so long is replaced.
const LEASE: Duration = Duration::from_secs(5);
/// Events read, and published, before that is noted.
const AT_ONCE: usize = 256;
/// Jobs remembered that are due later; the sweep finds the others.
const MOST_LATER: usize = 10_000;

/// After these a job waits to be claimed.
const WAITING: [Kind; 6] =
    [Kind::Queued, Kind::RetryScheduled, Kind::LeaseExpired, Kind::Deferred, Kind::Released, Kind::Requeued];

pub struct Outbox<'a> {
    line: &'a Line,
    store: &'a dyn Queue,
    log: &'a dyn Log,
    wanted: Wanted,
    publishes: bool,
    /// Jobs by when they are due and where that stands in the log, with the number of their announcement.
    later: BTreeMap<(i64, i64), (i64, String)>,
}

/// Whose turn it is, as it stands in the stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Post {
    /// The replica; empty after it has left.
    holder: String,
    /// The last event that was dealt with.
    place: i64,
}

/// Why the turn is over.
enum Over {
    /// Somebody else has it, or it is not ours to end the connection for it.
    Elsewhere,
    /// NATS does not do what it should.
    Broken(&'static str),
    Stopped,
}

impl<'a> Outbox<'a> {
    pub fn new(line: &'a Line, store: &'a dyn Queue, log: &'a dyn Log, publishes: bool) -> Self {
        let kinds = if publishes { Vec::new() } else { WAITING.to_vec() };
        let wanted = Wanted { kinds, ..Wanted::default() };
        Self { line, store, log, wanted, publishes, later: BTreeMap::new() }
    }

    pub async fn run(mut self, stop: CancellationToken) {
        // What was dealt with while NATS could not be told, or has forgotten.
        let mut reached = None;
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.line.found() => {}
            }
            let Some(up) = self.line.up() else { continue };
            match self.turn(&up, &mut reached, &stop).await {
                Over::Stopped => return,
                Over::Elsewhere => self.later.clear(),
                Over::Broken(reason) => self.line.lose(&up, reason),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Waits for our turn and does the work while it is ours.
    async fn turn(&mut self, up: &Arc<Up>, reached: &mut Option<i64>, stop: &CancellationToken) -> Over {
        let (mut post, mut revision) = match self.await_turn(up, *reached, stop).await {
            Ok(taken) => taken,
            Err(over) => return over,
        };
        let mut written = Instant::now();
        loop {
            let before = post.place;
            let read = self.read(up, &mut post.place).await;
            *reached = Some(post.place);
            if post.place != before || written.elapsed() >= BEAT {
                revision = match self.write(up, &post, revision).await {
                    Ok(revision) => revision,
                    Err(over) => return over,
                };
                written = Instant::now();
            }
            match read {
                // There may be more.
                Ok(AT_ONCE..) => continue,
                Ok(_) => {}
                Err(over) => return over,
            }
            self.announce_due(up).await;
            tokio::select! {
                () = stop.cancelled() => {
                    let left = Post { holder: String::new(), ..post };
                    let _ = self.write(up, &left, revision).await;
                    return Over::Stopped;
                }
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Whoever sees that it is ours, or nobody's any more, writes itself in.
    async fn await_turn(&self, up: &Up, reached: Option<i64>, stop: &CancellationToken) -> Result<(Post, u64), Over> {
        let mut seen: Option<(u64, Instant)> = None;
        let me = &self.line.names.home;
        loop {
            let found = self.look(up).await?;
            match found {
                None => {
                    let place = match reached {
                        Some(place) => place,
                        None => self.start().await?,
                    };
                    let post = Post { holder: me.clone(), place };
                    let revision = self.write(up, &post, NOTHING_YET).await?;
                    return Ok((post, revision));
                }
                Some((post, revision)) => {
                    let is_silent = seen.is_some_and(|(seen, at)| seen == revision && at.elapsed() >= LEASE);
                    if post.holder.is_empty() || post.holder == *me || is_silent {
                        let post = Post { holder: me.clone(), place: post.place };
                        let revision = self.write(up, &post, revision).await?;
                        return Ok((post, revision));
                    }
                    if seen.is_none_or(|(seen, _)| seen != revision) {
                        seen = Some((revision, Instant::now()));
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => return Err(Over::Stopped),
                () = tokio::time::sleep(BEAT) => {}
            }
            if self.line.up().is_none() {
                return Err(Over::Elsewhere);
            }
        }
    }

    /// Where to begin: whoever publishes begins with the oldest event that is kept; the sweep finds older jobs.
    async fn start(&self) -> Result<i64, Over> {
        if self.publishes { Ok(0) } else { self.log.end().await.map_err(unread) }
    }

    /// What stands there, and its revision.
    async fn look(&self, up: &Up) -> Result<Option<(Post, u64)>, Over> {
        let last = timeout(SLOW, up.posts.get_last_raw_message_by_subject(&self.line.names.post())).await;
        match last.map_err(|_| LATE)? {
            Ok(message) => Ok(serde_json::from_slice(&message.payload).ok().map(|post| (post, message.sequence))),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(_) => Err(Over::Broken("its stream cannot be read")),
        }
    }

    /// Writes over a revision, if it is still the newest; returns the next one.
    async fn write(&self, up: &Up, post: &Post, revision: u64) -> Result<u64, Over> {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, revision.to_string());
        let written = async {
            let body = serde_json::to_vec(post).unwrap_or_default().into();
            up.context.publish_with_headers(self.line.names.post(), headers, body).await?.await
        };
        let written = timeout(SLOW, written).await.map_err(|_| LATE)?;
        written.map(|written| written.sequence).map_err(|_| Over::Elsewhere)
    }

    /// Deals with the next events, and says how many there were.
    async fn read(&mut self, up: &Up, place: &mut i64) -> Result<usize, Over> {
        let events = self.log.behind(*place, &self.wanted, AT_ONCE).await.map_err(unread)?;
        for event in &events {
            if self.publishes {
                self.publish(up, event).await?;
            }
            let seq = event.seq.unwrap_or(*place);
            // What another job carries is nobody's to claim.
            let is_carried = event.facts.contains_key("carried_by");
            if WAITING.contains(&event.kind) && !is_carried && self.later.len() < MOST_LATER {
                let number = if event.kind == Kind::Queued { FIRST } else { seq };
                let due =
                    ["not_before_unix_ms", "due_unix_ms"].iter().find_map(|name| event.facts.get(*name)?.as_i64());
                self.later.insert((due.unwrap_or(0), seq), (number, event.subject.clone()));
            }
            *place = seq;
        }
        Ok(events.len())
    }

    /// The next one is published when this one was taken: so they stay in order.
    async fn publish(&self, up: &Up, event: &Event) -> Result<(), Over> {
        let names = &self.line.names;
        let body = serde_json::to_vec(event).map_err(|_| Over::Broken("an event cannot be written"))?;
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, format!("{}.{}", names.scope, event.seq.unwrap_or_default()));
        headers.insert("Stepwell-Log", names.scope.as_str());
        let taken = async {
            let taking =
                up.context.publish_with_headers(names.events(event.kind.as_str()), headers, body.into()).await?;
            taking.await
        };
        timeout(SLOW, taken).await.map_err(|_| LATE)?.map_err(|_| Over::Broken("it does not take events"))?;
        counter!(Metric::EventsPublished.name(), "to" => "nats").increment(1);
        Ok(())
    }

    /// Announces what is due and still waits.
    async fn announce_due(&mut self, up: &Up) {
        let now_ms = jiff::Timestamp::now().as_millisecond();
        while let Some(first) = self.later.first_entry().filter(|first| first.key().0 <= now_ms) {
            let (number, id) = first.remove();
            // What cannot be read is left to the sweep.
            let Ok(Some(job)) = self.store.find(&id).await else { continue };
            if job.status == Status::Queued && job.not_before_unix_ms <= now_ms {
                let subject = self.line.names.jobs(lane(job.priority));
                announce(up, subject, &id, number);
            }
        }
    }
}

/// The revision of what was never written.
const NOTHING_YET: u64 = 0;
const LATE: Over = Over::Broken("it did not answer in time");

/// The log is ours: NATS is not to blame.
fn unread(failure: crate::ledger::journal::Failure) -> Over {
    tracing::warn!(error = %failure, "events cannot be read; they are published later");
    Over::Elsewhere
}
