//! How a stream ends, and how it must not look as if it had ended.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{pair, pair_with, usage_too};
use crate::faults::upstream::{TWO, metric, state, target};
use crate::support::app::ask;
use crate::support::upstream::{Act, chat, events, fault, raw, reset, status, within};
use crate::support::{App, Streamed, app, upstream};

fn content(text: &str) -> Value {
    json!({"choices": [{"delta": {"content": text}}]})
}

/// A stream that was cut says so, in place of everything that would make it look finished.
async fn assert_interrupted(app: &App, streamed: &Streamed, what: &str) {
    let error = streamed.error().unwrap_or_else(|| panic!("{what}: no error event in {}", streamed.raw));
    assert_eq!(
        (&error["code"], &error["type"]),
        (&json!("upstream_stream_interrupted"), &json!("server_error")),
        "{what}"
    );
    assert!(!streamed.done && streamed.finishes().is_empty(), "{what}: {}", streamed.raw);
    let row = app.row(&streamed.headers).await;
    assert_eq!((&row["status"], &row["estimated_usage"]), (&json!("interrupted"), &json!(true)), "{what}: {row}");
    assert!(row["completion_tokens"].as_u64() > Some(0), "{what}: what was seen is billed: {row}");
    assert!(row["cost_usd"].as_f64() > Some(0.0), "{what}: {row}");
    assert!(row["attempts"][0]["kind"].is_string(), "{what}: {row}");
}

#[tokio::test]
async fn b01_a_cut_after_content_is_an_error_event_and_never_an_end() {
    // A body that ends politely without a finish_reason is cut all the same.
    let polite = format!("data: {}\n\n", content("half an answer"));
    let cases = [
        ("closed", fault("cut-after=2")),
        ("reset", fault("reset-after=2")),
        ("closed after all", chat("half an answer").cut()),
        ("politely", raw(200, "text/event-stream", polite)),
        ("inside an event", fault("body=truncated")),
        ("less than announced", chat("half an answer").with("length=+1000").expect("a fault").cut()),
        ("a boom", events(&[content("half an answer"), json!({"error": {"message": "boom"}})])),
    ];
    for (what, act) in cases {
        let (one, two, app) = pair().await;
        one.always(act);
        for round in 1..=5 {
            let streamed = app.stream(&usage_too("hi")).await;
            assert!(!streamed.text().is_empty(), "{what}: {}", streamed.raw);
            assert_interrupted(&app, &streamed, what).await;
            assert_eq!(one.count(), round, "{what}");
        }
        assert_eq!(two.count(), 0, "{what}: content was out, nobody else may start over");
        assert_eq!(target(&app, 0).await["cause"], "5 failures in a row", "{what}: the breaker counts each");
    }
}

#[tokio::test]
async fn b02_before_the_first_content_a_failure_leaves_no_trace_in_the_stream() {
    let cases: [Act; 9] = [
        status(500),
        status(429),
        reset(),
        fault("cut-after=0"),
        fault("reset-after=0"),
        chat("").cut(),
        raw(200, "text/html", "<html>"),
        events(&[json!({"error": {"message": "overloaded", "code": 503}})]),
        raw(200, "text/event-stream", "data: [DONE]\n\n"),
    ];
    for act in cases {
        let (one, two, app) = pair().await;
        one.always(act);
        two.always(chat("second speaks"));
        let streamed = app.stream(&ask("hi")).await;
        let seen = (streamed.status, streamed.text(), streamed.done);
        assert_eq!(seen, (200, "second speaks".to_owned(), true), "{}", streamed.raw);
        assert_eq!((streamed.header("x-stepwell-provider"), streamed.header("x-stepwell-attempts")), ("two", "2"));
        let ids: std::collections::HashSet<_> = streamed.chunks.iter().map(|chunk| chunk["id"].to_string()).collect();
        assert_eq!(ids.len(), 1, "one whole answer with one id: {}", streamed.raw);
        assert!(streamed.error().is_none() && streamed.finishes() == ["stop"], "{}", streamed.raw);
    }
}

#[tokio::test]
async fn b03_a_stall_in_the_middle_ends_at_the_idle_limit_and_leaves_nothing_behind() {
    let (one, _two, app) = pair_with("timeouts: { between_tokens: 200ms }").await;
    one.always(fault("stall-after=2"));
    let began = Instant::now();
    let streamed = app.stream(&ask("hi")).await;
    assert!((Duration::from_millis(190)..Duration::from_secs(2)).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert_interrupted(&app, &streamed, "a stall").await;
    assert_eq!(streamed.error().expect("an error event")["stepwell"]["kind"], "stalled");
    one.closed(1).await;
    within(one.until_open(0)).await;
    assert_eq!(target(&app, 0).await["in_flight"], 0);
}

#[tokio::test]
async fn b03_comments_do_not_keep_a_dead_stream_alive_for_ever() {
    let (one, _two, app) = pair_with("timeouts: { between_tokens: 100ms }").await;
    let mut body = vec![format!("data: {}\n\n", content("and then"))];
    body.extend((0..200).map(|_| ": ping\n\n".to_owned()));
    one.always(stepwell::scripted::act::pieces(body).paced(Duration::from_millis(20)));
    let began = Instant::now();
    let streamed = app.stream(&ask("hi")).await;
    assert_eq!(streamed.error().expect("an error event")["stepwell"]["kind"], "stalled");
    assert!(began.elapsed() < Duration::from_secs(2), "four idle limits: {:?}", began.elapsed());
}

#[tokio::test]
async fn b04_a_finish_without_done_is_an_end() {
    let finished = [content("all"), json!({"choices": [{"delta": {}, "finish_reason": "stop"}]})];
    for act in [events(&finished).cut(), fault("no-done"), fault("no-done close")] {
        let (one, two, app) = pair().await;
        one.always(act);
        let began = Instant::now();
        let streamed = app.stream(&ask("hi")).await;
        assert!(streamed.done && streamed.error().is_none(), "{}", streamed.raw);
        assert_eq!(streamed.finishes(), ["stop"]);
        assert!(began.elapsed() < Duration::from_secs(1), "at once: {:?}", began.elapsed());
        assert_eq!((two.count(), state(&app, 0).await.as_str()), (0, "closed"));
        assert_eq!(app.row(&streamed.headers).await["status"], "completed");
    }
}

#[tokio::test]
async fn b05_done_on_a_connection_that_stays_open_is_an_end_and_releases_it() {
    let (one, _two, app) = pair().await;
    let body = format!(
        "data: {}\n\ndata: [DONE]\n\n",
        json!({"choices": [{"delta": {"content": "all"}, "finish_reason": "stop"}]})
    );
    for (index, act) in [fault("hold"), raw(200, "text/event-stream", body).unfinished()].into_iter().enumerate() {
        one.then(act);
        let began = Instant::now();
        let streamed = app.stream(&ask("hi")).await;
        assert!(streamed.done && streamed.error().is_none(), "{}", streamed.raw);
        assert!(began.elapsed() < Duration::from_secs(1), "[DONE] is enough: {:?}", began.elapsed());
        one.closed(index + 1).await;
    }
    within(one.until_open(0)).await;
}

#[tokio::test]
async fn b05_a_finish_is_not_followed_by_a_long_wait_for_done() {
    let (one, _two, app) = pair().await;
    let finished = [content("all"), json!({"choices": [{"delta": {}, "finish_reason": "stop"}]})];
    one.always(events(&finished).stall());
    let began = Instant::now();
    let streamed = app.stream(&ask("hi")).await;
    assert!(streamed.done && streamed.error().is_none(), "{}", streamed.raw);
    assert!(began.elapsed() < Duration::from_secs(4), "usage may follow, but not for long: {:?}", began.elapsed());
}

#[tokio::test]
async fn b09_a_malformed_event_among_good_ones_is_left_out_and_counted() {
    // A name of its own: all tests share one set of metrics.
    let (one, two) = (upstream().await, upstream().await);
    let app = app(&TWO.replace("one:", "b09:"), &[&one, &two]).await;
    one.always(fault("body=malformed"));
    let streamed = app.stream(&ask("hi")).await;
    assert_eq!((streamed.text().as_str(), streamed.done), ("hello from upstream", true), "{}", streamed.raw);
    assert!(!streamed.raw.contains("broken"), "never forwarded raw");
    assert_eq!(two.count(), 0);
    assert_eq!(metric(&app, "stepwell_unreadable_events_total{provider=\"b09\"}").await, 1.0);
}

#[tokio::test]
async fn b10_an_error_event_before_the_first_token_is_its_status() {
    for (error, kind, cools) in [
        (json!({"message": "slow down", "code": 429}), "rate_limited", true),
        (json!({"message": "slow down", "type": "rate_limit_error"}), "rate_limited", true),
        (json!({"message": "no room", "code": 503}), "overloaded", false),
        (json!({"message": "oops", "code": 500}), "server_error", false),
        (json!({"message": "oops"}), "server_error", false),
    ] {
        let (one, two, app) = pair().await;
        let role = json!({"choices": [{"delta": {"role": "assistant", "content": ""}}]});
        one.then(events(&[json!({"error": error})]));
        let streamed = app.stream(&ask("hi")).await;
        assert_eq!((streamed.text().as_str(), streamed.done, two.count()), ("hello from upstream", true, 1), "{error}");
        let row = app.row(&streamed.headers).await;
        assert_eq!(row["attempts"][0]["kind"], kind, "{error}: {row}");
        assert_eq!(state(&app, 0).await == "cooling", cools, "{error}");
        if !cools {
            one.then(events(&[role, json!({"error": error})]));
            assert_eq!(app.stream(&ask("hi")).await.header("x-stepwell-provider"), "two", "{error}");
        }
    }
}

#[tokio::test]
async fn b10_an_error_event_after_content_is_passed_on_as_the_end() {
    let (one, two, app) = pair().await;
    let late = content("after the error");
    one.always(events(&[content("half"), json!({"error": {"message": "overloaded", "code": 503}}), late]));
    let streamed = app.stream(&ask("hi")).await;
    assert_eq!((streamed.text().as_str(), two.count()), ("half", 0));
    assert_interrupted(&app, &streamed, "an error event").await;
    assert_eq!(streamed.error().expect("an error event")["stepwell"]["kind"], "overloaded");
    assert!(streamed.chunks.last().is_some_and(|last| last["error"].is_object()), "nothing follows: {}", streamed.raw);
}
