//! What a job is about: the request as it came, and whose it is. Kept sealed.

use std::sync::Arc;

use axum::body::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::admission;
use crate::api::caller::Caller;
use crate::api::speech::Speech;
use crate::gateway::native::Decided;
use crate::tenant::Tenant;
use crate::tenant::access::Access;
use crate::tenant::key::State;
use crate::tenant::role::Role;

/// Longest request or answer with what is said about it, in bytes: answers are 64 MiB at most, requests less.
pub const LONGEST: usize = 80 << 20;

#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    pub speech: Speech,
    pub owner: Owner,
    pub headers: Vec<(String, String)>,
    /// Who is told of the end.
    pub webhook: Option<String>,
    /// The caller's own name for a line of a batch.
    pub custom_id: Option<String>,
    /// What was decided about a line that a provider is to answer in a batch of its own.
    pub decided: Option<Decided>,
    pub body: Bytes,
}

/// Everything of [`Work`] but the body.
#[derive(Serialize, Deserialize)]
struct Head {
    speech: Speech,
    owner: Owner,
    headers: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    webhook: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    custom_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    decided: Option<Decided>,
}

impl Work {
    pub fn to_bytes(&self) -> Vec<u8> {
        let Self { speech, owner, headers, webhook, custom_id, decided, body } = self.clone();
        // Texts and numbers are always JSON.
        let head =
            serde_json::to_vec(&Head { speech, owner, headers, webhook, custom_id, decided }).unwrap_or_default();
        let mut bytes = (head.len() as u32).to_le_bytes().to_vec();
        bytes.extend_from_slice(&head);
        bytes.extend_from_slice(&body);
        bytes
    }

    pub fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (head, _) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let Head { speech, owner, headers, webhook, custom_id, decided } = serde_json::from_slice(head).ok()?;
        let behind = 4 + head.len();
        let body = Bytes::from(bytes).slice(behind..);
        Some(Self { speech, owner, headers, webhook, custom_id, decided, body })
    }

    pub fn header_map(&self) -> HeaderMap {
        let pairs = self.headers.iter().filter_map(|(name, value)| {
            Some((HeaderName::try_from(name.as_str()).ok()?, HeaderValue::try_from(value.as_str()).ok()?))
        });
        pairs.collect()
    }
}

/// What is kept of a request's headers: what says how it is to be answered. No credential, nothing about the connection.
pub fn kept(headers: &HeaderMap) -> Vec<(String, String)> {
    const KEPT: [&str; 6] =
        ["anthropic-beta", "anthropic-version", "cache-control", "traceparent", "tracestate", "baggage"];
    let is_kept =
        |name: &str| name.starts_with("x-stepwell-") || name.starts_with("x-litellm-") || KEPT.contains(&name);
    let named = headers.iter().filter(|(name, _)| is_kept(name.as_str()));
    // LiteLLM's header for a key is a credential.
    let named = named.filter(|(name, _)| name.as_str() != "x-litellm-api-key");
    named.filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned()))).collect()
}

/// Whose request it is, without what could be used in its place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Owner {
    id: String,
    name: Option<String>,
    team: Option<String>,
    tier: Option<String>,
    role: Role,
    tags: String,
    partition: String,
    line: u64,
}

impl Owner {
    pub fn of(caller: &Caller) -> Self {
        let text = |text: &Option<Arc<str>>| text.as_deref().map(str::to_owned);
        let Caller { tenant, partition, line } = caller;
        Self {
            id: tenant.id.to_string(),
            name: text(&tenant.name),
            team: text(&tenant.team),
            tier: text(&tenant.tier),
            role: tenant.role,
            tags: tenant.tags.to_string(),
            partition: partition.to_string(),
            line: line.0,
        }
    }

    /// The caller as it was when the request came in: for what has been done for it since.
    pub fn as_it_was(&self) -> Caller {
        let shared = |text: &Option<String>| text.as_deref().map(Arc::from);
        let tenant = Arc::new(match &self.name {
            None => Tenant::anonymous(),
            Some(_) => Tenant {
                id: self.id.as_str().into(),
                name: shared(&self.name),
                team: shared(&self.team),
                tier: shared(&self.tier),
                role: self.role,
                tags: self.tags.as_str().into(),
                ..Tenant::default()
            },
        });
        Caller { line: admission::Caller(self.line), partition: self.partition.as_str().into(), tenant }
    }

    /// The caller as it is now: what its key may do today counts, not what it might when the request came in. The error is
    /// a sentence: the key was revoked or has expired.
    pub fn caller(&self, access: &Access, now_ms: i64) -> Result<Caller, String> {
        let Some(name) = &self.name else { return Ok(self.as_it_was()) };
        match access.ring().keys().iter().find(|key| key.id == self.id) {
            Some(key) if key.state(now_ms) == State::Active => {
                Ok(Caller { tenant: Arc::new(key.tenant()), ..self.as_it_was() })
            }
            Some(_) => Err(format!("the key `{name}` was revoked or has expired")),
            // Of an identity provider: its token was good when the request came in, and holds no more than this.
            None if self.id.starts_with("jwt:") => Ok(self.as_it_was()),
            None => Err(format!("the key `{name}` is not there any more")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_comes_back_as_it_went_and_credentials_stay_away() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer secret"),
            ("x-api-key", "secret"),
            ("cookie", "secret"),
            ("x-litellm-api-key", "secret"),
            ("x-stepwell-strategy", "cheapest"),
            ("anthropic-beta", "thinking"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let work = Work {
            speech: Speech::Messages,
            owner: Owner { id: "k".to_owned(), line: 7, ..Owner::default() },
            headers: kept(&headers),
            webhook: Some("https://example.com/".to_owned()),
            custom_id: None,
            decided: None,
            body: Bytes::from_static(b"{}"),
        };
        let bytes = work.to_bytes();
        assert!(!bytes.windows(6).any(|window| window == b"secret"));
        assert_eq!(Work::from_bytes(bytes), Some(work.clone()));
        assert_eq!(work.header_map().len(), 2);
        assert_eq!(Work::from_bytes(vec![1, 2, 3]), None);
        assert_eq!(Work::from_bytes(vec![255, 255, 255, 255, 0]), None);
    }
}
