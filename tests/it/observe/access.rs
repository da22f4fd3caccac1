//! The access log: a line for a request, with the words of the ledger.

use serde_json::{Value, json};

use crate::support::app::ask;
use crate::support::process::{Home, client, until};
use crate::support::upstream;
use crate::support::upstream::status;

const ONE: &str =
    "providers: { one: { format: openai, base_url: '{0}', models: [ { id: m1, price: { input: 1, output: 2 } } ] } }\n";

fn lines(home: &Home) -> Vec<Value> {
    let parsed = home.errors().lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).collect::<Vec<_>>();
    parsed.into_iter().filter(|line| line["target"] == "stepwell::access").collect()
}

#[tokio::test]
async fn every_model_request_is_a_line_of_json_whatever_the_level() {
    let one = upstream().await;
    let logging = "logging: { access: true, format: auto, level: error }\n";
    let home = Home::new(&(ONE.replace("{0}", &one.url) + logging));
    let process = home.start().await;
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let post = client().post(format!("{}/v1/chat/completions", process.url)).header("traceparent", parent);
    post.header("x-request-id", "answered")
        .json(&ask("hi"))
        .send()
        .await
        .expect("an answer")
        .bytes()
        .await
        .expect("all");
    process.chat("unread", &json!({"model": "auto"})).await;
    one.always(status(500));
    process.chat("failed", &ask("another")).await;
    process.get("/v1/models").await;
    until("the lines are written", async || lines(&home).len() >= 3).await;
    let lines = lines(&home);
    assert_eq!(lines.len(), 3, "a line each, and none for what is no model request");

    let line = &lines[0];
    let row = process.get("/v1/requests/answered").await;
    for (field, value) in [
        ("request_id", json!("answered")),
        ("trace_id", json!("4bf92f3577b34da6a3ce929d0e0e4736")),
        ("method", json!("POST")),
        ("path", json!("/v1/chat/completions")),
        ("status", json!(200)),
        ("outcome", row["status"].clone()),
        ("provider", json!("one")),
        ("model", json!("m1")),
        ("task", row["task"].clone()),
        ("strategy", row["strategy"].clone()),
        ("cache", json!("miss")),
        ("attempts", json!(1)),
        ("prompt_tokens", row["prompt_tokens"].clone()),
        ("completion_tokens", row["completion_tokens"].clone()),
        ("total_ms", row["total_ms"].clone()),
    ] {
        assert_eq!(line[field], value, "{field} in {line}");
    }
    assert!(
        line["cost_usd"].as_f64().is_some_and(|cost| cost > 0.0)
            && line["overhead_ms"].as_f64().is_some_and(|ms| ms > 0.0),
        "{line}"
    );
    assert_eq!(
        (&lines[1]["request_id"], &lines[1]["status"], &lines[1]["outcome"]),
        (&json!("unread"), &json!(400), &json!("rejected"))
    );
    assert_eq!((&lines[2]["request_id"], &lines[2]["outcome"]), (&json!("failed"), &json!("failed")));
    assert!(lines[2].get("cost_usd").is_some(), "a failure costs nothing, and that is known: {}", lines[2]);
}

#[tokio::test]
async fn it_is_off_unless_asked_for_and_a_reload_switches_it() {
    let one = upstream().await;
    let off = ONE.replace("{0}", &one.url) + "logging: { format: auto }\n";
    let home = Home::new(&off);
    let process = home.start().await;
    process.chat("silent", &ask("hi")).await;
    std::fs::write(home.config(), off.replace("format: auto", "format: auto, access: true")).expect("a file");
    until("the new rules are in force", async || process.get("/gateway/status").await["configuration_version"] == 2)
        .await;
    process.chat("heard", &ask("hi")).await;
    assert_eq!(process.stop().await, Some(0));
    let lines = lines(&home);
    assert_eq!(lines.len(), 1, "the last lines are written at the end: {}", home.errors());
    assert_eq!(lines[0]["request_id"], "heard");
}

#[tokio::test]
async fn for_people_it_is_a_line_of_text() {
    let one = upstream().await;
    let home = Home::new(&(ONE.replace("{0}", &one.url) + "logging: { access: true, format: pretty }\n"));
    let process = home.start().await;
    process.chat("readable", &ask("hi")).await;
    assert_eq!(process.stop().await, Some(0));
    let log = home.errors();
    let line = log.lines().find(|line| line.contains("readable")).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("request") && line.contains("m1") && line.contains("total_ms"), "{line}");
}

#[tokio::test]
async fn nobody_reading_the_log_holds_up_nobody() {
    use std::process::Stdio;
    let one = upstream().await;
    let home = Home::new(
        &(ONE.replace("{0}", &one.url) + "logging: { access: true, format: pretty }\ncache: { enabled: false }\n"),
    );
    // A pipe that is never read holds 64 KiB, a hundred lines or so.
    let mut command = home.command();
    command.args(["serve", "--port", "0", "--config"]).arg(home.config()).arg("--data-dir").arg(home.data());
    let output = std::fs::File::create(home.path().join("stdout")).expect("a file");
    let mut child = command.stdout(output).stderr(Stdio::piped()).spawn().expect("the binary starts");
    let mut url = None;
    until("it listens", async || {
        let output = home.output();
        let line = output.split_once("listens on ").and_then(|(_, rest)| rest.split_once('\n'));
        url = line.map(|(url, _)| url.trim().to_owned());
        url.is_some()
    })
    .await;
    let (client, url) = (client(), url.expect("an address"));
    for index in 0..300 {
        let post = client.post(format!("{url}/v1/chat/completions")).json(&ask(&index.to_string()));
        assert_eq!(post.send().await.expect("an answer").status(), 200, "request {index}");
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a signal");
    until("it stops", async || child.try_wait().expect("a child").is_some()).await;
}
