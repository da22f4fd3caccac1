//! What callers do to the server: idle connections, slow bytes, oversized heads and bodies.

mod heads; // C03, C05 and their neighbours: what is no proper request
mod readers; // B13: callers who do not read
mod room; // C01: more connections than there is room for

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::app::ask;
use crate::support::process::{Home, until};
use crate::support::raw::Raw;
use crate::support::{App, app, upstream};

const ONE: &str =
    "providers: { one: { format: openai, base_url: '{0}', models: [ { id: m1 } ] } }\ncache: { enabled: false }\n";

/// With deadlines that a test can wait for.
async fn impatient(server: &str) -> (App, crate::support::Upstream) {
    let one = upstream().await;
    (app(&format!("{ONE}server: {{ {server} }}\n"), &[&one]).await, one)
}

/// Sends a byte now and then until the server has had enough.
async fn trickle(raw: &mut Raw, bytes: &[u8]) {
    use tokio::io::AsyncWriteExt;
    for byte in bytes {
        if raw.stream.write_all(&[*byte]).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn c02_a_slow_head_is_told_408_and_closed_and_nobody_else_waits() {
    let (app, one) = impatient("header_timeout: 400ms").await;
    let mut slow = Vec::new();
    for _ in 0..50 {
        let mut raw = Raw::connect(&app.url).await;
        raw.send("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-slow: ").await;
        slow.push(raw);
    }
    let began = Instant::now();
    assert_eq!(app.say("hi").await, "hello from upstream");
    assert!(began.elapsed() < Duration::from_millis(350), "workers are not pinned: {:?}", began.elapsed());
    trickle(&mut slow[0], &[b'a'; 60]).await;
    assert!(began.elapsed() >= Duration::from_millis(300));
    for raw in &mut slow {
        let answer = raw.answer().await;
        assert_eq!((answer.status, answer.code().as_str()), (408, "header_timeout"));
        assert!(answer.header("x-request-id").is_some_and(|id| id.starts_with("req_")), "{}", answer.head);
        assert!(raw.rest().await.is_ok(), "a clean end");
    }
    assert_eq!(one.count(), 1);
}

#[tokio::test]
async fn c02_a_slow_body_is_told_408_and_closed() {
    let (app, one) = impatient("body_timeout: 400ms, header_timeout: 200ms").await;
    for length in ["content-length: 1000\r\n\r\n", "transfer-encoding: chunked\r\n\r\n3e8\r\n"] {
        let mut raw = Raw::connect(&app.url).await;
        raw.send(format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n{length}")).await;
        trickle(&mut raw, b"{\"model\": \"auto\", \"messages\"").await;
        let answer = raw.answer().await;
        assert_eq!((answer.status, answer.code().as_str()), (408, "body_timeout"));
        let row = app.get(&format!("/v1/requests/{}", answer.header("x-request-id").expect("an id"))).await;
        assert_eq!((row["status"].as_str(), row["http_status"].as_u64()), (Some("rejected"), Some(408)), "{row}");
        assert!(raw.rest().await.is_ok_and(|rest| rest.is_empty()), "a clean end");
    }
    assert_eq!(one.count(), 0);
}

#[tokio::test]
async fn c02_many_who_send_large_bodies_slowly_are_bounded_together() {
    let one = upstream().await;
    let home = Home::new(&ONE.replace("{0}", &one.url));
    let process = home.start().await;
    let most = 19_900_000;
    let mut slow = Vec::new();
    // Together more than 256 MiB and one body of 20 MB, and none of them ends.
    for _ in 0..16 {
        let mut raw = Raw::connect(&process.url).await;
        raw.send(format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", most + 1))
            .await;
        raw.send(vec![b' '; most]).await;
        slow.push(raw);
    }
    let answers = slow
        .iter_mut()
        .map(async |raw| tokio::time::timeout(Duration::from_secs(3), raw.try_answer()).await.ok().flatten());
    let refused: Vec<_> = futures_util::future::join_all(answers).await.into_iter().flatten().collect();
    assert!((1..=2).contains(&refused.len()), "{} are refused", refused.len());
    for answer in refused {
        assert_eq!((answer.status, answer.code().as_str()), (503, "router_overloaded"), "{answer:?}");
        assert_eq!((answer.header("retry-after"), answer.header("connection")), (Some("1"), Some("close")));
    }
    assert_eq!(process.chat("small", &ask("hi")).await.0, 200, "an ordinary request gets in");
    drop(slow);
    let large = ask(&"x".repeat(1_000_000));
    until("there is room again", async || process.chat("large", &large).await.0 == 200).await;
}

#[tokio::test]
async fn c02_an_idle_connection_outlives_the_deadline_for_heads_and_ends_at_its_own() {
    let (app, _one) = impatient("header_timeout: 100ms, idle_timeout: 1s").await;
    let mut fresh = Raw::connect(&app.url).await;
    let mut used = Raw::connect(&app.url).await;
    assert_eq!(used.get("/livez").await.status, 200);
    let began = Instant::now();
    // Longer than a head may take: nothing has begun, so nothing is late.
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(used.get("/livez").await.status, 200);
    assert_eq!(fresh.get("/livez").await.status, 200);
    assert!(used.is_closed_cleanly().await && fresh.is_closed_cleanly().await);
    assert!((900..5000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
}

#[tokio::test]
async fn c02_an_answer_that_takes_longer_than_every_deadline_for_callers_arrives() {
    let (app, one) = impatient("header_timeout: 100ms, body_timeout: 100ms, idle_timeout: 100ms").await;
    one.always(crate::support::upstream::chat("thought about it").after(Duration::from_millis(500)));
    let mut raw = Raw::connect(&app.url).await;
    raw.chat(&ask("hi")).await;
    let answer = raw.answer().await;
    assert!(answer.status == 200 && answer.body.contains("thought about it"), "{answer:?}");
}

#[tokio::test]
async fn c02_http2_streams_and_idle_connections_are_served_like_the_others() {
    let (app, one) = impatient("header_timeout: 100ms, idle_timeout: 1s, write_timeout: 300ms").await;
    one.always(crate::support::upstream::chat("one two three").paced(Duration::from_millis(200)));
    let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().expect("a client");
    let mut body = ask("hi");
    for stream in [false, true, true] {
        body["stream"] = json!(stream);
        let post = client.post(format!("{}/v1/chat/completions", app.url)).json(&body);
        let response = post.send().await.expect("an answer");
        assert_eq!((response.version(), response.status().as_u16()), (reqwest::Version::HTTP_2, 200));
        let text = response.text().await.expect("the whole answer");
        assert!(text.contains("three"), "{text}");
        // Longer than a head may take, on the same connection.
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

#[tokio::test]
async fn c04_no_malformed_json_reaches_a_provider_or_the_stack() {
    let (app, one) = impatient("body_limit: 1MB").await;
    let deep = |open: &str, close: &str| {
        let nest = format!("{}{}", open.repeat(100_000), close.repeat(100_000));
        format!("{{\"model\":\"auto\",\"messages\":[{{\"role\":\"user\",\"content\":\"hi\"}}],\"x\":{nest}}}")
            .into_bytes()
    };
    let with = |text: &[u8]| {
        let mut body = b"{\"model\":\"auto\",\"messages\":[{\"role\":\"user\",\"content\":\"".to_vec();
        body.extend_from_slice(text);
        body.extend_from_slice(b"\"}]}");
        body
    };
    let member = |member: &str| {
        format!("{{\"model\":\"auto\",\"messages\":[{{\"role\":\"user\",\"content\":\"hi\"}}],{member}}}").into_bytes()
    };
    for (what, body) in [
        ("nested lists", deep("[", "]")),
        ("nested maps", deep("{\"a\":", "}")),
        ("nothing but depth", b"[".repeat(900_000)),
        ("invalid UTF-8", with(b"\xff\xfe")),
        ("an overlong sequence", with(b"\xc0\xaf")),
        ("a raw NUL", with(b"a\0b")),
        ("a raw line end", with(b"a\nb")),
        ("a lone high surrogate", with(b"\\ud800")),
        ("a lone low surrogate", with(b"\\udc00 x")),
        ("a lone surrogate in a name", member("\"\\ud800\":1")),
        ("a lone surrogate elsewhere", member("\"user\":\"\\udfff\"")),
        ("too large a number", member("\"temperature\":1e999")),
        ("too large a number of theirs", member("\"x_theirs\":1e999")),
        ("no number", member("\"temperature\":NaN")),
        ("trailing garbage", [member("\"n\":1"), b" x".to_vec()].concat()),
        ("two documents", [member("\"n\":1"), member("\"n\":1")].concat()),
        ("an unfinished document", b"{\"model\":\"auto\"".to_vec()),
        ("a trailing NUL", [member("\"n\":1"), b"\0".to_vec()].concat()),
        ("two models", member("\"model\":\"other\"")),
        ("two streams", member("\"stream\":true,\"stream\":false")),
    ] {
        let post = app.client.post(format!("{}/v1/chat/completions", app.url)).body(body);
        let response = post.send().await.expect("an answer");
        let status = response.status().as_u16();
        let answer: serde_json::Value = response.json().await.expect("json");
        assert_eq!((status, answer["error"]["code"].as_str()), (400, Some("invalid_json")), "{what}: {answer}");
    }
    assert_eq!(one.count(), 0);
    assert_eq!(app.say("still here").await, "hello from upstream");
}
