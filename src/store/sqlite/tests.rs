//! The store against real files, and the ledger over it.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use sqlx::{Connection, Executor};
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::*;
use crate::ledger::Ledger;
use crate::ledger::cell::{Facts, Labels};
use crate::ledger::record::{AttemptRow, CacheUse, Decision, Record, Status};
use crate::ledger::report::{Grouping, Report};
use crate::ledger::usage::{Dimension, HOUR_MS};
use crate::money::NanoUsd;

/// 2026-09-21T14:13:20Z.
const NOW: i64 = 1_790_000_000_000;

struct Told;

impl Decision for Told {
    fn json(&self) -> String {
        r#"{"task":"coding","candidates":[]}"#.to_owned()
    }
}

fn record(id: &str, started_unix_ms: i64) -> Record {
    Record {
        key: Some("team".into()),
        asked_model: "auto".to_owned(),
        status: Status::Completed,
        http_status: 200,
        task: "coding".into(),
        task_confidence: f64::NAN,
        strategy: "balanced",
        provider: "groq".into(),
        model: "llama".to_owned(),
        cache: CacheUse::Miss,
        attempts: vec![AttemptRow {
            provider: "groq".to_owned(),
            model: "llama".to_owned(),
            status: Some(200),
            kind: None,
            started_ms: 1,
            duration_ms: 200,
            message: None,
            ..AttemptRow::default()
        }],
        prompt_tokens: 1_000,
        completion_tokens: 100,
        cost: Some(NanoUsd(1_500)),
        first_token_ms: Some(90),
        total_ms: 250,
        reason: "best of three".to_owned(),
        decision: Some(Arc::new(Told)),
        ..Record::new(id.into(), started_unix_ms)
    }
}

async fn store() -> (TempDir, Arc<Sqlite>) {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Sqlite::open(&file(&directory)).await.expect("a store");
    (directory, Arc::new(store))
}

fn file(directory: &TempDir) -> PathBuf {
    directory.path().join("data/ledger.db")
}

fn batch(number: u64, records: Vec<Record>) -> Batch {
    Batch { run: 7, number, records: records.into_iter().map(Arc::new).collect() }
}

fn by(group_by: &[Dimension]) -> UsageQuery {
    UsageQuery { group_by: group_by.to_vec(), ..UsageQuery::default() }
}

async fn requests(store: &Sqlite) -> u64 {
    Report::new(&by(&[]), store.usage(&by(&[])).await.expect("a report")).total.requests
}

/// A ledger whose writer runs until the sender is used or dropped; the task then tells how many rows were left.
fn running(store: &Arc<Sqlite>) -> (Ledger, oneshot::Sender<()>, tokio::task::JoinHandle<usize>) {
    let (ledger, writer) = Ledger::open(store.clone());
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(writer.run(async move {
        let _ = stopped.await;
    }));
    (ledger, stop, task)
}

#[tokio::test]
async fn a_row_comes_back_as_it_was_saved() {
    let (_directory, store) = store().await;
    store.append(&batch(1, vec![record("a", NOW)])).await.expect("saved");
    let row = store.find("a").await.expect("found").expect("a row");
    assert_eq!((row.id.as_str(), row.started.as_str()), ("a", "2026-09-21T14:13:20Z"));
    assert_eq!((row.status, row.cache, row.cost_usd), (Status::Completed, CacheUse::Miss, Some(NanoUsd(1_500))));
    assert_eq!((row.key.as_deref(), row.strategy.as_str(), row.task_confidence), (Some("team"), "balanced", 0.0));
    assert_eq!((row.attempts[0].duration_ms, row.first_token_ms, row.saved_by_cache_usd), (200, Some(90), None));
    assert_eq!(row.decision.expect("a decision").get(), Told.json());
    assert!(store.find("b").await.expect("no failure").is_none());
}

#[tokio::test]
async fn an_id_may_repeat_and_the_newest_is_found() {
    let (_directory, store) = store().await;
    let newer = Record { model: "other".to_owned(), ..record("a", NOW) };
    store.append(&batch(1, vec![record("a", NOW)])).await.expect("saved");
    store.append(&batch(2, vec![newer])).await.expect("saved");
    assert_eq!(store.find("a").await.expect("found").expect("a row").model, "other");
    assert_eq!(requests(&store).await, 2);
}

#[tokio::test]
async fn a_batch_is_saved_once_however_often_it_is_offered() {
    let (_directory, store) = store().await;
    for _ in 0..3 {
        store.append(&batch(1, vec![record("a", NOW), record("b", NOW)])).await.expect("saved");
    }
    assert_eq!(requests(&store).await, 2);
    let other_run = Batch { run: 8, ..batch(1, vec![record("c", NOW)]) };
    store.append(&other_run).await.expect("saved");
    assert_eq!(requests(&store).await, 3);
}

#[tokio::test]
async fn lists_are_newest_first_in_pages_and_filtered() {
    let (_directory, store) = store().await;
    let mut records: Vec<Record> = (0..10).map(|i| record(&format!("r{i}"), NOW + i / 2)).collect();
    records[4].status = Status::Failed;
    store.append(&batch(1, records)).await.expect("saved");
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let page = store.recent(&Filter::default(), 3, before.as_ref()).await.expect("a page");
        let Some(last) = page.last() else { break };
        before = Cursor::parse(&Cursor::of(last).to_string());
        seen.extend(page.into_iter().map(|row| row.id));
    }
    assert_eq!(seen, ["r9", "r8", "r7", "r6", "r5", "r4", "r3", "r2", "r1", "r0"]);
    let failed = Filter { status: Some(Status::Failed), key: Some("team".to_owned()), ..Filter::default() };
    let rows = store.recent(&failed, 10, None).await.expect("a page");
    assert_eq!(rows.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["r4"]);
}

#[tokio::test]
async fn rows_and_sums_survive_a_restart() {
    let (directory, store) = store().await;
    store.append(&batch(1, vec![record("a", NOW), record("b", NOW)])).await.expect("saved");
    store.rebuild().await.expect("rebuilt");
    store.close().await;
    drop(store);
    let store = Sqlite::open(&file(&directory)).await.expect("the same file");
    assert_eq!(requests(&store).await, 2);
    assert!(store.find("b").await.expect("found").is_some());
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
async fn an_unknown_price_is_counted_and_never_zero() {
    let (_directory, store) = store().await;
    let unpriced = Record { model: "mystery".to_owned(), cost: None, ..record("b", NOW) };
    store.append(&batch(1, vec![record("a", NOW), unpriced])).await.expect("saved");
    let query = by(&[Dimension::Model]);
    let report = Report::new(&query, store.usage(&query).await.expect("a report"));
    assert_eq!((report.total.cost_usd, report.total.unpriced_requests), (Some(NanoUsd(1_500)), 1));
    let mystery = &report.rows[1];
    assert_eq!(mystery.group[0].1.as_deref(), Some("mystery"));
    assert_eq!((mystery.totals.cost_usd, mystery.totals.share), (None, None));
}

#[tokio::test]
async fn demo_rows_are_never_mixed_with_real_ones() {
    let (_directory, store) = store().await;
    let demo = Record { demo: true, ..record("b", NOW) };
    store.append(&batch(1, vec![record("a", NOW), demo])).await.expect("saved");
    for _ in 0..2 {
        let report = Report::new(&by(&[]), store.usage(&by(&[])).await.expect("a report"));
        assert_eq!((report.total.requests, report.rows.len()), (1, 2));
        assert_eq!((report.rows[0].totals.share, report.rows[1].demo), (Some(1.0), true));
        assert_eq!((report.rows[1].totals.share, report.demo_total.map(|total| total.requests)), (None, Some(1)));
        store.rebuild().await.expect("rebuilt");
    }
}

#[tokio::test]
async fn a_purge_keeps_the_sums_and_a_rebuild_respects_them() {
    let (_directory, store) = store().await;
    let old = NOW - 3 * DAY_MS;
    store.append(&batch(1, vec![record("old", old), record("new", NOW)])).await.expect("saved");
    assert_eq!(store.purge(NOW).await.expect("purged"), 1);
    assert!(store.find("old").await.expect("no failure").is_none());
    assert_eq!(requests(&store).await, 2);
    store.append(&batch(2, vec![record("late", old)])).await.expect("saved");
    store.rebuild().await.expect("rebuilt");
    assert_eq!(requests(&store).await, 3);
    let inside = UsageQuery { since_ms: Some(old), until_ms: Some(old + 1), ..UsageQuery::default() };
    let groups = store.usage(&inside).await.expect("a report");
    assert_eq!(groups[0].cell.requests, 2, "a purged time is known by the hour");
}

#[tokio::test]
async fn a_large_batch_that_is_summed_from_memory_reports_like_one_that_is_read_back() {
    let (_directory, store) = store().await;
    let query = by(&[Dimension::Task, Dimension::Hour]);
    let mut next = 0;
    // Large, small (left to be summed later), large again: the second large one must not be summed past the small one.
    for (number, count) in [(1, 700), (2, 3), (3, 300), (4, 5000), (5, 400)] {
        let records = (0..count).map(|_| {
            next += 1;
            record(&format!("r{next}"), NOW - (next % 7) * HOUR_MS)
        });
        store.append(&batch(number, records.collect())).await.expect("saved");
        let seen = Report::new(&query, store.usage(&query).await.expect("a report"));
        assert_eq!(seen.total.requests, next as u64);
        assert_eq!(seen.total.cost_usd, Some(NanoUsd(1_500 * next)));
    }
    let before = Report::new(&query, store.usage(&query).await.expect("a report"));
    store.rebuild().await.expect("rebuilt");
    assert_eq!(Report::new(&query, store.usage(&query).await.expect("a report")), before);
}

#[tokio::test]
async fn what_was_appended_is_saved_in_order_and_flushed_at_shutdown() {
    let (_directory, store) = store().await;
    let (ledger, stop, task) = running(&store);
    for i in 0..1_500 {
        ledger.append(record(&format!("r{i}"), NOW + i));
    }
    assert!(ledger.find("r1499").await.expect("no failure").is_some(), "readable at once");
    stop.send(()).expect("running");
    assert_eq!(task.await.expect("a clean end"), 0);
    assert_eq!((ledger.health().pending, ledger.health().saved), (0, 1_500));
    let mut connection = store.read().await.expect("a connection");
    let ids: Vec<String> =
        sqlx::query_scalar("SELECT id FROM request ORDER BY seq").fetch_all(&mut *connection).await.expect("ids");
    assert_eq!(ids, (0..1_500).map(|i| format!("r{i}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn rows_are_saved_within_a_quarter_of_a_second() {
    let (_directory, store) = store().await;
    let (ledger, _stop, _task) = running(&store);
    for i in 0..3 {
        ledger.append(record(&format!("r{i}"), NOW));
        assert!(ledger.caught_up(Duration::from_millis(250)).await);
    }
    assert_eq!(requests(&store).await, 3);
}

#[tokio::test]
async fn d09_rows_whose_clock_jumped_are_kept_listed_and_summed() {
    let (_directory, store) = store().await;
    let (ledger, _stop, _task) = running(&store);
    for (id, jump) in [("now", 0), ("later", HOUR_MS), ("earlier", -HOUR_MS), ("now-again", 1)] {
        ledger.append(record(id, NOW + jump));
    }
    assert!(ledger.caught_up(Duration::from_secs(5)).await);
    let listed = ledger.recent(&Filter::default(), 10, None).await.expect("rows");
    let ids: Vec<&str> = listed.iter().map(|row| &*row.id).collect();
    assert_eq!(ids, ["later", "now-again", "now", "earlier"]);
    assert_eq!(requests(&store).await, 4);
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
    };
    let quick = Arc::new(quick);
    let (ledger, stop, task) = running(&quick);
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
    assert_eq!(requests(&quick).await, 20);
    stop.send(()).expect("running");
    assert_eq!(task.await.expect("a clean end"), 0);
}

#[tokio::test]
async fn a_writer_that_is_cut_off_in_a_save_saves_every_row_once() {
    let (_directory, store) = store().await;
    let first = batch(1, (0..2_000).map(|i| record(&format!("r{i}"), NOW)).collect());
    for microseconds in [50, 300, 2_000, 10_000, 30_000] {
        let _ = tokio::time::timeout(Duration::from_micros(microseconds), store.append(&first)).await;
    }
    store.append(&first).await.expect("saved");
    assert_eq!(requests(&store).await, 2_000);
}

#[tokio::test]
async fn a_list_shows_unsaved_and_saved_rows_once_each() {
    let (_directory, store) = store().await;
    let (ledger, writer) = Ledger::open(store.clone());
    store.append(&batch(1, vec![record("saved", NOW)])).await.expect("saved");
    ledger.append(record("unsaved", NOW + 1));
    ledger.append(record("saved", NOW));
    let rows = ledger.recent(&Filter::default(), 10, None).await.expect("a list");
    assert_eq!(rows.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["unsaved", "saved"]);
    drop(writer);
}

fn any_record() -> impl Strategy<Value = Record> {
    let words = (0..3usize, 0..3usize, 0..2usize, 0..3usize, 0..6usize, 0..4usize, 0..8u8);
    let counts = (0..5_000_000_000u64, 0..9_000u64, 0..3u32, 0..700_000u64, 0..90_000u64);
    let money = (
        prop::option::weighted(0.8, 0..9_000_000_000i64),
        prop::option::of(0..5_000i64),
        prop::option::of(0..5_000i64),
    );
    (-80 * HOUR_MS..=0, words, counts, money).prop_map(|(offset, words, counts, money)| Record {
        provider: ["", "groq", "openai"][words.0].into(),
        model: ["", "small", "large"][words.1].to_owned(),
        task: ["coding", "general"][words.2].into(),
        key: [None, Some("team".into()), Some("other".into())][words.3].clone(),
        status: Status::ALL[words.4],
        cache: CacheUse::ALL[words.5],
        demo: words.6 == 0,
        estimated_usage: words.6 == 1,
        prompt_tokens: counts.0,
        completion_tokens: counts.1,
        failovers: counts.2,
        total_ms: counts.3,
        first_token_ms: Some(counts.4).filter(|ms| ms % 5 != 0),
        cost: money.0.map(NanoUsd),
        saved_by_cache: money.1.map(NanoUsd),
        saved_by_routing: money.2.map(NanoUsd),
        ..Record::new("any".into(), NOW + offset)
    })
}

fn any_query() -> impl Strategy<Value = UsageQuery> {
    let moment = || prop::option::of((-85 * HOUR_MS..HOUR_MS).prop_map(|offset| NOW + offset));
    (prop::sample::subsequence(Dimension::ALL.to_vec(), 0..=4), moment(), moment())
        .prop_map(|(group_by, since_ms, until_ms)| UsageQuery { group_by, since_ms, until_ms, ..UsageQuery::default() })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever was recorded and whatever is asked: the report says what adding up the requests says, before they are
    /// summed, when some of them are, when all are, and after a rebuild; and its rows add up to its total.
    #[test]
    fn a_report_is_the_sum_of_its_requests(
        records in prop::collection::vec(any_record(), 0..120),
        queries in prop::collection::vec(any_query(), 6),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (_directory, store) = store().await;
            let half = records.len() / 2;
            store.append(&batch(1, records[..half].to_vec())).await.expect("saved");
            for stage in 0..3 {
                match stage {
                    0 => store.append(&batch(2, records[half..].to_vec())).await.expect("saved"),
                    1 => {
                        let summed = store.write(async |connection| projection::catch_up(connection, 20, 17).await).await;
                        summed.expect("summed");
                    }
                    _ => assert_eq!(store.rebuild().await.expect("rebuilt"), records.len() as u64),
                }
                for query in &queries {
                    let report = Report::new(query, store.usage(query).await.expect("a report"));
                    let mut grouping = Grouping::new(&query.group_by);
                    for record in records.iter().filter(|record| query.covers(record.started_unix_ms)) {
                        grouping.add(record.started_unix_ms, &Labels::of(record), &Facts::of(record));
                    }
                    assert_eq!(report, Report::new(query, grouping.into_groups()), "stage {stage}");
                    let real = || report.rows.iter().filter(|line| !line.demo).map(|line| &line.totals);
                    assert_eq!(real().map(|row| row.requests).sum::<u64>(), report.total.requests);
                    assert_eq!(real().map(|row| row.prompt_tokens).sum::<u64>(), report.total.prompt_tokens);
                    let cost: NanoUsd = real().filter_map(|row| row.cost_usd).sum();
                    assert_eq!(cost, report.total.cost_usd.unwrap_or_default());
                }
            }
            store.close().await;
        });
    }
}
