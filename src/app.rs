//! The composition root: configuration, parts, background tasks, listener, drain. May use everything.

pub mod accounts;
pub mod activity;
pub mod banner;
pub mod descriptors;
mod difference;
pub mod discover;
pub mod health_checks;
pub mod issuer;
pub mod jobs;
pub mod keys;
mod line;
pub mod listen;
mod publish;
pub mod queue;
pub mod refusal;
pub mod reload;
mod retention;
pub mod share;
mod socket;
pub mod wire;
pub mod worker;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::idempotency::Memory;
use crate::admission::shared::Shared as SharedCounters;
use crate::api::caller::Salt;
use crate::api::idempotency::Idempotency;
use crate::api::later::{Desk, Kept};
use crate::api::router::{Shared, full, router};
use crate::config::{BudgetsWhenGone, Loaded, Source, Storage};
use crate::events::{Facts, Kind, facts};
use crate::gateway::Gateway;
use crate::gateway::snapshot::Snapshot;
use crate::jobs::queue::Queue;
use crate::ledger::Ledger;
use crate::operations::Operations;
use crate::store::holds::Holds;
use crate::store::nats::Nats;
use crate::store::redis::Redis;
use crate::store::{Home, Store};
use crate::tenant::access::Access;
use crate::tenant::keeper::Keeper;
use crate::tenant::key::State;
use crate::tenant::keyring::Keyring;
use crate::tenant::settings::{Auth, Required};

/// What the command line decides.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the configuration comes from, for reloads.
    pub source: Source,
    /// Instead of `server.listen`.
    pub listen: Option<SocketAddr>,
    /// `None`: rows are kept in a file that goes when the process ends.
    pub data_dir: Option<PathBuf>,
    /// Listen beyond this machine without asking for keys.
    pub insecure: bool,
}

/// A server that is up.
pub struct Running {
    pub address: SocketAddr,
    pub gateway: Arc<Gateway>,
    pub operations: Arc<Operations>,
    pub access: Arc<Access>,
    /// Where the rows are.
    pub home: Home,
    store: Store,
    redis: Option<Arc<Redis>>,
    nats: Option<Arc<Nats>>,
    /// Of the directory, while this server runs.
    _claim: Option<std::fs::File>,
    stop: CancellationToken,
    tracker: TaskTracker,
    writer_stop: CancellationToken,
    writer: tokio::task::JoinHandle<usize>,
    shutdown_grace: Duration,
    accepting: tokio::task::JoinHandle<()>,
}

/// The name of the database in the data directory.
const DATABASE: &str = "stepwell.db";

/// Where the rows of a configuration are kept.
pub fn home(storage: &Storage, data_dir: Option<&std::path::Path>) -> anyhow::Result<Home> {
    let own = || {
        let own = data_dir.map(|directory| directory.join(DATABASE));
        own.context("there is no home directory to keep data in; name one with --data-dir or STEPWELL_DATA_DIR")
    };
    Ok(match storage {
        Storage::Sqlite(path) => Home::File(path.clone()),
        Storage::Embedded => Home::File(own()?),
        Storage::Postgres(url) => Home::Shared { url: url.clone(), beside: own()? },
    })
}

/// By which events and jobs tell servers apart: the same after a restart, another one on another host or directory.
fn server_name(home: &Home) -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let beside = std::path::absolute(home.beside()).unwrap_or_else(|_| home.beside().to_owned());
    let place = blake3::hash(beside.as_os_str().as_encoded_bytes()).to_hex();
    format!("{host}-{}", &place[..8])
}

/// Servers that share a database share no directory: what is in it belongs to one of them.
fn claim(home: &Home) -> anyhow::Result<Option<std::fs::File>> {
    let Home::Shared { beside, .. } = home else { return Ok(None) };
    let directory = beside.parent().unwrap_or(beside).display();
    Holds::claim(beside).map(Some).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => anyhow::anyhow!(
            "another server uses `{directory}`; give each server of a shared database a directory of its own with \
             --data-dir or STEPWELL_DATA_DIR"
        ),
        _ => anyhow::anyhow!("cannot write to `{directory}`, where requests under way are noted: {error}"),
    })
}

/// Starts everything. Errors are for people: they say what to do.
pub async fn start(loaded: Loaded, options: Options) -> anyhow::Result<Running> {
    let settings = loaded.settings.clone();
    let home = home(&settings.storage, options.data_dir.as_deref())?;
    let address = options.listen.unwrap_or(settings.server.listen);
    // Taken first: a port in use must be reported before anything is written.
    let listener = listen::bind(address)
        .with_context(|| format!("cannot listen on {address}; name another with --port or `server.listen`"))?;
    let address = listener.address;

    let claim = claim(&home)?;
    let store = home.open().await?;
    let nats = queue::read(&settings, &home, store.queue(), store.log())?;
    let pepper = keys::pepper(&settings.tenants.auth, &home, &store).await?;
    let keeper = Arc::new(Keeper::new(store.vault(), pepper.clone()));
    let redis = share::start(settings.shared.as_ref(), &home, &pepper)?;
    // Whoever shares counters shares keys that are under way, too, and waits for them.
    let memory: Arc<dyn Memory> = match &redis {
        Some(redis) => redis.clone(),
        None => store.memory(),
    };
    let salt = Salt::of(&pepper);
    let idempotency = Arc::new(Idempotency::new(memory, pepper.clone()));
    let ring = keeper.ring().await?;
    let access = Arc::new(Access::new(!address.ip().is_loopback() && !options.insecure));
    refuse_strangers(&access, &settings.tenants.auth, &ring, address)?;
    let (ledger, writer) = Ledger::open(store.journal());
    let snapshot = Snapshot::compile(settings, 1).map_err(|problems| {
        anyhow::anyhow!("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })?;
    let (stop, writer_stop) = (CancellationToken::new(), CancellationToken::new());
    let shutdown_grace = snapshot.settings.server.shutdown_grace.0;
    let budgets_when_gone = snapshot.settings.shared.as_ref().map(|shared| shared.budgets_when_gone);
    let mut gateway = Gateway::new(snapshot, ledger);
    if let Some(redis) = &redis {
        gateway.share(
            SharedCounters { counters: redis.clone(), spends_alone: budgets_when_gone == Some(BudgetsWhenGone::Alone) },
            redis.clone(),
        );
    }
    let writer = tokio::spawn(writer.run(writer_stop.clone().cancelled_owned()));
    gateway.log_holds(Arc::new(accounts::adopt_orphans(&gateway, home.beside()).await?));
    let gateway = Arc::new(gateway);
    accounts::open(&gateway, &gateway.rules().settings.tenants, &ring).await?;
    access.replace_ring(ring);
    if let Some(redis) = &redis {
        share::arrive(redis, &gateway).await;
    }
    let operations = Arc::new(Operations::start(loaded.origin.to_string()));

    let tracker = TaskTracker::new();
    let reloader =
        reload::Reloader::new(options.source, loaded.files, gateway.clone(), access.clone(), operations.clone());
    tracker.spawn(reloader.run(stop.clone()));
    tracker.spawn(health_checks::run(gateway.clone(), stop.clone()));
    tracker.spawn(operations.clone().keep_metrics_small(stop.clone()));
    tracker.spawn(operations.clone().observe_all(gateway.clone(), stop.clone()));
    tracker.spawn(operations.clone().export(gateway.clone(), stop.clone()));
    if let Some(redis) = redis.clone() {
        tracker.spawn(share::follow(redis, gateway.clone(), access.clone(), stop.clone()));
    }
    tracker.spawn(keys::follow(keeper.clone(), access.clone(), operations.clone(), stop.clone()));
    tracker.spawn(issuer::follow(gateway.clone(), access.clone(), stop.clone()));
    let queue: Arc<dyn Queue> = match &nats {
        Some(nats) => nats.clone(),
        None => store.queue(),
    };
    let kept = Kept { queue, log: store.log(), batches: store.batches(), files: store.files(), parts: store.parts() };
    let desk = Arc::new(Desk::new(gateway.clone(), operations.clone(), access.clone(), kept, &pepper));
    // Before anybody else can spend it.
    desk.hold_parts().await;
    if let Store::Sqlite(file) = &store {
        tracker.spawn(jobs::tidy_log(file.clone(), stop.clone()));
    }
    if let Some(nats) = &nats {
        queue::start(nats, &desk.bell, &tracker, &stop).await;
    }
    let server = server_name(&home);
    let holder = format!("{server}-{}", std::process::id());
    publish::begin(&desk, &holder).await?;
    tracker.spawn(publish::publish(desk.clone(), holder, stop.clone()));
    let workers = jobs::workers(&desk, &server);
    tracker.spawn(jobs::work(workers, desk.clone(), stop.clone()));
    tracker.spawn(jobs::count(desk.clone(), stop.clone()));
    tracker.spawn(retention::keep(desk.clone(), store.journal(), stop.clone()));
    let notes = gateway.dispatcher.fleet.notes.clone();
    notes.sign(server);
    notes.add(Kind::ServerStarted, "server", facts([("version", env!("CARGO_PKG_VERSION").into())]));
    tracker.spawn(jobs::write_notes(desk.clone(), notes, stop.clone()));
    let shared = Shared {
        gateway: gateway.clone(),
        operations: operations.clone(),
        access: access.clone(),
        keeper,
        idempotency,
        desk,
        salt,
    };
    let doors = listen::Doors { open: router(shared.clone()), full: full(shared), gateway: gateway.clone() };
    let workers = listen::workers(shutdown_grace, &gateway, &operations).context("a worker cannot start")?;
    let accepting = tokio::spawn(listen::serve(listener, workers, doors, stop.clone()));
    Ok(Running {
        address,
        gateway,
        operations,
        access,
        home,
        store,
        redis,
        nats,
        _claim: claim,
        stop,
        tracker,
        writer_stop,
        writer,
        shutdown_grace,
        accepting,
    })
}

/// Listening beyond this machine asks for keys; with none that anybody could have, that is a mistake.
fn refuse_strangers(access: &Access, auth: &Auth, ring: &Keyring, address: SocketAddr) -> Result<(), Exposed> {
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let has_keys = ring.keys().iter().any(|key| key.state(now_ms) == State::Active);
    if auth.required == Required::Auto && access.is_required(auth) && !has_keys && auth.jwt.is_none() {
        return Err(Exposed { address });
    }
    Ok(())
}

/// Nobody could use the router, or everybody: neither is meant.
#[derive(Debug, thiserror::Error)]
#[error(
    "listening on {address}, beyond this machine, needs keys, and there are none; make the first one with\n\n    \
     stepwell keys create --name admin --role admin\n\n\
     or listen on 127.0.0.1, or let everybody in who reaches it: `--insecure`, or `auth: {{ required: never }}`"
)]
pub struct Exposed {
    address: SocketAddr,
}

/// Requests under way when the server is told to stop keep it listed and listening for this long, so that balancers
/// notice `/health/ready` before connections are refused.
const LEAVE_BALANCER: Duration = Duration::from_secs(5);

/// How long the database may take to be closed.
const TIDY: Duration = Duration::from_secs(2);

/// How long a server that is told twice to stop still takes: for its streams to say so, then for the last rows.
const STREAMS_END: Duration = Duration::from_millis(500);
const ROWS_SAVED: Duration = Duration::from_secs(2);

/// What is done when nobody waits for [`Running::stop`] any longer.
pub struct LastWords {
    gateway: Arc<Gateway>,
    operations: Arc<Operations>,
}

impl LastWords {
    /// Ends what runs, and gives the ledger a moment. Returns the rows that could not be saved.
    pub async fn say(self) -> usize {
        self.operations.cut_streams();
        let ended = async {
            while self.gateway.in_flight() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let _ = tokio::time::timeout(STREAMS_END, ended).await;
        tokio::join!(self.gateway.ledger.caught_up(ROWS_SAVED), self.operations.finish(&self.gateway));
        self.gateway.ledger.health().pending
    }
}

impl Running {
    /// To be kept for a second signal, before the first one is obeyed.
    pub fn last_words(&self) -> LastWords {
        LastWords { gateway: self.gateway.clone(), operations: self.operations.clone() }
    }

    /// Readiness off, a grace while requests run, then no new connections; streams finish within `shutdown_grace` or end
    /// with an error event; the ledger is saved. Returns the rows that could not be saved.
    pub async fn stop(self) -> usize {
        self.operations.drain();
        let leave = tokio::time::Instant::now() + LEAVE_BALANCER.min(self.shutdown_grace);
        while self.gateway.in_flight() > 0 && tokio::time::Instant::now() < leave {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.stop.cancel();
        self.tracker.close();
        let _ = self.accepting.await;
        self.tracker.wait().await;
        // Beside the ledger: a collector that is gone must not take from the time to save rows.
        let telemetry = self.operations.finish(&self.gateway);
        self.writer_stop.cancel();
        let (unsaved, ()) = tokio::join!(self.writer, telemetry);
        let unsaved = unsaved.unwrap_or(0);
        let notes = &self.gateway.dispatcher.fleet.notes;
        notes.add(Kind::ServerStopped, "server", Facts::new());
        if let Err(failure) = notes.write(&*self.store.log()).await {
            tracing::warn!(error = %failure, "the last events could not be written");
        }
        if let Some(redis) = &self.redis {
            redis.close().await;
        }
        if let Some(nats) = &self.nats {
            nats.close().await;
        }
        // Whoever copies the file of a stopped server gets all of it: the write-ahead log is folded into it.
        if tokio::time::timeout(TIDY, self.store.close()).await.is_err() {
            tracing::warn!("the database was left with its write-ahead log, which the next start folds into it");
        }
        unsaved
    }
}
