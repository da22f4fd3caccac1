//! What a holder may see and change.

use serde::{Deserialize, Serialize};

/// Each role may do what those below it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Asks models, and sees its own requests and usage.
    #[default]
    Member,
    /// Sees everybody's requests, usage and limits, the state of providers and metrics; drains and reloads.
    Operator,
    /// Also makes and revokes keys.
    Admin,
}

impl Role {
    pub const ALL: [Self; 3] = [Self::Member, Self::Operator, Self::Admin];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == word)
    }
}
