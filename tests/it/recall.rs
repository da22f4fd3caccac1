//! Clients that drop members they do not know can still use tools where a provider wants its signatures back.

use serde_json::{Value, json};

use crate::support::app::App;
use crate::support::upstream::{Act, raw};
use crate::support::{Upstream, app, upstream};

const CLAUDES: &str = "
providers:
  claude: { format: anthropic, base_url: '{0}', api_key: sk-ant-x, models: [ { id: claude-x, max_output: 8k } ] }
  google: { format: gemini, base_url: '{1}', api_key: g-x, models: [ { id: gemini-x } ] }
  other: { format: openai, base_url: '{2}', models: [ { id: gpt-x } ] }
  cloud: { format: bedrock, base_url: '{3}', region: us-east-1, access_key_id: AKIDEXAMPLE, secret_access_key: secret-of-aws, models: [ { id: 'anthropic.claude-sonnet-4-5-v1:0' } ] }
";

struct Stage {
    claude: Upstream,
    google: Upstream,
    other: Upstream,
    cloud: Upstream,
    app: App,
}

async fn stage() -> Stage {
    let (claude, google, other, cloud) = (upstream().await, upstream().await, upstream().await, upstream().await);
    let app = app(CLAUDES, &[&claude, &google, &other, &cloud]).await;
    Stage { claude, google, other, cloud, app }
}

fn tools() -> Value {
    json!([{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}])
}

fn question(model: &str) -> Value {
    json!({"model": model, "max_tokens": 4000, "thinking": {"type": "enabled", "budget_tokens": 1024}, "tools": tools(),
        "messages": [{"role": "user", "content": "look"}]})
}

/// The next turn of a client that knows OpenAI's members only.
fn next_turn(model: &str, ids: &[&str]) -> Value {
    let mut body = question(model);
    let messages = body["messages"].as_array_mut().expect("messages");
    for id in ids {
        let call = json!({"id": id, "type": "function", "function": {"name": "look", "arguments": "{}"}});
        messages.push(json!({"role": "assistant", "content": null, "tool_calls": [call]}));
        messages.push(json!({"role": "tool", "tool_call_id": id, "content": "seen"}));
    }
    body
}

fn thinking(signature: &str) -> Value {
    json!({"type": "thinking", "thinking": "hm", "signature": signature})
}

fn claude_calls(id: &str, signature: &str) -> Act {
    let call = json!({"type": "tool_use", "id": id, "name": "look", "input": {}});
    let answer = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x",
        "stop_reason": "tool_use", "content": [thinking(signature), call], "usage": {"input_tokens": 1, "output_tokens": 1}});
    raw(200, "application/json", answer.to_string())
}

fn claude_streams(id: &str, signature: &str) -> Act {
    let events = [
        json!({"type": "message_start", "message": {"id": "msg_1", "model": "claude-x", "usage": {"input_tokens": 1, "output_tokens": 1}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": signature}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": id, "name": "look", "input": {}}}),
        json!({"type": "content_block_stop", "index": 1}),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 7}}),
        json!({"type": "message_stop"}),
    ];
    let bytes: String = events.iter().map(|event| format!("event: x\ndata: {event}\n\n")).collect();
    raw(200, "text/event-stream", bytes)
}

fn gemini_streams(id: &str, signature: &str) -> Act {
    let call = json!({"functionCall": {"id": id, "name": "look", "args": {}}, "thoughtSignature": signature});
    let events = [
        json!({"candidates": [{"content": {"role": "model", "parts": [call]}}], "responseId": "r"}),
        json!({"candidates": [{"content": {"role": "model", "parts": [{"text": ""}]}, "finishReason": "STOP"}], "responseId": "r"}),
    ];
    let bytes: String = events.iter().map(|event| format!("data: {event}\r\n\r\n")).collect();
    raw(200, "text/event-stream", bytes)
}

#[tokio::test]
async fn claude_gets_its_signed_thinking_back_from_a_client_that_dropped_it() {
    let Stage { claude, app, .. } = stage().await;
    claude.then(claude_calls("toolu_1", "sig1")).then(claude_calls("toolu_2", "sig2"));
    app.chat(&question("claude-x")).await;
    app.chat(&next_turn("claude-x", &["toolu_1"])).await;
    let first = &claude.last()["messages"][1];
    assert_eq!((&first["role"], &first["content"][0]), (&json!("assistant"), &thinking("sig1")), "{first}");
    // The third turn holds two calls, each with its own thinking.
    app.chat(&next_turn("claude-x", &["toolu_1", "toolu_2"])).await;
    let messages = claude.last()["messages"].clone();
    assert_eq!(messages[1]["content"][0], thinking("sig1"), "{messages}");
    assert_eq!(messages[3]["content"][0], thinking("sig2"), "{messages}");
}

#[tokio::test]
async fn streamed_thinking_is_remembered_once_the_stream_is_complete() {
    let Stage { claude, app, .. } = stage().await;
    let cut = String::from("event: x\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\"}}\n\n");
    claude.then(claude_streams("toolu_1", "sig1")).then(raw(200, "text/event-stream", cut));
    assert!(app.stream(&question("claude-x")).await.done);
    app.stream(&next_turn("claude-x", &["toolu_1"])).await;
    assert_eq!(claude.last()["messages"][1]["content"][0], thinking("sig1"), "{}", claude.last());
}

#[tokio::test]
async fn gemini_gets_its_thought_signature_back_from_a_client_that_dropped_it() {
    let Stage { google, app, .. } = stage().await;
    google.then(gemini_streams("c1", "sigA")).then(gemini_streams("c2", "sigB")).always(gemini_streams("c3", "sigC"));
    assert!(app.stream(&question("gemini-x")).await.done);
    assert!(app.stream(&next_turn("gemini-x", &["c1"])).await.done);
    let part = &google.last()["contents"][1]["parts"][0];
    assert_eq!(part["thoughtSignature"], "sigA", "{part}");
    assert!(app.stream(&next_turn("gemini-x", &["c1", "c2"])).await.done);
    let contents = google.last()["contents"].clone();
    assert_eq!(contents[1]["parts"][0]["thoughtSignature"], "sigA", "{contents}");
    assert_eq!(contents[3]["parts"][0]["thoughtSignature"], "sigB", "{contents}");
}

#[tokio::test]
async fn a_signature_goes_to_the_format_that_made_it_and_to_no_other() {
    let Stage { claude, google, other, cloud, app } = stage().await;
    claude.then(claude_calls("toolu_1", "sig1"));
    app.chat(&question("claude-x")).await;
    for (upstream, model) in [(&google, "gemini-x"), (&other, "gpt-x"), (&cloud, "anthropic.claude-sonnet-4-5-v1:0")] {
        app.chat(&next_turn(model, &["toolu_1"])).await;
        assert!(upstream.count() > 0, "{model} is asked");
        assert!(!upstream.last().to_string().contains("sig1"), "{model}: {}", upstream.last());
    }
    // A client's own bytes go on as they came.
    assert_eq!(other.last()["messages"], next_turn("gpt-x", &["toolu_1"])["messages"]);
}

#[tokio::test]
async fn what_the_client_sends_back_itself_stands() {
    let Stage { claude, app, .. } = stage().await;
    claude.then(claude_calls("toolu_1", "sig1"));
    app.chat(&question("claude-x")).await;
    let mut body = next_turn("claude-x", &["toolu_1"]);
    body["messages"][1]["thinking_blocks"] = json!([thinking("its own")]);
    app.chat(&body).await;
    assert_eq!(claude.last()["messages"][1]["content"][0], thinking("its own"));
    assert!(!claude.last().to_string().contains("sig1"), "{}", claude.last());
}
