//! What a terminal shows when the server is up: address, what was found, what to try next. At most 15 lines.

use std::collections::BTreeMap;

use super::Running;
use crate::catalog::Format;
use crate::config::Origin;
use crate::tenant::key::State;

pub fn banner(running: &Running, origin: &Origin) -> String {
    let rules = running.gateway.rules();
    let mut models: BTreeMap<&str, usize> = BTreeMap::new();
    for target in rules.index.targets() {
        *models.entry(&target.provider.name).or_default() += 1;
    }
    let count = |count: usize| if count == 1 { "1 model".to_owned() } else { format!("{count} models") };
    let mut providers: Vec<String> =
        models.iter().take(6).map(|(name, models)| format!("{name} ({})", count(*models))).collect();
    if models.len() > 6 {
        providers.push(format!("and {} more", models.len() - 6));
    }
    let demo_only = rules.index.targets().iter().all(|target| target.provider.format == Format::Demo);
    let configuration = match origin {
        Origin::File(path) => path.display().to_string(),
        Origin::Detected(_) => format!("none; found {origin}"),
        Origin::Demo => "none, and no provider found: the built-in demo answers".to_owned(),
    };
    let auth = &rules.settings.tenants.auth;
    let asks = running.access.is_required(auth);
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let keys = running.access.ring().keys().iter().filter(|key| key.state(now_ms) == State::Active).count();
    let access = match (asks, keys, &auth.jwt) {
        (false, 0, _) => "no key needed".to_owned(),
        (false, ..) => format!("no key needed; {keys} known"),
        (true, 0, None) => "keys needed, and there are none: stepwell keys create --name admin --role admin".to_owned(),
        (true, keys, None) => format!("keys needed; {keys} known"),
        (true, keys, Some(jwt)) => format!("keys or tokens of {} needed; {keys} known", jwt.issuer),
    };
    let (header, credential) =
        if asks { (" -H 'authorization: Bearer sk-sw-...'", "a key of stepwell") } else { ("", "any API key") };
    let scheme = if rules.settings.server.tls.is_some() { "https" } else { "http" };
    let base = format!("{scheme}://{}", running.address);
    let mut lines = vec![
        format!("stepwell {} listens on {base}", env!("CARGO_PKG_VERSION")),
        String::new(),
        format!("  configuration  {configuration}"),
        format!("  providers      {}", providers.join(", ")),
        format!("  ledger         {}", running.home.shown()),
        format!("  access         {access}"),
        String::new(),
        format!("  try   curl {base}/v1/chat/completions{header} -H 'content-type: application/json' \\"),
        "          -d '{\"model\": \"auto\", \"messages\": [{\"role\": \"user\", \"content\": \"Write a haiku\"}]}'"
            .to_owned(),
        format!("  or    point any OpenAI client at {base}/v1 ({credential}), model `auto`"),
        "  then  stepwell usage".to_owned(),
    ];
    if demo_only {
        lines.push(
            "  real  set OPENAI_API_KEY, ANTHROPIC_API_KEY, ... or run `stepwell init` for a providers.yaml".to_owned(),
        );
    }
    lines.join("\n")
}
