//! Providers that speak another language: what goes out is theirs, what comes back is OpenAI's.

use serde_json::{Value, json};

use crate::support::app::ask;
use crate::support::upstream::{Act, chat, raw};
use crate::support::{app, upstream};

const ANTHROPIC: &str = "
providers:
  claude: { format: anthropic, base_url: '{0}', api_key: sk-ant-x, models: [ { id: claude-x, price: { input: 3, output: 15, cached_input: 0.3 }, max_output: 8k } ] }
cache: { enabled: false }
";
const GEMINI: &str = "
providers:
  google: { format: gemini, base_url: '{0}', api_key: g-x, models: [ { id: gemini-x, price: { input: 1, output: 4 } } ] }
cache: { enabled: false }
";
const COHERE: &str = "
providers:
  cohere: { base_url: '{0}', api_key: co-x, models: [ { id: command-x, price: { input: 1, output: 2 } } ] }
cache: { enabled: false }
";
const OLLAMA: &str = "
providers:
  local: { format: ollama, base_url: '{0}', models: [ { id: llama-x } ] }
cache: { enabled: false }
";

fn conversation() -> Value {
    json!({"model": "auto", "max_tokens": 100, "messages": [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello"}, {"role": "user", "content": "again"},
    ]})
}

fn events(events: &[(&str, Value)]) -> Vec<u8> {
    events.iter().map(|(name, data)| format!("event: {name}\ndata: {data}\n\n")).collect::<String>().into_bytes()
}

#[tokio::test]
async fn anthropic_is_asked_in_its_own_words_and_answers_in_openais() {
    let claude = upstream().await;
    let app = app(ANTHROPIC, &[&claude]).await;
    let answer = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x-2026", "stop_reason": "end_turn",
        "content": [{"type": "text", "text": "Hi again."}],
        "usage": {"input_tokens": 10, "cache_read_input_tokens": 90, "cache_creation_input_tokens": 0, "output_tokens": 5},
    });
    claude.always(raw(200, "application/json", answer.to_string()));
    let (status, _, body) = app.chat(&conversation()).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["choices"][0]["message"]["content"], "Hi again.");
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    // Anthropic counts cached tokens apart, OpenAI among the prompt's.
    assert_eq!(
        (&body["usage"]["prompt_tokens"], &body["usage"]["prompt_tokens_details"]["cached_tokens"]),
        (&json!(100), &json!(90))
    );
    // 10 at $3, 90 at $0.30 and 5 at $15 a million.
    assert_eq!(body["usage"]["cost"], json!(0.000132));
    let call = &claude.calls()[0];
    assert!(call.head.starts_with("post /v1/messages ") && call.head.contains("x-api-key: sk-ant-x"), "{}", call.head);
    assert!(
        call.head.contains("anthropic-version: 2023-06-01") && !call.head.contains("authorization"),
        "{}",
        call.head
    );
    assert_eq!((&call.body["max_tokens"], &call.body["model"]), (&json!(100), &json!("claude-x")));
    assert!(call.body["system"].to_string().contains("Be brief."), "{}", call.body);
    assert_eq!(call.body["messages"].as_array().map(Vec::len), Some(3));
}

#[tokio::test]
async fn an_anthropic_stream_becomes_an_openai_stream_and_its_cut_an_error() {
    let claude = upstream().await;
    let app = app(ANTHROPIC, &[&claude]).await;
    let start = (
        "message_start",
        json!({"type": "message_start", "message": {"id": "msg_1", "model": "claude-x", "usage": {"input_tokens": 10, "output_tokens": 1}}}),
    );
    let block = (
        "content_block_start",
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
    );
    let text = |text: &str| {
        (
            "content_block_delta",
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}),
        )
    };
    let end = (
        "message_delta",
        json!({"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": {"output_tokens": 7}}),
    );
    let stop = ("message_stop", json!({"type": "message_stop"}));
    let mut body = conversation();
    body["stream_options"] = json!({"include_usage": true});
    let whole = events(&[start.clone(), block.clone(), text("one "), text("two"), end, stop]);
    for slice in [0, 1, 5] {
        claude.then(raw(200, "text/event-stream", whole.clone()).sliced(slice));
        let streamed = app.stream(&body).await;
        assert_eq!(
            (streamed.text().as_str(), streamed.finishes(), streamed.done),
            ("one two", vec!["length"], true),
            "{}",
            streamed.raw
        );
        assert_eq!(streamed.chunks.last().expect("chunks")["usage"]["completion_tokens"], 7);
    }
    claude.then(raw(200, "text/event-stream", events(&[start, block, text("one ")])));
    let cut = app.stream(&body).await;
    assert_eq!(cut.error().expect("an error event")["code"], "upstream_stream_interrupted");
    assert!(!cut.done && cut.finishes().is_empty());
}

#[tokio::test]
async fn gemini_is_asked_in_its_own_words_and_answers_in_openais() {
    let google = upstream().await;
    let app = app(GEMINI, &[&google]).await;
    let candidate = json!({"candidates": [{"content": {"role": "model", "parts": [{"text": "Hi again."}]}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 12, "candidatesTokenCount": 3, "thoughtsTokenCount": 4, "totalTokenCount": 19}, "modelVersion": "gemini-x"});
    google.then(raw(200, "application/json", candidate.to_string()));
    let (status, _, body) = app.chat(&conversation()).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["choices"][0]["message"]["content"], "Hi again.");
    assert_eq!(
        (&body["usage"]["completion_tokens"], &body["usage"]["completion_tokens_details"]["reasoning_tokens"]),
        (&json!(7), &json!(4))
    );
    let call = &google.calls()[0];
    assert!(
        call.head.starts_with("post /v1/models/gemini-x:generatecontent ") && call.head.contains("x-goog-api-key: g-x"),
        "{}",
        call.head
    );
    assert_eq!(call.body["contents"].as_array().map(Vec::len), Some(3));
    assert_eq!(call.body["generationConfig"]["maxOutputTokens"], 100);
    google.then(raw(200, "text/event-stream", format!("data: {candidate}\r\n\r\n")));
    let streamed = app.stream(&conversation()).await;
    assert_eq!(
        (streamed.text().as_str(), streamed.finishes(), streamed.done),
        ("Hi again.", vec!["stop"], true),
        "{}",
        streamed.raw
    );
    assert!(
        google.calls()[1].head.starts_with("post /v1/models/gemini-x:streamgeneratecontent?alt=sse "),
        "{}",
        google.calls()[1].head
    );
}

#[tokio::test]
async fn what_a_format_cannot_say_is_noted_or_refused_and_never_dropped_in_silence() {
    let claude = upstream().await;
    let app = app(ANTHROPIC, &[&claude]).await;
    let answer = json!({"id": "m", "type": "message", "role": "assistant", "content": [{"type": "text", "text": "x"}], "stop_reason": "end_turn", "usage": {"input_tokens": 1, "output_tokens": 1}});
    claude.always(raw(200, "application/json", answer.to_string()));
    let mut body = ask("hi");
    body["seed"] = json!(7);
    let (_, headers, _) = app.chat(&body).await;
    assert!(headers["x-stepwell-warnings"].to_str().expect("text").contains("seed"), "{headers:?}");
    body["n"] = json!(2);
    let (status, _, answer) = app.chat(&body).await;
    assert_eq!((status, answer["error"]["param"].as_str()), (400, Some("n")), "{answer}");
}

#[tokio::test]
async fn cohere_is_asked_in_its_own_words_and_answers_in_openais() {
    let cohere = upstream().await;
    let app = app(COHERE, &[&cohere]).await;
    let usage = json!({"billed_units": {"input_tokens": 2, "output_tokens": 3},
        "tokens": {"input_tokens": 90, "output_tokens": 7, "reasoning_tokens": 4}, "cached_tokens": 64});
    let citation = json!({"start": 0, "end": 2, "text": "Hi", "sources": []});
    let answer = json!({"id": "a", "finish_reason": "COMPLETE", "usage": usage, "message": {"role": "assistant", "citations": [citation],
        "content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Hi again."}]}});
    cohere.then(raw(200, "application/json", answer.to_string()));
    let (status, _, body) = app.chat(&conversation()).await;
    assert_eq!(status, 200, "{body}");
    let message = &body["choices"][0]["message"];
    assert_eq!((&message["content"], &message["reasoning_content"]), (&json!("Hi again."), &json!("Hm.")));
    assert_eq!(message["citations"][0]["text"], "Hi");
    let usage_seen = &body["usage"];
    assert_eq!((&usage_seen["prompt_tokens"], &usage_seen["completion_tokens"]), (&json!(90), &json!(7)));
    assert_eq!(usage_seen["prompt_tokens_details"]["cached_tokens"], 64);
    assert_eq!(usage_seen["billed_units"]["input_tokens"], 2);
    // Two tokens at $1 and three at $2 a million: what is billed, not what the model saw.
    assert_eq!(usage_seen["cost"], json!(0.000008));
    let call = &cohere.calls()[0];
    assert!(
        call.head.starts_with("post /v2/chat ") && call.head.contains("authorization: bearer co-x"),
        "{}",
        call.head
    );
    assert_eq!((&call.body["max_tokens"], &call.body["messages"][0]["role"]), (&json!(100), &json!("system")));
}

#[tokio::test]
async fn a_cohere_stream_becomes_an_openai_stream_and_its_cut_an_error() {
    let cohere = upstream().await;
    let app = app(COHERE, &[&cohere]).await;
    let event = |kind: &'static str, index: u32, message: Value| {
        (kind, json!({"type": kind, "index": index, "delta": {"message": message}}))
    };
    let call = json!({"id": "w_1", "type": "function", "function": {"name": "w", "arguments": ""}});
    let end = json!({"type": "message-end", "delta": {"finish_reason": "TOOL_CALL",
        "usage": {"tokens": {"input_tokens": 9, "output_tokens": 5}}}});
    let all = [
        ("message-start", json!({"type": "message-start", "id": "a", "delta": {"message": {"role": "assistant"}}})),
        event("tool-plan-delta", 0, json!({"tool_plan": "I look."})),
        event("content-start", 0, json!({"content": {"type": "text", "text": "one "}})),
        event("content-delta", 0, json!({"content": {"text": "two"}})),
        event("tool-call-start", 1, json!({ "tool_calls": call })),
        event("tool-call-delta", 1, json!({"tool_calls": {"function": {"arguments": "{\"a\":1}"}}})),
        ("tool-call-end", json!({"type": "tool-call-end", "index": 1})),
        ("message-end", end),
    ];
    let mut body = conversation();
    body["stream_options"] = json!({"include_usage": true});
    for slice in [0, 1, 5] {
        cohere.then(raw(200, "text/event-stream", events(&all)).sliced(slice));
        let streamed = app.stream(&body).await;
        assert_eq!(
            (streamed.text().as_str(), streamed.finishes(), streamed.done),
            ("one two", vec!["tool_calls"], true),
            "{}",
            streamed.raw
        );
        assert_eq!(streamed.chunks.last().expect("chunks")["usage"]["prompt_tokens"], 9);
        let call = streamed.chunks.iter().find_map(|chunk| {
            let call = &chunk["choices"][0]["delta"]["tool_calls"][0];
            call["id"].is_string().then(|| call.clone())
        });
        assert_eq!(call.map(|call| call["index"].clone()), Some(json!(0)), "calls are counted from 0");
    }
    cohere.then(raw(200, "text/event-stream", [events(&all[..4]), b"data: [DONE]\n\n".to_vec()].concat()));
    let cut = app.stream(&body).await;
    assert_eq!(cut.error().expect("an error event")["code"], "upstream_stream_interrupted");
    assert!(!cut.done && cut.finishes().is_empty());
}

#[tokio::test]
async fn ollama_is_asked_in_its_own_words_and_answers_in_openais() {
    let ollama = upstream().await;
    let app = app(OLLAMA, &[&ollama]).await;
    let call = json!({"function": {"index": 0, "name": "w", "arguments": {"a": 1}}});
    let answer = json!({"model": "llama-x", "created_at": "2026-01-01T00:00:00Z", "done": true, "done_reason": "stop",
        "message": {"role": "assistant", "content": "", "thinking": "Hm.", "tool_calls": [call, call]}, "prompt_eval_count": 12, "eval_count": 3});
    ollama.then(raw(200, "application/json; charset=utf-8", answer.to_string()));
    let (status, _, body) = app.chat(&conversation()).await;
    assert_eq!(status, 200, "{body}");
    let choice = &body["choices"][0];
    assert_eq!((&choice["finish_reason"], &choice["message"]["content"]), (&json!("tool_calls"), &Value::Null));
    assert_eq!(choice["message"]["reasoning_content"], "Hm.");
    let calls = choice["message"]["tool_calls"].as_array().expect("calls");
    assert_eq!(calls[0]["function"]["arguments"], "{\"a\":1}");
    assert!(calls[0]["id"] != calls[1]["id"], "{calls:?}");
    assert_eq!((&body["usage"]["prompt_tokens"], &body["usage"]["completion_tokens"]), (&json!(12), &json!(3)));
    let sent = &ollama.calls()[0];
    assert!(sent.head.starts_with("post /api/chat "), "{}", sent.head);
    assert_eq!((&sent.body["stream"], &sent.body["options"]["num_predict"]), (&json!(false), &json!(100)));
}

#[tokio::test]
async fn lines_of_ollama_become_an_openai_stream_and_their_cut_an_error() {
    let ollama = upstream().await;
    let app = app(OLLAMA, &[&ollama]).await;
    let line = |text: &str| {
        json!({"model": "llama-x", "message": {"role": "assistant", "content": text}, "done": false}).to_string() + "\n"
    };
    let end = "{\"model\":\"llama-x\",\"message\":{\"content\":\"\"},\"done\":true,\"done_reason\":\"length\",\"prompt_eval_count\":5,\"eval_count\":2}";
    let whole = format!("{}{}{end}", line("one "), line("twö"));
    for slice in [0, 1, 5] {
        ollama.then(raw(200, "application/x-ndjson", whole.clone()).sliced(slice));
        let streamed = app.stream(&conversation()).await;
        assert_eq!(
            (streamed.text().as_str(), streamed.finishes(), streamed.done),
            ("one twö", vec!["length"], true),
            "{}",
            streamed.raw
        );
    }
    for rest in ["", "{\"error\":\"the runner stopped\"}\n"] {
        ollama.then(raw(200, "application/x-ndjson", line("one ") + rest));
        let cut = app.stream(&conversation()).await;
        assert_eq!(cut.error().expect("an error event")["code"], "upstream_stream_interrupted", "{rest}");
        assert!(!cut.done && cut.finishes().is_empty());
    }
}

const SEVERAL: &str = "
providers:
  claude: { format: anthropic, base_url: '{0}', api_key: k, priority: 1, models: [ { id: claude-x, max_output: 8k } ] }
  other: { format: openai, base_url: '{1}', priority: 2, models: [ { id: m } ] }
routing: { strategy: priority }
cache: { enabled: false }
";

#[tokio::test]
async fn who_requires_parameters_gets_a_target_that_takes_them_all() {
    let (claude, other) = (upstream().await, upstream().await);
    let app = app(SEVERAL, &[&claude, &other]).await;
    let message = json!({"id": "m", "type": "message", "role": "assistant", "content": [{"type": "text", "text": "claude"}], "stop_reason": "end_turn", "usage": {"input_tokens": 1, "output_tokens": 1}});
    claude.always(raw(200, "application/json", message.to_string()));
    other.always(crate::support::upstream::chat("other"));
    let mut body = ask("hi");
    body["seed"] = json!(7);
    assert_eq!(app.chat(&body).await.2["choices"][0]["message"]["content"], "claude");
    body["provider"] = json!({"require_parameters": true});
    assert_eq!(app.chat(&body).await.2["choices"][0]["message"]["content"], "other");
    assert_eq!(claude.count(), 1, "nothing was sent there");
    body["model"] = json!("claude/claude-x");
    let (status, _, answer) = app.chat(&body).await;
    assert_eq!((status, answer["error"]["code"].as_str()), (400, Some("unsupported_parameter")), "{answer}");
}

#[tokio::test]
async fn an_absurd_count_is_replaced_by_an_estimate_and_counted() {
    let other = upstream().await;
    let app = app("providers: { absurd: { format: openai, base_url: '{0}', models: [ { id: m } ] } }", &[&other]).await;
    let answer = json!({"id": "a", "choices": [{"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": -5, "completion_tokens": 1}});
    other.always(raw(200, "application/json", answer.to_string()));
    let (status, _, body) = app.chat(&ask("hi")).await;
    assert_eq!((status, &body["usage"]["estimated"]), (200, &json!(true)), "{body}");
    let metrics = app.client.get(format!("{}/metrics", app.url)).send().await.expect("an answer");
    let metrics = metrics.text().await.expect("text");
    assert!(metrics.contains("stepwell_usage_refused_total{provider=\"absurd\"} 1"), "{metrics}");
}

const BEDROCK: &str = "
providers:
  aws: { format: bedrock, base_url: '{0}', region: us-east-1, access_key_id: AKIDEXAMPLE, secret_access_key: secret-of-aws, priority: 1, models: [ { id: 'anthropic.claude-x-v1:0', price: { input: 3, output: 15 } } ] }
  other: { format: openai, base_url: '{1}', priority: 2, models: [ { id: spare, price: free } ] }
routing: { strategy: priority }
retry: { same_target: 0 }
cache: { enabled: false }
";

/// A frame of Amazon's event stream, written from its description.
fn frame(kind: &str, name: &str, payload: &Value) -> Vec<u8> {
    let checksum = |bytes: &[u8]| {
        !bytes.iter().fold(u32::MAX, |sum, byte| {
            (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0xEDB8_8320 & (sum & 1).wrapping_neg()))
        })
    };
    let mut headers = Vec::new();
    for (key, value) in [(":message-type", kind), (&format!(":{kind}-type"), name)] {
        headers.extend([&[key.len() as u8], key.as_bytes(), &[7, 0, value.len() as u8], value.as_bytes()].concat());
    }
    let payload = payload.to_string();
    let mut frame = ((headers.len() + payload.len() + 16) as u32).to_be_bytes().to_vec();
    frame.extend((headers.len() as u32).to_be_bytes());
    frame.extend(checksum(&frame).to_be_bytes());
    frame.extend([&headers, payload.as_bytes()].concat());
    frame.extend(checksum(&frame).to_be_bytes());
    frame
}

fn frames(events: &[(&str, Value)]) -> Act {
    let bytes: Vec<u8> = events
        .iter()
        .flat_map(|(name, payload)| {
            frame(if name.ends_with("Exception") { "exception" } else { "event" }, name, payload)
        })
        .collect();
    raw(200, "application/vnd.amazon.eventstream", bytes)
}

#[tokio::test]
async fn bedrock_behind_a_proxy_may_send_server_sent_events() {
    let (aws, spare) = (upstream().await, upstream().await);
    let app = app(BEDROCK, &[&aws, &spare]).await;
    let all = [
        json!({"messageStart": {"role": "assistant"}}),
        json!({"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "hello"}}}),
        json!({"contentBlockStop": {"contentBlockIndex": 0}}),
        json!({"messageStop": {"stopReason": "end_turn"}}),
        json!({"metadata": {"usage": {"inputTokens": 4, "outputTokens": 2, "totalTokens": 6}}}),
    ];
    let bytes: String = all.iter().map(|event| format!("data: {event}\n\n")).collect();
    aws.always(raw(200, "text/event-stream", bytes).sliced(3));
    let streamed = app.stream(&conversation()).await;
    assert_eq!(
        (streamed.text().as_str(), streamed.finishes(), streamed.done),
        ("hello", vec!["stop"], true),
        "{}",
        streamed.raw
    );
}

#[tokio::test]
async fn bedrock_is_asked_with_a_signature_and_answers_in_openais_words() {
    let (aws, spare) = (upstream().await, upstream().await);
    let app = app(BEDROCK, &[&aws, &spare]).await;
    let answer = json!({
        "output": {"message": {"role": "assistant", "content": [{"text": "Hi again."}]}}, "stopReason": "end_turn",
        "usage": {"inputTokens": 10, "cacheReadInputTokens": 90, "outputTokens": 5, "totalTokens": 105},
    });
    aws.then(raw(200, "application/json", answer.to_string()));
    let (status, _, body) = app.chat(&conversation()).await;
    assert_eq!((status, &body["choices"][0]["message"]["content"]), (200, &json!("Hi again.")), "{body}");
    assert_eq!(body["usage"]["prompt_tokens"], 100);
    let call = &aws.calls()[0];
    assert!(call.head.contains("/model/anthropic.claude-x-v1%3a0/converse "), "{}", call.head);
    for part in [
        "authorization: aws4-hmac-sha256 credential=akidexample/",
        "/us-east-1/bedrock/aws4_request",
        "signedheaders=content-type;host;x-amz-date",
        "x-amz-date: ",
    ] {
        assert!(call.head.contains(part), "{part} in {}", call.head);
    }
    assert!(!call.head.contains("secret-of-aws"));
    assert_eq!(call.body["system"], json!([{"text": "Be brief."}]));

    // Throttled: the next provider answers.
    aws.then(
        raw(429, "application/json", r#"{"message":"Too many requests"}"#)
            .header("x-amzn-errortype", "ThrottlingException:http://internal.amazon.com/"),
    );
    spare.always(chat("from the spare"));
    let (status, _, body) = app.chat(&conversation()).await;
    assert_eq!((status, &body["choices"][0]["message"]["content"]), (200, &json!("from the spare")), "{body}");
}

#[tokio::test]
async fn a_bedrock_stream_becomes_an_openai_stream_and_its_cut_an_error() {
    let (aws, spare) = (upstream().await, upstream().await);
    spare.always(chat("from the spare"));
    let app = app(BEDROCK, &[&aws, &spare]).await;
    let text = |text: &str| ("contentBlockDelta", json!({"contentBlockIndex": 0, "delta": {"text": text}}));
    let start = ("messageStart", json!({"role": "assistant"}));
    let whole = [
        start.clone(),
        text("one "),
        text("two"),
        ("contentBlockStop", json!({"contentBlockIndex": 0})),
        ("messageStop", json!({"stopReason": "max_tokens"})),
        ("metadata", json!({"usage": {"inputTokens": 10, "outputTokens": 7, "totalTokens": 17}})),
    ];
    let mut body = conversation();
    body["stream_options"] = json!({"include_usage": true});
    for slice in [0, 1, 5] {
        aws.then(frames(&whole).sliced(slice));
        let streamed = app.stream(&body).await;
        assert_eq!(
            (streamed.text().as_str(), streamed.finishes(), streamed.done),
            ("one two", vec!["length"], true),
            "{}",
            streamed.raw
        );
        assert_eq!(streamed.chunks.last().expect("chunks")["usage"]["completion_tokens"], 7);
    }
    // Thinking is sealed where it ends, for callers who speak Messages.
    let thought = |reasoning: Value| {
        ("contentBlockDelta", json!({"contentBlockIndex": 0, "delta": {"reasoningContent": reasoning}}))
    };
    aws.then(frames(&[
        start.clone(),
        thought(json!({"text": "hm"})),
        thought(json!({"signature": "sig"})),
        ("contentBlockStop", json!({"contentBlockIndex": 0})),
        ("contentBlockDelta", json!({"contentBlockIndex": 1, "delta": {"text": "hello"}})),
        ("messageStop", json!({"stopReason": "end_turn"})),
        ("metadata", json!({"usage": {"inputTokens": 10, "outputTokens": 7, "totalTokens": 17}})),
    ]));
    let own =
        json!({"model": "auto", "max_tokens": 9, "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    let events = app.post("/v1/messages", &own).await.text().await.expect("text");
    let (signed, said) = (events.find("\"signature\":\"sig\""), events.find("hello"));
    assert!(signed.is_some() && signed < said, "{events}");
    aws.then(frames(&[start.clone(), text("one ")]));
    let cut = app.stream(&body).await;
    assert_eq!(cut.error().expect("an error event")["code"], "upstream_stream_interrupted");
    assert!(!cut.done && cut.finishes().is_empty());
    // An exception before any content is a failure like any other.
    aws.then(frames(&[start, ("throttlingException", json!({"message": "slow down"}))]));
    assert_eq!(app.stream(&body).await.text(), "from the spare");
}

const VERTEX: &str = r#"
providers:
  google: { format: vertex, base_url: '{0}', project: p, location: global, credentials: '${file:key.json}', models: [ { id: gemini-x, price: free }, { id: claude-x, price: free } ] }
cache: { enabled: false }
"#;

#[tokio::test]
async fn vertex_is_asked_with_a_token_that_is_fetched_once() {
    let (google, tokens) = (upstream().await, upstream().await);
    let key = json!({
        "type": "service_account", "client_email": "me@x.example", "private_key_id": "7",
        "private_key": include_str!("support/throwaway_key.pem"), "token_uri": format!("{}/token", tokens.url),
    });
    let quoted = key.to_string().replace('\'', "''");
    let app = app(&VERTEX.replace("${file:key.json}", &quoted), &[&google]).await;
    tokens.always(raw(200, "application/json", r#"{"access_token":"ya29.fetched","expires_in":3599}"#));
    let candidate =
        json!({"candidates": [{"content": {"role": "model", "parts": [{"text": "Hi."}]}, "finishReason": "STOP"}]});
    google.then(raw(200, "application/json", candidate.to_string()));
    let mut body = conversation();
    body["model"] = json!("google/gemini-x");
    let (status, _, answer) = app.chat(&body).await;
    assert_eq!((status, &answer["choices"][0]["message"]["content"]), (200, &json!("Hi.")), "{answer}");
    let message = json!({"type": "message", "content": [{"type": "text", "text": "Hi."}], "stop_reason": "end_turn"});
    google.then(raw(200, "application/json", message.to_string()));
    body["model"] = json!("google/claude-x");
    let (status, _, answer) = app.chat(&body).await;
    assert_eq!((status, &answer["choices"][0]["message"]["content"]), (200, &json!("Hi.")), "{answer}");
    assert_eq!(tokens.count(), 1, "the second request has the first one's token");
    let place = "/projects/p/locations/global/publishers/";
    for (call, path) in
        google.calls().iter().zip(["google/models/gemini-x:generatecontent", "anthropic/models/claude-x:rawpredict"])
    {
        assert!(call.head.contains(&format!("{place}{path} ")), "{}", call.head);
        assert!(call.head.contains("authorization: bearer ya29.fetched"), "{}", call.head);
    }
    assert_eq!(google.calls()[1].body["anthropic_version"], "vertex-2023-10-16");
}

#[tokio::test]
async fn a_refused_token_is_that_providers_failure_and_shows_no_secret() {
    let (google, tokens) = (upstream().await, upstream().await);
    let key = json!({
        "client_email": "me@x.example", "private_key": include_str!("support/throwaway_key.pem"),
        "token_uri": format!("{}/token", tokens.url),
    });
    let app = app(&VERTEX.replace("${file:key.json}", &key.to_string()), &[&google]).await;
    tokens.always(raw(400, "application/json", r#"{"error":"invalid_grant","error_description":"eyJ.leak"}"#));
    let mut body = ask("hi");
    body["model"] = json!("google/gemini-x");
    let (status, _, answer) = app.chat(&body).await;
    assert!(status >= 500 && !answer.to_string().contains("leak"), "{status} {answer}");
    assert_eq!((google.count(), tokens.count()), (0, 1), "a wrong credential is not tried twice");
}
