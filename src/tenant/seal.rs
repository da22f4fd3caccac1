//! What callers said and what they were answered, kept so that the database alone tells nothing: compressed, then
//! encrypted under a key that is derived from the installation's secret.

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};

use super::secret::Pepper;

/// The nonce stands before the text.
const NONCE: usize = 12;
/// Of zstd: fast, and text still shrinks to a third.
const LEVEL: i32 = 3;

/// Encrypts for one purpose. Cheap to clone.
#[derive(Clone)]
pub struct Seal([u8; 32]);

impl Seal {
    pub fn of_key(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// For everything of one kind; `purpose` keeps kinds apart.
    pub fn derive(pepper: &Pepper, purpose: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("stepwell 2026-11 contents at rest");
        hasher.update(&pepper.digest(purpose).0);
        Self(*hasher.finalize().as_bytes())
    }

    /// Opens only where it belongs: under the same `place`. `None` only if the machine has no randomness or memory.
    pub fn seal(&self, place: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
        let mut packed = zstd::bulk::compress(plain, LEVEL).ok()?;
        let key = RandomizedNonceKey::new(&AES_256_GCM, &self.0).ok()?;
        let nonce = key.seal_in_place_append_tag(Aad::from(place), &mut packed).ok()?;
        let mut sealed = nonce.as_ref().to_vec();
        sealed.extend_from_slice(&packed);
        Some(sealed)
    }

    /// `None` if it is another one's, was changed, or is longer than `longest` bytes.
    pub fn open(&self, place: &[u8], sealed: &[u8], longest: usize) -> Option<Vec<u8>> {
        let (nonce, packed) = sealed.split_at_checked(NONCE)?;
        let key = RandomizedNonceKey::new(&AES_256_GCM, &self.0).ok()?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut packed = packed.to_vec();
        let packed = key.open_in_place(nonce, Aad::from(place), &mut packed).ok()?;
        zstd::bulk::decompress(packed, longest).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_in_its_place_only_and_shows_nothing() {
        let pepper = Pepper::random().expect("randomness");
        let (seal, text) = (Seal::derive(&pepper, "jobs"), "word ".repeat(1000));
        let sealed = seal.seal(b"a", text.as_bytes()).expect("sealed");
        assert!(sealed.len() < text.len() && !sealed.windows(4).any(|window| window == b"word"));
        assert_eq!(seal.open(b"a", &sealed, 10_000).as_deref(), Some(text.as_bytes()));
        assert_eq!(seal.open(b"b", &sealed, 10_000), None);
        assert_eq!(seal.open(b"a", &sealed, 100), None, "too long");
        assert_eq!(Seal::derive(&pepper, "files").open(b"a", &sealed, 10_000), None);
        for at in [0, NONCE, sealed.len() - 1] {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(seal.open(b"a", &changed, 10_000), None, "{at}");
        }
        assert_eq!(seal.open(b"a", &[], 10_000), None);
    }
}
