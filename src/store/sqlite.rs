//! The ledger in one SQLite file.
//!
//! One connection writes, others only read: with a write-ahead log neither waits for the other, nor for a second process
//! (the command line) that has the file open. A write waits at most [`BUSY`] for a lock, then fails and is tried again
//! by the ledger's writer. SQLite runs on threads of its own, never on the runtime's.
//!
//! The file is never recreated: one that is damaged, or written by a newer program, is refused at the start and left
//! as it is.

mod inspect; // is this a database of ours
mod projection; // sums per hour and day, and reports from them
mod rows; // requests in and out

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use tokio::sync::Mutex;
use tracing::warn;

use crate::ledger::journal::{Answer, Batch, Cursor, Failure, Filter, Journal};
use crate::ledger::report::Group;
use crate::ledger::row::Row;
use crate::ledger::usage::{DAY_MS, UsageQuery, floor};

/// How long a statement waits for another process's lock.
const BUSY: Duration = Duration::from_secs(10);
/// Connections for reports and look-ups. More only compete for two or three cores.
const READERS: u32 = 3;
/// Rows that may be saved but not yet summed; a report reads them one by one (about 5 µs each).
const UNSUMMED: i64 = 4_096;
/// Rows summed or deleted in one transaction; bounds how long the lock is held (about 100 ms).
const STRIDE: i64 = 16_384;

static MIGRATIONS: Migrator = sqlx::migrate!("src/store/migrations");

/// Why a file cannot serve as the ledger's store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot create the directory `{}`: {source}", path.display())]
    Directory { path: PathBuf, source: std::io::Error },
    #[error("there is no database at `{}` yet", .0.display())]
    Missing(PathBuf),
    #[error("cannot read `{}`: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("`{}` is damaged ({detail}); it was left as it is: move it away or restore a backup, then start again", path.display())]
    Damaged { path: PathBuf, detail: String },
    #[error("`{}` was written by a newer version of stepwell (step {version}); use that version or another data directory", path.display())]
    Newer { path: PathBuf, version: i64 },
    #[error("cannot open `{}`: {source}", path.display())]
    Database { path: PathBuf, source: sqlx::Error },
}

/// The store. Share it behind an `Arc`.
pub struct Sqlite {
    options: SqliteConnectOptions,
    /// Taken out while it works, and put back only if all went well: after an error or a dropped future the next write
    /// begins with a fresh connection.
    writer: Mutex<Option<SqliteConnection>>,
    readers: SqlitePool,
}

impl Sqlite {
    /// Opens the file, creating it and its directory if they are missing, and brings it up to date.
    pub async fn open(path: &Path) -> Result<Self, OpenError> {
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            std::fs::create_dir_all(directory)
                .map_err(|source| OpenError::Directory { path: directory.to_owned(), source })?;
        }
        inspect::header(path)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(BUSY)
            .pragma("journal_size_limit", "67108864")
            .disable_statement_logging();
        let mut connection = options.connect().await.map_err(|error| inspect::explain(path, error))?;
        inspect::content(path, &mut connection).await?;
        migrate(path, &mut connection).await?;
        let reading = SqliteConnectOptions::new()
            .filename(path)
            .read_only(true)
            .busy_timeout(BUSY)
            .pragma("cache_size", "-16000")
            .disable_statement_logging();
        let readers =
            SqlitePoolOptions::new().max_connections(READERS).acquire_timeout(BUSY).connect_lazy_with(reading);
        Ok(Self { options, writer: Mutex::new(Some(connection)), readers })
    }

    /// Like [`Sqlite::open`], for commands that only look: a file that does not exist is not created.
    pub async fn open_existing(path: &Path) -> Result<Self, OpenError> {
        if !path.exists() {
            return Err(OpenError::Missing(path.to_owned()));
        }
        Self::open(path).await
    }

    /// Recreates all sums from the requests, in strides; reports stay right meanwhile, but slow. Returns how many
    /// requests were summed.
    pub async fn rebuild(&self) -> Result<u64, Failure> {
        self.write(async |connection| {
            projection::clear(connection).await?;
            projection::catch_up(connection, 0, STRIDE).await
        })
        .await
    }

    /// Deletes the requests that started before a moment, rounded down to a day. Their sums stay: reports still cover
    /// them, by whole hours. Returns how many were deleted.
    pub async fn purge(&self, before_ms: i64) -> Result<u64, Failure> {
        let before_ms = floor(before_ms, DAY_MS);
        self.write(async |connection| projection::purge(connection, before_ms, STRIDE).await).await
    }

    /// Waits until all connections are closed; the last one tidies the write-ahead log away.
    pub async fn close(&self) {
        self.readers.close().await;
        if let Some(connection) = self.writer.lock().await.take()
            && let Err(error) = connection.close().await
        {
            warn!("the ledger's store did not close cleanly: {error}");
        }
    }

    async fn write<T>(
        &self,
        work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, Failure> {
        let mut slot = self.writer.lock().await;
        let mut connection = match slot.take() {
            Some(connection) => connection,
            None => self.options.connect().await.map_err(failure)?,
        };
        let result = work(&mut connection).await.map_err(failure)?;
        *slot = Some(connection);
        Ok(result)
    }
}

/// Two processes may start at once: the one that comes second finds the work done when it looks again.
async fn migrate(path: &Path, connection: &mut SqliteConnection) -> Result<(), OpenError> {
    let mut result = MIGRATIONS.run(&mut *connection).await;
    if let Err(MigrateError::Execute(_) | MigrateError::ExecuteMigration(..)) = &result {
        result = MIGRATIONS.run(&mut *connection).await;
    }
    let path = path.to_owned();
    result.map_err(|error| match error {
        MigrateError::VersionMissing(version) | MigrateError::VersionMismatch(version) => {
            OpenError::Newer { path, version }
        }
        MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) => inspect::explain(&path, source),
        other => OpenError::Database { path, source: sqlx::Error::Migrate(Box::new(other)) },
    })
}

impl Journal for Sqlite {
    fn append<'a>(&'a self, batch: &'a Batch) -> Answer<'a, ()> {
        Box::pin(async move {
            self.write(async |connection| rows::save(connection, batch).await).await?;
            // The rows are safe by now; sums that are late cost a report time, not truth.
            let summed = self.write(async |connection| projection::catch_up(connection, UNSUMMED, STRIDE).await).await;
            if let Err(failure) = summed {
                warn!("the ledger's sums could not be brought up to date: {failure}");
            }
            Ok(())
        })
    }

    fn usage<'a>(&'a self, query: &'a UsageQuery) -> Answer<'a, Vec<Group>> {
        Box::pin(async move {
            let mut connection = self.readers.acquire().await.map_err(failure)?;
            projection::usage(&mut connection, query).await.map_err(failure)
        })
    }

    fn find<'a>(&'a self, id: &'a str) -> Answer<'a, Option<Row>> {
        Box::pin(async move {
            let mut connection = self.readers.acquire().await.map_err(failure)?;
            rows::find(&mut connection, id).await.map_err(failure)
        })
    }

    fn recent<'a>(&'a self, filter: &'a Filter, limit: usize, before: Option<&'a Cursor>) -> Answer<'a, Vec<Row>> {
        Box::pin(async move {
            let mut connection = self.readers.acquire().await.map_err(failure)?;
            rows::recent(&mut connection, filter, limit, before).await.map_err(failure)
        })
    }
}

fn failure(error: sqlx::Error) -> Failure {
    Failure(match error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        other => other.to_string(),
    })
}

#[cfg(test)]
mod tests;
