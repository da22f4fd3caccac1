//! Callers who speak another dialect than chat: one path for all of them, and the truth in their own words.

use serde_json::{Value, json};

use crate::support::app::App;
use crate::support::upstream::{model, raw, status};
use crate::support::{app, upstream};

const TWO: &str = "
providers:
  one: { format: openai, base_url: '{0}', models: [ { id: m, price: { input: 1, output: 2 } }, { id: other } ] }
  two: { format: openai, base_url: '{1}', models: [ { id: m, price: { input: 1, output: 2 } } ] }
routing: { strategy: priority }
";
const CLAUDE: &str = "
providers:
  claude: { format: anthropic, base_url: '{0}', api_key: sk-ant-x, models: [ { id: claude-x, max_output: 8k } ] }
cache: { enabled: false }
";

async fn post(app: &App, path: &str, body: &Value) -> (u16, reqwest::header::HeaderMap, Value) {
    let response = app.post(path, body).await;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    (status, headers, response.json().await.expect("JSON"))
}

/// The events of a stream: their names and their data.
async fn events(app: &App, path: &str, body: &Value) -> Vec<(String, Value)> {
    let text = app.post(path, body).await.text().await.expect("text");
    let event = |frame: &str| {
        let line = |name: &str| frame.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
        let data = serde_json::from_str(&line("data: ")?).ok()?;
        Some((line("event: ").unwrap_or_default(), data))
    };
    text.split("\n\n").filter_map(event).collect()
}

#[tokio::test]
async fn every_dialect_fails_over_and_lands_in_the_ledger() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(TWO, &[&one, &two]).await;
    one.always(status(503));
    two.always(model("hello"));
    for (path, body) in [
        ("/v1/messages", json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "a"}]})),
        ("/v1/responses", json!({"model": "m", "input": "b"})),
        ("/v1/completions", json!({"model": "m", "prompt": "c"})),
        ("/v1/embeddings", json!({"model": "m", "input": "d"})),
    ] {
        let (status, headers, answer) = post(&app, path, &body).await;
        assert_eq!(status, 200, "{path}: {answer}");
        assert_eq!(headers["x-stepwell-provider"], "two", "{path}");
        let row = app.row(&headers).await;
        assert_eq!((&row["status"], &row["provider"]), (&json!("completed"), &json!("two")), "{path}: {row}");
        assert!(row["prompt_tokens"].as_u64() > Some(0) && row["cost_usd"].as_f64() > Some(0.0), "{path}: {row}");
    }
}

#[tokio::test]
async fn an_anthropic_caller_reaches_anthropic_word_for_word() {
    let claude = upstream().await;
    let app = app(CLAUDE, &[&claude]).await;
    let answer = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "stop_reason": "tool_use",
        "content": [{"type": "thinking", "thinking": "hm", "signature": "sig"}, {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}}],
        "usage": {"input_tokens": 10, "cache_read_input_tokens": 90, "cache_creation_input_tokens": 5, "output_tokens": 7}});
    claude.always(raw(200, "application/json", answer.to_string()));
    let body = json!({"model": "claude-x", "max_tokens": 100, "top_k": 3, "context": {"budget": "low"},
        "thinking": {"type": "enabled", "budget_tokens": 1024}, "tools": [{"type": "web_search_20250305", "name": "web_search"}],
        "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]});
    let response = app
        .client
        .post(format!("{}/v1/messages", app.url))
        .header("anthropic-beta", "interleaved-thinking-2025-05-14")
        .header("anthropic-version", "2023-06-01")
        .header("x-secret", "mine")
        .json(&body)
        .send()
        .await
        .expect("an answer");
    assert!(!response.headers().contains_key("x-stepwell-warnings"), "{:?}", response.headers());
    let message: Value = response.json().await.expect("JSON");
    assert_eq!((&message["content"], &message["stop_reason"]), (&answer["content"], &json!("tool_use")));
    for name in ["input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens"] {
        assert_eq!(message["usage"][name], answer["usage"][name], "{name}");
    }
    let call = &claude.calls()[0];
    assert!(call.head.contains("anthropic-beta: interleaved-thinking-2025-05-14"), "{}", call.head);
    assert!(!call.head.contains("x-secret"), "{}", call.head);
    let mut expected = body.clone();
    expected.as_object_mut().expect("an object").remove("context");
    assert_eq!(call.body, expected);
}

#[tokio::test]
async fn signed_thinking_streams_to_an_anthropic_caller_in_its_place() {
    let claude = upstream().await;
    let app = app(CLAUDE, &[&claude]).await;
    let upstream_events = [
        json!({"type": "message_start", "message": {"id": "msg_1", "model": "claude-x", "usage": {"input_tokens": 10, "output_tokens": 1}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "sig"}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "hello"}}),
        json!({"type": "content_block_stop", "index": 1}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}}),
        json!({"type": "message_stop"}),
    ];
    let bytes: String = upstream_events.iter().map(|event| format!("event: x\ndata: {event}\n\n")).collect();
    let body = json!({"model": "claude-x", "max_tokens": 100, "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    for slice in [0, 1, 7] {
        claude.then(raw(200, "text/event-stream", bytes.clone()).sliced(slice));
        let seen = events(&app, "/v1/messages", &body).await;
        let names: Vec<&str> = seen.iter().map(|(name, _)| name.as_str()).collect();
        let block = ["content_block_start", "content_block_delta"];
        let expected = [
            &["message_start"][..],
            &block,
            &["content_block_delta", "content_block_stop"],
            &block,
            &["content_block_stop", "message_delta", "message_stop"],
        ]
        .concat();
        assert_eq!(names, expected, "{seen:?}");
        assert_eq!(seen[3].1["delta"], json!({"type": "signature_delta", "signature": "sig"}));
        assert_eq!(seen[8].1["usage"]["output_tokens"], 7);
    }
    claude.then(raw(
        200,
        "text/event-stream",
        bytes.split("event: x\ndata: {\"type\":\"message_delta\"").next().expect("a start"),
    ));
    let cut = events(&app, "/v1/messages", &body).await;
    let (name, data) = cut.last().expect("events");
    assert_eq!((name.as_str(), &data["error"]["code"]), ("error", &json!("upstream_stream_interrupted")));
    assert!(cut.iter().all(|(name, _)| name != "message_stop"));
}

#[tokio::test]
async fn the_sequence_that_stopped_an_answer_reaches_an_anthropic_caller() {
    let claude = upstream().await;
    let app = app(CLAUDE, &[&claude]).await;
    let answer = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "stop_reason": "stop_sequence",
        "stop_sequence": "END", "content": [{"type": "text", "text": "x"}], "usage": {"input_tokens": 1, "output_tokens": 1}});
    claude.then(raw(200, "application/json", answer.to_string()));
    let mut body = json!({"model": "claude-x", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]});
    let (_, _, message) = post(&app, "/v1/messages", &body).await;
    assert_eq!((&message["stop_reason"], &message["stop_sequence"]), (&json!("stop_sequence"), &json!("END")));
    let upstream_events = [
        json!({"type": "message_start", "message": {"id": "msg_1", "model": "claude-x"}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "x"}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "stop_sequence", "stop_sequence": "END"}, "usage": {"output_tokens": 7}}),
        json!({"type": "message_stop"}),
    ];
    let bytes: String = upstream_events.iter().map(|event| format!("event: x\ndata: {event}\n\n")).collect();
    claude.then(raw(200, "text/event-stream", bytes));
    body["stream"] = json!(true);
    let seen = events(&app, "/v1/messages", &body).await;
    let delta = seen.iter().find(|(name, _)| name == "message_delta").map(|(_, data)| &data["delta"]);
    assert_eq!(delta, Some(&json!({"stop_reason": "stop_sequence", "stop_sequence": "END"})), "{seen:?}");
}

#[tokio::test]
async fn parallel_calls_that_interleave_become_blocks_one_after_the_other() {
    let one = upstream().await;
    let app = app("providers: { one: { format: openai, base_url: '{0}', models: [ { id: m } ] } }", &[&one]).await;
    let chunk = |delta: Value, finish: Value| json!({"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]});
    let call = |index: u32, id: Value, arguments: &str| {
        let name = if id.is_null() { Value::Null } else { json!("f") };
        chunk(
            json!({"tool_calls": [{"index": index, "id": id, "function": {"name": name, "arguments": arguments}}]}),
            Value::Null,
        )
    };
    one.always(crate::support::upstream::events(&[
        call(0, json!("a"), "{\"x\""),
        call(1, json!("b"), "{\"y\""),
        call(0, Value::Null, ":1}"),
        call(1, Value::Null, ":2}"),
        chunk(json!({}), json!("tool_calls")),
    ]));
    let body = json!({"model": "m", "max_tokens": 9, "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    let seen = events(&app, "/v1/messages", &body).await;
    let mut inputs = vec![String::new(), String::new()];
    let mut open = None;
    for (_, data) in &seen {
        match data["type"].as_str() {
            Some("content_block_start") => {
                assert_eq!(open, None, "one block at a time");
                open = data["index"].as_u64();
            }
            Some("content_block_delta") => {
                assert_eq!(open, data["index"].as_u64());
                inputs[open.expect("open") as usize].push_str(data["delta"]["partial_json"].as_str().expect("JSON"));
            }
            Some("content_block_stop") => open = None,
            _ => {}
        }
    }
    assert_eq!(inputs, ["{\"x\":1}", "{\"y\":2}"]);
}

#[tokio::test]
async fn errors_come_in_the_callers_shape() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(TWO, &[&one, &two]).await;
    let (status, headers, error) = post(&app, "/v1/messages", &json!({"model": "m"})).await;
    assert_eq!(
        (status, &error["type"], &error["error"]["type"]),
        (400, &json!("error"), &json!("invalid_request_error"))
    );
    assert_eq!(error["request_id"].as_str(), headers["x-request-id"].to_str().ok());
    let body = json!({"model": "nobody", "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]});
    let (status, _, error) = post(&app, "/v1/messages", &body).await;
    assert_eq!((status, &error["error"]["type"]), (404, &json!("not_found_error")));
    for (path, body, param) in [
        ("/v1/responses", json!({"model": "m", "input": "x", "previous_response_id": "r"}), "previous_response_id"),
        ("/v1/responses", json!({"model": "m"}), "input"),
        ("/v1/completions", json!({"model": "m", "prompt": [1, 2]}), "prompt"),
        ("/v1/embeddings", json!({"model": "m", "input": []}), "input"),
        ("/v1/embeddings", json!({"model": "auto", "input": "x"}), "model"),
    ] {
        let (status, _, error) = post(&app, path, &body).await;
        assert_eq!((status, &error["error"]["param"]), (400, &json!(param)), "{path}: {error}");
    }
    assert!(one.calls().is_empty() && two.calls().is_empty());
}

#[tokio::test]
async fn a_doubled_or_missing_v1_is_forgiven_and_an_unknown_path_names_the_known_ones() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(TWO, &[&one, &two]).await;
    one.always(model("hello"));
    let body = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "a"}]});
    for path in
        ["/v1/v1/chat/completions", "/chat/completions", "/v1/v1/messages", "/messages", "/anthropic/v1/messages"]
    {
        let (status, _, answer) = post(&app, path, &body).await;
        assert_eq!(status, 200, "{path}: {answer}");
    }
    let (status, _, error) = post(&app, "/v1/audio/speech", &body).await;
    assert_eq!(status, 404);
    assert!(error["error"]["message"].as_str().expect("text").contains("POST /v1/embeddings"), "{error}");
}

#[tokio::test]
async fn a_batch_of_texts_keeps_its_order_and_a_vector_short_is_a_failure() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(TWO, &[&one, &two]).await;
    let short = json!({"object": "list", "data": [{"index": 0, "embedding": [1.0]}], "usage": {"prompt_tokens": 1, "total_tokens": 1}});
    one.always(raw(200, "application/json", short.to_string()));
    two.always(model(""));
    let body = json!({"model": "m", "input": ["a", "bbb"], "dimensions": 1, "user": "u"});
    let (status, headers, answer) = post(&app, "/v1/embeddings", &body).await;
    assert_eq!((status, &headers["x-stepwell-provider"]), (200, &"two".parse().expect("a value")), "{answer}");
    assert_eq!((&answer["data"][0]["embedding"], &answer["data"][1]["embedding"]), (&json!([1.0]), &json!([3.0])));
    let sent = &two.calls()[0].body;
    assert_eq!((&sent["user"], &sent["dimensions"], &sent["input"]), (&json!("u"), &json!(1), &body["input"]));
}

#[tokio::test]
async fn what_only_anthropic_can_do_is_noted_elsewhere_and_refused_on_request() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(TWO, &[&one, &two]).await;
    one.always(model("hello"));
    let mut body =
        json!({"model": "one/m", "max_tokens": 9, "top_k": 4, "messages": [{"role": "user", "content": "a"}]});
    let (status, headers, _) = post(&app, "/v1/messages", &body).await;
    assert_eq!(status, 200);
    assert!(headers["x-stepwell-warnings"].to_str().expect("text").contains("top_k"), "{headers:?}");
    body["provider"] = json!({"require_parameters": true});
    let (status, _, error) = post(&app, "/v1/messages", &body).await;
    assert!(status == 400 || status == 422, "{error}");
}

#[tokio::test]
async fn tokens_are_counted_without_a_call() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(TWO, &[&one, &two]).await;
    let body =
        json!({"model": "m", "system": "Be brief.", "messages": [{"role": "user", "content": "one two three four"}]});
    let (status, _, counted) = post(&app, "/v1/messages/count_tokens", &body).await;
    let tokens = counted["input_tokens"].as_u64().expect("a number");
    assert!(status == 200 && (7..=20).contains(&tokens), "{counted}");
    assert!(one.calls().is_empty());
}

#[tokio::test]
async fn every_format_that_has_embeddings_gives_the_same_list() {
    let (google, cohere, ollama) = (upstream().await, upstream().await, upstream().await);
    let yaml = "
providers:
  google: { format: gemini, base_url: '{0}', api_key: g-x, models: [ { id: embed } ] }
  cohere: { format: cohere, base_url: '{1}', api_key: co-x, models: [ { id: embed } ] }
  ollama: { format: ollama, base_url: '{2}', models: [ { id: embed } ] }
  claude: { format: anthropic, base_url: '{0}', api_key: a-x, models: [ { id: claude-x } ] }
  demo: {}
";
    let app = app(yaml, &[&google, &cohere, &ollama]).await;
    google.always(raw(200, "application/json", r#"{"embeddings":[{"values":[1.0,0.0]},{"values":[0.0,1.0]}]}"#));
    cohere.always(raw(
        200,
        "application/json",
        r#"{"id":"e","embeddings":{"float":[[1.0,0.0],[0.0,1.0]]},"meta":{"billed_units":{"input_tokens":4}}}"#,
    ));
    ollama.always(raw(
        200,
        "application/json",
        r#"{"model":"embed","embeddings":[[1.0,0.0],[0.0,1.0]],"prompt_eval_count":4}"#,
    ));
    for provider in ["google", "cohere", "ollama"] {
        let body = json!({"model": format!("{provider}/embed"), "input": ["a", "b"], "dimensions": 2});
        let (status, _, answer) = post(&app, "/v1/embeddings", &body).await;
        assert_eq!(status, 200, "{provider}: {answer}");
        let vectors: Vec<&Value> =
            answer["data"].as_array().expect("a list").iter().map(|one| &one["embedding"]).collect();
        assert_eq!(vectors, [&json!([1.0, 0.0]), &json!([0.0, 1.0])], "{provider}");
        assert!(answer["usage"]["prompt_tokens"].as_u64() > Some(0), "{provider}: {answer}");
        assert_eq!(answer["usage"]["cost"], Value::Null, "an unknown price is not 0");
    }
    assert!(google.calls()[0].head.contains("/models/embed:batchembedcontents "), "{}", google.calls()[0].head);
    assert_eq!(google.calls()[0].body["requests"][1]["outputDimensionality"], 2);
    assert!(cohere.calls()[0].head.starts_with("post /v2/embed "), "{}", cohere.calls()[0].head);
    assert_eq!(
        (&cohere.calls()[0].body["texts"], &cohere.calls()[0].body["output_dimension"]),
        (&json!(["a", "b"]), &json!(2))
    );
    assert!(ollama.calls()[0].head.starts_with("post /api/embed "), "{}", ollama.calls()[0].head);
    let (status, _, error) = post(&app, "/v1/embeddings", &json!({"model": "claude-x", "input": "a"})).await;
    assert!(
        status == 400 && error["error"]["message"].as_str().is_some_and(|text| text.contains("no embeddings")),
        "{error}"
    );
    let of = async |text: &str| {
        let (_, _, answer) = post(&app, "/v1/embeddings", &json!({"model": "demo/small", "input": text})).await;
        answer["data"][0]["embedding"].clone()
    };
    assert!(of("one").await == of("one").await && of("one").await != of("two").await);
}
