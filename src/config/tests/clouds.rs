//! Providers with credentials and addresses of their own kind.

use super::*;

#[test]
fn bedrock_wants_a_region_and_one_kind_of_credential() {
    let keys = settings(
        "providers: { bedrock: { region: eu-central-1, access_key_id: AKIA, secret_access_key: hidden-secret } }",
    );
    let bedrock = keys.provider("bedrock").expect("bedrock");
    assert_eq!(bedrock.base_url, "https://bedrock-runtime.eu-central-1.amazonaws.com");
    assert!(bedrock.identity.is_some() && bedrock.secrets().any(|secret| secret == "hidden-secret"));
    let ids: Vec<&str> = keys.targets.iter().map(|target| target.id.model()).collect();
    assert!(ids.contains(&"eu.anthropic.claude-sonnet-5") && ids.contains(&"global.anthropic.claude-sonnet-5"));
    assert!(!ids.contains(&"us.anthropic.claude-sonnet-5"), "another geography");
    let bearer = settings("providers: { mine: { format: bedrock, base_url: 'https://x.example', api_key: key } }");
    assert!(bearer.provider("mine").is_some_and(|mine| mine.api_key.is_some() && mine.identity.is_none()));
    for (yaml, part) in [
        ("api_key: x", "needs region"),
        ("region: us-east-1", "AWS_ACCESS_KEY_ID"),
        ("region: us-east-1, access_key_id: x", "needs secret_access_key"),
        ("region: 'x.example/', api_key: x, base_url: 'https://x.example'", "cannot be part of an address"),
        ("region: us-east-1, api_key: x, access_key_id: id, secret_access_key: secret", "exclude each other"),
    ] {
        let shown = problem(&format!("providers: {{ bedrock: {{ {yaml} }} }}"));
        assert!(shown.contains(part), "{shown}");
    }
}

#[test]
fn vertex_wants_a_project_a_location_and_a_service_account() {
    let json = r#"{"client_email":"me@x.example","private_key":"PEM-secret","project_id":"mine"}"#;
    let own = settings(&format!("providers: {{ vertex: {{ location: europe-west1, credentials: '{json}' }} }}"));
    let vertex = own.provider("vertex").expect("vertex");
    let url = "https://europe-west1-aiplatform.googleapis.com/v1/projects/mine/locations/europe-west1";
    assert_eq!(vertex.base_url, url);
    assert!(vertex.identity.is_some() && !format!("{vertex:?}").contains("PEM"));
    let ready = settings("providers: { vertex: { project: p, location: global, api_key: ya29 } }");
    let base = &ready.provider("vertex").expect("vertex").base_url;
    assert_eq!(base, "https://aiplatform.googleapis.com/v1/projects/p/locations/global");
    for (yaml, part) in [
        ("project: p, location: global", "GOOGLE_APPLICATION_CREDENTIALS"),
        ("api_key: x", "needs project and location"),
        ("project: p, location: global, credentials: my-own-secret", "expected the JSON"),
    ] {
        let shown = problem(&format!("providers: {{ vertex: {{ {yaml} }} }}"));
        assert!(shown.contains(part) && !shown.contains("my-own-secret"), "{shown}");
    }
}

#[test]
fn azure_takes_a_bearer_token_too() {
    let bearer = settings("providers: { azure: { auth: bearer, api_key: eyJ, models: [gpt-5-mini] } }");
    assert_eq!(bearer.provider("azure").map(|azure| azure.auth), Some(crate::catalog::Auth::Bearer));
    let elsewhere = problem("providers: { openai: { auth: bearer } }");
    assert!(elsewhere.contains("azure only"), "{elsewhere}");
}

#[test]
fn azure_has_deployments_at_an_endpoint_of_ones_own() {
    let v1 = settings("providers: { azure: { models: [{ id: gpt-5-mini, deployment: mini-eu }] } }");
    let mini = target(&v1, "azure/gpt-5-mini");
    assert_eq!(mini.provider.url(&mini.model), "https://mine.openai.azure.com/openai/v1");
    assert_eq!(mini.model.upstream_id(), "mini-eu");
    assert!(mini.model.routable && mini.model.price.is_some());
    let classic = settings("providers: { azure: { api_version: '2024-10-21', deployment: mine, models: [gpt-4o] } }");
    let classic = target(&classic, "azure/gpt-4o");
    assert_eq!(classic.provider.url(&classic.model), "https://mine.openai.azure.com/openai/deployments/mine");
    assert_eq!(classic.provider.query, [("api-version".to_owned(), "2024-10-21".to_owned())]);
    let unnamed = load("providers: { azure: }");
    assert!(unnamed.warnings[0].contains("no alias such as `auto` picks any of its models"), "{:?}", unnamed.warnings);
    assert!(problem("providers: { demo: { api_version: x } }").contains("for azure only"));
}

#[test]
fn cohere_and_ollama_speak_what_the_file_says() {
    let text = "providers:
  cohere: { api_key: k }
  old: { format: openai, base_url: 'https://api.cohere.ai/compatibility/v1', api_key: k }
  ollama: { format: ollama, models: [llama3.2] }
  mine: { format: ollama, base_url: 'http://10.0.0.1:11434', models: [llama3.2] }";
    let settings = settings(text);
    let spoken = |name: &str| {
        let provider = settings.providers.iter().find(|provider| &*provider.name == name).expect("a provider");
        (provider.format, provider.listing_url().into_owned())
    };
    assert_eq!(spoken("cohere"), (Format::Cohere, "https://api.cohere.com/v1".to_owned()));
    assert_eq!(spoken("old"), (Format::OpenAi, "https://api.cohere.ai/compatibility/v1".to_owned()));
    assert_eq!(spoken("ollama"), (Format::Ollama, "http://127.0.0.1:11434/v1".to_owned()));
    assert_eq!(spoken("mine"), (Format::Ollama, "http://10.0.0.1:11434/v1".to_owned()));
}
