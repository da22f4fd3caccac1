//! What every test needs: a scripted upstream and a running router.

pub mod app;
pub mod balancer;
pub mod batching;
pub mod certificate;
pub mod collector;
pub mod process;
pub mod raw;
pub mod servers;
pub mod upstream;

pub use app::{App, Streamed, app};
pub use upstream::{Upstream, upstream};
