//! The store that all replicas share, if there is one: begun at the start, told everything whenever it is found.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use super::accounts;
use crate::config::Shared as Settings;
use crate::gateway::Gateway;
use crate::store::Home;
use crate::store::redis::Redis;
use crate::tenant::access::Access;
use crate::tenant::secret::Pepper;

/// The start waits so long for the store; then it serves without, and says so.
const ARRIVAL: Duration = Duration::from_secs(2);

/// The name of the ledger of all replicas that write into one database.
pub(super) const COMMON_LEDGER: &str = "common";

/// Begins to look for the store. Fails only for a URL that leads nowhere, and where the replica's name cannot be kept.
pub fn start(settings: Option<&Settings>, home: &Home, pepper: &Pepper) -> anyhow::Result<Option<Arc<Redis>>> {
    let Some(settings) = settings else { return Ok(None) };
    let is_common = matches!(home, Home::Shared { .. });
    let home =
        self::home(home.beside()).context("the name of this replica, in a file beside the database, cannot be kept")?;
    // What a ledger says was spent is told once for each ledger: one for all, or one for each replica.
    let ledger = if is_common { COMMON_LEDGER } else { &home };
    Ok(Some(Arc::new(Redis::start(settings, &home, ledger, pepper.clone())?)))
}

/// The name of this replica: as lasting as its data, so that what it held when it was killed is found again.
pub(super) fn home(database: &Path) -> std::io::Result<String> {
    let path = database.with_extension("replica");
    if let Ok(name) = std::fs::read_to_string(&path)
        && name.trim().len() == 32
    {
        return Ok(name.trim().to_owned());
    }
    let name = uuid::Uuid::new_v4().simple().to_string();
    std::fs::write(&path, &name)?;
    Ok(name)
}

/// Waits a little for the store, so that the first requests find it.
pub async fn arrive(redis: &Redis, gateway: &Gateway) {
    if redis.found(ARRIVAL).await {
        gateway.tell_all();
    } else {
        tracing::warn!("serving without the store that all replicas share (`shared`)");
    }
}

/// Tells the store everything whenever it was found anew, until `stop`: it may have forgotten.
pub async fn follow(redis: Arc<Redis>, gateway: Arc<Gateway>, access: Arc<Access>, stop: CancellationToken) {
    let mut terms = redis.terms();
    loop {
        let found = tokio::select! {
            () = stop.cancelled() => return,
            found = terms.wait_for(|term| *term > 0) => found.map(|term| *term),
        };
        let Ok(_) = found else { return };
        gateway.tell_all();
        // A ledger that others write, too, knows more by now.
        let rules = gateway.rules();
        if let Err(error) = accounts::open(&gateway, &rules.settings.tenants, &access.ring()).await {
            tracing::error!("the shared store is not told what the ledger says was spent: {error}");
        }
        gateway.tell_all();
        tokio::select! {
            () = stop.cancelled() => return,
            changed = terms.changed() => if changed.is_err() { return },
        }
    }
}
