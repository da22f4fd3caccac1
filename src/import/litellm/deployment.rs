//! One entry of `model_list`: who answers, with which key, at what price.

use super::secret::{Secrets, plain_or_variable, reference, shouted, stands_for_none, usual_variable};
use super::vendor::{self, Vendor};
use crate::import::field::Field;
use crate::import::{Account, yaml};

/// A model at a provider, as far as the file says.
#[derive(Clone, Debug)]
pub struct Deployment {
    /// The name that clients ask for.
    pub group: String,
    pub vendor: Vendor,
    /// Its address, if the file has one that can be read.
    pub host: Option<String>,
    /// What makes it a provider of its own: keys and written values.
    pub connection: Vec<(&'static str, String)>,
    pub model: String,
    /// Beside `id`.
    pub details: Vec<(&'static str, String)>,
    pub weight: Option<f64>,
    pub order: Option<u32>,
    /// All models of the provider.
    pub is_wildcard: bool,
}

/// Members that need no line of the new file, and why.
const KNOWN: [(&str, &str); 12] = [
    ("drop_params", "always so: what a provider cannot take is left out and named in x-stepwell-warnings"),
    ("additional_drop_params", "what a provider's format cannot say is left out by itself"),
    ("max_retries", "tries are counted for a whole request: routing.max_attempts and retry.same_target"),
    ("num_retries", "tries are counted for a whole request: routing.max_attempts and retry.same_target"),
    ("use_in_pass_through", "there are no pass-through paths"),
    ("mode", "every model answers the paths that its provider has"),
    ("supports_vision", "the catalogue knows it; write `supports` at the model if it does not"),
    ("supports_function_calling", "the catalogue knows it; write `supports` at the model if it does not"),
    ("supports_reasoning", "the catalogue knows it; write `supports` at the model if it does not"),
    ("supports_response_schema", "the catalogue knows it; write `supports` at the model if it does not"),
    ("litellm_provider", "said by the model's name"),
    ("description", "a note for people"),
];

/// Members that nothing here stands for, and what to do about it.
const UNSAID: [(&str, &str); 14] = [
    ("temperature", "a default of a request: clients say it themselves"),
    ("top_p", "a default of a request: clients say it themselves"),
    ("max_tokens", "a default of a request: clients say it themselves; `max_output` at the model is the most it can"),
    ("max_completion_tokens", "a default of a request: clients say it themselves"),
    ("stop", "a default of a request: clients say it themselves"),
    ("seed", "a default of a request: clients say it themselves"),
    ("reasoning_effort", "a default of a request: clients say it themselves"),
    ("tags", "requests are not routed by tags; aliases and tiers say who may have what"),
    ("mock_response", "`stepwell demo` is an upstream to test with"),
    ("aws_role_name", "roles are not assumed here: give keys, or a Bedrock key as api_key"),
    ("aws_session_name", "roles are not assumed here: give keys, or a Bedrock key as api_key"),
    ("aws_profile_name", "profiles are not read: give keys, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
    ("tenant_id", "Entra ID tokens are not fetched: give api_key, or a token with `auth: bearer`"),
    ("client_secret", "Entra ID tokens are not fetched: give api_key, or a token with `auth: bearer`"),
];

/// Reads entries.
pub struct Reader {
    pub secrets: Secrets,
}

impl Reader {
    /// `None` if it cannot be served; the account says why. `index` stands for its provider's name in the account.
    pub fn read(&mut self, entry: &Field<'_>, index: usize, account: &mut Account) -> Option<Deployment> {
        let at = |key: &str| format!("providers.<{index}>.{key}");
        let (name, params) = (entry.get("model_name"), entry.get("litellm_params"));
        let asked = params.as_ref().and_then(|params| params.get("model"));
        let (Some(name), Some(params), Some(asked)) = (name, params, asked) else {
            account.look(entry, "an entry needs model_name and litellm_params.model; it was left out");
            return None;
        };
        let group = name.text().unwrap_or_default();
        let written = asked.text().unwrap_or_default();
        let custom = params.get("custom_llm_provider");
        let base = params.get("api_base").or_else(|| params.get("base_url"));
        let by_custom = custom.as_ref().and_then(Field::text).and_then(|name| Vendor::find(&name));
        let (vendor, model) = match (by_custom, vendor::split(&written)) {
            (Some(vendor), _) => {
                let model = written.strip_prefix(&format!("{}/", vendor.prefix)).unwrap_or(&written);
                (vendor, model.to_owned())
            }
            (None, Some(found)) => found,
            (None, None) if base.is_some() => (Vendor::find("custom_openai")?, written.clone()),
            (None, None) => {
                account.look(&asked, format!("`{written}` names no provider that is known here; write it by hand"));
                account.sweep(entry, "belongs to an entry that was left out");
                return None;
            }
        };
        if let Some(custom) = &custom {
            account.exact(custom, at("format"));
        }
        let mut one = Deployment {
            is_wildcard: model == "*",
            group,
            vendor,
            host: None,
            connection: Vec::new(),
            model,
            details: Vec::new(),
            weight: None,
            order: None,
        };
        if one.vendor.preset == "bedrock" {
            for way in ["converse/", "invoke/"] {
                if let Some(rest) = one.model.strip_prefix(way) {
                    one.model = rest.to_owned();
                }
            }
        }
        if vendor::split(&written).is_none() && custom.is_none() {
            account.changed(&asked, at("models"), "no known provider in the name: taken for OpenAI's format");
        } else if one.is_wildcard {
            account.changed(&asked, at("models"), "the models of the catalogue, asked for as provider/model or by id");
        } else {
            account.exact(&asked, at("models"));
        }
        if !self.address(&mut one, base.as_ref(), index, account) {
            account.look(&asked, "it has no address: write base_url; the entry was left out");
            account.sweep(entry, "belongs to an entry that was left out");
            return None;
        }
        self.credentials(&mut one, &params, base.is_some(), index, account);
        self.rest(&mut one, &params, index, account);
        self.info(&mut one, entry, &params, index, account);
        Some(one)
    }

    /// Where it is. `false` if nobody knows.
    fn address(&mut self, one: &mut Deployment, base: Option<&Field<'_>>, index: usize, account: &mut Account) -> bool {
        let to = format!("providers.<{index}>.base_url");
        let Some(field) = base else {
            if one.vendor.preset == "azure" {
                let variable = "AZURE_API_BASE".to_owned();
                one.connection.push(("base_url", yaml::variable(&variable)));
                account.variables.insert(variable, "the endpoint of the Azure resource".to_owned());
            } else if !one.vendor.base_url.is_empty() {
                one.connection.push(("base_url", yaml::text(one.vendor.base_url)));
            }
            return !one.vendor.preset.is_empty() || !one.vendor.base_url.is_empty();
        };
        let text = field.text().unwrap_or_default();
        if let Some(name) = reference(&text) {
            one.connection.push(("base_url", yaml::variable(name)));
            account.variables.insert(name.to_owned(), "an address".to_owned());
            account.exact(field, to);
            return true;
        }
        let mut url = text.trim_end_matches('/').to_owned();
        let mut reason = String::new();
        if one.vendor.preset == "azure"
            && let Some((endpoint, _)) = url.split_once("/openai")
        {
            url = endpoint.to_owned();
            reason = "the endpoint alone: the path is added".to_owned();
        }
        if let Some((scheme, rest)) = url.split_once("://")
            && let Some((_, address)) = rest.split('/').next().unwrap_or_default().rsplit_once('@')
        {
            let path = rest.split_once('/').map(|(_, path)| format!("/{path}")).unwrap_or_default();
            url = format!("{scheme}://{address}{path}");
            reason = "without the name and password in it: send them as `headers`".to_owned();
        }
        let path = url.split_once("://").and_then(|(_, rest)| rest.split_once('/'));
        if one.vendor.is_local() && path.is_none() {
            url.push_str("/v1");
            reason = "spoken to in OpenAI's format, below /v1".to_owned();
        }
        let host = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
        let host: String = host.split(['/', '?']).next().unwrap_or_default().replace(':', "-");
        one.host = Some(host.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect());
        one.connection.push(("base_url", yaml::text(&url)));
        match reason.is_empty() {
            true => account.exact(field, to),
            false => account.changed(field, to, reason),
        }
        true
    }

    fn credentials(
        &mut self,
        one: &mut Deployment,
        params: &Field<'_>,
        has_url: bool,
        index: usize,
        account: &mut Account,
    ) {
        let at = |key: &str| format!("providers.<{index}>.{key}");
        let preset = one.vendor.preset;
        if let Some(field) = params.get("azure_ad_token") {
            let value = self.secrets.reference(&field, "AZURE_AD_TOKEN", at("api_key"), account);
            one.connection.extend([("api_key", value), ("auth", "bearer".to_owned())]);
        } else if let Some(field) = params.get("api_key") {
            let text = field.text().unwrap_or_default();
            if has_url && stands_for_none(&text) {
                account.changed(&field, "", "no key is sent: the text stands for none");
            } else {
                let value = self.secrets.reference(
                    &field,
                    &usual_variable(&one.vendor, one.host.as_deref()),
                    at("api_key"),
                    account,
                );
                one.connection.push(("api_key", value));
            }
        } else if !has_url && !one.vendor.is_local() && !["bedrock", "vertex"].contains(&preset) {
            let name = usual_variable(&one.vendor, None);
            one.connection.push(("api_key", yaml::variable(&name)));
            account.variables.insert(name, format!("the key of {}, where LiteLLM looks for it", one.vendor.prefix));
        }
        let plain: &[(&str, &'static str)] = match preset {
            "azure" => &[("api_version", "api_version")],
            "bedrock" => &[("aws_region_name", "region")],
            "vertex" => &[
                ("vertex_project", "project"),
                ("vertex_ai_project", "project"),
                ("vertex_location", "location"),
                ("vertex_ai_location", "location"),
            ],
            _ => &[],
        };
        for (theirs, ours) in plain {
            let Some(field) = params.get(theirs) else { continue };
            let text = field.text().unwrap_or_default();
            let value = reference(&text).map_or_else(|| yaml::text(&text), yaml::variable);
            if let Some(name) = reference(&text) {
                account.variables.insert(name.to_owned(), (*ours).to_owned());
            }
            one.connection.push((ours, value));
            account.exact(&field, at(ours));
        }
        if preset == "bedrock" {
            for (theirs, ours, variable) in [
                ("aws_access_key_id", "access_key_id", "AWS_ACCESS_KEY_ID"),
                ("aws_secret_access_key", "secret_access_key", "AWS_SECRET_ACCESS_KEY"),
                ("aws_session_token", "session_token", "AWS_SESSION_TOKEN"),
            ] {
                if let Some(field) = params.get(theirs) {
                    let value = self.secrets.reference(&field, variable, at(ours), account);
                    one.connection.push((ours, value));
                }
            }
        }
        if preset == "vertex" {
            self.google(one, params, index, account);
        }
    }

    fn google(&mut self, one: &mut Deployment, params: &Field<'_>, index: usize, account: &mut Account) {
        let to = format!("providers.<{index}>.credentials");
        if !one.connection.iter().any(|(key, _)| *key == "location") {
            // LiteLLM's own default.
            one.connection.push(("location", "us-central1".to_owned()));
        }
        let Some(field) = params.get("vertex_credentials").or_else(|| params.get("vertex_ai_credentials")) else {
            return;
        };
        let text = field.text().unwrap_or_default();
        if text.starts_with('{') || field.is_map() {
            let value = self.secrets.reference(&field, "VERTEX_CREDENTIALS", to, account);
            one.connection.push(("credentials", value));
        } else if let Some(name) = reference(&text) {
            one.connection.push(("credentials", yaml::variable(name)));
            account.variables.insert(name.to_owned(), "a service account's key, as JSON".to_owned());
            account.changed(&field, to, "the variable must hold the JSON; for a path write ${file:/path/to/key.json}");
        } else {
            one.connection.push(("credentials", yaml::file(&text)));
            account.exact(&field, to);
        }
    }

    fn rest(&mut self, one: &mut Deployment, params: &Field<'_>, index: usize, account: &mut Account) {
        let at = |key: &str| format!("providers.<{index}>.{key}");
        let limits = [("weight", 1.0), ("rpm", 1.0), ("tpm", 0.001)];
        for (key, scale) in limits {
            let Some(field) = params.get(key) else { continue };
            let Some(number) = field.number() else {
                account.look(&field, "not a number");
                continue;
            };
            match (one.weight.is_none(), key) {
                (true, "weight") => account.exact(&field, at("weight")),
                (true, _) => {
                    let reason = "a share of the traffic, as simple-shuffle takes it; nothing is refused here, a provider's own limits steer";
                    account.changed(&field, at("weight"), reason);
                }
                (false, _) => {
                    account.changed(&field, "", "the share of traffic is said already; a provider's own limits steer")
                }
            }
            one.weight = one.weight.or(Some(number * scale));
        }
        if let Some(field) = params.get("order") {
            one.order = field.number().map(|order| order as u32);
            account.exact(&field, at("priority"));
        }
        if let Some(field) = params.get("max_parallel_requests")
            && let Some(number) = field.number()
        {
            one.connection.push(("max_concurrency", yaml::number(number.clamp(1.0, 100_000.0).round())));
            account.changed(
                &field,
                at("max_concurrency"),
                "for all models of the provider's entry; more go elsewhere or wait",
            );
        }
        let timeouts = ["timeout", "request_timeout", "stream_timeout"].map(|key| params.get(key));
        let longest = timeouts.iter().flatten().filter_map(Field::number).fold(0.0, f64::max);
        if longest > 0.0 {
            let value = format!("{{ first_token: {} }}", yaml::span(longest, 0.001..=3600.0));
            one.connection.push(("timeouts", value));
        }
        for field in timeouts.iter().flatten() {
            account.changed(
                field,
                at("timeouts.first_token"),
                "until an answer begins; a stream that goes on is not cut",
            );
        }
        if let Some(field) = params.get("ssl_verify") {
            if field.flag() == Some(false) {
                one.connection.push(("insecure_tls", "true".to_owned()));
            }
            account.exact(&field, at("insecure_tls"));
        }
        let mut headers = Vec::new();
        if let Some(field) = params.get("organization") {
            headers.push(("OpenAI-Organization".to_owned(), plain_or_variable(&field, account)));
            account.exact(&field, at("headers"));
        }
        for key in ["extra_headers", "headers"] {
            for (name, field) in params.get(key).map(|field| field.entries()).unwrap_or_default() {
                let variable = format!("HEADER_{}", shouted(name));
                let value = self.secrets.reference(&field, &variable, at("headers"), account);
                headers.push((name.to_owned(), value));
            }
        }
        if !headers.is_empty() {
            let list: Vec<String> =
                headers.iter().map(|(name, value)| format!("{}: {value}", yaml::key(name))).collect();
            one.connection.push(("headers", format!("{{ {} }}", list.join(", "))));
        }
        known(params, account);
    }

    /// Prices and windows, which may stand in either place.
    fn info(
        &mut self,
        one: &mut Deployment,
        entry: &Field<'_>,
        params: &Field<'_>,
        index: usize,
        account: &mut Account,
    ) {
        let at = |key: &str| format!("providers.<{index}>.models[].{key}");
        let info = entry.get("model_info");
        let both = |key: &str| params.get(key).or_else(|| info.as_ref().and_then(|info| info.get(key)));
        if let Some(field) = both("base_model")
            && let Some(base) = field.text()
        {
            let deployment = std::mem::replace(&mut one.model, vendor::split(&base).map_or(base, |(_, model)| model));
            one.details.push(("deployment", yaml::text(&deployment)));
            account.exact(&field, at("id"));
        } else if one.vendor.preset == "azure" && !one.is_wildcard {
            one.details.push(("deployment", yaml::text(&one.model)));
        }
        let prices = [
            ("input_cost_per_token", "input"),
            ("output_cost_per_token", "output"),
            ("cache_read_input_token_cost", "cached_input"),
            ("cache_creation_input_token_cost", "cache_write"),
            ("output_cost_per_reasoning_token", "reasoning_output"),
            ("input_cost_per_token_above_200k_tokens", "input_above_200k"),
            ("output_cost_per_token_above_200k_tokens", "output_above_200k"),
        ];
        let found: Vec<_> = prices.iter().filter_map(|(theirs, ours)| Some((both(theirs)?, *ours))).collect();
        let has = |name: &str| found.iter().any(|(field, ours)| *ours == name && field.number().is_some());
        if has("input") && has("output") {
            let members = found.iter().filter_map(|(field, ours)| {
                Some(format!("{ours}: {}", yaml::number((field.number()? * 1e6).min(100_000.0))))
            });
            one.details.push(("price", format!("{{ {} }}", members.collect::<Vec<_>>().join(", "))));
            found.iter().for_each(|(field, ours)| account.exact(field, at(&format!("price.{ours}"))));
        } else {
            found
                .iter()
                .for_each(|(field, _)| account.look(field, "a price needs input and output; the catalogue's is used"));
        }
        let window = both("max_input_tokens").and_then(|field| Some((field.number()?, field)));
        let answer = info.as_ref().and_then(|info| info.get("max_output_tokens").or_else(|| info.get("max_tokens")));
        let answer = answer.and_then(|field| Some((field.number()?, field)));
        let most = answer.as_ref().map_or(0.0, |(answer, _)| *answer);
        if let Some((tokens, field)) = window {
            let reason = "question and answer together here";
            one.details.push(("context", yaml::number((tokens + most).clamp(1.0, 1e9))));
            account.changed(&field, at("context"), reason);
        }
        if let Some((tokens, field)) = answer {
            one.details.push(("max_output", yaml::number(tokens.clamp(1.0, 1e9))));
            account.exact(&field, at("max_output"));
        }
        if let Some(info) = &info {
            if let Some(id) = info.get("id") {
                account.changed(&id, "", "a model is named provider/model here");
            }
            known(info, account);
        }
    }
}

/// Speaks for the members of [`KNOWN`] and [`UNSAID`].
fn known(of: &Field<'_>, account: &mut Account) {
    for (name, field) in of.entries() {
        if let Some((_, reason)) = KNOWN.iter().find(|(known, _)| *known == name) {
            account.changed(&field, "", *reason);
        } else if let Some((_, reason)) = UNSAID.iter().find(|(known, _)| *known == name)
            && !account.covered.contains(&(field.file.to_owned(), field.path.clone()))
        {
            account.look(&field, *reason);
        }
    }
}
