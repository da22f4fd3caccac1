//! A provider that does what it is told: answer, fail, slice, stall, cut, reset, lie. Raw TCP, so that nothing is polite
//! by accident. Records every call.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// What is done with one request.
#[derive(Clone)]
pub struct Act {
    delay: Duration,
    status: u16,
    headers: Vec<(String, String)>,
    content: Content,
    end: End,
    /// Bytes per write; 0 is all at once.
    slice: usize,
    /// Pause between two pieces of a stream.
    pace: Duration,
    /// Bytes that `content-length` announces and that never come.
    missing: usize,
}

#[derive(Clone)]
enum Content {
    /// A chat answer, plain or streamed as the request wants it.
    Chat(String),
    Raw {
        content_type: String,
        body: Vec<u8>,
    },
    /// What a model would do with the request: call its tools, fill its schema, else this text.
    Model(String),
    /// Pieces of a stream, whatever was asked for.
    Events(Vec<String>),
    Nothing,
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    Clean,
    /// The connection is reset.
    Reset,
    /// Nothing more comes, the connection stays open.
    Stall,
    /// The connection is closed in the middle.
    Cut,
}

pub fn chat(text: &str) -> Act {
    Act {
        delay: Duration::ZERO,
        status: 200,
        headers: Vec::new(),
        content: Content::Chat(text.to_owned()),
        end: End::Clean,
        slice: 0,
        pace: Duration::ZERO,
        missing: 0,
    }
}

/// Behaves like a model: calls the offered tools until it has a result, answers JSON where a schema is given, and says
/// `text` otherwise; with `n` choices and `logprobs` where they are asked for.
pub fn model(text: &str) -> Act {
    Act { content: Content::Model(text.to_owned()), ..chat("") }
}

pub fn status(status: u16) -> Act {
    let body =
        json!({"error": {"message": format!("scripted {status}"), "type": "scripted", "param": null, "code": null}});
    Act {
        status,
        content: Content::Raw { content_type: "application/json".into(), body: body.to_string().into_bytes() },
        ..chat("")
    }
}

pub fn raw(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Act {
    Act { status, content: Content::Raw { content_type: content_type.into(), body: body.into() }, ..chat("") }
}

pub fn events(events: &[Value]) -> Act {
    let events = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    Act { content: Content::Events(events), ..chat("") }
}

pub fn hang() -> Act {
    Act { content: Content::Nothing, end: End::Stall, ..chat("") }
}

pub fn reset() -> Act {
    Act { content: Content::Nothing, end: End::Reset, ..chat("") }
}

impl Act {
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
    pub fn sliced(mut self, bytes: usize) -> Self {
        self.slice = bytes;
        self
    }
    pub fn paced(mut self, pace: Duration) -> Self {
        self.pace = pace;
        self
    }
    /// Announces more than it sends, and leaves the connection open.
    pub fn unfinished(mut self) -> Self {
        self.missing = 1000;
        self.stall()
    }
    /// Closes the connection after the content, without the end that the protocol wants.
    pub fn cut(mut self) -> Self {
        self.end = End::Cut;
        self
    }
    pub fn stall(mut self) -> Self {
        self.end = End::Stall;
        self
    }
}

/// One call as it arrived.
#[derive(Clone, Debug)]
pub struct Call {
    pub head: String,
    pub body: Value,
}

#[derive(Default)]
struct State {
    queue: Mutex<VecDeque<Act>>,
    always: Mutex<Option<Act>>,
    calls: Mutex<Vec<Call>>,
    /// Requests being answered, and the most that ever were.
    busy: Mutex<(usize, usize)>,
    /// Connections that the other side closed while we were still busy.
    closed: Mutex<usize>,
    changed: Notify,
}

pub struct Upstream {
    pub url: String,
    state: Arc<State>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts an upstream that answers "hello from upstream" until told otherwise.
pub async fn upstream() -> Upstream {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/v1", listener.local_addr().expect("an address"));
    let state = Arc::new(State::default());
    *state.always.lock() = Some(chat("hello from upstream"));
    let served = state.clone();
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let state = served.clone();
            tokio::spawn(async move {
                let _ = serve(stream, state).await;
            });
        }
    });
    Upstream { url, state, task }
}

impl Upstream {
    pub fn always(&self, act: Act) -> &Self {
        *self.state.always.lock() = Some(act);
        self
    }

    /// Does this for the next call, before what is done always.
    pub fn then(&self, act: Act) -> &Self {
        self.state.queue.lock().push_back(act);
        self
    }

    pub fn calls(&self) -> Vec<Call> {
        self.state.calls.lock().clone()
    }

    pub fn count(&self) -> usize {
        self.state.calls.lock().len()
    }

    /// The most calls that were ever being answered at once.
    pub fn most_at_once(&self) -> usize {
        self.state.busy.lock().1
    }

    /// The body of the last call.
    pub fn last(&self) -> Value {
        self.state.calls.lock().last().expect("a call").body.clone()
    }

    /// Waits until `count` calls have arrived.
    pub async fn called(&self, count: usize) {
        self.wait(|state| state.calls.lock().len() >= count).await;
    }

    /// Waits until the router has closed `count` connections that were still busy.
    pub async fn closed(&self, count: usize) {
        self.wait(|state| *state.closed.lock() >= count).await;
    }

    async fn wait(&self, done: impl Fn(&State) -> bool) {
        let waiting = async {
            loop {
                let changed = self.state.changed.notified();
                if done(&self.state) {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("it happens within ten seconds");
    }
}

async fn serve(mut stream: TcpStream, state: Arc<State>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (head, body) = request(&mut stream).await?;
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    state.calls.lock().push(Call { head, body: body.clone() });
    state.changed.notify_waiters();
    let act = state.queue.lock().pop_front().or_else(|| state.always.lock().clone()).expect("something to do");
    {
        let mut busy = state.busy.lock();
        busy.0 += 1;
        busy.1 = busy.1.max(busy.0);
    }
    let outcome = perform(&mut stream, &act, &body).await;
    state.busy.lock().0 -= 1;
    if outcome.is_err() {
        *state.closed.lock() += 1;
        state.changed.notify_waiters();
    }
    outcome
}

async fn request(stream: &mut TcpStream) -> std::io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let length: usize =
        head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok()).unwrap_or(0);
    let mut body = bytes[end + 4..].to_vec();
    while body.len() < length {
        if stream.read_buf(&mut body).await? == 0 {
            break;
        }
    }
    Ok((head, body))
}

async fn perform(stream: &mut TcpStream, act: &Act, request: &Value) -> std::io::Result<()> {
    wait_or_closed(stream, act.delay).await?;
    let streams = request["stream"].as_bool().unwrap_or(false);
    let (content_type, pieces, chunked) = match &act.content {
        Content::Chat(text) if streams => {
            ("text/event-stream".to_owned(), chat_events(text, request, act.end == End::Clean), true)
        }
        Content::Chat(text) => ("application/json".to_owned(), vec![chat_body(text, request)], false),
        Content::Model(text) if streams => {
            ("text/event-stream".to_owned(), super::model::events(text, request, act.end == End::Clean), true)
        }
        Content::Model(text) => ("application/json".to_owned(), vec![super::model::body(text, request)], false),
        Content::Raw { content_type, body } => (content_type.clone(), vec![body.clone()], false),
        Content::Events(events) => {
            let done = (act.end == End::Clean).then(|| b"data: [DONE]\n\n".to_vec());
            (
                "text/event-stream".to_owned(),
                events.iter().map(|event| event.clone().into_bytes()).chain(done).collect(),
                true,
            )
        }
        Content::Nothing => (String::new(), Vec::new(), false),
    };
    if !content_type.is_empty() {
        let mut head =
            format!("HTTP/1.1 {} Scripted\r\ncontent-type: {content_type}\r\nconnection: close\r\n", act.status);
        for (name, value) in &act.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if chunked {
            head.push_str("transfer-encoding: chunked\r\n");
        } else {
            head.push_str(&format!("content-length: {}\r\n", pieces.iter().map(Vec::len).sum::<usize>() + act.missing));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).await?;
    }
    for piece in &pieces {
        let size = if act.slice == 0 { piece.len().max(1) } else { act.slice };
        for slice in piece.chunks(size) {
            if chunked {
                stream.write_all(format!("{:x}\r\n", slice.len()).as_bytes()).await?;
                stream.write_all(slice).await?;
                stream.write_all(b"\r\n").await?;
            } else {
                stream.write_all(slice).await?;
            }
            stream.flush().await?;
        }
        wait_or_closed(stream, act.pace).await?;
    }
    match act.end {
        End::Clean if chunked => stream.write_all(b"0\r\n\r\n").await,
        End::Clean | End::Cut => Ok(()),
        End::Reset => stream.set_zero_linger(),
        End::Stall => wait_or_closed(stream, Duration::from_secs(3600)).await,
    }
}

/// Sleeps; an error if the other side closes first.
async fn wait_or_closed(stream: &mut TcpStream, wait: Duration) -> std::io::Result<()> {
    if wait.is_zero() {
        return Ok(());
    }
    let mut byte = [0];
    tokio::select! {
        () = tokio::time::sleep(wait) => Ok(()),
        read = stream.read(&mut byte) => match read {
            Ok(0) | Err(_) => Err(std::io::ErrorKind::ConnectionReset.into()),
            Ok(_) => Ok(()),
        },
    }
}

fn chat_body(text: &str, request: &Value) -> Vec<u8> {
    let usage = usage(text);
    json!({
        "id": "chatcmpl-scripted", "object": "chat.completion", "created": 1_700_000_000, "model": request["model"],
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop", "logprobs": null}],
        "usage": usage,
    })
    .to_string()
    .into_bytes()
}

fn usage(text: &str) -> Value {
    let tokens = text.split_whitespace().count();
    json!({"prompt_tokens": 10, "completion_tokens": tokens, "total_tokens": 10 + tokens})
}

/// The events of a streamed answer: one word a chunk.
fn chat_events(text: &str, request: &Value, complete: bool) -> Vec<Vec<u8>> {
    let event = |choices: Value, usage: Value| {
        let chunk = json!({
            "id": "chatcmpl-scripted", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": request["model"],
            "choices": choices, "usage": usage,
        });
        format!("data: {chunk}\n\n").into_bytes()
    };
    let mut events = vec![event(
        json!([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": null}]),
        Value::Null,
    )];
    for word in text.split_inclusive(' ').filter(|word| !word.is_empty()) {
        events.push(event(json!([{"index": 0, "delta": {"content": word}, "finish_reason": null}]), Value::Null));
    }
    if complete {
        events.push(event(json!([{"index": 0, "delta": {}, "finish_reason": "stop"}]), Value::Null));
        if request["stream_options"]["include_usage"] == true {
            events.push(event(json!([]), usage(text)));
        }
        events.push(b"data: [DONE]\n\n".to_vec());
    }
    events
}
