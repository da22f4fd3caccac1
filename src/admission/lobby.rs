//! Where a request waits for a place at a provider whose `max_concurrency`, configured or learned, is reached.
//!
//! Bounded by the same settings as the gate's queue. A place that becomes free is handed over, by turn of callers: what
//! is handed (`T`) holds the place, so that no newcomer can take it in between, and gives it on when it is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::queue::{Entered, Queue, Ticket};
use super::settings::Settings;
use super::{Caller, Shed};

#[derive(Debug)]
pub struct Lobby<T> {
    queue: Mutex<Queue<Guest<T>>>,
    /// The queue's length, for those who free places while nobody waits.
    waiting: AtomicUsize,
}

impl<T> Default for Lobby<T> {
    fn default() -> Self {
        Self { queue: Mutex::default(), waiting: AtomicUsize::new(0) }
    }
}

#[derive(Debug)]
struct Guest<T> {
    /// Providers of which any would do.
    providers: Arc<[Arc<str>]>,
    /// Told a place, or nothing: look again.
    wake: oneshot::Sender<Option<T>>,
}

/// A stay in the lobby: ends when its time is over, however often it was told to look again.
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

impl<T> Lobby<T> {
    /// Requests that wait.
    pub fn len(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits for a place at one of `providers`; `None` says that things have changed and a new look is due. Dropping the
    /// future leaves the lobby. `missed` is called once the request is in line: true if a place became free in between.
    pub async fn wait(
        &self,
        stay: &mut Stay,
        settings: &Settings,
        providers: Arc<[Arc<str>]>,
        missed: impl FnOnce() -> bool,
    ) -> Result<Option<T>, Shed> {
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
        let _entry = Entry { lobby: self, caller: stay.caller, ticket };
        stay.woken = true;
        // Looked at once more: a place that became free before this request was in line is offered to nobody.
        if missed() {
            return Ok(None);
        }
        match tokio::time::timeout_at(stay.deadline, woken).await {
            Ok(Ok(place)) => Ok(place),
            // Displaced by somebody with a shorter line.
            Ok(Err(_)) => Err(Shed::Greedy),
            Err(_) => Err(Shed::TooLate { waited: stay.patience }),
        }
    }

    /// `provider` takes nobody for a while: all who wait for it look elsewhere, or are told.
    pub fn give_up_on(&self, provider: &Arc<str>) {
        if self.is_empty() {
            return;
        }
        let mut queue = self.queue.lock();
        while let Some((_, guest)) = queue.take(|_, guest| guest.providers.contains(provider)) {
            let _ = guest.wake.send(None);
        }
        self.waiting.store(queue.len(), Ordering::SeqCst);
    }

    /// True if somebody waits for a place at `provider`. One atomic load if nobody waits at all.
    pub fn wants(&self, provider: &Arc<str>) -> bool {
        !self.is_empty() && self.queue.lock().is_any_first(|guest| guest.providers.contains(provider))
    }

    /// Hands a place at `provider` over to whose turn it is; gives it back if nobody wants it.
    pub fn offer(&self, provider: &Arc<str>, place: T) -> Option<T> {
        let mut place = Some(place);
        let mut queue = self.queue.lock();
        while place.is_some()
            && let Some((_, guest)) = queue.take(|_, guest| guest.providers.contains(provider))
        {
            // Given back by one who left in this moment.
            place = guest.wake.send(place).err().flatten();
        }
        self.waiting.store(queue.len(), Ordering::SeqCst);
        place
    }
}

/// An entry in the queue; leaves it when dropped.
struct Entry<'a, T> {
    lobby: &'a Lobby<T>,
    caller: Caller,
    ticket: Ticket,
}

impl<T> Drop for Entry<'_, T> {
    fn drop(&mut self) {
        let mut queue = self.lobby.queue.lock();
        let _left = queue.remove(self.caller, self.ticket);
        self.lobby.waiting.store(queue.len(), Ordering::SeqCst);
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
    async fn a_place_goes_to_one_who_wants_it() {
        let (lobby, settings) = (Lobby::default(), settings(8));
        let (mut a, mut b) = (Stay::begin(Caller(1), &settings), Stay::begin(Caller(2), &settings));
        let mut at_x = std::pin::pin!(lobby.wait(&mut a, &settings, names(&["x"]), || false));
        let mut at_y = std::pin::pin!(lobby.wait(&mut b, &settings, names(&["y", "z"]), || false));
        assert!(futures_util::poll!(at_x.as_mut()).is_pending() && futures_util::poll!(at_y.as_mut()).is_pending());
        let z: Arc<str> = Arc::from("z");
        assert!(lobby.wants(&z) && !lobby.wants(&Arc::from("q")));
        assert_eq!(lobby.offer(&z, 7), None);
        assert!(futures_util::poll!(at_x.as_mut()).is_pending());
        assert_eq!(at_y.await, Ok(Some(7)));
        assert_eq!(lobby.len(), 1);
        assert_eq!(lobby.offer(&z, 8), Some(8), "nobody wants it any more");
    }

    #[tokio::test]
    async fn a_stay_ends_however_often_it_looks_again() {
        let (lobby, settings) = (Lobby::<()>::default(), settings(8));
        let mut stay = Stay::begin(Caller(1), &settings);
        let began = Instant::now();
        assert_eq!(lobby.wait(&mut stay, &settings, names(&["x"]), || true).await, Ok(None));
        assert!(matches!(lobby.wait(&mut stay, &settings, names(&["x"]), || false).await, Err(Shed::TooLate { .. })));
        assert!((PATIENCE..3 * PATIENCE).contains(&began.elapsed()));
        assert!(lobby.is_empty());
    }

    #[tokio::test]
    async fn who_waits_for_one_that_takes_nobody_looks_again() {
        let (lobby, settings) = (Lobby::<()>::default(), settings(8));
        let mut stay = Stay::begin(Caller(1), &settings);
        let mut waiting = std::pin::pin!(lobby.wait(&mut stay, &settings, names(&["x"]), || false));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        lobby.give_up_on(&Arc::from("x"));
        assert_eq!(waiting.await, Ok(None));
    }

    #[tokio::test]
    async fn a_place_whose_guest_left_goes_to_the_next() {
        let (lobby, settings) = (Lobby::default(), settings(8));
        let (mut a, mut b) = (Stay::begin(Caller(1), &settings), Stay::begin(Caller(2), &settings));
        let mut first = Box::pin(lobby.wait(&mut a, &settings, names(&["x"]), || false));
        let mut second = std::pin::pin!(lobby.wait(&mut b, &settings, names(&["x"]), || false));
        assert!(futures_util::poll!(first.as_mut()).is_pending() && futures_util::poll!(second.as_mut()).is_pending());
        drop(first);
        assert_eq!(lobby.offer(&Arc::from("x"), 7), None);
        assert_eq!(second.await, Ok(Some(7)));
    }

    #[tokio::test]
    async fn a_full_lobby_refuses_at_once() {
        let (lobby, settings) = (Lobby::<()>::default(), settings(0));
        let mut stay = Stay::begin(Caller(1), &settings);
        assert!(matches!(lobby.wait(&mut stay, &settings, names(&["x"]), || false).await, Err(Shed::Full { .. })));
    }
}
