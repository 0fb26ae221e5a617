//! The fuzz entry points over seeds and two thousand mutations.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use common::*;
use countersign_oidc::fuzz;
use proptest::prelude::*;
use serde_json::json;

fn run(target: fn(&[u8]), seeds: &[Vec<u8>], alphabet: &str) {
    let pieces = countersign_mutation::characters(alphabet);
    countersign_mutation::run(target, seeds, &pieces, 2000);
}

#[test]
fn hostile_tokens_are_refused() {
    let seeds = [
        token().into(),
        signed(&claims()).into_bytes(),
        b"..".to_vec(),
    ];
    run(fuzz::token, &seeds, "AZaz09-_.=");
}

#[test]
fn hostile_claims_are_refused() {
    let rich = with(
        claims(),
        json!({
            "azp": "sts.amazonaws.com", "amr": ["a"], "kubernetes.io": {"namespace": "n", "serviceaccount": {"name": "s"}},
            "https://aws.amazon.com/tags": {"principal_tags": {"a": ["b"]}, "transitive_tag_keys": ["a"]},
            "https://aws.amazon.com/roles": ["arn:aws:iam::111122223333:role/Dev"], "iat": 0, "exp": 100, "nbf": 0,
        }),
    );
    let seeds = [
        claims().to_string().into_bytes(),
        rich.to_string().into_bytes(),
    ];
    run(fuzz::claims, &seeds, r#"{}[]",:0-9e.\nu"#);
}

#[test]
fn hostile_documents_are_refused() {
    let keys = json!({"keys": [with(RSA.jwk(), json!({"kid": "a"})), P384.jwk()]});
    let discovery =
        json!({"issuer": "https://issuer.example", "jwks_uri": "https://issuer.example/keys"});
    let stored =
        countersign_oidc::SigningKey::generate(countersign_oidc::Algorithm::Es256).unwrap();
    let stored = countersign_oidc::IssuerKeys::default()
        .rotated(stored.into(), countersign_oidc::Schedule::OUTBOUND, at(NOW))
        .unwrap();
    let seeds = [
        keys.to_string().into_bytes(),
        discovery.to_string().into_bytes(),
        RSA_PEM.as_bytes().to_vec(),
        stored.encode().unwrap().to_vec(),
        b"https://issuer.example:8443/x/y".to_vec(),
    ];
    run(fuzz::documents, &seeds, r#"{}[]",:0-9e.\nuAZ/@#?"#);
}

proptest! {
    /// The strict reader and serde_json agree on every text without equal members.
    #[test]
    fn claims_of_any_names_are_read_like_any_json(members in prop::collection::btree_map("[a-z:/.]{1,12}", "\\PC{0,20}", 0..8)) {
        let mut all = claims();
        for (name, value) in &members {
            if all.get(name).is_none() {
                all = with(all, json!({name: value}));
            }
        }
        let read = outcome(&signed(&all), &keys(), &["sts.amazonaws.com"], NOW);
        let named = ["azp", "amr"].iter().any(|name| members.contains_key(*name));
        prop_assert!(read.is_ok() || named);
    }
}
