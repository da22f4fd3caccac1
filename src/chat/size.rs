//! How much a request sends beside what its messages say: what a worst case has to count.

use super::native::Inputs;
use super::request::Request;

/// Members that are read here and not sent, or counted elsewhere.
const COUNTED: [&str; 6] = ["messages", "tools", "context", "metadata", "models", "provider"];
/// A shorter member is a switch and no text, in bytes.
const SWITCH: usize = 64;
/// What a message takes around its text, in bytes.
const FRAME: usize = 96;

impl Request {
    /// Bytes that a provider may read as text beside the messages' texts and the tools: schemas, functions, predictions,
    /// names, reasoning, token ids. Nothing for an ordinary request.
    pub fn other_bytes(&self) -> usize {
        if let Some(embed) = &self.embed {
            return if matches!(embed.inputs, Inputs::Tokens(_)) { embed.body.len() } else { 0 };
        }
        let members = self.members.iter().filter(|(name, _)| !COUNTED.contains(&&**name)).map(|(_, range)| range.len());
        let members: usize = members.filter(|length| *length > SWITCH).sum();
        let messages = self.member("messages").unwrap_or_default();
        let texts = self.text_bytes() - self.member("tools").map_or(0, str::len);
        let around = messages.len().saturating_sub(texts + self.turns() * FRAME);
        members + around.saturating_sub(self.media_bytes(messages))
    }

    /// Encoded images, sound and files, as many as there are; they cost by their number.
    fn media_bytes(&self, messages: &str) -> usize {
        let count = self.images() + self.audio() + self.files();
        if count == 0 {
            return 0;
        }
        let mut lengths: Vec<usize> = [&b";base64,"[..], b"\"data\":\"", b"\"data\": \""]
            .into_iter()
            .flat_map(|mark| memchr::memmem::find_iter(messages.as_bytes(), mark).map(move |at| at + mark.len()))
            .map(|start| memchr::memchr(b'"', &messages.as_bytes()[start..]).unwrap_or(0))
            .collect();
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        lengths.into_iter().take(count).sum()
    }
}
