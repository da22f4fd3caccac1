//! The text of a key: `sk-sw-`, 43 random letters and digits (256 bits), six that check the rest.
//!
//! The prefix and the check let scanners tell a leaked key from noise without asking anybody; the pattern is
//! `sk-sw-[0-9A-Za-z]{49}`. What is kept is a hash under a secret of the installation: who steals the table can neither
//! use a key nor test guesses.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

pub const PREFIX: &str = "sk-sw-";
/// 62^43 is just above 2^256.
const RANDOM: usize = 43;
const CHECK: usize = 6;

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A fresh key. Shown once, then forgotten. Fails only where the system has no randomness.
pub fn generate() -> Result<SecretString, NoRandomness> {
    let mut key = PREFIX.to_owned();
    while key.len() < PREFIX.len() + RANDOM {
        let mut bytes = [0u8; 64];
        fill(&mut bytes)?;
        // Larger bytes would make the first digits likelier than the others.
        let even = bytes.iter().filter(|byte| **byte < 248).map(|byte| char::from(DIGITS[usize::from(byte % 62)]));
        key.extend(even.take(PREFIX.len() + RANDOM - key.len()));
    }
    let check = check(&key);
    key.push_str(&check);
    Ok(key.into())
}

#[derive(Debug, thiserror::Error)]
#[error("the system gives no random bytes: {0}")]
pub struct NoRandomness(String);

fn fill(bytes: &mut [u8]) -> Result<(), NoRandomness> {
    getrandom::fill(bytes).map_err(|error| NoRandomness(error.to_string()))
}

/// CRC-32 of everything before, in base 62.
fn check(text: &str) -> String {
    let mut rest = crc32fast::hash(text.as_bytes());
    let mut digits = [b'0'; CHECK];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(rest % 62) as usize];
        rest /= 62;
    }
    digits.iter().map(|digit| char::from(*digit)).collect()
}

/// Whether a text was made by [`generate`], or by somebody who knows how. Says nothing about whether it is in force.
pub fn is_wellformed(text: &str) -> bool {
    let Some(body) = text.strip_prefix(PREFIX) else { return false };
    body.len() == RANDOM + CHECK
        && body.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && check(&text[..PREFIX.len() + RANDOM]) == body[RANDOM..]
}

/// The installation's own secret, under which keys are hashed.
#[derive(Clone)]
pub struct Pepper([u8; 32]);

impl Pepper {
    pub fn random() -> Result<Self, NoRandomness> {
        let mut bytes = [0; 32];
        fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// From a text of any length, as the configuration has it.
    pub fn of(text: &SecretString) -> Self {
        Self(blake3::derive_key("stepwell 2026-11 hash of access keys", text.expose_secret().trim().as_bytes()))
    }

    /// As it is kept in a file.
    pub fn to_hex(&self) -> SecretString {
        blake3::Hash::from(self.0).to_hex().to_string().into()
    }

    pub fn from_hex(text: &str) -> Option<Self> {
        blake3::Hash::from_hex(text.trim()).ok().map(|hash| Self(*hash.as_bytes()))
    }

    pub fn digest(&self, key: &str) -> Digest {
        Digest(*blake3::keyed_hash(&self.0, key.as_bytes()).as_bytes())
    }

    /// Tells whether two secrets are the same without telling either.
    pub fn fingerprint(&self) -> Digest {
        self.digest("stepwell")
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper(..)")
    }
}

/// A key's hash: what is kept, and looked up by. A look-up takes the same time for every key that is not there, as far as
/// a caller can choose it: nobody who lacks the secret knows which bytes a guess comes to.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(..)")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn keys_are_unique_wellformed_and_any_change_shows() {
        let keys: HashSet<String> =
            (0..100).map(|_| generate().expect("randomness").expose_secret().to_owned()).collect();
        assert_eq!(keys.len(), 100);
        for key in &keys {
            assert!(key.len() == 55 && is_wellformed(key), "{key}");
            for index in PREFIX.len()..key.len() {
                let mut other = key.clone().into_bytes();
                other[index] = if other[index] == b'a' { b'b' } else { b'a' };
                assert!(!is_wellformed(&String::from_utf8(other).expect("ASCII")), "{key} at {index}");
            }
        }
        for no_key in ["", "sk-sw-", "sk-sw-demo", "sk-1234", &format!("sk-sw-{}", "é".repeat(24)), &"x".repeat(55)] {
            assert!(!is_wellformed(no_key), "{no_key}");
        }
    }

    #[test]
    fn hashes_differ_by_key_and_by_secret_and_show_nothing() {
        let (one, two) = (Pepper::random().expect("randomness"), Pepper::of(&"a long secret".into()));
        assert_ne!(one.digest("k"), two.digest("k"));
        assert_ne!(one.digest("k"), one.digest("l"));
        let again = Pepper::from_hex(one.to_hex().expose_secret()).expect("hexadecimal");
        assert_eq!(again.digest("k"), one.digest("k"));
        assert_eq!(format!("{one:?} {:?}", one.digest("k")), "Pepper(..) Digest(..)");
    }
}
