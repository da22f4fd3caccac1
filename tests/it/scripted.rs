//! The scripted upstream itself: what it is told is what stands on the wire, and the proxy breaks what it is told to.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stepwell::scripted::proxy::{Proxy, Reach, Weather};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::app::ask;
use crate::support::upstream::{fault, within};
use crate::support::{Upstream, app, upstream};

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().expect("a client")
}

fn body(stream: bool) -> Value {
    json!({"model": "m", "stream": stream, "messages": [{"role": "user", "content": "hi"}]})
}

/// All bytes that come back for a request with this `x-fault`, until the other side closes or nothing comes for a while.
async fn bytes(one: &Upstream, x_fault: &str, stream: bool) -> String {
    let body = body(stream).to_string();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-fault: {x_fault}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut connection = TcpStream::connect(one.address).await.expect("a connection");
    connection.write_all(request.as_bytes()).await.expect("written");
    let mut read = Vec::new();
    let _ = tokio::time::timeout(Duration::from_millis(300), connection.read_to_end(&mut read)).await;
    String::from_utf8_lossy(&read).into_owned()
}

#[tokio::test]
async fn every_word_is_seen_on_the_wire() {
    let one = upstream().await;
    for (x_fault, stream, wanted) in [
        (
            "status=503; retry-after=2",
            false,
            "HTTP/1.1 503 Scripted\r\ncontent-type: application/json\r\nretry-after: 2",
        ),
        ("retry-after=\"Wed, 21 Oct 2015 07:28:00 GMT\"", false, "retry-after: Wed, 21 Oct 2015 07:28:00 GMT"),
        ("redirect=http://elsewhere.example/", false, "HTTP/1.1 307 Scripted"),
        ("redirect=http://elsewhere.example/", false, "location: http://elsewhere.example/"),
        ("interim=100 interim=103", false, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Interim\r\nlink: "),
        ("flood=1000", false, "x-flood-999: f"),
        ("flood-bytes=64KiB", false, &"f".repeat(65_536)),
        ("length=+1000", false, "hello from upstream"),
        ("twice", false, "smuggled"),
        ("trailing", false, "}trailing garbage"),
        ("trailer", true, "0\r\nno trailer at all\r\n"),
        ("no-done", true, "\"finish_reason\":\"stop\"}],\"usage\":null}\n\n\r\n0\r\n"),
        ("hold", true, "data: [DONE]\n\n\r\n"),
        ("body=html", false, "<script>"),
        ("body=text status=502", false, "HTTP/1.1 502 Scripted\r\ncontent-type: text/plain"),
        ("body=empty", false, "content-length: 0\r\n\r\n"),
        ("body=no-choices", false, "\"choices\":[]"),
        ("body=null-choices", false, "\"choices\":null"),
        ("body=malformed", true, "data: {broken\n\n"),
        ("body=endless", true, "data: {\"x\":\""),
        ("usage=absurd", false, "18446744073709551615"),
        ("usage=negative", false, "-10"),
        ("usage=text", false, "\"ten\""),
        ("usage=missing", false, "\"usage\":null"),
        ("tokens=3", false, "word word word "),
        ("pretend=gzip", false, "content-encoding: gzip"),
        ("cut-after=1", true, "\"content\":\"hello \""),
        ("status=204", false, "HTTP/1.1 204 Scripted\r\n\r\n"),
        ("early", false, "hello from upstream"),
        ("close", false, "connection: close"),
        ("sttus=503", false, "unknown fault word `sttus`"),
    ] {
        let bytes = bytes(&one, x_fault, stream).await;
        assert!(bytes.contains(wanted), "{x_fault}: {}", &bytes[..bytes.len().min(2000)]);
    }
    for (x_fault, unwanted) in [
        ("no-done", "[DONE]"),
        ("hold", "0\r\n\r\n"),
        ("cut-after=1", "from "),
        ("reset", "HTTP"),
        ("stall", "HTTP"),
        ("body=truncated", "[DONE]"),
    ] {
        let bytes = bytes(&one, x_fault, true).await;
        assert!(!bytes.contains(unwanted), "{x_fault}: {bytes}");
    }
}

#[tokio::test]
async fn compressed_answers_open_to_what_was_said() {
    let one = upstream().await;
    let client = reqwest::Client::builder().no_proxy().gzip(true).brotli(true).zstd(true).build().expect("a client");
    for encoding in ["gzip", "br", "zstd"] {
        for stream in [false, true] {
            let request = client.post(format!("{}/chat/completions", one.url)).json(&body(stream));
            let request = request.header("x-fault", format!("encoding={encoding}; tokens=2"));
            let text = request.send().await.expect("an answer").text().await.expect("a body that opens");
            assert!(text.contains("word") && (!stream || text.contains("[DONE]")), "{encoding}: {text}");
        }
    }
}

#[tokio::test]
async fn a_clean_answer_keeps_the_connection_and_calls_are_told_apart() {
    let one = upstream().await;
    let client = client();
    for stream in [false, true, false] {
        let request = client.post(format!("{}/chat/completions", one.url)).json(&body(stream));
        request.bearer_auth("sk-canary").send().await.expect("an answer").bytes().await.expect("a body");
    }
    let page: Value =
        client.get(one.url.replace("/v1", "/calls")).send().await.expect("a page").json().await.expect("JSON");
    assert_eq!(page["count"], 3);
    let calls = page["calls"].as_array().expect("calls");
    let times: Vec<f64> = calls.iter().filter_map(|call| call["arrived_ms"].as_f64()).collect();
    assert!(times.len() == 3 && times.is_sorted(), "{page}");
    assert!(calls.iter().all(|call| call["connection"] == 0 && call["path"] == "/v1/chat/completions"), "{page}");
    assert_eq!(calls[0]["headers"]["authorization"], "[hidden]");
    assert_eq!(one.accepted(), 1, "one connection carried all");
}

#[tokio::test]
async fn the_proxys_weather_changes_while_it_runs() {
    let one = upstream().await;
    let proxy = Proxy::start(one.address).await.expect("a proxy");
    let client = client();
    let ask = || {
        let request = client.post(format!("http://{}/v1/chat/completions", proxy.address)).json(&body(false));
        async move { request.send().await?.text().await }
    };
    assert!(ask().await.expect("an answer").contains("hello"));
    for reach in [Reach::Reset, Reach::Refuse] {
        proxy.reach(reach).await;
        assert!(ask().await.is_err(), "{reach:?}");
        assert_eq!(TcpStream::connect(proxy.address).await.is_err(), reach == Reach::Refuse, "{reach:?}");
        proxy.reach(Reach::Open).await;
        assert!(ask().await.expect("an answer").contains("hello"), "after {reach:?}");
    }
    proxy.reach(Reach::BlackHole).await;
    assert!(
        tokio::time::timeout(Duration::from_millis(200), ask()).await.is_err(),
        "nothing comes out of a black hole"
    );
    proxy.set(Weather { cut_after: Some(20), ..Weather::default() }).await;
    assert!(ask().await.is_err(), "twenty bytes are no answer");
    proxy.set(Weather { delay: Duration::from_millis(150), slice: 1, ..Weather::default() }).await;
    let began = Instant::now();
    assert!(ask().await.expect("an answer").contains("hello"));
    assert!(began.elapsed() >= Duration::from_millis(150));
}

#[tokio::test]
async fn an_open_connection_feels_the_weather_too() {
    let one = upstream().await;
    one.always(fault("stall-after=1"));
    let proxy = Proxy::start(one.address).await.expect("a proxy");
    let request = client().post(format!("http://{}/v1/chat/completions", proxy.address)).json(&body(true));
    let mut response = request.send().await.expect("a head");
    response.chunk().await.expect("bytes").expect("a piece");
    proxy.reach(Reach::Reset).await;
    let end = async { while let Ok(Some(_)) = response.chunk().await {} };
    within(end).await;
    within(one.until_closed(1)).await;
}

#[test]
fn the_demo_command_says_how_it_is_used_and_its_examples_work() {
    let mut demo = Command::new(assert_cmd::cargo::cargo_bin!("stepwell"))
        .args(["demo", "--port", "0"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(demo.stdout.take().expect("its output")).lines().map_while(Result::ok);
    let banner: Vec<String> = lines.by_ref().take(12).collect();
    let banner = banner.join("\n");
    let url = banner.split("base URL ").nth(1).and_then(|rest| rest.split(' ').next()).expect("a URL").to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let checked = runtime.block_on(async {
        let client = client();
        let post = |body: Value| client.post(format!("{url}/chat/completions")).json(&body);
        let header = post(body(false)).header("x-fault", "status=503; retry-after=2").send().await?;
        let mut by_model = body(true);
        by_model["model"] = json!("fault-cut-after=5");
        let streamed = post(by_model).send().await?.text().await;
        let mut by_prompt = body(false);
        by_prompt["messages"][0]["content"] = json!("hi [[fault body=html]]");
        let html = post(by_prompt).send().await?.text().await?;
        let models: Value = client.get(format!("{url}/models")).send().await?.json().await?;
        Ok::<_, reqwest::Error>((header.status().as_u16(), header.headers().clone(), streamed, html, models))
    });
    demo.kill().expect("it is ended");
    demo.wait().expect("it ends");
    let (status, headers, streamed, html, models) = checked.expect("answers");
    assert_eq!((status, &headers["retry-after"]), (503, &"2".parse().expect("a value")), "{banner}");
    assert!(streamed.is_err(), "a cut stream is no stream: {streamed:?}");
    assert!(html.starts_with("<!doctype html>"), "{html}");
    assert_eq!(models["data"][0]["id"], "scripted");
    assert_eq!(banner.matches("curl").count(), 4, "three examples and the record: {banner}");
}

#[tokio::test]
async fn the_demo_provider_takes_the_same_words_and_refuses_the_others_by_name() {
    let yaml = "providers: { demo: { fault: { status: 503, retry_after: 7, rate: 100%, models: [large] } } }\ncache: { enabled: false }";
    let app = app(yaml, &[]).await;
    let ask = |model: &str, prompt: &str| {
        let mut body = ask(prompt);
        body["model"] = json!(model);
        body
    };
    let (status, headers, _) = app.chat(&ask("demo/large", "hi")).await;
    assert_eq!((status, &headers["retry-after"]), (503, &"7".parse().expect("a value")));
    for (model, directive, status) in [
        ("demo/medium", "status=429 header=retry-after-ms:1", 429),
        ("demo/small", "status=500,on=medium", 200),
        ("demo/small", "reset", 502),
    ] {
        let (got, _, body) = app.chat(&ask(model, &format!("hi [[fault {directive}]]"))).await;
        assert_eq!(got, status, "{directive}: {body}");
    }
    for (directive, named) in [("sttus=503", "`sttus`"), ("delay=soon", "`soon`"), ("encoding=gzip", "`stepwell demo`")]
    {
        let (status, _, body) = app.chat(&ask("demo/small", &format!("hi [[fault {directive}]]"))).await;
        assert_eq!(status, 400, "{directive}: {body}");
        assert!(body["error"]["message"].as_str().expect("text").contains(named), "{directive}: {body}");
    }
    let streamed = app.stream(&ask("demo/small", "hi [[fault cut_after=3]]")).await;
    assert!(streamed.error().is_some() && streamed.text().split(' ').count() <= 4, "{}", streamed.raw);
}
