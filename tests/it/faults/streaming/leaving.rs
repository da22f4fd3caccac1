//! Callers who go: nobody works for them any longer, and nobody is blamed.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use serde_json::{Value, json};

use super::{pair, pair_with};
use crate::faults::upstream::{ONE, target};
use crate::support::app::ask;
use crate::support::upstream::{chat, hang, status};
use crate::support::{App, app, upstream};

/// How soon everything of a caller who left has to be gone.
const SOON: Duration = Duration::from_millis(250);

/// Waits until a target has nothing in flight; fails if that takes longer than it may.
async fn released(app: &App, left: Instant) {
    while target(app, 0).await["in_flight"] != 0 {
        assert!(left.elapsed() < SOON, "still in flight after {:?}", left.elapsed());
    }
}

/// The last request's row, once it is written.
async fn last_row(app: &App) -> Value {
    app.idle().await;
    app.get("/v1/requests").await["data"][0].clone()
}

#[tokio::test]
async fn b11_a_caller_who_leaves_closes_the_upstream_and_pays_for_what_was_seen() {
    for stalls in [true, false] {
        let (one, _two, app) = pair().await;
        let words = chat(&"word ".repeat(1000)).paced(Duration::from_millis(30));
        one.always(if stalls { chat("one two three").stall() } else { words });
        let mut body = ask("hi");
        body["stream"] = json!(true);
        let response = app.post("/v1/chat/completions", &body).await;
        let headers = response.headers().clone();
        let mut pieces = response.bytes_stream();
        pieces.next().await.expect("a piece").expect("bytes");
        pieces.next().await.expect("a piece").expect("bytes");
        let left = Instant::now();
        drop(pieces);
        one.closed(1).await;
        assert!(left.elapsed() < SOON, "{:?}", left.elapsed());
        released(&app, left).await;
        app.idle().await;
        let row = app.row(&headers).await;
        assert_eq!((row["status"].as_str(), row["http_status"].as_u64()), (Some("client_closed"), Some(499)), "{row}");
        assert!((1..100).contains(&row["completion_tokens"].as_u64().expect("tokens")), "what was seen: {row}");
        assert_eq!(row["estimated_usage"], true, "{row}");
        let target = target(&app, 0).await;
        assert_eq!((&target["state"], &target["opened"]), (&json!("closed"), &json!(0)), "no provider's failure");
    }
}

/// Leaves a request as soon as `one` has been called, and says when.
async fn leave(app: &App, one: &crate::support::Upstream, stream: bool) -> Instant {
    let mut body = ask("hi");
    body["stream"] = json!(stream);
    let count = one.count();
    let request = app.client.post(format!("{}/v1/chat/completions", app.url)).json(&body).send();
    tokio::select! {
        _ = request => panic!("nobody answers"),
        () = one.called(count + 1) => Instant::now(),
    }
}

#[tokio::test]
async fn b12_a_caller_who_leaves_before_the_answer_stops_the_cascade() {
    for stream in [false, true] {
        let (one, two, app) = pair_with("timeouts: { first_token: 500ms }").await;
        one.always(hang());
        let left = leave(&app, &one, stream).await;
        one.closed(1).await;
        released(&app, left).await;
        assert!(left.elapsed() < SOON, "{:?}", left.elapsed());
        let row = last_row(&app).await;
        assert_eq!((&row["status"], &row["http_status"]), (&json!("client_closed"), &json!(499)), "{row}");
        // Past the deadline at which the next target would have been asked.
        tokio::time::sleep_until((left + Duration::from_millis(700)).into()).await;
        assert_eq!((one.count(), two.count()), (1, 0), "no further attempt");
        assert_eq!(target(&app, 0).await["state"], "closed");
    }
}

#[tokio::test]
async fn b12_a_caller_who_leaves_while_a_retry_waits_causes_no_further_attempt() {
    let one = upstream().await;
    let app = app(&format!("{ONE}retry: {{ backoff: {{ start: 600ms, max: 600ms }} }}\n"), &[&one]).await;
    one.always(status(500).header("retry-after-ms", "500"));
    let request = app.client.post(format!("{}/v1/chat/completions", app.url)).json(&ask("hi")).send();
    let left = tokio::select! {
        answer = request => panic!("the retry waits: {answer:?}"),
        () = async {
            one.called(1).await;
            // The refusal has been read when the attempt's place is free again.
            while target(&app, 0).await["in_flight"] != 0 {}
        } => Instant::now(),
    };
    app.idle().await;
    assert!(left.elapsed() < SOON, "{:?}", left.elapsed());
    assert_eq!(last_row(&app).await["status"], "client_closed");
    tokio::time::sleep_until((left + Duration::from_millis(800)).into()).await;
    assert_eq!(one.count(), 1, "the retry that waited never starts");
}

#[tokio::test]
async fn b12_a_place_that_is_left_is_free_for_the_next() {
    let one = upstream().await;
    let app = app(&ONE.replace("one: {", "one: { max_concurrency: 1,"), &[&one]).await;
    one.then(hang());
    let left = leave(&app, &one, true).await;
    released(&app, left).await;
    assert_eq!(app.say("next").await, "hello from upstream");
}

#[tokio::test]
async fn b12_a_caller_who_leaves_the_queue_causes_no_attempt() {
    let one = upstream().await;
    let app = app(&ONE.replace("one: {", "one: { max_concurrency: 1,"), &[&one]).await;
    one.then(chat("slow").after(Duration::from_millis(600)));
    let waiting = async |app: &App| app.get("/health").await["load"]["waiting_for_provider"].clone();
    let queued = async {
        one.called(1).await;
        let request = app.client.post(format!("{}/v1/chat/completions", app.url)).json(&ask("second")).send();
        tokio::select! {
            answer = request => panic!("it waits for its turn: {answer:?}"),
            () = async { while waiting(&app).await != 1 {} } => {}
        }
        let left = Instant::now();
        while waiting(&app).await != 0 {
            assert!(left.elapsed() < SOON, "still queued after {:?}", left.elapsed());
        }
    };
    let (answer, ()) = tokio::join!(app.say("first"), queued);
    assert_eq!((answer.as_str(), one.count()), ("slow", 1));
    assert_eq!(app.say("third").await, "hello from upstream");
    assert_eq!(one.count(), 2, "nobody asked for the one who left");
}
