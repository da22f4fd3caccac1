//! Jobs, and the events that tell them: claims, leases, ends, and who wants them otherwise.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::join_all;

use super::{Kit, on_every_store, on_nats};
use crate::events::Kind as Happened;
use crate::events::log::{Note, Wanted};
use crate::jobs::job::{Claimed, End, Hold, Job, Kind, New, Status};
use crate::jobs::queue::{Filter, Obeyed, Order, Taken};
use crate::jobs::replay::State;

on_every_store! {
    who_submits_the_same_twice_has_it_done_once,
    claims_go_by_priority_then_time_then_order,
    a_claim_belongs_to_its_worker_until_its_lease_is_over,
    only_the_newest_claim_can_end_a_job,
    attempts_are_counted_and_the_last_failure_is_a_dead_letter,
    what_was_no_attempt_is_not_counted,
    an_operator_retries_discards_and_cancels,
    who_comes_too_late_expires,
    a_saga_goes_on_when_a_part_has_ended,
    an_end_that_is_to_be_told_makes_one_delivery,
    lists_are_newest_first_in_pages_and_filtered,
    contents_come_back_byte_for_byte_and_go_when_they_are_old,
    no_event_is_missed_by_who_continues_behind_the_last_one,
    one_at_a_time_tells_a_consumer_and_goes_on_where_another_ended,
    every_job_ends_once_however_workers_crash,
    one_job_is_claimed_by_one_worker_if_it_is_due_and_nobody_has_it,
    one_job_whose_lease_is_over_is_claimed_again_until_no_attempt_is_left,
}

on_nats! {
    who_submits_the_same_twice_has_it_done_once,
    a_claim_belongs_to_its_worker_until_its_lease_is_over,
    only_the_newest_claim_can_end_a_job,
    attempts_are_counted_and_the_last_failure_is_a_dead_letter,
    what_was_no_attempt_is_not_counted,
    an_operator_retries_discards_and_cancels,
    who_comes_too_late_expires,
    a_saga_goes_on_when_a_part_has_ended,
    an_end_that_is_to_be_told_makes_one_delivery,
    lists_are_newest_first_in_pages_and_filtered,
    contents_come_back_byte_for_byte_and_go_when_they_are_old,
    every_job_ends_once_however_workers_crash,
    one_job_is_claimed_by_one_worker_if_it_is_due_and_nobody_has_it,
    one_job_whose_lease_is_over_is_claimed_again_until_no_attempt_is_left,
}

pub const LEASE: Duration = Duration::from_secs(600);
/// Over as soon as it is given.
const NO_LEASE: Duration = Duration::ZERO;

pub fn new(id: &str) -> New {
    New {
        id: id.to_owned(),
        kind: Kind::Request,
        key: Some("team".to_owned()),
        part_of: None,
        priority: 0,
        not_before_unix_ms: None,
        expires_unix_ms: None,
        max_attempts: 2,
        request: id.as_bytes().to_vec(),
        webhook: false,
        carried_by: None,
    }
}

pub fn done() -> End {
    End::Completed { http_status: 200, result: b"result".to_vec() }
}

fn again(after_ms: i64) -> End {
    End::Again { after_ms, http_status: Some(502), error: "upstream_error: no".to_owned(), result: b"bad".to_vec() }
}

impl Kit {
    pub async fn submit(&self, jobs: &[New]) -> Vec<Taken> {
        self.queue().submit(jobs).await.expect("taken in")
    }

    /// All that there is to claim, up to `most`. A queue that hears of jobs by messages has heard of them all after a while.
    pub async fn claim(&self, most: usize, lease: Duration) -> Vec<Claimed> {
        let began = std::time::Instant::now();
        let mut claimed = self.claim_now(most, lease).await;
        while claimed.len() < most && began.elapsed() < self.hears_within {
            tokio::time::sleep(Duration::from_millis(20)).await;
            claimed.extend(self.claim_now(most - claimed.len(), lease).await);
        }
        claimed
    }

    async fn claim_now(&self, most: usize, lease: Duration) -> Vec<Claimed> {
        self.queue().claim("worker", most, lease).await.expect("claimed")
    }

    /// Claims the only job that is due.
    async fn claim_one(&self) -> Claimed {
        let mut claimed = self.claim(10, LEASE).await;
        assert_eq!(claimed.len(), 1, "{claimed:?}");
        claimed.remove(0)
    }

    pub async fn end(&self, hold: &Hold, end: &End) -> bool {
        self.queue().end(hold, end).await.expect("an answer")
    }

    pub async fn job(&self, id: &str) -> Job {
        self.queue().find(id).await.expect("an answer").expect("a job")
    }

    async fn order(&self, id: &str, order: Order) -> Obeyed {
        self.queue().order(id, order).await.expect("an answer")
    }

    /// What has happened to one thing, in order.
    pub async fn history(&self, subject: &str) -> Vec<&'static str> {
        let wanted = Wanted { subject: Some(subject.to_owned()), ..Wanted::default() };
        let events = self.store.log().behind(0, &wanted, 1_000).await.expect("events");
        events.iter().map(|event| event.kind.as_str()).collect()
    }

    /// The log, told from its beginning.
    pub async fn told(&self) -> State {
        let mut state = State::default();
        for event in self.store.log().behind(0, &Wanted::default(), 1_000_000).await.expect("events") {
            state.add(&event);
        }
        state
    }
}

fn ids(claimed: &[Claimed]) -> Vec<&str> {
    claimed.iter().map(|claimed| claimed.job.id.as_str()).collect()
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

async fn who_submits_the_same_twice_has_it_done_once(kit: Kit) {
    assert_eq!(kit.submit(&[new("a"), new("b"), new("a")]).await, [Taken::In, Taken::In, Taken::Known]);
    let tries = join_all((0..8).map(|_| async { kit.submit(&[new("c")]).await[0] })).await;
    assert_eq!(tries.iter().filter(|taken| **taken == Taken::In).count(), 1, "{tries:?}");
    assert_eq!(kit.submit(&[]).await, []);
    assert_eq!(kit.claim(10, LEASE).await.len(), 3);
    assert_eq!(kit.history("a").await, ["queued", "started"]);
}

async fn claims_go_by_priority_then_time_then_order(kit: Kit) {
    let later = now_ms() + 3_600_000;
    let jobs = [
        New { priority: -5, ..new("low") },
        New { not_before_unix_ms: Some(2), ..new("second") },
        New { not_before_unix_ms: Some(1), ..new("first") },
        New { not_before_unix_ms: Some(2), ..new("third") },
        New { priority: 100, not_before_unix_ms: Some(later), ..new("tomorrow") },
        New { priority: 5, ..new("high") },
    ];
    kit.submit(&jobs).await;
    assert_eq!(ids(&kit.claim(2, LEASE).await), ["high", "first"]);
    let rest = kit.claim(10, LEASE).await;
    assert_eq!(ids(&rest), ["second", "third", "low"]);
    assert_eq!((rest[0].request.as_slice(), rest[0].job.attempts), (&b"second"[..], 1));
    assert_eq!(kit.claim(10, LEASE).await.len(), 0);
    assert_eq!(kit.job("tomorrow").await.status, Status::Queued);
}

async fn a_claim_belongs_to_its_worker_until_its_lease_is_over(kit: Kit) {
    kit.submit(&[new("a")]).await;
    let first = kit.claim_one().await;
    assert!(kit.claim(10, LEASE).await.is_empty(), "it is in somebody's hands");
    assert!(kit.queue().renew(&first.hold, NO_LEASE).await.expect("renewed"));
    let second = kit.claim_one().await;
    assert_eq!(second.job.attempts, 2, "a crash is an attempt");
    assert!(!kit.queue().renew(&first.hold, LEASE).await.expect("an answer"), "it is somebody else's");
    assert!(kit.queue().renew(&second.hold, NO_LEASE).await.expect("renewed"));
    assert!(kit.claim(10, LEASE).await.is_empty());
    let dead = kit.job("a").await;
    assert_eq!((dead.status, dead.attempts), (Status::Dead, 2));
    assert!(dead.error.is_some_and(|error| error.starts_with("worker_lost: ")));
    assert_eq!(
        kit.history("a").await,
        ["queued", "started", "lease_expired", "started", "lease_expired", "dead_lettered"]
    );
}

async fn only_the_newest_claim_can_end_a_job(kit: Kit) {
    kit.submit(&[new("a")]).await;
    let old = kit.claim(1, NO_LEASE).await.remove(0);
    let newest = kit.claim_one().await;
    assert!(!kit.end(&old.hold, &done()).await);
    assert!(!kit.end(&old.hold, &again(0)).await);
    assert_eq!(kit.job("a").await.status, Status::Running);
    assert!(kit.end(&newest.hold, &done()).await);
    assert!(!kit.end(&newest.hold, &done()).await, "once");
    let ended = kit.job("a").await;
    assert_eq!((ended.status, ended.http_status), (Status::Completed, Some(200)));
    assert!(ended.ended_unix_ms.is_some());
    assert_eq!(kit.history("a").await.iter().filter(|kind| **kind == "completed").count(), 1);
}

async fn attempts_are_counted_and_the_last_failure_is_a_dead_letter(kit: Kit) {
    kit.submit(&[new("a"), New { max_attempts: 5, ..new("b") }]).await;
    for _ in 0..2 {
        for claimed in kit.claim(10, LEASE).await {
            assert!(kit.end(&claimed.hold, &again(0)).await);
        }
    }
    let (dead, retried) = (kit.job("a").await, kit.job("b").await);
    assert_eq!((dead.status, dead.attempts, dead.http_status), (Status::Dead, 2, Some(502)));
    assert_eq!((retried.status, retried.attempts), (Status::Queued, 2));
    assert_eq!(retried.error.as_deref(), Some("upstream_error: no"));
    let last = kit.queue().contents("a").await.expect("an answer").expect("contents").1;
    assert_eq!(last.as_deref(), Some(&b"bad"[..]), "the caller can read the last failure");
    let claimed = kit.claim_one().await;
    assert!(kit.end(&claimed.hold, &again(3_600_000)).await);
    assert!(kit.claim(10, LEASE).await.is_empty(), "it waits");
    assert!(kit.job("b").await.not_before_unix_ms > now_ms() + 3_000_000);
}

async fn what_was_no_attempt_is_not_counted(kit: Kit) {
    kit.submit(&[new("a")]).await;
    for end in [End::Released, End::Deferred { after_ms: 0, reason: "no_room: none".to_owned() }, End::Released] {
        let claimed = kit.claim_one().await;
        assert_eq!(claimed.job.attempts, 1);
        assert!(kit.end(&claimed.hold, &end).await);
        assert_eq!(kit.job("a").await.attempts, 0);
    }
    assert_eq!(kit.history("a").await, ["queued", "started", "released", "started", "deferred", "started", "released"]);
}

async fn an_operator_retries_discards_and_cancels(kit: Kit) {
    kit.submit(&["dead", "worse", "running", "queued"].map(|id| New { max_attempts: 1, ..new(id) })).await;
    let claimed = kit.claim(3, LEASE).await;
    for claimed in &claimed[..2] {
        kit.end(&claimed.hold, &again(0)).await;
    }
    assert!(matches!(kit.order("nobody", Order::Cancel).await, Obeyed::Unknown));
    assert!(matches!(kit.order("dead", Order::Cancel).await, Obeyed::Impossible(_)));
    assert!(matches!(kit.order("running", Order::Retry).await, Obeyed::Impossible(_)));
    assert!(matches!(kit.order("running", Order::Discard).await, Obeyed::Impossible(_)));
    for id in ["running", "queued"] {
        assert!(matches!(kit.order(id, Order::Cancel).await, Obeyed::Done(job) if job.status == Status::Cancelled));
    }
    assert!(!kit.end(&claimed[2].hold, &done()).await, "it was cancelled under its worker's hands");
    assert!(matches!(kit.order("worse", Order::Discard).await, Obeyed::Done(job) if job.status == Status::Failed));
    let Obeyed::Done(revived) = kit.order("dead", Order::Retry).await else { panic!("refused") };
    assert_eq!((revived.status, revived.attempts, revived.error), (Status::Queued, 0, None));
    let claimed = kit.claim_one().await;
    assert!(claimed.hold.fence > 1, "an old claim stays void");
    kit.end(&claimed.hold, &done()).await;
    let told = kit.told().await;
    for (id, status) in [
        ("dead", Status::Completed),
        ("worse", Status::Failed),
        ("running", Status::Cancelled),
        ("queued", Status::Cancelled),
    ] {
        assert_eq!((kit.job(id).await.status, told.jobs[id].status, told.jobs[id].ends), (status, status, 1), "{id}");
    }
}

async fn who_comes_too_late_expires(kit: Kit) {
    kit.submit(&[New { expires_unix_ms: Some(1), ..new("late") }, new("in_time")]).await;
    assert_eq!(ids(&kit.claim(10, LEASE).await), ["in_time"]);
    assert_eq!((kit.job("late").await.status, kit.history("late").await), (Status::Expired, vec!["queued", "expired"]));
}

async fn a_saga_goes_on_when_a_part_has_ended(kit: Kit) {
    kit.submit(&[New { kind: Kind::Saga, ..new("saga") }]).await;
    let part = |place| New { part_of: Some(("saga".to_owned(), place)), ..new(&format!("saga.{place}")) };
    let waits = |place| End::Waits { parts: vec![format!("saga.{place}")] };
    let saga = kit.claim_one().await;
    kit.submit(&[part(0)]).await;
    assert!(kit.end(&saga.hold, &waits(0)).await);
    let step = kit.claim_one().await;
    assert_eq!(step.job.id, "saga.0", "the saga waits");
    kit.end(&step.hold, &done()).await;
    // The next part ends before the saga says that it waits for it.
    let saga = kit.claim_one().await;
    assert_eq!((saga.job.id.as_str(), saga.job.attempts), ("saga", 1));
    kit.submit(&[part(1)]).await;
    let step = kit.claim_one().await;
    // Both at once: whichever comes first, the saga is not forgotten.
    let (ended, waiting) = (done(), waits(1));
    tokio::join!(kit.end(&step.hold, &ended), kit.end(&saga.hold, &waiting));
    assert_eq!(kit.claim_one().await.job.id, "saga");
}

async fn an_end_that_is_to_be_told_makes_one_delivery(kit: Kit) {
    kit.submit(&[New { webhook: true, ..new("a") }]).await;
    let claimed = kit.claim_one().await;
    kit.end(&claimed.hold, &again(0)).await;
    let claimed = kit.claim_one().await;
    assert!(kit.end(&claimed.hold, &done()).await);
    let delivery = kit.claim_one().await;
    assert_eq!((delivery.job.kind, delivery.job.part_of.as_deref()), (Kind::Webhook, Some("a")));
}

async fn lists_are_newest_first_in_pages_and_filtered(kit: Kit) {
    let jobs: Vec<New> = (0..7).map(|i| new(&format!("j{i}"))).collect();
    kit.submit(&jobs).await;
    let internal = New { kind: Kind::Webhook, key: None, part_of: Some(("j0".to_owned(), 0)), ..new("hook") };
    kit.submit(&[internal]).await;
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let page = kit.queue().list(&Filter::default(), before, 3).await.expect("a page");
        let Some(last) = page.last() else { break };
        before = Some(last.seq);
        seen.extend(page.into_iter().map(|job| job.id));
    }
    assert_eq!(seen, ["j6", "j5", "j4", "j3", "j2", "j1", "j0"]);
    let found = async |filter: Filter| kit.queue().list(&filter, None, 10).await.expect("a list").len();
    assert_eq!(found(Filter { internal: true, ..Filter::default() }).await, 8);
    assert_eq!(found(Filter { part_of: Some("j0".to_owned()), internal: true, ..Filter::default() }).await, 1);
    assert_eq!(found(Filter { key: Some("other".to_owned()), ..Filter::default() }).await, 0);
    kit.claim(2, LEASE).await;
    assert_eq!(found(Filter { status: Some(Status::Running), internal: true, ..Filter::default() }).await, 2);
    let counts: HashMap<Status, u64> = kit.queue().counts().await.expect("counts").into_iter().collect();
    assert_eq!((counts[&Status::Queued], counts[&Status::Running], counts[&Status::Dead]), (6, 2, 0));
}

async fn contents_come_back_byte_for_byte_and_go_when_they_are_old(kit: Kit) {
    let request: Vec<u8> = (0..200_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    kit.submit(&[New { request: request.clone(), ..new("a") }, new("b")]).await;
    let claimed = kit.claim(1, LEASE).await.remove(0);
    assert!(claimed.request == request);
    kit.end(&claimed.hold, &End::Completed { http_status: 200, result: request.clone() }).await;
    let (kept, result) = kit.queue().contents("a").await.expect("an answer").expect("contents");
    assert!(kept == request && result.as_ref() == Some(&request));
    let tomorrow = now_ms() + 24 * 3_600_000;
    let bury = async || {
        kit.submit(&[New { max_attempts: 1, ..new("dead") }]).await;
        let dead = kit.queue().claim_one("dead", "worker", LEASE).await.expect("an answer").expect("it is due");
        kit.end(&dead.hold, &again(0)).await;
    };
    let forget = async |ended: i64, dead: i64| kit.queue().forget_ended_before(ended, dead).await.expect("done");
    bury().await;
    assert_eq!(forget(0, tomorrow).await, 1, "the dead one");
    assert_eq!(kit.queue().contents("dead").await.expect("an answer"), None);
    bury().await;
    assert_eq!(forget(0, 0).await, 0);
    assert_eq!(
        forget(tomorrow, 0).await,
        1,
        "the other one has not ended, and for the dead one somebody may still come"
    );
    assert!(kit.queue().contents("dead").await.expect("an answer").is_some());
    assert_eq!(kit.queue().contents("a").await.expect("an answer"), None);
    let before = kit.history("b").await;
    assert!(kit.store.log().forget_before(tomorrow).await.expect("done") >= 3);
    assert_eq!((kit.history("a").await.len(), kit.history("b").await), (0, before), "who lives keeps its history");
}

async fn one_at_a_time_tells_a_consumer_and_goes_on_where_another_ended(kit: Kit) {
    let turn = async |holder: &str, lease| kit.store.log().take_turn("hook", holder, lease).await.expect("an answer");
    let advance = async |holder: &str, place| kit.store.log().advance("hook", holder, place).await.expect("an answer");
    kit.submit(&[new("a")]).await;
    let end = kit.store.log().end().await.expect("an end");
    assert_eq!(turn("one", LEASE).await, Some(end), "who begins is not told what was");
    kit.submit(&[new("b")]).await;
    assert_eq!((turn("two", LEASE).await, turn("one", LEASE).await), (None, Some(end)));
    assert!(advance("one", end + 1).await && !advance("two", end + 9).await);
    assert_eq!(turn("one", NO_LEASE).await, Some(end + 1), "given back");
    assert_eq!(turn("two", LEASE).await, Some(end + 1));
    assert!(!advance("one", end + 2).await, "it was replaced");
    assert_eq!(
        kit.store.log().take_turn("other", "one", LEASE).await.expect("an answer"),
        Some(end + 1),
        "another consumer"
    );
}

async fn no_event_is_missed_by_who_continues_behind_the_last_one(kit: Kit) {
    const WRITERS: usize = 8;
    const NOTES: usize = 40;
    let write = async |writer: usize| {
        for number in 0..NOTES {
            // Of different lengths, so that transactions overtake each other.
            let notes: Vec<Note> = (0..=(writer + number) % 5)
                .map(|_| Note {
                    at_unix_ms: now_ms(),
                    kind: Happened::Anomaly,
                    subject: format!("w{writer}"),
                    key: None,
                    facts: crate::events::facts([("number", number.into())]),
                })
                .collect();
            kit.store.log().note(&notes).await.expect("written");
        }
    };
    let written: usize =
        (0..WRITERS).map(|writer| (0..NOTES).map(|number| (writer + number) % 5 + 1).sum::<usize>()).sum();
    let read = async {
        let (mut seen, mut place) = (Vec::new(), 0);
        while seen.len() < written {
            let events = kit.store.log().behind(place, &Wanted::default(), 7).await.expect("events");
            for event in &events {
                assert!(event.seq > Some(place), "in order");
                place = event.seq.unwrap_or(place);
            }
            seen.extend(events);
            if place < kit.store.log().end().await.expect("an end") {
                continue;
            }
            tokio::task::yield_now().await;
        }
        seen
    };
    let (seen, _) = tokio::time::timeout(
        Duration::from_secs(60),
        futures_util::future::join(read, join_all((0..WRITERS).map(write))),
    )
    .await
    .expect("none is missed");
    let mut last: HashMap<&str, u64> = HashMap::new();
    for event in &seen {
        let number = event.facts["number"].as_u64().expect("a number");
        let before = last.insert(&event.subject, number);
        assert!(before.is_none_or(|before| number >= before), "each writer's own order");
    }
    assert_eq!(seen.len(), written, "and none is given twice");
}

/// At random places workers let go of what they hold, as if they had been killed, and come back with what they held before.
async fn every_job_ends_once_however_workers_crash(kit: Kit) {
    const JOBS: usize = 120;
    let jobs: Vec<New> = (0..JOBS).map(|i| New { max_attempts: 6, ..new(&format!("j{i}")) }).collect();
    kit.submit(&jobs).await;
    let work = async |seed: u64| {
        let mut random = seed;
        let mut draw = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        let mut lost: Vec<Hold> = Vec::new();
        loop {
            // A worker that will not be heard of again has a lease that is over at once.
            let crashes = draw(4) == 0;
            let lease = if crashes { NO_LEASE } else { LEASE };
            let claimed = kit.claim_now(1 + draw(5) as usize, lease).await;
            for claimed in &claimed {
                match draw(10) {
                    _ if crashes => lost.push(claimed.hold.clone()),
                    0 => drop(kit.end(&claimed.hold, &again(0)).await),
                    1 => drop(kit.end(&claimed.hold, &End::Released).await),
                    2 => drop(kit.order(&claimed.job.id, Order::Cancel).await),
                    _ => drop(kit.end(&claimed.hold, &done()).await),
                }
            }
            // One that was believed dead wakes up and wants to end what it held.
            if draw(3) == 0
                && let Some(hold) = lost.pop()
            {
                kit.end(&hold, &done()).await;
            }
            let counts = kit.queue().counts().await.expect("counts");
            let open = |status: &Status| matches!(status, Status::Queued | Status::Running);
            if counts.iter().all(|(status, count)| !open(status) || *count == 0) {
                break;
            }
        }
    };
    join_all((1..=8).map(work)).await;
    let told = kit.told().await;
    assert_eq!(told.jobs.len(), JOBS);
    for (id, told) in &told.jobs {
        let job = kit.job(id).await;
        assert_eq!((told.status, told.ends), (job.status, 1), "{id}: {:?}", kit.history(id).await);
        assert!(job.status.has_ended() && job.attempts <= 6, "{job:?}");
    }
}

async fn one_job_is_claimed_by_one_worker_if_it_is_due_and_nobody_has_it(kit: Kit) {
    let late = New { not_before_unix_ms: Some(now_ms() + 3_600_000), ..new("late") };
    kit.submit(&[new("a"), new("b"), late]).await;
    let claim = async |id: &str, lease| kit.queue().claim_one(id, "w", lease).await.expect("an answer");
    assert!(claim("late", LEASE).await.is_none(), "it is not due");
    assert!(claim("nobody", LEASE).await.is_none(), "there is none");
    let tries = join_all((0..8).map(|_| claim("b", LEASE))).await;
    let claimed: Vec<Claimed> = tries.into_iter().flatten().collect();
    let [claimed] = &claimed[..] else { panic!("{claimed:?}") };
    assert_eq!((&*claimed.job.id, claimed.job.attempts, claimed.hold.fence), ("b", 1, 1));
    assert_eq!(claimed.request, b"b");
    assert_eq!(ids(&kit.claim(10, LEASE).await), ["a"], "the other one was left alone");
    assert!(kit.end(&claimed.hold, &done()).await);
    assert!(claim("b", LEASE).await.is_none(), "it has ended");
    assert_eq!(kit.history("b").await, ["queued", "started", "completed"]);
}

async fn one_job_whose_lease_is_over_is_claimed_again_until_no_attempt_is_left(kit: Kit) {
    kit.submit(&[new("a")]).await;
    let claim = async || kit.queue().claim_one("a", "w", NO_LEASE).await.expect("an answer");
    let first = claim().await.expect("it is due");
    let second = claim().await.expect("the lease is over");
    assert_eq!((second.job.attempts, second.hold.fence), (2, 2));
    assert!(!kit.end(&first.hold, &End::Released).await, "it is not the first one's any more");
    assert!(claim().await.is_none());
    assert_eq!(kit.job("a").await.status, Status::Dead);
}
