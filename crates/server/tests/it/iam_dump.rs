//! All of IAM in an account, out and in again.

use std::sync::Arc;

use countersign_arn::Partition;
use countersign_server::admin::{
    AdminAnswer, AdminError, AdminOp, ImportOptions, ImportReport, execute,
};
use countersign_store::records::{InlinePolicy, TrustPolicy};
use countersign_store::{
    Directory, Entity, NewAccount, NewGroup, Quotas, Random, RedbStore, RootKey, Sealer, Taggable,
};

use crate::world::{World, now, tag, trusts};

/// White space and order are no accident: they must come back.
const ODD: &str = "{ \"Version\":\"2012-10-17\",\n \"Statement\": [ {\"Resource\":\"*\", \"Effect\":\"Allow\",\t\"Action\":[\"s3:Get*\"]} ] }";

async fn export(directory: &Directory) -> String {
    let op = AdminOp::ExportIam {
        account: Some("111122223333".parse().unwrap()),
    };
    match execute(directory, &op, now()).await.unwrap() {
        AdminAnswer::IamExported { document } => document,
        other => panic!("{other:?}"),
    }
}

async fn import(
    directory: &Directory,
    document: &str,
    change: impl FnOnce(&mut ImportOptions),
) -> Result<ImportReport, AdminError> {
    let mut options = ImportOptions::default();
    change(&mut options);
    let document = document.to_owned();
    match execute(directory, &AdminOp::ImportIam { document, options }, now()).await? {
        AdminAnswer::IamImported(report) => Ok(report),
        other => panic!("{other:?}"),
    }
}

async fn empty() -> Directory {
    let store = Arc::new(RedbStore::in_memory().unwrap());
    let sealer = Sealer::new(&RootKey::from_bytes([9; 32]), &[]).unwrap();
    let directory = Directory::open(store, sealer, Random::system(), Quotas::default())
        .await
        .unwrap();
    let new = NewAccount {
        id: "111122223333".parse().unwrap(),
        partition: Partition::Aws,
        alias: None,
        organization_id: None,
    };
    directory.create_account(new, now()).await.unwrap();
    directory
}

async fn furnished() -> World {
    let world = World::new().await;
    let (directory, account) = (&world.directory, world.account);
    let trust = trusts(
        "arn:aws:iam::111122223333:user/ana",
        crate::world::ASSUME,
        "",
    );
    let valid = countersign_policy::validate::validate(
        &trust,
        countersign_policy::PolicyKind::Trust,
        &*directory.snapshot(),
    )
    .unwrap();
    world
        .role_with("reader", &trust, |role| {
            role.trust = TrustPolicy::new(trust.as_str(), &valid.principal_ids);
            role.path = "/team/".into();
            role.description = Some("reads".into());
            role.tags = vec![tag("Team", "blue")];
        })
        .await;
    let group = NewGroup {
        account,
        name: "Ops".into(),
        path: "/".into(),
    };
    directory.create_group(group, now()).await.unwrap();
    directory
        .add_user_to_group(account, "ops", "bob")
        .await
        .unwrap();
    for entity in [
        Entity::group(account, "ops"),
        Entity::role(account, "reader"),
    ] {
        let policy = InlinePolicy {
            name: "odd".into(),
            document: ODD.into(),
        };
        directory.put_inline_policy(entity, policy).await.unwrap();
    }
    directory
        .tag(account, Taggable::User("bob"), &[tag("k", "v")])
        .await
        .unwrap();
    world
}

#[tokio::test]
async fn the_import_of_an_export_exports_the_same() {
    let world = furnished().await;
    let first = export(&world.directory).await;
    assert!(first.contains(ODD), "{first}");
    let other = empty().await;
    let report = import(&other, &first, |options| options.dry_run = true)
        .await
        .unwrap();
    assert_eq!(report.made.len(), 4, "{report:?}");
    assert_eq!(other.snapshot().user_count(world.account), 0);
    import(&other, &first, |options| options.keep_ids = true)
        .await
        .unwrap();
    assert_eq!(export(&other).await, first);
    // The principals of trust policies are those who came along.
    let snapshot = other.snapshot();
    let role = snapshot.role(world.account, "reader").unwrap();
    let ana = snapshot.user(world.account, "ana").unwrap();
    assert_eq!(role.record.trust.principals[0].id, ana.record.id);
    assert!(ana.record.access_keys.is_empty());
    // Without the ids everything else is the same, also the second time.
    let third = empty().await;
    import(&third, &first, |_| ()).await.unwrap();
    let renumbered = export(&third).await;
    assert_ne!(renumbered, first);
    let without_ids = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.contains("Id\": \""));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(without_ids(&renumbered), without_ids(&first));
}

#[tokio::test]
async fn what_exists_stops_an_import_or_is_left_as_it_is() {
    let world = furnished().await;
    let document = export(&world.directory).await;
    let refused = import(&world.directory, &document, |_| ()).await;
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("exists already"), "{text}");
    let report = import(&world.directory, &document, |options| {
        options.skip_existing = true;
    })
    .await
    .unwrap();
    assert!(report.made.is_empty());
    assert_eq!(report.skipped.len(), 4);
    assert_eq!(export(&world.directory).await, document);
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_and_nothing_is_made() {
    let world = furnished().await;
    let good = export(&world.directory).await;
    let changed = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replace(from, to)
    };
    let table = [
        (
            "\"text\"".to_owned(),
            "not what `aws iam get-account-authorization-details` prints",
        ),
        ("{}".to_owned(), "nothing names an account"),
        (
            changed("111122223333:user/bob", "444455556666:user/bob"),
            "is not of account",
        ),
        (
            changed("\"Path\": \"/team/\"", "\"Path\": \"/else/\""),
            "is not the ARN that follows",
        ),
        (changed("\"Ops\"\n", "\"Nobody\"\n"), "which is nowhere"),
        (
            changed("\"Effect\":\"Allow\",\t", "\"Effect\":\"Maybe\",\t"),
            "a policy document of",
        ),
        (
            changed("user/ana\"}", "user/nobody\"}"),
            "Invalid principal in policy",
        ),
        (
            changed(
                "\"AttachedManagedPolicies\": []",
                "\"AttachedManagedPolicies\": [{\"PolicyName\":\"x\",\"PolicyArn\":\"arn:aws:iam::aws:policy/NoSuchPolicy\"}]",
            ),
            "which is nowhere",
        ),
    ];
    for (document, expected) in table {
        let directory = empty().await;
        let refused = import(&directory, &document, |_| ()).await;
        let text = refused.unwrap_err().to_string();
        assert!(text.contains(expected), "{expected}: {text}");
        let account = "111122223333".parse().unwrap();
        let snapshot = directory.snapshot();
        assert_eq!(
            snapshot.user_count(account) + snapshot.group_count(account),
            0
        );
    }
    let directory = empty().await;
    let other = import(&directory, &good, |options| {
        options.account = Some("444455556666".parse().unwrap());
    })
    .await;
    assert!(other.unwrap_err().to_string().contains("is not of account"));
    let bad_id = changed("\"GroupId\": \"AGPA", "\"GroupId\": \"AIDA");
    let refused = import(&directory, &bad_id, |options| options.keep_ids = true).await;
    assert!(refused.unwrap_err().to_string().contains("is no unique id"));
}
