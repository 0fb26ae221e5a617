use super::merge::{MergeError, has_cluster};
use super::*;
use crate::Environment;

const ARN: &str = "arn:aws:eks:eu-west-1:444455556666:cluster/demo";

fn demo_entries(args: &KubeconfigArgs, env: &Environment) -> Entries {
    let profiles = Profiles::new(Vec::new(), Vec::new(), env, None).unwrap();
    let session = Session {
        env,
        profiles: &profiles,
        clock: &|| jiff::Timestamp::UNIX_EPOCH,
    };
    let cluster = Cluster {
        arn: ARN.to_owned(),
        endpoint: "https://new.example".to_owned(),
        certificate_authority: Some(
            "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk5FVwotLS0tLUVORA==".to_owned(),
        ),
        region: "eu-west-1".to_owned(),
        outpost_id: args.cluster_id.clone(),
    };
    entries(args, &cluster, &session)
}

fn demo() -> Entries {
    let args = KubeconfigArgs {
        name: "demo".to_owned(),
        command: "countersign".to_owned(),
        ..KubeconfigArgs::default()
    };
    demo_entries(&args, &Environment::default())
}

#[test]
fn merging_changes_the_three_entries_and_keeps_the_rest() {
    for (name, before, after) in [
        (
            "plain",
            include_str!("../../tests/data/kubeconfig/plain.yaml"),
            include_str!("../../tests/data/kubeconfig/plain.expected.yaml"),
        ),
        (
            "indented",
            include_str!("../../tests/data/kubeconfig/indented.yaml"),
            include_str!("../../tests/data/kubeconfig/indented.expected.yaml"),
        ),
        (
            "json",
            include_str!("../../tests/data/kubeconfig/json.yaml"),
            include_str!("../../tests/data/kubeconfig/json.expected.yaml"),
        ),
        (
            "empty",
            include_str!("../../tests/data/kubeconfig/empty.yaml"),
            include_str!("../../tests/data/kubeconfig/empty.expected.yaml"),
        ),
    ] {
        let merged = merge(before, &demo()).unwrap();
        assert_eq!(merged, after, "{name}");
        assert_eq!(merge(&merged, &demo()).unwrap(), merged, "{name} again");
        assert_eq!(has_cluster(&merged, ARN), Ok(true));
    }
}

#[test]
fn files_that_are_no_kubeconfig_are_refused() {
    for (text, error) in [
        ("- a\n", "`the file` is not a mapping"),
        ("just text\n", "`the file` is not a mapping"),
        ("clusters: {}\n", "`clusters` is not a list"),
        ("users: x\n", "`users` is not a list"),
        ("contexts: [a]\n", "`contexts` is not a list of mappings"),
        (
            "clusters: []\nclusters: []\n",
            "`clusters` is not given once",
        ),
        (
            "current-context: [a]\n",
            "`current-context` is not a string",
        ),
        ("a: b\n---\nc: d\n", "it is not valid YAML"),
        ("a: [\n", "it is not valid YAML"),
        ("a: 'b\n", "it is not valid YAML"),
    ] {
        assert_eq!(
            merge(text, &demo()).unwrap_err().to_string(),
            error,
            "{text}"
        );
    }
}

#[test]
fn anchors_away_from_the_entries_are_kept_and_others_refused() {
    let kept = "x-a: &a {k: v}\nx-b: *a\nclusters: []\n";
    let merged = merge(kept, &demo()).unwrap();
    assert!(merged.starts_with("x-a: &a {k: v}\nx-b: *a\n"), "{merged}");
    let refused = "{x-a: &a {k: v}, x-b: *a, clusters: []}\n";
    assert_eq!(merge(refused, &demo()), Err(MergeError::Properties));
}

#[test]
fn the_user_entry_says_what_the_aws_cli_would_say() {
    let args = KubeconfigArgs {
        name: "demo".to_owned(),
        command: "/opt/countersign".to_owned(),
        role_arn: Some("arn:aws:iam::444455556666:role/Ops".to_owned()),
        proxy_url: Some("http://proxy:3128".to_owned()),
        user_alias: Some("me".to_owned()),
        alias: Some("yes".to_owned()),
        cluster_id: Some("0b5e1c1e-1111-2222-3333-444455556666".to_owned()),
        ..KubeconfigArgs::default()
    };
    let env = Environment::from([
        ("AWS_ENDPOINT_URL", "https://cs.example"),
        ("AWS_CA_BUNDLE", "/etc/ca.pem"),
    ]);
    let merged = merge("", &demo_entries(&args, &env)).unwrap();
    let expected = "users:
- name: me
  user:
    exec:
      apiVersion: client.authentication.k8s.io/v1beta1
      args:
      - --region
      - eu-west-1
      - eks
      - get-token
      - --cluster-id
      - \"0b5e1c1e-1111-2222-3333-444455556666\"
      - --output
      - json
      - --role
      - arn:aws:iam::444455556666:role/Ops
      command: /opt/countersign
      env:
      - name: AWS_ENDPOINT_URL_STS
        value: https://cs.example
      - name: AWS_CA_BUNDLE
        value: /etc/ca.pem
";
    assert!(merged.ends_with(expected), "{merged}");
    assert!(merged.contains("    proxy-url: http://proxy:3128\n"));
    assert!(merged.contains("current-context: \"yes\"\n"), "{merged}");
    assert!(merged.contains(&format!(
        "    cluster: {ARN}\n    user: me\n  name: \"yes\"\n"
    )));
}

#[test]
fn a_file_that_changes_meanwhile_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config");
    std::fs::write(&path, "clusters: []\n").unwrap();
    let changed = write_merged(&path, &demo(), ARN, &mut || {
        std::fs::write(&path, "clusters: [] # by another\n").unwrap();
    });
    assert!(matches!(changed, Err(KubeconfigError::Changed(_))));
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, "clusters: [] # by another\n");
    assert!(!directory.path().join("config.lock").exists());
    assert!(!write_merged(&path, &demo(), ARN, &mut || {}).unwrap());
    assert!(write_merged(&path, &demo(), ARN, &mut || {}).unwrap());
}

#[test]
fn kubectls_lock_is_respected() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config");
    std::fs::write(directory.path().join("config.lock"), "").unwrap();
    let locked = write_merged(&path, &demo(), ARN, &mut || {});
    assert!(matches!(locked, Err(KubeconfigError::Locked(_))));
    assert!(!path.exists());
    assert!(directory.path().join("config.lock").exists());
}

#[test]
fn answers_of_describe_cluster_become_clusters() {
    let cluster = |rest: &str| {
        describe::parse_for_test(&format!(
            r#"{{"cluster":{{"name":"demo","arn":"{ARN}","endpoint":"https://x","certificateAuthority":{{"data":"QUFB"}},{rest}}}}}"#
        ))
    };
    let active = cluster(r#""status":"ACTIVE""#).unwrap();
    assert_eq!(
        (active.region.as_str(), active.outpost_id),
        ("eu-west-1", None)
    );
    assert!(cluster(r#""status":"UPDATING""#).is_ok());
    let local = r#""status":"ACTIVE","id":"uuid","outpostConfig":{"outpostArns":[]}"#;
    assert_eq!(cluster(local).unwrap().outpost_id.as_deref(), Some("uuid"));
    let extended =
        r#""status":"ACTIVE","id":"uuid","outpostConfig":{"etcdInstanceType":"m5.large"}"#;
    assert_eq!(cluster(extended).unwrap().outpost_id, None);
    for status in ["CREATING", "DELETING", "FAILED", "PENDING"] {
        let error = cluster(&format!(r#""status":"{status}""#)).unwrap_err();
        assert_eq!(error.to_string(), format!("Cluster status is {status}"));
    }
    for body in [
        "",
        "{}",
        r#"{"cluster":{}}"#,
        r#"{"cluster":{"status":"ACTIVE","arn":"x"}}"#,
    ] {
        let error = describe::parse_for_test(body).unwrap_err();
        assert!(matches!(error, KubeconfigError::Answer(_)), "{body}");
    }
}
