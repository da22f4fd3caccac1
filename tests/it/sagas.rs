//! Several requests in a row, resumed after a crash and undone after a failure.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::app::ask;
use crate::support::process::{Home, until};
use crate::support::upstream::{chat, hang, status};
use crate::support::{App, app, upstream};

const ONE: &str = "
providers:
  one: { format: openai, base_url: '{0}', models: [ { id: m1, price: { input: 1, output: 2 } } ] }
cache: { enabled: false }
retry: { same_target: 0 }
breaker: { consecutive_failures: 100, min_requests: 10000 }
jobs: { backoff: { start: 10ms, max: 20ms }, max_attempts: 2, lease: 1s }
";

fn saga() -> Value {
    json!({
        "input": {"topic": "wells"},
        "steps": [
            {"name": "outline", "request": ask("outline {{input.topic}}"), "compensate": {"request": ask("forget {{steps.outline.text}}")}},
            {"name": "draft", "request": ask("draft {{steps.outline.text}}"), "compensate": {"request": ask("tear up {{steps.draft.text}}")}},
            {"name": "title", "request": ask("title {{steps.draft.text}}")},
        ],
    })
}

async fn begin(client: &reqwest::Client, url: &str) -> String {
    let response = client.post(format!("{url}/v1/sagas")).json(&saga()).send().await.expect("an answer");
    let (status, said) = (response.status(), response.json::<Value>().await.expect("json"));
    assert_eq!(status, 202, "{said}");
    said["request_id"].as_str().expect("an id").to_owned()
}

async fn ended(client: &reqwest::Client, url: &str, id: &str) -> Value {
    let get = client.get(format!("{url}/v1/requests/{id}")).header("prefer", "wait=20");
    get.send().await.expect("an answer").json().await.expect("json")
}

fn asked(one: &crate::support::Upstream) -> Vec<String> {
    let text =
        |call: &stepwell::scripted::Call| call.body["messages"][0]["content"].as_str().unwrap_or_default().to_owned();
    one.calls().iter().map(text).collect()
}

async fn started() -> (App, crate::support::Upstream) {
    let one = upstream().await;
    (app(ONE, &[&one]).await, one)
}

#[tokio::test]
async fn each_step_is_made_of_what_the_earlier_ones_gave() {
    let (app, one) = started().await;
    for text in ["three points", "a \"draft\"", "A Title"] {
        one.then(chat(text));
    }
    let id = begin(&app.client, &app.url).await;
    let done = ended(&app.client, &app.url, &id).await;
    assert_eq!(done["status"], "completed", "{done}");
    assert_eq!(asked(&one), ["outline wells", "draft three points", "title a \"draft\""]);
    let steps = &done["result"]["steps"];
    assert_eq!(steps[2]["result"]["choices"][0]["message"]["content"], "A Title");
    let row = app.get(&format!("/v1/requests/{}", steps[1]["request_id"].as_str().expect("an id"))).await;
    assert_eq!((&row["provider"], &row["status"]), (&json!("one"), &json!("completed")), "a step is a request");
}

#[tokio::test]
async fn a_failure_undoes_what_was_done_last_first() {
    let (app, one) = started().await;
    one.then(chat("an outline"));
    one.then(chat("a draft"));
    one.then(status(400));
    let id = begin(&app.client, &app.url).await;
    let failed = ended(&app.client, &app.url, &id).await;
    assert_eq!((&failed["status"], &failed["http_status"]), (&json!("failed"), &json!(424)), "{failed}");
    assert_eq!(asked(&one)[3..], ["tear up a draft", "forget an outline"]);
    assert!(failed["error"].as_str().is_some_and(|error| error.contains("step `title` failed")), "{failed}");
    let steps = &failed["result"]["steps"];
    assert_eq!((&steps[0]["compensation"]["status"], &steps[2]["status"]), (&json!("completed"), &json!("failed")));
}

#[tokio::test]
async fn a_cancelled_saga_is_undone() {
    let (app, one) = started().await;
    one.then(chat("an outline"));
    one.then(hang());
    let id = begin(&app.client, &app.url).await;
    one.called(2).await;
    let cancel = app.post(&format!("/v1/requests/{id}/cancel"), &json!({})).await;
    assert_eq!(cancel.status(), 200, "{:?}", cancel.text().await);
    let failed = ended(&app.client, &app.url, &id).await;
    assert_eq!(failed["status"], "failed", "{failed}");
    assert_eq!(asked(&one)[2..], ["forget an outline"]);
}

#[tokio::test]
async fn a_saga_goes_on_where_it_was_when_its_server_is_killed() {
    let one = upstream().await;
    let home = Home::new(&ONE.replace("{0}", &one.url).replace("max_attempts: 2", "max_attempts: 10"));
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let mut process = home.start().await;
    one.then(chat("an outline"));
    one.always(hang());
    let id = begin(&client, &process.url).await;
    one.called(2).await;
    process.kill();
    one.always(chat("a draft").after(Duration::from_millis(300)));
    process = home.start().await;
    until("the last step is asked", async || asked(&one).iter().any(|text| text == "title a draft")).await;
    process.kill();
    one.always(chat("the end"));
    process = home.start().await;
    let done = ended(&client, &process.url, &id).await;
    assert_eq!(done["status"], "completed", "{done}");
    assert_eq!(done["result"]["steps"][2]["result"]["choices"][0]["message"]["content"], "the end");
    assert_eq!(asked(&one).iter().filter(|text| *text == "outline wells").count(), 1, "what is done is not done again");
}

#[tokio::test]
async fn a_saga_that_cannot_work_is_refused_with_the_place() {
    let (app, one) = started().await;
    for (change, status, param) in [
        (json!({"steps": []}), 400, "steps"),
        (json!({"steps": [{"name": "a", "request": ask("{{steps.b.text}}")}]}), 400, "steps[0].request"),
        (json!({"steps": [{"name": "a", "path": "/v1/files", "request": ask("hi")}]}), 400, "path"),
        (
            json!({"steps": [{"name": "a", "request": {"model": "nobody", "messages": [{"role": "user", "content": "hi"}]}}]}),
            404,
            "model",
        ),
    ] {
        let response = app.post("/v1/sagas", &change).await;
        let (got, error) = (response.status().as_u16(), response.json::<Value>().await.expect("json"));
        assert_eq!((got, error["error"]["param"].as_str()), (status, Some(param)), "{error}");
    }
    assert_eq!(one.count(), 0);
}
