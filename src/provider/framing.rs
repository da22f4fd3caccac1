//! Bytes to events, whatever the bytes are cut into: server-sent events and lines here, Amazon's frames in [`frames`].
//!
//! The grammar of server-sent events is the WHATWG event-stream grammar (LF, CRLF and CR line ends, comments, several `data:` lines, a leading BOM)
//! with three additions that live streams need: a cap on one event, bad UTF-8 replaced instead of refused, and the
//! unterminated last event handed out at the end. eventsource-stream 0.2 panics on a leading BOM, takes quadratic time
//! on large events and loses the last one; with the splitting done here, only twenty lines were left of its work, and
//! one `Stream` per frame was too dear a way to reuse them.

pub mod frames;

use frames::Frames;

/// One event longer than this ends the stream (faults B08).
pub const MAX_EVENT_BYTES: usize = 4 << 20;

/// How a provider cuts its stream into events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    #[default]
    Sse,
    /// One JSON document a line (`application/x-ndjson`).
    Lines,
    /// Amazon's binary frames.
    Frames,
}

impl Framing {
    /// The media type of a stream cut this way.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Sse => "text/event-stream",
            Self::Lines => "application/x-ndjson",
            Self::Frames => "application/vnd.amazon.eventstream",
        }
    }

    /// How an answer of this media type is cut. Proxies turn other framings into server-sent events and say so.
    pub fn labelled(self, media_type: &str) -> Self {
        if media_type == Self::Sse.media_type() { Self::Sse } else { self }
    }

    pub fn cutter(self) -> Cutter {
        match self {
            Self::Sse | Self::Lines => Cutter::Text(Splitter::new(self)),
            Self::Frames => Cutter::Frames(Frames::default()),
        }
    }
}

/// Takes a stream's bytes as they come, in the provider's framing.
#[derive(Debug)]
pub enum Cutter {
    Text(Splitter),
    Frames(Frames),
}

impl Cutter {
    pub fn push(&mut self, bytes: &[u8], events: &mut Vec<Event>) -> Result<(), Broken> {
        match self {
            Self::Text(splitter) => splitter.push(bytes, events),
            Self::Frames(frames) => frames.push(bytes, events),
        }
    }

    /// The end of the body. Half a frame is nothing.
    pub fn finish(&mut self, events: &mut Vec<Event>) {
        match self {
            Self::Text(splitter) => splitter.finish(events),
            Self::Frames(_) => {}
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The `event:` field or the frame's type, empty if there was none.
    pub name: String,
    pub data: String,
    /// Thrown into the stream: JSON outside of any field, as some providers cut a stream with a bare error object, or a
    /// frame that is marked as an exception.
    pub stray: bool,
}

/// The stream cannot be cut into events any further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// An event grew beyond [`MAX_EVENT_BYTES`].
    #[error("an event of the stream is larger than 4 MiB")]
    TooLarge,
    #[error("a frame of the stream is damaged: {0}")]
    Frame(String),
}

/// The splitter: push bytes as they come, then [`Splitter::finish`].
#[derive(Debug, Default)]
pub struct Splitter {
    framing: Framing,
    /// An unfinished line.
    line: Vec<u8>,
    name: String,
    data: Vec<u8>,
    has_data: bool,
    stray: Vec<u8>,
    /// The last byte was CR: an LF that follows belongs to it.
    after_cr: bool,
    started: bool,
}

impl Splitter {
    pub fn new(framing: Framing) -> Self {
        Self { framing, ..Self::default() }
    }

    /// Takes the next bytes and appends the events that they complete. Linear in the bytes, however they are cut.
    pub fn push(&mut self, mut bytes: &[u8], events: &mut Vec<Event>) -> Result<(), Broken> {
        while !bytes.is_empty() {
            if std::mem::take(&mut self.after_cr) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let Some(end) = memchr::memchr2(b'\n', b'\r', bytes) else {
                self.line.extend_from_slice(bytes);
                return self.check_size();
            };
            if self.line.len() + end > MAX_EVENT_BYTES {
                return Err(Broken::TooLarge);
            }
            self.after_cr = bytes[end] == b'\r';
            if self.line.is_empty() {
                self.take_line(&bytes[..end], events);
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(&bytes[..end]);
                self.take_line(&line, events);
                line.clear();
                self.line = line;
            }
            self.check_size()?;
            bytes = &bytes[end + 1..];
        }
        Ok(())
    }

    /// The end of the body: a last line without an end and a last event without a blank line still count.
    pub fn finish(&mut self, events: &mut Vec<Event>) {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            self.take_line(&line, events);
        }
        self.dispatch(events);
        if !self.stray.is_empty() {
            let data = text(&std::mem::take(&mut self.stray));
            events.push(Event { name: String::new(), data, stray: true });
        }
    }

    fn check_size(&self) -> Result<(), Broken> {
        if self.line.len() + self.data.len() + self.stray.len() > MAX_EVENT_BYTES {
            Err(Broken::TooLarge)
        } else {
            Ok(())
        }
    }

    fn take_line(&mut self, mut line: &[u8], events: &mut Vec<Event>) {
        if !std::mem::replace(&mut self.started, true) {
            line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
        }
        if self.framing == Framing::Lines {
            if !line.trim_ascii().is_empty() {
                events.push(Event { data: text(line), ..Event::default() });
            }
            return;
        }
        if line.is_empty() {
            return self.dispatch(events);
        }
        let (field, value) = match memchr::memchr(b':', line) {
            Some(0) => return, // a comment
            Some(colon) => {
                let value = &line[colon + 1..];
                (&line[..colon], value.strip_prefix(b" ").unwrap_or(value))
            }
            None => (line, &b""[..]),
        };
        match field {
            b"data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(value);
            }
            b"event" => self.name = text(value),
            b"id" | b"retry" => {}
            // Not a field: an error object thrown into the stream starts with a brace.
            _ if !self.stray.is_empty() || matches!(line.trim_ascii_start().first(), Some(b'{' | b'[')) => {
                self.stray.extend_from_slice(line);
                self.stray.push(b'\n');
            }
            _ => {}
        }
    }

    fn dispatch(&mut self, events: &mut Vec<Event>) {
        let name = std::mem::take(&mut self.name);
        if std::mem::take(&mut self.has_data) {
            let data = match String::from_utf8(std::mem::take(&mut self.data)) {
                Ok(data) => data,
                Err(error) => text(error.as_bytes()),
            };
            events.push(Event { name, data, stray: false });
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(pieces: &[&[u8]]) -> Vec<Event> {
        let (mut splitter, mut events) = (Splitter::default(), Vec::new());
        for piece in pieces {
            splitter.push(piece, &mut events).expect("small events");
        }
        splitter.finish(&mut events);
        events
    }

    fn data(body: &str) -> Vec<String> {
        split(&[body.as_bytes()]).into_iter().map(|event| event.data).collect()
    }

    #[test]
    fn the_grammar_of_event_streams_is_understood() {
        assert_eq!(data("\u{feff}data: a\n\ndata:b\r\n\r\ndata: c\r\rdata: d"), ["a", "b", "c", "d"]);
        assert_eq!(data(": ping\n\nid: 7\nretry: 9\ndata: one\ndata: two\n\n"), ["one\ntwo"]);
        assert_eq!(data("data\n\n"), [""]);
        assert_eq!(split(&[b"event: x\ndata: 1\n\ndata: 2\n\n"])[0].name, "x");
        assert_eq!(split(&[b"event: x\n\ndata: 2\n\n"])[0].name, "", "an event without data leaves no name behind");
    }

    #[test]
    fn a_bare_error_object_is_not_lost() {
        let events = split(&[b"data: a\n\n{\n \"error\": {\"code\": 503}\n}\n"]);
        assert_eq!(events.len(), 2);
        assert!(events[1].stray && events[1].data.contains("503"));
    }

    #[test]
    fn every_line_is_an_event_where_the_framing_says_so() {
        let body = "\u{feff}{\"a\":1}\r\n\n{\"b\":\"é\"}\n{\"c\":3}".as_bytes();
        for size in [1, 2, 3, 7, 100] {
            let (mut splitter, mut events) = (Splitter::new(Framing::Lines), Vec::new());
            for piece in body.chunks(size) {
                splitter.push(piece, &mut events).expect("small events");
            }
            splitter.finish(&mut events);
            let data: Vec<&str> = events.iter().map(|event| event.data.as_str()).collect();
            assert_eq!(data, ["{\"a\":1}", "{\"b\":\"é\"}", "{\"c\":3}"], "pieces of {size}");
        }
    }

    #[test]
    fn a_line_above_the_cap_is_refused_however_it_comes() {
        let mut line = vec![b'x'; MAX_EVENT_BYTES + 1];
        line.push(b'\n');
        for size in [64 << 10, line.len()] {
            let mut splitter = Splitter::new(Framing::Lines);
            assert!(line.chunks(size).any(|piece| splitter.push(piece, &mut Vec::new()).is_err()), "pieces of {size}");
        }
    }

    #[test]
    fn an_event_without_end_is_refused_at_the_cap() {
        let mut splitter = Splitter::default();
        let piece = vec![b'x'; 64 << 10];
        let pushed = (0..1000).take_while(|_| splitter.push(&piece, &mut Vec::new()).is_ok()).count();
        assert!(pushed <= MAX_EVENT_BYTES / piece.len());
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_events(
            body in "(data: ?[a-zé{}\"]{0,9}|: c|event: e|id: 1|\\{|)(\n|\r\n|\r){1,2}{0,20}",
            cuts in proptest::collection::vec(0usize..400, 0..20),
        ) {
            let bytes = body.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(split(&pieces), split(&[bytes]));
            prop_assert_eq!(split(&single), split(&[bytes]));
        }

        #[test]
        fn no_bytes_make_it_panic(body in proptest::collection::vec(any::<u8>(), 0..500)) {
            split(&[&body]);
        }
    }
}
