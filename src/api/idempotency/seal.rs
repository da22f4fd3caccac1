//! An answer that only its key opens: who reads the database reads no answers.

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::admission::idempotency::{LARGEST, Place, Sealed};
use crate::tenant::secret::Pepper;

/// A whole answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

/// Derived from the installation's secret and the caller's key; neither alone is enough.
pub struct Key {
    key: [u8; 32],
    place: Place,
}

/// The nonce stands before the text.
const NONCE: usize = 12;

impl Key {
    pub fn derive(pepper: &Pepper, idempotency_key: &str, place: &Place) -> Self {
        let secret = pepper.digest(&format!("seal {idempotency_key}"));
        let mut hasher = blake3::Hasher::new_derive_key("stepwell 2026-11 answers of idempotent requests");
        hasher.update(&secret.0).update(place);
        Self { key: *hasher.finalize().as_bytes(), place: *place }
    }

    /// `None` if the answer is too large to be kept.
    pub fn seal(&self, answer: &Answer) -> Option<Sealed> {
        if answer.body.len() > LARGEST {
            return None;
        }
        let headers: Vec<(&str, &str)> =
            answer.headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?))).collect();
        let head = serde_json::to_vec(&(answer.status.as_u16(), headers)).ok()?;
        let mut plain = u32::try_from(head.len()).ok()?.to_le_bytes().to_vec();
        plain.extend_from_slice(&head);
        plain.extend_from_slice(&answer.body);
        let mut packed = zstd::bulk::compress(&plain, 3).ok()?;
        let key = RandomizedNonceKey::new(&AES_256_GCM, &self.key).ok()?;
        let nonce = key.seal_in_place_append_tag(Aad::from(&self.place), &mut packed).ok()?;
        let mut sealed = nonce.as_ref().to_vec();
        sealed.extend_from_slice(&packed);
        Some(Sealed(sealed))
    }

    /// `None` if it is another one's, or was changed.
    pub fn open(&self, Sealed(sealed): &Sealed) -> Option<Answer> {
        let (nonce, packed) = sealed.split_at_checked(NONCE)?;
        let key = RandomizedNonceKey::new(&AES_256_GCM, &self.key).ok()?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut packed = packed.to_vec();
        let packed = key.open_in_place(nonce, Aad::from(&self.place), &mut packed).ok()?;
        let plain = zstd::bulk::decompress(packed, 2 * LARGEST).ok()?;
        let (length, rest) = plain.split_first_chunk::<4>()?;
        let (head, body) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let (status, listed): (u16, Vec<(String, String)>) = serde_json::from_slice(head).ok()?;
        let mut headers = HeaderMap::new();
        for (name, value) in listed {
            headers.append(HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?);
        }
        Some(Answer { status: StatusCode::from_u16(status).ok()?, headers, body: Bytes::copy_from_slice(body) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_opens_what_it_sealed_and_a_changed_one_does_not_open() {
        let pepper = Pepper::random().expect("randomness");
        let answer = Answer {
            status: StatusCode::OK,
            headers: HeaderMap::from_iter([(HeaderName::from_static("x-a"), HeaderValue::from_static("b"))]),
            body: Bytes::from("word ".repeat(1000)),
        };
        let key = Key::derive(&pepper, "k", &[7; 32]);
        let sealed = key.seal(&answer).expect("small enough");
        assert!(sealed.0.len() < answer.body.len() && !sealed.0.windows(4).any(|window| window == b"word"));
        assert_eq!(key.open(&sealed), Some(answer));
        assert_eq!(Key::derive(&pepper, "l", &[7; 32]).open(&sealed), None);
        assert_eq!(Key::derive(&pepper, "k", &[8; 32]).open(&sealed), None);
        for at in [0, NONCE, sealed.0.len() - 1] {
            let mut changed = sealed.clone();
            changed.0[at] ^= 1;
            assert_eq!(key.open(&changed), None, "{at}");
        }
        assert_eq!(key.open(&Sealed(Vec::new())), None);
    }
}
