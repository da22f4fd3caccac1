//! Files and batches: OpenAI's, over any provider. Its own client drives them in `clients`.

use std::io::Write;

use serde_json::{Value, json};

use crate::support::process::{Home, until};
use crate::support::servers::stores;
use crate::support::upstream::{chat, hang, status};
use crate::support::{App, Upstream, app, upstream};

const ONE: &str = "
providers:
  one: { format: openai, base_url: '{0}', models: [ { id: m1, price: { input: 1, output: 2 } } ] }
cache: { enabled: false }
retry: { same_target: 0 }
breaker: { consecutive_failures: 100, min_requests: 10000 }
jobs: { backoff: { start: 10ms, max: 20ms }, max_attempts: 2, lease: 1s }
";
const CHAT: &str = "/v1/chat/completions";

async fn one() -> (App, Upstream) {
    on("").await
}

/// With a section that says where things are kept.
async fn on(storage: &str) -> (App, Upstream) {
    let one = upstream().await;
    (app(&format!("{ONE}{storage}"), &[&one]).await, one)
}

pub fn line(id: &str, model: &str) -> String {
    let body = json!({"model": model, "messages": [{"role": "user", "content": format!("line {id}")}]});
    json!({"custom_id": id, "method": "POST", "url": CHAT, "body": body}).to_string()
}

pub async fn upload(url: &str, content: impl Into<String>) -> Value {
    let boundary = "a-boundary";
    let body = format!(
        "--{boundary}\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--{boundary}\r\n\
         content-disposition: form-data; name=\"file\"; filename=\"in.jsonl\"\r\n\r\n{}\r\n--{boundary}--\r\n",
        content.into()
    );
    let post = reqwest::Client::new().post(format!("{url}/v1/files"));
    let post = post.header("content-type", format!("multipart/form-data; boundary={boundary}"));
    post.body(body).send().await.expect("an answer").json().await.expect("json")
}

pub async fn get(url: &str, path: &str) -> Value {
    reqwest::get(format!("{url}{path}")).await.expect("an answer").json().await.expect("json")
}

pub async fn start(url: &str, content: impl Into<String>) -> String {
    let file = upload(url, content).await;
    let asked = json!({"input_file_id": file["id"], "endpoint": CHAT, "completion_window": "24h"});
    let post = reqwest::Client::new().post(format!("{url}/v1/batches")).json(&asked);
    let batch: Value = post.send().await.expect("an answer").json().await.expect("json");
    batch["id"].as_str().unwrap_or_else(|| panic!("{file} {batch}")).to_owned()
}

pub async fn ended(url: &str, id: &str) -> Value {
    let mut batch = Value::Null;
    until("the batch ends", async || {
        batch = get(url, &format!("/v1/batches/{id}")).await;
        ["completed", "failed", "cancelled", "expired"].contains(&batch["status"].as_str().unwrap_or_default())
    })
    .await;
    batch
}

/// The lines of a file, by their custom ids.
pub async fn lines(url: &str, file: &Value) -> Vec<(String, Value)> {
    let path = format!("{url}/v1/files/{}/content", file.as_str().expect("a file"));
    let text = reqwest::get(path).await.expect("an answer").text().await.expect("text");
    let parsed = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON"));
    parsed.map(|line| (line["custom_id"].as_str().expect("an id").to_owned(), line)).collect()
}

#[tokio::test]
async fn every_line_gets_an_answer_in_its_place_or_its_own_error() {
    for storage in stores().await {
        let (app, one) = on(&storage).await;
        let text = [line("a", "auto"), String::new(), line("b", "nobody"), line("c", "auto")].join("\n");
        let id = start(&app.url, text).await;
        let batch = ended(&app.url, &id).await;
        assert_eq!(
            (&batch["status"], &batch["request_counts"]),
            (&json!("completed"), &json!({"total": 3, "completed": 2, "failed": 1}))
        );
        let answered = lines(&app.url, &batch["output_file_id"]).await;
        assert_eq!(answered.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["a", "c"]);
        let response = &answered[0].1["response"];
        assert_eq!(
            (&response["status_code"], &response["body"]["choices"][0]["message"]["content"]),
            (&json!(200), &json!("hello from upstream"))
        );
        let failed = lines(&app.url, &batch["error_file_id"]).await;
        assert_eq!(failed.len(), 1);
        assert_eq!(failed[0].1["response"]["body"]["error"]["code"], "model_not_found");
        assert_eq!((one.count(), &app.get("/v1/usage").await["total"]["requests"]), (2, &json!(3)));
    }
}

#[tokio::test]
async fn a_file_with_wrong_lines_does_nothing_and_says_which() {
    let (app, one) = one().await;
    let text =
        [line("a", "auto"), line("a", "auto"), "{".to_owned(), line("b", "auto").replace("POST", "GET")].join("\n");
    let batch = ended(&app.url, &start(&app.url, text).await).await;
    assert_eq!(batch["status"], "failed");
    let errors: Vec<(&str, i64)> = batch["errors"]["data"]
        .as_array()
        .expect("errors")
        .iter()
        .map(|error| (error["code"].as_str().expect("a code"), error["line"].as_i64().expect("a line")))
        .collect();
    assert_eq!(errors, [("duplicate_custom_id", 2), ("invalid_json_line", 3), ("invalid_method", 4)]);
    assert_eq!(ended(&app.url, &start(&app.url, "\n\n").await).await["errors"]["data"][0]["code"], "empty_file");
    assert_eq!(one.count(), 0);
}

#[tokio::test]
async fn a_cancelled_batch_ends_with_what_was_done() {
    for storage in stores().await {
        let (app, one) = on(&storage).await;
        one.always(hang());
        one.then(chat("done"));
        let text: Vec<String> = (0..40).map(|n| line(&n.to_string(), "auto")).collect();
        let id = start(&app.url, text.join("\n")).await;
        one.called(2).await;
        until("one line is done", async || {
            get(&app.url, &format!("/v1/batches/{id}")).await["request_counts"]["completed"] == 1
        })
        .await;
        let cancelled: Value =
            app.post(&format!("/v1/batches/{id}/cancel"), &json!({})).await.json().await.expect("json");
        assert_eq!(cancelled["status"], "cancelling");
        // Lines under way are answered; nobody else is asked.
        one.always(chat("done"));
        drop(one);
        let batch = ended(&app.url, &id).await;
        assert_eq!(batch["status"], "cancelled", "{batch}");
        let counts = &batch["request_counts"];
        assert_eq!(counts["completed"].as_i64().zip(counts["failed"].as_i64()).map(|(one, two)| one + two), Some(40));
        let failed = lines(&app.url, &batch["error_file_id"]).await;
        assert!(failed.iter().any(|(_, line)| line["error"]["code"] == "batch_cancelled"), "{failed:?}");
        assert_eq!(app.post(&format!("/v1/batches/{id}/cancel"), &json!({})).await.status(), 409);
    }
}

#[tokio::test]
async fn files_are_read_back_byte_for_byte_listed_and_deleted() {
    for storage in stores().await {
        let (app, _one) = on(&storage).await;
        // More than one piece, with all kinds of bytes that are text.
        let content: String = (0..60_000).map(|n| char::from_u32(32 + n % 0x3000).unwrap_or('x')).collect();
        let file = upload(&app.url, content.clone()).await;
        let id = file["id"].as_str().unwrap_or_else(|| panic!("{file}"));
        assert_eq!(file["bytes"], content.len());
        let read = reqwest::get(format!("{}/v1/files/{id}/content", app.url)).await.expect("an answer");
        assert_eq!(read.text().await.expect("text"), content);
        assert_eq!(app.get("/v1/files?purpose=batch").await["data"][0]["id"], id);
        assert_eq!(app.get("/v1/files?purpose=batch_output").await["data"], json!([]));
        let key = app.key(json!({"name": "somebody"})).await;
        assert_eq!(app.get_as(&key, &format!("/v1/files/{id}")).await.0, 404, "somebody else's is as good as none");
        let deleted = app.client.delete(format!("{}/v1/files/{id}", app.url)).send().await.expect("an answer");
        assert_eq!(deleted.json::<Value>().await.expect("json")["deleted"], true);
        assert_eq!(app.get_as("", &format!("/v1/files/{id}")).await.0, 404);
    }
}

#[tokio::test]
async fn an_upload_that_is_sent_twice_under_one_key_is_one_file() {
    let (app, _one) = one().await;
    let body = "--x\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--x\r\n\
        content-disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nno JSON\r\n--x--\r\n";
    let send = async || {
        let post = app.client.post(format!("{}/v1/files", app.url)).header("idempotency-key", "once");
        let post = post.header("content-type", "multipart/form-data; boundary=x").body(body);
        post.send().await.expect("an answer").json::<Value>().await.expect("json")
    };
    let (first, second) = (send().await, send().await);
    assert!(first["id"].is_string() && first["id"] == second["id"], "{first} {second}");
    assert_eq!(app.get("/v1/files").await["data"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn wrong_uploads_and_batches_say_what_is_wrong() {
    let (app, _one) = one().await;
    let form = async |text: &str| {
        let post =
            app.client.post(format!("{}/v1/files", app.url)).header("content-type", "multipart/form-data; boundary=x");
        let response = post.body(text.replace('\n', "\r\n")).send().await.expect("an answer");
        let status = response.status().as_u16();
        (
            status,
            response.json::<Value>().await.expect("json")["error"]["param"].as_str().unwrap_or_default().to_owned(),
        )
    };
    let purpose = "--x\ncontent-disposition: form-data; name=\"purpose\"\n\n";
    let file = "--x\ncontent-disposition: form-data; name=\"file\"; filename=\"a\"\n\ntext\n";
    assert_eq!(form(&format!("{purpose}batch\n--x--\n")).await, (400, "file".to_owned()));
    assert_eq!(form(&format!("{file}--x--\n")).await, (400, "purpose".to_owned()));
    assert_eq!(form(&format!("{file}{purpose}batch_output\n--x--\n")).await, (400, "purpose".to_owned()));
    assert_eq!(form(file).await, (400, "body".to_owned()), "the form breaks off");
    assert_eq!(app.get("/v1/files").await["data"], json!([]), "nothing stays of them");
    for (body, param) in [
        (json!({"input_file_id": "f", "endpoint": "/v1/images", "completion_window": "24h"}), "endpoint"),
        (json!({"input_file_id": "f", "endpoint": CHAT, "completion_window": "soon"}), "completion_window"),
        (json!({"input_file_id": "f", "endpoint": CHAT, "completion_window": "24h", "metadata": {"a": 1}}), "metadata"),
        (json!({"input_file_id": "f", "endpoint": CHAT, "completion_window": "24h"}), "id"),
    ] {
        let error: Value = app.post("/v1/batches", &body).await.json().await.expect("json");
        assert_eq!(error["error"]["param"], param, "{error}");
    }
}

#[tokio::test]
async fn a_batch_outlives_its_server_and_every_line_is_answered_once() {
    for storage in stores().await {
        let one = upstream().await;
        let home = Home::new(
            &format!("{ONE}{storage}").replace("{0}", &one.url).replace("max_attempts: 2", "max_attempts: 10"),
        );
        let mut process = home.start().await;
        one.always(chat("ok").after(std::time::Duration::from_millis(20)));
        let text: Vec<String> = (0..200).map(|n| line(&n.to_string(), "auto")).collect();
        let id = start(&process.url, text.join("\n")).await;
        for calls in [20, 80] {
            one.called(calls).await;
            process.kill();
            process = home.start().await;
        }
        let batch = ended(&process.url, &id).await;
        assert_eq!(batch["request_counts"], json!({"total": 200, "completed": 200, "failed": 0}), "{batch}");
        let answered = lines(&process.url, &batch["output_file_id"]).await;
        let ids: Vec<String> = answered.into_iter().map(|(id, _)| id).collect();
        assert_eq!(ids, (0..200).map(|n| n.to_string()).collect::<Vec<_>>());
        let replayed =
            home.command().args(["events", "replay", "--data-dir"]).arg(home.data()).output().expect("it runs");
        assert!(replayed.status.success(), "{replayed:?}");
    }
}

#[tokio::test]
async fn the_command_line_answers_a_file_and_tells_how_it_went() {
    let (app, one) = one().await;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("prompts.jsonl");
    let mut file = std::fs::File::create(&path).expect("a file");
    writeln!(file, "{}\n{}", line("a", "auto"), line("b", "auto")).expect("written");
    let run = || {
        let url = format!("{}/v1", app.url);
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_stepwell"));
        command.arg("batch").arg(&path).args(["--url", &url]);
        command.output()
    };
    let output = run().await.expect("it runs");
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("completed: 2 answered, 0 not, of 2"), "{output:?}");
    let written = std::fs::read_to_string(directory.path().join("prompts.out.jsonl")).expect("a file");
    assert_eq!(written.lines().count(), 2);
    one.always(status(400));
    let failed = run().await.expect("it runs");
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    assert!(directory.path().join("prompts.errors.jsonl").exists());
}
