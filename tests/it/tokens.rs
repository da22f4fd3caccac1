//! Tokens of an identity provider, with a provider of our own that changes its keys.

use futures_util::future::join_all;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::support::app::ask;
use crate::support::process::until;
use crate::support::upstream::{raw, status};
use crate::support::{App, Upstream, app, upstream};

const TRUSTING: &str = "
providers: { one: { format: openai, base_url: '{0}', models: [ { id: m1, price: { input: 1, output: 2 } } ] } }
auth: { required: always, jwt: { issuer: the-issuer, audience: stepwell, jwks_url: '{1}/keys', tier_claim: tier, team_claim: team, role_claim: role } }
tiers: { free: { requests_per_minute: 2 } }
cache: { enabled: false }
";

/// One of the issuer's keys.
struct Signer {
    id: String,
    key: EncodingKey,
    public: Value,
}

fn signer(id: &str) -> Signer {
    let pair = rcgen::KeyPair::generate().expect("a key");
    let key = EncodingKey::from_ec_der(&pair.serialize_der());
    let mut public = Jwk::from_encoding_key(&key, Algorithm::ES256).expect("a public key");
    public.common.key_id = Some(id.to_owned());
    Signer { id: id.to_owned(), key, public: serde_json::to_value(public).expect("JSON") }
}

impl Signer {
    fn token(&self, more: Value) -> String {
        let expires = jiff::Timestamp::now().as_second() + 300;
        let mut claims = json!({"iss": "the-issuer", "aud": "stepwell", "sub": "ann", "exp": expires});
        for (name, value) in more.as_object().expect("a map") {
            claims[name] = value.clone();
        }
        let header = Header { kid: Some(self.id.clone()), ..Header::new(Algorithm::ES256) };
        encode(&header, &claims, &self.key).expect("a token")
    }
}

fn publish(issuer: &Upstream, keys: &[&Signer]) {
    let keys: Vec<_> = keys.iter().map(|signer| &signer.public).collect();
    issuer.always(raw(200, "application/json", json!({"keys": keys}).to_string()));
}

async fn trusting(first: &Signer) -> (App, Upstream, Upstream) {
    let (one, issuer) = (upstream().await, upstream().await);
    publish(&issuer, &[first]);
    (app(TRUSTING, &[&one, &issuer]).await, one, issuer)
}

#[tokio::test]
async fn a_token_is_as_good_as_a_key_and_its_claims_say_tier_team_and_role() {
    let first = signer("first");
    let (app, one, _issuer) = trusting(&first).await;
    let token = first.token(json!({"tier": "free", "team": "search"}));
    let (status, headers, body) = app.chat_as(&token, &ask("hi")).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(headers["x-ratelimit-remaining-requests"], "1");
    let operator = first.token(json!({"sub": "bob", "role": "operator"}));
    let (_, row) =
        app.get_as(&operator, &format!("/v1/requests/{}", headers["x-request-id"].to_str().expect("text"))).await;
    assert_eq!((&row["key"], &row["team"], &row["tier"]), (&json!("jwt:ann"), &json!("search"), &json!("free")));
    // Another token of the same person has the same limits.
    let again = first.token(json!({"tier": "free", "team": "search", "jti": "2"}));
    assert_eq!(app.chat_as(&again, &ask("hi")).await.0, 200);
    assert_eq!(app.chat_as(&token, &ask("hi")).await.0, 429);
    assert_eq!(one.count(), 2);
    assert_eq!(app.get_as(&token, "/gateway/status").await.0, 403);
    assert_eq!(app.get_as(&operator, "/gateway/status").await.0, 200);
    for (more, said) in [
        (json!({"exp": 1_000_000_000}), "expired"),
        (json!({"aud": "other"}), "another audience"),
        (json!({"tier": 7}), "claim `tier`"),
    ] {
        let (status, _, refused) = app.chat_as(&first.token(more), &ask("hi")).await;
        assert_eq!(status, 401);
        assert!(refused["error"]["message"].as_str().is_some_and(|text| text.contains(said)), "{refused}");
    }
    assert_eq!(app.chat_as(&first.token(json!({"tier": "gold"})), &ask("hi")).await.0, 403, "no tier of that name");
}

#[tokio::test]
async fn a_new_key_of_the_issuer_is_fetched_when_it_is_needed_and_a_flood_of_unknown_ones_is_not() {
    let (first, second) = (signer("first"), signer("second"));
    let (app, _one, issuer) = trusting(&first).await;
    let get = |token: String| {
        let app = &app;
        async move { app.get_as(&token, "/v1/models").await.0 }
    };
    until("the first key is known", async || get(first.token(json!({}))).await == 200).await;
    let before = issuer.count();
    publish(&issuer, &[&first, &second]);
    // All that come meanwhile wait for the one fetch.
    let all = join_all((0..10).map(|_| get(second.token(json!({}))))).await;
    assert_eq!(all, [200; 10]);
    assert_eq!(issuer.count() - before, 1);
    let strangers = join_all((0..50).map(|number| get(signer(&format!("stranger-{number}")).token(json!({}))))).await;
    assert!(strangers.iter().all(|status| *status == 401));
    assert_eq!(issuer.count() - before, 1, "not again so soon");
    assert_eq!(get(first.token(json!({}))).await, 200);
}

#[tokio::test]
async fn an_issuer_that_fails_leaves_its_keys_in_force() {
    let first = signer("first");
    let (app, _one, issuer) = trusting(&first).await;
    until("the key is known", async || app.get_as(&first.token(json!({})), "/v1/models").await.0 == 200).await;
    issuer.always(status(500));
    let stranger = signer("stranger").token(json!({}));
    assert_eq!(app.get_as(&stranger, "/v1/models").await.0, 401);
    assert_eq!(app.get_as(&first.token(json!({"jti": "new"})), "/v1/models").await.0, 200);
}
