//! Asking servers which models they have: local ones that may run on this machine, and configured ones without a list.

use std::time::Duration;

use futures_util::future::join_all;

use crate::config::{self, Loaded, Origin};
use crate::provider::adapter;
use crate::provider::transport::Transport;

/// A local server answers in a millisecond or is not there.
const LOCAL: Duration = Duration::from_millis(250);
/// A configured server may be on the other side of the world.
const CONFIGURED: Duration = Duration::from_secs(3);

/// Completes a configuration with what servers say about themselves. Returns warnings for the log.
pub async fn complete(mut loaded: Loaded, transport: &Transport, look_around: bool) -> Loaded {
    if look_around && !matches!(loaded.origin, Origin::File(_)) {
        let candidates = config::local_candidates();
        let answers = join_all(candidates.iter().map(|candidate| async move {
            let models = transport.list_models(candidate.base_url, http::HeaderMap::new(), LOCAL).await?;
            Some((candidate, models))
        }));
        for (candidate, models) in answers.await.into_iter().flatten() {
            config::with_local(&mut loaded, candidate, models);
        }
    }
    let unknown = loaded.settings.discover.clone();
    let answers = join_all(unknown.iter().map(|provider| async move {
        let headers = adapter::headers(provider);
        (provider, transport.list_models(&provider.listing_url(), headers, CONFIGURED).await)
    }));
    for (provider, models) in answers.await {
        match models {
            Some(models) => loaded.settings = loaded.settings.with_models(&provider.name, &models),
            None => loaded.warnings.push(format!(
                "provider `{}` does not list its models at {}/models; it is left out until a reload finds it",
                provider.name,
                provider.listing_url()
            )),
        }
    }
    loaded
}
