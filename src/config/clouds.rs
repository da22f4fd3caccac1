//! Providers in a cloud: Amazon's, Google's and Microsoft's own ways to say where they are and who we are.
//!
//! As everywhere, what the environment says about the usual place is not sent to a URL of one's own.

use std::io::Read;

use super::providers::Surroundings;
use super::reader::{Item, Section};
use crate::catalog::{Auth, AwsKeys, Identity, Provider, ServiceAccount};

/// The longest file that is taken for a service account's key.
const LONGEST_KEY: u64 = 64 * 1024;

/// Without a version the v1 API, where the deployment is the model; with one the older API, where it is in the path
/// (learn.microsoft.com, Azure OpenAI API version lifecycle).
pub(super) fn azure(section: &mut Section<'_>, provider: &mut Provider) {
    let endpoint = provider.base_url.trim_end_matches("/openai/v1").to_owned();
    provider.base_url = match section.text("api_version") {
        Some(version) => {
            provider.query = vec![("api-version".to_owned(), version)];
            format!("{endpoint}/openai/deployments/{{model}}")
        }
        None => format!("{endpoint}/openai/v1"),
    };
    // A token of Entra ID travels as a bearer token, a key in a header of its own.
    let ways = [("api_key", Auth::Header("api-key")), ("bearer", Auth::Bearer)];
    if let Some(auth) = section.get("auth").and_then(|item| item.choice(&ways)) {
        provider.auth = auth;
    }
}

/// The usual variables of Azure's credential.
pub(super) fn azure_env(provider: &Provider) -> &'static [&'static str] {
    match provider.auth {
        Auth::Bearer => &["AZURE_OPENAI_AD_TOKEN"],
        _ => &["AZURE_OPENAI_API_KEY"],
    }
}

/// Amazon Bedrock: a region, and a Bedrock key or AWS keys. Returns the region.
pub(super) fn bedrock(
    section: &mut Section<'_>,
    provider: &mut Provider,
    around: &Surroundings<'_>,
    has_url: bool,
) -> Option<String> {
    let written = word(section, "region");
    let region = written.or_else(|| first(around, &["AWS_REGION", "AWS_DEFAULT_REGION"]));
    provider.api_key = text(section, "api_key").map(Into::into);
    let keys = (text(section, "access_key_id"), text(section, "secret_access_key"), text(section, "session_token"));
    let (mut id, mut secret, mut session) = keys;
    let is_written = provider.api_key.is_some() || id.is_some() || secret.is_some();
    if !is_written && !has_url && !section.has("api_key") {
        provider.api_key = first(around, &["AWS_BEARER_TOKEN_BEDROCK"]).map(Into::into);
        if provider.api_key.is_none() {
            id = first(around, &["AWS_ACCESS_KEY_ID"]);
            secret = first(around, &["AWS_SECRET_ACCESS_KEY"]);
            session = first(around, &["AWS_SESSION_TOKEN"]);
        }
    }
    match (id, secret) {
        (None, None) => {
            if provider.api_key.is_none() && !has_url && !section.has("api_key") {
                let names = "AWS_BEARER_TOKEN_BEDROCK or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";
                section.problem(format!(
                    "bedrock needs api_key, or access_key_id and secret_access_key; write them, or set {names}"
                ));
            }
        }
        (Some(id), Some(secret)) if provider.api_key.is_none() => {
            provider.identity = region.clone().map(|region| {
                Identity::Aws(AwsKeys {
                    access_key_id: id,
                    secret_access_key: secret.into(),
                    session_token: session.map(Into::into),
                    region,
                })
            });
        }
        (Some(_), Some(_)) => section.problem("api_key and access_key_id exclude each other; write one of them"),
        (_, None) => section.problem("access_key_id needs secret_access_key"),
        (None, _) => section.problem("secret_access_key needs access_key_id"),
    }
    match &region {
        Some(region) if !has_url => {
            provider.base_url = format!("https://bedrock-runtime.{region}.{}", amazons_domain(region));
        }
        // A Bedrock key at a URL of one's own needs none.
        None if !has_url || provider.api_key.is_none() => {
            section.problem("bedrock needs region, for instance us-east-1; write it, or set AWS_REGION");
        }
        _ => {}
    }
    region
}

/// China's regions have a domain of their own.
pub(super) fn amazons_domain(region: &str) -> &'static str {
    if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" }
}

/// Vertex AI: a project, a location, and a service account or a ready token.
pub(super) fn vertex(section: &mut Section<'_>, provider: &mut Provider, around: &Surroundings<'_>, has_url: bool) {
    provider.api_key = text(section, "api_key").map(Into::into);
    let credentials = section.get("credentials").and_then(|item| Some((item.clone(), item.text()?)));
    let account = match &credentials {
        Some((item, json)) => match ServiceAccount::parse(json) {
            Ok(account) => Some(account),
            Err(error) => {
                item.problem(format!("{error}; write for instance ${{file:/path/to/key.json}}"));
                None
            }
        },
        None if provider.api_key.is_none() && !has_url && !section.has("api_key") && !section.has("credentials") => {
            usual_account(section, around)
        }
        None => None,
    };
    if provider.api_key.is_some() && account.is_some() {
        section.problem("api_key and credentials exclude each other; write one of them");
    }
    let project = word(section, "project").or_else(|| first(around, &["GOOGLE_CLOUD_PROJECT"]));
    let project = project.or_else(|| account.as_ref().and_then(|account| account.project.clone()));
    let location = word(section, "location").or_else(|| first(around, &["GOOGLE_CLOUD_LOCATION"]));
    provider.identity = account.map(Identity::Google);
    let (Some(project), Some(location)) = (project, location) else {
        section.problem(
            "vertex needs project and location; write them, or set GOOGLE_CLOUD_PROJECT and GOOGLE_CLOUD_LOCATION",
        );
        return;
    };
    if !has_url {
        let host = match location.as_str() {
            "global" => "aiplatform.googleapis.com".to_owned(),
            _ => format!("{location}-aiplatform.googleapis.com"),
        };
        provider.base_url = format!("https://{host}/v1");
    }
    provider.base_url.push_str(&format!("/projects/{project}/locations/{location}"));
}

/// The service account whose file Google's own libraries would use.
fn usual_account(section: &Section<'_>, around: &Surroundings<'_>) -> Option<ServiceAccount> {
    const NAME: &str = "GOOGLE_APPLICATION_CREDENTIALS";
    let Some(path) = first(around, &[NAME]) else {
        section.problem(format!("vertex needs credentials, a service account's key; write it, or set {NAME}"));
        return None;
    };
    let mut json = String::new();
    let read = std::fs::File::open(&path).and_then(|file| file.take(LONGEST_KEY).read_to_string(&mut json));
    let account = read.map_err(|error| error.to_string()).and_then(|_| ServiceAccount::parse(&json));
    account.map_err(|error| section.problem(format!("the file that {NAME} names cannot be used: {error}"))).ok()
}

fn text(section: &mut Section<'_>, key: &'static str) -> Option<String> {
    section.get(key).filter(|item| !item.is_emptied()).and_then(|item| item.text()).map(str::to_owned)
}

/// A name that becomes part of an address.
fn word(section: &mut Section<'_>, key: &'static str) -> Option<String> {
    let item: Item<'_> = section.get(key)?;
    let word = item.text()?;
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    if word.is_empty() || !word.chars().all(fits) {
        item.problem(format!("{} cannot be part of an address", item.shown()));
        return None;
    }
    Some(word.to_owned())
}

/// The first variable that is set.
fn first(around: &Surroundings<'_>, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| (around.env)(name).filter(|value| !value.trim().is_empty()))
}
