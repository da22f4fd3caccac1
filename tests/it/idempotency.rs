//! `Idempotency-Key`: done once, answered as often as it is sent (fault C13).

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::app::ask;
use crate::support::process::{Home, Process, until};
use crate::support::servers::stores;
use crate::support::upstream::{chat, hang, status};
use crate::support::{App, Upstream, app, upstream};

const ONE: &str = "
providers: { one: { format: openai, base_url: '{0}', models: [ { id: m1, price: { input: 1, output: 2 } } ] } }
cache: { enabled: false }
";

/// Status, headers and text of a POST with a key.
struct Sent {
    status: u16,
    headers: reqwest::header::HeaderMap,
    text: String,
}

impl Sent {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).expect("json")
    }

    fn is_replayed(&self) -> bool {
        self.headers.contains_key("idempotent-replayed")
    }

    fn code(&self) -> Value {
        self.json()["error"]["code"].clone()
    }
}

async fn send(url: &str, credential: &str, key: &str, body: &Value) -> Sent {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    loop {
        let post = client.post(format!("{url}/v1/chat/completions")).bearer_auth(credential);
        let response = post.header("idempotency-key", key).json(body).send().await.expect("an answer");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let sent = Sent { status, headers, text: response.text().await.expect("a body") };
        // A shared database is given 50 ms, which a busy machine may need: nothing was done, and it is sent again.
        if sent.status != 503 || !sent.text.contains("idempotency_unavailable") {
            return sent;
        }
    }
}

async fn one() -> (App, Upstream) {
    on("").await
}

/// The same on one of [`stores`].
async fn on(storage: &str) -> (App, Upstream) {
    let one = upstream().await;
    (app(&format!("{ONE}{storage}"), &[&one]).await, one)
}

fn streamed(prompt: &str) -> Value {
    let mut body = ask(prompt);
    body["stream"] = json!(true);
    body
}

#[tokio::test]
async fn c13_the_same_request_has_the_same_answer_and_one_call() {
    for storage in stores().await {
        let (app, one) = on(&storage).await;
        for body in [ask("hi"), streamed("hi")] {
            let key = body.to_string();
            let first = send(&app.url, "a", &key, &body).await;
            assert!(first.status == 200 && !first.is_replayed());
            assert!(first.headers.contains_key("server-timing"));
            let calls = one.count();
            one.then(chat("something else"));
            let again = send(&app.url, "a", &key, &body).await;
            assert!(again.status == 200 && again.is_replayed());
            assert_eq!(again.text, first.text);
            assert_eq!(again.headers["content-type"], first.headers["content-type"]);
            assert_eq!(again.headers["x-stepwell-provider"], "one");
            assert_ne!(again.headers["x-request-id"], first.headers["x-request-id"]);
            assert_eq!(one.count(), calls);
            let row = app.row(&again.headers).await;
            assert_eq!(
                (&row["cost_usd"], &row["status"]),
                (&json!(0.0), &json!("completed")),
                "a request like any other"
            );
            // The act that was not played.
            app.chat(&ask("other")).await;
        }
    }
}

#[tokio::test]
async fn c13_another_body_under_the_same_key_is_a_mistake_and_another_callers_key_is_another_key() {
    for storage in stores().await {
        let (app, one) = on(&storage).await;
        assert_eq!(send(&app.url, "a", "k", &ask("hi")).await.status, 200);
        let other = send(&app.url, "a", "k", &ask("hi there")).await;
        assert_eq!((other.status, other.code()), (422, json!("idempotency_key_reused")));
        let tenant = app.key(json!({"name": "a"})).await;
        for credential in ["b", &tenant] {
            let theirs = send(&app.url, credential, "k", &ask("hi")).await;
            assert!(theirs.status == 200 && !theirs.is_replayed(), "{credential}");
        }
        assert_eq!(one.count(), 3);
        for key in ["", &"x".repeat(256)] {
            let refused = send(&app.url, "a", key, &ask("hi")).await;
            assert_eq!((refused.status, refused.code()), (400, json!("invalid_idempotency_key")));
        }
    }
}

#[tokio::test]
async fn c13_those_who_send_it_at_once_share_one_call() {
    for storage in stores().await {
        let (app, one) = on(&storage).await;
        one.always(chat("one two three").paced(Duration::from_millis(20)).after(Duration::from_millis(50)));
        for body in [ask("hi"), streamed("hi")] {
            let before = one.count();
            let key = body.to_string();
            let all = join_all((0..20).map(|_| send(&app.url, "a", &key, &body))).await;
            assert!(all.iter().all(|sent| sent.status == 200 && sent.text == all[0].text), "{}", all[0].text);
            assert_eq!(one.count() - before, 1);
        }
    }
}

#[tokio::test]
async fn c13_a_caller_who_leaves_finds_the_answer_when_it_comes_back() {
    let (app, one) = one().await;
    one.always(chat("one two three").paced(Duration::from_millis(50)).after(Duration::from_millis(100)));
    let body = streamed("hi");
    let left = tokio::spawn({
        let (url, body) = (app.url.clone(), body.clone());
        async move { send(&url, "a", "k", &body).await.status }
    });
    one.called(1).await;
    left.abort();
    let again = send(&app.url, "a", "k", &body).await;
    assert!(again.status == 200 && again.text.contains("three") && again.text.ends_with("data: [DONE]\n\n"));
    assert_eq!(one.count(), 1);
    app.idle().await;
    assert_eq!(app.get("/v1/usage").await["total"]["requests"], 1, "whoever follows is part of the first");
}

#[tokio::test]
async fn c13_what_failed_is_tried_again() {
    let (app, one) = one().await;
    for broken in [status(500), chat("one two three").cut()] {
        one.then(broken.clone());
        one.then(broken);
        let body = streamed("hi");
        let key = one.count().to_string();
        let first = send(&app.url, "a", &key, &body).await;
        assert!(first.status != 200 || !first.text.contains("[DONE]"), "{}", first.text);
        until("the provider is asked again", async || {
            let again = send(&app.url, "a", &key, &body).await;
            again.status == 200 && again.text.contains("[DONE]") && !again.is_replayed()
        })
        .await;
    }
    let refused = send(&app.url, "a", "bad", &json!({"model": "nobody", "messages": []})).await;
    assert!(refused.status >= 400);
    assert_eq!(send(&app.url, "a", "bad", &ask("hi")).await.status, 200, "nothing was done under that key");
}

#[tokio::test]
async fn a_key_made_twice_is_made_once() {
    let (app, _one) = one().await;
    let make = async || {
        let post = app.client.post(format!("{}/v1/keys", app.url)).header("idempotency-key", "k");
        post.json(&json!({"name": "a"})).send().await.expect("an answer").json::<Value>().await.expect("json")
    };
    let (first, again) = (make().await, make().await);
    assert!(first["key"].is_string() && first == again, "{again}");
}

async fn started(home: &Home) -> Process {
    home.start().await
}

#[tokio::test]
async fn c13_answers_survive_a_kill_and_what_was_cut_by_it_is_not_done_twice() {
    for storage in stores().await {
        let one = upstream().await;
        let home = Home::new(&format!("{ONE}{storage}").replace("{0}", &one.url));
        let process = started(&home).await;
        let first = send(&process.url, "a", "whole", &streamed("hi")).await;
        assert!(first.text.ends_with("data: [DONE]\n\n"));
        one.then(hang());
        let cut = tokio::spawn({
            let url = process.url.clone();
            async move {
                reqwest::Client::new()
                    .post(format!("{url}/v1/chat/completions"))
                    .bearer_auth("a")
                    .header("idempotency-key", "cut")
                    .json(&ask("hi"))
                    .send()
                    .await
                    .is_err()
            }
        });
        one.called(2).await;
        process.kill();
        assert!(cut.await.expect("a task"));
        let process = started(&home).await;
        let again = send(&process.url, "a", "whole", &streamed("hi")).await;
        assert!(again.is_replayed() && again.text == first.text);
        let unknown = send(&process.url, "a", "cut", &ask("hi")).await;
        assert_eq!((unknown.status, unknown.code()), (409, json!("idempotency_outcome_unknown")));
        assert_eq!(send(&process.url, "a", "cut", &ask("other")).await.status, 422);
        assert_eq!(one.count(), 2);
        // Who reads the disk reads no answers and no keys.
        process.kill();
        for file in std::fs::read_dir(home.data()).expect("a directory") {
            let bytes = std::fs::read(file.expect("an entry").path()).expect("a file");
            assert!(!bytes.windows(19).any(|window| window == b"hello from upstream"), "an answer is on the disk");
        }
    }
}
