//! What operators see: metrics, traces, the access log, times in headers, and what is shipped to look at them.

mod access;
mod metrics;
mod propagation;
mod shipped;
mod timing;
mod traces;
