//! The log of events: the port `events::log` in the table `event`.

use std::time::Duration;

use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row as _, SqliteConnection};

use super::jobs::{after, now_ms};
use super::{Sqlite, failure};
use crate::events::log::{Log, Note, Wanted};
use crate::events::{Event, Kind};
use crate::ledger::journal::Answer;
use crate::store::FORGOTTEN_AT_ONCE;

impl Log for Sqlite {
    fn note<'a>(&'a self, notes: &'a [Note]) -> Answer<'a, ()> {
        Box::pin(async move {
            self.transact(async |connection| {
                for note in notes {
                    add(connection, note).await?;
                }
                Ok(())
            })
            .await
        })
    }

    fn behind<'a>(&'a self, place: i64, wanted: &'a Wanted, most: usize) -> Answer<'a, Vec<Event>> {
        Box::pin(async move {
            let mut connection = self.read().await?;
            behind(&mut connection, place, wanted, most).await.map_err(failure)
        })
    }

    fn end(&self) -> Answer<'_, i64> {
        Box::pin(async move {
            let mut connection = self.read().await?;
            sqlx::query_scalar("SELECT coalesce(max(seq), 0) FROM event")
                .fetch_one(&mut *connection)
                .await
                .map_err(failure)
        })
    }

    fn take_turn<'a>(&'a self, consumer: &'a str, holder: &'a str, lease: Duration) -> Answer<'a, Option<i64>> {
        Box::pin(async move {
            let now_ms = now_ms();
            let statement = "INSERT INTO consumer SELECT ?1, coalesce(max(seq), 0), ?2, ?3 FROM event WHERE true \
                 ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until_unix_ms = excluded.until_unix_ms \
                 WHERE holder = excluded.holder OR until_unix_ms <= ?4 RETURNING place";
            self.write(async |connection| {
                let taken = sqlx::query_scalar(statement).bind(consumer).bind(holder).bind(after(now_ms, lease));
                taken.bind(now_ms).fetch_optional(connection).await
            })
            .await
        })
    }

    fn advance<'a>(&'a self, consumer: &'a str, holder: &'a str, place: i64) -> Answer<'a, bool> {
        Box::pin(async move {
            self.write(async |connection| {
                let moved = sqlx::query("UPDATE consumer SET place = ? WHERE name = ? AND holder = ?");
                let moved = moved.bind(place).bind(consumer).bind(holder).execute(connection).await?;
                Ok(moved.rows_affected() > 0)
            })
            .await
        })
    }

    fn forget_before(&self, moment_ms: i64) -> Answer<'_, u64> {
        Box::pin(async move { self.forget(move |connection| Box::pin(forget_some(connection, moment_ms))).await })
    }
}

async fn forget_some(connection: &mut SqliteConnection, moment_ms: i64) -> Result<u64, sqlx::Error> {
    let statement = "DELETE FROM event WHERE seq IN (SELECT e.seq FROM event e \
         LEFT JOIN job j ON j.id = e.subject AND j.ended_unix_ms IS NULL \
         WHERE e.at_unix_ms < ? AND j.id IS NULL LIMIT ?)";
    let done = sqlx::query(statement).bind(moment_ms).bind(FORGOTTEN_AT_ONCE);
    Ok(done.execute(connection).await?.rows_affected())
}

/// Within a transaction of the caller.
pub(super) async fn add(connection: &mut SqliteConnection, note: &Note) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO event (at_unix_ms, kind, subject, key, facts) VALUES (?, ?, ?, ?, ?)")
        .bind(note.at_unix_ms)
        .bind(note.kind.as_str())
        .bind(&note.subject)
        .bind(&note.key)
        .bind(serde_json::to_string(&note.facts).unwrap_or_else(|_| "{}".to_owned()))
        .execute(connection)
        .await?;
    Ok(())
}

async fn behind(
    connection: &mut SqliteConnection,
    place: i64,
    wanted: &Wanted,
    most: usize,
) -> Result<Vec<Event>, sqlx::Error> {
    let mut query = QueryBuilder::new("SELECT seq, at_unix_ms, kind, subject, key, facts FROM event WHERE seq > ");
    query.push_bind(place);
    if let Some(subject) = &wanted.subject {
        query.push(" AND subject = ").push_bind(subject);
    }
    if let Some(key) = &wanted.key {
        query.push(" AND key = ").push_bind(key);
    }
    if let Some(since) = wanted.since_ms {
        query.push(" AND at_unix_ms >= ").push_bind(since);
    }
    if let Some(until) = wanted.until_ms {
        query.push(" AND at_unix_ms < ").push_bind(until);
    }
    if !wanted.kinds.is_empty() {
        query.push(" AND kind IN (");
        let mut kinds = query.separated(", ");
        for kind in &wanted.kinds {
            kinds.push_bind(kind.as_str());
        }
        query.push(")");
    }
    query.push(" ORDER BY seq LIMIT ").push_bind(i64::try_from(most).unwrap_or(i64::MAX));
    let rows = query.build().fetch_all(connection).await?;
    rows.iter().map(event).collect()
}

fn event(row: &SqliteRow) -> Result<Event, sqlx::Error> {
    let kind: String = row.try_get(2)?;
    let unknown = || sqlx::Error::Decode(format!("the event kind `{kind}` is of another version").into());
    Ok(Event {
        seq: row.try_get(0)?,
        at_unix_ms: row.try_get(1)?,
        kind: Kind::parse(&kind).ok_or_else(unknown)?,
        subject: row.try_get(3)?,
        key: row.try_get(4)?,
        facts: serde_json::from_str(&row.try_get::<String, _>(5)?).unwrap_or_default(),
    })
}
