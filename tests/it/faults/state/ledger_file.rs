//! The database locked, damaged, or gone.

use std::time::{Duration, Instant};

use sqlx::{ConnectOptions, Connection, Executor, SqliteConnection};

use super::{ONE, home};
use crate::support::app::ask;
use crate::support::process::{Home, Process, until};
use crate::support::upstream;
use crate::support::upstream::status;

/// How long another process holds the lock. Longer than SQLite is asked to wait, so that a try fails in between.
const LOCKED: Duration = Duration::from_secs(10);

/// Another program with the database open, which lets nobody else in.
async fn locked(home: &Home) -> SqliteConnection {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(home.database());
    let mut other = options.connect().await.expect("open");
    other.execute("BEGIN EXCLUSIVE").await.expect("locked");
    other
}

async fn saved(process: &Process, rows: u64) {
    until("rows are saved", async || {
        let health = process.get("/health").await;
        health["ledger"]["saved"] == rows && health["ledger"]["pending"] == 0
    })
    .await;
}

#[tokio::test]
async fn d04_a_lock_of_ten_seconds_costs_no_request_and_no_row() {
    let one = upstream().await;
    let home = home(ONE, &one);
    let process = home.start().await;
    process.chat("before", &ask("hi")).await;
    saved(&process, 1).await;
    let mut other = locked(&home).await;
    let began = Instant::now();
    for index in 0..20 {
        let asked = Instant::now();
        assert_eq!(process.chat(&format!("locked-{index}"), &ask("hi")).await.0, 200);
        assert!(asked.elapsed() < Duration::from_secs(1), "nobody waits for the lock: {:?}", asked.elapsed());
    }
    let health = process.get("/health").await;
    assert_eq!(health["ledger"]["pending"].as_u64(), Some(20), "{health}");
    assert_eq!(process.get("/v1/requests/locked-0").await["status"], "completed", "rows that wait are shown");
    tokio::time::sleep(LOCKED.saturating_sub(began.elapsed())).await;
    other.execute("COMMIT").await.expect("unlocked");
    saved(&process, 21).await;
    assert_eq!(process.get("/health").await["ledger"]["status"], "ok");
    assert_eq!(process.stop().await, Some(0));
}

#[tokio::test]
async fn d04_a_lock_of_ten_seconds_at_the_start_is_waited_for() {
    let one = upstream().await;
    let home = home(ONE, &one);
    home.start().await.stop().await;
    let mut other = locked(&home).await;
    // Shared reading is out too, as in a copy or a vacuum.
    let unlock = async {
        tokio::time::sleep(LOCKED).await;
        other.execute("COMMIT").await.expect("unlocked");
        other.close().await.expect("closed");
    };
    let (process, ()) = tokio::join!(home.start(), unlock);
    assert_eq!(process.chat("after", &ask("hi")).await.0, 200);
    saved(&process, 1).await;
}

#[tokio::test]
async fn d04_a_damaged_file_at_the_start_is_reported_and_kept_byte_for_byte() {
    let one = upstream().await;
    let home = home(ONE, &one);
    let process = home.start().await;
    for index in 0..20 {
        process.chat(&format!("kept-{index}"), &ask("hi")).await;
    }
    process.stop().await;
    let sound = std::fs::read(home.database()).expect("a file");
    let mut torn = sound.clone();
    torn[4096..12288].fill(0xa5);
    for (what, damaged) in [
        ("no database", b"this is not a database, but somebody's notes\n".repeat(100)),
        ("torn pages", torn),
        ("cut short", sound[..sound.len() / 2].to_vec()),
    ] {
        std::fs::write(home.database(), &damaged).expect("a file");
        assert_eq!(home.fails().await, Some(1), "{what}");
        assert_eq!(std::fs::read(home.database()).expect("a file"), damaged, "{what}: kept as it is");
        let said = home.errors();
        assert!(said.contains("stepwell.db` is damaged") && said.contains("restore a backup"), "{what}: {said}");
        std::fs::remove_file(home.path().join("stderr")).expect("a file");
    }
    std::fs::write(home.database(), &sound).expect("a file");
    let process = home.start().await;
    assert_eq!(process.get("/v1/requests/kept-7").await["status"], "completed", "the backup is as good as ever");
}

#[tokio::test]
async fn d04_a_file_that_goes_takes_no_row_with_it_and_is_not_made_anew() {
    let one = upstream().await;
    let home = home(ONE, &one);
    let process = home.start().await;
    process.chat("first", &ask("hi")).await;
    saved(&process, 1).await;
    let aside = home.data().join("aside");
    std::fs::rename(home.database(), &aside).expect("moved");
    process.chat("homeless", &ask("hi")).await;
    let error = async || process.get("/health").await["ledger"]["last_error"].as_str().map(str::to_owned);
    until("it is noticed", async || error().await.is_some_and(|error| error.contains("is gone"))).await;
    assert!(process.metrics().await.contains("stepwell_ledger_degraded 1"));
    assert!(!home.database().exists(), "never silently recreated");
    // An empty file, or somebody else's, is no ledger.
    std::fs::write(home.database(), "").expect("a file");
    until("it is refused", async || error().await.is_some_and(|error| error.contains("is empty"))).await;
    assert_eq!(std::fs::metadata(home.database()).expect("a file").len(), 0, "and left alone");
    std::fs::rename(&aside, home.database()).expect("moved back");
    saved(&process, 2).await;
    assert_eq!(error().await, None);
    // A backup in its place is another file with the same content.
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(home.database());
    let mut backup = options.connect().await.expect("open");
    let copy = sqlx::AssertSqlSafe(format!("VACUUM INTO '{}'", aside.display()));
    sqlx::query(copy).execute(&mut backup).await.expect("a backup");
    backup.close().await.expect("closed");
    std::fs::remove_file(home.database()).expect("deleted");
    process.chat("between", &ask("hi")).await;
    until("it is noticed again", async || error().await.is_some()).await;
    std::fs::copy(&aside, home.database()).expect("restored");
    // Of the file that was there before: applied to another one it would damage it.
    let log = home.data().join("stepwell.db-wal");
    until("the log is refused", async || error().await.is_some_and(|error| error.contains("stepwell.db-wal"))).await;
    std::fs::remove_file(&log).expect("a log");
    let _ = std::fs::remove_file(home.data().join("stepwell.db-shm"));
    saved(&process, 3).await;
    for id in ["homeless", "between"] {
        assert_eq!(process.get(&format!("/v1/requests/{id}")).await["status"], "completed", "{id}");
    }
    assert_eq!(process.stop().await, Some(0));
    let process = home.start().await;
    assert_eq!(process.get("/v1/requests/between").await["status"], "completed");
}

#[tokio::test]
async fn d04_an_unknown_price_is_unknown_also_in_a_row_that_a_kill_kept_from_the_file() {
    let one = upstream().await;
    let models = "[ { id: dear, price: { input: 1, output: 1 } }, { id: m1 } ]";
    let yaml = ONE.replace("[ { id: m1 } ]", models);
    let home =
        home(&format!("{yaml}retry: {{ same_target: 0 }}\nbudgets: {{ total: {{ day: 1, at_limit: warn }} }}\n"), &one);
    let process = home.start().await;
    let mut other = locked(&home).await;
    // What is held is held for the one with a price; the other one answers.
    one.then(status(503));
    let mut body = ask("hi");
    body["models"] = serde_json::json!(["dear", "m1"]);
    assert_eq!(process.chat("unpriced", &body).await.0, 200);
    process.kill();
    other.execute("COMMIT").await.expect("unlocked");
    drop(other);
    let process = home.start().await;
    let row = process.get("/v1/requests/unpriced").await;
    assert_eq!((&row["status"], &row["error"]), (&"interrupted".into(), &"router_stopped".into()), "{row}");
    assert!(row["cost_usd"].is_null() && row["completion_tokens"].as_u64() > Some(0), "{row}");
    let usage = process.get("/v1/usage").await;
    assert_eq!((&usage["total"]["unpriced_requests"], &usage["total"]["cost_usd"]), (&1.into(), &().into()), "{usage}");
    assert_eq!(process.stop().await, Some(0));
}
