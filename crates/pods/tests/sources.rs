//! What is known about accounts: annotations, the ConfigMap, the identities file (webhook spec, section 3).
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

use countersign_pods::*;

#[test]
fn annotations_are_read_with_their_prefix_only() {
    let read = |pairs: &[(&str, &str)]| {
        AccountSettings::from_annotations("eks.amazonaws.com", pairs.iter().copied())
    };
    let cases: &[(&str, &str, AccountSettings)] = &[
        (
            "eks.amazonaws.com/role-arn",
            "r",
            AccountSettings {
                role_arn: Some("r".into()),
                ..Default::default()
            },
        ),
        ("eks.amazonaws.com/role-arn", "", AccountSettings::default()),
        (
            "eks.amazonaws.com/audience",
            "a",
            AccountSettings {
                audience: Some("a".into()),
                ..Default::default()
            },
        ),
        ("eks.amazonaws.com/audience", "", AccountSettings::default()),
        (
            "iam.amazonaws.com/role-arn",
            "r",
            AccountSettings::default(),
        ),
        ("role-arn", "r", AccountSettings::default()),
        ("eks.amazonaws.comrole-arn", "r", AccountSettings::default()),
        (
            "eks.amazonaws.com/Role-ARN",
            "r",
            AccountSettings::default(),
        ),
        (
            "eks.amazonaws.com/token-expiration",
            "+7",
            AccountSettings {
                token_expiration: Given::Value(7),
                ..Default::default()
            },
        ),
        (
            "eks.amazonaws.com/token-expiration",
            " 7",
            AccountSettings {
                token_expiration: Given::Unreadable(" 7".into()),
                ..Default::default()
            },
        ),
        (
            "eks.amazonaws.com/token-expiration",
            "9223372036854775808",
            AccountSettings {
                token_expiration: Given::Unreadable("9223372036854775808".into()),
                ..Default::default()
            },
        ),
        (
            "eks.amazonaws.com/expect-association",
            "true",
            AccountSettings {
                expects_association: true,
                ..Default::default()
            },
        ),
        (
            "eks.amazonaws.com/role-arn.writer",
            "w",
            AccountSettings {
                profiles: [("writer".into(), "w".into())].into(),
                ..Default::default()
            },
        ),
        (
            "eks.amazonaws.com/expect-association",
            "yes",
            AccountSettings::default(),
        ),
    ];
    for (name, value, expected) in cases {
        let settings = read(&[(name, value)]);
        assert_eq!(&settings, expected, "{name}={value}");
        assert_eq!(settings.is_empty(), *expected == AccountSettings::default());
    }
    for (text, expected) in [
        ("1", Some(true)),
        ("t", Some(true)),
        ("T", Some(true)),
        ("TRUE", Some(true)),
        ("true", Some(true)),
        ("True", Some(true)),
        ("0", Some(false)),
        ("f", Some(false)),
        ("F", Some(false)),
        ("FALSE", Some(false)),
        ("false", Some(false)),
        ("False", Some(false)),
        ("", None),
        ("yes", None),
        ("tRUE", None),
        (" true", None),
    ] {
        let settings = read(&[("eks.amazonaws.com/sts-regional-endpoints", text)]);
        let expected = expected.map_or_else(|| Given::Unreadable(text.into()), Given::Value);
        assert_eq!(settings.regional_sts, expected, "{text:?}");
    }
}

#[test]
fn a_role_map_finds_the_exact_key_before_the_longest_pattern() {
    let (map, refused) = RoleMap::parse(
        r#"{"orchard/picker":{"RoleARN":"exact"},"*/picker":{"RoleARN":"any-namespace"},
            "test-*/picker":{"RoleARN":"test"},"test-a*/picker":{"rolearn":"longer"},
            "orchard/*":{"RoleARN":"any-name"},"orchard/none":{"TokenExpiration":900},
            "nokey":{"RoleARN":"x"},"/picker":{},"a/b/c":{},"orchard/":{}}"#,
    )
    .unwrap();
    let mut keys: Vec<_> = refused
        .iter()
        .map(|(key, error)| (key.as_str(), *error))
        .collect();
    keys.sort_by_key(|(key, _)| *key);
    let form = |key| (key, KeyError::Form);
    assert_eq!(
        keys,
        [
            form("/picker"),
            form("a/b/c"),
            form("nokey"),
            form("orchard/")
        ]
    );
    let cases = [
        ("orchard", "picker", Some((Some("exact"), true))),
        ("lichen", "picker", Some((Some("any-namespace"), false))),
        ("test-b", "picker", Some((Some("test"), false))),
        ("test-ab", "picker", Some((Some("longer"), false))),
        ("test-b", "other", None),
        ("orchard", "other", Some((Some("any-name"), false))),
        // An exact key without a role gives none, and hides the pattern.
        ("orchard", "none", Some((None, true))),
        ("Orchard", "picker", Some((Some("any-namespace"), false))),
        ("orchard/x", "picker", None),
        ("", "picker", Some((Some("any-namespace"), false))),
    ];
    for (namespace, account, expected) in cases {
        let found = map.find(namespace, account);
        let found = found.map(|found| (found.value.role_arn.as_deref(), found.is_exact));
        assert_eq!(found, expected, "{namespace}/{account}");
    }
    assert_eq!(map.len(), 6);
}

#[test]
fn entries_of_a_role_map_are_read_as_the_reference_reads_them() {
    let entry = |text: &str| {
        let (map, _) = RoleMap::parse(&format!(r#"{{"a/b":{text}}}"#)).ok()?;
        map.find("a", "b").map(|found| found.value.clone())
    };
    let full = RoleMapEntry {
        role_arn: Some("r".into()),
        audience: Some("a".into()),
        regional_sts: Some(false),
        token_expiration: Some(-3),
    };
    let cases = [
        ("{}", Some(RoleMapEntry::default())),
        (
            r#"{"RoleARN":"r","Audience":"a","UseRegionalSTS":false,"TokenExpiration":-3}"#,
            Some(full.clone()),
        ),
        (
            r#"{"rolearn":"r","AUDIENCE":"a","useRegionalSts":false,"tokenExpiration":-3,"Other":[{}]}"#,
            Some(full),
        ),
        (
            r#"{"RoleARN":"","Audience":"","UseRegionalSTS":null,"TokenExpiration":0}"#,
            Some(RoleMapEntry::default()),
        ),
        (r#"{"RoleARN":"r","rolearn":"s"}"#, None),
        (r#"{"RoleARN":7}"#, None),
        (r#"{"TokenExpiration":"900"}"#, None),
        (r#"{"TokenExpiration":1.5}"#, None),
        ("[]", None),
        ("null", None),
    ];
    for (text, expected) in cases {
        assert_eq!(entry(text), expected, "{text}");
    }
    for broken in ["", "[]", "{", "null", r#"{"a/b":{},"a/b":{}}"#, "{} x"] {
        assert!(
            matches!(RoleMap::parse(broken), Err(SourceError::Malformed(_))),
            "{broken}"
        );
    }
    let large = format!("{{}}{}", " ".repeat(MAX_SOURCE_BYTES));
    assert!(matches!(
        RoleMap::parse(&large),
        Err(SourceError::TooLarge(_))
    ));
    let secret = RoleMap::parse(r#"{"a/b":"SECRET"}"#).unwrap_err();
    assert!(!secret.to_string().contains("SECRET"), "{secret}");
}

#[test]
fn an_identities_file_names_accounts_exactly() {
    let file = r#"{"identities":[{"namespace":"orchard","serviceAccount":"picker"},{"Namespace":"*","serviceaccount":"*"},
        {"namespace":"a/b","serviceAccount":"c"}]}"#;
    let identities = Associations::parse_identities(file).unwrap();
    for (namespace, account, expected) in [
        ("orchard", "picker", true),
        ("orchard", "other", false),
        ("lichen", "picker", false),
        ("a", "b/c", false),
        ("a/b", "c", false),
    ] {
        let found = identities.find(namespace, account);
        assert_eq!(found.is_some(), expected, "{namespace}/{account}");
        if let Some(found) = found {
            assert_eq!(AssociationFact::of(found), AssociationFact::default());
        }
    }
    for empty in [
        "",
        " \n",
        "{}",
        r#"{"identities":null}"#,
        r#"{"identities":[]}"#,
    ] {
        assert!(
            Associations::parse_identities(empty).unwrap().is_empty(),
            "{empty:?}"
        );
    }
    for broken in [
        "{",
        "[]",
        r#"{"identities":{}}"#,
        r#"{"identities":["a"]}"#,
        r#"{"identities":[{"namespace":1}]}"#,
    ] {
        assert!(Associations::parse_identities(broken).is_err(), "{broken}");
    }
}

#[test]
fn associations_may_be_patterns_and_say_so() {
    let association = |id: &str| Association {
        id: Some(id.into()),
    };
    let (table, refused) = Associations::build([
        ("orch*/picker".to_owned(), association("a-1")),
        ("orchard/pick*".to_owned(), association("a-2")),
        ("orch*/picker".to_owned(), association("a-3")),
        (
            format!("{}/x", "n".repeat(MAX_KEY_BYTES)),
            association("a-4"),
        ),
    ]);
    assert_eq!(refused[0].1, KeyError::TooLong);
    // As many literal characters; more of them in the namespace decide.
    let found = table.find("orchard", "picker").map(AssociationFact::of);
    assert_eq!(
        found,
        Some(AssociationFact {
            id: Some("a-2"),
            pattern: Some("orchard/pick*")
        })
    );
    // Of equal keys the later one.
    let found = table.find("orchestra", "picker").map(AssociationFact::of);
    assert_eq!(
        found,
        Some(AssociationFact {
            id: Some("a-3"),
            pattern: Some("orch*/picker")
        })
    );
}

#[test]
fn role_arns_and_partitions_are_told_as_the_reference_does() {
    for (text, expected) in [
        ("arn:aws:iam::210987654321:role/orchard-reader", true),
        (
            "arn:aws-us-gov:iam::210987654321:role/a/b/c_d+e=f,g.h@i",
            true,
        ),
        ("arn:aws-iso-b:iam::210987654321:role/x", true),
        ("arn:aws:iam::210987654321:role/", false),
        ("arn:aws:iam::210987654321:user/x", false),
        ("arn:aws:iam::21098765432:role/x", false),
        ("arn:aws:iam::2109876543210:role/x", false),
        ("arn:aws:iam:eu-west-1:210987654321:role/x", false),
        ("arn:aws:sts::210987654321:assumed-role/x/y", false),
        ("arn:AWS:iam::210987654321:role/x", false),
        ("arn:aws:iam::210987654321:role/x y", false),
        ("arn:aws:iam::210987654321:role/x\n", false),
        ("arn:aws:iam::210987654321:role/${x}", false),
        ("orchard-reader", false),
        ("", false),
    ] {
        assert_eq!(is_role_arn(text), expected, "{text:?}");
    }
    for (region, expected) in [
        ("cn-north-1", "aws-cn"),
        ("us-gov-west-1", "aws-us-gov"),
        ("us-iso-east-1", "aws-iso"),
        ("us-isob-east-1", "aws-iso-b"),
        ("us-isof-south-1", "aws-iso-f"),
        ("eu-isoe-west-1", "aws-iso-e"),
        ("eusc-de-east-1", "aws-eusc"),
        ("eu-west-1", "aws"),
        ("", "aws"),
    ] {
        assert_eq!(partition_of_region(region).id(), expected, "{region}");
    }
}
