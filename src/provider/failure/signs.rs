//! What an error's code, type and words say beyond its status. One table, read from above; the first row that fits wins.
//!
//! Codes are those of the providers' references and of recorded answers. Messages are matched only where a provider
//! gives nothing better: their wording changes.

use super::FailureKind;
use super::FailureKind::*;

/// One row: any of the words in a code or type, or any of the texts in the message of an error of the client's.
struct Sign {
    kind: FailureKind,
    words: &'static [&'static str],
    texts: &'static [&'static str],
}

const SIGNS: &[Sign] = &[
    Sign {
        kind: QuotaExhausted,
        words: &["insufficient_quota", "billing", "credit", "payment", "exceeded_current_quota", "arrearage"],
        texts: &[
            "exceeded your current quota",
            "credit balance is too low",
            "insufficient balance",
            "insufficient credit",
            // xAI, HuggingFace, Fireworks, Anthropic
            "used all available credits",
            "included credits",
            "spending limit",
            "specified api usage limits",
            // Google, where billing is off
            "enable billing",
        ],
    },
    Sign {
        kind: ContextLength,
        words: &[
            "context_length_exceeded",
            "context_window",
            // llama.cpp, Cohere
            "exceed_context_size",
            "too_many_tokens",
        ],
        texts: &[
            "prompt is too long",
            "prompt too long",
            "input is too long",
            "maximum context length",
            "maximum prompt length",
            "context window",
            "context_length",
            "exceed context limit",
            "available context size",
            "exceeds the maximum number of tokens",
            "exceeded model token limit",
            "exceeds max length",
            "input token count",
            "too many tokens: size limit",
            // HuggingFace and Together
            "`inputs` tokens",
            // DashScope
            "range of input length",
        ],
    },
    Sign {
        kind: ContentFilter,
        words: &[
            "content_filter",
            "content_policy",
            "contentfilter",
            "responsibleaipolicy",
            "data_inspection",
            "datainspection",
            // OpenAI, for a prompt against its usage policy
            "invalid_prompt",
        ],
        texts: &[
            "content filtering policy",
            "content management policy",
            "requires moderation",
            "unsafe or sensitive content",
        ],
    },
    Sign {
        kind: NotFound,
        words: &[
            "model_not_found",
            "invalid_model",
            "model_decommissioned",
            "model_not_supported",
            "model_terms_required",
            "deploymentnotfound",
            "operationnotsupported",
        ],
        texts: &["invalid model:", "does not exist or you do not have access to it"],
    },
    Sign {
        kind: Credential,
        words: &[
            "invalid_api_key",
            "wrong_api_key",
            "invalidapikey",
            "authentication_error",
            "permission_error",
            "unauthenticated",
            "permission_denied",
            "account_deactivated",
            "organization_restricted",
            "unsupported_country",
            "accessdenied",
        ],
        texts: &[
            "api_key_invalid",
            "api key not valid",
            "api key expired",
            "invalid api key",
            "incorrect api key",
            "organization has been disabled",
            // Google: the account may not be used from where we are
            "user location is not supported",
        ],
    },
    Sign {
        kind: Malformed,
        // Groq's words for an answer that the model wrote wrongly: another try can get it right.
        words: &["tool_use_failed", "json_validate_failed"],
        texts: &[],
    },
    Sign {
        kind: TooLarge,
        words: &["request_too_large"],
        // One request above the tokens of a minute (OpenAI, Groq): it will never fit, however long one waits.
        texts: &["request too large for"],
    },
    Sign {
        kind: Overloaded,
        words: &["overloaded", "unavailable", "capacity_exceeded", "modelnotready"],
        texts: &["currently overloaded", "server busy", "model too busy", "currently loading"],
    },
    Sign {
        kind: RateLimited,
        words: &["rate_limit", "ratelimit", "resource_exhausted", "too_many_requests", "throttling"],
        texts: &[],
    },
];

/// The kind by status, sharpened by what the body says. `words` are its codes and types, `json` is all of it.
pub fn kind(status: Option<u16>, words: &[String], message: &str, json: &str) -> FailureKind {
    let words: Vec<String> = words.iter().map(|word| word.to_ascii_lowercase()).collect();
    let message = message.to_ascii_lowercase();
    let said = |needles: &[&str]| words.iter().any(|word| needles.iter().any(|needle| word.contains(needle)));
    let is_clients = status.is_none_or(|status| (400..500).contains(&status) || status == 503);
    if said(&["resource_exhausted"]) {
        // Google says "quota" of everything; the name of the limit tells what ran out.
        return if json.contains("PerDay") || message.contains("limit: 0") { QuotaExhausted } else { RateLimited };
    }
    let states = |needles: &[&str]| is_clients && needles.iter().any(|needle| message.contains(needle));
    if let Some(sign) = SIGNS.iter().find(|sign| said(sign.words) || states(sign.texts)) {
        return sign.kind;
    }
    match status {
        Some(status) => FailureKind::of_status(status),
        None if said(&["invalid_request"]) => BadRequest,
        None if said(&["not_found"]) => NotFound,
        None => ServerError,
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};

    use super::super::Failure;
    use super::*;

    /// (provider, status, body, kind)
    #[rustfmt::skip] // one answer a line
    const ANSWERS: &[(&str, u16, &str, FailureKind)] = &[
        ("openai", 429, r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}"#, QuotaExhausted),
        ("openai", 429, r#"{"error":{"message":"Rate limit reached for gpt-4o on tokens per min (TPM). Please try again in 6s.","type":"tokens","code":"rate_limit_exceeded"}}"#, RateLimited),
        ("openai", 429, r#"{"error":{"message":"Request too large for gpt-4o on tokens per min (TPM): Limit 10000, Requested 12000.","type":"tokens","code":"rate_limit_exceeded"}}"#, TooLarge),
        ("openai", 429, r#"{"error":{"message":"The engine is currently overloaded, please try again later","type":"engine_overloaded"}}"#, Overloaded),
        ("openai", 400, r#"{"error":{"message":"Invalid prompt: your prompt was flagged","type":"invalid_request_error","code":"invalid_prompt"}}"#, ContentFilter),
        ("openai", 403, r#"{"error":{"message":"Project `p` does not have access to model `m`","type":"invalid_request_error","code":"model_not_found"}}"#, NotFound),
        ("openai", 403, r#"{"error":{"message":"Country, region, or territory not supported","code":"unsupported_country_region_territory","type":"request_forbidden"}}"#, Credential),
        ("azure", 400, r#"{"error":{"message":"The response was filtered","code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#, ContentFilter),
        ("azure", 400, r#"{"error":{"message":"Blocked.","code":"400","innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#, ContentFilter),
        ("azure", 429, r#"{"error":{"code":"429","message":"Requests to the ChatCompletions_Create Operation have exceeded call rate limit of your current pricing tier."}}"#, RateLimited),
        ("azure", 401, r#"{"error":{"code":"401","message":"Access denied due to invalid subscription key or wrong API endpoint."}}"#, Credential),
        ("azure", 404, r#"{"error":{"code":"DeploymentNotFound","message":"The API deployment for this resource does not exist."}}"#, NotFound),
        ("azure", 400, r#"{"error":{"code":"OperationNotSupported","message":"The chatCompletion operation does not work with the specified model"}}"#, NotFound),
        ("anthropic", 400, r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API."}}"#, QuotaExhausted),
        ("anthropic", 400, r#"{"type":"error","error":{"type":"invalid_request_error","message":"input length and `max_tokens` exceed context limit: 199000 + 20000 > 200000"}}"#, ContextLength),
        ("anthropic", 400, r#"{"type":"error","error":{"type":"invalid_request_error","message":"Output blocked by content filtering policy"}}"#, ContentFilter),
        ("anthropic", 403, r#"{"type":"error","error":{"type":"permission_error","message":"Your API key does not have permission"}}"#, Credential),
        ("anthropic", 429, r#"{"type":"error","error":{"type":"rate_limit_error","message":"This request would exceed the rate limit for your organization"}}"#, RateLimited),
        ("anthropic", 529, r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#, Overloaded),
        ("gemini", 429, r#"{"error":{"code":429,"message":"You exceeded your current quota, please check your plan and billing details.","status":"RESOURCE_EXHAUSTED","details":[{"violations":[{"quotaId":"GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}]}}"#, QuotaExhausted),
        ("gemini", 429, r#"{"error":{"code":429,"message":"You exceeded your current quota, please check your plan and billing details.","status":"RESOURCE_EXHAUSTED","details":[{"violations":[{"quotaId":"GenerateRequestsPerMinutePerProjectPerModel-FreeTier"}]},{"retryDelay":"17s"}]}}"#, RateLimited),
        ("gemini", 400, r#"{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}"#, Credential),
        ("gemini", 400, r#"{"error":{"code":400,"message":"User location is not supported for the API use.","status":"FAILED_PRECONDITION"}}"#, Credential),
        ("gemini", 403, r#"{"error":{"code":403,"message":"Permission denied","status":"PERMISSION_DENIED"}}"#, Credential),
        ("gemini", 503, r#"{"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}"#, Overloaded),
        ("mistral", 401, r#"{"detail":"Unauthorized"}"#, Credential),
        ("mistral", 400, r#"{"object":"error","message":"Invalid model: mistral-x","type":"invalid_model","param":null,"code":"1500"}"#, NotFound),
        ("mistral", 422, r#"{"object":"error","message":{"detail":[{"type":"extra_forbidden","msg":"Extra inputs are not permitted"}]},"type":"invalid_request_error"}"#, BadRequest),
        ("mistral", 429, r#"{"object":"error","message":"Service tier capacity exceeded for this model.","type":"service_tier_capacity_exceeded","code":"3505"}"#, Overloaded),
        ("groq", 400, r#"{"error":{"message":"Failed to validate JSON.","type":"invalid_request_error","code":"json_validate_failed","failed_generation":"{"}}"#, Malformed),
        ("groq", 400, r#"{"error":{"message":"Failed to call a function.","type":"invalid_request_error","code":"tool_use_failed"}}"#, Malformed),
        ("groq", 400, r#"{"error":{"message":"The model `m` has been decommissioned","type":"invalid_request_error","code":"model_decommissioned"}}"#, NotFound),
        ("groq", 413, r#"{"error":{"message":"Request too large for model `m` on tokens per minute (TPM)","type":"tokens","code":"rate_limit_exceeded"}}"#, TooLarge),
        ("groq", 498, r#"{"error":{"message":"Flex tier capacity exceeded","type":"capacity_exceeded"}}"#, Overloaded),
        ("xai", 400, r#"{"code":"Client specified an invalid argument","error":"Incorrect API key provided: xx. You can obtain an API key from https://console.x.ai."}"#, Credential),
        ("xai", 403, r#"{"code":"The caller does not have permission","error":"Your team has either used all available credits or reached its monthly spending limit."}"#, QuotaExhausted),
        ("xai", 400, r#"{"code":"Client specified an invalid argument","error":"This model's maximum prompt length is 131072 but the request contains 537812 tokens."}"#, ContextLength),
        ("deepseek", 402, r#"{"error":{"message":"Insufficient Balance","type":"unknown_error","code":"invalid_request_error"}}"#, QuotaExhausted),
        ("openrouter", 402, r#"{"error":{"message":"This request requires more credits, or fewer max_tokens.","code":402}}"#, QuotaExhausted),
        ("openrouter", 403, r#"{"error":{"message":"m requires moderation on Azure. Your input was flagged.","code":403,"metadata":{"reasons":["violence"]}}}"#, ContentFilter),
        ("openrouter", 400, r#"{"error":{"message":"Provider returned error","code":400,"metadata":{"raw":"{\"error\":{\"message\":\"prompt is too long: 9 > 8\"}}","provider_name":"Anthropic"}}}"#, ContextLength),
        ("openrouter", 429, r#"{"error":{"message":"Provider returned error","code":429,"metadata":{"raw":"m is temporarily rate-limited upstream"}}}"#, RateLimited),
        ("together", 422, r#"{"error":{"message":"Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8193","type":"invalid_request_error"}}"#, ContextLength),
        ("together", 404, r#"{"error":{"message":"Unable to access model m","type":"invalid_request_error","code":"model_not_available"}}"#, NotFound),
        ("fireworks", 412, r#"{"error":{"code":"PRECONDITION_FAILED","message":"Account is suspended, possibly due to reaching the monthly spending limit"}}"#, QuotaExhausted),
        ("fireworks", 400, r#"{"error":{"message":"The prompt is too long: 140000, model maximum context length: 131071","code":"invalid_request_error"}}"#, ContextLength),
        ("perplexity", 400, r#"{"error":{"message":"Invalid model 'x'.","type":"invalid_model","code":400}}"#, NotFound),
        ("perplexity", 401, "<html><head><title>401 Authorization Required</title></head></html>", Credential),
        ("cohere", 400, r#"{"error_type":"TOO_MANY_TOKENS","message":"too many tokens: size limit exceeded by 25836 tokens."}"#, ContextLength),
        ("cohere", 401, r#"{"id":"x","message":"invalid api token"}"#, Credential),
        ("cohere", 404, r#"{"id":"x","message":"model 'm' not found, make sure the correct model ID was used"}"#, NotFound),
        ("cohere", 429, r#"{"message":"You are using a Trial key, which is limited to 20 API calls / minute."}"#, RateLimited),
        ("ollama", 404, r#"{"error":"model \"m\" not found, try pulling it first"}"#, NotFound),
        ("ollama", 503, r#"{"error":"server busy, please try again.  maximum pending requests exceeded"}"#, Overloaded),
        ("huggingface", 422, r#"{"error":"Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096","error_type":"validation"}"#, ContextLength),
        ("huggingface", 402, r#"{"error":"You have exceeded your monthly included credits for Inference Providers."}"#, QuotaExhausted),
        ("huggingface", 503, r#"{"error":"Model m is currently loading","estimated_time":20.0}"#, Overloaded),
        ("llamacpp", 400, r#"{"error":{"code":400,"message":"the request exceeds the available context size, try increasing it","type":"exceed_context_size_error","n_ctx":4096}}"#, ContextLength),
        ("vllm", 400, r#"{"object":"error","message":"This model's maximum context length is 4096 tokens.","type":"BadRequestError","param":null,"code":400}"#, ContextLength),
        ("bedrock", 400, r#"{"message":"Input is too long for requested model."}"#, ContextLength),
        ("bedrock", 429, r#"{"__type":"com.amazon.coral.availability#ThrottlingException","message":"Too many requests"}"#, RateLimited),
        ("bedrock", 400, r#"{"__type":"AccessDeniedException","message":"You don't have access to the model"}"#, Credential),
        ("moonshot", 429, r#"{"error":{"message":"Your account is suspended, please check your plan","type":"exceeded_current_quota_error"}}"#, QuotaExhausted),
        ("moonshot", 400, r#"{"error":{"message":"Invalid request: Your request exceeded model token limit: 8192","type":"invalid_request_error"}}"#, ContextLength),
        ("moonshot", 429, r#"{"error":{"message":"The engine is currently overloaded, please try again later","type":"engine_overloaded_error"}}"#, Overloaded),
        ("zai", 429, r#"{"error":{"code":"1113","message":"Insufficient balance or no resource package. Please recharge."}}"#, QuotaExhausted),
        ("zai", 400, r#"{"error":{"code":"1301","message":"System detected potentially unsafe or sensitive content in input or generation."}}"#, ContentFilter),
        ("dashscope", 400, r#"{"error":{"code":"data_inspection_failed","message":"Input data may contain inappropriate content."}}"#, ContentFilter),
        ("dashscope", 400, r#"{"error":{"code":"invalid_parameter_error","message":"Range of input length should be [1, 30720]"}}"#, ContextLength),
        ("cerebras", 429, r#"{"message":"Requests per minute limit exceeded","type":"too_many_requests_error","param":"quota","code":"request_quota_exceeded"}"#, RateLimited),
        ("cerebras", 401, r#"{"message":"Wrong API Key","type":"invalid_request_error","param":"api_key","code":"wrong_api_key"}"#, Credential),
        ("writer", 400, r#"{"tpe":"bad.request","errors":[{"description":"the model is wrong","key":"fail.x"}],"extras":{}}"#, BadRequest),
    ];

    #[test]
    fn every_providers_errors_are_told_apart() {
        let mut wrong = Vec::new();
        for (provider, status, body, kind) in ANSWERS {
            let status = StatusCode::from_u16(*status).expect("a status");
            let failure = Failure::of_answer(status, &HeaderMap::new(), body.as_bytes(), 0);
            if failure.kind != *kind || failure.message.starts_with('{') && *provider != "mistral" {
                wrong.push(format!("{provider} {status} {body}\n  is {:?}, not {kind:?}", failure.kind));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn a_wait_in_the_message_counts_where_no_header_has_one() {
        let wait = |message: &str| {
            let body = format!("{{\"error\":{{\"message\":\"{message}\",\"code\":\"rate_limit_exceeded\"}}}}");
            Failure::of_error(&body, Some(429)).and_then(|failure| failure.retry_after).map(|wait| wait.as_millis())
        };
        assert_eq!(wait("Rate limit reached. Please try again in 6s. Visit x"), Some(6_000));
        assert_eq!(wait("Please try again in 1m30s."), Some(90_000));
        assert_eq!(wait("Please try again in 250ms"), Some(250));
        assert_eq!(wait("Please try again in a while"), None);
    }
}
