//! The store that a configuration names: opened, and handed out as the ports that it implements.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::postgres::{self, Postgres};
use super::sqlite::{self, Sqlite};
use crate::admission::idempotency::Memory;
use crate::batch::Batches;
use crate::batch::file::Files;
use crate::batch::native::Parts;
use crate::config::PostgresUrl;
use crate::events::log::Log;
use crate::jobs::queue::Queue;
use crate::ledger::journal::{Failure, Journal};
use crate::ledger::report::Group;
use crate::ledger::usage::UsageQuery;
use crate::tenant::vault::Vault;

/// Where a server keeps its things.
#[derive(Clone, Debug)]
pub enum Home {
    /// All in one file, and in files beside it.
    File(PathBuf),
    /// In a database that other servers may share, and what is this server's alone in files beside `beside`.
    Shared { url: PostgresUrl, beside: PathBuf },
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    File(#[from] sqlite::OpenError),
    #[error(transparent)]
    Shared(#[from] postgres::OpenError),
}

impl Home {
    /// The path whose name, with another ending, the log of holds and the secret have.
    pub fn beside(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Shared { beside, .. } => beside,
        }
    }

    /// For people, without a password.
    pub fn shown(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Shared { url, .. } => format!("postgres {}", url.shown()),
        }
    }

    /// Opens the store, sets it up if it is new, and brings it up to date.
    pub async fn open(&self) -> Result<Store, OpenError> {
        Ok(match self {
            Self::File(path) => Store::Sqlite(Arc::new(Sqlite::open(path).await?)),
            Self::Shared { url, .. } => Store::Postgres(Postgres::open(url).await?),
        })
    }

    /// For commands that only look: what does not exist is not created.
    pub async fn open_existing(&self) -> Result<Store, OpenError> {
        Ok(match self {
            Self::File(path) => Store::Sqlite(Arc::new(Sqlite::open_existing(path).await?)),
            Self::Shared { url, .. } => Store::Postgres(Postgres::open_existing(url).await?),
        })
    }
}

/// An open store. Cheap to clone.
#[derive(Clone)]
pub enum Store {
    Sqlite(Arc<Sqlite>),
    Postgres(Postgres),
}

impl Store {
    pub fn journal(&self) -> Arc<dyn Journal> {
        match self {
            Self::Sqlite(store) => store.clone(),
            Self::Postgres(store) => Arc::new(store.clone()),
        }
    }

    pub fn vault(&self) -> Arc<dyn Vault> {
        match self {
            Self::Sqlite(store) => store.clone(),
            Self::Postgres(store) => Arc::new(store.clone()),
        }
    }

    pub fn memory(&self) -> Arc<dyn Memory> {
        match self {
            Self::Sqlite(store) => store.clone(),
            Self::Postgres(store) => Arc::new(store.clone()),
        }
    }

    pub fn queue(&self) -> Arc<dyn Queue> {
        match self {
            Self::Sqlite(store) => store.clone(),
            Self::Postgres(store) => Arc::new(store.clone()),
        }
    }

    pub fn log(&self) -> Arc<dyn Log> {
        match self {
            Self::Sqlite(store) => store.clone(),
            Self::Postgres(store) => Arc::new(store.clone()),
        }
    }

    pub fn batches(&self) -> Arc<dyn Batches> {
        match self {
            Self::Sqlite(store) => store.clone(),
            Self::Postgres(store) => Arc::new(store.clone()),
        }
    }

    pub fn files(&self) -> Arc<dyn Files> {
        match self {
            Self::Sqlite(store) => store.clone(),
            Self::Postgres(store) => Arc::new(store.clone()),
        }
    }

    pub fn parts(&self) -> Arc<dyn Parts> {
        match self {
            Self::Sqlite(store) => store.clone(),
            Self::Postgres(store) => Arc::new(store.clone()),
        }
    }

    /// Makes all sums of the ledger anew from its requests. Returns a report as it was before and as it is then; in a
    /// database that several servers share both are of one moment, whoever writes meanwhile.
    pub async fn rebuild(&self, query: &UsageQuery) -> Result<(Vec<Group>, Vec<Group>), Failure> {
        match self {
            Self::Sqlite(store) => {
                let before = store.usage(query).await?;
                store.rebuild().await?;
                Ok((before, store.usage(query).await?))
            }
            Self::Postgres(store) => store.rebuild(query).await,
        }
    }

    pub async fn close(&self) {
        match self {
            Self::Sqlite(store) => store.close().await,
            Self::Postgres(store) => store.close().await,
        }
    }
}
