//! A bounded queue that is fair to callers: each has a line of its own, and lines are served in turn.
//!
//! Not thread-safe and never waits: whoever owns it holds the lock. Tickets tell entries apart, so that one can leave
//! from the middle.

use std::collections::{HashMap, VecDeque};

use super::Caller;

/// Names an entry.
pub type Ticket = u64;

#[derive(Debug)]
pub struct Queue<T> {
    lines: HashMap<Caller, VecDeque<(Ticket, T)>>,
    /// Callers with a line, in the order in which they are served.
    turns: VecDeque<Caller>,
    length: usize,
    issued: Ticket,
}

/// What became of an entry.
#[derive(Debug, PartialEq, Eq)]
pub enum Entered<T> {
    Waiting(Ticket),
    /// It waits, and the newest entry of the longest line had to go for it.
    Displaced(Ticket, T),
    /// Its own line is the longest.
    Refused(T),
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { lines: HashMap::new(), turns: VecDeque::new(), length: 0, issued: 0 }
    }
}

impl<T> Queue<T> {
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub fn len(&self) -> usize {
        self.length
    }

    pub fn waiting_of(&self, caller: Caller) -> usize {
        self.lines.get(&caller).map_or(0, VecDeque::len)
    }

    /// True if [`Self::enter`] would refuse this caller now.
    pub fn would_refuse(&self, caller: Caller, limit: usize) -> bool {
        let longest = || self.lines.values().map(VecDeque::len).max().unwrap_or(0);
        self.length >= limit && longest() <= self.waiting_of(caller) + 1
    }

    /// Lets an entry wait, at most `limit` in all. When full, the longest line gives way to a shorter one: a flood of one
    /// caller cannot keep the others out.
    pub fn enter(&mut self, caller: Caller, entry: T, limit: usize) -> Entered<T> {
        if self.length < limit {
            return Entered::Waiting(self.push(caller, entry));
        }
        let longest = self.lines.iter().max_by_key(|(_, line)| line.len()).map(|(caller, line)| (*caller, line.len()));
        match longest {
            Some((greedy, length)) if length > self.waiting_of(caller) + 1 => {
                let newest = self.lines.get(&greedy).and_then(VecDeque::back).map(|(ticket, _)| *ticket);
                let displaced = newest.and_then(|newest| self.remove(greedy, newest));
                let ticket = self.push(caller, entry);
                match displaced {
                    Some(displaced) => Entered::Displaced(ticket, displaced),
                    None => Entered::Waiting(ticket),
                }
            }
            _ => Entered::Refused(entry),
        }
    }

    fn push(&mut self, caller: Caller, entry: T) -> Ticket {
        self.issued += 1;
        let line = self.lines.entry(caller).or_default();
        if line.is_empty() {
            self.turns.push_back(caller);
        }
        line.push_back((self.issued, entry));
        self.length += 1;
        self.issued
    }

    /// Puts an entry before all others of its line, whatever the limit: it was its turn already.
    pub fn put_back(&mut self, caller: Caller, entry: T) -> Ticket {
        self.issued += 1;
        let line = self.lines.entry(caller).or_default();
        // It was its caller's turn, and is again.
        self.turns.retain(|known| *known != caller);
        self.turns.push_front(caller);
        line.push_front((self.issued, entry));
        self.length += 1;
        self.issued
    }

    /// Takes an entry out; `None` if it is not there any more.
    pub fn remove(&mut self, caller: Caller, ticket: Ticket) -> Option<T> {
        let line = self.lines.get_mut(&caller)?;
        let place = line.iter().position(|(known, _)| *known == ticket)?;
        let (_, entry) = line.remove(place)?;
        self.shorten(caller);
        Some(entry)
    }

    /// Takes the first entry of the first line, by turn, for which `fits` holds. That line goes to the end.
    pub fn take(&mut self, mut fits: impl FnMut(Caller, &T) -> bool) -> Option<(Caller, T)> {
        let first = |caller: &Caller| self.lines.get(caller).and_then(VecDeque::front);
        let place =
            self.turns.iter().position(|caller| first(caller).is_some_and(|(_, entry)| fits(*caller, entry)))?;
        let caller = self.turns.remove(place)?;
        self.turns.push_back(caller);
        let (_, entry) = self.lines.get_mut(&caller)?.pop_front()?;
        self.shorten(caller);
        Some((caller, entry))
    }

    /// True if `fits` holds for the first entry of any line.
    pub fn is_any_first(&self, mut fits: impl FnMut(&T) -> bool) -> bool {
        self.lines.values().filter_map(VecDeque::front).any(|(_, entry)| fits(entry))
    }

    /// One entry less in a line; forgets it when it is empty.
    fn shorten(&mut self, caller: Caller) {
        self.length -= 1;
        if self.lines.get(&caller).is_some_and(VecDeque::is_empty) {
            self.lines.remove(&caller);
            self.turns.retain(|known| *known != caller);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(queue: &mut Queue<u32>) -> Vec<u32> {
        std::iter::from_fn(|| queue.take(|_, _| true).map(|(_, entry)| entry)).collect()
    }

    #[test]
    fn callers_are_served_in_turn() {
        let mut queue = Queue::default();
        for entry in 0..5 {
            queue.enter(Caller(1), entry, 100);
        }
        queue.enter(Caller(2), 100, 100);
        queue.enter(Caller(2), 101, 100);
        assert_eq!(order(&mut queue), [0, 100, 1, 101, 2, 3, 4]);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_flood_gives_way_and_never_keeps_others_out() {
        let mut queue = Queue::default();
        for entry in 0..4 {
            assert!(matches!(queue.enter(Caller(1), entry, 4), Entered::Waiting(_)));
        }
        assert!(queue.would_refuse(Caller(1), 4) && !queue.would_refuse(Caller(2), 4));
        assert_eq!(queue.enter(Caller(1), 9, 4), Entered::Refused(9));
        assert!(matches!(queue.enter(Caller(2), 100, 4), Entered::Displaced(_, 3)));
        assert!(matches!(queue.enter(Caller(2), 101, 4), Entered::Displaced(_, 2)));
        assert_eq!(queue.enter(Caller(2), 102, 4), Entered::Refused(102), "both have the same share now");
        assert_eq!(order(&mut queue), [0, 100, 1, 101]);
    }

    #[test]
    fn an_entry_can_leave_and_come_back_first() {
        let mut queue = Queue::default();
        let Entered::Waiting(first) = queue.enter(Caller(1), 1, 9) else { panic!("room") };
        queue.enter(Caller(1), 2, 9);
        assert_eq!(queue.remove(Caller(1), first), Some(1));
        assert_eq!(queue.remove(Caller(1), first), None);
        queue.put_back(Caller(1), 1);
        assert_eq!(order(&mut queue), [1, 2]);
        assert_eq!((queue.len(), queue.waiting_of(Caller(1))), (0, 0));
    }

    #[test]
    fn a_line_whose_first_does_not_fit_is_passed_over() {
        let mut queue = Queue::default();
        queue.enter(Caller(1), 1, 9);
        queue.enter(Caller(2), 2, 9);
        assert_eq!(queue.take(|_, entry| *entry == 2), Some((Caller(2), 2)));
        assert_eq!(queue.take(|_, entry| *entry == 2), None);
        assert_eq!(queue.len(), 1);
    }
}
