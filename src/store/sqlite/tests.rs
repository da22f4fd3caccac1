//! What only a file can do; what every store does is in `store/tests`.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{Connection, Executor};
use tempfile::TempDir;

use super::*;
use crate::jobs::job::{End, Kind, New, Status as JobStatus};
use crate::jobs::queue::Queue;
use crate::store::tests::{NOW, batch, record, requests, running};

async fn store() -> (TempDir, Arc<Sqlite>) {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Sqlite::open(&file(&directory)).await.expect("a store");
    (directory, Arc::new(store))
}

fn file(directory: &TempDir) -> PathBuf {
    directory.path().join("data/ledger.db")
}

#[tokio::test]
async fn damage_is_reported_and_the_file_is_kept() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ledger.db");
    std::fs::write(&path, "these are not the bytes you are looking for").expect("written");
    let error = Sqlite::open(&path).await.err().expect("refused");
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    assert!(std::fs::read_to_string(&path).expect("kept").starts_with("these are not"));

    let (directory, store) = self::store().await;
    let many = (0..500).map(|i| record(&format!("r{i}"), NOW)).collect();
    store.append(&batch(1, many)).await.expect("saved");
    store.close().await;
    let path = file(&directory);
    let mut bytes = std::fs::read(&path).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle..].fill(0x5a);
    std::fs::write(&path, &bytes).expect("written");
    let error = Sqlite::open(&path).await.err().expect("refused");
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    assert_eq!(std::fs::read(&path).expect("kept").len(), bytes.len());
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_refused() {
    let (directory, store) = store().await;
    store.close().await;
    let mut other = SqliteConnectOptions::new().filename(file(&directory)).connect().await.expect("open");
    other
        .execute("INSERT INTO _sqlx_migrations VALUES (9000, 'from the future', '2030-01-01', 1, x'00', 0)")
        .await
        .expect("a later step");
    other.close().await.expect("closed");
    let error = Sqlite::open(&file(&directory)).await.err().expect("refused");
    assert!(matches!(error, OpenError::Newer { version: 9000, .. }), "{error}");
    assert!(error.to_string().contains("newer version"));
}

#[tokio::test]
async fn looking_does_not_create_a_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let error = Sqlite::open_existing(&file(&directory)).await.err().expect("nothing there");
    assert!(matches!(error, OpenError::Missing(_)));
    assert!(!directory.path().join("data").exists());
}

#[tokio::test]
async fn rows_are_saved_within_a_quarter_of_a_second() {
    let (_directory, store) = store().await;
    let (ledger, _stop, _task) = running(store.clone());
    for i in 0..3 {
        ledger.append(record(&format!("r{i}"), NOW));
        assert!(ledger.caught_up(Duration::from_millis(250)).await);
    }
    assert_eq!(requests(&*store).await, 3);
}

#[tokio::test]
async fn a_locked_file_costs_no_row_and_no_answer() {
    let (directory, store) = store().await;
    // The test need not wait ten seconds for a lock.
    let quick = Sqlite {
        options: store.options.clone().busy_timeout(Duration::from_millis(20)),
        writer: Mutex::new(None),
        readers: RwLock::new(Sqlite::readers(&file(&directory))),
        opened: RwLock::new(inspect::identity(&file(&directory))),
        path: file(&directory),
        arriving: Default::default(),
        tidier: Default::default(),
    };
    let quick = Arc::new(quick);
    let (ledger, stop, task) = running(quick.clone());
    let mut other = SqliteConnectOptions::new().filename(file(&directory)).connect().await.expect("open");
    other.execute("BEGIN EXCLUSIVE").await.expect("locked");
    for i in 0..20 {
        ledger.append(record(&format!("r{i}"), NOW + i));
    }
    assert!(!ledger.caught_up(Duration::from_millis(400)).await);
    let health = ledger.health();
    assert_eq!((health.pending, health.last_error.as_deref()), (20, Some("database is locked")));
    assert!(health.behind_ms >= 300, "{health:?}");
    assert!(ledger.find("r3").await.expect("from memory").is_some());
    other.execute("COMMIT").await.expect("unlocked");
    assert!(ledger.caught_up(Duration::from_secs(20)).await);
    assert_eq!(ledger.health().last_error, None);
    assert_eq!(requests(&*quick).await, 20);
    stop.send(()).expect("running");
    assert_eq!(task.await.expect("a clean end"), 0);
}

fn new(id: &str, not_before_unix_ms: Option<i64>, max_attempts: u32) -> New {
    New {
        id: id.to_owned(),
        kind: Kind::Request,
        key: None,
        part_of: None,
        priority: 0,
        not_before_unix_ms,
        expires_unix_ms: None,
        max_attempts,
        request: id.as_bytes().to_vec(),
        webhook: false,
        carried_by: None,
    }
}

#[tokio::test]
async fn one_job_is_claimed_by_one_worker_if_it_is_due_and_nobody_has_it() {
    let (_directory, store) = store().await;
    let lease = Duration::from_secs(60);
    let late = jiff::Timestamp::now().as_millisecond() + 3_600_000;
    store.submit(&[new("a", None, 5), new("b", None, 5), new("late", Some(late), 5)]).await.expect("taken in");
    assert!(store.claim_one("late", "w", lease).await.expect("an answer").is_none(), "it is not due");
    assert!(store.claim_one("nobody", "w", lease).await.expect("an answer").is_none(), "there is none");

    let both = tokio::join!(store.claim_one("b", "one", lease), store.claim_one("b", "two", lease));
    let claimed: Vec<_> = [both.0, both.1].into_iter().filter_map(|claimed| claimed.expect("an answer")).collect();
    let [claimed] = &claimed[..] else { panic!("{claimed:?}") };
    assert_eq!((&*claimed.job.id, claimed.job.attempts, claimed.hold.fence), ("b", 1, 1));
    assert_eq!(claimed.request, b"b");
    let others = store.claim("w", 10, lease).await.expect("an answer");
    assert_eq!(
        others.iter().map(|claimed| &*claimed.job.id).collect::<Vec<_>>(),
        ["a"],
        "the other one was left alone"
    );

    let end = End::Completed { http_status: 200, result: Vec::new() };
    assert!(store.end(&claimed.hold, &end).await.expect("ended"));
    assert!(store.claim_one("b", "w", lease).await.expect("an answer").is_none(), "it has ended");
}

#[tokio::test]
async fn one_job_whose_lease_is_over_is_claimed_again_until_no_attempt_is_left() {
    let (_directory, store) = store().await;
    store.submit(&[new("a", None, 2)]).await.expect("taken in");
    let over = Duration::ZERO;
    let first = store.claim_one("a", "one", over).await.expect("an answer").expect("it is due");
    let second = store.claim_one("a", "two", over).await.expect("an answer").expect("the lease is over");
    assert_eq!((second.job.attempts, second.hold.fence), (2, 2));
    assert!(!store.end(&first.hold, &End::Released).await.expect("an answer"), "it is not the first one's any more");
    assert!(store.claim_one("a", "three", over).await.expect("an answer").is_none());
    let job = Queue::find(&*store, "a").await.expect("an answer").expect("a job");
    assert_eq!(job.status, JobStatus::Dead, "{job:?}");
}
