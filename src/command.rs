//! The commands, one file each. Results go to standard output, everything else to standard error.

pub mod batch;
pub mod bench;
pub mod budgets;
pub mod chaos;
pub mod chat;
pub mod check;
pub mod demo;
pub mod events;
pub mod explain;
pub mod health;
pub mod import;
pub mod init;
pub mod jobs;
pub mod keys;
pub mod models;
pub mod route;
pub mod serve;
pub mod usage;

use std::io::Write;
use std::path::Path;

use crate::config::{self, Loaded, Source, environment};
use crate::ledger::Ledger;
use crate::store::Home;
use crate::{app, provider::transport::Transport};

/// How a command ended, if not well. The codes are part of the contract.
#[derive(Debug)]
pub struct Exit {
    pub code: u8,
    /// Printed after `stepwell: `; nothing if empty.
    pub message: String,
}

impl Exit {
    pub const FAILED: u8 = 1;
    pub const USAGE: u8 = 2;
    pub const INVALID_CONFIGURATION: u8 = 3;
    pub const NOTHING_REACHABLE: u8 = 4;
    pub const INTERRUPTED: u8 = 130;

    pub fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl From<anyhow::Error> for Exit {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Self::FAILED, format!("{error:#}"))
    }
}

impl From<config::Problems> for Exit {
    fn from(problems: config::Problems) -> Self {
        let count = problems.0.len();
        let noun = if count == 1 { "problem" } else { "problems" };
        Self::new(Self::INVALID_CONFIGURATION, format!("the configuration has {count} {noun}\n\n{problems}"))
    }
}

pub type Outcome = Result<(), Exit>;

/// Where the configuration comes from.
fn source(config: Option<&Path>, demo: bool) -> Source {
    if demo { Source::Demo } else { config::locate(config, &environment) }
}

/// Loads the configuration and asks the servers that have to be asked for their models.
async fn load(source: &Source) -> Result<Loaded, Exit> {
    let loaded = config::load(source, &environment)?;
    let loaded = app::discover::complete(loaded, &Transport::default(), *source == Source::Detect).await;
    if loaded.settings.targets.is_empty() {
        let message = format!("no provider has a model that can be asked: {}", loaded.warnings.join("; "));
        return Err(Exit::new(Exit::NOTHING_REACHABLE, message));
    }
    Ok(loaded)
}

/// Runs a command's asynchronous part on one thread.
fn block_on<T>(future: impl Future<Output = T>) -> Result<T, Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Exit::new(Exit::FAILED, format!("the runtime cannot start: {error}")))?;
    Ok(runtime.block_on(future))
}

/// Writes a result. A reader that has seen enough (`| head`) is no failure.
fn print(text: &str) -> Outcome {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| if text.ends_with('\n') { Ok(()) } else { out.write_all(b"\n") })
    {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Exit::new(Exit::FAILED, format!("cannot write the result: {error}")))
        }
        _ => Ok(()),
    }
}

/// Columns of the terminal; 100 where there is none.
fn terminal_width() -> usize {
    use std::io::IsTerminal;
    let given = environment("COLUMNS").and_then(|columns| columns.parse().ok());
    let measured = || comfy_table::Table::new().width();
    let terminal = std::io::stdout().is_terminal();
    given.or_else(|| if terminal { measured() } else { None }).map_or(100, usize::from)
}

/// Where a server with these settings keeps its things.
fn home(data_dir: Option<&Path>, config: Option<&Path>) -> Result<Home, Exit> {
    let place = keys::Place { config: config.map(Path::to_owned), data_dir: None, json: false };
    // A configuration with problems, or none, still has a place for its data.
    let storage = keys::settings(&place).map(|settings| settings.storage).unwrap_or_else(|_| {
        eprintln!("stepwell: the configuration has problems (see `stepwell check`); looking in the data directory");
        config::Storage::default()
    });
    let home = app::home(&storage, config::data_dir(data_dir, &environment).as_deref())?;
    match &home {
        Home::File(path) if !path.exists() => {
            let message = format!("there is no ledger at {}; it is written by `stepwell serve`", path.display());
            Err(Exit::new(Exit::FAILED, message))
        }
        _ => Ok(home),
    }
}

/// A ledger that exists, for reading.
async fn open(home: &Home) -> anyhow::Result<Ledger> {
    // The writer is not run: nothing is appended here.
    let (ledger, _writer) = Ledger::open(home.open_existing().await?.journal());
    Ok(ledger)
}
