//! Tokens of an identity provider: checked against its public keys, read into a holder.
//!
//! Decides from values. Only signatures by asymmetric algorithms count, and only with a key of the kind that the algorithm
//! needs: a token cannot choose to be checked by an empty signature, nor by a public key used as a shared secret (RFC 8725,
//! sections 3.1 and 3.2). What a token says about where keys are (`jku`, `x5u`, `jwk`) is not read.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde_json::{Map, Value};

use super::Tenant;
use super::role::Role;
use super::settings::Jwt;

/// Longer tokens are not read, in bytes.
pub const LONGEST: usize = 16 * 1024;
/// Keys of a set that are looked at.
const MOST_KEYS: usize = 100;

/// The public keys of an issuer.
#[derive(Default)]
pub struct KeySet {
    keys: Vec<PublicKey>,
}

struct PublicKey {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// Why a token opens nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    #[error("the token is no JWT")]
    Malformed,
    #[error("the token is signed with an algorithm that is not accepted")]
    Algorithm,
    /// Worth a look at the issuer's newest keys.
    #[error("the token is signed with a key that its issuer does not publish")]
    UnknownKey,
    #[error("the token's signature is wrong")]
    Signature,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    TooEarly,
    #[error("the token is of another issuer, or for another audience")]
    Elsewhere,
    #[error("the token's claim `{0}` is missing or unusable")]
    Claim(String),
}

impl KeySet {
    /// Reads a set (RFC 7517); keys that no accepted algorithm can use are left out.
    pub fn read(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        // One by one: a kind of key that the library does not know must not hide the others.
        let set: Value = serde_json::from_slice(bytes)?;
        let members = set.get("keys").and_then(Value::as_array).cloned().unwrap_or_default();
        let readable = members.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
        let set = JwkSet { keys: readable.take(MOST_KEYS).collect() };
        Ok(Self { keys: set.keys.iter().filter_map(PublicKey::of).collect() })
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Checks a token and reads whoever holds it, and when it ends (Unix seconds).
    pub fn verify(&self, token: &str, rules: &Jwt, now_s: i64) -> Result<(Tenant, i64), BadToken> {
        let (id, algorithm) = header(token)?;
        let fits = |key: &&PublicKey| key.algorithms.contains(&algorithm);
        let named = |key: &&PublicKey| id.is_none() || key.id == id;
        let mut candidates = self.keys.iter().filter(fits).filter(named);
        let key = candidates.next().ok_or(BadToken::UnknownKey)?;
        if candidates.next().is_some() && id.is_none() {
            // Which one is meant is not for us to try out.
            return Err(BadToken::UnknownKey);
        }
        let mut validation = Validation::new(algorithm);
        // Times and names are compared below, with the time that we were given.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let claims =
            decode::<Map<String, Value>>(token, &key.key, &validation).map_err(|_| BadToken::Signature)?.claims;
        read(&claims, rules, now_s)
    }
}

impl PublicKey {
    fn of(key: &Jwk) -> Option<Self> {
        if key.common.public_key_use.as_ref().is_some_and(|usage| *usage != PublicKeyUse::Signature) {
            return None;
        }
        use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
        let mut algorithms = match &key.algorithm {
            AlgorithmParameters::RSA(_) => vec![RS256, RS384, RS512, PS256, PS384, PS512],
            AlgorithmParameters::EllipticCurve(curve) => match curve.curve {
                EllipticCurve::P256 => vec![ES256],
                EllipticCurve::P384 => vec![ES384],
                _ => return None,
            },
            AlgorithmParameters::OctetKeyPair(_) => vec![EdDSA],
            _ => return None,
        };
        if let Some(only) = key.common.key_algorithm {
            algorithms.retain(|algorithm| format!("{algorithm:?}") == format!("{only:?}"));
        }
        let decoding = DecodingKey::from_jwk(key).ok()?;
        (!algorithms.is_empty()).then_some(Self { id: key.common.key_id.clone(), algorithms, key: decoding })
    }
}

/// Key id and algorithm. Read by hand: a member that we would have to understand (`crit`) is a reason to refuse.
fn header(token: &str) -> Result<(Option<String>, Algorithm), BadToken> {
    let mut parts = token.split('.');
    let (Some(header), Some(_), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(BadToken::Malformed);
    };
    if token.len() > LONGEST {
        return Err(BadToken::Malformed);
    }
    let bytes = URL_SAFE_NO_PAD.decode(header).map_err(|_| BadToken::Malformed)?;
    let header: Map<String, Value> = serde_json::from_slice(&bytes).map_err(|_| BadToken::Malformed)?;
    if header.contains_key("crit") {
        return Err(BadToken::Malformed);
    }
    let algorithm = match header.get("alg").and_then(Value::as_str) {
        Some("RS256") => Algorithm::RS256,
        Some("RS384") => Algorithm::RS384,
        Some("RS512") => Algorithm::RS512,
        Some("PS256") => Algorithm::PS256,
        Some("PS384") => Algorithm::PS384,
        Some("PS512") => Algorithm::PS512,
        Some("ES256") => Algorithm::ES256,
        Some("ES384") => Algorithm::ES384,
        Some("EdDSA") => Algorithm::EdDSA,
        _ => return Err(BadToken::Algorithm),
    };
    Ok((header.get("kid").and_then(Value::as_str).map(str::to_owned), algorithm))
}

fn read(claims: &Map<String, Value>, rules: &Jwt, now_s: i64) -> Result<(Tenant, i64), BadToken> {
    let leeway = rules.leeway.0.as_secs() as i64;
    let time = |name: &str| match claims.get(name) {
        None => Ok(None),
        Some(value) => {
            value.as_f64().map(|seconds| Some(seconds as i64)).ok_or_else(|| BadToken::Claim(name.to_owned()))
        }
    };
    let expires = time("exp")?.ok_or_else(|| BadToken::Claim("exp".to_owned()))?;
    if now_s >= expires.saturating_add(leeway) {
        return Err(BadToken::Expired);
    }
    if time("nbf")?.is_some_and(|from| now_s.saturating_add(leeway) < from) {
        return Err(BadToken::TooEarly);
    }
    if claims.get("iss").and_then(Value::as_str) != Some(rules.issuer.as_str()) {
        return Err(BadToken::Elsewhere);
    }
    let is_ours = |value: &Value| value.as_str().is_some_and(|name| rules.audience.iter().any(|ours| ours == name));
    let for_us = match claims.get("aud") {
        Some(Value::Array(names)) => names.iter().any(is_ours),
        Some(name) => is_ours(name),
        None => false,
    };
    if !for_us {
        return Err(BadToken::Elsewhere);
    }
    let subject = word(claims, "sub")?.ok_or_else(|| BadToken::Claim("sub".to_owned()))?;
    let user = word(claims, &rules.user_claim)?.unwrap_or_else(|| subject.clone());
    let named = |claim: &Option<String>| match claim {
        None => Ok(None),
        Some(claim) => word(claims, claim).map(|word| word.map(Arc::from)),
    };
    let role = match &rules.role_claim {
        None => Role::Member,
        Some(claim) => match word(claims, claim)? {
            None => Role::Member,
            Some(word) => Role::parse(&word).ok_or_else(|| BadToken::Claim(claim.clone()))?,
        },
    };
    let tenant = Tenant {
        id: format!("jwt:{subject}").into(),
        name: Some(format!("jwt:{user}").into()),
        team: named(&rules.team_claim)?,
        tier: named(&rules.tier_claim)?,
        role,
        ..Tenant::default()
    };
    Ok((tenant, expires))
}

/// A claim that stands in logs and reports: short and printable. A dotted name is a path into nested claims.
fn word(claims: &Map<String, Value>, name: &str) -> Result<Option<String>, BadToken> {
    let found = claims.get(name).or_else(|| {
        let (first, rest) = name.split_once('.')?;
        rest.split('.').try_fold(claims.get(first)?, |value, part| value.get(part))
    });
    let bad = || BadToken::Claim(name.to_owned());
    match found {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(word)) => {
            let fits = (1..=128).contains(&word.len()) && !word.chars().any(char::is_control);
            if fits { Ok(Some(word.clone())) } else { Err(bad()) }
        }
        Some(_) => Err(bad()),
    }
}

#[cfg(test)]
mod tests;
