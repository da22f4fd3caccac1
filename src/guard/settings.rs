//! What the configuration says under `guards`.

use super::detect::Detector;

/// One rule. Rules work in the order of the file: a later one sees what the earlier ones left.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// 1 to 64 letters, digits, `_` or `-`: it stands in headers, metrics and rows.
    pub name: String,
    pub detect: Detect,
    pub on: On,
    pub action: Action,
    /// What stands in the place of what is masked; without quotes, backslashes and control characters, because it may
    /// stand inside JSON. At most 64 bytes. `None`: the detector's name in brackets, or `[masked]`.
    pub mask_with: Option<String>,
    /// For keys of these tiers only; empty for all. So with teams.
    pub tiers: Vec<String>,
    pub teams: Vec<String>,
    /// Only for what is sent to these providers, and for what they answer; empty for all.
    pub providers: Vec<String>,
}

/// What is looked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Detect {
    BuiltIn(Vec<Detector>),
    /// A regular expression, whatever the case of its letters.
    Match(String),
}

/// In what it is looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum On {
    Request,
    Response,
    #[default]
    Both,
}

impl On {
    pub const CHOICES: [(&'static str, Self); 3] =
        [("request", Self::Request), ("response", Self::Response), ("both", Self::Both)];
}

/// What is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is replaced: in what providers get, in what callers get.
    Mask,
    /// The request is refused with 400, a plain answer is held back with 422, a stream ends with an error.
    Reject,
    /// It is counted, and passes.
    Flag,
}

impl Action {
    pub const CHOICES: [(&'static str, Self); 3] =
        [("mask", Self::Mask), ("reject", Self::Reject), ("flag", Self::Flag)];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mask => "mask",
            Self::Reject => "reject",
            Self::Flag => "flag",
        }
    }
}
