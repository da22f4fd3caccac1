//! Lines that providers answer in batches of their own: carried by their part, ended by it or let go, and never twice.

use super::jobs::{LEASE, done, new};
use super::{Duration, Kit, NOW, on_every_store};
use crate::batch::native::{Part, Phase, Spent};
use crate::batch::{Batch, Native, Status};
use crate::events::Kind as Happened;
use crate::jobs::job::{End, Kind, New, Status as JobStatus};

on_every_store! {
    who_has_lost_a_parts_job_notes_nothing_of_the_part,
    a_part_is_kept_as_it_was_said_and_its_account_grows_with_its_lines,
    lines_that_a_part_carries_are_nobodys_until_it_lets_them_go,
    lines_end_once_with_their_events_and_are_counted_by_their_batch,
    a_cancelled_batch_wakes_its_part_and_leaves_the_lines_to_it,
}

const PART: &str = "batch_a.native.1";

fn part() -> Part {
    Part::new(PART.to_owned(), "batch_a", "one", "m1", 500_000, NOW)
}

impl Kit {
    /// A batch with so many lines that one part carries, which is begun.
    async fn carried(&self, lines: i64) {
        let batch =
            Batch { native: Some(Native::Wanted), ..Batch::new("batch_a".to_owned(), "/v1/x", "f", NOW, NOW + 1) };
        self.store.batches().create(&batch).await.expect("created");
        let start = self.claim(10, LEASE).await.remove(0);
        for _ in 0..2 {
            self.store.parts().begin(&part()).await.expect("begun, and once");
        }
        let line = |place| {
            part().carry(New { part_of: Some(("batch_a".to_owned(), place)), ..new(&format!("batch_a.{place}")) })
        };
        self.submit(&(1..=lines).map(line).collect::<Vec<_>>()).await;
        self.store.batches().start("batch_a", lines).await.expect("started");
        self.end(&start.hold, &done()).await;
    }

    async fn waiting(&self, behind: i64) -> Vec<i64> {
        let lines = self.store.parts().carried(PART, behind, 100).await.expect("lines");
        lines.into_iter().map(|line| line.place).collect()
    }

    async fn end_lines(&self, ends: &[(&str, End)], money: i64) -> u64 {
        let ends: Vec<(String, End)> = ends.iter().map(|(id, end)| ((*id).to_owned(), end.clone())).collect();
        self.store.parts().end_lines(PART, &ends, Spent { money, tokens: 3 }).await.expect("ended")
    }

    async fn found(&self) -> Part {
        self.store.parts().find(PART).await.expect("an answer").expect("a part")
    }
}

async fn a_part_is_kept_as_it_was_said_and_its_account_grows_with_its_lines(kit: Kit) {
    kit.carried(2).await;
    assert_eq!(kit.found().await, part());
    let later = Part {
        phase: Phase::Waiting,
        remote_file: Some("file-1".to_owned()),
        remote_batch: Some("batch-1".to_owned()),
        sent: 2,
        worst: Some(70),
        tokens: 9,
        holder: Some("me".to_owned()),
        submitted: Some(NOW + 1),
        ..part()
    };
    kit.store.parts().save(&later, None).await.expect("saved");
    assert_eq!(kit.end_lines(&[("batch_a.1", done())], 7).await, 1);
    // Who saves what it read before takes nothing from the account.
    kit.store.parts().save(&later, None).await.expect("saved");
    let known = Part { spent: 7, used: 3, ..later };
    assert_eq!(kit.found().await, known);
    let one = std::slice::from_ref(&known);
    assert_eq!(kit.store.parts().open().await.expect("parts"), one);
    assert_eq!(kit.store.parts().of_batch("batch_a").await.expect("parts"), one);
    assert_eq!(kit.store.batches().find("batch_a").await.expect("an answer").expect("it").native, Some(Native::Wanted));
    let ended = Part { phase: Phase::Ended, ended: Some(NOW + 2), worst: None, ..known };
    kit.store.parts().save(&ended, None).await.expect("saved");
    assert_eq!(kit.found().await, ended);
    assert_eq!(kit.store.parts().open().await.expect("parts"), []);
    assert_eq!(kit.store.parts().forget_ended_before(NOW + 2).await.expect("done"), 0);
    assert_eq!(kit.store.parts().forget_ended_before(NOW + 3).await.expect("done"), 1);
}

async fn who_has_lost_a_parts_job_notes_nothing_of_the_part(kit: Kit) {
    kit.carried(1).await;
    kit.submit(&[New { max_attempts: 5, ..new(PART) }]).await;
    let lost = kit.claim(1, Duration::ZERO).await.remove(0).hold;
    let held = kit.claim(1, LEASE).await.remove(0).hold;
    let save = async |phase, hold| kit.store.parts().save(&Part { phase, ..part() }, hold).await.expect("an answer");
    assert!(save(Phase::Ready, Some(&held)).await && !save(Phase::Ended, Some(&lost)).await);
    assert_eq!(kit.found().await.phase, Phase::Ready);
    assert!(save(Phase::Waiting, None).await, "who decides about a part before it has a job");
}

async fn lines_that_a_part_carries_are_nobodys_until_it_lets_them_go(kit: Kit) {
    kit.carried(4).await;
    assert_eq!(kit.claim(10, LEASE).await.len(), 0);
    assert_eq!((kit.waiting(-1).await, kit.waiting(2).await), (vec![1, 2, 3, 4], vec![3, 4]));
    assert_eq!(kit.store.parts().count(PART).await.expect("a count"), 4);
    let far = jiff::Timestamp::now().as_millisecond() + 3_600_000;
    assert_eq!(kit.store.parts().release(PART, Some(&[2, 3, 99]), far).await.expect("let go"), 2);
    assert_eq!(kit.store.parts().release("another", None, far).await.expect("let go"), 0);
    let claimed = kit.claim(10, LEASE).await;
    assert_eq!(claimed.iter().map(|one| one.job.place).collect::<Vec<_>>(), [Some(2), Some(3)]);
    assert_eq!(claimed[0].job.expires_unix_ms, Some(far));
    // One that is let go with its time over expires.
    assert_eq!(kit.store.parts().release(PART, None, 1).await.expect("let go"), 2);
    assert_eq!((kit.claim(10, LEASE).await.len(), kit.waiting(-1).await), (0, vec![]));
    assert_eq!(kit.job("batch_a.4").await.status, JobStatus::Expired);
    assert_eq!(kit.store.parts().line(PART, 2).await.expect("an answer"), None);
}

async fn lines_end_once_with_their_events_and_are_counted_by_their_batch(kit: Kit) {
    kit.carried(3).await;
    let failed = End::Failed { http_status: Some(400), error: "bad: it is".to_owned(), result: b"no".to_vec() };
    let later = End::Deferred { after_ms: 1, reason: "x: y".to_owned() };
    let ends = [("batch_a.3", done()), ("batch_a.1", failed), ("batch_a.2", later), ("batch_b.1", done())];
    assert_eq!(kit.end_lines(&ends, 5).await, 2, "what is no end is passed by");
    assert_eq!(kit.end_lines(&ends, 0).await, 0, "said twice, it counts once");
    assert_eq!(kit.waiting(-1).await, [2]);
    let line = kit.store.parts().line(PART, 3).await.expect("an answer").expect("a line");
    assert_eq!((&*line.job, line.has_ended), ("batch_a.3", true));
    assert!(!kit.store.parts().line(PART, 2).await.expect("an answer").expect("a line").has_ended);
    let order = kit.store.queue().order("batch_a.2", crate::jobs::queue::Order::Cancel).await;
    order.expect("its caller does not want it");
    assert_eq!(kit.end_lines(&[("batch_a.2", done())], 0).await, 0);
    let batch = kit.store.batches().find("batch_a").await.expect("an answer").expect("a batch");
    assert_eq!((batch.status, batch.completed, batch.failed), (Status::Finalizing, 1, 2));
    assert_eq!(kit.history("batch_a.3").await, [Happened::Queued, Happened::Completed].map(Happened::as_str));
    let told = kit.told().await;
    assert!(["batch_a.1", "batch_a.2", "batch_a.3"].iter().all(|id| told.jobs[*id].ends == 1));
}

async fn a_cancelled_batch_wakes_its_part_and_leaves_the_lines_to_it(kit: Kit) {
    kit.carried(2).await;
    let job = New { kind: Kind::NativeBatch, part_of: Some(("batch_a".to_owned(), 0)), ..new(PART) };
    kit.submit(&[job]).await;
    let claimed = kit.claim(10, LEASE).await.remove(0);
    kit.end(&claimed.hold, &End::Deferred { after_ms: 3_600_000, reason: "waiting: for it".to_owned() }).await;
    assert_eq!(kit.claim(10, LEASE).await.len(), 0);
    kit.store.batches().cancel("batch_a").await.expect("cancelled");
    let woken = kit.claim(10, LEASE).await;
    assert_eq!(woken.iter().map(|one| &*one.job.id).collect::<Vec<_>>(), [PART]);
    assert_eq!((woken[0].job.attempts, kit.waiting(-1).await), (1, vec![1, 2]), "and looks are no attempts");
}
