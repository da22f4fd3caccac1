//! Budgets that hold: the worst case is reserved, the truth is settled, whatever happens in between.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::app::ask;
use crate::support::process::{Home, until};
use crate::support::upstream::{chat, events, hang, raw, status};
use crate::support::{App, Upstream, app, upstream};

/// A dime a token of the answer; the upstream says it were three.
const DIME: &str = "
providers:
  one: { format: openai, base_url: '{0}', priority: 1, models: [ { id: m1, price: { input: 0, output: 100000 } } ] }
routing: { strategy: priority }
breaker: { consecutive_failures: 100, min_requests: 100 }
cache: { enabled: false }
";

/// A request that costs three dimes and cannot cost more.
fn three_dimes() -> Value {
    let mut body = ask("hi");
    body["max_tokens"] = json!(3);
    body
}

async fn with(budgets: &str) -> (App, Upstream) {
    let one = upstream().await;
    (app(&format!("{DIME}{budgets}"), &[&one]).await, one)
}

async fn standing(app: &App, scope: &str) -> Value {
    let list = app.get("/v1/budgets").await;
    let all = list["data"].as_array().expect("a list");
    all.iter().find(|standing| standing["scope"] == scope).cloned().unwrap_or_else(|| panic!("{list}"))
}

#[tokio::test]
async fn c08_of_two_hundred_at_once_only_those_get_in_that_can_be_paid() {
    let (app, one) = with("budgets: { total: { month: 3 } }\n").await;
    one.always(chat("three slow words").after(Duration::from_millis(100)));
    let body = three_dimes();
    let all = join_all((0..200).map(|_| app.chat(&body))).await;
    let served = all.iter().filter(|(status, ..)| *status == 200).count();
    assert_eq!((served, one.count()), (10, 10));
    let (status, headers, refused) = app.chat(&body).await;
    assert_eq!(status, 429);
    let error = &refused["error"];
    assert_eq!((&error["code"], &error["type"]), (&json!("insufficient_quota"), &json!("insufficient_quota")));
    assert_eq!(headers["x-should-retry"], "false");
    let budget = &error["stepwell"]["budget"];
    assert_eq!(
        (&budget["scope"], &budget["period"], &budget["spent_usd"]),
        (&json!("total"), &json!("month"), &json!(3.0))
    );
    assert!(budget["resets_at"].as_str().is_some_and(|at| at.ends_with("T00:00:00Z")), "{budget}");
    assert_eq!(app.get("/v1/usage").await["total"]["cost_usd"], 3.0);
    assert_eq!(standing(&app, "total").await["held_usd"], 0.0);
}

#[tokio::test]
async fn what_was_held_and_not_used_comes_back_whatever_the_end() {
    let (app, one) = with("budgets: { total: { day: 0.7 } }\n").await;
    // A failure, an error of the caller's, a short answer: none of them takes what it could have taken.
    for acts in [vec![status(400)], vec![status(500), status(500)]] {
        acts.into_iter().for_each(|act| {
            one.then(act);
        });
        assert_ne!(app.chat(&three_dimes()).await.0, 200);
        assert_eq!(standing(&app, "total").await["left_usd"], 0.7);
    }
    // A caller who leaves before there is an answer.
    one.then(hang());
    let left = app.client.post(format!("{}/v1/chat/completions", app.url)).json(&three_dimes());
    let left = tokio::spawn(left.send());
    until("the worst case is held", async || standing(&app, "total").await["held_usd"] == 0.3).await;
    left.abort();
    until("it is given back", async || standing(&app, "total").await["left_usd"] == 0.7).await;
    let streamed = app.stream(&three_dimes()).await;
    assert!(streamed.done);
    assert_eq!(standing(&app, "total").await["spent_usd"], 0.3);
    // A stream that is cut costs what was seen of it.
    let chunk = json!({"id": "c", "choices": [{"index": 0, "delta": {"content": "word"}, "finish_reason": null}]});
    one.then(events(&[chunk]).cut());
    let cut = app.stream(&three_dimes()).await;
    assert!(!cut.done && cut.error().is_some());
    let standing = standing(&app, "total").await;
    assert_eq!((&standing["spent_usd"], &standing["held_usd"]), (&json!(0.4), &json!(0.0)));
}

#[tokio::test]
async fn a_budget_knows_what_was_spent_before_a_restart_and_before_it_was_there() {
    let (app, one) = with("").await;
    assert_eq!(app.chat(&three_dimes()).await.0, 200);
    app.rewrite(&format!("{DIME}budgets: {{ total: {{ month: 1 }} }}\n"), &[&one]);
    until("the budget is in force", async || app.get("/v1/budgets").await["data"][0]["spent_usd"] == 0.3).await;
    assert_eq!(app.chat(&three_dimes()).await.0, 200);
    let app = app.restart().await;
    assert_eq!(standing(&app, "total").await["spent_usd"], 0.6);
    assert_eq!(app.chat(&three_dimes()).await.0, 200);
    assert_eq!(app.chat(&three_dimes()).await.0, 429);
    assert_eq!(one.count(), 3);
}

#[tokio::test]
async fn every_scope_has_its_own_and_the_tightest_counts() {
    let (app, _one) = with(
        "tiers: { small: { budget: { day: 0.3 } }, large: {} }\nteams: { t: { budget: { day: 0.6 } } }\nbudgets: { tiers: { large: { day: 0.3 } } }\n",
    )
    .await;
    let [a, b, c, d] = [
        app.key(json!({"name": "a", "tier": "small", "team": "t"})).await,
        app.key(json!({"name": "b", "tier": "small", "team": "t"})).await,
        app.key(json!({"name": "c", "tier": "small", "team": "t", "limits": {"budget": {"day": 10}}})).await,
        app.key(json!({"name": "d", "tier": "large"})).await,
    ];
    let blamed = async |key: &str| {
        let (status, _, body) = app.chat_as(key, &three_dimes()).await;
        if status == 200 {
            "none".to_owned()
        } else {
            body["error"]["stepwell"]["budget"]["scope"].as_str().unwrap_or("?").to_owned()
        }
    };
    assert_eq!(blamed(&a).await, "none");
    assert_eq!(blamed(&a).await, "key", "each key of the tier has three dimes");
    assert_eq!(blamed(&b).await, "none");
    assert_eq!(blamed(&c).await, "team", "its own budget would do, the team's is used up");
    assert_eq!(blamed(&d).await, "none");
    assert_eq!(blamed(&d).await, "tier", "the tier as a whole has three too");
    let (_, own) = app.get_as(&a, "/v1/budgets").await;
    let scopes: Vec<_> = own["data"].as_array().expect("a list").iter().map(|one| one["scope"].clone()).collect();
    assert_eq!(scopes, ["key", "team"], "a member sees its own");
}

#[tokio::test]
async fn a_provider_without_money_left_is_passed_over() {
    let (one, two) = (upstream().await, upstream().await);
    let yaml = "
providers:
  one: { format: openai, base_url: '{0}', priority: 1, models: [ { id: m1, price: { input: 0, output: 100000 } } ] }
  two: { format: openai, base_url: '{1}', priority: 2, models: [ { id: m2, price: { input: 0, output: 100000 } } ] }
routing: { strategy: priority }
cache: { enabled: false }
budgets: { providers: { one: { day: 0.3 } } }
";
    let app = app(yaml, &[&one, &two]).await;
    for provider in ["one", "two", "two"] {
        let (status, headers, body) = app.chat(&three_dimes()).await;
        assert_eq!((status, &headers["x-stepwell-provider"]), (200, &provider.parse().expect("a value")), "{body}");
    }
    let route: Value = app.post("/v1/route", &three_dimes()).await.json().await.expect("json");
    assert_eq!(
        (&route["excluded"][0]["provider"], &route["excluded"][0]["code"]),
        (&json!("one"), &json!("budget")),
        "{route}"
    );
}

const DEAR_AND_CHEAP: &str = "
providers:
  one: { format: openai, base_url: '{0}', priority: 1, models: [ { id: dear, price: { input: 0, output: 100000 } } ] }
  two: { format: openai, base_url: '{1}', priority: 2, models: [ { id: cheap, price: { input: 0, output: 100 } }, { id: unpriced } ] }
routing: { strategy: priority }
cache: { enabled: false }
";

#[tokio::test]
async fn at_the_limit_it_refuses_takes_the_cheapest_that_fits_or_warns() {
    for (at_limit, models) in
        [("reject", ["dear", "-", "-"]), ("cheapest", ["dear", "cheap", "cheap"]), ("warn", ["dear", "dear", "dear"])]
    {
        let (one, two) = (upstream().await, upstream().await);
        let yaml =
            format!("{DEAR_AND_CHEAP}budgets: {{ total: {{ day: 0.4, warn_at: [50%], at_limit: {at_limit} }} }}\n");
        let app = app(&yaml, &[&one, &two]).await;
        let mut answered = Vec::new();
        for _ in 0..3 {
            let (status, headers, _) = app.chat(&three_dimes()).await;
            let model = headers.get("x-stepwell-model").and_then(|model| model.to_str().ok()).unwrap_or("-");
            assert!((status == 200) == (model != "-"));
            answered.push(model.to_owned());
        }
        assert_eq!(answered, models, "{at_limit}");
        let mut body = three_dimes();
        body["model"] = json!("unpriced");
        let (status, _, refused) = app.chat(&body).await;
        // What may cost anything cannot be kept within a budget.
        assert_eq!(status == 200, at_limit == "warn", "{at_limit}: {refused}");
        if at_limit != "warn" {
            assert!(
                refused["error"]["message"].as_str().is_some_and(|text| text.contains("no known price")),
                "{refused}"
            );
        }
    }
}

#[tokio::test]
async fn a_fallback_is_covered_by_what_is_held() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(&format!("{DEAR_AND_CHEAP}budgets: {{ total: {{ day: 10 }} }}\n"), &[&one, &two]).await;
    two.then(hang());
    let mut body = three_dimes();
    body["models"] = json!(["cheap", "dear"]);
    body["model"] = json!("cheap");
    let under_way = app.client.post(format!("{}/v1/chat/completions", app.url)).json(&body);
    let under_way = tokio::spawn(under_way.send());
    until("the dearer one's worst case is held", async || standing(&app, "total").await["held_usd"] == 0.3).await;
    under_way.abort();
    until("it is given back", async || standing(&app, "total").await["held_usd"] == 0.0).await;
}

#[tokio::test]
async fn one_providers_budget_is_no_matter_of_the_others() {
    let (one, two) = (upstream().await, upstream().await);
    let app =
        app(&format!("{DEAR_AND_CHEAP}budgets: {{ providers: {{ one: {{ day: 10 }} }} }}\n"), &[&one, &two]).await;
    for _ in 0..2 {
        one.then(status(500));
    }
    let mut body = three_dimes();
    body["models"] = json!(["dear", "unpriced"]);
    body["model"] = json!("dear");
    let (status, headers, answer) = app.chat(&body).await;
    assert_eq!((status, &headers["x-stepwell-model"]), (200, &"unpriced".parse().expect("a value")), "{answer}");
}

#[tokio::test]
async fn an_answer_from_the_cache_costs_nothing_and_needs_no_budget() {
    let one = upstream().await;
    let app = app(
        &format!("{}budgets: {{ total: {{ day: 0.3 }} }}\n", DIME.replace("cache: { enabled: false }", "")),
        &[&one],
    )
    .await;
    for cache in ["miss", "hit", "hit"] {
        let (status, headers, _) = app.chat(&three_dimes()).await;
        assert_eq!((status, &headers["x-stepwell-cache"]), (200, &cache.parse().expect("a value")));
    }
    assert_eq!(standing(&app, "total").await["spent_usd"], 0.3);
}

#[tokio::test]
async fn warnings_are_logged_and_counted_once() {
    let one = upstream().await;
    let yaml = format!("{}budgets: {{ total: {{ day: 1, warn_at: [30%, 60%] }} }}\n", DIME.replace("{0}", &one.url));
    let home = Home::new(&yaml);
    let process = home.start().await;
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    for _ in 0..3 {
        let post = client.post(format!("{}/v1/chat/completions", process.url)).json(&three_dimes());
        assert_eq!(post.send().await.expect("an answer").status(), 200);
    }
    let metrics =
        client.get(format!("{}/metrics", process.url)).send().await.expect("an answer").text().await.expect("text");
    let line = metrics.lines().find(|line| line.starts_with("stepwell_budget_warnings_total{"));
    assert!(line.is_some_and(|line| line.contains("scope=\"total\"") && line.ends_with(" 2")), "{line:?}");
    process.stop().await;
    let said = home.errors();
    assert_eq!(said.matches("of the budget of this day").count(), 2, "{said}");
}

#[tokio::test]
async fn what_was_under_way_at_a_kill_counts_as_spent_at_its_worst() {
    let one = upstream().await;
    let home = Home::new(&format!("{}budgets: {{ total: {{ day: 0.9 }} }}\n", DIME.replace("{0}", &one.url)));
    let process = home.start().await;
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let send = |url: &str, id: &str| {
        client
            .post(format!("{url}/v1/chat/completions"))
            .header("x-request-id", id.to_owned())
            .json(&three_dimes())
            .send()
    };
    let standing = async |url: &str| {
        let list: Value =
            client.get(format!("{url}/v1/budgets")).send().await.expect("an answer").json().await.expect("json");
        list["data"][0].clone()
    };
    one.then(hang());
    let under_way = tokio::spawn(send(&process.url, "under-way"));
    one.called(1).await;
    assert_eq!(send(&process.url, "whole").await.expect("an answer").status(), 200);
    assert_eq!(standing(&process.url).await["left_usd"], 0.3);
    process.kill();
    assert!(under_way.await.expect("a task").is_err());
    for restart in 0..2 {
        let process = home.start().await;
        assert_eq!(standing(&process.url).await["spent_usd"], 0.6, "{restart}");
        let row: Value = client
            .get(format!("{}/v1/requests/under-way", process.url))
            .send()
            .await
            .expect("an answer")
            .json()
            .await
            .expect("json");
        assert_eq!((&row["status"], &row["error"]), (&json!("interrupted"), &json!("router_stopped")));
        assert_eq!(
            (&row["cost_usd"], &row["estimated_usage"], &row["provider"]),
            (&json!(0.3), &json!(true), &json!("one"))
        );
        process.kill();
    }
    let process = home.start().await;
    assert_eq!(send(&process.url, "last").await.expect("an answer").status(), 200);
    assert_eq!(send(&process.url, "too-much").await.expect("an answer").status(), 429);
}

/// What a request may cost is not what it says it costs.
#[tokio::test]
async fn c08_nothing_that_is_paid_is_left_out_of_the_worst_case() {
    let one = upstream().await;
    let yaml = "
providers: { one: { format: openai, base_url: '{0}', models: [ { id: m1, price: { input: 1000, output: 1000 }, max_output: 4000 } ] } }
cache: { enabled: false }
budgets: { total: { day: 3 } }
";
    let app = app(yaml, &[&one]).await;
    let long = "word ".repeat(10_000);
    let with = |name: &str, value: Value| {
        let mut body = ask("hi");
        body["model"] = json!("one/m1");
        body["max_tokens"] = json!(1);
        body[name] = value;
        body
    };
    let message = |name: &str| {
        let mut message = json!({"role": "user", "content": "hi"});
        message[name] = json!(long);
        json!([message])
    };
    for body in [
        with("messages", json!([{"role": "user", "content": long}])),
        with(
            "response_format",
            json!({"type": "json_schema", "json_schema": {"name": "x", "schema": {"description": long}}}),
        ),
        with("functions", json!([{"name": "f", "description": long}])),
        with("prediction", json!({"type": "content", "content": long})),
        with("messages", message("reasoning_content")),
        with("messages", message("name")),
        with("max_completion_tokens", json!(9_000)),
        {
            let mut body = with("max_completion_tokens", json!(1));
            body["max_tokens"] = json!(9_000);
            body
        },
        with("n", json!(128)),
    ] {
        let mut body = body;
        if body["n"] == 128 {
            body["max_tokens"] = json!(100);
        }
        let (status, _, refused) = app.chat(&body).await;
        assert_eq!((status, refused["error"]["code"].as_str()), (429, Some("insufficient_quota")), "{refused:.400}");
    }
    let ids: Vec<Vec<u32>> = vec![vec![5; 3_000]; 4];
    let embed = app.post("/v1/embeddings", &json!({"model": "one/m1", "input": ids})).await;
    assert_eq!(embed.status(), 429);
    assert_eq!(one.count(), 0);
    assert_eq!(app.chat(&with("user", json!("ann"))).await.0, 200, "an ordinary request fits");
}

#[tokio::test]
async fn what_no_request_can_have_used_is_not_booked() {
    let (app, one) = with("budgets: { total: { day: 10 } }\n").await;
    for usage in [
        json!({"prompt_tokens": 10, "completion_tokens": 100_000_000, "total_tokens": 100_000_010}),
        json!({"prompt_tokens": 1_000_000_000, "completion_tokens": 3, "total_tokens": 1_000_000_003}),
        json!({"prompt_tokens": 10, "completion_tokens": 3, "completion_tokens_details": {"reasoning_tokens": 10_000_000}}),
    ] {
        let answer = json!({
            "id": "c", "object": "chat.completion", "created": 1, "model": "m1", "usage": usage,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "a b c"}, "finish_reason": "stop"}],
        });
        one.then(raw(200, "application/json", answer.to_string()));
        let (status, headers, body) = app.chat(&three_dimes()).await;
        assert_eq!(status, 200, "{body}");
        let row = app.row(&headers).await;
        assert!(row["completion_tokens"].as_u64().is_some_and(|tokens| tokens < 10), "{row}");
    }
    assert!(standing(&app, "total").await["spent_usd"].as_f64().is_some_and(|spent| spent < 2.0));
}
