//! What is kept, and for how long.

use std::time::Duration;

use serde::Deserialize;

use crate::units::{Size, Span};

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Off: neither read nor written, and identical requests in flight are not joined.
    pub enabled: bool,
    /// How long an answer is served again.
    pub ttl: Span,
    /// Bytes of answers kept in memory; the least useful go first.
    pub max_size: Size,
    /// Requests with an explicit temperature above this want variety: they bypass the cache. 0 to 2.
    pub max_temperature: f64,
    /// Whether two keys may see each other's answers.
    pub share_between_keys: bool,
    /// Whether identical requests in flight share one upstream call.
    pub coalesce: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            ttl: Span(Duration::from_secs(3600)),
            max_size: Size(256_000_000),
            max_temperature: 0.3,
            share_between_keys: false,
            coalesce: true,
        }
    }
}
