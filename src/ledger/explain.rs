//! One request as text: what was asked, what was decided and why, what was tried, what it cost. `stepwell explain`.

use std::fmt::Write as _;

use serde_json::Value;

use super::figures::{Style, grouped, money, paint, printable, time};
use super::record::{AttemptRow, Status};
use super::row::Row;
use crate::money::NanoUsd;

/// Left edge of what belongs to a heading.
const INDENT: usize = 2;

/// The whole story of a stored request. A decision that cannot be read is left out; the rest stands in the row.
pub fn explain(row: &Row, width: usize, color: bool) -> String {
    let mut page = Page { text: String::new(), width: width.max(40), color };
    opening(&mut page, row);
    let decision: Option<Value> = row.decision.as_ref().and_then(|json| serde_json::from_str(json.get()).ok());
    match &decision {
        Some(decision) => decided(&mut page, row, decision),
        None => page.paragraph("Decision", "nothing was ranked for this request"),
    }
    attempts(&mut page, &row.attempts);
    page.text
}

fn opening(page: &mut Page, row: &Row) {
    let style = if row.status == Status::Completed { Style::Green } else { Style::Red };
    let status = page.paint(row.status.as_str(), style);
    let id = page.paint(&printable(&row.id), Style::Bold);
    let _ = write!(page.text, "{id}  {status} ({}) after {}", row.http_status, time(row.total_ms));
    if let Some(first_token_ms) = row.first_token_ms {
        let _ = write!(page.text, ", first token after {}", time(first_token_ms));
    }
    page.text.push('\n');
    let key = row.key.as_deref().map(|key| format!(" by key {}", printable(key))).unwrap_or_default();
    let stream = if row.stream { ", streamed" } else { "" };
    page.line(&format!("{}: asked for `{}`{key}{stream}", row.started, printable(&row.asked_model)));
    if let Some(error) = &row.error {
        page.line(&format!("error: {}", printable(error)));
    }
    if !row.provider.is_empty() {
        let target = printable(&format!("{}/{}", row.provider, row.model));
        let verb = if matches!(row.status, Status::Failed) { "asked last" } else { "answered" };
        let demo = if row.demo { " (demo: no real model, not in any total)" } else { "" };
        page.line(&format!("{target} {verb}, cache {}{demo}", row.cache.as_str()));
    }
    page.line(&spent(row));
    if !row.reason.is_empty() {
        page.line(&format!("why: {}", printable(&row.reason)));
    }
    if let Some(trace_id) = &row.trace_id {
        page.line(&format!("trace: {}", printable(trace_id)));
    }
}

fn spent(row: &Row) -> String {
    let mut text = format!("{} tokens in", grouped(row.prompt_tokens));
    if row.cached_tokens > 0 {
        let _ = write!(text, " ({} cached)", grouped(row.cached_tokens));
    }
    let _ = write!(text, ", {} out", grouped(row.completion_tokens));
    if row.reasoning_tokens > 0 {
        let _ = write!(text, " ({} reasoning)", grouped(row.reasoning_tokens));
    }
    if row.estimated_usage {
        text.push_str(", counted by us");
    }
    if let Some(tier) = &row.service_tier {
        let _ = write!(text, "; service tier {}", printable(tier));
    }
    match row.cost_usd {
        Some(cost) => drop(write!(text, "; cost {cost}")),
        None => text.push_str("; cost unknown: the model has no known price"),
    }
    for (saved, by) in [(row.saved_by_cache_usd, "the cache"), (row.saved_by_routing_usd, "routing")] {
        if let Some(saved) = saved.filter(|saved| *saved != NanoUsd::ZERO) {
            let _ = write!(text, ", {} saved by {by}", money(saved));
        }
    }
    text
}

fn decided(page: &mut Page, row: &Row, decision: &Value) {
    page.heading("Task");
    let sure = (row.task_confidence * 100.0).round();
    page.line(&format!("{} ({sure} % sure), strategy {}", printable(&row.task), printable(&row.strategy)));
    for signal in list(decision, "signals") {
        let weight = signal["weight"].as_f64().unwrap_or_default();
        page.line(&format!("{weight:+.2} {}: {}", word(signal, "task"), word(signal, "label")));
    }

    let candidates = list(decision, "candidates");
    if !candidates.is_empty() {
        page.heading("Candidates");
        let widest = candidates.iter().map(|candidate| target(candidate).chars().count()).max().unwrap_or(0);
        for (index, candidate) in candidates.iter().enumerate() {
            let name = target(candidate);
            // The figures go to a line of their own where the terminal is too narrow for both.
            let figures = candidate_figures(candidate);
            let head = format!("{:>2}  {name:<widest$}", index + 1);
            if INDENT + head.chars().count() + 2 + figures.chars().count() <= page.width {
                page.line(&format!("{head}  {figures}"));
            } else {
                page.line(head.trim_end());
                page.nested(&figures);
            }
        }
    }
    let excluded = list(decision, "excluded");
    if !excluded.is_empty() {
        page.heading("Excluded");
        for excluded in excluded {
            page.line(&format!("{}: {}", target(excluded), word(excluded, "reason")));
        }
    }
}

fn candidate_figures(candidate: &Value) -> String {
    let number = |value: &Value| value.as_f64().map_or_else(|| "-".to_owned(), |number| format!("{number:.2}"));
    let parts = &candidate["parts"];
    let cost = candidate["estimated_cost_usd"].as_f64().and_then(NanoUsd::from_usd);
    let first_token = candidate["estimated_first_token_ms"].as_u64();
    format!(
        "score {}  capability {}  cost {}  latency {}  ~{}  ~{}  {}",
        number(&candidate["score"]),
        number(&parts["capability"]),
        number(&parts["cost"]),
        number(&parts["latency"]),
        cost.map_or_else(|| "$?".to_owned(), money),
        first_token.map_or_else(|| "? ms".to_owned(), time),
        word(candidate, "state"),
    )
}

fn attempts(page: &mut Page, attempts: &[AttemptRow]) {
    page.heading("Attempts");
    if attempts.is_empty() {
        page.line("none: no provider was asked");
    }
    for (index, attempt) in attempts.iter().enumerate() {
        let outcome = match &attempt.kind {
            None => page.paint("answered", Style::Green),
            Some(kind) => page.paint(&printable(kind), Style::Red),
        };
        let status = attempt.status.map(|status| format!(" ({status})")).unwrap_or_default();
        let target = printable(&format!("{}/{}", attempt.provider, attempt.model));
        let (started, took) = (time(attempt.started_ms), time(attempt.duration_ms));
        page.line(&format!("{:>2}  {target} {outcome}{status}: began at {started}, took {took}", index + 1));
        if let Some(message) = &attempt.message {
            page.nested(&printable(message));
        }
    }
}

fn list<'a>(decision: &'a Value, member: &str) -> &'a [Value] {
    decision[member].as_array().map_or(&[], Vec::as_slice)
}

fn word(value: &Value, member: &str) -> String {
    printable(value[member].as_str().unwrap_or("-"))
}

fn target(value: &Value) -> String {
    format!("{}/{}", word(value, "provider"), word(value, "model"))
}

struct Page {
    text: String,
    width: usize,
    color: bool,
}

impl Page {
    fn paint(&self, text: &str, style: Style) -> String {
        paint(text, style, self.color)
    }

    fn heading(&mut self, heading: &str) {
        let heading = self.paint(heading, Style::Bold);
        let _ = write!(self.text, "\n{heading}\n");
    }

    fn paragraph(&mut self, heading: &str, text: &str) {
        self.heading(heading);
        self.line(text);
    }

    fn line(&mut self, text: &str) {
        self.wrapped(text, INDENT, INDENT + 4);
    }

    /// Belongs to the line above.
    fn nested(&mut self, text: &str) {
        self.wrapped(text, INDENT + 4, INDENT + 4);
    }

    /// Breaks at spaces; a word longer than the line stands alone and may be wider than the page.
    fn wrapped(&mut self, text: &str, first: usize, rest: usize) {
        let leading = text.chars().take_while(|c| *c == ' ').count();
        let mut column = first + leading;
        self.text.push_str(&" ".repeat(column));
        let mut empty = true;
        for piece in text.trim_start().split(' ') {
            let length = visible(piece);
            if !empty && column + 1 + length > self.width && length > 0 {
                self.text.truncate(self.text.trim_end_matches(' ').len());
                let _ = write!(self.text, "\n{}", " ".repeat(rest));
                column = rest;
            } else if !empty {
                self.text.push(' ');
                column += 1;
            }
            self.text.push_str(piece);
            column += length;
            empty = false;
        }
        self.text.push('\n');
    }
}

/// Characters that take room: not those of an escape sequence.
fn visible(text: &str) -> usize {
    let mut escaped = false;
    text.chars()
        .filter(|c| {
            let starts = *c == '\u{1b}';
            let hidden = escaped || starts;
            escaped = starts || escaped && *c != 'm';
            !hidden
        })
        .count()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::record::{CacheUse, Decision, Record};
    use super::*;

    struct Told;

    impl Decision for Told {
        fn json(&self) -> String {
            serde_json::json!({
                "task": "coding",
                "signals": [{"task": "coding", "label": "a code block", "weight": 1.5}],
                "candidates": [
                    {"provider": "groq", "model": "llama", "score": 0.8123, "state": "closed",
                     "parts": {"capability": 0.7, "cost": 0.9, "latency": 1.0},
                     "estimated_cost_usd": 0.0012, "estimated_first_token_ms": 210},
                    {"provider": "lab", "model": "new", "score": 0.5, "state": "closed",
                     "parts": {"capability": 0.7, "cost": 0.9, "latency": 1.0},
                     "estimated_cost_usd": null, "estimated_first_token_ms": 900},
                ],
                "excluded": [{"provider": "openai", "model": "gpt-5", "reason": "named in hint `avoid`"}],
            })
            .to_string()
        }
    }

    fn attempt(provider: &str, status: u16, kind: Option<&str>, started_ms: u64) -> AttemptRow {
        AttemptRow {
            provider: provider.to_owned(),
            model: "llama".to_owned(),
            status: Some(status),
            kind: kind.map(str::to_owned),
            started_ms,
            duration_ms: 85,
            message: kind.map(|_| "slow down, please".to_owned()),
            ..AttemptRow::default()
        }
    }

    fn row() -> Row {
        Row::of(&Record {
            asked_model: "auto\u{1b}]0;gotcha".to_owned(),
            status: Status::Completed,
            http_status: 200,
            task: "coding".into(),
            task_confidence: 0.834,
            strategy: "balanced",
            provider: "groq".into(),
            model: "llama".to_owned(),
            cache: CacheUse::Miss,
            attempts: vec![attempt("lab", 429, Some("rate_limited"), 3), attempt("groq", 200, None, 90)],
            prompt_tokens: 12_345,
            cost: None,
            total_ms: 1_250,
            reason: "groq/llama scores best for coding".to_owned(),
            decision: Some(Arc::new(Told)),
            ..Record::new("req-1".into(), 1_790_000_000_000)
        })
    }

    #[test]
    fn the_whole_story_is_told_in_order() {
        let text = explain(&row(), 120, false);
        let mut rest = text.as_str();
        for part in [
            "req-1  completed (200) after 1.25 s",
            "2026-09-21T14:13:20Z: asked for `auto\u{b7}]0;gotcha`",
            "groq/llama answered, cache miss",
            "12,345 tokens in, 0 out; cost unknown: the model has no known price",
            "why: groq/llama scores best for coding",
            "coding (83 % sure), strategy balanced",
            "+1.50 coding: a code block",
            "Candidates",
            " 1  groq/llama  score 0.81  capability 0.70  cost 0.90  latency 1.00  ~$0.0012  ~210 ms  closed",
            " 2  lab/new     score 0.50  capability 0.70  cost 0.90  latency 1.00  ~$?  ~900 ms  closed",
            "openai/gpt-5: named in hint `avoid`",
            "Attempts",
            " 1  lab/llama rate_limited (429): began at 3 ms, took 85 ms",
            "slow down, please",
            " 2  groq/llama answered (200): began at 90 ms, took 85 ms",
        ] {
            let at = rest.find(part).unwrap_or_else(|| panic!("`{part}` is missing or out of order in:\n{text}"));
            rest = &rest[at + part.len()..];
        }
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn it_fits_the_terminal_with_and_without_color() {
        for (width, color) in [(48, false), (48, true), (80, true)] {
            let text = explain(&row(), width, color);
            assert!(text.lines().all(|line| visible(line) <= width), "{width}:\n{text}");
        }
    }

    #[test]
    fn a_request_that_nobody_ranked_reads_well_too() {
        let record = Record { status: Status::Rejected, http_status: 400, ..Record::new("bad".into(), 0) };
        let text = explain(&Row::of(&record), 80, false);
        assert!(
            text.contains("rejected (400)")
                && text.contains("nothing was ranked")
                && text.contains("none: no provider")
        );
    }
}
