//! The connection: there or gone, and never waited for longer than a request may wait.
//!
//! The client's own reconnecting connection is not used: what is told to Redis counts for one *term*, and a connection that
//! comes back by itself could carry out what was given up in the term before. Here a call that fails or is late ends the
//! term: the connection is dropped, everybody is told at once that Redis is gone, and only the thread of `desk` looks for
//! it, with growing pauses. So an outage costs one wait, not one for every request. What a frozen Redis carries out later
//! bears an old term and is refused by the scripts.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError, RedisResult, TlsCertificates};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use secrecy::ExposeSecret;
use tokio::sync::{Notify, watch};

use super::{Names, Scripts, Unusable};
use crate::admission::shared::{Gone, Standing};
use crate::config::Shared as Settings;
use crate::resilience::patience::Patience;
use crate::telemetry::metric::Metric;

/// How long a replica counts as there after it has last shown up. It shows up every [`BEAT`].
pub const LEASE: Duration = Duration::from_secs(5);
pub const BEAT: Duration = Duration::from_secs(1);
/// How long a connection may take, and what nobody waits for.
pub const SLOW: Duration = Duration::from_secs(2);

pub struct Line {
    client: Client,
    /// What one request may wait, all its calls together.
    pub timeout: Duration,
    names: Names,
    scripts: Arc<Scripts>,
    up: ArcSwapOption<Up>,
    /// Of the last time that it was up.
    last: AtomicU64,
    terms: watch::Sender<u64>,
    lost: Notify,
    news: Mutex<News>,
}

/// A term of the connection.
pub struct Up {
    pub connection: MultiplexedConnection,
    pub term: u64,
}

struct News {
    reason: Option<String>,
    /// Homes of the replicas that are there.
    replicas: Arc<[String]>,
}

/// Where the settings lead. Errors do not repeat a URL.
fn address(settings: &Settings) -> Result<Client, Unusable> {
    let url = settings.url.expose_secret();
    let unusable = |what, reason: String| Unusable { what, reason };
    let client = match &settings.ca {
        None => Client::open(url),
        Some(path) => {
            let pem = std::fs::read(path).map_err(|error| unusable("ca", format!("{}: {error}", path.display())))?;
            if CertificateDer::pem_slice_iter(&pem).next().is_none_or(|first| first.is_err()) {
                return Err(unusable("ca", format!("{} has no certificate (PEM)", path.display())));
            }
            Client::build_with_tls(url, TlsCertificates { client_tls: None, root_cert: Some(pem) })
        }
    };
    client.map_err(|error| unusable("url", error.category().to_owned()))
}

impl Line {
    pub fn new(settings: &Settings, names: Names, scripts: Arc<Scripts>) -> Result<Self, Unusable> {
        Ok(Self {
            client: address(settings)?,
            timeout: settings.timeout.0,
            names,
            scripts,
            up: ArcSwapOption::empty(),
            last: AtomicU64::new(0),
            terms: watch::Sender::new(0),
            lost: Notify::new(),
            news: Mutex::new(News { reason: Some("it was not found yet".to_owned()), replicas: Arc::from([]) }),
        })
    }

    /// 0 while it is gone.
    pub fn term(&self) -> u64 {
        self.up.load().as_ref().map_or(0, |up| up.term)
    }

    pub fn terms(&self) -> watch::Receiver<u64> {
        self.terms.subscribe()
    }

    pub fn up(&self) -> Option<Arc<Up>> {
        self.up.load_full()
    }

    /// Until the present term has ended.
    pub async fn lost(&self) {
        self.lost.notified().await;
    }

    /// Homes of the replicas that were there a moment ago.
    pub fn replicas(&self) -> Arc<[String]> {
        self.news.lock().replicas.clone()
    }

    pub fn standing(&self) -> Standing {
        let news = self.news.lock();
        let replicas = u32::try_from(news.replicas.len()).unwrap_or(u32::MAX).max(1);
        Standing { is_up: self.term() > 0, replicas, reason: news.reason.clone() }
    }

    /// Of the time for one request: limits, budgets and the cache together.
    pub fn part_for_decisions(&self) -> Duration {
        self.timeout * 3 / 5
    }

    /// Of the time for one request: each of the two calls that an idempotency key takes.
    pub fn part_for_marks(&self) -> Duration {
        self.timeout / 5
    }

    /// Somebody has emptied it, or a newer process has our place.
    /// Whoever asked in a term that has ended meanwhile was only late.
    pub fn forgotten(&self, asked: u64) -> Gone {
        match self.up() {
            Some(up) if up.term == asked => self.lose(&up, "it has forgotten everything"),
            _ => Gone,
        }
    }

    /// One call on behalf of a request that may wait `share` of the whole time for Redis.
    pub async fn ask<T, F: Future<Output = RedisResult<T>>>(
        &self,
        patience: &Patience,
        total: Duration,
        call: impl FnOnce(Arc<Up>) -> F,
    ) -> Result<T, Gone> {
        let Some(up) = self.up() else { return Err(Gone) };
        let left = patience.left(total);
        if left.is_zero() {
            return Err(Gone);
        }
        let began = Instant::now();
        let answer = tokio::time::timeout(left, call(up.clone())).await;
        patience.spend(began.elapsed());
        self.judge(&up, answer)
    }

    /// One call that nobody waits for.
    pub async fn tell<T>(&self, up: &Arc<Up>, call: impl Future<Output = RedisResult<T>>) -> Result<T, Gone> {
        self.judge(up, tokio::time::timeout(SLOW, call).await)
    }

    fn judge<T>(&self, up: &Arc<Up>, answer: Result<RedisResult<T>, tokio::time::error::Elapsed>) -> Result<T, Gone> {
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.lose(up, &describe(&error))),
            Err(_) => Err(self.lose(up, "it did not answer in time")),
        }
    }

    /// Ends a term, once.
    pub fn lose(&self, up: &Arc<Up>, reason: &str) -> Gone {
        let before = self.up.compare_and_swap(up, None);
        if before.as_ref().is_some_and(|before| Arc::ptr_eq(before, up)) {
            self.news.lock().reason = Some(reason.to_owned());
            self.terms.send_replace(0);
            self.lost.notify_one();
            metrics::counter!(Metric::SharedLost.name()).increment(1);
            tracing::warn!(
                reason,
                "the store that all replicas share is gone; docs/shared.md says what holds without it"
            );
        }
        Gone
    }

    /// Connects, and begins a term. The first failure of many is worth a line.
    pub async fn find(&self) -> Result<(), Gone> {
        let connecting = async {
            let config = AsyncConnectionConfig::new().set_connection_timeout(Some(SLOW)).set_response_timeout(None);
            let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
            let term = self.last.load(SeqCst) + 1;
            let replicas = self.show_up(&mut connection, term, "enlist").await?;
            Ok((connection, term, replicas))
        };
        let failed = match tokio::time::timeout(2 * SLOW, connecting).await {
            Ok(Ok((connection, term, replicas))) => {
                {
                    let mut news = self.news.lock();
                    // If it has forgotten everything, the others show up again within a beat: until then they count.
                    let before = news.replicas.iter().filter(|home| !replicas.contains(home)).cloned();
                    let replicas = before.collect::<Vec<_>>().into_iter().chain(replicas).collect();
                    *news = News { reason: None, replicas };
                }
                self.last.store(term, SeqCst);
                self.up.store(Some(Arc::new(Up { connection, term })));
                self.terms.send_replace(term);
                tracing::info!(replicas = self.standing().replicas, "the store that all replicas share is there");
                return Ok(());
            }
            Ok(Err(error)) => describe(&error),
            Err(_) => "it did not answer in time".to_owned(),
        };
        // A term that was begun there and not heard of here is another one than the next.
        self.last.fetch_add(1, SeqCst);
        let mut news = self.news.lock();
        if news.reason.as_ref() != Some(&failed) {
            tracing::warn!(reason = failed, "the store that all replicas share cannot be found; it is looked for");
            news.reason = Some(failed);
        }
        Err(Gone)
    }

    /// Begins another term on the same connection.
    pub async fn begin_anew(&self, up: &Arc<Up>) -> Result<Arc<Up>, Gone> {
        let term = self.last.fetch_add(1, SeqCst) + 1;
        let mut connection = up.connection.clone();
        self.tell(up, self.show_up(&mut connection, term, "enlist")).await?;
        let next = Arc::new(Up { connection, term });
        let before = self.up.compare_and_swap(up, Some(next.clone()));
        if !before.as_ref().is_some_and(|before| Arc::ptr_eq(before, up)) {
            return Err(Gone);
        }
        self.terms.send_replace(term);
        Ok(next)
    }

    /// Shows that this replica is there.
    pub async fn beat(&self, up: &Arc<Up>) -> Result<(), Gone> {
        let mut connection = up.connection.clone();
        let replicas = self.tell(up, self.show_up(&mut connection, up.term, "renew")).await?;
        if replicas.is_empty() {
            return Err(self.lose(up, "it has forgotten everything"));
        }
        self.news.lock().replicas = replicas.into();
        Ok(())
    }

    /// Nobody has to wait any longer for what this replica knows.
    pub async fn has_told_all(&self, up: &Arc<Up>) -> Result<(), Gone> {
        let mut connection = up.connection.clone();
        match self.tell(up, self.show_up(&mut connection, up.term, "told")).await?.is_empty() {
            false => Ok(()),
            true => Err(self.lose(up, "it has forgotten everything")),
        }
    }

    /// A last word: requests that this replica has under way are none.
    pub async fn leave(&self, up: &Arc<Up>) {
        let mut connection = up.connection.clone();
        let _ = self.tell(up, self.show_up(&mut connection, up.term, "leave")).await;
    }

    async fn show_up(&self, connection: &mut MultiplexedConnection, term: u64, what: &str) -> RedisResult<Vec<String>> {
        let mut call = self.scripts.presence.prepare_invoke();
        call.key(self.names.terms()).key(self.names.replicas()).key(self.names.awaited());
        call.arg(&*self.names.home).arg(self.names.term(term)).arg(LEASE.as_millis() as u64).arg(what);
        call.arg(&*self.replicas());
        call.invoke_async(connection).await
    }
}

/// What went wrong, without what was said: a URL has a password in it.
fn describe(error: &RedisError) -> String {
    match error.code() {
        Some(code) => format!("{} ({code})", error.category()),
        None if error.is_io_error() => "it cannot be reached".to_owned(),
        None => error.category().to_owned(),
    }
}
