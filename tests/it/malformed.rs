//! Whatever a provider sends instead of an answer is its own failure: the next one answers, and nothing is held for it.

use std::io::Write;

use serde_json::{Value, json};

use crate::support::app::ask;
use crate::support::upstream::{Act, chat, raw};
use crate::support::{App, Upstream, app, upstream};

const FORMATS: [&str; 3] = ["openai", "anthropic", "gemini"];

const TWO: &str = "
providers:
  one: { format: FORMAT, base_url: '{0}', api_key: key-one, priority: 1, models: [ { id: m1 } ] }
  two: { format: openai, base_url: '{1}', priority: 2, models: [ { id: m2 } ] }
routing: { strategy: priority }
cache: { enabled: false }
";

/// A first provider of this format that does `act`, and a second one that answers.
async fn pair(format: &str, act: Act) -> (Upstream, Upstream, App) {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(&TWO.replace("FORMAT", format), &[&one, &two]).await;
    one.always(act);
    two.always(chat("second speaks"));
    (one, two, app)
}

async fn assert_failed_over(app: &App, headers: &reqwest::header::HeaderMap, what: &str) {
    assert_eq!(headers["x-stepwell-provider"], "two", "{what}");
    let row = app.row(headers).await;
    assert_eq!((row["provider"].as_str(), row["failovers"].as_u64()), (Some("two"), Some(1)), "{what}: {row}");
    assert!(row["attempts"][0]["kind"].is_string(), "{what}: {row}");
}

/// A good answer of one word in this format.
fn good(format: &str) -> Value {
    match format {
        "anthropic" => json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m1",
            "content": [{"type": "text", "text": "first"}], "stop_reason": "end_turn", "usage": {"input_tokens": 1, "output_tokens": 1}}),
        "gemini" => {
            json!({"candidates": [{"content": {"role": "model", "parts": [{"text": "first"}]}, "finishReason": "STOP"}]})
        }
        _ => json!({"id": "c", "object": "chat.completion", "model": "m1",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "first"}, "finish_reason": "stop"}]}),
    }
}

/// 70 MiB of white space in some ten kilobytes: beyond what a whole answer may have.
fn bomb() -> Act {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let megabyte = vec![b' '; 1 << 20];
    (0..70).try_for_each(|_| encoder.write_all(&megabyte)).expect("memory takes it");
    let bytes = encoder.finish().expect("memory takes it");
    assert!(bytes.len() < 1 << 20, "{} bytes are no bomb", bytes.len());
    raw(200, "application/json", bytes).header("content-encoding", "gzip")
}

#[tokio::test]
async fn a_good_answer_in_each_format_needs_no_second_provider() {
    for format in FORMATS {
        let (_one, two, app) = pair(format, raw(200, "application/json", good(format).to_string())).await;
        assert_eq!(app.say("hi").await, "first", "{format}");
        assert_eq!(two.count(), 0, "{format}");
    }
}

#[tokio::test]
async fn a_plain_answer_that_is_none_goes_to_the_next_provider() {
    for format in FORMATS {
        let whole = good(format).to_string();
        let cases = [
            ("a page", raw(200, "text/html", "<!doctype html><title>Login</title>")),
            ("nothing", raw(200, "application/json", "")),
            ("half of it", raw(200, "application/json", &whole.as_bytes()[..whole.len() / 2])),
            ("no choices", raw(200, "application/json", "{\"choices\":[]}")),
            ("no candidates", raw(200, "application/json", "{\"candidates\":[]}")),
            ("null", raw(200, "application/json", "null")),
            ("broken gzip", raw(200, "application/json", whole.clone()).header("content-encoding", "gzip")),
        ];
        for (what, act) in cases {
            let what = format!("{format}: {what}");
            let (one, _two, app) = pair(format, act).await;
            let (status, headers, body) = app.chat(&ask("hi")).await;
            assert_eq!((status, &body["choices"][0]["message"]["content"]), (200, &json!("second speaks")), "{what}");
            assert_failed_over(&app, &headers, &what).await;
            assert_eq!(one.count(), 1, "{what}");
        }
    }
}

#[tokio::test]
async fn a_small_body_that_unpacks_without_end_is_left_at_64_mib() {
    for format in FORMATS {
        let (_one, _two, app) = pair(format, bomb()).await;
        let (status, headers, body) = app.chat(&ask("hi")).await;
        assert_eq!((status, &body["choices"][0]["message"]["content"]), (200, &json!("second speaks")), "{format}");
        assert_failed_over(&app, &headers, format).await;
        let message = app.row(&headers).await["attempts"][0].to_string();
        assert!(message.contains("64 MiB"), "{format}: {message}");
    }
}

#[tokio::test]
async fn a_stream_that_is_none_goes_to_the_next_provider() {
    for format in FORMATS {
        let whole = good(format).to_string();
        let half = format!("data: {}\n\n", &whole[..whole.len() / 2]);
        let cases = [
            ("a page", raw(200, "text/html", "<!doctype html><title>Login</title>")),
            ("nothing", raw(200, "text/event-stream", "")),
            ("half an event", raw(200, "text/event-stream", half)),
            ("no choices", raw(200, "text/event-stream", "data: {\"choices\":[]}\n\n")),
            ("comments", raw(200, "text/event-stream", ": ping\n\n".repeat(1000))),
        ];
        for (what, act) in cases {
            let what = format!("{format}: {what}");
            let (_one, _two, app) = pair(format, act).await;
            let streamed = app.stream(&ask("hi")).await;
            assert_eq!((streamed.status, &*streamed.text(), streamed.done), (200, "second speaks", true), "{what}");
            assert_failed_over(&app, &streamed.headers, &what).await;
        }
    }
}

#[tokio::test]
async fn an_event_without_end_is_left_before_it_is_held() {
    for format in FORMATS {
        // Far more than the cap and what sockets hold: if the upstream could send it all, somebody read it all.
        let mut endless = b"data: {\"x\":\"".to_vec();
        endless.resize(64 << 20, b'x');
        let (one, _two, app) = pair(format, raw(200, "text/event-stream", endless).sliced(64 << 10)).await;
        let streamed = app.stream(&ask("hi")).await;
        assert_eq!((&*streamed.text(), streamed.done), ("second speaks", true), "{format}");
        assert_failed_over(&app, &streamed.headers, format).await;
        one.closed(1).await;
    }
}
