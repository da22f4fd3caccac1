//! A stream in every framing: the same events whether it comes at once or in pieces. The first byte is their size.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stepwell::provider::framing::{Broken, Event, Framing};

fn events<'a>(framing: Framing, pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Event>, Option<Broken>) {
    let (mut cutter, mut events) = (framing.cutter(), Vec::new());
    for piece in pieces {
        if let Err(broken) = cutter.push(piece, &mut events) {
            return (events, Some(broken));
        }
    }
    cutter.finish(&mut events);
    (events, None)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((size, body)) = bytes.split_first() else { return };
    for framing in [Framing::Sse, Framing::Lines, Framing::Frames] {
        let whole = events(framing, std::iter::once(body));
        assert_eq!(events(framing, body.chunks(usize::from(*size).max(1))), whole, "{framing:?}");
    }
});
