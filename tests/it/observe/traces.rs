//! Spans and metrics at a collector, read with the protocol's own types.

use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::json;

use crate::support::app::ask;
use crate::support::collector::{attributes, collector, hex};
use crate::support::process::{Home, until};
use crate::support::upstream::{chat, hang, status};
use crate::support::{App, app, upstream};

/// Two providers in order of preference, and a collector.
fn two(collector: &str, more: &str) -> String {
    format!(
        "providers:\n  one: {{ format: openai, base_url: '{{0}}', priority: 1, models: [ {{ id: m1, price: {{ input: 1, output: 2 }} }} ] }}\n  \
         two: {{ format: openai, base_url: '{{1}}', priority: 2, models: [ {{ id: m2, price: {{ input: 1, output: 2 }} }} ] }}\n\
         routing: {{ strategy: priority }}\ncache: {{ enabled: false }}\n\
         telemetry: {{ otlp: {{ endpoint: '{collector}', interval: 100ms, headers: {{ x-collector: mine }}, \
         resource: {{ service.name: tested, team: a }} }} }}\n{more}"
    )
}

fn event_names(span: &Span) -> Vec<&str> {
    span.events.iter().map(|event| event.name.as_str()).collect()
}

async fn trace_id(app: &App, id: &str) -> String {
    app.get(&format!("/v1/requests/{id}")).await["trace_id"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_request_is_a_span_and_every_attempt_is_one_below_it() {
    let (one, two_) = (upstream().await, upstream().await);
    let collector = collector().await;
    let app = app(&two(&collector.url, "breaker: { consecutive_failures: 1 }\n"), &[&one, &two_]).await;
    one.always(status(500));
    let (_, headers, body) = app.chat(&ask("hi")).await;
    let requests = collector.requests(1).await;
    let [server, failed, answered] = &requests[0][..] else { panic!("three spans: {requests:?}") };

    assert_eq!((server.kind, failed.kind, answered.kind), (2, 3, 3));
    assert_eq!(server.name, "POST /v1/chat/completions");
    assert!(server.parent_span_id.is_empty());
    assert_eq!((&failed.parent_span_id, &answered.parent_span_id), (&server.span_id, &server.span_id));
    assert!(requests[0].iter().all(|span| span.trace_id == server.trace_id && span.trace_id.len() == 16));
    let id = headers["x-request-id"].to_str().expect("an id");
    assert_eq!(trace_id(&app, id).await, hex(&server.trace_id), "the ledger's row leads to the trace");

    let about = attributes(&server.attributes);
    assert_eq!(about["http.response.status_code"], "200");
    assert_eq!(about["stepwell.request_id"], id);
    assert_eq!((about["stepwell.attempts"].as_str(), about["stepwell.failovers"].as_str()), ("2", "1"));
    assert_eq!((about["stepwell.provider"].as_str(), about["stepwell.cache"].as_str()), ("two", "bypass"));
    assert!(
        ["stepwell.task", "stepwell.strategy", "stepwell.reason", "stepwell.cost_usd", "stepwell.overhead_ms"]
            .iter()
            .all(|key| about.contains_key(*key)),
        "{about:?}"
    );
    assert_eq!(event_names(server), ["breaker_opened", "failover"]);
    assert!(server.status.is_none(), "an answer is no error");

    let about = attributes(&failed.attributes);
    assert_eq!((about["error.type"].as_str(), about["gen_ai.request.model"].as_str()), ("server_error", "m1"));
    assert_eq!(failed.status.as_ref().map(|status| (status.code, status.message.as_str())), Some((2, "")));
    assert!(!about.contains_key("gen_ai.usage.input_tokens"));

    let about = attributes(&answered.attributes);
    for (key, value) in [
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "two"),
        ("gen_ai.request.model", "m2"),
        ("gen_ai.response.model", body["model"].as_str().expect("a model")),
        ("gen_ai.response.id", body["id"].as_str().expect("an id")),
        ("gen_ai.response.finish_reasons", "stop"),
        ("gen_ai.usage.input_tokens", &body["usage"]["prompt_tokens"].to_string()),
        ("gen_ai.usage.output_tokens", &body["usage"]["completion_tokens"].to_string()),
        ("server.address", "127.0.0.1"),
        ("server.port", two_.url.trim_end_matches("/v1").rsplit(':').next().expect("a port")),
    ] {
        assert_eq!(about[key], value, "{key}");
    }
    assert_eq!(answered.name, "chat m2");
    assert!(server.start_time_unix_nano <= failed.start_time_unix_nano);
    assert!(failed.end_time_unix_nano <= answered.start_time_unix_nano);
    assert!(answered.end_time_unix_nano <= server.end_time_unix_nano);
    let told = |upstream: &crate::support::Upstream| {
        upstream.last_call().expect("a call").header("traceparent").map(str::to_owned)
    };
    for (upstream, span) in [(&one, failed), (&two_, answered)] {
        let expected = format!("00-{}-{}-01", hex(&span.trace_id), hex(&span.span_id));
        assert_eq!(told(upstream).as_deref(), Some(expected.as_str()), "each provider is told of its own attempt");
    }
    assert_eq!(collector.header("x-collector"), "mine");
    let resource = collector.resource();
    assert_eq!((resource["service.name"].as_str(), resource["team"].as_str()), ("tested", "a"));
}

#[tokio::test]
async fn the_span_of_a_stream_ends_with_it_or_with_the_caller() {
    let (one, two_) = (upstream().await, upstream().await);
    let collector = collector().await;
    let app = app(&two(&collector.url, ""), &[&one, &two_]).await;
    one.always(chat("four words of text").paced(Duration::from_millis(40)));
    app.stream(&ask("hi")).await;
    let requests = collector.requests(1).await;
    let [server, answered] = &requests[0][..] else { panic!("two spans: {requests:?}") };
    let nanos = answered.end_time_unix_nano - answered.start_time_unix_nano;
    assert!(nanos >= 100_000_000, "to its last token: {nanos}");
    assert!(answered.end_time_unix_nano <= server.end_time_unix_nano);
    assert!(attributes(&answered.attributes).contains_key("gen_ai.response.time_to_first_chunk"));

    one.always(chat("it never ends").stall());
    let mut body = ask("leave");
    body["stream"] = json!(true);
    let mut response = app.post("/v1/chat/completions", &body).await;
    response.chunk().await.expect("a chunk");
    drop(response);
    let requests = collector.requests(2).await;
    let [server, answered] = &requests[1][..] else { panic!("two spans: {requests:?}") };
    let about = attributes(&server.attributes);
    assert_eq!(
        (about["stepwell.status"].as_str(), about["http.response.status_code"].as_str()),
        ("client_closed", "499")
    );
    assert!(attributes(&answered.attributes).contains_key("gen_ai.usage.output_tokens"), "what was seen is counted");

    one.always(chat("it breaks soon").cut());
    app.stream(&ask("cut")).await;
    let requests = collector.requests(3).await;
    let [server, cut] = &requests[2][..] else { panic!("two spans: {requests:?}") };
    assert_eq!(
        server.status.as_ref().map(|status| status.code),
        Some(2),
        "less than an answer, whatever the status was"
    );
    assert_eq!(attributes(&cut.attributes)["error.type"], "interrupted");
}

#[tokio::test]
async fn a_hedge_that_lost_is_a_span_and_no_error() {
    let (one, two_) = (upstream().await, upstream().await);
    let collector = collector().await;
    let hedge = "hedge: { enabled: true, after: 500ms, budget: 20% }\n";
    let app = app(&two(&collector.url, hedge), &[&one, &two_]).await;
    one.always(hang());
    // The budget for hedges is earned by requests.
    one.then(chat("a")).then(chat("b")).then(chat("c")).then(chat("d")).then(chat("e"));
    for _ in 0..6 {
        app.say("hi").await;
    }
    let requests = collector.requests(6).await;
    let hedged = requests.last().expect("the one that was hedged");
    assert_eq!((event_names(&hedged[0]), hedged.len()), (vec!["hedge"], 3), "{requests:?}");
    let by = |model: &str| {
        let mut about = hedged[1..].iter().map(|span| (span, attributes(&span.attributes)));
        about.find(|(_, about)| about["gen_ai.request.model"] == model).expect("a span")
    };
    let ((lost, about_lost), (won, about_won)) = (by("m1"), by("m2"));
    assert_eq!(about_lost["stepwell.outcome"], "hedge_lost");
    assert!(lost.status.is_none() && won.status.is_none());
    assert_eq!(about_won["stepwell.hedge"], "true");
    assert!(
        about_won.contains_key("gen_ai.usage.output_tokens") && !about_lost.contains_key("gen_ai.usage.output_tokens")
    );
}

#[tokio::test]
async fn what_a_collector_refuses_for_now_is_sent_again_and_what_is_left_at_the_end() {
    let (one, two_) = (upstream().await, upstream().await);
    let collector = collector().await;
    collector.answers(503);
    let app = app(&two(&collector.url, ""), &[&one, &two_]).await;
    app.say("hi").await;
    until("it is tried", async || collector.exports() > 0).await;
    assert!(collector.spans().is_empty());
    collector.answers(200);
    assert_eq!(collector.requests(1).await.len(), 1, "once, though tried more often");

    let patient = two(&collector.url, "").replace("interval: 100ms", "interval: 1h");
    let app = crate::support::app(&patient, &[&one, &two_]).await;
    app.say("hi").await;
    assert_eq!(app.stop().await, 0);
    assert_eq!(collector.requests(2).await.len(), 2, "stopping sends the last ones");
}

#[tokio::test]
async fn a_collector_that_is_gone_or_silent_holds_up_nobody() {
    let (one, two_) = (upstream().await, upstream().await);
    let silent = upstream().await;
    silent.always(hang());
    for endpoint in ["http://127.0.0.1:1".to_owned(), silent.url.trim_end_matches("/v1").to_owned()] {
        let app = app(&two(&endpoint, ""), &[&one, &two_]).await;
        for _ in 0..20 {
            assert_eq!(app.say("hi").await, "hello from upstream");
        }
        let stopping = tokio::time::timeout(Duration::from_secs(10), app.stop());
        assert_eq!(stopping.await.expect("the last export is bounded"), 0);
    }
}

#[tokio::test]
async fn the_collector_gets_the_genai_metrics() {
    let (one, two_) = (upstream().await, upstream().await);
    let collector = collector().await;
    let app = app(&two(&collector.url, ""), &[&one, &two_]).await;
    one.then(status(500)).always(chat("four words of text"));
    app.say("hi").await;
    let streamed = app.stream(&ask("hi")).await;
    assert!(streamed.done);
    let counted = |name: &str| collector.points(name).iter().map(|(_, point)| point.count).sum::<u64>();
    until("all is measured", async || counted("http.server.request.duration") == 2).await;
    let attempts = collector.points("gen_ai.client.operation.duration");
    assert_eq!(attempts.iter().map(|(_, point)| point.count).sum::<u64>(), 3);
    let failed = attempts.iter().find(|(about, _)| about.get("error.type").is_some_and(|kind| kind == "server_error"));
    assert_eq!(failed.expect("a failure").0["gen_ai.request.model"], "m1");
    let (_, point) = &attempts[0];
    assert_eq!((point.explicit_bounds[0], point.explicit_bounds.len()), (0.01, 14), "as the conventions recommend");
    let tokens = collector.points("gen_ai.client.token.usage");
    let kinds: std::collections::BTreeSet<_> =
        tokens.iter().map(|(about, _)| about["gen_ai.token.type"].clone()).collect();
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), ["input", "output"]);
    assert_eq!((counted("gen_ai.server.time_to_first_token"), counted("gen_ai.server.time_per_output_token")), (1, 1));
}

#[tokio::test]
async fn what_is_not_wanted_is_not_sent_and_requests_that_cannot_be_read_are_spans() {
    let (one, two_) = (upstream().await, upstream().await);
    let collector = collector().await;
    let app = app(&two(&collector.url, "").replace("interval", "metrics: false, interval"), &[&one, &two_]).await;
    app.post("/v1/chat/completions", &json!({"model": "auto"})).await;
    let requests = collector.requests(1).await;
    let about = attributes(&requests[0][0].attributes);
    assert_eq!((about["http.response.status_code"].as_str(), about["stepwell.status"].as_str()), ("400", "rejected"));
    assert!(requests[0][0].status.is_none(), "the caller's fault is no failure of a server");
    assert!(collector.points("http.server.request.duration").is_empty());
}

#[tokio::test]
async fn a_reload_switches_it_on() {
    let (one, two_) = (upstream().await, upstream().await);
    let collector = collector().await;
    let on = two(&collector.url, "");
    let off = on.split_once("telemetry:").expect("a section").0;
    let app = app(off, &[&one, &two_]).await;
    app.say("unseen").await;
    app.rewrite(&on, &[&one, &two_]);
    until("the new rules are in force", async || app.get("/gateway/status").await["configuration_version"] == 2).await;
    app.say("seen").await;
    assert_eq!(collector.requests(1).await.len(), 1);
}

#[tokio::test]
async fn the_usual_variables_are_enough() {
    let one = upstream().await;
    let collector = collector().await;
    let mut home = Home::new(&format!(
        "providers: {{ one: {{ format: openai, base_url: '{}', models: [ {{ id: m1 }} ] }} }}\n",
        one.url
    ));
    home.env = vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), collector.url.clone()),
        ("OTEL_EXPORTER_OTLP_HEADERS".to_owned(), "x-collector=a%20key".to_owned()),
        ("OTEL_SERVICE_NAME".to_owned(), "llm".to_owned()),
    ];
    let process = home.start().await;
    assert_eq!(process.chat("traced", &ask("hi")).await.0, 200);
    assert_eq!(process.stop().await, Some(0));
    let spans = collector.requests(1).await;
    assert_eq!(attributes(&spans[0][0].attributes)["stepwell.request_id"], "traced");
    assert_eq!(
        (collector.header("x-collector").as_str(), collector.resource()["service.name"].as_str()),
        ("a key", "llm")
    );
    assert!(home.errors().contains(&collector.url), "the log says where it goes: {}", home.errors());
}
