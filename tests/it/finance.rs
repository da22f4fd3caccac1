//! What people who pay the bills see: the report in every form, budgets, forecasts, and a pipeline that stops.

use std::process::Output;
use std::sync::Arc;

use jiff::{Span, Timestamp};
use serde_json::{Value, json};
use stepwell::app;
use stepwell::config::{self, Source};
use stepwell::ledger::journal::Batch;
use stepwell::ledger::record::{Record, Status};
use stepwell::money::NanoUsd;

use crate::support::app::ask;
use crate::support::process::Home;
use crate::support::servers::stores;
use crate::support::upstream;

const DOLLAR: i64 = 1_000_000_000;

const YAML: &str = "
providers:
  one: { format: openai, base_url: 'http://127.0.0.1:1/v1', models: [ { id: m1, price: free } ] }
budgets: { total: { month: 5000, day: 1000 } }
teams: { search: { budget: { month: 3 } }, idle: { budget: { month: 7 } } }
";

/// A request of `days` ago at the cost of so many billionths of a dollar, or at an unknown one.
fn row(days: i64, model: &str, cost: Option<i64>) -> Record {
    let now = Timestamp::now();
    let started = now.checked_sub(Span::new().hours(24 * days)).expect("a time");
    let mut record = Record::new(format!("r{days}{model}").into(), started.as_millisecond());
    record.provider = "one".into();
    record.model = model.to_owned();
    record.team = Some("search".into());
    record.key = Some("k".into());
    record.status = Status::Completed;
    record.cost = cost.map(NanoUsd);
    record
}

/// A home whose ledger has these rows.
async fn home(yaml: &str, rows: Vec<Record>) -> Home {
    let home = Home::new(yaml);
    let source = Source::File(home.config());
    let settings = config::load(&source, &|_| None).expect("a configuration").settings;
    let store = app::home(&settings.storage, Some(&home.data())).expect("a home").open().await.expect("a store");
    let records = rows.into_iter().map(Arc::new).collect();
    store.journal().append(&Batch { run: 1, number: 1, records }).await.expect("rows");
    store.close().await;
    home
}

fn stepwell(home: &Home, arguments: &[&str]) -> Output {
    let mut command = home.command();
    command.args(arguments).arg("--data-dir").arg(home.data()).output().expect("output")
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

/// Python's own reader of CSV: rows by column.
fn python(bytes: &[u8], encoding: &str) -> Option<Value> {
    let script = format!(
        "import csv, io, json, sys\nrows = list(csv.DictReader(io.StringIO(sys.stdin.buffer.read().decode('{encoding}'), newline='')))\nprint(json.dumps(rows))"
    );
    let mut child = std::process::Command::new("python3")
        .args(["-c", &script])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .ok()?;
    std::io::Write::write_all(&mut child.stdin.take()?, bytes).ok()?;
    serde_json::from_slice(&child.wait_with_output().ok()?.stdout).ok()
}

#[tokio::test]
async fn a_spreadsheet_reads_back_what_the_report_says_and_runs_none_of_it() {
    let formula = "=HYPERLINK(\"http://evil.example\",\"a, b\")\r\nsecond";
    let home =
        home(YAML, vec![row(0, formula, Some(1_500_000_000)), row(0, "naïve-模型", None), row(0, "m1", Some(1))]).await;
    let arguments = ["usage", "--by", "model,team,day", "--format"];
    let report: Value =
        serde_json::from_str(&text(&stepwell(&home, &[&arguments[..], &["json"]].concat()))).expect("json");
    for (format, encoding) in [("csv", "utf-8"), ("excel", "utf-8-sig")] {
        let output = stepwell(&home, &[&arguments[..], &[format]].concat());
        let bytes = text(&output).into_bytes();
        assert_eq!(bytes.starts_with(b"\xef\xbb\xbf"), format == "excel");
        let Some(rows) = python(&bytes, encoding) else {
            eprintln!("SKIPPED: there is no python3");
            continue;
        };
        let rows = rows.as_array().expect("rows");
        assert_eq!(rows.len(), 3);
        for (line, wanted) in rows.iter().zip(report["rows"].as_array().expect("rows")) {
            let model = wanted["model"].as_str().expect("a model");
            let shown = if model.starts_with('=') { format!("'{model}") } else { model.to_owned() };
            assert_eq!(line["model"], shown);
            let cost: Option<f64> = line["cost_usd"].as_str().expect("text").parse().ok();
            assert_eq!(cost, wanted["cost_usd"].as_f64(), "{line}");
            assert_eq!(line["cost_status"], if cost.is_none() { "unknown" } else { "known" });
            assert!(line["day"].as_str().is_some_and(|day| day.parse::<jiff::civil::Date>().is_ok()), "{line}");
        }
    }
}

#[tokio::test]
async fn the_table_says_what_is_unknown_and_what_is_to_come() {
    for storage in stores().await {
        let mut rows: Vec<Record> = (0..20).map(|day| row(day, "m1", Some(DOLLAR))).collect();
        rows.push(row(1, "new", None));
        let home = home(&format!("{YAML}{storage}"), rows).await;
        let table = text(&stepwell(&home, &["usage", "--by", "model", "--since", "30d"]));
        let line = |start: &str| {
            table.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}: {table}"))
        };
        assert!(line("new").contains("unknown") && !line("new").contains("$0"), "{table}");
        assert!(line("total").contains("$20.00 + unknown"), "{table}");
        assert!(table.contains(" so far, about $") && table.contains("mean of each weekday over 1"), "{table}");
        let report: Value =
            serde_json::from_str(&text(&stepwell(&home, &["usage", "--format", "json", "--team", "nobody"])))
                .expect("json");
        assert_eq!(report["forecast"]["expected_usd"], Value::Null);
        assert!(
            report["forecast"]["reason"].as_str().is_some_and(|reason| reason.starts_with("0 complete days")),
            "{report}"
        );
    }
}

#[tokio::test]
async fn a_pipeline_stops_when_it_costs_more_than_it_may() {
    for storage in stores().await {
        let home = home(&format!("{YAML}{storage}"), vec![row(0, "m1", Some(2 * DOLLAR)), row(0, "new", None)]).await;
        for (arguments, code, said) in [
            (&["--fail-over", "2"][..], 0, "1 more requests have no known price"),
            (&["--fail-over", "1.999"][..], 1, "the known cost since 7d is $2, above --fail-over $1.999; 1 more"),
            (&["--fail-over", "$5", "--fail-unpriced"][..], 1, "1 requests since 7d have no known price"),
            (&["--fail-unpriced", "--team", "other"][..], 0, ""),
            (&["--fail-over", "-1"][..], 2, "is not an amount in USD"),
        ] {
            let output = stepwell(&home, &[&["usage"][..], arguments].concat());
            let errors = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
            assert!(errors.contains(said), "{arguments:?}: {errors}");
            assert_eq!(output.stdout.is_empty(), code == 2, "the report is there all the same");
        }
    }
}

#[tokio::test]
async fn budgets_show_what_is_left_and_when_it_ends() {
    for storage in stores().await {
        let home = home(&format!("{YAML}{storage}"), (0..20).map(|day| row(day, "m1", Some(DOLLAR))).collect()).await;
        let list: Value = serde_json::from_str(&text(&stepwell(&home, &["budgets", "--json"]))).expect("json");
        let find = |scope: &str, name: &str, period: &str| {
            let all = list["data"].as_array().expect("a list").iter();
            let mut found = all.filter(|one| one["scope"] == scope && one["name"] == name && one["period"] == period);
            found.next().cloned().unwrap_or_else(|| panic!("{scope} {name}: {list:#}"))
        };
        let total = find("total", "", "month");
        let spent = total["spent_usd"].as_f64().expect("an amount");
        assert_eq!(total["left_usd"].as_f64(), Some(5000.0 - spent));
        assert_eq!((&total["held_usd"], &total["reaches_limit_on"]), (&Value::Null, &Value::Null));
        assert!(total["expected_usd"].as_f64() >= Some(spent) && total["resets_at"].as_str().is_some(), "{total}");
        assert_eq!(find("total", "", "day")["expected_usd"], Value::Null, "a day is over before it could be foretold");
        let search = find("team", "search", "month");
        assert_eq!(search["spent_usd"], total["spent_usd"]);
        // What is used up on the third of a month is not yet on its first: then it is foretold.
        let day = search["reaches_limit_on"].as_str().map(|day| day.parse::<jiff::civil::Date>().expect("a day"));
        let today = Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
        assert!(day.is_some_and(|day| day >= today), "{search}");
        assert_eq!(find("team", "idle", "month")["share"], 0.0);
        let table = text(&stepwell(&home, &["budgets"]));
        assert!(table.contains("search") && table.contains("GET /v1/budgets"), "{table}");
    }
}

#[tokio::test]
async fn the_api_forecasts_and_filters_for_whoever_asks() {
    let one = upstream().await;
    let yaml = "
providers:
  one: { format: openai, base_url: '{0}', models: [ { id: m1, price: { input: 0, output: 100000 } } ] }
cache: { enabled: false }
";
    let app = crate::support::app(yaml, &[&one]).await;
    let [a, b] = [app.key(json!({"name": "a", "team": "x"})).await, app.key(json!({"name": "b", "team": "y"})).await];
    for key in [&a, &b] {
        assert_eq!(app.chat_as(key, &ask("hi")).await.0, 200);
    }
    let all = app.get("/v1/usage?team=x").await;
    assert_eq!((&all["total"]["requests"], &all["forecast"]["month_to_date_usd"]), (&json!(1), &json!(0.3)), "{all}");
    assert!(all["forecast"]["reason"].as_str().is_some() && all["forecast"]["time_zone"] == "UTC", "{all}");
    let (_, own) = app.get_as(&a, "/v1/usage?team=y").await;
    assert_eq!(own["total"]["requests"], 0, "a member asks about itself, whatever it asks");
    assert_eq!(app.get_as(&a, "/v1/usage?key=b").await.1["forecast"]["month_to_date_usd"], 0.3);
}
