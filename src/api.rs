//! What the outside sees: the only module, besides `app`, that knows axum and HTTP status codes.
//!
//! [`router`] has every path on one page, [`edge`] every layer in one list.

pub mod batches;
pub mod budgets;
pub mod caller;
pub mod chat;
pub mod compression;
pub mod cors;
mod docs;
pub mod edge;
pub mod error;
pub mod events;
pub mod files;
pub mod health;
pub mod hints;
pub mod idempotency;
pub mod keys;
pub mod later;
pub mod limits;
pub mod metrics;
pub mod models;
pub mod openapi;
pub mod operate;
pub mod progress;
pub mod requests;
pub mod route;
pub mod router;
pub mod sagas;
pub mod secure;
pub mod speech;
pub mod sse;
pub mod usage;
