//! An upstream that does what it is told: answer, fail, slice, stall, cut, reset, lie. For tests, and for users who want to
//! see what their router does when a provider misbehaves (`stepwell demo`).
//!
//! Raw TCP, so that nothing is polite by accident: no HTTP library stands between a script and the bytes. What is done with
//! a request is decided by the first that has an opinion: the program ([`Upstream::then`]), the header `x-fault`, the name
//! of the model (`fault-status=503,retry-after=2`), a `[[fault ...]]` directive in the last user turn, and else what is
//! done always. All texts are in the one grammar of [`Fault`]. Every call is recorded with a monotonic time.

pub mod act;
mod answer;
mod connection;
mod journal;
mod model;
mod packing;
pub mod proxy;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::catalog::Fault;
use crate::catalog::fault::{BadFault, directives};
use act::Act;
pub use journal::Call;
use journal::Journal;

/// Before this word in a model's name nothing stands but a provider's name; after it a fault.
const MODEL_PREFIX: &str = "fault-";

/// What all connections of one upstream share.
struct State {
    began: Instant,
    /// Done for the next calls, one each.
    queue: Mutex<VecDeque<Act>>,
    always: Mutex<Act>,
    journal: Mutex<Journal>,
    connections: AtomicU64,
    /// Connections that are open now.
    open: AtomicUsize,
    /// Answers under way, and the most that ever were.
    busy: Mutex<(usize, usize)>,
    /// Connections that the other side closed while an answer was under way.
    closed: AtomicUsize,
    changed: Notify,
}

/// A scripted upstream that listens. It stops, with all its connections, when it is dropped.
pub struct Upstream {
    /// The base URL of its API, `http://HOST:PORT/v1`.
    pub url: String,
    pub address: SocketAddr,
    state: Arc<State>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Upstream {
    /// Listens on `address` (port 0 takes a free one) and does `always` until it is told otherwise. Must be called inside a
    /// tokio runtime.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn start(address: SocketAddr, always: Act) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            began: Instant::now(),
            queue: Mutex::default(),
            always: Mutex::new(always),
            journal: Mutex::default(),
            connections: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            busy: Mutex::default(),
            closed: AtomicUsize::new(0),
            changed: Notify::new(),
        });
        let task = tokio::spawn(accept(listener, state.clone()));
        Ok(Self { url: format!("http://{address}/v1"), address, state, task })
    }

    /// Does this from now on.
    pub fn always(&self, act: Act) -> &Self {
        *self.state.always.lock() = act;
        self
    }

    /// Does this for the next call, before what is done always.
    pub fn then(&self, act: Act) -> &Self {
        self.state.queue.lock().push_back(act);
        self
    }

    /// The latest calls, oldest first; at most 10,000 are kept.
    pub fn calls(&self) -> Vec<Call> {
        self.state.journal.lock().calls().cloned().collect()
    }

    /// How many calls have arrived since the start.
    pub fn count(&self) -> usize {
        self.state.journal.lock().count()
    }

    /// How many of all calls were made to a path that ends so.
    pub fn calls_to(&self, path: &str) -> usize {
        self.state.journal.lock().count_of(path)
    }

    /// The last call, if there was one.
    pub fn last_call(&self) -> Option<Call> {
        self.state.journal.lock().calls().next_back().cloned()
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.state.open.load(Ordering::SeqCst)
    }

    /// The most calls that were ever being answered at once.
    pub fn most_at_once(&self) -> usize {
        self.state.busy.lock().1
    }

    /// Connections accepted since the start.
    pub fn accepted(&self) -> u64 {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Waits until `count` calls have arrived.
    pub async fn until_called(&self, count: usize) {
        self.until(|state| state.journal.lock().count() >= count).await;
    }

    /// Waits until the other side has closed `count` connections on which an answer was under way.
    pub async fn until_closed(&self, count: usize) {
        self.until(|state| state.closed.load(Ordering::SeqCst) >= count).await;
    }

    /// Waits until at most `count` connections are open.
    pub async fn until_open(&self, count: usize) {
        self.until(|state| state.open.load(Ordering::SeqCst) <= count).await;
    }

    async fn until(&self, done: impl Fn(&State) -> bool) {
        loop {
            // Registered before looking, so that a change in between is not missed.
            let changed = self.state.changed.notified();
            if done(&self.state) {
                return;
            }
            changed.await;
        }
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    // Dropped with this task, and the connections with it.
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let number = state.connections.fetch_add(1, Ordering::SeqCst);
                state.open.fetch_add(1, Ordering::SeqCst);
                connections.spawn(connection::serve(stream, number, Open(state.clone())));
            }
            // Out of file descriptors, most likely: those in use come back.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
        }
        while connections.try_join_next().is_some() {}
    }
}

/// A connection is open as long as this lives.
struct Open(Arc<State>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
        self.0.changed.notify_waiters();
    }
}

/// An answer is under way as long as this lives.
struct Busy<'a>(&'a State);

impl<'a> Busy<'a> {
    fn begin(state: &'a State) -> Self {
        let mut busy = state.busy.lock();
        busy.0 += 1;
        busy.1 = busy.1.max(busy.0);
        Self(state)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy.lock().0 -= 1;
    }
}

impl State {
    fn record(&self, call: Call) {
        self.journal.lock().push(call);
        self.changed.notify_waiters();
    }

    fn left(&self) {
        self.closed.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    /// Whether the next request is answered before its body is read.
    fn is_early(&self, x_fault: &str) -> bool {
        let program = self.queue.lock().front().cloned();
        let act = program.unwrap_or_else(|| self.always.lock().clone());
        act.fault.early || Fault::parse(x_fault).is_ok_and(|fault| fault.early)
    }

    /// What to do with a request.
    fn choose(&self, x_fault: &str, body: &Value) -> Act {
        if let Some(act) = self.queue.lock().pop_front() {
            return act;
        }
        let always = self.always.lock().clone();
        let draw = drawn(self.journal.lock().count() as u64);
        wanted(&always, x_fault, body, draw).unwrap_or_else(|bad| act::refusal(&bad))
    }
}

/// What a request asks for itself, on top of what is done always. `draw` in 0..1 decides where a fault has a rate.
fn wanted(always: &Act, x_fault: &str, body: &Value, draw: f64) -> Result<Act, BadFault> {
    let model = body["model"].as_str().unwrap_or_default();
    let meets = |fault: &Fault| fault.concerns(model) && draw < fault.rate;
    let mut act = always.clone();
    if !meets(&act.fault) {
        act.fault = Fault::default();
    }
    let by_model = model.rsplit_once('/').map_or(model, |(_, name)| name).strip_prefix(MODEL_PREFIX);
    let texts: Vec<&str> = match (x_fault.is_empty(), by_model) {
        (false, _) => vec![x_fault],
        (true, Some(text)) => vec![text],
        (true, None) => directives(last_user_text(body)).collect(),
    };
    for text in texts {
        if meets(&Fault::parse(text)?) {
            act.fault.read(text)?;
        }
    }
    Ok(act)
}

fn last_user_text(body: &Value) -> &str {
    let turns = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let content = turns.iter().rfind(|turn| turn["role"] == "user").map(|turn| &turn["content"]);
    let text = content.and_then(|content| content.as_str().or_else(|| content[0]["text"].as_str()));
    text.unwrap_or_default()
}

/// A number in 0..1 for the `count`th call, spread evenly: the golden ratio's multiples never bunch.
fn drawn(count: u64) -> f64 {
    (count as f64 * 0.618_033_988_749_894_9).fract()
}

#[cfg(test)]
mod tests;
