//! How many requests are answered at once, all callers together.
//!
//! While others are about, one caller cannot have the last places: a part of them is kept for those below their share, so
//! that a flood costs its neighbours the time of one finished answer at most.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::queue::{Entered, Queue, Ticket};
use super::settings::Settings;
use super::{Caller, Shed};

/// A caller counts for fairness this long after its last request.
const ABOUT: Duration = Duration::from_secs(10);
/// How often callers who are not about any more are looked for.
const TIDY: Duration = Duration::from_secs(1);
/// One place in so many is kept for callers below their share.
const KEPT: u32 = 16;

/// The gate. Share it behind an `Arc`.
#[derive(Debug)]
pub struct Gate {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    settings: Settings,
    in_flight: u32,
    callers: HashMap<Caller, Present>,
    queue: Queue<oneshot::Sender<Result<Permit, Shed>>>,
    tidied: Instant,
}

/// A caller who is about.
#[derive(Debug)]
struct Present {
    in_flight: u32,
    seen: Instant,
}

/// A place. Dropping it gives it to whoever waits.
#[derive(Debug)]
pub struct Permit {
    gate: Option<Arc<Gate>>,
    caller: Caller,
}

impl Gate {
    pub fn new(settings: Settings) -> Arc<Self> {
        let state =
            State { settings, in_flight: 0, callers: HashMap::new(), queue: Queue::default(), tidied: Instant::now() };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// New settings; those who are in stay in.
    pub fn configure(self: &Arc<Self>, settings: Settings) {
        let mut state = self.state.lock();
        state.settings = settings;
        self.serve(&mut state);
    }

    /// Requests that have a place, and those that wait for one.
    pub fn occupancy(&self) -> (u32, usize) {
        let state = self.state.lock();
        (state.in_flight, state.queue.len())
    }

    /// Refuses a request that would be refused after its body was read, too.
    pub fn check(&self, caller: Caller) -> Result<(), Shed> {
        let state = self.state.lock();
        let hopeless = state.queue.would_refuse(caller, state.settings.queue as usize) && !state.admits(caller);
        if hopeless { Err(state.refusal(caller)) } else { Ok(()) }
    }

    /// Waits for a place, for `overload.queue_timeout` at most. Dropping the future leaves the queue.
    pub async fn enter(self: &Arc<Self>, caller: Caller) -> Result<Permit, Shed> {
        let (waiting, patience, mut answer) = {
            let mut state = self.state.lock();
            state.tidy();
            if state.queue.waiting_of(caller) == 0 && state.admits(caller) {
                return Ok(self.take(&mut state, caller));
            }
            let (sender, receiver) = oneshot::channel();
            let limit = state.settings.queue as usize;
            let ticket = match state.queue.enter(caller, sender, limit) {
                Entered::Waiting(ticket) => ticket,
                Entered::Displaced(ticket, displaced) => {
                    let _ = displaced.send(Err(Shed::Greedy));
                    ticket
                }
                Entered::Refused(_) => return Err(state.refusal(caller)),
            };
            (Waiting { gate: self, caller, ticket }, state.settings.queue_timeout.0, receiver)
        };
        let result = tokio::time::timeout(patience, &mut answer).await;
        drop(waiting);
        match result {
            Ok(Ok(result)) => result,
            // A place that came in the same moment is taken.
            Ok(Err(_)) | Err(_) => answer.try_recv().unwrap_or(Err(Shed::TooLate { waited: patience })),
        }
    }

    fn take(self: &Arc<Self>, state: &mut State, caller: Caller) -> Permit {
        state.in_flight += 1;
        let present = state.callers.entry(caller).or_insert_with(|| Present { in_flight: 0, seen: Instant::now() });
        present.in_flight += 1;
        Permit { gate: Some(self.clone()), caller }
    }

    fn release(self: &Arc<Self>, caller: Caller) {
        let mut state = self.state.lock();
        state.in_flight -= 1;
        if let Some(present) = state.callers.get_mut(&caller) {
            present.in_flight -= 1;
            present.seen = Instant::now();
        }
        self.serve(&mut state);
    }

    /// Gives free places to those who wait.
    fn serve(self: &Arc<Self>, state: &mut State) {
        while state.in_flight < state.settings.max_in_flight && !state.queue.is_empty() {
            let mut queue = std::mem::take(&mut state.queue);
            let taken = queue.take(|caller, _| state.admits(caller));
            state.queue = queue;
            let Some((caller, sender)) = taken else { return };
            let permit = self.take(state, caller);
            if let Err(Ok(mut permit)) = sender.send(Ok(permit)) {
                // It left in this moment. Not dropped here: that would lock again.
                permit.gate = None;
                state.in_flight -= 1;
                if let Some(present) = state.callers.get_mut(&caller) {
                    present.in_flight -= 1;
                }
            }
        }
    }
}

impl State {
    /// Whether a caller may have one of the free places.
    fn admits(&self, caller: Caller) -> bool {
        let max = self.settings.max_in_flight;
        let free = max.saturating_sub(self.in_flight);
        if free == 0 {
            return false;
        }
        let own = self.callers.get(&caller).map_or(0, |present| present.in_flight);
        let alone = self.callers.is_empty() || (self.callers.len() == 1 && self.callers.contains_key(&caller));
        if alone {
            return true;
        }
        let about = self.callers.len() + usize::from(!self.callers.contains_key(&caller));
        // Rounded up: shares that leave a remainder would leave it empty.
        let share = max.div_ceil(u32::try_from(about).unwrap_or(u32::MAX));
        own < share || free > max / KEPT
    }

    fn refusal(&self, caller: Caller) -> Shed {
        let own = self.callers.get(&caller).map_or(0, |present| present.in_flight);
        let others = self.callers.iter().any(|(other, present)| *other != caller && present.in_flight > 0);
        let about = u32::try_from(self.callers.len()).unwrap_or(u32::MAX).max(1);
        if others && own > self.settings.max_in_flight / about {
            return Shed::Greedy;
        }
        Shed::Full { max_in_flight: self.settings.max_in_flight, queue: self.settings.queue }
    }

    /// Forgets callers who are not about any more.
    fn tidy(&mut self) {
        let now = Instant::now();
        if now.saturating_duration_since(self.tidied) < TIDY {
            return;
        }
        self.tidied = now;
        self.callers.retain(|_, present| present.in_flight > 0 || now.saturating_duration_since(present.seen) < ABOUT);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(gate) = self.gate.take() {
            gate.release(self.caller);
        }
    }
}

/// An entry in the queue; leaves it when dropped.
struct Waiting<'a> {
    gate: &'a Arc<Gate>,
    caller: Caller,
    ticket: Ticket,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // The sender is dropped out of the lock: it may hold a place that was never fetched.
        let _left = self.gate.state.lock().queue.remove(self.caller, self.ticket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Span;

    const PATIENCE: Duration = Duration::from_millis(30);

    fn gate(max_in_flight: u32, queue: u32) -> Arc<Gate> {
        Gate::new(Settings { max_in_flight, queue, queue_timeout: Span(PATIENCE) })
    }

    const A: Caller = Caller(1);
    const B: Caller = Caller(2);

    #[tokio::test]
    async fn beyond_the_queue_a_request_is_refused_at_once() {
        let gate = gate(1, 1);
        let inside = gate.enter(A).await.expect("room");
        let mut second = std::pin::pin!(gate.enter(A));
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        assert_eq!(gate.enter(A).await.map(|_| ()), Err(Shed::Full { max_in_flight: 1, queue: 1 }));
        drop(inside);
        assert!(second.await.is_ok());
        assert_eq!(gate.occupancy(), (0, 0), "all places came back");
    }

    #[tokio::test]
    async fn nobody_waits_longer_than_allowed() {
        let gate = gate(1, 8);
        let _inside = gate.enter(A).await.expect("room");
        let began = tokio::time::Instant::now();
        assert_eq!(gate.enter(B).await.map(|_| ()), Err(Shed::TooLate { waited: PATIENCE }));
        assert!(began.elapsed() >= PATIENCE);
        assert_eq!(gate.occupancy(), (1, 0));
    }

    #[tokio::test]
    async fn whoever_leaves_the_queue_takes_no_place_with_it() {
        let gate = gate(1, 8);
        let inside = gate.enter(A).await.expect("room");
        {
            let mut left = std::pin::pin!(gate.enter(A));
            assert!(futures_util::poll!(left.as_mut()).is_pending());
        }
        assert_eq!(gate.occupancy(), (1, 0));
        // One that is given its place and never fetches it.
        {
            let mut left = std::pin::pin!(gate.enter(A));
            assert!(futures_util::poll!(left.as_mut()).is_pending());
            drop(inside);
            assert_eq!(gate.occupancy(), (1, 0));
        }
        assert_eq!(gate.occupancy(), (0, 0));
    }

    #[tokio::test]
    async fn a_flood_leaves_room_for_others() {
        let gate = gate(16, 16);
        let quiet = gate.enter(B).await.expect("room");
        drop(quiet);
        let mut flood = Vec::new();
        let mut waiting = Vec::new();
        for _ in 0..40 {
            let mut entering = Box::pin(gate.enter(A));
            match futures_util::poll!(entering.as_mut()) {
                std::task::Poll::Ready(Ok(permit)) => flood.push(permit),
                std::task::Poll::Ready(Err(_)) => {}
                std::task::Poll::Pending => waiting.push(entering),
            }
        }
        assert_eq!((flood.len(), waiting.len()), (15, 16), "a place is kept");
        let mut entering = std::pin::pin!(gate.enter(B));
        let place = futures_util::poll!(entering.as_mut());
        assert!(matches!(place, std::task::Poll::Ready(Ok(_))), "the quiet one does not wait");
    }

    #[tokio::test]
    async fn under_a_flood_of_several_hardly_a_place_is_empty() {
        for (max, callers) in [(1, 2), (2, 3), (8, 2), (8, 3), (8, 20), (16, 6), (100, 3), (100, 7)] {
            let gate = gate(max, 1000);
            let (mut inside, mut waiting) = (Vec::new(), Vec::new());
            for number in 0..max * 3 {
                let caller = Caller(u64::from(number % callers));
                let mut entering = Box::pin(gate.enter(caller));
                match futures_util::poll!(entering.as_mut()) {
                    std::task::Poll::Ready(permit) => inside.push(permit.expect("the queue has room")),
                    std::task::Poll::Pending => waiting.push(entering),
                }
            }
            let used = inside.len() as f64 / f64::from(max);
            assert!(used >= 0.9, "{} of {max} places for {callers} callers", inside.len());
        }
    }

    #[tokio::test]
    async fn alone_a_caller_may_have_every_place() {
        let gate = gate(16, 0);
        let mut inside = Vec::new();
        for _ in 0..16 {
            inside.push(gate.enter(A).await.expect("room"));
        }
        assert!(gate.enter(A).await.is_err());
    }
}
