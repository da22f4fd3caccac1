//! One pattern as an automaton that can be run byte by byte, and as a regular expression that is quick to say no.
//!
//! The automaton is complete (no states are built while it runs), so its state is a number that a stream can keep, and
//! its time is linear whatever the text. It starts at one place; [`super::scanner`] says where.

use regex_automata::dfa::dense::DFA;
use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::meta::Regex;
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::util::primitives::StateID;
use regex_automata::util::start;
use regex_automata::{Anchored, MatchKind};
use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Hir, HirKind, Look, Repetition};

use super::detect::Detector;

/// Largest automaton of one pattern, and largest memory while it is made. `\w` for all scripts takes a tenth of it.
const LARGEST: usize = 8 << 20;
const LARGEST_WHILE_MADE: usize = 32 << 20;

/// Compiled; shared by all requests.
pub(super) struct Pattern {
    /// What it finds, for messages.
    pub what: &'static str,
    /// What stands in its place, and the same as a JSON string.
    pub mask: String,
    pub quoted_mask: String,
    pub check: Option<fn(&str) -> Option<usize>>,
    dfa: DFA<Vec<u32>>,
    quick: Regex,
    /// Bytes with which a match can begin.
    starts: [bool; 256],
}

impl Pattern {
    pub fn built_in(detector: Detector, mask: Option<&str>) -> Result<Vec<Self>, String> {
        let mask = mask.unwrap_or(detector.mask());
        let compile = |pattern: String| Self::compile(&pattern, detector.in_words(), mask, detector.check());
        detector.patterns().into_iter().map(compile).collect()
    }

    pub fn written(pattern: &str, mask: Option<&str>) -> Result<Self, String> {
        Self::compile(pattern, "what it looks for", mask.unwrap_or("[masked]"), None)
    }

    fn compile(
        pattern: &str,
        what: &'static str,
        mask: &str,
        check: Option<fn(&str) -> Option<usize>>,
    ) -> Result<Self, String> {
        let parsed = ParserBuilder::new().case_insensitive(true).build().parse(pattern).map_err(|error| {
            // The crate draws the pattern with a caret over several lines; the last line is the reason.
            let drawn = error.to_string();
            let reason = drawn.lines().last().unwrap_or_default().trim_start_matches("error: ");
            format!("not a regular expression: {reason}")
        })?;
        if parsed.properties().minimum_len() == Some(0) {
            return Err("matches the empty text, and so everything; make a part of it mandatory".to_owned());
        }
        let hir = with_ascii_boundaries(&parsed);
        let too_large = || {
            let most = LARGEST >> 20;
            format!("needs more than {most} MiB when compiled; use smaller repetitions, or (?-u:\\w) for \\w")
        };
        let thompson = thompson::Config::new().which_captures(WhichCaptures::None).nfa_size_limit(Some(LARGEST));
        let nfa = thompson::Compiler::new().configure(thompson).build_from_hir(&hir).map_err(|_| too_large())?;
        let config = dense::Config::new()
            .start_kind(StartKind::Anchored)
            .match_kind(MatchKind::LeftmostFirst)
            .dfa_size_limit(Some(LARGEST))
            .determinize_size_limit(Some(LARGEST_WHILE_MADE));
        let dfa = dense::Builder::new().configure(config).build_from_nfa(&nfa).map_err(|_| too_large())?;
        let quick = Regex::builder().build_from_hir(&hir).map_err(|_| too_large())?;
        let quoted_mask = serde_json::to_string(mask).unwrap_or_default();
        let mut pattern = Self { what, mask: mask.to_owned(), quoted_mask, check, dfa, quick, starts: [false; 256] };
        for byte in 0..=255u8 {
            // What stands before a match may matter to it: nothing, a word, something else, the end of a line.
            let before = [None, Some(b'a'), Some(b' '), Some(b'\n'), Some(b'\r')];
            pattern.starts[usize::from(byte)] = before.into_iter().any(|before| {
                let state = pattern.dfa.next_state(pattern.start(before), byte);
                !pattern.dfa.is_dead_state(state) && !pattern.dfa.is_quit_state(state)
            });
        }
        Ok(pattern)
    }

    /// False if it matches nowhere.
    pub fn may_match(&self, text: &str) -> bool {
        self.quick.is_match(text)
    }

    pub fn can_start_with(&self, byte: u8) -> bool {
        self.starts[usize::from(byte)]
    }

    /// At the beginning of a match. `before` is the byte in front of it.
    pub fn start(&self, before: Option<u8>) -> StateID {
        let config = start::Config::new().anchored(Anchored::Yes).look_behind(before);
        self.dfa.start_state(&config).expect("it was built for anchored searches, without quit bytes")
    }

    pub fn next(&self, state: StateID, byte: u8) -> Step {
        self.step(self.dfa.next_state(state, byte))
    }

    pub fn end(&self, state: StateID) -> Step {
        self.step(self.dfa.next_eoi_state(state))
    }

    fn step(&self, state: StateID) -> Step {
        if !self.dfa.is_special_state(state) {
            Step::On(state)
        } else if self.dfa.is_match_state(state) {
            Step::Matched(state)
        } else if self.dfa.is_dead_state(state) || self.dfa.is_quit_state(state) {
            Step::Dead
        } else {
            Step::On(state)
        }
    }
}

/// What one byte did.
pub(super) enum Step {
    On(StateID),
    /// A match ended before this byte; it may still become longer.
    Matched(StateID),
    /// Nothing more can come of it.
    Dead,
}

/// `\b` for words of ASCII letters: those of all scripts cannot be decided byte by byte.
fn with_ascii_boundaries(hir: &Hir) -> Hir {
    match hir.kind() {
        HirKind::Look(look) => Hir::look(match look {
            Look::WordUnicode => Look::WordAscii,
            Look::WordUnicodeNegate => Look::WordAsciiNegate,
            Look::WordStartUnicode => Look::WordStartAscii,
            Look::WordEndUnicode => Look::WordEndAscii,
            Look::WordStartHalfUnicode => Look::WordStartHalfAscii,
            Look::WordEndHalfUnicode => Look::WordEndHalfAscii,
            other => *other,
        }),
        HirKind::Repetition(repeated) => {
            Hir::repetition(Repetition { sub: Box::new(with_ascii_boundaries(&repeated.sub)), ..*repeated })
        }
        HirKind::Capture(capture) => with_ascii_boundaries(&capture.sub),
        HirKind::Concat(parts) => Hir::concat(parts.iter().map(with_ascii_boundaries).collect()),
        HirKind::Alternation(parts) => Hir::alternation(parts.iter().map(with_ascii_boundaries).collect()),
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) => hir.clone(),
    }
}
