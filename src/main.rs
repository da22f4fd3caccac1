//! The command line: flags only. What a command does stands in `stepwell::command`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use stepwell::command::{self, Exit};
use stepwell::money::NanoUsd;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An OpenAI-compatible LLM router that tells the truth about every request.
///
/// Without a command it serves. Without a configuration it uses the providers whose API keys it finds in the
/// environment, then local servers, then a built-in demo.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the API (the default).
    Serve(Serve),
    /// Validate a configuration without serving; shows every problem at once.
    Check {
        /// The file; the one that `serve` would use if not given.
        file: Option<PathBuf>,
        /// Also ask every provider for its models (no tokens are used).
        #[arg(long)]
        live: bool,
    },
    /// Write a commented providers.yaml into the current directory.
    Init {
        /// With the providers whose keys are in the environment.
        #[arg(long)]
        from_env: bool,
        /// Where to write it; `-` is standard output.
        #[arg(long, short, default_value = "providers.yaml")]
        output: PathBuf,
    },
    /// Write another router's configuration anew as ours, and tell what became of each field.
    Import {
        #[command(subcommand)]
        command: Import,
    },
    /// Show how a prompt would be routed. No call is made.
    Route {
        prompt: String,
        #[arg(long, short)]
        config: Option<PathBuf>,
        #[arg(long, default_value = "auto")]
        model: String,
        /// A routing hint, such as budget=low; may be repeated.
        #[arg(long = "hint", value_name = "KEY=VALUE")]
        hints: Vec<String>,
        #[arg(long)]
        json: bool,
        /// Decide with the demo provider, whatever is configured.
        #[arg(long)]
        demo: bool,
    },
    /// Stream one answer from a running server, or hold a conversation.
    Chat {
        /// Asked once; without it, lines are read from the terminal.
        prompt: Option<String>,
        #[arg(long, default_value = "auto")]
        model: String,
        /// The server's base URL.
        #[arg(long, default_value = "http://127.0.0.1:4000/v1")]
        url: String,
        #[arg(long, env = "STEPWELL_API_KEY", hide_env_values = true)]
        api_key: Option<String>,
    },
    /// List every model with price, window, skills and where the figures come from.
    Models(Listing),
    /// List the providers.
    Providers(Listing),
    /// Report what was used and what it cost.
    Usage {
        /// One or several of provider, model, task, key, team, tier, tag, strategy, day, hour, status.
        #[arg(long, default_value = "provider,model")]
        by: String,
        /// An RFC 3339 time, or a span back from now such as 7d or 24h.
        #[arg(long, default_value = "7d")]
        since: String,
        #[arg(long)]
        until: Option<String>,
        /// Requests of this key only, by its name.
        #[arg(long)]
        key: Option<String>,
        /// Requests of this team's keys only.
        #[arg(long)]
        team: Option<String>,
        /// Requests with this tag only.
        #[arg(long)]
        tag: Option<String>,
        /// excel is csv with the mark by which Excel knows UTF-8.
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
        /// Exit with 1 if the known cost is above this many USD.
        #[arg(long, value_name = "USD", value_parser = usd, allow_negative_numbers = true)]
        fail_over: Option<NanoUsd>,
        /// Exit with 1 if any request has no known price.
        #[arg(long)]
        fail_unpriced: bool,
        #[arg(long)]
        data_dir: Option<PathBuf>,
        #[arg(long, short)]
        config: Option<PathBuf>,
    },
    /// Show every budget with what is left, and until when it is expected to last.
    Budgets {
        #[command(flatten)]
        place: Place,
    },
    /// Show the stored decision and the attempts of one request.
    Explain {
        request_id: String,
        #[arg(long)]
        json: bool,
        #[arg(long)]
        data_dir: Option<PathBuf>,
        #[arg(long, short)]
        config: Option<PathBuf>,
    },
    /// Measure the router's own overhead and throughput against the demo provider.
    Bench {
        #[arg(long, default_value_t = 64)]
        concurrency: usize,
        /// Seconds per measurement.
        #[arg(long, default_value_t = 3)]
        duration: u64,
        /// Measure streams too.
        #[arg(long)]
        stream: bool,
    },
    /// Break each provider of a configuration in turn, behind a running router, and show what callers see. Nothing is paid.
    Chaos {
        /// The file; the one that `serve` would use if not given.
        #[arg(long, short)]
        config: Option<PathBuf>,
        /// Requests for each provider and fault.
        #[arg(long, default_value_t = 20)]
        requests: usize,
        #[arg(long)]
        json: bool,
    },
    /// Serve an OpenAI-compatible upstream that fails on demand, to see what a router makes of it.
    Demo {
        /// Address to listen on.
        #[arg(long, default_value = "127.0.0.1")]
        host: IpAddr,
        /// Port to listen on; 0 takes a free one.
        #[arg(long, short, default_value_t = 4010)]
        port: u16,
    },
    /// Show, repeat and discard requests that are answered later, and the dead letters among them.
    Jobs {
        #[command(subcommand)]
        command: Jobs,
    },
    /// Read the log of events: what happened, what it adds up to, how things stood at a moment.
    Events {
        #[command(subcommand)]
        command: Events,
    },
    /// Have the lines of a file answered by a running server, and write the answers into another one.
    Batch {
        /// JSONL, as OpenAI's batches have it: custom_id, method, url and body in each line.
        file: PathBuf,
        /// Where answers go; FILE.out.jsonl if not given. Lines without an answer go to FILE.errors.jsonl.
        #[arg(long, short)]
        output: Option<PathBuf>,
        /// Of every line.
        #[arg(long, default_value = "/v1/chat/completions")]
        endpoint: String,
        /// After which lines that nobody has come to expire.
        #[arg(long, default_value = "24h")]
        window: String,
        /// The server's base URL.
        #[arg(long, default_value = "http://127.0.0.1:4000/v1")]
        url: String,
        #[arg(long, env = "STEPWELL_API_KEY", hide_env_values = true)]
        api_key: Option<String>,
    },
    /// Ask a running server whether it lives; exit code 1 if not. For containers, which have no curl.
    Health {
        /// The server, without a path.
        #[arg(long, env = "STEPWELL_URL", default_value = "http://127.0.0.1:4000")]
        url: String,
        /// Also whether it can answer requests: 1 while it drains, and while no provider is usable.
        #[arg(long)]
        ready: bool,
    },
    /// Make, show, rotate and revoke the keys of callers.
    Keys {
        #[command(subcommand)]
        command: Keys,
    },
    /// Print a completion script for a shell.
    Completions { shell: clap_complete::Shell },
}

#[derive(Args)]
struct Serve {
    /// The configuration file.
    #[arg(long, short)]
    config: Option<PathBuf>,
    /// Address to listen on, instead of `server.listen`.
    #[arg(long)]
    host: Option<IpAddr>,
    /// Port to listen on, instead of the one of `server.listen`; 0 takes a free one.
    #[arg(long, short)]
    port: Option<u16>,
    /// Where the ledger is kept.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Serve the built-in demo provider, whatever is configured.
    #[arg(long)]
    demo: bool,
    /// Listen beyond this machine without asking for keys.
    #[arg(long)]
    insecure: bool,
}

#[derive(Subcommand)]
enum Keys {
    /// Make a key. It is printed once and kept as a hash.
    Create {
        /// Names the key in reports; unique.
        #[arg(long)]
        name: String,
        /// One of `tiers` in the configuration.
        #[arg(long)]
        tier: Option<String>,
        /// Whose limits and budget it shares (`teams`), and a column in reports.
        #[arg(long)]
        team: Option<String>,
        /// member (asks models, sees its own usage), operator (sees all) or admin (also keys).
        #[arg(long)]
        role: Option<String>,
        /// A word for reports; may be repeated.
        #[arg(long = "tag", value_name = "TAG")]
        tags: Vec<String>,
        /// A span from now, such as 90d, or an RFC 3339 time.
        #[arg(long)]
        expires: Option<String>,
        /// An alias, a model or a provider/model that it may ask for; may be repeated.
        #[arg(long = "model", value_name = "MODEL")]
        models: Vec<String>,
        /// A provider that may answer; may be repeated.
        #[arg(long = "provider", value_name = "PROVIDER")]
        providers: Vec<String>,
        /// A limit of its own, such as requests_per_minute=60 or budget.month=20; may be repeated.
        #[arg(long = "limit", value_name = "NAME=VALUE")]
        limits: Vec<String>,
        #[command(flatten)]
        place: Place,
    },
    /// List all keys, revoked ones included.
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Show one key.
    Show {
        /// Id or name.
        key: String,
        #[command(flatten)]
        place: Place,
    },
    /// Give a key a new text; the old one goes on for a while.
    Rotate {
        /// Id or name.
        key: String,
        /// How long the old text goes on; 0 ends it at once. 24h if not given.
        #[arg(long)]
        overlap: Option<String>,
        #[command(flatten)]
        place: Place,
    },
    /// End a key for good.
    Revoke {
        /// Id or name.
        key: String,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Subcommand)]
enum Jobs {
    /// List jobs, newest first.
    List {
        /// queued, running, completed, failed, cancelled, expired or dead.
        #[arg(long)]
        status: Option<String>,
        /// Lines of this batch only.
        #[arg(long)]
        batch: Option<String>,
        /// Also what the router does for itself: webhooks, batches.
        #[arg(long)]
        all: bool,
        #[arg(long, default_value_t = 50)]
        limit: usize,
        #[command(flatten)]
        place: Place,
    },
    /// List the dead letters: jobs of which all attempts failed.
    Dead {
        #[arg(long, default_value_t = 50)]
        limit: usize,
        #[command(flatten)]
        place: Place,
    },
    /// Show a job with its history.
    Show {
        id: String,
        #[command(flatten)]
        place: Place,
    },
    /// Have a dead, failed, expired or cancelled job done once more.
    Retry {
        /// Ids; or `dead` for all dead letters.
        #[arg(required = true)]
        ids: Vec<String>,
        #[command(flatten)]
        place: Place,
    },
    /// Take a dead letter off the list for good.
    Discard {
        #[arg(required = true)]
        ids: Vec<String>,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Subcommand)]
enum Events {
    /// List events, oldest first.
    List {
        /// Kinds, comma separated, such as dead_lettered,breaker_opened.
        #[arg(long)]
        kind: Option<String>,
        /// Of this request, batch or target only.
        #[arg(long)]
        subject: Option<String>,
        /// An RFC 3339 time, or a span back from now such as 7d or 24h.
        #[arg(long, default_value = "24h")]
        since: String,
        #[arg(long)]
        until: Option<String>,
        #[command(flatten)]
        place: Place,
    },
    /// Tell the log again from its beginning: sums and states are made anew and compared with those that there were.
    Replay {
        #[command(flatten)]
        place: Place,
    },
    /// How everything stood at a moment: usage, jobs, batches, breakers.
    At {
        /// An RFC 3339 time, or a span back from now such as 7d or 24h.
        moment: String,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Subcommand)]
enum Import {
    /// A LiteLLM proxy's config.yaml. Secrets become references to environment variables.
    Litellm {
        file: PathBuf,
        /// Where to write it; standard output if not given.
        #[arg(long, short)]
        output: Option<PathBuf>,
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
struct Place {
    #[arg(long)]
    json: bool,
    /// Where the keys are kept.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    #[arg(long, short)]
    config: Option<PathBuf>,
}

impl From<Place> for command::keys::Place {
    fn from(Place { json, data_dir, config }: Place) -> Self {
        Self { json, data_dir, config }
    }
}

#[derive(Args)]
struct Listing {
    #[arg(long, short)]
    config: Option<PathBuf>,
    #[arg(long)]
    json: bool,
    /// Show the demo provider, whatever is configured.
    #[arg(long)]
    demo: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Table,
    Csv,
    Excel,
    Json,
}

impl From<Format> for command::usage::Format {
    fn from(format: Format) -> Self {
        match format {
            Format::Table => Self::Table,
            Format::Csv => Self::Csv,
            Format::Excel => Self::Excel,
            Format::Json => Self::Json,
        }
    }
}

fn usd(text: &str) -> Result<NanoUsd, String> {
    let amount = text.trim_start_matches('$').parse().ok().and_then(NanoUsd::from_usd);
    amount.ok_or_else(|| format!("`{text}` is not an amount in USD, 0 or more"))
}

fn keys(keys: Keys) -> command::Outcome {
    match keys {
        Keys::Create { name, tier, team, role, tags, expires, models, providers, limits, place } => {
            let new = command::keys::New { name, tier, team, role, tags, expires, models, providers, limits };
            command::keys::create(&place.into(), new)
        }
        Keys::List { place } => command::keys::list(&place.into()),
        Keys::Show { key, place } => command::keys::show(&place.into(), &key),
        Keys::Rotate { key, overlap, place } => command::keys::rotate(&place.into(), &key, overlap.as_deref()),
        Keys::Revoke { key, place } => command::keys::revoke(&place.into(), &key),
    }
}

fn jobs(jobs: Jobs) -> command::Outcome {
    use command::jobs::Listed;
    match jobs {
        Jobs::List { status, batch, all, limit, place } => {
            command::jobs::list(&place.into(), &Listed { status, batch, internal: all, limit })
        }
        Jobs::Dead { limit, place } => {
            let listed = Listed { status: Some("dead".to_owned()), batch: None, internal: true, limit };
            command::jobs::list(&place.into(), &listed)
        }
        Jobs::Show { id, place } => command::jobs::show(&place.into(), &id),
        Jobs::Retry { ids, place } => command::jobs::retry(&place.into(), &ids),
        Jobs::Discard { ids, place } => command::jobs::discard(&place.into(), &ids),
    }
}

fn events(events: Events) -> command::Outcome {
    match events {
        Events::List { kind, subject, since, until, place } => {
            command::events::list(&place.into(), kind.as_deref(), subject, &since, until.as_deref())
        }
        Events::Replay { place } => command::events::replay(&place.into()),
        Events::At { moment, place } => command::events::at(&place.into(), &moment),
    }
}

fn main() -> ExitCode {
    let Cli { command, serve } = Cli::parse();
    let exit = match command.unwrap_or(Command::Serve(serve)) {
        Command::Serve(Serve { config, host, port, data_dir, demo, insecure }) => {
            command::serve::run(command::serve::Options { config, host, port, data_dir, demo, insecure })
        }
        Command::Check { file, live } => command::check::run(file.as_deref(), live),
        Command::Init { from_env, output } => command::init::run(from_env, &output),
        Command::Route { prompt, config, model, hints, json, demo } => {
            command::route::run(&prompt, config.as_deref(), &model, &hints, json, demo)
        }
        Command::Chat { prompt, model, url, api_key } => command::chat::run(prompt, &model, &url, api_key.as_deref()),
        Command::Models(Listing { config, json, demo }) => command::models::models(config.as_deref(), json, demo),
        Command::Providers(Listing { config, json, demo }) => command::models::providers(config.as_deref(), json, demo),
        Command::Usage { by, since, until, key, team, tag, format, fail_over, fail_unpriced, data_dir, config } => {
            let gate = command::usage::Gate { most: fail_over, all_priced: fail_unpriced };
            let format = format.into();
            command::usage::run(command::usage::Options {
                by,
                since,
                until,
                key,
                team,
                tag,
                format,
                gate,
                data_dir,
                config,
            })
        }
        Command::Import { command: Import::Litellm { file, output, json } } => {
            command::import::litellm(&file, output.as_deref(), json)
        }
        Command::Budgets { place } => command::budgets::run(&place.into()),
        Command::Explain { request_id, json, data_dir, config } => {
            command::explain::run(&request_id, json, data_dir.as_deref(), config.as_deref())
        }
        Command::Bench { concurrency, duration, stream } => command::bench::run(concurrency, duration, stream),
        Command::Chaos { config, requests, json } => command::chaos::run(config.as_deref(), requests, json),
        Command::Demo { host, port } => command::demo::run(host, port),
        Command::Jobs { command } => jobs(command),
        Command::Events { command } => events(command),
        Command::Batch { file, output, endpoint, window, url, api_key } => {
            command::batch::run(&file, output, &endpoint, &window, &url, api_key.as_deref())
        }
        Command::Health { url, ready } => command::health::run(&url, ready),
        Command::Keys { command } => keys(command),
        Command::Completions { shell } => {
            let mut cli = <Cli as clap::CommandFactory>::command();
            clap_complete::generate(shell, &mut cli, "stepwell", &mut std::io::stdout());
            Ok(())
        }
    };
    match exit {
        Ok(()) => ExitCode::SUCCESS,
        Err(Exit { code, message }) => {
            if !message.is_empty() {
                eprintln!("stepwell: {message}");
            }
            ExitCode::from(code)
        }
    }
}
