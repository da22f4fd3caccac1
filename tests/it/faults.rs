//! Faults that the router must survive, one test a fault, named after its id.
//!
//! A: the upstream refuses or is down. B: streaming. C: callers and load. D: state and process. E: secrets and trust.
//! `docs/reliability.md` says what is promised for each.

mod callers; // C01 to C05
mod load; // A20 to A22, C06, C07, C10 to C12
mod secrets; // E03
mod state; // D
mod streaming; // B
mod trust; // E01, E02, E04
mod upstream; // A01 to A19, A23
