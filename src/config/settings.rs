//! A configuration, checked: everything that the rest of the program needs to know, with defaults filled in.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::cors::Cors;
use super::queue::{Events, Queue};
use super::storage::Storage;
use super::tls::Tls;
use crate::catalog::{Provider, Target};
use crate::dispatch::settings::{HealthChecks, Hedge, Retry, Timeouts};
use crate::rank::settings::WhenImpossible;
use crate::resilience::breaker;
use crate::transform::Transform;
use crate::units::{Size, Span};
use crate::{admission, batch, cache, classify, events, guard, jobs, rank, telemetry, tenant};

/// All of `providers.yaml`, checked and complete.
#[derive(Clone, Debug)]
pub struct Settings {
    /// In the order of the file.
    pub providers: Vec<Arc<Provider>>,
    /// Every model at every provider; providers in order, then models in order.
    pub targets: Vec<Arc<Target>>,
    /// Providers whose models are not known yet: ask them, then call [`Settings::with_models`].
    pub discover: Vec<Arc<Provider>>,
    pub tasks: classify::settings::Settings,
    pub routing: rank::settings::Settings,
    pub when_impossible: WhenImpossible,
    /// What holds for all providers; [`Settings::upstream`] has what holds for one.
    pub upstream: Upstream,
    /// By provider, where the file says something else than for all.
    pub overrides: BTreeMap<String, Upstream>,
    pub overload: admission::settings::Settings,
    pub hedge: Hedge,
    pub health_checks: HealthChecks,
    pub cache: cache::settings::Settings,
    pub server: Server,
    pub storage: Storage,
    /// How long what has happened is kept.
    pub retention: Retention,
    /// Requests that are answered later.
    pub jobs: jobs::settings::Settings,
    /// Lines of batches that providers answer in batches of their own.
    pub batches: batch::native::Settings,
    /// What hands them out to workers. `None`: the store does.
    pub queue: Option<Queue>,
    /// Who else is told of events.
    pub events: Events,
    /// Where their ends may be told.
    pub webhooks: jobs::settings::Webhooks,
    /// What is out of the ordinary.
    pub anomalies: events::anomaly::Settings,
    /// Where all replicas count. `None`: each for itself.
    pub shared: Option<Shared>,
    pub logging: Logging,
    /// Who may use the router, and how much: `auth`, `tiers`, `teams`, `budgets`.
    pub tenants: tenant::settings::Settings,
    pub telemetry: telemetry::settings::Settings,
    /// What requests and answers may say: `guards`.
    pub guards: guard::Guards,
    /// What is changed of them for a tier or a team; [`Provider::transform`] has what is for a provider.
    pub transforms: Transforms,
}

/// The `retention` section: for how long it is known what has happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retention {
    /// Rows of the ledger, by whole days (UTC). Reports cover older ones by their sums, which stay. 1d to 3650d; `None`: for
    /// ever.
    pub requests: Option<Span>,
    /// The log of events; those of jobs that have not ended stay. 1h to 3650d; `None`: for ever.
    pub events: Option<Span>,
}

impl Default for Retention {
    fn default() -> Self {
        Self { requests: None, events: Some(Span(Duration::from_secs(90 * 86_400))) }
    }
}

/// Transformations by the name of a tier or a team.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transforms {
    pub tiers: BTreeMap<String, Arc<Transform>>,
    pub teams: BTreeMap<String, Arc<Transform>>,
}

impl Transforms {
    pub fn is_empty(&self) -> bool {
        self.tiers.is_empty() && self.teams.is_empty()
    }
}

/// How a provider is treated: when to give up, when to try again, when to leave it alone.
#[derive(Clone, Debug, Default)]
pub struct Upstream {
    pub breaker: breaker::Settings,
    pub retry: Retry,
    pub timeouts: Timeouts,
}

impl Settings {
    /// The settings in force for one provider.
    pub fn upstream(&self, provider: &str) -> &Upstream {
        self.overrides.get(provider).unwrap_or(&self.upstream)
    }

    pub fn provider(&self, name: &str) -> Option<&Arc<Provider>> {
        self.providers.iter().find(|provider| &*provider.name == name)
    }
}

/// Where and how requests come in.
#[derive(Clone, Debug)]
pub struct Server {
    pub listen: SocketAddr,
    /// Longest request body; a longer one is answered 413. 1KB to 1GB.
    pub body_limit: Size,
    /// From the first byte of a request's head to its last; then 408 and the connection is closed. 100ms to 5m. Short, it
    /// cuts callers on bad lines; long, callers who send a byte a second hold connections.
    pub header_timeout: Span,
    /// How long a request's body may take to arrive; then 408. 100ms to 1h. Bounds what `body_limit` allows over slow lines:
    /// at 30s, 20 MB need 5 Mbit/s.
    pub body_timeout: Span,
    /// How long a connection may stand idle between two requests. 100ms to 24h. Short, clients open connections all the
    /// time; long, forgotten ones count towards `max_connections`.
    pub idle_timeout: Span,
    /// How long an answer may be ready without the client taking any of it; then the connection ends and so does the
    /// upstream's. A client that reads, however slowly, is never cut. 100ms to 1h.
    pub write_timeout: Span,
    /// Connections of callers at a time; one more is answered 503 with Retry-After. `None`: three fifths of the descriptors
    /// that the process may open, so that upstream connections and the ledger always keep some. 1 to 1000000; more than
    /// that share is taken at its word, and descriptors may run out.
    pub max_connections: Option<usize>,
    /// How long requests under way may take when the server stops.
    pub shutdown_grace: Span,
    /// Whether long answers (`api/compression.rs` says how long) are compressed for clients that accept it. Streams never
    /// are. Costs a millisecond of CPU for every 100 KB; worth nothing where clients are on the same machine.
    pub compression: bool,
    /// Which web pages may call from a browser. `None`: none.
    pub cors: Option<Cors>,
    /// Callers come by TLS and by nothing else. `None`: by plain HTTP.
    pub tls: Option<Tls>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 4000)),
            body_limit: Size(20_000_000),
            header_timeout: Span(Duration::from_secs(10)),
            body_timeout: Span(Duration::from_secs(30)),
            idle_timeout: Span(Duration::from_secs(600)),
            write_timeout: Span(Duration::from_secs(30)),
            max_connections: None,
            shutdown_grace: Span(Duration::from_secs(30)),
            compression: true,
            cors: None,
            tls: None,
        }
    }
}

/// Where all replicas count limits and budgets and keep idempotency keys and answers. Takes effect at the start.
#[derive(Clone, Debug)]
pub struct Shared {
    pub url: SecretString,
    /// A file with certificates of authorities (PEM), believed in the place of the platform's. For `rediss://`.
    pub ca: Option<PathBuf>,
    /// How all keys begin. Routers with the same one count together; others may use the same Redis.
    pub prefix: String,
    /// The longest that one request waits for it, all its calls together. 5ms to 10s. Short, a slow moment counts as an
    /// outage; above 50ms, an outage is felt by more requests than it has to be.
    pub timeout: Span,
    /// Longest answer that is kept there, in bytes as they are kept. 1KB to 64MB. Large ones hold up everybody else.
    pub largest_value: Size,
    /// What requests that concern a budget meet while it is gone.
    pub budgets_when_gone: BudgetsWhenGone,
}

impl PartialEq for Shared {
    fn eq(&self, other: &Self) -> bool {
        let rest =
            |shared: &Self| (shared.prefix.clone(), shared.timeout, shared.largest_value, shared.budgets_when_gone);
        let where_ = |shared: &Self| (shared.url.expose_secret().to_owned(), shared.ca.clone());
        where_(self) == where_(other) && rest(self) == rest(other)
    }
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            url: SecretString::default(),
            ca: None,
            prefix: "stepwell".to_owned(),
            timeout: Span(Duration::from_millis(50)),
            largest_value: Size(1_000_000),
            budgets_when_gone: BudgetsWhenGone::Refuse,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BudgetsWhenGone {
    /// 503: no budget is passed.
    #[default]
    Refuse,
    /// Each replica goes on with what it knows: a budget may be passed by what was left of it, once for each other replica.
    Alone,
}

impl BudgetsWhenGone {
    pub(super) const CHOICES: [(&'static str, Self); 2] = [("refuse", Self::Refuse), ("alone", Self::Alone)];
}

/// What is written to the log. Prompts and answers never are, so there is nothing to set about them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Logging {
    pub level: Level,
    pub format: LogFormat,
    /// A line for every model request, whatever the level. The ledger has them all anyway: this is for those who collect
    /// logs, and costs a few microseconds each, off the requests' way.
    pub access: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

impl Level {
    pub(super) const CHOICES: [(&'static str, Self); 5] = [
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people on a terminal, JSON elsewhere.
    #[default]
    Auto,
    Pretty,
    Json,
}

impl LogFormat {
    pub(super) const CHOICES: [(&'static str, Self); 3] =
        [("auto", Self::Auto), ("pretty", Self::Pretty), ("json", Self::Json)];
}
