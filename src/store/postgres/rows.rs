//! Requests in and out of the table `request`.

use std::sync::Arc;

use sqlx::{PgConnection, Postgres, QueryBuilder};

use crate::ledger::journal::{Cursor, Failure, Filter};
use crate::ledger::record::Record;
use crate::ledger::row::Row;
use crate::money::NanoUsd;
use crate::store::rows::{LeftToRight, attempts, confidence, integer, row, shown};

/// One statement, so that a batch is saved whole or not at all without a second answer to wait for. The writer's row decides:
/// a batch that it has counted already inserts nothing. Two tries of the same batch at once (the first one's answer was given
/// up, and it is still being worked on) wait for each other at that row.
const SAVE: &str = "\
WITH author AS (
    INSERT INTO writer (run, number, service_instance_id) VALUES ($1::uuid, $2, $3)
    ON CONFLICT (run) DO UPDATE SET number = EXCLUDED.number WHERE writer.number < EXCLUDED.number
    RETURNING id
), fresh AS (
    INSERT INTO unsummed_batch (batch) SELECT nextval('request_batch') FROM author RETURNING batch
)
INSERT INTO request (batch, writer, id, started_unix_ms, key, team, tier, tags, asked_model, stream, status, http_status,
    error, task, task_confidence, strategy, provider, model, demo, cache, failovers, prompt_tokens, completion_tokens,
    cached_tokens, reasoning_tokens, estimated_usage, cost_nano_usd, saved_by_cache_nano_usd, saved_by_routing_nano_usd,
    first_token_ms, total_ms, reason, attempts, trace_id, guards, service_tier, decision,
    position)
SELECT fresh.batch, author.id, rows.*
FROM author, fresh, unnest($4::text[], $5::bigint[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
    $11::boolean[], $12::text[], $13::bigint[], $14::text[], $15::text[], $16::double precision[], $17::text[], $18::text[],
    $19::text[], $20::boolean[], $21::text[], $22::bigint[], $23::bigint[], $24::bigint[], $25::bigint[], $26::bigint[],
    $27::boolean[], $28::bigint[], $29::bigint[], $30::bigint[], $31::bigint[], $32::bigint[], $33::text[], $34::text[],
    $35::text[], $36::text[], $37::text[], $38::text[]) WITH ORDINALITY AS rows";

/// A batch, column by column.
#[derive(Default)]
pub struct Columns {
    id: Vec<String>,
    started_unix_ms: Vec<i64>,
    key: Vec<Option<String>>,
    team: Vec<Option<String>>,
    tier: Vec<Option<String>>,
    tags: Vec<String>,
    asked_model: Vec<String>,
    stream: Vec<bool>,
    status: Vec<&'static str>,
    http_status: Vec<i64>,
    error: Vec<Option<String>>,
    task: Vec<String>,
    task_confidence: Vec<f64>,
    strategy: Vec<&'static str>,
    provider: Vec<String>,
    model: Vec<String>,
    demo: Vec<bool>,
    cache: Vec<&'static str>,
    failovers: Vec<i64>,
    prompt_tokens: Vec<i64>,
    completion_tokens: Vec<i64>,
    cached_tokens: Vec<i64>,
    reasoning_tokens: Vec<i64>,
    estimated_usage: Vec<bool>,
    cost: Vec<Option<i64>>,
    saved_by_cache: Vec<Option<i64>>,
    saved_by_routing: Vec<Option<i64>>,
    first_token_ms: Vec<Option<i64>>,
    total_ms: Vec<i64>,
    reason: Vec<String>,
    attempts: Vec<String>,
    trace_id: Vec<Option<String>>,
    guards: Vec<Option<String>>,
    service_tier: Vec<Option<&'static str>>,
    decision: Vec<Option<String>>,
}

impl Columns {
    /// Off the runtime's threads: thousands of decisions have to be written as JSON.
    pub async fn of(records: &[Arc<Record>]) -> Result<Self, Failure> {
        let records = records.to_vec();
        let columns = tokio::task::spawn_blocking(move || {
            let mut columns = Self::default();
            records.iter().for_each(|record| columns.push(record));
            columns
        });
        columns.await.map_err(|_| Failure("rows could not be written as columns".to_owned()))
    }

    fn push(&mut self, record: &Record) {
        let word = |word: &Option<Arc<str>>| word.as_deref().map(storable);
        let money = |amount: Option<NanoUsd>| amount.map(|amount| amount.0);
        self.id.push(storable(&record.id));
        self.started_unix_ms.push(record.started_unix_ms);
        self.key.push(word(&record.key));
        self.team.push(word(&record.team));
        self.tier.push(word(&record.tier));
        self.tags.push(storable(&record.tags));
        self.asked_model.push(storable(&record.asked_model));
        self.stream.push(record.stream);
        self.status.push(record.status.as_str());
        self.http_status.push(record.http_status.into());
        self.error.push(record.error.as_deref().map(storable));
        self.task.push(storable(&record.task));
        self.task_confidence.push(confidence(record));
        self.strategy.push(record.strategy);
        self.provider.push(storable(&record.provider));
        self.model.push(storable(&record.model));
        self.demo.push(record.demo);
        self.cache.push(record.cache.as_str());
        self.failovers.push(record.failovers.into());
        self.prompt_tokens.push(integer(record.prompt_tokens));
        self.completion_tokens.push(integer(record.completion_tokens));
        self.cached_tokens.push(integer(record.cached_tokens));
        self.reasoning_tokens.push(integer(record.reasoning_tokens));
        self.estimated_usage.push(record.estimated_usage);
        self.cost.push(money(record.cost));
        self.saved_by_cache.push(money(record.saved_by_cache));
        self.saved_by_routing.push(money(record.saved_by_routing));
        self.first_token_ms.push(record.first_token_ms.map(integer));
        self.total_ms.push(integer(record.total_ms));
        self.reason.push(storable(&record.reason));
        self.attempts.push(storable(&attempts(record)));
        self.trace_id.push(record.trace.as_ref().map(|trace| trace.id.to_string()));
        self.guards.push(Some(storable(&record.guards)).filter(|guards| !guards.is_empty()));
        self.service_tier.push(record.service_tier);
        self.decision.push(record.decision.as_ref().map(|decision| storable(&decision.json())));
    }
}

/// A row must never be refused for the one character that PostgreSQL has no place for.
pub fn storable(text: &str) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text.to_owned() }
}

/// Saves a batch whole or not at all; one that was saved before is left alone.
pub async fn save(
    connection: &mut PgConnection,
    run: u128,
    number: u64,
    instance: String,
    columns: Columns,
) -> Result<(), sqlx::Error> {
    sqlx::query(SAVE)
        .bind(uuid::Uuid::from_u128(run).to_string())
        .bind(integer(number))
        .bind(instance)
        .bind(columns.id)
        .bind(columns.started_unix_ms)
        .bind(columns.key)
        .bind(columns.team)
        .bind(columns.tier)
        .bind(columns.tags)
        .bind(columns.asked_model)
        .bind(columns.stream)
        .bind(columns.status)
        .bind(columns.http_status)
        .bind(columns.error)
        .bind(columns.task)
        .bind(columns.task_confidence)
        .bind(columns.strategy)
        .bind(columns.provider)
        .bind(columns.model)
        .bind(columns.demo)
        .bind(columns.cache)
        .bind(columns.failovers)
        .bind(columns.prompt_tokens)
        .bind(columns.completion_tokens)
        .bind(columns.cached_tokens)
        .bind(columns.reasoning_tokens)
        .bind(columns.estimated_usage)
        .bind(columns.cost)
        .bind(columns.saved_by_cache)
        .bind(columns.saved_by_routing)
        .bind(columns.first_token_ms)
        .bind(columns.total_ms)
        .bind(columns.reason)
        .bind(columns.attempts)
        .bind(columns.trace_id)
        .bind(columns.guards)
        .bind(columns.service_tier)
        .bind(columns.decision)
        .execute(connection)
        .await?;
    Ok(())
}

/// The newest row with this id.
pub async fn find(connection: &mut PgConnection, id: String) -> Result<Option<Row>, sqlx::Error> {
    let found = sqlx::query(concat!(shown!("decision"), "WHERE id = $1 ORDER BY batch DESC, position DESC LIMIT 1"))
        .bind(storable(&id))
        .fetch_optional(connection)
        .await?;
    found.as_ref().map(|found| row(LeftToRight::of(found))).transpose()
}

pub async fn has(connection: &mut PgConnection, id: String, started_unix_ms: i64) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM request WHERE id = $1 AND started_unix_ms = $2)")
        .bind(storable(&id))
        .bind(started_unix_ms)
        .fetch_one(connection)
        .await
}

/// Newest first.
pub async fn recent(
    connection: &mut PgConnection,
    filter: Filter,
    limit: usize,
    before: Option<Cursor>,
) -> Result<Vec<Row>, sqlx::Error> {
    let mut query = QueryBuilder::<Postgres>::new(shown!("NULL"));
    query.push("WHERE started_unix_ms >= ").push_bind(filter.since_ms.unwrap_or(i64::MIN));
    if let Some(until) = filter.until_ms {
        query.push(" AND started_unix_ms < ").push_bind(until);
    }
    if let Some(before) = before {
        query.push(" AND (started_unix_ms, id) < (").push_bind(before.started_unix_ms);
        query.push(", ").push_bind(storable(&before.id)).push(")");
    }
    let words = [
        (" AND status = ", filter.status.map(|status| status.as_str().to_owned())),
        (" AND provider = ", filter.provider),
        (" AND model = ", filter.model),
        (" AND task = ", filter.task),
        (" AND coalesce(key, '') = ", filter.key),
    ];
    for (clause, word) in words {
        if let Some(word) = word {
            query.push(clause).push_bind(storable(&word));
        }
    }
    query.push(" ORDER BY started_unix_ms DESC, id DESC LIMIT ").push_bind(integer(limit as u64));
    let found = query.build().fetch_all(connection).await?;
    found.iter().map(|found| row(LeftToRight::of(found))).collect()
}
