//! Real servers for the tests: PostgreSQL, Redis and NATS, if their programs are on this machine.
//!
//! The first test that wants one starts it, on a free port of this machine and in a directory of its own; it is shared by all
//! tests of the process. Each server has a shell beside it that holds a pipe from us: when the pipe closes, because this
//! process ended in whichever way, the shell ends the server and removes its directory. Without the program, tests are
//! skipped, loudly; `scripts/install-servers` installs them.
//!
//! Also part of the library's own tests (`src/store/tests.rs`), which is why it uses nothing of `support`.

#![allow(dead_code, reason = "the library's tests and the black-box tests use different parts")]

use std::fs::Permissions;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};

/// How long a server may take to answer for the first time, on a machine that is busy with other tests.
const STARTS: Duration = Duration::from_secs(60);

/// Starts the server for every line that comes through the pipe, and ends it when the pipe closes.
const WATCH: &str = r#"directory=$1 signal=$2 server=; shift 2
while read -r _; do
    if [ -n "$server" ]; then wait $server; fi
    "$@" >>"$directory/log" 2>&1 </dev/null & server=$!
    echo $server
done
kill -CONT $server; kill -$signal $server
(sleep 5; kill -KILL $server) >/dev/null & killer=$!
wait $server
kill $killer
rm -rf "$directory""#;

/// A server that runs until it is dropped, or the process ends.
pub struct Server {
    pub address: SocketAddr,
    name: &'static str,
    pid: u32,
    directory: PathBuf,
    watch: Child,
    pids: BufReader<ChildStdout>,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.watch.stdin.take());
        let _ = self.watch.wait();
    }
}

impl Server {
    /// Starts `command` with the directory and a free port, and waits until it listens. `end` is the signal that ends it.
    fn start(
        name: &'static str,
        end: &str,
        directory: PathBuf,
        command: impl FnOnce(&Path, u16) -> Vec<String>,
    ) -> Result<Self, String> {
        let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = listener.map_err(|error| error.to_string())?;
        let mut shell = Command::new("sh");
        shell.args(["-c", WATCH, "watch"]).arg(&directory).arg(end).args(command(&directory, address.port()));
        // A signal to the tests' whole group must reach the server through the pipe, not past it.
        shell.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut watch = shell.current_dir(&directory).spawn().map_err(|error| error.to_string())?;
        let pids = BufReader::new(watch.stdout.take().ok_or("no pipe")?);
        let mut server = Self { address, name, pid: 0, directory, watch, pids };
        server.start_again()?;
        Ok(server)
    }

    /// Starts it once more, on the same port and directory, after it has ended.
    pub fn start_again(&mut self) -> Result<(), String> {
        let began = Instant::now();
        loop {
            let stdin = self.watch.stdin.as_mut().ok_or("no pipe")?;
            stdin.write_all(b"\n").map_err(|error| error.to_string())?;
            let mut pid = String::new();
            self.pids.read_line(&mut pid).map_err(|error| error.to_string())?;
            self.pid = pid.trim().parse().map_err(|_| format!("{} did not start", self.name))?;
            while self.is_running() && began.elapsed() < STARTS {
                if TcpStream::connect(self.address).is_ok() {
                    return Ok(());
                }
                pause(10);
            }
            // What a killed one left behind may need a moment to go.
            if began.elapsed() > Duration::from_secs(5) {
                let log = std::fs::read_to_string(self.directory.join("log")).unwrap_or_default();
                return Err(format!("{} does not listen: {log}", self.name));
            }
            pause(50);
        }
    }

    fn is_running(&self) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        !status.is_empty() && !status.contains(") Z ")
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.pid as i32).expect("a process");
        rustix::process::kill_process(pid, signal).expect("a signal");
    }
}

#[expect(clippy::disallowed_methods, reason = "a server is started once, before anything that could wait")]
fn pause(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

/// A directory that `user` may use: not below the user's home, which may be closed to others.
fn directory(user: Option<User>) -> Result<PathBuf, String> {
    let kept = tempfile::Builder::new().prefix("stepwell-server-").tempdir().map_err(|error| error.to_string())?.keep();
    std::fs::set_permissions(&kept, Permissions::from_mode(0o700)).map_err(|error| error.to_string())?;
    if let Some(User { uid, gid }) = user {
        chown(&kept, Some(uid), Some(gid)).map_err(|error| error.to_string())?;
    }
    Ok(kept)
}

/// Says once, past the harness, which keeps what passing tests say to itself.
fn skipped(name: &str, reason: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED all tests with {name}: {reason}; run scripts/install-servers");
}

fn found<T>(name: &str, start: impl FnOnce() -> Result<T, String>) -> Option<T> {
    start().map_err(|reason| skipped(name, &reason)).ok()
}

/// A program in the path, or in one of the directories where distributions hide it.
fn program(name: &str, hidden: &[PathBuf]) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = hidden.iter().cloned().chain(std::env::split_paths(&path));
    let found = places.map(|place| place.join(name)).find(|program| program.is_file());
    found.ok_or_else(|| format!("`{name}` is not installed"))
}

/// Whom a server runs as.
#[derive(Clone, Copy)]
struct User {
    uid: u32,
    gid: u32,
}

/// PostgreSQL refuses to run as root: then it runs as the user of its package, or as nobody.
fn unprivileged() -> Result<Option<User>, String> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let numbers = |name: &str| {
        let mut fields = users.lines().find(|line| line.split(':').next() == Some(name))?.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    let (uid, gid) = ["postgres", "nobody"].into_iter().find_map(numbers).ok_or("there is no user to run it as")?;
    Ok(Some(User { uid, gid }))
}

/// A PostgreSQL server.
pub struct Postgres {
    pub server: Server,
}

/// What a server does to be safe from a loss of power costs time and helps no test. It is still safe from being killed.
const HASTY: [&str; 9] = [
    "fsync=off",
    "full_page_writes=off",
    "shared_buffers=32MB",
    "max_connections=200",
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "autovacuum=off",
    "timezone=UTC",
    "log_min_messages=fatal",
];

impl Postgres {
    /// One of its own, for tests that hurt it.
    pub fn start() -> Option<Self> {
        Self::start_with(None)
    }

    /// One that speaks TLS with a certificate and its key (PEM).
    pub fn start_with(pair: Option<(&str, &str)>) -> Option<Self> {
        found("PostgreSQL", || {
            let user = unprivileged()?;
            let (initdb, program) = (binaries("initdb")?, binaries("postgres")?);
            let home = directory(user)?;
            let data = home.join("data").display().to_string();
            let mut arguments = as_user(user, &initdb);
            let options = ["-U", "stepwell", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D", &data];
            arguments.extend(options.map(str::to_owned));
            let made = Command::new(&arguments[0]).args(&arguments[1..]).current_dir(&home).output();
            let made = made.map_err(|error| error.to_string())?;
            if !made.status.success() {
                return Err(format!("initdb failed: {}", String::from_utf8_lossy(&made.stderr)));
            }
            let mut tls = Vec::new();
            if let Some((cert, key)) = pair {
                for (name, text) in [("cert", cert), ("key", key)] {
                    let path = home.join(name);
                    // It reads no key that others may read, and none that is not its own.
                    std::fs::write(&path, text).map_err(|error| error.to_string())?;
                    std::fs::set_permissions(&path, Permissions::from_mode(0o600))
                        .map_err(|error| error.to_string())?;
                    if let Some(User { uid, gid }) = user {
                        chown(&path, Some(uid), Some(gid)).map_err(|error| error.to_string())?;
                    }
                    tls.push(format!("ssl_{name}_file={}", path.display()));
                }
                tls.push("ssl=on".to_owned());
            }
            let server = Server::start("PostgreSQL", "QUIT", home, |_, port| {
                let mut command = as_user(user, &program);
                command.extend(["-D".to_owned(), data, "-p".to_owned(), port.to_string()]);
                let options = HASTY.iter().map(|option| (*option).to_owned()).chain(tls);
                command.extend(options.flat_map(|option| ["-c".to_owned(), option]));
                command
            })?;
            let postgres = Self { server };
            postgres.until_it_answers()?;
            Ok(postgres)
        })
    }

    /// Begins again after it was killed.
    pub fn start_again(&mut self) {
        self.server.start_again().expect("it starts");
        self.until_it_answers().expect("it answers");
    }

    /// It listens before it lets anybody in.
    fn until_it_answers(&self) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        let began = Instant::now();
        let options = self.options("postgres");
        // A thread of its own: whoever calls may be inside a runtime.
        std::thread::spawn(move || {
            runtime.block_on(async {
                loop {
                    match options.connect().await {
                        Ok(connection) => return connection.close().await.map_err(|error| error.to_string()),
                        Err(error) if began.elapsed() > STARTS => return Err(error.to_string()),
                        Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                    }
                }
            })
        })
        .join()
        .map_err(|_| "the thread panicked".to_owned())?
    }

    fn options(&self, database: &str) -> PgConnectOptions {
        let address = self.server.address;
        let options = PgConnectOptions::new_without_pgpass().host(&address.ip().to_string()).port(address.port());
        options.username("stepwell").database(database)
    }

    /// A fresh database: its name.
    pub async fn create(&self, settings: &str) -> String {
        let name = format!("test_{}", uuid::Uuid::now_v7().simple());
        let mut connection = self.options("postgres").connect().await.expect("the server answers");
        let sql = format!("CREATE DATABASE {name} {settings}");
        sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await.expect("a database");
        name
    }

    /// For whoever looks past the program.
    pub async fn connect(&self, database: &str) -> PgConnection {
        self.options(database).connect().await.expect("the server answers")
    }

    /// The address of a database for `storage.url`, by whichever way to the server.
    pub fn url(&self, at: SocketAddr, database: &str) -> String {
        format!("postgres://stepwell@{at}/{database}?sslmode=disable")
    }
}

fn binaries(name: &str) -> Result<PathBuf, String> {
    let mut hidden: Vec<(u32, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten() {
        let version = entry.file_name().to_string_lossy().parse().unwrap_or_default();
        hidden.push((version, entry.path().join("bin")));
    }
    hidden.sort_by(|one, other| other.cmp(one));
    program(name, &hidden.into_iter().map(|(_, path)| path).collect::<Vec<_>>())
}

fn as_user(user: Option<User>, program: &Path) -> Vec<String> {
    let program = program.display().to_string();
    let Some(User { uid, gid }) = user else { return vec![program] };
    let (uid, gid) = (format!("--reuid={uid}"), format!("--regid={gid}"));
    ["setpriv", &uid, &gid, "--clear-groups", "--", &program].map(str::to_owned).to_vec()
}

/// The PostgreSQL server that all tests of this process share; `None` where there is none, which was said.
pub fn postgres() -> Option<&'static Postgres> {
    static SHARED: OnceLock<Option<Postgres>> = OnceLock::new();
    SHARED.get_or_init(Postgres::start).as_ref()
}

/// The address of a fresh database on the shared server.
pub async fn database() -> Option<String> {
    let postgres = postgres()?;
    let name = postgres.create("").await;
    Some(postgres.url(postgres.server.address, &name))
}

/// The `storage` section of each store that black-box tests run on: the embedded one, and a fresh database if there is a
/// server.
pub async fn stores() -> Vec<String> {
    let shared = database().await.map(|url| format!("storage: {{ url: '{url}' }}\n"));
    std::iter::once(String::new()).chain(shared).collect()
}

/// A Redis server, in memory.
pub struct Redis {
    pub server: Server,
    /// What it wants to hear first.
    password: Option<String>,
}

impl Redis {
    /// One of its own, for tests that hurt it.
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// With more arguments, such as `--requirepass x`; `{port}` in one is the port that it is to listen on.
    pub fn start_with(arguments: &[&str]) -> Option<Self> {
        let password = arguments.iter().skip_while(|argument| **argument != "--requirepass").nth(1);
        let server = found("Redis", || {
            let program = program("redis-server", &[])?;
            Server::start("Redis", "TERM", directory(None)?, |directory, port| {
                let options = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no", "--dir"];
                let mut command = vec![program.display().to_string(), "--port".to_owned(), port.to_string()];
                command.extend(options.map(str::to_owned));
                command.push(directory.display().to_string());
                command.extend(arguments.iter().map(|argument| argument.replace("{port}", &port.to_string())));
                command
            })
        })?;
        Some(Self { server, password: password.map(|password| (*password).to_owned()) })
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.server.address)
    }

    /// One command, and what is answered.
    pub fn ask(&self, words: &[&str]) -> redis::Value {
        let password = self.password.as_ref().map_or_else(String::new, |password| format!(":{password}@"));
        let client = redis::Client::open(format!("redis://{password}{}", self.server.address)).expect("a URL");
        let mut connection = client.get_connection().expect("a connection");
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]).query(&mut connection).expect("an answer")
    }

    pub fn keys(&self, pattern: &str) -> Vec<String> {
        redis::from_redis_value(self.ask(&["KEYS", pattern])).expect("texts")
    }

    pub fn freeze(&self) {
        self.server.signal(rustix::process::Signal::STOP);
    }

    pub fn thaw(&self) {
        self.server.signal(rustix::process::Signal::CONT);
    }

    pub fn kill(&self) {
        self.server.signal(rustix::process::Signal::KILL);
    }

    /// Begins again after it was killed, on the same port, with nothing in it.
    pub fn start_again(&mut self) {
        self.server.start_again().expect("it starts");
    }
}

/// The Redis server that all tests of this process share.
pub fn redis() -> Option<&'static Redis> {
    static SHARED: OnceLock<Option<Redis>> = OnceLock::new();
    SHARED.get_or_init(Redis::start).as_ref()
}

/// The NATS server, with JetStream, that all tests of this process share.
pub fn nats() -> Option<&'static Server> {
    static SHARED: OnceLock<Option<Server>> = OnceLock::new();
    SHARED.get_or_init(start_nats).as_ref()
}

/// One of its own, for tests that hurt it.
pub fn start_nats() -> Option<Server> {
    start_nats_with(&[])
}

/// With more arguments, such as `--user`.
pub fn start_nats_with(arguments: &[&str]) -> Option<Server> {
    found("NATS", || {
        let program = program("nats-server", &[PathBuf::from("/usr/sbin")])?;
        Server::start("NATS", "TERM", directory(None)?, |directory, port| {
            let options = ["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd"].map(str::to_owned);
            let mut command = vec![program.display().to_string()];
            command.extend(options);
            command.push(directory.display().to_string());
            command.extend(arguments.iter().map(|argument| (*argument).to_owned()));
            command
        })
    })
}
