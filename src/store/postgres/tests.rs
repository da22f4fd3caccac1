//! What only a server can do; what every store does is in `store/tests`.

use std::collections::HashSet;

use futures_util::future::join_all;
use sqlx::{Executor, Row as _};

use super::*;
use crate::ledger::record::Record;
use crate::store::tests::{Kit, NOW, batch, by, record, requests, running, servers, shared};
use crate::store::{Home, Store};

/// The address of a fresh database; the test ends where there is no server.
macro_rules! database {
    () => {
        match servers::database().await {
            Some(url) => url,
            None => return,
        }
    };
}

fn url(address: &str) -> PostgresUrl {
    let directory = tempfile::tempdir().expect("a directory");
    match shared(address, &directory) {
        Home::Shared { url, .. } => url,
        Home::File(path) => panic!("{}", path.display()),
    }
}

async fn open(address: &str) -> Postgres {
    Postgres::open(&url(address)).await.expect("a store")
}

async fn execute(store: &Postgres, sql: &'static str) {
    store.run(LOOK_UP, move |connection| Box::pin(connection.execute(sql))).await.expect("done");
}

async fn number(store: &Postgres, sql: &'static str) -> i64 {
    store
        .run(LOOK_UP, move |connection| Box::pin(sqlx::query_scalar(sql).fetch_one(connection)))
        .await
        .expect("a number")
}

#[tokio::test]
async fn servers_that_start_at_once_set_an_empty_database_up_once_and_share_its_secret() {
    let address = database!();
    let stores = join_all((0..6).map(|_| open(&address))).await;
    let secrets =
        join_all(stores.iter().enumerate().map(|(index, store)| store.secret(format!("drawn by {index}")))).await;
    let secrets: HashSet<String> = secrets.into_iter().map(|secret| secret.expect("a secret")).collect();
    assert_eq!(secrets.len(), 1, "{secrets:?}");
    let steps = sqlx::migrate!("src/store/postgres/migrations").iter().count() as i64;
    assert_eq!(number(&stores[0], "SELECT count(*) FROM stepwell_migration").await, steps);
    assert!(stores[5].secret("drawn later".to_owned()).await.is_ok_and(|secret| secrets.contains(&secret)));
}

#[tokio::test]
async fn servers_that_write_at_once_lose_and_double_nothing_and_every_report_is_whole() {
    let address = database!();
    let stores = join_all((0..3).map(|_| open(&address))).await;
    let write = async |store: &Postgres, run: u128| {
        for number in 1..=20 {
            let records = (0..200).map(|i| record(&format!("r{run}-{number}-{i}"), NOW - i * 60_000)).collect();
            let batch = Batch { run, ..batch(number, records) };
            store.append(&batch).await.expect("saved");
            // An answer that was lost: the same batch once more, while others write and sum.
            if number % 3 == 0 {
                store.append(&batch).await.expect("saved");
            }
        }
    };
    // Whole batches only, and never fewer than before.
    let watch = async {
        let mut seen = 0;
        while seen < 12_000 {
            let now = requests(&stores[0]).await;
            assert!(now >= seen && now.is_multiple_of(200), "{seen} then {now}");
            seen = now;
        }
    };
    tokio::join!(write(&stores[0], 1), write(&stores[1], 2), write(&stores[2], 3), watch);
    assert_eq!(number(&stores[0], "SELECT count(*) FROM request").await, 12_000);
    assert!(number(&stores[0], "SELECT count(*) FROM usage_cell").await > 0, "and not one by one");
    assert_eq!(number(&stores[0], "SELECT count(DISTINCT service_instance_id) FROM writer").await, 3);
    let hours = UsageQuery { group_by: vec![crate::ledger::usage::Dimension::Hour], ..UsageQuery::default() };
    let before = stores[1].usage(&hours).await.expect("a report");
    stores[2].rebuild(&hours).await.expect("rebuilt");
    let sorted = |mut groups: Vec<Group>| {
        groups.sort_by(|one, other| one.labels.cmp(&other.labels));
        groups
    };
    assert_eq!(sorted(stores[1].usage(&hours).await.expect("a report")), sorted(before));
}

#[tokio::test]
async fn sums_wait_for_nobody_and_nobody_waits_for_sums() {
    let address = database!();
    let (store, other) = (open(&address).await, open(&address).await);
    // Another server is summing, and has got stuck in it.
    let mut stuck = other.0.pool.lease().await.expect("a connection");
    stuck.execute("BEGIN").await.expect("begun");
    stuck.execute("SELECT * FROM usage_state FOR UPDATE").await.expect("locked");
    let many = (0..3_000).map(|i| record(&format!("r{i}"), NOW)).collect();
    store.append(&batch(1, many)).await.expect("saved");
    assert_eq!(requests(&store).await, 3_000, "exact, from single rows");
    stuck.execute("ROLLBACK").await.expect("rolled back");
    assert_eq!(store.catch_up(projection::Turn::OrNever).await.expect("summed"), 1);
    assert_eq!(requests(&store).await, 3_000);
}

#[tokio::test]
async fn a_batch_that_is_tried_twice_at_once_is_saved_once() {
    let address = database!();
    let store = open(&address).await;
    let first = batch(1, (0..500).map(|i| record(&format!("r{i}"), NOW)).collect());
    for saved in join_all((0..6).map(|_| store.append(&first))).await {
        saved.expect("saved");
    }
    assert_eq!(number(&store, "SELECT count(*) FROM request").await, 500);
}

#[tokio::test]
async fn what_callers_write_is_never_a_reason_to_refuse_a_row() {
    let address = database!();
    let store = open(&address).await;
    let odd = "\0\u{1f980} ' \\ \u{feff}".repeat(2_000);
    let wild = Record {
        asked_model: odd.clone(),
        key: Some(odd.clone().into()),
        tags: odd.clone().into(),
        model: odd.clone(),
        prompt_tokens: u64::MAX,
        ..record("wild", NOW)
    };
    store.append(&batch(1, vec![wild, record("r2", NOW)])).await.expect("saved");
    store.rebuild(&by(&[])).await.expect("summed");
    let row = store.find("wild").await.expect("found").expect("a row");
    assert_eq!(row.asked_model, odd.replace('\0', "\u{fffd}"));
    assert_eq!(requests(&store).await, 2);
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_refused() {
    let address = database!();
    let store = open(&address).await;
    execute(&store, "INSERT INTO stepwell_migration VALUES (9000, 'from the future', now(), true, '\\x00', 0)").await;
    let error = Postgres::open(&url(&address)).await.err().expect("refused");
    assert!(matches!(error, OpenError::Newer { version: 9000, .. }), "{error}");
    assert!(error.to_string().contains("newer version"), "{error}");
}

#[tokio::test]
async fn looking_sets_nothing_up() {
    let address = database!();
    let error = Postgres::open_existing(&url(&address)).await.err().expect("nothing there");
    assert!(matches!(error, OpenError::Missing { .. }), "{error}");
    let store = open(&address).await;
    assert!(Postgres::open_existing(&url(&address)).await.is_ok());
    execute(&store, "DELETE FROM stepwell_migration WHERE version > 1").await;
    let error = Postgres::open_existing(&url(&address)).await.err().expect("of another version");
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
}

#[tokio::test]
async fn who_may_not_create_tables_can_start_where_they_are() {
    let address = database!();
    let store = open(&address).await;
    let role = format!("role_{}", uuid::Uuid::now_v7().simple());
    let sql = sqlx::AssertSqlSafe(format!(
        "CREATE ROLE {role} LOGIN; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}; \
         GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}"
    ));
    store.run(LOOK_UP, |connection| Box::pin(connection.execute(sql))).await.expect("a role");
    let modest = open(&address.replace("stepwell@", &format!("{role}@"))).await;
    modest.append(&batch(1, vec![record("a", NOW)])).await.expect("saved");
    modest.rebuild(&by(&[])).await.expect("summed");
    assert_eq!(requests(&modest).await, 1);
    let sql = sqlx::AssertSqlSafe(format!("DROP OWNED BY {role}; DROP ROLE {role}"));
    modest.close().await;
    store.run(LOOK_UP, |connection| Box::pin(connection.execute(sql))).await.expect("gone");
}

#[tokio::test]
async fn a_database_that_cannot_keep_every_character_is_refused() {
    let Some(postgres) = servers::postgres() else { return };
    let name = postgres.create("ENCODING 'LATIN1' TEMPLATE template0").await;
    let address = postgres.url(postgres.server.address, &name);
    let error = Postgres::open(&url(&address)).await.err().expect("refused");
    assert!(matches!(&error, OpenError::Encoding { encoding, .. } if encoding == "LATIN1"), "{error}");
}

#[tokio::test]
async fn who_is_not_let_in_is_told_at_once_and_no_password_is_shown() {
    let address = database!();
    let nowhere = address.rsplit_once('/').map(|(server, _)| format!("{server}/nowhere")).expect("an address");
    let nowhere = nowhere.replace("stepwell@", "stepwell:hidden-secret@");
    let error = Postgres::open(&url(&nowhere)).await.err().expect("refused");
    assert!(matches!(error, OpenError::Refused { .. }), "{error}");
    let said = format!("{error} {error:?} {:?}", url(&nowhere));
    assert!(said.contains("\"nowhere\" does not exist") && said.contains("stepwell@127.0.0.1"), "{said}");
    assert!(!said.contains("hidden-secret"), "{said}");
}

#[tokio::test]
async fn who_starts_without_a_server_is_told_where_nobody_listens() {
    // A port that was free a moment ago.
    let address =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let url = url(&format!("postgres://me:hidden-secret@{address}/ledger"));
    let pool = Pool::new(address::options(&url).expect("options"), 2);
    let patience = Duration::from_millis(300);
    let error = schema::prepare(&pool, url.shown(), schema::Wish::UpToDate, patience).await.expect_err("nobody there");
    let said = error.to_string();
    assert!(matches!(error, OpenError::Unreachable { .. }), "{said}");
    assert!(said.contains(&format!("me@{address}/ledger")) && said.contains("refused"), "{said}");
    assert!(!said.contains("hidden-secret"), "{said}");
}

#[tokio::test]
async fn a_late_mark_is_taken_back_and_nobody_elses() {
    use crate::admission::idempotency::{Known, Memory};
    let address = database!();
    let store = open(&address).await;
    let marks = "SELECT count(*) FROM idempotent_request";
    // The late work, taking back included.
    let ended = async || {
        while !store.0.marks.lock().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    // The table is locked for longer than a request waits.
    let mut other = store.0.pool.lease().await.expect("a connection");
    other.execute("BEGIN; LOCK TABLE idempotent_request").await.expect("locked");
    let began = std::time::Instant::now();
    store.begin([1; 32], [1; 32], NOW).await.expect_err("too slow");
    let again = store.begin([1; 32], [1; 32], NOW).await.expect_err("the late one is not answered yet");
    assert!(again.to_string().contains("earlier try"), "{again}");
    assert!(began.elapsed() < Duration::from_secs(5), "the caller does not wait for it: {:?}", began.elapsed());
    other.execute("ROLLBACK").await.expect("unlocked");
    ended().await;
    assert_eq!(number(&store, marks).await, 0);
    // A mark of another server stays, whatever happens to ours.
    execute(
        &store,
        "INSERT INTO idempotent_request VALUES (decode(repeat('01', 32), 'hex'), '\\x01', 0, gen_random_uuid())",
    )
    .await;
    execute(&store, "UPDATE idempotent_request SET began_unix_ms = 1790000000000").await;
    let row =
        store.run(LOOK_UP, |connection| Box::pin(connection.fetch_one("SELECT place FROM idempotent_request"))).await;
    assert_eq!(row.expect("a row").get::<Vec<u8>, _>(0), [1; 32]);
    assert!(!matches!(store.begin([1; 32], [1; 32], NOW).await, Ok(Known::Nothing)));
    ended().await;
    assert_eq!(number(&store, marks).await, 1);
}

#[tokio::test]
async fn a_server_that_is_killed_and_comes_back_has_every_row_once_and_in_order() {
    let Some(mut postgres) = servers::Postgres::start() else { return };
    let name = postgres.create("").await;
    let address = postgres.url(postgres.server.address, &name);
    let directory = tempfile::tempdir().expect("a directory");
    let store = shared(&address, &directory).open().await.expect("a store");
    let (ledger, stop, task) = running(store.journal());
    for i in 0..300 {
        ledger.append(record(&format!("r{i}"), NOW + i));
        if i == 100 {
            assert!(ledger.caught_up(Duration::from_secs(20)).await);
            // Not a word of farewell: whether the last commit counted is not known.
            postgres.server.signal(rustix::process::Signal::KILL);
        }
    }
    assert!(!ledger.caught_up(Duration::from_millis(300)).await);
    assert_eq!(ledger.health().status, "degraded");
    postgres.start_again();
    assert!(ledger.caught_up(Duration::from_secs(30)).await, "{:?}", ledger.health());
    assert_eq!(requests(&*store.journal()).await, 300);
    assert_eq!(ledger.health().last_error, None);
    let Store::Postgres(store) = store else { return };
    let in_order = "SELECT count(*) FROM (SELECT id, 'r' || row_number() OVER (ORDER BY batch, position) - 1 AS wanted \
                    FROM request) AS rows WHERE id = wanted";
    assert_eq!(number(&store, in_order).await, 300);
    stop.send(()).expect("running");
    assert_eq!(task.await.expect("a clean end"), 0);
}

#[tokio::test]
async fn the_kit_closes_what_it_opened() {
    let Some(kit) = Kit::postgres().await else { return };
    kit.append(&batch(1, vec![record("a", NOW)])).await;
    kit.store.close().await;
    assert!(kit.journal().find("a").await.is_err(), "nothing is opened behind a closed store's back");
}

#[tokio::test]
async fn an_event_that_commits_late_is_not_passed_by_who_reads_on() {
    use crate::events::Kind;
    use crate::events::log::{Log, Note, Wanted};
    let address = database!();
    let (store, other) = (open(&address).await, open(&address).await);
    let note = |subject: &str| Note {
        at_unix_ms: NOW,
        kind: Kind::Anomaly,
        subject: subject.to_owned(),
        key: None,
        facts: Default::default(),
    };
    let read = async |place: i64| -> Vec<(String, i64)> {
        let events = store.behind(place, &Wanted::default(), 10).await.expect("events");
        events.into_iter().map(|event| (event.subject, event.seq.expect("a place"))).collect()
    };
    store.note(&[note("first")]).await.expect("written");
    let first = read(0).await[0].1;
    // Draws its place, and is not done yet when another one that drew a later one is.
    let mut lease = other.0.pool.lease().await.expect("a connection");
    let mut late = change::Change::begin(&mut lease).await.expect("begun");
    let insert = "INSERT INTO event (at_unix_ms, kind, subject, facts) VALUES (0, 'anomaly', 'late', '{}')";
    sqlx::query(insert).execute(late.connection()).await.expect("inserted");
    store.note(&[note("early")]).await.expect("written");
    assert_eq!((read(first).await, store.end().await.expect("an end")), (Vec::new(), first));
    late.commit().await.expect("committed");
    let subjects: Vec<String> = read(first).await.into_iter().map(|(subject, _)| subject).collect();
    assert_eq!(subjects, ["late", "early"]);
}

#[tokio::test]
async fn servers_that_sum_and_save_meanwhile_are_no_difference() {
    let address = database!();
    let (store, other) = (open(&address).await, open(&address).await);
    store.append(&batch(1, vec![record("a", NOW)])).await.expect("saved");
    let write = async {
        for number in 2..30 {
            other.append(&batch(number, vec![record("b", NOW + number as i64 * 60_000)])).await.expect("saved");
            other.catch_up(projection::Turn::Wait).await.expect("summed");
        }
    };
    let check = async {
        for _ in 0..10 {
            let (before, after) = store.rebuild(&by(&[])).await.expect("rebuilt");
            assert_eq!(before, after);
        }
    };
    tokio::join!(write, check);
    execute(&store, "DELETE FROM usage_cell").await;
    let (before, after) = store.rebuild(&by(&[])).await.expect("rebuilt");
    assert_ne!(before, after, "what was wrong is seen");
    assert_eq!(requests(&store).await, 29);
}
