//! Streams that break, stall, lie or are left.
