//! Sums per hour and day, so that a report over millions of requests reads thousands of rows.
//!
//! The sums trail the requests: `usage_state.summed_seq` says how far they reach, and a report adds the few requests
//! beyond one by one, in the same read transaction. So a report is exact at any moment, saving a small batch costs
//! nothing extra, and sums are written for hundreds or thousands of requests at a time: from memory together with a large
//! batch, else by reading rows back.
//!
//! A change of the cells' encoding comes with a migration that empties `usage_cell` and sets `summed_seq` to 0: the next
//! writes bring the sums back.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, Connection, Row as _, SqliteConnection};

use crate::ledger::cell::{Cell, Facts, Labels};
use crate::ledger::record::Record;
use crate::ledger::report::{Group, Grouping};
use crate::ledger::usage::UsageQuery;
use crate::store::rows::{Columns, LeftToRight, SUMMED, summand};
use crate::store::sums::{Cells, FOREVER_MS, Sources, decode, group_period};

struct State {
    summed_seq: i64,
    kept_since_ms: Option<i64>,
}

async fn state(connection: &mut SqliteConnection) -> Result<State, sqlx::Error> {
    let row = sqlx::query("SELECT summed_seq, kept_since_ms FROM usage_state").fetch_one(connection).await?;
    Ok(State { summed_seq: row.try_get(0)?, kept_since_ms: row.try_get(1)? })
}

/// Sums requests until at most `allowed` are left, `stride` in one transaction. Returns how many were summed.
pub async fn catch_up(connection: &mut SqliteConnection, allowed: i64, stride: i64) -> Result<u64, sqlx::Error> {
    let mut summed = 0;
    loop {
        let last: i64 =
            sqlx::query_scalar("SELECT ifnull(max(seq), 0) FROM request").fetch_one(&mut *connection).await?;
        if last - state(connection).await?.summed_seq <= allowed {
            return Ok(summed);
        }
        match sum(connection, stride).await? {
            // Numbers may have gaps after a purge.
            0 => return Ok(summed),
            more => summed += more,
        }
    }
}

/// Sums the next requests in one transaction. Another process may do the same: the state is read under the lock.
async fn sum(connection: &mut SqliteConnection, stride: i64) -> Result<u64, sqlx::Error> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let mut last = state(&mut transaction).await?.summed_seq;
    let mut cells = Cells::default();
    let mut count = 0;
    {
        let sql = AssertSqlSafe(format!("SELECT seq, {SUMMED} FROM request WHERE seq > ? ORDER BY seq LIMIT ?"));
        let mut requests = sqlx::query(sql).bind(last).bind(stride).fetch(&mut *transaction);
        while let Some(request) = requests.try_next().await? {
            let mut columns = LeftToRight::of(&request);
            let seq = columns.moment()?;
            let (started, labels, facts) = summand(&mut columns)?;
            cells.add(started, &labels, &facts);
            (last, count) = (seq, count + 1);
        }
    }
    write(&mut transaction, cells, last).await?;
    transaction.commit().await?;
    Ok(count)
}

/// How far the sums reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Every request is summed.
    All,
    Some,
}

/// Whether every request that is in the file is summed. Inside a transaction, so that it stays true.
pub async fn reach(connection: &mut SqliteConnection) -> Result<Reach, sqlx::Error> {
    let last: i64 = sqlx::query_scalar("SELECT ifnull(max(seq), 0) FROM request").fetch_one(&mut *connection).await?;
    Ok(if state(connection).await?.summed_seq >= last { Reach::All } else { Reach::Some })
}

/// Sums requests that were inserted in this transaction, when all before them are summed.
pub async fn sum_records(connection: &mut SqliteConnection, records: &[Arc<Record>]) -> Result<(), sqlx::Error> {
    let mut cells = Cells::default();
    for record in records {
        cells.add(record.started_unix_ms, &Labels::of(record), &Facts::of(record));
    }
    let last: i64 = sqlx::query_scalar("SELECT ifnull(max(seq), 0) FROM request").fetch_one(&mut *connection).await?;
    write(connection, cells, last).await
}

/// Adds cells to the sums, which then reach up to `last`.
async fn write(connection: &mut SqliteConnection, cells: Cells, last: i64) -> Result<(), sqlx::Error> {
    let mut known = HashMap::new();
    for ((step, start, labels), cell) in cells.into_map() {
        let label = match known.get(&labels) {
            Some(label) => *label,
            None => {
                let label = label(connection, &labels).await?;
                known.insert(labels, label);
                label
            }
        };
        add(connection, (step, start, label), cell).await?;
    }
    sqlx::query("UPDATE usage_state SET summed_seq = ?").bind(last).execute(connection).await?;
    Ok(())
}

async fn label(connection: &mut SqliteConnection, labels: &Labels) -> Result<i64, sqlx::Error> {
    const INSERT: &str = "INSERT OR IGNORE INTO usage_label (provider, model, task, key, team, tier, tags, \
                          strategy, status, demo) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    const SELECT: &str = "SELECT label FROM usage_label WHERE provider = ? AND model = ? AND task = ? AND key = ? \
                          AND team = ? AND tier = ? AND tags = ? AND strategy = ? AND status = ? AND demo = ?";
    for sql in [INSERT, SELECT] {
        let query = sqlx::query(sql)
            .bind(labels.provider.clone())
            .bind(labels.model.clone())
            .bind(labels.task.clone())
            .bind(labels.key.clone())
            .bind(labels.team.clone())
            .bind(labels.tier.clone())
            .bind(labels.tags.clone())
            .bind(labels.strategy.clone())
            .bind(labels.status.clone())
            .bind(labels.demo);
        if let Some(found) = query.fetch_optional(&mut *connection).await? {
            return found.try_get(0);
        }
    }
    Err(sqlx::Error::RowNotFound)
}

async fn add(connection: &mut SqliteConnection, at: (i64, i64, i64), mut cell: Cell) -> Result<(), sqlx::Error> {
    let (step, start, label) = at;
    let old = sqlx::query("SELECT cell FROM usage_cell WHERE step_ms = ? AND start = ? AND label = ?")
        .bind(step)
        .bind(start)
        .bind(label)
        .fetch_optional(&mut *connection)
        .await?;
    if let Some(old) = old {
        cell.merge(&decode(old.try_get(0)?)?);
    }
    sqlx::query("INSERT OR REPLACE INTO usage_cell (step_ms, start, label, cell) VALUES (?, ?, ?, ?)")
        .bind(step)
        .bind(start)
        .bind(label)
        .bind(cell.encode())
        .execute(connection)
        .await?;
    Ok(())
}

/// Forgets all sums that can be made again.
pub async fn clear(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let kept_since_ms = state(connection).await?.kept_since_ms;
    if let Some(kept_since_ms) = kept_since_ms {
        // Stragglers of the purged time exist only in sums that stay: they must not be summed twice.
        keep_since(connection, kept_since_ms).await?;
        while purge(connection, super::STRIDE).await? > 0 {}
    }
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    sqlx::query("DELETE FROM usage_cell WHERE start >= ?")
        .bind(kept_since_ms.unwrap_or(-FOREVER_MS))
        .execute(&mut *transaction)
        .await?;
    sqlx::query("UPDATE usage_state SET summed_seq = 0").execute(&mut *transaction).await?;
    transaction.commit().await
}

/// Sums what no sum holds; from here on no report looks for single requests before a day's beginning.
pub async fn keep_since(connection: &mut SqliteConnection, before_ms: i64) -> Result<(), sqlx::Error> {
    catch_up(connection, 0, super::STRIDE).await?;
    sqlx::query("UPDATE usage_state SET kept_since_ms = max(ifnull(kept_since_ms, ?1), ?1)")
        .bind(before_ms)
        .execute(connection)
        .await?;
    Ok(())
}

/// Deletes at most so many requests of the purged time that are in the sums. Returns how many were deleted.
pub async fn purge(connection: &mut SqliteConnection, most: i64) -> Result<u64, sqlx::Error> {
    let deleted = sqlx::query(
        "DELETE FROM request WHERE seq IN (SELECT seq FROM request \
         WHERE started_unix_ms < (SELECT kept_since_ms FROM usage_state) \
         AND seq <= (SELECT summed_seq FROM usage_state) LIMIT ?)",
    );
    Ok(deleted.bind(most).execute(connection).await?.rows_affected())
}

/// The groups of a report, from one consistent view of the file.
pub async fn usage(connection: &mut SqliteConnection, query: &UsageQuery) -> Result<Vec<Group>, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let State { summed_seq, kept_since_ms } = state(&mut transaction).await?;
    let latest: Option<i64> =
        sqlx::query_scalar("SELECT max(started_unix_ms) FROM request").fetch_one(&mut *transaction).await?;
    let sources = Sources::of(query, kept_since_ms, latest);
    let mut grouping = Grouping::new(&query.group_by);

    let labels = labels(&mut transaction).await?;
    let unlabelled = Labels::default();
    let mut slots = HashMap::new();
    for (step, (from, to)) in sources.sums() {
        let mut cells =
            sqlx::query("SELECT start, label, cell FROM usage_cell WHERE step_ms = ? AND start >= ? AND start < ?")
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
            let slot = *slots.entry((label, group_period(query, start))).or_insert_with(|| grouping.slot(start, words));
            grouping.cell(slot).merge(&decode(row.try_get(2)?)?);
        }
    }

    let [begin, end] = sources.requests;
    let edge = "WHERE started_unix_ms >= ? AND started_unix_ms < ? AND seq <= ?";
    // The unary plus keeps SQLite from the index on time: the few latest requests are next to each other.
    let tail = "WHERE +started_unix_ms >= ? AND +started_unix_ms < ? AND seq > ?";
    for (condition, (from, to)) in [(edge, begin), (edge, end), (tail, sources.whole)] {
        let sql = AssertSqlSafe(format!("SELECT {SUMMED} FROM request {condition}"));
        let mut requests = sqlx::query(sql).bind(from).bind(to).bind(summed_seq).fetch(&mut *transaction);
        while let Some(request) = requests.try_next().await? {
            let (started, labels, facts) = summand(&mut LeftToRight::of(&request))?;
            if query.shows(&labels) {
                grouping.add(started, &labels, &facts);
            }
        }
    }
    Ok(grouping.into_groups())
}

async fn labels(connection: &mut SqliteConnection) -> Result<HashMap<i64, Labels>, sqlx::Error> {
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
