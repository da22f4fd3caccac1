//! Whom a credential is sent to, and what of a caller reaches a provider.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::upstream::{ONE, TWO, target};
use crate::support::app::ask;
use crate::support::upstream::fault;
use crate::support::{app, upstream};

#[tokio::test]
async fn e01_a_redirect_is_a_failure_and_the_credential_goes_nowhere_else() {
    for code in [301, 302, 303, 307, 308] {
        let (one, two, elsewhere) = (upstream().await, upstream().await, upstream().await);
        let app = app(TWO, &[&one, &two]).await;
        // To another host by name, and to another port of the same one.
        for location in [&elsewhere.url, &elsewhere.url.replace("127.0.0.1", "localhost")] {
            one.then(fault(&format!("status={code} redirect={location}/chat/completions")));
            let began = Instant::now();
            let (status, headers, body) = app.chat(&ask("hi")).await;
            assert_eq!((status, &headers["x-stepwell-provider"]), (200, &"two".parse().expect("a value")), "{body}");
            assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
            let row = app.row(&headers).await;
            assert_eq!(
                (&row["attempts"][0]["kind"], &row["attempts"][0]["status"]),
                (&json!("redirect"), &json!(code))
            );
            assert!(!row.to_string().contains(&elsewhere.url), "{row}");
        }
        one.then(fault(&format!("status={code} redirect={}", elsewhere.url)));
        assert_eq!(app.stream(&ask("hi")).await.header("x-stepwell-provider"), "two");
        assert_eq!((one.count(), elsewhere.count(), elsewhere.accepted()), (3, 0, 0), "{code}: nobody connects there");
    }
}

#[tokio::test]
async fn e01_redirects_count_against_the_breaker_and_alone_are_502() {
    let (one, elsewhere) = (upstream().await, upstream().await);
    let app = app(ONE, &[&one]).await;
    one.always(fault(&format!("redirect={}", elsewhere.url)));
    for _ in 0..5 {
        let (status, _, body) = app.chat(&ask("hi")).await;
        assert_eq!((status, &body["error"]["code"]), (502, &json!("upstream_error")), "{body}");
        assert!(!body.to_string().contains(&elsewhere.url), "{body}");
    }
    assert_eq!((target(&app, 0).await["state"].as_str(), elsewhere.accepted()), (Some("open"), 0));
}

/// Members by which other gateways let a caller choose where a request goes.
const DESTINATIONS: [&str; 12] = [
    "api_base",
    "base_url",
    "api_key",
    "api_version",
    "deployment",
    "deployment_id",
    "region",
    "aws_region_name",
    "vertex_location",
    "vertex_project",
    "custom_llm_provider",
    "host",
];

/// A request in every dialect, with its path.
fn dialects() -> Vec<(&'static str, Value)> {
    let messages = json!([{"role": "user", "content": "hi"}]);
    vec![
        ("/v1/chat/completions", json!({"model": "one/m1", "messages": messages})),
        ("/v1/messages", json!({"model": "one/m1", "max_tokens": 9, "messages": messages})),
        ("/v1/responses", json!({"model": "one/m1", "input": "hi"})),
        ("/v1/completions", json!({"model": "one/m1", "prompt": "hi"})),
        ("/v1/embeddings", json!({"model": "one/m1", "input": "hi"})),
        ("/v1/route", json!({"model": "one/m1", "messages": messages})),
    ]
}

#[tokio::test]
async fn e02_a_destination_in_the_body_is_refused_by_name_in_every_dialect() {
    let (one, elsewhere) = (upstream().await, upstream().await);
    let app = app(ONE, &[&one]).await;
    for (path, body) in dialects() {
        for member in DESTINATIONS {
            let mut body = body.clone();
            body[member] = json!(elsewhere.url);
            let response = app.post(path, &body).await;
            assert_eq!(response.status(), 400, "{path} {member}");
            assert!(response.headers().contains_key("x-request-id"));
            let text = response.text().await.expect("a body");
            assert!(
                text.contains(&format!("`{member}`")) && text.contains("providers"),
                "{path}: the fix is named: {text}"
            );
            assert!(!text.contains(&elsewhere.url), "{path} {member}: {text}");
            // Anthropic's shape has no codes.
            let answer: Value = serde_json::from_str(&text).expect("JSON");
            if path != "/v1/messages" {
                let error = &answer["error"];
                assert_eq!(
                    (&error["code"], &error["param"]),
                    (&json!("destination_forbidden"), &json!(member)),
                    "{path}: {text}"
                );
            }
        }
    }
    assert_eq!((one.count(), elsewhere.accepted()), (0, 0));
    let mut absent = ask("hi");
    absent["api_base"] = Value::Null;
    assert_eq!(app.chat(&absent).await.0, 200, "null names no destination");
}

/// Every header by which a caller could try to choose a server, a key or a route, or that only looks like it.
const ODD: [(&str, &str); 24] = [
    ("x-base-url", "http://elsewhere.example/v1"),
    ("x-portkey-custom-host", "http://elsewhere.example/v1"),
    ("x-portkey-provider", "openai"),
    ("x-portkey-api-key", "caller-key"),
    ("helicone-target-url", "http://elsewhere.example"),
    ("x-openai-base-url", "http://elsewhere.example"),
    ("x-upstream-url", "http://elsewhere.example"),
    ("x-forwarded-host", "elsewhere.example"),
    ("x-forwarded-for", "10.0.0.1"),
    ("x-original-url", "/elsewhere"),
    ("x-rewrite-url", "/elsewhere"),
    ("x-http-method-override", "DELETE"),
    ("forwarded", "host=elsewhere.example"),
    ("authorization", "Bearer caller-key"),
    ("proxy-authorization", "Basic caller-key"),
    ("x-api-key", "caller-key"),
    ("api-key", "caller-key"),
    ("x-goog-api-key", "caller-key"),
    ("cookie", "session=caller-key"),
    ("openai-organization", "org-caller"),
    ("x-amz-security-token", "caller-key"),
    ("x-fault", "status=503"),
    ("x-stepwell-api-base", "http://elsewhere.example"),
    ("te", "trailers"),
];

/// What a provider that speaks OpenAI may see, and nothing else.
const ALLOWED: [&str; 7] =
    ["content-type", "authorization", "user-agent", "accept", "accept-encoding", "host", "content-length"];

#[tokio::test]
async fn e02_no_header_changes_where_a_request_goes() {
    let one = upstream().await;
    let app = app(ONE, &[&one]).await;
    for host in ["elsewhere.example", "127.0.0.1:9", "metadata.google.internal", "169.254.169.254"] {
        let mut request =
            app.client.post(format!("{}/v1/chat/completions", app.url)).json(&ask("hi")).header("host", host);
        for (name, value) in ODD {
            request = request.header(name, value);
        }
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 200, "{host}");
        let call = one.last_call().expect("a call");
        assert_eq!(call.header("host"), Some(one.address.to_string().as_str()), "the provider's own");
        assert!(call.head.starts_with("post /v1/chat/completions http/1.1"), "{}", call.head);
    }
    assert_eq!(one.count(), 4);
}

#[tokio::test]
async fn e04_nothing_of_a_callers_headers_reaches_a_provider_but_what_is_allowed() {
    for format in ["openai", "anthropic", "gemini", "cohere", "ollama"] {
        let one = upstream().await;
        // The upstream speaks OpenAI only: its answers are failures here, and what it was sent is what counts.
        let yaml = ONE.replace("format: openai", &format!("format: {format}"));
        let app = app(&format!("{yaml}breaker: {{ consecutive_failures: 100 }}\n"), &[&one]).await;
        for (path, body) in dialects().into_iter().take(4) {
            let mut request = app.client.post(format!("{}{path}", app.url)).json(&body);
            for (name, value) in ODD {
                request = request.header(name, value);
            }
            let before = one.count();
            let request = request.header("x-canary", "caller-key").header("anthropic-beta", "some-feature");
            let _ = request.send().await.expect("an answer").bytes().await;
            assert!(one.count() > before, "{format} {path}");
            for call in &one.calls()[before..] {
                let whole = format!("{}\n{}", call.head, call.body);
                assert!(!whole.contains("caller-key") && !whole.contains("elsewhere"), "{format} {path}: {whole}");
                let own = match format {
                    "anthropic" => &["x-api-key", "anthropic-version", "anthropic-beta"][..],
                    "gemini" => &["x-goog-api-key"],
                    _ => &[],
                };
                for line in call.head.lines().skip(1) {
                    let name = line.split(':').next().unwrap_or_default();
                    assert!(ALLOWED.contains(&name) || own.contains(&name), "{format} {path}: {line}");
                }
                let key = ["authorization", "x-api-key", "x-goog-api-key"].iter().find_map(|name| call.header(name));
                assert!(key.is_some_and(|key| key.ends_with("sk-canary-1234")), "our own credential: {}", call.head);
            }
        }
    }
}

#[tokio::test]
async fn e04_nothing_of_a_providers_headers_reaches_a_caller_or_comes_back_to_it() {
    let one = upstream().await;
    let app = app(ONE, &[&one]).await;
    let odd = [
        ("set-cookie", "session=provider-secret"),
        ("x-internal-host", "provider-secret"),
        ("server", "provider-secret"),
        ("openai-organization", "provider-secret"),
        ("location", "http://elsewhere.example/provider-secret"),
        ("x-request-id", "provider-secret"),
        ("x-stepwell-provider", "provider-secret"),
        ("access-control-allow-origin", "provider-secret"),
    ];
    for text in ["", "status=400", "status=503"] {
        let act = fault(text);
        one.always(odd.iter().fold(act, |act, (name, value)| act.header(name, value)));
        for stream in [false, true] {
            let mut body = ask("hi");
            body["stream"] = json!(stream);
            let response = app.post("/v1/chat/completions", &body).await;
            assert!(
                !format!("{:?}", response.headers()).contains("provider-secret"),
                "{text}: {:?}",
                response.headers()
            );
            let text = response.text().await.expect("a body");
            assert!(!text.contains("provider-secret"), "{text}");
        }
    }
    assert!(one.calls().iter().all(|call| call.header("cookie").is_none()), "no cookie is kept");
}
