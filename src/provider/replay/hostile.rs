//! Bytes that no provider should send: arbitrary ones, and recordings with bytes changed, lost and doubled.
//!
//! Nothing may panic, and what is understood must not depend on how the bytes are cut.

use std::sync::LazyLock;

use http::{HeaderMap, StatusCode};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::{FORMATS, cut, recordings, stream_bytes};
use crate::catalog::Format;
use crate::chat::Sequence;
use crate::provider::adapter;
use crate::provider::adapter::Piece;
use crate::provider::framing::{Broken, Event, Framing, MAX_EVENT_BYTES};

const FRAMINGS: [Framing; 3] = [Framing::Sse, Framing::Lines, Framing::Frames];

/// Beyond this a recording adds time and nothing else.
const LARGEST_RECORDING: usize = 64 << 10;

static STREAMS: LazyLock<Vec<(Format, Vec<u8>)>> = LazyLock::new(|| {
    let streams = recordings().into_iter().filter_map(|recording| {
        let bytes = stream_bytes(recording.format, &recording.response)?;
        (bytes.len() <= LARGEST_RECORDING).then_some((recording.format, bytes))
    });
    streams.collect()
});

static BODIES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let answers = recordings().into_iter().filter(|recording| recording.response["body"].is_object());
    answers.map(|recording| recording.response["body"].to_string().into_bytes()).collect()
});

/// One change to a run of bytes.
#[derive(Clone, Debug)]
enum Change {
    Set(Index, u8),
    Lose(Index, usize),
    Double(Index, usize),
    Insert(Index, Vec<u8>),
}

fn change() -> impl Strategy<Value = Change> {
    let telling = proptest::sample::select(&b"\"\\{}[]:,\n\r\0 d-9e\xFF\xC3"[..]);
    prop_oneof![
        (any::<Index>(), prop_oneof![any::<u8>(), telling]).prop_map(|(at, byte)| Change::Set(at, byte)),
        (any::<Index>(), 1usize..60).prop_map(|(at, length)| Change::Lose(at, length)),
        (any::<Index>(), 1usize..400).prop_map(|(at, length)| Change::Double(at, length)),
        (any::<Index>(), vec(any::<u8>(), 1..12)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
    ]
}

fn changed(bytes: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for change in changes {
        if bytes.is_empty() {
            break;
        }
        match change {
            Change::Set(at, byte) => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Change::Lose(at, length) => {
                let at = at.index(bytes.len());
                bytes.drain(at..(at + length).min(bytes.len()));
            }
            Change::Double(at, length) => {
                let at = at.index(bytes.len());
                let run = bytes[at..(at + length).min(bytes.len())].to_vec();
                bytes.splice(at..at, run);
            }
            Change::Insert(at, more) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, more.iter().copied());
            }
        }
    }
    bytes
}

/// The events of a stream, and what ended it early.
fn events<'a>(framing: Framing, pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Event>, Option<Broken>) {
    let (mut cutter, mut events) = (framing.cutter(), Vec::new());
    for piece in pieces {
        if let Err(broken) = cutter.push(piece, &mut events) {
            return (events, Some(broken));
        }
    }
    cutter.finish(&mut events);
    (events, None)
}

/// What a decoder makes of a stream, written out, with every chunk taken through the sequence that a caller gets.
fn understood<'a>(format: Format, pieces: impl IntoIterator<Item = &'a [u8]>) -> String {
    let (events, broken) = events(adapter(format).framing(), pieces);
    let (mut decoder, mut sequence, mut out) = (adapter(format).decoder(), Sequence::default(), Vec::new());
    events.iter().for_each(|event| decoder.event(event, &mut out));
    let seen = format!("{out:?} {broken:?}");
    for piece in out {
        if let Piece::Chunk(chunk) = piece {
            sequence.accept(chunk);
        }
    }
    seen
}

proptest! {
    #[test]
    fn a_damaged_stream_means_the_same_however_it_is_cut(
        which in any::<Index>(),
        changes in vec(change(), 1..6),
        seed in any::<u64>(),
    ) {
        let (format, bytes) = &STREAMS[which.index(STREAMS.len())];
        let bytes = changed(bytes, &changes);
        let whole = understood(*format, [&bytes[..]]);
        prop_assert_eq!(&understood(*format, cut(&bytes, seed)), &whole);
        prop_assert_eq!(&understood(*format, bytes.chunks(1)), &whole);
    }

    #[test]
    fn no_bytes_mean_something_else_when_they_are_cut(
        bytes in vec(prop_oneof![any::<u8>(), proptest::sample::select(&b"\n\r:{}d \0"[..])], 0..600),
        seed in any::<u64>(),
    ) {
        for framing in FRAMINGS {
            let whole = events(framing, [&bytes[..]]);
            prop_assert_eq!(&events(framing, cut(&bytes, seed)), &whole, "{:?}", framing);
            prop_assert_eq!(&events(framing, bytes.chunks(1)), &whole, "{:?}", framing);
        }
    }

    #[test]
    fn no_answer_makes_a_reader_panic(
        which in any::<Index>(),
        changes in vec(change(), 0..6),
        noise in vec(any::<u8>(), 0..200),
        status in 300u16..600,
    ) {
        let body = changed(&BODIES[which.index(BODIES.len())], &changes);
        let status = StatusCode::from_u16(status).expect("a status");
        for format in FORMATS {
            for bytes in [&body, &noise] {
                let _ = adapter(format).decode(bytes);
                let _ = adapter(format).vectors(bytes);
                let _ = adapter(format).failure(status, &HeaderMap::new(), bytes, 0);
            }
        }
    }
}

#[test]
fn what_never_ends_is_refused_before_it_is_held() {
    const PIECE: usize = 64 << 10;
    let line = |text: &str| text.repeat(PIECE / text.len());
    let endless = [
        (Framing::Sse, line("x")),
        (Framing::Sse, line("data: ")),
        (Framing::Sse, line("data: xxxxxxx\n")),
        (Framing::Sse, line("{\"error\":1}\n")),
        (Framing::Lines, line("x")),
        (Framing::Lines, line(" ")),
        // A frame that claims to have 2 GiB.
        (Framing::Frames, line("\u{7f}")),
    ];
    for (framing, piece) in endless {
        let (mut cutter, mut events) = (framing.cutter(), Vec::new());
        let taken = (0..1000).take_while(|_| cutter.push(piece.as_bytes(), &mut events).is_ok()).count();
        // Fields' names come and are not held, so a little more may come than is.
        assert!(taken <= 2 * MAX_EVENT_BYTES / PIECE, "{framing:?} of {:?}: {taken} pieces", &piece[..12]);
        assert!(events.is_empty(), "{framing:?}");
    }
}
