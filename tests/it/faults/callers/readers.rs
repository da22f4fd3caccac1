//! Callers who do not read, or slowly.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::app::ask;
use crate::support::process::{Home, until};
use crate::support::raw::Raw;
use crate::support::{App, app, upstream};

/// An upstream that streams as fast as it is let, and how much that was.
struct Gusher {
    url: String,
    sent: Arc<AtomicUsize>,
    left: Arc<AtomicBool>,
}

const ALL: usize = 200_000_000;
/// What the kernel may hold on the way, by its own choice: up to 32 MiB where it receives (6 before Linux 6.16) and 4 where
/// it sends, twice.
const KERNEL: usize = 80_000_000;

/// More than a slow reader takes in the time of its test.
const SLOWLY: usize = 10_000_000;

async fn gusher(all: usize) -> Gusher {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/v1", listener.local_addr().expect("an address"));
    let (sent, left) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (counter, gone) = (sent.clone(), left.clone());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (counter, gone) = (counter.clone(), gone.clone());
            tokio::spawn(async move {
                let mut request = [0; 65536];
                let _ = stream.read(&mut request).await;
                let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
                let _ = stream.write_all(head.as_bytes()).await;
                let event = |choice: serde_json::Value| {
                    let chunk = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m1", "choices": [choice]});
                    format!("data: {chunk}\n\n")
                };
                let piece =
                    event(json!({"index": 0, "delta": {"content": "word ".repeat(2_000)}, "finish_reason": null}));
                while counter.load(Ordering::Relaxed) < all {
                    if stream.write_all(piece.as_bytes()).await.is_err() {
                        gone.store(true, Ordering::Relaxed);
                        return;
                    }
                    counter.fetch_add(piece.len(), Ordering::Relaxed);
                }
                let end = event(json!({"index": 0, "delta": {}, "finish_reason": "stop"})) + "data: [DONE]\n\n";
                let _ = stream.write_all(end.as_bytes()).await;
            });
        }
    });
    Gusher { url, sent, left }
}

async fn before(gusher: &Gusher, server: &str) -> (App, crate::support::Upstream) {
    let other = upstream().await;
    let yaml = format!(
        "providers:\n  one: {{ format: openai, base_url: '{}', models: [ {{ id: m1 }} ] }}\n  two: {{ format: openai, base_url: '{{0}}', models: [ {{ id: m2 }} ] }}\ncache: {{ enabled: false }}\nserver: {{ {server} }}\n",
        gusher.url
    );
    (app(&yaml, &[&other]).await, other)
}

async fn open_stream(url: &str, id: &str) -> Raw {
    let mut body = ask("everything");
    body["stream"] = json!(true);
    body["model"] = json!("one/m1");
    let body = body.to_string();
    let mut raw = Raw::connect(url).await;
    let head = format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-request-id: {id}");
    raw.send(format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len())).await;
    raw
}

#[tokio::test]
async fn b13_a_reader_who_takes_nothing_stops_the_provider_and_is_cut() {
    let gusher = gusher(ALL).await;
    let (app, _other) = before(&gusher, "write_timeout: 1s").await;
    let began = Instant::now();
    let mut raw = open_stream(&app.url, "reads-nothing").await;
    until("the provider's writes come to a halt", async || {
        let before = gusher.sent.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(150)).await;
        before > 0 && gusher.sent.load(Ordering::Relaxed) == before
    })
    .await;
    let sent = gusher.sent.load(Ordering::Relaxed);
    assert!(sent < KERNEL, "the provider could send {sent} bytes to nobody");
    let mut other = ask("hi");
    other["model"] = json!("two/m2");
    assert_eq!(app.chat(&other).await.0, 200, "others are served meanwhile");
    until("the provider is left", async || gusher.left.load(Ordering::Relaxed)).await;
    assert!(began.elapsed() >= Duration::from_secs(1));
    app.idle().await;
    let row = app.get("/v1/requests/reads-nothing").await;
    assert_eq!(row["status"], "client_closed", "{row}");
    assert!(raw.rest().await.is_err(), "the connection is reset, not ended as if all were said");
}

#[tokio::test]
async fn b13_a_stalled_stream_holds_less_than_256_kib() {
    let gusher = gusher(usize::MAX).await;
    let yaml =
        format!("providers: {{ one: {{ format: openai, base_url: '{}', models: [ {{ id: m1 }} ] }} }}\n", gusher.url);
    let process = Home::new(&yaml).start().await;
    drop(open_stream(&process.url, "warm").await);
    // Its usage is estimated: the tokenizer's table, loaded once, is no part of a stream.
    until("the first stream is settled", async || process.get("/v1/requests/warm").await["status"] == "client_closed")
        .await;
    let before = process.resident_mib();
    let mut readers = Vec::new();
    for index in 0..40 {
        readers.push(open_stream(&process.url, &format!("stalled-{index}")).await);
    }
    let mut sent = 0;
    until("the provider's writes come to a halt", async || {
        tokio::time::sleep(Duration::from_millis(200)).await;
        std::mem::replace(&mut sent, gusher.sent.load(Ordering::Relaxed)) == gusher.sent.load(Ordering::Relaxed)
    })
    .await;
    let grown = process.resident_mib().saturating_sub(before);
    assert!(grown <= 10, "40 stalled streams hold {grown} MiB");
}

#[tokio::test]
async fn b13_a_slow_reader_is_never_cut() {
    let gusher = gusher(SLOWLY).await;
    let (app, _other) = before(&gusher, "write_timeout: 400ms").await;
    let mut raw = open_stream(&app.url, "reads-slowly").await;
    let mut piece = vec![0; 20_000];
    let began = Instant::now();
    // Many times as long as a pending write may stand still.
    while began.elapsed() < Duration::from_secs(3) {
        raw.stream.read_exact(&mut piece).await.expect("more of the stream");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!gusher.left.load(Ordering::Relaxed));
    let text = String::from_utf8_lossy(&raw.rest().await.expect("a clean end")).into_owned();
    assert!(text.contains("data: [DONE]"), "all of it arrives in the end");
}

#[tokio::test]
async fn b13_an_http2_reader_who_takes_nothing_is_cut_too() {
    let gusher = gusher(ALL).await;
    let (app, _other) = before(&gusher, "write_timeout: 1s").await;
    let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().expect("a client");
    let mut body = ask("everything");
    body["stream"] = json!(true);
    body["model"] = json!("one/m1");
    let post = client.post(format!("{}/v1/chat/completions", app.url)).header("x-request-id", "h2").json(&body);
    let response = post.send().await.expect("a head");
    until("the provider is left", async || gusher.left.load(Ordering::Relaxed)).await;
    let sent = gusher.sent.load(Ordering::Relaxed);
    assert!(sent < KERNEL, "the provider could send {sent} bytes to nobody");
    app.idle().await;
    assert_eq!(app.get("/v1/requests/h2").await["status"], "client_closed");
    drop(response);
}
