//! Reviews as kube-apiserver sends them: who asks, and what the authorizer answers.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helper functions of tests"
)]

mod support;

use countersign_access::CompiledPolicies;
use countersign_access::caller::{AssertionKey, Delegated, Untrusted, UserInfo, principal_of};
use countersign_rbac::review::{AccessReview, ParsedSelectors};
use support::{associations, view};

fn reviews() -> Vec<(String, AccessReview)> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../rbac/tests/data/kube-1.36");
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
        .into_iter()
        .filter_map(|path| {
            let name = path.file_stem()?.to_str()?.to_owned();
            let review = AccessReview::from_json(&std::fs::read(&path).unwrap()).ok()?;
            name.starts_with("subjectaccessreview")
                .then_some((name, review))
        })
        .collect()
}

/// Only who authenticated through the webhook is an IAM principal: service accounts, nodes, impersonated users and
/// people asked about by others are not.
#[test]
fn only_iam_principals_are_taken_for_callers() {
    let key = AssertionKey::new([1; 32]);
    let now = jiff::Timestamp::from_second(1_767_225_600).unwrap();
    let mut principals = 0;
    let reviews = reviews();
    assert!(reviews.len() >= 60);
    for (file, review) in &reviews {
        let user = UserInfo {
            username: &review.spec.user,
            uid: &review.spec.uid,
            extra: &review.spec.extra,
        };
        let caller = principal_of(&user, "c1", || Some(key.clone()), now, Delegated::Assertion);
        let is_iam = review.spec.uid.starts_with("aws-iam-authenticator:");
        if is_iam {
            assert_eq!(
                caller,
                Ok(review.spec.extra["principalId"][0].as_str()),
                "{file}"
            );
            principals += 1;
        } else {
            assert_eq!(caller, Err(Untrusted::NoPrincipal), "{file}");
        }
    }
    assert!(principals >= 5 && principals < reviews.len());
}

/// What kube-apiserver asks reaches the rules as it is meant: each decision of ClusterAdmin at both scopes follows from
/// whether the request carries the namespace alone.
#[test]
fn a_scope_decides_by_the_namespace_of_the_request() {
    let everywhere = associations("ClusterAdmin@cluster");
    let inside = associations("ClusterAdmin@default");
    let policies = CompiledPolicies::builtin();
    let (mut granted, mut refused) = (0, 0);
    for (file, review) in &reviews() {
        let selectors = ParsedSelectors::of(review);
        let action = review.action(&selectors).unwrap();
        let whole = policies.authorize(&view(&everywhere), &action).is_allowed();
        let part = policies.authorize(&view(&inside), &action).is_allowed();
        let attributes = review.spec.resource.as_ref();
        let namespace = attributes.map_or("", |attributes| attributes.namespace.as_str());
        assert!(whole, "{file}");
        assert_eq!(part, namespace == "default", "{file}");
        granted += u32::from(part);
        refused += u32::from(!part);
    }
    assert!(granted > 5 && refused > 5);
}
