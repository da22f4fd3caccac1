//! Upstreams that refuse, fail, lie or are not there.
