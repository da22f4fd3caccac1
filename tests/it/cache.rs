//! Identical queries are answered once: exact, never an error, never across what could differ.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::app::ask;
use crate::support::upstream::{chat, model, status};
use crate::support::{App, app, upstream};

const ONE: &str = "
providers:
  one: { format: openai, base_url: '{0}', models: [ { id: m1, price: { input: 1, output: 2 } } ] }
";

async fn cache_of(app: &App, body: &Value) -> String {
    let (status, headers, body) = app.chat(body).await;
    assert_eq!(status, 200, "{body}");
    headers["x-stepwell-cache"].to_str().expect("text").to_owned()
}

#[tokio::test]
async fn the_second_identical_request_is_a_hit_in_either_shape_and_costs_nothing() {
    let one = upstream().await;
    let app = app(ONE, &[&one]).await;
    assert_eq!(cache_of(&app, &ask("hi")).await, "miss");
    let (_, headers, body) = app.chat(&ask("hi")).await;
    assert_eq!(headers["x-stepwell-cache"], "hit");
    assert_eq!(body["choices"][0]["message"]["content"], "hello from upstream");
    assert_eq!(body["usage"]["cost"], json!(0.0));
    let row = app.row(&headers).await;
    assert_eq!(
        (row["cache"].as_str(), row["cost_usd"].as_f64(), row["saved_by_cache_usd"].as_f64()),
        (Some("hit"), Some(0.0), Some(0.000016)),
        "{row}"
    );
    let mut streamed = ask("hi");
    streamed["stream_options"] = json!({"include_usage": true});
    let streamed = app.stream(&streamed).await;
    assert_eq!(
        (streamed.text().as_str(), streamed.done, streamed.header("x-stepwell-cache")),
        ("hello from upstream", true, "hit")
    );
    assert_eq!(streamed.finishes(), ["stop"]);
    assert_eq!(streamed.chunks.last().expect("chunks")["usage"]["cost"], json!(0.0));
    assert_eq!(one.count(), 1);
}

#[tokio::test]
async fn what_was_streamed_first_is_served_plain() {
    let one = upstream().await;
    let app = app(ONE, &[&one]).await;
    assert!(app.stream(&ask("hi")).await.done);
    let (_, headers, body) = app.chat(&ask("hi")).await;
    assert_eq!(
        (&headers["x-stepwell-cache"], body["choices"][0]["message"]["content"].as_str()),
        (&"hit".parse().expect("value"), Some("hello from upstream"))
    );
    assert_eq!(body["usage"]["total_tokens"], 13);
}

#[tokio::test]
async fn cache_control_is_honoured() {
    let one = upstream().await;
    let app = app(ONE, &[&one]).await;
    let with = |control: &'static str| {
        let request = app
            .client
            .post(format!("{}/v1/chat/completions", app.url))
            .json(&ask("hi"))
            .header("cache-control", control);
        async move {
            request.send().await.expect("an answer").headers()["x-stepwell-cache"].to_str().expect("text").to_owned()
        }
    };
    assert_eq!(with("no-store").await, "bypass");
    assert_eq!(cache_of(&app, &ask("hi")).await, "miss", "no-store wrote nothing");
    one.always(chat("fresh words"));
    assert_eq!(with("no-cache").await, "miss");
    let (_, headers, body) = app.chat(&ask("hi")).await;
    assert_eq!(
        (&headers["x-stepwell-cache"], body["choices"][0]["message"]["content"].as_str()),
        (&"hit".parse().expect("value"), Some("fresh words")),
        "no-cache refreshed the entry"
    );
}

#[tokio::test]
async fn identical_requests_in_flight_share_one_call_in_both_shapes() {
    let one = upstream().await;
    let app = app(ONE, &[&one]).await;
    one.always(chat("shared by all of us").after(Duration::from_millis(300)).paced(Duration::from_millis(5)));
    let body = ask("hi");
    let leader = app.stream(&body);
    let followers = async {
        one.called(1).await;
        let plain = (0..20).map(|_| app.chat(&body));
        let streamed = (0..20).map(|_| app.stream(&body));
        futures_util::future::join(futures_util::future::join_all(plain), futures_util::future::join_all(streamed))
            .await
    };
    let (leader, (plain, streamed)) = futures_util::future::join(leader, followers).await;
    assert_eq!((leader.text().as_str(), leader.header("x-stepwell-cache")), ("shared by all of us", "miss"));
    for (status, headers, body) in &plain {
        assert_eq!(*status, 200, "{body}");
        assert_eq!(body["choices"][0]["message"]["content"], "shared by all of us");
        assert!(["coalesced", "hit"].contains(&headers["x-stepwell-cache"].to_str().expect("text")));
    }
    for follower in &streamed {
        assert_eq!((follower.text().as_str(), follower.done), ("shared by all of us", true));
    }
    assert_eq!(one.count(), 1);
    let report = app.get("/v1/usage").await;
    assert_eq!(report["total"]["cost_usd"], json!(0.00002), "paid once: {report}");
}

#[tokio::test]
async fn what_a_stream_carried_in_pieces_is_whole_when_it_is_served_again() {
    let one = upstream().await;
    let app = app(ONE, &[&one]).await;
    one.always(model("one two three"));
    let mut body = ask("hi");
    body["logprobs"] = json!(true);
    let streamed = app.stream(&body).await;
    assert_eq!(streamed.text(), "one two three");
    let response = app.post("/v1/chat/completions", &body).await;
    assert_eq!(response.headers()["x-stepwell-cache"], "hit");
    let raw = response.text().await.expect("text");
    assert_eq!(raw.matches("\"logprobs\"").count(), 1, "{raw}");
    let again: Value = serde_json::from_str(&raw).expect("json");
    let tokens = |choice: &Value| -> Vec<String> {
        let tokens = choice["logprobs"]["content"].as_array().expect("tokens").iter();
        tokens.map(|token| token["token"].as_str().expect("text").to_owned()).collect()
    };
    assert_eq!(tokens(&again["choices"][0]), ["one ", "two ", "three"], "{again}");
    let replayed = app.stream(&body).await;
    assert_eq!(replayed.header("x-stepwell-cache"), "hit");
    assert_eq!(tokens(&replayed.chunks[0]["choices"][0]), ["one ", "two ", "three"], "{}", replayed.raw);
    assert_eq!(one.count(), 1);
}

#[tokio::test]
async fn a_follower_that_takes_over_is_a_request_of_its_own() {
    let one = upstream().await;
    let app = app(ONE, &[&one]).await;
    one.then(chat("one two three four five six").paced(Duration::from_millis(50)).cut());
    let leader = ask("hi");
    let (streamed, (_, headers, body)) = tokio::join!(app.stream(&leader), async {
        one.called(1).await;
        app.chat(&leader).await
    });
    assert!(streamed.error().is_some());
    assert_eq!(body["choices"][0]["message"]["content"], "hello from upstream", "{body}");
    assert_eq!((&headers["x-stepwell-cache"], one.count()), (&"miss".parse().expect("value"), 2));
    let row = app.row(&headers).await;
    assert_eq!((row["cache"].as_str(), row["cost_usd"].as_f64()), (Some("miss"), Some(0.000016)), "{row}");
}

#[tokio::test]
async fn a_follower_of_a_failure_has_a_row_that_says_so() {
    let one = upstream().await;
    let app = app(ONE, &[&one]).await;
    one.always(status(400).after(Duration::from_millis(200)));
    let body = ask("hi");
    let (_, (_, headers, _)) = tokio::join!(app.chat(&body), async {
        one.called(1).await;
        app.chat(&body).await
    });
    assert_eq!(one.count(), 1);
    let row = app.row(&headers).await;
    assert_eq!(
        (row["status"].as_str(), row["provider"].as_str(), row["cache"].as_str(), row["task"].as_str()),
        (Some("failed"), Some("one"), Some("coalesced"), Some("general")),
        "{row}"
    );
}

#[tokio::test]
async fn a_follower_that_leaves_costs_nothing() {
    let one = upstream().await;
    let app = app(ONE, &[&one]).await;
    one.then(chat("one two three four five six").paced(Duration::from_millis(50)).cut());
    let body = ask("hi");
    let (_, follower) = tokio::join!(app.stream(&body), async {
        one.called(1).await;
        app.stream(&body).await
    });
    let row = app.row(&follower.headers).await;
    assert_eq!(
        (row["status"].as_str(), row["cache"].as_str(), row["cost_usd"].as_f64()),
        (Some("interrupted"), Some("coalesced"), Some(0.0)),
        "{row}"
    );
}

#[tokio::test]
async fn an_answer_of_a_provider_that_is_gone_is_not_served() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(ONE, &[&one]).await;
    assert_eq!(cache_of(&app, &ask("hi")).await, "miss");
    app.rewrite(&ONE.replace("one:", "two:"), &[&two]);
    while app.get("/gateway/status").await["configuration_version"] != 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(cache_of(&app, &ask("hi")).await, "miss");
    assert_eq!((one.count(), two.count()), (1, 1));
}
