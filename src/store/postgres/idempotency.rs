//! Requests with an idempotency key: the port `admission::idempotency` in the table `idempotent_request`.
//!
//! A request waits for this table, so it waits [`HOT_PATH`] and no longer. A mark that comes too late is taken back: nothing
//! was done under it. An answer that takes too long to keep is kept behind the request's back; until it is, the mark refuses
//! the key to everybody, so that nothing is done twice.

use sqlx::{PgConnection, Row as _};
use tokio::sync::oneshot;
use tracing::warn;
use uuid::Uuid;

use super::{HOT_PATH, LOOK_UP, MARKS, Postgres, WORK};
use crate::admission::idempotency::{Answer, Fingerprint, KEPT_FOR, Known, Memory, Place, Sealed, Unkept};
use crate::ledger::journal::Failure;

/// Old keys that one new one takes with it: they go as fast as they come, and never many at once.
const SWEPT: i64 = 20;

impl Memory for Postgres {
    fn begin(&self, place: Place, fingerprint: Fingerprint, now_ms: i64) -> Answer<'_, Known> {
        Box::pin(async move {
            let taken = self.take(place)?;
            let (tell, told) = oneshot::channel();
            let store = self.clone();
            self.0.runtime.spawn(async move {
                let mark = Uuid::new_v4();
                let known = store
                    .run(LOOK_UP, move |connection| Box::pin(begin(connection, place, fingerprint, mark, now_ms)))
                    .await;
                // After a failure it may be there all the same: the answer may have been lost.
                let may_be_there = matches!(known, Ok(Known::Nothing) | Err(_));
                let is_refused = known.is_err();
                if (tell.send(known).is_err() || is_refused) && may_be_there {
                    // If that fails, too, the key stays refused for a day: safe, and no worse than a crash.
                    let _ = store.run(LOOK_UP, move |connection| Box::pin(take_back(connection, place, mark))).await;
                }
                drop(taken);
            });
            match tokio::time::timeout(HOT_PATH, told).await {
                Ok(Ok(known)) => Ok(known?),
                Ok(Err(_)) => Err(Unkept("the server is stopping".to_owned())),
                Err(_) => Err(Unkept(format!("the database did not answer within {HOT_PATH:?}"))),
            }
        })
    }

    fn keep(&self, place: Place, Sealed(answer): Sealed) -> Answer<'_, ()> {
        let store = self.clone();
        self.behind(async move { store.run(WORK, move |connection| Box::pin(keep(connection, place, answer))).await })
    }

    fn release(&self, place: Place) -> Answer<'_, ()> {
        let store = self.clone();
        self.behind(async move { store.run(LOOK_UP, move |connection| Box::pin(release(connection, place))).await })
    }
}

/// A key that is being marked, or whose late mark is being taken back.
struct Taken {
    store: Postgres,
    place: Place,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.store.0.marks.lock().remove(&self.place);
    }
}

impl Postgres {
    /// Whoever tries a key again finds it free or marked by somebody else, never by its own try that came too late.
    fn take(&self, place: Place) -> Result<Taken, Unkept> {
        let mut marks = self.0.marks.lock();
        if marks.len() >= MARKS {
            return Err(Unkept("too many keys wait for the database".to_owned()));
        }
        if !marks.insert(place) {
            return Err(Unkept("an earlier try of this key still waits for the database".to_owned()));
        }
        Ok(Taken { store: self.clone(), place })
    }

    /// Waits for work as long as a request may; it goes on when the request does not wait any longer.
    fn behind(&self, work: impl Future<Output = Result<(), Failure>> + Send + 'static) -> Answer<'_, ()> {
        Box::pin(async move {
            let mut task = self.0.runtime.spawn(async move {
                let done = work.await;
                if let Err(failure) = &done {
                    warn!("what became of an idempotency key is not kept; the key cannot be used again: {failure}");
                }
                done
            });
            match tokio::time::timeout(HOT_PATH, &mut task).await {
                Ok(Ok(done)) => Ok(done?),
                Ok(Err(_)) => Err(Unkept("the server is stopping".to_owned())),
                // Not known yet, and no failure: the task says so if it becomes one.
                Err(_) => Ok(()),
            }
        })
    }
}

/// One statement marks a key that is not known, or was known too long ago. What it does not mark is looked up.
async fn begin(
    connection: &mut PgConnection,
    place: Place,
    fingerprint: Fingerprint,
    mark: Uuid,
    now_ms: i64,
) -> Result<Known, sqlx::Error> {
    let oldest = now_ms.saturating_sub(i64::try_from(KEPT_FOR.as_millis()).unwrap_or(i64::MAX));
    loop {
        let marked = sqlx::query(
            "WITH swept AS (DELETE FROM idempotent_request WHERE place IN (SELECT place FROM idempotent_request \
             WHERE began_unix_ms <= $5 AND place <> $1 LIMIT $6 FOR UPDATE SKIP LOCKED)) \
             INSERT INTO idempotent_request AS known (place, fingerprint, began_unix_ms, mark) VALUES ($1, $2, $3, $4::uuid) \
             ON CONFLICT (place) DO UPDATE SET fingerprint = EXCLUDED.fingerprint, mark = EXCLUDED.mark, \
             began_unix_ms = EXCLUDED.began_unix_ms, answer = NULL WHERE known.began_unix_ms <= $5",
        )
        .bind(&place[..])
        .bind(&fingerprint[..])
        .bind(now_ms)
        .bind(mark.to_string())
        .bind(oldest)
        .bind(SWEPT)
        .execute(&mut *connection)
        .await?;
        if marked.rows_affected() > 0 {
            return Ok(Known::Nothing);
        }
        let found = sqlx::query("SELECT fingerprint, answer FROM idempotent_request WHERE place = $1")
            .bind(&place[..])
            .fetch_optional(&mut *connection)
            .await?;
        // Released in between: then it can be marked.
        let Some(row) = found else { continue };
        let bytes: Vec<u8> = row.try_get(0)?;
        let fingerprint = bytes
            .try_into()
            .map_err(|_| sqlx::Error::Decode("a fingerprint in `idempotent_request` has another length".into()))?;
        return Ok(match row.try_get::<Option<Vec<u8>>, _>(1)? {
            Some(answer) => Known::Answered { fingerprint, answer: Sealed(answer) },
            None => Known::Begun { fingerprint },
        });
    }
}

async fn keep(connection: &mut PgConnection, place: Place, answer: Vec<u8>) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE idempotent_request SET answer = $1 WHERE place = $2")
        .bind(answer)
        .bind(&place[..])
        .execute(connection)
        .await?;
    Ok(())
}

async fn release(connection: &mut PgConnection, place: Place) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM idempotent_request WHERE place = $1").bind(&place[..]).execute(connection).await?;
    Ok(())
}

/// Only one's own: another server may have begun the same key.
async fn take_back(connection: &mut PgConnection, place: Place, mark: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM idempotent_request WHERE place = $1 AND mark = $2::uuid")
        .bind(&place[..])
        .bind(mark.to_string())
        .execute(connection)
        .await?;
    Ok(())
}
