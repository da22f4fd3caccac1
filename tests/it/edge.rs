//! What surrounds every path: pages of other origins, compression, headers for browsers and proxies.

use std::io::{Read, Write};

use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::support::process::until;
use crate::support::{App, app, upstream};

const DEMO: &str = "providers: { demo: {} }\n";

async fn preflight(app: &App, origin: &str) -> reqwest::Response {
    app.client
        .request(Method::OPTIONS, format!("{}/v1/chat/completions", app.url))
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,x-stainless-os")
        .send()
        .await
        .expect("an answer")
}

fn header<'a>(response: &'a reqwest::Response, name: &str) -> &'a str {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
}

#[tokio::test]
async fn no_page_of_another_origin_may_call_unless_it_is_allowed() {
    let app = app(DEMO, &[]).await;
    let refused = preflight(&app, "https://a.example").await;
    assert_eq!(refused.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(header(&refused, "access-control-allow-origin"), "");
    app.rewrite(&format!("{DEMO}server: {{ cors: {{ origins: ['https://a.example'] }} }}\n"), &[]);
    until("the new rules are in force", async || preflight(&app, "https://a.example").await.status() == 200).await;
    let allowed = preflight(&app, "https://a.example").await;
    assert_eq!(header(&allowed, "access-control-allow-origin"), "https://a.example");
    assert_eq!(header(&allowed, "access-control-allow-headers"), "authorization,x-stainless-os");
    assert_eq!(header(&allowed, "access-control-allow-methods"), "GET,POST");
    assert_eq!(header(&allowed, "access-control-max-age"), "600");
    assert_eq!(header(&preflight(&app, "https://b.example").await, "access-control-allow-origin"), "");
}

#[tokio::test]
async fn an_allowed_page_may_read_what_the_router_says_about_an_answer() {
    let app = app(&format!("{DEMO}server: {{ cors: {{ origins: ['*'] }} }}\n"), &[]).await;
    let get = app.client.get(format!("{}/v1/models/nothing", app.url)).header("origin", "https://a.example");
    let answer = get.send().await.expect("an answer");
    assert_eq!(answer.status(), 404, "errors are read too");
    assert_eq!(header(&answer, "access-control-allow-origin"), "*");
    let exposed = header(&answer, "access-control-expose-headers");
    for name in [
        "x-request-id",
        "x-stepwell-model",
        "x-stepwell-cost-usd",
        "x-ratelimit-remaining-tokens",
        "retry-after",
        "server-timing",
    ] {
        assert!(exposed.split(',').any(|one| one == name), "{name} in {exposed}");
    }
}

#[tokio::test]
async fn long_answers_are_compressed_for_those_who_ask_and_only_once() {
    let app = app("providers: { demo: {}, openai: { api_key: x } }\n", &[]).await;
    let plain = app.client.get(format!("{}/v1/models", app.url)).send().await.expect("an answer");
    assert_eq!(header(&plain, "content-encoding"), "");
    let plain = plain.bytes().await.expect("a body");
    assert!(plain.len() > 10_000, "the list is long enough for this test");
    let bare = unpacking_nothing();
    type Unpack = fn(&[u8]) -> Vec<u8>;
    let unpackers: [(&str, Unpack); 3] = [
        ("gzip", |packed| read(flate2::read::GzDecoder::new(packed))),
        ("br", |packed| read(brotli::Decompressor::new(packed, 4096))),
        ("zstd", |packed| zstd::decode_all(packed).expect("zstd")),
    ];
    for (name, unpack) in unpackers {
        let get = bare.get(format!("{}/v1/models", app.url)).header("accept-encoding", name);
        let answer = get.send().await.expect("an answer");
        assert_eq!(header(&answer, "content-encoding"), name);
        assert!(header(&answer, "vary").contains("accept-encoding"));
        let packed = answer.bytes().await.expect("a body");
        assert!(packed.len() * 2 < plain.len(), "{name}: {} of {}", packed.len(), plain.len());
        assert!(unpack(&packed) == plain, "{name}");
    }
    let short = bare.get(format!("{}/health", app.url)).header("accept-encoding", "gzip");
    assert_eq!(
        header(&short.send().await.expect("an answer"), "content-encoding"),
        "",
        "short answers stay as they are"
    );
}

/// A client that shows answers as they come.
fn unpacking_nothing() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().no_gzip().no_brotli().no_zstd().build().expect("a client")
}

fn read(mut reader: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).expect("unpacked");
    bytes
}

#[tokio::test]
async fn streams_are_never_compressed_and_the_rest_not_where_it_is_switched_off() {
    let model = upstream().await;
    model.always(crate::support::upstream::model(&"word ".repeat(4000)));
    let yaml = "server: { compression: false }\nproviders: { a: { format: openai, base_url: '{0}', models: [ { id: m } ] } }\n";
    let app = app(yaml, &[&model]).await;
    let bare = unpacking_nothing();
    let ask = |stream: bool| {
        let body = serde_json::json!({"model": "m", "stream": stream, "messages": [{"role": "user", "content": "x"}]});
        bare.post(format!("{}/v1/chat/completions", app.url)).header("accept-encoding", "gzip, br").json(&body)
    };
    let whole = ask(false).send().await.expect("an answer");
    assert_eq!((whole.status().as_u16(), header(&whole, "content-encoding")), (200, ""));
    app.rewrite(&yaml.replace("false", "true"), &[&model]);
    until("the new rules are in force", async || {
        ask(false).send().await.expect("an answer").headers().contains_key("content-encoding")
    })
    .await;
    // Answered from the cache in one piece: long, and still an event stream.
    let stream = ask(true).send().await.expect("an answer");
    assert_eq!(header(&stream, "content-type"), "text/event-stream");
    assert_eq!(header(&stream, "content-encoding"), "");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packer.write_all(bytes).expect("packed");
    packer.finish().expect("packed")
}

async fn send(app: &App, encoding: &str, body: Vec<u8>) -> (u16, Value) {
    let post = app.client.post(format!("{}/v1/chat/completions", app.url)).header("content-encoding", encoding);
    let answer = post.header("content-type", "application/json").body(body).send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.expect("json"))
}

#[tokio::test]
async fn a_body_may_come_compressed() {
    let app = app(DEMO, &[]).await;
    let body = crate::support::app::ask("hi").to_string().into_bytes();
    let mut packed = Vec::new();
    brotli::CompressorWriter::new(&mut packed, 4096, 5, 20).write_all(&body).expect("packed");
    let zstd = zstd::encode_all(&*body, 3).expect("packed");
    for (encoding, bytes) in [("gzip", gzip(&body)), ("br", packed), ("zstd", zstd), ("identity", body.clone())] {
        let (status, answer) = send(&app, encoding, bytes).await;
        assert_eq!(status, 200, "{encoding}: {answer}");
    }
    let (status, error) = send(&app, "deflate", body.clone()).await;
    assert_eq!((status, &error["error"]["code"]), (415, &"unsupported_content_encoding".into()));
    let (status, error) = send(&app, "gzip", body).await;
    assert_eq!((status, &error["error"]["code"]), (400, &"incomplete_body".into()), "what is no gzip");
}

#[tokio::test]
async fn what_a_body_unpacks_to_counts_towards_the_limit() {
    let app = app(&format!("{DEMO}server: {{ body_limit: 1MB }}\n"), &[]).await;
    let bomb = gzip(&vec![b' '; 50_000_000]);
    assert!(bomb.len() < 100_000);
    let (status, error) = send(&app, "gzip", bomb).await;
    assert_eq!((status, &error["error"]["code"]), (413, &"request_too_large".into()));
    let bomb = zstd::encode_all(std::io::repeat(b' ').take(50_000_000), 3).expect("packed");
    assert_eq!(send(&app, "zstd", bomb).await.0, 413);
    // Members that unpack to nothing, without end.
    let nothing = gzip(b"").repeat(60_000);
    let chunks = futures_util::stream::iter(
        nothing.chunks(65_536).map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec())).collect::<Vec<_>>(),
    );
    let post = app.client.post(format!("{}/v1/chat/completions", app.url)).header("content-encoding", "gzip");
    let answer = post.body(reqwest::Body::wrap_stream(chunks)).send().await.expect("an answer");
    assert_eq!(answer.status(), 413);
}

#[tokio::test]
async fn every_answer_tells_browsers_and_proxies_what_not_to_do() {
    let app = app(DEMO, &[]).await;
    for path in ["/v1/models", "/v1/usage", "/health", "/metrics", "/nowhere"] {
        let answer = app.client.get(format!("{}{path}", app.url)).send().await.expect("an answer");
        assert_eq!(header(&answer, "x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header(&answer, "cache-control"), "no-store", "{path}");
        assert_eq!(header(&answer, "strict-transport-security"), "", "{path} came without TLS");
    }
}
