//! Requests with an idempotency key: the port `admission::idempotency` in the table `idempotent_request`.

use sqlx::{Connection, Row as _, SqliteConnection};

use super::Sqlite;
use crate::admission::idempotency::{Answer, Fingerprint, KEPT_FOR, Known, Memory, Place, Sealed, Unkept};
use crate::ledger::journal::Failure;

/// Old keys that one new one takes with it: they go as fast as they come, and never many at once.
const SWEPT: i64 = 20;

impl From<Failure> for Unkept {
    fn from(Failure(message): Failure) -> Self {
        Self(message)
    }
}

impl Memory for Sqlite {
    fn begin(&self, place: Place, fingerprint: Fingerprint, now_ms: i64) -> Answer<'_, Known> {
        Box::pin(async move {
            Ok(self.write(async |connection| begin(connection, place, fingerprint, now_ms).await).await?)
        })
    }

    fn keep(&self, place: Place, Sealed(answer): Sealed) -> Answer<'_, ()> {
        Box::pin(async move {
            let statement = async |connection: &mut SqliteConnection| {
                sqlx::query("UPDATE idempotent_request SET answer = ? WHERE place = ?")
                    .bind(answer)
                    .bind(place.to_vec())
                    .execute(connection)
                    .await
            };
            self.write(statement).await?;
            Ok(())
        })
    }

    fn release(&self, place: Place) -> Answer<'_, ()> {
        Box::pin(async move {
            let statement = async |connection: &mut SqliteConnection| {
                sqlx::query("DELETE FROM idempotent_request WHERE place = ?")
                    .bind(place.to_vec())
                    .execute(connection)
                    .await
            };
            self.write(statement).await?;
            Ok(())
        })
    }
}

async fn begin(
    connection: &mut SqliteConnection,
    place: Place,
    fingerprint: Fingerprint,
    now_ms: i64,
) -> Result<Known, sqlx::Error> {
    let oldest = now_ms.saturating_sub(i64::try_from(KEPT_FOR.as_millis()).unwrap_or(i64::MAX));
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    sqlx::query(
        "DELETE FROM idempotent_request WHERE place IN \
         (SELECT place FROM idempotent_request WHERE began_unix_ms <= ?1 LIMIT ?2) OR (place = ?3 AND began_unix_ms <= ?1)",
    )
    .bind(oldest)
    .bind(SWEPT)
    .bind(place.to_vec())
    .execute(&mut *transaction)
    .await?;
    let found = sqlx::query("SELECT fingerprint, answer FROM idempotent_request WHERE place = ?")
        .bind(place.to_vec())
        .fetch_optional(&mut *transaction)
        .await?;
    let known = match found {
        Some(row) => {
            let bytes: Vec<u8> = row.try_get(0)?;
            let fingerprint = bytes
                .try_into()
                .map_err(|_| sqlx::Error::Decode("a fingerprint in `idempotent_request` has another length".into()))?;
            match row.try_get::<Option<Vec<u8>>, _>(1)? {
                Some(answer) => Known::Answered { fingerprint, answer: Sealed(answer) },
                None => Known::Begun { fingerprint },
            }
        }
        None => {
            sqlx::query("INSERT INTO idempotent_request (place, fingerprint, began_unix_ms) VALUES (?, ?, ?)")
                .bind(place.to_vec())
                .bind(fingerprint.to_vec())
                .bind(now_ms)
                .execute(&mut *transaction)
                .await?;
            Known::Nothing
        }
    };
    transaction.commit().await?;
    Ok(known)
}
