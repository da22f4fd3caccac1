//! The database at the start: reached, fit, and brought up to date, or refused with the reason.
//!
//! All steps run in one transaction under a lock that ends with it. So several servers may start at once, a step that fails
//! leaves nothing behind, and a pooler between us and the server does no harm. Steps go forward only.

use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{Connection, Executor, PgConnection};
use tokio::time::{Instant, sleep};

use super::failure;
use super::pool::Pool;
use crate::resilience::backoff::full_jitter;

/// Where the steps that were taken are noted.
const TABLE: &str = "stepwell_migration";
/// The lock under which steps are taken: any number that nobody else uses in this database.
const LOCK: i64 = 0x7374_6570_7765_6c6c;

/// Why a database cannot serve. Addresses are shown without their passwords.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("`storage.url` is no address that can be used: {shown}")]
    Address { shown: String },
    #[error("the database at {shown} cannot be reached ({reason}); start it, or correct `storage.url`")]
    Unreachable { shown: String, reason: String },
    #[error("the database at {shown} does not let us in ({reason}); correct `storage.url`, or the rights of its user")]
    Refused { shown: String, reason: String },
    #[error(
        "the database at {shown} was written by a newer version of stepwell (step {version}); use that version or another database"
    )]
    Newer { shown: String, version: i64 },
    #[error(
        "the database at {shown} keeps text as {encoding}, which lacks characters that callers write; create one with ENCODING 'UTF8'"
    )]
    Encoding { shown: String, encoding: String },
    #[error("there is no ledger in the database at {shown} yet; it is set up by `stepwell serve`")]
    Missing { shown: String },
    #[error("the ledger in the database at {shown} is of another version; `stepwell serve` brings it up to date")]
    Foreign { shown: String },
    #[error(
        "the database at {shown} cannot be brought up to date ({reason}); docs/storage.md says which rights that needs"
    )]
    Outdated { shown: String, reason: String },
}

/// What is to be done to a database that is not up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    UpToDate,
    /// Nothing: it is refused.
    AsItIs,
}

/// Waits for the server, at most so long, and brings the database up to date.
pub async fn prepare(pool: &Pool, shown: &str, wish: Wish, patience: Duration) -> Result<(), OpenError> {
    let began = Instant::now();
    let mut attempt = 0;
    loop {
        let left = patience.saturating_sub(began.elapsed());
        let error = match tokio::time::timeout(left, pool.lease()).await {
            Ok(Ok(mut lease)) => {
                let prepared = up_to_date(&mut lease, shown, wish).await;
                lease.settle::<()>(&Ok(()));
                return prepared;
            }
            Ok(Err(error)) => error,
            Err(_) => {
                let reason = format!("no answer within {patience:?}");
                return Err(OpenError::Unreachable { shown: shown.to_owned(), reason });
            }
        };
        let pause = full_jitter(Duration::from_millis(100), Duration::from_secs(1), attempt, random());
        if !may_pass(&error) || began.elapsed() + pause >= patience {
            return Err(refused(shown, error));
        }
        sleep(pause).await;
        attempt += 1;
    }
}

/// In 0..1.
fn random() -> f64 {
    f64::from(uuid::Uuid::new_v4().as_u128() as u32) / f64::from(u32::MAX)
}

/// Whether it is a matter of time: nobody listens yet, or the server is starting or stopping.
fn may_pass(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        // Class 57P: operator intervention, such as `cannot_connect_now`; 53300: too many connections.
        sqlx::Error::Database(error) => error.code().is_some_and(|code| code.starts_with("57P") || code == "53300"),
        _ => false,
    }
}

fn refused(shown: &str, error: sqlx::Error) -> OpenError {
    let shown = shown.to_owned();
    match error {
        error if may_pass(&error) => OpenError::Unreachable { shown, reason: reason(error) },
        error => OpenError::Refused { shown, reason: reason(error) },
    }
}

fn reason(error: sqlx::Error) -> String {
    match error {
        sqlx::Error::Io(error) => error.to_string(),
        sqlx::Error::Database(error) => error.message().to_owned(),
        other => failure(other).0,
    }
}

async fn up_to_date(connection: &mut PgConnection, shown: &str, wish: Wish) -> Result<(), OpenError> {
    let outdated = |error: sqlx::Error| OpenError::Outdated { shown: shown.to_owned(), reason: reason(error) };
    let encoding: String =
        sqlx::query_scalar("SHOW server_encoding").fetch_one(&mut *connection).await.map_err(outdated)?;
    if encoding != "UTF8" {
        return Err(OpenError::Encoding { shown: shown.to_owned(), encoding });
    }
    let mut steps = sqlx::migrate!("src/store/postgres/migrations");
    steps.dangerous_set_table_name(TABLE);
    steps.set_locking(false);
    // Whoever may only read and write, and not create, can start all the same when nothing is to be done.
    let newest = steps.iter().map(|step| step.version).max();
    match version(connection).await.map_err(outdated)? {
        there if there == newest => return Ok(()),
        Some(version) if Some(version) > newest => {
            return Err(OpenError::Newer { shown: shown.to_owned(), version });
        }
        None if wish == Wish::AsItIs => return Err(OpenError::Missing { shown: shown.to_owned() }),
        Some(_) if wish == Wish::AsItIs => return Err(OpenError::Foreign { shown: shown.to_owned() }),
        _ => {}
    }
    let mut transaction = connection.begin().await.map_err(outdated)?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *transaction).await.map_err(outdated)?;
    migrate(&steps, &mut transaction).await.map_err(|error| match error {
        MigrateError::VersionMissing(version) | MigrateError::VersionMismatch(version) => {
            OpenError::Newer { shown: shown.to_owned(), version }
        }
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => outdated(error),
        other => outdated(sqlx::Error::Migrate(Box::new(other))),
    })?;
    transaction.commit().await.map_err(outdated)
}

async fn migrate(steps: &Migrator, connection: &mut PgConnection) -> Result<(), MigrateError> {
    // The driver's `IF NOT EXISTS` is no news.
    connection.execute("SET LOCAL client_min_messages = warning").await.map_err(MigrateError::Execute)?;
    steps.run_direct(None, connection, false).await
}

/// The newest step that a database has; `None` in one without any.
async fn version(connection: &mut PgConnection) -> Result<Option<i64>, sqlx::Error> {
    let exists: bool =
        sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL").bind(TABLE).fetch_one(&mut *connection).await?;
    if !exists {
        return Ok(None);
    }
    sqlx::query_scalar("SELECT max(version) FROM stepwell_migration").fetch_one(connection).await
}
