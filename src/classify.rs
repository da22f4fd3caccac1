//! Which task a prompt belongs to.
