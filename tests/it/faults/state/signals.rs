//! Signals in flight, clocks that jump, and the end without a warning.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{ONE, home};
use crate::support::app::ask;
use crate::support::process::{Process, client, until};
use crate::support::upstream;
use crate::support::upstream::chat;

fn streaming(prompt: &str) -> Value {
    let mut body = ask(prompt);
    body["stream"] = json!(true);
    body
}

async fn open(process: &Process, id: &str) -> reqwest::Response {
    let post = client().post(format!("{}/v1/chat/completions", process.url)).header("x-request-id", id);
    post.json(&streaming("hi")).send().await.expect("an answer")
}

async fn row(process: &Process, id: &str) -> Value {
    process.get(&format!("/v1/requests/{id}")).await
}

#[tokio::test]
async fn d08_sigterm_lets_streams_finish_refuses_new_ones_and_saves_every_row() {
    let one = upstream().await;
    one.always(chat("a b c d e f g h i j k l").paced(Duration::from_millis(100)));
    let home = home(ONE, &one);
    let process = home.start().await;
    let stream = open(&process, "in-flight").await;
    let before = Instant::now();
    process.signal(Signal::TERM);
    // A connection from before: the listener goes only when the streams are done or the grace is over.
    until("readiness is off", async || process.get("/readyz").await["status"] == "draining").await;
    assert!(before.elapsed() < Duration::from_secs(1), "at once");
    assert_eq!(process.get("/livez").await["status"], "ok", "alive, but draining");
    let text = stream.text().await.expect("the whole stream");
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    assert_eq!(process.ended().await, Some(0));
    let process = home.start().await;
    assert_eq!(row(&process, "in-flight").await["status"], "completed");
}

#[tokio::test]
async fn d08_a_stream_beyond_the_grace_ends_with_an_error_event_and_exit_0() {
    let one = upstream().await;
    one.always(chat("it never ends").stall());
    let home = home(&format!("{ONE}server: {{ shutdown_grace: 500ms }}\n"), &one);
    let process = home.start().await;
    let stream = open(&process, "endless").await;
    process.signal(Signal::TERM);
    let text = stream.text().await.expect("a clean end");
    assert!(text.contains("shutting_down") && !text.contains("[DONE]"), "{text}");
    assert_eq!(process.ended().await, Some(0));
    let process = home.start().await;
    let row = row(&process, "endless").await;
    assert_eq!((row["status"].as_str(), row["error"].as_str()), (Some("interrupted"), Some("shutting_down")), "{row}");
}

#[tokio::test]
async fn d08_a_second_signal_ends_it_soon_and_loses_no_row() {
    let one = upstream().await;
    let home = home(ONE, &one);
    let process = home.start().await;
    one.always(chat("it never ends").stall());
    let stream = open(&process, "cut").await;
    one.always(chat("quick"));
    process.signal(Signal::TERM);
    until("it drains", async || process.get("/readyz").await["status"] == "draining").await;
    let answers: Vec<_> = (0..20).map(|index| format!("last-{index}")).collect();
    for id in &answers {
        assert_eq!(process.chat(id, &ask("hi")).await.0, 200);
    }
    // Within the 50 ms in which rows wait for company.
    let began = Instant::now();
    process.signal(Signal::INT);
    let text = stream.text().await.unwrap_or_default();
    assert_eq!(process.ended().await, Some(130));
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert!(text.contains("shutting_down"), "{text}");
    let process = home.start().await;
    for id in &answers {
        assert_eq!(row(&process, id).await["status"], "completed", "{id}");
    }
    assert_ne!(row(&process, "cut").await["status"], Value::Null, "the stream's row too");
}

#[tokio::test]
async fn d09_a_clock_that_was_an_hour_off_moves_rows_and_nothing_else() {
    use sqlx::{ConnectOptions, Connection, Executor};
    let one = upstream().await;
    let home = home(ONE, &one);
    let process = home.start().await;
    for id in ["ahead", "behind"] {
        assert_eq!(process.chat(id, &ask("hi")).await.0, 200);
    }
    assert_eq!(process.stop().await, Some(0));
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(home.database());
    let mut rows = options.connect().await.expect("open");
    rows.execute("UPDATE request SET started_unix_ms = started_unix_ms + 3600000 WHERE id = 'ahead'")
        .await
        .expect("an hour");
    rows.execute("UPDATE request SET started_unix_ms = started_unix_ms - 3600000 WHERE id = 'behind'")
        .await
        .expect("an hour");
    rows.close().await.expect("closed");
    let process = home.start().await;
    assert_eq!(process.chat("right", &ask("hi")).await.0, 200);
    let listed = process.get("/v1/requests").await;
    let ids: Vec<&str> = listed["data"].as_array().expect("rows").iter().filter_map(|row| row["id"].as_str()).collect();
    assert_eq!(ids, ["ahead", "right", "behind"], "newest first by what their clocks said");
    let status = process.get("/gateway/status").await;
    assert_eq!(
        (status["targets"][0]["state"].as_str(), status["targets"][0]["opened"].as_u64()),
        (Some("closed"), Some(0))
    );
}

/// Rounds of the loop below; `examples/kill_loop.rs` runs as many as one likes.
const ROUNDS: u64 = 6;
/// What may be missing: rows of answers that were received this long before the end, or less.
const ACKNOWLEDGED: Duration = Duration::from_millis(250);

#[tokio::test]
async fn kill_9_loses_no_row_older_than_a_quarter_of_a_second_and_doubles_none() {
    let one = upstream().await;
    let home = home(ONE, &one);
    let mut process = home.start().await;
    let mut kept: Vec<String> = Vec::new();
    for round in 0..ROUNDS {
        // Half a second to one and a bit, different in every round.
        let lifetime = Duration::from_millis(500 + round * 211 % 700);
        let began = Instant::now();
        let mut answered: Vec<(String, Instant)> = Vec::new();
        let client = client();
        let mut asking = tokio::task::JoinSet::new();
        let mut index = 0;
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        while began.elapsed() < lifetime {
            tokio::select! {
                _ = ticks.tick() => {
                    let id = format!("kill-{round}-{index}");
                    index += 1;
                    let body = if index % 3 == 0 { streaming("hi") } else { ask("hi") };
                    let post = client.post(format!("{}/v1/chat/completions", process.url)).header("x-request-id", &id).json(&body);
                    asking.spawn(async move {
                        let response = post.send().await.ok()?;
                        response.text().await.ok()?;
                        Some((id, Instant::now()))
                    });
                }
                Some(done) = asking.join_next() => answered.extend(done.expect("no panic")),
            }
        }
        let killed = Instant::now();
        process.kill();
        while let Some(done) = asking.join_next().await {
            answered.extend(done.expect("no panic"));
        }
        kept.extend(answered.into_iter().filter(|(_, at)| *at + ACKNOWLEDGED < killed).map(|(id, _)| id));
        process = home.start().await;
    }
    assert!(kept.len() > 60, "{} answers", kept.len());
    let mut listed = std::collections::HashMap::<String, usize>::new();
    let mut before = String::new();
    loop {
        let page = process.get(&format!("/v1/requests?limit=100{before}")).await;
        for row in page["data"].as_array().expect("rows") {
            *listed.entry(row["id"].as_str().expect("an id").to_owned()).or_default() += 1;
        }
        match page["next"].as_str() {
            Some(next) => before = format!("&before={next}"),
            None => break,
        }
    }
    let missing: Vec<_> = kept.iter().filter(|id| !listed.contains_key(*id)).collect();
    assert!(missing.is_empty(), "{} of {} rows are missing: {missing:?}", missing.len(), kept.len());
    assert!(listed.values().all(|count| *count == 1), "a row is doubled");
    // The start checks the file's integrity and refuses a damaged one; the report adds up over what is there.
    let usage = process.get("/v1/usage?group_by=provider").await;
    assert_eq!(usage["total"]["requests"].as_u64(), Some(listed.len() as u64), "{usage}");
    assert_eq!(process.stop().await, Some(0));
}

#[tokio::test]
async fn a13_a_router_that_stood_still_blames_no_provider_for_it() {
    let one = upstream().await;
    one.always(chat("a b c d e f g h i j k l").paced(Duration::from_millis(200)));
    let home = home(&format!("{ONE}timeouts: {{ first_token: 1s, between_tokens: 1s }}\n"), &one);
    let process = home.start().await;
    let stream = open(&process, "frozen").await;
    process.signal(Signal::STOP);
    // As long as a machine that is suspended in the middle of an answer.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    process.signal(Signal::CONT);
    let text = stream.text().await.expect("the whole stream");
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    assert_eq!(row(&process, "frozen").await["status"], "completed");
    assert_eq!(process.get("/gateway/status").await["targets"][0]["state"], "closed");
    assert_eq!(process.stop().await, Some(0));
}
