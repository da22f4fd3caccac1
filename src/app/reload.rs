//! New rules without a restart: on SIGHUP, or when the file or a file that it names changes.
//!
//! Files are polled and not watched: a poll sees through symlink swaps, atomic renames, deletions and network mounts
//! alike, and costs a few `stat` calls a second. The content decides, not the time stamp.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::difference::difference;
use super::{accounts, discover};
use crate::config::{self, Source};
use crate::events::{Facts, Kind, facts};
use crate::gateway::Gateway;
use crate::gateway::snapshot::Snapshot;
use crate::operations::Operations;
use crate::tenant;
use crate::tenant::access::Access;
use crate::tenant::secret::Pepper;

/// A change is noticed within 2 s (CONTRACT): a look every 500 ms, and one more to see that writing has ended.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub struct Reloader {
    source: Source,
    /// Those of the rules in force, and those that a newer configuration names which could not be used.
    files: Vec<PathBuf>,
    /// What the files held when they were loaded: a change before the first look counts too.
    in_force: u64,
    gateway: Arc<Gateway>,
    access: Arc<Access>,
    operations: Arc<Operations>,
}

impl Reloader {
    pub fn new(
        source: Source,
        files: Vec<PathBuf>,
        gateway: Arc<Gateway>,
        access: Arc<Access>,
        operations: Arc<Operations>,
    ) -> Self {
        Self { in_force: fingerprint(&files), source, files, gateway, access, operations }
    }

    pub async fn run(mut self, stop: CancellationToken) {
        let mut hangup = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()) {
            Ok(hangup) => hangup,
            Err(error) => {
                tracing::warn!(%error, "SIGHUP cannot be received; file changes still reload");
                return;
            }
        };
        let operations = self.operations.clone();
        let mut in_force = self.in_force;
        let mut settling = in_force;
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                because = async {
                    tokio::select! {
                        _ = hangup.recv() => "SIGHUP",
                        () = operations.reload_wanted() => "an operator asked",
                    }
                } => {
                    self.reload(because).await;
                    in_force = fingerprint(&self.files);
                    settling = in_force;
                }
                _ = ticks.tick() => {
                    let seen = fingerprint(&self.files);
                    // Half-written files are not read: the content must be the same twice.
                    if seen != in_force && seen == settling {
                        let files = self.files.clone();
                        self.reload("file change").await;
                        // What changed while it was read counts as a change; other files are watched from here on.
                        in_force = if self.files == files { seen } else { fingerprint(&self.files) };
                        settling = in_force;
                    } else {
                        settling = seen;
                    }
                }
            }
        }
    }

    /// Reads, checks, compiles; then swaps, or says why not.
    async fn reload(&mut self, because: &str) {
        let loaded = match config::load(&self.source, &config::environment) {
            Ok(loaded) => loaded,
            Err(problems) => {
                tracing::error!(
                    because,
                    "the configuration was not reloaded; the old rules stay in force:\n{problems}"
                );
                // The mistake may be in a file that only the new text names, such as a secret that is still to come.
                for file in config::named_files(&self.source, &config::environment) {
                    if !self.files.contains(&file) {
                        self.files.push(file);
                    }
                }
                self.gateway.dispatcher.fleet.notes.add(Kind::ConfigurationRefused, "server", Facts::new());
                return self.operations.reload_failed(problems.to_string());
            }
        };
        let look_around = self.source == Source::Detect;
        let loaded = discover::complete(loaded, &self.gateway.dispatcher.transport, look_around).await;
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        let old = self.gateway.rules();
        if old.settings.server.listen != loaded.settings.server.listen
            || old.settings.storage != loaded.settings.storage
        {
            tracing::warn!("`server.listen` and `storage` take effect at the next start");
        }
        if old.settings.shared != loaded.settings.shared {
            tracing::warn!(
                "`shared` takes effect at the next start; until then the store that was found there is used"
            );
        }
        let published = |settings: &config::Settings| (settings.events.publish, settings.events.keep);
        if old.settings.queue != loaded.settings.queue || published(&old.settings) != published(&loaded.settings) {
            tracing::warn!("`queue`, `events.publish` and `events.keep` take effect at the next start");
        }
        let delivery = |settings: &config::Settings| (settings.jobs.lease, settings.jobs.max_attempts);
        if old.settings.queue.is_some() && delivery(&old.settings) != delivery(&loaded.settings) {
            tracing::warn!(
                "`jobs.lease` and `jobs.max_attempts` hold for new claims from now on; NATS' consumers (`queue`) learn them \
                 at the next start"
            );
        }
        let secret = |settings: &config::Settings| settings.tenants.auth.secret.as_ref().map(Pepper::of);
        if secret(&old.settings).map(|secret| secret.fingerprint())
            != secret(&loaded.settings).map(|secret| secret.fingerprint())
        {
            tracing::warn!("`auth.secret` takes effect at the next start, and only keys made under it are known then");
        }
        match Snapshot::compile(loaded.settings, old.version + 1) {
            Ok(snapshot) => {
                let (version, targets) = (snapshot.version, snapshot.index.targets().len());
                let changes = difference(&old.settings, &snapshot.settings);
                self.files = loaded.files;
                let tenants = snapshot.settings.clone();
                self.open_accounts(&tenants.tenants).await;
                self.gateway.replace_rules(snapshot);
                self.open_accounts(&tenants.tenants).await;
                self.operations.reloaded(loaded.origin.to_string());
                tracing::info!(because, version, targets, "configuration reloaded: {changes}");
                let notes = &self.gateway.dispatcher.fleet.notes;
                notes.add(Kind::ConfigurationReloaded, "server", facts([("version", version.into())]));
            }
            Err(problems) => {
                let text = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
                tracing::error!(because, "the configuration was not reloaded; the old rules stay in force:\n{text}");
                self.operations.reload_failed(text);
                self.gateway.dispatcher.fleet.notes.add(Kind::ConfigurationRefused, "server", Facts::new());
            }
        }
    }
}

impl Reloader {
    /// A budget that is new knows what was spent before it.
    async fn open_accounts(&self, tenants: &tenant::settings::Settings) {
        if let Err(error) = accounts::open(&self.gateway, tenants, &self.access.ring()).await {
            tracing::error!("new budgets do not know what was spent before: {error}");
        }
    }
}

/// A hash over the contents; a missing file counts as such.
fn fingerprint(files: &[PathBuf]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for file in files {
        std::fs::read(file).ok().hash(&mut hasher);
    }
    hasher.finish()
}
