//! With a real kube-apiserver: people log in with kubectl, refusals are explained where operators look, and restarts and new
//! certificates cost nobody a login.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::cluster::{ADMIN_TOKEN, Cluster, assets};
use crate::harness::{Running, aws_cli, client, countersign, exec_token, presigned};

/// Without the authorizer only this mode makes the creator an administrator.
const CONFIG_MAP: [&str; 2] = ["--authentication-mode", "CONFIG_MAP"];

fn webhook_flags(server: &Running, version: &str, ttl: &str) -> Vec<String> {
    vec![
        format!(
            "--authentication-token-webhook-config-file={}",
            server.field("tokenWebhookKubeconfig")
        ),
        format!("--authentication-token-webhook-version={version}"),
        format!("--authentication-token-webhook-cache-ttl={ttl}"),
    ]
}

/// Token of the AWS CLI where it is installed, else our own; the cluster does not see the difference.
fn mint(server: &Running, test: &str, cluster: &str) -> String {
    let environment = server.aws_environment();
    let args = ["eks", "get-token", "--cluster-name", cluster];
    exec_token(&match aws_cli(test) {
        Some(aws) => client(&aws, &args, &environment),
        None => countersign(&args, &environment),
    })
}

#[test]
fn cluster_whoami_shows_username_groups_and_every_extra_field() {
    const TEST: &str = "cluster_whoami_shows_username_groups_and_every_extra_field";
    let Some(assets) = assets(TEST) else { return };
    for version in ["v1", "v1beta1"] {
        let server = Running::up(&CONFIG_MAP);
        let cluster = Cluster::start(&assets, &webhook_flags(&server, version, "2m"));
        let token = mint(&server, TEST, "demo");
        let output = cluster.kubectl(&token, &["auth", "whoami", "-o", "json"]);
        assert!(
            output.status.success(),
            "{}\n{}",
            String::from_utf8_lossy(&output.stderr),
            server.log()
        );
        let review: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let user = &review["status"]["userInfo"];
        assert_eq!(user["username"], "kubernetes-admin");
        assert_eq!(
            user["groups"],
            serde_json::json!(["system:masters", "system:authenticated"])
        );
        let arn = server.field("admin.arn");
        for (key, value) in [
            ("arn", arn.as_str()),
            ("canonicalArn", &arn),
            ("sessionName", ""),
            ("accessKeyId", &server.field("admin.accessKeyId")),
        ] {
            assert_eq!(
                user["extra"][key],
                serde_json::json!([value]),
                "{version} {key}: {user}"
            );
        }
        let id = user["extra"]["principalId"][0].as_str().unwrap();
        assert!(id.starts_with("AIDA"), "{user}");
        assert_eq!(
            user["extra"]["sigs.k8s.io/aws-iam-authenticator/principalId"],
            serde_json::json!([id])
        );
        assert_eq!(
            user["uid"],
            format!("aws-iam-authenticator:111122223333:{id}")
        );
        assert!(
            cluster
                .kubectl(&token, &["get", "namespaces"])
                .status
                .success(),
            "an admin may list namespaces"
        );
    }
}

#[test]
fn cluster_started_with_the_generated_files_obeys_access_policies() {
    const TEST: &str = "cluster_started_with_the_generated_files_obeys_access_policies";
    let Some(assets) = assets(TEST) else { return };
    let server = Running::up(&[]);
    let generated = server.dir.path().join("generated").display().to_string();
    // The API server reads the issuer of people as well, and need not reach it to start.
    let init = [
        "init",
        "-i",
        "demo",
        "--out",
        &generated,
        "--oidc-issuer",
        "https://id.corp.example",
        "--oidc-client-id",
        "kubernetes",
    ];
    assert!(countersign(&init, &Default::default()).status.success());
    let written = std::fs::read_to_string(format!("{generated}/authentication.yaml")).unwrap();
    assert!(written.contains("userValidationRules:"), "{written}");
    let mut flags: Vec<String> = std::fs::read_to_string(server.field("apiServerFlags"))
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    flags.push(format!(
        "--authentication-config={generated}/authentication.yaml"
    ));
    let cluster = Cluster::start(&assets, &flags);
    let token = mint(&server, TEST, "demo");
    let output = cluster.kubectl(&token, &["get", "namespaces", "-o", "name"]);
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    assert!(
        stdout.contains("namespace/default"),
        "{stderr}\n{}",
        server.log_tail()
    );
    let event = server.wait_for_log("\"event\":\"authorize\"");
    assert!(
        event.contains("EKS Access Policy: allowed by ClusterRoleBinding"),
        "{event}"
    );
    // Impersonation drops what the policy goes by, and nobody is somebody without a name.
    let output = cluster.kubectl(&token, &["get", "secrets", "-A", "--as", "mallory"]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.contains("forbidden"), "{stderr}");
    let output = cluster.kubectl("", &["get", "--raw", "/version"]);
    assert!(
        !output.status.success(),
        "closed to requests without a name"
    );
}

#[test]
fn cluster_log_of_the_api_server_names_the_reason_of_a_denial() {
    const TEST: &str = "cluster_log_of_the_api_server_names_the_reason_of_a_denial";
    let Some(assets) = assets(TEST) else { return };
    let server = Running::up(&CONFIG_MAP);
    let cluster = Cluster::start(&assets, &webhook_flags(&server, "v1", "2m"));
    let other = mint(&server, TEST, "other");
    for (token, reason) in [
        (other.as_str(), Some("SignatureDoesNotMatch")),
        ("k8s-aws-v1.garbage!", None),
    ] {
        let output = cluster.kubectl(token, &["auth", "whoami"]);
        assert!(!output.status.success());
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            stderr.contains("Unauthorized") || stderr.contains("must be logged in"),
            "{stderr}"
        );
        if let Some(reason) = reason {
            let log = wait_for(&cluster, "Unable to authenticate the request");
            assert!(log.contains(reason), "{log}");
            assert!(!log.contains(token), "no token in the log");
        }
    }
    // A verdict without an error is cached: the second attempt never reaches the webhook.
    let before = reviews(&server);
    for _ in 0..3 {
        cluster.kubectl("k8s-aws-v1.garbage!", &["auth", "whoami"]);
    }
    assert_eq!(
        reviews(&server),
        before,
        "garbage is denied from kube-apiserver's cache"
    );
    assert!(
        cluster
            .kubectl(ADMIN_TOKEN, &["get", "namespaces"])
            .status
            .success(),
        "other authenticators go on working"
    );
}

#[test]
fn cluster_each_denial_reason_reaches_the_log_of_the_api_server() {
    const TEST: &str = "cluster_each_denial_reason_reaches_the_log_of_the_api_server";
    let Some(assets) = assets(TEST) else { return };
    let dir = tempfile::tempdir().unwrap();
    let key_file = dir.path().join("bob.json");
    let config = dir.path().join("config.yaml");
    let text = format!(
        "countersign:\n  bootstrap:\n    users: [{{name: bob, accessKeyFile: {}}}]\n",
        key_file.display()
    );
    std::fs::write(&config, text).unwrap();
    let server = Running::up(&["--config", config.to_str().unwrap()]);
    let bob: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&key_file).unwrap()).unwrap();
    let endpoint = server.field("endpointUrl");
    let (key, secret) = (
        server.field("admin.accessKeyId"),
        server.field("admin.secretAccessKey"),
    );
    let token = |key: &str, secret: &str, when: jiff::Timestamp| {
        countersign_token::mint(&presigned(&endpoint, key, secret, Some("demo"), when)).to_string()
    };
    let now = jiff::Timestamp::now();
    let minutes = jiff::SignedDuration::from_mins;
    let bob = token(
        bob["AccessKeyId"].as_str().unwrap(),
        bob["SecretAccessKey"].as_str().unwrap(),
        now,
    );
    let cases = [
        (bob, "identity is not mapped"),
        (
            token("AKIARTX3GSDSXFDOCIS2", &secret, now),
            "InvalidClientTokenId",
        ),
        (token(&key, "wrong", now), "SignatureDoesNotMatch"),
        (
            token(&key, &secret, now - minutes(16)),
            "X-Amz-Date parameter is expired",
        ),
        (
            token(&key, &secret, now + minutes(10)),
            "5 minutes in the future",
        ),
    ];
    for version in ["v1", "v1beta1"] {
        let cluster = Cluster::start(&assets, &webhook_flags(&server, version, "2m"));
        for (token, reason) in &cases {
            let output = cluster.kubectl(token, &["auth", "whoami"]);
            assert!(!output.status.success(), "{reason}");
            wait_until(|| cluster.log().contains(reason));
        }
        assert!(
            cases
                .iter()
                .all(|(token, _)| !cluster.log().contains(token.as_str())),
            "no token in the log"
        );
    }

    // STS gone: an error that kube-apiserver retries, and that says so.
    let (sts, ca) = crate::serve::upstream();
    let dir = tempfile::tempdir().unwrap();
    let config = crate::serve::reference_config(dir.path(), &sts, &ca, "");
    let server = Running::start_in(dir, "serve", &["--config", &config]);
    let token = exec_token(&countersign(
        &["token", "-i", "demo"],
        &crate::serve::aws_host_environment(&sts),
    ));
    drop(sts);
    let cluster = Cluster::start(&assets, &webhook_flags(&server, "v1", "2m"));
    assert!(
        !cluster
            .kubectl(&token, &["auth", "whoami"])
            .status
            .success()
    );
    wait_until(|| {
        cluster
            .log()
            .contains("Failed to make webhook authenticator request")
    });
    server.wait_for_log("sts_unreachable");
}

#[test]
fn cluster_webhook_restart_and_certificate_rotation_fail_no_login() {
    const TEST: &str = "cluster_webhook_restart_and_certificate_rotation_fail_no_login";
    let Some(assets) = assets(TEST) else { return };
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let webhook = format!("127.0.0.1:{port}");
    let aws_port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let aws = format!("127.0.0.1:{aws_port}");
    let args = [
        "--listen",
        aws.as_str(),
        "--webhook-listen",
        webhook.as_str(),
    ];
    let first = Running::up(&args);
    // Without a cache every request is a review, so that every gap would show.
    let cluster = Cluster::start(&assets, &webhook_flags(&first, "v1", "0s"));
    let token = mint(&first, TEST, "demo");
    let (stop, logins, failures) = (
        AtomicBool::new(false),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    let data: PathBuf = first.dir.path().join("data");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let output = cluster.kubectl(&token, &["get", "--raw", "/api"]);
                logins.fetch_add(1, Ordering::Relaxed);
                if !output.status.success() {
                    failures.fetch_add(1, Ordering::Relaxed);
                    eprintln!("{}", String::from_utf8_lossy(&output.stderr));
                }
            }
        });
        wait_until(|| logins.load(Ordering::Relaxed) >= 3);

        // Rotation: a new leaf under the same CA, picked up while connections go on.
        let before = std::fs::read(data.join("cert.pem")).unwrap();
        let kubeconfig = data.join("rotated.kubeconfig").display().to_string();
        let state = data.display().to_string();
        let rotate = [
            "init",
            "-i",
            "demo",
            "--hostname",
            "rotated.example",
            "--state-dir",
            &state,
            "--generate-kubeconfig",
            &kubeconfig,
        ];
        let renew = countersign(&rotate, &Default::default());
        assert!(
            renew.status.success(),
            "{}",
            String::from_utf8_lossy(&renew.stderr)
        );
        assert_ne!(std::fs::read(data.join("cert.pem")).unwrap(), before);
        first.wait_for_log("serving certificate reloaded");
        let seen = logins.load(Ordering::Relaxed);
        wait_until(|| logins.load(Ordering::Relaxed) >= seen + 3);

        // Restart: the new process binds beside the old one and waits for its store.
        let mut takeover = vec!["--takeover", "--data-dir", data.to_str().unwrap()];
        takeover.extend(args);
        let home = tempfile::tempdir().unwrap();
        let log = home.path().join("stderr.log");
        let second = std::thread::scope(|inner| {
            let starting = inner.spawn(|| Running::start_in(home, "up", &takeover));
            wait_until(|| {
                std::fs::read_to_string(&log)
                    .is_ok_and(|log| log.contains("waiting for the running instance"))
            });
            first.signal("TERM");
            starting.join().unwrap()
        });
        let seen = logins.load(Ordering::Relaxed);
        wait_until(|| logins.load(Ordering::Relaxed) >= seen + 3);
        stop.store(true, Ordering::Relaxed);
        drop(second);
    });
    assert!(logins.load(Ordering::Relaxed) >= 9);
    assert_eq!(
        failures.load(Ordering::Relaxed),
        0,
        "every login has to succeed"
    );
}

/// Writes a manifest and applies it as the static admin.
fn apply(cluster: &Cluster, manifest: &str) {
    let path = cluster.file("manifest.yaml");
    std::fs::write(&path, manifest).unwrap();
    let output = cluster.kubectl(ADMIN_TOKEN, &["apply", "-f", path.to_str().unwrap()]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn aws_auth(map_users: &str) -> String {
    let mut manifest = String::from(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: aws-auth, namespace: kube-system}\ndata:\n  mapUsers: |\n",
    );
    for line in map_users.lines() {
        manifest.push_str(&format!("    {line}\n"));
    }
    manifest
}

#[test]
fn cluster_aws_auth_and_mapping_objects_take_effect_and_a_typo_keeps_the_last_good() {
    const TEST: &str =
        "cluster_aws_auth_and_mapping_objects_take_effect_and_a_typo_keeps_the_last_good";
    let Some(assets) = assets(TEST) else { return };
    let (sts, ca) = crate::serve::upstream();
    let cluster = Cluster::start(&assets, &[]);
    let dir = tempfile::tempdir().unwrap();
    let address = sts.field("endpointUrl");
    let text = format!(
        "clusterID: demo\nserver:\n  port: 0\n  stateDir: {state}\n  generateKubeconfig: {state}/kubeconfig.yaml\n  kubeconfig: {kubeconfig}\n  \
         backendMode: [EKSConfigMap, CRD]\ncountersign:\n  denyMode: review\n  healthListen: \"off\"\n  \
         upstream: {{connectTo: \"{address}\", caFile: {ca}}}\n",
        state = dir.path().join("state").display(),
        kubeconfig = cluster.admin_kubeconfig().display(),
        address = address.strip_prefix("https://").unwrap(),
    );
    let config = dir.path().join("config.yaml");
    std::fs::write(&config, text).unwrap();
    let server = Running::start_in(dir, "serve", &["--config", config.to_str().unwrap()]);
    let token = exec_token(&countersign(
        &["token", "-i", "demo"],
        &crate::serve::aws_host_environment(&sts),
    ));
    let user = |server: &Running| {
        server.review("/authenticate", &token).1["status"]["user"]["username"].clone()
    };
    let arn = sts.field("admin.arn");
    wait_until(|| server.webhook("GET", "/readyz", &[], b"").status == 200);
    assert_eq!(
        user(&server),
        serde_json::Value::Null,
        "nobody is mapped yet"
    );

    apply(
        &cluster,
        &aws_auth(&format!(
            "- userarn: {arn}\n  username: from-configmap\n  groups: [ops]"
        )),
    );
    wait_until(|| user(&server) == "from-configmap");

    apply(
        &cluster,
        &aws_auth(&format!("- userarn: {arn}\n\tusername: broken")),
    );
    server.wait_for_log("a section of aws-auth does not parse");
    assert_eq!(
        user(&server),
        "from-configmap",
        "the last good section stays"
    );
    let verbose = server.webhook("GET", "/readyz?verbose", &[], b"").text();
    assert!(
        verbose.contains("EKSConfigMap warning: stale since"),
        "{verbose}"
    );
    let metrics = server.webhook("GET", "/metrics", &[], b"").text();
    assert!(
        metrics.contains("countersign_mapping_config_stale{cluster=\"demo\",backend=\"EKSConfigMap\",section=\"mapUsers\"} 1"),
        "{metrics}"
    );
    wait_until(|| {
        let events = cluster.kubectl(
            ADMIN_TOKEN,
            &["get", "events", "-n", "kube-system", "-o", "json"],
        );
        String::from_utf8_lossy(&events.stdout).contains("aws-auth")
    });

    // Without an entry in aws-auth the next backend is asked.
    apply(&cluster, &aws_auth("[]"));
    wait_until(|| user(&server) == serde_json::Value::Null);
    apply(
        &cluster,
        include_str!("../../../../deploy/iamidentitymapping-crd.yaml"),
    );
    let mapping = format!(
        "apiVersion: iamauthenticator.k8s.aws/v1alpha1\nkind: IAMIdentityMapping\nmetadata: {{name: admin}}\n\
         spec: {{arn: \"{arn}\", username: from-object, groups: [ops]}}\n"
    );
    wait_until(|| {
        let path = cluster.file("mapping.yaml");
        std::fs::write(&path, &mapping).unwrap();
        cluster
            .kubectl(ADMIN_TOKEN, &["apply", "-f", path.to_str().unwrap()])
            .status
            .success()
    });
    wait_until(|| user(&server) == "from-object");
    wait_until(|| {
        let object = cluster.kubectl(
            ADMIN_TOKEN,
            &["get", "iamidentitymapping", "admin", "-o", "json"],
        );
        let object: serde_json::Value = serde_json::from_slice(&object.stdout).unwrap_or_default();
        object["status"]["canonicalARN"] == arn.as_str()
            && object["status"]["conditions"][0]["type"] == "Ready"
    });
}

fn reviews(server: &Running) -> u64 {
    let metrics = server.webhook("GET", "/metrics", &[], b"").text();
    metrics
        .lines()
        .filter(|line| line.starts_with("aws_iam_authenticator_authenticate_latency_seconds_count"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

fn wait_for(cluster: &Cluster, text: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let log = cluster.log();
        if log.contains(text) {
            return log;
        }
        assert!(
            Instant::now() < deadline,
            "`{text}` never came into the API server's log"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[track_caller]
fn wait_until(mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "nothing happens any more");
        std::thread::sleep(Duration::from_millis(20));
    }
}
