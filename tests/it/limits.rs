//! Limits of keys and teams: requests, tokens, places; who is over one is told which and when to come back.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::app::ask;
use crate::support::process::until;
use crate::support::upstream::{chat, hang};
use crate::support::{App, Upstream, app, upstream};

const LIMITED: &str = "
providers: { one: { format: openai, base_url: '{0}', models: [ { id: m1, price: { input: 1, output: 2 } } ] } }
cache: { enabled: false }
tiers:
  three: { requests_per_minute: 3 }
  tokens: { tokens_per_minute: 40 }
  daily: { tokens_per_day: 30 }
  one: { concurrency: 1 }
  large: {}
teams:
  five: { requests_per_minute: 5 }
";

async fn limited() -> (App, Upstream) {
    let one = upstream().await;
    (app(LIMITED, &[&one]).await, one)
}

fn header<'h>(headers: &'h reqwest::header::HeaderMap, name: &str) -> &'h str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
}

#[tokio::test]
async fn a_burst_gets_in_and_the_next_is_told_which_limit_and_when() {
    let (app, one) = limited().await;
    let key = app.key(json!({"name": "a", "tier": "three"})).await;
    for left in ["2", "1", "0"] {
        let (status, headers, _) = app.chat_as(&key, &ask("hi")).await;
        assert_eq!(status, 200);
        assert_eq!(header(&headers, "x-ratelimit-limit-requests"), "3");
        assert_eq!(header(&headers, "x-ratelimit-remaining-requests"), left);
        assert!(header(&headers, "x-ratelimit-reset-requests").ends_with('s'));
    }
    let (status, headers, refused) = app.chat_as(&key, &ask("hi")).await;
    assert_eq!(status, 429);
    assert_eq!(header(&headers, "x-ratelimit-remaining-requests"), "0");
    let wait: u64 = header(&headers, "retry-after").parse().expect("seconds");
    assert!((15..=20).contains(&wait), "{wait}");
    let error = &refused["error"];
    assert_eq!((&error["code"], &error["type"]), (&json!("rate_limit_exceeded"), &json!("rate_limit_exceeded")));
    assert_eq!(error["stepwell"]["limit"], "requests_per_minute");
    let message = error["message"].as_str().expect("text");
    assert!(message.contains("the key `a` may make 3 requests a minute"), "{message}");
    assert_eq!(one.count(), 3, "the refused one went nowhere");
    // In the ledger as what it was, and nobody else's affair.
    let row = app.row(&headers).await;
    assert_eq!((&row["status"], &row["http_status"], &row["key"]), (&json!("rejected"), &json!(429), &json!("a")));
    let other = app.key(json!({"name": "b", "tier": "three"})).await;
    assert_eq!(app.chat_as(&other, &ask("hi")).await.0, 200, "each key of a tier has its own");
}

#[tokio::test]
async fn a_team_shares_what_it_has_and_a_keys_own_limit_stands_in_for_its_tiers() {
    let (app, _one) = limited().await;
    let mut keys = Vec::new();
    for (name, wish) in [("a", json!({"requests_per_minute": 4})), ("b", json!({}))] {
        keys.push(app.key(json!({"name": name, "tier": "three", "team": "five", "limits": wish})).await);
    }
    let mut statuses = Vec::new();
    for key in [&keys[0], &keys[0], &keys[0], &keys[0], &keys[0], &keys[1], &keys[1]] {
        statuses.push(app.chat_as(key, &ask("hi")).await.0);
    }
    assert_eq!(statuses, [200, 200, 200, 200, 429, 200, 429], "its own limit at the fifth, the team's at the seventh");
    let (_, _, refused) = app.chat_as(&keys[1], &ask("hi")).await;
    assert!(refused["error"]["message"].as_str().is_some_and(|text| text.contains("the team `five`")), "{refused}");
}

/// The upstream says 10 and 3 tokens, whatever was asked.
#[tokio::test]
async fn tokens_are_taken_by_estimate_and_set_right_by_what_was_used() {
    let (app, _one) = limited().await;
    let key = app.key(json!({"name": "a", "tier": "tokens"})).await;
    let mut body = ask("hi");
    body["max_tokens"] = json!(20);
    let mut served = 0;
    let refused = loop {
        let (status, headers, answer) = app.chat_as(&key, &body).await;
        assert_eq!(header(&headers, "x-ratelimit-limit-tokens"), "40");
        if status != 200 {
            break answer;
        }
        served += 1;
    };
    // 13 each; the estimate of the next one, about 26, does not fit into what is left.
    assert_eq!(served, 2, "by the estimates alone it would be one");
    assert_eq!(refused["error"]["stepwell"]["limit"], "tokens_per_minute");
    // Streams, too, are set right at their end.
    let key = app.key(json!({"name": "b", "tier": "tokens"})).await;
    for status in [200, 200, 429] {
        let mut body = body.clone();
        body["stream"] = json!(true);
        let post = app.client.post(format!("{}/v1/chat/completions", app.url)).bearer_auth(&key).json(&body);
        let response = post.send().await.expect("an answer");
        assert_eq!(response.status(), status);
        response.text().await.expect("a body");
    }
}

#[tokio::test]
async fn tokens_of_a_day_are_counted_across_a_restart_and_reset_at_its_end() {
    let (app, one) = limited().await;
    let key = app.key(json!({"name": "a", "tier": "daily"})).await;
    assert_eq!(app.chat_as(&key, &ask("hi")).await.0, 200);
    let app = app.restart().await;
    for status in [200, 200, 429] {
        assert_eq!(app.chat_as(&key, &ask("hi")).await.0, status, "13 each: the third begins with four left");
    }
    let (_, headers, refused) = app.chat_as(&key, &ask("hi")).await;
    assert_eq!(refused["error"]["stepwell"]["limit"], "tokens_per_day");
    assert_eq!(header(&headers, "x-should-retry"), "false", "no SDK waits until tomorrow");
    let wait: u64 = header(&headers, "retry-after").parse().expect("seconds");
    assert!(wait <= 86_400);
    assert_eq!(one.count(), 3);
}

#[tokio::test]
async fn a_place_is_free_again_as_soon_as_its_request_is_over_however_it_ends() {
    let (app, one) = limited().await;
    let key = app.key(json!({"name": "a", "tier": "one"})).await;
    one.then(hang());
    let under_way = app.client.post(format!("{}/v1/chat/completions", app.url)).bearer_auth(&key).json(&ask("hang"));
    let under_way = tokio::spawn(under_way.send());
    one.called(1).await;
    let (status, headers, refused) = app.chat_as(&key, &ask("hi")).await;
    assert_eq!((status, refused["error"]["stepwell"]["limit"].as_str()), (429, Some("concurrency")), "{refused}");
    assert_eq!(header(&headers, "retry-after"), "1");
    under_way.abort();
    until("the place is free", async || app.chat_as(&key, &ask("hi")).await.0 == 200).await;
    assert_eq!(app.chat_as(&key, &ask("hi")).await.0, 200);
}

#[tokio::test]
async fn c09_a_hundred_at_once_get_exactly_what_one_after_the_other_would() {
    let (app, one) = limited().await;
    one.always(chat("slow").after(Duration::from_millis(50)));
    let key = app.key(json!({"name": "a", "tier": "three"})).await;
    let body = ask("hi");
    let all = join_all((0..100).map(|_| app.chat_as(&key, &body))).await;
    let count = |status| all.iter().filter(|(got, ..)| *got == status).count();
    assert_eq!((count(200), count(429), one.count()), (3, 97, 3));
}

#[tokio::test]
async fn a_reload_changes_limits_and_a_tier_that_is_gone_is_no_freedom() {
    let (app, one) = limited().await;
    let key = app.key(json!({"name": "a", "tier": "three"})).await;
    for status in [200, 200, 200, 429] {
        assert_eq!(app.chat_as(&key, &ask("hi")).await.0, status);
    }
    app.rewrite(&LIMITED.replace("requests_per_minute: 3", "requests_per_minute: 600"), &[&one]);
    until("more gets in", async || app.chat_as(&key, &ask("hi")).await.0 == 200).await;
    app.rewrite(&LIMITED.replace("three: { requests_per_minute: 3 }", ""), &[&one]);
    until("none gets in", async || app.chat_as(&key, &ask("hi")).await.0 == 403).await;
    let (_, _, refused) = app.chat_as(&key, &ask("hi")).await;
    assert_eq!(refused["error"]["code"], "tier_not_found");
}

#[tokio::test]
async fn callers_without_a_key_have_the_tier_named_default_each_for_itself() {
    let one = upstream().await;
    let app = app(&LIMITED.replace("tiers:", "tiers:\n  default: { requests_per_minute: 1 }"), &[&one]).await;
    let statuses = async |credential: &str| {
        let mut all = Vec::new();
        for _ in 0..2 {
            all.push(app.chat_as(credential, &ask("hi")).await.0);
        }
        all
    };
    assert_eq!((statuses("anything").await, statuses("else").await), (vec![200, 429], vec![200, 429]));
    let key = app.key(json!({"name": "large", "tier": "large"})).await;
    assert_eq!(statuses(&key).await, [200, 200]);
    let refused: Value = app.chat_as("anything", &ask("hi")).await.2;
    assert!(refused["error"]["message"].as_str().is_some_and(|text| text.contains("without a key")), "{refused}");
}

#[tokio::test]
async fn a_key_that_floods_costs_its_neighbour_nothing() {
    let (app, _one) = limited().await;
    let flooder = app.key(json!({"name": "flooder", "tier": "three"})).await;
    let neighbour = app.key(json!({"name": "neighbour", "tier": "large"})).await;
    let body = ask("hi");
    let flood = join_all((0..300).map(|_| app.chat_as(&flooder, &body)));
    let others = async {
        let mut served = 0;
        for _ in 0..30 {
            served += usize::from(app.chat_as(&neighbour, &body).await.0 == 200);
        }
        served
    };
    let (flood, served) = tokio::join!(flood, others);
    assert_eq!(served, 30);
    assert_eq!(flood.iter().filter(|(status, ..)| *status == 200).count(), 3);
}
