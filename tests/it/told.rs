//! What is told of itself: webhooks of requests and of operators, events of breakers, anomalies.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::app::ask;
use crate::support::process::until;
use crate::support::upstream::{raw, status};
use crate::support::{App, Upstream, app, upstream};

const ONE: &str = "
providers:
  one: { format: openai, base_url: '{0}', models: [ { id: m1, price: { input: 1, output: 2 } } ] }
cache: { enabled: false }
retry: { same_target: 0 }
jobs: { backoff: { start: 10ms, max: 20ms }, max_attempts: 2 }
";
const SECRET: &str = "whsec_c3RlcHdlbGwgc3RlcHdlbGwgc3RlcHdlbGw=";

/// The origin of an upstream that stands in for a caller's server.
fn origin(hook: &Upstream) -> String {
    hook.url.trim_end_matches("/v1").to_owned()
}

async fn with_hook(more: &str) -> (App, Upstream, Upstream) {
    let (one, hook) = (upstream().await, upstream().await);
    hook.always(raw(204, "text/plain", ""));
    let allow = format!("webhooks: {{ allow: ['{}'], secret: '{SECRET}', timeout: 2s }}\n", origin(&hook));
    let yaml = format!("{ONE}{allow}{}", more.replace("{hook}", &origin(&hook)));
    (app(&yaml, &[&one]).await, one, hook)
}

async fn hand_in(app: &App, hook: Option<&str>) -> Value {
    let mut body = ask("hi");
    body["context"] = json!({"webhook": hook});
    let post = app.client.post(format!("{}/v1/chat/completions", app.url)).header("prefer", "respond-async");
    post.json(&body).send().await.expect("an answer").json().await.expect("json")
}

#[tokio::test]
async fn the_end_of_a_request_is_told_signed_and_again_until_it_is_heard() {
    let (app, _one, hook) = with_hook("").await;
    hook.then(status(500));
    hook.then(status(302).header("location", "http://127.0.0.1:9/"));
    let said = hand_in(&app, Some(&format!("{}/hooks/one?secret=canary", origin(&hook)))).await;
    hook.called(3).await;
    let call = hook.last_call().expect("a call");
    assert!(call.head.starts_with("post /hooks/one?secret=canary "), "{}", call.head);
    assert_eq!(
        (&call.body["type"], &call.body["data"]["request_id"]),
        (&json!("request.completed"), &said["request_id"])
    );
    let header = |name: &str| call.header(name).unwrap_or_else(|| panic!("{name}")).to_owned();
    let (id, at) = (header("webhook-id"), header("webhook-timestamp"));
    let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(&SECRET[6..]).expect("base64"));
    let signed = format!("{id}.{at}.{}", call.body);
    let expected = STANDARD.encode(hmac::sign(&key, signed.as_bytes()).as_ref());
    // The upstream notes headers in lower case.
    assert_eq!(header("webhook-signature"), format!("v1,{expected}").to_lowercase());
    let first = &hook.calls()[0];
    assert_eq!(first.header("webhook-id"), Some(id.as_str()), "who hears it twice can tell");
    // Where it went, the log does not say: such addresses carry secrets.
    let events = app.client.get(format!("{}/v1/events", app.url)).header("accept", "application/json");
    let events = events.send().await.expect("an answer").text().await.expect("text");
    assert!(!events.contains("canary"), "{events}");
}

#[tokio::test]
async fn nothing_is_told_where_no_operator_allows_it() {
    let (app, _one, hook) = with_hook("").await;
    for url in [
        "http://127.0.0.1:1/",
        "http://169.254.169.254/latest",
        "https://localhost/",
        &origin(&hook).replace("127.0.0.1", "127.0.0.2"),
    ] {
        let error = hand_in(&app, Some(url)).await;
        assert_eq!(error["error"]["code"], "invalid_webhook", "{url}: {error}");
    }
    assert_eq!(hook.count(), 0);
}

#[tokio::test]
async fn events_are_told_in_order_and_again_until_they_are_taken() {
    let kinds = "events: { webhook: { url: '{hook}/events?token=canary', kinds: [queued, completed] } }\n";
    let (app, _one, hook) = with_hook(kinds).await;
    hook.then(status(503));
    let mut expected = Vec::new();
    for _ in 0..5 {
        let id = hand_in(&app, None).await["request_id"].as_str().expect("an id").to_owned();
        until("it is done", async || app.get(&format!("/v1/requests/{id}")).await["status"] == "completed").await;
        expected.extend([("queued".to_owned(), id.clone()), ("completed".to_owned(), id)]);
    }
    let word = |event: &Value, name: &str| event[name].as_str().expect("a word").to_owned();
    let mut deliveries = Vec::new();
    until("everything is told", async || {
        deliveries = hook.calls();
        let told: Vec<_> = deliveries
            .iter()
            .skip(1)
            .flat_map(|call| call.body["data"]["events"].as_array().cloned())
            .flatten()
            .collect();
        told.iter().any(|event| (word(event, "kind"), word(event, "subject")) == expected[9])
    })
    .await;
    let events = |at: usize| deliveries[at].body["data"]["events"].as_array().expect("events");
    assert!(events(1).starts_with(events(0)), "what was not taken is told again, perhaps with more");
    assert!(deliveries[1].header("webhook-signature").is_some_and(|signature| signature.starts_with("v1,")));
    let told: Vec<_> =
        deliveries[1..].iter().flat_map(|call| call.body["data"]["events"].as_array().expect("events")).collect();
    let words: Vec<_> = told.iter().map(|event| (word(event, "kind"), word(event, "subject"))).collect();
    assert_eq!(words, expected);
    assert!(told.iter().map(|event| event["seq"].as_i64()).is_sorted_by(|one, next| one < next));
}

#[tokio::test]
async fn a_breaker_that_opens_and_closes_is_an_event() {
    let one = upstream().await;
    let breaker = "breaker: { consecutive_failures: 2, cooldown: 100ms, cooldown_without_alternative: 100ms }\n";
    let app = app(&format!("{ONE}{breaker}"), &[&one]).await;
    one.always(status(500));
    for _ in 0..3 {
        app.chat(&ask("hi")).await;
    }
    one.always(crate::support::upstream::chat("well"));
    until("it recovers", async || app.chat(&ask("hi")).await.0 == 200).await;
    let mut kinds = Vec::new();
    until("both are in the log", async || {
        let get = app.client.get(format!("{}/v1/events?subject=one/m1", app.url)).header("accept", "application/json");
        let list: Value = get.send().await.expect("an answer").json().await.expect("json");
        let all = list["data"].as_array().expect("events");
        kinds = all.iter().map(|event| event["kind"].as_str().unwrap_or_default().to_owned()).collect();
        kinds.last().is_some_and(|kind| kind == "breaker_closed")
    })
    .await;
    assert_eq!(kinds[0], "breaker_opened", "{kinds:?}");
    let at = app.command(&["events", "at", "0s"]);
    assert!(at.status.success() && !String::from_utf8_lossy(&at.stdout).contains("open since"), "{at:?}");
}

#[tokio::test]
async fn many_failures_at_once_are_an_anomaly_that_operators_are_told() {
    let (app, one, hook) = with_hook(
        "anomalies: { failures: 5, within: 1m, webhook: '{hook}/ops' }\nbreaker: { consecutive_failures: 100, min_requests: 10000 }\n",
    )
    .await;
    one.always(status(500));
    for _ in 0..6 {
        app.chat(&ask("hi")).await;
    }
    // Of the provider, and of the task; both are told once.
    hook.called(2).await;
    let subjects: Vec<Value> = hook.calls().iter().map(|call| call.body["data"]["subject"].clone()).collect();
    assert!(subjects.contains(&json!("provider:one")), "{subjects:?}");
    let metrics =
        app.client.get(format!("{}/metrics", app.url)).send().await.expect("an answer").text().await.expect("text");
    assert!(metrics.contains("stepwell_anomalies_total{pattern=\"failures\"}"), "{metrics}");
}

#[tokio::test]
async fn what_happens_is_streamed_live_requests_that_are_answered_at_once_included() {
    let one = upstream().await;
    let app = app(ONE, &[&one]).await;
    let response = app.client.get(format!("{}/v1/events?kind=received,queued,settled", app.url));
    let mut response = response.header("accept", "text/event-stream").send().await.expect("an answer");
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let first = response.chunk().await.expect("a piece").expect("not the end");
    assert!(first.starts_with(b": following"), "{first:?}");
    app.chat(&ask("hi")).await;
    let post = app.client.post(format!("{}/v1/chat/completions", app.url)).header("prefer", "respond-async");
    post.json(&ask("later")).send().await.expect("an answer");
    let mut seen = String::new();
    let reading = async {
        while !(seen.contains("event: received") && seen.contains("event: settled") && seen.contains("event: queued")) {
            let piece = response.chunk().await.expect("a piece").expect("not the end");
            seen.push_str(&String::from_utf8_lossy(&piece));
        }
    };
    tokio::time::timeout(Duration::from_secs(10), reading).await.unwrap_or_else(|_| panic!("too late"));
    assert!(!seen.contains("event: classified"), "{seen}");
}
