//! What is too old is deleted, by policy, and nothing else.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};

use crate::support::app::ask;
use crate::support::process::{Home, Process, client, until};
use crate::support::{Upstream, upstream};

const ONE: &str = "
providers:
  one: { format: openai, base_url: '{0}', models: [ { id: m1, price: { input: 1, output: 2 } } ] }
cache: { enabled: false }
";
const FIVE_DAYS_MS: u128 = Duration::from_secs(5 * 86_400).as_millis();

fn home(one: &Upstream, more: &str) -> Home {
    Home::new(&format!("{}{more}", ONE.replace("{0}", &one.url)))
}

/// Answers a request and a job, and waits until both are in the file.
async fn live(process: &Process) {
    process.chat("request", &ask("hi")).await;
    let post = client().post(format!("{}/v1/chat/completions", process.url)).header("prefer", "respond-async");
    let response = post.header("x-request-id", "job").json(&ask("hi")).send().await.expect("an answer");
    assert_eq!(response.status(), 202);
    until("the job has ended", async || process.get("/v1/requests/job").await["status"] == "completed").await;
    until("rows are saved", async || process.get("/health").await["ledger"]["saved"] == 2).await;
}

/// Makes all that has happened five days older.
async fn age(home: &Home) {
    let mut file = sqlx::sqlite::SqliteConnectOptions::new().filename(home.database()).connect().await.expect("open");
    for (table, column) in [("request", "started_unix_ms"), ("event", "at_unix_ms")] {
        let statement = format!("UPDATE {table} SET {column} = {column} - {FIVE_DAYS_MS}");
        assert!(file.execute(AssertSqlSafe(statement)).await.expect("aged").rows_affected() > 1);
    }
}

async fn events(process: &Process, subject: &str) -> usize {
    let get = client().get(format!("{}/v1/events?subject={subject}", process.url)).header("accept", "application/json");
    let page: Value = get.send().await.expect("an answer").json().await.expect("json");
    page["data"].as_array().expect("events").iter().filter(|event| event["seq"].is_i64()).count()
}

#[tokio::test]
async fn old_requests_and_events_go_and_what_they_add_up_to_stays() {
    let one = upstream().await;
    let home = home(&one, "retention: { requests: 3d, events: 4d }\n");
    let process = home.start().await;
    live(&process).await;
    let before = process.get("/v1/usage?since=30d").await["total"].clone();
    assert_eq!(process.stop().await, Some(0));
    age(&home).await;
    let process = home.start().await;
    process.chat("new", &ask("hi")).await;
    until("the old request is gone", async || process.get("/v1/requests/request").await["error"].is_object()).await;
    until("its events, too", async || events(&process, "job").await == 0).await;
    assert_eq!(process.get("/v1/requests/job").await["status"], "completed", "jobs.keep says how long a job is kept");
    until("the new row is saved", async || process.get("/health").await["ledger"]["saved"] == 1).await;
    assert_eq!(process.get("/v1/requests/new").await["status"], "completed");
    let after = process.get("/v1/usage?since=30d").await["total"].clone();
    assert_eq!((&before["requests"], &after["requests"]), (&json!(2), &json!(3)));
    let cost = |total: &Value| total["cost_usd"].as_f64().expect("a cost");
    assert!((cost(&after) - 1.5 * cost(&before)).abs() < 1e-12, "{before} {after}");
    assert_eq!(process.stop().await, Some(0));
    let mut replay = home.command();
    let output = replay.args(["events", "replay", "--json", "--data-dir"]).arg(home.data()).output().expect("it runs");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&told["usage"]["requests"], &told["jobs_differing"]), (&json!(3), &json!([])), "{told}");
}

#[tokio::test]
async fn nothing_of_the_ledger_goes_unless_a_policy_says_so() {
    let one = upstream().await;
    let home = home(&one, "");
    let process = home.start().await;
    live(&process).await;
    assert_eq!(process.stop().await, Some(0));
    age(&home).await;
    // Files of batches that nobody finished go last in every round.
    let mut file = sqlx::sqlite::SqliteConnectOptions::new().filename(home.database()).connect().await.expect("open");
    let left =
        "INSERT INTO file (id, name, purpose, bytes, created_unix_ms, whole) VALUES ('left', 'l', 'batch', 0, 0, 0)";
    file.execute(left).await.expect("a file");
    let process = home.start().await;
    until("what is too old was looked for", async || {
        let left: i64 = sqlx::query_scalar("SELECT count(*) FROM file").fetch_one(&mut file).await.expect("a count");
        left == 0
    })
    .await;
    assert_eq!(process.get("/v1/requests/request").await["status"], "completed");
    assert!(events(&process, "job").await >= 3);
    assert_eq!(process.stop().await, Some(0));
}
