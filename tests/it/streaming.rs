//! Streams tell the truth: one role, one finish, one end, and a cut never looks like an end.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::support::app::ask;
use crate::support::upstream::{chat, events, hang, raw, reset, status};
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
async fn any_slicing_of_the_bytes_gives_the_same_stream() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(TWO, &[&one, &two]).await;
    let text = "naïve café — 你好 🎉 done";
    let texts = |streamed: &crate::support::Streamed| streamed.text();
    for slice in [0, 1, 2, 3, 7, 50] {
        one.then(chat(text).sliced(slice));
        let streamed = app.stream(&ask("hi")).await;
        assert_eq!((texts(&streamed).as_str(), streamed.done), (text, true), "{slice} bytes a write");
    }
}

#[tokio::test]
async fn before_the_first_content_a_failure_cascades_without_a_trace_in_the_stream() {
    for act in [
        status(500),
        status(429),
        reset(),
        chat("").cut(),
        raw(200, "text/html", "<html>"),
        events(&[json!({"error": {"message": "overloaded", "code": 503}})]),
    ] {
        let (one, two) = (upstream().await, upstream().await);
        let app = app(TWO, &[&one, &two]).await;
        one.always(act);
        two.always(chat("second speaks"));
        let streamed = app.stream(&ask("hi")).await;
        assert_eq!(
            (streamed.status, streamed.text().as_str(), streamed.done),
            (200, "second speaks", true),
            "{}",
            streamed.raw
        );
        assert_eq!(streamed.header("x-stepwell-provider"), "two");
        assert_eq!(streamed.header("x-stepwell-attempts"), "2");
    }
}

#[tokio::test]
async fn a_cut_after_content_is_an_error_event_and_never_an_end() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(TWO, &[&one, &two]).await;
    // A body that ends politely without a finish_reason is cut all the same.
    let polite = "data: {\"choices\":[{\"delta\":{\"content\":\"half an answer\"}}]}\n\n";
    for act in [
        chat("half an answer").cut(),
        events(&[
            json!({"choices": [{"delta": {"content": "half an answer"}}]}),
            json!({"error": {"message": "boom"}}),
        ]),
        raw(200, "text/event-stream", polite),
    ] {
        one.then(act);
        let streamed = app.stream(&usage_too("hi")).await;
        assert_eq!(streamed.text(), "half an answer");
        assert_eq!(streamed.error().expect("an error event")["code"], "upstream_stream_interrupted");
        assert!(!streamed.done && streamed.finishes().is_empty(), "{}", streamed.raw);
        let row = app.row(&streamed.headers).await;
        assert_eq!(row["status"], "interrupted");
        assert_eq!(row["estimated_usage"], true, "what was seen is billed: {row}");
        assert!(row["completion_tokens"].as_u64() >= Some(3), "{row}");
        assert!(row["cost_usd"].as_f64() > Some(0.0), "{row}");
    }
    assert_eq!(two.count(), 0, "content was out: nobody else may start over");
}

#[tokio::test]
async fn a_stall_in_the_middle_ends_at_the_idle_limit() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(&format!("{TWO}timeouts: {{ between_tokens: 200ms }}\n"), &[&one, &two]).await;
    one.always(chat("and then").stall());
    let began = Instant::now();
    let streamed = app.stream(&ask("hi")).await;
    assert_eq!(streamed.error().expect("an error event")["stepwell"]["kind"], "stalled");
    assert!(began.elapsed() < Duration::from_secs(5));
    one.closed(1).await;
}

#[tokio::test]
async fn headers_without_a_token_count_as_silence() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(&format!("{TWO}timeouts: {{ first_token: 300ms }}\n"), &[&one, &two]).await;
    two.always(chat("second"));
    for act in [hang(), events(&[json!({"choices": [{"delta": {"role": "assistant", "content": ""}}]})]).stall()] {
        one.then(act);
        assert_eq!(app.stream(&ask("hi")).await.text(), "second");
    }
    one.closed(2).await;
}

#[tokio::test]
async fn a_finish_without_done_is_an_end_and_done_on_an_open_connection_too() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(TWO, &[&one, &two]).await;
    let finished = [
        json!({"choices": [{"delta": {"content": "all"}}]}),
        json!({"choices": [{"delta": {}, "finish_reason": "stop"}]}),
    ];
    one.then(events(&finished).cut());
    let streamed = app.stream(&ask("hi")).await;
    assert!(streamed.done && streamed.error().is_none(), "{}", streamed.raw);
    let body = "data: {\"choices\":[{\"delta\":{\"content\":\"all\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    one.then(raw(200, "text/event-stream", body).stall());
    let began = Instant::now();
    assert!(app.stream(&ask("hi")).await.done);
    assert!(began.elapsed() < Duration::from_secs(2), "[DONE] is enough");
}

#[tokio::test]
async fn a_malformed_event_among_good_ones_is_left_out() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(TWO, &[&one, &two]).await;
    let body = "\u{feff}: hello\r\ndata: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\r\n\r\ndata: {broken\n\nevent: x\nid: 7\ndata:{\"choices\":[{\"delta\":{\"content\":\"b\"},\ndata: \"finish_reason\":\"stop\"}]}\n\ndata: [DONE]";
    one.then(raw(200, "text/event-stream", body));
    let streamed = app.stream(&ask("hi")).await;
    assert_eq!((streamed.text().as_str(), streamed.done), ("ab", true), "{}", streamed.raw);
    assert!(!streamed.raw.contains("broken"));
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
async fn a_caller_who_leaves_closes_the_upstream_and_pays_for_what_was_seen() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(TWO, &[&one, &two]).await;
    one.always(chat("one two three four five").paced(Duration::from_millis(30)).stall());
    let mut body = ask("hi");
    body["stream"] = json!(true);
    let response = app.post("/v1/chat/completions", &body).await;
    let headers = response.headers().clone();
    let mut pieces = response.bytes_stream();
    pieces.next().await.expect("a piece").expect("bytes");
    pieces.next().await.expect("a piece").expect("bytes");
    let left = Instant::now();
    drop(pieces);
    one.closed(1).await;
    assert!(left.elapsed() < Duration::from_millis(250), "{:?}", left.elapsed());
    app.idle().await;
    let row = app.row(&headers).await;
    assert_eq!((row["status"].as_str(), row["http_status"].as_u64()), (Some("client_closed"), Some(499)), "{row}");
    assert!(row["completion_tokens"].as_u64() > Some(0), "{row}");
    let status = app.get("/gateway/status").await;
    assert_eq!(status["targets"][0]["state"], "closed", "a caller who leaves is no provider's failure");
}

#[tokio::test]
async fn a_caller_who_leaves_before_the_answer_stops_the_cascade() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(TWO, &[&one, &two]).await;
    one.always(hang());
    let request = app.client.post(format!("{}/v1/chat/completions", app.url)).json(&ask("hi")).send();
    tokio::select! {
        _ = request => panic!("nobody answers"),
        () = one.called(1) => {}
    }
    one.closed(1).await;
    app.idle().await;
    assert_eq!(two.count(), 0);
    let rows = app.get("/v1/requests").await;
    assert_eq!(rows["data"][0]["status"], "client_closed", "{rows}");
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
