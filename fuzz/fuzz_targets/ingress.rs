//! A body in each of the other dialects; what it becomes must be a chat request or be refused as one.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use stepwell::chat::Request;
use stepwell::ingress::{completions, embeddings, messages, responses};

fuzz_target!(|bytes: &[u8]| {
    let body = Bytes::copy_from_slice(bytes);
    for asked in [messages::read(&body), responses::read(&body), completions::read(&body)].into_iter().flatten() {
        if let Ok(request) = Request::parse(asked.chat) {
            let _ = (request.messages(), request.prompt(), request.all_text());
        }
    }
    let _ = (messages::count(&body), embeddings::read(&body).is_ok());
});
