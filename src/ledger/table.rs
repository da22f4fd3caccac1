//! Reports as text for a terminal of a given width.
//!
//! Columns that matter less are left out before anything is cut; the JSON and the CSV have them all.

use comfy_table::{CellAlignment, ContentArrangement, Table};

use super::compare::Comparison;
use super::figures::{Style, bar, compact, grouped, money, paint, printable, time};
use super::forecast::{Forecast, Method};
use super::report::{Line, Report, Totals};
use super::usage::Dimension;
use crate::money::NanoUsd;

/// Characters of a bar.
const BAR: usize = 10;

/// A column: its head, how much it matters (0: always shown), its cells.
struct Column {
    head: String,
    weight: u8,
    left: bool,
    cells: Vec<String>,
}

impl Column {
    fn width(&self) -> usize {
        let longest = self.cells.iter().map(|cell| cell.chars().count()).max().unwrap_or(0);
        longest.max(self.head.chars().count())
    }
}

/// A usage report, its total last, then what needs saying about it.
pub fn usage(report: &Report, group_by: &[Dimension], width: usize, color: bool) -> String {
    if report.rows.is_empty() {
        return "no requests in this period\n".to_owned();
    }
    let mut lines: Vec<&Totals> = report.rows.iter().map(|line| &line.totals).collect();
    lines.push(&report.total);
    let mut columns: Vec<Column> = group_by
        .iter()
        .enumerate()
        .map(|(index, dimension)| {
            let last = if index == 0 { "total" } else { "" };
            let cells = report.rows.iter().map(|line| word(line, index)).chain([last.to_owned()]).collect();
            Column { head: dimension.as_str().to_owned(), weight: 0, left: true, cells }
        })
        .collect();
    let figure = |head: &str, weight: u8, cell: fn(&Totals) -> String| Column {
        head: head.to_owned(),
        weight,
        left: false,
        cells: lines.iter().map(|totals| cell(totals)).collect(),
    };
    columns.push(figure("requests", 0, |totals| grouped(totals.requests)));
    columns.push(figure("errors", 3, |totals| none_if_zero(totals.errors)));
    columns.push(figure("hits", 7, |totals| none_if_zero(totals.cache_hits)));
    columns.push(figure("failovers", 8, |totals| none_if_zero(totals.failovers)));
    columns.push(figure("in", 4, |totals| compact(totals.prompt_tokens)));
    columns.push(figure("out", 4, |totals| compact(totals.completion_tokens)));
    columns.push(figure("first p50", 6, |totals| totals.first_token_ms.p50.map(time).unwrap_or_default()));
    columns.push(figure("first p95", 9, |totals| totals.first_token_ms.p95.map(time).unwrap_or_default()));
    columns.push(figure("total p95", 5, |totals| totals.total_ms.p95.map(time).unwrap_or_default()));
    columns.push(figure("saved", 10, |totals| {
        let saved = totals.saved_by_cache_usd + totals.saved_by_routing_usd;
        if saved == NanoUsd::ZERO { String::new() } else { money(saved) }
    }));
    let mut costs = figure("cost", 0, cost);
    costs.cells = aligned(&costs.cells);
    columns.push(costs);
    let mut shares = figure("share", 1, |totals| totals.share.map(share).unwrap_or_default());
    shares.left = true;
    if let Some(total) = shares.cells.last_mut() {
        total.clear();
    }
    columns.push(shares);

    let mut text = layout(columns, width, color);
    for note in notes(report) {
        text.push_str(&paint(&note, Style::Dim, color));
        text.push('\n');
    }
    text
}

/// What the same traffic would have cost elsewhere.
pub fn comparison(comparison: &Comparison, width: usize, color: bool) -> String {
    let rows = &comparison.rows;
    let dearest = comparison.dearest().map_or(0, |row| row.cost_usd.0).max(1) as f64;
    let column = |head: &str, weight, left, cells: Vec<String>| Column { head: head.to_owned(), weight, left, cells };
    let difference = |difference: Option<NanoUsd>| match difference {
        Some(amount) if amount.0 > 0 => format!("+{}", money(amount)),
        Some(amount) => money(amount),
        None => "?".to_owned(),
    };
    let columns = vec![
        column("provider", 0, true, rows.iter().map(|row| printable(&row.provider)).collect()),
        column("model", 0, true, rows.iter().map(|row| printable(&row.model)).collect()),
        column("would cost", 0, false, rows.iter().map(|row| money(row.cost_usd)).collect()),
        column("difference", 1, false, rows.iter().map(|row| difference(row.difference_usd)).collect()),
        column("", 2, true, rows.iter().map(|row| bar(row.cost_usd.0 as f64 / dearest, BAR)).collect()),
    ];
    let paid = format!(
        "paid: {} for {} requests, {} tokens in and {} out; an approximation, for models count tokens differently",
        money(comparison.cost_usd),
        grouped(comparison.requests),
        compact(comparison.prompt_tokens),
        compact(comparison.completion_tokens),
    );
    format!("{}{}\n", layout(columns, width, color), paint(&paid, Style::Dim, color))
}

fn word(line: &Line, index: usize) -> String {
    let word = line.group[index].1.as_deref().unwrap_or("-");
    // `2026-09-21T14:00:00Z` is an hour: the rest of it says nothing.
    let word =
        word.strip_suffix(":00:00Z").map_or_else(|| printable(word), |hour| format!("{}h", hour.replace('T', " ")));
    if line.demo && index == 0 { format!("{word} (demo)") } else { word }
}

fn none_if_zero(number: u64) -> String {
    if number == 0 { String::new() } else { grouped(number) }
}

/// What is unknown says so: alone if nothing is known, behind the known part else.
fn cost(totals: &Totals) -> String {
    match (totals.cost_usd, totals.unpriced_requests) {
        (None, _) => "unknown".to_owned(),
        (Some(cost), 0) => money(cost),
        (Some(cost), _) => format!("{} + unknown", money(cost)),
    }
}

/// An amount as reports write it.
pub fn dollars(amount: NanoUsd) -> String {
    money(amount)
}

/// Amounts with their points below each other, in a column that is flush right.
pub fn aligned(amounts: &[String]) -> Vec<String> {
    // What stands from the point on; a word has no point.
    let fraction = |amount: &str| match amount.starts_with(['$', '-']) {
        true => amount.find('.').map_or(0, |point| amount.chars().count() - point),
        false => 0,
    };
    let widest = amounts.iter().map(|amount| fraction(amount)).max().unwrap_or(0);
    let padded = amounts.iter().map(|amount| match amount.starts_with(['$', '-']) {
        // A no-break space, for a table trims the others.
        true => format!("{amount}{}", "\u{a0}".repeat(widest - fraction(amount))),
        false => amount.clone(),
    });
    padded.collect()
}

fn share(share: f64) -> String {
    format!("{} {:>5.1}%", bar(share, BAR), share * 100.0)
}

/// A forecast in a line.
pub fn foretold(forecast: &Forecast) -> String {
    let Forecast { month, time_zone, month_to_date_usd, days, .. } = forecast;
    let so_far = format!("{month} ({time_zone}): {} so far", money(*month_to_date_usd));
    let ahead = match (forecast.expected_usd, forecast.low_usd, forecast.high_usd, &forecast.reason) {
        (Some(expected), Some(low), Some(high), _) => {
            let method = match forecast.method {
                Some(Method::WeekdayMean) => "mean of each weekday",
                _ => "mean of a day",
            };
            let [expected, low, high] = [expected, low, high].map(money);
            format!("about {expected} at its end ({low} to {high}; {method} over {days} days)")
        }
        (.., reason) => format!("no forecast: {}", reason.as_deref().unwrap_or("nothing is known")),
    };
    let unpriced = match forecast.unpriced_requests {
        0 => String::new(),
        requests => format!("; {} requests without a known price come on top", grouped(requests)),
    };
    format!("{so_far}, {ahead}{unpriced}")
}

fn notes(report: &Report) -> Vec<String> {
    let total = &report.total;
    let mut notes = Vec::new();
    if total.saved_by_cache_usd != NanoUsd::ZERO || total.saved_by_routing_usd != NanoUsd::ZERO {
        let (cache, routing) = (money(total.saved_by_cache_usd), money(total.saved_by_routing_usd));
        notes.push(format!(
            "saved: {cache} by the cache, {routing} by routing, against always using the dearest candidate"
        ));
    }
    if total.unpriced_requests > 0 {
        notes.push(format!(
            "unknown: {} requests went to models without a known price; no amount contains them",
            grouped(total.unpriced_requests)
        ));
    }
    if total.estimated_usage_requests > 0 {
        let requests = grouped(total.estimated_usage_requests);
        notes.push(format!("{requests} requests have estimated token counts: their providers sent none"));
    }
    if let Some(demo) = &report.demo_total {
        notes.push(format!(
            "{} requests were answered by the demo provider; no total counts them",
            grouped(demo.requests)
        ));
    }
    if let Some(forecast) = &report.forecast {
        notes.push(foretold(forecast));
    }
    notes.push(format!("prices without a configured one are of {}", report.catalogue_date));
    notes
}

/// Leaves out columns until the rest fits; if only the indispensable are left, their words are wrapped.
fn layout(mut columns: Vec<Column>, width: usize, color: bool) -> String {
    const GAP: usize = 2;
    columns.retain(|column| column.weight == 0 || column.cells.iter().any(|cell| !cell.trim().is_empty()));
    while columns.iter().map(|column| column.width() + GAP).sum::<usize>() > width + GAP {
        let Some(least) = columns.iter().map(|column| column.weight).max().filter(|weight| *weight > 0) else { break };
        columns.retain(|column| column.weight != least);
    }
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::NOTHING).force_no_tty();
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(u16::try_from(width).unwrap_or(u16::MAX).max(20));
    table.set_header(columns.iter().map(|column| column.head.as_str()));
    let rows = columns.first().map_or(0, |column| column.cells.len());
    for row in 0..rows {
        table.add_row(columns.iter().map(|column| column.cells[row].as_str()));
    }
    for (index, column) in columns.iter().enumerate() {
        if let Some(drawn) = table.column_mut(index) {
            drawn.set_padding((0, if index + 1 < columns.len() { GAP as u16 } else { 0 }));
            drawn.set_cell_alignment(if column.left { CellAlignment::Left } else { CellAlignment::Right });
        }
    }
    let mut text = String::new();
    for (index, line) in table.lines().enumerate() {
        let style = if index == 0 { Some(Style::Bold) } else { None };
        let line = line.trim_end();
        text.push_str(&style.map_or_else(|| line.to_owned(), |style| paint(line, style, color)));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::cell::Cell;
    use super::super::report::Group;
    use super::super::usage::UsageQuery;
    use super::*;

    fn group(labels: [&str; 2], cost: i64, unpriced_requests: u64, demo: bool) -> Group {
        let mut cell =
            Cell { requests: 1_234, cost: NanoUsd(cost), unpriced_requests, prompt_tokens: 45_600, ..Cell::default() };
        cell.total.record(1_500);
        cell.first_token.record(300);
        Group { labels: labels.map(str::to_owned).to_vec(), demo, cell }
    }

    fn report() -> (Report, Vec<Dimension>) {
        let group_by = vec![Dimension::Provider, Dimension::Model];
        let query = UsageQuery { group_by: group_by.clone(), ..UsageQuery::default() };
        let groups = vec![
            group(["groq", "llama-3.3-70b-versatile"], 3_000_000_000, 0, false),
            group(["openai", "gpt-5"], 1_000_000_000, 7, false),
            group(["lab", "new\u{1b}[31m"], 0, 1_234, false),
            group(["demo", "demo"], 0, 0, true),
        ];
        (Report::new(&query, groups), group_by)
    }

    #[test]
    fn a_wide_terminal_shows_everything() {
        let (report, group_by) = report();
        let text = usage(&report, &group_by, 160, false);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].starts_with("provider") && lines[0].contains("first p95") && lines[0].ends_with("share"),
            "{text}"
        );
        assert!(lines[1].contains("groq") && lines[1].contains("$3.00") && lines[1].ends_with("75.0%"), "{text}");
        assert!(lines[2].contains("$1.00 + unknown"), "{text}");
        assert!(lines[3].trim_end().ends_with("unknown") && lines[3].contains("new\u{b7}[31m"), "{text}");
        assert!(lines[4].starts_with("demo (demo)"), "{text}");
        assert!(
            lines[5].starts_with("total") && lines[5].contains("3,702") && lines[5].contains("$4.00 + unknown"),
            "{text}"
        );
        assert!(text.contains("1,241 requests went to models without a known price"), "{text}");
    }

    #[test]
    fn a_narrow_terminal_shows_what_matters_and_nothing_is_wider() {
        let (report, group_by) = report();
        for width in [60, 80, 100, 120] {
            let text = usage(&report, &group_by, width, false);
            let rows = text.lines().take(6);
            assert!(rows.clone().all(|line| line.chars().count() <= width), "{width}:\n{text}");
            assert!(text.contains("requests") && text.contains("$3.00"), "{text}");
        }
        assert!(!usage(&report, &group_by, 80, false).contains("first p95"));
    }

    #[test]
    fn color_is_the_callers_choice() {
        let (report, group_by) = report();
        assert!(!usage(&report, &group_by, 100, false).contains('\u{1b}'));
        assert!(usage(&report, &group_by, 100, true).contains('\u{1b}'));
    }

    #[test]
    fn points_stand_below_each_other() {
        let amounts = ["$1,234.50", "$0.0123", "$7", "unknown"].map(str::to_owned);
        let aligned = aligned(&amounts);
        let after = |amount: &String| amount.chars().rev().position(|c| c == '.');
        assert_eq!((after(&aligned[0]), after(&aligned[1])), (Some(4), Some(4)));
        assert_eq!((aligned[2].chars().count(), aligned[3].as_str()), ("$7".len() + 5, "unknown"));
    }

    #[test]
    fn a_forecast_is_told_with_its_range_and_its_method() {
        let mut forecast = Forecast {
            month: "2026-11".to_owned(),
            time_zone: "UTC".to_owned(),
            month_to_date_usd: NanoUsd(20_000_000_000),
            usd_per_day: Some(NanoUsd(1_000_000_000)),
            expected_usd: Some(NanoUsd(30_000_000_000)),
            low_usd: Some(NanoUsd(28_000_000_000)),
            high_usd: Some(NanoUsd(32_000_000_000)),
            method: Some(Method::WeekdayMean),
            days: 28,
            reason: None,
            unpriced_requests: 0,
        };
        assert_eq!(
            foretold(&forecast),
            "2026-11 (UTC): $20.00 so far, about $30.00 at its end ($28.00 to $32.00; mean of each weekday over 28 days)"
        );
        forecast.expected_usd = None;
        forecast.reason = Some("1 complete days are on record; a forecast needs 3".to_owned());
        forecast.unpriced_requests = 2;
        let text = foretold(&forecast);
        assert!(
            text.contains("no forecast: 1 complete") && text.contains("2 requests without a known price"),
            "{text}"
        );
    }

    #[test]
    fn an_empty_period_says_so() {
        assert_eq!(
            usage(&Report::new(&UsageQuery::default(), Vec::new()), &[], 80, false),
            "no requests in this period\n"
        );
    }
}
