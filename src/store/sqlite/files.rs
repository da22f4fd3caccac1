//! Files: the port `batch::file` in the tables `file` and `file_piece`.

use sqlx::sqlite::SqliteRow;
use sqlx::{Connection as _, QueryBuilder, Row as _, SqliteConnection};

use super::{Sqlite, failure};
use crate::batch::file::{Deleted, File, Files, Filter};
use crate::ledger::journal::Answer;
use crate::store::IS_READ;

const COLUMNS: &str = "id, key, name, purpose, bytes, created_unix_ms, expires_unix_ms, whole";
/// Files deleted in one transaction.
const FORGOTTEN_AT_ONCE: i64 = 10;
/// Whoever uploads needs less than a day.
const UNFINISHED_MS: i64 = 24 * 3600 * 1000;

impl Files for Sqlite {
    fn begin<'a>(&'a self, file: &'a File) -> Answer<'a, ()> {
        Box::pin(async move {
            self.transact(async |connection| {
                remove(connection, &file.id).await?;
                let statement = "INSERT INTO file (id, key, name, purpose, bytes, created_unix_ms, expires_unix_ms, whole) \
                     VALUES (?, ?, ?, ?, 0, ?, ?, 0)";
                sqlx::query(statement)
                    .bind(&file.id)
                    .bind(&file.key)
                    .bind(&file.name)
                    .bind(&file.purpose)
                    .bind(file.created)
                    .bind(file.expires)
                    .execute(&mut *connection)
                    .await?;
                Ok(())
            })
            .await
        })
    }

    fn put<'a>(&'a self, id: &'a str, place: i64, piece: &'a [u8]) -> Answer<'a, ()> {
        Box::pin(async move {
            let statement = async |connection: &mut SqliteConnection| {
                sqlx::query("INSERT OR REPLACE INTO file_piece (file, place, content) VALUES (?, ?, ?)")
                    .bind(id)
                    .bind(place)
                    .bind(piece)
                    .execute(connection)
                    .await
            };
            self.write(statement).await?;
            Ok(())
        })
    }

    fn finish<'a>(&'a self, file: &'a File) -> Answer<'a, ()> {
        Box::pin(async move {
            let bytes = i64::try_from(file.bytes).unwrap_or(i64::MAX);
            let statement = async |connection: &mut SqliteConnection| {
                sqlx::query("UPDATE file SET whole = 1, bytes = ?, purpose = ?, expires_unix_ms = ? WHERE id = ?")
                    .bind(bytes)
                    .bind(&file.purpose)
                    .bind(file.expires)
                    .bind(&file.id)
                    .execute(connection)
                    .await
            };
            self.write(statement).await?;
            Ok(())
        })
    }

    fn find<'a>(&'a self, id: &'a str) -> Answer<'a, Option<File>> {
        Box::pin(async move {
            let mut connection = self.read().await?;
            let statement = format!("SELECT {COLUMNS} FROM file WHERE id = ? AND whole = 1");
            let row = sqlx::query(sqlx::AssertSqlSafe(statement)).bind(id).fetch_optional(&mut *connection).await;
            row.map_err(failure)?.map(|row| file(&row)).transpose().map_err(failure)
        })
    }

    fn piece<'a>(&'a self, id: &'a str, place: i64) -> Answer<'a, Option<Vec<u8>>> {
        Box::pin(async move {
            let mut connection = self.read().await?;
            sqlx::query_scalar("SELECT content FROM file_piece WHERE file = ? AND place = ?")
                .bind(id)
                .bind(place)
                .fetch_optional(&mut *connection)
                .await
                .map_err(failure)
        })
    }

    fn list<'a>(&'a self, filter: &'a Filter, most: usize) -> Answer<'a, Vec<File>> {
        Box::pin(async move {
            let mut connection = self.read().await?;
            let mut query = QueryBuilder::new(format!("SELECT {COLUMNS} FROM file WHERE whole = 1"));
            if let Some(key) = &filter.key {
                query.push(" AND key = ").push_bind(key);
            }
            if let Some(purpose) = &filter.purpose {
                query.push(" AND purpose = ").push_bind(purpose);
            }
            let (beyond, order) = if filter.ascending { (">", "ASC") } else { ("<", "DESC") };
            if let Some(after) = &filter.after {
                query.push(format!(" AND seq {beyond} (SELECT seq FROM file WHERE id = ")).push_bind(after).push(")");
            }
            query.push(format!(" ORDER BY seq {order} LIMIT ")).push_bind(i64::try_from(most).unwrap_or(i64::MAX));
            let rows = query.build().fetch_all(&mut *connection).await.map_err(failure)?;
            rows.iter().map(file).collect::<Result<_, _>>().map_err(failure)
        })
    }

    fn delete<'a>(&'a self, id: &'a str) -> Answer<'a, Deleted> {
        Box::pin(async move {
            self.transact(async |connection| {
                let is_read: bool = sqlx::query_scalar(IS_READ).bind(id).fetch_one(&mut *connection).await?;
                Ok(Deleted::of(is_read, !is_read && remove(connection, id).await?))
            })
            .await
        })
    }

    fn forget_expired(&self, now_ms: i64) -> Answer<'_, u64> {
        Box::pin(async move { self.forget(move |connection| Box::pin(forget_some(connection, now_ms))).await })
    }
}

async fn forget_some(connection: &mut SqliteConnection, now_ms: i64) -> Result<u64, sqlx::Error> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    // What a batch still reads stays until it has ended.
    let statement = "SELECT id FROM file WHERE (expires_unix_ms <= ? OR (whole = 0 AND created_unix_ms < ?)) \
         AND NOT EXISTS (SELECT 1 FROM batch WHERE input_file = file.id AND ended_unix_ms IS NULL) LIMIT ?";
    let gone: Vec<String> = sqlx::query_scalar(statement)
        .bind(now_ms)
        .bind(now_ms.saturating_sub(UNFINISHED_MS))
        .bind(FORGOTTEN_AT_ONCE)
        .fetch_all(&mut *transaction)
        .await?;
    for id in &gone {
        remove(&mut transaction, id).await?;
    }
    transaction.commit().await?;
    Ok(gone.len() as u64)
}

async fn remove(connection: &mut SqliteConnection, id: &str) -> Result<bool, sqlx::Error> {
    sqlx::query("DELETE FROM file_piece WHERE file = ?").bind(id).execute(&mut *connection).await?;
    let gone = sqlx::query("DELETE FROM file WHERE id = ?").bind(id).execute(&mut *connection).await?;
    Ok(gone.rows_affected() > 0)
}

fn file(row: &SqliteRow) -> Result<File, sqlx::Error> {
    Ok(File {
        id: row.try_get(0)?,
        key: row.try_get(1)?,
        name: row.try_get(2)?,
        purpose: row.try_get(3)?,
        bytes: u64::try_from(row.try_get::<i64, _>(4)?).unwrap_or(0),
        created: row.try_get(5)?,
        expires: row.try_get(6)?,
        whole: row.try_get::<i64, _>(7)? != 0,
    })
}
