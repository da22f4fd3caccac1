//! A TCP proxy that breaks connections: resets, black holes, refusals, cuts and delays below HTTP.
//!
//! Its weather can be changed while it runs and holds for open connections too, as a cable that is pulled does.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What happens to connections and bytes. `Default` forwards everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    pub reach: Reach,
    /// Before each piece that comes back from the server.
    pub delay: Duration,
    /// Bytes a write toward the client; 0 is all at once.
    pub slice: usize,
    /// A connection is closed after so many bytes from the server.
    pub cut_after: Option<u64>,
}

/// Whether the server can be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    #[default]
    Open,
    /// Connections are accepted, and nothing ever comes back. What was under way stops.
    BlackHole,
    /// Connections are accepted and reset; open ones too.
    Reset,
    /// Nobody listens: connections are refused, open ones reset.
    Refuse,
}

/// A proxy that listens. It stops, with all its connections, when it is dropped.
pub struct Proxy {
    pub address: SocketAddr,
    weather: watch::Sender<Weather>,
    /// The weather that the listener has adapted to.
    settled: watch::Receiver<Reach>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// Listens on a free port of this machine and forwards to `server`. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// No port can be listened on.
    pub async fn start(server: SocketAddr) -> std::io::Result<Self> {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let address = listener.local_addr()?;
        let (weather, seen) = watch::channel(Weather::default());
        let (settle, settled) = watch::channel(Reach::Open);
        let task = tokio::spawn(accept(listener, address, server, seen, settle));
        Ok(Self { address, weather, settled, task })
    }

    /// Changes the weather and waits until new connections meet it.
    pub async fn set(&self, weather: Weather) {
        let reach = weather.reach;
        self.weather.send_replace(weather);
        let mut settled = self.settled.clone();
        // An error means that the proxy has stopped: then there is nothing to wait for.
        let _ = settled.wait_for(|now| *now == reach).await;
    }

    /// Only changes whether the server can be reached.
    pub async fn reach(&self, reach: Reach) {
        let weather = Weather { reach, ..self.weather.borrow().clone() };
        self.set(weather).await;
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // The port is taken again while connections of its past linger.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(1024)
}

async fn accept(
    listener: TcpListener,
    address: SocketAddr,
    server: SocketAddr,
    mut weather: watch::Receiver<Weather>,
    settle: watch::Sender<Reach>,
) {
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        let reach = weather.borrow_and_update().reach;
        if reach == Reach::Refuse {
            listener = None;
        } else if listener.is_none() {
            listener = listen(address).ok();
            if listener.is_none() {
                // Somebody else has the port: they may let go of it.
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        }
        settle.send_replace(reach);
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = weather.changed() => if changed.is_err() { return },
            accepted = accepted => {
                if let Ok((client, _)) = accepted {
                    connections.spawn(connection(client, server, weather.clone()));
                }
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(client: TcpStream, server: SocketAddr, weather: watch::Receiver<Weather>) {
    let mut changes = weather.clone();
    let broken = changes.wait_for(|now| matches!(now.reach, Reach::Reset | Reach::Refuse));
    // Set now: whichever way this connection ends early, it ends with a reset.
    let _ = client.set_zero_linger();
    let relay = async {
        let mut open = weather.clone();
        if open.wait_for(|now| now.reach == Reach::Open).await.is_err() {
            return;
        }
        let Ok(upstream) = TcpStream::connect(server).await else { return };
        let _ = (client.set_nodelay(true), upstream.set_nodelay(true));
        let (client_read, client_write) = client.into_split();
        let (server_read, server_write) = upstream.into_split();
        tokio::select! {
            () = forth(client_read, server_write, weather.clone()) => {}
            () = back(server_read, client_write, weather.clone()) => {}
        }
    };
    tokio::select! {
        _ = broken => {}
        () = relay => {}
    }
}

/// From the client to the server, as long as the server can be reached.
async fn forth(mut client: OwnedReadHalf, mut server: OwnedWriteHalf, mut weather: watch::Receiver<Weather>) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        match client.read(&mut buffer).await {
            Ok(read @ 1..) => {
                if weather.wait_for(|now| now.reach == Reach::Open).await.is_err() {
                    return;
                }
                if server.write_all(&buffer[..read]).await.is_err() {
                    return;
                }
            }
            _ => return,
        }
    }
}

/// From the server to the client, through the weather.
async fn back(mut server: OwnedReadHalf, client: OwnedWriteHalf, mut weather: watch::Receiver<Weather>) {
    let mut client = client;
    let mut buffer = vec![0; 16 << 10];
    let mut passed = 0u64;
    loop {
        let read = match server.read(&mut buffer).await {
            Ok(read @ 1..) => read,
            // The server's polite end is passed on as one.
            _ => {
                let _ = client.shutdown().await;
                return;
            }
        };
        let now = match weather.wait_for(|now| now.reach == Reach::Open).await {
            Ok(now) => now.clone(),
            Err(_) => return,
        };
        tokio::time::sleep(now.delay).await;
        let left = now.cut_after.map_or(u64::MAX, |limit| limit.saturating_sub(passed));
        let sent = read.min(usize::try_from(left).unwrap_or(usize::MAX));
        let slice = if now.slice == 0 { sent.max(1) } else { now.slice };
        for slice in buffer[..sent].chunks(slice) {
            if client.write_all(slice).await.is_err() {
                return;
            }
        }
        passed += sent as u64;
        if sent < read || now.cut_after == Some(passed) {
            return;
        }
    }
}
