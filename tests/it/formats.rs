//! Providers that speak another language: what goes out is theirs, what comes back is OpenAI's.

use serde_json::{Value, json};

use crate::support::app::ask;
use crate::support::upstream::raw;
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
