use std::sync::atomic::AtomicBool;

use super::journal::{Answer, Batch};
use super::*;

/// A store that can be stuck; what it takes is only counted.
#[derive(Default)]
struct Stuck {
    refuses: AtomicBool,
}

impl Journal for Stuck {
    fn append<'a>(&'a self, _: &'a Batch) -> Answer<'a, ()> {
        let refuses = self.refuses.load(Ordering::Relaxed);
        Box::pin(async move { if refuses { Err(Failure("disk full".to_owned())) } else { Ok(()) } })
    }

    fn usage<'a>(&'a self, _: &'a UsageQuery) -> Answer<'a, Vec<report::Group>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn find<'a>(&'a self, _: &'a str) -> Answer<'a, Option<Row>> {
        Box::pin(async { Ok(None) })
    }

    fn has<'a>(&'a self, _: &'a str, _: i64) -> Answer<'a, bool> {
        Box::pin(async { Ok(false) })
    }

    fn recent<'a>(&'a self, _: &'a Filter, _: usize, _: Option<&'a Cursor>) -> Answer<'a, Vec<Row>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn forget_before(&self, _: i64) -> Answer<'_, u64> {
        Box::pin(async { Ok(0) })
    }
}

fn record(id: usize) -> Record {
    Record::new(id.to_string().into(), 1_790_000_000_000 + id as i64)
}

#[tokio::test]
async fn a_store_that_fails_holds_a_request_up_for_a_moment_only_and_saves_all_once_it_works() {
    let store = Arc::new(Stuck { refuses: true.into() });
    let (ledger, writer) = Ledger::open(store.clone());
    let task = tokio::spawn(writer.run(std::future::pending()));
    for id in 0..ROOM {
        ledger.room().await;
        ledger.append(record(id));
    }
    tokio::time::timeout(Duration::from_secs(2), ledger.room()).await.expect("requests are served all the same");
    // A request that was let in earlier is never refused.
    ledger.append(record(ROOM));
    let health = ledger.health();
    assert_eq!((health.pending, health.last_error.as_deref()), (ROOM + 1, Some("disk full")));
    assert!(health.crowded, "it shows in /health");
    assert!(ledger.remembered("5").is_some(), "unsaved rows are never forgotten");

    store.refuses.store(false, Ordering::Relaxed);
    tokio::time::timeout(Duration::from_secs(10), ledger.room()).await.expect("room again");
    assert!(ledger.caught_up(Duration::from_secs(10)).await);
    let health = ledger.health();
    assert_eq!((health.pending, health.saved, health.last_error), (0, ROOM as u64 + 1, None));
    assert!(ledger.remembered("5").is_none() && ledger.remembered(&ROOM.to_string()).is_some());
    task.abort();
}

#[tokio::test]
async fn a_shutdown_with_a_dead_store_ends_in_time_and_tells_what_is_lost() {
    let (ledger, mut writer) = Ledger::open(Arc::new(Stuck { refuses: true.into() }));
    writer.flush = Duration::from_millis(150);
    ledger.append(record(1));
    ledger.append(record(2));
    assert_eq!(writer.run(async {}).await, 2);
}

#[tokio::test]
async fn without_a_store_the_latest_rows_are_remembered_and_reported() {
    let ledger = Ledger::default();
    for id in 0..3_000 {
        ledger.append(record(id));
    }
    ledger.room().await;
    assert_eq!(ledger.health().pending, 0);
    assert_eq!(ledger.usage(&UsageQuery::default()).await.expect("a report").total.requests, 2_048);
    let rows = ledger.recent(&Filter::default(), 2, None).await.expect("a list");
    assert_eq!(rows.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["2999", "2998"]);
    assert!(ledger.find("0").await.expect("no failure").is_none());
}

#[tokio::test]
async fn rows_beyond_the_bound_are_counted_as_lost_and_those_before_it_are_saved() {
    let store = Arc::new(Stuck { refuses: true.into() });
    let (ledger, writer) = Ledger::open(store.clone());
    for id in 0..MOST + 5 {
        ledger.append(record(id));
    }
    let health = ledger.health();
    assert_eq!((health.pending, health.lost, health.status), (MOST, 5, "degraded"));
    store.refuses.store(false, Ordering::Relaxed);
    let task = tokio::spawn(writer.run(std::future::pending()));
    assert!(ledger.caught_up(std::time::Duration::from_secs(30)).await);
    let health = ledger.health();
    assert_eq!((health.pending, health.saved, health.lost), (0, MOST as u64, 5));
    assert_eq!(health.status, "degraded", "what is lost stays lost, and shown");
    task.abort();
}
