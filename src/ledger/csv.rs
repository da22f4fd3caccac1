//! Reports for spreadsheets: RFC 4180 in UTF-8, money as plain decimals in US dollars with a point, days as ISO 8601.
//!
//! What is unknown is an empty field, never 0, so that sums and averages pass it by; the column `cost_status` says it in a
//! word. A field that a spreadsheet would run as a formula begins with an apostrophe, for names come from users.

use super::report::{Line, Report, Totals};
use super::usage::Dimension;
use crate::money::{NanoUsd, decimal};

/// The columns after the groups' own.
const FIGURES: [&str; 20] = [
    "demo",
    "requests",
    "errors",
    "cache_hits",
    "failovers",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "estimated_usage_requests",
    "cost_usd",
    "unpriced_requests",
    "cost_status",
    "share",
    "saved_by_cache_usd",
    "saved_by_routing_usd",
    "first_token_ms_p50",
    "first_token_ms_p95",
    "total_ms_p50",
    "total_ms_p95",
    "catalogue_date",
];

/// What tells Excel that a file is UTF-8; without it, it takes letters beyond ASCII for others. Every other reader would
/// find it in the name of the first column, so it is for Excel only.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// The same for a double click in Excel.
pub fn excel(report: &Report, group_by: &[Dimension]) -> String {
    format!("{BYTE_ORDER_MARK}{}", csv(report, group_by))
}

/// One line per row, without the totals: a spreadsheet adds up by itself.
pub fn csv(report: &Report, group_by: &[Dimension]) -> String {
    let header = group_by.iter().map(|dimension| dimension.as_str()).chain(FIGURES);
    let mut text = record(header.map(str::to_owned));
    for line in &report.rows {
        let groups = line.group.iter().map(|(_, value)| value.clone().unwrap_or_default());
        text += &record(groups.chain(figures(line)).chain([report.catalogue_date.to_owned()]));
    }
    text
}

fn figures(line: &Line) -> Vec<String> {
    fn optional<T: ToString>(value: Option<T>) -> String {
        value.map(|value| value.to_string()).unwrap_or_default()
    }
    let money = |amount: Option<NanoUsd>| amount.map(decimal).unwrap_or_default();
    let totals = &line.totals;
    vec![
        line.demo.to_string(),
        totals.requests.to_string(),
        totals.errors.to_string(),
        totals.cache_hits.to_string(),
        totals.failovers.to_string(),
        totals.prompt_tokens.to_string(),
        totals.completion_tokens.to_string(),
        totals.cached_tokens.to_string(),
        totals.estimated_usage_requests.to_string(),
        money(totals.cost_usd),
        totals.unpriced_requests.to_string(),
        status(totals).to_owned(),
        optional(totals.share),
        money(Some(totals.saved_by_cache_usd)),
        money(Some(totals.saved_by_routing_usd)),
        optional(totals.first_token_ms.p50),
        optional(totals.first_token_ms.p95),
        optional(totals.total_ms.p50),
        optional(totals.total_ms.p95),
    ]
}

/// How much of the cost is known.
fn status(totals: &Totals) -> &'static str {
    match (totals.cost_usd, totals.unpriced_requests) {
        (_, 0) => "known",
        (Some(_), _) => "partly known",
        (None, _) => "unknown",
    }
}

fn record(fields: impl Iterator<Item = String>) -> String {
    let mut line = fields.map(quoted).collect::<Vec<_>>().join(",");
    line.push_str("\r\n");
    line
}

/// Quoted where RFC 4180 asks for it. A callers' word that a spreadsheet would run as a formula gets an apostrophe.
fn quoted(field: String) -> String {
    // The wide forms too: a spreadsheet with an East Asian input method takes them for the narrow ones.
    let formula = field.starts_with(['=', '+', '@', '\t', '\r', '\n', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'])
        || field.starts_with('-') && field.parse::<f64>().is_err();
    let field = if formula { format!("'{field}") } else { field };
    if field.contains(['"', ',', '\r', '\n']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field }
}

#[cfg(test)]
mod tests {
    use super::super::cell::Cell;
    use super::super::report::Group;
    use super::super::usage::UsageQuery;
    use super::*;

    fn group(model: &str, cost: i64, unpriced_requests: u64) -> Group {
        let mut cell = Cell { requests: 2, cost: NanoUsd(cost), unpriced_requests, ..Cell::default() };
        cell.total.record(20);
        Group { labels: vec![model.to_owned()], demo: false, cell }
    }

    #[test]
    fn whatever_a_name_begins_with_it_is_no_formula() {
        for name in ["=1+1", "+1", "-cmd", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\u{ff1d}1"] {
            assert!(quoted(name.to_owned()).trim_start_matches('"').starts_with('\''), "{name:?}");
        }
        for (number, text) in [("-1.5", "-1.5"), ("a=b", "a=b"), ("2026-11-21", "2026-11-21")] {
            assert_eq!(quoted(number.to_owned()), text);
        }
    }

    #[test]
    fn fields_are_quoted_and_the_unknown_is_empty() {
        let query = UsageQuery { group_by: vec![Dimension::Model], ..UsageQuery::default() };
        let report = Report::new(&query, vec![group("a,\"b\"", 1_500, 0), group("=cmd()", 0, 2)]);
        let csv = csv(&report, &query.group_by);
        let lines: Vec<&str> = csv.split_terminator("\r\n").collect();
        assert!(lines[0].starts_with("model,demo,requests,errors,") && lines[0].ends_with(",catalogue_date"));
        assert!(
            lines[1].starts_with("\"a,\"\"b\"\"\",false,2,0,0,0,0,0,0,0,0.0000015,0,known,1,0,0,,,20,20,"),
            "{}",
            lines[1]
        );
        assert!(lines[2].starts_with("'=cmd(),false,2,0,0,0,0,0,0,0,,2,unknown,,0,0,"), "{}", lines[2]);
        for line in &lines[2..] {
            assert_eq!(line.split(',').count(), 1 + FIGURES.len());
        }
    }
}
