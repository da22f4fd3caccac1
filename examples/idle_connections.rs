//! What idle connections cost (faults C01): opens many to a running binary, and measures its memory and how long live
//! requests take before and meanwhile.
//!
//! `cargo build --release && cargo run --release --example idle_connections -- target/release/stepwell 10000`

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const HELLO: &[u8] = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n";
const BODY: &str = r#"{"model":"auto","messages":[{"role":"user","content":"hi"}]}"#;
const LIVE: usize = 500;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let binary = arguments.next().unwrap_or_else(|| "target/release/stepwell".to_owned());
    let count: usize = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(10_000);
    stepwell::app::descriptors::raise();
    let home = std::env::temp_dir().join(format!("stepwell-idle-{}", std::process::id()));
    std::fs::create_dir_all(&home).expect("a directory");
    let (server, address) = start(&binary, &home);
    let Server(child) = &server;
    live(&address);
    let before = (resident_mib(child), live(&address));
    let began = Instant::now();
    let mut idle = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = TcpStream::connect(&address).expect("a connection");
        stream.write_all(HELLO).expect("written");
        idle.push(stream);
    }
    let mut refused = 0;
    for stream in &mut idle {
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        let mut answer = [0; 512];
        let read = stream.read(&mut answer).unwrap_or(0);
        refused += usize::from(!answer[..read].starts_with(b"HTTP/1.1 200"));
    }
    let opened = began.elapsed();
    // A connection keeps its buffers for two seconds after its last byte.
    #[expect(clippy::disallowed_methods, reason = "nothing else runs here")]
    std::thread::sleep(Duration::from_secs(4));
    let after = (resident_mib(child), live(&address));
    println!("{count} connections in {opened:.1?}, {refused} of them refused");
    println!("memory {} MiB before, {} MiB with them", before.0, after.0);
    println!(
        "{LIVE} live requests, p50 / p99: {:.1?} / {:.1?} before, {:.1?} / {:.1?} with them",
        before.1.0, before.1.1, after.1.0, after.1.1
    );
    drop(server);
    let _ = std::fs::remove_dir_all(&home);
}

/// Ends with the measurement.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(binary: &str, home: &std::path::Path) -> (Server, String) {
    let mut command = Command::new(binary);
    command.args(["serve", "--demo", "--port", "0", "--data-dir"]).arg(home).stdout(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    let output = child.stdout.take().expect("its output");
    let lines = BufReader::new(output).lines().map_while(Result::ok);
    let address = lines.filter_map(|line| Some(line.split_once("listens on http://")?.1.trim().to_owned())).next();
    (Server(child), address.expect("it listens"))
}

fn resident_mib(child: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1024
}

/// Median and 99th percentile of requests one after the other, each answered from the cache: the router's own time.
fn live(address: &str) -> (Duration, Duration) {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_nodelay(true).expect("no delay");
    let request =
        format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{BODY}", BODY.len());
    let mut times: Vec<Duration> = (0..LIVE)
        .map(|_| {
            let began = Instant::now();
            stream.write_all(request.as_bytes()).expect("written");
            let mut answer = Vec::new();
            let mut piece = [0; 8192];
            while !answer.ends_with(b"}") {
                let read = stream.read(&mut piece).expect("an answer");
                assert!(read > 0, "the connection ended");
                answer.extend_from_slice(&piece[..read]);
            }
            began.elapsed()
        })
        .collect();
    times.sort();
    (times[LIVE / 2], times[LIVE * 99 / 100])
}
