//! Credentials that are more than a key: something is computed with them for every request, or fetched now and then.

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

/// Who a provider in a cloud takes us for. `provider::credential` turns it into headers. No `Debug`: it is a secret.
#[derive(Clone)]
pub enum Identity {
    Aws(AwsKeys),
    Google(ServiceAccount),
}

/// What AWS signatures are made with.
#[derive(Clone)]
pub struct AwsKeys {
    pub access_key_id: String,
    pub secret_access_key: SecretString,
    /// Only temporary keys have one.
    pub session_token: Option<SecretString>,
    pub region: String,
}

/// A Google service account, as in the JSON file that Google hands out for it.
#[derive(Clone)]
pub struct ServiceAccount {
    pub email: String,
    pub key_id: Option<String>,
    /// PEM.
    pub private_key: SecretString,
    /// Where an assertion signed with the key is exchanged for an access token.
    pub token_uri: String,
    /// The project that it belongs to.
    pub project: Option<String>,
}

impl Identity {
    /// What must not be repeated to anybody.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        let (one, other) = match self {
            Self::Aws(keys) => (&keys.secret_access_key, keys.session_token.as_ref()),
            Self::Google(account) => (&account.private_key, None),
        };
        std::iter::once(one).chain(other).map(|secret| secret.expose_secret())
    }
}

impl ServiceAccount {
    /// Reads the JSON of a service account's key. The error never quotes it.
    pub fn parse(json: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Key {
            #[serde(rename = "type")]
            kind: Option<String>,
            client_email: Option<String>,
            private_key_id: Option<String>,
            private_key: Option<String>,
            token_uri: Option<String>,
            project_id: Option<String>,
        }
        let key: Key = serde_json::from_str(json).map_err(|_| "expected the JSON of a service account's key")?;
        match key.kind.as_deref() {
            None | Some("service_account") => {}
            Some("authorized_user") => return Err("a user's login is not supported; use a service account".to_owned()),
            Some(_) => return Err("only the key of a service account is supported".to_owned()),
        }
        let missing = |member: &str| format!("the service account's key lacks `{member}`");
        Ok(Self {
            email: key.client_email.ok_or_else(|| missing("client_email"))?,
            key_id: key.private_key_id,
            private_key: key.private_key.ok_or_else(|| missing("private_key"))?.into(),
            token_uri: key.token_uri.unwrap_or_else(|| "https://oauth2.googleapis.com/token".to_owned()),
            project: key.project_id,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_account_is_read_from_its_file() {
        let json =
            r#"{"type":"service_account","client_email":"me@x.example","private_key_id":"7","private_key":"PEM"}"#;
        let account = ServiceAccount::parse(json).expect("an account");
        assert_eq!((account.email.as_str(), account.key_id.as_deref()), ("me@x.example", Some("7")));
        assert_eq!(account.token_uri, "https://oauth2.googleapis.com/token");
        for (json, part) in [
            (r#"{"type":"authorized_user","refresh_token":"r"}"#, "a service account"),
            (r#"{"client_email":"me@x.example"}"#, "`private_key`"),
            ("/path/to/key.json", "expected the JSON"),
        ] {
            let error = ServiceAccount::parse(json).err().expect("an error");
            assert!(error.contains(part) && !error.contains("/path"), "{error}");
        }
    }
}
