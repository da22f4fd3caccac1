//! `stepwell route "PROMPT"`: the decision without a call, by the same function that decides for real.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::json;

use super::{Exit, Outcome, block_on, load, print, source, terminal_width};
use crate::chat::Request;
use crate::gateway::Gateway;
use crate::gateway::error::Error;
use crate::gateway::inbound::Inbound;
use crate::gateway::snapshot::Snapshot;
use crate::ledger::Ledger;
use crate::rank::explain::Explanation;
use crate::rank::hints::Hints;
use crate::tenant::Tenant;

/// Excluded targets shown in the text; `--json` has all.
const EXCLUDED_SHOWN: usize = 12;

pub fn run(prompt: &str, config: Option<&Path>, model: &str, hints: &[String], as_json: bool, demo: bool) -> Outcome {
    let parsed = parse(hints)?;
    let body = json!({"model": model, "messages": [{"role": "user", "content": prompt}]}).to_string();
    let request = Request::parse(Bytes::from(body)).map_err(|error| Exit::new(Exit::USAGE, error.to_string()))?;
    let loaded = block_on(load(&source(config, demo)))??;
    let snapshot = Snapshot::compile(loaded.settings, 1).map_err(|problems| {
        Exit::new(Exit::INVALID_CONFIGURATION, problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })?;
    let gateway = Gateway::new(snapshot, Ledger::default());
    let inbound = Inbound {
        request,
        hints: parsed,
        id: "dry-run".into(),
        began: Instant::now(),
        began_unix_ms: 0,
        tenant: Arc::new(Tenant::anonymous()),
        partition: "".into(),
        caller: Default::default(),
        no_store: true,
        refresh: false,
        delivery: std::sync::Arc::default(),
        arrival: Default::default(),
        treatment: None,
    };
    let foreseen = gateway.route(inbound).map_err(|error: Error| Exit::new(Exit::FAILED, error.to_string()))?;
    if as_json {
        let text = serde_json::to_string_pretty(&foreseen).map_err(anyhow::Error::from)?;
        return print(&text);
    }
    let mut shown = text(&foreseen.explanation, terminal_width());
    for hit in foreseen.guards.iter().flatten() {
        shown.push_str(&format!("guard     {} ({}): {}\n", hit.guard, hit.action.as_str(), hit.count));
    }
    print(&shown)
}

fn parse(hints: &[String]) -> Result<Hints, Exit> {
    let mut parsed = Hints::default();
    for hint in hints {
        let (name, value) =
            hint.split_once('=').ok_or_else(|| Exit::new(Exit::USAGE, format!("`--hint {hint}`: write KEY=VALUE")))?;
        parsed.set(name, value).map_err(|error| Exit::new(Exit::USAGE, error.to_string()))?;
    }
    if let Some(unknown) = parsed.unknown.first() {
        let known = Hints::NAMES.join(", ");
        return Err(Exit::new(Exit::USAGE, format!("unknown hint `{unknown}`; one of {known}")));
    }
    Ok(parsed)
}

fn text(explanation: &Explanation, width: usize) -> String {
    let (task, plan) = (&explanation.task, &explanation.plan);
    let mut text = format!("task      {} (confidence {:.2})\n", task.name, task.confidence);
    let signals: Vec<String> =
        task.signals.iter().filter(|signal| signal.task == task.name).map(|signal| signal.label.to_string()).collect();
    if !signals.is_empty() {
        text.push_str(&format!("signals   {}\n", signals.join(", ")));
    }
    let weights = plan.weights;
    text.push_str(&format!(
        "strategy  {} (capability {:.2}, cost {:.2}, latency {:.2})\n\n",
        plan.strategy.as_str(),
        weights.capability,
        weights.cost,
        weights.latency
    ));
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(u16::try_from(width).unwrap_or(u16::MAX));
    table.set_header(["", "target", "score", "skill", "cost", "latency", "about", "first token", "state"]);
    for (place, candidate) in plan.candidates.iter().enumerate() {
        let (estimate, parts) = (&candidate.estimate, candidate.estimate.parts);
        table.add_row([
            format!("{}.", place + 1),
            candidate.target.id.to_string(),
            format!("{:.3}", estimate.score),
            format!("{:.2}", parts.capability),
            format!("{:.2}", parts.cost),
            format!("{:.2}", parts.latency),
            estimate.expected_cost.map_or("unknown".to_owned(), |cost| format!("${:.6}", cost.usd())),
            format!("{} ms", estimate.first_token.as_millis()),
            candidate.availability.as_str().to_owned(),
        ]);
    }
    text.push_str(&table.to_string());
    if !plan.excluded.is_empty() {
        text.push_str("\n\nexcluded\n");
        for excluded in plan.excluded.iter().take(EXCLUDED_SHOWN) {
            text.push_str(&format!("  {}: {}\n", excluded.target.id, excluded.reason));
        }
        if plan.excluded.len() > EXCLUDED_SHOWN {
            text.push_str(&format!("  and {} more (--json shows all)\n", plan.excluded.len() - EXCLUDED_SHOWN));
        }
    }
    format!("{}\n\n{}\n", text.trim_end(), explanation.reason())
}
