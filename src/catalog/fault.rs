//! Faults on purpose: one grammar for the `fault` setting, the `[[fault ...]]` directive in a prompt, the `x-fault` header
//! and the name of a model at the scripted upstream.
//!
//! A text is words between white space, `,` or `;`: `status=503; retry_after=2; delay=200ms; stall`. A value with one of
//! those in it stands in double quotes. Dashes and underscores mean the same. A word that nobody knows is an error: a fault
//! that silently does not happen proves nothing.

use std::borrow::Cow;
use std::time::Duration;

use crate::units;

/// What goes wrong with one answer. `Default` is nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// Answered instead of 200. 200 to 599; from 400 on with an error as body.
    pub status: Option<u16>,
    /// Further headers of the answer, `retry-after` among them.
    pub headers: Vec<(String, String)>,
    /// Before the head of the answer.
    pub delay: Duration,
    /// Between the head and the first token.
    pub first_token: Duration,
    /// After each piece of a stream.
    pub pace: Duration,
    /// Bytes a write; 0 is all at once.
    pub slice: usize,
    /// The connection does not end as it should.
    pub breaks: Option<Break>,
    /// Another body than a model's answer.
    pub body: Option<Body>,
    /// Another token count than the true one.
    pub usage: Option<Miscount>,
    /// Words of the answer, instead of what would be said.
    pub tokens: Option<u64>,
    /// How the body is compressed.
    pub encoding: Option<Encoding>,
    /// The body is labelled so, and is not.
    pub pretend: Option<Encoding>,
    /// Bytes that `content-length` announces above (or below) what is sent.
    pub length: i64,
    /// Interim answers (100, 102, 103) before the real one.
    pub interim: Vec<u16>,
    /// Meaningless headers in front of the real ones: how many, and how many bytes of them together.
    pub flood: usize,
    pub flood_bytes: usize,
    /// The stream ends with its finish_reason, without `[DONE]`.
    pub no_done: bool,
    /// Everything is sent, and the connection stays open without the end of the body.
    pub hold: bool,
    /// Answered before the request's body is read.
    pub early: bool,
    /// A second answer that nobody asked for follows.
    pub twice: bool,
    /// Bytes after the end of the body.
    pub trailing: bool,
    /// What follows the last chunk of a chunked body is no trailer.
    pub trailer: bool,
    /// The connection is closed after the answer, as announced.
    pub close: bool,
    /// Share of requests that meet the trouble. 0 to 1.
    pub rate: f64,
    /// Models concerned; empty means all.
    pub models: Vec<String>,
}

impl Default for Fault {
    fn default() -> Self {
        Self {
            status: None,
            headers: Vec::new(),
            delay: Duration::ZERO,
            first_token: Duration::ZERO,
            pace: Duration::ZERO,
            slice: 0,
            breaks: None,
            body: None,
            usage: None,
            tokens: None,
            encoding: None,
            pretend: None,
            length: 0,
            interim: Vec::new(),
            flood: 0,
            flood_bytes: 0,
            no_done: false,
            hold: false,
            early: false,
            twice: false,
            trailing: false,
            trailer: false,
            close: false,
            rate: 1.0,
            models: Vec::new(),
        }
    }
}

/// A connection that breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Break {
    pub how: Breaking,
    /// Tokens sent before; `None`: not even the head is. [`Break::AFTER_ALL`]: the whole content is, its end is not.
    pub after: Option<u64>,
}

impl Break {
    /// Everything that was to be said has been said.
    pub const AFTER_ALL: u64 = u64::MAX;
}

/// How a connection breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breaking {
    /// Closed in the middle.
    Cut,
    Reset,
    /// Nothing more comes; the connection stays open.
    Stall,
}

/// What stands in the place of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    Html,
    Empty,
    /// `text/plain`.
    Text,
    /// Half of the JSON, or of the last event.
    Truncated,
    NoChoices,
    NullChoices,
    /// One event among good ones is not JSON.
    Malformed,
    /// An event that never ends, 64 MiB of it.
    Endless,
    /// So many bytes of white space, gzipped.
    Bomb(u64),
}

/// A token count that cannot be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miscount {
    Absurd,
    Negative,
    /// Text where numbers belong.
    Text,
    Missing,
}

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Gzip,
    Brotli,
    Zstd,
}

impl Encoding {
    /// Its name in `content-encoding`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }
}

/// A fault that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFault {
    #[error("unknown fault word `{word}`; known: {}", Fault::WORDS.join(", "))]
    Unknown { word: String },
    #[error("fault word `{word}`: {reason}")]
    Value { word: String, reason: String },
}

/// A longer wait outlives every deadline; who wants one wants `stall`.
const LONGEST: Duration = Duration::from_secs(3600);

impl Fault {
    /// Every word of the grammar.
    #[rustfmt::skip]
    pub const WORDS: [&'static str; 33] = [
        "status", "retry_after", "header", "redirect", "delay", "first_token", "pace", "slice", "stall",
        "stall_after", "cut", "cut_after", "reset", "reset_after", "body", "bomb", "usage", "tokens", "encoding",
        "pretend", "length", "interim", "flood", "flood_bytes", "no_done", "hold", "early", "twice", "trailing",
        "trailer", "close", "rate", "on",
    ];

    /// Reads a text of the grammar.
    ///
    /// # Errors
    /// The first word that is unknown or whose value makes no sense.
    pub fn parse(text: &str) -> Result<Self, BadFault> {
        let mut fault = Self::default();
        fault.read(text)?;
        Ok(fault)
    }

    /// Adds what a text says; later words win.
    ///
    /// # Errors
    /// As [`Fault::parse`]; words before the bad one have been added.
    pub fn read(&mut self, text: &str) -> Result<(), BadFault> {
        for word in words(text) {
            let (name, value) = word.split_once('=').map_or((&*word, None), |(name, value)| (name, Some(value)));
            self.set(name, value)?;
        }
        Ok(())
    }

    /// Sets one word. `None` as value is what a bare word has.
    ///
    /// # Errors
    /// An unknown word, or a value that makes no sense.
    pub fn set(&mut self, word: &str, value: Option<&str>) -> Result<(), BadFault> {
        let word = word.trim().to_ascii_lowercase().replace('-', "_");
        let bad = |reason: String| BadFault::Value { word: word.clone(), reason };
        let given = || value.map(str::trim).filter(|value| !value.is_empty());
        let text = || given().ok_or_else(|| bad("needs a value".to_owned()));
        let span = || match units::duration(text()?).map_err(bad)? {
            span if span > LONGEST => Err(bad("waits are at most an hour".to_owned())),
            span => Ok(span),
        };
        let number = || units::count(text()?).map_err(bad);
        let flag = || match given() {
            None | Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(other) => Err(bad(format!("`{other}` is neither true nor false"))),
        };
        let after = || match text()? {
            "all" => Ok(Some(Break::AFTER_ALL)),
            _ => number().map(Some),
        };
        let breaks = |how, after: Option<u64>| Some(Break { how, after });
        match word.as_str() {
            "status" => self.status = Some(status(text()?, 200..=599).map_err(bad)?),
            "retry_after" => self.headers.push(("retry-after".to_owned(), text()?.to_owned())),
            "header" => self.headers.push(header(text()?).map_err(bad)?),
            "redirect" => {
                self.status = self.status.or(Some(307));
                self.headers.push(header(&format!("location:{}", text()?)).map_err(bad)?);
            }
            "delay" => self.delay = span()?,
            "first_token" => self.first_token = span()?,
            "pace" => self.pace = span()?,
            "slice" => self.slice = number()? as usize,
            "stall" => self.breaks = if flag()? { breaks(Breaking::Stall, None) } else { self.breaks },
            "stall_after" => self.breaks = breaks(Breaking::Stall, after()?),
            "cut" => self.breaks = if flag()? { breaks(Breaking::Cut, None) } else { self.breaks },
            "cut_after" => self.breaks = breaks(Breaking::Cut, after()?),
            "reset" => self.breaks = if flag()? { breaks(Breaking::Reset, None) } else { self.breaks },
            "reset_after" => self.breaks = breaks(Breaking::Reset, after()?),
            "body" => self.body = Some(choice(text()?, &BODIES).map_err(bad)?),
            "bomb" => self.body = Some(Body::Bomb(given().map_or(Ok(70 << 20), units::size).map_err(bad)?)),
            "usage" => self.usage = Some(choice(text()?, &MISCOUNTS).map_err(bad)?),
            "tokens" => self.tokens = Some(number()?),
            "encoding" => self.encoding = Some(choice(text()?, &ENCODINGS).map_err(bad)?),
            "pretend" => self.pretend = Some(choice(text()?, &ENCODINGS).map_err(bad)?),
            "length" => {
                let wrong = || bad("expected bytes more or less than are sent, such as +1000 or -5".to_owned());
                self.length = text()?.parse().map_err(|_| wrong())?;
            }
            "interim" => self.interim.push(status(text()?, 100..=199).map_err(bad)?),
            "flood" => self.flood = number()? as usize,
            "flood_bytes" => self.flood_bytes = units::size(text()?).map_err(bad)? as usize,
            "no_done" => self.no_done = flag()?,
            "hold" => self.hold = flag()?,
            "early" => self.early = flag()?,
            "twice" => self.twice = flag()?,
            "trailing" => self.trailing = flag()?,
            "trailer" => self.trailer = flag()?,
            "close" => self.close = flag()?,
            "rate" => self.rate = units::share(text()?).map_err(bad)?,
            "on" => self.models.push(text()?.rsplit('/').next().unwrap_or_default().to_owned()),
            _ => return Err(BadFault::Unknown { word: word.chars().take(80).collect() }),
        }
        Ok(())
    }

    /// Whether a model meets the trouble, as far as its name decides.
    pub fn concerns(&self, model: &str) -> bool {
        self.models.is_empty() || self.models.iter().any(|name| name == model)
    }

    /// The first word that only a real connection can play, for whoever has none.
    pub fn needs_a_connection(&self) -> Option<&'static str> {
        let needed = [
            (self.slice > 0, "slice"),
            (self.body.is_some(), "body"),
            (self.encoding.is_some(), "encoding"),
            (self.pretend.is_some(), "pretend"),
            (self.length != 0, "length"),
            (!self.interim.is_empty(), "interim"),
            (self.flood > 0, "flood"),
            (self.flood_bytes > 0, "flood_bytes"),
            (self.usage.is_some(), "usage"),
            (self.tokens.is_some(), "tokens"),
            (self.no_done, "no_done"),
            (self.hold, "hold"),
            (self.early, "early"),
            (self.twice, "twice"),
            (self.trailing, "trailing"),
            (self.trailer, "trailer"),
            (self.close, "close"),
        ];
        needed.into_iter().find(|(needed, _)| *needed).map(|(_, word)| word)
    }
}

const BODIES: [(&str, Body); 8] = [
    ("html", Body::Html),
    ("empty", Body::Empty),
    ("text", Body::Text),
    ("truncated", Body::Truncated),
    ("no_choices", Body::NoChoices),
    ("null_choices", Body::NullChoices),
    ("malformed", Body::Malformed),
    ("endless", Body::Endless),
];

const MISCOUNTS: [(&str, Miscount); 4] = [
    ("absurd", Miscount::Absurd),
    ("negative", Miscount::Negative),
    ("text", Miscount::Text),
    ("missing", Miscount::Missing),
];

const ENCODINGS: [(&str, Encoding); 3] = [("gzip", Encoding::Gzip), ("br", Encoding::Brotli), ("zstd", Encoding::Zstd)];

fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let wanted = text.replace('-', "_");
    let names = || choices.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let found = choices.iter().find(|(name, _)| *name == wanted);
    found.map(|(_, choice)| *choice).ok_or_else(|| format!("`{text}` is none of {}", names()))
}

fn status(text: &str, range: std::ops::RangeInclusive<u16>) -> Result<u16, String> {
    let (least, most) = (range.start(), range.end());
    let status = text.parse().ok().filter(|status| range.contains(status));
    status.ok_or_else(|| format!("`{text}` is not a status from {least} to {most}"))
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("expected NAME:VALUE")?;
    let (name, value) = (name.trim().to_ascii_lowercase(), value.trim().to_owned());
    match (http::HeaderName::try_from(&*name), http::HeaderValue::try_from(&*value)) {
        (Ok(_), Ok(_)) => Ok((name, value)),
        _ => Err(format!("`{text}` is not a header")),
    }
}

/// The words of a text. Quotes keep what stands between them together and are taken away.
fn words(text: &str) -> impl Iterator<Item = Cow<'_, str>> {
    let mut quoted = false;
    let parts = text.split(move |c: char| {
        quoted ^= c == '"';
        !quoted && (c.is_whitespace() || c == ',' || c == ';')
    });
    parts.filter(|word| !word.is_empty()).map(|word| match word.contains('"') {
        true => Cow::Owned(word.replace('"', "")),
        false => Cow::Borrowed(word),
    })
}

/// The texts of all `[[fault ...]]` directives in a prompt.
pub fn directives(prompt: &str) -> impl Iterator<Item = &str> {
    prompt.split("[[fault").skip(1).filter_map(|rest| rest.split_once("]]").map(|(directive, _)| directive))
}

#[cfg(test)]
mod tests;
