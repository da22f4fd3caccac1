//! Makes, rotates and revokes keys: what `stepwell keys` and `/v1/keys` share.

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use serde_json::{Value, json};

use super::key::{self, BadWish, Key, Wish};
use super::keyring::Keyring;
use super::secret::Pepper;
use super::vault::{Added, Contents, Unreadable, Vault};

/// Whoever may change keys. Share it behind an `Arc`.
pub struct Keeper {
    vault: Arc<dyn Vault>,
    pepper: Pepper,
}

/// Why a key was not changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    BadWish(#[from] BadWish),
    #[error("a key named `{0}` exists, or existed; names are not given twice, because reports go by name")]
    NameTaken(String),
    #[error("there is no key `{0}`; `stepwell keys list` shows all")]
    NotFound(String),
    #[error("the key `{0}` is revoked")]
    Revoked(String),
    #[error(
        "the keys that are there were hashed under another secret; restore that one (`auth.secret`, or the one that was kept with the database)"
    )]
    OtherSecret,
    #[error("the keys cannot be reached: {0}")]
    Unreadable(#[from] Unreadable),
}

impl Keeper {
    /// Refuses a secret that is not the one of the keys that are there: none of them would open anything.
    pub fn check(contents: &Contents, pepper: &Pepper) -> Result<(), Error> {
        match contents.fingerprint {
            Some(known) if known != pepper.fingerprint() => Err(Error::OtherSecret),
            _ => Ok(()),
        }
    }

    pub fn new(vault: Arc<dyn Vault>, pepper: Pepper) -> Self {
        Self { vault, pepper }
    }

    /// The keys in force now.
    pub async fn ring(&self) -> Result<Keyring, Error> {
        let contents = self.vault.contents().await?;
        Self::check(&contents, &self.pepper)?;
        Ok(Keyring::new(contents, Some(self.pepper.clone())))
    }

    /// The number of changes so far.
    pub async fn version(&self) -> Result<i64, Error> {
        Ok(self.vault.version().await?)
    }

    /// Returns the key and its text, which is nowhere else.
    pub async fn create(&self, wish: Wish, now_ms: i64) -> Result<(Key, SecretString), Error> {
        let (key, text) = key::issue(wish, &self.pepper, now_ms)?;
        match self.vault.add(&key, self.pepper.fingerprint()).await? {
            Added::Yes => Ok((key, text)),
            Added::NameTaken => Err(Error::NameTaken(key.name)),
            Added::OtherSecret => Err(Error::OtherSecret),
        }
    }

    /// A new text for a key, by id or name. The old one goes on for `overlap`; zero ends it at once.
    pub async fn rotate(&self, name: &str, overlap: Duration, now_ms: i64) -> Result<(Key, SecretString), Error> {
        let key = self.find(name).await?;
        let (kept, text) = key::fresh(&self.pepper, now_ms).map_err(BadWish::from)?;
        let until = now_ms.saturating_add(i64::try_from(overlap.as_millis()).unwrap_or(i64::MAX));
        if key.revoked_unix_ms.is_some() || !self.vault.rotate(&key.id, kept, until).await? {
            return Err(Error::Revoked(key.name));
        }
        Ok((self.find(&key.id).await?, text))
    }

    /// Ends a key for good, by id or name. Once more does no harm.
    pub async fn revoke(&self, name: &str, now_ms: i64) -> Result<Key, Error> {
        let key = self.find(name).await?;
        self.vault.revoke(&key.id, now_ms).await?;
        self.find(&key.id).await
    }

    /// By id or name.
    pub async fn find(&self, name: &str) -> Result<Key, Error> {
        let ring = self.ring().await?;
        let found = ring.named(name).map(|key| (**key).clone());
        found.ok_or_else(|| Error::NotFound(name.chars().take(80).collect()))
    }
}

/// A key as JSON, for the command line and the API. `text` only where it has just been made.
pub fn shown(key: &Key, text: Option<&str>, now_ms: i64) -> Value {
    let time = |unix_ms: Option<i64>| unix_ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let mut shown = json!({
        "object": "key",
        "id": key.id,
        "name": key.name,
        "tier": key.tier,
        "team": key.team,
        "role": key.role,
        "tags": key.tags,
        "limits": key.limits,
        "state": key.state(now_ms),
        "hint": key.hint(),
        "created_at": time(Some(key.created_unix_ms)),
        "expires_at": time(key.expires_unix_ms),
        "revoked_at": time(key.revoked_unix_ms),
    });
    if let Some(text) = text {
        shown["key"] = json!(text);
    }
    shown
}
