//! Batches that providers answer in batches of their own: half the price, and the same promises.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor};

use crate::batches::{ended, get, line, lines, start, upload};
use crate::support::batching::{Batching, Fate, batching};
use crate::support::process::{Home, until};
use crate::support::servers::stores;
use crate::support::{App, app, upstream};

/// 35 tokens in and 7 out cost 1313 + 700 billionths, of which half is 1007: every rounding is upwards.
const YAML: &str = "
providers:
  one:
    format: FORMAT
    base_url: 'URL'
    api_key: key-of-one
    models: [ { id: m1, price: { input: 0.0375, output: 0.1 } } ]
    batch: { discount: 50% }
cache: { enabled: false }
retry: { same_target: 0 }
batches: { poll: 1s }
jobs: { backoff: { start: 10ms, max: 20ms }, max_attempts: 2, lease: 2s }
";
const HALF: i64 = 1_007;
const WHOLE: i64 = 2_013;
const FORMATS: [&str; 2] = ["openai", "anthropic"];

fn yaml(format: &str, one: &Batching, more: &str) -> String {
    format!("{}{more}", YAML.replace("FORMAT", format).replace("URL", &one.url))
}

async fn on(format: &str, more: &str) -> (App, Batching) {
    let one = batching().await;
    let app = app(&yaml(format, &one, more), &[]).await;
    (app, one)
}

fn text(count: usize) -> String {
    let lines: Vec<String> = (0..count).map(|n| line(&n.to_string(), "auto")).collect();
    lines.join("\n")
}

fn nano(cost: &Value) -> i64 {
    (cost.as_f64().unwrap_or_else(|| panic!("{cost}")) * 1e9).round() as i64
}

/// All rows of the ledger, by the number of their line.
async fn rows(url: &str) -> Vec<Value> {
    let page = get(url, "/v1/requests?limit=1000").await;
    let mut rows = page["data"].as_array().expect("rows").clone();
    let place = |row: &Value| row["id"].as_str().and_then(|id| id.rsplit('.').next()?.parse::<i64>().ok());
    rows.sort_by_key(place);
    rows
}

async fn created(app: &App, window: &str, header: Option<&str>) -> (u16, Value) {
    let file = upload(&app.url, text(2)).await;
    let asked = json!({"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": window});
    let mut post = app.client.post(format!("{}/v1/batches", app.url)).json(&asked);
    if let Some(header) = header {
        post = post.header("x-stepwell-batch", header);
    }
    let response = post.send().await.expect("an answer");
    (response.status().as_u16(), response.json().await.expect("json"))
}

async fn until_made(one: &Batching, count: usize) {
    until("the provider has the batch", async || one.made().len() >= count).await;
}

#[tokio::test]
async fn a_batch_is_answered_by_the_providers_own_at_half_the_price() {
    for format in FORMATS {
        for storage in stores().await {
            let (app, one) = on(format, &storage).await;
            let id = start(&app.url, text(3)).await;
            let batch = ended(&app.url, &id).await;
            assert_eq!(batch["request_counts"], json!({"total": 3, "completed": 3, "failed": 0}), "{batch}");
            let answered = lines(&app.url, &batch["output_file_id"]).await;
            assert_eq!(answered.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["0", "1", "2"]);
            let body = &answered[0].1["response"]["body"];
            assert_eq!(body["choices"][0]["message"]["content"], "from the batch", "{body}");
            assert_eq!(nano(&body["usage"]["cost"]), HALF);
            let made = one.made();
            assert_eq!((made.len(), made[0].lines.len(), one.single()), (1, 3, 0), "one batch, and nothing beside it");
            assert_eq!(made[0].lines[0].1["model"], "m1");
            let is_keyed = |head: &http::HeaderMap| {
                head.get("authorization").is_some_and(|value| value == "Bearer key-of-one")
                    || head.get("x-api-key").is_some_and(|value| value == "key-of-one")
            };
            assert!(one.heads().iter().all(is_keyed), "{:?}", one.heads());
            for row in rows(&app.url).await {
                assert_eq!((nano(&row["cost_usd"]), &row["service_tier"]), (HALF, &json!("batch")), "{row}");
                assert_eq!((&row["provider"], &row["prompt_tokens"]), (&json!("one"), &json!(35)));
                assert!(row["reason"].as_str().expect("why").contains("own batch, 50 % off"), "{row}");
            }
            let usage = app.get("/v1/usage").await;
            assert_eq!((&usage["total"]["requests"], nano(&usage["total"]["cost_usd"])), (&json!(3), 3 * HALF));
            assert_eq!(usage["total"]["total_ms"]["p95"], Value::Null, "hours in a batch are nobody's latency");
            until("the provider is asked to forget it", async || !one.deleted().is_empty()).await;
            let events =
                app.client.get(format!("{}/v1/events?kind=native_batch_submitted,native_batch_ended", app.url));
            let events = events.header("accept", "application/json").send().await.expect("an answer");
            let events: Value = events.json().await.expect("json");
            let told: Vec<&Value> =
                events["data"].as_array().expect("events").iter().map(|event| &event["kind"]).collect();
            assert_eq!(told, ["native_batch_submitted", "native_batch_ended"], "{events}");
        }
    }
}

#[tokio::test]
async fn what_the_provider_does_not_take_is_answered_one_by_one() {
    for format in FORMATS {
        let (app, one) = on(format, "").await;
        one.becomes(|mood| mood.refuses = Some(403));
        let batch = ended(&app.url, &start(&app.url, text(3)).await).await;
        assert_eq!(batch["request_counts"]["completed"], 3, "{batch}");
        assert_eq!((one.made().len(), one.single()), (0, 3));
        for row in rows(&app.url).await {
            assert_eq!((nano(&row["cost_usd"]), &row["service_tier"]), (WHOLE, &Value::Null), "at the usual price");
        }
    }
    let (app, one) = on("openai", "").await;
    one.becomes(|mood| mood.fails = true);
    let batch = ended(&app.url, &start(&app.url, text(3)).await).await;
    assert_eq!((&batch["request_counts"]["completed"], one.made().len(), one.single()), (&json!(3), 1, 3), "{batch}");
}

#[tokio::test]
async fn of_lines_that_go_wrong_those_end_that_would_anywhere_and_the_others_are_asked_again() {
    for format in FORMATS {
        for storage in stores().await {
            let (app, one) = on(format, &storage).await;
            one.becomes(|mood| {
                mood.fate = |number| match number {
                    1 => Fate::Status(400),
                    2 => Fate::Status(500),
                    3 => Fate::Nothing,
                    _ => Fate::Answer,
                }
            });
            let batch = ended(&app.url, &start(&app.url, text(5)).await).await;
            assert_eq!(batch["request_counts"], json!({"total": 5, "completed": 4, "failed": 1}), "{batch}");
            let failed = lines(&app.url, &batch["error_file_id"]).await;
            assert_eq!(
                (failed.len(), &failed[0].0[..], &failed[0].1["response"]["status_code"]),
                (1, "1", &json!(400))
            );
            assert!(
                failed[0].1["response"]["body"]["error"]["message"].as_str().expect("why").contains("scripted 400")
            );
            assert_eq!((one.made().len(), one.single()), (1, 2), "the refused one is not asked again");
            let rows = rows(&app.url).await;
            let costs: Vec<i64> = rows.iter().map(|row| nano(&row["cost_usd"])).collect();
            assert_eq!(costs, [HALF, 0, WHOLE, WHOLE, HALF]);
            assert_eq!((&rows[1]["status"], &rows[1]["service_tier"]), (&json!("failed"), &json!("batch")));
        }
    }
}

#[tokio::test]
async fn a_cancelled_batch_keeps_what_the_provider_has_answered() {
    for format in FORMATS {
        for storage in stores().await {
            let (app, one) = on(format, &storage).await;
            one.becomes(|mood| {
                mood.ends = false;
                mood.fate = |number| if number < 2 { Fate::Answer } else { Fate::Nothing };
            });
            let id = start(&app.url, text(5)).await;
            until_made(&one, 1).await;
            let cancelled = app.post(&format!("/v1/batches/{id}/cancel"), &json!({})).await;
            assert_eq!(cancelled.json::<Value>().await.expect("json")["status"], "cancelling");
            let batch = ended(&app.url, &id).await;
            assert_eq!(
                (&batch["status"], &batch["request_counts"]["completed"]),
                (&json!("cancelled"), &json!(2)),
                "{batch}"
            );
            assert!(one.made()[0].cancelled, "the provider was told");
            let failed = lines(&app.url, &batch["error_file_id"]).await;
            let codes: Vec<&Value> = failed.iter().map(|(_, line)| &line["error"]["code"]).collect();
            assert_eq!(codes, ["batch_cancelled"; 3]);
            assert_eq!(one.single(), 0, "nobody else was asked");
        }
    }
}

#[tokio::test]
async fn a_server_that_is_killed_before_it_notes_the_batch_makes_no_second_one() {
    for format in FORMATS {
        let one = batching().await;
        one.becomes(|mood| {
            mood.slow_to_say = Duration::from_secs(600);
            mood.ends = false;
        });
        let home = Home::new(&yaml(format, &one, ""));
        let process = home.start().await;
        let id = start(&process.url, text(4)).await;
        until_made(&one, 1).await;
        process.kill();
        one.becomes(|mood| mood.slow_to_say = Duration::ZERO);
        let process = home.start().await;
        one.becomes(|mood| mood.ends = true);
        let batch = ended(&process.url, &id).await;
        assert_eq!(batch["request_counts"]["completed"], 4, "{format} {batch}");
        assert_eq!((one.made().len(), one.single()), (1, 0), "{format}");
    }
}

#[tokio::test]
async fn a_server_that_is_killed_while_it_reads_answers_writes_no_row_twice() {
    for format in FORMATS {
        for storage in stores().await {
            let one = batching().await;
            one.becomes(|mood| mood.stops_after = Some(130));
            let home = Home::new(&yaml(format, &one, &storage));
            let process = home.start().await;
            let id = start(&process.url, text(200)).await;
            until("half of it is there", async || {
                get(&process.url, &format!("/v1/batches/{id}")).await["request_counts"]["completed"] == 100
            })
            .await;
            process.kill();
            one.becomes(|mood| mood.stops_after = None);
            let process = home.start().await;
            let batch = ended(&process.url, &id).await;
            assert_eq!(batch["request_counts"], json!({"total": 200, "completed": 200, "failed": 0}), "{batch}");
            assert_eq!((one.made().len(), one.single()), (1, 0));
            let usage = get(&process.url, "/v1/usage").await;
            assert_eq!((&usage["total"]["requests"], nano(&usage["total"]["cost_usd"])), (&json!(200), 200 * HALF));
            let replayed =
                home.command().args(["events", "replay", "--data-dir"]).arg(home.data()).output().expect("it runs");
            assert!(replayed.status.success(), "{replayed:?}");
        }
    }
}

#[tokio::test]
async fn a_budget_that_cannot_pay_for_all_lines_at_once_is_asked_line_by_line() {
    // The worst case of a line is some 410 thousandths of a thousandth of a dollar, discounted half of that.
    let one = batching().await;
    let config =
        yaml("openai", &one, "budgets: { total: { month: 0.0006 } }").replace("jobs: {", "jobs: { workers: 1,");
    let app = app(&config, &[]).await;
    let id = start(&app.url, text(20)).await;
    let batch = ended(&app.url, &id).await;
    assert_eq!((one.made().len(), &batch["request_counts"]["completed"]), (0, &json!(20)), "{batch}");
    assert_eq!(one.single(), 20);
}

#[tokio::test]
async fn what_a_part_may_cost_is_held_until_it_ends_and_over_a_restart() {
    let one = batching().await;
    one.becomes(|mood| mood.ends = false);
    let home = Home::new(&yaml("openai", &one, "budgets: { total: { month: 0.01 } }"));
    let mut process = home.start().await;
    // Two lines, each of which may cost nearly half of it.
    let text = [line("a", "auto"), line("b", "auto")]
        .map(|line| line.replace("\"messages\"", "\"max_tokens\":90000,\"messages\""));
    let id = start(&process.url, text.join("\n")).await;
    until_made(&one, 1).await;
    let big = json!({"model": "auto", "max_tokens": 60_000, "messages": [{"role": "user", "content": "hi"}]});
    for round in ["while it is under way", "after a restart"] {
        let (status, body) = process.chat(&format!("r-{}", round.len()), &big).await;
        assert_eq!((status, &body["error"]["code"]), (429, &json!("insufficient_quota")), "{round} {body}");
        process.kill();
        process = home.start().await;
    }
    one.becomes(|mood| mood.ends = true);
    ended(&process.url, &id).await;
    until("the rest of it is given back", async || process.chat("later", &big).await.0 == 200).await;
}

#[tokio::test]
async fn only_those_lines_go_there_that_may_wait_and_whose_provider_says_so() {
    let (first, one) = on("openai", "").await;
    for (window, header) in [("23h", None), ("24h", Some("never"))] {
        let (status, batch) = created(&first, window, header).await;
        assert_eq!(status, 200, "{batch}");
        ended(&first.url, batch["id"].as_str().expect("an id")).await;
    }
    assert_eq!((one.made().len(), one.single()), (0, 4));
    let (status, refused) = created(&first, "24h", Some("sometimes")).await;
    assert_eq!((status, &refused["error"]["param"]), (400, &json!("x-stepwell-batch")));
    let (_, batch) = created(&first, "48h", Some("native")).await;
    ended(&first.url, batch["id"].as_str().expect("an id")).await;
    assert_eq!((one.made().len(), one.single()), (1, 4));

    let hurried = line("a", "auto").replace("\"messages\"", "\"context\":{\"max_latency\":\"60s\"},\"messages\"");
    let batch = ended(&first.url, &start(&first.url, [hurried, line("b", "auto")].join("\n")).await).await;
    assert_eq!((&batch["request_counts"]["completed"], one.made()[1].lines.len()), (&json!(2), 1));

    let never = app(&yaml("openai", &one, "").replace("batches: { poll", "batches: { native: never, poll"), &[]).await;
    ended(&never.url, &start(&never.url, text(2)).await).await;
    assert_eq!((one.made().len(), one.single()), (2, 7));
    let other = upstream().await;
    let plain = YAML.replace("    batch: { discount: 50% }\n", "").replace("FORMAT", "openai").replace("URL", "{0}");
    let plain = app(&plain, &[&other]).await;
    let batch = ended(&plain.url, &start(&plain.url, text(2)).await).await;
    assert_eq!(
        (&batch["request_counts"]["completed"], other.calls_to("/chat/completions"), other.count()),
        (&json!(2), 2, 2)
    );
}

#[tokio::test]
async fn guards_hold_for_lines_that_go_there_and_for_their_answers() {
    let guards = "
guards:
  - { name: mail, detect: email, on: request, action: mask }
  - { name: word, match: 'batch', on: response, action: mask }
";
    let (app, one) = on("openai", guards).await;
    let secret = line("a", "auto").replace("line a", "write to a.b@example.com");
    let batch = ended(&app.url, &start(&app.url, secret).await).await;
    let made = one.made();
    assert!(!made[0].lines[0].1.to_string().contains("example.com"), "{made:?}");
    let answered = lines(&app.url, &batch["output_file_id"]).await;
    let text = answered[0].1["response"]["body"]["choices"][0]["message"]["content"].as_str().expect("a text");
    assert!(text.starts_with("from the ") && !text.contains("batch"), "{text}");
}

#[tokio::test]
async fn a_provider_that_is_down_for_a_while_loses_nothing() {
    let (app, one) = on("openai", "").await;
    one.becomes(|mood| mood.ends = false);
    let id = start(&app.url, text(3)).await;
    until_made(&one, 1).await;
    one.becomes(|mood| mood.down = Some(503));
    let seen = one.heads().len();
    until("it was asked while it was down", async || one.heads().len() > seen + 1).await;
    assert_eq!(get(&app.url, &format!("/v1/batches/{id}")).await["status"], "in_progress");
    one.becomes(|mood| (mood.down, mood.ends) = (None, true));
    let batch = ended(&app.url, &id).await;
    assert_eq!((&batch["request_counts"]["completed"], one.made().len(), one.single()), (&json!(3), 1, 0), "{batch}");
}

#[tokio::test]
async fn an_answer_that_is_told_twice_is_paid_once() {
    for format in FORMATS {
        let (app, one) = on(format, "").await;
        one.becomes(|mood| mood.stutters = true);
        let batch = ended(&app.url, &start(&app.url, text(3)).await).await;
        assert_eq!(batch["request_counts"], json!({"total": 3, "completed": 3, "failed": 0}), "{batch}");
        let usage = app.get("/v1/usage").await;
        assert_eq!((&usage["total"]["requests"], nano(&usage["total"]["cost_usd"])), (&json!(3), 3 * HALF), "{format}");
    }
}

#[tokio::test]
async fn an_answer_too_long_to_be_read_keeps_nobody_else_from_theirs() {
    for format in FORMATS {
        let (app, one) = on(format, "").await;
        one.becomes(|mood| mood.fate = |number| if number == 2 { Fate::AtLength } else { Fate::Answer });
        let batch = ended(&app.url, &start(&app.url, text(4)).await).await;
        assert_eq!(batch["request_counts"]["completed"], 4, "{format} {batch}");
        assert_eq!((one.made().len(), one.single()), (1, 1), "{format}: that line is asked again");
    }
}

/// Changes the database of a server that is not running.
async fn change(home: &Home, sql: &'static str) {
    let options = SqliteConnectOptions::new().filename(home.database());
    let mut connection = options.connect().await.expect("open");
    assert_eq!(connection.execute(sql).await.expect("it is changed").rows_affected(), 1);
    connection.close().await.expect("closed");
}

#[tokio::test]
async fn a_batch_that_took_long_to_make_and_is_not_listed_yet_is_not_made_again() {
    for format in FORMATS {
        let one = batching().await;
        one.becomes(|mood| {
            mood.slow_to_say = Duration::from_secs(600);
            mood.unlisted = true;
        });
        let home = Home::new(&yaml(format, &one, ""));
        let process = home.start().await;
        let id = start(&process.url, text(4)).await;
        until_made(&one, 1).await;
        process.kill();
        // Its lines were on their way for a minute.
        change(&home, "UPDATE native_part SET submitted_unix_ms = submitted_unix_ms - 60000").await;
        one.becomes(|mood| mood.slow_to_say = Duration::ZERO);
        let process = home.start().await;
        let seen = one.heads().len();
        until("it is looked for twice", async || one.heads().len() > seen + 1).await;
        one.becomes(|mood| mood.unlisted = false);
        let batch = ended(&process.url, &id).await;
        assert_eq!(batch["request_counts"]["completed"], 4, "{format} {batch}");
        assert_eq!((one.made().len(), one.single()), (1, 0), "{format}");
    }
}

#[tokio::test]
async fn lines_that_were_sealed_with_another_secret_end() {
    let one = batching().await;
    one.becomes(|mood| mood.ends = false);
    let with = |secret: &str| yaml("openai", &one, &format!("auth: {{ secret: {} }}\n", secret.repeat(40)));
    let home = Home::new(&with("a"));
    let process = home.start().await;
    let id = start(&process.url, text(3)).await;
    until_made(&one, 1).await;
    process.kill();
    std::fs::write(home.config(), with("b")).expect("a file");
    let process = home.start().await;
    let batch = ended(&process.url, &id).await;
    assert_eq!(batch["request_counts"], json!({"total": 3, "completed": 0, "failed": 3}), "{batch}");
    assert!(one.made()[0].cancelled, "nobody can read what the provider would answer");
}

#[tokio::test]
async fn what_is_held_for_a_part_stays_held_while_the_part_cannot_be_saved() {
    let one = batching().await;
    one.becomes(|mood| (mood.ends, mood.holds_files) = (false, true));
    // Nobody looks again, and thereby holds again, within the test.
    let config = yaml("openai", &one, "budgets: { total: { month: 0.01 } }").replace("poll: 1s", "poll: 1h");
    let home = Home::new(&config);
    let process = home.start().await;
    let text = [line("a", "auto"), line("b", "auto")]
        .map(|line| line.replace("\"messages\"", "\"max_tokens\":90000,\"messages\""));
    start(&process.url, text.join("\n")).await;
    until("the lines are on their way", async || !one.heads().is_empty()).await;
    // Every two seconds holds of parts are looked through; the part's next phase is saved after two such looks.
    let options = SqliteConnectOptions::new().filename(home.database());
    let mut writer = options.connect().await.expect("open");
    writer.execute("BEGIN IMMEDIATE").await.expect("the lock");
    one.becomes(|mood| mood.holds_files = false);
    tokio::time::sleep(Duration::from_secs(5)).await;
    writer.execute("ROLLBACK").await.expect("unlocked");
    writer.close().await.expect("closed");
    until_made(&one, 1).await;
    let big = json!({"model": "auto", "max_tokens": 60_000, "messages": [{"role": "user", "content": "hi"}]});
    let (status, body) = process.chat("big", &big).await;
    assert_eq!((status, &body["error"]["code"]), (429, &json!("insufficient_quota")), "{body}");
}
