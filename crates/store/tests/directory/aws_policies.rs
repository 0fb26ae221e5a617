//! Managed policies of AWS: shipped and imported.

use countersign_arn::Partition;
use countersign_store::records::{AwsPolicy, PolicyVersion};
use countersign_store::{DirectoryError, ImportedPolicies, PolicyRef};

use crate::{now, open, with_account};

fn policy(name: &str, versions: &[(u32, &str)]) -> AwsPolicy {
    AwsPolicy {
        name: name.into(),
        path: "/job-function/".into(),
        id: "ANPAEXAMPLE".into(),
        created: now(),
        updated: now(),
        description: Some("what it is".into()),
        versions: versions
            .iter()
            .map(|(number, document)| PolicyVersion {
                number: *number,
                created: now(),
                document: (*document).into(),
            })
            .collect(),
        default_version: versions.last().unwrap().0,
    }
}

#[tokio::test]
async fn an_import_keeps_versions_and_does_nothing_twice() {
    let (store, directory) = with_account().await;
    let first = [
        policy("ViewOnly", &[(3, "[3]")]),
        policy("Other", &[(1, "[]")]),
    ];
    let count = |written, unchanged| ImportedPolicies { written, unchanged };
    let import = |policies: Vec<AwsPolicy>| {
        let directory = directory.clone();
        async move { directory.import_aws_policies(&policies).await.unwrap() }
    };
    assert_eq!(import(first.to_vec()).await, count(2, 0));
    assert_eq!(import(first.to_vec()).await, count(0, 2));
    assert_eq!(
        import(vec![
            policy("ViewOnly", &[(5, "[5]")]),
            policy("Other", &[(1, "[]")])
        ])
        .await,
        count(1, 1)
    );
    assert_eq!(import(Vec::new()).await, count(0, 0));
    let snapshot = open(&store).await.snapshot();
    let arn = "arn:aws:iam::aws:policy/job-function/ViewOnly";
    let found = snapshot.policy_by_arn(arn).unwrap();
    assert!(matches!(found, PolicyRef::Imported(_)));
    assert_eq!(found.default_version(), 5);
    let versions: Vec<_> = found
        .versions()
        .iter()
        .map(|version| (version.number, version.document))
        .collect();
    assert_eq!(versions, [(3, "[3]"), (5, "[5]")]);
    assert_eq!(found.arn_in(Partition::Aws), arn);
    assert_eq!(found.description(), Some("what it is"));
}

#[tokio::test]
async fn many_policies_are_imported_in_batches() {
    let (_, directory) = with_account().await;
    let large = format!("\"{}\"", "x".repeat(140_000));
    let mut policies: Vec<_> = (0..150)
        .map(|n| policy(&format!("P{n}"), &[(1, "{}")]))
        .collect();
    policies.extend((0..8).map(|n| policy(&format!("L{n}"), &[(1, &large)])));
    policies.push(policy("P0", &[(2, "{}")]));
    let done = directory.import_aws_policies(&policies).await.unwrap();
    assert_eq!(done.written + done.unchanged, 159);
    let snapshot = directory.snapshot();
    assert_eq!(snapshot.aws_policies().count(), 158);
    assert_eq!(snapshot.aws_policy("P0").unwrap().record.versions.len(), 2);
}

#[tokio::test]
async fn the_oldest_versions_go_when_there_is_no_room() {
    let (_, directory) = with_account().await;
    let large = format!("\"{}\"", "x".repeat(100_000));
    for number in 1..=6 {
        directory
            .import_aws_policies(&[policy("Large", &[(number, &large)])])
            .await
            .unwrap();
    }
    let snapshot = directory.snapshot();
    let numbers: Vec<_> = snapshot
        .aws_policy("Large")
        .unwrap()
        .record
        .versions
        .iter()
        .map(|version| version.number)
        .collect();
    assert_eq!(numbers, [4, 5, 6]);
}

#[tokio::test]
async fn what_aws_could_not_have_is_refused_before_anything_is_written() {
    let (_, directory) = with_account().await;
    let good = policy("Good", &[(1, "{}")]);
    let bad = [
        policy("a/b", &[(1, "{}")]),
        policy("", &[(1, "{}")]),
        AwsPolicy {
            path: "x".into(),
            ..good.clone()
        },
        AwsPolicy {
            default_version: 2,
            ..good.clone()
        },
        policy("a", &[(1, "")]),
        policy("a", &[(0, "{}")]),
        policy("a", &[(1, &"x".repeat(300_000))]),
    ];
    for policy in bad {
        let result = directory.import_aws_policies(&[good.clone(), policy]).await;
        assert!(
            matches!(result, Err(DirectoryError::Invalid(_))),
            "{result:?}"
        );
    }
    assert_eq!(directory.snapshot().aws_policies().count(), 0);
}

#[tokio::test]
async fn policies_of_aws_are_listed_in_order_and_speak_of_the_partition_of_who_asks() {
    let (_, directory) = with_account().await;
    let shipped = directory.snapshot().policies_of_aws().len();
    assert!(shipped >= 42);
    let document = r#"{"Resource":"arn:aws:s3:::x","Action":"aws:x"}"#;
    directory
        .import_aws_policies(&[
            policy("aaa", &[(1, document)]),
            policy("AdministratorAccess", &[(9, "{}")]),
        ])
        .await
        .unwrap();
    let snapshot = directory.snapshot();
    let all = snapshot.policies_of_aws();
    assert_eq!(all.len(), shipped + 1);
    assert_eq!(all[0].name(), "aaa");
    let names: Vec<_> = all
        .iter()
        .map(|policy| policy.name().to_ascii_lowercase())
        .collect();
    assert!(names.is_sorted());
    let ids: std::collections::BTreeSet<_> = all.iter().map(|policy| policy.id()).collect();
    assert_eq!(ids.len(), shipped, "two imported ones share an id here");
    for policy in all.iter().filter(|policy| !policy.id().contains("EXAMPLE")) {
        assert_eq!(policy.id().len(), 21, "{}", policy.id());
        assert!(policy.default_version() > 0);
    }
    assert_eq!(all[0].default_document_in(Partition::Aws), document);
    assert_eq!(
        all[0].default_document_in(Partition::China),
        r#"{"Resource":"arn:aws-cn:s3:::x","Action":"aws:x"}"#
    );
    assert_eq!(
        all[0].arn_in(Partition::GovCloud),
        "arn:aws-us-gov:iam::aws:policy/job-function/aaa"
    );
    assert!(
        snapshot
            .policy_by_arn("arn:aws:iam::aws:policy/AdministratorAccess")
            .is_none(),
        "the imported one of this name has another path"
    );
}
