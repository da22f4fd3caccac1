//! The real binary as a process of its own, to be signalled, killed, limited and read.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long anything may take that has to happen.
const SOON: Duration = Duration::from_secs(20);

/// Where a process lives: configuration, data and what it said. Outlives it.
pub struct Home {
    pub directory: tempfile::TempDir,
    /// For `ulimit`, such as `-n 128`.
    pub limits: Vec<String>,
    pub env: Vec<(String, String)>,
}

pub struct Process {
    pub url: String,
    child: Child,
}

impl Home {
    pub fn new(yaml: &str) -> Self {
        let home = Self { directory: tempfile::tempdir().expect("a directory"), limits: Vec::new(), env: Vec::new() };
        std::fs::write(home.config(), yaml).expect("a file");
        home
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn config(&self) -> PathBuf {
        self.path().join("providers.yaml")
    }

    pub fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    pub fn database(&self) -> PathBuf {
        self.data().join("stepwell.db")
    }

    pub fn errors(&self) -> String {
        std::fs::read_to_string(self.path().join("stderr")).unwrap_or_default()
    }

    pub fn output(&self) -> String {
        std::fs::read_to_string(self.path().join("stdout")).unwrap_or_default()
    }

    /// The binary with its surroundings, for any command.
    pub fn command(&self) -> Command {
        let binary = env!("CARGO_BIN_EXE_stepwell");
        let mut command = if self.limits.is_empty() {
            Command::new(binary)
        } else {
            let limits = self.limits.iter().map(|limit| format!("ulimit {limit} && ")).collect::<String>();
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("{limits}exec \"$0\" \"$@\""), binary]);
            shell
        };
        command.env_clear().env("HOME", self.path()).current_dir(self.path()).stdin(Stdio::null());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    fn spawn(&self) -> Child {
        let append = |name: &str| {
            File::options().create(true).append(true).open(self.path().join(name)).expect("a file for output")
        };
        // What the last run said is not what this one says.
        let _ = std::fs::remove_file(self.path().join("stdout"));
        let mut command = self.command();
        command.args(["serve", "--port", "0", "--config"]).arg(self.config()).arg("--data-dir").arg(self.data());
        command.stdout(append("stdout")).stderr(append("stderr")).spawn().expect("the binary starts")
    }

    /// Starts the server and waits until it listens.
    pub async fn start(&self) -> Process {
        let mut child = self.spawn();
        let mut url = None;
        until("the server listens", async || {
            if let Some(exit) = child.try_wait().expect("a child") {
                panic!("it ended with {exit}: {}", self.errors());
            }
            let output = self.output();
            let line = output.split_once("listens on ").and_then(|(_, rest)| rest.split_once('\n'));
            url = line.map(|(url, _)| url.trim().to_owned());
            url.is_some()
        })
        .await;
        Process { url: url.expect("an address"), child }
    }

    /// Starts the server where it must not start: its exit code.
    pub async fn fails(&self) -> Option<i32> {
        let mut child = self.spawn();
        let mut code = None;
        until("the server gives up", async || {
            code = child.try_wait().expect("a child").map(|exit| exit.code());
            code.is_some()
        })
        .await;
        code.flatten()
    }
}

impl Process {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("a signal");
    }

    /// At once and without a word.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The exit code, once it has ended.
    pub async fn ended(mut self) -> Option<i32> {
        let mut code = None;
        until("the process ends", async || {
            code = self.child.try_wait().expect("a child").map(|exit| exit.code());
            code.is_some()
        })
        .await;
        code.flatten()
    }

    /// SIGTERM, and the exit code.
    pub async fn stop(self) -> Option<i32> {
        self.signal(rustix::process::Signal::TERM);
        self.ended().await
    }

    /// Memory in use, in MiB.
    pub fn resident_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("a status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number") / 1024
    }

    pub async fn get(&self, path: &str) -> Value {
        let response = client().get(format!("{}{path}", self.url)).send().await.expect("an answer");
        response.json().await.unwrap_or(Value::Null)
    }

    pub async fn metrics(&self) -> String {
        client().get(format!("{}/metrics", self.url)).send().await.expect("an answer").text().await.expect("text")
    }

    /// The status and body of a chat request under an id of its own.
    pub async fn chat(&self, id: &str, body: &Value) -> (u16, Value) {
        let post = client().post(format!("{}/v1/chat/completions", self.url)).header("x-request-id", id);
        let response = post.json(body).send().await.expect("an answer");
        let status = response.status().as_u16();
        (status, response.json().await.unwrap_or(Value::Null))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection of its own for every request: what one of them meets says nothing about the next.
pub fn client() -> reqwest::Client {
    let builder = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0);
    builder.timeout(Duration::from_secs(30)).build().expect("a client")
}

/// Waits for a condition.
pub async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !done().await {
        assert!(began.elapsed() < SOON, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
