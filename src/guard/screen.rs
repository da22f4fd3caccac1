//! All rules over one text, in their order: each sees what the ones before it let through.

use super::scanner::Scanner;
use super::settings::Action;
use super::{Rejected, Shield, Tally};

/// One text on its way, whole or in pieces.
pub struct Screen {
    shield: Shield,
    /// One for each pattern of each rule.
    scanners: Vec<Scanner>,
    /// Masks are written as JSON strings: the text is JSON outside of its strings.
    quotes: bool,
}

impl Screen {
    pub fn new(shield: &Shield) -> Self {
        let scanners = shield.patterns().map(|_| Scanner::default()).collect();
        Self { shield: shield.clone(), scanners, quotes: false }
    }

    pub(super) fn quoting(shield: &Shield) -> Self {
        Self { quotes: true, ..Self::new(shield) }
    }

    /// Takes a piece and returns what may pass of it and of what was held back. After `last` the screen is as new.
    ///
    /// # Errors
    /// A rule refuses. Nothing of what it found has passed, nor will.
    pub fn push(&mut self, piece: &str, last: bool, tally: &mut Tally) -> Result<String, Rejected> {
        let mut text = piece.to_owned();
        for ((compiled, pattern), scanner) in self.shield.patterns().zip(&mut self.scanners) {
            let mask = if self.quotes { &pattern.quoted_mask } else { &pattern.mask };
            let mut passed = String::with_capacity(text.len());
            let found = scanner.push(pattern, &text, last, mask, &mut passed);
            if found > 0 {
                tally.add(&compiled.name, compiled.rule.action, found);
            }
            match compiled.rule.action {
                Action::Mask => text = passed,
                Action::Reject if found > 0 => {
                    return Err(Rejected { guard: compiled.name.clone(), what: pattern.what });
                }
                Action::Reject => text = passed,
                Action::Flag => {}
            }
        }
        Ok(text)
    }

    /// A whole text: `None` if it may stay as it is.
    ///
    /// # Errors
    /// A rule refuses.
    pub fn whole(shield: &Shield, text: &str, tally: &mut Tally) -> Result<Option<String>, Rejected> {
        if !shield.may_find(text) {
            return Ok(None);
        }
        let passed = Self::new(shield).push(text, true, tally)?;
        Ok((passed != text).then_some(passed))
    }
}
