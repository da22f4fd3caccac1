//! Who calls: the key or the token that was shown, who holds it, and what its holder may do.
//!
//! Decides from values: files, databases and the network belong to others, and so does counting. A key is shown once and
//! kept as a keyed hash; nothing here prints one.

pub mod access; // credential in, holder out
pub mod jwt; // tokens of an identity provider
pub mod keeper; // makes, rotates and revokes keys
pub mod key; // keys of our own, as they are kept
pub mod keyring; // the keys of one moment, by their hashes
pub mod role; // what a holder may see and change
pub mod seal; // what was said, kept unreadable
pub mod secret; // a key's text: made, checked, hashed
pub mod settings; // what the configuration says
pub mod vault; // the port: where keys are kept

use std::sync::Arc;

use role::Role;
use settings::{Budget, Limits};

/// Whoever holds a credential. Cheap to share; made once per key and version of the configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tenant {
    /// What counters, cached answers and idempotent requests are kept under: it survives a rotation. Empty for callers
    /// without a credential.
    pub id: Arc<str>,
    /// The key's name, or `jwt:` and the token's subject; what the ledger shows. `None` without a credential.
    pub name: Option<Arc<str>>,
    pub team: Option<Arc<str>>,
    pub tier: Option<Arc<str>>,
    pub role: Role,
    /// Free words of the key, comma separated, for reports.
    pub tags: Arc<str>,
    /// What this key may do, besides what its tier and its team may.
    pub limits: Limits,
}

impl Tenant {
    /// A caller without a credential, where none is needed.
    pub fn anonymous() -> Self {
        // Whoever can reach a router that asks for no key owns it already.
        Self { role: Role::Admin, ..Self::default() }
    }

    pub fn is_anonymous(&self) -> bool {
        self.name.is_none()
    }

    /// The budget of the key itself.
    pub fn budget(&self) -> &Budget {
        &self.limits.budget
    }
}
