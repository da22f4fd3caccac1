//! Files: the port `batch::file` in the tables `file` and `file_piece`.

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection, PgConnection, QueryBuilder, Row as _};

use super::rows::storable;
use super::{LOOK_UP, Postgres, WORK};
use crate::batch::file::{Deleted, File, Files, Filter};
use crate::ledger::journal::Answer;
use crate::store::IS_READ;

const COLUMNS: &str = "id, key, name, purpose, bytes, created_unix_ms, expires_unix_ms, whole";
/// Files deleted in one transaction.
const FORGOTTEN_AT_ONCE: i64 = 10;
/// Whoever uploads needs less than a day.
const UNFINISHED_MS: i64 = 24 * 3600 * 1000;

impl Files for Postgres {
    fn begin<'a>(&'a self, file: &'a File) -> Answer<'a, ()> {
        let file = file.clone();
        Box::pin(async move { self.run(LOOK_UP, |connection| Box::pin(begin(connection, file))).await })
    }

    fn put<'a>(&'a self, id: &'a str, place: i64, piece: &'a [u8]) -> Answer<'a, ()> {
        let (id, piece) = (storable(id), piece.to_vec());
        Box::pin(async move { self.run(LOOK_UP, move |connection| Box::pin(put(connection, id, place, piece))).await })
    }

    fn finish<'a>(&'a self, file: &'a File) -> Answer<'a, ()> {
        let file = file.clone();
        Box::pin(async move { self.run(LOOK_UP, |connection| Box::pin(finish(connection, file))).await })
    }

    fn find<'a>(&'a self, id: &'a str) -> Answer<'a, Option<File>> {
        let id = storable(id);
        Box::pin(async move { self.run(LOOK_UP, |connection| Box::pin(find(connection, id))).await })
    }

    fn piece<'a>(&'a self, id: &'a str, place: i64) -> Answer<'a, Option<Vec<u8>>> {
        let id = storable(id);
        Box::pin(async move { self.run(LOOK_UP, move |connection| Box::pin(piece(connection, id, place))).await })
    }

    fn list<'a>(&'a self, filter: &'a Filter, most: usize) -> Answer<'a, Vec<File>> {
        let filter = filter.clone();
        Box::pin(async move { self.run(LOOK_UP, move |connection| Box::pin(list(connection, filter, most))).await })
    }

    fn delete<'a>(&'a self, id: &'a str) -> Answer<'a, Deleted> {
        let id = storable(id);
        Box::pin(async move { self.run(WORK, |connection| Box::pin(delete(connection, id))).await })
    }

    fn forget_expired(&self, now_ms: i64) -> Answer<'_, u64> {
        Box::pin(async move { self.until_none(move |connection| Box::pin(forget_some(connection, now_ms))).await })
    }
}

async fn begin(connection: &mut PgConnection, file: File) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let id = storable(&file.id);
    remove(&mut transaction, std::slice::from_ref(&id)).await?;
    let statement = "INSERT INTO file (id, key, name, purpose, bytes, created_unix_ms, expires_unix_ms, whole) \
         VALUES ($1, $2, $3, $4, 0, $5, $6, false)";
    sqlx::query(statement)
        .bind(id)
        .bind(file.key.as_deref().map(storable))
        .bind(storable(&file.name))
        .bind(storable(&file.purpose))
        .bind(file.created)
        .bind(file.expires)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}

async fn put(connection: &mut PgConnection, id: String, place: i64, piece: Vec<u8>) -> Result<(), sqlx::Error> {
    let statement = "INSERT INTO file_piece (file, place, content) VALUES ($1, $2, $3) \
         ON CONFLICT (file, place) DO UPDATE SET content = EXCLUDED.content";
    sqlx::query(statement).bind(id).bind(place).bind(piece).execute(connection).await?;
    Ok(())
}

async fn finish(connection: &mut PgConnection, file: File) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE file SET whole = true, bytes = $1, purpose = $2, expires_unix_ms = $3 WHERE id = $4")
        .bind(i64::try_from(file.bytes).unwrap_or(i64::MAX))
        .bind(storable(&file.purpose))
        .bind(file.expires)
        .bind(storable(&file.id))
        .execute(connection)
        .await?;
    Ok(())
}

async fn find(connection: &mut PgConnection, id: String) -> Result<Option<File>, sqlx::Error> {
    let statement = format!("SELECT {COLUMNS} FROM file WHERE id = $1 AND whole");
    let row = sqlx::query(AssertSqlSafe(statement)).bind(id).fetch_optional(connection).await?;
    row.map(|row| file(&row)).transpose()
}

async fn piece(connection: &mut PgConnection, id: String, place: i64) -> Result<Option<Vec<u8>>, sqlx::Error> {
    let statement = "SELECT content FROM file_piece WHERE file = $1 AND place = $2";
    sqlx::query_scalar(statement).bind(id).bind(place).fetch_optional(connection).await
}

async fn list(connection: &mut PgConnection, filter: Filter, most: usize) -> Result<Vec<File>, sqlx::Error> {
    let mut query = QueryBuilder::new(format!("SELECT {COLUMNS} FROM file WHERE whole"));
    if let Some(key) = filter.key {
        query.push(" AND key = ").push_bind(storable(&key));
    }
    if let Some(purpose) = filter.purpose {
        query.push(" AND purpose = ").push_bind(storable(&purpose));
    }
    let (beyond, order) = if filter.ascending { (">", "ASC") } else { ("<", "DESC") };
    if let Some(after) = filter.after {
        query.push(format!(" AND seq {beyond} (SELECT seq FROM file WHERE id = "));
        query.push_bind(storable(&after)).push(")");
    }
    query.push(format!(" ORDER BY seq {order} LIMIT ")).push_bind(i64::try_from(most).unwrap_or(i64::MAX));
    query.build().fetch_all(connection).await?.iter().map(file).collect()
}

async fn forget_some(connection: &mut PgConnection, now_ms: i64) -> Result<u64, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    // What a batch still reads stays until it has ended.
    let statement = "SELECT id FROM file WHERE (expires_unix_ms <= $1 OR (NOT whole AND created_unix_ms < $2)) AND NOT EXISTS \
         (SELECT FROM batch WHERE input_file = file.id AND ended_unix_ms IS NULL) LIMIT $3 FOR UPDATE SKIP LOCKED";
    let gone: Vec<String> = sqlx::query_scalar(statement)
        .bind(now_ms)
        .bind(now_ms.saturating_sub(UNFINISHED_MS))
        .bind(FORGOTTEN_AT_ONCE)
        .fetch_all(&mut *transaction)
        .await?;
    remove(&mut transaction, &gone).await?;
    transaction.commit().await?;
    Ok(gone.len() as u64)
}

async fn delete(connection: &mut PgConnection, id: String) -> Result<Deleted, sqlx::Error> {
    let is_read: bool = sqlx::query_scalar(IS_READ).bind(&id).fetch_one(&mut *connection).await?;
    Ok(Deleted::of(is_read, !is_read && remove(connection, &[id]).await? > 0))
}

/// One statement. The row is locked before the pieces, as by everybody.
async fn remove(connection: &mut PgConnection, ids: &[String]) -> Result<u64, sqlx::Error> {
    let statement = "WITH gone AS (DELETE FROM file WHERE id = ANY($1) RETURNING id), \
         pieces AS (DELETE FROM file_piece WHERE file IN (SELECT id FROM gone)) SELECT count(*) FROM gone";
    let gone: i64 = sqlx::query_scalar(statement).bind(ids).fetch_one(connection).await?;
    Ok(gone.unsigned_abs())
}

fn file(row: &PgRow) -> Result<File, sqlx::Error> {
    Ok(File {
        id: row.try_get(0)?,
        key: row.try_get(1)?,
        name: row.try_get(2)?,
        purpose: row.try_get(3)?,
        bytes: u64::try_from(row.try_get::<i64, _>(4)?).unwrap_or(0),
        created: row.try_get(5)?,
        expires: row.try_get(6)?,
        whole: row.try_get(7)?,
    })
}
