//! A Redis of one test: on a free port, in memory, gone with the test however it ends.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

pub struct Redis {
    pub port: u16,
    arguments: Vec<String>,
    child: Child,
    directory: tempfile::TempDir,
}

/// `None`, loudly, where there is no Redis on this machine.
pub fn redis() -> Option<Redis> {
    redis_with(&[])
}

/// With more arguments, such as `--requirepass x`.
pub fn redis_with(arguments: &[&str]) -> Option<Redis> {
    if Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_err() {
        // Not `eprintln!`, which the harness keeps to itself when a test passes.
        let _ = writeln!(std::io::stderr(), "SKIPPED redis: there is no redis-server on this machine");
        return None;
    }
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    for _ in 0..5 {
        let free = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let directory = tempfile::tempdir().expect("a directory");
        let child = spawn(port, &directory, &arguments);
        let mut redis = Redis { port, arguments: arguments.clone(), child, directory };
        // Not, if somebody else was quicker.
        if redis.is_there() {
            return Some(redis);
        }
    }
    panic!("no Redis starts");
}

fn spawn(port: u16, directory: &tempfile::TempDir, arguments: &[String]) -> Child {
    // It dies with the thread of the test, even one that is killed.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "redis-server", "--bind", "127.0.0.1", "--port", &port.to_string()]);
    command.args(["--save", "", "--appendonly", "no", "--dir"]).arg(directory.path()).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("redis starts")
}

impl Redis {
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Waits until it says that it is ready; false if it ends instead.
    fn is_there(&mut self) -> bool {
        let output = self.child.stdout.take().expect("a pipe");
        BufReader::new(output).lines().map_while(Result::ok).any(|line| line.contains("Ready to accept connections"))
    }

    /// One command, and what is answered.
    pub fn ask(&self, words: &[&str]) -> redis::Value {
        let client = redis::Client::open(self.url()).expect("a URL");
        let mut connection = client.get_connection().expect("a connection");
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]).query(&mut connection).expect("an answer")
    }

    pub fn keys(&self, pattern: &str) -> Vec<String> {
        redis::from_redis_value(self.ask(&["KEYS", pattern])).expect("texts")
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a signal");
    }

    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts again on the same port, with nothing in it.
    pub fn start(&mut self) {
        self.child = spawn(self.port, &self.directory, &self.arguments);
        assert!(self.is_there(), "it starts again");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
