//! `stepwell explain REQUEST_ID`: the stored decision and the attempts of one request.

use std::io::IsTerminal;
use std::path::Path;

use super::{Exit, Outcome, block_on, home, open, print, terminal_width};
use crate::ledger::explain::explain;

pub fn run(request_id: &str, as_json: bool, data_dir: Option<&Path>, config: Option<&Path>) -> Outcome {
    let home = home(data_dir, config)?;
    let row = block_on(async {
        let ledger = open(&home).await?;
        ledger.find(request_id).await.map_err(anyhow::Error::from)
    })??;
    let Some(row) = row else {
        let message = format!("no request `{request_id}` in {}; the id is the answer's x-request-id", home.shown());
        return Err(Exit::new(Exit::FAILED, message));
    };
    if as_json {
        return print(&serde_json::to_string_pretty(&row).map_err(anyhow::Error::from)?);
    }
    print(&explain(&row, terminal_width(), std::io::stdout().is_terminal()))
}
