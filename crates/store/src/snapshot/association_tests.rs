use proptest::prelude::*;

use super::*;
use crate::Revision;

fn entry(namespace: &str, service_account: &str) -> PodIdentityAssociationEntry {
    let now = jiff::Timestamp::UNIX_EPOCH;
    PodIdentityAssociationEntry {
        record: PodIdentityAssociation {
            account: super::super::tests::account(0),
            cluster_id: "0".into(),
            id: format!("a-{namespace}/{service_account}").into(),
            namespace: namespace.into(),
            service_account: service_account.into(),
            role_arn: "arn".into(),
            target_role_arn: None,
            disable_session_tags: None,
            policy: None,
            owner_arn: None,
            sessions: countersign_session::PodSessions::default(),
            tags: Vec::new(),
            created: now,
            modified: now,
        },
        modified: Revision::new(1),
    }
}

fn of(names: &[(String, String)]) -> PodIdentities {
    let mut all = PodIdentities::default();
    for (namespace, account) in names {
        all.insert(entry(namespace, account));
    }
    all
}

/// Names of an association, as text.
fn names(entry: &PodIdentityAssociationEntry) -> (String, String) {
    let record = &entry.record;
    (
        record.namespace.to_string(),
        record.service_account.to_string(),
    )
}

/// The rule, without an index: everything that matches, and the greatest of a list of reasons.
fn oracle(all: &[(String, String)], namespace: &str, account: &str) -> Vec<(String, String)> {
    let covers = |pattern: &str, name: &str| match pattern.strip_suffix('*') {
        Some(begin) => name.starts_with(begin),
        None => pattern == name,
    };
    let literals = |pattern: &str| pattern.trim_end_matches('*').len();
    let exact = |pattern: &str| !pattern.contains('*');
    let mut matching: Vec<_> = all
        .iter()
        .filter(|(a, b)| covers(a, namespace) && covers(b, account))
        .cloned()
        .collect();
    matching.sort();
    matching.dedup();
    matching.sort_by_key(|(a, b)| {
        let both = exact(a) && exact(b);
        std::cmp::Reverse((
            both,
            literals(a) + literals(b),
            literals(a),
            exact(a),
            exact(b),
        ))
    });
    matching
}

#[test]
fn the_closest_association_is_in_force() {
    // Associations, who asks, and whose turn it is.
    type Name = (&'static str, &'static str);
    let cases: [(&[Name], Name, Option<Name>); 14] = [
        (
            &[("dev", "cart"), ("dev*", "cart*"), ("*", "*")],
            ("dev", "cart"),
            Some(("dev", "cart")),
        ),
        (&[("*", "*")], ("dev", "cart"), Some(("*", "*"))),
        (
            &[("dev-*", "*"), ("dev-a*", "*")],
            ("dev-a", "x"),
            Some(("dev-a*", "*")),
        ),
        (
            &[("dev-*", "*"), ("dev-a*", "*")],
            ("dev-b", "x"),
            Some(("dev-*", "*")),
        ),
        (&[("dev-*", "*")], ("dev", "x"), None),
        (
            &[("dev", "*"), ("dev*", "*")],
            ("dev", "x"),
            Some(("dev", "*")),
        ),
        (
            &[("*", "cart"), ("*", "cart*")],
            ("dev", "cart"),
            Some(("*", "cart")),
        ),
        // As many characters in both: those of the namespace count more.
        (
            &[("dev*", "*"), ("*", "car*")],
            ("dev", "cart"),
            Some(("dev*", "*")),
        ),
        // More characters in the service account outweigh an exact namespace.
        (
            &[("dev", "*"), ("*", "cart-w*")],
            ("dev", "cart-worker"),
            Some(("*", "cart-w*")),
        ),
        (
            &[("dev", "cart*"), ("dev*", "cart")],
            ("dev", "cart"),
            Some(("dev", "cart*")),
        ),
        // Neighbours in order that are no beginnings.
        (
            &[("d*", "*"), ("dea*", "*"), ("deu*", "*"), ("dev0*", "*")],
            ("dev", "x"),
            Some(("d*", "*")),
        ),
        (&[("", "*"), ("*", "cart")], ("dev", "x"), None),
        // No pod has such names.
        (&[("*", "*")], ("*", "cart"), None),
        (&[("*", "*")], ("", "cart"), None),
    ];
    for (all, (namespace, account), expected) in cases {
        let all: Vec<_> = all
            .iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect();
        let found = of(&all)
            .in_force(namespace, account)
            .map(|entry| names(entry));
        let expected = expected.map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(found, expected, "{all:?} {namespace}/{account}");
    }
}

#[test]
fn a_pattern_is_found_as_its_own_record_and_not_for_its_text() {
    let all = of(&[("dev-*".to_owned(), "*".to_owned())]);
    assert!(all.named("dev-*", "*").is_some());
    assert!(all.exact("dev-*", "*").is_none());
    assert!(all.in_force("dev-*", "*").is_none());
    assert!(all.in_force("dev-*", "cart").is_none());
}

fn name() -> impl Strategy<Value = String> {
    "[ab]{1,4}"
}

fn name_or_pattern() -> impl Strategy<Value = String> {
    prop_oneof![name(), "[ab]{0,4}\\*"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_index_answers_as_the_rule_does(
        all in prop::collection::vec((name_or_pattern(), name_or_pattern()), 0..24),
        removed in prop::collection::vec((name_or_pattern(), name_or_pattern()), 0..8),
        asked in prop::collection::vec((name(), name()), 1..8),
    ) {
        let mut index = of(&all);
        for (namespace, account) in &removed {
            index.remove(namespace, account);
        }
        let left: Vec<_> = all.into_iter().filter(|names| !removed.contains(names)).collect();
        let has_patterns = left.iter().any(|(a, b)| a.contains('*') || b.contains('*'));
        prop_assert_eq!(index.patterns.is_empty(), !has_patterns);
        for (namespace, account) in &asked {
            let expected = oracle(&left, namespace, account);
            let matching: Vec<_> = index.matching(namespace, account).into_iter().map(|entry| names(entry)).collect();
            prop_assert_eq!(&matching, &expected);
            let in_force = index.in_force(namespace, account).map(|entry| names(entry));
            prop_assert_eq!(in_force, expected.into_iter().next());
        }
    }
}
