//! The same families of faults in other words: what stands in no table, and must not surprise anybody.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{TWO, metric, state};
use crate::support::app::ask;
use crate::support::upstream::{chat, events, fault, raw, status, wire, within};
use crate::support::{App, Upstream, app, upstream};

async fn pair() -> (Upstream, Upstream, App) {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(TWO, &[&one, &two]).await;
    (one, two, app)
}

/// Who answered, by name.
async fn answered_by(app: &App) -> String {
    let (status, headers, body) = within(app.chat(&ask("hi"))).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["choices"][0]["message"]["content"], "hello from upstream", "{body}");
    headers["x-stepwell-provider"].to_str().expect("text").to_owned()
}

#[tokio::test]
async fn interim_answers_are_skipped_however_many_come() {
    let (one, two, app) = pair().await;
    for text in ["interim=100", "interim=102", "interim=103", "interim=100 interim=102 interim=103 interim=103 slice=1"]
    {
        one.always(fault(text));
        assert_eq!(answered_by(&app).await, "one", "{text}");
        assert!(app.stream(&ask("hi")).await.done, "{text}");
    }
    assert_eq!(two.count(), 0);
}

#[tokio::test]
async fn a_flood_of_headers_is_a_providers_failure_and_large_ones_are_borne() {
    let (one, _two, app) = pair().await;
    one.always(fault("flood=1000 flood-bytes=64KiB"));
    assert_eq!(answered_by(&app).await, "two");
    one.always(fault("flood=20 flood-bytes=64KiB"));
    assert_eq!(answered_by(&app).await, "one");
    one.always(fault("flood=1 flood-bytes=8MiB"));
    assert_eq!(answered_by(&app).await, "two", "a head has an end");
}

#[tokio::test]
async fn single_bytes_over_a_kept_connection_make_whole_answers() {
    let (one, two, app) = pair().await;
    one.always(fault("slice=1"));
    for _ in 0..3 {
        assert_eq!(app.say("hi").await, "hello from upstream");
        assert_eq!(app.stream(&ask("hi")).await.text(), "hello from upstream");
    }
    assert_eq!((one.count(), two.count()), (6, 0));
}

#[tokio::test]
async fn what_follows_an_answer_on_its_connection_reaches_nobody() {
    for text in ["twice", "trailing", "twice trailing"] {
        let (one, _two, app) = pair().await;
        for _ in 0..5 {
            one.then(fault(text));
            one.then(fault(&format!("{text} slice=7")));
        }
        for _ in 0..10 {
            let (status, _, body) = app.chat(&ask("hi")).await;
            assert_eq!(
                (status, &body["choices"][0]["message"]["content"]),
                (200, &json!("hello from upstream")),
                "{text}"
            );
        }
    }
}

#[tokio::test]
async fn counts_that_cannot_be_true_are_estimated_and_counted() {
    for text in ["usage=absurd", "usage=negative", "usage=text", "usage=missing"] {
        let (one, two) = (upstream().await, upstream().await);
        // A name of its own: all tests share one set of metrics.
        let name = text.replace('=', "-");
        let app = app(&TWO.replace("one:", &format!("{name}:")), &[&one, &two]).await;
        one.always(fault(text));
        let (status, headers, body) = app.chat(&ask("hi")).await;
        assert_eq!(status, 200, "{text}: {body}");
        let streamed = app.stream(&ask("hi")).await;
        assert!(streamed.done, "{text}: {}", streamed.raw);
        for headers in [&headers, &streamed.headers] {
            let row = app.row(headers).await;
            assert_eq!(row["estimated_usage"], true, "{text}: {row}");
            assert!(
                row["completion_tokens"].as_u64().is_some_and(|tokens| (1..100).contains(&tokens)),
                "{text}: {row}"
            );
            assert!(row["cost_usd"].as_f64().is_some_and(|cost| cost > 0.0 && cost < 0.01), "{text}: {row}");
        }
        let refused = metric(&app, &format!("stepwell_usage_refused_total{{provider=\"{name}\"}}")).await;
        assert_eq!(refused, if text == "usage=missing" { 0.0 } else { 2.0 }, "{text}");
    }
}

#[tokio::test]
async fn an_answer_before_the_request_was_read_is_its_answer() {
    for (code, expected) in [(413, 413), (401, 200), (429, 200), (503, 200)] {
        let (one, two) = (upstream().await, upstream().await);
        let app = app(&TWO.replace(", context: 1000", "").replace(", context: 9000", ""), &[&one, &two]).await;
        one.always(status(code).with("early").expect("a fault"));
        two.always(status(code));
        if expected == 200 {
            two.always(fault(""));
        }
        // Larger than what sockets hold, so that it is not written when the answer comes.
        let began = Instant::now();
        let (status, headers, body) = within(app.chat(&ask(&"x ".repeat(4 << 20)))).await;
        assert_eq!(status, expected, "{body}");
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
        let row = app.row(&headers).await;
        assert_eq!(row["attempts"][0]["status"], code, "{row}");
    }
}

#[tokio::test]
async fn a_status_without_a_body_is_no_answer() {
    for code in [204, 205, 206, 304] {
        let (one, _two, app) = pair().await;
        one.always(raw(code, "application/json", ""));
        assert_eq!(answered_by(&app).await, "two", "{code}");
        let streamed = app.stream(&ask("hi")).await;
        assert_eq!(
            (&*streamed.text(), streamed.header("x-stepwell-provider")),
            ("hello from upstream", "two"),
            "{code}"
        );
    }
}

#[tokio::test]
async fn a_part_of_an_answer_is_no_answer() {
    let (one, _two, app) = pair().await;
    let whole =
        json!({"id": "x", "choices": [{"index": 0, "message": {"content": "a part"}, "finish_reason": "stop"}]});
    one.always(raw(206, "application/json", whole.to_string()).header("content-range", "bytes 0-99/1000"));
    assert_eq!(answered_by(&app).await, "two", "206 answers a question that was never asked");
}

#[tokio::test]
async fn a_trailer_that_is_none_does_not_undo_a_finished_stream() {
    let (one, two, app) = pair().await;
    one.always(fault("trailer"));
    let streamed = app.stream(&ask("hi")).await;
    assert_eq!((&*streamed.text(), streamed.done), ("hello from upstream", true), "{}", streamed.raw);
    assert_eq!((two.count(), state(&app, 0).await.as_str()), (0, "closed"));
}

#[tokio::test]
async fn an_error_whose_body_never_ends_is_not_waited_for() {
    let (one, two, app) = pair().await;
    one.always(raw(503, "application/json", "{\"error\":").unfinished());
    let began = Instant::now();
    assert_eq!(app.say("hi").await, "hello from upstream");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(two.count(), 1);
}

#[tokio::test]
async fn bytes_that_are_no_http_are_a_providers_failure() {
    let json = "content-type: application/json\r\n";
    for bytes in [
        "hello there\r\n\r\n".to_owned(),
        "HTTP/1.1 200".to_owned(),
        "HTTP/9.9 200 OK\r\n\r\n".to_owned(),
        "HTTP/1.1 99 Odd\r\n\r\n".to_owned(),
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n".to_owned(),
        "HTTP/1.1 999 Denied\r\ncontent-length: 0\r\n\r\n".to_owned(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        "\u{15}\u{3}\u{1}".to_owned(),
        format!("HTTP/1.1 200 OK\r\n{json}content-length: -5\r\n\r\n{{}}"),
        format!("HTTP/1.1 200 OK\r\n{json}content-length: 2\r\ncontent-length: 90\r\n\r\n{{}}"),
        format!("HTTP/1.1 200 OK\r\n{json}content-length: 99999999999999999999\r\n\r\n{{}}"),
        format!("HTTP/1.1 200 OK\r\n{json}transfer-encoding: chunked\r\n\r\nzz\r\n{{}}\r\n0\r\n\r\n"),
        format!("HTTP/1.1 200 OK\r\n{json}transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n{{}}"),
        format!("HTTP/1.1 200 OK\r\n{json}transfer-encoding: nonsense\r\n\r\n{{}}"),
        "HTTP/1.1 200 OK\r\nbad header\r\n\r\n".to_owned(),
    ] {
        let (one, _two, app) = pair().await;
        one.always(wire(bytes.clone()));
        let began = Instant::now();
        assert_eq!(answered_by(&app).await, "two", "{bytes:?}");
        assert_eq!(app.stream(&ask("hi")).await.header("x-stepwell-provider"), "two", "{bytes:?}");
        assert!(began.elapsed() < Duration::from_secs(3), "{bytes:?}: {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn an_old_server_that_ends_its_body_by_closing_is_understood() {
    let (one, two, app) = pair().await;
    let body = json!({"choices": [{"message": {"content": "hello from upstream"}, "finish_reason": "stop"}]});
    one.always(wire(format!("HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n{body}")));
    assert_eq!((answered_by(&app).await.as_str(), two.count()), ("one", 0));
}

#[tokio::test]
async fn a_kept_connection_that_closes_without_a_word_costs_no_request() {
    let (one, two, app) = pair().await;
    one.always(chat("hello from upstream").cut());
    for _ in 0..30 {
        assert_eq!(app.say("hi").await, "hello from upstream");
    }
    assert_eq!(one.accepted(), 30, "no connection was of use twice");
    assert!(two.count() <= 1, "{}", two.count());
}

#[tokio::test]
async fn an_error_inside_a_200_is_its_own_status() {
    for (error, kind) in [
        (json!({"message": "slow down", "code": 429}), "rate_limited"),
        (json!({"message": "no room", "code": 503}), "overloaded"),
        (json!({"message": "who are you", "code": 401}), "credential"),
        (json!({"message": "oops"}), "server_error"),
    ] {
        let (one, _two, app) = pair().await;
        one.always(raw(200, "application/json", json!({"error": error}).to_string()));
        let (status, headers, _) = app.chat(&ask("hi")).await;
        let row = app.row(&headers).await;
        assert_eq!((status, &row["attempts"][0]["kind"]), (200, &json!(kind)), "{row}");
    }
}

#[tokio::test]
async fn a_stream_that_goes_on_for_ever_ends_with_the_request() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(&format!("{TWO}timeouts: {{ connect: 500ms, total: 1s }}\n"), &[&one, &two]).await;
    one.always(fault("tokens=1000 pace=20ms"));
    let began = Instant::now();
    let streamed = app.stream(&ask("hi")).await;
    assert!((Duration::from_millis(900)..Duration::from_secs(3)).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert_eq!(streamed.error().expect("an error event")["code"], "upstream_stream_interrupted");
    assert!(!streamed.done);
    one.closed(1).await;
}

#[tokio::test]
async fn a_compressed_stream_that_is_cut_is_cut() {
    for text in ["encoding=gzip cut-after=2", "encoding=zstd reset-after=2", "encoding=br stall-after=2"] {
        let (one, two) = (upstream().await, upstream().await);
        let app = app(&format!("{TWO}timeouts: {{ between_tokens: 200ms }}\n"), &[&one, &two]).await;
        one.always(fault(text).with("pace=20ms").expect("a fault"));
        let streamed = app.stream(&ask("hi")).await;
        assert_eq!(streamed.text(), "hello from ", "{text}: what came is delivered");
        assert_eq!(streamed.error().expect("an error event")["code"], "upstream_stream_interrupted", "{text}");
    }
}

#[tokio::test]
async fn choices_that_lie_about_their_index_do_not_panic() {
    let (one, _two, app) = pair().await;
    let choice = |index: serde_json::Value| json!({"choices": [{"index": index, "delta": {"content": "x"}, "finish_reason": "stop"}]});
    for index in [json!(4_294_967_295u64), json!(-1), json!("0"), json!(1e300), json!(null), json!({})] {
        one.then(events(&[choice(index.clone())]));
        let streamed = within(app.stream(&ask("hi"))).await;
        assert!(streamed.status == 200 && (streamed.done || streamed.error().is_some()), "{index}: {}", streamed.raw);
    }
}
