//! How many files and sockets the process may have open, who gets how many of them, and how large a file may grow.

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use tokio::signal::unix::{self, SignalKind};

/// Standard streams, the listener, the workers' timers and wake-ups, the database and its readers.
const OWN: u64 = 48;
/// With no limit at all, this many are as good as any.
const PLENTY: u64 = 1 << 20;
/// Fewer connections than this are not worth having.
const LEAST: u64 = 8;

/// Raises the soft limit to the hard one: a limit of 1,024 is a habit of shells and no decision about a server. Returns
/// the limit now in force.
pub fn raise() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let limit = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    limit.unwrap_or(PLENTY)
}

/// Connections that callers may have at a time if nothing is configured: three fifths of what is left after our own files.
/// Most callers wait for an upstream connection that other callers do not need at the moment; the rest is for those.
pub fn share_of_callers() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(PLENTY).min(PLENTY);
    usize::try_from((limit.saturating_sub(OWN) * 3 / 5).max(LEAST)).unwrap_or(usize::MAX)
}

/// Writing beyond the limit on file sizes kills a process that does not listen for the signal; one that does gets an error
/// from the write. Holds for good once it was called.
pub fn outlive_file_limits() -> Option<unix::Signal> {
    unix::signal(SignalKind::from_raw(Signal::XFSZ.as_raw())).ok()
}
