//! Connections to PostgreSQL, Redis and NATS with passwords and certificates: who is right is let in, who is wrong is told
//! so without a secret, and what is not spoken is refused at the start.

use serde_json::Value;

use crate::support::app;
use crate::support::certificate::{Authority, Pair};
use crate::support::process::{Home, Process, until};
use crate::support::servers::{Postgres, Redis, start_nats_with};

const DEMO: &str = "providers: { demo: }\nauth: { required: never, secret: a-secret-of-all-replicas-0123456789 }\n";
/// Part of every password here.
const SECRET: &str = "sesame";

/// A certificate for localhost in files, the authority that signed it, and another one.
struct Papers {
    directory: tempfile::TempDir,
    pair: Pair,
}

impl Papers {
    fn new() -> Self {
        let (authority, directory) = (Authority::new(), tempfile::tempdir().expect("a directory"));
        let pair = authority.pair();
        pair.write(directory.path());
        std::fs::write(directory.path().join("ca.pem"), &authority.pem).expect("a file");
        std::fs::write(directory.path().join("other.pem"), Authority::new().pem).expect("a file");
        Self { directory, pair }
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }
}

async fn start(yaml: &str) -> (Home, Process) {
    let home = Home::new(&format!("{DEMO}{yaml}"));
    let process = home.start().await;
    (home, process)
}

/// Waits until a part of `/health` is so; its reason.
async fn is(process: &Process, part: &str, status: &str, reason: &str) {
    until(&format!("{part} is {status}: {reason}"), async || {
        let found = &process.get("/health").await[part];
        let why = found["reason"].as_str().unwrap_or_default();
        found["status"] == status && why.contains(reason)
    })
    .await;
}

async fn says_no_secret(home: &Home, process: &Process) {
    let mut said = home.errors() + &home.output() + &process.metrics().await;
    for path in ["/health", "/gateway/status"] {
        said += &process.get(path).await.to_string();
    }
    assert!(!said.contains(SECRET), "{said}");
}

#[tokio::test]
async fn redis_lets_in_who_has_user_password_and_authority() {
    let papers = Papers::new();
    let arguments = [
        ("--port", "0".to_owned()),
        ("--tls-port", "{port}".to_owned()),
        ("--tls-cert-file", papers.path("cert.pem")),
        ("--tls-key-file", papers.path("key.pem")),
        ("--tls-ca-cert-file", papers.path("ca.pem")),
        ("--tls-auth-clients", "no".to_owned()),
        ("--user", "default off".to_owned()),
        ("--user", "router on >open/sesame ~* &* +@all".to_owned()),
    ];
    // Words of one option are arguments of their own.
    let arguments: Vec<&str> =
        arguments.iter().flat_map(|(name, value)| std::iter::once(*name).chain(value.split(' '))).collect();
    let Some(redis) = Redis::start_with(&arguments) else { return };
    let shared = |who: &str, ca: &str| {
        let (address, ca) = (redis.server.address, papers.path(ca));
        format!("shared: {{ url: 'rediss://{who}@{address}', ca: '{ca}', timeout: 5s }}\n")
    };
    let cases = [
        ("router:open%2Fsesame", "ca.pem", "ok", ""),
        ("router:wrong-sesame", "ca.pem", "gone", "uthentication"),
        ("router:open%2Fsesame", "other.pem", "gone", ""),
    ];
    for (who, ca, status, reason) in cases {
        let (home, process) = start(&shared(who, ca)).await;
        is(&process, "shared", status, reason).await;
        says_no_secret(&home, &process).await;
        assert_eq!(process.stop().await, Some(0), "{}", home.errors());
    }
    // Without the file the platform's authorities count, and they do not know this one.
    let address = redis.server.address;
    let (home, process) = start(&format!("shared: {{ url: 'rediss://router:open%2Fsesame@{address}' }}\n")).await;
    is(&process, "shared", "gone", "").await;
    says_no_secret(&home, &process).await;
}

#[tokio::test]
async fn what_redis_connections_do_not_have_is_refused_at_the_start() {
    let papers = Papers::new();
    let problem = |shared: &str| app::problems(&format!("{DEMO}shared: {{ {shared} }}\n"));
    let blind = problem("url: 'rediss://u:open-sesame@h/#insecure'");
    assert!(blind.contains("shared.url") && blind.contains("shared.ca") && !blind.contains(SECRET), "{blind}");
    let plain = problem("url: 'redis://u:open-sesame@h', ca: /x.pem");
    assert!(plain.contains("shared.ca") && plain.contains("rediss://") && !plain.contains(SECRET), "{plain}");
    for (ca, reason) in [("nowhere.pem", "No such file"), ("key.pem", "no certificate")] {
        let ca = papers.path(ca);
        let home = Home::new(&format!("{DEMO}shared: {{ url: 'rediss://u:open-sesame@127.0.0.1', ca: '{ca}' }}\n"));
        assert_eq!(home.fails().await, Some(1));
        let said = home.errors();
        assert!(
            said.contains("`shared.ca` cannot be used") && said.contains(reason) && !said.contains(SECRET),
            "{said}"
        );
    }
}

#[tokio::test]
async fn nats_lets_in_who_has_the_token_or_password_and_the_authority() {
    let papers = Papers::new();
    let tls = [("--tlscert", papers.path("cert.pem")), ("--tlskey", papers.path("key.pem"))];
    let tls = ["--tls"].into_iter().chain(tls.iter().flat_map(|(name, path)| [*name, path]));
    let (user, token) = (["--user", "router", "--pass", "open/sesame"], ["--auth", "sesame-token"]);
    let with_user: Vec<&str> = tls.clone().chain(user).collect();
    let with_token: Vec<&str> = tls.chain(token).collect();
    let (Some(by_user), Some(by_token)) = (start_nats_with(&with_user), start_nats_with(&with_token)) else { return };
    let cases = [
        (&by_user, "router:open%2Fsesame", "ca.pem", "ok", ""),
        (&by_user, "router:wrong-sesame", "ca.pem", "gone", "authorization"),
        (&by_user, "router:open%2Fsesame", "other.pem", "gone", ""),
        (&by_token, "sesame-token", "ca.pem", "ok", ""),
        (&by_token, "wrong-sesame", "ca.pem", "gone", "authorization"),
    ];
    for (server, who, ca, status, reason) in cases {
        let url = format!("tls://{who}@localhost:{}", server.address.port());
        let (home, process) = start(&format!("queue: {{ url: '{url}', ca: '{}' }}\n", papers.path(ca))).await;
        is(&process, "queue", status, reason).await;
        says_no_secret(&home, &process).await;
        assert_eq!(process.stop().await, Some(0), "{}", home.errors());
    }
}

#[tokio::test]
async fn postgres_is_believed_with_the_authority_and_refused_with_another_one() {
    let papers = Papers::new();
    let Some(postgres) = Postgres::start_with(Some((&papers.pair.cert, &papers.pair.key))) else { return };
    let database = postgres.create("").await;
    let storage = |options: &str| {
        let port = postgres.server.address.port();
        format!("storage: {{ url: 'postgres://stepwell:open-sesame@localhost:{port}/{database}?{options}' }}\n")
    };
    let believed = format!("sslmode=verify-full&sslrootcert={}", papers.path("ca.pem"));
    for options in ["sslmode=require", &believed] {
        let (home, process) = start(&storage(options)).await;
        let health: Value = process.get("/health").await;
        assert_eq!(health["store"]["status"], "ok", "{health}");
        let mut connection = postgres.connect(&database).await;
        let sql = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                   WHERE application_name LIKE 'stepwell%'";
        let all: Option<bool> = sqlx::query_scalar(sql).fetch_one(&mut connection).await.expect("an answer");
        assert_eq!(all, Some(true), "every connection is encrypted");
        says_no_secret(&home, &process).await;
        assert_eq!(process.stop().await, Some(0), "{}", home.errors());
    }
    let other = format!("sslmode=verify-full&sslrootcert={}", papers.path("other.pem"));
    let home = Home::new(&format!("{DEMO}{}", storage(&other)));
    assert_eq!(home.fails().await, Some(1));
    let said = home.errors();
    assert!(said.contains("certificate") && !said.contains(SECRET), "{said}");
}
