//! Tokens before the call, tokens and money after it.

pub mod estimate;
pub mod price;
