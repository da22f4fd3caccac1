//! Lines that providers answer in batches of their own: the port `batch::native` in the table `native_part`, the lines in
//! `job`. Lines are locked in their order, before their batch, see `jobs.rs`.

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::change::Change;
use super::jobs::{COLUMNS as JOB_COLUMNS, close, job};
use super::rows::storable;
use super::{LOOK_UP, Postgres, WORK};
use crate::batch::native::{CARRIED_UNTIL_MS, Carried, Part, Parts, Phase, Spent};
use crate::jobs::job::{End, Hold as JobHold};
use crate::ledger::journal::Answer;
use crate::store::follow_up::Outcome;

const COLUMNS: &str = "id, batch, provider, model, phase, discount, remote_file, remote_batch, sent, worst_nano_usd, tokens, \
     spent_nano_usd, used_tokens, holder, created_unix_ms, submitted_unix_ms, ended_unix_ms";

impl Parts for Postgres {
    fn begin<'a>(&'a self, part: &'a Part) -> Answer<'a, ()> {
        let part = part.clone();
        Box::pin(async move { self.run(LOOK_UP, |connection| Box::pin(begin(connection, part))).await })
    }

    fn find<'a>(&'a self, id: &'a str) -> Answer<'a, Option<Part>> {
        let id = storable(id);
        Box::pin(async move {
            let found = self.run(LOOK_UP, |connection| Box::pin(parts(connection, "id = $1", Some(id))));
            Ok(found.await?.pop())
        })
    }

    fn of_batch<'a>(&'a self, batch: &'a str) -> Answer<'a, Vec<Part>> {
        let batch = storable(batch);
        Box::pin(
            async move { self.run(LOOK_UP, |connection| Box::pin(parts(connection, "batch = $1", Some(batch)))).await },
        )
    }

    fn open(&self) -> Answer<'_, Vec<Part>> {
        Box::pin(async move {
            self.run(LOOK_UP, |connection| Box::pin(parts(connection, "ended_unix_ms IS NULL", None))).await
        })
    }

    fn save<'a>(&'a self, part: &'a Part, hold: Option<&'a JobHold>) -> Answer<'a, bool> {
        let (part, hold) = (part.clone(), hold.cloned());
        Box::pin(async move { self.run(LOOK_UP, |connection| Box::pin(save(connection, part, hold))).await })
    }

    fn carried<'a>(&'a self, part: &'a str, behind: i64, most: usize) -> Answer<'a, Vec<Carried>> {
        let part = storable(part);
        Box::pin(
            async move { self.run(LOOK_UP, move |connection| Box::pin(waiting(connection, part, behind, most))).await },
        )
    }

    fn count<'a>(&'a self, part: &'a str) -> Answer<'a, u64> {
        let part = storable(part);
        Box::pin(async move { self.run(LOOK_UP, |connection| Box::pin(count(connection, part))).await })
    }

    fn line<'a>(&'a self, part: &'a str, place: i64) -> Answer<'a, Option<Carried>> {
        let part = storable(part);
        Box::pin(async move { self.run(LOOK_UP, move |connection| Box::pin(line(connection, part, place))).await })
    }

    fn end_lines<'a>(&'a self, part: &'a str, ends: &'a [(String, End)], spent: Spent) -> Answer<'a, u64> {
        let (part, ends) = (storable(part), ends.to_vec());
        Box::pin(async move {
            self.run(LOOK_UP, move |connection| Box::pin(end_lines(connection, part, ends, spent))).await
        })
    }

    fn release<'a>(&'a self, part: &'a str, places: Option<&'a [i64]>, expires_unix_ms: i64) -> Answer<'a, u64> {
        let (part, places) = (storable(part), places.map(<[i64]>::to_vec));
        Box::pin(async move {
            self.run(WORK, move |connection| Box::pin(release(connection, part, places, expires_unix_ms))).await
        })
    }

    fn forget_ended_before(&self, moment_ms: i64) -> Answer<'_, u64> {
        Box::pin(async move { self.run(WORK, move |connection| Box::pin(forget(connection, moment_ms))).await })
    }
}

async fn begin(connection: &mut PgConnection, part: Part) -> Result<(), sqlx::Error> {
    let insert = "INSERT INTO native_part (id, batch, provider, model, phase, discount, sent, tokens, created_unix_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (id) DO NOTHING";
    sqlx::query(insert)
        .bind(storable(&part.id))
        .bind(storable(&part.batch))
        .bind(storable(&part.provider))
        .bind(storable(&part.model))
        .bind(part.phase.as_str())
        .bind(i64::from(part.discount))
        .bind(part.sent)
        .bind(part.tokens)
        .bind(part.created)
        .execute(connection)
        .await?;
    Ok(())
}

async fn parts(
    connection: &mut PgConnection,
    condition: &'static str,
    word: Option<String>,
) -> Result<Vec<Part>, sqlx::Error> {
    let statement = format!("SELECT {COLUMNS} FROM native_part WHERE {condition} ORDER BY seq");
    let mut query = sqlx::query(AssertSqlSafe(statement));
    if let Some(word) = word {
        query = query.bind(word);
    }
    query.fetch_all(connection).await?.iter().map(part).collect()
}

async fn save(connection: &mut PgConnection, part: Part, hold: Option<JobHold>) -> Result<bool, sqlx::Error> {
    let update = "UPDATE native_part SET phase = $1, remote_file = $2, remote_batch = $3, sent = $4, worst_nano_usd = $5, \
         tokens = $6, holder = $7, submitted_unix_ms = $8, ended_unix_ms = $9 WHERE id = $10 AND \
         ($11::bigint IS NULL OR EXISTS (SELECT FROM job WHERE id = $12 AND status = 'running' AND fence = $11))";
    let saved = sqlx::query(update)
        .bind(part.phase.as_str())
        .bind(part.remote_file.as_deref().map(storable))
        .bind(part.remote_batch.as_deref().map(storable))
        .bind(part.sent)
        .bind(part.worst)
        .bind(part.tokens)
        .bind(part.holder.as_deref().map(storable))
        .bind(part.submitted)
        .bind(part.ended)
        .bind(storable(&part.id))
        .bind(hold.as_ref().map(|hold| hold.fence))
        .bind(hold.as_ref().map(|hold| storable(&hold.id)))
        .execute(connection)
        .await?;
    Ok(saved.rows_affected() == 1)
}

async fn waiting(
    connection: &mut PgConnection,
    part: String,
    behind: i64,
    most: usize,
) -> Result<Vec<Carried>, sqlx::Error> {
    let statement = "SELECT id, place, request, false FROM job WHERE carried_by = $1 AND place > $2 AND status = 'queued' \
         ORDER BY place LIMIT $3";
    let rows = sqlx::query(statement).bind(part).bind(behind).bind(i64::try_from(most).unwrap_or(i64::MAX));
    rows.fetch_all(connection).await?.iter().map(carried).collect()
}

async fn count(connection: &mut PgConnection, part: String) -> Result<u64, sqlx::Error> {
    let statement = "SELECT count(*) FROM job WHERE carried_by = $1 AND status = 'queued'";
    let count: i64 = sqlx::query_scalar(statement).bind(part).fetch_one(connection).await?;
    Ok(u64::try_from(count).unwrap_or(0))
}

async fn line(connection: &mut PgConnection, part: String, place: i64) -> Result<Option<Carried>, sqlx::Error> {
    let statement = "SELECT id, place, request, status <> 'queued' FROM job WHERE carried_by = $1 AND place = $2";
    let row = sqlx::query(statement).bind(part).bind(place).fetch_optional(connection).await?;
    row.map(|row| carried(&row)).transpose()
}

async fn end_lines(
    connection: &mut PgConnection,
    part: String,
    mut ends: Vec<(String, End)>,
    spent: Spent,
) -> Result<u64, sqlx::Error> {
    let mut change = Change::begin(connection).await?;
    let ids: Vec<String> = ends.iter().map(|(id, _)| storable(id)).collect();
    let statement = format!(
        "SELECT {JOB_COLUMNS} FROM job WHERE id = ANY($1) AND carried_by = $2 AND status = 'queued' ORDER BY seq FOR UPDATE"
    );
    let rows = sqlx::query(AssertSqlSafe(statement)).bind(&ids).bind(&part).fetch_all(change.connection()).await?;
    let mut ended = 0;
    for row in &rows {
        let line = job(row)?;
        let Some(at) = ends.iter().position(|(id, _)| storable(id) == line.id) else { continue };
        let (_, end) = ends.swap_remove(at);
        let outcome = Outcome::of(&line, &end);
        if outcome.happened.is_end_of_job() {
            close(&mut change, line, outcome).await?;
            ended += 1;
        }
    }
    let add =
        "UPDATE native_part SET spent_nano_usd = spent_nano_usd + $1, used_tokens = used_tokens + $2 WHERE id = $3";
    sqlx::query(add).bind(spent.money).bind(spent.tokens).bind(part).execute(change.connection()).await?;
    change.commit().await?;
    Ok(ended)
}

async fn release(
    connection: &mut PgConnection,
    part: String,
    places: Option<Vec<i64>>,
    expires_unix_ms: i64,
) -> Result<u64, sqlx::Error> {
    let statement = "WITH free AS (SELECT seq FROM job WHERE carried_by = $1 AND status = 'queued' \
         AND not_before_unix_ms = $2 AND ($3::bigint[] IS NULL OR place = ANY($3)) ORDER BY seq FOR UPDATE) \
         UPDATE job SET carried_by = NULL, not_before_unix_ms = floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint, \
         expires_unix_ms = $4 FROM free WHERE job.seq = free.seq";
    let update = sqlx::query(statement).bind(part).bind(CARRIED_UNTIL_MS).bind(places).bind(expires_unix_ms);
    Ok(update.execute(connection).await?.rows_affected())
}

async fn forget(connection: &mut PgConnection, moment_ms: i64) -> Result<u64, sqlx::Error> {
    let delete = "DELETE FROM native_part WHERE ended_unix_ms < $1";
    Ok(sqlx::query(delete).bind(moment_ms).execute(connection).await?.rows_affected())
}

fn part(row: &PgRow) -> Result<Part, sqlx::Error> {
    let phase: String = row.try_get(4)?;
    let unknown = || sqlx::Error::Decode(format!("unknown phase `{phase}` of a part").into());
    let discount: i64 = row.try_get(5)?;
    Ok(Part {
        id: row.try_get(0)?,
        batch: row.try_get(1)?,
        provider: row.try_get(2)?,
        model: row.try_get(3)?,
        phase: Phase::parse(&phase).ok_or_else(unknown)?,
        discount: u32::try_from(discount).unwrap_or(0),
        remote_file: row.try_get(6)?,
        remote_batch: row.try_get(7)?,
        sent: row.try_get(8)?,
        worst: row.try_get(9)?,
        tokens: row.try_get(10)?,
        spent: row.try_get(11)?,
        used: row.try_get(12)?,
        holder: row.try_get(13)?,
        created: row.try_get(14)?,
        submitted: row.try_get(15)?,
        ended: row.try_get(16)?,
    })
}

fn carried(row: &PgRow) -> Result<Carried, sqlx::Error> {
    Ok(Carried { job: row.try_get(0)?, place: row.try_get(1)?, request: row.try_get(2)?, has_ended: row.try_get(3)? })
}
