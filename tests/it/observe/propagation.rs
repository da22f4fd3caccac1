//! The W3C trace context: what callers say, and what providers are told.

use serde_json::Value;

use crate::support::app::ask;
use crate::support::collector::{collector, hex};
use crate::support::{App, Upstream, app, upstream};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

fn one(telemetry: &str) -> String {
    format!(
        "providers: {{ one: {{ format: openai, base_url: '{{0}}', models: [ {{ id: m1 }} ] }} }}\n\
         cache: {{ enabled: false }}\n{telemetry}"
    )
}

/// Asks with these headers; returns the ledger's row.
async fn send(app: &App, headers: &[(&str, &str)]) -> Value {
    let mut post = app.client.post(format!("{}/v1/chat/completions", app.url)).json(&ask("hi"));
    for (name, value) in headers {
        post = post.header(*name, *value);
    }
    let response = post.send().await.expect("an answer");
    assert_eq!(response.status(), 200);
    app.row(response.headers()).await
}

fn told(upstream: &Upstream, name: &str) -> Option<String> {
    upstream.last_call().expect("a call").header(name).map(str::to_owned)
}

#[tokio::test]
async fn a_callers_trace_goes_on_and_its_flag_decides() {
    let upstream = upstream().await;
    let collector = collector().await;
    for (flag, sample) in [("01", "0%"), ("00", "100%")] {
        let telemetry =
            format!("telemetry: {{ otlp: {{ endpoint: '{}', interval: 100ms, sample: {sample} }} }}\n", collector.url);
        let app = app(&one(&telemetry), &[&upstream]).await;
        let parent = format!("00-{TRACE}-{SPAN}-{flag}");
        let row = send(&app, &[("traceparent", &parent), ("tracestate", "vendor=1"), ("baggage", "secret=2")]).await;
        assert_eq!(row["trace_id"], TRACE);
        let outgoing = told(&upstream, "traceparent").expect("a traceparent");
        assert!(outgoing.starts_with(&format!("00-{TRACE}-")) && outgoing.ends_with(&format!("-{flag}")), "{outgoing}");
        assert!(!outgoing.contains(SPAN), "the attempt's own span is the parent now");
        assert_eq!((told(&upstream, "tracestate"), told(&upstream, "baggage")), (None, None));
        app.stop().await;
    }
    let spans = collector.requests(1).await;
    assert_eq!(spans.len(), 1, "only the sampled one");
    let server = &spans[0][0];
    assert_eq!((hex(&server.trace_id), hex(&server.parent_span_id)), (TRACE.to_owned(), SPAN.to_owned()));
    assert_eq!(server.trace_state, "vendor=1");
}

#[tokio::test]
async fn a_malformed_parent_is_as_good_as_none() {
    let upstream = upstream().await;
    let collector = collector().await;
    let telemetry = format!("telemetry: {{ otlp: {{ endpoint: '{}' }} }}\n", collector.url);
    let app = app(&one(&telemetry), &[&upstream]).await;
    for parent in ["nonsense", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", &format!("00-{TRACE}-{SPAN}")]
    {
        let row = send(&app, &[("traceparent", parent)]).await;
        let own = row["trace_id"].as_str().expect("a trace of its own");
        assert!(own.len() == 32 && own != TRACE, "{own}");
        assert!(!told(&upstream, "traceparent").expect("a traceparent").contains(parent));
    }
}

#[tokio::test]
async fn without_a_collector_a_trace_passes_through_and_none_begins() {
    let upstream = upstream().await;
    let app = app(&one(""), &[&upstream]).await;
    let parent = format!("00-{TRACE}-{SPAN}-01");
    let row = send(&app, &[("traceparent", &parent)]).await;
    assert_eq!((row["trace_id"].as_str(), told(&upstream, "traceparent")), (Some(TRACE), Some(parent)));
    let row = send(&app, &[]).await;
    assert!(row.get("trace_id").is_none() && told(&upstream, "traceparent").is_none(), "{row}");
}

#[tokio::test]
async fn the_configuration_says_what_providers_are_told() {
    let upstream = upstream().await;
    let parent = format!("00-{TRACE}-{SPAN}-01");
    let headers = [("traceparent", parent.as_str()), ("tracestate", "vendor=1")];
    for (propagate, parent, state) in [
        ("none", None, None),
        ("traceparent", Some(parent.clone()), None),
        ("tracestate", Some(parent.clone()), Some("vendor=1")),
    ] {
        let app = app(&one(&format!("telemetry: {{ propagate: {propagate} }}\n")), &[&upstream]).await;
        send(&app, &headers).await;
        assert_eq!(told(&upstream, "traceparent"), parent, "{propagate}");
        assert_eq!(told(&upstream, "tracestate").as_deref(), state, "{propagate}");
    }
}

#[tokio::test]
async fn the_trace_of_a_request_is_kept_over_a_restart() {
    let upstream = upstream().await;
    let app = app(&one(""), &[&upstream]).await;
    let row = send(&app, &[("traceparent", &format!("00-{TRACE}-{SPAN}-01"))]).await;
    let app = app.restart().await;
    let kept = app.get(&format!("/v1/requests/{}", row["id"].as_str().expect("an id"))).await;
    assert_eq!(kept["trace_id"], TRACE);
}
