//! The store that a configuration names: opened, and handed out as the ports that it implements.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::postgres::{self, Postgres};
use super::sqlite::{self, Sqlite};
use crate::admission::idempotency::Memory;
use crate::config::PostgresUrl;
use crate::ledger::journal::Journal;
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

    pub async fn close(&self) {
        match self {
            Self::Sqlite(store) => store.close().await,
            Self::Postgres(store) => store.close().await,
        }
    }
}
