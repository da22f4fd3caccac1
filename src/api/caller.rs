//! Who calls: the credential that a request shows, whoever holds it, and whom fairness and the cache count as one.
//!
//! A layer around every path but a few ([`super::router`]) identifies the caller before anything else happens; handlers
//! find it as a [`Caller`]. Without identity two callers with different credentials still get different answers from the
//! cache, and none of them can take the other's places.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::{AUTHORIZATION, ORIGIN, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::edge::request_id;
use super::error::ApiError;
use super::router::Shared;
use super::speech::Speech;
use crate::admission;
use crate::telemetry::metric::Metric;
use crate::tenant::Tenant;
use crate::tenant::access::Refused;
use crate::tenant::role::Role;
use crate::tenant::secret::Pepper;
use crate::tenant::settings::Metrics;

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
    /// Whose answers may be shared: a key's id, else a hash of the credential under a secret of the installation, else empty.
    pub partition: Arc<str>,
    pub tenant: Arc<Tenant>,
}

/// Under which credentials and addresses are hashed: replicas with a secret in common tell the same callers apart.
#[derive(Clone)]
pub struct Salt([u8; 32]);

impl Salt {
    pub fn of(pepper: &Pepper) -> Self {
        Self(blake3::derive_key("stepwell 2026-11 callers without a key", &pepper.digest("callers").0))
    }
}

impl Caller {
    pub fn of(headers: &HeaderMap, peer: Option<IpAddr>, tenant: Arc<Tenant>, salt: &Salt) -> Self {
        let number = |hash: &blake3::Hash| u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("eight bytes"));
        let hashed = |bytes: &[u8]| blake3::keyed_hash(&salt.0, bytes);
        if !tenant.is_anonymous() {
            let line = admission::Caller(number(&hashed(tenant.id.as_bytes())));
            return Self { line, partition: tenant.id.clone(), tenant };
        }
        match CREDENTIALS.iter().find_map(|name| headers.get(name)) {
            Some(credential) => {
                let hash = hashed(credential.as_bytes());
                Self { line: admission::Caller(number(&hash)), partition: hash.to_hex()[..32].into(), tenant }
            }
            None => {
                let address = peer.map_or(String::new(), |peer| peer.to_canonical().to_string());
                Self { line: admission::Caller(number(&hashed(address.as_bytes()))), partition: "".into(), tenant }
            }
        }
    }

    /// Whose rows this caller may see: `None` for everybody's.
    pub fn sees_only(&self) -> Option<&str> {
        let restricted = self.tenant.role < Role::Operator;
        self.tenant.name.as_deref().filter(|_| restricted)
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        // Missing only if a path was put outside of the layer: then nobody gets in.
        parts.extensions.get::<Self>().cloned().ok_or_else(ApiError::internal)
    }
}

/// Lets in whoever has at least this role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    Role(Role),
    /// What the configuration says about metrics.
    Metrics,
}

/// Identifies the caller, or answers 401; or 403, if the role does not suffice.
pub async fn identify(State((shared, needs)): State<(Shared, Needs)>, mut request: Request, next: Next) -> Response {
    let rules = shared.gateway.rules();
    let auth = &rules.settings.tenants.auth;
    let role = match needs {
        Needs::Role(role) => role,
        Needs::Metrics if auth.metrics == Metrics::Open => return next.run(request).await,
        Needs::Metrics => Role::Operator,
    };
    let headers = request.headers();
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let identified = match credential(headers) {
        Ok(credential) => shared.access.identify(auth, rules.version, credential, now_ms).await,
        Err(refused) => Err(refused),
    };
    let refused = match identified {
        Err(refused) => unknown(&refused),
        Ok(tenant) if tenant.role < role => {
            let message = format!("this needs the role `{}`; the key has `{}`", role.as_str(), tenant.role.as_str());
            ApiError::request(StatusCode::FORBIDDEN, "insufficient_role", None, message)
        }
        Ok(tenant) if tenant.is_anonymous() && role > Role::Member && is_foreign(&request) => {
            // A page that a browser on this machine happens to show is not its operator.
            let message = "a web page of another origin may not do this without a key";
            ApiError::request(StatusCode::FORBIDDEN, "foreign_origin", None, message)
        }
        Ok(tenant) => {
            let peer = request.extensions().get::<Peer>().map(|peer| peer.0);
            let caller = Caller::of(request.headers(), peer, tenant, &shared.salt);
            request.extensions_mut().insert(caller);
            return next.run(request).await;
        }
    };
    let speech = if request.uri().path().ends_with("/messages") { Speech::Messages } else { Speech::Chat };
    let mut response = speech.refuse(&refused, request_id(request.headers()));
    if refused.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// The one credential of a request. Several are fine as long as they say the same.
pub fn credential(headers: &HeaderMap) -> Result<Option<&str>, Refused> {
    let mut found: Option<&str> = None;
    for name in &CREDENTIALS {
        for value in headers.get_all(name) {
            let text = value.to_str().map_err(|_| Refused::Foreign)?;
            let text = match text.split_once(' ') {
                Some((scheme, token)) if *name == AUTHORIZATION && scheme.eq_ignore_ascii_case("bearer") => {
                    token.trim()
                }
                _ => text.trim(),
            };
            match found {
                Some(other) if other != text => return Err(Refused::Several),
                _ => found = Some(text),
            }
        }
    }
    Ok(found)
}

fn unknown(refused: &Refused) -> ApiError {
    metrics::counter!(Metric::AuthRefused.name(), "reason" => refused.as_str()).increment(1);
    ApiError::unauthorized(refused.to_string())
}

/// A request that a browser sends on behalf of a page from elsewhere.
fn is_foreign(request: &Request) -> bool {
    if *request.method() == Method::GET {
        return false;
    }
    request.headers().get(ORIGIN).is_some_and(|origin| {
        let host = origin.to_str().ok().and_then(|origin| origin.parse::<http::Uri>().ok());
        let host = host.as_ref().and_then(|origin| origin.host()).unwrap_or_default();
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        host != "localhost" && !address.is_ok_and(|address| address.is_loopback())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))])
    }

    #[test]
    fn credentials_tell_callers_apart_and_addresses_those_without() {
        let home = Some(IpAddr::from([127, 0, 0, 1]));
        let nobody = || Arc::new(Tenant::anonymous());
        let salt = Salt::of(&Pepper::random().expect("randomness"));
        let of = |headers: &HeaderMap, peer| Caller::of(headers, peer, nobody(), &salt);
        let (a, b) = (of(&with("authorization", "Bearer a"), home), of(&with("x-api-key", "b"), home));
        assert!(a.line != b.line && a.partition != b.partition && !a.partition.is_empty());
        assert_eq!(of(&with("authorization", "Bearer a"), None).partition, a.partition);
        let (near, far) = (of(&HeaderMap::new(), home), of(&HeaderMap::new(), None));
        assert_ne!(near.line, far.line);
        assert!(near.partition.is_empty() && far.partition.is_empty(), "an address separates no answers");
        assert!(!format!("{a:?}").contains("Bearer"));
    }

    #[test]
    fn a_credential_is_found_wherever_clients_put_it_and_two_different_ones_are_refused() {
        for headers in [
            with("authorization", "Bearer k"),
            with("authorization", "bearer  k"),
            with("x-api-key", "k"),
            with("api-key", "k"),
        ] {
            assert_eq!(credential(&headers), Ok(Some("k")));
        }
        let mut both = with("authorization", "Bearer k");
        both.insert("api-key", HeaderValue::from_static("k"));
        assert_eq!(credential(&both), Ok(Some("k")));
        both.insert("x-api-key", HeaderValue::from_static("l"));
        assert_eq!(credential(&both), Err(Refused::Several));
        assert_eq!(credential(&HeaderMap::new()), Ok(None));
    }
}
