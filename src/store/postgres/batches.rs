//! Batches: the port `batch` in the table `batch`, its lines in `job`.
//!
//! A batch's row is locked behind those of its lines and never before, see `jobs.rs`.

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, QueryBuilder, Row as _};

use super::change::Change;
use super::jobs::take_in;
use super::rows::storable;
use super::{LOOK_UP, Postgres, SUBMIT};
use crate::batch::{Batch, Batches, Ended, LineError, Native, Status};
use crate::events::{Facts, Kind as Happened, facts};
use crate::jobs::job::{Kind, Status as JobStatus};
use crate::ledger::journal::Answer;
use crate::store::follow_up::of_batch;

const COLUMNS: &str = "id, key, endpoint, input_file, completion_window, status, total, completed, failed, output_file, \
     error_file, errors, metadata, owner, created_unix_ms, expires_unix_ms, started_unix_ms, finalizing_unix_ms, \
     cancelling_unix_ms, ended_unix_ms, seq, native";

impl Batches for Postgres {
    fn create<'a>(&'a self, batch: &'a Batch) -> Answer<'a, ()> {
        let batch = batch.clone();
        Box::pin(async move { self.run(SUBMIT, |connection| Box::pin(create(connection, batch))).await })
    }

    fn find<'a>(&'a self, id: &'a str) -> Answer<'a, Option<Batch>> {
        let id = storable(id);
        Box::pin(async move { self.run(LOOK_UP, |connection| Box::pin(find(connection, id, ""))).await })
    }

    fn list<'a>(&'a self, key: Option<&'a str>, after: Option<&'a str>, most: usize) -> Answer<'a, Vec<Batch>> {
        let (key, after) = (key.map(storable), after.map(storable));
        Box::pin(async move { self.run(LOOK_UP, move |connection| Box::pin(list(connection, key, after, most))).await })
    }

    fn start<'a>(&'a self, id: &'a str, total: i64) -> Answer<'a, ()> {
        let id = storable(id);
        Box::pin(async move { self.run(LOOK_UP, move |connection| Box::pin(start(connection, id, total))).await })
    }

    fn refuse<'a>(&'a self, id: &'a str, errors: &'a [LineError]) -> Answer<'a, ()> {
        let (id, errors) = (storable(id), errors.to_vec());
        Box::pin(async move { self.run(LOOK_UP, |connection| Box::pin(refuse(connection, id, errors))).await })
    }

    fn cancel<'a>(&'a self, id: &'a str) -> Answer<'a, Option<Batch>> {
        let id = storable(id);
        Box::pin(async move { self.run(LOOK_UP, |connection| Box::pin(cancel(connection, id))).await })
    }

    fn ended<'a>(&'a self, id: &'a str, behind: i64, most: usize) -> Answer<'a, Vec<Ended>> {
        let id = storable(id);
        Box::pin(
            async move { self.run(LOOK_UP, move |connection| Box::pin(lines(connection, id, behind, most))).await },
        )
    }

    fn finish<'a>(&'a self, id: &'a str, output: Option<&'a str>, error: Option<&'a str>) -> Answer<'a, ()> {
        let (id, output, error) = (storable(id), output.map(storable), error.map(storable));
        Box::pin(async move { self.run(LOOK_UP, |connection| Box::pin(finish(connection, id, output, error))).await })
    }
}

async fn create(connection: &mut PgConnection, batch: Batch) -> Result<(), sqlx::Error> {
    let mut change = Change::begin(connection).await?;
    let statement = "INSERT INTO batch (id, key, endpoint, input_file, completion_window, status, metadata, owner, \
         created_unix_ms, expires_unix_ms, native) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
    sqlx::query(statement)
        .bind(storable(&batch.id))
        .bind(batch.key.as_deref().map(storable))
        .bind(storable(&batch.endpoint))
        .bind(storable(&batch.input_file))
        .bind(storable(&batch.completion_window))
        .bind(Status::Validating.as_str())
        .bind(batch.metadata.as_deref().map(storable))
        .bind(&batch.owner)
        .bind(batch.created)
        .bind(batch.expires)
        .bind(batch.native.map(Native::as_str))
        .execute(change.connection())
        .await?;
    tell(&mut change, &batch, Happened::BatchCreated, facts([("endpoint", batch.endpoint.clone().into())]));
    take_in(&mut change, &[of_batch(&batch.id, Kind::BatchStart)]).await?;
    change.commit().await
}

async fn list(
    connection: &mut PgConnection,
    key: Option<String>,
    after: Option<String>,
    most: usize,
) -> Result<Vec<Batch>, sqlx::Error> {
    let mut query = QueryBuilder::new(format!("SELECT {COLUMNS} FROM batch WHERE true"));
    if let Some(key) = key {
        query.push(" AND key = ").push_bind(key);
    }
    if let Some(after) = after {
        query.push(" AND seq < (SELECT seq FROM batch WHERE id = ").push_bind(after).push(")");
    }
    query.push(" ORDER BY seq DESC LIMIT ").push_bind(i64::try_from(most).unwrap_or(i64::MAX));
    query.build().fetch_all(connection).await?.iter().map(batch).collect()
}

async fn start(connection: &mut PgConnection, id: String, total: i64) -> Result<(), sqlx::Error> {
    let mut change = Change::begin(connection).await?;
    let Some(batch) = locked(&mut change, &id).await? else { return Ok(()) };
    if batch.started.is_some() || batch.status.has_ended() {
        return Ok(());
    }
    let status = if batch.status == Status::Cancelling { batch.status } else { Status::InProgress };
    sqlx::query("UPDATE batch SET status = $1, total = $2, started_unix_ms = $3 WHERE id = $4")
        .bind(status.as_str())
        .bind(total)
        .bind(change.now_ms)
        .bind(&id)
        .execute(change.connection())
        .await?;
    tell(&mut change, &batch, Happened::BatchStarted, facts([("lines", total.into())]));
    finalize_if_done(&mut change, &id).await?;
    change.commit().await
}

async fn refuse(connection: &mut PgConnection, id: String, errors: Vec<LineError>) -> Result<(), sqlx::Error> {
    let mut change = Change::begin(connection).await?;
    let Some(batch) = locked(&mut change, &id).await? else { return Ok(()) };
    if batch.started.is_some() || batch.status.has_ended() {
        return Ok(());
    }
    sqlx::query("UPDATE batch SET status = $1, errors = $2, ended_unix_ms = $3 WHERE id = $4")
        .bind(Status::Failed.as_str())
        .bind(storable(&serde_json::to_string(&errors).unwrap_or_default()))
        .bind(change.now_ms)
        .bind(&id)
        .execute(change.connection())
        .await?;
    let first = errors.first().map(|error| error.code.clone());
    tell(&mut change, &batch, Happened::BatchFailed, facts([("error", first.into())]));
    change.commit().await
}

async fn cancel(connection: &mut PgConnection, id: String) -> Result<Option<Batch>, sqlx::Error> {
    let mut change = Change::begin(connection).await?;
    let now_ms = change.now_ms;
    let Some(before) = find(change.connection(), id.clone(), "").await? else { return Ok(None) };
    if !matches!(before.status, Status::Validating | Status::InProgress) {
        return Ok(Some(before));
    }
    // Lines that wait for a retry or a slot end at once; each of them is told by its claim. Locked before their batch, as
    // whoever ends one does; in one order, as another one who cancels does.
    let statement = "WITH waiting AS (SELECT seq FROM job WHERE part_of = $2 AND status = 'queued' \
         AND carried_by IS NULL ORDER BY seq FOR UPDATE) \
         UPDATE job SET not_before_unix_ms = $1 FROM waiting WHERE job.seq = waiting.seq";
    sqlx::query(statement).bind(now_ms).bind(&id).execute(change.connection()).await?;
    let Some(batch) = locked(&mut change, &id).await? else { return Ok(None) };
    if matches!(batch.status, Status::Validating | Status::InProgress) {
        sqlx::query("UPDATE batch SET status = $1, cancelling_unix_ms = $2 WHERE id = $3")
            .bind(Status::Cancelling.as_str())
            .bind(now_ms)
            .bind(&id)
            .execute(change.connection())
            .await?;
        tell(&mut change, &batch, Happened::BatchCancelling, Facts::new());
    }
    let now = find(change.connection(), id, "").await?;
    change.commit().await?;
    Ok(now)
}

async fn finish(
    connection: &mut PgConnection,
    id: String,
    output: Option<String>,
    error: Option<String>,
) -> Result<(), sqlx::Error> {
    let mut change = Change::begin(connection).await?;
    let Some(batch) = locked(&mut change, &id).await? else { return Ok(()) };
    if batch.status != Status::Finalizing {
        return Ok(());
    }
    let expired = "SELECT EXISTS (SELECT FROM job WHERE part_of = $1 AND status = 'expired')";
    let is_late: bool = sqlx::query_scalar(expired).bind(&id).fetch_one(change.connection()).await?;
    let (status, happened) = match (batch.cancelling.is_some(), is_late) {
        (true, _) => (Status::Cancelled, Happened::BatchCancelled),
        (false, true) => (Status::Expired, Happened::BatchExpired),
        (false, false) => (Status::Completed, Happened::BatchCompleted),
    };
    sqlx::query("UPDATE batch SET status = $1, output_file = $2, error_file = $3, ended_unix_ms = $4 WHERE id = $5")
        .bind(status.as_str())
        .bind(output)
        .bind(error)
        .bind(change.now_ms)
        .bind(&id)
        .execute(change.connection())
        .await?;
    let told = facts([("completed", batch.completed.into()), ("failed", batch.failed.into())]);
    tell(&mut change, &batch, happened, told);
    change.commit().await
}

/// A line has ended, or a part of something else: false if there is no such batch. Locks the batch until the change ends.
pub async fn count(change: &mut Change<'_>, batch: &str, status: JobStatus) -> Result<bool, sqlx::Error> {
    let statement = match status {
        JobStatus::Completed => "UPDATE batch SET completed = completed + 1 WHERE id = $1",
        _ => "UPDATE batch SET failed = failed + 1 WHERE id = $1",
    };
    let is_batch = sqlx::query(statement).bind(batch).execute(change.connection()).await?.rows_affected() == 1;
    if is_batch {
        finalize_if_done(change, batch).await?;
    }
    Ok(is_batch)
}

/// Once every line has ended, the files are written, by a job. The batch is locked.
async fn finalize_if_done(change: &mut Change<'_>, id: &str) -> Result<(), sqlx::Error> {
    let statement = "UPDATE batch SET status = 'finalizing', finalizing_unix_ms = $1 \
         WHERE id = $2 AND started_unix_ms IS NOT NULL AND completed + failed >= total AND finalizing_unix_ms IS NULL";
    let done = sqlx::query(statement).bind(change.now_ms).bind(id).execute(change.connection()).await?;
    if done.rows_affected() == 1 {
        take_in(change, &[of_batch(id, Kind::BatchEnd)]).await?;
    }
    Ok(())
}

fn tell(change: &mut Change<'_>, batch: &Batch, kind: Happened, facts: Facts) {
    change.tell(kind, &batch.id, batch.key.as_deref(), facts);
}

async fn locked(change: &mut Change<'_>, id: &str) -> Result<Option<Batch>, sqlx::Error> {
    find(change.connection(), id.to_owned(), "FOR UPDATE").await
}

async fn find(connection: &mut PgConnection, id: String, lock: &'static str) -> Result<Option<Batch>, sqlx::Error> {
    let statement = format!("SELECT {COLUMNS} FROM batch WHERE id = $1 {lock}");
    let row = sqlx::query(AssertSqlSafe(statement)).bind(id).fetch_optional(connection).await?;
    row.map(|row| batch(&row)).transpose()
}

async fn lines(connection: &mut PgConnection, id: String, behind: i64, most: usize) -> Result<Vec<Ended>, sqlx::Error> {
    let statement = "SELECT id, place, status, http_status, error, request, result FROM job \
         WHERE part_of = $1 AND place > $2 AND kind = 'request' ORDER BY place LIMIT $3";
    let rows = sqlx::query(statement).bind(id).bind(behind).bind(i64::try_from(most).unwrap_or(i64::MAX));
    rows.fetch_all(connection).await?.iter().map(ended).collect()
}

fn batch(row: &PgRow) -> Result<Batch, sqlx::Error> {
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

fn ended(row: &PgRow) -> Result<Ended, sqlx::Error> {
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
