//! Faults on demand: by configuration, or by a directive inside the prompt.
//!
//! `[[fault status=503 on=large]]` anywhere in the last user turn makes `demo/large` fail; without `on` every demo model
//! does. Words: `status=N`, `stall`, `cut_after=N`, `delay=2s`, `on=MODEL`.

use std::time::Duration;

use crate::catalog::Target;
use crate::chat::Prompt;

#[derive(Debug, Default)]
pub struct Trouble {
    pub status: Option<u16>,
    pub stall: bool,
    pub cut_after: Option<u64>,
    pub delay: Duration,
}

pub fn of(target: &Target, prompt: &Prompt<'_>) -> Trouble {
    let mut trouble = Trouble::default();
    if let Some(fault) = &target.provider.fault
        && fault.concerns(&target.model.id)
        && drawn(prompt, &target.model.id) < fault.rate
    {
        trouble.status = fault.status;
        trouble.stall = fault.stall;
        trouble.cut_after = fault.cut_after;
        trouble.delay = fault.delay.unwrap_or_default();
    }
    for directive in directives(&prompt.head).chain(directives(&prompt.tail)) {
        let word =
            |name: &str| directive.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        let concerned = word("on").is_none_or(|on| on.split('/').next_back() == Some(target.model.id.as_str()));
        if concerned {
            trouble.status = word("status").and_then(|status| status.parse().ok()).or(trouble.status);
            trouble.cut_after = word("cut_after").and_then(|tokens| tokens.parse().ok()).or(trouble.cut_after);
            trouble.stall |= directive.split_whitespace().any(|word| word == "stall");
            trouble.delay += word("delay").and_then(|delay| crate::units::duration(delay).ok()).unwrap_or_default();
        }
    }
    trouble
}

fn directives(text: &str) -> impl Iterator<Item = &str> {
    text.split("[[fault").skip(1).filter_map(|rest| rest.split_once("]]").map(|(directive, _)| directive))
}

/// A number in 0..1 that depends on the prompt alone: a rate of 20 % concerns the same fifth of all prompts every time.
fn drawn(prompt: &Prompt<'_>, model: &str) -> f64 {
    let hash = super::answer::seed(&[&prompt.head, &prompt.tail, model]);
    (hash >> 11) as f64 / (1u64 << 53) as f64
}
