//! Pages of other origins (`server.cors`): tower-http's layer, as the rules in force want it.
//!
//! A preflight is answered here, before anybody is asked for a key: browsers send none with it. Off, it costs a request
//! one look at the rules.

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::HeaderName;
use http::header::RETRY_AFTER;
use tower::{Layer, Service};
use tower_http::cors::{AllowHeaders, AllowOrigin, Any, CorsLayer};

use super::edge::REQUEST_ID;
use crate::config;
use crate::gateway::Gateway;

/// What a page may read of an answer, beside the few headers that it always may.
const EXPOSED: [&str; 22] = [
    "x-stepwell-provider",
    "x-stepwell-model",
    "x-stepwell-task",
    "x-stepwell-strategy",
    "x-stepwell-reason",
    "x-stepwell-attempts",
    "x-stepwell-cache",
    "x-stepwell-cost-usd",
    "x-stepwell-response-time-ms",
    "x-stepwell-guards",
    "x-stepwell-warnings",
    "x-ratelimit-limit-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-requests",
    "x-ratelimit-reset-tokens",
    "x-should-retry",
    "server-timing",
    "idempotent-replayed",
    "traceparent",
    "allow",
];

/// The permissions in force.
pub struct Cors {
    gateway: Arc<Gateway>,
    /// Made anew when there are new rules.
    compiled: ArcSwap<Compiled>,
}

struct Compiled {
    version: u64,
    layer: Option<CorsLayer>,
}

impl Cors {
    pub fn new(gateway: Arc<Gateway>) -> Self {
        let compiled = ArcSwap::from_pointee(compiled(&gateway));
        Self { gateway, compiled }
    }

    /// Answers a preflight, or lets the request through and says who may read the answer.
    pub async fn around(&self, request: Request, next: Next) -> Response {
        let mut in_force = self.compiled.load();
        if in_force.version != self.gateway.rules().version {
            self.compiled.store(Arc::new(compiled(&self.gateway)));
            in_force = self.compiled.load();
        }
        match &in_force.layer {
            None => next.run(request).await,
            Some(layer) => {
                let Ok(response) = layer.layer(next).call(request).await;
                response
            }
        }
    }
}

fn compiled(gateway: &Gateway) -> Compiled {
    let rules = gateway.rules();
    Compiled { version: rules.version, layer: rules.settings.server.cors.as_ref().map(layer) }
}

fn layer(cors: &config::Cors) -> CorsLayer {
    let origins = match &cors.origins {
        None => AllowOrigin::from(Any),
        Some(origins) => AllowOrigin::list(origins.iter().cloned()),
    };
    let headers = match &cors.headers {
        None => AllowHeaders::mirror_request(),
        Some(headers) => AllowHeaders::list(headers.iter().cloned()),
    };
    let exposed = EXPOSED.into_iter().map(HeaderName::from_static).chain([REQUEST_ID, RETRY_AFTER]);
    CorsLayer::new()
        .allow_origin(origins)
        .allow_headers(headers)
        .allow_methods(cors.methods.clone())
        .allow_credentials(cors.credentials)
        .max_age(cors.max_age.0)
        .expose_headers(exposed.collect::<Vec<_>>())
}
