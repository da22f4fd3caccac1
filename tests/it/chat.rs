//! A plain chat completion: the caller's bytes reach the provider, the provider's answer reaches the caller, and the
//! headers say what happened.

use serde_json::json;

use crate::support::app::ask;
use crate::support::upstream::{events, model, raw, status};
use crate::support::{app, upstream};

const ONE: &str = "
providers:
  one: { format: openai, base_url: '{0}', api_key: sk-upstream-secret, models: [ { id: m1, price: { input: 1, output: 2 } } ] }
";

#[tokio::test]
async fn an_answer_comes_back_with_the_facts_in_its_headers() {
    let one = upstream().await;
    let app = app(ONE, &[&one]).await;
    let (status, headers, body) = app.chat(&ask("What is the capital of France?")).await;
    assert_eq!(status, 200);
    assert_eq!(body["choices"][0]["message"]["content"], "hello from upstream");
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    assert_eq!(body["usage"]["total_tokens"], 13);
    // 10 tokens at $1 and 3 at $2 a million.
    assert_eq!(body["usage"]["cost"], json!(0.000016));
    for (name, value) in [
        ("x-stepwell-provider", "one"),
        ("x-stepwell-model", "m1"),
        ("x-stepwell-task", "general"),
        ("x-stepwell-strategy", "balanced"),
        ("x-stepwell-attempts", "1"),
        ("x-stepwell-cache", "miss"),
        ("x-stepwell-cost-usd", "0.000016"),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
    for name in ["x-request-id", "x-stepwell-reason", "x-stepwell-response-time-ms", "server-timing"] {
        assert!(headers.contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn unknown_members_reach_the_provider_untouched_and_ours_do_not() {
    let one = upstream().await;
    let app = app(ONE, &[&one]).await;
    let mut body = ask("hi");
    body["x_new_feature"] = json!({"deep": [1, {"er": null}]});
    body["logit_bias"] = json!({"50256": -100});
    body["context"] = json!({"budget": "low"});
    body["provider"] = json!({"allow_fallbacks": true});
    body["models"] = json!(["one/m1"]);
    let (status, ..) = app.chat(&body).await;
    assert_eq!(status, 200);
    let sent = one.last();
    assert_eq!(sent["x_new_feature"], body["x_new_feature"]);
    assert_eq!(sent["logit_bias"], body["logit_bias"]);
    assert_eq!(sent["model"], "m1");
    assert_eq!(sent["messages"], body["messages"]);
    for ours in ["context", "provider", "models", "stream_options"] {
        assert!(sent.get(ours).is_none(), "{ours}: {sent}");
    }
    let head = &one.calls()[0].head;
    assert!(head.contains("authorization: bearer sk-upstream-secret"), "{head}");
}

#[tokio::test]
async fn the_callers_credentials_and_odd_headers_stay_here() {
    let one = upstream().await;
    let app = app(ONE, &[&one]).await;
    let request = app.client.post(format!("{}/v1/chat/completions", app.url)).json(&ask("hi"));
    let request =
        request.header("authorization", "Bearer sk-callers-own").header("x-secret", "canary").header("cookie", "a=b");
    assert_eq!(request.send().await.expect("an answer").status(), 200);
    let head = &one.calls()[0].head;
    assert!(!head.contains("callers-own") && !head.contains("canary") && !head.contains("cookie"), "{head}");
}

#[tokio::test]
async fn an_unknown_price_is_null_and_never_zero() {
    let one = upstream().await;
    let app =
        app("providers: { one: { format: openai, base_url: '{0}', models: [ { id: unheard-of } ] } }", &[&one]).await;
    let (_, headers, body) = app.chat(&ask("hi")).await;
    assert!(body["usage"]["cost"].is_null() && body["usage"].as_object().expect("usage").contains_key("cost"));
    assert_eq!(headers["x-stepwell-cost-usd"], "unknown");
    let row = app.row(&headers).await;
    assert!(row["cost_usd"].is_null(), "{row}");
}

#[tokio::test]
async fn usage_that_is_missing_or_absurd_is_counted_here_and_marked() {
    let one = upstream().await;
    let app = app(ONE, &[&one]).await;
    for usage in [json!(null), json!({"prompt_tokens": -5, "completion_tokens": 1e18 as u64})] {
        let body = json!({"choices": [{"message": {"content": "four words are here"}, "finish_reason": "stop"}], "usage": usage});
        one.then(raw(200, "application/json", body.to_string()));
        let mut request = ask("hello there");
        request["context"] = json!({"no_cache": true});
        let (status, headers, body) = app.chat(&request).await;
        assert_eq!(status, 200, "{body}");
        assert_eq!(body["usage"]["completion_tokens"], 4);
        assert_eq!(body["usage"]["estimated"], true);
        assert_eq!(app.row(&headers).await["estimated_usage"], true);
    }
}

#[tokio::test]
async fn an_answer_that_is_none_is_a_failure_and_never_relayed() {
    let one = upstream().await;
    // A breaker that never opens: each case is to be judged on its own.
    let app = app(
        &format!("{ONE}breaker: {{ consecutive_failures: 100, min_requests: 1000 }}\nretry: {{ same_target: 0 }}\n"),
        &[&one],
    )
    .await;
    for (content_type, body) in [
        ("text/html", "<html><script>alert(1)</script>"),
        ("application/json", ""),
        ("application/json", "{\"choices\": []}"),
        ("application/json", "{\"choices\": null}"),
        ("application/json", "{\"id\": \"x\", \"choices\": [{\"message\": {\"content\": \"half an ans"),
        ("text/plain", "upstream connect error"),
    ] {
        one.always(raw(200, content_type, body));
        let (status, _, answer) = app.chat(&ask("hi")).await;
        assert_eq!(status, 502, "{body}: {answer}");
        assert!(!answer.to_string().contains("<script>"), "{answer}");
    }
}

#[tokio::test]
async fn a_server_that_streams_although_nobody_asked_is_understood() {
    let one = upstream().await;
    let app = app(ONE, &[&one]).await;
    one.always(events(&[
        json!({"choices": [{"index": 0, "delta": {"content": "all "}}]}),
        json!({"choices": [{"index": 0, "delta": {"content": "here"}, "finish_reason": "stop"}]}),
    ]));
    assert_eq!(app.say("hi").await, "all here");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (one, other) = (upstream().await, upstream().await);
    let app = app(ONE, &[&one]).await;
    one.always(status(302).header("location", &format!("{}/chat/completions", other.url)));
    let (status, _, body) = app.chat(&ask("hi")).await;
    assert_eq!((status, other.count()), (502, 0), "{body}");
}

#[tokio::test]
async fn every_path_of_the_contract_reaches_the_same_place() {
    let one = upstream().await;
    let app = app(ONE, &[&one]).await;
    for path in ["/v1/chat/completions", "/chat/completions", "/openai/v1/chat/completions"] {
        assert_eq!(app.post(path, &ask("hi")).await.status(), 200, "{path}");
    }
}

#[tokio::test]
async fn a_custom_tools_call_stays_one() {
    let one = upstream().await;
    let app = app(ONE, &[&one]).await;
    one.always(model("hello"));
    let mut body = ask("hi");
    body["tools"] = json!([{"type": "custom", "custom": {"name": "shell"}}]);
    let (_, _, answer) = app.chat(&body).await;
    let call = json!({"id": "call_scripted0", "type": "custom", "custom": {"name": "shell", "input": "ls -l | wc"}});
    assert_eq!(answer["choices"][0]["message"]["tool_calls"], json!([call]), "{answer}");
    let streamed = app.stream(&body).await;
    let fragments = streamed.chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].get(0));
    let fragments: Vec<_> = fragments.collect();
    let first = json!({"index": 0, "id": "call_scripted0", "type": "custom", "custom": {"name": "shell", "input": ""}});
    assert_eq!(*fragments[0], first);
    assert_eq!(*fragments[1], json!({"index": 0, "custom": {"input": "ls -l"}}));
}

#[tokio::test]
async fn the_demo_stops_at_max_tokens_and_keeps_its_directives_to_itself() {
    let app = app("providers: { demo: {} }", &[]).await;
    let mut body = ask("Explain tides [[fault delay=1ms]]");
    let (_, _, whole) = app.chat(&body).await;
    assert!(!whole.to_string().contains("delay"), "{whole}");
    assert_eq!(whole["choices"][0]["finish_reason"], "stop");
    body["max_tokens"] = json!(3);
    let (_, _, short) = app.chat(&body).await;
    assert_eq!(
        (short["choices"][0]["finish_reason"].as_str(), short["usage"]["completion_tokens"].as_u64()),
        (Some("length"), Some(3))
    );
}
