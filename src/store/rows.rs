//! A request's row as SQL has it, whichever the database: the order of its columns, and the way back from them.

use sqlx::{ColumnIndex, Decode, Row as SqlRow, Type};

use crate::ledger::cell::{Facts, Labels};
use crate::ledger::record::{BATCH_TIER, CacheUse, Record, Status};
use crate::ledger::row::{Row, tags};
use crate::ledger::usage::rfc3339;
use crate::money::NanoUsd;

/// The columns of a [`Row`], in the order of [`row`].
macro_rules! shown {
    ($decision:literal) => {
        concat!(
            "SELECT id, started_unix_ms, key, team, tier, tags, asked_model, stream, status, http_status, error, task, task_confidence, \
             strategy, provider, model, demo, cache, failovers, prompt_tokens, completion_tokens, cached_tokens, \
             reasoning_tokens, estimated_usage, cost_nano_usd, saved_by_cache_nano_usd, saved_by_routing_nano_usd, \
             first_token_ms, total_ms, reason, attempts, trace_id, guards, service_tier, ",
            $decision,
            " FROM request "
        )
    };
}
pub(super) use shown;

/// The columns that sums are made of, in the order of [`summand`].
pub const SUMMED: &str = "started_unix_ms, provider, model, task, key, team, tier, tags, strategy, status, demo, cache, failovers, \
     prompt_tokens, completion_tokens, cached_tokens, estimated_usage, cost_nano_usd, saved_by_cache_nano_usd, \
     saved_by_routing_nano_usd, first_token_ms, total_ms, service_tier";

/// A row's columns, from left to right.
pub trait Columns {
    fn text(&mut self) -> Result<String, sqlx::Error>;
    fn word(&mut self) -> Result<Option<String>, sqlx::Error>;
    fn integer(&mut self) -> Result<Option<i64>, sqlx::Error>;
    fn real(&mut self) -> Result<f64, sqlx::Error>;
    fn flag(&mut self) -> Result<bool, sqlx::Error>;

    fn moment(&mut self) -> Result<i64, sqlx::Error> {
        self.integer().map(Option::unwrap_or_default)
    }

    fn count(&mut self) -> Result<u64, sqlx::Error> {
        self.moment().map(|number| number.max(0) as u64)
    }

    fn money(&mut self) -> Result<Option<NanoUsd>, sqlx::Error> {
        self.integer().map(|amount| amount.map(NanoUsd))
    }

    fn duration(&mut self) -> Result<Option<u64>, sqlx::Error> {
        self.integer().map(|number| number.map(|number| number.max(0) as u64))
    }

    fn status(&mut self) -> Result<Status, sqlx::Error> {
        let word = self.text()?;
        Status::parse(&word).ok_or_else(|| sqlx::Error::Decode(format!("unknown status `{word}`").into()))
    }

    fn cache(&mut self) -> Result<CacheUse, sqlx::Error> {
        let word = self.text()?;
        CacheUse::parse(&word).ok_or_else(|| sqlx::Error::Decode(format!("unknown cache use `{word}`").into()))
    }
}

/// [`Columns`] of any database's row.
pub struct LeftToRight<'r, R> {
    row: &'r R,
    next: usize,
}

impl<'r, R: SqlRow> LeftToRight<'r, R> {
    pub fn of(row: &'r R) -> Self {
        Self { row, next: 0 }
    }

    fn take<T: Decode<'r, R::Database> + Type<R::Database>>(&mut self) -> Result<T, sqlx::Error>
    where
        usize: ColumnIndex<R>,
    {
        self.next += 1;
        self.row.try_get(self.next - 1)
    }
}

impl<'r, R: SqlRow> Columns for LeftToRight<'r, R>
where
    usize: ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
    f64: Decode<'r, R::Database> + Type<R::Database>,
    bool: Decode<'r, R::Database> + Type<R::Database>,
{
    fn text(&mut self) -> Result<String, sqlx::Error> {
        self.take()
    }
    fn word(&mut self) -> Result<Option<String>, sqlx::Error> {
        self.take()
    }
    fn integer(&mut self) -> Result<Option<i64>, sqlx::Error> {
        self.take()
    }
    fn real(&mut self) -> Result<f64, sqlx::Error> {
        self.take()
    }
    fn flag(&mut self) -> Result<bool, sqlx::Error> {
        self.take()
    }
}

/// From the columns of [`shown!`].
pub fn row(mut columns: impl Columns) -> Result<Row, sqlx::Error> {
    let id = columns.text()?;
    let started_unix_ms = columns.moment()?;
    Ok(Row {
        id,
        started_unix_ms,
        started: rfc3339(started_unix_ms),
        key: columns.word()?,
        team: columns.word()?,
        tier: columns.word()?,
        tags: tags(&columns.text()?),
        asked_model: columns.text()?,
        stream: columns.flag()?,
        status: columns.status()?,
        http_status: u16::try_from(columns.moment()?).unwrap_or_default(),
        error: columns.word()?,
        task: columns.text()?,
        task_confidence: columns.real()?,
        strategy: columns.text()?,
        provider: columns.text()?,
        model: columns.text()?,
        demo: columns.flag()?,
        cache: columns.cache()?,
        failovers: u32::try_from(columns.moment()?).unwrap_or_default(),
        prompt_tokens: columns.count()?,
        completion_tokens: columns.count()?,
        cached_tokens: columns.count()?,
        reasoning_tokens: columns.count()?,
        estimated_usage: columns.flag()?,
        cost_usd: columns.money()?,
        saved_by_cache_usd: columns.money()?,
        saved_by_routing_usd: columns.money()?,
        first_token_ms: columns.duration()?,
        total_ms: columns.count()?,
        reason: columns.text()?,
        attempts: serde_json::from_str(&columns.text()?).unwrap_or_default(),
        trace_id: columns.word()?,
        guards: columns.word()?,
        service_tier: columns.word()?,
        decision: columns.word()?.and_then(|json| serde_json::value::RawValue::from_string(json).ok()),
    })
}

/// One row for the sums, from the columns of [`SUMMED`]: its start, its labels, what it adds.
pub fn summand(columns: &mut impl Columns) -> Result<(i64, Labels, Facts), sqlx::Error> {
    let started_unix_ms = columns.moment()?;
    let mut labels = Labels {
        provider: columns.text()?,
        model: columns.text()?,
        task: columns.text()?,
        key: columns.word()?.unwrap_or_default(),
        team: columns.word()?.unwrap_or_default(),
        tier: columns.word()?.unwrap_or_default(),
        tags: columns.text()?,
        strategy: columns.text()?,
        ..Labels::default()
    };
    let status = columns.status()?;
    labels.status = status.as_str().to_owned();
    labels.demo = columns.flag()?;
    let facts = Facts {
        status,
        cache: columns.cache()?,
        failovers: columns.count()?,
        prompt_tokens: columns.count()?,
        completion_tokens: columns.count()?,
        cached_tokens: columns.count()?,
        estimated_usage: columns.flag()?,
        cost: columns.money()?,
        saved_by_cache: columns.money()?,
        saved_by_routing: columns.money()?,
        first_token_ms: columns.duration()?,
        total_ms: columns.count()?,
        batched: columns.word()?.as_deref() == Some(BATCH_TIER),
    };
    Ok((started_unix_ms, labels, facts))
}

/// The attempts of a row as they are kept.
pub fn attempts(record: &Record) -> String {
    serde_json::to_string(&record.attempts).unwrap_or_else(|_| "[]".to_owned())
}

/// Databases refuse what is no number, or keep it as none; a row must never be refused for that.
pub fn confidence(record: &Record) -> f64 {
    if record.task_confidence.is_nan() { 0.0 } else { record.task_confidence }
}

/// SQL's integers are signed.
pub fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
