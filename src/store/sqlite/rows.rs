//! Requests in and out of the table `request`.

use sqlx::{Connection, QueryBuilder, Sqlite, SqliteConnection};

use super::projection;
use crate::ledger::journal::{Batch, Cursor, Filter};
use crate::ledger::record::Record;
use crate::ledger::row::Row;
use crate::money::NanoUsd;
use crate::store::rows::{LeftToRight, attempts, confidence, integer, row, shown};

/// Rows of one INSERT. Bounds how long the runtime's thread is busy turning decisions into JSON before it yields.
const PER_STATEMENT: usize = 50;

const INSERT: &str = "INSERT INTO request (id, started_unix_ms, key, team, tier, tags, asked_model, stream, status, http_status, error, task, \
     task_confidence, strategy, provider, model, demo, cache, failovers, prompt_tokens, completion_tokens, cached_tokens, \
     reasoning_tokens, estimated_usage, cost_nano_usd, saved_by_cache_nano_usd, saved_by_routing_nano_usd, first_token_ms, \
     total_ms, reason, attempts, trace_id, guards, service_tier, decision) ";

/// Rows of a batch from which summing them with it is worth a few more statements.
const SUM_AT_ONCE: usize = 256;

/// Saves a batch whole or not at all; one that was saved before is left alone.
pub async fn save(connection: &mut SqliteConnection, batch: &Batch) -> Result<(), sqlx::Error> {
    let run = batch.run.to_be_bytes().to_vec();
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let last: Option<i64> = sqlx::query_scalar("SELECT number FROM writer_run WHERE run = ?")
        .bind(run.clone())
        .fetch_optional(&mut *transaction)
        .await?;
    let number = integer(batch.number);
    if last.is_some_and(|last| last >= number) {
        return transaction.rollback().await;
    }
    let sums_reach = projection::reach(&mut transaction).await?;
    for records in batch.records.chunks(PER_STATEMENT) {
        let mut insert = QueryBuilder::<Sqlite>::new(INSERT);
        insert.push_values(records, |mut values, record| bind(&mut values, record));
        insert.build().execute(&mut *transaction).await?;
    }
    // Under load rows are summed while they are at hand: reading them back would cost more than writing them.
    if batch.records.len() >= SUM_AT_ONCE && sums_reach == projection::Reach::All {
        projection::sum_records(&mut transaction, &batch.records).await?;
    }
    sqlx::query("INSERT OR REPLACE INTO writer_run (run, number) VALUES (?, ?)")
        .bind(run)
        .bind(number)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}

fn bind(values: &mut sqlx::query_builder::Separated<'_, Sqlite, &'static str>, record: &Record) {
    let money = |amount: Option<NanoUsd>| amount.map(|amount| amount.0);
    let decision = record.decision.as_ref().map(|decision| decision.json());
    values
        .push_bind(record.id.to_string())
        .push_bind(record.started_unix_ms)
        .push_bind(record.key.as_deref().map(str::to_owned))
        .push_bind(record.team.as_deref().map(str::to_owned))
        .push_bind(record.tier.as_deref().map(str::to_owned))
        .push_bind(record.tags.to_string())
        .push_bind(record.asked_model.clone())
        .push_bind(record.stream)
        .push_bind(record.status.as_str())
        .push_bind(record.http_status)
        .push_bind(record.error.clone())
        .push_bind(record.task.to_string())
        .push_bind(confidence(record))
        .push_bind(record.strategy)
        .push_bind(record.provider.to_string())
        .push_bind(record.model.clone())
        .push_bind(record.demo)
        .push_bind(record.cache.as_str())
        .push_bind(record.failovers)
        .push_bind(integer(record.prompt_tokens))
        .push_bind(integer(record.completion_tokens))
        .push_bind(integer(record.cached_tokens))
        .push_bind(integer(record.reasoning_tokens))
        .push_bind(record.estimated_usage)
        .push_bind(money(record.cost))
        .push_bind(money(record.saved_by_cache))
        .push_bind(money(record.saved_by_routing))
        .push_bind(record.first_token_ms.map(integer))
        .push_bind(integer(record.total_ms))
        .push_bind(record.reason.clone())
        .push_bind(attempts(record))
        .push_bind(record.trace.as_ref().map(|trace| trace.id.to_string()))
        .push_bind(Some(record.guards.clone()).filter(|guards| !guards.is_empty()))
        .push_bind(record.service_tier)
        .push_bind(decision);
}

/// The newest row with this id.
pub async fn find(connection: &mut SqliteConnection, id: &str) -> Result<Option<Row>, sqlx::Error> {
    let found = sqlx::query(concat!(shown!("decision"), "WHERE id = ? ORDER BY seq DESC LIMIT 1"))
        .bind(id.to_owned())
        .fetch_optional(connection)
        .await?;
    found.as_ref().map(|found| row(LeftToRight::of(found))).transpose()
}

pub async fn has(connection: &mut SqliteConnection, id: &str, started_unix_ms: i64) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM request WHERE id = ? AND started_unix_ms = ?)")
        .bind(id.to_owned())
        .bind(started_unix_ms)
        .fetch_one(connection)
        .await
}

/// Newest first.
pub async fn recent(
    connection: &mut SqliteConnection,
    filter: &Filter,
    limit: usize,
    before: Option<&Cursor>,
) -> Result<Vec<Row>, sqlx::Error> {
    let mut query = QueryBuilder::<Sqlite>::new(shown!("NULL"));
    query.push("WHERE started_unix_ms >= ").push_bind(filter.since_ms.unwrap_or(i64::MIN));
    if let Some(until) = filter.until_ms {
        query.push(" AND started_unix_ms < ").push_bind(until);
    }
    if let Some(before) = before {
        query.push(" AND (started_unix_ms, id) < (").push_bind(before.started_unix_ms);
        query.push(", ").push_bind(before.id.clone()).push(")");
    }
    let words = [
        (" AND status = ", filter.status.map(|status| status.as_str().to_owned())),
        (" AND provider = ", filter.provider.clone()),
        (" AND model = ", filter.model.clone()),
        (" AND task = ", filter.task.clone()),
        (" AND ifnull(key, '') = ", filter.key.clone()),
    ];
    for (clause, word) in words {
        if let Some(word) = word {
            query.push(clause).push_bind(word);
        }
    }
    query.push(" ORDER BY started_unix_ms DESC, id DESC LIMIT ").push_bind(integer(limit as u64));
    let found = query.build().fetch_all(connection).await?;
    found.iter().map(|found| row(LeftToRight::of(found))).collect()
}
