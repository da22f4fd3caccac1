//! Every request is in the ledger, whatever its end, and the report adds up.

use serde_json::{Value, json};

use crate::support::app::ask;
use crate::support::servers::stores;
use crate::support::upstream::{chat, status};
use crate::support::{app, upstream};

const TWO: &str = "
providers:
  one: { format: openai, base_url: '{0}', priority: 1, models: [ { id: m1, price: { input: 1, output: 2 } } ] }
  two: { format: openai, base_url: '{1}', priority: 2, models: [ { id: m2 } ] }
  demo: { priority: 9 }
routing: { strategy: priority }
";

fn at(provider: &str, prompt: &str) -> Value {
    let mut body = ask(prompt);
    body["context"] = json!({"only": [provider]});
    body
}

#[tokio::test]
async fn a_row_is_there_at_once_with_decision_attempts_tokens_and_cost() {
    for storage in stores().await {
        let (one, two) = (upstream().await, upstream().await);
        let app = app(&format!("{TWO}{storage}"), &[&one, &two]).await;
        one.then(status(500));
        let (_, headers, _) = app.chat(&ask("Explain tides")).await;
        let row = app.row(&headers).await;
        assert_eq!(row["id"], headers["x-request-id"].to_str().expect("text"));
        for (member, value) in [
            ("status", json!("completed")),
            ("http_status", json!(200)),
            ("task", json!("general")),
            ("strategy", json!("priority")),
            ("provider", json!("two")),
            ("model", json!("m2")),
            ("asked_model", json!("auto")),
            ("prompt_tokens", json!(10)),
            ("completion_tokens", json!(3)),
            ("cost_usd", Value::Null),
            ("demo", json!(false)),
        ] {
            assert_eq!(row[member], value, "{member}: {row}");
        }
        assert_eq!(row["attempts"][0]["kind"], "server_error");
        assert!(row["decision"]["candidates"].as_array().is_some_and(|candidates| candidates.len() >= 3), "{row}");
        let missing = app.client.get(format!("{}/v1/requests/req_nothing", app.url)).send().await.expect("an answer");
        assert_eq!(missing.status(), 404);
    }
}

#[tokio::test]
async fn the_report_adds_up_by_every_column_and_survives_a_restart() {
    for storage in stores().await {
        let (one, two) = (upstream().await, upstream().await);
        let app = app(&format!("{TWO}{storage}"), &[&one, &two]).await;
        for prompt in ["a", "b", "b"] {
            app.chat(&at("one", prompt)).await;
        }
        app.chat(&at("two", "c")).await;
        one.then(status(400));
        app.chat(&at("one", "d")).await;
        app.chat(&at("demo", "e")).await;
        let app = app.restart().await;
        let report = app.get("/v1/usage?group_by=provider,model").await;
        let total = &report["total"];
        assert_eq!(
            (total["requests"].as_u64(), total["errors"].as_u64(), total["cache_hits"].as_u64()),
            (Some(5), Some(1), Some(1)),
            "{report}"
        );
        assert_eq!(total["unpriced_requests"], 1, "two has no price: {report}");
        // Two paid answers at $0.000016; the hit saved one.
        assert_eq!(
            (total["cost_usd"].as_f64(), total["saved_by_cache_usd"].as_f64()),
            (Some(0.000032), Some(0.000016)),
            "{report}"
        );
        let rows = report["rows"].as_array().expect("rows");
        let row = |provider: &str| {
            rows.iter().find(|row| row["provider"] == provider).unwrap_or_else(|| panic!("{provider}: {report}"))
        };
        assert_eq!(row("one")["requests"], 4);
        assert!(row("two")["cost_usd"].is_null(), "unknown is not zero: {report}");
        assert_eq!(row("demo")["demo"], true);
        for by in ["provider", "task", "status", "strategy", "day", "hour", "key", "model,status"] {
            let report = app.get(&format!("/v1/usage?group_by={by}")).await;
            let real = report["rows"].as_array().expect("rows").iter().filter(|row| row["demo"] != true);
            assert_eq!(real.filter_map(|row| row["requests"].as_u64()).sum::<u64>(), 5, "{by}: {report}");
        }
        let csv = app.client.get(format!("{}/v1/usage?format=csv", app.url)).send().await.expect("an answer");
        assert!(csv.headers()["content-type"].to_str().expect("text").starts_with("text/csv"));
        let text = csv.text().await.expect("text");
        assert!(text.starts_with("provider,model,"), "{text}");
    }
}

#[tokio::test]
async fn what_the_traffic_would_have_cost_elsewhere() {
    for storage in stores().await {
        let (one, two) = (upstream().await, upstream().await);
        let app = app(&format!("{TWO}{storage}"), &[&one, &two]).await;
        app.chat(&at("one", "a")).await;
        let compared = app.get("/v1/usage/compare?since=1h").await;
        let rows = compared["rows"].as_array().expect("rows");
        let own = rows.iter().find(|row| row["provider"] == "one").expect("the model itself");
        assert_eq!(own["cost_usd"], json!(0.000016), "{compared}");
        assert!(rows.iter().all(|row| row["provider"] != "two"), "no price, no comparison: {compared}");
    }
}

#[tokio::test]
async fn bad_questions_about_usage_name_what_is_allowed() {
    let one = upstream().await;
    let app = app(TWO, &[&one, &one]).await;
    for (query, word) in [
        ("group_by=colour", "provider"),
        ("since=yesterday", "7d"),
        ("format=xml", "csv"),
        ("since=1h&until=2h", "until"),
    ] {
        let response = app.client.get(format!("{}/v1/usage?{query}", app.url)).send().await.expect("an answer");
        assert_eq!(response.status(), 400, "{query}");
        let body: Value = response.json().await.expect("json");
        assert!(body["error"]["message"].as_str().expect("text").contains(word), "{query}: {body}");
    }
}

#[tokio::test]
async fn refused_requests_are_rows_too() {
    let one = upstream().await;
    let app = app(TWO, &[&one, &one]).await;
    let mut body = ask("hi");
    body["model"] = json!("nothing-like-it");
    let (_, headers, _) = app.chat(&body).await;
    let row = app.row(&headers).await;
    assert_eq!(
        (row["status"].as_str(), row["http_status"].as_u64(), row["error"].as_str()),
        (Some("rejected"), Some(404), Some("model_not_found")),
        "{row}"
    );
    let (_, headers, _) = app.chat(&json!({"model": "auto", "messages": []})).await;
    let row = app.row(&headers).await;
    assert_eq!((row["status"].as_str(), row["error"].as_str()), (Some("rejected"), Some("invalid_value")), "{row}");
    let recent = app.get("/v1/requests?limit=1").await;
    assert_eq!(recent["data"].as_array().expect("rows").len(), 1);
}

#[tokio::test]
async fn prompts_and_answers_are_nowhere_in_the_ledger() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(TWO, &[&one, &two]).await;
    one.always(chat("the canary answer"));
    let (_, headers, _) = app.chat(&ask("the canary prompt")).await;
    let row = app.row(&headers).await;
    assert!(!row.to_string().contains("canary"), "{row}");
}

#[tokio::test]
async fn a_body_that_is_too_large_is_a_row_too() {
    let one = upstream().await;
    let app = app(&format!("{TWO}server: {{ body_limit: 2KB }}\n"), &[&one, &one]).await;
    let (status, headers, _) = app.chat(&ask(&"x".repeat(5000))).await;
    assert_eq!(status, 413);
    let row = app.row(&headers).await;
    assert_eq!((row["status"].as_str(), row["http_status"].as_u64()), (Some("rejected"), Some(413)), "{row}");
}

#[tokio::test]
async fn only_the_demo_provider_is_demo_whatever_its_name() {
    let one = upstream().await;
    one.always(status(400));
    let app = app("providers: { demo: { format: openai, base_url: '{0}', models: [ { id: m1 } ] } }", &[&one]).await;
    let (_, headers, _) = app.chat(&ask("hi")).await;
    let row = app.row(&headers).await;
    assert_eq!((row["provider"].as_str(), row["demo"].as_bool()), (Some("demo"), Some(false)), "{row}");
}

#[tokio::test]
async fn a_call_that_the_caller_did_not_wait_for_is_an_attempt() {
    let one = upstream().await;
    let app = app(TWO, &[&one, &one]).await;
    one.always(chat("late").after(std::time::Duration::from_secs(20)));
    let post = app.client.post(format!("{}/v1/chat/completions", app.url)).header("x-request-id", "left-early");
    let request = tokio::spawn(post.json(&ask("hi")).send());
    one.called(1).await;
    request.abort();
    app.idle().await;
    let row = app.get("/v1/requests/left-early").await;
    assert_eq!(
        (row["status"].as_str(), row["provider"].as_str(), row["attempts"][0]["kind"].as_str()),
        (Some("client_closed"), Some("one"), Some("client_closed")),
        "{row}"
    );
}
