//! Parts of messages as Converse's content blocks.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::NAME;
use crate::chat::{Extra, Part};
use crate::provider::adapter::Untranslatable;
use crate::provider::media::{self, Inline};
use crate::provider::wanted::refuse;

/// Writes blocks, and remembers what concerns the whole request.
#[derive(Debug, Default)]
pub struct Blocks {
    /// The model takes cache points.
    caches: bool,
    /// A cache mark was left out.
    pub marks_lost: bool,
    /// Names of documents: each may stand once.
    documents: HashSet<String>,
}

impl Blocks {
    pub fn new(caches: bool) -> Self {
        Self { caches, ..Self::default() }
    }

    /// Appends a part, and its cache point if it is marked. `path` is where the part stands, for a refusal.
    pub fn part(&mut self, part: &Part, path: &str, out: &mut Vec<Value>) -> Result<(), Untranslatable> {
        let none = Extra::new();
        let (block, extra) = match part {
            // Blank text is refused, except in front of a cache point (recordings).
            Part::Text { text: words, extra } if !words.is_empty() && is_marked(extra) && self.caches => {
                (Some(json!({ "text": words })), extra)
            }
            Part::Text { text: words, extra } => (text(words), extra),
            Part::Refusal(words) => (text(words), &none),
            Part::Image { url, extra, .. } => {
                let image = image(url).ok_or_else(|| {
                    refuse(
                        path,
                        "an image must be a base64 data URL of type jpeg, png, gif or webp, or an s3:// address",
                    )
                })?;
                (Some(image), extra)
            }
            Part::File { filename, data, extra, .. } => {
                let data =
                    data.as_deref().ok_or_else(|| refuse(path, "a file id is known to its own provider only"))?;
                let document = self.document(data, filename.as_deref()).ok_or_else(|| {
                    let kinds = "pdf, csv, doc, docx, xls, xlsx, html, txt or md";
                    refuse(path, format!("a file must be {kinds}, as a base64 data URL or an s3:// address"))
                })?;
                (Some(document), extra)
            }
            Part::Audio { .. } => return Err(refuse(path, format!("{NAME} takes no audio"))),
            Part::Other { kind, .. } => return Err(refuse(path, format!("{NAME} knows no part of type `{kind}`"))),
        };
        if let Some(block) = block {
            out.push(block);
            self.cache_point(extra, out);
        }
        Ok(())
    }

    /// Anthropic marks the last block of what is to be cached; Converse wants a block of its own behind it.
    pub fn cache_point(&mut self, extra: &Extra, out: &mut Vec<Value>) {
        let control = extra.iter().find(|(name, raw)| &**name == "cache_control" && raw.get() != "null");
        let Some((_, raw)) = control else { return };
        self.mark(&serde_json::from_str(raw.get()).unwrap_or_default(), out);
    }

    fn mark(&mut self, control: &Value, out: &mut Vec<Value>) {
        if !self.caches {
            self.marks_lost = true;
            return;
        }
        // None stands right behind a document (recordings put a line break between).
        if out.last().is_some_and(|last| last.get("document").is_some()) {
            out.push(json!({"text": "\n"}));
        }
        out.push(cache_point(control));
    }

    fn document(&mut self, data: &str, filename: Option<&str>) -> Option<Value> {
        let (format, source) = if data.starts_with("s3://") {
            (by_ending(filename.unwrap_or(data))?, json!({"s3Location": {"uri": data}}))
        } else {
            match media::inline(data) {
                Some(Inline { media_type, data }) => {
                    let format = by_media_type(&media_type).or_else(|| by_ending(filename?))?;
                    (format, json!({ "bytes": data }))
                }
                // Bare base64, with only the name to tell what it is.
                None if data.contains(':') => return None,
                None => (by_ending(filename?)?, json!({ "bytes": data })),
            }
        };
        let name = self.name(filename.unwrap_or("document"));
        Some(json!({"document": {"format": format, "name": name, "source": source}}))
    }

    /// A name as Converse takes it: letters, digits, single spaces, hyphens and brackets, and no other document's
    /// (API reference, DocumentBlock).
    fn name(&mut self, filename: &str) -> String {
        let stem = filename.rsplit_once('.').map_or(filename, |(stem, _)| stem);
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-()[]".contains(c) { c } else { ' ' };
        let words: String = stem.chars().map(plain).take(180).collect();
        let name = words.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        let name = if name.is_empty() { "document".to_owned() } else { name };
        let numbered = (2..).map(|number| format!("{name} {number}"));
        let free = std::iter::once(name.clone()).chain(numbered).find(|name| !self.documents.contains(name));
        let name = free.unwrap_or(name);
        self.documents.insert(name.clone());
        name
    }
}

fn is_marked(extra: &Extra) -> bool {
    extra.iter().any(|(name, raw)| &**name == "cache_control" && raw.get() != "null")
}

/// A block of text, `None` if there is none: blank text is refused.
pub fn text(text: &str) -> Option<Value> {
    (!text.trim().is_empty()).then(|| json!({ "text": text }))
}

pub fn cache_point(control: &Value) -> Value {
    match control["ttl"].as_str() {
        Some(ttl @ ("5m" | "1h")) => json!({"cachePoint": {"type": "default", "ttl": ttl}}),
        _ => json!({"cachePoint": {"type": "default"}}),
    }
}

fn image(url: &str) -> Option<Value> {
    let format = |subtype: &str| match subtype {
        "png" => Some("png"),
        "jpeg" | "jpg" => Some("jpeg"),
        "gif" => Some("gif"),
        "webp" => Some("webp"),
        _ => None,
    };
    let (format, source) = match media::inline(url) {
        Some(Inline { media_type, data }) => (format(media_type.strip_prefix("image/")?)?, json!({ "bytes": data })),
        None if url.starts_with("s3://") => {
            (format(media::guess(url)?.strip_prefix("image/")?)?, json!({"s3Location": {"uri": url}}))
        }
        None => return None,
    };
    Some(json!({"image": {"format": format, "source": source}}))
}

fn by_media_type(media_type: &str) -> Option<&'static str> {
    Some(match media_type {
        "application/pdf" => "pdf",
        "text/csv" => "csv",
        "application/msword" => "doc",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document" => "docx",
        "application/vnd.ms-excel" => "xls",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet" => "xlsx",
        "text/html" => "html",
        "text/plain" => "txt",
        "text/markdown" => "md",
        _ => return None,
    })
}

fn by_ending(name: &str) -> Option<&'static str> {
    let (_, ending) = name.rsplit_once('.')?;
    let ending = ending.to_ascii_lowercase();
    ["pdf", "csv", "doc", "docx", "xls", "xlsx", "html", "txt", "md"].into_iter().find(|known| *known == ending)
}

/// An id that Converse accepts: at most 64 letters, digits, `_` and `-` (API reference, ToolUseBlock).
pub fn tool_id(id: &str) -> String {
    const LONGEST: usize = 64;
    let plain = crate::provider::anthropic::block::tool_id(id);
    match plain.len() {
        0..=LONGEST => plain,
        _ => format!("{}_{}", &plain[..LONGEST - 9], &blake3::hash(id.as_bytes()).to_hex()[..8]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_have_plain_names_and_no_two_the_same() {
        let mut blocks = Blocks::default();
        let names: Vec<String> =
            ["Q1_report (v2).pdf", "Q1 report (v2).pdf", "..", "été  2026.md"].map(|name| blocks.name(name)).to_vec();
        assert_eq!(names, ["Q1 report (v2)", "Q1 report (v2) 2", "document", "t 2026"]);
    }

    #[test]
    fn long_ids_are_shortened_and_stay_different() {
        let (one, other) = ("x".repeat(70) + "1", "x".repeat(70) + "2");
        assert_eq!(tool_id(&one).len(), 64);
        assert_ne!(tool_id(&one), tool_id(&other));
        assert_eq!(tool_id("tooluse_1"), "tooluse_1");
    }
}
