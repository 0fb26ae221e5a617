//! The SubjectAccessReview webhook on the wire: what kube-apiserver sends, what it must never be sent back, and the way from a
//! token to an answer.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Answer, Running, aws_cli, client, countersign, exec_token};

const JSON: (&str, &str) = ("Content-Type", "application/json");
const CLUSTER_ADMIN: &str = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy";

fn recorded() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rbac/tests/data/kube-1.36");
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("subjectaccessreview-") {
            all.push((name, std::fs::read_to_string(&path).unwrap()));
        }
    }
    all.sort();
    all
}

fn authorize(server: &Running, path: &str, review: &str) -> (u16, Value) {
    let answer = server.webhook("POST", path, &[JSON], review.as_bytes());
    (
        answer.status,
        serde_json::from_slice(&answer.body).unwrap_or(Value::Null),
    )
}

/// The user info that kube-apiserver makes of what `/authenticate` says about the admin user.
fn admin(server: &Running) -> Value {
    let token = exec_token(&countersign(
        &["get-token", "--cluster-name", "demo"],
        &server.aws_environment(),
    ));
    let (status, review) = server.review("/authenticate", &token);
    assert_eq!(status, 200, "{review}");
    let user = &review["status"]["user"];
    json!({
        "user": user["username"], "uid": user["uid"], "groups": ["system:authenticated"], "extra": user["extra"],
    })
}

#[test]
fn reviews_recorded_from_kube_apiserver_are_answered_in_their_version() {
    let server = Running::up(&[]);
    let recorded = recorded();
    assert!(recorded.len() > 60, "{}", recorded.len());
    let admin = admin(&server);
    let arn = server.field("admin.arn");
    let id = admin["extra"]["principalId"][0]
        .as_str()
        .unwrap()
        .to_owned();
    for (name, text) in &recorded {
        let mut review: Value = serde_json::from_str(text).unwrap();
        let version = review["apiVersion"].clone();
        // The principal of the recordings has no entry here, and everybody else is no principal of IAM.
        let mut wanted = json!({"allowed": false});
        if review["spec"]["extra"]["principalId"] == json!(["AROAEXAMPLE"]) {
            wanted["reason"] =
                "EKS Access Policy: no opinion for \"AROAEXAMPLE\" (no access entry)".into();
        }
        let (status, answer) = authorize(&server, "/authorize?timeout=30s", text);
        assert_eq!(status, 200, "{name}");
        assert_eq!(
            answer,
            json!({"apiVersion": version, "kind": "SubjectAccessReview", "status": wanted}),
            "{name}"
        );
        // The same by the creator of the cluster, whose access policy allows everything.
        let groups = if version == "authorization.k8s.io/v1" {
            "groups"
        } else {
            "group"
        };
        for field in ["user", "uid", "extra"] {
            review["spec"][field] = admin[field].clone();
        }
        review["spec"][groups] = admin["groups"].clone();
        for path in ["/authorize", "/clusters/demo/authorize"] {
            let (status, answer) = authorize(&server, path, &review.to_string());
            assert_eq!((status, &answer["apiVersion"]), (200, &version), "{name}");
            let reason = format!(
                "EKS Access Policy: allowed by ClusterRoleBinding \"{arn}+{CLUSTER_ADMIN}\" of ClusterRole \"{CLUSTER_ADMIN}\" to User \"{id}\""
            );
            assert_eq!(
                answer["status"],
                json!({"allowed": true, "reason": reason}),
                "{name}"
            );
        }
    }
    let metrics = server.webhook("GET", "/metrics", &[], b"").text();
    for (result, count) in [
        ("allow", recorded.len() * 2),
        ("no_opinion", recorded.len()),
    ] {
        let line =
            format!("countersign_authorize_latency_seconds_count{{result=\"{result}\"}} {count}\n");
        assert!(metrics.contains(&line), "{line}{metrics}");
    }
    assert!(
        metrics.contains("countersign_access_entries 1\n"),
        "{metrics}"
    );
    assert!(
        metrics.contains("countersign_access_entries_dead 0\n"),
        "{metrics}"
    );
    let log =
        server.wait_for_log("\"event\":\"authorize\",\"cluster\":\"demo\",\"decision\":\"allow\"");
    let event = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|line| line["event"] == "authorize" && line["decision"] == "allow")
        .unwrap();
    assert_eq!(
        (&event["cluster"], &event["decision"], &event["principalId"]),
        (&json!("demo"), &json!("allow"), &json!(id))
    );
    assert_eq!(event["authenticationMode"], "API_AND_CONFIG_MAP");
    let login = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|line| line["event"] == "authenticate")
        .unwrap();
    assert_eq!(
        (
            &login["backend"],
            &login["rule"],
            &login["authenticationMode"]
        ),
        (
            &json!("AccessEntries"),
            &json!(format!("AccessEntries {arn}")),
            &json!("API_AND_CONFIG_MAP")
        )
    );
}

#[test]
fn what_is_no_review_is_refused_and_what_cannot_be_decided_is_no_opinion() {
    let server = Running::up(&[]);
    let deep = format!("{{\"spec\":{}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let asked = r#""spec":{"user":"eve","resourceAttributes":{"verb":"frob","resource":"widgets","unknown":[{}]},"new":1},"later":{}"#;
    let v1 = r#""apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview""#;
    let cases: &[(&str, &str, String, u16, &str)] = &[
        ("GET", "/authorize", String::new(), 405, "expected POST"),
        (
            "POST",
            "/authorize",
            String::new(),
            400,
            "not a readable review",
        ),
        (
            "POST",
            "/authorize",
            "{".into(),
            400,
            "not a readable review",
        ),
        (
            "POST",
            "/authorize",
            "[]".into(),
            400,
            "not a readable review",
        ),
        ("POST", "/authorize", deep, 400, ""),
        ("POST", "/authorize", "{}".into(), 400, "unknown apiVersion"),
        ("POST", "/authorize", v1.replace("/v1", "/v2"), 400, ""),
        (
            "POST",
            "/authorize",
            format!("{{{}}}", v1.replace("SubjectAccess", "SelfSubjectRules")),
            400,
            "unexpected kind",
        ),
        (
            "POST",
            "/authorize",
            format!("{{{}}}", v1.replace("SubjectAccess", "SelfSubjectAccess")),
            400,
            "unexpected kind",
        ),
        ("POST", "/authorize", " ".repeat((1 << 20) + 1), 413, ""),
        (
            "POST",
            "/authorize",
            format!("{{{v1},{asked}}}"),
            200,
            "\"allowed\":false",
        ),
        (
            "POST",
            "/authorize",
            format!("{{{v1}}}"),
            200,
            "\"allowed\":false",
        ),
        (
            "POST",
            "/clusters/none/authorize",
            format!("{{{v1},{asked}}}"),
            200,
            "no such cluster",
        ),
        ("POST", "/authorize/", "{}".into(), 404, ""),
        ("POST", "/clusters/demo/authorize/x", "{}".into(), 404, ""),
    ];
    for (method, path, body, status, text) in cases {
        let answer: Answer = server.webhook(method, path, &[JSON], body.as_bytes());
        let shown: String = body.chars().take(80).collect();
        assert_eq!(
            answer.status,
            *status,
            "{method} {path} {shown}: {}",
            answer.text()
        );
        assert!(
            answer.text().contains(text),
            "{path} {shown}: {}",
            answer.text()
        );
        assert!(!answer.text().contains("denied"), "{path} {shown}");
        assert_eq!(answer.header("retry-after"), None);
    }
}

#[test]
fn up_writes_what_a_kube_apiserver_is_started_with() {
    let server = Running::up(&[]);
    let read = |field: &str| std::fs::read_to_string(server.field(field)).unwrap();
    let url = server.field("webhookUrl");
    assert!(read("tokenWebhookKubeconfig").contains(&format!("server: {url}/authenticate\n")));
    assert!(read("authorizationWebhookKubeconfig").contains(&format!("server: {url}/authorize\n")));
    let place = format!(
        "kubeConfigFile: \"{}\"",
        server.field("authorizationWebhookKubeconfig")
    );
    assert!(read("authorizationConfig").contains(&place));
    assert_eq!(
        read("apiServerFlags"),
        format!(
            "--authentication-token-webhook-config-file={}\n--authentication-token-webhook-version=v1\n\
             --authentication-token-webhook-cache-ttl=10s\n--authorization-config={}\n",
            server.field("tokenWebhookKubeconfig"),
            server.field("authorizationConfig")
        )
    );
}

#[test]
fn in_mode_config_map_the_creator_is_master_and_policies_are_off() {
    let server = Running::up(&["--authentication-mode", "CONFIG_MAP"]);
    let user = admin(&server);
    assert_eq!(user["user"], "kubernetes-admin");
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {"user": user["user"], "uid": user["uid"], "extra": user["extra"],
                 "resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "a"}},
    });
    let (status, answer) = authorize(&server, "/authorize", &review.to_string());
    assert_eq!(
        (status, &answer["status"]),
        (200, &json!({"allowed": false}))
    );
    let ready = server.webhook("GET", "/readyz?verbose", &[], b"").text();
    assert!(
        ready.contains("[+]cluster demo ok: authentication mode CONFIG_MAP"),
        "{ready}"
    );
}

#[test]
fn serve_registers_its_cluster_where_it_is_told_to_and_refuses_two_answers() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let write = |name: &str, more: &str, own: &str| {
        let text = format!(
            "clusterID: prod\nserver:\n  port: 0\n  stateDir: {state}\n  generateKubeconfig: {state}/token.kubeconfig\n{more}\
             countersign:\n  identity: embedded\n  dataDir: {data}\n  awsListen: 127.0.0.1:0\n  healthListen: \"off\"\n{own}",
            state = at("state"),
            data = at("data"),
        );
        std::fs::write(at(name), text).unwrap();
    };
    let mode = "  authenticationMode: API\n";
    write("both.yaml", "  backendMode: [MountedFile]\n", mode);
    write("wrong.yaml", "", "  authenticationMode: BOTH\n");
    write("binding.yaml", "", "  access: {principalBinding: loose}\n");
    write("delegated.yaml", "", "  authorizer: {delegated: maybe}\n");
    write(
        "policies.yaml",
        "",
        "  access: {policiesFile: /nowhere/policies.yaml}\n",
    );
    for (name, wanted) in [
        ("both.yaml", "are both set"),
        ("wrong.yaml", "unknown authentication mode `BOTH`"),
        ("binding.yaml", "it is `firstUse` or `strict`"),
        ("delegated.yaml", "it is `assertion`, `trust` or `refuse`"),
        ("policies.yaml", "/nowhere/policies.yaml"),
    ] {
        let output = countersign(&["serve", "--config", &at(name)], &Default::default());
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{name}: {stderr}");
        assert!(stderr.contains(wanted), "{name}: {stderr}");
    }
    write("good.yaml", "", mode);
    let config = at("good.yaml");
    let server = Running::start_in(
        tempfile::tempdir().unwrap(),
        "serve",
        &["--config", &config],
    );
    assert_eq!(
        server.field("authorizationWebhookKubeconfig"),
        at("state/countersign-authz.kubeconfig")
    );
    let ready = server.webhook("GET", "/readyz?verbose", &[], b"").text();
    assert!(
        ready.contains("[+]cluster prod ok: authentication mode API"),
        "{ready}"
    );
    drop(server);
    // Registered by now, so that a backend mode contradicts it.
    write("later.yaml", "  backendMode: [MountedFile]\n", "");
    let output = countersign(
        &["serve", "--config", &at("later.yaml")],
        &Default::default(),
    );
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(
        stderr.contains("is registered with the EKS API in mode API"),
        "{stderr}"
    );
}

const RULES: &str = r#"policies:
- name: WidgetReader
  rules:
  - {apiGroups: [example.com], resources: [widgets], verbs: [get, list]}
accessRules:
- name: team
  match: {roleArnLike: "arn:aws:iam::111122223333:role/team-*"}
  username: "{{RoleName}}:{{SessionName}}"
  groups: [team]
  policies:
  - {policy: WidgetReader, namespaces: [dev]}
"#;

#[test]
fn policies_and_access_rules_of_the_file_are_in_force_and_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policies.yaml");
    let config = dir.path().join("config.yaml").display().to_string();
    std::fs::write(&file, RULES).unwrap();
    let trust = r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "arn:aws:iam::111122223333:root"}}}"#;
    let text = format!(
        "countersign:\n  access: {{policiesFile: {}}}\n  bootstrap:\n    roles:\n    - name: team-a\n      trustPolicy: '{trust}'\n",
        file.display()
    );
    std::fs::write(&config, text).unwrap();
    let server = Running::start_in(dir, "up", &["--config", &config]);
    let token = exec_token(&countersign(
        &[
            "get-token",
            "--cluster-name",
            "demo",
            "--role-arn",
            "arn:aws:iam::111122223333:role/team-a",
            "--session-name",
            "alice",
        ],
        &server.aws_environment(),
    ));
    let (status, review) = server.review("/authenticate", &token);
    assert_eq!(status, 200, "{review}");
    let user = &review["status"]["user"];
    assert_eq!(
        (&user["username"], &user["groups"]),
        (&json!("team-a:alice"), &json!(["team"]))
    );
    let ask = || {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {"user": user["username"], "uid": user["uid"], "extra": user["extra"], "groups": ["team"],
                     "resourceAttributes": {"verb": "list", "group": "example.com", "resource": "widgets", "namespace": "dev"}},
        });
        authorize(&server, "/authorize", &review.to_string()).1["status"].clone()
    };
    let answer = ask();
    assert_eq!(answer["allowed"], true, "{answer}");
    let reason = answer["reason"].as_str().unwrap();
    assert!(
        reason.contains("111122223333:cluster-access-policy/WidgetReader/dev\"")
            && reason.ends_with(" by access rule \"team\" (policies.yaml:6)"),
        "{reason}"
    );
    let log = server.wait_for_log("\"event\":\"authorize\"");
    let cited = format!("team ({}:6)", file.display());
    for (event, rule) in [
        ("authenticate", format!("AccessRules {cited}")),
        ("authorize", cited),
    ] {
        let found = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find(|line| line["event"] == event)
            .unwrap();
        assert_eq!(found["rule"], rule, "{event}");
    }
    let listed = || {
        let aws = aws_cli("policies_and_access_rules_of_the_file")?;
        let listed = client(
            &aws,
            &["eks", "list-access-policies", "--output", "json"],
            &server.aws_environment(),
        );
        Some(
            String::from_utf8_lossy(&listed.stdout)
                .contains("111122223333:cluster-access-policy/WidgetReader"),
        )
    };
    assert!(listed().is_none_or(|listed| listed));

    std::fs::write(&file, "# nothing any more\n").unwrap();
    let start = std::time::Instant::now();
    while ask()["allowed"] == true {
        assert!(start.elapsed().as_secs() < 30, "the file is not read again");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert!(listed().is_none_or(|listed| !listed));
    let (_, review) = server.review("/authenticate", &token);
    assert_ne!(review["status"]["authenticated"], true, "{review}");
}
