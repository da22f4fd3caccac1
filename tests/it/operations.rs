//! Health, readiness, reload and drain.

use std::time::Duration;

use serde_json::json;

use crate::support::app::ask;
use crate::support::upstream::{chat, status};
use crate::support::{App, app, upstream};

const ONE: &str =
    "providers: { one: { format: openai, base_url: '{0}', models: [ { id: m1 } ] } }\ncache: { enabled: false }\n";

async fn status_of(app: &App, path: &str) -> u16 {
    app.client.get(format!("{}{path}", app.url)).send().await.expect("an answer").status().as_u16()
}

async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !done().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test]
async fn live_never_touches_a_provider_and_ready_needs_a_usable_target() {
    let one = upstream().await;
    let app = app(ONE, &[&one]).await;
    for path in [
        "/health",
        "/health/live",
        "/livez",
        "/healthz",
        "/health/liveliness",
        "/health/ready",
        "/readyz",
        "/health/readiness",
    ] {
        assert_eq!(status_of(&app, path).await, 200, "{path}");
    }
    assert_eq!(one.count(), 0);
    one.always(status(401));
    app.chat(&ask("hi")).await;
    assert_eq!(status_of(&app, "/readyz").await, 503, "the only target is cooling");
    assert_eq!(status_of(&app, "/livez").await, 200);
    assert_eq!(app.get("/health").await["status"], "degraded");
}

#[tokio::test]
async fn a_changed_file_takes_effect_and_running_streams_finish_under_the_old_rules() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(ONE, &[&one]).await;
    one.always(chat("a long answer from the old rules").paced(Duration::from_millis(300)));
    two.always(chat("new rules"));
    let streaming = ask("hi");
    let stream = app.stream(&streaming);
    let change = async {
        one.called(1).await;
        app.rewrite(&ONE.replace("{0}", "{1}"), &[&one, &two]);
        until("the new rules come into force", async || app.say("hi").await == "new rules").await;
    };
    let (stream, ()) = tokio::join!(stream, change);
    assert_eq!((stream.text().as_str(), stream.done), ("a long answer from the old rules", true));
    assert_eq!(app.get("/gateway/status").await["configuration_version"], 2);
}

#[tokio::test]
async fn a_bad_file_keeps_the_old_rules_and_shows() {
    let one = upstream().await;
    let app = app(ONE, &[&one]).await;
    app.rewrite("providers:\n  one: { formt: openai }\n", &[]);
    until("the failure shows", async || app.get("/health").await["configuration"]["error"].is_string()).await;
    assert_eq!(app.say("hi").await, "hello from upstream");
    let health = app.get("/health").await;
    let error = health["configuration"]["error"].as_str().expect("text");
    assert!(error.contains(":2:") && error.contains("formt") && error.contains("format"), "{error}");
    assert_eq!((health["status"].as_str(), health["configuration"]["version"].as_u64()), (Some("degraded"), Some(1)));
    let metrics =
        app.client.get(format!("{}/metrics", app.url)).send().await.expect("an answer").text().await.expect("text");
    assert!(metrics.contains("stepwell_config_reload"), "{metrics}");
    app.rewrite(ONE, &[&one]);
    until("the mended file is taken", async || app.get("/health").await["configuration"]["error"].is_null()).await;
}

#[tokio::test]
async fn the_breaker_survives_a_reload() {
    let (one, two) = (upstream().await, upstream().await);
    let both = "providers: { one: { format: openai, base_url: '{0}', priority: 1, models: [ { id: m1 } ] }, two: { format: openai, base_url: '{1}', priority: 2, models: [ { id: m2 } ] } }\nrouting: { strategy: priority }\ncache: { enabled: false }\n";
    let app = app(both, &[&one, &two]).await;
    one.always(status(500));
    for _ in 0..6 {
        app.say("hi").await;
    }
    app.rewrite(&format!("{both}hints: {{ when_impossible: relax }}\n"), &[&one, &two]);
    until("the reload", async || app.get("/gateway/status").await["configuration_version"] == 2).await;
    assert_eq!(app.get("/gateway/status").await["targets"][0]["state"], "open");
}

#[tokio::test]
async fn stopping_lets_streams_finish_and_saves_every_row() {
    let one = upstream().await;
    let app = app(ONE, &[&one]).await;
    one.always(chat("an answer that takes a while").paced(Duration::from_millis(100)));
    let mut body = ask("hi");
    body["stream"] = json!(true);
    let response = app.post("/v1/chat/completions", &body).await;
    let reading = tokio::spawn(response.text());
    let unsaved = app.stop().await;
    let text = reading.await.expect("a task").expect("text");
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    assert_eq!(unsaved, 0);
}

#[tokio::test]
async fn a_stream_beyond_the_drain_limit_ends_with_an_error_event() {
    let one = upstream().await;
    let app = app(&format!("{ONE}server: {{ shutdown_grace: 1s }}\n"), &[&one]).await;
    one.always(chat("it never ends").stall());
    let mut body = ask("hi");
    body["stream"] = json!(true);
    let response = app.post("/v1/chat/completions", &body).await;
    let reading = tokio::spawn(response.text());
    app.stop().await;
    let text = reading.await.expect("a task").expect("text");
    assert!(text.contains("shutting_down") && !text.contains("[DONE]"), "{text}");
}

#[tokio::test]
async fn a_request_beyond_the_drain_limit_is_told_and_written() {
    let one = upstream().await;
    let app = app(&format!("{ONE}server: {{ shutdown_grace: 300ms }}\n"), &[&one]).await;
    one.always(chat("too late").after(Duration::from_secs(20)));
    let send = |id: &'static str, stream: bool| {
        let mut body = ask("hi");
        body["stream"] = json!(stream);
        let post = app.client.post(format!("{}/v1/chat/completions", app.url)).header("x-request-id", id);
        tokio::spawn(post.json(&body).send())
    };
    let requests = [send("plain", false), send("stream", true)];
    one.called(2).await;
    let app = app.restart().await;
    for request in requests {
        let response = request.await.expect("a task").expect("an answer");
        assert_eq!(response.status(), 503);
        let body: serde_json::Value = response.json().await.expect("json");
        assert_eq!(body["error"]["code"], "shutting_down", "{body}");
    }
    for id in ["plain", "stream"] {
        let row = app.get(&format!("/v1/requests/{id}")).await;
        assert_eq!(
            (row["status"].as_str(), row["http_status"].as_u64(), row["error"].as_str()),
            (Some("failed"), Some(503), Some("shutting_down")),
            "{row}"
        );
    }
}
