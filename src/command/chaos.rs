//! `stepwell chaos`: proof of failover on one's own configuration.
//!
//! The router runs with the user's providers, models, prices, strategy, breakers and timeouts, but every provider is played
//! by a scripted upstream on this machine: nothing is paid and no key is used. Then each provider breaks in turn, in each
//! way, and callers who would have preferred it tell what they saw. An error that is told is no lie; an answer that looks
//! whole and is not, is one.

mod caller;
mod stage;

use std::path::Path;
use std::time::Duration;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;
use serde_json::json;

use super::{Exit, Outcome, block_on, print, terminal_width};
use crate::config::{self, Loaded, Source, environment};
use caller::Seen;
use stage::Stage;

/// Where no file is: three providers, so that there is something to fail over to.
const SAMPLE: &str = "
providers:
  alpha: { format: openai, base_url: 'http://127.0.0.1:1/v1', models: [ { id: large, price: { input: 2, output: 8 } } ] }
  beta: { format: openai, base_url: 'http://127.0.0.1:1/v1', models: [ { id: medium, price: { input: 1, output: 4 } } ] }
  gamma: { format: openai, base_url: 'http://127.0.0.1:1/v1', models: [ { id: small, price: { input: 0.2, output: 0.8 } } ] }
";

/// A way to break: its name, and the words of the fault. No words: nobody listens, so that connections are refused.
const WAYS: [(&str, Option<&str>); 8] = [
    ("refused", None),
    ("reset", Some("reset")),
    ("503", Some("status=503")),
    ("429", Some("status=429; retry_after=30")),
    ("401", Some("status=401")),
    ("html", Some("body=html")),
    ("cut short", Some("cut_after=5")),
    ("silent", Some("stall")),
];

/// What callers saw while one provider was broken in one way.
#[derive(Debug, Serialize)]
struct Line {
    provider: String,
    fault: &'static str,
    #[serde(flatten)]
    seen: Seen,
    /// Calls that the providers received, all together.
    attempts: usize,
    /// The broken provider's breaker at the end.
    state: String,
}

/// Runs everything and prints the table.
///
/// # Errors
/// The configuration is invalid (3); somebody was told a lie, or an error where another provider was left (1).
pub fn run(config: Option<&Path>, requests: usize, json: bool) -> Outcome {
    if !(2..=1000).contains(&requests) {
        return Err(Exit::new(Exit::USAGE, "--requests is 2 to 1000"));
    }
    let loaded = load(config)?;
    let names = stage::providers(&loaded);
    if names.is_empty() {
        return Err(Exit::new(
            Exit::FAILED,
            "no provider in this configuration lists its models; name them under `models`",
        ));
    }
    eprintln!(
        "{}: {} providers, each played by a scripted upstream; nothing is paid, no key is used",
        loaded.origin,
        names.len()
    );
    let lines = block_on(rehearse(&loaded, &names, requests))??;
    let verdict = verdict(&lines, names.len());
    print(&if json { as_json(&lines, verdict.is_ok()) } else { as_table(&lines) })?;
    if !json && names.len() == 1 {
        eprintln!("there is one provider only: nobody could take over");
    }
    verdict.map_err(|message| Exit::new(Exit::FAILED, message))
}

/// The user's file, or the sample. Keys are not needed, so those that are missing do not matter.
fn load(config: Option<&Path>) -> Result<Loaded, Exit> {
    let env = |name: &str| environment(name).or_else(|| Some("not-needed".to_owned()));
    match config::locate(config, &environment) {
        file @ Source::File(_) => Ok(config::load(&file, &env)?),
        Source::Demo | Source::Detect => {
            eprintln!("there is no configuration file; a sample of three providers is used");
            Ok(config::built_in("sample", SAMPLE)?)
        }
    }
}

async fn rehearse(loaded: &Loaded, names: &[String], requests: usize) -> Result<Vec<Line>, Exit> {
    let mut lines = Vec::new();
    for name in names {
        for (fault, words) in WAYS {
            eprintln!("  {name} {fault} ...");
            // A router of its own for each: what one fault taught it must not help with the next.
            let stage = Stage::open(loaded, name, words).await?;
            let seen = caller::crowd(&stage.url, name, requests, |model| stage.owner(model)).await;
            let (attempts, state) = (stage.attempts(), stage.state(name));
            stage.close().await;
            lines.push(Line { provider: name.clone(), fault, seen, attempts, state });
        }
    }
    Ok(lines)
}

/// What must not be: lies, and errors that another provider would have spared the caller. A stream that was cut after
/// content was delivered cannot be taken over; it has to be told.
fn verdict(lines: &[Line], providers: usize) -> Result<(), String> {
    let lies: usize = lines.iter().map(|line| line.seen.lied).sum();
    if lies > 0 {
        return Err(format!("{lies} answers looked whole and were not; this is a bug in stepwell, please report it"));
    }
    let needless: usize = lines.iter().map(|line| line.seen.errors).sum();
    if providers > 1 && needless > 0 {
        return Err(format!("{needless} requests failed although other providers were well; the table shows where"));
    }
    Ok(())
}

fn as_json(lines: &[Line], ok: bool) -> String {
    json!({"ok": ok, "lines": lines}).to_string()
}

fn as_table(lines: &[Line]) -> String {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(u16::try_from(terminal_width()).unwrap_or(100))
        .set_header([
            "broken",
            "fault",
            "asked",
            "answered",
            "by",
            "cut, told",
            "errors",
            "lies",
            "p50",
            "max",
            "attempts",
            "breaker",
        ]);
    let ms = |duration: Duration| format!("{} ms", duration.as_millis());
    for line in lines {
        let seen = &line.seen;
        let by: Vec<String> = seen.by.iter().map(|(name, count)| format!("{name} {count}")).collect();
        table.add_row([
            line.provider.clone(),
            line.fault.to_owned(),
            seen.asked.to_string(),
            seen.answered.to_string(),
            by.join(", "),
            seen.cut.to_string(),
            seen.errors.to_string(),
            seen.lied.to_string(),
            ms(seen.median),
            ms(seen.longest),
            line.attempts.to_string(),
            line.state.clone(),
        ]);
    }
    for column in [2, 3, 5, 6, 7, 8, 9, 10] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format!("{table}\n")
}
