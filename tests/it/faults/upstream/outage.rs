//! When one provider or all are out, for long or now and then.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{TWO, state, target};
use crate::support::app::ask;
use crate::support::upstream::{chat, fault, raw, reset, status};
use crate::support::{app, upstream};

#[tokio::test]
async fn a18_when_all_are_out_the_caller_is_told_at_once_and_when_to_come_back() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(TWO, &[&one, &two]).await;
    one.always(status(429).header("retry-after", "30"));
    two.always(status(429).header("retry-after", "60"));
    let (status, headers, body) = app.chat(&ask("hi")).await;
    assert_eq!((status, body["error"]["code"].as_str()), (429, Some("rate_limit_exceeded")), "{body}");
    assert_eq!(body["error"]["stepwell"]["attempts"].as_array().expect("attempts").len(), 2);
    assert!(headers.contains_key("retry-after"));
    for stream in [false, true] {
        let mut asked = ask("hi");
        asked["stream"] = json!(stream);
        let began = Instant::now();
        let (status, headers, body) = app.chat(&asked).await;
        assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
        assert_eq!((status, body["error"]["code"].as_str()), (503, Some("no_provider_available")), "{body}");
        let wait: u64 = headers["retry-after"].to_str().expect("text").parse().expect("seconds");
        assert!((29..=30).contains(&wait), "the earliest re-admission: {wait}");
        let excluded = body["error"]["stepwell"]["excluded"].as_array().expect("a list");
        let named: Vec<_> = excluded.iter().filter_map(|entry| entry["provider"].as_str()).collect();
        assert_eq!(named, ["one", "two"], "{body}");
        assert!(
            excluded.iter().all(|entry| entry["reason"].as_str().is_some_and(|reason| reason.contains("rate_limited"))),
            "{body}"
        );
        assert!(!body.to_string().contains("canary"), "{body}");
        assert_eq!(app.row(&headers).await["http_status"], 503);
    }
    assert_eq!((one.count(), two.count()), (1, 1));
}

#[tokio::test]
async fn a18_open_breakers_are_as_good_a_reason_as_cool_downs() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(&format!("{TWO}breaker: {{ consecutive_failures: 1 }}\n"), &[&one, &two]).await;
    one.always(status(503));
    two.always(reset());
    assert!(app.chat(&ask("hi")).await.0 >= 502);
    let seen = (one.count(), two.count());
    let (status, headers, body) = app.chat(&ask("hi")).await;
    assert_eq!((status, body["error"]["code"].as_str()), (503, Some("no_provider_available")), "{body}");
    assert!(headers.contains_key("retry-after"));
    assert_eq!((one.count(), two.count()), seen, "nobody is asked");
}

#[tokio::test]
async fn a19_a_primary_that_is_out_for_a_while_gets_its_traffic_back_and_keeps_it() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(&format!("{TWO}breaker: {{ cooldown: 200ms, max_cooldown: 400ms }}\n"), &[&one, &two]).await;
    two.always(chat("second"));
    one.always(status(503));
    let began = Instant::now();
    let mut asked = 0;
    while began.elapsed() < Duration::from_millis(1500) {
        assert_eq!(app.say("hi").await, "second", "every request is answered");
        asked += 1;
    }
    assert_eq!(two.count(), asked);
    let probes: Vec<_> = one.calls().iter().skip(5).map(|call| call.arrived).collect();
    let pauses: Vec<_> = probes.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.iter().all(|pause| *pause >= Duration::from_millis(199)), "one probe an open period: {pauses:?}");
    one.always(chat("first"));
    let healed = Instant::now();
    while app.say("hi").await != "first" {
        assert!(healed.elapsed() < Duration::from_secs(3), "traffic returns within the longest pause");
    }
    let opened = target(&app, 0).await["opened"].clone();
    for _ in 0..50 {
        assert_eq!(app.say("hi").await, "first", "no flip-flop");
    }
    assert_eq!((state(&app, 0).await.as_str(), target(&app, 0).await["opened"].clone()), ("closed", opened));
}

/// The same with the default settings and on a clock of its own, for every jitter.
#[test]
fn a19_a_minute_of_outage_is_over_within_thirty_seconds_of_recovery() {
    use stepwell::resilience::breaker::{Breaker, Outcome, Settings, State};
    let settings = Settings::default();
    for jitter in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let start = Instant::now();
        let mut breaker = Breaker::new(start);
        let (mut back, mut probes, mut changes, mut last) = (None, 0, Vec::new(), State::Closed.as_str());
        for second in (0..300).step_by(4) {
            let now = start + Duration::from_secs(second);
            let outage = second < 60;
            if let Some(pass) = breaker.admit(&settings, now) {
                probes += u32::from(outage && last != "closed");
                back = back.or((!outage).then_some(second));
                let outcome = if outage { Outcome::Failure } else { Outcome::Success };
                breaker.record(&settings, now, pass, outcome, jitter);
            }
            let state = if breaker.state(now) == State::Closed { "closed" } else { "open" };
            if state != last {
                changes.push(second);
                last = state;
            }
        }
        assert!(back.is_some_and(|second| second <= 90), "jitter {jitter}: back after {back:?} s");
        assert!(probes <= 2, "jitter {jitter}: {probes} probes in a minute");
        assert_eq!(changes.len(), 2, "jitter {jitter}: out once and back once, at {changes:?} s");
    }
}

#[tokio::test]
async fn a23_whatever_goes_wrong_at_the_first_the_second_answers_and_is_paid() {
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
        assert_eq!((status, &body["choices"][0]["message"]["content"]), (200, &json!("second speaks")), "{body}");
        assert_eq!(body["model"], "m2");
        let told = (&headers["x-stepwell-provider"], &headers["x-stepwell-attempts"]);
        assert_eq!(told, (&"two".parse().expect("value"), &"2".parse().expect("value")));
        assert_eq!(one.count(), 1);
        let row = app.row(&headers).await;
        assert_eq!((row["provider"].as_str(), row["failovers"].as_u64()), (Some("two"), Some(1)), "{row}");
        assert_eq!(row["attempts"].as_array().expect("attempts").len(), 2);
        assert!(row["attempts"][0]["kind"].is_string() && row["attempts"][1]["kind"].is_null(), "{row}");
        assert_eq!(row["cost_usd"], json!(0.000038), "the one that answered is paid, with its price: {row}");
        let usage = (&row["prompt_tokens"], &row["completion_tokens"]);
        assert_eq!(usage, (&json!(10), &json!(2)), "tokens that never came are not billed: {row}");
    }
}

#[tokio::test]
async fn a23_a_stream_that_fails_before_its_first_token_costs_nothing_but_is_logged() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(TWO, &[&one, &two]).await;
    one.always(fault("cut-after=0"));
    two.always(chat("second speaks"));
    let streamed = app.stream(&ask("hi")).await;
    assert_eq!((streamed.text().as_str(), streamed.done), ("second speaks", true));
    assert!(streamed.chunks.iter().all(|chunk| chunk["model"] == "m2"), "{}", streamed.raw);
    let row = app.row(&streamed.headers).await;
    assert_eq!((&row["cost_usd"], &row["attempts"][0]["kind"]), (&json!(0.000038), &json!("interrupted")), "{row}");
    assert_eq!((&row["attempts"][0]["model"], &row["attempts"][1]["model"]), (&json!("m1"), &json!("m2")), "{row}");
}
