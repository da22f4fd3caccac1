//! Lines that providers answer in batches of their own: the port `batch::native` in the table `native_part`, the lines in
//! `job`.

use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row as _, SqliteConnection};

use super::jobs::{close, job, now_ms, select};
use super::{Sqlite, failure};
use crate::batch::native::{CARRIED_UNTIL_MS, Carried, Part, Parts, Phase, Spent};
use crate::jobs::job::{End, Hold as JobHold};
use crate::ledger::journal::Answer;
use crate::store::follow_up::Outcome;

const COLUMNS: &str = "id, batch, provider, model, phase, discount, remote_file, remote_batch, sent, worst_nano_usd, tokens, \
     spent_nano_usd, used_tokens, holder, created_unix_ms, submitted_unix_ms, ended_unix_ms";
/// A line that waits for its part.
const WAITS: &str = "carried_by = ? AND status = 'queued'";
/// Lines let go in one statement: the bound on its parameters.
const RELEASED_AT_ONCE: usize = 500;

impl Parts for Sqlite {
    fn begin<'a>(&'a self, part: &'a Part) -> Answer<'a, ()> {
        Box::pin(async move {
            let statement = async |connection: &mut SqliteConnection| {
                let insert = "INSERT INTO native_part (id, batch, provider, model, phase, discount, sent, tokens, created_unix_ms) \
                     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING";
                sqlx::query(insert)
                    .bind(&part.id)
                    .bind(&part.batch)
                    .bind(&part.provider)
                    .bind(&part.model)
                    .bind(part.phase.as_str())
                    .bind(part.discount)
                    .bind(part.sent)
                    .bind(part.tokens)
                    .bind(part.created)
                    .execute(connection)
                    .await
            };
            self.write(statement).await?;
            Ok(())
        })
    }

    fn find<'a>(&'a self, id: &'a str) -> Answer<'a, Option<Part>> {
        Box::pin(async move { Ok(self.parts("id = ?", Some(id)).await?.pop()) })
    }

    fn of_batch<'a>(&'a self, batch: &'a str) -> Answer<'a, Vec<Part>> {
        Box::pin(self.parts("batch = ?", Some(batch)))
    }

    fn open(&self) -> Answer<'_, Vec<Part>> {
        Box::pin(self.parts("ended_unix_ms IS NULL", None))
    }

    fn save<'a>(&'a self, part: &'a Part, hold: Option<&'a JobHold>) -> Answer<'a, bool> {
        Box::pin(async move {
            let statement = async |connection: &mut SqliteConnection| {
                let update = "UPDATE native_part SET phase = ?1, remote_file = ?2, remote_batch = ?3, sent = ?4, \
                     worst_nano_usd = ?5, tokens = ?6, holder = ?7, submitted_unix_ms = ?8, ended_unix_ms = ?9 \
                     WHERE id = ?10 AND (?11 IS NULL OR EXISTS (SELECT 1 FROM job WHERE id = ?12 AND status = 'running' AND fence = ?11))";
                sqlx::query(update)
                    .bind(part.phase.as_str())
                    .bind(&part.remote_file)
                    .bind(&part.remote_batch)
                    .bind(part.sent)
                    .bind(part.worst)
                    .bind(part.tokens)
                    .bind(&part.holder)
                    .bind(part.submitted)
                    .bind(part.ended)
                    .bind(&part.id)
                    .bind(hold.map(|hold| hold.fence))
                    .bind(hold.map(|hold| &hold.id))
                    .execute(connection)
                    .await
            };
            Ok(self.write(statement).await?.rows_affected() == 1)
        })
    }

    fn carried<'a>(&'a self, part: &'a str, behind: i64, most: usize) -> Answer<'a, Vec<Carried>> {
        Box::pin(async move {
            let mut connection = self.read().await?;
            let statement = "SELECT id, place, request, 0 FROM job WHERE carried_by = ? AND place > ? AND status = 'queued' \
                 ORDER BY place LIMIT ?";
            let rows = sqlx::query(statement)
                .bind(part)
                .bind(behind)
                .bind(i64::try_from(most).unwrap_or(i64::MAX))
                .fetch_all(&mut *connection)
                .await
                .map_err(failure)?;
            rows.iter().map(carried).collect::<Result<_, _>>().map_err(failure)
        })
    }

    fn count<'a>(&'a self, part: &'a str) -> Answer<'a, u64> {
        Box::pin(async move {
            let mut connection = self.read().await?;
            let statement = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM job WHERE {WAITS}"));
            let count: i64 =
                sqlx::query_scalar(statement).bind(part).fetch_one(&mut *connection).await.map_err(failure)?;
            Ok(u64::try_from(count).unwrap_or(0))
        })
    }

    fn line<'a>(&'a self, part: &'a str, place: i64) -> Answer<'a, Option<Carried>> {
        Box::pin(async move {
            let mut connection = self.read().await?;
            let statement = "SELECT id, place, request, status <> 'queued' FROM job WHERE carried_by = ? AND place = ?";
            let row = sqlx::query(statement).bind(part).bind(place).fetch_optional(&mut *connection).await;
            row.map_err(failure)?.map(|row| carried(&row)).transpose().map_err(failure)
        })
    }

    fn end_lines<'a>(&'a self, part: &'a str, ends: &'a [(String, End)], spent: Spent) -> Answer<'a, u64> {
        Box::pin(async move {
            let now_ms = now_ms();
            self.transact(async |connection| {
                let mut ended = 0;
                for (id, end) in ends {
                    let waits = select(connection, "", "id = ? AND carried_by = ? AND status = 'queued'");
                    let Some(row) = waits.bind(id).bind(part).fetch_optional(&mut *connection).await? else { continue };
                    let line = job(&row)?;
                    let outcome = Outcome::of(&line, end);
                    if outcome.happened.is_end_of_job() {
                        close(connection, line, outcome, now_ms).await?;
                        ended += 1;
                    }
                }
                let add = "UPDATE native_part SET spent_nano_usd = spent_nano_usd + ?, used_tokens = used_tokens + ? WHERE id = ?";
                sqlx::query(add).bind(spent.money).bind(spent.tokens).bind(part).execute(connection).await?;
                Ok(ended)
            })
            .await
        })
    }

    fn release<'a>(&'a self, part: &'a str, places: Option<&'a [i64]>, expires_unix_ms: i64) -> Answer<'a, u64> {
        Box::pin(async move {
            let now_ms = now_ms();
            let some = places.map(|places| places.chunks(RELEASED_AT_ONCE).collect::<Vec<_>>());
            self.transact(async |connection| {
                let mut released = 0;
                for chunk in some.as_ref().map_or(vec![None], |chunks| chunks.iter().copied().map(Some).collect()) {
                    let mut update = QueryBuilder::new("UPDATE job SET carried_by = NULL, not_before_unix_ms = ");
                    update.push_bind(now_ms).push(", expires_unix_ms = ").push_bind(expires_unix_ms);
                    update.push(" WHERE carried_by = ").push_bind(part).push(" AND status = 'queued'");
                    update.push(" AND not_before_unix_ms = ").push_bind(CARRIED_UNTIL_MS);
                    if let Some(places) = chunk {
                        update.push(" AND place IN (");
                        let mut listed = update.separated(", ");
                        for place in places {
                            listed.push_bind(*place);
                        }
                        update.push(")");
                    }
                    released += update.build().execute(&mut *connection).await?.rows_affected();
                }
                Ok(released)
            })
            .await
        })
    }

    fn forget_ended_before(&self, moment_ms: i64) -> Answer<'_, u64> {
        Box::pin(async move {
            let statement = async |connection: &mut SqliteConnection| {
                let delete = "DELETE FROM native_part WHERE ended_unix_ms < ?";
                Ok(sqlx::query(delete).bind(moment_ms).execute(connection).await?.rows_affected())
            };
            self.write(statement).await
        })
    }
}

impl Sqlite {
    async fn parts(&self, condition: &str, word: Option<&str>) -> Result<Vec<Part>, crate::ledger::journal::Failure> {
        let mut connection = self.read().await?;
        let statement = format!("SELECT {COLUMNS} FROM native_part WHERE {condition} ORDER BY seq");
        let mut query = sqlx::query(sqlx::AssertSqlSafe(statement));
        if let Some(word) = word {
            query = query.bind(word);
        }
        let rows = query.fetch_all(&mut *connection).await.map_err(failure)?;
        rows.iter().map(part).collect::<Result<_, _>>().map_err(failure)
    }
}

fn part(row: &SqliteRow) -> Result<Part, sqlx::Error> {
    let phase: String = row.try_get(4)?;
    let unknown = || sqlx::Error::Decode(format!("unknown phase `{phase}` of a part").into());
    Ok(Part {
        id: row.try_get(0)?,
        batch: row.try_get(1)?,
        provider: row.try_get(2)?,
        model: row.try_get(3)?,
        phase: Phase::parse(&phase).ok_or_else(unknown)?,
        discount: row.try_get(5)?,
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

fn carried(row: &SqliteRow) -> Result<Carried, sqlx::Error> {
    let has_ended: i64 = row.try_get(3)?;
    Ok(Carried { job: row.try_get(0)?, place: row.try_get(1)?, request: row.try_get(2)?, has_ended: has_ended != 0 })
}
