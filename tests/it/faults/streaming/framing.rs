//! Bytes, lines and events, however they are cut and spelled.

use std::time::{Duration, Instant};

use serde_json::json;
use stepwell::scripted::act::pieces;

use super::pair;
use crate::support::app::ask;
use crate::support::upstream::{Act, chat, fault, raw};

/// One body in chunks; with `sliced`, cut at every multiple of the slice.
fn streamed(body: &str) -> Act {
    pieces([body.to_owned()])
}

#[tokio::test]
async fn b06_a_stream_is_the_same_for_every_cut_and_for_single_bytes() {
    let (one, two, app) = pair().await;
    let body = "data: {\"choices\":[{\"delta\":{\"content\":\"na\u{ef}ve 你好 🎉\"}}]}\r\n\r\n: ping\n\n\
                data: {\"choices\":[{\"delta\":{\"content\":\" done\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let mut uncut = None;
    // The first cut of slices of `n` bytes is after byte `n`: every position is one, and 1 is every byte.
    for cut in (1..=body.len()).rev() {
        one.then(streamed(body).sliced(cut));
        let got = app.stream(&ask("hi")).await;
        assert!(got.done, "cut at {cut}: {}", got.raw);
        let seen = (got.text(), got.finishes().join(","), got.chunks.len());
        assert_eq!(*uncut.get_or_insert_with(|| seen.clone()), seen, "cut at {cut}");
    }
    assert_eq!(uncut.expect("a run").0, "na\u{ef}ve 你好 🎉 done");
    assert_eq!((one.count(), two.count()), (body.len(), 0));
}

#[tokio::test]
async fn b06_slices_on_the_wire_itself_change_nothing() {
    let (one, _two, app) = pair().await;
    let text = "naïve café — 你好 🎉 done";
    for slice in [0, 1, 2, 3, 7, 50] {
        one.then(chat(text).sliced(slice));
        let streamed = app.stream(&ask("hi")).await;
        assert_eq!((streamed.text().as_str(), streamed.done), (text, true), "{slice} bytes a write");
    }
}

#[tokio::test]
async fn b07_every_spelling_of_the_event_stream_grammar_is_read() {
    let (one, two, app) = pair().await;
    let a = json!({"choices": [{"delta": {"content": "a"}}]});
    let z = json!({"choices": [{"delta": {"content": "z"}, "finish_reason": "stop"}]});
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 77, "completion_tokens": 2, "total_tokens": 79}});
    let cases = [
        format!("data: {a}\n\ndata: {z}\n\ndata: {usage}\n\ndata: [DONE]\n\n"),
        format!("data: {a}\r\n\r\ndata: {z}\r\n\r\ndata: {usage}\r\n\r\ndata: [DONE]\r\n\r\n"),
        format!("data: {a}\r\rdata: {z}\r\rdata: {usage}\r\rdata: [DONE]\r\r"),
        format!("\u{feff}data:{a}\n\ndata:{z}\n\ndata:{usage}\n\ndata:[DONE]\n\n"),
        format!(
            ": comment\n\nevent: x\nid: 7\nretry: 5\ndata: {a}\n\n:\n\ndata: {z}\n\ndata: {usage}\n\ndata: [DONE]\n\n"
        ),
        format!(
            "data: {a}\n\ndata: {{\"choices\":[{{\"delta\":{{\"content\":\"z\"}},\ndata: \"finish_reason\":\"stop\"}}]}}\n\ndata: {usage}\n\ndata: [DONE]"
        ),
        // No blank line at the end: the usage still counts.
        format!("data: {a}\n\ndata: {z}\n\ndata: {usage}"),
        format!("data: {a}\n\ndata: {z}\n\ndata: {usage}\n"),
        format!("data\nunknown: field\ndata: {a}\n\n\n\n\ndata: {z}\n\ndata: {usage}\n\ndata: [DONE]"),
    ];
    for body in cases {
        for slice in [0, 1, 5] {
            one.then(streamed(&body).sliced(slice));
            let got = app.stream(&ask("hi")).await;
            assert_eq!((got.text().as_str(), got.done, got.finishes()), ("az", true, vec!["stop"]), "{body:?}");
            let row = app.row(&got.headers).await;
            assert_eq!(
                (&row["prompt_tokens"], &row["estimated_usage"]),
                (&json!(77), &json!(false)),
                "{body:?}: {row}"
            );
        }
    }
    assert_eq!(two.count(), 0);
}

#[tokio::test]
async fn b08_a_huge_event_and_a_crowd_of_small_ones_take_linear_time() {
    let (one, _two, app) = pair().await;
    let finish = json!({"choices": [{"delta": {}, "finish_reason": "stop"}]});
    let huge = "x".repeat(2 << 20);
    let event = |text: &str| format!("data: {}\n\n", json!({"choices": [{"delta": {"content": text}}]}));
    let crowd: String = (0..20_000).map(|_| event("y")).collect();
    for (body, length) in [(event(&huge), huge.len()), (crowd, 20_000)] {
        let body = format!("{body}data: {finish}\n\ndata: [DONE]\n\n");
        for slice in [0, 1000] {
            one.then(raw(200, "text/event-stream", body.clone()).sliced(slice));
            let began = Instant::now();
            let got = app.stream(&ask("hi")).await;
            assert_eq!((got.text().len(), got.done), (length, true));
            // An unoptimised build beside other tests: quadratic time would be minutes.
            assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        }
    }
}

#[tokio::test]
async fn b08_an_event_without_end_is_left_before_it_is_held() {
    for format in ["openai", "anthropic", "gemini"] {
        let (one, two) = (crate::support::upstream().await, crate::support::upstream().await);
        let yaml = crate::faults::upstream::TWO.replacen("format: openai", &format!("format: {format}"), 1);
        let app = crate::support::app(&yaml, &[&one, &two]).await;
        // Far more than the cap and what sockets hold: if the upstream could send it all, somebody read it all.
        one.always(fault("body=endless"));
        let streamed = app.stream(&ask("hi")).await;
        assert_eq!((&*streamed.text(), streamed.done), ("hello from upstream", true), "{format}");
        assert_eq!(streamed.header("x-stepwell-provider"), "two");
        one.closed(1).await;
    }
}

#[tokio::test]
async fn b08_an_event_without_end_after_content_ends_the_stream_with_an_error() {
    let (one, _two, app) = pair().await;
    let start = "data: {\"choices\":[{\"delta\":{\"content\":\"half\"}}]}\n\ndata: {\"x\":\"".to_owned();
    let endless = std::iter::once(start).chain((0..512).map(|_| "x".repeat(64 << 10)));
    one.always(pieces(endless));
    let streamed = app.stream(&ask("hi")).await;
    assert_eq!(streamed.text(), "half");
    let error = streamed.error().expect("an error event");
    assert_eq!(
        (&error["code"], &error["stepwell"]["kind"]),
        (&json!("upstream_stream_interrupted"), &json!("malformed"))
    );
    assert!(!streamed.done && streamed.raw.len() < 4096, "{}", streamed.raw.len());
    one.closed(1).await;
}
