//! `POST /v1/messages/count_tokens`.

use bytes::Bytes;

use super::read;
use crate::chat::{Invalid, Request};

/// The request whose tokens are asked for. Its model decides nothing but whether it exists.
pub fn count(body: &Bytes) -> Result<Request, Invalid> {
    Request::parse(read(body)?.chat)
}
