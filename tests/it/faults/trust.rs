//! Whom a credential is sent to, and what of a caller reaches a provider.
