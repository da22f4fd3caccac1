//! What goes into a request beside a plain key: AWS signatures, and Google's access tokens.
//!
//! Pure: the time is an argument, and fetching a token is [`super::transport`]'s work. `gcp_auth`, `yup-oauth2` and
//! `google-cloud-auth` would fetch it by themselves, each with an HTTP client of its own: past the proxies, the connect
//! timeout and the connections per runtime that hold for all the rest. So only the signature is a crate's work.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign as signature};
use aws_sigv4::sign::v4;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::adapter::Outgoing;
use super::failure::{Failure, FailureKind};
use crate::catalog::{AwsKeys, ServiceAccount};

/// The service that Bedrock's requests are signed for.
const SERVICE: &str = "bedrock";
/// What Vertex AI asks of a token (Vertex AI, Authenticate).
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// How long an assertion is good for; Google takes no longer one.
const ASSERTION_LIFE: Duration = Duration::from_secs(3600);
/// A token is renewed so long before it expires: a request that leaves now must arrive in time.
const MARGIN: Duration = Duration::from_secs(60);

fn credential(message: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Credential, message)
}

/// Signs a request as of `now` (Signature Version 4). Must be the last change of URL, body and content type.
pub fn sign(outgoing: &mut Outgoing, keys: &AwsKeys, now: SystemTime) -> Result<(), Failure> {
    let mut credentials = Credentials::builder()
        .access_key_id(&keys.access_key_id)
        .secret_access_key(keys.secret_access_key.expose_secret())
        .provider_name("configuration");
    credentials.set_session_token(keys.session_token.as_ref().map(|token| token.expose_secret().to_owned()));
    let identity = credentials.build().into();
    let unsigned = |_| credential("the request cannot be signed");
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(&keys.region)
        .name(SERVICE)
        .time(now)
        .settings(SigningSettings::default())
        .build()
        .map_err(|_| credential("the request cannot be signed"))?
        .into();
    let content_type = outgoing.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let signed = content_type.map(|value| ("content-type", value)).into_iter();
    let request = SignableRequest::new("POST", &outgoing.url, signed, SignableBody::Bytes(&outgoing.body));
    let (instructions, _) = signature(request.map_err(unsigned)?, &params).map_err(unsigned)?.into_parts();
    let added: Vec<(HeaderName, HeaderValue)> = instructions
        .headers()
        .filter_map(|(name, value)| Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?)))
        .collect();
    for (name, mut value) in added {
        value.set_sensitive(true);
        outgoing.headers.insert(name, value);
    }
    Ok(())
}

/// An access token, and until when it is used.
pub struct Token {
    pub secret: SecretString,
    pub good_until: SystemTime,
}

/// What tells one service account's tokens from another's.
pub fn fingerprint(account: &ServiceAccount) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for part in [&account.email, account.private_key.expose_secret(), &account.token_uri] {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    }
    *hasher.finalize().as_bytes()
}

/// The request that exchanges a signed assertion for an access token (RFC 7523, section 2.1).
pub fn token_request(account: &ServiceAccount, now: SystemTime) -> Result<Outgoing, Failure> {
    #[derive(Serialize)]
    struct Claims<'a> {
        iss: &'a str,
        scope: &'a str,
        aud: &'a str,
        iat: u64,
        exp: u64,
    }
    let iat = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let exp = iat + ASSERTION_LIFE.as_secs();
    let claims = Claims { iss: &account.email, scope: SCOPE, aud: &account.token_uri, iat, exp };
    let header = Header { kid: account.key_id.clone(), ..Header::new(Algorithm::RS256) };
    let key = EncodingKey::from_rsa_pem(account.private_key.expose_secret().as_bytes())
        .map_err(|_| credential("the service account's private key is not an RSA key in PEM"))?;
    let assertion =
        encode(&header, &claims, &key).map_err(|_| credential("the service account's private key cannot sign"))?;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    // Nothing in an assertion needs escaping: it is base64url with dots.
    let body = format!("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={assertion}");
    Ok(Outgoing { url: account.token_uri.clone(), headers, body: body.into(), script: None, warnings: Vec::new() })
}

/// Reads the answer to [`token_request`]. A failure repeats nothing but the error's code.
pub fn token(status: StatusCode, body: &[u8], now: SystemTime) -> Result<Token, Failure> {
    #[derive(Deserialize)]
    struct Granted {
        access_token: String,
        expires_in: Option<u64>,
    }
    #[derive(Deserialize)]
    struct Refused {
        error: String,
    }
    if !status.is_success() {
        let code = serde_json::from_slice::<Refused>(body).map(|refused| refused.error).unwrap_or_default();
        let code: String = code.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(40).collect();
        let kind = match status.as_u16() {
            429 => FailureKind::RateLimited,
            400..=499 => FailureKind::Credential,
            other => FailureKind::of_status(other),
        };
        let said = if code.is_empty() { String::new() } else { format!(", {code}") };
        return Err(Failure::new(kind, format!("no access token: status {}{said}", status.as_u16())));
    }
    let granted: Granted =
        serde_json::from_slice(body).map_err(|_| credential("no access token: the answer is not one"))?;
    let life = Duration::from_secs(granted.expires_in.unwrap_or(3600).min(86_400));
    Ok(Token { secret: granted.access_token.into(), good_until: now + life.saturating_sub(MARGIN) })
}

/// Puts an access token into a request.
pub fn bear(outgoing: &mut Outgoing, token: &SecretString) -> Result<(), Failure> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()))
        .map_err(|_| credential("no access token: the answer is not one"))?;
    value.set_sensitive(true);
    outgoing.headers.insert(AUTHORIZATION, value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing(url: &str, body: &'static str) -> Outgoing {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Outgoing { url: url.to_owned(), headers, body: body.into(), script: None, warnings: Vec::new() }
    }

    /// The values were worked out by an independent implementation, from the steps of AWS's own description.
    #[test]
    fn a_signature_is_the_one_of_awss_description() {
        let keys = AwsKeys {
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
            session_token: None,
            region: "us-east-1".to_owned(),
        };
        // 2015-08-30 12:36:00 UTC, as in AWS's test suite.
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_440_938_160);
        let url = "https://bedrock-runtime.us-east-1.amazonaws.com/model/us.anthropic.claude-haiku-4-5-20251001-v1%3A0/converse";
        let mut request = outgoing(url, r#"{"messages":[]}"#);
        sign(&mut request, &keys, now).expect("a signature");
        assert_eq!(request.headers["x-amz-date"], "20150830T123600Z");
        assert_eq!(
            request.headers["authorization"],
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/bedrock/aws4_request, SignedHeaders=content-type;host;x-amz-date, Signature=3e7c3d38d00cf2c7468da39bb074c5c4afac0a664438a8f3c28d0a75a65f2c42"
        );
        let mut temporary = outgoing(url, "{}");
        sign(&mut temporary, &AwsKeys { session_token: Some("session".into()), ..keys }, now).expect("a signature");
        assert_eq!(temporary.headers["x-amz-security-token"], "session");
        let signed = temporary.headers["authorization"].to_str().expect("text");
        assert!(signed.contains("SignedHeaders=content-type;host;x-amz-date;x-amz-security-token"), "{signed}");
        assert!(!format!("{temporary:?}").contains("Signature="), "headers with secrets are not shown");
    }

    #[test]
    fn a_token_is_used_until_shortly_before_it_expires() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let body = br#"{"access_token":"ya29.x","expires_in":3599,"token_type":"Bearer"}"#;
        let token = token(StatusCode::OK, body, now).expect("a token");
        assert_eq!(token.good_until, now + Duration::from_secs(3539));
        assert_eq!(token.secret.expose_secret(), "ya29.x");
    }

    #[test]
    fn a_refused_token_is_a_credential_failure_that_quotes_no_more_than_a_code() {
        let refused = |status: u16, body: &str| {
            let status = StatusCode::from_u16(status).expect("a status");
            token(status, body.as_bytes(), SystemTime::UNIX_EPOCH).err().expect("a failure")
        };
        let failure = refused(400, r#"{"error":"invalid_grant","error_description":"Invalid JWT: eyJh.secret"}"#);
        assert_eq!(failure.kind, FailureKind::Credential);
        assert_eq!(failure.message, "no access token: status 400, invalid_grant");
        assert_eq!(refused(503, "busy").kind, FailureKind::Overloaded);
        assert_eq!(refused(200, "<html>").kind, FailureKind::Credential);
    }

    #[test]
    fn a_key_that_is_none_is_a_credential_failure() {
        let account = ServiceAccount {
            email: "me@x.example".to_owned(),
            key_id: None,
            private_key: "-----BEGIN PRIVATE KEY-----\nnonsense".into(),
            token_uri: "https://x.example/token".to_owned(),
            project: None,
        };
        let failure = token_request(&account, SystemTime::UNIX_EPOCH).expect_err("no key");
        assert_eq!(failure.kind, FailureKind::Credential);
        assert!(!failure.message.contains("nonsense"));
    }
}
