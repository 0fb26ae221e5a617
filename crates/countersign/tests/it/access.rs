//! `countersign access` with the real command: on a store, on a running server, on an EKS API, on a cluster, and on files.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use countersign_access::{AccessScope, EntryType};
use countersign_store::records::AuthenticationMode;
use countersign_store::{
    ClusterPlace, DataDir, Directory, NewAccessEntry, NewRole, Quotas, Random, RedbOptions,
    RootKeySource, Sealer,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::harness::{BINARY, Running, clean_environment, countersign};

const VIEW: &str = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy";
const DEV: &str = "arn:aws:iam::111122223333:role/Dev";
const GONE: &str = "arn:aws:iam::111122223333:role/Gone";

const CONFIG: &str = r#"
countersign:
  bootstrap:
    roles:
    - name: Dev
      trustPolicy: '{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "arn:aws:iam::111122223333:root"}}}'
    - name: Gone
      trustPolicy: '{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "arn:aws:iam::111122223333:root"}}}'
"#;

fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs/examples/access")
        .join(name);
    path.canonicalize().unwrap().display().to_string()
}

/// Runs `countersign access` without a kubeconfig to find; gives exit code, stdout, stderr.
fn access(args: &[&str], environment: &[(&str, &str)]) -> (i32, String, String) {
    let mut variables: BTreeMap<String, String> = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    variables.insert("HOME".into(), "/nonexistent".into());
    let mut all = vec!["access"];
    all.extend(args);
    let Output {
        status,
        stdout,
        stderr,
    } = countersign(&all, &variables);
    (
        status.code().unwrap(),
        String::from_utf8(stdout).unwrap(),
        String::from_utf8(stderr).unwrap(),
    )
}

/// What a row of a table holds, whatever the width of its columns.
fn cells(line: &str) -> Vec<&str> {
    line.split("  ")
        .map(str::trim)
        .filter(|cell| !cell.is_empty())
        .collect()
}

#[test]
fn files_alone_answer_questions() {
    let (entries, shop) = (example("entries.json"), example("shop.yaml"));
    let files = ["--entries", &entries, "-f", &shop, "--no-defaults"];
    let auditor = "arn:aws:iam::111122223333:role/audit/Auditor";
    for (question, code, answer) in [
        (
            vec!["can-i", "get", "pods", "-n", "shop", "--principal", auditor],
            0,
            "yes - EKS Access Policy: allowed by RoleBinding",
        ),
        (
            vec![
                "can-i",
                "get",
                "pods",
                "-n",
                "pay",
                "--as-principal",
                auditor,
            ],
            1,
            "no - neither an access policy nor a binding allows it",
        ),
        (
            vec!["can-i", "list", "nodes", "--user", "dana"],
            0,
            "yes - RBAC: allowed by ClusterRoleBinding \"node-viewers\" of ClusterRole \"node-reader\" to User \"dana\"",
        ),
        (
            vec![
                "can-i",
                "create",
                "jobs.batch",
                "-A",
                "--user",
                "x",
                "--group",
                "platform",
            ],
            0,
            "yes - RBAC: allowed by ClusterRoleBinding \"ops-platform\"",
        ),
        (
            vec!["can-i", "get", "/metrics", "--group", "platform"],
            0,
            "yes - RBAC: ",
        ),
        (
            vec![
                "can-i",
                "get",
                "secrets",
                "--subresource",
                "x",
                "--user",
                "dana",
                "-q",
            ],
            1,
            "",
        ),
        (
            vec!["why", "user:dana", "get", "pods/log", "-n", "shop"],
            0,
            "allowed\n",
        ),
        (
            vec!["why", "delete", "pods", "-n", "shop", "--user", "dana"],
            1,
            "denied\n",
        ),
    ] {
        let args: Vec<&str> = question.iter().copied().chain(files).collect();
        let (found, stdout, stderr) = access(&args, &[]);
        assert_eq!(found, code, "{question:?}\n{stdout}{stderr}");
        assert!(stdout.starts_with(answer), "{question:?}\n{stdout}");
    }
}

#[test]
fn json_is_for_programs() {
    let shop = example("shop.yaml");
    let args = [
        "why",
        "user:dana",
        "get",
        "pods",
        "-n",
        "shop",
        "-f",
        &shop,
        "-o",
        "json",
    ];
    let (code, stdout, _) = access(&args, &[]);
    let review: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(code, 0);
    assert_eq!(review["apiVersion"], "countersign.dev/v1");
    assert_eq!(review["kind"], "AccessReview");
    assert_eq!(review["allowed"], true);
    let grant = &review["granted"][0];
    assert_eq!(grant["source"], "rbac");
    assert_eq!(grant["binding"]["name"], "readers");
    let origin = grant["binding"]["origin"].as_str().unwrap();
    assert!(origin.contains("shop.yaml:"), "{origin}");
    assert_eq!(grant["rule"]["verbs"], json!(["get", "list", "watch"]));

    let list = [
        "can-i",
        "--list",
        "-n",
        "shop",
        "--user",
        "dana",
        "-f",
        &shop,
        "--no-defaults",
        "-o",
        "json",
    ];
    let (code, stdout, _) = access(&list, &[]);
    let review: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(
        (code, &review["kind"]),
        (0, &json!("SelfSubjectRulesReview"))
    );
    assert_eq!(
        review["status"],
        json!({
            "resourceRules": [
                {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["nodes"]},
                {"verbs": ["get", "list", "watch"], "apiGroups": [""], "resources": ["pods", "pods/log"]},
            ],
            "nonResourceRules": [], "incomplete": false,
        })
    );
    let (_, stdout, _) = access(&list[..9], &[]);
    let rows: Vec<Vec<&str>> = stdout.lines().map(cells).collect();
    assert_eq!(
        rows[0],
        ["RESOURCES", "NON-RESOURCE URLS", "NAMES", "VERBS", "FROM"]
    );
    assert_eq!(
        rows[2],
        [
            "pods,pods/log",
            "-",
            "-",
            "get,list,watch",
            "RoleBinding shop/readers -> ClusterRole pod-reader"
        ]
    );
}

#[test]
fn what_cannot_be_read_is_told_and_never_a_certain_no() {
    let directory = tempfile::tempdir().unwrap();
    let broken = directory.path().join("broken.yaml");
    std::fs::write(
        &broken,
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\n",
    )
    .unwrap();
    let (broken, shop) = (broken.display().to_string(), example("shop.yaml"));
    let question = ["can-i", "get", "secrets", "-n", "shop", "--user", "dana"];
    let with = |more: &[&str]| {
        let args: Vec<&str> = question.iter().chain(more).copied().collect();
        access(&args, &[])
    };
    let (code, _, stderr) = with(&["-f", &broken, "-f", &shop]);
    assert_eq!(code, 1);
    assert!(
        stderr.contains("broken.yaml:1: `metadata.name` is missing"),
        "{stderr}"
    );
    assert_eq!(with(&["-f", &broken, "-f", &shop, "--strict"]).0, 3);
    assert_eq!(with(&["-f", &shop, "--strict"]).0, 1);
    // Without a cluster and without files there is nothing to decide on.
    let (code, _, stderr) = with(&["--strict"]);
    assert_eq!(code, 3);
    assert!(
        stderr.contains("no roles and bindings were read"),
        "{stderr}"
    );
    for args in [
        vec!["can-i", "get", "pods"],
        vec!["can-i", "get", "pods", "--principal", "arn:aws:s3:::x"],
        vec!["can-i", "get", "pods/a/b/c", "--user", "x", "-f", &shop],
        vec!["can-i", "get", "pods", "--user", "x", "-f", "/nonexistent"],
        vec!["can-i", "--list"],
        vec![
            "why",
            "user:dana",
            "get",
            "pods",
            "--user",
            "x",
            "-f",
            &shop,
        ],
        vec!["why", "user:dana", "get", "pods", "-n", "a", "-A"],
        vec!["list", "--entries", &shop],
        vec!["list", "--type", "NODES"],
        vec!["list", "--entries", "/nonexistent"],
    ] {
        let (code, stdout, stderr) = access(&args, &[]);
        assert_eq!(code, 2, "{args:?}\n{stdout}{stderr}");
        assert!(
            stdout.is_empty() && stderr.contains("error: "),
            "{args:?}\n{stderr}"
        );
    }
}

#[test]
fn custom_policies_count_where_their_file_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let policies = directory.path().join("policies.yaml");
    std::fs::write(
        &policies,
        "policies:\n- name: WidgetReader\n  rules:\n  - verbs: [get]\n    apiGroups: [example.com]\n    resources: [widgets]\n",
    )
    .unwrap();
    let entries = directory.path().join("entries.json");
    let arn = "arn:aws:iam::111122223333:role/W";
    std::fs::write(
        &entries,
        json!({
            "apiVersion": "countersign.dev/v1", "kind": "AccessSnapshot",
            "cluster": {"name": "c", "arn": "arn:aws:eks:us-east-1:111122223333:cluster/c", "authenticationMode": "API"},
            "entries": [{
                "principalArn": arn, "username": "w",
                "associatedAccessPolicies": [{
                    "policyArn": "arn:aws:eks::111122223333:cluster-access-policy/WidgetReader",
                    "accessScope": {"type": "cluster"},
                }],
            }],
        })
        .to_string(),
    )
    .unwrap();
    let (policies, entries, shop) = (
        policies.display().to_string(),
        entries.display().to_string(),
        example("shop.yaml"),
    );
    let ask = [
        "can-i",
        "get",
        "widgets.example.com",
        "--principal",
        arn,
        "--entries",
        &entries,
        "-f",
        &shop,
    ];
    let (code, stdout, stderr) = access(&[&ask[..], &["--policies", &policies]].concat(), &[]);
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(
        stdout.contains("cluster-access-policy/WidgetReader"),
        "{stdout}"
    );
    assert_eq!(
        access(&ask, &[]).0,
        1,
        "a policy that is not known grants nothing"
    );
    // Access rules stand in the same file, and are told as what they are.
    std::fs::write(
        directory.path().join("policies.yaml"),
        "accessRules:\n- name: ops\n  match: {roleArnLike: 'arn:aws:iam::111122223333:role/Ops-*'}\n  groups: [ops]\n  \
         policies:\n  - {policy: AmazonEKSViewPolicy, namespaces: [a]}\n",
    )
    .unwrap();
    let of_file = ["--entries", &entries, "--policies", &policies];
    let (code, stdout, stderr) = access(&[&["list"][..], &of_file].concat(), &[]);
    assert_eq!(code, 0, "{stderr}");
    let row = stdout
        .lines()
        .find(|line| line.starts_with("roles Ops-* of account 111122223333"))
        .unwrap_or_else(|| panic!("{stdout}"));
    let words: Vec<&str> = row.split_whitespace().collect();
    let wanted = format!(
        "roles Ops-* of account 111122223333 STANDARD (default) ops AmazonEKSViewPolicy@a - rule ops ({policies}:2)"
    );
    assert_eq!(words.join(" "), wanted);
    let why = [
        "why",
        "arn:aws:sts::111122223333:assumed-role/Ops-1/olga",
        "get",
        "pods",
        "-n",
        "a",
        "-f",
        &shop,
    ];
    let (code, stdout, stderr) = access(&[&why[..], &of_file].concat(), &[]);
    assert_eq!(code, 0, "{stdout}{stderr}");
    for text in [
        format!("access rule ops ({policies}:2)"),
        "by access rule \"ops\" (policies.yaml:2)".to_owned(),
    ] {
        assert!(stdout.contains(&text), "{stdout}");
    }
    std::fs::write(
        directory.path().join("policies.yaml"),
        "policies:\n- name: 7 7\n",
    )
    .unwrap();
    let (code, _, stderr) = access(&[&ask[..], &["--policies", &policies]].concat(), &[]);
    assert_eq!(code, 2);
    assert!(stderr.contains("policies.yaml:2"), "{stderr}");
}

#[test]
fn the_examples_of_the_page_are_what_the_commands_print() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = std::fs::read_to_string(root.join("docs/access.md")).unwrap();
    let mut blocks = page.split("```console\n").skip(1).peekable();
    assert!(blocks.peek().is_some());
    for block in blocks {
        let (shown, behind) = block.split_once("\n```\n").unwrap();
        let (command, expected) = shown.split_once('\n').unwrap();
        let code = behind.trim_start().strip_prefix("Exit code ").unwrap();
        let code: i32 = code.split('.').next().unwrap().parse().unwrap();
        let mut process = Command::new(BINARY);
        clean_environment(&mut process);
        let words = command.strip_prefix("$ countersign ").unwrap().split(' ');
        let output = process
            .args(words)
            .env("HOME", "/nonexistent")
            .current_dir(&root)
            .output()
            .unwrap();
        let printed = [output.stderr, output.stdout].concat();
        let printed = String::from_utf8(printed).unwrap();
        assert_eq!(printed.trim_end(), expected, "{command}");
        assert_eq!(output.status.code(), Some(code), "{command}");
    }
}

/// Entries of the cluster `demo`, made while no server runs: one bound to Dev with View in `shop`, one bound to a role
/// Gone that is made again afterwards.
fn seed(data: &Path) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let random = Random::system();
        let opened = DataDir::open(
            data,
            RootKeySource::DataDir,
            &random,
            &RedbOptions::default(),
        )
        .unwrap();
        let sealer = Sealer::new(&opened.root_key, &[]).unwrap();
        let directory = Directory::open(Arc::new(opened.store), sealer, random, Quotas::default())
            .await
            .unwrap();
        let now = Timestamp::now();
        let account = "111122223333".parse().unwrap();
        let place = ClusterPlace {
            account,
            region: "us-east-1",
            name: "demo",
        };
        let snapshot = directory.snapshot();
        let cluster = place
            .find(&snapshot, now)
            .unwrap()
            .record
            .authentication_mode;
        if cluster == AuthenticationMode::ConfigMap {
            let mode = AuthenticationMode::ApiAndConfigMap;
            let settling = SignedDuration::ZERO;
            directory
                .set_authentication_mode(place, mode, settling, None, now)
                .await
                .unwrap();
        }
        for (arn, name) in [(DEV, "Dev"), (GONE, "Gone")] {
            let id = snapshot.role(account, name).unwrap().record.id.clone();
            let new = NewAccessEntry {
                principal_arn: arn.into(),
                principal_id: Some(id),
                entry_type: EntryType::Standard,
                groups: vec!["devs".into()],
                username: Some("dev:{{SessionName}}".into()),
                tags: Vec::new(),
            };
            directory
                .create_access_entry(place, new, None, now)
                .await
                .unwrap();
        }
        let scope = AccessScope::Namespace(vec!["shop".into()]);
        directory
            .associate_access_policy(place, DEV, VIEW, &scope, now)
            .await
            .unwrap();
        let old = snapshot.role(account, "Gone").unwrap().record.clone();
        directory.delete_role(account, "Gone").await.unwrap();
        let again = NewRole {
            account,
            name: old.name,
            path: old.path,
            trust: old.trust,
            max_session_duration: old.max_session_duration,
            description: None,
            tags: Vec::new(),
            boundary: None,
        };
        directory.create_role(again, now).await.unwrap();
    });
}

#[test]
fn entries_of_a_store_and_of_the_server_on_it_are_the_same_and_a_dead_one_is_rebound() {
    let directory = tempfile::tempdir().unwrap();
    let (data, config) = (
        directory.path().join("data"),
        directory.path().join("config.yaml"),
    );
    std::fs::write(&config, CONFIG).unwrap();
    let data_dir = data.display().to_string();
    let config = config.display().to_string();
    let start = || Running::up(&["--data-dir", &data_dir, "--config", &config]);
    start().stop();
    seed(&data);
    let shop = example("shop.yaml");
    let list = ["list", "--data-dir", &data_dir, "--cluster", "demo"];
    let (code, offline, stderr) = access(&list, &[]);
    assert_eq!(code, 0, "{stderr}");
    assert!(
        offline.starts_with("cluster demo (API_AND_CONFIG_MAP)\n"),
        "{offline}"
    );
    let row = |text: &str, arn: &str| -> Vec<String> {
        let line = text.lines().find(|line| line.starts_with(arn));
        let line = line.unwrap_or_else(|| panic!("{arn} in\n{text}"));
        cells(line).iter().map(|cell| (*cell).to_owned()).collect()
    };
    let dev = row(&offline, DEV);
    assert_eq!(
        dev[1..5],
        [
            "STANDARD",
            "dev:{{SessionName}}",
            "devs",
            "AmazonEKSViewPolicy@shop"
        ]
    );
    assert!(dev[5].starts_with("bound AROA"), "{dev:?}");
    let gone = row(&offline, GONE);
    assert!(
        gone[5].starts_with("dead AROA") && gone[5].contains("(now AROA"),
        "{gone:?}"
    );

    let server = start();
    let (_, online, _) = access(&list, &[]);
    assert_eq!(
        online, offline,
        "through the socket, and on the store itself"
    );
    let (code, only, _) = access(&["list", "--data-dir", &data_dir, "--dead"], &[]);
    assert_eq!(code, 1, "there are dead entries");
    assert!(only.contains(GONE) && !only.contains(DEV), "{only}");

    // The snapshot answers the same where there is no server.
    let (_, snapshot, _) = access(&["list", "--data-dir", &data_dir, "-o", "json"], &[]);
    let file = directory.path().join("snapshot.json");
    std::fs::write(&file, snapshot).unwrap();
    let file = file.display().to_string();
    let session = "arn:aws:sts::111122223333:assumed-role/Dev/lea";
    for source in [
        ["--data-dir", data_dir.as_str()],
        ["--entries", file.as_str()],
    ] {
        let ask = |namespace: &str, principal: &str| {
            let mut args = vec![
                "why", principal, "list", "services", "-n", namespace, "-f", &shop,
            ];
            args.extend(source);
            access(&args, &[])
        };
        let (code, chain, stderr) = ask("shop", session);
        assert_eq!(code, 0, "{chain}{stderr}");
        assert!(
            chain.contains("user \"dev:lea\", groups devs, system:authenticated"),
            "{chain}"
        );
        assert!(
            chain.contains("EKS Access Policy: allowed by RoleBinding"),
            "{chain}"
        );
        let (code, chain, _) = ask("pay", session);
        assert_eq!(code, 1);
        assert!(
            chain.contains("AmazonEKSViewPolicy with scope shop,pay instead of shop"),
            "{chain}"
        );
        let (code, chain, _) = ask("shop", GONE);
        assert_eq!(code, 1);
        assert!(chain.contains("is dead: it is bound to AROA"), "{chain}");
        assert!(
            chain.contains(&format!("countersign access rebind --cluster demo {GONE}")),
            "{chain}"
        );
    }

    let rebind = ["rebind", "--data-dir", &data_dir, "--cluster", "demo", GONE];
    let (code, stdout, _) = access(&rebind, &[]);
    assert_eq!(code, 1);
    assert!(stdout.contains("nothing is changed yet"), "{stdout}");
    let (code, _, stderr) = access(
        &[&rebind[..], &["--to", "AROAANOTHER000000001", "--yes"]].concat(),
        &[],
    );
    assert_eq!(code, 2, "another id than the principal's: {stderr}");
    let (code, _, stderr) = access(
        &[
            "rebind",
            "--data-dir",
            &data_dir,
            "arn:aws:iam::111122223333:role/No",
        ],
        &[],
    );
    assert_eq!(code, 2, "{stderr}");
    let (code, stdout, stderr) = access(&[&rebind[..], &["--yes"]].concat(), &[]);
    assert_eq!(code, 0, "{stdout}{stderr}");
    server.wait_for_log("an access entry is bound to another principal");
    let (code, stdout, _) = access(&[&rebind[..], &["--yes"]].concat(), &[]);
    assert_eq!(code, 0);
    assert!(
        stdout.starts_with("bound to AROA") && stdout.ends_with(" already\n"),
        "{stdout}"
    );
    assert_eq!(
        access(&["list", "--data-dir", &data_dir, "--dead"], &[]).0,
        0
    );
}

/// Answers GET requests by path; tells what was asked.
fn serve(answers: Vec<(String, u16, Value)>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = Vec::new();
            for line in BufReader::new(&stream).lines() {
                match line {
                    Ok(line) if !line.is_empty() => lines.push(line),
                    _ => break,
                }
            }
            let Some(first) = lines.first() else { continue };
            let target = first.split(' ').nth(1).unwrap_or_default().to_owned();
            let signed = lines.iter().any(|line| {
                line.to_ascii_lowercase()
                    .starts_with("authorization: aws4-hmac-sha256")
            });
            let found = answers.iter().find(|(path, ..)| {
                target == *path
                    || target
                        .strip_prefix(path.as_str())
                        .is_some_and(|rest| rest.starts_with('?'))
            });
            seen.lock()
                .unwrap()
                .push(format!("{target} signed={signed}"));
            let (status, body) = match found {
                Some((_, status, body)) => (*status, body.to_string()),
                None => (
                    404,
                    json!({"kind": "Status", "code": 404, "message": "no such thing"}).to_string(),
                ),
            };
            let _ = write!(
                stream,
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nx-amzn-errortype: ResourceNotFoundException:x\r\n\
                 connection: close\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
        }
    });
    (url, asked)
}

const AWS: [(&str, &str); 5] = [
    ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
    (
        "AWS_SECRET_ACCESS_KEY",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    ),
    ("AWS_REGION", "eu-west-1"),
    ("AWS_EC2_METADATA_DISABLED", "true"),
    ("AWS_CONFIG_FILE", "/dev/null"),
];

#[test]
fn entries_come_from_any_eks_api() {
    let escaped = "arn%3Aaws%3Aiam%3A%3A111122223333%3Arole%2Fteam%2FDev";
    let entries = "/clusters/prod/access-entries";
    let (url, asked) = serve(vec![
        (
            "/clusters/prod".into(),
            200,
            json!({"cluster": {"name": "prod", "arn": "arn:aws:eks:eu-west-1:111122223333:cluster/prod",
                   "status": "ACTIVE", "accessConfig": {"authenticationMode": "API"}}}),
        ),
        (
            format!("{entries}?nextToken=more%2F1"),
            200,
            json!({"accessEntries": ["arn:aws:iam::111122223333:role/Other"]}),
        ),
        (
            entries.into(),
            200,
            json!({"accessEntries": ["arn:aws:iam::111122223333:role/team/Dev"], "nextToken": "more/1"}),
        ),
        (
            format!("{entries}/{escaped}"),
            200,
            json!({"accessEntry": {"clusterName": "prod", "principalArn": "arn:aws:iam::111122223333:role/team/Dev",
                   "kubernetesGroups": ["devs"], "username": "dev:{{SessionName}}", "type": "STANDARD",
                   "createdAt": 1_767_225_600.125, "modifiedAt": 1_767_225_600.125, "tags": {}}}),
        ),
        (
            format!("{entries}/{escaped}/access-policies"),
            200,
            json!({"associatedAccessPolicies": [{"policyArn": VIEW, "associatedAt": 1_767_225_600.5,
                   "accessScope": {"type": "namespace", "namespaces": ["shop"]}}]}),
        ),
    ]);
    let shop = example("shop.yaml");
    let eks = [
        "--eks",
        "--cluster",
        "prod",
        "--endpoint-url",
        &url,
        "-f",
        &shop,
    ];
    let session = "arn:aws:sts::111122223333:assumed-role/Dev/lea";
    let mut args = vec!["why", session, "get", "services", "-n", "shop"];
    args.extend(eks);
    let (code, chain, stderr) = access(&args, &AWS);
    assert_eq!(code, 0, "{chain}{stderr}");
    assert!(
        chain.contains("AmazonEKSViewPolicy, namespaces shop"),
        "{chain}"
    );
    assert!(
        chain.contains("is not told"),
        "the binding is AWS's secret: {chain}"
    );
    let asked = asked.lock().unwrap().clone();
    assert!(
        asked.iter().all(|call| call.ends_with("signed=true")),
        "{asked:?}"
    );
    assert!(
        !asked
            .iter()
            .any(|call| call.contains("Other%2F") || call.contains("Other/")),
        "{asked:?}"
    );
    assert_eq!(
        asked.len(),
        5,
        "entries of other principals are not looked at: {asked:?}"
    );

    let missing = ["list", "--eks", "--cluster", "none", "--endpoint-url", &url];
    let (code, _, stderr) = access(&missing, &AWS);
    assert_eq!(code, 3);
    assert!(
        stderr.contains("An error occurred (ResourceNotFoundException) when calling the DescribeCluster operation"),
        "{stderr}"
    );
}

#[test]
fn roles_bindings_and_aws_auth_come_from_a_cluster() {
    let group = "/apis/rbac.authorization.k8s.io/v1";
    let list = |items: Value| {
        json!({"kind": "XList", "apiVersion": "rbac.authorization.k8s.io/v1",
                                      "metadata": {"resourceVersion": "7"}, "items": items})
    };
    let (url, _) = serve(vec![
        (
            format!("{group}/clusterroles"),
            200,
            list(
                json!([{"metadata": {"name": "reader", "resourceVersion": "5"},
                         "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]}]),
            ),
        ),
        (format!("{group}/clusterrolebindings"), 200, list(json!([]))),
        (format!("{group}/roles"), 200, list(json!([]))),
        (
            format!("{group}/rolebindings"),
            200,
            list(
                json!([{"metadata": {"name": "readers", "namespace": "shop", "resourceVersion": "6"},
                         "roleRef": {"kind": "ClusterRole", "name": "reader"},
                         "subjects": [{"kind": "Group", "name": "from-map"}]}]),
            ),
        ),
        (
            "/api/v1/namespaces/kube-system/configmaps/aws-auth".into(),
            200,
            json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "aws-auth"},
                   "data": {"mapRoles": "- rolearn: arn:aws:iam::111122223333:role/Mapped\n  username: mapped\n  groups: [from-map]\n"}}),
        ),
    ]);
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = directory.path().join("config");
    std::fs::write(
        &kubeconfig,
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters:\n- {{name: a, cluster: {{server: \"{url}\"}}}}\n\
             contexts:\n- {{name: a, context: {{cluster: a, user: a, namespace: shop}}}}\nusers:\n- {{name: a, user: {{}}}}\n"
        ),
    )
    .unwrap();
    let entries = directory.path().join("entries.json");
    std::fs::write(
        &entries,
        json!({"apiVersion": "countersign.dev/v1", "kind": "AccessSnapshot", "entries": [],
               "cluster": {"name": "c", "authenticationMode": "API_AND_CONFIG_MAP"}})
        .to_string(),
    )
    .unwrap();
    let (kubeconfig, entries) = (
        kubeconfig.display().to_string(),
        entries.display().to_string(),
    );
    let mapped = "arn:aws:iam::111122223333:role/Mapped";
    let args = [
        "why",
        mapped,
        "get",
        "pods",
        "--entries",
        &entries,
        "--kubeconfig",
        &kubeconfig,
    ];
    let (code, chain, stderr) = access(&args, &[]);
    assert_eq!(code, 0, "{chain}{stderr}");
    assert!(chain.contains("mapping    aws-auth mapRoles[0]"), "{chain}");
    assert!(
        chain.contains("RoleBinding shop/readers (resourceVersion 6)"),
        "the context's namespace: {chain}"
    );
    let environment = [("KUBECONFIG", kubeconfig.as_str())];
    let args = [
        "can-i",
        "get",
        "pods",
        "-n",
        "pay",
        "--principal",
        mapped,
        "--entries",
        &entries,
    ];
    assert_eq!(
        access(&args, &environment).0,
        1,
        "the current context is the default"
    );
    let args = ["can-i", "get", "pods", "--user", "x", "--context", "none"];
    assert_eq!(access(&args, &environment).0, 2);
}

/// A call of our own EKS API as the admin, which must succeed.
fn call_eks(server: &Running, method: &str, path: &str, body: &Value) -> Value {
    use countersign_sigv4::{Credentials, Payload, Request, SecretKey, Signer};
    let url = server.field("endpointUrl");
    let host = url.strip_prefix("http://").unwrap();
    let body = body.to_string();
    let headers = [("host", host.as_bytes())];
    let mut request = Request::new(method, path.as_bytes());
    request.headers = &headers;
    request.body = Payload::Bytes(body.as_bytes());
    let secret = SecretKey::new(server.field("admin.secretAccessKey"));
    let credentials = Credentials {
        key_id: &server.field("admin.accessKeyId"),
        secret: &secret,
        session_token: None,
    };
    let signed = Signer::new(credentials, &server.field("region"), "eks")
        .sign(&request, Timestamp::now())
        .unwrap();
    let headers: Vec<(&str, &str)> = signed.headers().collect();
    let answer = server.aws(method, path, &headers, body.as_bytes());
    assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

#[test]
fn our_own_eks_api_tells_what_the_administration_socket_tells() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("config.yaml");
    std::fs::write(&config, CONFIG).unwrap();
    let server = Running::up(&["--config", &config.display().to_string()]);
    let entries = "/clusters/demo/access-entries";
    let path_of = |arn: &str| {
        let escaped = arn.replace(':', "%3A").replace('/', "%2F");
        format!("{entries}/{escaped}")
    };
    let dev = json!({"principalArn": DEV, "kubernetesGroups": ["devs"], "username": "dev:{{SessionName}}"});
    let nodes = json!({"principalArn": GONE, "type": "EC2_LINUX"});
    for body in [&dev, &nodes] {
        call_eks(&server, "POST", entries, body);
    }
    let scope = json!({"type": "namespace", "namespaces": ["shop", "dev-*"]});
    call_eks(
        &server,
        "POST",
        &format!("{}/access-policies", path_of(DEV)),
        &json!({"policyArn": VIEW, "accessScope": scope}),
    );

    let (key, secret) = (
        server.field("admin.accessKeyId"),
        server.field("admin.secretAccessKey"),
    );
    let credentials = [
        ("AWS_ACCESS_KEY_ID", key.as_str()),
        ("AWS_SECRET_ACCESS_KEY", secret.as_str()),
    ];
    let (url, region) = (server.field("endpointUrl"), server.field("region"));
    let eks = [
        "--eks",
        "--cluster",
        "demo",
        "--region",
        &region,
        "--endpoint-url",
        &url,
    ];
    let data_dir = server.dir.path().join("data").display().to_string();
    let socket = ["--cluster", "demo", "--data-dir", &data_dir];
    let listed = |source: &[&str]| {
        let (code, list, stderr) =
            access(&[&["list", "-o", "json"], source].concat(), &credentials);
        assert_eq!(code, 0, "{list}{stderr}");
        let mut list: Value = serde_json::from_str(&list).unwrap();
        let entries = list["entries"].take();
        let mut entries = entries.as_array().unwrap().clone();
        // The API tells neither the binding nor more than milliseconds.
        for entry in &mut entries {
            let entry = entry.as_object_mut().unwrap();
            for unlike in ["binding", "createdAt", "modifiedAt"] {
                entry.remove(unlike);
            }
            for policy in entry["associatedAccessPolicies"].as_array_mut().unwrap() {
                let policy = policy.as_object_mut().unwrap();
                policy.remove("associatedAt").unwrap();
                policy.remove("modifiedAt").unwrap();
            }
        }
        (list["cluster"]["authenticationMode"].take(), entries)
    };
    let told = listed(&eks);
    assert_eq!(told, listed(&socket));
    assert!(told.1.len() >= 2, "{told:?}");
    let entry = |arn: &str| told.1.iter().find(|e| e["principalArn"] == arn).unwrap();
    assert_eq!(entry(DEV)["username"], "dev:{{SessionName}}");
    assert_eq!(entry(DEV)["kubernetesGroups"], json!(["devs"]));
    assert_eq!(
        entry(DEV)["associatedAccessPolicies"],
        json!([{"policyArn": VIEW, "accessScope": scope}])
    );
    assert_eq!(entry(GONE)["type"], "EC2_LINUX");
    assert_eq!(entry(GONE)["kubernetesGroups"], json!(["system:nodes"]));

    let shop = example("shop.yaml");
    let session = "arn:aws:sts::111122223333:assumed-role/Dev/lea";
    for (verb, namespace, code, said) in [
        (
            "list",
            "shop",
            0,
            "EKS Access Policy: allowed by RoleBinding",
        ),
        (
            "list",
            "dev-1",
            0,
            "EKS Access Policy: allowed by RoleBinding",
        ),
        (
            "list",
            "pay",
            1,
            "AmazonEKSViewPolicy with scope shop,dev-*,pay instead of shop,dev-*",
        ),
    ] {
        for source in [&eks[..], &socket] {
            let question = [
                "why", session, verb, "services", "-n", namespace, "-f", &shop,
            ];
            let (found, chain, stderr) = access(&[&question, source].concat(), &credentials);
            assert_eq!(found, code, "{namespace} {source:?}: {chain}{stderr}");
            assert!(chain.contains(said), "{namespace} {source:?}: {chain}");
            assert!(chain.contains("user \"dev:lea\", groups devs"), "{chain}");
        }
        let question = [
            "can-i",
            verb,
            "services",
            "-n",
            namespace,
            "-f",
            &shop,
            "--principal",
            session,
        ];
        let (found, answer, stderr) = access(&[&question, &eks[..]].concat(), &credentials);
        assert_eq!(found, code, "{namespace}: {answer}{stderr}");
    }
    // Somebody the API refuses is told so, and gets no "no".
    let wrong = [credentials[0], ("AWS_SECRET_ACCESS_KEY", "x")];
    let (code, _, stderr) = access(&[&["list"], &eks[..]].concat(), &wrong);
    assert_eq!(code, 3, "{stderr}");
    assert!(
        stderr.contains("InvalidSignatureException") && !stderr.contains(&secret),
        "{stderr}"
    );
}
