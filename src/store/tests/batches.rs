//! Batches and files: counted once, finished once, byte for byte.

use futures_util::future::join_all;

use super::jobs::{LEASE, done, new};
use super::{Kit, on_every_store};
use crate::batch::file::{Deleted, File, Filter};
use crate::batch::{Batch, LineError, Status};
use crate::jobs::job::{Claimed, End, Kind, New, Status as JobStatus};

on_every_store! {
    a_batch_goes_from_its_lines_to_its_files,
    lines_that_end_at_once_are_each_counted_and_the_files_are_written_once,
    a_cancelled_batch_takes_its_waiting_lines_along_and_nobody_waits_in_a_circle,
    what_expires_together_is_counted_by_every_batch,
    wrong_lines_end_a_batch_that_has_not_started,
    batches_are_listed_newest_first_from_where_a_page_ended,
    a_file_comes_back_byte_for_byte_and_only_when_it_is_whole,
    files_are_listed_filtered_and_go_when_they_have_expired,
}

const NOW: i64 = super::NOW;

impl Kit {
    async fn batch(&self, id: &str) -> Batch {
        self.store.batches().find(id).await.expect("an answer").expect("a batch")
    }

    /// A batch with lines that are jobs.
    async fn started(&self, id: &str, lines: i64, expires_unix_ms: Option<i64>) {
        let batch = Batch { key: Some("team".to_owned()), ..Batch::new(id.to_owned(), "/v1/x", "file", NOW, NOW + 1) };
        self.store.batches().create(&batch).await.expect("created");
        let start = self.claim(10, LEASE).await.into_iter().find(|claimed| claimed.job.kind == Kind::BatchStart);
        let start = start.expect("somebody is to read the lines");
        let lines: Vec<New> = (1..=lines)
            .map(|place| New {
                part_of: Some((id.to_owned(), place)),
                expires_unix_ms,
                ..new(&format!("{id}.{place}"))
            })
            .collect();
        self.submit(&lines).await;
        for _ in 0..2 {
            self.store.batches().start(id, lines.len() as i64).await.expect("started, and once");
        }
        self.end(&start.hold, &done()).await;
    }

    async fn ends_of(&self, id: &str) -> Vec<Claimed> {
        let claimed = self.claim(100, LEASE).await;
        claimed.into_iter().filter(|one| one.job.kind == Kind::BatchEnd && one.job.id.starts_with(id)).collect()
    }
}

fn failed() -> End {
    End::Failed { http_status: Some(400), error: "bad: it is".to_owned(), result: Vec::new() }
}

async fn a_batch_goes_from_its_lines_to_its_files(kit: Kit) {
    kit.started("batch_a", 3, None).await;
    let lines = kit.claim(10, LEASE).await;
    for (line, end) in lines.iter().zip([done(), failed(), done()]) {
        assert_eq!(kit.batch("batch_a").await.status, Status::InProgress);
        assert!(kit.end(&line.hold, &end).await);
    }
    let batch = kit.batch("batch_a").await;
    assert_eq!((batch.status, batch.total, batch.completed, batch.failed), (Status::Finalizing, 3, 2, 1));
    let ended = kit.store.batches().ended("batch_a", 1, 10).await.expect("lines");
    assert_eq!(ended.iter().map(|line| line.place).collect::<Vec<_>>(), [2, 3]);
    assert_eq!((ended[0].status, ended[1].result.as_deref()), (JobStatus::Failed, Some(&b"result"[..])));
    assert_eq!(
        kit.store.queue().forget_ended_before(i64::MAX, i64::MAX).await.expect("done"),
        0,
        "files are made of them"
    );
    for output in ["out", "other"] {
        kit.store.batches().finish("batch_a", Some(output), None).await.expect("finished, and once");
    }
    let batch = kit.batch("batch_a").await;
    assert_eq!((batch.status, batch.output_file.as_deref()), (Status::Completed, Some("out")));
    assert!(kit.store.batches().cancel("batch_a").await.expect("an answer") == Some(batch), "it has ended");
    assert_eq!(kit.history("batch_a").await, ["batch_created", "batch_started", "batch_completed"]);
}

async fn lines_that_end_at_once_are_each_counted_and_the_files_are_written_once(kit: Kit) {
    kit.started("batch_a", 40, None).await;
    let lines = kit.claim(100, LEASE).await;
    // Each end is said twice, as by a worker that did not hear the first answer.
    let ends = lines.iter().enumerate().flat_map(|(place, line)| {
        let end = if place % 4 == 0 { failed() } else { done() };
        [(line, end.clone()), (line, end)]
    });
    join_all(ends.map(|(line, end)| async move { (line, end) }).map(|end| async {
        let (line, end) = end.await;
        kit.end(&line.hold, &end).await
    }))
    .await;
    let batch = kit.batch("batch_a").await;
    assert_eq!((batch.status, batch.completed, batch.failed), (Status::Finalizing, 30, 10));
    assert_eq!(kit.ends_of("batch_a").await.len(), 1);
}

async fn a_cancelled_batch_takes_its_waiting_lines_along_and_nobody_waits_in_a_circle(kit: Kit) {
    kit.started("batch_a", 60, None).await;
    let running = kit.claim(30, LEASE).await;
    let put_off = End::Deferred { after_ms: 3_600_000, reason: "no_room: none".to_owned() };
    for line in &running[..10] {
        kit.end(&line.hold, &put_off).await;
    }
    let complete = done();
    let ends = join_all(running[10..].iter().map(|line| kit.end(&line.hold, &complete)));
    let (batches, id) = (kit.store.batches(), "batch_a");
    let cancels = join_all((0..4).map(|_| async { batches.cancel(id).await.expect("cancelled").expect("a batch") }));
    let (ended, cancelled) = tokio::join!(ends, cancels);
    assert!(ended.iter().all(|ended| *ended) && cancelled.iter().all(|batch| batch.status == Status::Cancelling));
    let rest = kit.claim(100, LEASE).await;
    assert_eq!(rest.len(), 40, "those that were put off, too");
    for line in &rest {
        kit.end(&line.hold, &End::Cancelled { reason: "batch_cancelled: as asked".to_owned() }).await;
    }
    let batch = kit.batch(id).await;
    assert_eq!((batch.status, batch.completed, batch.failed), (Status::Finalizing, 20, 40));
    kit.store.batches().finish(id, None, None).await.expect("finished");
    assert_eq!(kit.batch(id).await.status, Status::Cancelled);
    assert_eq!(kit.history(id).await, ["batch_created", "batch_started", "batch_cancelling", "batch_cancelled"]);
}

async fn what_expires_together_is_counted_by_every_batch(kit: Kit) {
    let ids = ["batch_a", "batch_b", "batch_c"];
    for id in ids {
        kit.store.batches().create(&Batch::new(id.to_owned(), "/v1/x", "file", NOW, NOW + 1)).await.expect("created");
    }
    assert_eq!(kit.claim(10, LEASE).await.len(), 3, "their lines are read");
    for place in 1..=50 {
        let line = |id: &str| New {
            part_of: Some((id.to_owned(), place)),
            expires_unix_ms: Some(1),
            ..new(&format!("{id}.{place}"))
        };
        kit.submit(&ids.map(line)).await;
    }
    for id in ids {
        kit.store.batches().start(id, 50).await.expect("started");
    }
    // Several servers come upon them together; each of them takes some.
    for _ in 0..2 {
        join_all((0..4).map(|_| kit.claim(0, LEASE))).await;
    }
    for id in ["batch_a", "batch_b", "batch_c"] {
        assert_eq!((kit.batch(id).await.failed, kit.batch(id).await.status), (50, Status::Finalizing), "{id}");
        kit.store.batches().finish(id, None, Some("errors")).await.expect("finished");
        assert_eq!(kit.batch(id).await.status, Status::Expired);
    }
}

async fn wrong_lines_end_a_batch_that_has_not_started(kit: Kit) {
    let batch = Batch::new("batch_a".to_owned(), "/v1/x", "file", NOW, NOW + 1);
    kit.store.batches().create(&batch).await.expect("created");
    let errors = [LineError { code: "bad".to_owned(), message: "\0 it is".to_owned(), line: Some(3) }];
    for _ in 0..2 {
        kit.store.batches().refuse("batch_a", &errors).await.expect("refused, and once");
    }
    let batch = kit.batch("batch_a").await;
    assert_eq!((batch.status, batch.errors), (Status::Failed, errors.to_vec()));
    kit.store.batches().start("batch_a", 3).await.expect("nothing");
    assert_eq!(kit.batch("batch_a").await.status, Status::Failed);
    assert_eq!(kit.history("batch_a").await, ["batch_created", "batch_failed"]);
}

async fn batches_are_listed_newest_first_from_where_a_page_ended(kit: Kit) {
    for (number, key) in ["one", "two", "one", "one"].into_iter().enumerate() {
        let batch = Batch::new(format!("b{number}"), "/v1/x", "file", NOW, NOW + 1);
        let batch = Batch { key: Some(key.to_owned()), metadata: Some("{\"a\":\"b\"}".to_owned()), ..batch };
        kit.store.batches().create(&batch).await.expect("created");
    }
    let list = async |key: Option<&str>, after: Option<&str>| -> Vec<String> {
        let batches = kit.store.batches().list(key, after, 2).await.expect("a list");
        batches.into_iter().map(|batch| batch.id).collect()
    };
    assert_eq!(list(None, None).await, ["b3", "b2"]);
    assert_eq!(list(None, Some("b2")).await, ["b1", "b0"]);
    assert_eq!(list(Some("one"), Some("b2")).await, ["b0"]);
    assert_eq!(kit.batch("b1").await.metadata.as_deref(), Some("{\"a\":\"b\"}"));
}

fn file(id: &str) -> File {
    File {
        id: id.to_owned(),
        key: Some("team".to_owned()),
        name: "in \0 \u{1f980}.jsonl".to_owned(),
        purpose: "batch".to_owned(),
        bytes: 0,
        created: NOW,
        expires: None,
        whole: false,
    }
}

async fn a_file_comes_back_byte_for_byte_and_only_when_it_is_whole(kit: Kit) {
    let files = kit.store.files();
    let pieces: Vec<Vec<u8>> = (0..3_u8).map(|n| (0..=255).cycle().skip(n.into()).take(100_000).collect()).collect();
    for _ in 0..2 {
        // The second time it is begun anew, with nothing of the first.
        files.begin(&file("f")).await.expect("begun");
        assert_eq!(files.piece("f", 0).await.expect("an answer"), None);
        for (place, piece) in pieces.iter().enumerate() {
            files.put("f", place as i64, b"first try").await.expect("put");
            files.put("f", place as i64, piece).await.expect("put");
        }
        assert!(files.find("f").await.expect("an answer").is_none(), "it is not whole");
    }
    let whole = File { bytes: 300_000, purpose: "user_data".to_owned(), expires: Some(NOW + 5), ..file("f") };
    files.finish(&whole).await.expect("finished");
    let found = files.find("f").await.expect("an answer").expect("a file");
    assert_eq!((found.bytes, found.purpose.as_str(), found.whole), (300_000, "user_data", true));
    for (place, piece) in pieces.iter().enumerate() {
        assert!(files.piece("f", place as i64).await.expect("an answer").as_ref() == Some(piece), "{place}");
    }
    assert_eq!(files.piece("f", 3).await.expect("an answer"), None);
    let delete = async || kit.store.files().delete("f").await.expect("an answer");
    kit.store.batches().create(&Batch::new("reads".to_owned(), "/v1/x", "f", NOW, NOW + 1)).await.expect("created");
    assert_eq!(delete().await, Deleted::InUse);
    kit.store.batches().start("reads", 1).await.expect("started");
    assert_eq!((delete().await, delete().await), (Deleted::Gone, Deleted::Unknown));
    assert_eq!(files.piece("f", 1).await.expect("an answer"), None);
}

async fn files_are_listed_filtered_and_go_when_they_have_expired(kit: Kit) {
    let files = kit.store.files();
    for (id, expires, key) in [("a", None, "one"), ("b", Some(NOW + 5), "two"), ("c", Some(NOW + 5), "one")] {
        let whole = File { expires, key: Some(key.to_owned()), ..file(id) };
        files.begin(&whole).await.expect("begun");
        files.put(id, 0, b"piece").await.expect("put");
        files.finish(&whole).await.expect("finished");
    }
    files.begin(&file("half")).await.expect("begun");
    let list = async |filter: Filter| -> Vec<String> {
        files.list(&filter, 2).await.expect("a list").into_iter().map(|file| file.id).collect()
    };
    assert_eq!(list(Filter::default()).await, ["c", "b"]);
    assert_eq!(list(Filter { ascending: true, after: Some("a".to_owned()), ..Filter::default() }).await, ["b", "c"]);
    assert_eq!(list(Filter { key: Some("one".to_owned()), ..Filter::default() }).await, ["c", "a"]);
    assert!(list(Filter { purpose: Some("vision".to_owned()), ..Filter::default() }).await.is_empty());
    let batch = Batch::new("batch_a".to_owned(), "/v1/x", "c", NOW, NOW + 1);
    kit.store.batches().create(&batch).await.expect("created");
    assert_eq!(files.forget_expired(NOW + 6).await.expect("done"), 1, "a batch still reads the other one");
    assert_eq!(files.forget_expired(NOW + 2 * 24 * 3_600_000).await.expect("done"), 1, "what was never finished");
    assert_eq!(list(Filter::default()).await, ["c", "a"]);
    assert_eq!(files.piece("b", 0).await.expect("an answer"), None);
}
