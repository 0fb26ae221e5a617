//! Access entries and access policies with a real kube-apiserver: kubectl as each user, the authorizer behind the API server.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::{ADMIN_TOKEN, Cluster, assets};
use crate::harness::{Running, aws_cli, client, countersign, exec_token};

/// `up` with a cluster behind it that asks both webhooks and caches for a second.
pub struct Lab {
    pub server: Running,
    pub cluster: Cluster,
    pub aws: PathBuf,
}

/// An IAM user or session with credentials in the environment.
pub struct Person {
    pub arn: String,
    pub environment: BTreeMap<String, String>,
}

impl Lab {
    fn start(test: &str) -> Option<Self> {
        let assets = assets(test)?;
        let aws = aws_cli(test)?;
        let server = Running::up(&[]);
        let cluster = Cluster::start(&assets, &flags(&server));
        Some(Self {
            server,
            cluster,
            aws,
        })
    }

    /// Runs the AWS CLI as the admin; gives what it answers.
    pub fn aws(&self, args: &[&str]) -> Value {
        let output = client(&self.aws, args, &self.server.aws_environment());
        assert!(
            output.status.success(),
            "aws {args:?}: {}\n{}",
            String::from_utf8_lossy(&output.stderr),
            self.server.log_tail()
        );
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    pub fn user(&self, name: &str) -> Person {
        let user = self.aws(&["iam", "create-user", "--user-name", name]);
        let key = self.aws(&["iam", "create-access-key", "--user-name", name]);
        let mut environment = self.server.aws_environment();
        for (variable, field) in [
            ("AWS_ACCESS_KEY_ID", "AccessKeyId"),
            ("AWS_SECRET_ACCESS_KEY", "SecretAccessKey"),
        ] {
            let value = key["AccessKey"][field].as_str().unwrap();
            environment.insert(variable.into(), value.into());
        }
        Person {
            arn: user["User"]["Arn"].as_str().unwrap().to_owned(),
            environment,
        }
    }

    pub fn entry(&self, arn: &str, more: &[&str]) {
        let mut args = vec!["eks", "create-access-entry", "--cluster-name", "demo"];
        args.extend(["--principal-arn", arn]);
        args.extend(more);
        self.aws(&args);
    }

    pub fn associate(&self, arn: &str, policy: &str, scope: &str) {
        let policy = format!("arn:aws:eks::aws:cluster-access-policy/{policy}");
        self.associate_arn(arn, &policy, scope);
    }

    /// The same with a policy that is not AWS's.
    pub fn associate_arn(&self, arn: &str, policy: &str, scope: &str) {
        let mut args = vec!["eks", "associate-access-policy", "--cluster-name", "demo"];
        args.extend(["--principal-arn", arn, "--policy-arn", policy]);
        args.extend(["--access-scope", scope]);
        self.aws(&args);
    }

    /// kubectl as somebody, with a token that is minted for it.
    pub fn kubectl(&self, person: &Person, args: &[&str]) -> Output {
        self.cluster.kubectl(&token(person), args)
    }

    pub fn as_admin(&self, args: &[&str]) {
        let output = self.cluster.kubectl(ADMIN_TOKEN, args);
        assert!(
            output.status.success(),
            "kubectl {args:?}: {}",
            text(&output)
        );
    }

    /// Waits until a request is allowed or not any more, as caches of the API server run out.
    pub fn until(&self, person: &Person, args: &[&str], allowed: bool) -> Output {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let output = self.kubectl(person, args);
            if output.status.success() == allowed {
                return output;
            }
            assert!(
                Instant::now() < deadline,
                "kubectl {args:?} as {} should be allowed: {allowed}\n{}\n{}",
                person.arn,
                text(&output),
                self.server.log_tail()
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

pub fn flags(server: &Running) -> Vec<String> {
    vec![
        format!(
            "--authentication-token-webhook-config-file={}",
            server.field("tokenWebhookKubeconfig")
        ),
        "--authentication-token-webhook-version=v1".into(),
        "--authentication-token-webhook-cache-ttl=1s".into(),
        "--authorization-mode=Node,Webhook,RBAC".into(),
        format!(
            "--authorization-webhook-config-file={}",
            server.field("authorizationWebhookKubeconfig")
        ),
        "--authorization-webhook-version=v1".into(),
        "--authorization-webhook-cache-authorized-ttl=1s".into(),
        "--authorization-webhook-cache-unauthorized-ttl=1s".into(),
    ]
}

fn token(person: &Person) -> String {
    exec_token(&countersign(
        &["get-token", "--cluster-name", "demo"],
        &person.environment,
    ))
}

pub fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

pub fn forbidden(output: &Output) -> String {
    let text = text(output);
    assert!(
        !output.status.success() && text.contains("Forbidden"),
        "{text}"
    );
    text
}

#[test]
fn cluster_policies_and_groups_of_entries_decide_what_kubectl_may() {
    const TEST: &str = "cluster_policies_and_groups_of_entries_decide_what_kubectl_may";
    let Some(lab) = Lab::start(TEST) else { return };
    for namespace in ["team-a", "team-b", "other"] {
        lab.as_admin(&["create", "namespace", namespace]);
        lab.as_admin(&["create", "configmap", "settings", "-n", namespace]);
    }

    // A view policy in some namespaces.
    let viewer = lab.user("viewer");
    lab.entry(&viewer.arn, &[]);
    forbidden(&lab.kubectl(&viewer, &["get", "pods", "-n", "team-a"]));
    lab.associate(
        &viewer.arn,
        "AmazonEKSViewPolicy",
        "type=namespace,namespaces=team-*",
    );
    lab.until(&viewer, &["get", "pods", "-n", "team-a"], true);
    lab.until(
        &viewer,
        &["get", "configmap", "settings", "-n", "team-b"],
        true,
    );
    for refused in [
        ["delete", "configmap", "settings", "-n", "team-a"].as_slice(),
        &["get", "secrets", "-n", "team-a"],
        &["get", "pods", "-n", "other"],
        &["get", "pods", "-A"],
        &["get", "nodes"],
        &["get", "namespaces"],
    ] {
        let text = forbidden(&lab.kubectl(&viewer, refused));
        assert!(
            text.contains("EKS Access Policy: no opinion for \"AIDA")
                && text.contains("AmazonEKSViewPolicy@team-*"),
            "kubectl {refused:?} does not say why: {text}"
        );
    }
    let can_i = lab.kubectl(&viewer, &["auth", "can-i", "list", "pods", "-n", "team-a"]);
    assert!(can_i.status.success(), "{}", text(&can_i));

    // The same policy in the whole cluster: another scope takes the place of the first.
    lab.associate(&viewer.arn, "AmazonEKSViewPolicy", "type=cluster");
    lab.until(&viewer, &["get", "pods", "-A"], true);
    forbidden(&lab.kubectl(
        &viewer,
        &["delete", "configmap", "settings", "-n", "team-a"],
    ));

    // Groups work through RBAC, without any policy.
    let grouped = lab.user("grouped");
    lab.entry(&grouped.arn, &["--kubernetes-groups", "readers"]);
    forbidden(&lab.kubectl(&grouped, &["get", "configmaps", "-n", "team-a"]));
    lab.as_admin(&[
        "create",
        "clusterrole",
        "reader",
        "--verb=get,list",
        "--resource=configmaps",
    ]);
    lab.as_admin(&[
        "create",
        "rolebinding",
        "readers",
        "-n",
        "team-a",
        "--clusterrole=reader",
        "--group=readers",
    ]);
    lab.until(&grouped, &["get", "configmaps", "-n", "team-a"], true);
    forbidden(&lab.kubectl(&grouped, &["get", "configmaps", "-n", "team-b"]));

    // Impersonation takes names and extras, and no policy comes with them.
    let borrower = lab.user("borrower");
    lab.entry(&borrower.arn, &["--kubernetes-groups", "borrowers"]);
    let role = lab.cluster.file("impersonator.yaml");
    std::fs::write(
        &role,
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: impersonator}\nrules:\n\
         - {apiGroups: [\"\"], resources: [users, groups], verbs: [impersonate]}\n\
         - {apiGroups: [authentication.k8s.io], resources: [\"userextras/principalid\", \"userextras/principalId\", uids], verbs: [impersonate]}\n",
    )
    .unwrap();
    lab.as_admin(&["apply", "-f", role.to_str().unwrap()]);
    lab.as_admin(&[
        "create",
        "clusterrolebinding",
        "impersonators",
        "--clusterrole=impersonator",
        "--group=borrowers",
    ]);
    let whoami = lab.kubectl(&viewer, &["auth", "whoami", "-o", "json"]);
    let whoami: Value = serde_json::from_slice(&whoami.stdout).unwrap();
    let info = &whoami["status"]["userInfo"];
    let id = info["extra"]["principalId"][0].as_str().unwrap();
    let as_viewer = [
        format!("--as={}", info["username"].as_str().unwrap()),
        format!("--as-uid={}", info["uid"].as_str().unwrap()),
        format!("--as-user-extra=principalId={id}"),
    ];
    let mut impersonated: Vec<&str> = as_viewer.iter().map(String::as_str).collect();
    impersonated.extend(["auth", "whoami", "-o", "json"]);
    let who = lab.until(&borrower, &impersonated, true);
    let who: Value = serde_json::from_slice(&who.stdout).unwrap();
    assert_eq!(who["status"]["userInfo"]["username"], info["username"]);
    assert_eq!(
        who["status"]["userInfo"]["extra"]["principalid"][0], id,
        "the impersonation itself works, with the key in lower case"
    );
    let mut borrowed: Vec<&str> = as_viewer.iter().map(String::as_str).collect();
    borrowed.extend(["get", "pods", "-n", "team-a"]);
    forbidden(&lab.kubectl(&borrower, &borrowed));
    lab.until(&viewer, &["get", "pods", "-n", "team-a"], true);
}

#[test]
fn cluster_deleted_entries_and_recreated_roles_let_nobody_in() {
    const TEST: &str = "cluster_deleted_entries_and_recreated_roles_let_nobody_in";
    let Some(lab) = Lab::start(TEST) else { return };
    lab.as_admin(&["create", "namespace", "team-a"]);
    let pods = ["get", "pods", "-n", "team-a"];

    let leaver = lab.user("leaver");
    lab.entry(&leaver.arn, &[]);
    lab.associate(&leaver.arn, "AmazonEKSViewPolicy", "type=cluster");
    lab.until(&leaver, &pods, true);
    lab.aws(&[
        "eks",
        "delete-access-entry",
        "--cluster-name",
        "demo",
        "--principal-arn",
        &leaver.arn,
    ]);
    let gone = lab.until(&leaver, &pods, false);
    assert!(
        text(&gone).contains("Unauthorized") || text(&gone).contains("must be logged in"),
        "{}",
        text(&gone)
    );

    // A role that is deleted and made again under the same name is somebody else.
    let account = lab.server.field("accountId");
    let trust = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"AWS":"arn:aws:iam::{account}:root"}},"Action":"sts:AssumeRole"}}]}}"#
    );
    let make = || {
        let role = lab.aws(&[
            "iam",
            "create-role",
            "--role-name",
            "Dev",
            "--path",
            "/team/",
            "--assume-role-policy-document",
            &trust,
        ]);
        let arn = role["Role"]["Arn"].as_str().unwrap().to_owned();
        let session = lab.aws(&[
            "sts",
            "assume-role",
            "--role-arn",
            &arn,
            "--role-session-name",
            "alice",
        ]);
        let mut environment = lab.server.aws_environment();
        for (variable, field) in [
            ("AWS_ACCESS_KEY_ID", "AccessKeyId"),
            ("AWS_SECRET_ACCESS_KEY", "SecretAccessKey"),
            ("AWS_SESSION_TOKEN", "SessionToken"),
        ] {
            let value = session["Credentials"][field].as_str().unwrap();
            environment.insert(variable.into(), value.into());
        }
        Person { arn, environment }
    };
    let first = make();
    lab.entry(&first.arn, &[]);
    lab.associate(&first.arn, "AmazonEKSViewPolicy", "type=cluster");
    lab.until(&first, &pods, true);
    lab.aws(&["iam", "delete-role", "--role-name", "Dev"]);
    lab.until(&first, &pods, false);
    let second = make();
    assert_eq!(first.arn, second.arn);
    for _ in 0..5 {
        assert!(!lab.kubectl(&second, &pods).status.success());
        std::thread::sleep(Duration::from_millis(300));
    }
    lab.server.wait_for_log("principal_recreated");
    assert!(!lab.kubectl(&first, &pods).status.success());
    // Deleting and making the entry anew is what helps.
    lab.aws(&[
        "eks",
        "delete-access-entry",
        "--cluster-name",
        "demo",
        "--principal-arn",
        &first.arn,
    ]);
    lab.entry(&second.arn, &[]);
    lab.associate(&second.arn, "AmazonEKSViewPolicy", "type=cluster");
    lab.until(&second, &pods, true);
}

#[test]
fn cluster_an_outage_of_the_webhook_leaves_others_working() {
    const TEST: &str = "cluster_an_outage_of_the_webhook_leaves_others_working";
    let Some(assets) = assets(TEST) else { return };
    let mut server = Running::up(&[]);
    let cluster = Cluster::start(&assets, &flags(&server));
    for args in [
        ["create", "namespace", "team-a"].as_slice(),
        &["create", "serviceaccount", "robot", "-n", "team-a"],
        &[
            "create",
            "clusterrole",
            "reader",
            "--verb=get,list",
            "--resource=configmaps",
        ],
        &[
            "create",
            "rolebinding",
            "robot",
            "-n",
            "team-a",
            "--clusterrole=reader",
            "--serviceaccount=team-a:robot",
        ],
    ] {
        let output = cluster.kubectl(ADMIN_TOKEN, args);
        assert!(output.status.success(), "{}", text(&output));
    }
    let output = cluster.kubectl(ADMIN_TOKEN, &["create", "token", "robot", "-n", "team-a"]);
    let robot = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let maps = ["get", "configmaps", "-n", "team-a"];
    assert!(cluster.kubectl(&robot, &maps).status.success());
    server.stop();
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline - Duration::from_secs(50) {
        let output = cluster.kubectl(&robot, &maps);
        assert!(output.status.success(), "{}", text(&output));
    }
    assert!(
        cluster
            .kubectl(ADMIN_TOKEN, &["get", "nodes"])
            .status
            .success()
    );
}

#[test]
fn cluster_modes_are_switched_without_a_lock_out() {
    const TEST: &str = "cluster_modes_are_switched_without_a_lock_out";
    let Some(assets) = assets(TEST) else { return };
    let Some(aws) = aws_cli(TEST) else { return };
    let free = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let (listen, webhook) = (free(), free());
    let mut args = vec!["--listen", &listen, "--webhook-listen", &webhook];
    args.extend(["--authentication-mode", "CONFIG_MAP"]);
    let mut first = Running::up(&args);
    let cluster = Cluster::start(&assets, &flags(&first));
    first.stop();
    // Again, now that there is an API server to read aws-auth from.
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config.yaml");
    std::fs::write(
        &config,
        format!(
            "server:\n  kubeconfig: {}\n  backendMode: [EKSConfigMap]\n",
            cluster.admin_kubeconfig().display()
        ),
    )
    .unwrap();
    let data = first.dir.path().join("data").display().to_string();
    args.extend(["--config", config.to_str().unwrap(), "--data-dir", &data]);
    let server = Running::start_in(dir, "up", &args);
    let lab = Lab {
        server,
        cluster,
        aws,
    };
    let admin = Person {
        arn: lab.server.field("admin.arn"),
        environment: lab.server.aws_environment(),
    };
    let mapped = lab.user("mapped");
    let manifest = lab.cluster.file("aws-auth.yaml");
    std::fs::write(
        &manifest,
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: aws-auth, namespace: kube-system}}\ndata:\n  mapUsers: |\n    \
             - userarn: {}\n      username: mapped\n      groups: [readers]\n",
            mapped.arn
        ),
    )
    .unwrap();
    lab.as_admin(&["apply", "-f", manifest.to_str().unwrap()]);
    lab.as_admin(&[
        "create",
        "clusterrole",
        "reader",
        "--verb=get,list",
        "--resource=configmaps",
    ]);
    lab.as_admin(&[
        "create",
        "clusterrolebinding",
        "readers",
        "--clusterrole=reader",
        "--group=readers",
    ]);
    let maps = ["get", "configmaps", "-n", "kube-system"];
    let nodes = ["get", "nodes"];
    let mode = |mode: &str| {
        let access = format!("authenticationMode={mode}");
        lab.aws(&[
            "eks",
            "update-cluster-config",
            "--name",
            "demo",
            "--access-config",
            &access,
        ]);
        lab.aws(&["eks", "wait", "cluster-active", "--name", "demo"]);
    };
    let refused = |args: &[&str]| {
        let output = client(&lab.aws, args, &lab.server.aws_environment());
        assert!(!output.status.success());
        text(&output)
    };

    // CONFIG_MAP: the creator and aws-auth; no entries.
    lab.until(&admin, &nodes, true);
    lab.until(&mapped, &maps, true);
    let entries = ["eks", "list-access-entries", "--cluster-name", "demo"];
    assert!(
        refused(&entries)
            .contains("authentication mode must be set to one of [API, API_AND_CONFIG_MAP]")
    );
    let direct = [
        "eks",
        "update-cluster-config",
        "--name",
        "demo",
        "--access-config",
        "authenticationMode=API",
    ];
    assert!(
        refused(&direct).contains("Unsupported authentication mode update from CONFIG_MAP to API")
    );

    // One step: the creator has an entry now, and aws-auth still counts.
    mode("API_AND_CONFIG_MAP");
    lab.until(&admin, &nodes, true);
    lab.until(&mapped, &maps, true);
    let listed = lab.aws(&entries);
    assert_eq!(listed["accessEntries"], serde_json::json!([admin.arn]));

    // The last step: only entries count. Whoever has one stays, whoever has none is out.
    let moved = lab.user("moved");
    lab.entry(&moved.arn, &["--kubernetes-groups", "readers"]);
    lab.until(&moved, &maps, true);
    mode("API");
    lab.until(&mapped, &maps, false);
    lab.until(&admin, &nodes, true);
    lab.until(&moved, &maps, true);
    let back = [
        "eks",
        "update-cluster-config",
        "--name",
        "demo",
        "--access-config",
        "authenticationMode=API_AND_CONFIG_MAP",
    ];
    assert!(
        refused(&back)
            .contains("Unsupported authentication mode update from API to API_AND_CONFIG_MAP")
    );
    lab.entry(&mapped.arn, &["--kubernetes-groups", "readers"]);
    lab.until(&mapped, &maps, true);
}
