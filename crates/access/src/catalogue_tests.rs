use super::*;
use crate::PolicyArnFault as Fault;

#[test]
fn the_file_holds_every_policy_and_says_what_is_known_of_it() {
    // Read again without the fallback of the program.
    let file: File =
        serde_json::from_str(include_str!("../data/access-policies.json")).expect("data");
    assert_eq!(file.policies.len(), 37);
    let catalogue = Catalogue::builtin();
    let all: Vec<&AccessPolicy> = catalogue.policies().collect();
    assert_eq!(all.len(), 37);
    assert!(all.is_sorted_by(|a, b| a.name < b.name));
    let count = |status| all.iter().filter(|policy| policy.status == status).count();
    assert_eq!(
        [
            RulesStatus::Table,
            RulesStatus::Prose,
            RulesStatus::Unpublished
        ]
        .map(count),
        [15, 10, 12]
    );
    for policy in &all {
        let (rules, derived) = (!policy.rules.is_empty(), !policy.derived_rules.is_empty());
        let expected = match policy.status {
            RulesStatus::Table => (true, false),
            RulesStatus::Prose => (false, true),
            RulesStatus::Unpublished | RulesStatus::Custom => (false, false),
        };
        assert_eq!((rules, derived), expected, "{}", policy.name);
        assert_eq!(
            policy.grants_nothing(DerivedRules::Off),
            policy.status != RulesStatus::Table
        );
        for rule in policy.all_rules(DerivedRules::On) {
            assert!(!rule.rule.verbs.is_empty(), "{}", policy.name);
            assert_ne!(
                rule.rule.resources.is_empty(),
                rule.rule.non_resource_urls.is_empty(),
                "{}",
                policy.name
            );
        }
    }
    let reserved: Vec<&str> = all
        .iter()
        .filter(|policy| policy.service_linked_roles_only)
        .map(|policy| &*policy.name)
        .collect();
    assert_eq!(
        reserved,
        [
            "AmazonEKSBlockStorageClusterPolicy",
            "AmazonEKSBlockStoragePolicy",
            "AmazonEKSClusterInsightsPolicy",
            "AmazonEKSComputeClusterPolicy",
            "AmazonEKSComputePolicy",
            "AmazonEKSHybridPolicy",
            "AmazonEKSPodIdentityPolicy",
        ]
    );
}

#[test]
fn rules_for_unnamed_objects_are_never_in_force() {
    for (name, derived, in_force) in [
        ("AmazonEKSACKPolicy", DerivedRules::Off, vec![0, 1, 2, 4, 5]),
        ("AmazonEKSKROPolicy", DerivedRules::Off, vec![0, 1, 2, 4]),
        ("AmazonEKSNetworkingPolicy", DerivedRules::Off, vec![]),
        ("AmazonEKSNetworkingPolicy", DerivedRules::On, vec![0]),
        (
            "AmazonEKSArgoCDClusterPolicy",
            DerivedRules::Off,
            vec![0, 1, 2, 3],
        ),
    ] {
        let policy = Catalogue::builtin().named(name).unwrap();
        let places: Vec<usize> = policy.rules_in_force(derived).map(|(at, _)| at).collect();
        assert_eq!(places, in_force, "{name}");
    }
}

#[test]
fn arns_follow_the_partition_and_custom_policies_the_account() {
    let own: AccountId = "111122223333".parse().unwrap();
    let other: AccountId = "444455556666".parse().unwrap();
    let custom = |name: &str, owner| AccessPolicy {
        name: name.into(),
        owner,
        origin: Some("p.yaml:3".into()),
        ..Catalogue::builtin().policies().next().unwrap().clone()
    };
    let mine = [
        custom("Zoo", Owner::AnyAccount),
        custom("Ape", Owner::Account(other)),
    ];
    let catalogue = Catalogue::new(mine.clone(), DerivedRules::Off).unwrap();
    let list = |account| -> Vec<String> {
        let all = catalogue.list(Partition::China, account);
        all.map(|(_, arn)| arn).collect()
    };
    assert_eq!(list(own).len(), 38);
    assert_eq!(
        list(own)[37],
        "arn:aws-cn:eks::111122223333:cluster-access-policy/Zoo"
    );
    assert_eq!(list(other).len(), 39);
    for arn in list(other) {
        let parsed = PolicyArn::parse(&arn, Partition::China).unwrap();
        assert!(catalogue.find(&parsed).is_some(), "{arn}");
    }
    let check = |arn: &str| {
        catalogue
            .check(arn, Partition::Aws)
            .map(|(_, policy)| policy.name.to_string())
    };
    for (arn, expected) in [
        (
            "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy",
            Ok("AmazonEKSViewPolicy"),
        ),
        (
            "arn:aws:eks::aws:cluster-access-policy/AmazonEKSEventPolicy",
            Ok("AmazonEKSEventPolicy"),
        ),
        (
            "arn:aws:eks::444455556666:cluster-access-policy/Ape",
            Ok("Ape"),
        ),
        (
            "arn:aws:eks::111122223333:cluster-access-policy/Ape",
            Err(Fault::Unknown),
        ),
        (
            "arn:aws:eks::aws:cluster-access-policy/Zoo",
            Err(Fault::Unknown),
        ),
        (
            "arn:aws:eks::111122223333:cluster-access-policy/AmazonEKSViewPolicy",
            Err(Fault::Unknown),
        ),
        (
            "arn:aws:eks::aws:cluster-access-policy/amazonEKSViewPolicy",
            Err(Fault::Unknown),
        ),
        (
            "arn:aws:iam::aws:policy/AmazonEKSClusterPolicy",
            Err(Fault::Format),
        ),
        (
            "arn:aws:eks::aws:cluster-access-policy/AmazonEKSHybridPolicy",
            Err(Fault::ServiceLinkedRolesOnly),
        ),
    ] {
        assert_eq!(check(arn), expected.map(str::to_owned), "{arn}");
    }
    let twice = [mine[0].clone(), mine[0].clone()];
    let error = Catalogue::new(twice, DerivedRules::Off).unwrap_err();
    assert_eq!(
        error.to_string(),
        "p.yaml:3: policies[].name: `Zoo` is the name of a policy of p.yaml:3"
    );
    let stolen = custom("AmazonEKSViewPolicy", Owner::AnyAccount);
    assert!(Catalogue::new([stolen], DerivedRules::Off).is_err());
}
