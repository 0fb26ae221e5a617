//! On files alone.

use super::*;

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
