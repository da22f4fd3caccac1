//! Who can answer: providers, models, prices, windows, capabilities, skills and speeds.
//!
//! Facts come from data that is embedded in the program ([`Shelf`]) and from what the configuration file declares. Every
//! figure remembers where it came from ([`Origin`]), because a price or a skill is shown to people who may doubt it. A
//! fact that nobody knows stays `None`: an unknown price is never a price of zero.
//!
//! Nothing here reads a file, a clock or the environment; today's date is an argument.

mod demo;
pub mod fault;
mod geography;
mod identity;
mod model;
mod name;
pub mod presets;
mod shelf;
mod skill;
mod speed;
mod target;

pub use fault::Fault;
pub use identity::{AwsKeys, Identity, ServiceAccount};
pub use model::{Model, Price, Supports};
pub use presets::{Listing, Preset};
pub use shelf::{DATE, Shelf};
pub use skill::{Confidence, Origin, Skill, Skills};
pub use speed::Speed;
pub use target::{Auth, BatchTerms, Format, Provider, Target, TargetId};
