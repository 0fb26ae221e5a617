//! Access rules: whom they let in, what their policies allow, and what hides them.

use std::path::Path;

use countersign_access::FileOptions;
use tempfile::TempDir;

use super::*;

const RULES: &str = r#"accessRules:
- name: team
  match: {roleArnLike: "arn:aws:iam::111122223333:role/team-*"}
  username: "{{RoleName}}:{{SessionName}}"
  groups: [team]
  policies:
  - {policy: AmazonEKSEditPolicy, namespaces: ["dev-*"]}
- name: ops
  match: {roleArnLike: "arn:aws:iam::111122223333:role/ops/team-*"}
  groups: [ops]
- name: one-cluster
  clusters: [other]
  match: {roleArnLike: "arn:aws:iam::111122223333:role/team-a"}
- name: platform
  match: {account: "444455556666", permissionSet: Platform, sessionNameLike: "*@example.com"}
  policies:
  - {policy: AmazonEKSViewPolicy, scope: cluster}
"#;

fn file_with(text: &str) -> (TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rules.yaml");
    std::fs::write(&file, text).unwrap();
    (dir, file)
}

fn policies(file: &Path, iam_is_known: bool) -> Arc<AccessPolicies> {
    let options = FileOptions {
        iam_is_known,
        ..FileOptions::default()
    };
    Arc::new(AccessPolicies::load_with(file, options).unwrap())
}

fn pods(namespace: &str) -> Value {
    json!({"verb": "create", "resource": "pods", "namespace": namespace, "version": "v1"})
}

#[tokio::test]
async fn a_rule_lets_in_whom_no_entry_is_for() {
    use AuthenticationMode::{Api, ApiAndConfigMap, ConfigMap};
    let (_dir, file) = file_with(RULES);
    let served = Served::with(policies(&file, true)).await;
    let (team, _) = served.role("team-a", "/").await;
    let (ops, _) = served.role("team-b", "/ops/").await;
    let (dev, _) = served.role("Dev", "/").await;
    let team = served.session(&team, "alice@corp").await;
    let ops = served.session(&ops, "olga").await;
    let dev = served.session(&dev, "dora").await;
    let old = "server:\n  mapRoles:\n\
        \x20 - {rolearn: 'arn:aws:iam::111122223333:role/team-a', username: old-team}\n\
        \x20 - {rolearn: 'arn:aws:iam::111122223333:role/Dev', username: old-dev}\n";
    let by_rule = "team-a:alice-corp [team] by AccessRules";
    let by_path = "arn:aws:sts::111122223333:assumed-role/team-b/olga [ops] by AccessRules";
    for (name, mode, wanted) in [
        (
            "a",
            ConfigMap,
            [
                "old-team [] by MountedFile",
                "no: not_mapped",
                "old-dev [] by MountedFile",
            ],
        ),
        (
            "b",
            ApiAndConfigMap,
            [by_rule, by_path, "old-dev [] by MountedFile"],
        ),
        ("c", Api, [by_rule, by_path, "no: not_mapped"]),
        (
            "other",
            Api,
            [
                "arn:aws:sts::111122223333:assumed-role/team-a/alice-corp [] by AccessRules",
                by_path,
                "no: not_mapped",
            ],
        ),
    ] {
        let registered = served.cluster(name, mode).await;
        let cluster = served.configured(registered, name, old);
        for (keys, wanted) in [&team, &ops, &dev].into_iter().zip(wanted) {
            let review = cluster.review(&token(keys, name), now()).await;
            assert_eq!(told(&review), wanted, "{name}");
            let hides = mode == ApiAndConfigMap && keys.id == team.id;
            assert_eq!(review.hides.is_some(), hides, "{name} {wanted}");
            if wanted == by_rule {
                let accepted = review.outcome.unwrap();
                let rule = format!("AccessRules team ({}:2)", file.display());
                assert_eq!(accepted.rule(), rule);
            }
        }
    }
}

#[tokio::test]
async fn the_policies_of_a_rule_count_for_whom_it_matches_until_something_hides_it() {
    use AuthorizeResult::{Allow, NoOpinion};
    let (_dir, file) = file_with(RULES);
    let policies = policies(&file, true);
    let served = Served::with(Arc::clone(&policies)).await;
    let cluster = served.cluster("c", AuthenticationMode::Api).await;
    let (arn, id) = served.role("team-a", "/").await;
    let (dev, _) = served.role("Dev", "/").await;
    let keys = served.session(&arn, "alice").await;
    let who = async || told(&served.review("c", &keys).await.unwrap());
    let by_rule = "team-a:alice [team] by AccessRules";
    assert_eq!(who().await, by_rule);
    let accepted = served.review("c", &keys).await.unwrap().outcome.unwrap();
    let alice = user_info(&accepted);
    let ask = |user: &Value, namespace: &str| {
        let ruling = served.ask(&cluster, user, &pods(namespace));
        assert_eq!(ruling.error, "");
        (ruling.outcome, ruling.reason, ruling.rule)
    };
    let end = " by access rule \"team\" (rules.yaml:2)";
    let cited = format!("team ({}:2)", file.display());
    assert_eq!(
        ask(&alice, "dev-a"),
        (
            Allow,
            format!(
                "EKS Access Policy: allowed by RoleBinding \"{arn}+{EDIT}/dev-a\" of ClusterRole \"{EDIT}\" to User \"{id}\"{end}"
            ),
            Some(cited.clone())
        )
    );
    assert_eq!(
        ask(&alice, "prod"),
        (
            NoOpinion,
            format!(
                "EKS Access Policy: no opinion for \"{id}\" (policies: AmazonEKSEditPolicy@dev-*){end}"
            ),
            Some(cited)
        )
    );

    // Who only says so.
    let edited = |edit: &dyn Fn(&mut serde_json::Map<String, Value>)| {
        let mut user = alice.clone();
        edit(user["extra"].as_object_mut().unwrap());
        user
    };
    let lower = |extra: &mut serde_json::Map<String, Value>| {
        *extra = std::mem::take(extra)
            .into_iter()
            .map(|(key, value)| (key.to_ascii_lowercase(), value))
            .collect();
    };
    let other = "arn:aws:sts::111122223333:assumed-role/team-z/alice";
    for (how, user, wanted) in [
        ("over a front proxy", edited(&lower), Allow),
        (
            "over a front proxy with another ARN",
            edited(&|extra| {
                lower(extra);
                extra["arn"] = json!([other]);
            }),
            NoOpinion,
        ),
        (
            "over a front proxy without an ARN",
            edited(&|extra| {
                lower(extra);
                extra.remove("arn");
            }),
            NoOpinion,
        ),
        (
            "without an ARN",
            edited(&|extra| {
                extra.remove("arn");
            }),
            NoOpinion,
        ),
        (
            "with two",
            edited(&|extra| extra["arn"] = json!([other, other])),
            NoOpinion,
        ),
        (
            "with that of another role",
            edited(&|extra| extra["arn"] = json!([other])),
            NoOpinion,
        ),
        (
            "with the id of another role",
            edited(&|extra| {
                for key in [
                    "principalId",
                    "sigs.k8s.io/aws-iam-authenticator/principalId",
                ] {
                    extra[key] = json!(["AROAGONE"]);
                }
            }),
            NoOpinion,
        ),
    ] {
        assert_eq!(ask(&user, "dev-a").0, wanted, "{how}");
    }
    let keys_of_dev = served.session(&dev, "dora").await;
    let dora = served.review("c", &keys_of_dev).await.unwrap();
    assert_eq!(told(&dora), "no: not_mapped");

    // An entry hides the rule: a good one by what it says, a dead one for as long as it is there.
    let nothing = format!("EKS Access Policy: no opinion for \"{id}\" (no access entry)");
    let gone = async || {
        let place = place("c", served.world.account);
        let deleted = served
            .world
            .directory
            .delete_access_entry(place, &arn, now());
        deleted.await.unwrap();
    };
    served.create("c", entry(&arn, Some(&id))).await;
    assert_eq!(
        who().await,
        "arn:aws:sts::111122223333:assumed-role/team-a/alice [] by AccessEntries"
    );
    let none = format!("EKS Access Policy: no opinion for \"{id}\" (policies: none)");
    assert_eq!(ask(&alice, "dev-a"), (NoOpinion, none, None));
    gone().await;
    assert_eq!(
        (who().await.as_str(), ask(&alice, "dev-a").0),
        (by_rule, Allow)
    );
    served.create("c", entry(&arn, Some("AROAGONE"))).await;
    assert_eq!(who().await, "no: principal_recreated");
    assert_eq!(ask(&alice, "dev-a"), (NoOpinion, nothing.clone(), None));
    gone().await;
    assert_eq!(
        (who().await.as_str(), ask(&alice, "dev-a").0),
        (by_rule, Allow)
    );

    // The file is what counts, from the next question on; a broken one does not.
    std::fs::write(&file, RULES.replace("groups:", "group:")).unwrap();
    assert!(!policies.reload(now()));
    assert_eq!(
        (who().await.as_str(), ask(&alice, "dev-a").0),
        (by_rule, Allow)
    );
    std::fs::write(&file, RULES.replace("role/team-*", "role/squad-*")).unwrap();
    assert!(policies.reload(now()));
    assert_eq!(who().await, "no: not_mapped");
    assert_eq!(ask(&alice, "dev-a"), (NoOpinion, nothing, None));
}

/// Where AWS verified the caller, only what its token says is known.
#[tokio::test]
async fn callers_of_aws_are_matched_by_their_arn() {
    use AuthorizeResult::{Allow, NoOpinion};
    let (_dir, file) = file_with(RULES);
    assert!(
        AccessPolicies::load(&file).is_err(),
        "a path that nobody knows"
    );
    std::fs::write(&file, RULES.replace("role/ops/", "role/")).unwrap();
    let served = Served::with(policies(&file, false)).await;
    let cluster = served.cluster("c", AuthenticationMode::Api).await;
    let of_set = "arn:aws:sts::444455556666:assumed-role/AWSReservedSSO_Platform_0123456789abcdef";
    for (arn, wanted) in [
        (format!("{of_set}/dana@example.com"), Allow),
        (format!("{of_set}/dana@example.org"), NoOpinion),
        (format!("{of_set}0/dana@example.com"), NoOpinion),
        (
            of_set.replace("444455556666", "444455556667") + "/dana@example.com",
            NoOpinion,
        ),
        (
            "arn:aws:iam::444455556666:user/AWSReservedSSO_Platform_0123456789abcdef".into(),
            NoOpinion,
        ),
        (of_set.into(), NoOpinion),
        ("arn".into(), NoOpinion),
    ] {
        let user = json!({
            "user": "dana", "uid": "aws-iam-authenticator:444455556666:AROADANA",
            "extra": {"principalId": ["AROADANA"], "arn": [arn]},
        });
        let asked = json!({"verb": "get", "resource": "pods", "namespace": "a", "version": "v1"});
        let ruling = served.ask(&cluster, &user, &asked);
        assert_eq!(ruling.outcome, wanted, "{arn}: {}", ruling.reason);
    }
}
