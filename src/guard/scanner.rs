//! One pattern over one text that comes in pieces. What comes out is the same however it was cut.
//!
//! A match begins at the first place from where the pattern matches. It has to show within [`AHEAD`] bytes; once it has,
//! it may go on for as long as it likes. So no more than that is ever held back, and what cannot be the beginning of a
//! match passes at once. Whole texts go the same way, which is why there is one definition of what is found.

use regex_automata::util::primitives::StateID;

use super::pattern::{Pattern, Step};

/// How far a match may be from being one, in bytes.
pub const AHEAD: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Scanner {
    /// Text that is not decided; begins with `from`.
    held: String,
    from: usize,
    /// The byte before `from`.
    before: Option<u8>,
    run: Option<Run>,
}

/// A match that has begun at `from`.
#[derive(Clone, Copy, Debug)]
struct Run {
    state: StateID,
    /// The next byte.
    at: usize,
    /// Where it ends, so far.
    end: Option<usize>,
    /// It is a match already, and its mask is out: what it swallows until its end goes nowhere.
    announced: bool,
}

impl Scanner {
    /// Takes a piece and appends what passes to `out`, with `mask` in the place of what is found. `last`: nothing
    /// follows. Returns how much was found.
    pub fn push(&mut self, pattern: &Pattern, piece: &str, last: bool, mask: &str, out: &mut String) -> u32 {
        self.held.push_str(piece);
        let mut found = 0;
        while let Some(mut run) = self.run.take().or_else(|| self.begin(pattern, out)) {
            let decided = self.follow(pattern, &mut run, last);
            if let (Some(end), None) = (run.end, pattern.check) {
                if !run.announced {
                    run.announced = true;
                    found += 1;
                    out.push_str(mask);
                }
                self.skip_to(end);
            }
            if !decided {
                self.run = Some(run);
                break;
            }
            let checked = run.end.zip(pattern.check).and_then(|(end, check)| check(&self.held[self.from..end]));
            match checked {
                _ if run.announced => {}
                Some(length) => {
                    found += 1;
                    out.push_str(mask);
                    self.skip_to(self.from + length);
                }
                None => self.release_one(out),
            }
        }
        self.forget();
        if last {
            *self = Self::default();
        }
        found
    }

    /// Lets everything pass up to the next place where a match can begin.
    fn begin(&mut self, pattern: &Pattern, out: &mut String) -> Option<Run> {
        let rest = &self.held[self.from..];
        let skipped = rest.bytes().position(|byte| pattern.can_start_with(byte)).unwrap_or(rest.len());
        out.push_str(&rest[..skipped]);
        self.skip_to(self.from + skipped);
        let run = Run { state: pattern.start(self.before), at: self.from, end: None, announced: false };
        (self.from < self.held.len()).then_some(run)
    }

    /// Goes on as far as there is text. True once nothing more can change.
    fn follow(&self, pattern: &Pattern, run: &mut Run, last: bool) -> bool {
        let bytes = self.held.as_bytes();
        loop {
            let Some(&byte) = bytes.get(run.at) else {
                if last && matches!(pattern.end(run.state), Step::Matched(_)) {
                    run.end = Some(run.at);
                }
                return last;
            };
            match pattern.next(run.state, byte) {
                Step::On(state) => run.state = state,
                Step::Matched(state) => {
                    run.end = Some(run.at);
                    run.state = state;
                }
                Step::Dead => return true,
            }
            run.at += 1;
            if run.at - run.end.unwrap_or(self.from) > AHEAD {
                return true;
            }
        }
    }

    fn release_one(&mut self, out: &mut String) {
        let length = self.held[self.from..].chars().next().map_or(0, char::len_utf8);
        out.push_str(&self.held[self.from..self.from + length]);
        self.skip_to(self.from + length);
    }

    fn skip_to(&mut self, place: usize) {
        if place > self.from {
            self.before = Some(self.held.as_bytes()[place - 1]);
            self.from = place;
        }
    }

    /// Gives up what is decided.
    fn forget(&mut self) {
        self.held.drain(..self.from);
        if let Some(run) = &mut self.run {
            run.at -= self.from;
            run.end = run.end.map(|end| end - self.from);
        }
        self.from = 0;
    }
}
