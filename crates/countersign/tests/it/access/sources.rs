//! On any EKS API, and on a cluster.

use super::*;

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
