//! `stepwell usage`: the report, read from the data directory, also beside a running server.

use std::io::IsTerminal;
use std::path::PathBuf;

use jiff::tz::TimeZone;

use super::keys::{Place, settings};
use super::{Exit, Outcome, block_on, home, open, print, terminal_width};
use crate::ledger::csv::{csv, excel};
use crate::ledger::report::Totals;
use crate::ledger::table;
use crate::ledger::usage::UsageQuery;
use crate::money::NanoUsd;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Table,
    Csv,
    /// CSV with the byte order mark that Excel needs.
    Excel,
    Json,
}

/// The question, in the words of the command line.
pub struct Options {
    pub by: String,
    pub since: String,
    pub until: Option<String>,
    pub key: Option<String>,
    pub team: Option<String>,
    pub tag: Option<String>,
    pub format: Format,
    pub gate: Gate,
    pub data_dir: Option<PathBuf>,
    pub config: Option<PathBuf>,
}

/// What makes the command fail although it could report: for a pipeline that is to stop.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gate {
    /// The known cost may not be above.
    pub most: Option<NanoUsd>,
    /// Every request must have a known price.
    pub all_priced: bool,
}

pub fn run(options: Options) -> Outcome {
    let Options { by, since, until, key, team, tag, format, gate, data_dir, config } = options;
    let now = jiff::Timestamp::now();
    let mut query = UsageQuery::parse(Some(&by), Some(&since), until.as_deref(), now.as_millisecond())
        .map_err(|error| Exit::new(Exit::USAGE, error.to_string()))?;
    (query.key, query.team, query.tag) = (key, team, tag);
    let home = home(data_dir.as_deref(), config.as_deref())?;
    let place = Place { config, data_dir, json: false };
    // A configuration with problems is no reason to hide what was spent.
    let zone = settings(&place).ok().and_then(|settings| TimeZone::get(&settings.tenants.budgets.time_zone).ok());
    let now = now.to_zoned(zone.unwrap_or(TimeZone::UTC));
    let report = block_on(async {
        let ledger = open(&home).await?;
        let mut report = ledger.usage(&query).await?;
        if matches!(format, Format::Table | Format::Json) {
            report.forecast = Some(ledger.forecast(&query, &now).await?);
        }
        anyhow::Ok(report)
    })??;
    let text = match format {
        Format::Table => table::usage(&report, &query.group_by, terminal_width(), std::io::stdout().is_terminal()),
        Format::Csv => csv(&report, &query.group_by),
        Format::Excel => excel(&report, &query.group_by),
        Format::Json => serde_json::to_string_pretty(&report).map_err(anyhow::Error::from)?,
    };
    print(&text)?;
    gate.check(&report.total, &since)
}

impl Gate {
    /// Requests without a known price have cost something that nobody can compare: they are named, and fail only where
    /// that was asked for.
    fn check(&self, total: &Totals, since: &str) -> Outcome {
        let cost = total.cost_usd.unwrap_or_default();
        let unpriced = total.unpriced_requests;
        let beside = match unpriced {
            0 => String::new(),
            _ => format!("; {unpriced} more requests have no known price and are not in it"),
        };
        if let Some(most) = self.most.filter(|most| cost > *most) {
            let message = format!("the known cost since {since} is {cost}, above --fail-over {most}{beside}");
            return Err(Exit::new(Exit::FAILED, message));
        }
        if self.all_priced && unpriced > 0 {
            let message = format!(
                "{unpriced} requests since {since} have no known price (--fail-unpriced); write `price` at their models, or group by model to see which"
            );
            return Err(Exit::new(Exit::FAILED, message));
        }
        if self.most.is_some() && unpriced > 0 {
            eprintln!("stepwell: the known cost is {cost}{beside}; --fail-unpriced makes that a failure");
        }
        Ok(())
    }
}
