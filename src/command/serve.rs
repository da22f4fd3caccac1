//! `stepwell [serve]`.

use std::io::IsTerminal;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard as LogGuard};
use tracing_subscriber::EnvFilter;

use super::{Exit, Outcome, block_on, load, source};
use crate::app::{self, banner};
use crate::config::{self, LogFormat, Logging, environment};
use crate::ledger::access;
use crate::operations;
use crate::tenant::settings::Required;

/// Lines of the log that may wait to be written: some megabytes.
const LINES: usize = 16_384;

pub struct Options {
    pub config: Option<PathBuf>,
    pub host: Option<IpAddr>,
    pub port: Option<u16>,
    pub data_dir: Option<PathBuf>,
    pub demo: bool,
    pub insecure: bool,
}

pub fn run(options: Options) -> Outcome {
    // Requests run on the workers' own runtimes; this one accepts, saves the ledger and watches the configuration.
    block_on(serve(options))?
}

async fn serve(options: Options) -> Outcome {
    let mut signals = Signals::receive()?;
    app::descriptors::raise();
    // A limit on file sizes is a write that fails, and no reason to die.
    let _file_too_large = app::descriptors::outlive_file_limits();
    let source = source(options.config.as_deref(), options.demo);
    let loaded = load(&source).await?;
    let _log = log(loaded.settings.logging);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    if let Some(otlp) = &loaded.settings.telemetry.otlp {
        // It may have come from the environment, where nobody looks.
        tracing::info!("traces and metrics are sent to `{}`", otlp.endpoint);
    }
    let configured = loaded.settings.server.listen;
    let listen = SocketAddr::new(options.host.unwrap_or(configured.ip()), options.port.unwrap_or(configured.port()));
    let required = loaded.settings.tenants.auth.required;
    let is_open = required == Required::Never || (required == Required::Auto && options.insecure);
    if !listen.ip().is_loopback() && is_open {
        tracing::warn!(
            "listening on {listen}, beyond this machine, without authentication: whoever reaches it spends your money"
        );
    }
    let origin = loaded.origin.clone();
    let data_dir = config::data_dir(options.data_dir.as_deref(), &environment);
    let started = app::Options { source, listen: Some(listen), data_dir, insecure: options.insecure };
    let running = app::start(loaded, started).await.map_err(|error| match error.is::<app::Exposed>() {
        true => Exit::new(Exit::INVALID_CONFIGURATION, error.to_string()),
        false => error.into(),
    })?;
    if running.gateway.rules().settings.logging.format == LogFormat::Json {
        tracing::info!(address = %running.address, configuration = %origin, "stepwell is listening");
    } else {
        super::print(&banner::banner(&running, &origin))?;
    }
    signals.end().await;
    tracing::info!("draining");
    let last_words = running.last_words();
    let stopping = running.stop();
    let unsaved = tokio::select! {
        unsaved = stopping => unsaved,
        () = signals.end() => {
            let unsaved = last_words.say().await;
            let lost = if unsaved > 0 { format!("; {unsaved} ledger rows could not be saved") } else { String::new() };
            return Err(Exit::new(Exit::INTERRUPTED, format!("interrupted while draining{lost}")));
        }
    };
    if unsaved > 0 {
        return Err(Exit::new(Exit::FAILED, format!("{unsaved} ledger rows could not be saved")));
    }
    Ok(())
}

/// The signals that end a server. Made before it listens: a signal that comes earlier kills without a word.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// Not waited for here: the reloader does. Held so that one which comes before it is ready is no end.
    _hangup: Signal,
}

impl Signals {
    pub fn receive() -> Result<Self, Exit> {
        let receive = |kind| {
            signal(kind).map_err(|error| Exit::new(Exit::FAILED, format!("signals cannot be received: {error}")))
        };
        Ok(Self {
            terminate: receive(SignalKind::terminate())?,
            interrupt: receive(SignalKind::interrupt())?,
            _hangup: receive(SignalKind::hangup())?,
        })
    }

    /// SIGTERM or Ctrl-C.
    pub async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn log_format(logging: Logging) -> LogFormat {
    match logging.format {
        LogFormat::Auto if std::io::stderr().is_terminal() => LogFormat::Pretty,
        LogFormat::Auto => LogFormat::Json,
        chosen => chosen,
    }
}

/// Starts the log on standard error. Prompts, answers and keys are never logged, so there is nothing to filter.
/// Lines are written by a thread of their own, so that a slow reader of the log holds up nobody; what it has no room for is
/// dropped and counted. The guard writes the last ones when it is dropped.
fn log(logging: Logging) -> LogGuard {
    let level = logging.level.as_str();
    // Other people's crates have their own idea of what is worth saying.
    let filter = EnvFilter::new(format!("warn,stepwell={level},{}=info", access::TARGET));
    let (writer, guard) =
        NonBlockingBuilder::default().buffered_lines_limit(LINES).lossy(true).finish(std::io::stderr());
    operations::watch_log(writer.error_counter());
    let is_seen = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(is_seen).with_writer(writer);
    let _ = match log_format(logging) {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Pretty | LogFormat::Auto => builder.with_target(false).try_init(),
    };
    guard
}
