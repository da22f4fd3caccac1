//! The ledger in one SQLite file.
//!
//! One connection writes, others only read: with a write-ahead log neither waits for the other, nor for a second process
//! (the command line) that has the file open. A write waits at most ten seconds for a lock, then fails and is tried again
//! by the ledger's writer. SQLite runs on threads of its own, never on the runtime's.
//!
//! The file is never recreated: one that is damaged, or written by a newer program, is refused at the start and left
//! as it is. One that goes while it is open takes no more rows (they would be saved where nobody finds them); when it
//! comes back, or another sound one is put in its place, that one does.

mod batches; // many requests in one file
mod events; // what has happened
mod files; // what batches are read from and written to
mod idempotency; // requests that are done once
mod inspect; // is this a database of ours
mod jobs; // requests to be answered later
mod keys; // keys of callers
mod native; // lines that providers answer in batches of their own
mod projection; // sums per hour and day, and reports from them
mod rows; // requests in and out

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::RwLock;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use tokio::sync::Mutex;
use tracing::warn;

use inspect::Identity;

use crate::ledger::journal::{Answer, Batch, Cursor, Failure, Filter, Journal};
use crate::ledger::report::Group;
use crate::ledger::row::Row;
use crate::ledger::usage::{DAY_MS, UsageQuery, floor};
use crate::store::FORGOTTEN_AT_ONCE;

/// How long a statement waits for another process's lock.
const BUSY: Duration = Duration::from_secs(10);
/// The same at the start, where nobody tries again: another process may be at its end, or making a backup.
const BUSY_AT_START: Duration = Duration::from_secs(15);
/// Connections for reports and look-ups. More only compete for two or three cores.
const READERS: u32 = 3;
/// Rows that may be saved but not yet summed; a report reads them one by one (about 5 µs each).
const UNSUMMED: i64 = 4_096;
/// Rows summed or deleted in one transaction; bounds how long the lock is held (about 100 ms).
const STRIDE: i64 = 16_384;

/// Length of the write-ahead log, in bytes, from which on it is folded into the file, and from which on it is begun anew.
const WORTH_TIDYING: u64 = 4 << 20;
const TOO_LONG: u64 = 64 << 20;

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
    #[error("`{}` is empty, and a ledger that was there before is not begun anew", .0.display())]
    Empty(PathBuf),
    #[error("`{}` is no ledger, or one of another version; start again to bring it up to date", .0.display())]
    Foreign(PathBuf),
    #[error("`{}` belongs to the database that was there before; move it away, and the `-shm` beside it", .0.display())]
    ForeignLog(PathBuf),
    #[error("cannot open `{}`: {source}", path.display())]
    Database { path: PathBuf, source: sqlx::Error },
}

/// The store. Share it behind an `Arc`.
pub struct Sqlite {
    path: PathBuf,
    options: SqliteConnectOptions,
    /// The file that is open, whatever its name leads to by now.
    opened: RwLock<Option<Identity>>,
    /// Taken out while it works, and put back only if all went well: after an error or a dropped future the next write
    /// begins with a fresh connection.
    writer: Mutex<Option<SqliteConnection>>,
    /// For the write-ahead log alone.
    tidier: Mutex<Option<SqliteConnection>>,
    readers: RwLock<SqlitePool>,
    arriving: parking_lot::Mutex<Vec<jobs::Arriving>>,
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
            // Whoever writes does not stop to tidy the log away, which waits for the disk: see [`Sqlite::tidy_log`]. Only
            // where nobody else does.
            .pragma("wal_autocheckpoint", "32768")
            .disable_statement_logging();
        let patient = options.clone().busy_timeout(BUSY_AT_START);
        let mut connection = patient.connect().await.map_err(|error| inspect::explain(path, error))?;
        inspect::content(path, &mut connection).await?;
        migrate(path, &mut connection).await?;
        let busy = sqlx::AssertSqlSafe(format!("PRAGMA busy_timeout = {}", BUSY.as_millis()));
        sqlx::query(busy).execute(&mut connection).await.map_err(|error| inspect::explain(path, error))?;
        let options = options.create_if_missing(false);
        Ok(Self {
            opened: RwLock::new(inspect::identity(path)),
            options,
            writer: Mutex::new(Some(connection)),
            tidier: Mutex::new(None),
            readers: RwLock::new(Self::readers(path)),
            arriving: parking_lot::Mutex::default(),
            path: path.to_owned(),
        })
    }

    fn readers(path: &Path) -> SqlitePool {
        let reading = SqliteConnectOptions::new()
            .filename(path)
            .read_only(true)
            .busy_timeout(BUSY)
            .pragma("cache_size", "-16000")
            .disable_statement_logging();
        SqlitePoolOptions::new().max_connections(READERS).acquire_timeout(BUSY).connect_lazy_with(reading)
    }

    async fn read(&self) -> Result<PoolConnection<sqlx::Sqlite>, Failure> {
        let readers = self.readers.read().clone();
        readers.acquire().await.map_err(failure)
    }

    /// Makes sure that what is written can be found: the name must still lead to the file that is open.
    async fn stay(&self, slot: &mut Option<SqliteConnection>) -> Result<(), Failure> {
        let (opened, there) = (*self.opened.read(), inspect::identity(&self.path));
        if opened == there {
            return Ok(());
        }
        let shown = self.path.display();
        if there.is_none() {
            let message = format!("the database `{shown}` is gone; rows are kept in memory until it is put back");
            return Err(Failure(message));
        }
        // The old file's log is folded into it and taken away, or it would be taken for the new one's.
        let tidier = self.tidier.lock().await.take();
        for connection in slot.take().into_iter().chain(tidier) {
            let _ = connection.close().await;
        }
        let readers = std::mem::replace(&mut *self.readers.write(), Self::readers(&self.path));
        readers.close().await;
        let refused = |error: OpenError| Failure(format!("another file was put in the database's place: {error}"));
        inspect::replacement(&self.path).map_err(refused)?;
        let mut connection = self.options.connect().await.map_err(failure)?;
        inspect::content(&self.path, &mut connection).await.map_err(refused)?;
        let newest = MIGRATIONS.iter().map(|step| step.version).max();
        if inspect::version(&mut connection).await.ok().flatten() != newest {
            return Err(refused(OpenError::Foreign(self.path.clone())));
        }
        *slot = Some(connection);
        *self.opened.write() = inspect::identity(&self.path);
        warn!("another database was put at `{shown}`; rows are saved there from now on");
        Ok(())
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

    /// Folds the write-ahead log into the file, beside those who write. A log that has grown long all the same is begun
    /// anew, for which writers wait for a moment. To be called about once a second.
    pub async fn tidy_log(&self) -> Result<(), Failure> {
        let log = self.path.with_file_name({
            let mut name = self.path.file_name().unwrap_or_default().to_owned();
            name.push("-wal");
            name
        });
        let length = std::fs::metadata(log).map_or(0, |metadata| metadata.len());
        if length < WORTH_TIDYING {
            return Ok(());
        }
        let opened = *self.opened.read();
        let kept = self.tidier.lock().await.take();
        let mut connection = match kept {
            Some(connection) => connection,
            None => self.options.clone().connect().await.map_err(failure)?,
        };
        sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(&mut connection).await.map_err(failure)?;
        if length > TOO_LONG {
            // What is left by now is little; nobody may write meanwhile.
            let _writer = self.writer.lock().await;
            sqlx::query("PRAGMA wal_checkpoint(RESTART)").execute(&mut connection).await.map_err(failure)?;
        }
        // Of a file that is not ours any more it is of no use.
        if opened == *self.opened.read() {
            *self.tidier.lock().await = Some(connection);
        }
        Ok(())
    }

    /// Waits until all connections are closed; the last one tidies the write-ahead log away.
    pub async fn close(&self) {
        let readers = self.readers.read().clone();
        readers.close().await;
        if let Some(connection) = self.tidier.lock().await.take() {
            let _ = connection.close().await;
        }
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
        self.stay(&mut slot).await?;
        let mut connection = match slot.take() {
            Some(connection) => connection,
            None => self.options.connect().await.map_err(failure)?,
        };
        let result = work(&mut connection).await.map_err(failure)?;
        *slot = Some(connection);
        Ok(result)
    }
}

impl Sqlite {
    /// Deletes a little at a time, until nothing is left to delete; in between others write. Returns how much went.
    async fn forget(
        &self,
        some: impl for<'c> Fn(&'c mut SqliteConnection) -> BoxFuture<'c, Result<u64, sqlx::Error>> + Send + Sync,
    ) -> Result<u64, Failure> {
        let mut forgotten = 0;
        loop {
            match self.write(async |connection| some(connection).await).await? {
                0 => return Ok(forgotten),
                more => forgotten += more,
            }
        }
    }

    /// Several statements that count together or not at all.
    async fn transact<T>(
        &self,
        work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, Failure> {
        self.write(async |connection| {
            let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
            let result = work(&mut transaction).await?;
            transaction.commit().await?;
            Ok(result)
        })
        .await
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
            let mut connection = self.read().await?;
            projection::usage(&mut connection, query).await.map_err(failure)
        })
    }

    fn find<'a>(&'a self, id: &'a str) -> Answer<'a, Option<Row>> {
        Box::pin(async move {
            let mut connection = self.read().await?;
            rows::find(&mut connection, id).await.map_err(failure)
        })
    }

    fn has<'a>(&'a self, id: &'a str, started_unix_ms: i64) -> Answer<'a, bool> {
        Box::pin(async move {
            let mut connection = self.read().await?;
            rows::has(&mut connection, id, started_unix_ms).await.map_err(failure)
        })
    }

    fn recent<'a>(&'a self, filter: &'a Filter, limit: usize, before: Option<&'a Cursor>) -> Answer<'a, Vec<Row>> {
        Box::pin(async move {
            let mut connection = self.read().await?;
            rows::recent(&mut connection, filter, limit, before).await.map_err(failure)
        })
    }

    fn forget_before(&self, moment_ms: i64) -> Answer<'_, u64> {
        Box::pin(async move {
            let before_ms = floor(moment_ms, DAY_MS);
            self.write(async |connection| projection::keep_since(connection, before_ms).await).await?;
            self.forget(|connection| Box::pin(projection::purge(connection, FORGOTTEN_AT_ONCE))).await
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
impl Sqlite {
    pub(super) async fn sum_some(&self) {
        let summed = self.write(async |connection| projection::catch_up(connection, 20, 17).await).await;
        summed.expect("summed");
    }
}

#[cfg(test)]
mod tests;
