//! Where a request waits for a place at a provider whose `max_concurrency`, configured or learned, is reached.
//!
//! Bounded by the same settings as the gate's queue. One freed place wakes one request, by turn of callers; it decides
//! anew and may find that somebody else was faster, then it waits on, first in its line.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::queue::{Entered, Queue, Ticket};
use super::settings::Settings;
use super::{Caller, Shed};

#[derive(Debug, Default)]
pub struct Lobby {
    queue: Mutex<Queue<Guest>>,
    /// The queue's length, for those who free places while nobody waits.
    waiting: AtomicUsize,
}

#[derive(Debug)]
struct Guest {
    /// Providers of which any would do.
    providers: Arc<[Arc<str>]>,
    wake: oneshot::Sender<()>,
}

/// A stay in the lobby: ends when its time is over, however often it was woken in vain.
#[derive(Debug)]
pub struct Stay {
    caller: Caller,
    deadline: Instant,
    patience: Duration,
    woken: bool,
}

impl Stay {
    pub fn begin(caller: Caller, settings: &Settings) -> Self {
        let patience = settings.queue_timeout.0;
        Self { caller, deadline: Instant::now() + patience, patience, woken: false }
    }
}

impl Lobby {
    /// Requests that wait.
    pub fn len(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until a place at one of `providers` may be free. Dropping the future leaves the lobby. `missed` is called
    /// once the request is in line: true if a place became free in between.
    pub async fn wait(
        &self,
        stay: &mut Stay,
        settings: &Settings,
        providers: Arc<[Arc<str>]>,
        missed: impl FnOnce() -> bool,
    ) -> Result<(), Shed> {
        let (wake, woken) = oneshot::channel();
        let guest = Guest { providers: providers.clone(), wake };
        let ticket = {
            let mut queue = self.queue.lock();
            let ticket = if stay.woken {
                queue.put_back(stay.caller, guest)
            } else {
                match queue.enter(stay.caller, guest, settings.queue as usize) {
                    // The displaced one sees that nobody will wake it.
                    Entered::Waiting(ticket) | Entered::Displaced(ticket, _) => ticket,
                    Entered::Refused(_) => {
                        return Err(Shed::Full { max_in_flight: settings.max_in_flight, queue: settings.queue });
                    }
                }
            };
            self.waiting.store(queue.len(), Ordering::SeqCst);
            ticket
        };
        let mut place = Place { lobby: self, caller: stay.caller, ticket, providers, used: false };
        // Looked at once more: a place that became free before this request was in line wakes nobody.
        if missed() {
            place.used = true;
            stay.woken = true;
            return Ok(());
        }
        let result = tokio::time::timeout_at(stay.deadline, woken).await;
        // Woken, or displaced by somebody with a shorter line: in both cases no place was missed.
        place.used = result.is_ok();
        match result {
            Ok(Ok(())) => {
                stay.woken = true;
                Ok(())
            }
            Ok(Err(_)) => Err(Shed::Greedy),
            Err(_) => Err(Shed::TooLate { waited: stay.patience }),
        }
    }

    /// `provider` takes nobody for a while: wakes all who wait for it, so that they look elsewhere or are told.
    pub fn give_up_on(&self, provider: &Arc<str>) {
        if self.is_empty() {
            return;
        }
        let mut queue = self.queue.lock();
        while let Some((_, guest)) = queue.take(|_, guest| guest.providers.contains(provider)) {
            let _ = guest.wake.send(());
        }
        self.waiting.store(queue.len(), Ordering::SeqCst);
    }

    /// A place at `provider` has become free: wakes one request.
    pub fn freed(&self, provider: &Arc<str>) {
        if self.is_empty() {
            return;
        }
        let mut queue = self.queue.lock();
        while let Some((_, guest)) = queue.take(|_, guest| guest.providers.contains(provider)) {
            if guest.wake.send(()).is_ok() {
                break;
            }
        }
        self.waiting.store(queue.len(), Ordering::SeqCst);
    }
}

/// An entry in the queue; leaves it when dropped.
struct Place<'a> {
    lobby: &'a Lobby,
    caller: Caller,
    ticket: Ticket,
    providers: Arc<[Arc<str>]>,
    /// It was woken and will look for its place.
    used: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let waited = {
            let mut queue = self.lobby.queue.lock();
            let waited = queue.remove(self.caller, self.ticket).is_some();
            self.lobby.waiting.store(queue.len(), Ordering::SeqCst);
            waited
        };
        // Woken, and left in the same moment: the place is somebody else's.
        if !waited && !self.used {
            for provider in &*self.providers {
                self.lobby.freed(provider);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Span;

    const PATIENCE: Duration = Duration::from_millis(30);

    fn settings(queue: u32) -> Settings {
        Settings { queue, queue_timeout: Span(PATIENCE), ..Settings::default() }
    }

    fn names(names: &[&str]) -> Arc<[Arc<str>]> {
        names.iter().map(|name| Arc::from(*name)).collect()
    }

    #[tokio::test]
    async fn one_free_place_wakes_one_who_wants_it() {
        let (lobby, settings) = (Lobby::default(), settings(8));
        let (mut a, mut b) = (Stay::begin(Caller(1), &settings), Stay::begin(Caller(2), &settings));
        let mut at_x = std::pin::pin!(lobby.wait(&mut a, &settings, names(&["x"]), || false));
        let mut at_y = std::pin::pin!(lobby.wait(&mut b, &settings, names(&["y", "z"]), || false));
        assert!(futures_util::poll!(at_x.as_mut()).is_pending() && futures_util::poll!(at_y.as_mut()).is_pending());
        lobby.freed(&Arc::from("z"));
        assert!(futures_util::poll!(at_x.as_mut()).is_pending());
        assert_eq!(at_y.await, Ok(()));
        assert_eq!(lobby.len(), 1);
    }

    #[tokio::test]
    async fn a_stay_ends_however_often_it_is_woken_in_vain() {
        let (lobby, settings) = (Lobby::default(), settings(8));
        let mut stay = Stay::begin(Caller(1), &settings);
        assert_eq!(lobby.wait(&mut stay, &settings, names(&["x"]), || true).await, Ok(()));
        let began = Instant::now();
        assert!(matches!(lobby.wait(&mut stay, &settings, names(&["x"]), || false).await, Err(Shed::TooLate { .. })));
        assert!(began.elapsed() >= PATIENCE);
        assert!(lobby.is_empty());
    }

    #[tokio::test]
    async fn a_wake_that_nobody_fetches_goes_to_the_next() {
        let (lobby, settings) = (Lobby::default(), settings(8));
        let (mut a, mut b) = (Stay::begin(Caller(1), &settings), Stay::begin(Caller(2), &settings));
        let mut first = Box::pin(lobby.wait(&mut a, &settings, names(&["x"]), || false));
        let mut second = std::pin::pin!(lobby.wait(&mut b, &settings, names(&["x"]), || false));
        assert!(futures_util::poll!(first.as_mut()).is_pending() && futures_util::poll!(second.as_mut()).is_pending());
        lobby.freed(&Arc::from("x"));
        drop(first);
        assert_eq!(second.await, Ok(()));
    }

    #[tokio::test]
    async fn a_full_lobby_refuses_at_once() {
        let (lobby, settings) = (Lobby::default(), settings(0));
        let mut stay = Stay::begin(Caller(1), &settings);
        assert!(matches!(lobby.wait(&mut stay, &settings, names(&["x"]), || false).await, Err(Shed::Full { .. })));
    }
}
