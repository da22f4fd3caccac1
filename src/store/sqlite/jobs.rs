//! Jobs: the port `jobs::queue` in the table `job`. Every change is one transaction with the event that tells it.

use std::time::Duration;

use sqlx::sqlite::SqliteRow;
use sqlx::{Connection as _, QueryBuilder, Row as _, SqliteConnection};
use tokio::sync::oneshot;

use super::{Sqlite, batches, events, failure};
use crate::events::log::Note;
use crate::events::{Facts, Kind as Happened, facts};
use crate::jobs::job::{Claimed, End, Hold, Job, Kind, New, Status};
use crate::jobs::queue::{Contents, Filter, Obeyed, Order, Queue, Taken};
use crate::ledger::journal::{Answer, Failure};
use crate::store::FORGOTTEN_AT_ONCE;
use crate::store::follow_up::{Outcome, Wait, delivery, facts_of_new};

/// Jobs given back or ended because of the time in one claim; bounds how long the lock is held.
const OVERDUE_AT_ONCE: i64 = 100;

const COLUMNS: &str = "id, kind, status, key, part_of, place, priority, attempts, max_attempts, created_unix_ms, \
     not_before_unix_ms, expires_unix_ms, ended_unix_ms, http_status, error, webhook, seq";

impl Queue for Sqlite {
    fn submit<'a>(&'a self, jobs: &'a [New]) -> Answer<'a, Vec<Taken>> {
        Box::pin(async move {
            loop {
                let (told, taken) = oneshot::channel();
                self.arriving.lock().push((jobs.to_vec(), told));
                self.take_arriving().await;
                match taken.await {
                    Ok(taken) => return taken,
                    // Whoever was writing for all left in between; what it was about to write may be written or not.
                    Err(_) if self.holds_all(jobs).await? => return Ok(vec![Taken::In; jobs.len()]),
                    Err(_) => {}
                }
            }
        })
    }

    fn claim<'a>(&'a self, worker: &'a str, most: usize, lease: Duration) -> Answer<'a, Vec<Claimed>> {
        Box::pin(async move {
            let now_ms = now_ms();
            let mut connection = self.read().await?;
            if !is_anything_due(&mut connection, now_ms).await.map_err(failure)? {
                return Ok(Vec::new());
            }
            drop(connection);
            self.transact(async |connection| {
                settle_overdue(connection, now_ms).await?;
                claim_best(connection, worker, most, now_ms, after(now_ms, lease)).await
            })
            .await
        })
    }

    fn claim_one<'a>(&'a self, id: &'a str, worker: &'a str, lease: Duration) -> Answer<'a, Option<Claimed>> {
        Box::pin(async move {
            let now_ms = now_ms();
            let mut connection = self.read().await?;
            if !is_one_due(&mut connection, id, now_ms).await.map_err(failure)? {
                return Ok(None);
            }
            drop(connection);
            let claimed = self.transact(async |connection| {
                settle_overdue(connection, now_ms).await?;
                claim_this(connection, worker, id, now_ms, after(now_ms, lease)).await
            });
            claimed.await
        })
    }

    fn renew<'a>(&'a self, hold: &'a Hold, lease: Duration) -> Answer<'a, bool> {
        Box::pin(async move {
            let until = after(now_ms(), lease);
            let statement = async |connection: &mut SqliteConnection| {
                sqlx::query("UPDATE job SET lease_until_unix_ms = ? WHERE id = ? AND fence = ? AND status = 'running'")
                    .bind(until)
                    .bind(&hold.id)
                    .bind(hold.fence)
                    .execute(connection)
                    .await
            };
            Ok(self.write(statement).await?.rows_affected() == 1)
        })
    }

    fn end<'a>(&'a self, hold: &'a Hold, end: &'a End) -> Answer<'a, bool> {
        Box::pin(async move {
            let now_ms = now_ms();
            self.transact(async |connection| {
                let found = select(connection, "", "id = ? AND status = 'running' AND fence = ?");
                let Some(row) = found.bind(&hold.id).bind(hold.fence).fetch_optional(&mut *connection).await? else {
                    return Ok(false);
                };
                finish(connection, job(&row)?, end, now_ms).await?;
                Ok(true)
            })
            .await
        })
    }

    fn order<'a>(&'a self, id: &'a str, order: Order) -> Answer<'a, Obeyed> {
        Box::pin(async move {
            let now_ms = now_ms();
            self.transact(async |connection| {
                let Some(row) = select(connection, "", "id = ?").bind(id).fetch_optional(&mut *connection).await?
                else {
                    return Ok(Obeyed::Unknown);
                };
                obey(connection, job(&row)?, order, now_ms).await
            })
            .await
        })
    }

    fn find<'a>(&'a self, id: &'a str) -> Answer<'a, Option<Job>> {
        Box::pin(async move {
            let mut connection = self.read().await?;
            let row = select(&mut connection, "", "id = ?").bind(id).fetch_optional(&mut *connection).await;
            row.map_err(failure)?.map(|row| job(&row)).transpose().map_err(failure)
        })
    }

    fn contents<'a>(&'a self, id: &'a str) -> Answer<'a, Option<Contents>> {
        Box::pin(async move {
            let mut connection = self.read().await?;
            sqlx::query_as("SELECT request, result FROM job WHERE id = ?")
                .bind(id)
                .fetch_optional(&mut *connection)
                .await
                .map_err(failure)
        })
    }

    fn list<'a>(&'a self, filter: &'a Filter, before: Option<i64>, most: usize) -> Answer<'a, Vec<Job>> {
        Box::pin(async move {
            let mut connection = self.read().await?;
            let mut query = QueryBuilder::new(format!("SELECT {COLUMNS} FROM job WHERE seq < "));
            query.push_bind(before.unwrap_or(i64::MAX));
            if let Some(status) = filter.status {
                query.push(" AND status = ").push_bind(status.as_str());
            }
            if let Some(key) = &filter.key {
                query.push(" AND key = ").push_bind(key);
            }
            if let Some(part_of) = &filter.part_of {
                query.push(" AND part_of = ").push_bind(part_of);
            }
            if !filter.internal {
                query.push(" AND kind = 'request'");
            }
            query.push(" ORDER BY seq DESC LIMIT ").push_bind(i64::try_from(most).unwrap_or(i64::MAX));
            let rows = query.build().fetch_all(&mut *connection).await.map_err(failure)?;
            rows.iter().map(job).collect::<Result<_, _>>().map_err(failure)
        })
    }

    fn restate<'a>(&'a self, id: &'a str, status: Status) -> Answer<'a, ()> {
        Box::pin(async move {
            // What is told as running has a worker that is not known: its lease is over at once.
            let statement = "UPDATE job SET status = ?1, lease_until_unix_ms = CASE WHEN ?1 = 'running' THEN 0 END, \
                 ended_unix_ms = CASE WHEN ?1 IN ('queued', 'running') THEN NULL ELSE coalesce(ended_unix_ms, created_unix_ms) END \
                 WHERE id = ?2";
            let update = async |connection: &mut SqliteConnection| {
                sqlx::query(statement).bind(status.as_str()).bind(id).execute(connection).await
            };
            self.write(update).await?;
            Ok(())
        })
    }

    fn counts(&self) -> Answer<'_, Vec<(Status, u64)>> {
        Box::pin(async move {
            let mut connection = self.read().await?;
            let rows: Vec<(String, i64)> = sqlx::query_as("SELECT status, count(*) FROM job GROUP BY status")
                .fetch_all(&mut *connection)
                .await
                .map_err(failure)?;
            let counted = |status: Status| {
                let found = rows.iter().find(|(word, _)| word == status.as_str());
                (status, found.map_or(0, |(_, count)| u64::try_from(*count).unwrap_or(0)))
            };
            Ok(Status::ALL.into_iter().map(counted).collect())
        })
    }

    fn forget_ended_before(&self, moment_ms: i64, dead_ms: i64) -> Answer<'_, u64> {
        Box::pin(
            async move { self.forget(move |connection| Box::pin(forget_some(connection, moment_ms, dead_ms))).await },
        )
    }
}

async fn forget_some(connection: &mut SqliteConnection, moment_ms: i64, dead_ms: i64) -> Result<u64, sqlx::Error> {
    // Lines of a batch that is still going on are what its files are written from.
    let statement = "DELETE FROM job WHERE seq IN (SELECT j.seq FROM job j \
         LEFT JOIN batch b ON b.id = j.part_of AND b.ended_unix_ms IS NULL \
         WHERE j.ended_unix_ms < max(?1, ?2) AND j.ended_unix_ms < iif(j.status = 'dead', ?2, ?1) \
         AND b.id IS NULL LIMIT ?3)";
    let done = sqlx::query(statement).bind(moment_ms).bind(dead_ms).bind(FORGOTTEN_AT_ONCE);
    Ok(done.execute(connection).await?.rows_affected())
}

/// Jobs on their way in, and who waits to hear of it.
pub(super) type Arriving = (Vec<New>, oneshot::Sender<Result<Vec<Taken>, Failure>>);

impl Sqlite {
    /// Writes everything that has arrived in one transaction: the first in line does it for those behind it, who find
    /// nothing left to do. A commit costs ten times as much as what it commits.
    async fn take_arriving(&self) {
        let mut arrived: Vec<Arriving> = Vec::new();
        let now_ms = now_ms();
        let written = self
            .write(async |connection| {
                arrived = std::mem::take(&mut *self.arriving.lock());
                if arrived.is_empty() {
                    return Ok(Vec::new());
                }
                let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
                let mut all = Vec::with_capacity(arrived.len());
                for (jobs, _) in &arrived {
                    let mut taken = Vec::with_capacity(jobs.len());
                    for job in jobs {
                        taken.push(submit(&mut transaction, job, now_ms).await?);
                    }
                    all.push(taken);
                }
                transaction.commit().await?;
                Ok(all)
            })
            .await;
        match written {
            Ok(all) => {
                for ((_, told), taken) in arrived.into_iter().zip(all) {
                    let _ = told.send(Ok(taken));
                }
            }
            Err(failure) => {
                // Before the line was reached nothing was taken from it: those who wait are told all the same.
                arrived.append(&mut self.arriving.lock());
                for (_, told) in arrived {
                    let _ = told.send(Err(failure.clone()));
                }
            }
        }
    }

    /// Whether exactly these jobs are there. What they are about is sealed, and no two seals are alike.
    async fn holds_all(&self, jobs: &[New]) -> Result<bool, Failure> {
        for job in jobs {
            let kept = self.contents(&job.id).await?;
            if kept.is_none_or(|(request, _)| request != job.request) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The clock that leases and times of jobs go by.
pub(super) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

pub(super) fn after(now_ms: i64, span: Duration) -> i64 {
    now_ms.saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX))
}

type Statement<'q> = sqlx::query::Query<'q, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

/// The columns of jobs that meet a condition, found by an index or by whatever is best. The connection only says for which
/// database.
pub(super) fn select<'q>(_: &mut SqliteConnection, index: &str, condition: &str) -> Statement<'q> {
    sqlx::query(sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM job {index} WHERE {condition}")))
}

pub(super) fn job(row: &SqliteRow) -> Result<Job, sqlx::Error> {
    let word = |at: usize| row.try_get::<String, _>(at);
    let unknown = |what: &str, word: &str| sqlx::Error::Decode(format!("unknown {what} `{word}` of a job").into());
    let (kind, status) = (word(1)?, word(2)?);
    let http_status: Option<i64> = row.try_get(13)?;
    Ok(Job {
        id: row.try_get(0)?,
        kind: Kind::parse(&kind).ok_or_else(|| unknown("kind", &kind))?,
        status: Status::parse(&status).ok_or_else(|| unknown("status", &status))?,
        key: row.try_get(3)?,
        part_of: row.try_get(4)?,
        place: row.try_get(5)?,
        priority: row.try_get(6)?,
        attempts: row.try_get(7)?,
        max_attempts: row.try_get(8)?,
        created_unix_ms: row.try_get(9)?,
        not_before_unix_ms: row.try_get(10)?,
        expires_unix_ms: row.try_get(11)?,
        ended_unix_ms: row.try_get(12)?,
        http_status: http_status.and_then(|status| u16::try_from(status).ok()),
        error: row.try_get(14)?,
        webhook: row.try_get::<i64, _>(15)? != 0,
        seq: row.try_get(16)?,
    })
}

/// Takes one job in, within a transaction of the caller.
pub(super) async fn submit(connection: &mut SqliteConnection, job: &New, now_ms: i64) -> Result<Taken, sqlx::Error> {
    let (part_of, place) = job.part_of.clone().unzip();
    let not_before = job.not_before_unix_ms.unwrap_or(now_ms);
    let statement = "INSERT INTO job (id, kind, status, key, part_of, place, priority, max_attempts, created_unix_ms, \
         not_before_unix_ms, expires_unix_ms, webhook, request, carried_by) \
         VALUES (?, ?, 'queued', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
         ON CONFLICT (id) DO NOTHING";
    let done = sqlx::query(statement)
        .bind(&job.id)
        .bind(job.kind.as_str())
        .bind(&job.key)
        .bind(part_of)
        .bind(place)
        .bind(job.priority)
        .bind(job.max_attempts)
        .bind(now_ms)
        .bind(not_before)
        .bind(job.expires_unix_ms)
        .bind(job.webhook)
        .bind(&job.request)
        .bind(&job.carried_by)
        .execute(&mut *connection)
        .await?;
    if done.rows_affected() == 0 {
        return Ok(Taken::Known);
    }
    let told = facts_of_new(job, now_ms);
    tell(connection, &job.id, job.key.as_deref(), Happened::Queued, told, now_ms).await?;
    Ok(Taken::In)
}

async fn tell(
    connection: &mut SqliteConnection,
    id: &str,
    key: Option<&str>,
    kind: Happened,
    facts: Facts,
    at_unix_ms: i64,
) -> Result<(), sqlx::Error> {
    let note = Note { at_unix_ms, kind, subject: id.to_owned(), key: key.map(str::to_owned), facts };
    events::add(connection, &note).await
}

// Statements name their index: without statistics, which a young database has none of, SQLite takes the index on the status
// alone, and every claim sorts all that waits.

/// So that a queue in which nothing happens is only read.
async fn is_anything_due(connection: &mut SqliteConnection, now_ms: i64) -> Result<bool, sqlx::Error> {
    let statement = "SELECT \
         EXISTS (SELECT 1 FROM job INDEXED BY job_leased WHERE status = 'running' AND lease_until_unix_ms <= ?1) \
         OR EXISTS (SELECT 1 FROM job INDEXED BY job_expiring WHERE status = 'queued' AND expires_unix_ms <= ?1)";
    if sqlx::query_scalar(statement).bind(now_ms).fetch_one(&mut *connection).await? {
        return Ok(true);
    }
    let statement = "SELECT EXISTS (SELECT 1 FROM job INDEXED BY job_due \
         WHERE status = 'queued' AND priority = ? AND not_before_unix_ms <= ?)";
    let mut priority = next_priority(connection, None).await?;
    while let Some(this) = priority {
        if sqlx::query_scalar(statement).bind(this).bind(now_ms).fetch_one(&mut *connection).await? {
            return Ok(true);
        }
        priority = next_priority(connection, priority).await?;
    }
    Ok(false)
}

/// The highest priority of those that wait, below one. By priority the index is sorted by time: jobs that are due later,
/// however many, are not looked at.
async fn next_priority(connection: &mut SqliteConnection, below: Option<i64>) -> Result<Option<i64>, sqlx::Error> {
    let statement = "SELECT max(priority) FROM job INDEXED BY job_due WHERE status = 'queued' AND priority < ?";
    sqlx::query_scalar(statement).bind(below.unwrap_or(i64::MAX)).fetch_one(connection).await
}

/// The same for one job: what is asked about is often done already.
async fn is_one_due(connection: &mut SqliteConnection, id: &str, now_ms: i64) -> Result<bool, sqlx::Error> {
    let statement = "SELECT EXISTS (SELECT 1 FROM job WHERE id = ?1 AND (status = 'queued' AND not_before_unix_ms <= ?2 \
         OR status = 'running' AND lease_until_unix_ms <= ?2))";
    sqlx::query_scalar(statement).bind(id).bind(now_ms).fetch_one(connection).await
}

/// Gives back or buries what workers were not heard of for, and ends what nobody has come to in its time.
async fn settle_overdue(connection: &mut SqliteConnection, now_ms: i64) -> Result<(), sqlx::Error> {
    let condition =
        format!("status = 'running' AND lease_until_unix_ms <= ? ORDER BY lease_until_unix_ms LIMIT {OVERDUE_AT_ONCE}");
    let lost = select(connection, "INDEXED BY job_leased", &condition).bind(now_ms).fetch_all(&mut *connection).await?;
    for row in &lost {
        let job = job(row)?;
        let told = facts([("attempt", job.attempts.into())]);
        tell(connection, &job.id, job.key.as_deref(), Happened::LeaseExpired, told, now_ms).await?;
        if job.attempts < job.max_attempts {
            let statement = "UPDATE job SET status = 'queued', not_before_unix_ms = ?, worker = NULL, \
                 lease_until_unix_ms = NULL WHERE seq = ?";
            sqlx::query(statement).bind(now_ms).bind(job.seq).execute(&mut *connection).await?;
        } else {
            let lost = Outcome::worker_lost(&job);
            close(connection, job, lost, now_ms).await?;
        }
    }
    let condition =
        format!("status = 'queued' AND expires_unix_ms <= ? ORDER BY expires_unix_ms LIMIT {OVERDUE_AT_ONCE}");
    let late =
        select(connection, "INDEXED BY job_expiring", &condition).bind(now_ms).fetch_all(&mut *connection).await?;
    for row in &late {
        close(connection, job(row)?, Outcome::expired(), now_ms).await?;
    }
    Ok(())
}

/// Claims up to so many jobs that are due, best first.
async fn claim_best(
    connection: &mut SqliteConnection,
    worker: &str,
    most: usize,
    now_ms: i64,
    until_ms: i64,
) -> Result<Vec<Claimed>, sqlx::Error> {
    let condition = "seq IN (SELECT seq FROM job INDEXED BY job_due WHERE status = 'queued' AND priority = ?5 \
         AND not_before_unix_ms <= ?3 ORDER BY not_before_unix_ms, seq LIMIT ?4)";
    let mut claimed = Vec::new();
    let mut priority = next_priority(connection, None).await?;
    while let Some(this) = priority {
        let more = i64::try_from(most - claimed.len()).unwrap_or(i64::MAX);
        let query =
            update_claimed(connection, condition).bind(worker).bind(until_ms).bind(now_ms).bind(more).bind(this);
        let mut some = take(connection, query, worker, now_ms).await?;
        // An UPDATE returns its rows in no order.
        some.sort_by_key(|claimed| (claimed.job.not_before_unix_ms, claimed.job.seq));
        claimed.extend(some);
        if claimed.len() >= most {
            break;
        }
        priority = next_priority(connection, priority).await?;
    }
    Ok(claimed)
}

/// Claims one job, if it is due.
async fn claim_this(
    connection: &mut SqliteConnection,
    worker: &str,
    id: &str,
    now_ms: i64,
    until_ms: i64,
) -> Result<Option<Claimed>, sqlx::Error> {
    let condition = "id = ?4 AND status = 'queued' AND not_before_unix_ms <= ?3";
    let query = update_claimed(connection, condition).bind(worker).bind(until_ms).bind(now_ms).bind(id);
    Ok(take(connection, query, worker, now_ms).await?.pop())
}

/// Parameters: the worker, the end of the lease, now, and those of the condition. The connection only says for which
/// database.
fn update_claimed<'q>(_: &mut SqliteConnection, condition: &str) -> Statement<'q> {
    sqlx::query(sqlx::AssertSqlSafe(format!(
        "UPDATE job SET status = 'running', attempts = attempts + 1, fence = fence + 1, worker = ?1, \
         lease_until_unix_ms = ?2 WHERE {condition} RETURNING {COLUMNS}, fence, request"
    )))
}

async fn take(
    connection: &mut SqliteConnection,
    claims: Statement<'_>,
    worker: &str,
    now_ms: i64,
) -> Result<Vec<Claimed>, sqlx::Error> {
    let rows = claims.fetch_all(&mut *connection).await?;
    let mut claimed = Vec::with_capacity(rows.len());
    for row in &rows {
        let job = job(row)?;
        let told = facts([("attempt", job.attempts.into()), ("worker", worker.into())]);
        tell(connection, &job.id, job.key.as_deref(), Happened::Started, told, now_ms).await?;
        let hold = Hold { id: job.id.clone(), fence: row.try_get(17)? };
        claimed.push(Claimed { job, hold, request: row.try_get(18)? });
    }
    Ok(claimed)
}

/// Ends the claim of a job that is held.
async fn finish(connection: &mut SqliteConnection, job: Job, end: &End, now_ms: i64) -> Result<(), sqlx::Error> {
    let outcome = Outcome::of(&job, end);
    if outcome.happened.is_end_of_job() {
        return close(connection, job, outcome, now_ms).await;
    }
    let part_has_ended = match end {
        End::Waits { parts } => any_ended(connection, parts).await?,
        _ => false,
    };
    let wait = Wait::of(end, part_has_ended, now_ms);
    let told = outcome.facts_of_wait(&job, &wait);
    tell(connection, &job.id, job.key.as_deref(), outcome.happened, told, now_ms).await?;
    let statement = "UPDATE job SET status = 'queued', attempts = attempts - ?, not_before_unix_ms = ?, worker = NULL, \
         lease_until_unix_ms = NULL, http_status = coalesce(?, http_status), error = coalesce(?, error) WHERE seq = ?";
    sqlx::query(statement)
        .bind(!wait.was_attempt)
        .bind(wait.due_unix_ms)
        .bind(outcome.http_status)
        .bind(outcome.error)
        .bind(job.seq)
        .execute(connection)
        .await?;
    Ok(())
}

/// Ends a job for good, and does what follows from that: whoever waits for it by a webhook is told, and its batch counts
/// it.
pub(super) async fn close(
    connection: &mut SqliteConnection,
    job: Job,
    outcome: Outcome<'_>,
    now_ms: i64,
) -> Result<(), sqlx::Error> {
    let Some(status) = Status::after(outcome.happened) else { return Ok(()) };
    let told = outcome.facts_at_end(&job);
    tell(connection, &job.id, job.key.as_deref(), outcome.happened, told, now_ms).await?;
    let statement = "UPDATE job SET status = ?, ended_unix_ms = ?, http_status = coalesce(?, http_status), error = ?, \
         result = ?, worker = NULL, lease_until_unix_ms = NULL WHERE seq = ?";
    sqlx::query(statement)
        .bind(status.as_str())
        .bind(now_ms)
        .bind(outcome.http_status)
        .bind(&outcome.error)
        .bind(outcome.result)
        .bind(job.seq)
        .execute(&mut *connection)
        .await?;
    if job.webhook {
        submit(connection, &delivery(&job, now_ms), now_ms).await?;
    }
    if let (Kind::Request, Some(batch)) = (job.kind, &job.part_of) {
        batches::count(connection, batch, status, now_ms).await?;
        // What waits for its parts goes on.
        sqlx::query("UPDATE job SET not_before_unix_ms = ? WHERE id = ? AND status = 'queued' AND kind = 'saga'")
            .bind(now_ms)
            .bind(batch)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

async fn any_ended(connection: &mut SqliteConnection, ids: &[String]) -> Result<bool, sqlx::Error> {
    for id in ids {
        let statement = "SELECT EXISTS (SELECT 1 FROM job WHERE id = ? AND ended_unix_ms IS NOT NULL)";
        if sqlx::query_scalar(statement).bind(id).fetch_one(&mut *connection).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn obey(connection: &mut SqliteConnection, job: Job, order: Order, now_ms: i64) -> Result<Obeyed, sqlx::Error> {
    let id = job.id.clone();
    match order {
        Order::Cancel if !job.status.has_ended() => {
            close(connection, job, Outcome::cancelled(), now_ms).await?;
        }
        Order::Discard if job.status == Status::Dead => {
            let discarded = Outcome::bare(Happened::Discarded, job.error.clone());
            close(connection, Job { webhook: false, part_of: None, ..job }, discarded, now_ms).await?;
        }
        // A line of a batch was counted when it ended, and its batch is written by now.
        Order::Retry
            if matches!(job.status, Status::Dead | Status::Failed | Status::Expired | Status::Cancelled)
                && (job.part_of.is_none() || job.kind == Kind::Webhook) =>
        {
            let statement = "UPDATE job SET status = 'queued', attempts = 0, not_before_unix_ms = ?, \
                 expires_unix_ms = NULL, ended_unix_ms = NULL, http_status = NULL, error = NULL, result = NULL WHERE seq = ?";
            sqlx::query(statement).bind(now_ms).bind(job.seq).execute(&mut *connection).await?;
            tell(connection, &job.id, job.key.as_deref(), Happened::Requeued, Facts::new(), now_ms).await?;
        }
        _ => return Ok(Obeyed::Impossible(job)),
    }
    let row = select(connection, "", "id = ?").bind(&id).fetch_one(&mut *connection).await?;
    Ok(Obeyed::Done(self::job(&row)?))
}
