//! `stepwell usage`: the report, read from the data directory, also beside a running server.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;

use super::{Exit, Outcome, block_on, database, print, terminal_width};
use crate::ledger::Ledger;
use crate::ledger::csv::csv;
use crate::ledger::table;
use crate::ledger::usage::UsageQuery;
use crate::store::sqlite::Sqlite;

#[derive(Clone, Copy)]
pub enum Format {
    Table,
    Csv,
    Json,
}

pub fn run(
    by: &str,
    since: &str,
    until: Option<&str>,
    format: Format,
    data_dir: Option<&Path>,
    config: Option<&Path>,
) -> Outcome {
    let now = jiff::Timestamp::now().as_millisecond();
    let query = UsageQuery::parse(Some(by), Some(since), until, now)
        .map_err(|error| Exit::new(Exit::USAGE, error.to_string()))?;
    let path = database(data_dir, config)?;
    let report = block_on(async {
        let ledger = open(&path).await?;
        ledger.usage(&query).await.map_err(anyhow::Error::from)
    })??;
    let text = match format {
        Format::Table => table::usage(&report, &query.group_by, terminal_width(), std::io::stdout().is_terminal()),
        Format::Csv => csv(&report, &query.group_by),
        Format::Json => serde_json::to_string_pretty(&report).map_err(anyhow::Error::from)?,
    };
    print(&text)
}

/// The ledger in a file that exists, for reading.
pub(super) async fn open(path: &Path) -> anyhow::Result<Ledger> {
    // The writer is not run: nothing is appended here.
    let (ledger, _writer) = Ledger::open(Arc::new(Sqlite::open_existing(path).await?));
    Ok(ledger)
}
