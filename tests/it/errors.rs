//! Bad input gets an error that names the thing, in OpenAI's shape, and nothing panics.

use serde_json::{Value, json};

use crate::support::app::ask;
use crate::support::{app, upstream};

const ONE: &str = "providers: { one: { format: openai, base_url: '{0}', models: [ { id: gpt-alpha }, { id: gpt-beta } ] } }\nserver: { body_limit: 1MB }";

fn check_shape(body: &Value) {
    let error = &body["error"];
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
    assert!(error["type"].is_string(), "{body}");
    for member in ["param", "code", "stepwell"] {
        assert!(error.as_object().expect("an object").contains_key(member), "{member}: {body}");
    }
}

#[tokio::test]
async fn every_malformed_body_is_a_400_that_names_its_member() {
    let one = upstream().await;
    let app = app(ONE, &[&one]).await;
    let deep = format!("{{\"model\":\"auto\",\"messages\":[],\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let cases: Vec<(Vec<u8>, Option<&str>)> = vec![
        (b"".to_vec(), None),
        (b"not json".to_vec(), None),
        (b"{\"model\": \"auto\"".to_vec(), None),
        (b"[]".to_vec(), None),
        (b"{\"model\":\"\xff\xfe\"}".to_vec(), None),
        (deep.into_bytes(), None),
        (b"{\"model\":\"auto\",\"messages\":[]} trailing".to_vec(), None),
        (json!({"messages": []}).to_string().into_bytes(), Some("model")),
        (json!({"model": "auto"}).to_string().into_bytes(), Some("messages")),
        (json!({"model": "auto", "messages": []}).to_string().into_bytes(), Some("messages")),
        (json!({"model": "auto", "messages": "hi"}).to_string().into_bytes(), Some("messages")),
        (
            json!({"model": "auto", "messages": [{"role": "user"}]}).to_string().into_bytes(),
            Some("messages[0].content"),
        ),
        (
            json!({"model": "auto", "messages": [{"role": "user", "content": 7}]}).to_string().into_bytes(),
            Some("messages[0].content"),
        ),
        (b"{\"model\":\"auto\",\"model\":\"m\",\"messages\":[]}".to_vec(), Some("model")),
    ];
    for (body, param) in cases {
        let shown = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
        let response =
            app.client.post(format!("{}/v1/chat/completions", app.url)).body(body).send().await.expect("an answer");
        assert_eq!(response.status(), 400, "{shown}");
        assert!(response.headers().contains_key("x-request-id"));
        let answer: Value = response.json().await.expect("json");
        check_shape(&answer);
        assert_eq!(answer["error"]["type"], "invalid_request_error");
        assert_eq!(answer["error"]["param"].as_str(), param, "{shown}: {answer}");
    }
    assert_eq!(one.count(), 0);
}

#[tokio::test]
async fn a_body_above_the_limit_is_413_with_and_without_a_length() {
    let one = upstream().await;
    let app = app(ONE, &[&one]).await;
    let announced = app.client.post(format!("{}/v1/chat/completions", app.url)).body(vec![b'x'; 2_000_000]);
    let pieces = futures_util::stream::iter((0..200).map(|_| Ok::<_, std::io::Error>(vec![b'x'; 10_000])));
    let unannounced =
        app.client.post(format!("{}/v1/chat/completions", app.url)).body(reqwest::Body::wrap_stream(pieces));
    for request in [announced, unannounced] {
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 413);
        check_shape(&response.json().await.expect("json"));
    }
}

#[tokio::test]
async fn an_unknown_model_is_404_and_names_the_closest() {
    let one = upstream().await;
    let app = app(ONE, &[&one]).await;
    let mut body = ask("hi");
    body["model"] = json!("gpt-alhpa");
    let (status, _, answer) = app.chat(&body).await;
    check_shape(&answer);
    assert_eq!(
        (status, answer["error"]["code"].as_str(), answer["error"]["param"].as_str()),
        (404, Some("model_not_found"), Some("model"))
    );
    assert!(answer["error"]["message"].as_str().expect("text").contains("`one/gpt-alpha`"), "{answer}");
    let missing = app.client.get(format!("{}/v1/models/gpt-alhpa", app.url)).send().await.expect("an answer");
    assert_eq!(missing.status(), 404);
}

#[tokio::test]
async fn unknown_paths_and_methods_are_answered_in_the_same_shape() {
    let one = upstream().await;
    let app = app(ONE, &[&one]).await;
    for (method, path, status) in [
        ("GET", "/", 404),
        ("GET", "/v1/nope", 404),
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models", 405),
    ] {
        let method = method.parse().expect("a method");
        let response = app.client.request(method, format!("{}{path}", app.url)).send().await.expect("an answer");
        assert_eq!(response.status(), status, "{path}");
        assert!(response.headers().contains_key("x-request-id"));
        check_shape(&response.json().await.expect("json"));
    }
}

#[tokio::test]
async fn hints_with_impossible_values_are_400_and_unknown_ones_a_warning() {
    let one = upstream().await;
    let app = app(ONE, &[&one]).await;
    for (hint, value) in [
        ("max_cost", json!("cheap")),
        ("min_skill", json!(7)),
        ("budget", json!("tiny")),
        ("task", json!("gardening")),
        ("strategy", json!("best")),
    ] {
        let mut body = ask("hi");
        body["context"] = json!({hint: value});
        let (status, _, answer) = app.chat(&body).await;
        if hint == "strategy" {
            assert_eq!(status, 200, "`best` is understood: {answer}");
        } else {
            check_shape(&answer);
            assert_eq!((status, answer["error"]["param"].as_str()), (400, Some(hint)), "{answer}");
        }
    }
    let mut body = ask("hi");
    body["context"] = json!({"colour": "blue"});
    let (status, headers, _) = app.chat(&body).await;
    assert_eq!(status, 200);
    assert!(headers["x-stepwell-warnings"].to_str().expect("text").contains("colour"));
}

#[tokio::test]
async fn a_sane_request_id_is_taken_over_and_another_replaced() {
    let one = upstream().await;
    let app = app(ONE, &[&one]).await;
    let with = |id: &'static str| {
        let request =
            app.client.post(format!("{}/v1/chat/completions", app.url)).json(&ask("hi")).header("x-request-id", id);
        async move { request.send().await.expect("an answer").headers()["x-request-id"].to_str().expect("text").to_owned() }
    };
    assert_eq!(with("trace-42.a_b").await, "trace-42.a_b");
    assert_ne!(with("a b; drop table").await, "a b; drop table");
}

#[tokio::test]
async fn a_model_is_found_under_every_base_url_that_people_type() {
    let one = upstream().await;
    let app = app(ONE, &[&one]).await;
    for base in ["", "/v1", "/openai/v1"] {
        assert_eq!(app.get(&format!("{base}/models")).await["object"], "list", "{base}");
        for id in ["one/gpt-alpha", "one%2Fgpt-alpha", "gpt-alpha"] {
            assert_eq!(app.get(&format!("{base}/models/{id}")).await["id"], "one/gpt-alpha", "{base} {id}");
        }
    }
}

#[tokio::test]
async fn what_decides_about_money_or_the_cache_may_not_stand_twice() {
    let one = upstream().await;
    let app = app(ONE, &[&one]).await;
    for twice in [
        "\"n\":1,\"n\":5",
        "\"max_completion_tokens\":1,\"max_completion_tokens\":9",
        "\"temperature\":0,\"temperature\":2",
        "\"tools\":[],\"tools\":[]",
    ] {
        let body = format!("{{\"model\":\"auto\",\"messages\":[{{\"role\":\"user\",\"content\":\"hi\"}}],{twice}}}");
        let post = app.client.post(format!("{}/v1/chat/completions", app.url)).body(body);
        let response = post.send().await.expect("an answer");
        assert_eq!(response.status(), 400, "{twice}");
    }
    assert_eq!(one.count(), 0);
}

#[tokio::test]
async fn a_limit_that_cannot_be_read_is_never_ignored() {
    let one = upstream().await;
    let app = app(ONE, &[&one]).await;
    for provider in [
        json!({"max_price": {"prompt": "cheap"}}),
        json!({"max_price": {"completion": -1}}),
        json!({"max_price": 3}),
        json!({"allow_fallbacks": "false"}),
        json!({"require_parameters": 1}),
        json!({"sort": {"by": "price"}}),
    ] {
        let mut body = ask("hi");
        body["provider"] = provider.clone();
        let (status, _, body) = app.chat(&body).await;
        assert_eq!(status, 400, "{provider}: {body}");
        check_shape(&body);
    }
    let mut body = ask("hi");
    body["context"] = json!({"max_latency": "1e30", "task": "nonsense"});
    assert_eq!(app.chat(&body).await.0, 400);
    body["context"] = json!({"task": "nonsense"});
    assert_eq!(app.post("/v1/route", &body).await.status(), 400, "what is explained is what happens");
    body["context"] = json!({"max_latency": "18446744073709549568000"});
    body["max_tokens"] = json!(u64::MAX);
    assert_eq!(app.chat(&body).await.0, 200);
}

#[tokio::test]
async fn what_a_caller_wrote_never_swells_headers_or_errors() {
    let one = upstream().await;
    let app = app(ONE, &[&one]).await;
    let mut body = ask("hi");
    body["context"] = json!({"x".repeat(100_000): 1});
    let (status, headers, _) = app.chat(&body).await;
    assert_eq!(status, 200);
    assert!(headers["x-stepwell-warnings"].len() < 4096);
    body["context"] = json!({"strategy": "y".repeat(100_000)});
    let (status, _, body) = app.chat(&body).await;
    assert_eq!(status, 400);
    assert!(body.to_string().len() < 8192);
}
