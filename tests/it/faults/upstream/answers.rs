//! What is no answer, though the status may say so: pages, halves, lies and bombs, in the three main formats.

use serde_json::{Value, json};

use super::TWO;
use crate::support::app::ask;
use crate::support::upstream::{Act, chat, fault, raw};
use crate::support::{App, Upstream, app, upstream};

const FORMATS: [&str; 3] = ["openai", "anthropic", "gemini"];

/// A first provider of this format that does `act`, and a second one that answers.
async fn pair(format: &str, act: Act) -> (Upstream, Upstream, App) {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(&TWO.replacen("format: openai", &format!("format: {format}"), 1), &[&one, &two]).await;
    one.always(act);
    two.always(chat("second speaks"));
    (one, two, app)
}

/// The second provider answered, the first is blamed, and the usage is the second one's own.
async fn assert_failed_over(app: &App, headers: &reqwest::header::HeaderMap, what: &str) -> Value {
    assert_eq!(headers["x-stepwell-provider"], "two", "{what}");
    let row = app.row(headers).await;
    assert_eq!((row["provider"].as_str(), row["failovers"].as_u64()), (Some("two"), Some(1)), "{what}: {row}");
    assert!(row["attempts"][0]["kind"].is_string(), "{what}: {row}");
    let usage = (&row["prompt_tokens"], &row["completion_tokens"], &row["estimated_usage"]);
    assert_eq!(usage, (&json!(10), &json!(2), &json!(false)), "{what}: no usage is made up: {row}");
    row
}

/// A plain and a streamed request, both answered by the second provider.
async fn fails_over(format: &str, what: &str, act: Act) {
    let what = format!("{format}: {what}");
    let (one, _two, app) = pair(format, act).await;
    let (status, headers, body) = app.chat(&ask("hi")).await;
    assert_eq!((status, &body["choices"][0]["message"]["content"]), (200, &json!("second speaks")), "{what}");
    assert_failed_over(&app, &headers, &what).await;
    assert_eq!(one.count(), 1, "{what}");
    let streamed = app.stream(&ask("hi")).await;
    assert_eq!((streamed.status, &*streamed.text(), streamed.done), (200, "second speaks", true), "{what}");
    assert_failed_over(&app, &streamed.headers, &what).await;
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

#[tokio::test]
async fn a15_a_page_text_or_nothing_is_no_answer_whatever_its_status() {
    for format in FORMATS {
        for status in [200, 502] {
            for body in ["html", "empty", "text"] {
                fails_over(format, &format!("{body} with {status}"), fault(&format!("body={body} status={status}")))
                    .await;
            }
        }
    }
}

#[tokio::test]
async fn a15_at_most_200_bytes_of_a_page_are_quoted_with_its_markup_escaped() {
    for status in [200, 502] {
        let page = format!("<html><script>alert(1)</script>{}", "é<b>".repeat(1000));
        let (_one, _two, app) = pair("openai", raw(status, "text/html", page)).await;
        let (_, headers, body) = app.chat(&ask("hi")).await;
        let row = assert_failed_over(&app, &headers, "a page").await;
        let quoted = row["attempts"][0]["message"].as_str().expect("a message");
        let unescaped = quoted.replace("&lt;", "<").replace("&gt;", ">");
        let page = unescaped.split_once("<html>").map_or(0, |(_, page)| page.len() + 6);
        assert!((1..=200).contains(&page), "{page}: {quoted}");
        assert!(!quoted.contains('<') && !quoted.contains('>'), "{quoted}");
        assert!(!body.to_string().contains("alert"), "{body}");
    }
}

#[tokio::test]
async fn a16_a_good_answer_in_each_format_needs_no_second_provider() {
    for format in FORMATS {
        let (_one, two, app) = pair(format, raw(200, "application/json", good(format).to_string())).await;
        assert_eq!(app.say("hi").await, "first", "{format}");
        assert_eq!(two.count(), 0, "{format}");
    }
}

#[tokio::test]
async fn a16_a_plain_answer_that_is_none_goes_to_the_next_provider() {
    for format in FORMATS {
        let whole = good(format).to_string();
        let json = |body: &str| raw(200, "application/json", body);
        for (what, act) in [
            ("half of it", json(&whole[..whole.len() / 2])),
            ("half of what was announced", json(&whole).with("length=+1000 close").expect("a fault")),
            ("more than was announced", json(&whole).with("length=-5").expect("a fault")),
            ("no choices", json("{\"choices\":[]}")),
            ("null choices", json("{\"choices\":null}")),
            ("no candidates", json("{\"candidates\":[]}")),
            ("null", json("null")),
        ] {
            fails_over(format, what, act).await;
        }
    }
}

#[tokio::test]
async fn a16_a_stream_that_is_none_goes_to_the_next_provider() {
    for format in FORMATS {
        let whole = good(format).to_string();
        let half = format!("data: {}\n\n", &whole[..whole.len() / 2]);
        let cases = [
            ("half an event", raw(200, "text/event-stream", half)),
            ("no choices", raw(200, "text/event-stream", "data: {\"choices\":[]}\n\n")),
            ("null choices", raw(200, "text/event-stream", "data: {\"choices\":null}\n\ndata: [DONE]\n\n")),
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
async fn a17_compressed_answers_are_opened_streams_too() {
    for encoding in ["gzip", "br", "zstd"] {
        let (one, two, app) = pair("openai", fault(&format!("encoding={encoding}"))).await;
        assert_eq!(app.say("hi").await, "hello from upstream", "{encoding}");
        one.always(fault(&format!("encoding={encoding} slice=1")));
        let streamed = app.stream(&ask("hi")).await;
        assert_eq!((&*streamed.text(), streamed.done), ("hello from upstream", true), "{encoding}");
        assert_eq!(two.count(), 0, "{encoding}");
    }
}

#[tokio::test]
async fn a17_a_body_that_is_not_compressed_as_it_says_is_no_answer() {
    for encoding in ["gzip", "br", "zstd"] {
        fails_over("openai", encoding, fault(&format!("pretend={encoding}"))).await;
    }
}

#[tokio::test]
async fn a17_a_small_body_that_unpacks_without_end_is_left_at_64_mib() {
    for format in FORMATS {
        let (_one, _two, app) = pair(format, fault("bomb=70MiB")).await;
        let (status, headers, body) = app.chat(&ask("hi")).await;
        assert_eq!((status, &body["choices"][0]["message"]["content"]), (200, &json!("second speaks")), "{format}");
        let row = assert_failed_over(&app, &headers, format).await;
        assert!(row["attempts"][0].to_string().contains("64 MiB"), "{format}: {row}");
    }
    let (_one, _two, app) = pair("openai", fault("bomb=70MiB")).await;
    let streamed = app.stream(&ask("hi")).await;
    assert_eq!((&*streamed.text(), streamed.done), ("second speaks", true));
    assert_failed_over(&app, &streamed.headers, "a stream").await;
}
