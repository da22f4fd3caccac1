//! What a provider says with its status: too much, broken, not allowed, wrong.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{ONE, TWO, metric, readmitted_in_ms, state, target};
use crate::support::app::ask;
use crate::support::upstream::{Act, chat, fault, raw, status};
use crate::support::{app, upstream};

fn error(status: u16, error: Value) -> Act {
    raw(status, "application/json", json!({"error": error}).to_string())
}

#[tokio::test]
async fn a01_a_429_moves_on_at_once_and_cools_for_the_hinted_time() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(TWO, &[&one, &two]).await;
    // Connections are warm, so that only the detour is measured.
    app.say("warm").await;
    one.then(status(429).header("retry-after", "30"));
    let (_, headers, body) = app.chat(&ask("hi")).await;
    assert_eq!((body["model"].as_str(), headers["x-stepwell-provider"].to_str().ok()), (Some("m2"), Some("two")));
    let (refused, answered) = (one.calls()[1].arrived, two.calls()[0].arrived);
    assert!(answered - refused < Duration::from_millis(50), "{:?}", answered - refused);
    assert_eq!((state(&app, 0).await.as_str(), one.count()), ("cooling", 2));
    let left = readmitted_in_ms(&app, 0).await;
    assert!((29_000..=30_000).contains(&left), "{left}");
    for _ in 0..20 {
        app.say("hi").await;
    }
    assert_eq!(one.count(), 2, "nothing is sent until then");
}

#[tokio::test]
async fn a01_a_cooled_provider_is_used_again_when_the_time_is_over() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(TWO, &[&one, &two]).await;
    one.then(status(429).header("retry-after-ms", "700"));
    while one.count() < 2 {
        app.say("hi").await;
    }
    let calls = one.calls();
    let pause = calls[1].arrived - calls[0].arrived;
    assert!((Duration::from_millis(690)..Duration::from_secs(5)).contains(&pause), "{pause:?}");
}

#[tokio::test]
async fn a02_a_wait_is_understood_in_every_spelling_capped_and_never_believed_if_absurd() {
    let date = |seconds: i64| {
        let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
        jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).expect("a date")
    };
    // Without a hint the first pause is 5 s, with up to a fifth more.
    let unhinted = 4_000..=6_000;
    let cases = [
        ("retry-after", "7".to_owned(), 6_000..=7_000),
        ("retry-after", "7.5".to_owned(), 6_500..=7_500),
        ("retry-after", date(30), 28_000..=30_000),
        ("retry-after-ms", "9000".to_owned(), 8_000..=9_000),
        ("x-ratelimit-reset-requests", "1m30s".to_owned(), 89_000..=90_000),
        ("retry-after", "soon".to_owned(), unhinted.clone()),
        ("retry-after", "-5".to_owned(), unhinted.clone()),
        ("retry-after", "NaN".to_owned(), unhinted.clone()),
        ("retry-after", "1e400".to_owned(), unhinted),
        ("retry-after", "315360000".to_owned(), 299_000..=300_000),
        ("retry-after", "999999999999999d".to_owned(), 4_000..=300_000),
        ("retry-after", "Sat, 31 Dec 2050 23:59:59 GMT".to_owned(), 299_000..=300_000),
        ("retry-after", "Fri, 31 Dec 9999 23:59:59 GMT".to_owned(), 4_000..=300_000),
    ];
    for (name, value, wanted) in cases {
        let one = upstream().await;
        let app = app(ONE, &[&one]).await;
        one.then(status(429).header(name, &value));
        let (status, headers, body) = app.chat(&ask("hi")).await;
        let left = readmitted_in_ms(&app, 0).await;
        assert!(wanted.contains(&left), "{name}: {value}: {left}");
        let told: u64 = headers["retry-after"].to_str().expect("text").parse().expect("seconds");
        assert!(status == 429 && told <= 300, "{name}: {value}: {told} {body}");
    }
}

#[tokio::test]
async fn a03_a_cool_down_never_ends_earlier_and_a_longer_hint_extends_it() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(TWO, &[&one, &two]).await;
    // All four are under way before the first is refused.
    for (hint, delay) in [("retry-after=30", 100), ("retry-after=2", 250), ("", 400), ("retry-after=60", 550)] {
        one.then(fault(&format!("status=429 {hint} delay={delay}ms")));
    }
    let watch = async {
        let mut ends = Vec::new();
        one.called(4).await;
        for delay in [175, 325, 475, 625] {
            tokio::time::sleep_until((one.calls()[3].arrived + Duration::from_millis(delay)).into()).await;
            ends.push(readmitted_in_ms(&app, 0).await + delay);
        }
        ends
    };
    let (_, _, _, _, ends) = tokio::join!(app.say("a"), app.say("b"), app.say("c"), app.say("d"), watch);
    for end in &ends[..3] {
        assert!((29_900..=30_300).contains(end), "shorter or absent hints change nothing: {ends:?}");
    }
    assert!((60_000..=60_800).contains(&ends[3]), "{ends:?}");
}

#[tokio::test]
async fn a04_an_exhausted_quota_cools_the_credential_for_minutes() {
    for body in [
        json!({"message": "You exceeded your current quota", "type": "insufficient_quota", "code": "insufficient_quota"}),
        json!({"message": "billing hard limit reached", "code": "billing_hard_limit_reached"}),
    ] {
        let (one, two) = (upstream().await, upstream().await);
        let app = app(&TWO.replace("models: [ { id: m1,", "models: [ { id: m9 }, { id: m1,"), &[&one, &two]).await;
        one.always(error(429, body));
        assert_eq!(app.say("hi").await, "hello from upstream");
        assert_eq!((one.count(), two.count()), (1, 1), "the same account is not asked for another model");
        for index in 0..2 {
            assert_eq!(state(&app, index).await, "cooling");
            assert!(readmitted_in_ms(&app, index).await > 120_000, "minutes, not seconds");
        }
    }
}

#[tokio::test]
async fn a05_with_nobody_else_left_a_blip_is_tried_once_more() {
    for code in [500, 502] {
        let one = upstream().await;
        let app = app(ONE, &[&one]).await;
        one.then(status(code));
        let (status, headers, body) = app.chat(&ask("hi")).await;
        assert_eq!((status, &body["choices"][0]["message"]["content"]), (200, &json!("hello from upstream")));
        assert_eq!(one.count(), 2);
        let pause = one.calls()[1].arrived - one.calls()[0].arrived;
        assert!(pause <= Duration::from_millis(750), "{pause:?}");
        let row = app.row(&headers).await;
        let attempts = (row["attempts"].as_array().map(Vec::len), row["failovers"].as_u64());
        assert_eq!(attempts, (Some(2), Some(0)), "a second try at the same target is no failover: {row}");
        assert_eq!(state(&app, 0).await, "closed");
    }
}

#[tokio::test]
async fn a05_with_another_left_it_answers_at_once() {
    for code in [500, 502] {
        let (one, two) = (upstream().await, upstream().await);
        let app = app(TWO, &[&one, &two]).await;
        one.then(status(code));
        assert_eq!(app.say("hi").await, "hello from upstream");
        assert_eq!((one.count(), two.count()), (1, 1));
        let detour = two.calls()[0].arrived - one.calls()[0].arrived;
        assert!(detour < Duration::from_millis(100), "{detour:?}");
    }
}

#[tokio::test]
async fn a06_a_dead_provider_sees_two_attempts_a_request_and_one_probe_an_open_period() {
    let one = upstream().await;
    let alone = app(ONE, &[&one]).await;
    one.always(status(503));
    assert_eq!(alone.chat(&ask("hi")).await.0, 503);
    assert!(one.count() <= 2, "{}", one.count());

    let (one, two) = (upstream().await, upstream().await);
    let app = app(&format!("{TWO}breaker: {{ cooldown: 200ms, max_cooldown: 200ms }}\n"), &[&one, &two]).await;
    one.always(status(503));
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1500) {
        assert_eq!(app.say("hi").await, "hello from upstream");
    }
    let calls = one.calls();
    let pauses: Vec<Duration> = calls.windows(2).skip(4).map(|pair| pair[1].arrived - pair[0].arrived).collect();
    assert!(pauses.iter().all(|pause| *pause >= Duration::from_millis(199)), "five failures, then probes: {pauses:?}");
    assert!((2..=8).contains(&pauses.len()), "it is probed: {pauses:?}");
    let target = target(&app, 0).await;
    assert_eq!(target["opened"].as_u64(), Some(pauses.len() as u64 + 1), "{target}");
}

#[tokio::test]
async fn a06_five_failures_open_the_breaker_and_one_probe_closes_it() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(&format!("{TWO}breaker: {{ cooldown: 300ms }}\n"), &[&one, &two]).await;
    one.always(status(500));
    for _ in 0..10 {
        assert_eq!(app.say("hi").await, "hello from upstream");
    }
    assert_eq!(one.count(), 5, "an open breaker sends nothing");
    let status_page = target(&app, 0).await;
    assert_eq!((&status_page["state"], &status_page["cause"]), (&json!("open"), &json!("5 failures in a row")));
    assert!(status_page["readmitted_at"].is_string());
    one.always(chat("back again"));
    let recovered = async { while app.say("hi").await != "back again" {} };
    tokio::time::timeout(Duration::from_secs(5), recovered).await.expect("traffic comes back");
    assert_eq!(one.count(), 6, "one probe, and it was the answer");
    assert_eq!(state(&app, 0).await, "closed");
}

#[tokio::test]
async fn a07_a_refused_credential_is_cooled_and_shown_to_operators_and_never_to_callers() {
    for code in [401, 403] {
        let (one, two) = (upstream().await, upstream().await);
        // A name of its own: all tests share one set of metrics.
        let app = app(&TWO.replace("one:", &format!("a07-{code}:")), &[&one, &two]).await;
        one.always(error(code, json!({"message": "Incorrect API key provided: sk-canary-1234"})));
        for _ in 0..3 {
            assert_eq!(app.say("hi").await, "hello from upstream");
        }
        assert_eq!((one.count(), two.count()), (1, 3), "never again with the same credential");
        assert_eq!(target(&app, 0).await["cause"], "credential");
        let counter = format!("stepwell_attempt_failures_total{{provider=\"a07-{code}\",kind=\"credential\"}}");
        assert_eq!(metric(&app, &counter).await, 1.0, "the metric to alert on");
    }
}

#[tokio::test]
async fn a07_an_upstream_credential_failure_is_never_the_callers_401() {
    let one = upstream().await;
    let app = app(ONE, &[&one]).await;
    one.always(error(401, json!({"message": "Incorrect API key provided: sk-canary-1234"})));
    let (status, headers, body) = app.chat(&ask("hi")).await;
    assert_eq!((status, body["error"]["code"].as_str()), (502, Some("upstream_credential_rejected")), "{body}");
    let row = app.row(&headers).await;
    assert!(!body.to_string().contains("canary") && !row.to_string().contains("canary"), "{body} {row}");
    assert_eq!(one.count(), 1, "a wrong key is not tried again");
}

#[tokio::test]
async fn a07_a_wrong_key_is_not_tried_with_the_providers_other_models() {
    let (one, two) = (upstream().await, upstream().await);
    let yaml = TWO.replace("models: [ { id: m1,", "models: [ { id: m8 }, { id: m9 }, { id: m1,");
    let app = app(&yaml, &[&one, &two]).await;
    one.always(status(401));
    assert_eq!(app.say("hi").await, "hello from upstream");
    assert_eq!((one.count(), two.count()), (1, 1));
    for index in 0..3 {
        assert_eq!(state(&app, index).await, "cooling", "the credential is cooled, not one model");
    }
}

#[tokio::test]
async fn a07_a_key_that_a_provider_repeats_in_an_error_reaches_nobody() {
    let one = upstream().await;
    let app = app(ONE, &[&one]).await;
    one.always(error(
        400,
        json!({"message": "bad header: Bearer sk-canary-1234", "param": "sk-canary-1234", "code": "sk-canary-1234"}),
    ));
    let (status, headers, body) = app.chat(&ask("hi")).await;
    assert_eq!(status, 400);
    let row = app.row(&headers).await;
    assert!(!body.to_string().contains("canary") && !row.to_string().contains("canary"), "{body} {row}");
}

#[tokio::test]
async fn a08_the_callers_own_mistakes_are_passed_on_and_not_retried() {
    for code in [400, 422] {
        let (one, two) = (upstream().await, upstream().await);
        let app = app(TWO, &[&one, &two]).await;
        one.always(error(
            code,
            json!({"message": "`top_p` must be below 1", "type": "invalid_request_error", "param": "top_p", "code": "bad_top_p"}),
        ));
        for _ in 0..7 {
            let (status, headers, body) = app.chat(&ask("hi")).await;
            assert_eq!((status, &body["error"]["message"]), (code, &json!("`top_p` must be below 1")), "{body}");
            assert_eq!((&body["error"]["param"], &body["error"]["code"]), (&json!("top_p"), &json!("bad_top_p")));
            assert_eq!(headers["x-should-retry"], "false");
        }
        assert_eq!((one.count(), two.count()), (7, 0));
        assert_eq!(state(&app, 0).await, "closed", "the caller's mistakes never open a breaker");
    }
}

#[tokio::test]
async fn a09_a_prompt_too_long_goes_to_a_larger_window_or_is_refused() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(TWO, &[&one, &two]).await;
    let too_long = error(400, json!({"message": "too long", "code": "context_length_exceeded"}));
    one.always(too_long.clone());
    two.then(chat("it fits here"));
    assert_eq!(app.say("hi").await, "it fits here");
    assert_eq!((one.count(), two.count()), (1, 1), "the same model is not asked twice");
    two.always(too_long);
    let (status, _, body) = app.chat(&ask("hi")).await;
    assert_eq!((status, body["error"]["code"].as_str()), (400, Some("context_length_exceeded")), "{body}");
    assert_eq!((one.count(), two.count()), (2, 2));
    // Nobody has a larger window than the one that refused.
    let mut largest = ask("hi");
    largest["models"] = json!(["two/m2", "one/m1"]);
    largest["model"] = json!("two/m2");
    assert_eq!(app.chat(&largest).await.0, 400);
    assert_eq!((one.count(), two.count()), (2, 3), "a smaller window cannot help");
}

#[tokio::test]
async fn a10_a_refused_content_is_passed_through_and_is_nobodys_failure() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(TWO, &[&one, &two]).await;
    let refusal = json!({"message": "rejected as a result of our safety system", "code": "content_policy_violation"});
    one.always(error(400, refusal));
    for _ in 0..6 {
        let (status, _, body) = app.chat(&ask("hi")).await;
        assert_eq!((status, &body["error"]["message"]), (400, &json!("rejected as a result of our safety system")));
        assert_eq!(body["error"]["code"], "content_filter");
    }
    let filtered = json!({"id": "x", "model": "m1", "choices": [{"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": "content_filter"}]});
    one.always(raw(200, "application/json", filtered.to_string()));
    for _ in 0..6 {
        let (status, _, body) = app.chat(&ask("hi")).await;
        assert_eq!((status, &body["choices"][0]["finish_reason"]), (200, &json!("content_filter")), "{body}");
    }
    assert_eq!((one.count(), two.count()), (12, 0));
    assert_eq!(state(&app, 0).await, "closed");
}
