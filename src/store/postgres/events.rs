//! The log of events: the port `events::log` in the table `event`.
//!
//! Places are drawn by many transactions at once and become visible in another order, so a reader must not pass a place that
//! somebody under way may still fill. Every writer holds a lock that names the last place drawn before it began (`change.rs`):
//! what it draws lies behind that. A reader first looks how far places were drawn, then at the locks, then at the events. Who
//! has drawn up to there and is not seen among the locks has ended before the events are looked at, and is seen there.
//!
//! Writers need milliseconds; a reader waits that long for those it has met, and gives what is sure after
//! [`LONGEST_WAIT`]. Events of one job or batch are written under the lock of its row, in their order: they need no such care.

use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, QueryBuilder, Row as _};
use tokio::time::{Instant, sleep};

use super::change::Change;
use super::jobs::milliseconds;
use super::rows::storable;
use super::{LOOK_UP, Postgres};
use crate::events::log::{Log, Note, Wanted};
use crate::events::{Event, Kind};
use crate::ledger::journal::Answer;
use crate::store::FORGOTTEN_AT_ONCE;

/// How long a reader waits for writers under way. One that is frozen holds its lock for at most the session's idle limit.
const LONGEST_WAIT: Duration = Duration::from_millis(200);
const LOOK_AGAIN: Duration = Duration::from_millis(2);

impl Log for Postgres {
    fn note<'a>(&'a self, notes: &'a [Note]) -> Answer<'a, ()> {
        let notes = notes.to_vec();
        Box::pin(async move { self.run(LOOK_UP, |connection| Box::pin(note(connection, notes))).await })
    }

    fn behind<'a>(&'a self, place: i64, wanted: &'a Wanted, most: usize) -> Answer<'a, Vec<Event>> {
        let wanted = wanted.clone();
        Box::pin(
            async move { self.run(LOOK_UP, move |connection| Box::pin(behind(connection, place, wanted, most))).await },
        )
    }

    fn end(&self) -> Answer<'_, i64> {
        Box::pin(async move { self.run(LOOK_UP, |connection| Box::pin(settled(connection))).await })
    }

    fn take_turn<'a>(&'a self, consumer: &'a str, holder: &'a str, lease: Duration) -> Answer<'a, Option<i64>> {
        let (consumer, holder) = (consumer.to_owned(), holder.to_owned());
        Box::pin(async move {
            self.run(LOOK_UP, move |connection| Box::pin(take_turn(connection, consumer, holder, lease))).await
        })
    }

    fn advance<'a>(&'a self, consumer: &'a str, holder: &'a str, place: i64) -> Answer<'a, bool> {
        let (consumer, holder) = (consumer.to_owned(), holder.to_owned());
        Box::pin(async move {
            self.run(LOOK_UP, move |connection| Box::pin(advance(connection, consumer, holder, place))).await
        })
    }

    fn forget_before(&self, moment_ms: i64) -> Answer<'_, u64> {
        Box::pin(async move { self.until_none(move |connection| Box::pin(forget_some(connection, moment_ms))).await })
    }
}

async fn take_turn(
    connection: &mut PgConnection,
    consumer: String,
    holder: String,
    lease: Duration,
) -> Result<Option<i64>, sqlx::Error> {
    // Only who begins needs to know where the log ends, which takes a look at those who write.
    let known: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM consumer WHERE name = $1)")
        .bind(&consumer)
        .fetch_one(&mut *connection)
        .await?;
    let end = if known { 0 } else { settled(connection).await? };
    let statement = "WITH now AS (SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS ms) \
         INSERT INTO consumer SELECT $1, $2, $3, now.ms + $4 FROM now \
         ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until_unix_ms = excluded.until_unix_ms \
         WHERE consumer.holder = excluded.holder OR consumer.until_unix_ms <= (SELECT ms FROM now) RETURNING place";
    let taken = sqlx::query_scalar(statement).bind(consumer).bind(end).bind(holder).bind(milliseconds(lease));
    taken.fetch_optional(connection).await
}

async fn advance(
    connection: &mut PgConnection,
    consumer: String,
    holder: String,
    place: i64,
) -> Result<bool, sqlx::Error> {
    let moved = sqlx::query("UPDATE consumer SET place = $1 WHERE name = $2 AND holder = $3");
    Ok(moved.bind(place).bind(consumer).bind(holder).execute(connection).await?.rows_affected() > 0)
}

async fn note(connection: &mut PgConnection, notes: Vec<Note>) -> Result<(), sqlx::Error> {
    let mut change = Change::begin(connection).await?;
    notes.into_iter().for_each(|note| change.note(note));
    change.commit().await
}

/// The place up to which nothing can be added any more. Three looks, in this order; each sees what the one before cannot.
async fn settled(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    let began = Instant::now();
    let drawn: i64 = sqlx::query_scalar("SELECT coalesce(pg_sequence_last_value('event_place'), 0)")
        .fetch_one(&mut *connection)
        .await?;
    loop {
        let writers: Vec<i64> = sqlx::query_scalar(
            "SELECT objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 \
             AND classid = 'event_place'::regclass::oid \
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        )
        .fetch_all(&mut *connection)
        .await?;
        let settled = writers.iter().map(|half| began_at(*half as u32, drawn)).min().map_or(drawn, |at| at.min(drawn));
        if settled == drawn || began.elapsed() >= LONGEST_WAIT {
            return Ok(settled);
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// The place of which a lock names the lower half, given one that is near.
fn began_at(half: u32, near: i64) -> i64 {
    // A writer is at most half of 2^32 places before or behind.
    near + i64::from(half.wrapping_sub(near as u32) as i32)
}

async fn behind(
    connection: &mut PgConnection,
    place: i64,
    wanted: Wanted,
    most: usize,
) -> Result<Vec<Event>, sqlx::Error> {
    let is_of_one = match &wanted.subject {
        Some(subject) => {
            let exists = "SELECT EXISTS (SELECT FROM job WHERE id = $1) OR EXISTS (SELECT FROM batch WHERE id = $1)";
            sqlx::query_scalar(exists).bind(storable(subject)).fetch_one(&mut *connection).await?
        }
        None => false,
    };
    let end = if is_of_one { i64::MAX } else { settled(connection).await? };
    let mut query = QueryBuilder::new("SELECT seq, at_unix_ms, kind, subject, key, facts FROM event WHERE seq > ");
    query.push_bind(place).push(" AND seq <= ").push_bind(end);
    if let Some(subject) = &wanted.subject {
        query.push(" AND subject = ").push_bind(storable(subject));
    }
    if let Some(key) = &wanted.key {
        query.push(" AND key = ").push_bind(storable(key));
    }
    if let Some(since) = wanted.since_ms {
        query.push(" AND at_unix_ms >= ").push_bind(since);
    }
    if let Some(until) = wanted.until_ms {
        query.push(" AND at_unix_ms < ").push_bind(until);
    }
    if !wanted.kinds.is_empty() {
        let kinds: Vec<&str> = wanted.kinds.iter().map(|kind| kind.as_str()).collect();
        query.push(" AND kind = ANY(").push_bind(kinds).push(")");
    }
    query.push(" ORDER BY seq LIMIT ").push_bind(i64::try_from(most).unwrap_or(i64::MAX));
    let rows = query.build().fetch_all(connection).await?;
    rows.iter().map(event).collect()
}

fn event(row: &PgRow) -> Result<Event, sqlx::Error> {
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

async fn forget_some(connection: &mut PgConnection, moment_ms: i64) -> Result<u64, sqlx::Error> {
    let statement = "DELETE FROM event WHERE seq IN (SELECT seq FROM event WHERE at_unix_ms < $1 AND NOT EXISTS \
         (SELECT FROM job WHERE job.id = event.subject AND job.ended_unix_ms IS NULL) LIMIT $2 FOR UPDATE SKIP LOCKED)";
    let done = sqlx::query(statement).bind(moment_ms).bind(FORGOTTEN_AT_ONCE).execute(connection).await?;
    Ok(done.rows_affected())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_known_from_its_lower_half() {
        for near in [0, 7, i64::from(i32::MAX), i64::from(u32::MAX), 5_000_000_000_000] {
            for distance in [-5, 0, 9] {
                assert_eq!(began_at((near + distance) as u32, near), near + distance, "{near} {distance}");
            }
        }
    }
}
