//! Jobs: the port `jobs::queue` in the table `job`. Every change is one transaction with the event that tells it.
//!
//! Servers take turns by the database's clock, and pass over what another one has locked. Rows are locked in one order, so
//! that nobody waits in a circle: jobs first, then what they are part of, and of several of those the smaller id first.

use std::collections::HashSet;
use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, QueryBuilder, Row as _};

use super::change::Change;
use super::rows::storable;
use super::{LOOK_UP, Postgres, SUBMIT, batches};
use crate::events::{Facts, Kind as Happened, facts};
use crate::jobs::job::{Claimed, End, Hold, Job, Kind, New, Status};
use crate::jobs::queue::{Contents, Filter, Obeyed, Order, Queue, Taken};
use crate::ledger::journal::Answer;
use crate::store::FORGOTTEN_AT_ONCE;
use crate::store::follow_up::{Outcome, Wait, delivery, facts_of_new};

/// Jobs given back or ended because of the time in one claim; bounds how long their rows are locked.
const OVERDUE_AT_ONCE: i64 = 100;

pub(super) const COLUMNS: &str = "job.id, job.kind, job.status, job.key, job.part_of, job.place, job.priority, job.attempts, \
     job.max_attempts, job.created_unix_ms, job.not_before_unix_ms, job.expires_unix_ms, job.ended_unix_ms, \
     job.http_status, job.error, job.webhook, job.seq";

impl Queue for Postgres {
    fn submit<'a>(&'a self, jobs: &'a [New]) -> Answer<'a, Vec<Taken>> {
        let jobs = jobs.to_vec();
        // A caller waits for a single one.
        let limit = if jobs.len() > 1 { LOOK_UP } else { SUBMIT };
        Box::pin(async move { self.run(limit, |connection| Box::pin(submit(connection, jobs))).await })
    }

    fn claim<'a>(&'a self, worker: &'a str, most: usize, lease: Duration) -> Answer<'a, Vec<Claimed>> {
        let (worker, most) = (worker.to_owned(), i64::try_from(most).unwrap_or(i64::MAX));
        Box::pin(async move {
            self.run(LOOK_UP, move |connection| Box::pin(settle_and_claim(connection, worker, most, lease))).await
        })
    }

    fn claim_one<'a>(&'a self, id: &'a str, worker: &'a str, lease: Duration) -> Answer<'a, Option<Claimed>> {
        let (id, worker) = (storable(id), worker.to_owned());
        Box::pin(async move {
            let claimed =
                self.run(LOOK_UP, move |connection| Box::pin(settle_and_claim_one(connection, id, worker, lease)));
            Ok(claimed.await?.pop())
        })
    }

    fn renew<'a>(&'a self, hold: &'a Hold, lease: Duration) -> Answer<'a, bool> {
        let hold = hold.clone();
        Box::pin(async move { self.run(LOOK_UP, move |connection| Box::pin(renew(connection, hold, lease))).await })
    }

    fn end<'a>(&'a self, hold: &'a Hold, end: &'a End) -> Answer<'a, bool> {
        let (hold, end) = (hold.clone(), end.clone());
        Box::pin(async move { self.run(LOOK_UP, |connection| Box::pin(self::end(connection, hold, end))).await })
    }

    fn order<'a>(&'a self, id: &'a str, order: Order) -> Answer<'a, Obeyed> {
        let id = storable(id);
        Box::pin(async move { self.run(LOOK_UP, move |connection| Box::pin(obey(connection, id, order))).await })
    }

    fn find<'a>(&'a self, id: &'a str) -> Answer<'a, Option<Job>> {
        let id = storable(id);
        Box::pin(async move { self.run(SUBMIT, |connection| Box::pin(find(connection, id))).await })
    }

    fn contents<'a>(&'a self, id: &'a str) -> Answer<'a, Option<Contents>> {
        let id = storable(id);
        Box::pin(async move { self.run(LOOK_UP, |connection| Box::pin(contents(connection, id))).await })
    }

    fn list<'a>(&'a self, filter: &'a Filter, before: Option<i64>, most: usize) -> Answer<'a, Vec<Job>> {
        let filter = filter.clone();
        Box::pin(
            async move { self.run(LOOK_UP, move |connection| Box::pin(list(connection, filter, before, most))).await },
        )
    }

    fn restate<'a>(&'a self, id: &'a str, status: Status) -> Answer<'a, ()> {
        let id = storable(id);
        Box::pin(async move { self.run(LOOK_UP, move |connection| Box::pin(restate(connection, id, status))).await })
    }

    fn counts(&self) -> Answer<'_, Vec<(Status, u64)>> {
        Box::pin(async move { self.run(LOOK_UP, |connection| Box::pin(counts(connection))).await })
    }

    fn forget_ended_before(&self, moment_ms: i64, dead_ms: i64) -> Answer<'_, u64> {
        Box::pin(async move {
            self.until_none(move |connection| Box::pin(forget_some(connection, moment_ms, dead_ms))).await
        })
    }
}

async fn submit(connection: &mut PgConnection, jobs: Vec<New>) -> Result<Vec<Taken>, sqlx::Error> {
    let mut change = Change::begin(connection).await?;
    let taken = take_in(&mut change, &jobs).await?;
    change.commit().await?;
    Ok(taken)
}

/// Takes jobs in, as part of a change.
pub async fn take_in(change: &mut Change<'_>, jobs: &[New]) -> Result<Vec<Taken>, sqlx::Error> {
    let now_ms = change.now_ms;
    let words = |word: fn(&New) -> Option<&str>| -> Vec<Option<String>> {
        jobs.iter().map(|job| word(job).map(storable)).collect()
    };
    let inserted: Vec<String> = sqlx::query_scalar(
        "INSERT INTO job (id, kind, status, key, part_of, place, priority, max_attempts, created_unix_ms, \
         not_before_unix_ms, expires_unix_ms, webhook, request, carried_by) \
         SELECT id, kind, 'queued', key, part_of, place, priority, max_attempts, $1, coalesce(not_before, $1), expires, \
         webhook, request, carried_by FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], \
         $7::smallint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::boolean[], $12::bytea[], $13::text[]) AS new \
         (id, kind, key, part_of, place, priority, max_attempts, not_before, expires, webhook, request, carried_by) \
         ON CONFLICT (id) DO NOTHING RETURNING id",
    )
    .bind(now_ms)
    .bind(words(|job| Some(&job.id)))
    .bind(words(|job| Some(job.kind.as_str())))
    .bind(words(|job| job.key.as_deref()))
    .bind(words(|job| job.part_of.as_ref().map(|(whole, _)| whole.as_str())))
    .bind(jobs.iter().map(|job| job.part_of.as_ref().map(|(_, place)| *place)).collect::<Vec<_>>())
    .bind(jobs.iter().map(|job| job.priority).collect::<Vec<_>>())
    .bind(jobs.iter().map(|job| i64::from(job.max_attempts)).collect::<Vec<_>>())
    .bind(jobs.iter().map(|job| job.not_before_unix_ms).collect::<Vec<_>>())
    .bind(jobs.iter().map(|job| job.expires_unix_ms).collect::<Vec<_>>())
    .bind(jobs.iter().map(|job| job.webhook).collect::<Vec<_>>())
    .bind(jobs.iter().map(|job| job.request.as_slice()).collect::<Vec<_>>())
    .bind(words(|job| job.carried_by.as_deref()))
    .fetch_all(change.connection())
    .await?;
    let mut inserted: HashSet<String> = inserted.into_iter().collect();
    let mut taken = Vec::with_capacity(jobs.len());
    for job in jobs {
        // Of two with the same id in one call the first one is in.
        if !inserted.remove(&storable(&job.id)) {
            taken.push(Taken::Known);
            continue;
        }
        change.tell(Happened::Queued, &job.id, job.key.as_deref(), facts_of_new(job, now_ms));
        taken.push(Taken::In);
    }
    Ok(taken)
}

async fn settle_and_claim(
    connection: &mut PgConnection,
    worker: String,
    most: i64,
    lease: Duration,
) -> Result<Vec<Claimed>, sqlx::Error> {
    // So that a queue in which nothing happens is only read.
    let statement = "SELECT EXISTS (SELECT FROM job WHERE status = 'queued' AND not_before_unix_ms <= now), \
         EXISTS (SELECT FROM job WHERE status = 'running' AND lease_until_unix_ms <= now) \
         OR EXISTS (SELECT FROM job WHERE status = 'queued' AND expires_unix_ms <= now) \
         FROM (SELECT floor(extract(epoch FROM now()) * 1000)::bigint AS now) AS clock";
    let (is_any_due, is_any_overdue): (bool, bool) = sqlx::query_as(statement).fetch_one(&mut *connection).await?;
    if is_any_overdue {
        settle_overdue(connection).await?;
    }
    if is_any_due || is_any_overdue {
        claim(connection, worker, Which::Best(most), lease).await
    } else {
        Ok(Vec::new())
    }
}

async fn settle_and_claim_one(
    connection: &mut PgConnection,
    id: String,
    worker: String,
    lease: Duration,
) -> Result<Vec<Claimed>, sqlx::Error> {
    let statement = "SELECT status = 'running' FROM job, \
         (SELECT floor(extract(epoch FROM now()) * 1000)::bigint AS now) AS clock \
         WHERE id = $1 AND (status = 'queued' AND not_before_unix_ms <= now \
         OR status = 'running' AND lease_until_unix_ms <= now)";
    let is_lost: Option<bool> = sqlx::query_scalar(statement).bind(&id).fetch_optional(&mut *connection).await?;
    match is_lost {
        None => return Ok(Vec::new()),
        Some(true) => settle_overdue(connection).await?,
        Some(false) => {}
    }
    claim(connection, worker, Which::One(id), lease).await
}

/// Which jobs a claim is after.
enum Which {
    /// So many, best first.
    Best(i64),
    /// The one with this id.
    One(String),
}

/// Gives back or buries what workers were not heard of for, and ends what nobody has come to in its time.
async fn settle_overdue(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let mut change = Change::begin(connection).await?;
    let now_ms = change.now_ms;
    let mut overdue = Vec::new();
    for condition in [
        "status = 'running' AND lease_until_unix_ms <= $1 ORDER BY lease_until_unix_ms",
        "status = 'queued' AND expires_unix_ms <= $1 ORDER BY expires_unix_ms",
    ] {
        let statement =
            format!("SELECT {COLUMNS} FROM job WHERE {condition} LIMIT {OVERDUE_AT_ONCE} FOR UPDATE SKIP LOCKED");
        let rows = sqlx::query(AssertSqlSafe(statement)).bind(now_ms).fetch_all(change.connection()).await?;
        for row in &rows {
            overdue.push(job(row)?);
        }
    }
    overdue.sort_by(|one, other| one.part_of.cmp(&other.part_of));
    for job in overdue {
        if job.status == Status::Queued {
            close(&mut change, job, Outcome::expired()).await?;
            continue;
        }
        change.tell(Happened::LeaseExpired, &job.id, job.key.as_deref(), facts([("attempt", job.attempts.into())]));
        if job.attempts >= job.max_attempts {
            let lost = Outcome::worker_lost(&job);
            close(&mut change, job, lost).await?;
            continue;
        }
        let statement = "UPDATE job SET status = 'queued', not_before_unix_ms = $1, worker = NULL, \
             lease_until_unix_ms = NULL WHERE seq = $2";
        sqlx::query(statement).bind(now_ms).bind(job.seq).execute(change.connection()).await?;
    }
    change.commit().await
}

async fn claim(
    connection: &mut PgConnection,
    worker: String,
    which: Which,
    lease: Duration,
) -> Result<Vec<Claimed>, sqlx::Error> {
    let mut change = Change::begin(connection).await?;
    let (most, only) = match which {
        Which::Best(most) => (most, None),
        Which::One(id) => (1, Some(id)),
    };
    let condition = if only.is_some() { "AND id = $5" } else { "" };
    let statement = format!(
        "WITH due AS (SELECT seq FROM job WHERE status = 'queued' AND not_before_unix_ms <= $1 {condition} \
         ORDER BY priority DESC, not_before_unix_ms, seq LIMIT $2 FOR UPDATE SKIP LOCKED) \
         UPDATE job SET status = 'running', attempts = attempts + 1, fence = fence + 1, worker = $3, \
         lease_until_unix_ms = $4 FROM due WHERE job.seq = due.seq RETURNING {COLUMNS}, job.fence, job.request"
    );
    let mut query = sqlx::query(AssertSqlSafe(statement))
        .bind(change.now_ms)
        .bind(most)
        .bind(&worker)
        .bind(change.now_ms.saturating_add(milliseconds(lease)));
    if let Some(id) = &only {
        query = query.bind(id);
    }
    let rows = query.fetch_all(change.connection()).await?;
    let mut claimed = Vec::with_capacity(rows.len());
    for row in &rows {
        let job = job(row)?;
        let hold = Hold { id: job.id.clone(), fence: row.try_get(17)? };
        claimed.push(Claimed { job, hold, request: row.try_get(18)? });
    }
    // An UPDATE returns its rows in no order.
    claimed.sort_by_key(|Claimed { job, .. }| (-job.priority, job.not_before_unix_ms, job.seq));
    for Claimed { job, .. } in &claimed {
        let told = facts([("attempt", job.attempts.into()), ("worker", worker.clone().into())]);
        change.tell(Happened::Started, &job.id, job.key.as_deref(), told);
    }
    change.commit().await?;
    Ok(claimed)
}

async fn renew(connection: &mut PgConnection, hold: Hold, lease: Duration) -> Result<bool, sqlx::Error> {
    let statement = "UPDATE job SET lease_until_unix_ms = floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint + $1 \
         WHERE id = $2 AND fence = $3 AND status = 'running'";
    let renewed = sqlx::query(statement).bind(milliseconds(lease)).bind(hold.id).bind(hold.fence);
    Ok(renewed.execute(connection).await?.rows_affected() == 1)
}

async fn end(connection: &mut PgConnection, hold: Hold, end: End) -> Result<bool, sqlx::Error> {
    let mut change = Change::begin(connection).await?;
    let held = format!("SELECT {COLUMNS} FROM job WHERE id = $1 AND status = 'running' AND fence = $2 FOR UPDATE");
    let held = sqlx::query(AssertSqlSafe(held)).bind(hold.id).bind(hold.fence);
    let Some(row) = held.fetch_optional(change.connection()).await? else { return Ok(false) };
    let job = job(&row)?;
    let outcome = Outcome::of(&job, &end);
    if outcome.happened.is_end_of_job() {
        close(&mut change, job, outcome).await?;
    } else {
        put_back(&mut change, job, &end, outcome).await?;
    }
    change.commit().await?;
    Ok(true)
}

/// The job is to be claimed once more.
async fn put_back(change: &mut Change<'_>, job: Job, end: &End, outcome: Outcome<'_>) -> Result<(), sqlx::Error> {
    let part_has_ended = match end {
        End::Waits { parts } => {
            // Whoever ends a part waits for the row that is locked here, or has ended by now and is seen.
            let statement = "SELECT EXISTS (SELECT FROM job WHERE id = ANY($1) AND ended_unix_ms IS NOT NULL)";
            sqlx::query_scalar(statement).bind(parts).fetch_one(change.connection()).await?
        }
        _ => false,
    };
    let wait = Wait::of(end, part_has_ended, change.now_ms);
    change.tell(outcome.happened, &job.id, job.key.as_deref(), outcome.facts_of_wait(&job, &wait));
    let statement = "UPDATE job SET status = 'queued', attempts = attempts - $1, not_before_unix_ms = $2, worker = NULL, \
         lease_until_unix_ms = NULL, http_status = coalesce($3, http_status), error = coalesce($4, error) WHERE seq = $5";
    sqlx::query(statement)
        .bind(i64::from(!wait.was_attempt))
        .bind(wait.due_unix_ms)
        .bind(outcome.http_status.map(i64::from))
        .bind(outcome.error.as_deref().map(storable))
        .bind(job.seq)
        .execute(change.connection())
        .await?;
    Ok(())
}

/// Ends a job for good, and does what follows from that: whoever waits for it by a webhook is told, and its batch counts
/// it. The job's row is locked by the caller; the batch's is locked last, for the shortest time.
pub(super) async fn close(change: &mut Change<'_>, job: Job, outcome: Outcome<'_>) -> Result<(), sqlx::Error> {
    let Some(status) = Status::after(outcome.happened) else { return Ok(()) };
    let now_ms = change.now_ms;
    change.tell(outcome.happened, &job.id, job.key.as_deref(), outcome.facts_at_end(&job));
    let statement = "UPDATE job SET status = $1, ended_unix_ms = $2, http_status = coalesce($3, http_status), error = $4, \
         result = $5, worker = NULL, lease_until_unix_ms = NULL WHERE seq = $6";
    sqlx::query(statement)
        .bind(status.as_str())
        .bind(now_ms)
        .bind(outcome.http_status.map(i64::from))
        .bind(outcome.error.as_deref().map(storable))
        .bind(outcome.result)
        .bind(job.seq)
        .execute(change.connection())
        .await?;
    if job.webhook {
        take_in(change, &[delivery(&job, now_ms)]).await?;
    }
    if let (Kind::Request, Some(whole)) = (job.kind, &job.part_of)
        && !batches::count(change, whole, status).await?
    {
        // What waits for its parts goes on. One that is about to wait is waited for, and finds that this part has ended.
        let statement =
            "UPDATE job SET not_before_unix_ms = $1 WHERE id = $2 AND kind = 'saga' AND ended_unix_ms IS NULL";
        sqlx::query(statement).bind(now_ms).bind(whole).execute(change.connection()).await?;
    }
    Ok(())
}

async fn obey(connection: &mut PgConnection, id: String, order: Order) -> Result<Obeyed, sqlx::Error> {
    let mut change = Change::begin(connection).await?;
    let statement = format!("SELECT {COLUMNS} FROM job WHERE id = $1 FOR UPDATE");
    let found = sqlx::query(AssertSqlSafe(statement)).bind(&id).fetch_optional(change.connection()).await?;
    let Some(row) = found else { return Ok(Obeyed::Unknown) };
    let job = job(&row)?;
    match order {
        Order::Cancel if !job.status.has_ended() => close(&mut change, job, Outcome::cancelled()).await?,
        Order::Discard if job.status == Status::Dead => {
            let discarded = Outcome::bare(Happened::Discarded, job.error.clone());
            close(&mut change, Job { webhook: false, part_of: None, ..job }, discarded).await?;
        }
        // A line of a batch was counted when it ended, and its batch is written by now.
        Order::Retry
            if matches!(job.status, Status::Dead | Status::Failed | Status::Expired | Status::Cancelled)
                && (job.part_of.is_none() || job.kind == Kind::Webhook) =>
        {
            let statement = "UPDATE job SET status = 'queued', attempts = 0, not_before_unix_ms = $1, expires_unix_ms = NULL, \
                 ended_unix_ms = NULL, http_status = NULL, error = NULL, result = NULL WHERE seq = $2";
            sqlx::query(statement).bind(change.now_ms).bind(job.seq).execute(change.connection()).await?;
            change.tell(Happened::Requeued, &job.id, job.key.as_deref(), Facts::new());
        }
        _ => return Ok(Obeyed::Impossible(job)),
    }
    let now = find(change.connection(), id).await?.ok_or(sqlx::Error::RowNotFound)?;
    change.commit().await?;
    Ok(Obeyed::Done(now))
}

async fn find(connection: &mut PgConnection, id: String) -> Result<Option<Job>, sqlx::Error> {
    let statement = format!("SELECT {COLUMNS} FROM job WHERE id = $1");
    let row = sqlx::query(AssertSqlSafe(statement)).bind(id).fetch_optional(connection).await?;
    row.map(|row| job(&row)).transpose()
}

async fn contents(connection: &mut PgConnection, id: String) -> Result<Option<Contents>, sqlx::Error> {
    sqlx::query_as("SELECT request, result FROM job WHERE id = $1").bind(id).fetch_optional(connection).await
}

async fn list(
    connection: &mut PgConnection,
    filter: Filter,
    before: Option<i64>,
    most: usize,
) -> Result<Vec<Job>, sqlx::Error> {
    let mut query = QueryBuilder::new(format!("SELECT {COLUMNS} FROM job WHERE seq < "));
    query.push_bind(before.unwrap_or(i64::MAX));
    if let Some(status) = filter.status {
        query.push(" AND status = ").push_bind(status.as_str());
    }
    if let Some(key) = filter.key {
        query.push(" AND key = ").push_bind(storable(&key));
    }
    if let Some(part_of) = filter.part_of {
        query.push(" AND part_of = ").push_bind(storable(&part_of));
    }
    if !filter.internal {
        query.push(" AND kind = 'request'");
    }
    query.push(" ORDER BY seq DESC LIMIT ").push_bind(i64::try_from(most).unwrap_or(i64::MAX));
    query.build().fetch_all(connection).await?.iter().map(job).collect()
}

async fn restate(connection: &mut PgConnection, id: String, status: Status) -> Result<(), sqlx::Error> {
    // What is told as running has a worker that is not known: its lease is over at once.
    let statement = "UPDATE job SET status = $1, lease_until_unix_ms = CASE WHEN $1 = 'running' THEN 0 END, ended_unix_ms = \
         CASE WHEN $1 NOT IN ('queued', 'running') THEN coalesce(ended_unix_ms, created_unix_ms) END WHERE id = $2";
    sqlx::query(statement).bind(status.as_str()).bind(id).execute(connection).await?;
    Ok(())
}

async fn counts(connection: &mut PgConnection) -> Result<Vec<(Status, u64)>, sqlx::Error> {
    let rows: Vec<(String, i64)> =
        sqlx::query_as("SELECT status, count(*) FROM job GROUP BY status").fetch_all(connection).await?;
    let counted = |status: Status| {
        let found = rows.iter().find(|(word, _)| word == status.as_str());
        (status, found.map_or(0, |(_, count)| u64::try_from(*count).unwrap_or(0)))
    };
    Ok(Status::ALL.into_iter().map(counted).collect())
}

async fn forget_some(connection: &mut PgConnection, moment_ms: i64, dead_ms: i64) -> Result<u64, sqlx::Error> {
    // Lines of a batch that is still going on are what its files are written from.
    let statement = "DELETE FROM job WHERE seq IN (SELECT seq FROM job WHERE ended_unix_ms < greatest($1, $2) \
         AND ended_unix_ms < CASE status WHEN 'dead' THEN $2 ELSE $1 END AND NOT EXISTS \
         (SELECT FROM batch WHERE batch.id = job.part_of AND batch.ended_unix_ms IS NULL) LIMIT $3 FOR UPDATE SKIP LOCKED)";
    let done = sqlx::query(statement).bind(moment_ms).bind(dead_ms).bind(FORGOTTEN_AT_ONCE);
    Ok(done.execute(connection).await?.rows_affected())
}

pub(super) fn milliseconds(span: Duration) -> i64 {
    // A century is for ever, and cannot overflow a sum.
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX).min(100 * 365 * 24 * 3_600_000)
}

pub(super) fn job(row: &PgRow) -> Result<Job, sqlx::Error> {
    let word = |at: usize| row.try_get::<String, _>(at);
    let unknown = |what: &str, word: &str| sqlx::Error::Decode(format!("unknown {what} `{word}` of a job").into());
    let count = |at: usize| row.try_get::<i64, _>(at).map(|count| u32::try_from(count).unwrap_or(0));
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
        attempts: count(7)?,
        max_attempts: count(8)?,
        created_unix_ms: row.try_get(9)?,
        not_before_unix_ms: row.try_get(10)?,
        expires_unix_ms: row.try_get(11)?,
        ended_unix_ms: row.try_get(12)?,
        http_status: http_status.and_then(|status| u16::try_from(status).ok()),
        error: row.try_get(14)?,
        webhook: row.try_get(15)?,
        seq: row.try_get(16)?,
    })
}
