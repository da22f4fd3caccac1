use jsonwebtoken::{EncodingKey, Header, encode};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::units::Span;

const NOW: i64 = 1_800_000_000;

fn rules() -> Jwt {
    Jwt {
        issuer: "https://id.example.com/".to_owned(),
        audience: vec!["stepwell".to_owned()],
        jwks_url: "https://id.example.com/keys".to_owned(),
        tier_claim: Some("tier".to_owned()),
        team_claim: Some("realm.team".to_owned()),
        user_claim: "email".to_owned(),
        role_claim: Some("role".to_owned()),
        leeway: Span(std::time::Duration::from_secs(60)),
        refresh: Span(std::time::Duration::from_secs(600)),
    }
}

fn claims() -> Value {
    json!({
        "iss": "https://id.example.com/", "aud": ["other", "stepwell"], "sub": "u-1", "email": "ann@example.com",
        "exp": NOW + 300, "nbf": NOW - 5, "tier": "free", "realm": {"team": "search"}, "role": "operator",
    })
}

/// A fresh key of an elliptic curve, and its public half as an issuer publishes it.
fn signer(id: &str) -> (EncodingKey, Value) {
    let pair = rcgen::KeyPair::generate().expect("a key");
    let key = EncodingKey::from_ec_der(&pair.serialize_der());
    let mut public = Jwk::from_encoding_key(&key, Algorithm::ES256).expect("a public key");
    public.common.key_id = Some(id.to_owned());
    (key, serde_json::to_value(public).expect("JSON"))
}

fn set(keys: &[&Value]) -> KeySet {
    KeySet::read(json!({"keys": keys}).to_string().as_bytes()).expect("a set")
}

fn sign(key: &EncodingKey, id: Option<&str>, claims: &Value) -> String {
    let header = Header { kid: id.map(str::to_owned), ..Header::new(Algorithm::ES256) };
    encode(&header, claims, key).expect("a token")
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    match value {
        Value::Null => claims.as_object_mut().expect("a map").remove(name),
        value => claims.as_object_mut().expect("a map").insert(name.to_owned(), value),
    };
    claims
}

#[test]
fn a_good_token_says_who_tier_team_and_role() {
    let (key, public) = signer("a");
    let (tenant, expires) = set(&[&public]).verify(&sign(&key, Some("a"), &claims()), &rules(), NOW).expect("good");
    let named = |name: Option<Arc<str>>| name.map(|name| name.to_string());
    assert_eq!((&*tenant.id, named(tenant.name)), ("jwt:u-1", Some("jwt:ann@example.com".to_owned())));
    assert_eq!((named(tenant.tier), named(tenant.team)), (Some("free".to_owned()), Some("search".to_owned())));
    assert_eq!((tenant.role, expires), (Role::Operator, NOW + 300));
    // Without an id the only key there is is meant; of several, none is tried out.
    let without = sign(&key, None, &claims());
    assert!(set(&[&public]).verify(&without, &rules(), NOW).is_ok());
    assert_eq!(set(&[&public, &signer("b").1]).verify(&without, &rules(), NOW), Err(BadToken::UnknownKey));
}

#[test]
fn claims_have_to_be_there_and_right() {
    let (key, public) = signer("a");
    let keys = set(&[&public]);
    let claim = |name: &str| Err(BadToken::Claim(name.to_owned()));
    for (name, value, verdict) in [
        ("exp", json!(NOW - 61), Err(BadToken::Expired)),
        ("exp", json!(NOW - 59), Ok(())),
        ("exp", Value::Null, claim("exp")),
        ("exp", json!("soon"), claim("exp")),
        ("nbf", json!(NOW + 61), Err(BadToken::TooEarly)),
        ("nbf", Value::Null, Ok(())),
        ("iss", json!("https://id.example.com"), Err(BadToken::Elsewhere)),
        ("iss", Value::Null, Err(BadToken::Elsewhere)),
        ("aud", json!("stepwell"), Ok(())),
        ("aud", json!("stepwell2"), Err(BadToken::Elsewhere)),
        ("aud", json!([]), Err(BadToken::Elsewhere)),
        ("aud", Value::Null, Err(BadToken::Elsewhere)),
        ("sub", Value::Null, claim("sub")),
        ("sub", json!(7), claim("sub")),
        ("email", Value::Null, Ok(())),
        ("email", json!("a\nb"), claim("email")),
        ("tier", Value::Null, Ok(())),
        ("tier", json!(["free"]), claim("tier")),
        ("role", json!("emperor"), claim("role")),
        ("role", Value::Null, Ok(())),
    ] {
        let result = keys.verify(&sign(&key, Some("a"), &with(name, value.clone())), &rules(), NOW);
        assert_eq!(result.map(|_| ()), verdict, "{name}: {value}");
    }
}

#[test]
fn signatures_have_to_be_by_a_published_key_in_its_own_algorithm() {
    let ((key, public), (other, _)) = (signer("a"), signer("a"));
    let keys = set(&[&public]);
    assert_eq!(keys.verify(&sign(&other, Some("a"), &claims()), &rules(), NOW), Err(BadToken::Signature));
    assert_eq!(keys.verify(&sign(&key, Some("b"), &claims()), &rules(), NOW), Err(BadToken::UnknownKey));
    let raw = |header: Value| {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.{}", part(&header), part(&claims()), URL_SAFE_NO_PAD.encode("signature"))
    };
    for alg in ["none", "None", "", "HS256", "HS512", "ES512", "RS1"] {
        assert_eq!(
            keys.verify(&raw(json!({"alg": alg, "kid": "a"})), &rules(), NOW),
            Err(BadToken::Algorithm),
            "{alg}"
        );
    }
    // Another kind of algorithm than the key's, and a token that wants to be understood in ways that we do not know.
    assert_eq!(keys.verify(&raw(json!({"alg": "RS256", "kid": "a"})), &rules(), NOW), Err(BadToken::UnknownKey));
    let critical = raw(json!({"alg": "ES256", "kid": "a", "crit": ["b64"], "b64": false}));
    assert_eq!(keys.verify(&critical, &rules(), NOW), Err(BadToken::Malformed));
    // The public key as a shared secret: the classic confusion.
    let secret = EncodingKey::from_secret(public["x"].as_str().expect("text").as_bytes());
    let confused = encode(&Header { kid: Some("a".to_owned()), ..Header::default() }, &claims(), &secret);
    assert_eq!(keys.verify(&confused.expect("a token"), &rules(), NOW), Err(BadToken::Algorithm));
    // Keys for encryption, secret keys and unknown kinds are no keys.
    let mut encrypts = public.clone();
    encrypts["use"] = json!("enc");
    let shared = json!({"kty": "oct", "kid": "a", "k": "c2VjcmV0"});
    assert!(set(&[&encrypts, &shared, &json!({"kty": "LATTICE"}), &json!(7)]).is_empty());
}

proptest! {
    /// No text makes it panic, and none is good but what was signed.
    #[test]
    fn any_change_makes_it_bad(at in 0usize..1000, to in any::<char>(), text in ".{0,60}") {
        let (key, public) = signer("a");
        let keys = set(&[&public]);
        let token = sign(&key, Some("a"), &claims());
        let mut changed: Vec<char> = token.chars().collect();
        let at = at % changed.len();
        prop_assume!(changed[at] != to);
        changed[at] = to;
        let changed: String = changed.into_iter().collect();
        // The last character of a base64 part may have bits that mean nothing.
        let same = |text: &str| text.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).ok()).collect::<Vec<_>>();
        prop_assert!(keys.verify(&changed, &rules(), NOW).is_err() || same(&changed) == same(&token));
        prop_assert!(keys.verify(&text, &rules(), NOW).is_err());
    }
}
