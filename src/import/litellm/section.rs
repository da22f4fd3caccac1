//! `router_settings`, `litellm_settings`, `general_settings`: what they say about the router as a whole.

use std::collections::BTreeMap;

use crate::import::field::Field;
use crate::import::{Account, yaml};

/// Sections of the new file: member and written value by section.
pub type Sections = BTreeMap<&'static str, BTreeMap<&'static str, String>>;

/// Members that need no line of the new file, and why; in whichever section they stand.
const SETTLED: [(&str, &str); 21] = [
    ("drop_params", "always so: what a provider cannot take is left out and named in x-stepwell-warnings"),
    ("modify_params", "formats are translated by rules of their own; docs/providers.md has them"),
    ("telemetry", "nothing is ever sent anywhere that was not configured"),
    ("set_verbose", "`logging.level: debug` says more; prompts are never logged"),
    ("json_logs", "logs are JSON wherever they do not go to a terminal"),
    ("turn_off_message_logging", "prompts and answers are never logged"),
    ("redact_user_api_key_info", "keys are never logged"),
    ("enable_pre_call_checks", "always so: a model whose window is too small is not asked"),
    ("allow_requests_on_db_unavailable", "always so: rows wait in memory while the ledger cannot be written"),
    ("proxy_batch_write_at", "the ledger is written within a quarter of a second"),
    ("disable_spend_logs", "the ledger is always written; it holds no prompt and no answer"),
    ("store_model_in_db", "models are in the file, and a changed file counts within two seconds"),
    (
        "background_health_checks",
        "`health_checks` asks providers for their models, at no cost; it is off unless written",
    ),
    ("health_check_interval", "`health_checks.interval`, if health checks are switched on"),
    ("disable_cooldowns", "breakers are always on; `breaker` says how patient they are"),
    ("max_fallbacks", "routing.max_attempts counts all models that are tried"),
    ("num_workers", "one runtime for each core, by itself"),
    ("forward_traceparent_to_llm_provider", "`telemetry.propagate: traceparent` is the default"),
    ("ui_access_mode", "there is no interface that needs it"),
    ("disable_master_key_return", "keys are shown once, when they are made"),
    ("infer_model_from_keys", "providers are listed in the file"),
];

/// Members that nothing here stands for, by how their names begin, and what to do about it.
const UNSAID: [(&str, &str); 22] = [
    ("redis", "no state is shared between replicas in this version; each counts for itself"),
    ("database", "keys and spend are kept in the data directory; make keys anew with `stepwell keys create`"),
    ("alerting", "alert rules for Prometheus are in deploy/"),
    ("alert", "alert rules for Prometheus are in deploy/"),
    ("retry_policy", "what is tried again depends on the kind of failure; docs/reliability.md has the table"),
    ("allowed_fails_policy", "one rule for all kinds of failure: breaker.consecutive_failures"),
    (
        "model_group_retry_policy",
        "what is tried again depends on the kind of failure; docs/reliability.md has the table",
    ),
    ("default_team_settings", "`teams` and `tiers` say what keys may do together and each"),
    ("default_internal_user_params", "`tiers` say what each key may do"),
    ("default_key_generate_params", "`tiers` say what each key may do"),
    ("upperbound_key_generate_params", "`tiers` say what each key may do"),
    ("guardrails", "no rule here reads LiteLLM's guardrails"),
    ("pass_through_endpoints", "there are no pass-through paths"),
    ("custom_auth", "callers show a key, or a token of an identity provider (`auth.jwt`)"),
    ("enable_jwt_auth", "tokens of an identity provider: `auth.jwt`"),
    ("litellm_jwtauth", "tokens of an identity provider: `auth.jwt`"),
    ("key_management", "secrets come from variables and files: ${NAME} and ${file:/path}"),
    ("use_google_kms", "secrets come from variables and files: ${NAME} and ${file:/path}"),
    ("use_azure_key_vault", "secrets come from variables and files: ${NAME} and ${file:/path}"),
    ("max_end_user_budget", "budgets are for keys, tiers, teams, providers and all together"),
    ("default_max_internal_user_budget", "`tiers` say what each key may spend"),
    ("enable_tag_filtering", "requests are not routed by tags; aliases and tiers say who may have what"),
];

/// Reads the three sections; fallbacks and group aliases are read elsewhere.
pub fn read(sections: &[Field<'_>], account: &mut Account) -> Sections {
    let mut found = Sections::new();
    for section in sections {
        for (name, field) in section.entries() {
            if !field.is_nothing() {
                one(name, &field, &mut found, account);
            }
        }
    }
    budget(sections, &mut found, account);
    found
}

fn one(name: &str, field: &Field<'_>, found: &mut Sections, account: &mut Account) {
    let mut set = |section: &'static str, member: &'static str, value: String| {
        found.entry(section).or_default().entry(member).or_insert(value);
    };
    match (name, field.number()) {
        ("num_retries", Some(number)) => {
            set("routing", "max_attempts", yaml::number((number + 1.0).clamp(1.0, 10.0).round()));
            let reason = "models tried in all for a request, the fallbacks among them";
            account.changed(field, "routing.max_attempts", reason);
        }
        ("timeout" | "request_timeout", Some(seconds)) => {
            set("timeouts", "total", yaml::span(seconds, 0.001..=86_400.0));
            account.changed(
                field,
                "timeouts.total",
                "for the whole request with all its attempts, not for each of them",
            );
        }
        ("stream_timeout", Some(seconds)) => {
            set("timeouts", "first_token", yaml::span(seconds, 0.001..=3600.0));
            account.changed(
                field,
                "timeouts.first_token",
                "until an answer begins, plain ones too; a stream that goes on is not cut",
            );
        }
        ("allowed_fails", Some(number)) => {
            set("breaker", "consecutive_failures", yaml::number((number + 1.0).clamp(1.0, 100.0).round()));
            account.changed(
                field,
                "breaker.consecutive_failures",
                "failures in a row, not in a minute; half of many failing opens it too",
            );
        }
        ("cooldown_time", Some(seconds)) => {
            set("breaker", "cooldown", yaml::span(seconds, 0.01..=3600.0));
            if seconds > 300.0 {
                set("breaker", "max_cooldown", yaml::span(seconds, 0.01..=86_400.0));
            }
            account.changed(
                field,
                "breaker.cooldown",
                "the first pause; it doubles with each failed trial, and a provider's Retry-After is kept",
            );
        }
        ("retry_after", Some(seconds)) => {
            let value = format!("{{ start: {} }}", yaml::span(seconds, 0.001..=4.0));
            set("retry", "backoff", value);
            account.changed(
                field,
                "retry.backoff.start",
                "drawn at random up to this, doubling; only where no other model is left",
            );
        }
        ("cache", _) if field.flag().is_some() => {
            set("cache", "enabled", field.flag().unwrap_or_default().to_string());
            account.exact(field, "cache.enabled");
        }
        ("cache_params", _) => cache(field, found, account),
        ("routing_strategy", _) => {} // with the groups
        ("success_callback" | "failure_callback" | "callbacks" | "service_callback", _) => callbacks(field, account),
        ("master_key", _) => {
            set("auth", "required", "always".to_owned());
            let reason = "a key is needed; make the first with `stepwell keys create --name admin --role admin`. Keys of LiteLLM are not taken over";
            account.changed(field, "auth.required", reason);
        }
        ("max_request_size_mb", Some(size)) => {
            set("server", "body_limit", format!("{}MB", size.clamp(1.0, 1000.0).round()));
            account.exact(field, "server.body_limit");
        }
        ("max_parallel_requests" | "global_max_parallel_requests", Some(number)) => {
            set("overload", "max_in_flight", yaml::number(number.clamp(1.0, 1e6).round()));
            account.changed(
                field,
                "overload.max_in_flight",
                "all callers together; a bounded number more may wait for a moment",
            );
        }
        (
            "max_budget"
            | "budget_duration"
            | "fallbacks"
            | "default_fallbacks"
            | "context_window_fallbacks"
            | "content_policy_fallbacks"
            | "model_group_alias",
            _,
        ) => {}
        _ => {
            if let Some((_, reason)) = SETTLED.iter().find(|(known, _)| *known == name) {
                account.changed(field, "", *reason);
            } else if let Some((_, reason)) = UNSAID.iter().find(|(start, _)| name.starts_with(start)) {
                account.look(field, *reason);
            }
        }
    }
}

fn cache(params: &Field<'_>, found: &mut Sections, account: &mut Account) {
    for (name, field) in params.entries() {
        match (name, field.number()) {
            ("ttl" | "default_in_memory_ttl" | "default_in_redis_ttl", Some(seconds)) => {
                let ttl = yaml::span(seconds, 1.0..=30.0 * 86_400.0);
                found.entry("cache").or_default().entry("ttl").or_insert(ttl);
                account.exact(&field, "cache.ttl");
            }
            ("type", _) if field.text().is_some_and(|kind| kind == "local") => account.exact(&field, "cache"),
            ("type", _) => account.changed(
                &field,
                "cache",
                "answers are kept in this process's memory, of identical requests only",
            ),
            ("mode", _) if field.text().is_some_and(|mode| mode == "default_off") => {
                found.entry("cache").or_default().insert("enabled", "false".to_owned());
                account.changed(&field, "cache.enabled", "off for all: a request cannot switch it on");
            }
            ("supported_call_types", _) => account.changed(&field, "cache", "chat in every dialect, never embeddings"),
            ("host" | "port" | "password" | "url" | "namespace" | "ssl", _) => {
                account.look(&field, "no cache is shared between replicas in this version");
            }
            _ => account.look(&field, "no rule here reads it; `cache` in providers.yaml has what there is"),
        }
    }
}

fn callbacks(field: &Field<'_>, account: &mut Account) {
    let parts = if field.items().is_empty() { vec![field.clone()] } else { field.items() };
    for part in parts {
        match part.text().unwrap_or_default().as_str() {
            "prometheus" => account.changed(&part, "", "metrics are at /metrics, under names of their own (docs/metrics.md)"),
            "otel" | "arize" | "langfuse_otel" | "datadog" => {
                account.look(&part, "`telemetry.otlp.endpoint` sends traces and metrics to any OpenTelemetry collector; never prompts");
            }
            other => account.look(&part, format!("there are no callbacks such as `{other}`; `telemetry.otlp` and `logging.access` tell about every request, without prompts")),
        }
    }
}

/// An amount and how long it is for.
fn budget(sections: &[Field<'_>], found: &mut Sections, account: &mut Account) {
    for section in sections {
        let duration = section.get("budget_duration");
        let Some(field) = section.get("max_budget") else {
            if let Some(duration) = duration {
                account.look(&duration, "a duration without max_budget says nothing");
            }
            continue;
        };
        let Some(amount) = field.number() else {
            account.look(&field, "not an amount");
            continue;
        };
        let amount = yaml::number(amount.min(1e9));
        let total = |text: String| BTreeMap::from([("total", text)]);
        let text = duration.as_ref().and_then(Field::text).unwrap_or_default();
        let (value, to, reason) = match text.as_str() {
            "1d" | "24h" => (format!("{{ day: {amount} }}"), "budgets.total.day", ""),
            "1mo" => (format!("{{ month: {amount} }}"), "budgets.total.month", ""),
            "30d" => (format!("{{ month: {amount} }}"), "budgets.total.month", "a calendar month, not thirty days"),
            "" => (
                format!("{{ month: {amount} }}"),
                "budgets.total.month",
                "without a duration it held for ever; here it starts anew every month",
            ),
            other if crate::units::duration(other).is_ok_and(|span| (60..=366 * 86_400).contains(&span.as_secs())) => {
                let value = format!("{{ window: {{ length: {other}, amount: {amount} }} }}");
                (value, "budgets.total.window", "windows are counted from the beginning of 1970, not from the start")
            }
            _ => {
                account
                    .look(&field, format!("the duration `{text}` has no counterpart; write `budgets.total` by hand"));
                continue;
            }
        };
        found.insert("budgets", total(value));
        for field in [Some(field), duration].into_iter().flatten() {
            match reason.is_empty() {
                true => account.exact(&field, to),
                false => account.changed(&field, to, reason),
            }
        }
    }
}
