//! NATS JetStream hands jobs out and is told of events, and whatever becomes of it, no job is lost or ended twice.

use std::time::Duration;

use async_nats::jetstream;
use futures_util::StreamExt;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::app::ask;
use crate::support::process::{Home, Process, client, until};
use crate::support::servers::{Server, nats, postgres, start_nats, start_nats_with};
use crate::support::upstream::{chat, hang, status};
use crate::support::{App, Upstream, app, upstream};

const ONE: &str = "
providers:
  one: { format: openai, base_url: '{0}', models: [ { id: m1, price: { input: 1, output: 2 } } ] }
cache: { enabled: false }
retry: { same_target: 0 }
breaker: { consecutive_failures: 100, min_requests: 10000 }
";

/// A prefix of its own, on a server that others use.
fn prefix() -> String {
    format!("t{}", uuid::Uuid::now_v7().simple())
}

fn queue(server: &Server, prefix: &str) -> String {
    format!("queue: {{ url: 'nats://{}', prefix: {prefix} }}\n", server.address)
}

async fn one(more: &str) -> (App, Upstream) {
    let one = upstream().await;
    (app(&format!("{ONE}{more}"), &[&one]).await, one)
}

async fn later(app: &App) -> String {
    let post = app.client.post(format!("{}/v1/chat/completions", app.url)).header("prefer", "respond-async");
    let response = post.json(&ask("hi")).send().await.expect("an answer");
    assert_eq!(response.status().as_u16(), 202);
    let said: Value = response.json().await.expect("json");
    said["status_url"].as_str().expect("a URL").to_owned()
}

/// The request once it has ended.
async fn ended(app: &App, path: &str) -> Value {
    let get = app.client.get(format!("{}{path}", app.url)).header("prefer", "wait=20");
    get.send().await.expect("an answer").json().await.expect("json")
}

fn count(document: &Value, kind: &str) -> usize {
    document["events"].as_array().expect("events").iter().filter(|event| event["kind"] == kind).count()
}

/// All of them are completed, and each of them once.
async fn all_done_once(app: &App, paths: &[String]) {
    for path in paths {
        let done = ended(app, path).await;
        let ends = ["started", "completed", "lease_expired"].map(|kind| count(&done, kind));
        assert_eq!((&done["status"], ends), (&json!("completed"), [1, 1, 0]), "{done}");
    }
}

async fn until_queue_is(app: &App, status: &str) {
    until(&format!("the queue is {status}"), async || app.get("/health").await["queue"]["status"] == status).await;
}

async fn metric(app: &App, name: &str) -> f64 {
    let text =
        app.client.get(format!("{}/metrics", app.url)).send().await.expect("metrics").text().await.expect("text");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    line.unwrap_or_default()
}

async fn jetstream(server: &Server) -> jetstream::Context {
    jetstream::new(async_nats::connect(server.address.to_string()).await.expect("a connection"))
}

async fn messages(server: &Server, stream: &str) -> u64 {
    let mut stream = jetstream(server).await.get_stream(stream).await.expect("a stream");
    stream.info().await.expect("what it is").state.messages
}

#[tokio::test]
async fn jobs_are_handed_out_by_the_stream_and_leave_it_when_they_are_done() {
    let Some(server) = nats() else { return };
    let prefix = prefix();
    let (app, one) = one(&queue(server, &prefix)).await;
    one.always(chat("later"));
    let mut paths = Vec::new();
    // One or another may be found by a sweep.
    until("the stream hands jobs out", async || {
        paths.push(later(&app).await);
        metric(&app, "stepwell_jobs_claimed_total{by=\"stream\"}").await >= 3.0
    })
    .await;
    all_done_once(&app, &paths).await;
    assert_eq!(one.count(), paths.len());
    let stream = format!("{prefix}-jobs");
    until("nothing is left in the stream", async || messages(server, &stream).await == 0).await;
    assert_eq!(app.get("/health").await["queue"], json!({"status": "ok", "reason": null}));
    assert_eq!(metric(&app, "stepwell_queue_up").await, 1.0);
}

#[tokio::test]
async fn what_is_tried_again_goes_over_the_stream_again_and_ends_in_the_dead_letters() {
    let Some(server) = nats() else { return };
    let jobs = "jobs: { backoff: { start: 10ms, max: 20ms }, max_attempts: 3 }\n";
    let (app, one) = one(&format!("{jobs}{}", queue(server, &prefix()))).await;
    one.always(status(500));
    let path = later(&app).await;
    let dead = ended(&app, &path).await;
    assert_eq!((&dead["status"], one.count()), (&json!("dead"), 3), "{dead}");
    assert_eq!(count(&dead, "dead_lettered"), 1);
    one.always(chat("healed"));
    let id = path.rsplit('/').next().expect("an id");
    assert!(app.command(&["jobs", "retry", id]).status.success());
    let healed = ended(&app, &path).await;
    assert_eq!((&healed["status"], count(&healed, "started")), (&json!("completed"), 4), "{healed}");
}

#[tokio::test]
async fn d05_no_job_is_lost_or_done_twice_while_nats_is_frozen_killed_purged_or_back() {
    let Some(mut server) = start_nats() else { return };
    // Some wait while others are done.
    let (app, one) = one(&format!("jobs: {{ workers: 2 }}\n{}", queue(&server, "d05"))).await;
    one.always(chat("later").after(Duration::from_millis(30)));
    until_queue_is(&app, "ok").await;
    let hand_in = async || futures_util::future::join_all((0..6).map(|_| later(&app))).await;
    let mut paths = hand_in().await;

    server.signal(Signal::STOP);
    paths.extend(hand_in().await);
    all_done_once(&app, &paths).await;
    until_queue_is(&app, "gone").await;
    let health = app.get("/health").await;
    assert_eq!((&health["status"], &health["queue"]["reason"].is_string()), (&json!("degraded"), &true), "{health}");
    assert_eq!(metric(&app, "stepwell_queue_up").await, 0.0);
    server.signal(Signal::CONT);
    until_queue_is(&app, "ok").await;

    paths.extend(hand_in().await);
    jetstream(&server).await.get_stream("d05-jobs").await.expect("a stream").purge().await.expect("purged");
    all_done_once(&app, &paths).await;

    paths.extend(hand_in().await);
    server.signal(Signal::KILL);
    paths.extend(hand_in().await);
    all_done_once(&app, &paths).await;
    server.start_again().expect("it starts");
    until_queue_is(&app, "ok").await;
    paths.extend(hand_in().await);
    all_done_once(&app, &paths).await;

    // Whoever deletes the stream has it made again.
    jetstream(&server).await.delete_stream("d05-jobs").await.expect("deleted");
    paths.extend(hand_in().await);
    all_done_once(&app, &paths).await;
    until("the stream is there again", async || jetstream(&server).await.get_stream("d05-jobs").await.is_ok()).await;
    assert_eq!(one.count(), paths.len(), "each was asked for once");
}

#[tokio::test]
async fn d05_a_server_starts_without_nats_and_finds_it_later() {
    let Some(mut server) = start_nats_with(&["--user", "router", "--pass", "open/sesame"]) else { return };
    server.signal(Signal::KILL);
    let (_, port) = (server.address.ip(), server.address.port());
    let (app, _one) = one(&format!("queue: {{ url: 'nats://router:open%2Fsesame@127.0.0.1:{port}' }}\n")).await;
    let path = later(&app).await;
    all_done_once(&app, &[path]).await;
    let health = app.get("/health").await;
    assert_eq!(health["queue"]["status"], "gone", "{health}");
    assert!(!health.to_string().contains("sesame"), "{health}");
    server.start_again().expect("it starts");
    until_queue_is(&app, "ok").await;
}

#[tokio::test]
async fn a_job_of_a_killed_server_is_done_by_the_next_one() {
    let Some(server) = nats() else { return };
    let one = upstream().await;
    let yaml = format!("{ONE}jobs: {{ lease: 1s }}\n{}", queue(server, &prefix())).replace("{0}", &one.url);
    let home = Home::new(&yaml);
    let process = home.start().await;
    one.always(hang());
    let client = reqwest::Client::new();
    let post = client.post(format!("{}/v1/chat/completions", process.url)).header("prefer", "respond-async");
    let said: Value = post.json(&ask("hi")).send().await.expect("an answer").json().await.expect("json");
    one.called(1).await;
    process.kill();
    one.always(chat("at last"));
    let process = home.start().await;
    let path = said["status_url"].as_str().expect("a URL");
    let mut done = Value::Null;
    until("it is done", async || {
        done = process.get(path).await;
        done["status"] == "completed"
    })
    .await;
    let told = ["started", "lease_expired", "completed"].map(|kind| count(&done, kind));
    assert_eq!((told, &done["job"]["attempts"]), ([2, 1, 1], &json!(2)), "{done}");
}

#[tokio::test]
async fn events_are_published_in_order_and_go_on_after_a_restart_where_they_were() {
    let Some(server) = nats() else { return };
    let prefix = prefix();
    let (app, one) = one(&format!("events: {{ publish: true }}\n{}", queue(server, &prefix))).await;
    one.always(chat("later"));
    let first = later(&app).await;
    ended(&app, &first).await;
    let app = app.restart().await;
    let second = later(&app).await;
    ended(&app, &second).await;
    let id = second.rsplit('/').next().expect("an id");
    let mut events: Vec<(String, Value)> = Vec::new();
    until("the last event is published", async || {
        events = published(server, &prefix).await;
        events.iter().any(|(_, event)| event["kind"] == "completed" && event["subject"] == id)
    })
    .await;
    let places: Vec<i64> = events.iter().filter_map(|(_, event)| event["seq"].as_i64()).collect();
    let all: Vec<i64> = (1..=places.len() as i64).collect();
    assert_eq!(places, all, "each event of the log, once and in order");
    for (subject, event) in &events {
        assert_eq!(*subject, format!("{prefix}.events.{}", event["kind"].as_str().expect("a kind")));
    }
    let of_server: Vec<_> = events.iter().filter(|(_, event)| event["subject"] == "server").collect();
    assert_eq!(of_server.len(), 3, "started, stopped, started: {of_server:?}");
}

#[tokio::test]
async fn a_reload_says_what_of_jobs_reaches_nats_at_the_next_start() {
    let Some(server) = nats() else { return };
    let one = upstream().await;
    let yaml =
        |lease: &str| format!("{ONE}jobs: {{ lease: {lease} }}\n{}", queue(server, &prefix())).replace("{0}", &one.url);
    let first = yaml("1s");
    let home = Home::new(&first);
    let process = home.start().await;
    std::fs::write(home.config(), first.replace("lease: 1s", "lease: 2s")).expect("a file");
    until("it is reloaded", async || home.errors().contains("configuration reloaded")).await;
    let log = home.errors();
    assert!(log.contains("`jobs.lease` and `jobs.max_attempts` hold for new claims"), "{log}");
    assert!(log.contains("changed sections jobs") && !log.contains("`queue` and `events` take effect"), "{log}");
    assert_eq!(process.stop().await, Some(0), "{}", home.errors());
}

#[tokio::test]
async fn when_the_one_that_publishes_is_killed_the_other_goes_on_and_nothing_is_missing() {
    let (Some(server), Some(postgres)) = (nats(), postgres()) else { return };
    let database = postgres.create("").await;
    let one = upstream().await;
    one.always(chat("later").after(Duration::from_millis(20)));
    let prefix = prefix();
    let storage = format!("storage: {{ url: '{}' }}\n", postgres.url(postgres.server.address, &database));
    let yaml = format!(
        "{ONE}jobs: {{ lease: 1s, max_attempts: 10, backoff: {{ start: 10ms, max: 50ms }} }}\n\
         events: {{ publish: true }}\n{storage}{}",
        queue(server, &prefix)
    );
    let homes = [0; 2].map(|_| Home::new(&yaml.replace("{0}", &one.url)));
    let (first, second) = tokio::join!(homes[0].start(), homes[1].start());
    let mut processes = [Some(first), Some(second)];
    let hand_in = async |process: &Process, count: usize| {
        for _ in 0..count {
            let post = client().post(format!("{}/v1/chat/completions", process.url)).header("prefer", "respond-async");
            assert_eq!(post.json(&ask("hi")).send().await.expect("an answer").status(), 202);
        }
    };
    for process in processes.iter().flatten() {
        hand_in(process, 20).await;
    }
    // Who has the post says so in its stream, by its name.
    let mut publisher = 0;
    until("one of them publishes", async || {
        let Ok(stream) = jetstream(server).await.get_stream(format!("{prefix}-posts")).await else { return false };
        let Ok(post) = stream.get_last_raw_message_by_subject(&format!("{prefix}.posts.common")).await else {
            return false;
        };
        let post: Value = serde_json::from_slice(&post.payload).expect("json");
        let name = |home: &Home| std::fs::read_to_string(home.database().with_extension("replica")).expect("a name");
        publisher = homes.iter().position(|home| Some(name(home).trim()) == post["holder"].as_str()).unwrap_or(9);
        publisher < 2 && post["place"].as_i64() > Some(10)
    })
    .await;
    hand_in(processes[publisher].as_ref().expect("it runs"), 20).await;
    processes[publisher].take().expect("it runs").kill();
    let left = processes[1 - publisher].as_ref().expect("it runs");
    hand_in(left, 20).await;
    let mut connection = postgres.connect(&database).await;
    until("every job has ended", async || {
        let sql = "SELECT count(*) FROM job WHERE status = 'completed'";
        sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut connection).await.expect("a count") == 80
    })
    .await;
    let sql = "SELECT seq FROM event ORDER BY seq";
    let mut log: Vec<i64> = Vec::new();
    let mut told: Vec<i64> = Vec::new();
    until("all of the log is published", async || {
        log = sqlx::query_scalar(sql).fetch_all(&mut connection).await.expect("places");
        told = published(server, &prefix).await.iter().filter_map(|(_, event)| event["seq"].as_i64()).collect();
        told.len() >= log.len()
    })
    .await;
    assert_eq!(told, log, "every event of the log, once and in order");
}

/// Every message of the stream of events: its subject and what it says.
async fn published(server: &Server, prefix: &str) -> Vec<(String, Value)> {
    let Ok(mut stream) = jetstream(server).await.get_stream(format!("{prefix}-events")).await else {
        return Vec::new();
    };
    let count = stream.info().await.expect("what it is").state.messages as usize;
    let consumer = stream.create_consumer(jetstream::consumer::pull::Config::default()).await.expect("a consumer");
    let messages = consumer.fetch().max_messages(count.max(1)).messages().await.expect("messages");
    let read = messages.take(count).map(|message| {
        let message = message.expect("a message");
        (message.subject.to_string(), serde_json::from_slice(&message.payload).expect("json"))
    });
    read.collect().await
}
