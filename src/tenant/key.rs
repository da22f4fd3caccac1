//! Keys as they are kept: everything but the text that was shown once.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use super::Tenant;
use super::role::Role;
use super::secret::{self, Digest, NoRandomness, Pepper};
use super::settings::Limits;

/// A key, whatever its state. Times in Unix milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// `key_` and 32 hexadecimal digits; never used again.
    pub id: String,
    /// Unique among all keys there ever were, so that reports by name mean one key.
    pub name: String,
    pub tier: Option<String>,
    pub team: Option<String>,
    pub role: Role,
    pub tags: Vec<String>,
    pub limits: Limits,
    pub created_unix_ms: i64,
    pub expires_unix_ms: Option<i64>,
    pub revoked_unix_ms: Option<i64>,
    /// More than one after a rotation, newest first.
    pub secrets: Vec<Kept>,
}

/// What is kept of a key's text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kept {
    pub digest: Digest,
    /// Its last four characters, which tell keys apart and are part of the check, not of the secret.
    pub ending: [u8; 4],
    pub created_unix_ms: i64,
    /// Set for those that a rotation replaced.
    pub expires_unix_ms: Option<i64>,
}

/// Whether a key lets anybody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Active,
    Expired,
    Revoked,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

/// A key that somebody wants.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    pub name: String,
    pub tier: Option<String>,
    pub team: Option<String>,
    pub role: Role,
    pub tags: Vec<String>,
    pub limits: Limits,
    /// Unix milliseconds.
    pub expires_unix_ms: Option<i64>,
}

/// Why a key cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadWish {
    #[error("`{0}` is no name for a {1}; use 1 to 64 letters, digits and `-_.@`")]
    Name(String, &'static str),
    #[error("`{0}` is out of range; {start} to {end}", start = .1.start(), end = .1.end())]
    Limit(&'static str, RangeInclusive<u64>),
    #[error("`expires` is in the past")]
    Past,
    #[error("{0}")]
    NoRandomness(String),
}

impl BadWish {
    /// The member at fault.
    pub fn param(&self) -> Option<&'static str> {
        match self {
            Self::Name(_, "key") => Some("name"),
            Self::Name(_, what) => Some(what),
            Self::Limit(name, _) => Some(name),
            Self::Past => Some("expires"),
            Self::NoRandomness(_) => None,
        }
    }
}

impl From<NoRandomness> for BadWish {
    fn from(error: NoRandomness) -> Self {
        Self::NoRandomness(error.to_string())
    }
}

/// How long the old text of a rotated key goes on unless somebody says otherwise.
pub const OVERLAP: Duration = Duration::from_secs(24 * 3600);

/// Most tags of a key: each is a group of its own in reports.
pub const MOST_TAGS: usize = 16;

/// Makes a key, and the text that is shown once.
pub fn issue(wish: Wish, pepper: &Pepper, now_ms: i64) -> Result<(Key, SecretString), BadWish> {
    check_name(&wish.name, "key")?;
    for (name, what) in [(&wish.team, "team"), (&wish.tier, "tier")] {
        if let Some(name) = name {
            check_name(name, what)?;
        }
    }
    wish.tags.iter().try_for_each(|tag| check_name(tag, "tag"))?;
    if wish.tags.len() > MOST_TAGS {
        return Err(BadWish::Name(format!("{} tags", wish.tags.len()), "tag"));
    }
    if let Some((name, range)) = wish.limits.flaw() {
        return Err(BadWish::Limit(name, range));
    }
    if wish.expires_unix_ms.is_some_and(|expires| expires <= now_ms) {
        return Err(BadWish::Past);
    }
    let (kept, text) = fresh(pepper, now_ms)?;
    let mut tags = wish.tags;
    tags.sort();
    tags.dedup();
    let key = Key {
        id: format!("key_{}", uuid::Uuid::now_v7().simple()),
        name: wish.name,
        tier: wish.tier,
        team: wish.team,
        role: wish.role,
        tags,
        limits: wish.limits,
        created_unix_ms: now_ms,
        expires_unix_ms: wish.expires_unix_ms,
        revoked_unix_ms: None,
        secrets: vec![kept],
    };
    Ok((key, text))
}

/// A new text for a key: what is kept, and what is shown.
pub fn fresh(pepper: &Pepper, now_ms: i64) -> Result<(Kept, SecretString), NoRandomness> {
    let text = secret::generate()?;
    let ending = text.expose_secret().as_bytes().last_chunk::<4>().copied().unwrap_or_default();
    let digest = pepper.digest(text.expose_secret());
    Ok((Kept { digest, ending, created_unix_ms: now_ms, expires_unix_ms: None }, text))
}

/// Letters, digits and `-_.@`: safe in a header, a label, a report and a shell. No `:`, which marks other identities, and
/// no comma, which separates tags.
fn check_name(name: &str, what: &'static str) -> Result<(), BadWish> {
    let fits = (1..=64).contains(&name.chars().count())
        && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '@'));
    if fits { Ok(()) } else { Err(BadWish::Name(name.chars().take(80).collect(), what)) }
}

impl Key {
    pub fn state(&self, now_ms: i64) -> State {
        if self.revoked_unix_ms.is_some() {
            State::Revoked
        } else if self.expires_unix_ms.is_some_and(|expires| expires <= now_ms) {
            State::Expired
        } else {
            State::Active
        }
    }

    /// How the newest text ends, for people.
    pub fn hint(&self) -> String {
        let ending = self.secrets.first().map_or(*b"????", |kept| kept.ending);
        format!("{}...{}", secret::PREFIX, String::from_utf8_lossy(&ending))
    }

    pub fn tenant(&self) -> Tenant {
        let shared = |text: &Option<String>| text.as_deref().map(Arc::from);
        Tenant {
            id: self.id.as_str().into(),
            name: Some(self.name.as_str().into()),
            team: shared(&self.team),
            tier: shared(&self.tier),
            role: self.role,
            tags: self.tags.join(",").into(),
            limits: self.limits.clone(),
        }
    }
}
