//! Keys of callers: the port `tenant::vault` in the tables `access_*`.

use sqlx::sqlite::SqliteRow;
use sqlx::{Connection, Row as _, SqliteConnection};

use super::Sqlite;
use crate::ledger::journal::Failure;
use crate::tenant::key::{Kept, Key};
use crate::tenant::role::Role;
use crate::tenant::secret::Digest;
use crate::tenant::vault::{Added, Answer, Contents, Unreadable, Vault};

impl From<Failure> for Unreadable {
    fn from(Failure(message): Failure) -> Self {
        Self(message)
    }
}

impl Vault for Sqlite {
    fn version(&self) -> Answer<'_, i64> {
        Box::pin(async move {
            let mut connection = self.read().await?;
            let query = sqlx::query_scalar("SELECT version FROM access_state");
            Ok(query.fetch_one(&mut *connection).await.map_err(super::failure)?)
        })
    }

    fn contents(&self) -> Answer<'_, Contents> {
        Box::pin(async move {
            let mut connection = self.read().await?;
            Ok(contents(&mut connection).await.map_err(super::failure)?)
        })
    }

    fn add<'a>(&'a self, key: &'a Key, fingerprint: Digest) -> Answer<'a, Added> {
        Box::pin(async move { Ok(self.write(async |connection| add(connection, key, fingerprint).await).await?) })
    }

    fn rotate<'a>(&'a self, id: &'a str, new: Kept, old_until_ms: i64) -> Answer<'a, bool> {
        Box::pin(
            async move { Ok(self.write(async |connection| rotate(connection, id, new, old_until_ms).await).await?) },
        )
    }

    fn revoke<'a>(&'a self, id: &'a str, at_ms: i64) -> Answer<'a, bool> {
        Box::pin(async move { Ok(self.write(async |connection| revoke(connection, id, at_ms).await).await?) })
    }
}

async fn contents(connection: &mut SqliteConnection) -> Result<Contents, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let state = sqlx::query("SELECT version, fingerprint FROM access_state").fetch_one(&mut *transaction).await?;
    let fingerprint: Option<Vec<u8>> = state.try_get(1)?;
    let fingerprint = fingerprint.map(|bytes| digest(&bytes)).transpose()?;
    let keys = sqlx::query(
        "SELECT id, name, tier, team, role, tags, limits, created_unix_ms, expires_unix_ms, revoked_unix_ms \
         FROM access_key ORDER BY created_unix_ms, id",
    )
    .fetch_all(&mut *transaction)
    .await?;
    let mut keys = keys.iter().map(key).collect::<Result<Vec<_>, _>>()?;
    let secrets = sqlx::query(
        "SELECT key, digest, ending, created_unix_ms, expires_unix_ms FROM access_secret ORDER BY created_unix_ms DESC",
    )
    .fetch_all(&mut *transaction)
    .await?;
    let places: std::collections::HashMap<String, usize> =
        keys.iter().enumerate().map(|(place, key)| (key.id.clone(), place)).collect();
    for row in secrets {
        let Some(place) = places.get(row.try_get::<&str, _>(0)?) else { continue };
        keys[*place].secrets.push(kept(&row)?);
    }
    Ok(Contents { version: state.try_get(0)?, fingerprint, keys })
}

fn key(row: &SqliteRow) -> Result<Key, sqlx::Error> {
    let (role, tags, limits): (&str, &str, &str) = (row.try_get(4)?, row.try_get(5)?, row.try_get(6)?);
    let unreadable =
        |what: &str| sqlx::Error::Decode(format!("the {what} of a key in `access_key` is unreadable").into());
    Ok(Key {
        id: row.try_get(0)?,
        name: row.try_get(1)?,
        tier: row.try_get(2)?,
        team: row.try_get(3)?,
        // A key whose limits cannot be read must not become one without limits.
        role: Role::parse(role).ok_or_else(|| unreadable("role"))?,
        tags: tags.split(',').filter(|tag| !tag.is_empty()).map(str::to_owned).collect(),
        limits: serde_json::from_str(limits).map_err(|_| unreadable("limits"))?,
        created_unix_ms: row.try_get(7)?,
        expires_unix_ms: row.try_get(8)?,
        revoked_unix_ms: row.try_get(9)?,
        secrets: Vec::new(),
    })
}

fn kept(row: &SqliteRow) -> Result<Kept, sqlx::Error> {
    let ending: &str = row.try_get(2)?;
    Ok(Kept {
        digest: digest(row.try_get(1)?)?,
        ending: ending.as_bytes().first_chunk().copied().unwrap_or(*b"????"),
        created_unix_ms: row.try_get(3)?,
        expires_unix_ms: row.try_get(4)?,
    })
}

fn digest(bytes: &[u8]) -> Result<Digest, sqlx::Error> {
    let bytes = bytes.try_into().map_err(|_| sqlx::Error::Decode("a hash of a key has another length".into()))?;
    Ok(Digest(bytes))
}

async fn add(connection: &mut SqliteConnection, key: &Key, fingerprint: Digest) -> Result<Added, sqlx::Error> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let known: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT fingerprint FROM access_state").fetch_one(&mut *transaction).await?;
    if known.is_some_and(|known| known != fingerprint.0) {
        transaction.rollback().await?;
        return Ok(Added::OtherSecret);
    }
    let limits = serde_json::to_string(&key.limits).map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
    let added = sqlx::query(
        "INSERT INTO access_key (id, name, tier, team, role, tags, limits, created_unix_ms, expires_unix_ms) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO NOTHING",
    )
    .bind(key.id.clone())
    .bind(key.name.clone())
    .bind(key.tier.clone())
    .bind(key.team.clone())
    .bind(key.role.as_str())
    .bind(key.tags.join(","))
    .bind(limits)
    .bind(key.created_unix_ms)
    .bind(key.expires_unix_ms)
    .execute(&mut *transaction)
    .await?;
    if added.rows_affected() == 0 {
        transaction.rollback().await?;
        return Ok(Added::NameTaken);
    }
    for kept in &key.secrets {
        insert(&mut transaction, &key.id, kept).await?;
    }
    sqlx::query("UPDATE access_state SET version = version + 1, fingerprint = ?")
        .bind(fingerprint.0.to_vec())
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(Added::Yes)
}

async fn insert(connection: &mut SqliteConnection, id: &str, kept: &Kept) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO access_secret (digest, key, ending, created_unix_ms, expires_unix_ms) VALUES (?, ?, ?, ?, ?)",
    )
    .bind(kept.digest.0.to_vec())
    .bind(id.to_owned())
    .bind(String::from_utf8_lossy(&kept.ending).into_owned())
    .bind(kept.created_unix_ms)
    .bind(kept.expires_unix_ms)
    .execute(connection)
    .await?;
    Ok(())
}

async fn rotate(
    connection: &mut SqliteConnection,
    id: &str,
    new: Kept,
    old_until_ms: i64,
) -> Result<bool, sqlx::Error> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let found: Option<i64> = sqlx::query_scalar("SELECT 1 FROM access_key WHERE id = ? AND revoked_unix_ms IS NULL")
        .bind(id.to_owned())
        .fetch_optional(&mut *transaction)
        .await?;
    if found.is_none() {
        transaction.rollback().await?;
        return Ok(false);
    }
    sqlx::query("UPDATE access_secret SET expires_unix_ms = min(ifnull(expires_unix_ms, ?1), ?1) WHERE key = ?2")
        .bind(old_until_ms)
        .bind(id.to_owned())
        .execute(&mut *transaction)
        .await?;
    insert(&mut transaction, id, &new).await?;
    changed(&mut transaction).await?;
    transaction.commit().await?;
    Ok(true)
}

async fn revoke(connection: &mut SqliteConnection, id: &str, at_ms: i64) -> Result<bool, sqlx::Error> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let found = sqlx::query("UPDATE access_key SET revoked_unix_ms = ifnull(revoked_unix_ms, ?) WHERE id = ?")
        .bind(at_ms)
        .bind(id.to_owned())
        .execute(&mut *transaction)
        .await?;
    changed(&mut transaction).await?;
    transaction.commit().await?;
    Ok(found.rows_affected() > 0)
}

async fn changed(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE access_state SET version = version + 1").execute(connection).await?;
    Ok(())
}
