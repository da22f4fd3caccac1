//! `stepwell demo`: an OpenAI-compatible server that fails on demand, to see what a router makes of it.

use std::net::{IpAddr, SocketAddr};

use super::serve::Signals;
use super::{Exit, Outcome, block_on, print};
use crate::scripted::{Upstream, act};

/// What it says where nothing else was asked for.
const ANSWER: &str = "This is the scripted upstream of stepwell. It answers, or fails, as it is told.";

/// Serves until a signal ends it.
///
/// # Errors
/// The address cannot be listened on.
pub fn run(host: IpAddr, port: u16) -> Outcome {
    block_on(serve(SocketAddr::new(host, port)))?
}

async fn serve(address: SocketAddr) -> Outcome {
    let mut signals = Signals::receive()?;
    let upstream = Upstream::start(address, act::model(ANSWER)).await.map_err(|error| {
        Exit::new(Exit::FAILED, format!("cannot listen on {address}: {error}; name another port with --port"))
    })?;
    print(&banner(&upstream))?;
    signals.end().await;
    Ok(())
}

fn banner(upstream: &Upstream) -> String {
    let url = &upstream.url;
    let post = format!("curl -s {url}/chat/completions -H 'content-type: application/json'");
    let body = |model: &str, more: &str, prompt: &str| {
        format!(
            "-d '{{\"model\": \"{model}\"{more}, \"messages\": [{{\"role\": \"user\", \"content\": \"{prompt}\"}}]}}'"
        )
    };
    [
        format!("stepwell {}: a scripted upstream, base URL {url} (any API key)", env!("CARGO_PKG_VERSION")),
        String::new(),
        "  a fault by header, by the model's name, or inside the prompt; the words are the same:".to_owned(),
        format!("    {post} -i -H 'x-fault: status=503; retry-after=2' \\"),
        format!("      {}", body("scripted", "", "hi")),
        format!("    {post} -N \\"),
        format!("      {}", body("fault-cut-after=5,pace=200ms", ", \"stream\": true", "hi")),
        format!("    {post} \\"),
        format!("      {}", body("scripted", "", "hi [[fault body=html delay=2s]]")),
        String::new(),
        format!("  behind a router   providers: {{ broken: {{ format: openai, base_url: '{url}', models: [ {{ id: scripted }} ] }} }}"),
        format!("  what arrived      curl -s {}/calls", url.trim_end_matches("/v1")),
        "  all words         -H 'x-fault: help'".to_owned(),
    ]
    .join("\n")
}
