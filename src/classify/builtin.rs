//! The thirteen built-in tasks. Each file holds the rules of one task, or of two that share a border.
//!
//! Patterns are written for lowered text and byte-wise matching; see [`super::rule`]. Rules name what people ask for
//! ("write a function"), not what they talk about, because a persona in front of a job, or a text about a topic, has
//! the topic's words too. `\A` is the start of the request, courtesies skipped.

mod analysis;
mod classification;
mod coding;
mod creative;
mod general;
mod housekeeping;
mod reasoning;
mod rewrite;
mod roleplay;
mod safety;
mod translation;

use super::rule::{Rule, When, ask};

pub(super) const HOUSEKEEPING: &str = "housekeeping";
pub(super) const ANALYSIS: &str = "analysis";
pub(super) const GENERAL: &str = "general";
pub(super) const TOOL_USE: &str = "tool_use";
pub(super) const MULTIMODAL: &str = "multimodal";

/// Tools offered outweigh most words: in the labelled data, a request with tools is one for a call. Only a text task
/// that is certain ("translate this into German") wins against it.
pub(super) const TOOLS_OFFERED: f64 = 7.0;
pub(super) const TOOL_ANSWERED: f64 = 1.0;
/// An image decides more firmly still: words about it ("summarise this diagram") are words of other tasks.
pub(super) const MEDIA: f64 = 8.0;
pub(super) const FILE: f64 = 1.5;
pub(super) const HOUSEKEEPER: f64 = 8.0;

/// Every task with its rules, in the order of ties.
pub(super) const TASKS: &[(&str, &[Rule])] = &[
    (HOUSEKEEPING, housekeeping::RULES),
    ("coding", coding::RULES),
    ("reasoning", reasoning::RULES),
    (ANALYSIS, analysis::RULES),
    ("classification", classification::RULES),
    ("creative", creative::RULES),
    ("rewrite", rewrite::RULES),
    ("translation", translation::RULES),
    (GENERAL, general::RULES),
    ("roleplay", roleplay::RULES),
    ("safety", safety::RULES),
    (TOOL_USE, &[]),
    (MULTIMODAL, &[]),
];

pub(super) use housekeeping::is_housekeeping;

/// How a short turn shows that it is about the one before.
pub(super) const FOLLOW_UPS: &[Rule] = &[
    ask(
        "goes on from the turn before",
        0.0,
        r"\A(?:(?:and|ok|okay|now|so|no|yes|thanks|great|but)\b[ ,.]*)*(?:continue|go on|keep going|carry on|more|again|another one|one more|try again|redo|same|the same|fix (?:it|that|this)|improve (?:it|that)|make (?:it|that|this|them)|change (?:it|that)|shorten it|longer|shorter|what about|how about|and (?:in|for|now|if|the|what|with)|in (?:french|german|spanish|english|chinese|italian|japanese|python|rust|java|go|javascript|typescript|c\+\+))\b",
    )
    .when(When::Brief),
    ask(
        "goes on from the turn before (other languages)",
        0.0,
        r"\A(?:继续|接着|再来|再写|再给|换一|改成|那么|那|还有|continua|continúa|sigue|otra vez|y ahora|más corto|weiter|nochmal|noch einmal|und jetzt|kürzer|encore|continue|et maintenant|plus court)",
    )
    .when(When::Brief),
];
