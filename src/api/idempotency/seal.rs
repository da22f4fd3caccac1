//! An answer that only its key opens: who reads the database reads no answers.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::admission::idempotency::{LARGEST, Place, Sealed};
use crate::tenant::seal::Seal;
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

    /// The length of the head, the head as JSON, the body as it is.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let headers: Vec<(&str, &str)> =
            self.headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?))).collect();
        let head = serde_json::to_vec(&(self.status.as_u16(), headers)).ok()?;
        let mut bytes = u32::try_from(head.len()).ok()?.to_le_bytes().to_vec();
        bytes.extend_from_slice(&head);
        bytes.extend_from_slice(&self.body);
        Some(bytes)
    }

    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (head, body) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let (status, listed): (u16, Vec<(String, String)>) = serde_json::from_slice(head).ok()?;
        let mut headers = HeaderMap::new();
        for (name, value) in listed {
            headers.append(HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?);
        }
        Some(Self { status: StatusCode::from_u16(status).ok()?, headers, body: Bytes::copy_from_slice(body) })
    }
}

/// Derived from the installation's secret and the caller's key; neither alone is enough.
pub struct Key {
    seal: Seal,
    place: Place,
}

impl Key {
    pub fn derive(pepper: &Pepper, idempotency_key: &str, place: &Place) -> Self {
        let secret = pepper.digest(&format!("seal {idempotency_key}"));
        let mut hasher = blake3::Hasher::new_derive_key("stepwell 2026-11 answers of idempotent requests");
        hasher.update(&secret.0).update(place);
        Self { seal: Seal::of_key(*hasher.finalize().as_bytes()), place: *place }
    }

    /// `None` if the answer is too large to be kept.
    pub fn seal(&self, answer: &Answer) -> Option<Sealed> {
        if answer.body.len() > LARGEST {
            return None;
        }
        self.seal.seal(&self.place, &answer.to_bytes()?).map(Sealed)
    }

    /// `None` if it is another one's, or was changed.
    pub fn open(&self, Sealed(sealed): &Sealed) -> Option<Answer> {
        Answer::from_bytes(&self.seal.open(&self.place, sealed, 2 * LARGEST)?)
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
        for at in [0, sealed.0.len() / 2, sealed.0.len() - 1] {
            let mut changed = sealed.clone();
            changed.0[at] ^= 1;
            assert_eq!(key.open(&changed), None, "{at}");
        }
        assert_eq!(key.open(&Sealed(Vec::new())), None);
    }
}
