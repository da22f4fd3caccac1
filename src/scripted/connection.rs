//! One connection: requests in, answers out, as badly as the script says.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::act::{Act, Content};
use super::answer::{self, Answer};
use super::journal::Call;
use super::{Busy, Open, State};
use crate::catalog::Fault;
use crate::catalog::fault::{Break, Breaking};

/// Longer heads and bodies are not read: nobody who tests a router sends them.
const MAX_HEAD: usize = 1 << 20;
const MAX_BODY: usize = 256 << 20;
/// As long as anybody waits.
const FOR_EVER: Duration = Duration::from_secs(24 * 3600);

/// How long a request is read that has its answer already.
const LINGER: Duration = Duration::from_secs(5);

/// A connection with what was read of it and not yet used.
struct Connection {
    stream: TcpStream,
    buffer: BytesMut,
}

/// A request's head.
struct Head {
    /// As it came.
    text: String,
}

impl Head {
    /// The value of a header, `name` in lower case; several are joined by `;`.
    fn header(&self, name: &str) -> String {
        let lines = self.text.lines().skip(1).filter_map(|line| line.split_once(':'));
        let values = lines.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim());
        values.collect::<Vec<_>>().join(";")
    }

    /// Method and path without the query.
    fn line(&self) -> (&str, &str) {
        let mut words = self.text.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        (method, target.split('?').next().unwrap_or_default())
    }
}

/// Serves a connection until either side has enough of it.
pub(super) async fn serve(stream: TcpStream, number: u64, open: Open) {
    let state = &*open.0;
    let mut connection = Connection { stream, buffer: BytesMut::new() };
    // Small pieces are the point: the kernel must not gather them.
    let _ = connection.stream.set_nodelay(true);
    while let Ok(true) = connection.exchange(number, state).await {}
}

impl Connection {
    /// One request and its answer. `Ok(true)`: the connection is good for another one.
    async fn exchange(&mut self, number: u64, state: &State) -> std::io::Result<bool> {
        let head = self.head().await?;
        let x_fault = head.header("x-fault");
        let early = state.is_early(&x_fault);
        let body = if early { Bytes::new() } else { self.body(&head).await? };
        let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        if head.line() == ("GET", "/calls") {
            let page = state.journal.lock().page(state.began).to_string();
            self.page(&page).await?;
            return Ok(true);
        }
        let keeps = !head.header("connection").eq_ignore_ascii_case("close");
        let lists = head.line().0 == "GET" && head.line().1.ends_with("/models");
        let lowered = head.text.to_ascii_lowercase();
        state.record(Call { head: lowered, body: body.clone(), arrived: Instant::now(), connection: number });
        let act = state.choose(&x_fault, &body);
        if lists && act.fault == Fault::default() && !matches!(act.content, Content::Raw { .. } | Content::Wire(_)) {
            self.page(&models().to_string()).await?;
            return Ok(keeps);
        }
        let busy = Busy::begin(state);
        let outcome = self.perform(&act, &body).await;
        drop(busy);
        if outcome.is_err() {
            state.left();
        }
        if early && outcome.is_ok() {
            self.drain().await?;
        }
        outcome.map(|good| good && keeps && !early)
    }

    /// Says that nothing more comes and takes what does, for a while: closing over unread bytes would be a reset, which
    /// may overtake the answer.
    async fn drain(&mut self) -> std::io::Result<()> {
        self.stream.shutdown().await?;
        let rest = async {
            while self.stream.read_buf(&mut self.buffer).await.is_ok_and(|read| read > 0) {
                self.buffer.clear();
            }
        };
        let _ = tokio::time::timeout(LINGER, rest).await;
        Ok(())
    }

    async fn head(&mut self) -> std::io::Result<Head> {
        let mut looked_at = 0usize;
        loop {
            let from = looked_at.saturating_sub(3);
            if let Some(end) = memchr::memmem::find(&self.buffer[from..], b"\r\n\r\n") {
                let head = self.buffer.split_to(from + end + 4);
                return Ok(Head { text: String::from_utf8_lossy(&head[..from + end]).into_owned() });
            }
            looked_at = self.buffer.len();
            self.more(MAX_HEAD).await?;
        }
    }

    async fn body(&mut self, head: &Head) -> std::io::Result<Bytes> {
        if head.header("expect").eq_ignore_ascii_case("100-continue") {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        if head.header("transfer-encoding").to_ascii_lowercase().contains("chunked") {
            return self.chunks().await;
        }
        let length: usize = head.header("content-length").parse().unwrap_or(0);
        while self.buffer.len() < length {
            self.more(MAX_BODY).await?;
        }
        Ok(self.buffer.split_to(length).freeze())
    }

    async fn chunks(&mut self) -> std::io::Result<Bytes> {
        let mut body = BytesMut::new();
        loop {
            let line = loop {
                match memchr::memmem::find(&self.buffer, b"\r\n") {
                    Some(end) => break self.buffer.split_to(end + 2),
                    None => self.more(MAX_HEAD).await?,
                }
            };
            let size = String::from_utf8_lossy(&line);
            let size = size.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(|_| std::io::ErrorKind::InvalidData)?;
            if body.len().saturating_add(size) > MAX_BODY {
                return Err(std::io::ErrorKind::InvalidData.into());
            }
            while self.buffer.len() < size + 2 {
                self.more(MAX_BODY).await?;
            }
            let chunk = self.buffer.split_to(size + 2);
            body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                return Ok(body.freeze());
            }
        }
    }

    /// Reads on; an error at the end of the connection, or when more than `limit` bytes wait.
    async fn more(&mut self, limit: usize) -> std::io::Result<()> {
        if self.buffer.len() > limit {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    async fn page(&mut self, json: &str) -> std::io::Result<()> {
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", json.len());
        self.stream.write_all(format!("{head}{json}").as_bytes()).await
    }

    /// Answers. `Ok(true)`: the connection is still in order. An error if the other side left before the end.
    async fn perform(&mut self, act: &Act, request: &Value) -> std::io::Result<bool> {
        let fault = &act.fault;
        self.pause(fault.delay).await?;
        let breaks = fault.breaks;
        if let Some(Break { how, after: None }) = breaks {
            return self.break_off(how).await;
        }
        if let Content::Wire(bytes) = &act.content {
            self.write(bytes, fault.slice).await?;
            // Politely: a reset might overtake what was written.
            self.drain().await?;
            return Ok(false);
        }
        let answer = answer::of(act, request)?;
        for status in &fault.interim {
            let interim = format!("HTTP/1.1 {status} Interim\r\nlink: </style.css>; rel=preload\r\n\r\n");
            self.stream
                .write_all(if *status == 100 { b"HTTP/1.1 100 Continue\r\n\r\n" } else { interim.as_bytes() })
                .await?;
        }
        // A length that is a lie needs to be announced.
        let chunked = answer.chunked && fault.length == 0;
        let total: usize = answer.pieces.iter().map(Bytes::len).sum();
        let head = written_head(&answer, fault, (!chunked).then_some(total));
        self.write(head.as_bytes(), fault.slice).await?;
        self.pause(fault.first_token).await?;
        // Half of a plain answer, where a stream would have had so many tokens.
        let half =
            matches!(breaks, Some(Break { after: Some(after), .. }) if after != Break::AFTER_ALL) && !answer.chunked;
        for piece in &answer.pieces {
            let piece = if half { piece.slice(..piece.len() / 2) } else { piece.clone() };
            let size = if fault.slice == 0 { piece.len().max(1) } else { fault.slice };
            for slice in piece.chunks(size) {
                if chunked {
                    let framed = [format!("{:x}\r\n", slice.len()).as_bytes(), slice, b"\r\n"].concat();
                    self.write(&framed, fault.slice).await?;
                } else {
                    self.write(slice, 0).await?;
                }
            }
            self.pause(fault.pace).await?;
        }
        if let Some(Break { how, .. }) = breaks {
            return self.break_off(how).await;
        }
        if fault.hold {
            return self.break_off(Breaking::Stall).await;
        }
        if chunked {
            let end: &[u8] = if fault.trailer { b"0\r\nno trailer at all\r\n\r\n" } else { b"0\r\n\r\n" };
            self.stream.write_all(end).await?;
        }
        if fault.trailing {
            self.stream.write_all(b"trailing garbage").await?;
        }
        if fault.twice {
            self.page(SMUGGLED).await?;
        }
        Ok(fault.length == 0 && !fault.close && !fault.trailer)
    }

    async fn write(&mut self, bytes: &[u8], slice: usize) -> std::io::Result<()> {
        let size = if slice == 0 { bytes.len().max(1) } else { slice };
        for slice in bytes.chunks(size) {
            self.stream.write_all(slice).await?;
            self.stream.flush().await?;
        }
        Ok(())
    }

    async fn break_off(&mut self, how: Breaking) -> std::io::Result<bool> {
        match how {
            Breaking::Cut => {}
            Breaking::Reset => self.stream.set_zero_linger()?,
            Breaking::Stall => self.pause(FOR_EVER).await?,
        }
        Ok(false)
    }

    /// Waits; an error if the other side closes first.
    async fn pause(&mut self, wait: Duration) -> std::io::Result<()> {
        if wait.is_zero() {
            return Ok(());
        }
        let due = tokio::time::Instant::now() + wait;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(due) => return Ok(()),
                read = self.more(MAX_BODY) => read?,
            }
        }
    }
}

/// The answer that nobody asked for; whoever shows it to a caller has been tricked.
const SMUGGLED: &str = r#"{"id":"smuggled","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"smuggled"},"finish_reason":"stop"}]}"#;

/// Status line and headers. `length`: bytes of the body, `None` if it comes in chunks.
fn written_head(answer: &Answer, fault: &Fault, length: Option<usize>) -> String {
    let mut head = format!("HTTP/1.1 {} Scripted\r\n", answer.status);
    let mut line = |name: &str, value: &str| head.push_str(&format!("{name}: {value}\r\n"));
    let flood = fault.flood.max(usize::from(fault.flood_bytes > 0));
    for number in 0..flood {
        line(&format!("x-flood-{number}"), &"f".repeat((fault.flood_bytes / flood).max(1)));
    }
    if !answer.content_type.is_empty() {
        line("content-type", &answer.content_type);
    }
    if let Some(encoding) = answer.encoding {
        line("content-encoding", encoding);
    }
    for (name, value) in &fault.headers {
        line(name, value);
    }
    if fault.close || fault.early || fault.length != 0 || fault.trailer {
        line("connection", "close");
    }
    match length {
        // No body, so no length either.
        _ if matches!(answer.status, 204 | 304) => {}
        Some(length) => line("content-length", &length.saturating_add_signed(fault.length as isize).to_string()),
        None => line("transfer-encoding", "chunked"),
    }
    head.push_str("\r\n");
    head
}

/// The page `GET /v1/models`: a model without trouble, and some with it.
fn models() -> Value {
    let ids = ["scripted", "fault-status=503", "fault-status=429,retry-after=2", "fault-stall", "fault-cut-after=5"];
    let data = ids.map(|id| json!({"id": id, "object": "model", "created": 1_700_000_000, "owned_by": "stepwell"}));
    json!({"object": "list", "data": data})
}
