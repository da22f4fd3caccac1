//! The public keys of the identity provider: fetched at the start, in turn, and when a token names one that is not there.
//!
//! Keys that were fetched go on while the issuer cannot be reached.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::gateway::Gateway;
use crate::tenant::access::Access;
use crate::tenant::jwt::KeySet;
use crate::tenant::settings::Jwt;

/// How long a fetch may take. Requests with an unknown key wait for it a little longer.
const TIMEOUT: Duration = Duration::from_millis(2_500);
/// After a fetch that failed.
const AGAIN: Duration = Duration::from_secs(10);
/// How often a reload that names another issuer is noticed.
const LOOK: Duration = Duration::from_secs(1);
/// Longest set of keys, in bytes.
const LONGEST: usize = 1 << 20;

pub async fn follow(gateway: Arc<Gateway>, access: Arc<Access>, stop: CancellationToken) {
    let mut last: Option<(String, tokio::time::Instant)> = None;
    loop {
        let rules = gateway.rules();
        let Some(jwt) = &rules.settings.tenants.auth.jwt else {
            last = None;
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => continue,
            }
        };
        let due = match &last {
            Some((url, at)) if *url == jwt.jwks_url => *at,
            _ => tokio::time::Instant::now(),
        };
        let fetch = tokio::select! {
            () = stop.cancelled() => return,
            () = access.wanted() => true,
            () = tokio::time::sleep_until(due) => true,
            () = tokio::time::sleep(LOOK) => false,
        };
        if !fetch {
            continue;
        }
        access.fetching();
        let keys = tokio::select! {
            () = stop.cancelled() => return,
            keys = fetched(&gateway, jwt) => keys,
        };
        let again = if keys.is_some() { jwt.refresh.0 } else { AGAIN };
        access.fetched(&jwt.jwks_url, keys);
        last = Some((jwt.jwks_url.clone(), tokio::time::Instant::now() + again));
    }
}

async fn fetched(gateway: &Gateway, jwt: &Jwt) -> Option<KeySet> {
    let url = &jwt.jwks_url;
    let result = gateway.dispatcher.transport.document(url, TIMEOUT, LONGEST).await;
    let read = result
        .and_then(|bytes| KeySet::read(&bytes).map_err(|error| format!("what is there is no set of keys: {error}")));
    match read {
        Ok(keys) if !keys.is_empty() => Some(keys),
        Ok(_) => {
            tracing::error!(url, "the issuer publishes no key that can be used; those from before go on");
            None
        }
        Err(error) => {
            tracing::error!(url, "the issuer's keys cannot be fetched; those from before go on: {error}");
            None
        }
    }
}
