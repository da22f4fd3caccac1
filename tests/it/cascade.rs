//! What the cascade promises beyond the faults of `faults/upstream.rs`: who is asked, and who is waited for.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::app::ask;
use crate::support::upstream::{chat, raw, reset, status};
use crate::support::{app, upstream};

const TWO: &str = "
providers:
  one: { format: openai, base_url: '{0}', priority: 1, models: [ { id: m1, price: { input: 1, output: 2 }, context: 1000 } ] }
  two: { format: openai, base_url: '{1}', priority: 2, models: [ { id: m2, price: { input: 3, output: 4 }, context: 9000 } ] }
routing: { strategy: priority }
cache: { enabled: false }
";

#[tokio::test]
async fn a_limit_on_requests_in_flight_sends_the_rest_elsewhere() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(&TWO.replace("priority: 1,", "priority: 1, max_concurrency: 1,"), &[&one, &two]).await;
    one.always(chat("slow first").after(Duration::from_millis(400)));
    two.always(chat("second"));
    let (first, second) = tokio::join!(app.say("a"), async {
        one.called(1).await;
        app.say("b").await
    });
    assert_eq!((first.as_str(), second.as_str()), ("slow first", "second"));
}

#[tokio::test]
async fn a_plain_answer_that_stops_in_the_middle_is_left_at_the_idle_limit() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(&format!("{TWO}timeouts: {{ first_token: 2s, between_tokens: 300ms }}\n"), &[&one, &two]).await;
    two.always(chat("second"));
    for act in [raw(200, "application/json", "{\"id\":").unfinished(), raw(200, "application/json", "").unfinished()] {
        one.then(act);
        let began = Instant::now();
        assert_eq!(app.say("hi").await, "second");
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn nobody_waits_for_a_target_that_will_still_be_cooling() {
    let one = upstream().await;
    let yaml = "providers: { one: { format: openai, base_url: '{0}', models: [ { id: m1 } ] } }\nretry: { backoff: { start: 4s, max: 4s } }";
    let app = app(yaml, &[&one]).await;
    one.always(status(429));
    let began = Instant::now();
    let (status, headers, body) = app.chat(&ask("hi")).await;
    assert_eq!(status, 429, "{body}");
    assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
    assert!(headers.contains_key("retry-after"));
    assert_eq!(one.count(), 1);
}

#[tokio::test]
async fn a_failure_that_passes_is_not_hidden_by_what_another_target_cannot_do() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(TWO, &[&one, &two]).await;
    one.always(raw(
        400,
        "application/json",
        json!({"error": {"message": "x", "code": "context_length_exceeded"}}).to_string(),
    ));
    two.always(status(503));
    let (status, headers, body) = app.chat(&ask("hi")).await;
    assert_eq!(status, 503, "the larger model could take it later: {body}");
    assert!(!headers.contains_key("x-should-retry"));
}

#[tokio::test]
async fn the_models_of_a_provider_that_fails_do_not_use_up_the_attempts() {
    const MANY: &str = "
providers:
  one: { format: openai, base_url: '{0}', priority: 1, models: [ a, b, c ] }
  two: { format: openai, base_url: '{1}', priority: 2, models: [ d ] }
routing: { strategy: priority, max_attempts: 2 }
cache: { enabled: false }
";
    for act in [status(503), status(429), reset(), raw(200, "text/html", "<html>")] {
        let (one, two) = (upstream().await, upstream().await);
        let app = app(MANY, &[&one, &two]).await;
        one.always(act);
        assert_eq!(app.say("hi").await, "hello from upstream");
        assert_eq!((one.count(), two.count()), (1, 1));
    }
    // An order of the caller's own is kept.
    let (one, two) = (upstream().await, upstream().await);
    let app = app(MANY, &[&one, &two]).await;
    one.then(status(503));
    let mut listed = ask("hi");
    listed["models"] = json!(["one/a", "one/b", "two/d"]);
    let (status, headers, _) = app.chat(&listed).await;
    assert_eq!((status, headers["x-stepwell-model"].to_str().expect("text")), (200, "b"));
}

#[tokio::test]
async fn a_kept_connection_that_breaks_is_nobodys_failure() {
    let (one, two) = (upstream().await, upstream().await);
    let yaml = format!("{TWO}retry: {{ same_target: 0 }}\nbreaker: {{ consecutive_failures: 1 }}\n");
    let app = app(&yaml, &[&one, &two]).await;
    assert_eq!(app.say("hi").await, "hello from upstream");
    for _ in 0..5 {
        one.then(reset());
        let (status, headers, body) = app.chat(&ask("hi")).await;
        assert_eq!((status, &headers["x-stepwell-provider"]), (200, &"one".parse().expect("value")), "{body}");
        let row = app.row(&headers).await;
        assert_eq!(
            (row["attempts"][0]["kind"].as_str(), row["failovers"].as_u64()),
            (Some("stale_connection"), Some(0))
        );
    }
    assert_eq!(app.get("/gateway/status").await["targets"][0]["state"], "closed");
    // One that breaks every connection is found out by the new one.
    one.always(reset());
    let before = one.count();
    assert_eq!(app.say("hi").await, "hello from upstream");
    assert_eq!((one.count() - before, two.count()), (2, 1));
    assert_eq!(app.get("/gateway/status").await["targets"][0]["state"], "open");
}
