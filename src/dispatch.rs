//! Walking the plan: one try after the other until a target answers.

pub mod settings;
