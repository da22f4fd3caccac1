//! The keys of one moment, by the hashes of their texts: what every request is looked up in, without a lock.

use std::collections::HashMap;
use std::sync::Arc;

use super::Tenant;
use super::key::Key;
use super::secret::{Digest, Pepper};
use super::vault::Contents;

/// Empty by default: knows nobody.
#[derive(Debug, Default)]
pub struct Keyring {
    pepper: Option<Pepper>,
    by_digest: HashMap<Digest, Entry>,
    keys: Vec<Arc<Key>>,
    pub version: i64,
}

#[derive(Debug)]
struct Entry {
    key: Arc<Key>,
    tenant: Arc<Tenant>,
    /// Of this text: the key's own end, or that of a rotation.
    expires_unix_ms: Option<i64>,
}

/// Why a text opens nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closed {
    Unknown,
    Revoked,
    /// The key itself, or this text of it after a rotation.
    Expired,
}

impl Keyring {
    pub fn new(contents: Contents, pepper: Option<Pepper>) -> Self {
        let mut ring = Self { pepper, version: contents.version, ..Self::default() };
        for key in contents.keys {
            let key = Arc::new(key);
            let tenant = Arc::new(key.tenant());
            for kept in &key.secrets {
                let expires_unix_ms = [key.expires_unix_ms, kept.expires_unix_ms].into_iter().flatten().min();
                let entry = Entry { key: key.clone(), tenant: tenant.clone(), expires_unix_ms };
                ring.by_digest.insert(kept.digest, entry);
            }
            ring.keys.push(key);
        }
        ring
    }

    /// Whoever holds the key with this text.
    pub fn find(&self, text: &str, now_ms: i64) -> Result<&Arc<Tenant>, Closed> {
        let entry = self.pepper.as_ref().and_then(|pepper| self.by_digest.get(&pepper.digest(text)));
        let entry = entry.ok_or(Closed::Unknown)?;
        if entry.key.revoked_unix_ms.is_some() {
            return Err(Closed::Revoked);
        }
        if entry.expires_unix_ms.is_some_and(|expires| expires <= now_ms) {
            return Err(Closed::Expired);
        }
        Ok(&entry.tenant)
    }

    /// Every key there ever was, oldest first.
    pub fn keys(&self) -> &[Arc<Key>] {
        &self.keys
    }

    /// By id or name.
    pub fn named(&self, name: &str) -> Option<&Arc<Key>> {
        self.keys.iter().find(|key| key.id == name || key.name == name)
    }

    pub fn pepper(&self) -> Option<&Pepper> {
        self.pepper.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::super::key::{self, Wish};
    use super::*;

    #[test]
    fn a_rotated_key_opens_with_both_texts_until_the_old_one_ends_and_a_revoked_one_with_none() {
        let pepper = Pepper::random().expect("randomness");
        let wish = Wish { name: "search".to_owned(), expires_unix_ms: Some(5_000), ..Wish::default() };
        let (mut key, old) = key::issue(wish, &pepper, 1_000).expect("a key");
        let (mut kept, new) = key::fresh(&pepper, 2_000).expect("a text");
        key.secrets[0].expires_unix_ms = Some(3_000);
        kept.created_unix_ms = 2_000;
        key.secrets.insert(0, kept);
        let ring =
            |key: &Key| Keyring::new(Contents { keys: vec![key.clone()], ..Contents::default() }, Some(pepper.clone()));
        let open = |ring: &Keyring, text: &secrecy::SecretString, now| {
            ring.find(text.expose_secret(), now).map(|tenant| tenant.id.clone())
        };
        let id: Arc<str> = key.id.as_str().into();
        assert_eq!(open(&ring(&key), &old, 2_999), Ok(id.clone()));
        assert_eq!(open(&ring(&key), &new, 2_999), Ok(id.clone()));
        assert_eq!(open(&ring(&key), &old, 3_000), Err(Closed::Expired));
        assert_eq!(open(&ring(&key), &new, 4_999), Ok(id));
        assert_eq!(open(&ring(&key), &new, 5_000), Err(Closed::Expired));
        assert_eq!(ring(&key).find("sk-sw-nothing", 0), Err(Closed::Unknown));
        key.revoked_unix_ms = Some(2_500);
        assert_eq!(open(&ring(&key), &new, 2_600), Err(Closed::Revoked));
    }
}
