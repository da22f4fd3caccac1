//! `/metrics`, read by a parser of Prometheus's format.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use prometheus_parse::{Sample, Scrape, Value};
use serde_json::json;
use stepwell::telemetry::metric::{Kind, Metric};

use crate::support::app::ask;
use crate::support::process::{Home, Process, client};
use crate::support::upstream::{chat, status};
use crate::support::{Upstream, upstream};

const TWO: &str = "\
providers:
  one: { format: openai, base_url: '{0}', priority: 1, models: [ { id: m1, price: { input: 1, output: 2 } } ] }
  two: { format: openai, base_url: '{1}', priority: 2, models: [ { id: m2 } ] }
routing: { strategy: priority }
breaker: { consecutive_failures: 2 }
hedge: { enabled: true }
";

/// A process of its own: what is counted belongs to the process, and tests share theirs.
async fn process(one: &Upstream, two: &Upstream) -> (Home, Process) {
    let home = Home::new(&TWO.replace("{0}", &one.url).replace("{1}", &two.url));
    let process = home.start().await;
    (home, process)
}

async fn scrape(process: &Process) -> (String, Scrape) {
    let text = process.metrics().await;
    let scrape = Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).expect("Prometheus's format");
    (text, scrape)
}

fn labels(sample: &Sample) -> BTreeMap<String, String> {
    sample.labels.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The sum of a metric's samples that have these labels.
fn sum(scrape: &Scrape, metric: Metric, with: &[(&str, &str)]) -> f64 {
    let named = scrape.samples.iter().filter(|sample| sample.metric == metric.name());
    let chosen = named.filter(|sample| with.iter().all(|(name, value)| sample.labels.get(name) == Some(*value)));
    chosen
        .map(|sample| match &sample.value {
            Value::Counter(number) | Value::Gauge(number) | Value::Untyped(number) => *number,
            Value::Histogram(buckets) => buckets.last().map_or(0.0, |bucket| bucket.count),
            Value::Summary(_) => panic!("there are no summaries"),
        })
        .sum()
}

async fn send(process: &Process, body: &serde_json::Value) -> u16 {
    let post = client().post(format!("{}/v1/chat/completions", process.url)).json(body);
    let response = post.send().await.expect("an answer");
    let status = response.status().as_u16();
    response.bytes().await.expect("a body");
    status
}

#[tokio::test]
async fn every_series_is_one_of_the_table_with_its_labels_and_help() {
    let (one, two) = (upstream().await, upstream().await);
    let (_home, process) = process(&one, &two).await;
    one.always(chat("four words of text"));
    assert_eq!(send(&process, &ask("hi")).await, 200);
    assert_eq!(send(&process, &ask("hi")).await, 200);
    let mut streamed = ask("stream");
    streamed["stream"] = json!(true);
    assert_eq!(send(&process, &streamed).await, 200);
    one.always(chat("it breaks soon").cut());
    streamed["messages"][0]["content"] = json!("cut");
    assert_eq!(send(&process, &streamed).await, 200);
    one.always(status(500));
    for prompt in ["a", "b", "c"] {
        assert_eq!(send(&process, &ask(prompt)).await, 200, "the other one answers");
    }
    assert_eq!(send(&process, &json!({"model": "nobody", "messages": []})).await, 400);

    let (text, scrape) = scrape(&process).await;
    let mut seen = BTreeSet::new();
    for sample in &scrape.samples {
        let bare = |suffix| sample.metric.strip_suffix(suffix).unwrap_or(&sample.metric);
        let names = [&sample.metric, bare("_sum"), bare("_count"), bare("_bucket")];
        let metric = Metric::ALL.iter().find(|metric| names.contains(&metric.name()));
        let metric = metric.unwrap_or_else(|| panic!("`{}` is in no table", sample.metric));
        seen.insert(metric.name());
        let have: BTreeSet<String> = labels(sample).into_keys().filter(|label| label != "le").collect();
        let want: BTreeSet<String> = metric.labels().iter().map(|label| (*label).to_owned()).collect();
        assert_eq!(have, want, "{}", sample.metric);
    }
    for name in &seen {
        assert_eq!(text.matches(&format!("# HELP {name} ")).count(), 1, "{name}");
        assert_eq!(text.matches(&format!("# TYPE {name} ")).count(), 1, "{name}");
    }
    // What this traffic and this configuration must have brought.
    for metric in Metric::ALL {
        let absent = [
            Metric::JobsEnded,
            Metric::NativeLines,
            Metric::QueueUp,
            Metric::QueueLost,
            Metric::JobsClaimed,
            Metric::EventsPublished,
            Metric::Anomalies,
            Metric::EventsDropped,
            Metric::Shed,
            Metric::QueueWait,
            Metric::Connections,
            Metric::HandshakesFailed,
            Metric::UsageRefused,
            Metric::Hedges,
            Metric::UnreadableEvents,
            Metric::HealthCheckUp,
            Metric::AuthRefused,
            Metric::RateLimited,
            Metric::BudgetWarnings,
            Metric::BudgetSpent,
            Metric::BudgetRemaining,
            Metric::SharedUp,
            Metric::SharedReplicas,
            Metric::SharedLost,
            Metric::SharedRefused,
            Metric::GuardHits,
            Metric::OtlpSent,
            Metric::OtlpLost,
            Metric::OtlpFailures,
            Metric::Reloads,
        ];
        assert!(seen.contains(metric.name()) || absent.contains(metric), "{} is missing", metric.name());
        if let (Kind::Histogram(_), true) = (metric.kind(), seen.contains(metric.name())) {
            assert!(text.contains(&format!("{}_bucket{{", metric.name())), "{} has buckets", metric.name());
        }
    }
    let sum = |metric, with: &[(&str, &str)]| sum(&scrape, metric, with);
    assert_eq!(sum(Metric::Requests, &[]), 8.0);
    assert_eq!(sum(Metric::Requests, &[("code", "4xx"), ("status", "rejected"), ("provider", "")]), 1.0);
    assert_eq!(sum(Metric::CacheRequests, &[("result", "hit")]), 1.0);
    assert_eq!(sum(Metric::StreamCuts, &[("provider", "one"), ("kind", "interrupted")]), 1.0);
    assert_eq!(sum(Metric::Attempts, &[("provider", "two"), ("outcome", "answered")]), 3.0);
    assert_eq!(sum(Metric::BreakerState, &[("provider", "one")]), 2.0);
    assert_eq!((sum(Metric::BreakerState, &[("provider", "two")]), sum(Metric::UsableTargets, &[])), (0.0, 1.0));
    assert!(sum(Metric::CooldownSeconds, &[("provider", "one")]) > 0.0);
    assert_eq!(sum(Metric::Unpriced, &[("provider", "two"), ("model", "m2")]), 3.0, "no price is no cost of 0");
    assert_eq!(sum(Metric::CostUsd, &[("provider", "two")]), 0.0);
    let nanos = sum(Metric::CostNanoUsd, &[("provider", "one")]);
    assert!(nanos > 0.0);
    assert_eq!((sum(Metric::CostUsd, &[("provider", "one")]) * 1e9).round(), nanos);
    assert!(sum(Metric::ProcessResident, &[]) > 1e6 && sum(Metric::ProcessStart, &[]) > 1.7e9);
}

#[tokio::test]
async fn a_flood_of_unknown_names_adds_no_series() {
    let (one, two) = (upstream().await, upstream().await);
    let (_home, process) = process(&one, &two).await;
    let flood = async |round: usize| {
        for index in 0..20 {
            let name = format!("flood-{round}-{index}");
            let mut unknown = ask("hi");
            unknown["model"] = json!(name);
            send(&process, &unknown).await;
            unknown["model"] = json!(format!("one/{name}"));
            send(&process, &unknown).await;
            let mut hinted = ask("hi");
            hinted["context"] = json!({"task": name});
            send(&process, &hinted).await;
            let get = client().get(format!("{}/{name}", process.url)).header("x-request-id", &name);
            get.send().await.expect("an answer");
        }
        scrape(&process).await
    };
    let (_, before) = flood(0).await;
    let (text, after) = flood(1).await;
    // Those without labels may come at any time, such as the wait for a place on a busy machine.
    let series = |scrape: &Scrape| scrape.samples.iter().filter(|sample| !labels(sample).is_empty()).count();
    assert_eq!(series(&before), series(&after));
    assert!(!text.contains("flood"), "{text}");
}

#[tokio::test]
async fn overhead_is_the_routers_own_part_and_not_the_providers() {
    let (one, two) = (upstream().await, upstream().await);
    let (_home, process) = process(&one, &two).await;
    one.always(chat("slow").after(Duration::from_millis(400)));
    for (index, stream) in [false, true].into_iter().enumerate() {
        let mut body = ask(&format!("hi {index}"));
        body["stream"] = json!(stream);
        assert_eq!(send(&process, &body).await, 200);
    }
    let (text, scrape) = scrape(&process).await;
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}"));
        line.trim().parse::<f64>().expect("a number")
    };
    assert_eq!(value("stepwell_overhead_seconds_count "), 2.0);
    let overhead = value("stepwell_overhead_seconds_sum ");
    assert!(overhead > 0.0 && overhead < 0.75, "{overhead} s of two requests that took 0.4 s each upstream");
    assert_eq!(sum(&scrape, Metric::FirstToken, &[("provider", "one")]), 1.0, "only streams have a first token");
}

#[tokio::test]
async fn budgets_show_what_is_spent_and_what_is_left() {
    let one = upstream().await;
    let provider = format!(
        "{{ format: openai, base_url: '{}', models: [ {{ id: m1, price: {{ input: 1, output: 2 }} }} ] }}",
        one.url
    );
    let home = Home::new(&format!("providers: {{ one: {provider} }}\nbudgets: {{ total: {{ day: 5 }} }}\n"));
    let process = home.start().await;
    assert_eq!(send(&process, &ask("hi")).await, 200);
    let (_, scrape) = scrape(&process).await;
    let total = [("scope", "total"), ("name", ""), ("period", "day")];
    let (spent, left) = (sum(&scrape, Metric::BudgetSpent, &total), sum(&scrape, Metric::BudgetRemaining, &total));
    assert!(spent > 0.0 && (spent + left - 5.0).abs() < 1e-6, "{spent} of 5 spent, {left} left");
}
