//! Who calls, as far as fairness and separation need it: the credential that was sent, else the address.
//!
//! Nobody is authenticated here. Two callers with different credentials get different answers from the cache, and none of
//! them can take the other's places; that holds without knowing who they are.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use axum::extract::FromRequestParts;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, HeaderName};

use crate::admission;

/// The other end of the connection, noted by the server.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// Headers that carry a credential, by the client libraries that send them: OpenAI's, Anthropic's, Azure's, Google's.
const CREDENTIALS: [HeaderName; 4] = [
    AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
];

#[derive(Clone, Debug)]
pub struct Caller {
    /// Whom fairness counts as one.
    pub line: admission::Caller,
    /// Whose answers may be shared: empty without a credential. A hash under a key of this process: it tells nothing.
    pub partition: Arc<str>,
}

impl Caller {
    pub fn of(headers: &HeaderMap, peer: Option<IpAddr>) -> Self {
        let credential = CREDENTIALS.iter().find_map(|name| headers.get(name));
        let number = |hash: &blake3::Hash| u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("eight bytes"));
        match credential {
            Some(credential) => {
                let hash = blake3::keyed_hash(key(), credential.as_bytes());
                Self { line: admission::Caller(number(&hash)), partition: hash.to_hex()[..32].into() }
            }
            None => {
                let address = peer.map_or(String::new(), |peer| peer.to_canonical().to_string());
                let hash = blake3::keyed_hash(key(), address.as_bytes());
                Self { line: admission::Caller(number(&hash)), partition: "".into() }
            }
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.headers, parts.extensions.get::<Peer>().map(|peer| peer.0)))
    }
}

/// Drawn at the start: hashes of one process mean nothing to another one.
fn key() -> &'static [u8; 32] {
    static KEY: OnceLock<[u8; 32]> = OnceLock::new();
    KEY.get_or_init(|| {
        let mut key = [0; 32];
        for half in key.chunks_mut(16) {
            half.copy_from_slice(uuid::Uuid::new_v4().as_bytes());
        }
        key
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), http::HeaderValue::from_static(value))])
    }

    #[test]
    fn credentials_tell_callers_apart_and_addresses_those_without() {
        let home = Some(IpAddr::from([127, 0, 0, 1]));
        let (a, b) = (Caller::of(&with("authorization", "Bearer a"), home), Caller::of(&with("x-api-key", "b"), home));
        assert!(a.line != b.line && a.partition != b.partition && !a.partition.is_empty());
        assert_eq!(Caller::of(&with("authorization", "Bearer a"), None).partition, a.partition);
        let (near, far) = (Caller::of(&HeaderMap::new(), home), Caller::of(&HeaderMap::new(), None));
        assert_ne!(near.line, far.line);
        assert!(near.partition.is_empty() && far.partition.is_empty(), "an address separates no answers");
        assert!(!format!("{a:?}").contains("Bearer"));
    }
}
