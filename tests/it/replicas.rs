//! Three servers on one PostgreSQL: one is killed, one stands still past its leases, the database is killed under them.

mod books;
mod whole;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::app::ask;
use crate::support::process::{Home, Process, client, until};
use crate::support::upstream::chat;
use crate::support::{servers, upstream};

const JOBS: usize = 200;
/// Of each server.
const WORKERS: usize = 4;
const ONE: &str = "
providers:
  one: { format: openai, base_url: '{0}', models: [ { id: m1, price: { input: 1, output: 2 } } ] }
cache: { enabled: false }
retry: { same_target: 0 }
breaker: { consecutive_failures: 100, min_requests: 10000 }
jobs: { workers: 4, lease: 1s, max_attempts: 50, backoff: { start: 10ms, max: 20ms } }
budgets: { total: { day: 1000 } }
";

async fn hand_in(process: &Process, id: &str) {
    let post = client().post(format!("{}/v1/chat/completions", process.url)).header("prefer", "respond-async");
    let response = post.header("x-request-id", id).json(&ask("hi")).send().await.expect("an answer");
    assert_eq!(response.status(), 202, "{id}");
}

fn replayed(home: &Home) -> (Option<i32>, Value) {
    let mut command = home.command();
    let output = command.args(["events", "replay", "--json", "--data-dir"]).arg(home.data()).output().expect("it runs");
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_job_of_three_servers_ends_once_whatever_is_killed_stopped_and_restarted() {
    let one = upstream().await;
    one.always(chat("done").after(std::time::Duration::from_millis(40)));
    let Some(mut postgres) = servers::Postgres::start() else { return };
    let database = postgres.create("").await;
    let storage = format!("storage: {{ url: '{}' }}\n", postgres.url(postgres.server.address, &database));
    let homes = [0; 3].map(|_| Home::new(&format!("{ONE}{storage}").replace("{0}", &one.url)));
    let (first, second, third) = tokio::join!(homes[0].start(), homes[1].start(), homes[2].start());
    for index in 0..JOBS {
        hand_in([&first, &second, &third][index % 3], &format!("job-{index}")).await;
    }
    // All three are in the middle of it.
    one.called(60).await;
    second.signal(Signal::STOP);
    third.kill();
    postgres.server.signal(Signal::KILL);
    postgres.start_again();
    // The first one ends everything, what the others held included, as soon as their leases are over.
    until("all jobs have ended", async || {
        let get = client().get(format!("{}/v1/events?kind=completed&limit=1000", first.url));
        let response = get.header("accept", "application/json").send().await.expect("an answer");
        let completed: Value = response.json().await.unwrap_or_default();
        let data = completed["data"].as_array().map_or(0, Vec::len);
        data >= JOBS
    })
    .await;
    // Who stood still wakes up, finds its holds void, and has nothing left to do.
    second.signal(Signal::CONT);
    assert_eq!(second.stop().await, Some(0), "{}", homes[1].errors());
    // What the killed one had under way becomes rows when it comes back.
    assert_eq!(homes[2].start().await.stop().await, Some(0), "{}", homes[2].errors());
    for index in 0..JOBS {
        let job = first.get(&format!("/v1/requests/job-{index}")).await;
        assert_eq!(job["status"], "completed", "{job}");
        let events = job["events"].as_array().expect("events");
        assert_eq!(events.iter().filter(|event| event["kind"] == "completed" && event["seq"].is_i64()).count(), 1);
    }
    until("the last rows are saved", async || first.get("/health").await["ledger"]["pending"] == 0).await;
    // Every answer of the provider is a row. A row without an answer has only what was cut off on its way there.
    let (rows, calls) = (first.get("/v1/usage").await["total"]["requests"].as_u64(), one.count() as u64);
    assert!(rows.is_some_and(|rows| (calls..=calls + WORKERS as u64).contains(&rows)), "{rows:?} rows, {calls} calls");
    let (code, told) = replayed(&homes[0]);
    assert_eq!((code, &told["jobs"]["completed"]), (Some(0), &json!(JOBS)), "{told}");
    assert_eq!((&told["usage"]["requests"], &told["jobs_differing"]), (&json!(rows), &json!([])), "{told}");
    assert_eq!(first.stop().await, Some(0), "{}", homes[0].errors());
    for home in &homes {
        assert!(!home.data().join("stepwell.db").exists(), "nothing is kept in a file of one server");
    }
}
