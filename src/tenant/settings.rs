//! What the configuration says about callers: `auth`, `tiers`, `teams` and `budgets`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use secrecy::SecretString;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use crate::money::NanoUsd;
use crate::units::{Share, Span};

/// All about callers.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub auth: Auth,
    /// What each key of a tier may do. Keys without a tier have the one named `default`, if there is one.
    pub tiers: BTreeMap<String, Limits>,
    /// What the keys of a team may do together.
    pub teams: BTreeMap<String, Limits>,
    pub budgets: Budgets,
}

/// The tier of keys without one.
pub const DEFAULT_TIER: &str = "default";

#[derive(Clone, Debug, Default)]
pub struct Auth {
    pub required: Required,
    pub jwt: Option<Jwt>,
    /// Under which keys are hashed; at least 32 characters. `None`: drawn at the first key and kept beside the database.
    /// Replicas that share a database need the same.
    pub secret: Option<SecretString>,
    /// Who may read `/metrics`.
    pub metrics: Metrics,
}

/// When a request needs a credential.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Required {
    /// When listening beyond this machine.
    #[default]
    Auto,
    Always,
    Never,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Metrics {
    /// Everybody who reaches the router, as scrapers expect. Metrics name providers and budgets, never keys.
    #[default]
    Open,
    /// Operators and admins.
    Operator,
}

/// Tokens of an identity provider (OpenID Connect). A request may carry one instead of a key.
#[derive(Clone, Debug)]
pub struct Jwt {
    /// What `iss` must say, to the letter.
    pub issuer: String,
    /// One of what `aud` may say.
    pub audience: Vec<String>,
    /// Where the issuer's public keys are.
    pub jwks_url: String,
    /// The claims that name a tier, a team, a person and a role. A missing claim leaves it unsaid.
    pub tier_claim: Option<String>,
    pub team_claim: Option<String>,
    pub user_claim: String,
    pub role_claim: Option<String>,
    /// How far clocks may be apart. 0 to 5m.
    pub leeway: Span,
    /// How often the keys are fetched anew. 1m to 24h. A token with an unknown key id brings this forward, but never by
    /// more than one fetch in 30 s.
    pub refresh: Span,
}

/// What a key, the keys of a tier (each), or the keys of a team (together) may do. `None` and empty lists mean no limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// 1 to 1000000. As many at once after a pause; then evenly (GCRA).
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "whole")]
    pub requests_per_minute: Option<u64>,
    /// Prompt and completion together, 1 to 1T. Refills evenly; an answer longer than expected is paid off before the next
    /// request gets in.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "whole")]
    pub tokens_per_minute: Option<u64>,
    /// Per calendar day in `budgets.time_zone`.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "whole")]
    pub tokens_per_day: Option<u64>,
    /// Requests under way at the same time, 1 to 100000.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "whole")]
    pub concurrency: Option<u32>,
    /// Names that may be asked for: aliases, models, `provider/model`, providers.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub models: Vec<String>,
    /// Providers that may answer.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub providers: Vec<String>,
    /// Strategies that may be asked for. The configured ones always may.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub strategies: Vec<String>,
    #[serde(skip_serializing_if = "Budget::is_none", deserialize_with = "or_default")]
    pub budget: Budget,
}

/// A member that is null is as good as none.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A whole number, also where it is written `3.0`: JSON has one kind of number.
fn whole<'de, D: Deserializer<'de>, T: TryFrom<u64>>(deserializer: D) -> Result<Option<T>, D::Error> {
    let Some(number) = Option::<f64>::deserialize(deserializer)? else { return Ok(None) };
    let whole = (number.fract() == 0.0 && (0.0..9e15).contains(&number)).then_some(number as u64);
    let fits = whole.and_then(|whole| T::try_from(whole).ok());
    fits.map(Some).ok_or_else(|| D::Error::custom(format!("`{number}` is not a whole number, or out of range")))
}

impl Limits {
    pub const REQUESTS_PER_MINUTE: RangeInclusive<u64> = 1..=1_000_000;
    pub const TOKENS_PER_MINUTE: RangeInclusive<u64> = 1..=1_000_000_000_000;
    pub const TOKENS_PER_DAY: RangeInclusive<u64> = 1..=1_000_000_000_000_000;
    pub const CONCURRENCY: RangeInclusive<u64> = 1..=100_000;

    /// The first figure that makes no sense, and between what it would.
    pub fn flaw(&self) -> Option<(&'static str, RangeInclusive<u64>)> {
        let all = [
            ("requests_per_minute", self.requests_per_minute, Self::REQUESTS_PER_MINUTE),
            ("tokens_per_minute", self.tokens_per_minute, Self::TOKENS_PER_MINUTE),
            ("tokens_per_day", self.tokens_per_day, Self::TOKENS_PER_DAY),
            ("concurrency", self.concurrency.map(u64::from), Self::CONCURRENCY),
        ];
        let flawed = all.into_iter().find(|(_, figure, range)| figure.is_some_and(|figure| !range.contains(&figure)));
        flawed.map(|(name, _, range)| (name, range))
    }
}

/// How much may be spent in what time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Budget {
    /// USD per calendar day and month in `budgets.time_zone`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub day: Option<NanoUsd>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub month: Option<NanoUsd>,
    /// USD per window of a fixed length, counted from the beginning of 1970 (UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// Shares at which a warning is logged and counted, once per period.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warn_at: Vec<Share>,
    #[serde(skip_serializing_if = "AtLimit::is_reject")]
    pub at_limit: AtLimit,
}

impl Budget {
    pub fn is_none(&self) -> bool {
        self.day.is_none() && self.month.is_none() && self.window.is_none()
    }
}

/// An amount per window.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// 1m to 366d.
    pub length: Span,
    pub amount: NanoUsd,
}

/// What happens to a request whose worst case does not fit into what is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AtLimit {
    /// 429 that says which budget, what is left, and when it starts anew.
    #[default]
    Reject,
    /// The cheapest of the models that still fit; 429 if none does.
    Cheapest,
    /// It is answered all the same; only counted and warned about. The budget can be exceeded.
    Warn,
}

impl AtLimit {
    pub const CHOICES: [(&'static str, Self); 3] =
        [("reject", Self::Reject), ("cheapest", Self::Cheapest), ("warn", Self::Warn)];

    fn is_reject(&self) -> bool {
        *self == Self::Reject
    }
}

/// Budgets of more than one key.
#[derive(Clone, Debug, PartialEq)]
pub struct Budgets {
    /// A name of the IANA database; days and months begin there.
    pub time_zone: String,
    pub total: Budget,
    pub providers: BTreeMap<String, Budget>,
    /// All keys of a tier together; `tiers` has what each may spend.
    pub tiers: BTreeMap<String, Budget>,
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            time_zone: "UTC".to_owned(),
            total: Budget::default(),
            providers: BTreeMap::new(),
            tiers: BTreeMap::new(),
        }
    }
}
