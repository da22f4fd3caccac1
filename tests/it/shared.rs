//! What several replicas count together, on a real Redis: limits, budgets, idempotency keys and answers hold over all of
//! them, whatever becomes of Redis.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::app::ask;
use crate::support::process::{Home, Process, client, until};
use crate::support::servers::Redis;
use crate::support::upstream::{chat, hang, status};
use crate::support::{Upstream, upstream};

/// The bound of the hot path is one of its tests' business; the others are right however slow the machine is.
const PATIENT: &str = "timeout: 8s";

struct Replicas {
    homes: Vec<Home>,
    processes: Vec<Process>,
    redis: Redis,
    one: Upstream,
}

/// Two real processes on one Redis and one upstream. A dime a token of an answer; the upstream says it were three.
async fn two(shared: &str, rules: &str) -> Option<Replicas> {
    let redis = Redis::start()?;
    let one = upstream().await;
    one.always(chat("three slow words"));
    let yaml = format!(
        "providers:\n  one: {{ format: openai, base_url: '{}', models: [ {{ id: m1, price: {{ input: 0, output: 100000 }} }} ] }}\n\
         breaker: {{ consecutive_failures: 100, min_requests: 100 }}\n\
         auth: {{ required: never, secret: a-secret-of-all-replicas-0123456789 }}\n\
         shared: {{ url: '{}', {shared} }}\n{rules}",
        one.url,
        redis.url()
    );
    let (mut homes, mut processes) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let home = Home::new(&yaml);
        processes.push(home.start().await);
        homes.push(home);
    }
    let replicas = Replicas { homes, processes, redis, one };
    replicas.meet().await;
    Some(replicas)
}

impl Replicas {
    /// Until both know of each other.
    async fn meet(&self) {
        for process in &self.processes {
            until("the replicas find each other", async || {
                let shared = &process.get("/health").await["shared"];
                shared["status"] == "ok" && shared["replicas"] == 2
            })
            .await;
        }
    }

    async fn are(&self, status: &str) {
        for process in &self.processes {
            until(status, async || process.get("/health").await["shared"]["status"] == status).await;
        }
    }
}

/// Status, headers and body of a chat of a caller.
async fn send(
    process: &Process,
    credential: &str,
    headers: &[(&str, &str)],
    body: &Value,
) -> (u16, reqwest::header::HeaderMap, Value) {
    let mut post = client().post(format!("{}/v1/chat/completions", process.url)).bearer_auth(credential).json(body);
    for (name, value) in headers {
        post = post.header(*name, *value);
    }
    let response = post.send().await.expect("an answer");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    (status, headers, response.json().await.unwrap_or(Value::Null))
}

/// A request that costs three dimes and cannot cost more.
fn three_dimes() -> Value {
    let mut body = ask("hi");
    body["max_tokens"] = json!(3);
    body
}

const NO_CACHE: &str = "cache: { enabled: false }\n";

#[tokio::test]
async fn c09_a_limit_is_one_over_two_replicas() {
    let rules = format!("{NO_CACHE}tiers: {{ default: {{ requests_per_minute: 10 }} }}\n");
    let Some(replicas) = two(PATIENT, &rules).await else { return };
    let began = Instant::now();
    let body = ask("hi");
    let all = join_all((0..40).map(|number| send(&replicas.processes[number % 2], "a", &[], &body))).await;
    let served = all.iter().filter(|(status, ..)| *status == 200).count();
    // One comes back every six seconds.
    let came_back = began.elapsed().as_secs() as usize / 6 + 1;
    assert!((10..=10 + came_back).contains(&served), "{served}");
    assert_eq!(replicas.one.count(), served);
    for (status, headers, refused) in all.iter().filter(|(status, ..)| *status != 200) {
        assert_eq!((*status, &refused["error"]["stepwell"]["limit"]), (429, &json!("requests_per_minute")));
        let wait: u64 = headers["retry-after"].to_str().expect("text").parse().expect("seconds");
        assert!((1..=6).contains(&wait), "{wait}");
    }
    assert_eq!(send(&replicas.processes[0], "b", &[], &body).await.0, 200, "each caller has its own");
}

#[tokio::test]
async fn places_are_counted_over_two_replicas_and_come_back_from_one_that_is_killed() {
    let rules = format!("{NO_CACHE}tiers: {{ default: {{ concurrency: 1 }} }}\n");
    let Some(mut replicas) = two(PATIENT, &rules).await else { return };
    replicas.one.always(hang());
    let url = format!("{}/v1/chat/completions", replicas.processes[0].url);
    let waiting = tokio::spawn(client().post(url).bearer_auth("a").json(&ask("hi")).send());
    replicas.one.called(1).await;
    let (status, _, refused) = send(&replicas.processes[1], "a", &[], &ask("hi")).await;
    assert_eq!((status, &refused["error"]["stepwell"]["limit"]), (429, &json!("concurrency")));
    replicas.processes.remove(0).kill();
    let _ = waiting.await;
    replicas.one.always(chat("free"));
    // Five seconds after it was last seen, a replica's requests are nobody's.
    let left = &replicas.processes[0];
    until("the place is free", async || send(left, "a", &[], &ask("hi")).await.0 == 200).await;
}

#[tokio::test]
async fn of_two_hundred_at_once_on_two_replicas_only_those_get_in_that_can_be_paid() {
    let Some(replicas) = two(PATIENT, &format!("{NO_CACHE}budgets: {{ total: {{ month: 3 }} }}\n")).await else {
        return;
    };
    replicas.one.always(chat("three slow words").after(Duration::from_millis(100)));
    let body = three_dimes();
    let all = join_all((0..200).map(|number| send(&replicas.processes[number % 2], "a", &[], &body))).await;
    let served = all.iter().filter(|(status, ..)| *status == 200).count();
    let wrong = all.iter().find(|(status, ..)| ![200, 429].contains(status));
    assert!(wrong.is_none(), "{wrong:?}");
    assert_eq!((served, replicas.one.count()), (10, 10));
    for process in &replicas.processes {
        until("both know what was spent", async || process.get("/v1/budgets").await["data"][0]["spent_usd"] == 3.0)
            .await;
        let (status, _, refused) = send(process, "a", &[], &body).await;
        assert_eq!((status, &refused["error"]["code"]), (429, &json!("insufficient_quota")));
    }
    // What is in Redis is forgotten. Whoever asks before both have told theirs is refused for that, and never let in.
    replicas.redis.ask(&["FLUSHALL"]);
    for process in &replicas.processes {
        until("all is told again", async || {
            let (status, _, refused) = send(process, "a", &[], &body).await;
            assert!([429, 503].contains(&status), "{refused}");
            status == 429
        })
        .await;
    }
    assert_eq!(replicas.one.count(), 10);
}

#[tokio::test]
async fn what_a_killed_replica_held_counts_and_is_not_counted_twice_when_it_is_back() {
    let Some(mut replicas) = two(PATIENT, &format!("{NO_CACHE}budgets: {{ total: {{ month: 0.6 }} }}\n")).await else {
        return;
    };
    replicas.one.then(hang());
    let url = format!("{}/v1/chat/completions", replicas.processes[0].url);
    let waiting = tokio::spawn(client().post(url).json(&three_dimes()).send());
    replicas.one.called(1).await;
    let killed = replicas.processes.remove(0);
    killed.kill();
    let _ = waiting.await;
    let left = &replicas.processes[0];
    assert_eq!(send(left, "a", &[], &three_dimes()).await.0, 200, "half of it is left");
    assert_eq!(send(left, "a", &[], &three_dimes()).await.0, 429, "the other half may have been paid");
    let back = replicas.homes[0].start().await;
    until("nothing is counted twice", async || {
        let budget = &back.get("/v1/budgets").await["data"][0];
        budget["spent_usd"] == 0.6 && budget["held_usd"] == 0.0
    })
    .await;
    assert_eq!(send(&back, "a", &[], &three_dimes()).await.0, 429);
}

#[tokio::test]
async fn c13_the_same_key_on_two_replicas_is_one_call_and_one_answer() {
    let Some(replicas) = two(PATIENT, NO_CACHE).await else { return };
    replicas.one.always(chat("three slow words").after(Duration::from_millis(150)));
    let key = [("idempotency-key", "k")];
    let all = join_all((0..8).map(|number| {
        let (process, key) = (&replicas.processes[number % 2], &key);
        async move { send(process, "a", key, &ask("hi")).await }
    }))
    .await;
    assert!(all.iter().all(|(status, ..)| *status == 200), "{all:?}");
    assert!(all.iter().all(|(.., body)| *body == all[0].2), "the same answer");
    assert_eq!(replicas.one.count(), 1);
    for process in &replicas.processes {
        let (status, headers, body) = send(process, "a", &key, &ask("hi")).await;
        assert_eq!((status, &body, headers.contains_key("idempotent-replayed")), (200, &all[0].2, true));
        assert_eq!(send(process, "a", &key, &ask("another")).await.0, 422);
    }
    assert_eq!(replicas.one.count(), 1);
    assert_eq!(send(&replicas.processes[1], "b", &key, &ask("hi")).await.0, 200, "another caller's key is another key");
    assert_eq!(replicas.one.count(), 2);
    // What failed may be asked again at once, of anybody.
    for process in [&replicas.processes[0], &replicas.processes[1], &replicas.processes[0]] {
        replicas.one.then(status(400));
        assert_eq!(send(process, "a", &[("idempotency-key", "l")], &ask("hi")).await.0, 400);
    }
    assert_eq!(send(&replicas.processes[0], "a", &[("idempotency-key", "l")], &ask("hi")).await.0, 200);
}

#[tokio::test]
async fn c13_a_key_whose_replica_was_killed_is_not_done_again() {
    let Some(mut replicas) = two(PATIENT, NO_CACHE).await else { return };
    replicas.one.then(hang());
    let url = format!("{}/v1/chat/completions", replicas.processes[0].url);
    let post = client().post(url).bearer_auth("a").header("idempotency-key", "k").json(&ask("hi"));
    let waiting = tokio::spawn(post.send());
    replicas.one.called(1).await;
    replicas.processes.remove(0).kill();
    let _ = waiting.await;
    let (status, _, refused) = send(&replicas.processes[0], "a", &[("idempotency-key", "k")], &ask("hi")).await;
    assert_eq!(
        (status, &refused["error"]["code"]),
        (409, &json!("idempotency_outcome_unknown")),
        "it waits, then knows"
    );
    assert_eq!(replicas.one.count(), 1);
}

#[tokio::test]
async fn an_answer_of_one_replica_is_given_again_by_the_other_and_to_nobody_else() {
    let Some(replicas) = two(PATIENT, "").await else { return };
    let mut body = ask("hi");
    body["temperature"] = json!(0);
    let (_, headers, first) = send(&replicas.processes[0], "a", &[], &body).await;
    assert_eq!(headers["x-stepwell-cache"], "miss");
    until("it is kept", async || !replicas.redis.keys("*answer*").is_empty()).await;
    let (_, headers, again) = send(&replicas.processes[1], "a", &[], &body).await;
    assert_eq!((headers["x-stepwell-cache"].as_bytes(), &again["choices"]), (&b"hit"[..], &first["choices"]));
    assert_eq!(replicas.one.count(), 1);
    let asked = replicas.one.count();
    let (_, headers, _) = send(&replicas.processes[1], "b", &[], &body).await;
    assert_eq!(
        (headers["x-stepwell-cache"].as_bytes(), replicas.one.count()),
        (&b"miss"[..], asked + 1),
        "another caller"
    );
    // Nothing in Redis tells what was said, or who asked.
    for key in replicas.redis.keys("*answer*") {
        let value: Vec<u8> = redis::from_redis_value(replicas.redis.ask(&["GET", &key])).expect("bytes");
        assert!(!value.windows(5).any(|window| window == b"three" || window == b"m1\",\""), "{key}");
    }
}

#[tokio::test]
async fn d05_a_frozen_redis_costs_one_wait_and_a_killed_one_is_found_again() {
    let rules = format!(
        "{NO_CACHE}tiers: {{ default: {{ requests_per_minute: 1000 }} }}\nbudgets: {{ total: {{ month: 1000 }} }}\n"
    );
    let Some(mut replicas) = two("", &rules).await else { return };
    let process = &replicas.processes[0];
    until("it is served", async || send(process, "a", &[], &three_dimes()).await.0 == 200).await;
    replicas.redis.freeze();
    let began = Instant::now();
    let mut statuses = Vec::new();
    for _ in 0..20 {
        let (status, headers, body) = send(process, "a", &[], &three_dimes()).await;
        if status == 503 {
            assert_eq!(body["error"]["code"], "shared_store_unavailable");
            assert!(headers.contains_key("retry-after"));
        }
        statuses.push(status);
    }
    // Twenty waits of 50 ms would be a second, and five seconds each a minute and a half.
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(statuses.iter().all(|status| *status == 503), "budgets are closed: {statuses:?}");
    let (status, _, refused) = send(process, "a", &[("idempotency-key", "k")], &ask("hi")).await;
    assert_eq!((status, &refused["error"]["code"]), (503, &json!("idempotency_unavailable")));
    let health = process.get("/health").await;
    assert_eq!((&health["status"], &health["shared"]["status"]), (&json!("degraded"), &json!("gone")));
    assert!(process.metrics().await.contains("stepwell_shared_up 0"));
    replicas.redis.thaw();
    replicas.are("ok").await;
    until("it is served again", async || send(&replicas.processes[0], "a", &[], &three_dimes()).await.0 == 200).await;
    replicas.redis.kill();
    until("it is missed", async || replicas.processes[0].get("/health").await["shared"]["status"] == "gone").await;
    replicas.redis.start_again();
    replicas.are("ok").await;
    let process = &replicas.processes[0];
    until("requests are served", async || send(process, "a", &[], &three_dimes()).await.0 == 200).await;
    // 50 ms are little on a busy machine: how often it was gone for a moment nobody knows. But each change is one line.
    let log = replicas.homes[0].errors();
    assert!(log.matches("share is gone").count() <= log.matches("share is there").count() + 1, "{log}");
}

#[tokio::test]
async fn without_redis_limits_hold_by_parts_and_budgets_go_on_alone_where_that_is_wanted() {
    let rules = format!(
        "{NO_CACHE}tiers: {{ default: {{ requests_per_minute: 10 }} }}\nbudgets: {{ total: {{ month: 3 }} }}\n"
    );
    let shared = format!("{PATIENT}, budgets_when_gone: alone");
    let Some(mut replicas) = two(&shared, &rules).await else { return };
    replicas.redis.kill();
    replicas.are("gone").await;
    let began = Instant::now();
    let body = three_dimes();
    let all = join_all((0..40).map(|number| send(&replicas.processes[number % 2], "a", &[], &body))).await;
    let served = all.iter().filter(|(status, ..)| *status == 200).count();
    let came_back = began.elapsed().as_secs() as usize / 6 + 2;
    assert!((10..=10 + came_back).contains(&served), "five each: {served}");
    // What was spent alone is known to all when it is back.
    let spent = 0.3 * served as f64;
    replicas.redis.start_again();
    for process in &replicas.processes {
        until("both know", async || {
            let known = process.get("/v1/budgets").await["data"][0]["spent_usd"].as_f64();
            known.is_some_and(|known| (known - spent).abs() < 1e-9)
        })
        .await;
    }
}

#[tokio::test]
async fn a_wrong_password_is_told_and_never_shown() {
    let one = upstream().await;
    let Some(redis) = Redis::start_with(&["--requirepass", "right-horse"]) else { return };
    let url = format!("redis://:wrong-battery@{}", redis.server.address);
    let home = Home::new(&format!(
        "providers: {{ one: {{ format: openai, base_url: '{}', models: [ {{ id: m1 }} ] }} }}\n\
         auth: {{ secret: a-secret-of-all-replicas-0123456789 }}\nshared: {{ url: '{url}' }}\n",
        one.url
    ));
    let process = home.start().await;
    until("it is told", async || {
        process.get("/health").await["shared"]["reason"]
            .as_str()
            .is_some_and(|why| why.contains("WRONGPASS") || why.contains("uthentication"))
    })
    .await;
    assert_eq!(send(&process, "a", &[], &ask("hi")).await.0, 200, "it serves without");
    assert!(!home.errors().contains("wrong-battery") && !home.output().contains("wrong-battery"));
}
