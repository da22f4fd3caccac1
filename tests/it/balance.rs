//! Live balance: load, a provider's own limits, hedges and health checks decide who goes first.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use crate::support::app::ask;
use crate::support::upstream::{chat, hang, status};
use crate::support::{App, app, upstream};

const TWO: &str = "
providers:
  one: { format: openai, base_url: '{0}', priority: 1, models: [ { id: m1, price: { input: 1, output: 2 } } ] }
  two: { format: openai, base_url: '{1}', priority: 2, models: [ { id: m2, price: { input: 1, output: 2 } } ] }
routing: { strategy: priority }
cache: { enabled: false }
";

/// The same with equal priorities.
fn equal() -> String {
    TWO.replace("priority: 1", "priority: 2")
}

async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !done().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap_or_else(|_| panic!("{what}"));
}

/// A request that is under way until it is dropped.
async fn streams(app: &App, count: usize) {
    for _ in 0..count {
        assert!(app.stream(&ask("hi")).await.done);
    }
}

#[tokio::test]
async fn equals_share_the_load_and_an_idle_best_is_taken() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(&equal(), &[&one, &two]).await;
    let act = chat("shared").after(Duration::from_millis(50));
    one.always(act.clone());
    two.always(act);
    for _ in 0..6 {
        app.say("hi").await;
    }
    assert_eq!((one.count(), two.count()), (6, 0), "one after the other, the order holds");
    for _ in 0..5 {
        join_all((0..8).map(|_| app.say("hi"))).await;
    }
    let (at_one, at_two) = (one.count() - 6, two.count());
    assert!(at_one >= 10 && at_two >= 10, "{at_one} and {at_two} of 40");
    let (_, headers, _) = app.chat(&ask("hi")).await;
    let row = app.row(&headers).await;
    assert!(row["decision"]["candidates"][0]["in_flight"].is_u64(), "the load is part of the explanation: {row}");
}

#[tokio::test]
async fn a_provider_that_says_it_would_refuse_is_asked_last() {
    for (name, left, reset) in [("requests", "0", "30s"), ("tokens", "3", "1m0s")] {
        let (one, two) = (upstream().await, upstream().await);
        let app = app(TWO, &[&one, &two]).await;
        let remaining = format!("x-ratelimit-remaining-{name}");
        one.always(chat("last one").header(&remaining, left).header(&format!("x-ratelimit-reset-{name}"), reset));
        assert_eq!(app.say("hi").await, "last one");
        assert_eq!(app.say("hi").await, "hello from upstream", "{name}: before the 429 comes");
        let route = app.post("/v1/route", &ask("hi")).await.json::<serde_json::Value>().await.expect("json");
        assert_eq!(route["candidates"][1]["postponed"], "rate_limit_reached", "{route}");
        assert_eq!(one.count(), 1);
        // With nobody else it is asked all the same: it may be wrong.
        two.always(status(500));
        assert_eq!(app.say("hi").await, "last one");
    }
}

#[tokio::test]
async fn headroom_counts_down_between_two_answers_and_comes_back() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(TWO, &[&one, &two]).await;
    let limited = |left: &str, reset: &str| {
        chat("limited").header("x-ratelimit-remaining-requests", left).header("x-ratelimit-reset-requests", reset)
    };
    one.always(limited("2", "10m"));
    app.say("hi").await;
    // Two more may go there before anything is heard, and nothing is heard of them while the others are asked.
    one.always(hang());
    let waiting = join_all((0..2).map(|_| app.say("hi")));
    let others = async {
        one.called(3).await;
        join_all((0..4).map(|_| app.say("hi"))).await
    };
    tokio::select! {
        answers = waiting => panic!("answered by another: {answers:?}"),
        answers = others => assert_eq!(answers, ["hello from upstream"; 4]),
    }
    assert_eq!(one.count(), 3);
}

#[tokio::test]
async fn headroom_comes_back_when_it_was_said_to() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(TWO, &[&one, &two]).await;
    one.always(
        chat("limited").header("x-ratelimit-remaining-requests", "0").header("x-ratelimit-reset-requests", "2s"),
    );
    let began = Instant::now();
    app.say("hi").await;
    until("its limit is refilled", async || app.say("hi").await == "limited").await;
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn refusals_for_load_teach_how_many_at_once() {
    let (one, two) = (upstream().await, upstream().await);
    let yaml = format!("{TWO}breaker: {{ consecutive_failures: 100, min_requests: 10000 }}\n");
    let app = app(&yaml, &[&one, &two]).await;
    one.always(status(503).after(Duration::from_millis(200)));
    two.always(chat("elsewhere"));
    join_all((0..20).map(|_| app.say("hi"))).await;
    assert_eq!(one.most_at_once(), 20);
    one.always(chat("fewer").after(Duration::from_millis(200)));
    let answers = join_all((0..40).map(|_| app.say("hi"))).await;
    let fewer = answers.iter().filter(|answer| *answer == "fewer").count();
    assert!((4..=14).contains(&fewer), "{fewer} at once after 20 were refused");
    assert_eq!(fewer + answers.iter().filter(|answer| *answer == "elsewhere").count(), 40, "nobody suffers");
    // A long answer is no refusal: the limit grows again where it is felt.
    for _ in 0..4 {
        join_all((0..40).map(|_| app.say("hi"))).await;
    }
    let answers = join_all((0..40).map(|_| app.say("hi"))).await;
    assert!(answers.iter().filter(|answer| *answer == "fewer").count() > fewer, "it grows");
}

#[tokio::test]
async fn a_late_stream_is_hedged_and_the_loser_is_dropped() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(&format!("{TWO}hedge: {{ enabled: true, after: p95, budget: 20% }}\n"), &[&one, &two]).await;
    one.always(chat("from the first").after(Duration::from_millis(20)));
    two.always(chat("from the second"));
    streams(&app, 25).await;
    assert!(two.count() <= 5, "hedges are for the slowest few: {}", two.count());
    one.then(hang());
    let began = Instant::now();
    let streamed = app.stream(&ask("hi")).await;
    assert_eq!((streamed.text().as_str(), streamed.done), ("from the second", true));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(streamed.header("x-stepwell-attempts"), "2");
    one.closed(1).await;
    assert!(began.elapsed() < Duration::from_secs(5), "the loser's connection is closed at once");
    let row = app.row(&streamed.headers).await;
    assert_eq!((row["provider"].as_str(), row["failovers"].as_u64()), (Some("two"), Some(0)), "{row}");
    let kinds: Vec<_> = row["attempts"].as_array().expect("attempts").iter().map(|attempt| &attempt["kind"]).collect();
    assert!(kinds.contains(&&json!("hedge_lost")) && kinds.contains(&&json!(null)), "both are accounted: {row}");
    let state = &app.get("/gateway/status").await["targets"][0]["state"];
    assert_eq!(*state, "closed", "being outrun is no failure");
}

#[tokio::test]
async fn hedges_are_a_small_share_and_off_by_default() {
    for (hedge, least, most) in [("", 0, 0), ("hedge: { enabled: true, after: 30ms, budget: 5% }\n", 3, 5)] {
        let (one, two) = (upstream().await, upstream().await);
        let app = app(&format!("{TWO}{hedge}"), &[&one, &two]).await;
        // All are late: a hedge would help each of them.
        one.always(chat("late").after(Duration::from_millis(100)));
        for _ in 0..5 {
            join_all((0..20).map(|_| app.say("hi"))).await;
        }
        assert!((least..=most).contains(&two.count()), "{} hedges for 100 requests", two.count());
    }
}

#[tokio::test]
async fn when_the_late_one_fails_its_hedge_is_the_answer() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(&format!("{TWO}hedge: {{ enabled: true, after: 30ms, budget: 20% }}\n"), &[&one, &two]).await;
    for _ in 0..5 {
        app.say("hi").await;
    }
    one.always(status(500).after(Duration::from_millis(100)));
    two.always(chat("the hedge").after(Duration::from_millis(200)));
    let (status, headers, body) = app.chat(&ask("hi")).await;
    assert_eq!((status, body["choices"][0]["message"]["content"].as_str()), (200, Some("the hedge")), "{body}");
    let row = app.row(&headers).await;
    assert_eq!(row["attempts"].as_array().map(Vec::len), Some(2), "{row}");
    assert_eq!((one.count(), two.count()), (6, 1), "no third attempt");
}

#[tokio::test]
async fn an_idle_provider_that_fails_its_check_goes_last_until_it_is_well() {
    let (one, two) = (upstream().await, upstream().await);
    let yaml = format!("{TWO}health_checks: {{ enabled: true, interval: 1s, timeout: 500ms }}\n");
    let app = app(&yaml, &[&one, &two]).await;
    one.always(status(503));
    let postponed = async || {
        let route = app.post("/v1/route", &ask("hi")).await.json::<serde_json::Value>().await.expect("json");
        route["candidates"][1]["postponed"] == "health_check_failed" && route["candidates"][1]["provider"] == "one"
    };
    until("the check fails", postponed).await;
    assert_eq!(app.say("hi").await, "hello from upstream");
    assert!(one.calls().iter().all(|call| call.head.starts_with("get /v1/models")), "nothing else was sent there");
    assert_eq!(app.get("/gateway/status").await["targets"][0]["state"], "closed", "a check opens no breaker");
    one.always(chat("well again"));
    until("the check succeeds", async || !postponed().await).await;
    assert_eq!(app.say("hi").await, "well again");
}
