//! The same tests on every store: what each of them promises, on real files and on a real server.
//!
//! [`ledger`] has the rows and their sums, [`callers`] keys and idempotency, [`jobs`] jobs and events, [`batches`] batches and
//! files, [`native`] lines that providers answer in batches of their own. A test is a function of a [`Kit`]; the macros at the beginning of each file make tests of it: on SQLite and
//! PostgreSQL, where the promise is theirs through NATS, and on Redis. What replicas count together is promised in
//! `tests/it/counters.rs`, in memory and on Redis.

mod batches;
mod callers;
mod jobs;
mod ledger;
mod native;
#[path = "../../tests/it/support/servers.rs"]
pub mod servers;

use std::sync::Arc;

use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::nats::{Delivery, Names, Nats, SWEEP_EVERY};
use super::redis::Redis;
use super::{Home, Store};
use crate::admission::idempotency::Memory;
use crate::admission::shared::Counters;
use crate::config::{Shared, Storage, built_in};
use crate::jobs::bell::Bell;
use crate::jobs::queue::Queue;
use crate::ledger::Ledger;
use crate::ledger::journal::{Batch, Journal};
use crate::ledger::record::{AttemptRow, CacheUse, Decision, Record, Status};
use crate::ledger::report::Report;
use crate::ledger::usage::{Dimension, UsageQuery};
use crate::money::NanoUsd;
use crate::tenant::secret::Pepper;
use crate::units::Span;

/// An open store, and where it is.
pub struct Kit {
    pub home: Home,
    pub store: Store,
    /// What hands the store's jobs out, where that is not the store.
    nats: Option<Arc<Nats>>,
    /// How long it takes at most until a queue hears of a job.
    hears_within: Duration,
    /// Where requests are remembered that are done once, if that is not the store.
    redis: Option<Arc<Redis>>,
    stop: DropGuard,
    _directory: TempDir,
}

impl Kit {
    async fn of(home: impl FnOnce(&TempDir) -> Home) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let home = home(&directory);
        let store = home.open().await.expect("a store");
        let (nats, redis, stop) = (None, None, CancellationToken::new().drop_guard());
        Self { store, home, nats, redis, hears_within: Duration::ZERO, stop, _directory: directory }
    }

    pub async fn sqlite() -> Self {
        Self::of(|directory| Home::File(directory.path().join("data/ledger.db"))).await
    }

    /// `None` where there is no server, which was said.
    pub async fn postgres() -> Option<Self> {
        let url = servers::database().await?;
        Some(Self::of(|directory| shared(&url, directory)).await)
    }

    /// A file whose jobs NATS hands out. `None` where there is no server, which was said.
    pub async fn nats() -> Option<Self> {
        let server = servers::nats()?;
        let mut kit = Self::sqlite().await;
        let name = format!("c{}", uuid::Uuid::now_v7().simple());
        let yaml = format!("providers: {{ demo: }}\nqueue: {{ url: 'nats://{}', prefix: {name} }}\n", server.address);
        let settings = built_in("test.yaml", &yaml).expect("a configuration").settings;
        let names = Names { prefix: name.clone(), scope: name.clone(), home: name };
        let delivery = Delivery { lease: Duration::from_secs(1), max_attempts: 6 };
        let (queue, events) = (settings.queue.expect("a queue"), settings.events);
        let nats = Nats::new(&queue, events, names, delivery, kit.store.queue(), kit.store.log());
        let nats = Arc::new(nats.expect("nothing to read"));
        let stopped = CancellationToken::new();
        tokio::spawn(nats.clone().keep_line(Bell::default(), stopped.clone()));
        tokio::spawn(nats.clone().keep_outbox(stopped.clone()));
        assert!(nats.found(Duration::from_secs(20)).await, "{:?}", nats.standing());
        kit.nats = Some(nats);
        kit.stop = stopped.drop_guard();
        // A sweep has looked for what no message told of.
        kit.hears_within = SWEEP_EVERY + Duration::from_millis(200);
        Some(kit)
    }

    /// A file, and Redis for requests that are done once. `None` where there is no server, which was said.
    pub async fn redis() -> Option<Self> {
        let server = servers::redis()?;
        let mut kit = Self::sqlite().await;
        let prefix = format!("c{}", uuid::Uuid::now_v7().simple());
        let settings =
            Shared { url: server.url().into(), prefix, timeout: Span(Duration::from_secs(10)), ..Shared::default() };
        let redis = Redis::start(&settings, "one", "one", Pepper::random().expect("randomness")).expect("a thread");
        assert!(redis.found(Duration::from_secs(20)).await, "{:?}", redis.standing());
        kit.redis = Some(Arc::new(redis));
        Some(kit)
    }

    pub fn queue(&self) -> Arc<dyn Queue> {
        match &self.nats {
            Some(nats) => nats.clone(),
            None => self.store.queue(),
        }
    }

    pub fn memory(&self) -> Arc<dyn Memory> {
        match &self.redis {
            Some(redis) => redis.clone(),
            None => self.store.memory(),
        }
    }

    pub fn journal(&self) -> Arc<dyn Journal> {
        self.store.journal()
    }

    pub async fn append(&self, batch: &Batch) {
        self.journal().append(batch).await.expect("saved");
    }

    pub async fn report(&self, query: &UsageQuery) -> Report {
        Report::new(query, self.journal().usage(query).await.expect("a report"))
    }

    pub async fn requests(&self) -> u64 {
        requests(&*self.journal()).await
    }

    pub async fn rebuild(&self) {
        self.store.rebuild(&by(&[])).await.expect("rebuilt");
    }

    pub async fn purge(&self, before_ms: i64) -> u64 {
        self.journal().forget_before(before_ms).await.expect("purged")
    }

    /// Sums some of what is there, and not all of it.
    pub async fn sum_some(&self) {
        match &self.store {
            Store::Sqlite(store) => store.sum_some().await,
            Store::Postgres(store) => store.sum_some().await,
        }
    }
}

/// A database at an address, with a directory for what is one server's alone.
pub fn shared(url: &str, directory: &TempDir) -> Home {
    let yaml = format!("providers: {{ demo: }}\nstorage: {{ url: '{url}' }}\n");
    match built_in("test.yaml", &yaml).expect("a configuration").settings.storage {
        Storage::Postgres(url) => Home::Shared { url, beside: directory.path().join("stepwell.db") },
        other => panic!("{other:?}"),
    }
}

/// How many requests the report has.
pub async fn requests(journal: &dyn Journal) -> u64 {
    Report::new(&by(&[]), journal.usage(&by(&[])).await.expect("a report")).total.requests
}

/// Makes two tests of each function.
macro_rules! on_every_store {
    ($($claim:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test]
            async fn $claim() {
                super::$claim(super::Kit::sqlite().await).await;
            })*
        }

        mod on_postgres {
            $(#[tokio::test]
            async fn $claim() {
                if let Some(kit) = super::Kit::postgres().await {
                    super::$claim(kit).await;
                }
            })*
        }
    };
}
use on_every_store;

/// Makes a test of each function, with its kit from a function that may have none.
macro_rules! on_another {
    ($module:ident, $kit:ident: $($claim:ident),*) => {
        mod $module {
            $(#[tokio::test]
            async fn $claim() {
                if let Some(kit) = super::Kit::$kit().await {
                    super::$claim(kit).await;
                }
            })*
        }
    };
}

/// What a queue promises, with NATS between the store and its workers.
macro_rules! on_nats {
    ($($claim:ident),* $(,)?) => { super::on_another! { on_nats, nats: $($claim),* } };
}

/// What the memory of requests that are done once promises, on Redis.
macro_rules! on_redis {
    ($($claim:ident),* $(,)?) => { super::on_another! { on_redis, redis: $($claim),* } };
}
use {on_another, on_nats, on_redis};

/// 2026-09-21T14:13:20Z.
pub const NOW: i64 = 1_790_000_000_000;

pub struct Told;

impl Decision for Told {
    fn json(&self) -> String {
        r#"{"task":"coding","candidates":[]}"#.to_owned()
    }
}

pub fn record(id: &str, started_unix_ms: i64) -> Record {
    Record {
        key: Some("team".into()),
        asked_model: "auto".to_owned(),
        status: Status::Completed,
        http_status: 200,
        task: "coding".into(),
        task_confidence: f64::NAN,
        strategy: "balanced",
        provider: "groq".into(),
        model: "llama".to_owned(),
        cache: CacheUse::Miss,
        attempts: vec![AttemptRow {
            provider: "groq".to_owned(),
            model: "llama".to_owned(),
            status: Some(200),
            kind: None,
            started_ms: 1,
            duration_ms: 200,
            message: None,
            ..AttemptRow::default()
        }],
        prompt_tokens: 1_000,
        completion_tokens: 100,
        cost: Some(NanoUsd(1_500)),
        first_token_ms: Some(90),
        total_ms: 250,
        reason: "best of three".to_owned(),
        decision: Some(Arc::new(Told)),
        ..Record::new(id.into(), started_unix_ms)
    }
}

pub fn batch(number: u64, records: Vec<Record>) -> Batch {
    Batch { run: 7, number, records: records.into_iter().map(Arc::new).collect() }
}

pub fn by(group_by: &[Dimension]) -> UsageQuery {
    UsageQuery { group_by: group_by.to_vec(), ..UsageQuery::default() }
}

/// A ledger whose writer runs until the sender is used or dropped; the task then tells how many rows were left.
pub fn running(journal: Arc<dyn Journal>) -> (Ledger, oneshot::Sender<()>, tokio::task::JoinHandle<usize>) {
    let (ledger, writer) = Ledger::open(journal);
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(writer.run(async move {
        let _ = stopped.await;
    }));
    (ledger, stop, task)
}
