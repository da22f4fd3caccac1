//! A chat request, read to its last message.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use stepwell::chat::Request;

fuzz_target!(|bytes: &[u8]| {
    let Ok(request) = Request::parse(Bytes::copy_from_slice(bytes)) else { return };
    let _ = (request.messages(), request.prompt(), request.all_text());
});
