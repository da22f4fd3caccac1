//! Runs many patterns over one text by running only those that can match.
//!
//! A single automaton for all patterns ([`regex::RegexSet`]) was tried first and took 780 µs for the median prompt:
//! the patterns have gaps ("write ... poem"), and every combination of gaps that are open at the same time is one more
//! state to build. So one pass finds the words that patterns start with, and each pattern whose word is there runs on
//! its own. Small automata stay small, and most patterns never run.

use std::collections::HashMap;

use aho_corasick::{AhoCorasick, MatchKind};
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::util::pool::Pool;
use regex_automata::{Anchored, Input};
use regex_syntax::ParserBuilder;
use regex_syntax::hir::literal::Extractor;
use regex_syntax::hir::{Hir, Look};

/// Memory for the states of one pattern, per thread that classifies. A full cache is emptied and built anew; English
/// prose fills a few KiB.
const CACHE_BYTES: usize = 128 << 10;

/// Patterns with the index of what they start with.
#[derive(Debug)]
pub(super) struct Scan {
    patterns: Vec<Pattern>,
    /// States built so far, per pattern. A thread takes one set for the time of a scan.
    caches: Pool<Vec<Option<Cache>>>,
    /// What patterns start with; the n-th literal wakes the patterns in `wakes[n]`.
    literals: AhoCorasick,
    wakes: Vec<Vec<usize>>,
    /// Patterns that can start with anything, and those at the start of the text only, which fail at once.
    always: Vec<usize>,
}

/// Built forwards only and without captures, because only whether it matches is asked. That halves the time to
/// compile it, compared with [`regex::bytes::Regex`].
#[derive(Debug)]
struct Pattern {
    dfa: DFA,
    anchored: Anchored,
}

impl Scan {
    /// Compiles constant patterns; a test sees to it that they are valid.
    pub fn compile<'a>(patterns: impl Iterator<Item = &'a str>) -> Self {
        let (mut compiled, mut always, mut wakes) = (Vec::new(), Vec::new(), Vec::<Vec<usize>>::new());
        let mut literals: Vec<Vec<u8>> = Vec::new();
        let mut positions = HashMap::new();
        for (at, pattern) in patterns.enumerate() {
            let hir = parse(pattern);
            let starts = starts(&hir);
            if starts.is_empty() {
                always.push(at);
            }
            for literal in starts {
                let position = *positions.entry(literal).or_insert_with_key(|literal: &Vec<u8>| {
                    literals.push(literal.clone());
                    wakes.push(Vec::new());
                    literals.len() - 1
                });
                wakes[position].push(at);
            }
            compiled.push(Pattern::compile(&hir));
        }
        Self {
            patterns: compiled,
            caches: Pool::new(Vec::new),
            literals: AhoCorasick::builder()
                .match_kind(MatchKind::Standard)
                .build(&literals)
                .expect("some thousand short literals are within the automaton's limits"),
            wakes,
            always,
        }
    }

    /// Calls `found` with each pattern that matches, in order, of those that `wanted` lets run.
    pub fn matches(&self, text: &[u8], wanted: impl Fn(usize) -> bool, mut found: impl FnMut(usize)) {
        let mut awake = vec![false; self.patterns.len()];
        for &at in &self.always {
            awake[at] = true;
        }
        for literal in self.literals.find_overlapping_iter(text) {
            for &at in &self.wakes[literal.pattern().as_usize()] {
                awake[at] = true;
            }
        }
        let mut caches = self.caches.get();
        caches.resize_with(self.patterns.len(), || None);
        for (at, pattern) in self.patterns.iter().enumerate().filter(|(at, _)| awake[*at] && wanted(*at)) {
            let cache = caches[at].get_or_insert_with(|| pattern.dfa.create_cache());
            if pattern.is_match(cache, text) {
                found(at);
            }
        }
    }
}

impl Pattern {
    fn compile(hir: &Hir) -> Self {
        let nfa = thompson::Config::new().utf8(false).which_captures(WhichCaptures::None);
        let nfa = thompson::Compiler::new().configure(nfa).build_from_hir(hir).expect("a built-in pattern is small");
        let dfa = DFA::config().cache_capacity(CACHE_BYTES).skip_cache_capacity_check(true);
        let dfa = DFA::builder().configure(dfa).build_from_nfa(nfa).expect("no Unicode word boundaries are used");
        Self { dfa, anchored: if is_anchored(hir) { Anchored::Yes } else { Anchored::No } }
    }

    fn is_match(&self, cache: &mut Cache, text: &[u8]) -> bool {
        let input = Input::new(text).anchored(self.anchored).earliest(true);
        // An error means that the automaton gave up; it is not configured to.
        self.dfa.try_search_fwd(cache, &input).is_ok_and(|end| end.is_some())
    }
}

/// Every match is at the start of the text.
fn is_anchored(hir: &Hir) -> bool {
    hir.properties().look_set_prefix().contains(Look::Start)
}

fn parse(pattern: &str) -> Hir {
    // Bytes and ASCII classes: the text is lowered beforehand, and without Unicode tables a pattern compiles in a
    // fraction of the time. Words of other scripts are literals, which need no tables.
    let parsed = ParserBuilder::new().unicode(false).utf8(false).multi_line(true).build().parse(pattern);
    parsed.unwrap_or_else(|error| panic!("a built-in pattern is invalid, which a test excludes: {error}"))
}

/// What every match of a pattern starts with; empty if that is not a short list.
fn starts(hir: &Hir) -> Vec<Vec<u8>> {
    if is_anchored(hir) {
        return Vec::new();
    }
    let mut extractor = Extractor::new();
    extractor.limit_total(600).limit_class(4).limit_repeat(1).limit_literal_len(8);
    let prefixes = extractor.extract(hir);
    let literals = prefixes.literals().unwrap_or_default();
    // One byte is in every text: no use as an index.
    if literals.iter().any(|literal| literal.len() < 2) {
        return Vec::new();
    }
    let mut starts: Vec<Vec<u8>> = literals.iter().map(|literal| literal.as_bytes().to_vec()).collect();
    starts.sort_unstable();
    starts.dedup();
    starts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(patterns: &[&str], text: &str) -> Vec<usize> {
        matches(&Scan::compile(patterns.iter().copied()), text)
    }

    fn matches(scan: &Scan, text: &str) -> Vec<usize> {
        let mut found = Vec::new();
        scan.matches(text.as_bytes(), |_| true, |at| found.push(at));
        found
    }

    #[test]
    fn a_pattern_runs_when_its_first_word_is_there() {
        let patterns = [r"\bwrite\b.*\bpoem\b", r"\Awrite", r"\d+ apples", r"(?:sum|summary) up", "翻译"];
        assert_eq!(found(&patterns, "write a poem"), [0, 1]);
        assert_eq!(found(&patterns, "do write 3 apples"), [2]);
        assert_eq!(found(&patterns, "请翻译 summary up"), [3, 4]);
        assert!(found(&patterns, "").is_empty());
    }

    #[test]
    fn the_index_never_hides_a_match() {
        let texts = [
            "please write a function in rust",
            "translate this into german: hello",
            "how many apples are left? 3 or 4",
            "```rust\nfn main() {}\n```",
            "请写一篇关于春天的文章",
        ];
        for (task, rules) in super::super::builtin::TASKS {
            let scan = Scan::compile(rules.iter().map(|rule| rule.pattern));
            for text in texts {
                let matching = |rule: &&super::super::rule::Rule| {
                    let regex = regex::bytes::RegexBuilder::new(rule.pattern).unicode(false).multi_line(true).build();
                    regex.expect("a valid pattern").is_match(text.as_bytes())
                };
                let direct = rules.iter().filter(matching).count();
                assert_eq!(matches(&scan, text).len(), direct, "{task}: {text}");
            }
        }
    }
}
