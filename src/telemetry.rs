//! What the router says about itself: the names of its metrics, and the place of a request in a trace.
//!
//! Names and rules only. Nothing here counts, sends or reads a clock, and nothing holds a caller's text: a label has few
//! values, and a trace is numbers.

pub mod manual; // docs/metrics.md
pub mod metric; // every metric, in one table
pub mod page; // states as Prometheus text, at the moment they are asked for
pub mod settings; // what goes to a collector
pub mod trace; // the W3C trace context
