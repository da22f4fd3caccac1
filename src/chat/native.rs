//! A request in the words of the dialect that its caller spoke, kept for providers that speak the same.

use bytes::Bytes;

/// The dialects besides chat completions in which a body may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Anthropic's Messages.
    Messages,
}

/// What the caller wrote, before it became a chat request.
#[derive(Clone, Debug)]
pub struct Native {
    pub dialect: Dialect,
    /// A JSON object without `model`, `stream` and stepwell's own members: whoever sends it adds the first two.
    pub body: Bytes,
    /// What the chat request cannot say of it, for `x-stepwell-warnings` where another dialect is spoken.
    pub notes: Vec<String>,
}
