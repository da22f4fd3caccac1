//! Reports for spreadsheets: RFC 4180, money as plain decimals in US dollars, an empty field for what is unknown.

use super::report::{Line, Report};
use super::usage::Dimension;
use crate::money::{NanoUsd, decimal};

/// The columns after the groups' own.
const FIGURES: [&str; 19] = [
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
    "share",
    "saved_by_cache_usd",
    "saved_by_routing_usd",
    "first_token_ms_p50",
    "first_token_ms_p95",
    "total_ms_p50",
    "total_ms_p95",
    "catalogue_date",
];

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
        optional(totals.share),
        money(Some(totals.saved_by_cache_usd)),
        money(Some(totals.saved_by_routing_usd)),
        optional(totals.first_token_ms.p50),
        optional(totals.first_token_ms.p95),
        optional(totals.total_ms.p50),
        optional(totals.total_ms.p95),
    ]
}

fn record(fields: impl Iterator<Item = String>) -> String {
    let mut line = fields.map(quoted).collect::<Vec<_>>().join(",");
    line.push_str("\r\n");
    line
}

/// Quoted where RFC 4180 asks for it. A callers' word that a spreadsheet would run as a formula gets an apostrophe.
fn quoted(field: String) -> String {
    let formula = field.starts_with(['=', '+', '@', '\t']) || field.starts_with('-') && field.parse::<f64>().is_err();
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
    fn fields_are_quoted_and_the_unknown_is_empty() {
        let query = UsageQuery { group_by: vec![Dimension::Model], ..UsageQuery::default() };
        let report = Report::new(&query, vec![group("a,\"b\"", 1_500, 0), group("=cmd()", 0, 2)]);
        let csv = csv(&report, &query.group_by);
        let lines: Vec<&str> = csv.split_terminator("\r\n").collect();
        assert!(lines[0].starts_with("model,demo,requests,errors,") && lines[0].ends_with(",catalogue_date"));
        assert!(lines[1].starts_with("\"a,\"\"b\"\"\",false,2,0,0,0,0,0,0,0,0.0000015,0,1,0,0,,,20,20,"), "{}", lines[1]);
        assert!(lines[2].starts_with("'=cmd(),false,2,0,0,0,0,0,0,0,,2,,0,0,"), "{}", lines[2]);
        for line in &lines[2..] {
            assert_eq!(line.split(',').count(), 1 + FIGURES.len());
        }
    }
}
