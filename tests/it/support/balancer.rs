//! A plain TCP balancer: takes a connection, gives it to the next server that can be connected to, and copies bytes.
//!
//! It knows nothing of HTTP. Who is out is said by the test, as a health check would: a process that stands still goes on
//! accepting connections.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

pub struct Balancer {
    pub url: String,
    servers: Servers,
    task: tokio::task::JoinHandle<()>,
}

/// `None` is out.
type Servers = Arc<Mutex<Vec<Option<SocketAddr>>>>;

impl Drop for Balancer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Balancer {
    /// In front of servers by their URLs.
    pub async fn start(urls: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let servers: Servers = Arc::new(Mutex::new(urls.iter().map(|url| Some(address(url))).collect()));
        let task = tokio::spawn(accept(listener, servers.clone()));
        Self { url, servers, task }
    }

    /// New connections go elsewhere; those that are open stay.
    pub fn out(&self, index: usize) {
        self.servers.lock()[index] = None;
    }

    pub fn back(&self, index: usize, url: &str) {
        self.servers.lock()[index] = Some(address(url));
    }
}

fn address(url: &str) -> SocketAddr {
    url.trim_start_matches("http://").parse().expect("an address")
}

async fn accept(listener: TcpListener, servers: Servers) {
    let mut connections = JoinSet::new();
    let mut turn = 0;
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                turn += 1;
                let mut order = servers.lock().clone();
                let count = order.len();
                order.rotate_left(turn % count);
                connections.spawn(copy(client, order));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Whichever side breaks off, the other one is told.
async fn copy(mut client: TcpStream, order: Vec<Option<SocketAddr>>) {
    for address in order.into_iter().flatten() {
        if let Ok(mut server) = TcpStream::connect(address).await {
            let _ = copy_bidirectional(&mut client, &mut server).await;
            return;
        }
    }
}
