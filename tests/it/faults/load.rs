//! More work than there is room for, and upstreams that cannot take it.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::{join, join_all};
use futures_util::stream::FuturesUnordered;
use serde_json::{Value, json};

use crate::support::app::ask;
use crate::support::upstream::{chat, events, hang, raw, status};
use crate::support::{App, app, upstream};

const TWO: &str = "
providers:
  one: { format: openai, base_url: '{0}', priority: 1, models: [ { id: m1, price: { input: 1, output: 2 } } ] }
  two: { format: openai, base_url: '{1}', priority: 2, models: [ { id: m2, price: { input: 1, output: 2 } } ] }
cache: { enabled: false }
";

const ONE: &str = "
providers:
  one: { format: openai, base_url: '{0}', models: [ { id: m1, price: { input: 1, output: 2 } } ] }
cache: { enabled: false }
";

const CACHED: &str = "
providers:
  one: { format: openai, base_url: '{0}', models: [ { id: m1, price: { input: 1, output: 2 } } ] }
";

/// One request of somebody with a key of their own: its status, headers, and how long it took.
async fn asked(app: &App, key: &str, prompt: &str) -> (u16, reqwest::header::HeaderMap, Duration) {
    let began = Instant::now();
    let request = app.client.post(format!("{}/v1/chat/completions", app.url)).bearer_auth(key).json(&ask(prompt));
    let response = request.send().await.expect("an answer");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    response.bytes().await.expect("a body");
    (status, headers, began.elapsed())
}

/// `rate` requests a second for a while, whether the ones before have been answered or not.
async fn pressure(app: &App, rate: u32, span: Duration) -> Vec<(u16, reqwest::header::HeaderMap, Duration)> {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
    let (mut running, mut ended) = (FuturesUnordered::new(), Vec::new());
    let end = tokio::time::Instant::now() + span;
    while tokio::time::Instant::now() < end {
        tokio::select! {
            _ = ticks.tick() => running.push(asked(app, "flood", "hi")),
            Some(answer) = running.next() => ended.push(answer),
        }
    }
    ended.extend(running.collect::<Vec<_>>().await);
    ended
}

async fn cache_of(app: &App, body: &Value) -> String {
    let (status, headers, body) = app.chat(body).await;
    assert_eq!(status, 200, "{body}");
    headers["x-stepwell-cache"].to_str().expect("text").to_owned()
}

#[tokio::test]
async fn a20_of_a_thousand_requests_at_the_end_of_the_pause_one_is_the_probe() {
    let (one, two) = (upstream().await, upstream().await);
    let yaml =
        format!("{TWO}routing: {{ strategy: priority }}\nbreaker: {{ cooldown: 300ms, consecutive_failures: 1 }}\n");
    let app = app(&yaml, &[&one, &two]).await;
    one.always(status(500));
    app.say("hi").await;
    let opened = app.get("/gateway/status").await;
    assert_eq!(opened["targets"][0]["state"], "open", "{opened}");
    let before = one.count();
    // The probe takes long: everybody else comes while it is out.
    one.always(chat("recovered").after(Duration::from_secs(2)));
    let half_open = async {
        while app.get("/gateway/status").await["targets"][0]["state"] != "half_open" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), half_open).await.expect("the pause ends");
    let answers = join_all((0..1000).map(|_| asked(&app, "k", "hi"))).await;
    assert!(answers.iter().all(|(status, ..)| *status == 200));
    let by_one = answers.iter().filter(|(_, headers, _)| headers["x-stepwell-provider"] == "one").count();
    assert_eq!(by_one, 1, "the probe is an answer, too");
    assert_eq!(one.count() - before, 1);
}

#[tokio::test]
async fn a20_a_probe_whose_caller_leaves_gives_its_place_back() {
    let (one, two) = (upstream().await, upstream().await);
    let breaker = "breaker: { cooldown: 100ms, consecutive_failures: 1 }";
    let app = app(&format!("{TWO}routing: {{ strategy: priority }}\n{breaker}\n"), &[&one, &two]).await;
    one.always(status(500));
    app.say("hi").await;
    one.always(hang());
    let probing = async {
        // Until one of them is the probe.
        while one.count() < 2 {
            let patience = Duration::from_millis(100);
            let _ = tokio::time::timeout(patience, asked(&app, "k", "hi")).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), probing).await.expect("a probe is sent");
    one.closed(1).await;
    one.always(chat("recovered"));
    let recovered = async { while app.say("hi").await != "recovered" {} };
    tokio::time::timeout(Duration::from_secs(5), recovered).await.expect("the next one may probe");
}

#[tokio::test]
async fn a21_when_all_fail_attempts_stay_near_requests_and_recovery_is_quick() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(TWO, &[&one, &two]).await;
    one.always(status(500));
    two.always(raw(502, "text/html", "<html>bad gateway</html>"));
    let answers = pressure(&app, 500, Duration::from_secs(3)).await;
    let attempts = one.count() + two.count();
    assert!(answers.len() > 600, "{} requests", answers.len());
    assert!(attempts as f64 <= 1.3 * answers.len() as f64, "{attempts} attempts for {} requests", answers.len());
    for (status, headers, _) in &answers {
        assert!(*status == 502 || *status == 503, "{status}");
        assert!(headers.contains_key("retry-after"), "{status} {headers:?}");
    }
    one.always(chat("healed"));
    two.always(chat("healed"));
    let healed = Instant::now();
    while asked(&app, "k", "hi").await.0 != 200 {
        assert!(healed.elapsed() < Duration::from_secs(10), "recovery takes too long");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a21_refusals_that_ask_for_no_wait_are_not_asked_for_with_every_request() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(TWO, &[&one, &two]).await;
    one.always(status(429).header("retry-after", "0"));
    two.always(status(408));
    let answers = pressure(&app, 200, Duration::from_secs(2)).await;
    let attempts = one.count() + two.count();
    assert!(attempts as f64 <= 1.3 * answers.len() as f64, "{attempts} attempts for {} requests", answers.len());
}

#[tokio::test]
async fn a21_a_callers_hurry_is_no_fault_of_the_provider() {
    let (one, two) = (upstream().await, upstream().await);
    let app =
        app(&format!("{TWO}routing: {{ strategy: priority }}\nhints: {{ when_impossible: relax }}\n"), &[&one, &two])
            .await;
    one.always(chat("in its own time").after(Duration::from_millis(300)));
    let mut hurried = ask("hi");
    hurried["context"] = json!({"max_latency": "50ms"});
    hurried["model"] = json!("one/m1");
    hurried["stream"] = json!(true);
    for _ in 0..8 {
        let response = app.post("/v1/chat/completions", &hurried).await;
        assert_eq!(response.status(), 504);
    }
    let target = &app.get("/gateway/status").await["targets"][0];
    assert_eq!(target["state"], "closed", "{target}");
    assert_eq!(app.say("hi").await, "in its own time");
}

#[tokio::test]
async fn a22_a_slow_provider_loses_its_traffic_to_its_peer() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(TWO, &[&one, &two]).await;
    let usual = chat("usual").after(Duration::from_millis(20));
    one.always(usual.clone());
    two.always(usual);
    for _ in 0..10 {
        join_all((0..4).map(|_| asked(&app, "k", "hi"))).await;
    }
    assert!(one.count() >= 10 && two.count() >= 5, "both are used: {} and {}", one.count(), two.count());
    one.always(chat("slow").after(Duration::from_millis(400)));
    join_all((0..4).map(|_| asked(&app, "k", "hi"))).await;
    let before = (one.count(), two.count());
    for _ in 0..15 {
        join_all((0..4).map(|_| asked(&app, "k", "hi"))).await;
    }
    let (slow, fast) = (one.count() - before.0, two.count() - before.1);
    assert!(slow * 5 < fast, "{slow} still went to the slow one, {fast} to its peer");
}

#[tokio::test]
async fn a22_a_peer_that_was_never_asked_is_tried_when_the_usual_one_turns_slow() {
    for strategy in ["balanced", "fastest"] {
        let (one, two) = (upstream().await, upstream().await);
        let app = app(&format!("{TWO}routing: {{ strategy: {strategy} }}\n"), &[&one, &two]).await;
        let usual = chat("usual").after(Duration::from_millis(20));
        one.always(usual.clone());
        two.always(usual);
        for _ in 0..15 {
            app.say("hi").await;
        }
        assert_eq!((one.count(), two.count()), (15, 0), "one after the other, the order holds");
        one.always(chat("slow").after(Duration::from_millis(400)));
        for _ in 0..10 {
            app.say("hi").await;
        }
        assert!(two.count() >= 8, "{strategy}: {} of ten left the slow one", two.count());
    }
}

#[tokio::test]
async fn c06_what_is_too_much_is_refused_at_once_and_the_rest_is_answered() {
    let one = upstream().await;
    let app = app(&format!("{ONE}overload: {{ max_in_flight: 8, queue: 8, queue_timeout: 10s }}\n"), &[&one]).await;
    one.always(chat("in time").after(Duration::from_secs(1)));
    let answers = join_all((0..200).map(|_| asked(&app, "k", "hi"))).await;
    let (good, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|(status, ..)| *status == 200);
    assert_eq!(good.len(), 16, "those who had a place or a place in the queue");
    for (status, headers, took) in refused {
        assert_eq!(*status, 503);
        assert_eq!(headers["retry-after"], "1");
        assert!(*took < Duration::from_secs(1), "refused after {took:?}, later than the first answer");
    }
    app.idle().await;
    let load = &app.get("/health").await["load"];
    assert_eq!(*load, json!({"in_flight": 0, "queued": 0, "waiting_for_provider": 0}));
    let metrics =
        app.client.get(format!("{}/metrics", app.url)).send().await.expect("metrics").text().await.expect("text");
    assert!(metrics.contains("stepwell_requests_shed_total{reason=\"full\"}"), "{metrics}");
    assert!(metrics.contains("stepwell_requests_in_flight"), "{metrics}");
    let rows = app.get("/v1/usage?group_by=status").await;
    assert_eq!(rows["total"]["requests"], 200, "refusals are rows, too: {rows}");
}

#[tokio::test]
async fn c06_under_three_times_the_load_nearly_all_of_the_capacity_is_used() {
    let one = upstream().await;
    let app = app(&format!("{ONE}overload: {{ max_in_flight: 8, queue: 8, queue_timeout: 300ms }}\n"), &[&one]).await;
    // Eight at once, 200 ms each: 40 a second.
    one.always(chat("in time").after(Duration::from_millis(200)));
    let answers = pressure(&app, 120, Duration::from_secs(3)).await;
    let good = answers.iter().filter(|(status, ..)| *status == 200).count();
    assert!(good >= 108, "{good} of 120 possible answers");
    assert!(answers.iter().all(|(status, ..)| [200, 503].contains(status)));
}

#[tokio::test]
async fn c06_a_queue_is_bounded_in_age_too() {
    let one = upstream().await;
    let app = app(&format!("{ONE}overload: {{ max_in_flight: 1, queue: 8, queue_timeout: 200ms }}\n"), &[&one]).await;
    one.always(hang());
    let waiting = async {
        one.called(1).await;
        asked(&app, "k", "hi").await
    };
    tokio::select! {
        _ = asked(&app, "k", "hi") => panic!("it hangs"),
        (status, headers, took) = waiting => {
            assert_eq!((status, headers["retry-after"].to_str().expect("text")), (503, "1"));
            assert!((Duration::from_millis(200)..Duration::from_secs(2)).contains(&took), "{took:?}");
        }
    }
}

#[tokio::test]
async fn c06_a_full_provider_is_waited_for_and_not_failed() {
    let one = upstream().await;
    let yaml = ONE.replace("base_url", "max_concurrency: 2, base_url");
    let app = app(&format!("{yaml}overload: {{ queue: 20, queue_timeout: 10s }}\n"), &[&one]).await;
    one.always(chat("in turn").after(Duration::from_millis(50)));
    let answers = join_all((0..20).map(|_| asked(&app, "k", "hi"))).await;
    assert!(answers.iter().all(|(status, ..)| *status == 200), "{answers:?}");
    assert_eq!(one.count(), 20);
    assert!(one.most_at_once() <= 2, "{} at once", one.most_at_once());
    // More than may wait: refused, and said so. Busy is not unwell.
    one.always(chat("in turn").after(Duration::from_millis(500)));
    let crowd = join_all((0..60).map(|_| asked(&app, "k", "hi")));
    let ready = async {
        one.called(22).await;
        app.client.get(format!("{}/health/ready", app.url)).send().await.expect("an answer").status()
    };
    let (answers, ready) = join(crowd, ready).await;
    assert_eq!(ready, 200);
    let good = answers.iter().filter(|(status, ..)| *status == 200).count();
    assert_eq!(good, 22, "two at once, twenty that wait");
    assert!(
        answers
            .iter()
            .all(|(status, headers, _)| *status == 200 || (*status == 503 && headers.contains_key("retry-after")))
    );
}

#[tokio::test]
async fn c07_a_flood_of_one_caller_costs_the_others_nothing() {
    flood(&format!("{ONE}overload: {{ max_in_flight: 16, queue: 32, queue_timeout: 2s }}\n")).await;
}

#[tokio::test]
async fn c07_a_flood_at_a_full_provider_costs_the_others_nothing() {
    let yaml = ONE.replace("base_url", "max_concurrency: 16, base_url");
    flood(&format!("{yaml}overload: {{ queue: 32, queue_timeout: 2s }}\n")).await;
}

async fn flood(yaml: &str) {
    let one = upstream().await;
    let app = app(yaml, &[&one]).await;
    one.always(chat("fair").after(Duration::from_millis(300)));
    let quiet = async || {
        let mut times = Vec::new();
        for _ in 0..7 {
            let (status, _, took) = asked(&app, "quiet", "hi").await;
            assert_eq!(status, 200);
            times.push(took);
        }
        times.sort();
        times[3]
    };
    let alone = quiet().await;
    let flood = async {
        let worker = || async {
            loop {
                if asked(&app, "flood", "hi").await.0 != 200 {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        };
        join_all((0..100).map(|_| worker())).await
    };
    let flooded = tokio::select! { _ = flood => unreachable!(), median = quiet() => median };
    // Without fairness it would stand behind 32 others: three times as long.
    assert!(flooded < alone.mul_f64(2.2), "{flooded:?} in the flood, {alone:?} alone");
}

#[tokio::test]
async fn c07_without_credentials_the_address_is_the_caller() {
    let one = upstream().await;
    let app = app(&format!("{ONE}overload: {{ max_in_flight: 16, queue: 16, queue_timeout: 5s }}\n"), &[&one]).await;
    let from = |address: [u8; 4]| {
        let builder = reqwest::Client::builder().no_proxy().local_address(std::net::IpAddr::from(address));
        builder.build().expect("a client")
    };
    let (flooder, quiet) = (from([127, 0, 0, 1]), from([127, 0, 0, 2]));
    let url = format!("{}/v1/chat/completions", app.url);
    let post = |client: &reqwest::Client| client.post(&url).json(&ask("hi")).send();
    assert_eq!(post(&quiet).await.expect("an answer").status(), 200);
    one.always(hang());
    let flood = join_all((0..60).map(|_| post(&flooder)));
    let later = async {
        // Fifteen of sixteen places: the last sixteenth is for those who have less than their share.
        one.called(16).await;
        one.always(chat("at once"));
        tokio::time::timeout(Duration::from_secs(2), post(&quiet)).await.expect("a kept place").expect("an answer")
    };
    tokio::select! {
        _ = flood => panic!("it hangs"),
        response = later => assert_eq!(response.status(), 200),
    }
}

#[tokio::test]
async fn c10_five_hundred_identical_requests_are_one_call() {
    let one = upstream().await;
    let app = app(CACHED, &[&one]).await;
    one.always(chat("one for all").after(Duration::from_millis(500)));
    let answers = join_all((0..500).map(|_| asked(&app, "k", "hi"))).await;
    assert!(answers.iter().all(|(status, ..)| *status == 200));
    assert_eq!(one.count(), 1);
}

#[tokio::test]
async fn c10_a_followers_own_patience_ends_its_own_wait_only() {
    let one = upstream().await;
    let app = app(CACHED, &[&one]).await;
    one.always(chat("late").after(Duration::from_millis(600)));
    let impatient =
        reqwest::Client::builder().no_proxy().timeout(Duration::from_millis(200)).build().expect("a client");
    let body = ask("hi");
    let hurried = async {
        one.called(1).await;
        impatient.post(format!("{}/v1/chat/completions", app.url)).json(&body).send().await
    };
    let (leader, hurried) = join(app.chat(&body), hurried).await;
    assert_eq!(leader.0, 200);
    assert!(hurried.is_err_and(|error| error.is_timeout()));
    app.idle().await;
    assert_eq!(one.count(), 1);
}

#[tokio::test]
async fn c10_when_the_leader_leaves_the_followers_get_their_answer() {
    let one = upstream().await;
    let app = app(CACHED, &[&one]).await;
    one.always(chat("for those who stay").after(Duration::from_millis(300)));
    let body = ask("hi");
    let follower = async {
        let leader = app.client.post(format!("{}/v1/chat/completions", app.url)).json(&body).send();
        tokio::pin!(leader);
        tokio::select! { _ = &mut leader => panic!("too early"), () = one.called(1) => {} }
        // The leader is polled no more and dropped while the follower waits.
        let follower = app.chat(&body);
        tokio::pin!(follower);
        tokio::select! { _ = &mut follower => panic!("too early"), () = tokio::time::sleep(Duration::from_millis(50)) => {} }
        follower.await
    };
    let (status, _, body) = follower.await;
    assert_eq!((status, body["choices"][0]["message"]["content"].as_str()), (200, Some("for those who stay")));
    assert_eq!(one.count(), 1);
}

#[tokio::test]
async fn c10_when_the_leader_fails_one_follower_takes_over() {
    let one = upstream().await;
    let app = app(&format!("{CACHED}retry: {{ same_target: 0 }}\n"), &[&one]).await;
    one.then(status(500).after(Duration::from_millis(300)));
    let body = ask("hi");
    let leader = app.chat(&body);
    let followers = async {
        one.called(1).await;
        futures_util::future::join_all((0..10).map(|_| app.chat(&body))).await
    };
    let (leader, followers) = futures_util::future::join(leader, followers).await;
    assert_eq!(leader.0, 502);
    for (status, _, body) in followers {
        assert_eq!(status, 200, "{body}");
    }
    assert_eq!(one.count(), 2);
}

#[tokio::test]
async fn c11_what_could_differ_is_never_shared() {
    let one = upstream().await;
    let app = app(CACHED, &[&one]).await;
    cache_of(&app, &ask("hi")).await;
    let change = |name: &str, value: Value| {
        let mut body = ask("hi");
        body[name] = value;
        body
    };
    for body in [
        ask("hi "),
        change("seed", json!(1)),
        change("user", json!("u1")),
        change("model", json!("m1")),
        change("temperature", json!(0.2)),
        change("x_new", json!(true)),
        change("response_format", json!({"type": "json_object"})),
        change("context", json!({"budget": "low"})),
    ] {
        assert_eq!(cache_of(&app, &body).await, "miss", "{body}");
    }
    for body in [
        change("temperature", json!(0.9)),
        change("n", json!(2)),
        change("tools", json!([{"type": "function", "function": {"name": "f"}}])),
        change("context", json!({"no_cache": true})),
    ] {
        for _ in 0..2 {
            assert_eq!(cache_of(&app, &body).await, "bypass", "{body}");
        }
    }
}

#[tokio::test]
async fn c11_errors_cuts_and_filtered_answers_are_never_stored() {
    let one = upstream().await;
    let app = app(
        &format!("{CACHED}breaker: {{ consecutive_failures: 100, min_requests: 1000 }}\nretry: {{ same_target: 0 }}\n"),
        &[&one],
    )
    .await;
    let finished = |reason: &str| {
        json!({"choices": [{"message": {"content": "x"}, "finish_reason": reason}], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}).to_string()
    };
    for act in [
        status(500),
        raw(200, "application/json", finished("content_filter")),
        raw(200, "application/json", finished("length")),
    ] {
        one.then(act);
        app.chat(&ask("hi")).await;
    }
    one.then(chat("half of").cut());
    assert!(app.stream(&ask("hi")).await.error().is_some());
    one.then(events(&[json!({"choices": [{"delta": {"content": "x"}, "finish_reason": "length"}]})]));
    app.stream(&ask("hi")).await;
    let (_, headers, body) = app.chat(&ask("hi")).await;
    assert_eq!(
        (&headers["x-stepwell-cache"], body["choices"][0]["message"]["content"].as_str()),
        (&"miss".parse().expect("value"), Some("hello from upstream"))
    );
    assert_eq!(one.count(), 6);
}

#[tokio::test]
async fn c12_two_tenants_never_get_each_others_answers() {
    let one = upstream().await;
    let app = app(CACHED, &[&one]).await;
    let cache = |headers: &reqwest::header::HeaderMap| headers["x-stepwell-cache"].to_str().expect("text").to_owned();
    for (key, expected) in [("a", "miss"), ("b", "miss"), ("a", "hit"), ("b", "hit")] {
        let (_, headers, _) = asked(&app, key, "hi").await;
        assert_eq!(cache(&headers), expected, "{key}");
    }
    // In flight, too.
    one.always(chat("apart").after(Duration::from_millis(200)));
    join(asked(&app, "a", "again"), asked(&app, "b", "again")).await;
    assert_eq!(one.count(), 4);
}

#[tokio::test]
async fn c12_who_wants_to_share_can() {
    let one = upstream().await;
    let app = app(&format!("{CACHED}cache: {{ share_between_keys: true }}\n"), &[&one]).await;
    asked(&app, "a", "hi").await;
    let (_, headers, _) = asked(&app, "b", "hi").await;
    assert_eq!(headers["x-stepwell-cache"], "hit");
}
