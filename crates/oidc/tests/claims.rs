//! Tags, source identity, roles and condition keys of a token (IRSA spec, sections 6.4 and 6.5).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use common::*;
use countersign_oidc::{ConditionKey, KeyValue, TimeRules, TokenError, UnverifiedToken};
use serde_json::{Value, json};

const TAGS: &str = "https://aws.amazon.com/tags";

fn parse(claims: &Value) -> Result<countersign_oidc::AwsClaims, TokenError> {
    let text = signed(claims);
    UnverifiedToken::parse(&text).map(|token| token.unverified_claims().aws.clone())
}

#[test]
fn tags_come_in_two_forms() {
    let nested =
        json!({"principal_tags": {"team": ["blue"], "cost": "7"}, "transitive_tag_keys": ["team"]});
    let flat = json!({
        "https://aws.amazon.com/tags/principal_tags/team": ["blue"],
        "https://aws.amazon.com/tags/principal_tags/cost": "7",
        "https://aws.amazon.com/tags/transitive_tag_keys": ["team"],
    });
    for form in [json!({ TAGS: nested }), flat] {
        let aws = parse(&with(claims(), form)).unwrap();
        let tags: Vec<_> = aws
            .principal_tags
            .iter()
            .map(|tag| (&*tag.key, &*tag.value))
            .collect();
        assert_eq!(tags, [("cost", "7"), ("team", "blue")]);
        assert_eq!(aws.transitive_tag_keys, ["team".into()]);
    }
    let both = json!({
        TAGS: {"principal_tags": {"team": ["blue"]}},
        "https://aws.amazon.com/tags/principal_tags/team": "red",
    });
    assert_eq!(
        parse(&with(claims(), both)).unwrap().principal_tags.len(),
        2
    );
    assert_eq!(
        parse(&claims()).unwrap(),
        countersign_oidc::AwsClaims::default()
    );
}

#[test]
fn tags_of_another_form_refuse_the_token() {
    let of_key = "The claim https://aws.amazon.com/tags must be one text or a list of exactly one text for each key of principal_tags";
    let cases = [
        (
            json!("blue"),
            "The claim https://aws.amazon.com/tags must be an object",
        ),
        (
            json!({"principal_tags": ["team"]}),
            "The claim https://aws.amazon.com/tags must be an object with an object principal_tags",
        ),
        (json!({"principal_tags": {"team": []}}), of_key),
        (json!({"principal_tags": {"team": ["a", "b"]}}), of_key),
        (json!({"principal_tags": {"team": [1]}}), of_key),
        (json!({"principal_tags": {"team": null}}), of_key),
        (
            json!({"transitive_tag_keys": [1]}),
            "The claim transitive_tag_keys must be a text or a list of texts",
        ),
    ];
    for (tags, text) in cases {
        let error = parse(&with(claims(), json!({ TAGS: tags }))).unwrap_err();
        assert_eq!(error.message(), text);
    }
    let source = json!({"https://aws.amazon.com/source_identity": ["alice"]});
    assert!(parse(&with(claims(), source)).is_err());
}

#[test]
fn roles_of_the_token_limit_what_it_is_for() {
    let role = "arn:aws:iam::111122223333:role/team/Dev";
    let refused = "The target role ARN is not present in the roles claim of the identity token";
    let cases = [
        (None, Ok(false)),
        (Some(json!(role)), Ok(true)),
        (
            Some(json!(["arn:aws:iam::111122223333:role/Other", role])),
            Ok(true),
        ),
        (Some(json!([])), Err(refused)),
        (
            Some(json!("arn:aws:iam::111122223333:role/team/*")),
            Err(refused),
        ),
        (
            Some(json!("arn:aws:iam::111122223333:role/team/dev")),
            Err(refused),
        ),
    ];
    for (claim, expected) in cases {
        let of = match &claim {
            None => claims(),
            Some(claim) => with(claims(), json!({"https://aws.amazon.com/roles": claim})),
        };
        let told = parse(&of).unwrap().authorize_role(role);
        let told = told.map_err(|error| error.message().into_owned());
        assert_eq!(
            told.as_ref().copied().map_err(String::as_str),
            expected,
            "{claim:?}"
        );
    }
}

#[test]
fn condition_keys_carry_the_prefix_of_the_provider() {
    let one = |name: &str, value: &str| ConditionKey {
        name: name.into(),
        value: KeyValue::One(value.into()),
    };
    let base = |aud: &str| {
        vec![
            one("issuer.example/id/1:aud", aud),
            one(
                "issuer.example/id/1:sub",
                "system:serviceaccount:orchard:picker",
            ),
        ]
    };
    let kubernetes = json!({"namespace": "orchard", "serviceaccount": {"name": "picker", "uid": "1"}, "pod": {"name": "picker-0", "uid": "2"}});
    let cases: Vec<(Value, bool, Vec<ConditionKey>)> = vec![
        (json!({}), false, vec![]),
        (
            json!({"azp": "sts.amazonaws.com", "aud": "web"}),
            false,
            vec![one("issuer.example/id/1:oaud", "web")],
        ),
        (
            json!({"azp": "sts.amazonaws.com", "aud": ["web", "app"]}),
            false,
            vec![],
        ),
        (json!({"kubernetes.io": kubernetes}), false, vec![]),
        (
            json!({"kubernetes.io": kubernetes}),
            true,
            vec![
                one("issuer.example/id/1:kubernetes.io/namespace", "orchard"),
                one(
                    "issuer.example/id/1:kubernetes.io/serviceaccount/name",
                    "picker",
                ),
                one("issuer.example/id/1:kubernetes.io/pod/name", "picker-0"),
            ],
        ),
        (
            json!({"amr": ["pwd", "mfa"], "email": "not a key"}),
            true,
            vec![ConditionKey {
                name: "issuer.example/id/1:amr".into(),
                value: KeyValue::Many(vec!["pwd".into(), "mfa".into()]),
            }],
        ),
    ];
    for (more, with_kubernetes, expected) in cases {
        let text = signed(&with(claims(), more.clone()));
        let token = UnverifiedToken::parse(&text).unwrap();
        let keys = keys();
        let verified = token.verify(&keys).unwrap();
        let accepted = verified
            .accept(&["sts.amazonaws.com"], TimeRules::default(), at(NOW))
            .unwrap();
        let told = accepted.condition_keys("issuer.example/id/1", with_kubernetes);
        assert_eq!(
            told,
            [base("sts.amazonaws.com"), expected].concat(),
            "{more}"
        );
    }
}

#[test]
fn texts_and_codes_of_what_the_service_finds_are_those_of_aws() {
    let issuer = || Box::from("https://h");
    let cases = [
        (
            TokenError::NoProvider { issuer: issuer() },
            "InvalidIdentityToken",
            "No OpenIDConnect provider found in your account for https://h",
        ),
        (
            TokenError::IssuerUnreachable { issuer: issuer() },
            "IDPCommunicationError",
            "The identity provider could not be reached to verify the identity token",
        ),
        (
            TokenError::IssuerUnusable { issuer: issuer() },
            "InvalidIdentityToken",
            "Couldn't retrieve verification key from your identity provider,  please reference AssumeRoleWithWebIdentity documentation for requirements",
        ),
        (
            TokenError::IssuerUntrusted { issuer: issuer() },
            "InvalidIdentityToken",
            "OpenIDConnect provider's HTTPS certificate doesn't match configured thumbprint",
        ),
        (
            TokenError::Expired { expires: 1, now: 2 },
            "ExpiredTokenException",
            "Token expired: current date/time 2 must be before the expiration date/time 1",
        ),
        (
            TokenError::TooOld { issued: 1, now: 2 },
            "ExpiredTokenException",
            "Token too old: current date/time 2, issued at date/time 1",
        ),
        (
            TokenError::OwnToken,
            "InvalidIdentityToken",
            "Tokens from GetWebIdentityToken cannot be exchanged for credentials",
        ),
    ];
    for (error, code, text) in cases {
        assert_eq!((error.code().as_str(), &*error.message()), (code, text));
    }
}
