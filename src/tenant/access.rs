//! From the credential that a request shows to whoever holds it.
//!
//! Keys are looked up in memory; tokens are checked against the issuer's keys that somebody else fetches. The only thing
//! that is ever waited for is a newer set of those keys, once in a while and for all who need it together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use moka::sync::Cache;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::Tenant;
use super::jwt::{BadToken, KeySet};
use super::keyring::{Closed, Keyring};
use super::secret;
use super::settings::{Auth, Jwt, Required};

/// Between two fetches of an issuer's keys because of unknown key ids, whoever sends them.
const REFRESH_PAUSE: Duration = Duration::from_secs(30);
/// How long a request waits for such a fetch.
const REFRESH_WAIT: Duration = Duration::from_secs(3);
/// Tokens that were found good and are not checked again, and for how long.
const REMEMBERED: u64 = 10_000;
const REMEMBERED_FOR: Duration = Duration::from_secs(60);

/// Who is let in.
pub struct Access {
    ring: ArcSwap<Keyring>,
    /// From which address, and what was there.
    issuer: ArcSwap<(String, KeySet)>,
    tokens: Cache<[u8; 32], (Arc<Tenant>, i64)>,
    fetch: Mutex<Fetch>,
    wanted: Notify,
    fetched: watch::Sender<u64>,
    anonymous: Arc<Tenant>,
    /// Whether `auto` asks for credentials.
    asks: bool,
}

#[derive(Default)]
struct Fetch {
    asked: Option<Instant>,
    running: bool,
}

/// Why nobody is let in. Never contains what was shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error(
        "no API key was sent; send one as `Authorization: Bearer sk-sw-...` (or `x-api-key`, `api-key`); `stepwell keys create` makes one"
    )]
    Missing,
    #[error("this is no key of stepwell; keys begin with `sk-sw-`, and `stepwell keys create` makes one")]
    Foreign,
    #[error("the API key is mistyped or cut: its checksum is wrong")]
    Mistyped,
    #[error("the API key is not known here; `stepwell keys list` shows those that are")]
    Unknown,
    #[error("the API key was revoked")]
    Revoked,
    #[error("the API key has expired")]
    Expired,
    #[error("two different credentials were sent; send one")]
    Several,
    #[error(transparent)]
    Token(#[from] BadToken),
}

impl Refused {
    /// One word for metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Foreign => "foreign",
            Self::Mistyped => "mistyped",
            Self::Unknown => "unknown",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::Several => "several",
            Self::Token(_) => "token",
        }
    }
}

impl Access {
    /// `asks`: whether `auth.required: auto` asks for credentials, because others than this machine can reach the router.
    pub fn new(asks: bool) -> Self {
        Self {
            ring: ArcSwap::default(),
            issuer: ArcSwap::default(),
            tokens: Cache::builder().max_capacity(REMEMBERED).time_to_live(REMEMBERED_FOR).build(),
            fetch: Mutex::default(),
            wanted: Notify::new(),
            fetched: watch::Sender::new(0),
            anonymous: Arc::new(Tenant::anonymous()),
            asks,
        }
    }

    /// Whether requests need a credential under these settings.
    pub fn is_required(&self, auth: &Auth) -> bool {
        match auth.required {
            Required::Always => true,
            Required::Never => false,
            Required::Auto => self.asks,
        }
    }

    pub fn ring(&self) -> Arc<Keyring> {
        self.ring.load_full()
    }

    /// Puts newer keys in force.
    pub fn replace_ring(&self, ring: Keyring) {
        self.ring.store(Arc::new(ring));
    }

    /// Whoever shows `credential`. `generation` is that of the settings: what was found out under others counts no more.
    ///
    /// Where none is needed, anything that is plainly not ours lets its bearer in as nobody in particular: clients often
    /// have to send something. A key or token of ours has to be good all the same.
    pub async fn identify(
        &self,
        auth: &Auth,
        generation: u64,
        credential: Option<&str>,
        now_ms: i64,
    ) -> Result<Arc<Tenant>, Refused> {
        let nobody = |refused: Refused| match self.is_required(auth) {
            true => Err(refused),
            false => Ok(self.anonymous.clone()),
        };
        let Some(shown) = credential.filter(|shown| !shown.is_empty()) else { return nobody(Refused::Missing) };
        if shown.starts_with(secret::PREFIX) {
            return self.key(shown, now_ms);
        }
        match &auth.jwt {
            Some(rules) if looks_like_a_token(shown) => self.token(shown, rules, generation, now_ms).await,
            _ => nobody(Refused::Foreign),
        }
    }

    fn key(&self, text: &str, now_ms: i64) -> Result<Arc<Tenant>, Refused> {
        if !secret::is_wellformed(text) {
            return Err(Refused::Mistyped);
        }
        match self.ring.load().find(text, now_ms) {
            Ok(tenant) => Ok(tenant.clone()),
            Err(Closed::Unknown) => Err(Refused::Unknown),
            Err(Closed::Revoked) => Err(Refused::Revoked),
            Err(Closed::Expired) => Err(Refused::Expired),
        }
    }

    async fn token(&self, token: &str, rules: &Jwt, generation: u64, now_ms: i64) -> Result<Arc<Tenant>, Refused> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&generation.to_le_bytes()).update(token.as_bytes());
        let seen = *hasher.finalize().as_bytes();
        let now_s = now_ms.div_euclid(1000);
        if let Some((tenant, expires)) = self.tokens.get(&seen)
            && now_s < expires
        {
            return Ok(tenant);
        }
        let (tenant, expires) = match self.verify(token, rules, now_s) {
            Err(BadToken::UnknownKey) => {
                // Also where there is nothing to wait for: the keys may have come since.
                self.newer_keys().await;
                self.verify(token, rules, now_s)?
            }
            result => result?,
        };
        let tenant = Arc::new(tenant);
        self.tokens.insert(seen, (tenant.clone(), expires));
        Ok(tenant)
    }

    fn verify(&self, token: &str, rules: &Jwt, now_s: i64) -> Result<(Tenant, i64), BadToken> {
        let issuer = self.issuer.load();
        let (address, keys) = &**issuer;
        if *address != rules.jwks_url {
            return Err(BadToken::UnknownKey);
        }
        keys.verify(token, rules, now_s)
    }

    /// Waits for a fetch of the issuer's keys, unless there was one a moment ago.
    async fn newer_keys(&self) {
        let mut fetched = self.fetched.subscribe();
        {
            let mut fetch = self.fetch.lock();
            if !fetch.running {
                if fetch.asked.is_some_and(|asked| asked.elapsed() < REFRESH_PAUSE) {
                    return;
                }
                *fetch = Fetch { asked: Some(Instant::now()), running: true };
                self.wanted.notify_one();
            }
        }
        let _ = tokio::time::timeout(REFRESH_WAIT, fetched.changed()).await;
    }

    /// Until somebody needs newer keys of the issuer.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// A fetch begins, for whatever reason: all who want one are served by it.
    pub fn fetching(&self) {
        let mut fetch = self.fetch.lock();
        fetch.running = true;
        let _ = self.wanted().now_or_never();
    }

    /// A fetch has ended: `keys` is `None` if it failed, and then those from before go on.
    pub fn fetched(&self, address: &str, keys: Option<KeySet>) {
        let mut fetch = self.fetch.lock();
        fetch.running = false;
        if let Some(keys) = keys {
            if self.issuer.load().0 != address {
                // The first ones: who waited for them asked for nothing unknown.
                fetch.asked = None;
            }
            self.issuer.store(Arc::new((address.to_owned(), keys)));
            self.tokens.invalidate_all();
        }
        drop(fetch);
        self.fetched.send_modify(|count| *count += 1);
    }
}

/// Three parts with dots between, the first the beginning of a JSON object in base64.
fn looks_like_a_token(text: &str) -> bool {
    text.starts_with("ey") && text.bytes().filter(|byte| *byte == b'.').count() == 2
}
