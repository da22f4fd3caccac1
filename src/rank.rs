//! Which targets may answer, in what order, and why. Pure: no network, no clock; randomness is an argument.
//!
//! [`select`] turns a model name into groups of targets, [`plan`] filters and orders them. The same function answers
//! `POST /v1/route`, `stepwell route` and the real thing, so that what is explained is what happens.

mod balance;
pub mod explain;
pub mod hints;
pub mod needs;
pub mod plan;
pub mod reason;
pub mod score;
pub mod select;
pub mod settings;

#[cfg(test)]
mod tests;
