//! Amazon's binary event stream (`application/vnd.amazon.eventstream`), whatever its bytes are cut into.
//!
//! A frame is its length, the length of its headers, a checksum of both, the headers, the payload and a checksum of it
//! all. Amazon's own crate reads a whole frame and checks it; here frames are collected, within a bound, each byte copied
//! at most once.

use aws_smithy_eventstream::frame::read_message_from;

use super::{Broken, Event, MAX_EVENT_BYTES};

/// Length, length of the headers, and the checksum of the two.
const PRELUDE_BYTES: usize = 12;
/// A frame is at least its prelude and the last checksum.
const SMALLEST_FRAME: usize = PRELUDE_BYTES + 4;

/// The splitter for frames. After an error it is of no more use.
#[derive(Debug, Default)]
pub struct Frames {
    /// The beginning of a frame.
    partial: Vec<u8>,
}

impl Frames {
    pub fn push(&mut self, mut bytes: &[u8], events: &mut Vec<Event>) -> Result<(), Broken> {
        loop {
            if self.partial.is_empty() {
                // Frames that lie in these bytes as a whole are read where they are.
                match length(bytes)? {
                    Some(length) if length <= bytes.len() => {
                        events.push(event(&bytes[..length])?);
                        bytes = &bytes[length..];
                        continue;
                    }
                    _ => self.partial.extend_from_slice(bytes),
                }
                return Ok(());
            }
            let wanted = length(&self.partial)?.unwrap_or(PRELUDE_BYTES);
            let missing = wanted.saturating_sub(self.partial.len()).min(bytes.len());
            self.partial.extend_from_slice(&bytes[..missing]);
            bytes = &bytes[missing..];
            match length(&self.partial)? {
                Some(length) if length == self.partial.len() => {
                    events.push(event(&self.partial)?);
                    self.partial.clear();
                }
                // The prelude is complete, and more bytes of this frame are here.
                Some(_) if !bytes.is_empty() => {}
                _ => return Ok(()),
            }
        }
    }
}

/// The length of the frame that begins here; `None` if too little has come to tell.
fn length(bytes: &[u8]) -> Result<Option<usize>, Broken> {
    let Some(prelude) = bytes.get(..PRELUDE_BYTES) else { return Ok(None) };
    let length = u32::from_be_bytes([prelude[0], prelude[1], prelude[2], prelude[3]]) as usize;
    match length {
        0..SMALLEST_FRAME => Err(Broken::Frame("impossible length".to_owned())),
        _ if length > MAX_EVENT_BYTES => Err(Broken::TooLarge),
        _ => Ok(Some(length)),
    }
}

/// A whole frame as an event: named after its type, with its payload as data.
fn event(mut frame: &[u8]) -> Result<Event, Broken> {
    let message = read_message_from(&mut frame).map_err(|error| Broken::Frame(error.to_string()))?;
    let header = |name: &str| {
        let header = message.headers().iter().find(|header| header.name().as_str() == name)?;
        header.value().as_string().ok().map(|value| value.as_str().to_owned())
    };
    let payload = || String::from_utf8_lossy(message.payload()).into_owned();
    Ok(match header(":message-type").as_deref() {
        Some("exception") => {
            Event { name: header(":exception-type").unwrap_or_default(), data: payload(), stray: true }
        }
        // An error has no payload: code and message are headers (Smithy, Amazon Event Stream).
        Some("error") => Event {
            name: header(":error-code").unwrap_or_default(),
            data: serde_json::json!({"message": header(":error-message").unwrap_or_default()}).to_string(),
            stray: true,
        },
        _ => Event { name: header(":event-type").unwrap_or_default(), data: payload(), stray: false },
    })
}

/// A frame with text headers, for tests.
#[cfg(test)]
pub fn frame(headers: &[(&str, &str)], payload: &str) -> Vec<u8> {
    let mut written = Vec::new();
    for (name, value) in headers {
        written.push(name.len() as u8);
        written.extend_from_slice(name.as_bytes());
        written.push(7);
        written.extend_from_slice(&(value.len() as u16).to_be_bytes());
        written.extend_from_slice(value.as_bytes());
    }
    let mut frame = ((written.len() + payload.len() + SMALLEST_FRAME) as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(&(written.len() as u32).to_be_bytes());
    frame.extend_from_slice(&checksum(&frame).to_be_bytes());
    frame.extend_from_slice(&written);
    frame.extend_from_slice(payload.as_bytes());
    frame.extend_from_slice(&checksum(&frame).to_be_bytes());
    frame
}

/// CRC-32, bit by bit.
#[cfg(test)]
pub fn checksum(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0xEDB8_8320 & (sum & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(pieces: &[&[u8]]) -> Result<Vec<Event>, Broken> {
        let (mut frames, mut events) = (Frames::default(), Vec::new());
        pieces.iter().try_for_each(|piece| frames.push(piece, &mut events))?;
        Ok(events)
    }

    fn delta(payload: &str) -> Vec<u8> {
        frame(&[(":event-type", "contentBlockDelta"), (":message-type", "event")], payload)
    }

    #[test]
    fn a_frame_is_named_after_its_type() {
        let exception = frame(&[(":message-type", "exception"), (":exception-type", "throttlingException")], "{}");
        let error =
            frame(&[(":message-type", "error"), (":error-code", "Oops"), (":error-message", "no \"luck\"")], "");
        let events = split(&[&delta("{\"a\":1}"), &exception, &error]).expect("events");
        let seen: Vec<_> = events.iter().map(|event| (event.name.as_str(), event.data.as_str(), event.stray)).collect();
        assert_eq!(
            seen,
            [
                ("contentBlockDelta", "{\"a\":1}", false),
                ("throttlingException", "{}", true),
                ("Oops", "{\"message\":\"no \\\"luck\\\"\"}", true)
            ]
        );
    }

    #[test]
    fn a_wrong_checksum_or_length_is_an_error() {
        let whole = delta("{}");
        for at in 0..whole.len() {
            let mut bent = whole.clone();
            bent[at] ^= 0x10;
            // A frame that claims to be longer is waited for, if it is not too long.
            assert!(split(&[&bent]).map_or(true, |events| events.is_empty()), "byte {at}");
        }
        assert_eq!(split(&[&[0; 12]]), Err(Broken::Frame("impossible length".to_owned())));
        assert_eq!(split(&[&[0x7F; 12]]), Err(Broken::TooLarge));
    }

    #[test]
    fn a_large_frame_in_small_pieces_takes_linear_time() {
        let whole = delta(&"x".repeat(3 << 20));
        let begun = std::time::Instant::now();
        assert_eq!(split(&whole.chunks(7).collect::<Vec<_>>()).expect("events").len(), 1);
        assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_events(
            payloads in proptest::collection::vec("[a-zé]{0,40}", 0..6),
            cuts in proptest::collection::vec(0usize..800, 0..20),
        ) {
            let bytes: Vec<u8> = payloads.iter().flat_map(|payload| delta(payload)).collect();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let whole = split(&[&bytes]);
            prop_assert_eq!(whole.as_ref().map(Vec::len), Ok(payloads.len()));
            prop_assert_eq!(split(&pieces), whole.clone());
            prop_assert_eq!(split(&bytes.chunks(1).collect::<Vec<_>>()), whole);
        }

        #[test]
        fn no_bytes_make_it_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 16..200),
            sealed in any::<bool>(),
        ) {
            if sealed {
                // Right lengths and checksums, and nonsense in between.
                let length = bytes.len() as u32;
                bytes[..4].copy_from_slice(&length.to_be_bytes());
                let headers = u32::from(bytes[7]) % length;
                bytes[4..8].copy_from_slice(&headers.to_be_bytes());
                let sum = checksum(&bytes[..8]);
                bytes[8..12].copy_from_slice(&sum.to_be_bytes());
                let end = bytes.len() - 4;
                let sum = checksum(&bytes[..end]);
                bytes[end..].copy_from_slice(&sum.to_be_bytes());
            }
            let _ = split(&[&bytes]);
        }
    }
}
