//! Requests that are answered later: taken in for good, done at least once, ended exactly once.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::app::ask;
use crate::support::process::{Home, until};
use crate::support::servers::stores;
use crate::support::upstream::{chat, hang, status};
use crate::support::{App, Upstream, app, upstream};

const ONE: &str = "
providers:
  one: { format: openai, base_url: '{0}', models: [ { id: m1, price: { input: 1, output: 2 } } ] }
cache: { enabled: false }
retry: { same_target: 0 }
breaker: { consecutive_failures: 100, min_requests: 10000 }
";
/// Quick to try again.
const QUICK: &str = "jobs: { backoff: { start: 10ms, max: 20ms }, max_attempts: 3 }\n";

async fn one(more: &str) -> (App, Upstream) {
    let one = upstream().await;
    (app(&format!("{ONE}{more}"), &[&one]).await, one)
}

/// Hands a request in and returns its acknowledgement.
async fn later(app: &App, body: &Value) -> Value {
    let post = app.client.post(format!("{}/v1/chat/completions", app.url)).header("prefer", "respond-async");
    let response = post.json(body).send().await.expect("an answer");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let said: Value = response.json().await.expect("json");
    assert_eq!(status, 202, "{said}");
    assert_eq!(headers["location"], said["status_url"].as_str().expect("a URL"));
    assert_eq!(headers["preference-applied"], "respond-async");
    said
}

/// The request once it has ended.
async fn ended(app: &App, said: &Value) -> Value {
    let url = format!("{}{}", app.url, said["status_url"].as_str().expect("a URL"));
    let response = app.client.get(url).header("prefer", "wait=20").send().await.expect("an answer");
    response.json().await.expect("json")
}

fn kinds(document: &Value) -> Vec<&str> {
    let events = document["events"].as_array().expect("events");
    events.iter().filter_map(|event| event["kind"].as_str()).collect()
}

fn count(document: &Value, kind: &str) -> usize {
    kinds(document).iter().filter(|other| **other == kind).count()
}

#[tokio::test]
async fn a_request_is_acknowledged_at_once_and_answered_later_with_its_history() {
    for storage in stores().await {
        let (app, one) = one(&storage).await;
        one.always(chat("later").after(Duration::from_millis(300)));
        let said = later(&app, &ask("hi")).await;
        assert_eq!((&said["status"], one.count() < 2), (&json!("queued"), true), "{said}");
        let done = ended(&app, &said).await;
        assert_eq!((&done["status"], &done["id"]), (&json!("completed"), &said["request_id"]), "{done}");
        assert_eq!(done["result"]["choices"][0]["message"]["content"], "later");
        let kinds = kinds(&done);
        assert_eq!(kinds[..2], ["queued", "started"], "{kinds:?}");
        for kind in ["classified", "planned", "attempt_started", "settled", "completed"] {
            assert_eq!(count(&done, kind), 1, "{kind}: {kinds:?}");
        }
        // It is a request like every other one: in the ledger, with its cost, under its id.
        assert_eq!((&done["provider"], &done["job"]["attempts"]), (&json!("one"), &json!(1)));
        assert!(done["cost_usd"].as_f64().is_some_and(|cost| cost > 0.0), "{done}");
        assert_eq!(app.get("/v1/usage").await["total"]["requests"], 1);
    }
}

#[tokio::test]
async fn a_request_that_is_answered_at_once_has_a_history_too() {
    let (app, _one) = one("").await;
    let (_, headers, _) = app.chat(&ask("hi")).await;
    let row = app.row(&headers).await;
    let kinds = kinds(&row);
    assert_eq!(kinds.first().zip(kinds.last()), Some((&"received", &"settled")), "{row}");
}

#[tokio::test]
async fn what_could_never_be_answered_is_refused_at_once() {
    let (app, one) = one("").await;
    for (body, status, code) in [
        (json!({"model": "nobody", "messages": [{"role": "user", "content": "hi"}]}), 404, "model_not_found"),
        (json!({"model": "auto"}), 400, "missing_required_parameter"),
        (
            json!({"model": "auto", "messages": [{"role": "user", "content": "hi"}], "stream": true}),
            400,
            "stream_not_supported",
        ),
        (
            json!({"model": "auto", "messages": [{"role": "user", "content": "hi"}], "context": {"priority": "high"}}),
            400,
            "invalid_hint",
        ),
        (
            json!({"model": "auto", "messages": [{"role": "user", "content": "hi"}], "context": {"webhook": "http://localhost/"}}),
            400,
            "invalid_webhook",
        ),
        (
            json!({"model": "auto", "messages": [{"role": "user", "content": "hi"}], "context": {"off_peak": true}}),
            400,
            "invalid_hint",
        ),
    ] {
        let post = app.client.post(format!("{}/v1/chat/completions", app.url)).header("prefer", "respond-async");
        let response = post.json(&body).send().await.expect("an answer");
        let (got, error) = (response.status().as_u16(), response.json::<Value>().await.expect("json"));
        assert_eq!((got, error["error"]["code"].as_str()), (status, Some(code)), "{error}");
    }
    assert_eq!(one.count(), 0);
}

#[tokio::test]
async fn a_failure_is_tried_again_and_the_last_one_is_a_dead_letter_that_can_be_revived() {
    for storage in stores().await {
        let (app, one) = one(&format!("{QUICK}{storage}")).await;
        one.always(status(500));
        let said = later(&app, &ask("hi")).await;
        let dead = ended(&app, &said).await;
        assert_eq!((&dead["status"], one.count()), (&json!("dead"), 3), "{dead}");
        assert_eq!((count(&dead, "retry_scheduled"), count(&dead, "dead_lettered")), (2, 1), "{dead}");
        assert_eq!(dead["http_status"], 502);
        assert!(dead["error"].as_str().is_some_and(|error| error.starts_with("upstream_error: ")), "{dead}");
        assert_eq!(dead["result"]["error"]["code"], "upstream_error", "the caller can read the last failure");

        let id = said["request_id"].as_str().expect("an id");
        let listed = app.command(&["jobs", "dead"]);
        assert!(String::from_utf8_lossy(&listed.stdout).contains(id), "{listed:?}");
        one.always(chat("healed"));
        let retried = app.command(&["jobs", "retry", id]);
        assert!(retried.status.success(), "{retried:?}");
        let healed = ended(&app, &said).await;
        assert_eq!(healed["result"]["choices"][0]["message"]["content"], "healed", "{healed}");
        assert_eq!(count(&healed, "requeued"), 1);
        let shown = app.command(&["jobs", "show", id]);
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert!(shown.contains("dead_lettered") && shown.contains("requeued"), "{shown}");
        let again = app.command(&["jobs", "retry", id]);
        assert_eq!(again.status.code(), Some(1), "what is completed is not done again: {again:?}");
    }
}

#[tokio::test]
async fn the_callers_own_mistake_is_not_tried_again_and_a_dead_letter_can_be_discarded() {
    let (app, one) = one(QUICK).await;
    one.always(status(400));
    let failed = ended(&app, &later(&app, &ask("hi")).await).await;
    assert_eq!((&failed["status"], one.count()), (&json!("failed"), 1), "{failed}");
    one.always(status(503));
    let said = later(&app, &ask("hi")).await;
    assert_eq!(ended(&app, &said).await["status"], "dead");
    let discarded = app.command(&["jobs", "discard", said["request_id"].as_str().expect("an id")]);
    assert!(discarded.status.success(), "{discarded:?}");
    let dead = app.command(&["jobs", "dead"]);
    assert!(String::from_utf8_lossy(&dead.stdout).contains("no such jobs"), "{dead:?}");
}

#[tokio::test]
async fn no_room_is_no_attempt() {
    let (app, one) = one("jobs: { max_attempts: 1 }\ntiers: { default: { requests_per_minute: 60 } }\n").await;
    let key = app.key(json!({"name": "k", "limits": {"requests_per_minute": 2}})).await;
    let hand_in = async || {
        let post = app.client.post(format!("{}/v1/chat/completions", app.url)).header("prefer", "respond-async");
        post.bearer_auth(&key).json(&ask("hi")).send().await.expect("an answer").json::<Value>().await.expect("json")
    };
    let said = [hand_in().await, hand_in().await, hand_in().await];
    one.called(2).await;
    // The third one waits for its caller's limit, and is not dead for that.
    let path = said[2]["status_url"].as_str().expect("a URL");
    let mut third = Value::Null;
    until("the third one is put off", async || {
        third = app.get_as(&key, path).await.1;
        count(&third, "deferred") > 0
    })
    .await;
    assert_eq!((&third["status"], &third["job"]["attempts"]), (&json!("queued"), &json!(0)), "{third}");
}

#[tokio::test]
async fn a_cancelled_request_is_dropped_upstream_and_ends_once() {
    for storage in stores().await {
        let (app, one) = one(&storage).await;
        one.always(hang());
        let said = later(&app, &ask("hi")).await;
        one.called(1).await;
        let path = said["status_url"].as_str().expect("a URL");
        let cancelled: Value = app.post(&format!("{path}/cancel"), &json!({})).await.json().await.expect("json");
        assert_eq!(cancelled["status"], "cancelled", "{cancelled}");
        one.closed(1).await;
        let again = app.post(&format!("{path}/cancel"), &json!({})).await;
        assert_eq!(again.status(), 200, "cancelled is cancelled");
        let shown = app.get(path).await;
        assert_eq!((count(&shown, "cancelled"), &shown["result"]), (1, &Value::Null), "{shown}");
        one.always(chat("done"));
        let done = later(&app, &ask("hi")).await;
        ended(&app, &done).await;
        let late = app.post(&format!("{}/cancel", done["status_url"].as_str().expect("a URL")), &json!({})).await;
        assert_eq!(late.status(), 409);
        assert_eq!(app.post("/v1/requests/nobody/cancel", &json!({})).await.status(), 404);
    }
}

#[tokio::test]
async fn priority_and_time_decide_who_goes_first() {
    for storage in stores().await {
        let (app, one) = one(&format!("jobs: {{ workers: 1 }}\n{storage}")).await;
        one.always(chat("ok").after(Duration::from_millis(100)));
        let first = later(&app, &ask("first")).await;
        one.called(1).await;
        let mut said = Vec::new();
        for (prompt, context) in [
            ("low", json!({"priority": -5})),
            ("usual", json!({})),
            ("high", json!({"priority": 5})),
            ("tomorrow", json!({"not_before": "24h", "priority": 100})),
        ] {
            let mut body = ask(prompt);
            body["context"] = context;
            said.push(later(&app, &body).await);
        }
        for said in [&first, &said[0], &said[1], &said[2]] {
            assert_eq!(ended(&app, said).await["status"], "completed");
        }
        let asked: Vec<String> = one
            .calls()
            .iter()
            .map(|call| call.body["messages"][0]["content"].as_str().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(asked, ["first", "high", "usual", "low"]);
        assert_eq!(app.get(said[3]["status_url"].as_str().expect("a URL")).await["status"], "queued");
    }
}

#[tokio::test]
async fn who_comes_too_late_expires() {
    let (app, one) = one("jobs: { workers: 1 }\n").await;
    one.always(chat("slow").after(Duration::from_millis(1_500)));
    let slow = later(&app, &ask("slow")).await;
    one.called(1).await;
    let mut body = ask("hurry");
    body["context"] = json!({"expires": "1s"});
    let hurry = later(&app, &body).await;
    assert_eq!(ended(&app, &slow).await["status"], "completed");
    let expired = ended(&app, &hurry).await;
    assert_eq!((&expired["status"], count(&expired, "expired"), one.count()), (&json!("expired"), 1, 1), "{expired}");
}

#[tokio::test]
async fn a_request_can_be_followed_live_and_a_follower_continues_where_it_was() {
    for storage in stores().await {
        let (app, one) = one(&storage).await;
        one.always(chat("ok").after(Duration::from_millis(200)));
        let said = later(&app, &ask("hi")).await;
        let url = format!("{}{}", app.url, said["status_url"].as_str().expect("a URL"));
        let follow = async |last: &str| {
            let get = app.client.get(&url).header("accept", "text/event-stream").header("last-event-id", last);
            get.send().await.expect("an answer").text().await.expect("text")
        };
        let all = follow("0").await;
        let names: Vec<&str> = all.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
        assert_eq!(names, ["queued", "started", "completed", "result"], "{all}");
        let first = all.lines().find_map(|line| line.strip_prefix("id: ")).expect("an id");
        let rest = follow(first).await;
        assert!(!rest.contains("event: queued") && rest.contains("event: started"), "{rest}");
    }
}

#[tokio::test]
async fn events_of_everybody_are_streamed_and_a_member_sees_its_own() {
    for storage in stores().await {
        let (app, _one) = one(&storage).await;
        let (mine, other) = (app.key(json!({"name": "mine"})).await, app.key(json!({"name": "other"})).await);
        let hand_in = async |key: &str| {
            let post = app.client.post(format!("{}/v1/chat/completions", app.url)).header("prefer", "respond-async");
            let said: Value =
                post.bearer_auth(key).json(&ask("hi")).send().await.expect("sent").json().await.expect("json");
            let get = app.client.get(format!("{}{}", app.url, said["status_url"].as_str().expect("a URL")));
            get.bearer_auth(key).header("prefer", "wait=10").send().await.expect("an answer");
            said["request_id"].as_str().expect("an id").to_owned()
        };
        let ids = [hand_in(&mine).await, hand_in(&other).await];
        let list = async |key: &str, query: &str| {
            let get = app.client.get(format!("{}/v1/events{query}", app.url)).header("accept", "application/json");
            get.bearer_auth(key).send().await.expect("an answer").json::<Value>().await.expect("json")
        };
        let subjects = |list: &Value| -> Vec<String> {
            let all = list["data"].as_array().expect("events").iter();
            all.map(|event| event["subject"].as_str().unwrap_or_default().to_owned()).collect()
        };
        let own = list(&mine, "").await;
        assert!(!subjects(&own).is_empty() && subjects(&own).iter().all(|subject| *subject == ids[0]), "{own}");
        assert!(subjects(&list(&mine, &format!("?subject={}", ids[1])).await).is_empty());
        assert_eq!(app.get_as(&mine, &format!("/v1/requests/{}", ids[1])).await.0, 404, "nor its request");
        let admin = app.key(json!({"name": "admin", "role": "operator"})).await;
        let completed = list(&admin, "?kind=completed").await;
        assert_eq!(subjects(&completed), ids, "{completed}");
        assert_eq!(list(&admin, "?kind=nonsense").await["error"]["param"], "kind");
    }
}

#[tokio::test]
async fn d06_a_killed_servers_job_is_done_again_and_ends_once() {
    for storage in stores().await {
        let one = upstream().await;
        let home = Home::new(&format!("{ONE}jobs: {{ lease: 1s }}\n{storage}").replace("{0}", &one.url));
        let process = home.start().await;
        one.always(hang());
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let post = client.post(format!("{}/v1/chat/completions", process.url)).header("prefer", "respond-async");
        let said: Value = post.json(&ask("hi")).send().await.expect("sent").json().await.expect("json");
        one.called(1).await;
        process.kill();
        one.always(chat("at last"));
        let process = home.start().await;
        let url = format!("{}{}", process.url, said["status_url"].as_str().expect("a URL"));
        let done: Value =
            client.get(url).header("prefer", "wait=20").send().await.expect("an answer").json().await.expect("json");
        assert_eq!((&done["status"], &done["job"]["attempts"]), (&json!("completed"), &json!(2)), "{done}");
        assert_eq!((count(&done, "started"), count(&done, "lease_expired"), count(&done, "completed")), (2, 1, 1));
        assert_eq!(done["result"]["choices"][0]["message"]["content"], "at last");
    }
}

#[tokio::test]
async fn d06_a_server_that_stops_gives_its_jobs_back() {
    let one = upstream().await;
    one.always(hang());
    let home = Home::new(&format!("{ONE}server: {{ shutdown_grace: 300ms }}\n").replace("{0}", &one.url));
    let process = home.start().await;
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let post = client.post(format!("{}/v1/chat/completions", process.url)).header("prefer", "respond-async");
    let said: Value = post.json(&ask("hi")).send().await.expect("sent").json().await.expect("json");
    one.called(1).await;
    assert_eq!(process.stop().await, Some(0));
    one.always(chat("at last"));
    let process = home.start().await;
    let url = format!("{}{}", process.url, said["status_url"].as_str().expect("a URL"));
    let done: Value =
        client.get(url).header("prefer", "wait=20").send().await.expect("an answer").json().await.expect("json");
    // Not a lease of 30 s later, and not as an attempt that failed.
    assert_eq!((&done["status"], &done["job"]["attempts"]), (&json!("completed"), &json!(1)), "{done}");
    assert_eq!((count(&done, "released"), count(&done, "lease_expired")), (1, 0), "{done}");
}

#[tokio::test]
async fn d07_a_job_whose_server_always_dies_ends_among_the_dead_letters() {
    let one = upstream().await;
    one.always(hang());
    let home = Home::new(&format!("{ONE}jobs: {{ lease: 1s, max_attempts: 2 }}\n").replace("{0}", &one.url));
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let process = home.start().await;
    let post = client.post(format!("{}/v1/chat/completions", process.url)).header("prefer", "respond-async");
    let said: Value = post.json(&ask("hi")).send().await.expect("sent").json().await.expect("json");
    one.called(1).await;
    process.kill();
    let process = home.start().await;
    one.called(2).await;
    process.kill();
    let process = home.start().await;
    let url = format!("{}{}", process.url, said["status_url"].as_str().expect("a URL"));
    let dead: Value =
        client.get(url).header("prefer", "wait=20").send().await.expect("an answer").json().await.expect("json");
    assert_eq!((&dead["status"], one.count()), (&json!("dead"), 2), "{dead}");
    assert!(dead["error"].as_str().is_some_and(|error| error.starts_with("worker_lost: ")), "{dead}");
    let replayed = home.command().args(["events", "replay", "--data-dir"]).arg(home.data()).output().expect("it runs");
    assert!(replayed.status.success(), "{replayed:?}");
}

#[tokio::test]
async fn the_log_told_again_gives_the_same_and_tells_how_things_stood() {
    for storage in stores().await {
        let (app, one) = one(&format!("{QUICK}{storage}")).await;
        one.then(status(500));
        let body = ask("hi");
        let said = join_all((0..5).map(|_| later(&app, &body))).await;
        for said in &said {
            assert_eq!(ended(&app, said).await["status"], "completed");
        }
        // A row is saved a moment after its job has ended.
        until("the rows are saved", async || app.get("/v1/usage").await["total"]["requests"] == 6).await;
        let replayed = app.command(&["events", "replay", "--json"]);
        assert!(replayed.status.success(), "{replayed:?}");
        let replayed: Value = serde_json::from_slice(&replayed.stdout).expect("json");
        assert_eq!(
            (&replayed["usage"]["requests"], &replayed["jobs"]["completed"]),
            (&json!(6), &json!(5)),
            "{replayed}"
        );
        let at = |moment: &str| -> Value {
            let shown = app.command(&["events", "at", moment, "--json"]);
            serde_json::from_slice(&shown.stdout).unwrap_or_else(|_| panic!("{shown:?}"))
        };
        assert_eq!((&at("1d")["jobs"]["completed"], &at("1d")["usage"]["requests"]), (&json!(0), &json!(0)));
        assert_eq!(at("0s")["jobs"]["completed"], 5);
    }
}

#[tokio::test]
async fn nothing_that_was_said_lies_readable_in_the_database() {
    let one = upstream().await;
    one.always(chat("a canary of an answer"));
    let home = Home::new(&ONE.replace("{0}", &one.url));
    let process = home.start().await;
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let post = client.post(format!("{}/v1/chat/completions", process.url)).header("prefer", "respond-async");
    let said: Value = post.json(&ask("a canary of a prompt")).send().await.expect("sent").json().await.expect("json");
    let url = format!("{}{}", process.url, said["status_url"].as_str().expect("a URL"));
    let done: Value =
        client.get(url).header("prefer", "wait=20").send().await.expect("an answer").json().await.expect("json");
    assert_eq!(done["status"], "completed");
    process.stop().await;
    for entry in std::fs::read_dir(home.data()).expect("a directory") {
        let path = entry.expect("an entry").path();
        let bytes = std::fs::read(&path).expect("a file");
        assert!(!bytes.windows(11).any(|window| window == b"a canary of"), "{}", path.display());
    }
}
