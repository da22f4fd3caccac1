//! The proxy that one writes in an afternoon: axum, reqwest, and `serde_json::Value` in between.
//!
//! The yardstick of BENCHMARKS.md: the same libraries, none of the work. `naive_proxy LISTEN UPSTREAM_URL`.

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use http::header::CONTENT_TYPE;
use serde_json::Value;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Clone)]
struct Proxy {
    client: reqwest::Client,
    url: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let listen = arguments.next().unwrap_or_else(|| "127.0.0.1:4001".to_owned());
    let url = arguments.next().unwrap_or_else(|| "http://127.0.0.1:4002/v1/chat/completions".to_owned());
    let client = reqwest::Client::builder().tcp_nodelay(true).pool_max_idle_per_host(1024).build()?;
    let router = axum::Router::new().route("/v1/chat/completions", post(forward)).with_state(Proxy { client, url });
    let listener = tokio::net::TcpListener::bind(listen).await?;
    axum::serve(axum::serve::ListenerExt::tap_io(listener, |stream| _ = stream.set_nodelay(true)), router).await?;
    Ok(())
}

async fn forward(State(proxy): State<Proxy>, body: Bytes) -> Response {
    let request: Value = serde_json::from_slice(&body).unwrap_or_default();
    let sent = proxy.client.post(&proxy.url).header(CONTENT_TYPE, "application/json").body(request.to_string());
    let Ok(answer) = sent.send().await else {
        return Response::builder().status(502).body(Body::empty()).unwrap_or_default();
    };
    let status = answer.status();
    let kind = answer.headers().get(CONTENT_TYPE).cloned();
    let builder =
        kind.into_iter().fold(Response::builder().status(status), |builder, kind| builder.header(CONTENT_TYPE, kind));
    let body = if request["stream"] == true {
        Body::from_stream(answer.bytes_stream())
    } else {
        let value: Value = serde_json::from_slice(&answer.bytes().await.unwrap_or_default()).unwrap_or_default();
        Body::from(value.to_string())
    };
    builder.body(body).unwrap_or_default()
}
