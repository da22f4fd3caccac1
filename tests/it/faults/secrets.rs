//! Secrets and prompts appear in no log, metric, error or file.

use serde_json::json;

use crate::support::app::ask;
use crate::support::collector::collector;
use crate::support::process::{Home, client, until};
use crate::support::upstream;
use crate::support::upstream::{chat, hang, raw, reset, status};

const KEY: &str = "sk-canary-key-4f1d";
const CALLER: &str = "canary-caller-77aa";
const PROMPT: &str = "canary-prompt-93c2";
const ANSWER: &str = "canary-answer-0b6e";
/// What the collector gets for a key.
const COLLECTOR: &str = "canary-collector-e2c1";
/// What the caller's own tracing carries about.
const BAGGAGE: &str = "canary-baggage-8a0d";

const YAML: &str = "\
providers:
  one:
    format: openai
    base_url: '{0}'
    api_key: ${CANARY_KEY}
    headers: { x-secret-team: canary-header-5d5d }
    models: [ { id: m1, price: { input: 1, output: 2 } } ]
timeouts: { first_token: 300ms }
retry: { same_target: 0 }
breaker: { consecutive_failures: 100, min_requests: 1000 }
cache: { enabled: true }
";

/// What nobody may find anywhere.
fn canaries() -> [&'static str; 8] {
    [KEY, CALLER, PROMPT, ANSWER, "canary-header-5d5d", COLLECTOR, BAGGAGE, "canary-model-31f0"]
}

fn check(place: &str, text: &[u8], allowed: &[&str]) {
    for canary in canaries().into_iter().filter(|canary| !allowed.contains(canary)) {
        let found = memchr::memmem::find(text, canary.as_bytes());
        let around = found.map(|at| String::from_utf8_lossy(&text[at.saturating_sub(200)..(at + 60).min(text.len())]));
        assert!(found.is_none(), "`{canary}` in {place}: {around:?}");
    }
}

async fn exercise(level: &str) {
    let one = upstream().await;
    let collector = collector().await;
    let otlp = format!("{{ endpoint: '{}', interval: 100ms, headers: {{ x-key: {COLLECTOR} }} }}", collector.url);
    let telemetry = format!("telemetry: {{ otlp: {otlp} }}\n");
    let logging = format!("{YAML}logging: {{ level: {level}, access: true }}\n{telemetry}");
    let mut home = Home::new(&logging.replace("{0}", &one.url));
    home.env = vec![
        ("CANARY_KEY".into(), KEY.into()),
        ("RUST_LOG".into(), level.into()),
        ("RUST_BACKTRACE".into(), "1".into()),
    ];
    let process = home.start().await;
    let send = async |prompt: &str, stream: bool, place: &str| {
        let mut body = ask(&format!("{PROMPT} {prompt}"));
        body["stream"] = json!(stream);
        body["context"] = json!({"explain": true});
        let post = client().post(format!("{}/v1/chat/completions", process.url)).bearer_auth(CALLER);
        let post = post
            .header("baggage", BAGGAGE)
            .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        let response = post.json(&body).send().await.expect("an answer");
        check(place, format!("{:?}", response.headers()).as_bytes(), &[]);
        let ok = response.status().is_success();
        let text = response.bytes().await.expect("a body");
        // Only the completion itself may say what the model said.
        check(place, &text, if ok { &[ANSWER] } else { &[] });
    };
    one.always(chat(ANSWER));
    send("plain", false, "an answer").await;
    send("stream", true, "a stream").await;
    send("plain", false, "an answer from the cache").await;
    let quoting = format!(
        "{{\"error\":{{\"message\":\"Incorrect API key provided: {KEY} for '{PROMPT} and more'\",\"type\":\"x\"}}}}"
    );
    for (what, act) in [
        ("a 401 that quotes the key", raw(401, "application/json", quoting.clone())),
        ("a 400 that quotes the key", raw(400, "application/json", quoting.replace(PROMPT, ""))),
        ("a 500 that quotes all", raw(500, "application/json", quoting.clone())),
        ("a 429 that quotes all", raw(429, "text/plain", quoting.clone())),
        ("HTML that quotes all", raw(200, "text/html", format!("<html>{quoting}</html>"))),
        ("truncated JSON", raw(200, "application/json", format!("{{\"choices\":[{{\"message\":\"{ANSWER}"))),
        ("an error in a stream", raw(200, "text/event-stream", format!("data: {quoting}\n\n"))),
        ("a cut stream", chat(&format!("{ANSWER} and more")).cut()),
        ("a reset", reset()),
        ("silence", hang()),
        ("a bad status", status(418)),
    ] {
        one.always(act);
        for stream in [false, true] {
            send(what, stream, what).await;
            // A reload forgives what the last fault cooled.
            process.signal(rustix::process::Signal::HUP);
            let failing = async || process.get("/gateway/status").await["targets"][0]["state"] == "closed";
            until("the target is back", async || {
                process.signal(rustix::process::Signal::HUP);
                what.starts_with("a 429") || failing().await
            })
            .await;
        }
    }
    for (what, body) in
        [("half a body", format!("{{\"model\":\"{PROMPT}")), ("no messages", "{\"model\":\"auto\"}".to_owned())]
    {
        let post = client().post(format!("{}/v1/chat/completions", process.url)).bearer_auth(CALLER).body(body);
        check(what, &post.send().await.expect("an answer").bytes().await.expect("a body"), &[]);
    }
    std::fs::write(home.config(), format!("providers: {{ one: {{ api_key: {KEY}, formt: x }} }}\n")).expect("a file");
    until("the bad file shows", async || process.get("/health").await["configuration"]["error"].is_string()).await;
    let get = async |path: &str| client().get(format!("{}{path}", process.url)).send().await.expect("an answer");
    for path in
        ["/metrics", "/gateway/status", "/health", "/v1/requests?limit=1000", "/v1/usage", "/v1/models", "/nowhere"]
    {
        check(path, &get(path).await.bytes().await.expect("a body"), &[]);
    }
    let rows: serde_json::Value = get("/v1/requests?limit=1000").await.json().await.expect("json");
    let ids: Vec<&str> = rows["data"].as_array().expect("rows").iter().filter_map(|row| row["id"].as_str()).collect();
    assert!(ids.len() >= 20, "{} rows", ids.len());
    for id in &ids {
        check("a row", &get(&format!("/v1/requests/{id}")).await.bytes().await.expect("a body"), &[]);
    }
    std::fs::write(home.config(), logging.replace("{0}", &one.url)).expect("a file");
    let data = home.data();
    let data = data.to_str().expect("text");
    for arguments in [
        vec!["check"],
        vec!["route", PROMPT],
        vec!["route", PROMPT, "--json"],
        vec!["explain", ids[0], "--data-dir", data],
        vec!["explain", ids[0], "--json", "--data-dir", data],
        vec!["usage", "--data-dir", data],
        vec!["models"],
        vec!["providers"],
    ] {
        let output = home.command().args(&arguments).output().expect("output");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        check(arguments[0], &[output.stdout, output.stderr].concat(), &[]);
    }
    for file in ["stepwell.db", "stepwell.db-wal"] {
        check(file, &std::fs::read(home.data().join(file)).unwrap_or_default(), &[]);
    }
    let unknown = json!({"model": "canary-model-31f0", "messages": [{"role": "user", "content": PROMPT}]});
    client().post(format!("{}/v1/chat/completions", process.url)).json(&unknown).send().await.expect("an answer");
    check("the metrics", process.metrics().await.as_bytes(), &[]);
    assert_eq!(process.stop().await, Some(0));
    // Spans of all those requests, and of their attempts, have gone out by now.
    assert!(collector.spans().len() >= ids.len(), "{} spans", collector.spans().len());
    assert!(!collector.points("gen_ai.client.operation.duration").is_empty());
    check("the traces and metrics at the collector", &collector.raw(), &[]);
    assert_eq!(collector.header("x-key"), COLLECTOR);
    assert!(home.errors().contains("stepwell::access"), "the access log was on");
    for call in one.calls() {
        assert!(!call.head.contains(BAGGAGE) && !call.head.contains(COLLECTOR), "{}", call.head);
    }
    // What a caller asked for is in its row, so that a misspelt model can be found.
    check("the database", &std::fs::read(home.database()).expect("a file"), &["canary-model-31f0"]);
    check("standard output", home.output().as_bytes(), &[]);
    check("standard error", home.errors().as_bytes(), &[]);
}

#[tokio::test]
async fn e03_no_secret_and_no_prompt_is_written_anywhere_at_trace() {
    exercise("trace").await;
}

#[tokio::test]
async fn e03_no_secret_and_no_prompt_is_written_anywhere_at_debug() {
    exercise("debug").await;
}

#[tokio::test]
async fn e03_no_secret_and_no_prompt_is_written_anywhere_at_info() {
    exercise("info").await;
}

#[tokio::test]
async fn e03_no_secret_and_no_prompt_is_written_anywhere_at_error() {
    exercise("error").await;
}
