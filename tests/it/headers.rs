//! Headers of other routers' clients: understood where they have a meaning here, named where not, never passed on.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::app::ask;
use crate::support::upstream::{hang, status};
use crate::support::{App, app, upstream};

const TWO: &str = "
providers:
  one: { format: openai, base_url: '{0}', priority: 1, models: [ { id: m1, price: { input: 1, output: 2 } } ] }
  two: { format: openai, base_url: '{1}', priority: 2, models: [ { id: m2, price: { input: 1, output: 2 } } ] }
routing: { strategy: priority }
cache: { enabled: false }
";

async fn send(app: &App, headers: &[(&str, &str)], body: &Value) -> (u16, reqwest::header::HeaderMap, Value) {
    let mut post = app.client.post(format!("{}/v1/chat/completions", app.url)).json(body);
    for (name, value) in headers {
        post = post.header(*name, *value);
    }
    let response = post.send().await.expect("an answer");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    (status, headers, response.json().await.expect("json"))
}

#[tokio::test]
async fn tags_of_a_request_stand_beside_those_of_its_key() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(TWO, &[&one, &two]).await;
    let key = app.key(json!({"name": "k", "tags": ["batch"]})).await;
    let bearer = format!("Bearer {key}");
    let mut body = ask("hi");
    body["metadata"] = json!({"tags": ["from-body"]});
    let sent = [
        ("authorization", bearer.as_str()),
        ("x-litellm-tags", "jobID:7, bad tag"),
        ("x-litellm-trace-id", "canary-4711"),
    ];
    let (code, headers, _) = send(&app, &sent, &body).await;
    assert_eq!(code, 200);
    assert_eq!(app.row(&headers).await["tags"], json!(["batch", "from-body", "jobID:7"]));
    let warnings = headers["x-stepwell-warnings"].to_str().expect("text");
    assert!(warnings.contains("x-litellm-trace-id") && warnings.contains("1 tags left out"), "{warnings}");
    assert!(!warnings.contains("canary-4711") && !warnings.contains("bad tag"), "{warnings}");
    let report = app.get("/v1/usage?group_by=tag&tag=jobID:7").await;
    assert_eq!(
        (&report["total"]["requests"], report["rows"].as_array().map(Vec::len)),
        (&json!(1), Some(3)),
        "{report}"
    );
    assert_eq!(app.get("/v1/usage?tag=job").await["total"]["requests"], 0);
}

#[tokio::test]
async fn a_callers_time_and_number_of_tries_are_kept() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(TWO, &[&one, &two]).await;
    one.then(status(500));
    let (code, headers, _) = send(&app, &[("x-litellm-num-retries", "0")], &ask("hi")).await;
    assert_eq!((code, two.count()), (502, 0), "{headers:?}");
    one.then(status(500));
    assert_eq!(send(&app, &[("x-litellm-num-retries", "5")], &ask("hi")).await.0, 200);
    one.always(hang());
    two.always(hang());
    let began = std::time::Instant::now();
    let (code, ..) = send(&app, &[("x-litellm-timeout", "0.3")], &ask("hi")).await;
    assert_eq!(code, 504);
    // The first token of the configured patience would take ten seconds.
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
    let (code, _, body) = send(&app, &[("x-litellm-timeout", "soon")], &ask("hi")).await;
    assert_eq!((code, &body["error"]["param"]), (400, &json!("x-litellm-timeout")), "{body}");
}

#[tokio::test]
async fn nothing_of_them_reaches_a_provider() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(TWO, &[&one, &two]).await;
    let sent = [
        ("x-litellm-tags", "canary"),
        ("x-litellm-end-user-id", "canary"),
        ("x-litellm-spend-logs-metadata", "{\"canary\": 1}"),
        ("x-litellm-enable-message-redaction", "true"),
        ("http-referer", "https://canary.example"),
        ("x-title", "canary"),
    ];
    let (code, headers, _) = send(&app, &sent, &ask("hi")).await;
    assert_eq!(code, 200);
    let call = one.last_call().expect("a call");
    assert!(!call.head.contains("x-litellm") && !call.head.contains("canary"), "{}", call.head);
    assert!(!call.body.to_string().contains("canary"), "{}", call.body);
    let warnings = headers["x-stepwell-warnings"].to_str().expect("text");
    assert!(warnings.contains("x-litellm-end-user-id") && !warnings.contains("redaction"), "{warnings}");
    assert!(!warnings.contains("title") && !headers.keys().any(|name| name.as_str().starts_with("x-litellm")));
}
