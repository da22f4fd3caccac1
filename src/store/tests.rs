//! The same tests on every store: what each of them promises, on real files and on a real server.
//!
//! [`ledger`] has the rows and their sums, [`callers`] keys and idempotency, [`jobs`] jobs and events, [`batches`] batches and
//! files, [`native`] lines that providers answer in batches of their own. A test is a function of a [`Kit`]; the macro at
//! the end of each file makes two tests of it.

mod batches;
mod callers;
mod jobs;
mod ledger;
mod native;
#[path = "../../tests/it/support/servers.rs"]
pub mod servers;

use std::sync::Arc;

use tempfile::TempDir;
use tokio::sync::oneshot;

use super::{Home, Store};
use crate::config::{Storage, built_in};
use crate::ledger::Ledger;
use crate::ledger::journal::{Batch, Journal};
use crate::ledger::record::{AttemptRow, CacheUse, Decision, Record, Status};
use crate::ledger::report::Report;
use crate::ledger::usage::{Dimension, UsageQuery};
use crate::money::NanoUsd;

/// An open store, and where it is.
pub struct Kit {
    pub home: Home,
    pub store: Store,
    _directory: TempDir,
}

impl Kit {
    async fn of(home: impl FnOnce(&TempDir) -> Home) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let home = home(&directory);
        Self { store: home.open().await.expect("a store"), home, _directory: directory }
    }

    pub async fn sqlite() -> Self {
        Self::of(|directory| Home::File(directory.path().join("data/ledger.db"))).await
    }

    /// `None` where there is no server, which was said.
    pub async fn postgres() -> Option<Self> {
        let url = servers::database().await?;
        Some(Self::of(|directory| shared(&url, directory)).await)
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
        match &self.store {
            Store::Sqlite(store) => store.purge(before_ms).await,
            Store::Postgres(store) => store.purge(before_ms).await,
        }
        .expect("purged")
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
