//! Compression both ways: long answers for clients that accept it, and bodies that come compressed.
//!
//! Event streams are never compressed: an encoder holds back what a reader waits for. Every SDK says that it accepts gzip,
//! and an ordinary chat answer has 1 to 4 KB: compressing it takes 60 us, as much as all the rest of the request, to spare a
//! packet or two. From `LEAST` on (lists of models, reports, long answers, embeddings) it pays: 100 us for 8 KiB, 2 ms for
//! 300 KB (zlib at its fastest).

use std::convert::Infallible;
use std::error::Error;
use std::future::ready;
use std::io;

use async_compression::tokio::bufread::{BrotliDecoder, GzipDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use axum::body::Body;
use axum::response::Response;
use futures_util::StreamExt;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::{LengthLimitError, Limited};
use hyper::body::Body as _;
use tokio::io::AsyncRead;
use tokio_util::io::{ReaderStream, StreamReader};
use tower::{Layer, Service, service_fn};
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;

use super::error::ApiError;

/// Shortest answer that is compressed, in bytes.
const LEAST: u64 = 8 << 10;

/// Largest window of a zstd body, as a power of two: 8 MiB, which every decoder has to support (RFC 8878, section
/// 3.1.1.1.2). A frame of a few bytes may ask for far more memory.
const ZSTD_WINDOW: u32 = 23;

/// Compresses an answer in the way that the client likes best, if it is long and whole.
pub async fn fit(response: Response, accepts: HeaderValue) -> Response {
    let is_long = response.body().size_hint().exact().is_some_and(|length| length >= LEAST);
    if !is_long || response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream") {
        return response;
    }
    let mut request = Request::new(());
    request.headers_mut().insert(ACCEPT_ENCODING, accepts);
    // The answer is there; the layer only encodes it.
    let mut answer = Some(response);
    let answering = service_fn(|_| ready(Ok::<_, Infallible>(answer.take().unwrap_or_default())));
    let layer = CompressionLayer::new().quality(CompressionLevel::Fastest);
    let Ok(response) = layer.layer(answering).call(request).await;
    response.map(Body::new)
}

/// The body behind `content-encoding`. Neither the bytes that come nor those that come out of them exceed `limit` by more
/// than a piece: the second is for the reader to see to, with [`is_too_long`] for both.
pub fn decoded(headers: &HeaderMap, body: Body, limit: usize) -> Result<Body, ApiError> {
    let mut written = headers.get_all(CONTENT_ENCODING).iter();
    let (first, more) = (written.next(), written.next().is_some());
    let Some(encoding) = first else { return Ok(body) };
    let encoding = encoding.to_str().unwrap_or_default().trim().to_ascii_lowercase();
    if encoding == "identity" && !more {
        return Ok(body);
    }
    // A stream that unpacks to nothing is one that never ends.
    let coming = Body::new(Limited::new(body, limit)).into_data_stream().map(|piece| piece.map_err(io::Error::other));
    let coming = StreamReader::new(coming);
    match &*encoding {
        "gzip" | "x-gzip" if !more => {
            let mut decoder = GzipDecoder::new(coming);
            decoder.multiple_members(true);
            Ok(unpacked(decoder))
        }
        "br" if !more => Ok(unpacked(BrotliDecoder::new(coming))),
        "zstd" if !more => Ok(unpacked(ZstdDecoder::with_params(coming, &[DParameter::window_log_max(ZSTD_WINDOW)]))),
        _ => Err(ApiError::request(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_content_encoding",
            None,
            "the body's `content-encoding` is not understood; use gzip, br or zstd, one of them, or none",
        )),
    }
}

fn unpacked(decoder: impl AsyncRead + Send + 'static) -> Body {
    Body::from_stream(ReaderStream::with_capacity(decoder, PIECE))
}

/// Bytes that are unpacked at a time.
const PIECE: usize = 16 << 10;

/// Whether a body could not be read because it, or what it was packed as, exceeds a limit.
pub fn is_too_long(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<LengthLimitError>() {
            return true;
        }
        // An input error that carries another one shows that one's source as its own.
        let carried = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause = carried.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source());
    }
    false
}
