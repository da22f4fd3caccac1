//! Where a request goes is the router's decision: a caller's body that names an address, a key or a deployment is refused.
//!
//! Other gateways take such members from callers, and have lost the keys that they keep that way. Passing them on would
//! leave the decision to whoever stands behind the provider; leaving them out would answer from another place than the
//! caller believes.

use super::request::Invalid;

/// Members by which a caller could choose a server, an account or a credential at some gateway or SDK.
const FORBIDDEN: [&str; 22] = [
    "api_base",
    "api_endpoint",
    "api_host",
    "api_key",
    "api_type",
    "api_version",
    "aws_access_key_id",
    "aws_bedrock_runtime_endpoint",
    "aws_region_name",
    "aws_secret_access_key",
    "azure_endpoint",
    "base_url",
    "custom_host",
    "custom_llm_provider",
    "deployment",
    "deployment_id",
    "endpoint",
    "host",
    "region",
    "vertex_credentials",
    "vertex_location",
    "vertex_project",
];

/// Refuses the first member that names a destination. `null` names none.
///
/// # Errors
/// `destination_forbidden`, with the member as `param`.
pub fn refuse<'a>(members: impl IntoIterator<Item = (&'a str, bool)>) -> Result<(), Invalid> {
    let is_forbidden = |name: &str| {
        let spelled = name.to_ascii_lowercase().replace('-', "_");
        FORBIDDEN.contains(&spelled.as_str())
    };
    match members.into_iter().find(|(name, is_null)| !is_null && is_forbidden(name)) {
        None => Ok(()),
        Some((name, _)) => Err(Invalid {
            param: Some(name.to_owned()),
            message: format!(
                "`{name}` is not for callers to choose: leave it out; an operator registers servers, keys and deployments \
                 under `providers`, and `model` picks one as `provider/model`"
            ),
            code: "destination_forbidden",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_refused_in_every_spelling_and_nothing_else_is() {
        for name in FORBIDDEN.iter().copied().chain(["API_BASE", "api-base", "Base_Url"]) {
            let invalid = refuse([("model", false), (name, false)]).expect_err(name);
            assert_eq!((invalid.code, invalid.param.as_deref()), ("destination_forbidden", Some(name)));
        }
        assert_eq!(refuse([("model", false), ("user", false), ("base_url", true)]), Ok(()));
    }
}
