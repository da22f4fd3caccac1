//! Headers and members that the configuration sets and removes: for a provider, a tier, a team.

use serde_json::{Value, json};

use crate::support::app::{ask, problems};
use crate::support::{app, upstream};

const PROVIDER: &str = "
providers:
  one:
    format: openai
    base_url: '{0}'
    models: [ { id: m1, price: { input: 1, output: 2 } } ]
    transform:
      request:
        set_headers: { x-team: search }
        set: { service_tier: flex, metadata.env: prod }
        default: { temperature: 0.2 }
        remove: [user, a.b]
      response:
        set_headers: { x-answered: by us }
        remove_headers: [x-stepwell-reason]
        set: { note: checked }
        remove: [system_fingerprint]
";

#[tokio::test]
async fn a_provider_gets_and_gives_what_the_file_says() {
    let one = upstream().await;
    let app = app(PROVIDER, &[&one]).await;
    let mut body = ask("hi");
    body["user"] = json!("ann");
    body["a"] = json!({"b": 1, "c": [1, 2]});
    body["x_new"] = json!({"kept": true});
    let (status, headers, answer) = app.chat(&body).await;
    assert_eq!(status, 200, "{answer}");
    let call = one.last_call().expect("a call");
    let sent = &call.body;
    assert_eq!(call.header("x-team"), Some("search"));
    assert_eq!((&sent["service_tier"], &sent["metadata"]), (&json!("flex"), &json!({"env": "prod"})));
    assert_eq!(
        (&sent["temperature"], &sent["a"], &sent["x_new"]),
        (&json!(0.2), &json!({"c": [1, 2]}), &json!({"kept": true}))
    );
    assert!(sent.get("user").is_none(), "{sent}");
    assert_eq!((&headers["x-answered"], headers.get("x-stepwell-reason")), (&"by us".parse().expect("a value"), None));
    assert_eq!(answer["note"], "checked");
    body["temperature"] = json!(0.1);
    let streamed = app.stream(&body).await;
    assert_eq!(one.last()["temperature"], json!(0.1), "a default gives way");
    assert_eq!(streamed.header("x-answered"), "by us");
    assert!(streamed.chunks.iter().all(|chunk| chunk["note"] == "checked"), "{}", streamed.raw);
    assert_eq!((streamed.text().as_str(), streamed.done), ("hello from upstream", true));
}

const TIERS: &str = "
providers: { one: { format: openai, base_url: '{0}', models: [ { id: m1, price: { input: 1, output: 2 } } ] } }
cache: { share_between_keys: true }
tiers:
  short: { transform: { request: { set: { max_tokens: 7 }, set_headers: { x-tier: short } }, response: { set: { tier: short } } } }
  warm: { transform: { request: { set: { temperature: 1 } } } }
  plain: {}
teams: { red: { transform: { request: { remove: [user] }, response: { set_headers: { x-team: red } } } } }
";

#[tokio::test]
async fn what_a_tier_sets_is_what_the_router_decides_with() {
    let one = upstream().await;
    let app = app(TIERS, &[&one]).await;
    let mut keys = Vec::new();
    for (name, tier) in [("a", "short"), ("b", "warm"), ("c", "plain")] {
        keys.push(app.key(json!({"name": name, "tier": tier, "team": "red"})).await);
    }
    let mut body = ask("hi");
    body["user"] = json!("ann");
    body["max_tokens"] = json!(1000);
    let (_, headers, answer) = app.chat_as(&keys[0], &body).await;
    let call = one.last_call().expect("a call");
    assert_eq!((&call.body["max_tokens"], call.header("x-tier")), (&json!(7), Some("short")));
    assert!(call.body.get("user").is_none(), "the team's");
    assert_eq!((&headers["x-team"], &answer["tier"]), (&"red".parse().expect("a value"), &json!("short")));
    let row = app.row(&headers).await;
    let worst = row["decision"]["candidates"][0]["worst_case_cost_usd"].as_f64().expect("a figure");
    assert!(worst < 0.0001, "7 tokens and not 1000: {worst}");
    // Shared between keys, but not between requests that differ.
    let (_, headers, _) = app.chat_as(&keys[1], &body).await;
    assert_eq!(headers["x-stepwell-cache"], "bypass", "too warm for the cache");
    let (_, headers, answer) = app.chat_as(&keys[2], &body).await;
    assert_eq!(
        (headers["x-stepwell-cache"].to_str().ok(), one.last()["max_tokens"].as_u64()),
        (Some("miss"), Some(1000))
    );
    assert!(answer.get("tier").is_none());
    // Even where only a header differs.
    body["max_tokens"] = json!(7);
    let (_, headers, _) = app.chat_as(&keys[2], &body).await;
    assert_eq!((headers["x-stepwell-cache"].to_str().ok(), one.count()), (Some("miss"), 4));
}

#[tokio::test]
async fn a_callers_own_words_are_changed_where_they_mean_the_same() {
    let one = upstream().await;
    let yaml = "
providers: { one: { format: anthropic, base_url: '{0}', api_key: k, models: [ { id: m1 } ] } }
tiers: { default: { transform: { request: { set: { max_tokens: 7, temperature: 0.5 } } } } }
";
    let app = app(yaml, &[&one]).await;
    let body =
        json!({"model": "m1", "max_tokens": 100, "temperature": 0, "messages": [{"role": "user", "content": "hi"}]});
    app.post("/v1/messages", &body).await;
    assert_eq!((&one.last()["max_tokens"], &one.last()["temperature"]), (&json!(7), &json!(0.5)), "{}", one.last());
}

#[test]
fn what_the_router_itself_decides_with_is_refused_with_the_reason() {
    let yaml = "
providers:
  one:
    format: openai
    base_url: '{0}'
    models: [m1]
    transform:
      request:
        set_headers: { Authorization: x, host: y, x-fine: z }
        remove_headers: [content-length]
        set: { model: m2, max_tokens: 5, generationConfig.maxOutputTokens: 5 }
        remove: [messages, stream]
      response: { set: { usage: 1 }, set_headers: { x-stepwell-model: m } }
tiers: { a: { transform: { request: { set: { temperature: hot } } } }, b: { transform: { request: { default: { api_base: x } } } } }
";
    let text = problems(yaml);
    for word in [
        "`authorization` cannot be changed: credentials are written as api_key",
        "`host` cannot be changed: it belongs to the connection",
        "`content-length` cannot",
        "`model` cannot be changed: the router itself decides",
        "`max_tokens` cannot be changed: the router has counted",
        "`generationConfig.maxOutputTokens` cannot",
        "`messages` cannot",
        "`stream` cannot",
        "`usage` cannot be changed: it is the router's own account",
        "`x-stepwell-model` cannot",
        "`temperature` is of the wrong kind",
        "`api_base` cannot",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(!text.contains("x-fine:`") && !text.contains("set_headers.x-fine"), "{text}");
}

#[tokio::test]
async fn a_secret_in_a_header_is_not_repeated() {
    let one = upstream().await;
    let yaml = "
providers:
  one: { format: openai, base_url: '{0}', models: [m1], transform: { request: { set_headers: { x-gate: canary-transform-77 } } } }
";
    let app = app(yaml, &[&one]).await;
    let quoting = json!({"error": {"message": "bad gate canary-transform-77", "type": "x"}}).to_string();
    one.always(crate::support::upstream::raw(400, "application/json", quoting));
    let (status, headers, body) = app.chat(&ask("hi")).await;
    assert_eq!(one.last_call().expect("a call").header("x-gate"), Some("canary-transform-77"));
    let row: Value = app.row(&headers).await;
    assert!(
        status >= 400 && !body.to_string().contains("canary") && !row.to_string().contains("canary"),
        "{body} {row}"
    );
}
