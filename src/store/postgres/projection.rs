//! Sums per hour and day, so that a report over millions of requests reads thousands of rows.
//!
//! Several servers save at once, and what one saved earlier may become visible later: no number says how far sums reach. So
//! every batch is noted as unsummed in the statement that saves it, and the note is taken away in the transaction that adds
//! the batch to the sums. Whoever sums holds the lock of `usage_state`; a server that finds it held leaves the work to the
//! other. A report adds up sums and the requests of noted batches from one snapshot: it is exact at any moment, however many
//! servers write, and after a restored backup.

use std::collections::HashMap;

use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row as _};

use crate::ledger::cell::{Cell, Labels};
use crate::ledger::report::{Group, Grouping};
use crate::ledger::usage::UsageQuery;
use crate::store::rows::{LeftToRight, SUMMED, summand};
use crate::store::sums::{Cells, FOREVER_MS, Sources, decode, group_period};

/// What to do while another server is summing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    Wait,
    OrNever,
}

/// Requests whose batch is, or is not, in the sums.
const IS_SUMMED: &str = "NOT EXISTS (SELECT FROM unsummed_batch WHERE unsummed_batch.batch = request.batch)";
const IS_UNSUMMED: &str = "batch IN (SELECT batch FROM unsummed_batch)";

/// Sums at most so many batches. Returns how many were summed.
pub async fn sum(connection: &mut PgConnection, turn: Turn, batches: i64) -> Result<u64, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    if !lock(&mut transaction, turn).await? {
        return Ok(0);
    }
    let batches: Vec<i64> = sqlx::query_scalar("SELECT batch FROM unsummed_batch ORDER BY batch LIMIT $1")
        .bind(batches)
        .fetch_all(&mut *transaction)
        .await?;
    if batches.is_empty() {
        return Ok(0);
    }
    let mut cells = Cells::default();
    {
        let sql = AssertSqlSafe(format!("SELECT {SUMMED} FROM request WHERE batch = ANY($1)"));
        let mut requests = sqlx::query(sql).bind(&batches).fetch(&mut *transaction);
        while let Some(request) = requests.try_next().await? {
            let (started, labels, facts) = summand(&mut LeftToRight::of(&request))?;
            cells.add(started, &labels, &facts);
        }
    }
    write(&mut transaction, cells).await?;
    sqlx::query("DELETE FROM unsummed_batch WHERE batch = ANY($1)").bind(&batches).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(batches.len() as u64)
}

/// Takes the right to change sums, until the transaction ends.
async fn lock(connection: &mut PgConnection, turn: Turn) -> Result<bool, sqlx::Error> {
    let sql = match turn {
        Turn::Wait => "SELECT one FROM usage_state FOR UPDATE",
        Turn::OrNever => "SELECT one FROM usage_state FOR UPDATE SKIP LOCKED",
    };
    Ok(sqlx::query(sql).fetch_optional(connection).await?.is_some())
}

/// Adds cells to the sums.
async fn write(connection: &mut PgConnection, cells: Cells) -> Result<(), sqlx::Error> {
    let cells = cells.into_map();
    let labels = numbered(connection, cells.keys().map(|(_, _, labels)| labels)).await?;
    let mut sums: HashMap<(i64, i64, i64), Cell> = HashMap::with_capacity(cells.len());
    for ((step, start, words), cell) in cells {
        let label = labels.get(&digest(&words)).copied().ok_or(sqlx::Error::RowNotFound)?;
        sums.insert((step, start, label), cell);
    }
    let (mut steps, mut starts, mut labels) = (Vec::new(), Vec::new(), Vec::new());
    for (step, start, label) in sums.keys() {
        steps.push(*step);
        starts.push(*start);
        labels.push(*label);
    }
    let there = sqlx::query(
        "SELECT step_ms, start, label, cell FROM usage_cell \
         JOIN unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS wanted (step_ms, start, label) USING (step_ms, start, label)",
    )
    .bind(&steps)
    .bind(&starts)
    .bind(&labels)
    .fetch_all(&mut *connection)
    .await?;
    for row in there {
        if let Some(cell) = sums.get_mut(&(row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)) {
            cell.merge(&decode(row.try_get(3)?)?);
        }
    }
    // In the order of the keys above: the map has not been changed.
    let encoded: Vec<Vec<u8>> = sums.values().map(Cell::encode).collect();
    sqlx::query(
        "INSERT INTO usage_cell (step_ms, start, label, cell) \
         SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[]) \
         ON CONFLICT (step_ms, start, label) DO UPDATE SET cell = EXCLUDED.cell",
    )
    .bind(&steps)
    .bind(&starts)
    .bind(&labels)
    .bind(&encoded)
    .execute(connection)
    .await?;
    Ok(())
}

/// Numbers labels, old ones and new.
async fn numbered<'l>(
    connection: &mut PgConnection,
    labels: impl Iterator<Item = &'l Labels>,
) -> Result<HashMap<Vec<u8>, i64>, sqlx::Error> {
    let unique: HashMap<Vec<u8>, &Labels> = labels.map(|labels| (digest(labels), labels)).collect();
    let column =
        |word: fn(&Labels) -> &String| -> Vec<&str> { unique.values().map(|labels| word(labels).as_str()).collect() };
    let digests: Vec<&[u8]> = unique.keys().map(Vec::as_slice).collect();
    sqlx::query(
        "INSERT INTO usage_label (digest, provider, model, task, key, team, tier, tags, strategy, status, demo) \
         SELECT * FROM unnest($1::bytea[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], \
         $8::text[], $9::text[], $10::text[], $11::boolean[]) ON CONFLICT (digest) DO NOTHING",
    )
    .bind(&digests)
    .bind(column(|labels| &labels.provider))
    .bind(column(|labels| &labels.model))
    .bind(column(|labels| &labels.task))
    .bind(column(|labels| &labels.key))
    .bind(column(|labels| &labels.team))
    .bind(column(|labels| &labels.tier))
    .bind(column(|labels| &labels.tags))
    .bind(column(|labels| &labels.strategy))
    .bind(column(|labels| &labels.status))
    .bind(unique.values().map(|labels| labels.demo).collect::<Vec<_>>())
    .execute(&mut *connection)
    .await?;
    let rows = sqlx::query("SELECT digest, label FROM usage_label WHERE digest = ANY($1)")
        .bind(&digests)
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

fn digest(labels: &Labels) -> Vec<u8> {
    let Labels { provider, model, task, key, team, tier, tags, strategy, status, demo } = labels;
    let mut hasher = blake3::Hasher::new();
    for word in [provider, model, task, key, team, tier, tags, strategy, status] {
        hasher.update(&(word.len() as u64).to_le_bytes()).update(word.as_bytes());
    }
    hasher.update(&[u8::from(*demo)]);
    hasher.finalize().as_bytes().to_vec()
}

/// Forgets all sums that can be made again, and notes their batches as unsummed. Returns a report as it was before and as it
/// is then, both of one moment: what others save or sum meanwhile is in neither. It fails with a conflict if another server
/// was summing when it began.
pub async fn clear(connection: &mut PgConnection, query: &UsageQuery) -> Result<(Vec<Group>, Vec<Group>), sqlx::Error> {
    let mut transaction = connection.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
    lock(&mut transaction, Turn::Wait).await?;
    let before = groups(&mut transaction, query).await?;
    let kept_since_ms = kept_since(&mut transaction).await?.unwrap_or(-FOREVER_MS);
    // Stragglers of the purged time that are summed exist only in sums that stay: they must not be summed twice.
    sqlx::query(AssertSqlSafe(format!("DELETE FROM request WHERE started_unix_ms < $1 AND {IS_SUMMED}")))
        .bind(kept_since_ms)
        .execute(&mut *transaction)
        .await?;
    sqlx::query("DELETE FROM usage_cell WHERE start >= $1").bind(kept_since_ms).execute(&mut *transaction).await?;
    // Batches that are saved from here on are noted already.
    sqlx::query("INSERT INTO unsummed_batch SELECT DISTINCT batch FROM request ON CONFLICT DO NOTHING")
        .execute(&mut *transaction)
        .await?;
    let after = groups(&mut transaction, query).await?;
    transaction.commit().await?;
    Ok((before, after))
}

async fn kept_since(connection: &mut PgConnection) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar("SELECT kept_since_ms FROM usage_state").fetch_one(connection).await
}

/// From here on no report looks for single requests before a day's beginning.
pub async fn keep_since(connection: &mut PgConnection, before_ms: i64) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE usage_state SET kept_since_ms = greatest(kept_since_ms, $1)")
        .bind(before_ms)
        .execute(connection)
        .await?;
    Ok(())
}

/// Deletes at most so many requests of the purged time that are in the sums. Returns how many were deleted.
pub async fn purge(connection: &mut PgConnection, stride: i64) -> Result<u64, sqlx::Error> {
    let sql = format!(
        "DELETE FROM request WHERE (batch, position) IN (SELECT batch, position FROM request \
         WHERE started_unix_ms < (SELECT kept_since_ms FROM usage_state) AND {IS_SUMMED} LIMIT $1)"
    );
    Ok(sqlx::query(AssertSqlSafe(sql)).bind(stride).execute(connection).await?.rows_affected())
}

/// The groups of a report, from one snapshot.
pub async fn usage(connection: &mut PgConnection, query: UsageQuery) -> Result<Vec<Group>, sqlx::Error> {
    let mut transaction = connection.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let groups = groups(&mut transaction, &query).await?;
    transaction.commit().await?;
    Ok(groups)
}

/// Within a transaction that has one snapshot.
async fn groups(transaction: &mut PgConnection, query: &UsageQuery) -> Result<Vec<Group>, sqlx::Error> {
    let kept_since_ms = kept_since(&mut *transaction).await?;
    let latest: Option<i64> =
        sqlx::query_scalar("SELECT max(started_unix_ms) FROM request").fetch_one(&mut *transaction).await?;
    let sources = Sources::of(query, kept_since_ms, latest);
    let mut grouping = Grouping::new(&query.group_by);

    let labels = labels(&mut *transaction).await?;
    let unlabelled = Labels::default();
    let mut slots = HashMap::new();
    for (step, (from, to)) in sources.sums() {
        let mut cells =
            sqlx::query("SELECT start, label, cell FROM usage_cell WHERE step_ms = $1 AND start >= $2 AND start < $3")
                .bind(step)
                .bind(from)
                .bind(to)
                .fetch(&mut *transaction);
        while let Some(row) = cells.try_next().await? {
            let (start, label): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
            let words = labels.get(&label).unwrap_or(&unlabelled);
            if !query.shows(words) {
                continue;
            }
            let group = (label, group_period(query, start));
            let slot = *slots.entry(group).or_insert_with(|| grouping.slot(start, words));
            grouping.cell(slot).merge(&decode(row.try_get(2)?)?);
        }
    }

    let [begin, end] = sources.requests;
    for (condition, (from, to)) in [(IS_SUMMED, begin), (IS_SUMMED, end), (IS_UNSUMMED, sources.whole)] {
        if from >= to {
            continue;
        }
        let sql = format!(
            "SELECT {SUMMED} FROM request WHERE started_unix_ms >= $1 AND started_unix_ms < $2 AND {condition}"
        );
        let mut requests = sqlx::query(AssertSqlSafe(sql)).bind(from).bind(to).fetch(&mut *transaction);
        while let Some(request) = requests.try_next().await? {
            let (started, labels, facts) = summand(&mut LeftToRight::of(&request))?;
            if query.shows(&labels) {
                grouping.add(started, &labels, &facts);
            }
        }
    }
    Ok(grouping.into_groups())
}

async fn labels(connection: &mut PgConnection) -> Result<HashMap<i64, Labels>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT label, provider, model, task, key, team, tier, tags, strategy, status, demo FROM usage_label",
    )
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let labels = Labels {
                provider: row.try_get(1)?,
                model: row.try_get(2)?,
                task: row.try_get(3)?,
                key: row.try_get(4)?,
                team: row.try_get(5)?,
                tier: row.try_get(6)?,
                tags: row.try_get(7)?,
                strategy: row.try_get(8)?,
                status: row.try_get(9)?,
                demo: row.try_get(10)?,
            };
            Ok((row.try_get(0)?, labels))
        })
        .collect()
}
