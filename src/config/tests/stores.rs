//! Servers that several of ours share: PostgreSQL, Redis, NATS.

use super::*;
use crate::units::Span;

#[test]
fn a_shared_store_needs_a_redis_and_a_secret_and_never_shows_its_password() {
    let section =
        MANUAL.split("\nshared:\n").nth(1).and_then(|rest| rest.split("\nlogging:").next()).expect("a section");
    let written = section.replace("#: ", "").replace("# url: redis://", "url: redis://:open-sesame@");
    let secret = "auth: { secret: a-secret-of-all-replicas-0123456789 }\nproviders: { demo: }\n";
    let shared = settings(&format!("{secret}shared:\n{written}")).shared.expect("shared");
    let default = crate::config::Shared { url: shared.url.clone(), ..crate::config::Shared::default() };
    assert_eq!(shared, default, "the defaults in the manual are those of the code");
    assert!(!format!("{shared:?}").contains("sesame"));
    assert!(problem("providers: { demo: }\nshared: { url: 'redis://h' }").contains("auth.secret"));
    let wrong = problems(&format!("{secret}shared: {{ url: 'http://:open-sesame@h', timeout: 1h, prefix: 'a b' }}"));
    assert_eq!(wrong.len(), 3);
    let wrong = Problems(wrong).to_string();
    assert!(wrong.contains("redis://") && !wrong.contains("sesame"), "{wrong}");
    assert!(settings("providers: { demo: }\nshared: { prefix: x }").shared.is_none(), "without a URL each for itself");
}

#[test]
fn the_address_of_nats_is_taken_apart_and_never_shown() {
    let queue = |text: &str| settings(&format!("providers: {{ demo: }}\nqueue: {{ {text} }}\n")).queue;
    let one = queue("url: 'nats://me:open%2Fsesame@h,tls://other:5222'").expect("a queue");
    assert_eq!(one.servers.iter().map(|url| url.as_str()).collect::<Vec<_>>(), ["nats://h", "tls://other:5222"]);
    let Login::User(user, password) = &one.login else { panic!("{one:?}") };
    assert_eq!((&**user, password.expose_secret()), ("me", "open/sesame"));
    assert!(!format!("{one:?}").contains("sesame"));
    assert!(matches!(queue("url: 'nats://token@h'").expect("a queue").login, Login::Token(_)));
    let file = queue("url: 'nats://h', credentials: /run/me.creds").expect("a queue");
    assert!(matches!(file.login, Login::Credentials(_)) && file.prefix == "stepwell" && file.replicas == 1);
    assert!(queue("prefix: x").is_none(), "without a URL the store hands jobs out");

    let wrong =
        "queue: { url: 'nats://me:open-sesame@h/x', prefix: 'a.b', replicas: 9, urll: x }\nevents: { publish: true }\n";
    let wrong = problems(&format!("providers: {{ demo: }}\n{wrong}"));
    assert_eq!(wrong.len(), 5);
    let wrong = Problems(wrong).to_string();
    assert!(wrong.contains("nats://user:password@host") && wrong.contains("queue.url"), "{wrong}");
    assert!(!wrong.contains("sesame@h"), "{wrong}");
    assert!(problem("providers: { demo: }\nqueue: { url: 'nats://token@h', credentials: f }").contains("leave one"));
    assert!(problem("providers: { demo: }\nqueue: { url: 'redis://h' }").contains("nats://"));
}

#[test]
fn a_databases_address_is_read_and_its_password_is_shown_nowhere() {
    let storage = |url: &str| {
        let yaml = format!("providers: {{ demo: }}\nstorage: {{ url: '{url}' }}\n");
        parse(Path::new("providers.yaml"), &yaml, &|_| None, TODAY).map(|loaded| loaded.settings.storage)
    };
    let url = "postgres://me:hidden-secret@db.internal/ledger?sslmode=verify-full";
    let Ok(Storage::Postgres(database)) = storage(url) else { panic!("{url}") };
    assert_eq!((database.shown(), database.connections), ("me@db.internal:5432/ledger", 8));
    assert!(!format!("{database:?}").contains("hidden-secret"));
    for (url, said) in [
        ("postgres://me:hidden/secret@db/ledger", "%2F for a /"),
        ("postgres://me:hidden-secret@db", "names no database"),
        ("postgres://me:hidden-secret@/ledger", "the address"),
        ("postgres://me:hidden-secret@one,two/ledger", "several hosts"),
        ("postgres://me@db/ledger?password=hidden-secret", "parameter that is not known"),
        ("postgres://me:hidden-secret@db/ledger?sslmode=requir", "require"),
        ("mysql://me:hidden-secret@db/ledger", "is not a storage"),
        ("sqlite://", "names no file"),
    ] {
        let problems = storage(url).expect_err(url).to_string();
        assert!(problems.contains(said), "{url}: {problems}");
        assert!(!problems.contains("hidden") && !problems.contains("secret"), "{url}: {problems}");
    }
    let yaml = "providers: { demo: }\nstorage: { connections: 4 }\n";
    let problems = parse(Path::new("providers.yaml"), yaml, &|_| None, TODAY).expect_err("no server").to_string();
    assert!(problems.contains("only a database server"), "{problems}");
}

#[test]
fn a_webhook_of_events_needs_an_address_and_kinds_that_there_are() {
    let events = |text: &str| format!("providers: {{ demo: }}\nevents: {{ webhook: {{ {text} }} }}\n");
    let webhook = settings(&events("url: 'https://h/e', kinds: [queued, anomaly]")).events.webhook.expect("a webhook");
    assert_eq!((webhook.url.as_str(), webhook.kinds.len()), ("https://h/e", 2));
    assert!(settings(&events("url: 'https://h/e'")).events.webhook.expect("a webhook").kinds.is_empty(), "all");
    assert!(problem(&events("kinds: [queued]")).contains("url"));
    let problem = problem(&events("url: 'https://h/e', kinds: [anomalie]"));
    assert!(problem.contains("unknown kind of event `anomalie`") && problem.contains("anomaly"), "{problem}");
}

#[test]
fn what_is_kept_has_a_bound_or_none() {
    let kept = |text: &str| settings(&format!("providers: {{ demo: }}\nretention: {{ {text} }}\n")).retention;
    assert_eq!(kept("requests: 30d, events: forever"), Retention { requests: Some(days(30)), events: None });
    assert_eq!(kept("events: 1h").requests, None, "the ledger is kept unless somebody wants otherwise");
    assert!(problem("providers: { demo: }\nretention: { requests: 1h }\n").contains("out of range"));
}

fn days(days: u64) -> Span {
    Span(Duration::from_secs(days * 86_400))
}
