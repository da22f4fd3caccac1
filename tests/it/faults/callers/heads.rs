//! What is no proper request: oversized, ambiguous, or not HTTP at all.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;

use super::{ONE, impatient};
use crate::support::app::ask;
use crate::support::raw::Raw;
use crate::support::{app, upstream};

#[tokio::test]
async fn c03_a_flood_of_headers_is_told_431_and_closed_cleanly() {
    let (app, one) = impatient("header_timeout: 5s").await;
    let long = format!("x-long: {}\r\n", "a".repeat(80 << 10));
    let many = (0..1000).map(|index| format!("x-{index}: 1\r\n")).collect::<String>();
    let endless = format!("x-endless: {}", "a".repeat(2 << 20));
    for (what, headers) in [("64 KiB", long), ("1,000 lines", many), ("no end", endless)] {
        let mut raw = Raw::connect(&app.url).await;
        let head = format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
        raw.send(head).await;
        let answer = raw.answer().await;
        assert_eq!((answer.status, answer.code().as_str()), (431, "headers_too_large"), "{what}");
        assert!(answer.header("x-request-id").is_some(), "{}", answer.head);
        assert!(raw.is_closed_cleanly().await, "{what}: the answer must not be lost to a reset");
    }
    assert_eq!(one.count(), 0);
}

#[tokio::test]
async fn c03_a_hundred_megabytes_are_told_413_early_with_and_without_a_length() {
    let (app, one) = impatient("body_limit: 1MB").await;
    for announced in [true, false] {
        let mut raw = Raw::connect(&app.url).await;
        let length = if announced { "content-length: 100000000" } else { "transfer-encoding: chunked" };
        raw.send(format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n{length}\r\n\r\n")).await;
        let began = Instant::now();
        if announced {
            // Before a single byte of it was sent.
            let answer = raw.answer().await;
            assert_eq!((answer.status, answer.code().as_str()), (413, "request_too_large"));
            assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
        } else {
            let piece = [b"10000\r\n".to_vec(), vec![b'x'; 65536], b"\r\n".to_vec()].concat();
            for _ in 0..1600 {
                if raw.stream.write_all(&piece).await.is_err() {
                    break;
                }
            }
            let answer = raw.answer().await;
            assert_eq!((answer.status, answer.code().as_str()), (413, "request_too_large"));
        }
        let _ = raw.stream.shutdown().await;
        assert!(raw.is_closed_cleanly().await, "announced: {announced}");
    }
    assert_eq!(one.count(), 0);
}

/// Everything that a client sends at once, and all statuses that come back before the connection ends.
async fn statuses(url: &str, bytes: &[u8]) -> Vec<u16> {
    let mut raw = Raw::connect(url).await;
    raw.send(bytes).await;
    let _ = raw.stream.shutdown().await;
    let text = String::from_utf8_lossy(&raw.rest().await.expect("a clean end")).into_owned();
    let answers = text.match_indices("HTTP/1.1 ");
    answers.filter_map(|(at, _)| text[at + 9..at + 12].parse().ok()).collect()
}

#[tokio::test]
async fn c05_two_lengths_are_refused_and_smuggle_nothing() {
    let one = upstream().await;
    let app = app(ONE, &[&one]).await;
    let body = ask("hi").to_string();
    // By its `content-length` the request includes the second one; by its chunks it does not.
    let second = "GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n";
    let length = format!("content-length: {}", body.len() + second.len());
    for lengths in [
        format!("{length}\r\ntransfer-encoding: chunked"),
        format!("Transfer-Encoding: chunked\r\n{length}"),
        "content-length: 5\r\ncontent-length: 6".to_owned(),
        "content-length: +5".to_owned(),
        "transfer-encoding: chunked, identity".to_owned(),
    ] {
        let head = format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n{lengths}\r\n\r\n");
        let request = format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n{second}", body.len());
        let mut raw = Raw::connect(&app.url).await;
        raw.send(request).await;
        let answer = raw.answer().await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_http"), "{lengths}");
        assert!(raw.is_closed_cleanly().await, "what follows on such a connection is not believed: {lengths}");
        // In two pieces it is the same request.
        let mut raw = Raw::connect(&app.url).await;
        let (first, rest) = head.split_at(head.len() - 7);
        raw.send(first).await;
        tokio::time::sleep(Duration::from_millis(30)).await;
        raw.send(rest).await;
        assert_eq!(raw.answer().await.status, 400, "{lengths}");
    }
    assert_eq!(one.count(), 0);
}

/// A chat request with these lines about its length, and a body by chunks.
fn chunked(lengths: &str, end: &str) -> String {
    let body = ask("hi").to_string();
    let head = format!("POST /v1/chat/completions HTTP/1.1{end}host: x{end}{lengths}{end}{end}");
    format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
}

#[tokio::test]
async fn c05_two_lengths_are_seen_however_lines_end_and_whatever_comes_before() {
    let one = upstream().await;
    let app = app(ONE, &[&one]).await;
    for (what, request) in [
        ("bare line feeds", chunked("content-length: 5\ntransfer-encoding: chunked", "\n")),
        (
            "a bare line feed, and then not",
            chunked("content-length: 5\r\ntransfer-encoding: chunked", "\r\n").replacen("\r\n\r\n", "\n\r\n", 1),
        ),
        (
            "a bare line feed at the end",
            chunked("content-length: 5\r\ntransfer-encoding: chunked", "\r\n").replacen("\r\n\r\n", "\r\n\n", 1),
        ),
        (
            "empty lines first",
            format!("\r\n\r\n{}", chunked("content-length: 5\r\ntransfer-encoding: chunked", "\r\n")),
        ),
    ] {
        let mut raw = Raw::connect(&app.url).await;
        raw.send(request).await;
        let answer = raw.answer().await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_http"), "{what}");
        assert!(raw.is_closed_cleanly().await, "{what}");
    }
    assert_eq!(one.count(), 0);
    let mut raw = Raw::connect(&app.url).await;
    for end in ["\n", "\r\n"] {
        raw.send(format!("{}\r\n", chunked("transfer-encoding: chunked", end))).await;
        assert_eq!(raw.answer().await.status, 200, "one length is enough");
    }
}

#[tokio::test]
async fn c05_two_lengths_are_refused_behind_another_request() {
    let one = upstream().await;
    let app = app(ONE, &[&one]).await;
    one.always(crate::support::upstream::chat("late").after(Duration::from_millis(300)));
    let both = chunked("content-length: 5\r\ntransfer-encoding: chunked", "\r\n");
    for pause in [Duration::ZERO, Duration::from_millis(100)] {
        let mut raw = Raw::connect(&app.url).await;
        let body = ask("hi").to_string();
        let first =
            format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        if pause.is_zero() {
            raw.send(first + &both).await;
        } else {
            raw.send(first).await;
            tokio::time::sleep(pause).await;
            raw.send(&both).await;
        }
        assert_eq!(raw.answer().await.status, 200);
        let answer = raw.answer().await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_http"), "{pause:?}");
        assert!(raw.is_closed_cleanly().await, "{pause:?}");
    }
    assert_eq!(one.count(), 2);
}

#[tokio::test]
async fn c05_odd_targets_hosts_and_header_values_are_refused() {
    let one = upstream().await;
    let app = app(ONE, &[&one]).await;
    for (what, request) in [
        ("absolute form", "GET http://elsewhere.example/v1/models HTTP/1.1\r\nhost: elsewhere.example\r\n\r\n"),
        ("a tunnel", "CONNECT elsewhere.example:443 HTTP/1.1\r\nhost: elsewhere.example\r\n\r\n"),
        ("no host", "GET /v1/models HTTP/1.1\r\n\r\n"),
        ("two hosts", "GET /v1/models HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n"),
        ("a path as host", "GET /v1/models HTTP/1.1\r\nhost: a/b\r\n\r\n"),
        ("a user in the host", "GET /v1/models HTTP/1.1\r\nhost: me@a\r\n\r\n"),
        ("a blank in the host", "GET /v1/models HTTP/1.1\r\nhost: a b\r\n\r\n"),
        ("a carriage return in a value", "GET /v1/models HTTP/1.1\r\nhost: a\r\nx: a\rb\r\n\r\n"),
        ("a NUL in a value", "GET /v1/models HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n"),
        ("a folded line", "GET /v1/models HTTP/1.1\r\nhost: a\r\nx: a\r\n b\r\n\r\n"),
        ("a blank before the colon", "GET /v1/models HTTP/1.1\r\nhost: a\r\nx : a\r\n\r\n"),
        ("no version", "GET /v1/models\r\n\r\n"),
        ("a version of no time", "GET /v1/models HTTP/9.9\r\nhost: a\r\n\r\n"),
    ] {
        assert_eq!(statuses(&app.url, request.as_bytes()).await, [400], "{what}");
    }
    for host in ["127.0.0.1:4000", "anything.example", "[::1]:80", "ALL_lower-or.UPPER"] {
        let mut raw = Raw::connect(&app.url).await;
        raw.send(format!("GET /v1/models HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
        assert_eq!(raw.answer().await.status, 200, "nothing depends on the host: {host}");
    }
}

#[tokio::test]
async fn c05_bytes_that_are_no_http_end_the_connection_and_nothing_else() {
    let (app, one) = impatient("header_timeout: 300ms").await;
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(20);
    for (what, bytes) in [
        ("a TLS hello", hello),
        ("noise", (0..4096_u32).map(|index| (index * 7919 % 251) as u8).collect()),
        ("zeros", vec![0; 4096]),
        ("another protocol", b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()),
    ] {
        let mut raw = Raw::connect(&app.url).await;
        raw.send(bytes).await;
        let text = String::from_utf8_lossy(&raw.rest().await.expect("a clean end")).into_owned();
        assert!(
            text.is_empty() || text.starts_with("HTTP/1.1 400 ") || text.starts_with("HTTP/1.1 408 "),
            "{what}: {text}"
        );
    }
    assert_eq!(one.count(), 0);
    assert_eq!(app.say("still here").await, "hello from upstream");
}

#[tokio::test]
async fn c05_pipelined_requests_are_answered_in_their_order() {
    let one = upstream().await;
    let app = app(ONE, &[&one]).await;
    let mut raw = Raw::connect(&app.url).await;
    let mut all = String::new();
    for index in 0..200 {
        all.push_str(&format!("GET /v1/requests/none-{index} HTTP/1.1\r\nhost: x\r\nx-request-id: p-{index}\r\n\r\n"));
    }
    raw.send(all).await;
    for index in 0..200 {
        let answer = raw.answer().await;
        assert_eq!((answer.status, answer.header("x-request-id")), (404, Some(format!("p-{index}").as_str())));
    }
}

#[tokio::test]
async fn c05_a_body_that_comes_after_the_answer_is_no_second_request() {
    let one = upstream().await;
    let app = app(ONE, &[&one]).await;
    let mut raw = Raw::connect(&app.url).await;
    raw.send("POST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 40\r\n\r\n").await;
    assert_eq!(raw.answer().await.status, 404);
    let _ = raw.stream.write_all(b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n    ").await;
    assert!(raw.is_closed_cleanly().await, "its body is read and forgotten");
}

#[tokio::test]
async fn c05_a_caller_who_closes_half_has_left() {
    let one = upstream().await;
    let app = app(ONE, &[&one]).await;
    one.always(crate::support::upstream::chat("late").after(Duration::from_secs(20)));
    let mut raw = Raw::connect(&app.url).await;
    let body = ask("hi").to_string();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-request-id: half";
    raw.send(format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len())).await;
    one.called(1).await;
    raw.stream.shutdown().await.expect("half closed");
    assert!(raw.rest().await.is_ok_and(|rest| rest.is_empty()));
    one.closed(1).await;
    app.idle().await;
    assert_eq!(app.get("/v1/requests/half").await["status"], "client_closed");
    one.always(crate::support::upstream::chat("at once"));
    let post = format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    assert_eq!(statuses(&app.url, post.as_bytes()).await, [200], "what comes at once is still delivered");
}
