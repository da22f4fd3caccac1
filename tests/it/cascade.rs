//! When a provider fails, another one answers at once; the breaker, the cool-down and the ledger agree with it.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::app::ask;
use crate::support::upstream::{chat, hang, raw, reset, status};
use crate::support::{App, app, upstream};

const TWO: &str = "
providers:
  one: { format: openai, base_url: '{0}', priority: 1, models: [ { id: m1, price: { input: 1, output: 2 }, context: 1000 } ] }
  two: { format: openai, base_url: '{1}', priority: 2, models: [ { id: m2, price: { input: 3, output: 4 }, context: 9000 } ] }
routing: { strategy: priority }
cache: { enabled: false }
";

async fn state(app: &App, index: usize) -> String {
    app.get("/gateway/status").await["targets"][index]["state"].as_str().expect("a state").to_owned()
}

#[tokio::test]
async fn whatever_goes_wrong_at_the_first_the_second_answers_at_once() {
    for act in [
        status(429),
        status(500),
        status(502),
        status(503),
        status(529),
        status(401),
        status(403),
        status(404),
        status(408),
        reset(),
        raw(200, "text/html", "<html>"),
        raw(200, "application/json", "{\"choices\":[]}"),
    ] {
        let (one, two) = (upstream().await, upstream().await);
        let app = app(TWO, &[&one, &two]).await;
        one.always(act);
        two.always(chat("second speaks"));
        let began = Instant::now();
        let (status, headers, body) = app.chat(&ask("hi")).await;
        assert!(began.elapsed() < Duration::from_secs(1), "nobody waits where another can answer");
        assert_eq!(status, 200, "{body}");
        assert_eq!(body["choices"][0]["message"]["content"], "second speaks");
        assert_eq!(body["model"], "m2");
        assert_eq!(
            (&headers["x-stepwell-provider"], &headers["x-stepwell-attempts"]),
            (&"two".parse().expect("value"), &"2".parse().expect("value"))
        );
        assert_eq!(one.count(), 1);
        let row = app.row(&headers).await;
        assert_eq!((row["provider"].as_str(), row["failovers"].as_u64()), (Some("two"), Some(1)), "{row}");
        assert_eq!(row["attempts"].as_array().expect("attempts").len(), 2);
        assert!(row["attempts"][0]["kind"].is_string() && row["attempts"][1]["kind"].is_null(), "{row}");
        assert_eq!(row["cost_usd"], json!(0.000038), "the one that answered is paid, with its price: {row}");
    }
}

#[tokio::test]
async fn a_provider_that_accepts_and_says_nothing_is_left_at_the_deadline() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(&format!("{TWO}timeouts: {{ first_token: 300ms }}\n"), &[&one, &two]).await;
    one.always(hang());
    two.always(chat("second"));
    let began = Instant::now();
    assert_eq!(app.say("hi").await, "second");
    assert!(began.elapsed() < Duration::from_secs(3));
    one.closed(1).await;
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_left_at_once() {
    let two = upstream().await;
    let app = app(&TWO.replace("{0}", "http://127.0.0.1:9/v1").replace("{1}", "{0}"), &[&two]).await;
    assert_eq!(app.say("hi").await, "hello from upstream");
}

#[tokio::test]
async fn the_callers_own_mistakes_are_passed_on_and_not_retried() {
    for (code, expected) in [(400, 400), (422, 422)] {
        let (one, two) = (upstream().await, upstream().await);
        let app = app(TWO, &[&one, &two]).await;
        one.always(raw(code, "application/json", json!({"error": {"message": "`top_p` must be below 1", "type": "invalid_request_error", "param": "top_p", "code": "bad_top_p"}}).to_string()));
        for _ in 0..7 {
            let (status, headers, body) = app.chat(&ask("hi")).await;
            assert_eq!(status, expected, "{body}");
            assert_eq!(body["error"]["message"], "`top_p` must be below 1");
            assert_eq!(
                (body["error"]["param"].as_str(), body["error"]["code"].as_str()),
                (Some("top_p"), Some("bad_top_p"))
            );
            assert_eq!(headers["x-should-retry"], "false");
        }
        assert_eq!((one.count(), two.count()), (7, 0));
        assert_eq!(state(&app, 0).await, "closed", "the caller's mistakes never open a breaker");
    }
}

#[tokio::test]
async fn a_prompt_too_long_goes_to_a_larger_window_if_there_is_one() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(TWO, &[&one, &two]).await;
    let too_long = raw(
        400,
        "application/json",
        json!({"error": {"message": "too long", "code": "context_length_exceeded"}}).to_string(),
    );
    one.always(too_long.clone());
    two.then(chat("it fits here"));
    assert_eq!(app.say("hi").await, "it fits here");
    two.always(too_long);
    let (status, _, body) = app.chat(&ask("hi")).await;
    assert_eq!((status, body["error"]["code"].as_str()), (400, Some("context_length_exceeded")), "{body}");
}

#[tokio::test]
async fn five_failures_open_the_breaker_and_one_probe_closes_it() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(&format!("{TWO}breaker: {{ cooldown: 300ms }}\n"), &[&one, &two]).await;
    one.always(status(500));
    for _ in 0..10 {
        assert_eq!(app.say("hi").await, "hello from upstream");
    }
    assert_eq!(one.count(), 5, "an open breaker sends nothing");
    let status_page = app.get("/gateway/status").await;
    assert_eq!(status_page["targets"][0]["state"], "open");
    assert_eq!(status_page["targets"][0]["cause"], "5 failures in a row");
    assert!(status_page["targets"][0]["readmitted_at"].is_string());
    one.always(chat("back again"));
    let recovered = async {
        while app.say("hi").await != "back again" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), recovered).await.expect("traffic comes back");
    assert_eq!(one.count(), 6, "one probe, and it was the answer");
    assert_eq!(state(&app, 0).await, "closed");
}

#[tokio::test]
async fn retry_after_is_kept_and_the_provider_gets_nothing_until_then() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(TWO, &[&one, &two]).await;
    one.then(status(429).header("retry-after-ms", "2000"));
    let refused = Instant::now();
    app.say("hi").await;
    while refused.elapsed() < Duration::from_millis(300) {
        app.say("hi").await;
    }
    assert_eq!(one.count(), 1);
    assert_eq!(state(&app, 0).await, "cooling");
    let back = async {
        while one.count() == 1 {
            app.say("hi").await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), back).await.expect("it is used again");
    assert!(refused.elapsed() >= Duration::from_millis(1990));
}

#[tokio::test]
async fn with_nobody_else_left_the_same_target_is_tried_once_more() {
    let one = upstream().await;
    let app = app("providers: { one: { format: openai, base_url: '{0}', models: [ { id: m1 } ] } }", &[&one]).await;
    one.then(status(500));
    assert_eq!(app.say("hi").await, "hello from upstream");
    assert_eq!(one.count(), 2);
}

#[tokio::test]
async fn when_all_are_out_the_caller_is_told_at_once_and_when_to_come_back() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(TWO, &[&one, &two]).await;
    one.always(status(429).header("retry-after", "30"));
    two.always(status(429).header("retry-after", "60"));
    let (status, headers, body) = app.chat(&ask("hi")).await;
    assert_eq!((status, body["error"]["code"].as_str()), (429, Some("rate_limit_exceeded")), "{body}");
    assert_eq!(body["error"]["stepwell"]["attempts"].as_array().expect("attempts").len(), 2);
    assert!(headers.contains_key("retry-after"));
    let began = Instant::now();
    let (status, headers, body) = app.chat(&ask("hi")).await;
    assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
    assert_eq!((status, body["error"]["code"].as_str()), (503, Some("no_provider_available")), "{body}");
    let wait: u64 = headers["retry-after"].to_str().expect("text").parse().expect("seconds");
    assert!((29..=30).contains(&wait), "the earliest re-admission: {wait}");
    assert_eq!((one.count(), two.count()), (1, 1));
}

#[tokio::test]
async fn an_upstream_credential_failure_is_never_the_callers_401() {
    let one = upstream().await;
    let app = app(
        "providers: { one: { format: openai, base_url: '{0}', api_key: sk-canary-1234, models: [ { id: m1 } ] } }",
        &[&one],
    )
    .await;
    one.always(raw(
        401,
        "application/json",
        json!({"error": {"message": "Incorrect API key provided: sk-canary-1234"}}).to_string(),
    ));
    let (status, _, body) = app.chat(&ask("hi")).await;
    assert_eq!((status, body["error"]["code"].as_str()), (502, Some("upstream_credential_rejected")), "{body}");
    assert!(!body.to_string().contains("canary"), "{body}");
    assert_eq!(one.count(), 1, "a wrong key is not tried again");
}

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
async fn a_second_try_at_the_same_target_is_an_attempt_but_no_failover() {
    let one = upstream().await;
    let app = app("providers: { one: { format: openai, base_url: '{0}', models: [ { id: m1 } ] } }", &[&one]).await;
    one.then(status(500));
    let (_, headers, _) = app.chat(&ask("hi")).await;
    let row = app.row(&headers).await;
    assert_eq!((row["attempts"].as_array().map(Vec::len), row["failovers"].as_u64()), (Some(2), Some(0)), "{row}");
}

#[tokio::test]
async fn an_error_whose_body_never_ends_is_not_waited_for() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(TWO, &[&one, &two]).await;
    one.always(raw(503, "application/json", "{\"error\":").unfinished());
    let began = Instant::now();
    assert_eq!(app.say("hi").await, "hello from upstream");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(two.count(), 1);
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
async fn an_absurd_retry_after_is_not_passed_on() {
    let one = upstream().await;
    let app = app("providers: { one: { format: openai, base_url: '{0}', models: [ { id: m1 } ] } }", &[&one]).await;
    for hint in ["315360000", "999999999999999d", "Fri, 31 Dec 9999 23:59:59 GMT"] {
        one.then(status(429).header("retry-after", hint));
        let (status, headers, body) = app.chat(&ask("hi")).await;
        let wait: u64 = headers["retry-after"].to_str().expect("text").parse().expect("seconds");
        assert!(matches!(status, 429 | 503) && wait <= 300, "{hint}: {wait} {body}");
    }
}

#[tokio::test]
async fn a_wrong_key_is_not_tried_with_the_providers_other_models() {
    let (one, two) = (upstream().await, upstream().await);
    let yaml = TWO.replace("models: [ { id: m1,", "api_key: wrong, models: [ { id: m8 }, { id: m9 }, { id: m1,");
    let app = app(&yaml, &[&one, &two]).await;
    one.always(status(401));
    assert_eq!(app.say("hi").await, "hello from upstream");
    assert_eq!((one.count(), two.count()), (1, 1));
    for index in 0..3 {
        assert_eq!(state(&app, index).await, "cooling", "the credential is cooled, not one model");
    }
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
async fn a_key_that_a_provider_repeats_in_an_error_reaches_nobody() {
    let one = upstream().await;
    let app = app(
        "providers: { one: { format: openai, base_url: '{0}', api_key: sk-canary-1234, models: [ { id: m1 } ] } }",
        &[&one],
    )
    .await;
    let echo = json!({"error": {"message": "bad header: Bearer sk-canary-1234", "param": "sk-canary-1234", "code": "sk-canary-1234"}});
    one.always(raw(400, "application/json", echo.to_string()));
    let (status, headers, body) = app.chat(&ask("hi")).await;
    assert_eq!(status, 400);
    let row = app.row(&headers).await;
    assert!(!body.to_string().contains("canary") && !row.to_string().contains("canary"), "{body} {row}");
}

#[tokio::test]
async fn a_dead_provider_does_not_use_up_the_attempts() {
    let two = upstream().await;
    let dead = TWO.replace("{0}", "http://127.0.0.1:9/v1").replace("{1}", "{0}");
    let yaml = dead.replace("models: [ { id: m1,", "models: [ { id: m7 }, { id: m8 }, { id: m9 }, { id: m1,");
    let app = app(&yaml, &[&two]).await;
    assert_eq!(app.say("hi").await, "hello from upstream");
}
