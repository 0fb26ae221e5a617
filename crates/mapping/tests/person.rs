//! Whom a verified ID token makes, and why it makes nobody (authentication spec, section 9.3).
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helper functions of tests"
)]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use countersign_mapping::{CREDENTIAL_ID, KubernetesIdentity, PersonRefused, PersonRules};
use countersign_oidc::{Algorithm, KeySet, SigningKey, UnverifiedIdToken};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

const ISSUER: &str = "https://id.example";
const NOW: i64 = 1_800_000_000;

static KEY: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::generate(Algorithm::Es256).unwrap());

/// What a config says; `null` is what was not given.
fn verdict(config: &Value, claims: &Value) -> Result<KubernetesIdentity, PersonRefused> {
    let mut all = json!({
        "iss": ISSUER, "sub": "1234", "aud": "kubernetes", "exp": NOW + 60,
        "email": "ana@example.com", "groups": ["dev", "ops"],
    });
    for (name, value) in claims.as_object().unwrap() {
        // `"-"` takes a claim away.
        if value == "-" {
            all.as_object_mut().unwrap().remove(name);
        } else {
            all[name] = value.clone();
        }
    }
    let token = KEY.sign(&all).unwrap();
    let token = UnverifiedIdToken::parse(&token).unwrap();
    let keys = KeySet::of([KEY.public().clone()]).unwrap();
    let text = |name: &str| config[name].as_str();
    let required: BTreeMap<Box<str>, Box<str>> = config["required"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.as_str().into(), value.as_str().unwrap().into()))
        .collect();
    let rules = PersonRules {
        issuer_url: text("issuer").unwrap_or(ISSUER),
        client_id: "kubernetes",
        username_claim: text("claim"),
        username_prefix: text("prefix"),
        groups_claim: text("groups"),
        groups_prefix: text("groupsPrefix"),
        required_claims: &required,
    };
    let now = Timestamp::from_second(NOW).unwrap();
    rules.user(token.verify(&keys).unwrap(), now)
}

#[test]
fn names_and_groups_are_those_of_kube_apiserver() {
    for (config, claims, username, groups) in [
        (json!({}), json!({}), "https://id.example#1234", json!([])),
        (json!({"prefix": "-"}), json!({}), "1234", json!([])),
        (
            json!({"prefix": "corp:"}),
            json!({}),
            "corp:1234",
            json!([]),
        ),
        (
            json!({"claim": "email"}),
            json!({}),
            "ana@example.com",
            json!([]),
        ),
        (
            json!({"claim": "email", "prefix": "x"}),
            json!({}),
            "xana@example.com",
            json!([]),
        ),
        (
            json!({"claim": "name"}),
            json!({"name": "Ana"}),
            "https://id.example#Ana",
            json!([]),
        ),
        (
            json!({"claim": "email"}),
            json!({"email_verified": true}),
            "ana@example.com",
            json!([]),
        ),
        // What the address is verified for does not matter when it is not the username.
        (
            json!({}),
            json!({"email_verified": false}),
            "https://id.example#1234",
            json!([]),
        ),
        (
            json!({"prefix": "-", "groups": "groups"}),
            json!({}),
            "1234",
            json!(["dev", "ops"]),
        ),
        (
            json!({"prefix": "-", "groups": "groups", "groupsPrefix": "g:"}),
            json!({}),
            "1234",
            json!(["g:dev", "g:ops"]),
        ),
        (
            json!({"prefix": "-", "groups": "groups"}),
            json!({"groups": "dev"}),
            "1234",
            json!(["dev"]),
        ),
        (
            json!({"prefix": "-", "groups": "groups"}),
            json!({"groups": []}),
            "1234",
            json!([]),
        ),
        (
            json!({"prefix": "-", "groups": "roles"}),
            json!({}),
            "1234",
            json!([]),
        ),
        // Nobody is asked for groups that are elsewhere.
        (
            json!({"prefix": "-", "groups": "groups"}),
            json!({"groups": "-", "_claim_names": {"groups": "a"}, "_claim_sources": {"a": {"endpoint": "https://evil.example"}}}),
            "1234",
            json!([]),
        ),
        (
            json!({"prefix": "-", "required": {"hd": "corp"}}),
            json!({"hd": "corp"}),
            "1234",
            json!([]),
        ),
        (
            json!({"prefix": "-"}),
            json!({"aud": ["other", "kubernetes"]}),
            "1234",
            json!([]),
        ),
        (
            json!({"prefix": "-"}),
            json!({"iat": NOW + 5000, "nbf": NOW + 60}),
            "1234",
            json!([]),
        ),
        (
            json!({"prefix": "-"}),
            json!({"exp": 1.800000001e9}),
            "1234",
            json!([]),
        ),
        (
            json!({"prefix": "-", "issuer": "https://accounts.google.com"}),
            json!({"iss": "accounts.google.com"}),
            "1234",
            json!([]),
        ),
        // `system` is a name like others without its colon.
        (
            json!({"prefix": "-"}),
            json!({"sub": "system"}),
            "system",
            json!([]),
        ),
        (
            json!({"groups": "groups", "groupsPrefix": "x:"}),
            json!({"groups": ["system:masters"]}),
            "https://id.example#1234",
            json!(["x:system:masters"]),
        ),
    ] {
        let user = verdict(&config, &claims).unwrap_or_else(|e| panic!("{config} {claims}: {e}"));
        assert_eq!(user.username, username, "{config} {claims}");
        assert_eq!(json!(user.groups), groups, "{config} {claims}");
        assert!(user.uid.is_empty() && user.extra.is_empty() && !user.scrubbed);
    }
    let user = verdict(&json!({}), &json!({"jti": "t-1"})).unwrap();
    assert_eq!(user.extra(CREDENTIAL_ID), Some("JTI=t-1"));
}

#[test]
fn everybody_else_is_refused_with_the_reason() {
    let none = json!({});
    let groups = json!({"groups": "groups"});
    let plain = json!({"prefix": "-", "groups": "groups"});
    let email = json!({"claim": "email"});
    let required = json!({"required": {"hd": "corp"}});
    for (config, claims, code) in [
        (&none, json!({"iss": "https://id.example/"}), "oidc_issuer"),
        (&none, json!({"iss": "https://ID.example"}), "oidc_issuer"),
        (&none, json!({"iss": "accounts.google.com"}), "oidc_issuer"),
        (&none, json!({"aud": "-"}), "oidc_audience"),
        (&none, json!({"aud": "kubernetes2"}), "oidc_audience"),
        (&none, json!({"aud": []}), "oidc_audience"),
        (&none, json!({"aud": ["kubernetes", 1]}), "oidc_audience"),
        (&none, json!({"aud": {"kubernetes": true}}), "oidc_audience"),
        // `azp` is not an audience.
        (
            &none,
            json!({"aud": "other", "azp": "kubernetes"}),
            "oidc_audience",
        ),
        (&none, json!({"exp": "-"}), "oidc_no_expiry"),
        (&none, json!({"exp": "1900000000"}), "oidc_no_expiry"),
        (&none, json!({"exp": 1e300}), "oidc_no_expiry"),
        (&none, json!({"exp": NOW}), "oidc_expired"),
        (&none, json!({"exp": -1}), "oidc_expired"),
        (&none, json!({"nbf": NOW + 61}), "oidc_not_yet_valid"),
        (&none, json!({"nbf": "soon"}), "oidc_not_yet_valid"),
        (&none, json!({"sub": "-"}), "oidc_username"),
        (&none, json!({"sub": ""}), "oidc_username"),
        (&none, json!({"sub": 1234}), "oidc_username"),
        (&none, json!({"sub": "a\nb"}), "oidc_username"),
        (&email, json!({"email": "-"}), "oidc_username"),
        (
            &email,
            json!({"email_verified": false}),
            "oidc_email_not_verified",
        ),
        (
            &email,
            json!({"email_verified": "true"}),
            "oidc_email_not_verified",
        ),
        (
            &email,
            json!({"email_verified": null}),
            "oidc_email_not_verified",
        ),
        (&groups, json!({"groups": 1}), "oidc_groups"),
        (&groups, json!({"groups": null}), "oidc_groups"),
        (&groups, json!({"groups": ["dev", 1]}), "oidc_groups"),
        (&groups, json!({"groups": {"dev": true}}), "oidc_groups"),
        (&groups, json!({"groups": ["a\u{0}"]}), "oidc_groups"),
        (&required, json!({}), "oidc_required_claim"),
        (&required, json!({"hd": "Corp"}), "oidc_required_claim"),
        (&required, json!({"hd": ["corp"]}), "oidc_required_claim"),
        (
            &plain,
            json!({"sub": "system:admin"}),
            "oidc_reserved_username",
        ),
        (
            &plain,
            json!({"sub": "system:node:n1", "groups": ["system:nodes"]}),
            "oidc_reserved_username",
        ),
        (
            &plain,
            json!({"groups": ["dev", "system:masters"]}),
            "oidc_reserved_group",
        ),
        (
            &plain,
            json!({"groups": "system:masters"}),
            "oidc_reserved_group",
        ),
        (
            &plain,
            json!({"groups": ["countersign:entry:0"]}),
            "oidc_reserved_group",
        ),
        (
            &json!({"prefix": "-", "groups": "groups", "groupsPrefix": "sys"}),
            json!({"groups": ["tem:masters"]}),
            "oidc_reserved_group",
        ),
        (
            &json!({"claim": "email", "prefix": "sys"}),
            json!({"email": "tem:x"}),
            "oidc_reserved_username",
        ),
    ] {
        match verdict(config, &claims) {
            Err(refused) => assert_eq!(refused.code(), code, "{config} {claims}: {refused}"),
            Ok(user) => panic!("{config} {claims}: {user:?}"),
        }
    }
}

/// Parts of names that could make a reserved one together.
fn part() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "",
        "-",
        "s",
        "sys",
        "system",
        "system:",
        "tem:masters",
        "em",
        ":",
        "masters",
        "countersign:",
        "entry:1",
        "dev",
        "SYSTEM:",
        "\u{0}",
        "\u{feff}system:",
    ])
    .prop_map(str::to_owned)
}

proptest! {
    #[test]
    fn nobody_is_called_what_is_reserved(
        prefix in proptest::option::of(part()),
        groups_prefix in proptest::option::of(part()),
        name in part(),
        groups in proptest::collection::vec(part(), 0..3),
    ) {
        let config = json!({"prefix": prefix, "groups": "groups", "groupsPrefix": groups_prefix});
        let claims = json!({"sub": format!("{name}."), "groups": groups});
        if let Ok(user) = verdict(&config, &claims) {
            let names = user.groups.iter().chain([&user.username]);
            for name in names {
                prop_assert!(!name.starts_with("system:") && !name.starts_with("countersign:entry:"));
                let clean = !name.contains('\0') || prefix.is_some() || groups_prefix.is_some();
                prop_assert!(clean);
            }
            // What is said of one group is said of all.
            prop_assert_eq!(user.groups.len(), groups.len());
            let prefix = groups_prefix.unwrap_or_default();
            let all_alike = user
                .groups
                .iter()
                .zip(&groups)
                .all(|(made, claimed)| *made == format!("{prefix}{claimed}"));
            prop_assert!(all_alike);
        }
    }
}
