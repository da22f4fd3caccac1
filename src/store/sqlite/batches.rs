//! Batches: the port `batch` in the table `batch`, its lines in `job`.

use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row as _, SqliteConnection};

use super::jobs::{now_ms, submit};
use super::{Sqlite, events, failure};
use crate::batch::{Batch, Batches, Ended, LineError, Native, Status};
use crate::events::log::Note;
use crate::events::{Facts, Kind as Happened, facts};
use crate::jobs::job::{Kind, Status as JobStatus};
use crate::ledger::journal::Answer;
use crate::store::follow_up::of_batch;

const COLUMNS: &str = "id, key, endpoint, input_file, completion_window, status, total, completed, failed, output_file, \
     error_file, errors, metadata, owner, created_unix_ms, expires_unix_ms, started_unix_ms, finalizing_unix_ms, \
     cancelling_unix_ms, ended_unix_ms, seq, native";

impl Batches for Sqlite {
    fn create<'a>(&'a self, batch: &'a Batch) -> Answer<'a, ()> {
        Box::pin(async move {
            self.transact(async |connection| {
                let statement = "INSERT INTO batch (id, key, endpoint, input_file, completion_window, status, metadata, \
                     owner, created_unix_ms, expires_unix_ms, native) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
                sqlx::query(statement)
                    .bind(&batch.id)
                    .bind(&batch.key)
                    .bind(&batch.endpoint)
                    .bind(&batch.input_file)
                    .bind(&batch.completion_window)
                    .bind(Status::Validating.as_str())
                    .bind(&batch.metadata)
                    .bind(&batch.owner)
                    .bind(batch.created)
                    .bind(batch.expires)
                    .bind(batch.native.map(Native::as_str))
                    .execute(&mut *connection)
                    .await?;
                let told = facts([("endpoint", batch.endpoint.clone().into())]);
                tell(connection, batch, Happened::BatchCreated, told, batch.created).await?;
                submit(connection, &of_batch(&batch.id, Kind::BatchStart), batch.created).await?;
                Ok(())
            })
            .await
        })
    }

    fn find<'a>(&'a self, id: &'a str) -> Answer<'a, Option<Batch>> {
        Box::pin(async move {
            let mut connection = self.read().await?;
            find(&mut connection, id).await.map_err(failure)
        })
    }

    fn list<'a>(&'a self, key: Option<&'a str>, after: Option<&'a str>, most: usize) -> Answer<'a, Vec<Batch>> {
        Box::pin(async move {
            let mut connection = self.read().await?;
            let mut query = QueryBuilder::new(format!("SELECT {COLUMNS} FROM batch WHERE 1 = 1"));
            if let Some(key) = key {
                query.push(" AND key = ").push_bind(key);
            }
            if let Some(after) = after {
                query.push(" AND seq < (SELECT seq FROM batch WHERE id = ").push_bind(after).push(")");
            }
            query.push(" ORDER BY seq DESC LIMIT ").push_bind(i64::try_from(most).unwrap_or(i64::MAX));
            let rows = query.build().fetch_all(&mut *connection).await.map_err(failure)?;
            rows.iter().map(batch).collect::<Result<_, _>>().map_err(failure)
        })
    }

    fn start<'a>(&'a self, id: &'a str, total: i64) -> Answer<'a, ()> {
        Box::pin(async move {
            let now_ms = now_ms();
            self.transact(async |connection| {
                let Some(batch) = find(connection, id).await? else { return Ok(()) };
                if batch.started.is_some() || batch.status.has_ended() {
                    return Ok(());
                }
                let status = if batch.status == Status::Cancelling { batch.status } else { Status::InProgress };
                sqlx::query("UPDATE batch SET status = ?, total = ?, started_unix_ms = ? WHERE id = ?")
                    .bind(status.as_str())
                    .bind(total)
                    .bind(now_ms)
                    .bind(id)
                    .execute(&mut *connection)
                    .await?;
                tell(connection, &batch, Happened::BatchStarted, facts([("lines", total.into())]), now_ms).await?;
                finalize_if_done(connection, id, now_ms).await
            })
            .await
        })
    }

    fn refuse<'a>(&'a self, id: &'a str, errors: &'a [LineError]) -> Answer<'a, ()> {
        Box::pin(async move {
            let now_ms = now_ms();
            self.transact(async |connection| {
                let Some(batch) = find(connection, id).await? else { return Ok(()) };
                if batch.started.is_some() || batch.status.has_ended() {
                    return Ok(());
                }
                sqlx::query("UPDATE batch SET status = ?, errors = ?, ended_unix_ms = ? WHERE id = ?")
                    .bind(Status::Failed.as_str())
                    .bind(serde_json::to_string(errors).unwrap_or_default())
                    .bind(now_ms)
                    .bind(id)
                    .execute(&mut *connection)
                    .await?;
                let first = errors.first().map(|error| error.code.clone());
                tell(connection, &batch, Happened::BatchFailed, facts([("error", first.into())]), now_ms).await
            })
            .await
        })
    }

    fn cancel<'a>(&'a self, id: &'a str) -> Answer<'a, Option<Batch>> {
        Box::pin(async move {
            let now_ms = now_ms();
            self.transact(async |connection| {
                let Some(batch) = find(connection, id).await? else { return Ok(None) };
                if !matches!(batch.status, Status::Validating | Status::InProgress) {
                    return Ok(Some(batch));
                }
                sqlx::query("UPDATE batch SET status = ?, cancelling_unix_ms = ? WHERE id = ?")
                    .bind(Status::Cancelling.as_str())
                    .bind(now_ms)
                    .bind(id)
                    .execute(&mut *connection)
                    .await?;
                // Lines that wait for a retry or a slot end at once; each of them is told by its claim.
                // Those that a part carries are let go by it, once it has heard what was answered.
                let waiting = "UPDATE job SET not_before_unix_ms = ? \
                     WHERE part_of = ? AND status = 'queued' AND carried_by IS NULL";
                sqlx::query(waiting).bind(now_ms).bind(id).execute(&mut *connection).await?;
                tell(connection, &batch, Happened::BatchCancelling, Facts::new(), now_ms).await?;
                find(connection, id).await
            })
            .await
        })
    }

    fn ended<'a>(&'a self, id: &'a str, behind: i64, most: usize) -> Answer<'a, Vec<Ended>> {
        Box::pin(async move {
            let mut connection = self.read().await?;
            let statement = "SELECT id, place, status, http_status, error, request, result FROM job \
                 WHERE part_of = ? AND place > ? AND kind = 'request' ORDER BY place LIMIT ?";
            let rows = sqlx::query(statement)
                .bind(id)
                .bind(behind)
                .bind(i64::try_from(most).unwrap_or(i64::MAX))
                .fetch_all(&mut *connection)
                .await
                .map_err(failure)?;
            rows.iter().map(ended).collect::<Result<_, _>>().map_err(failure)
        })
    }

    fn finish<'a>(&'a self, id: &'a str, output: Option<&'a str>, error: Option<&'a str>) -> Answer<'a, ()> {
        Box::pin(async move {
            let now_ms = now_ms();
            self.transact(async |connection| {
                let Some(batch) = find(connection, id).await? else { return Ok(()) };
                if batch.status != Status::Finalizing {
                    return Ok(());
                }
                let expired = "SELECT EXISTS (SELECT 1 FROM job WHERE part_of = ? AND status = 'expired')";
                let is_late: bool = sqlx::query_scalar(expired).bind(id).fetch_one(&mut *connection).await?;
                let (status, happened) = match (batch.cancelling.is_some(), is_late) {
                    (true, _) => (Status::Cancelled, Happened::BatchCancelled),
                    (false, true) => (Status::Expired, Happened::BatchExpired),
                    (false, false) => (Status::Completed, Happened::BatchCompleted),
                };
                let statement =
                    "UPDATE batch SET status = ?, output_file = ?, error_file = ?, ended_unix_ms = ? WHERE id = ?";
                sqlx::query(statement)
                    .bind(status.as_str())
                    .bind(output)
                    .bind(error)
                    .bind(now_ms)
                    .bind(id)
                    .execute(&mut *connection)
                    .await?;
                let told = facts([("completed", batch.completed.into()), ("failed", batch.failed.into())]);
                tell(connection, &batch, happened, told, now_ms).await
            })
            .await
        })
    }
}

/// A line has ended.
pub(super) async fn count(
    connection: &mut SqliteConnection,
    batch: &str,
    status: JobStatus,
    now_ms: i64,
) -> Result<(), sqlx::Error> {
    let statement = match status {
        JobStatus::Completed => "UPDATE batch SET completed = completed + 1 WHERE id = ?",
        _ => "UPDATE batch SET failed = failed + 1 WHERE id = ?",
    };
    if sqlx::query(statement).bind(batch).execute(&mut *connection).await?.rows_affected() == 1 {
        finalize_if_done(connection, batch, now_ms).await?;
    }
    Ok(())
}

/// Once every line has ended, the files are written, by a job.
async fn finalize_if_done(connection: &mut SqliteConnection, id: &str, now_ms: i64) -> Result<(), sqlx::Error> {
    let statement = "UPDATE batch SET status = 'finalizing', finalizing_unix_ms = ? \
         WHERE id = ? AND started_unix_ms IS NOT NULL AND completed + failed >= total AND finalizing_unix_ms IS NULL";
    if sqlx::query(statement).bind(now_ms).bind(id).execute(&mut *connection).await?.rows_affected() == 1 {
        submit(connection, &of_batch(id, Kind::BatchEnd), now_ms).await?;
    }
    Ok(())
}

async fn tell(
    connection: &mut SqliteConnection,
    batch: &Batch,
    kind: Happened,
    facts: Facts,
    at_unix_ms: i64,
) -> Result<(), sqlx::Error> {
    let note = Note { at_unix_ms, kind, subject: batch.id.clone(), key: batch.key.clone(), facts };
    events::add(connection, &note).await
}

async fn find(connection: &mut SqliteConnection, id: &str) -> Result<Option<Batch>, sqlx::Error> {
    let statement = format!("SELECT {COLUMNS} FROM batch WHERE id = ?");
    let row = sqlx::query(sqlx::AssertSqlSafe(statement)).bind(id).fetch_optional(connection).await?;
    row.map(|row| batch(&row)).transpose()
}

fn batch(row: &SqliteRow) -> Result<Batch, sqlx::Error> {
    let status: String = row.try_get(5)?;
    let unknown = || sqlx::Error::Decode(format!("unknown status `{status}` of a batch").into());
    let errors: Option<String> = row.try_get(11)?;
    let native: Option<String> = row.try_get(21)?;
    Ok(Batch {
        id: row.try_get(0)?,
        key: row.try_get(1)?,
        endpoint: row.try_get(2)?,
        input_file: row.try_get(3)?,
        completion_window: row.try_get(4)?,
        status: Status::parse(&status).ok_or_else(unknown)?,
        total: row.try_get(6)?,
        completed: row.try_get(7)?,
        failed: row.try_get(8)?,
        output_file: row.try_get(9)?,
        error_file: row.try_get(10)?,
        errors: errors.and_then(|errors| serde_json::from_str(&errors).ok()).unwrap_or_default(),
        metadata: row.try_get(12)?,
        owner: row.try_get(13)?,
        created: row.try_get(14)?,
        expires: row.try_get(15)?,
        started: row.try_get(16)?,
        finalizing: row.try_get(17)?,
        cancelling: row.try_get(18)?,
        ended: row.try_get(19)?,
        seq: row.try_get(20)?,
        native: native.as_deref().and_then(Native::parse),
    })
}

fn ended(row: &SqliteRow) -> Result<Ended, sqlx::Error> {
    let status: String = row.try_get(2)?;
    let unknown = || sqlx::Error::Decode(format!("unknown status `{status}` of a job").into());
    let http_status: Option<i64> = row.try_get(3)?;
    Ok(Ended {
        job: row.try_get(0)?,
        place: row.try_get(1)?,
        status: JobStatus::parse(&status).ok_or_else(unknown)?,
        http_status: http_status.and_then(|status| u16::try_from(status).ok()),
        error: row.try_get(4)?,
        request: row.try_get(5)?,
        result: row.try_get(6)?,
    })
}
