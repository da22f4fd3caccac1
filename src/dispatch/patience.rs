//! Deadlines that tell a silent provider from a process that stood still.
//!
//! A machine that is suspended, a container that is frozen, a debugger: when it goes on, every deadline has passed at once,
//! and what providers sent meanwhile lies unread in the kernel. Who fires late by as much as that gives it time to be read.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

/// A timer that fires so much too late was not the one that was waited for.
const STOOD_STILL: Duration = Duration::from_millis(250);
/// Enough to read what has arrived.
const GRACE: Duration = Duration::from_secs(1);

/// The deadline has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

/// Waits for `future` until `deadline`, or a moment longer if this process did not run when it passed. As cancel-safe as
/// the future, which is dropped when time is over.
pub async fn until<F: Future>(deadline: Instant, future: F) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    if let Ok(output) = timeout_at(deadline, future.as_mut()).await {
        return Ok(output);
    }
    if deadline.elapsed() < STOOD_STILL {
        return Err(Elapsed);
    }
    timeout(GRACE, future).await.map_err(|_| Elapsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_deadline_that_passed_while_the_process_stood_still_leaves_time_to_read() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let waiting = until(Instant::now() + Duration::from_millis(20), receiver);
        let standing_still = async {
            // Blocks the only thread, as a stopped process would; the value is there, but nobody could fetch it.
            tokio::task::yield_now().await;
            #[expect(clippy::disallowed_methods, reason = "it is what is tested")]
            std::thread::sleep(Duration::from_millis(400));
            tokio::time::sleep(Duration::from_millis(10)).await;
            let _ = sender.send(7);
        };
        let (value, ()) = futures_util::future::join(waiting, standing_still).await;
        assert_eq!(value, Ok(Ok(7)));
    }

    #[tokio::test]
    async fn otherwise_it_is_a_deadline() {
        let began = Instant::now();
        assert_eq!(until(began + Duration::from_millis(30), std::future::pending::<()>()).await, Err(Elapsed));
        assert!(began.elapsed() < STOOD_STILL);
    }
}
