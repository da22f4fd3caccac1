//! Keys of callers: the port `tenant::vault` in the tables `access_*`.

use sqlx::postgres::PgRow;
use sqlx::{Connection, PgConnection, Row as _};

use super::{LOOK_UP, Postgres};
use crate::tenant::key::{Kept, Key};
use crate::tenant::role::Role;
use crate::tenant::secret::Digest;
use crate::tenant::vault::{Added, Answer, Contents, Vault};

impl Vault for Postgres {
    fn version(&self) -> Answer<'_, i64> {
        Box::pin(async move { Ok(self.run(LOOK_UP, |connection| Box::pin(version(connection))).await?) })
    }

    fn contents(&self) -> Answer<'_, Contents> {
        Box::pin(async move { Ok(self.run(LOOK_UP, |connection| Box::pin(contents(connection))).await?) })
    }

    fn add<'a>(&'a self, key: &'a Key, fingerprint: Digest) -> Answer<'a, Added> {
        let key = key.clone();
        Box::pin(
            async move { Ok(self.run(LOOK_UP, move |connection| Box::pin(add(connection, key, fingerprint))).await?) },
        )
    }

    fn rotate<'a>(&'a self, id: &'a str, new: Kept, old_until_ms: i64) -> Answer<'a, bool> {
        let id = id.to_owned();
        Box::pin(async move {
            Ok(self.run(LOOK_UP, move |connection| Box::pin(rotate(connection, id, new, old_until_ms))).await?)
        })
    }

    fn revoke<'a>(&'a self, id: &'a str, at_ms: i64) -> Answer<'a, bool> {
        let id = id.to_owned();
        Box::pin(async move { Ok(self.run(LOOK_UP, move |connection| Box::pin(revoke(connection, id, at_ms))).await?) })
    }
}

/// One statement: of several servers that start at once the first one's secret is everybody's.
pub async fn secret(connection: &mut PgConnection, fresh: String) -> Result<String, sqlx::Error> {
    sqlx::query_scalar("UPDATE access_state SET secret = coalesce(secret, $1) RETURNING secret")
        .bind(fresh)
        .fetch_one(connection)
        .await
}

async fn version(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT version FROM access_state").fetch_one(connection).await
}

async fn contents(connection: &mut PgConnection) -> Result<Contents, sqlx::Error> {
    let mut transaction = connection.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
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
    transaction.commit().await?;
    let places: std::collections::HashMap<String, usize> =
        keys.iter().enumerate().map(|(place, key)| (key.id.clone(), place)).collect();
    for row in secrets {
        let Some(place) = places.get(row.try_get::<&str, _>(0)?) else { continue };
        keys[*place].secrets.push(kept(&row)?);
    }
    Ok(Contents { version: state.try_get(0)?, fingerprint, keys })
}

fn key(row: &PgRow) -> Result<Key, sqlx::Error> {
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

fn kept(row: &PgRow) -> Result<Kept, sqlx::Error> {
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

async fn add(connection: &mut PgConnection, key: Key, fingerprint: Digest) -> Result<Added, sqlx::Error> {
    let limits = serde_json::to_string(&key.limits).map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
    let mut transaction = connection.begin().await?;
    // Its lock makes changes of keys one after the other, on all servers.
    let known: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT fingerprint FROM access_state FOR UPDATE").fetch_one(&mut *transaction).await?;
    if known.is_some_and(|known| known != fingerprint.0) {
        transaction.rollback().await?;
        return Ok(Added::OtherSecret);
    }
    let added = sqlx::query(
        "INSERT INTO access_key (id, name, tier, team, role, tags, limits, created_unix_ms, expires_unix_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (name) DO NOTHING",
    )
    .bind(&key.id)
    .bind(&key.name)
    .bind(&key.tier)
    .bind(&key.team)
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
    sqlx::query("UPDATE access_state SET version = version + 1, fingerprint = $1")
        .bind(&fingerprint.0[..])
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(Added::Yes)
}

async fn insert(connection: &mut PgConnection, id: &str, kept: &Kept) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO access_secret (digest, key, ending, created_unix_ms, expires_unix_ms) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(&kept.digest.0[..])
    .bind(id)
    .bind(String::from_utf8_lossy(&kept.ending).into_owned())
    .bind(kept.created_unix_ms)
    .bind(kept.expires_unix_ms)
    .execute(connection)
    .await?;
    Ok(())
}

async fn rotate(connection: &mut PgConnection, id: String, new: Kept, old_until_ms: i64) -> Result<bool, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    changed(&mut transaction).await?;
    let found = sqlx::query("SELECT 1 FROM access_key WHERE id = $1 AND revoked_unix_ms IS NULL")
        .bind(&id)
        .fetch_optional(&mut *transaction)
        .await?;
    if found.is_none() {
        transaction.rollback().await?;
        return Ok(false);
    }
    sqlx::query("UPDATE access_secret SET expires_unix_ms = least(expires_unix_ms, $1) WHERE key = $2")
        .bind(old_until_ms)
        .bind(&id)
        .execute(&mut *transaction)
        .await?;
    insert(&mut transaction, &id, &new).await?;
    transaction.commit().await?;
    Ok(true)
}

async fn revoke(connection: &mut PgConnection, id: String, at_ms: i64) -> Result<bool, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    changed(&mut transaction).await?;
    let found = sqlx::query("UPDATE access_key SET revoked_unix_ms = coalesce(revoked_unix_ms, $1) WHERE id = $2")
        .bind(at_ms)
        .bind(&id)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(found.rows_affected() > 0)
}

/// Counts a change. First in its transaction, so that changes come one after the other.
async fn changed(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE access_state SET version = version + 1").execute(connection).await?;
    Ok(())
}
