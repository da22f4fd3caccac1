//! Streams tell the truth: one role, one finish, one end. What breaks them stands in `faults/streaming.rs`.

use serde_json::{Value, json};

use crate::support::app::ask;
use crate::support::upstream::{events, raw};
use crate::support::{app, upstream};

const TWO: &str = "
providers:
  one: { format: openai, base_url: '{0}', priority: 1, models: [ { id: m1, price: { input: 1, output: 2 } } ] }
  two: { format: openai, base_url: '{1}', priority: 2, models: [ { id: m2, price: { input: 3, output: 4 } } ] }
routing: { strategy: priority }
cache: { enabled: false }
";

fn usage_too(prompt: &str) -> Value {
    let mut body = ask(prompt);
    body["stream_options"] = json!({"include_usage": true});
    body
}

#[tokio::test]
async fn a_stream_has_one_id_a_role_first_one_finish_and_an_end() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(TWO, &[&one, &two]).await;
    let streamed = app.stream(&usage_too("hi")).await;
    assert_eq!(streamed.header("content-type"), "text/event-stream");
    assert_eq!(streamed.text(), "hello from upstream");
    assert!(streamed.done);
    assert_eq!(streamed.finishes(), ["stop"]);
    assert_eq!(streamed.chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let roles = streamed.chunks.iter().filter(|chunk| chunk["choices"][0]["delta"]["role"].is_string()).count();
    assert_eq!(roles, 1);
    for member in ["id", "created", "model", "object"] {
        assert!(streamed.chunks.iter().all(|chunk| chunk[member] == streamed.chunks[0][member]), "{member}");
    }
    let last = streamed.chunks.last().expect("chunks");
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["completion_tokens"], 3);
    assert_eq!(last["usage"]["cost"], json!(0.000016));
    assert_eq!(one.last()["stream_options"]["include_usage"], true);
}

#[tokio::test]
async fn usage_is_always_asked_for_and_only_shown_to_those_who_asked() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(TWO, &[&one, &two]).await;
    let streamed = app.stream(&ask("hi")).await;
    assert!(streamed.chunks.iter().all(|chunk| chunk.get("usage").is_none()), "{}", streamed.raw);
    assert!(streamed.chunks.iter().all(|chunk| chunk["choices"] != json!([])));
    assert_eq!(one.last()["stream_options"]["include_usage"], true);
    let row = app.row(&streamed.headers).await;
    assert_eq!((row["prompt_tokens"].as_u64(), row["completion_tokens"].as_u64()), (Some(10), Some(3)), "{row}");
}

#[tokio::test]
async fn tool_calls_are_numbered_and_named_once_and_a_stop_after_them_is_tool_calls() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(TWO, &[&one, &two]).await;
    let call = |index: Value, id: &str, name: &str, arguments: &str| json!({"choices": [{"delta": {"tool_calls": [{"index": index, "id": id, "function": {"name": name, "arguments": arguments}}]}}]});
    one.then(events(&[
        call(json!(0), "call_a", "f", "{\"x\":"),
        json!({"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]}}]}),
        // The same index for a second call, as ollama sends it.
        call(json!(0), "call_b", "g", "{}"),
        json!({"choices": [{"delta": {}, "finish_reason": "stop"}]}),
    ]));
    let streamed = app.stream(&ask("hi")).await;
    let calls: Vec<&Value> =
        streamed.chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].get(0)).collect();
    let named: Vec<(u64, &str)> =
        calls.iter().filter_map(|call| Some((call["index"].as_u64()?, call["function"]["name"].as_str()?))).collect();
    assert_eq!(named, [(0, "f"), (1, "g")]);
    assert_eq!(calls[1].get("id"), None, "an id comes once");
    assert_eq!(streamed.finishes(), ["tool_calls"]);
}

#[tokio::test]
async fn a_provider_that_answers_a_stream_in_one_piece_is_streamed_all_the_same() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(TWO, &[&one, &two]).await;
    let body = json!({"id": "x", "choices": [{"index": 0, "message": {"content": "in one piece"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 4, "completion_tokens": 3}});
    one.always(raw(200, "application/json", body.to_string()));
    let streamed = app.stream(&usage_too("hi")).await;
    assert_eq!((streamed.text().as_str(), streamed.done), ("in one piece", true));
    assert_eq!(streamed.chunks.last().expect("chunks")["usage"]["prompt_tokens"], 4);
}
