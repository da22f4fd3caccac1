//! The file that `stepwell init` writes: short, commented, and valid as it stands.

use super::detect;

const HEAD: &str = "\
# stepwell configuration. Everything that is not written here has a default; `stepwell check` validates this file.
# ${NAME} takes an environment variable, ${NAME:-default} gives a fallback, ${file:/path} reads a file.

# Who can answer. A well-known name brings its address, models and prices.
providers:
";

const TAIL: &str = "
# How a model is chosen: balanced, cheapest, fastest, quality, priority, weighted or round_robin.
routing:
  strategy: balanced
#   aliases:                          # names of your own that clients can ask for
#     drafts: { only: [PROVIDER], strategy: cheapest }

# Tasks of your own, by patterns in the prompt.
# tasks:
#   legal:
#     patterns:
#       - { match: '\\b(clause|indemnity|liability)\\b', weight: 2 }
#     strategy: quality

# server: { listen: 127.0.0.1:4000 }  # 0.0.0.0:4000 to be reached from other machines
# cache: { enabled: true, ttl: 1h }
";

/// With `from_env`, one entry for every provider whose variable is set (the variable's name, never its value); without,
/// or if there is none, the demo provider and examples to uncomment.
pub fn template(from_env: bool, env: &dyn Fn(&str) -> Option<String>) -> String {
    let found = if from_env { detect::from_env(env) } else { Vec::new() };
    let mut file = HEAD.to_owned();
    for (preset, variable, _) in &found {
        file.push_str(&format!("  {}:\n    api_key: ${{{variable}}}\n", preset.name));
        if preset.name == "azure" {
            file.push_str("    base_url: ${AZURE_OPENAI_ENDPOINT:-https://NAME.openai.azure.com}\n");
            file.push_str("    models: [gpt-5-mini]            # the deployments you have\n");
        }
    }
    if found.is_empty() {
        file.push_str("  demo: {}                            # answers from inside stepwell, for trying it out\n");
        for (name, variable) in [("openai", "OPENAI_API_KEY"), ("anthropic", "ANTHROPIC_API_KEY")] {
            file.push_str(&format!("#   {name}:\n#     api_key: ${{{variable}}}\n"));
        }
        file.push_str("#   ollama: {}                          # a local server; its models are asked for\n");
    }
    file.push_str(TAIL);
    file
}
