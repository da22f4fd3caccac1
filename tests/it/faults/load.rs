//! More work than there is room for, and upstreams that cannot take it.
