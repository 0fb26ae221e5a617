//! The webhook's own certificate in a Secret, and pods that it missed, with a real kube-apiserver and the rights of the generated
//! manifest.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use base64::Engine as _;
use serde_json::{Value, json};

use crate::cluster::{ADMIN_TOKEN, Cluster, assets};
use crate::harness::{BINARY, clean_environment, countersign};
use crate::mutate::until;
use crate::mutate_api::ROLE;
use crate::mutate_command::Webhook;

const NAME: &str = "pod-identity-webhook";

/// A cluster with the generated manifest applied, and an account with a role.
struct Lab {
    cluster: Cluster,
    kubeconfig: String,
}

impl Lab {
    fn start(assets: &Path, flags: &[&str]) -> Self {
        let cluster = Cluster::start(assets, &[]);
        let args = [&[NAME, "manifest", "--image=example/countersign"], flags].concat();
        let manifest = countersign(&args, &Default::default());
        assert!(manifest.status.success());
        let path = cluster.file("manifest.yaml");
        std::fs::write(&path, manifest.stdout).unwrap();
        let lab = Self {
            cluster,
            kubeconfig: String::new(),
        };
        until("the manifest", || {
            lab.try_kubectl(&["apply", "-f", path.to_str().unwrap()])
        });
        until("a namespace", || {
            lab.try_kubectl(&["create", "namespace", "orchard"])
        });
        lab.create(&json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "picker", "namespace": "orchard", "annotations": {"eks.amazonaws.com/role-arn": ROLE}},
        }));
        let token = lab.kubectl(&["create", "token", NAME, "-n", "eks"]);
        let path = lab.cluster.kubeconfig(NAME, token.trim());
        Self {
            kubeconfig: path.display().to_string(),
            ..lab
        }
    }

    fn try_kubectl(&self, args: &[&str]) -> Result<String, String> {
        let output = self.cluster.kubectl(ADMIN_TOKEN, args);
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        match output.status.success() {
            true => Ok(text(output.stdout)),
            false => Err(text(output.stderr)),
        }
    }

    fn kubectl(&self, args: &[&str]) -> String {
        let output = self.try_kubectl(args);
        output.unwrap_or_else(|error| panic!("{args:?}: {error}"))
    }

    fn get(&self, args: &[&str]) -> Value {
        let args = [&["get"], args, &["-o", "json"]].concat();
        serde_json::from_str(&self.kubectl(&args)).unwrap()
    }

    fn create(&self, object: &Value) {
        let path = self.cluster.file("object.json");
        std::fs::write(&path, object.to_string()).unwrap();
        self.kubectl(&["create", "-f", path.to_str().unwrap()]);
    }

    fn webhook(&self, name: &str, more: &[&str]) -> Webhook {
        let mut args = vec![format!("--kubeconfig={}", self.kubeconfig)];
        args.extend(more.iter().map(|arg| (*arg).to_owned()));
        let log = self.cluster.file(name);
        Webhook::start(Path::new(BINARY), &[NAME], &args, log)
    }

    /// There is no network to Services here: each webhook of the registration is a replica at its URL.
    fn register(&self, replicas: &[&Webhook]) {
        let registration = self.get(&["mutatingwebhookconfiguration", NAME]);
        let first = registration["webhooks"][0].clone();
        let webhooks: Vec<_> = replicas
            .iter()
            .enumerate()
            .map(|(at, replica)| {
                let mut webhook = first.clone();
                webhook["name"] = json!(format!("replica-{at}.pod-identity-webhook.amazonaws.com"));
                let bundle = &first["clientConfig"]["caBundle"];
                webhook["clientConfig"] =
                    json!({"url": format!("{}/mutate", replica.url()), "caBundle": bundle});
                webhook
            })
            .collect();
        let patch = json!([{"op": "replace", "path": "/webhooks", "value": webhooks}]).to_string();
        let target = ["patch", "mutatingwebhookconfiguration", NAME];
        self.kubectl(&[&target[..], &["--type=json", "-p", &patch]].concat());
    }

    fn ca(&self) -> Option<String> {
        let output = self
            .try_kubectl(&["get", "secret", NAME, "-n", "eks", "-o", "json"])
            .ok()?;
        let secret: Value = serde_json::from_str(&output).unwrap();
        Some(decoded(&secret["data"]["ca.crt"]))
    }

    /// The CAs of each webhook of the registration.
    fn bundles(&self) -> Vec<String> {
        let registration = self.get(&["mutatingwebhookconfiguration", NAME]);
        let webhooks = registration["webhooks"].as_array().unwrap();
        let bundles = webhooks.iter();
        bundles
            .map(|webhook| decoded(&webhook["clientConfig"]["caBundle"]))
            .collect()
    }

    /// Until both replicas serve a certificate of this CA alone.
    fn served(&self, replicas: &[&Webhook], ca: &str) {
        let path = self.cluster.file("served-ca.pem");
        std::fs::write(&path, ca).unwrap();
        for replica in replicas {
            until("a certificate of the CA", || {
                let answer = replica.tls_if_trusted(&path, "/healthz");
                answer.ok_or_else(|| replica.log())
            });
        }
    }
}

fn decoded(value: &Value) -> String {
    let engine = base64::engine::general_purpose::STANDARD;
    let bytes = engine.decode(value.as_str().unwrap_or_default()).unwrap();
    String::from_utf8(bytes).unwrap()
}

fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "orchard"},
        "spec": {"serviceAccountName": "picker", "containers": [{"name": "app", "image": "x"}]},
    })
}

fn has_credentials(pod: &Value) -> bool {
    let env = pod["spec"]["containers"][0]["env"].as_array();
    env.is_some_and(|env| {
        env.iter()
            .any(|variable| variable["name"] == "AWS_ROLE_ARN")
    })
}

#[test]
fn cluster_two_replicas_share_a_ca_that_is_replaced_under_load() {
    const TEST: &str = "cluster_two_replicas_share_a_ca_that_is_replaced_under_load";
    let Some(assets) = assets(TEST) else { return };
    // Fail: a call that goes wrong is a pod that is not made.
    let lab = Lab::start(&assets, &["--failure-policy=Fail", "--reconcile=false"]);
    let flags = ["--reconcile=false"];
    let replicas = std::thread::scope(|scope| {
        let both = ["first.log", "second.log"].map(|log| scope.spawn(|| lab.webhook(log, &flags)));
        both.map(|thread| thread.join().unwrap())
    });
    let replicas: Vec<&Webhook> = replicas.iter().collect();
    let writes = || -> usize {
        let logs = replicas.iter().map(|replica| replica.log());
        logs.map(|log| log.matches("certificate written").count())
            .sum()
    };
    assert_eq!(writes(), 1, "one of two made it");
    let ca = lab.ca().unwrap();
    assert_eq!(ca.matches("BEGIN CERTIFICATE").count(), 1);
    lab.served(&replicas, &ca);
    lab.register(&replicas);
    until("caBundle", || {
        let bundles = lab.bundles();
        let fine = bundles.len() == 2 && bundles.iter().all(|bundle| *bundle == ca);
        if fine {
            Ok(())
        } else {
            Err(format!("{bundles:?}"))
        }
    });
    until("the first pod", || lab.create_pod("first"));

    let (stop, made) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for worker in 0..2 {
            let (lab, stop, made) = (&lab, &stop, &made);
            scope.spawn(move || {
                let mut n = 0;
                while !stop.load(Ordering::Relaxed) {
                    n += 1;
                    lab.create_pod(&format!("pod-{worker}-{n}")).unwrap();
                    made.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let replaced = || {
            let mut cas = vec![ca.clone()];
            for round in 0..2 {
                match round {
                    0 => {
                        lab.kubectl(&["delete", "secret", NAME, "-n", "eks"]);
                    }
                    _ => {
                        // No certificate, and no CA for the key that is there.
                        let patch =
                            json!({"data": {"tls.crt": "eA==", "ca.crt": "eA=="}}).to_string();
                        let target = ["patch", "secret", NAME, "-n", "eks"];
                        lab.kubectl(&[&target[..], &["--type=merge", "-p", &patch]].concat());
                    }
                }
                let new = until("another CA", || {
                    let new = lab.ca().filter(|new| !cas.contains(new) && new.len() > 100);
                    new.ok_or_else(|| replicas[0].log())
                });
                lab.served(&replicas, &new);
                cas.push(new);
                // Both replicas serve it while calls go on.
                let before = made.load(Ordering::Relaxed);
                until("pods", || {
                    let now = made.load(Ordering::Relaxed);
                    if now > before + 4 {
                        Ok(())
                    } else {
                        Err(now.to_string())
                    }
                });
            }
            cas
        };
        // A failing thread must not leave the others running for ever.
        let cas = std::panic::catch_unwind(std::panic::AssertUnwindSafe(replaced));
        stop.store(true, Ordering::Relaxed);
        let cas = cas.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        for bundle in lab.bundles() {
            assert!(
                bundle.starts_with(&cas[2]),
                "the one that signs is the first"
            );
            assert!(
                cas.iter().all(|ca| bundle.contains(ca.as_str())),
                "and none is lost"
            );
        }
    });
    assert_eq!(writes(), 3, "each was made once");
    assert!(made.load(Ordering::Relaxed) > 10);
    for replica in &replicas {
        assert!(!replica.log().contains("PRIVATE KEY"));
    }
    a_secret_of_others_is_left_alone(&lab);
}

/// As cert-manager makes them: used as it is, and not written.
fn a_secret_of_others_is_left_alone(lab: &Lab) {
    let key = rcgen::KeyPair::generate().unwrap();
    let parameters = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = parameters.self_signed(&key).unwrap().pem();
    lab.create(&json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": "others", "namespace": "eks"},
        "stringData": {"tls.crt": certificate, "tls.key": key.serialize_pem(), "ca.crt": certificate},
    }));
    let version = || {
        let secret = lab.get(&["secret", "others", "-n", "eks"]);
        secret["metadata"]["resourceVersion"].clone()
    };
    let before = version();
    let admin = format!("--kubeconfig={}", lab.cluster.admin_kubeconfig().display());
    let flags = [
        &*admin,
        "--tls-secret=others",
        "--webhook-configuration=none",
    ];
    let webhook = lab.webhook("others.log", &flags);
    lab.served(&[&webhook], &certificate);
    until("a look at the registration", || {
        let report = webhook.plain("/readyz?verbose").text();
        let told = report
            .contains("[!]tls-secret warning: there is no MutatingWebhookConfiguration `none`");
        if told { Ok(()) } else { Err(report) }
    });
    assert_eq!(version(), before);
}

/// A controller manager with the one controller that makes pods again, killed when dropped.
struct Controllers(Child);

impl Controllers {
    fn start(assets: &Path, lab: &Lab) -> Self {
        let log = std::fs::File::create(lab.cluster.file("controllers.log")).unwrap();
        let mut command = Command::new(assets.join("kube-controller-manager"));
        clean_environment(&mut command);
        let kubeconfig = lab.cluster.admin_kubeconfig();
        let child = command
            .arg(format!("--kubeconfig={}", kubeconfig.display()))
            .args([
                "--controllers=replicaset-controller",
                "--leader-elect=false",
            ])
            .args(["--secure-port=0", "--authentication-skip-lookup=true"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        Self(child.unwrap())
    }
}

impl Drop for Controllers {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Acceptance 8 with a replica that is killed: with `Ignore` the pods that are made until its endpoint is gone come out without
/// credentials, and no call fails. The other replica finds them, and with `--restart-unmutated` they are evicted under their
/// disruption budget and made again.
#[test]
fn cluster_pods_that_a_killed_replica_missed_are_evicted_and_made_again() {
    const TEST: &str = "cluster_pods_that_a_killed_replica_missed_are_evicted_and_made_again";
    let Some(assets) = assets(TEST) else { return };
    if !assets.join("kube-controller-manager").exists() {
        crate::harness::skip(TEST, "needs kube-controller-manager beside kube-apiserver");
        return;
    }
    let lab = Lab::start(&assets, &["--restart-unmutated"]);
    let [mut first, second] =
        ["first.log", "second.log"].map(|log| lab.webhook(log, &["--reconcile=false"]));
    lab.register(&[&first]);
    lab.is_asked("bare");
    first.kill();
    let _controllers = Controllers::start(&assets, &lab);
    // Made before its pods, so that it holds from the first look on.
    lab.create(&json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "app", "namespace": "orchard"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "x"}}},
    }));
    let template = json!({
        "metadata": {"labels": {"app": "x"}},
        "spec": {"serviceAccountName": "picker", "containers": [{"name": "app", "image": "x"}]},
    });
    lab.create(&json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "app", "namespace": "orchard"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "x"}}, "template": template},
    }));
    let pods = || -> Vec<Value> {
        let list = lab.get(&["pods", "-n", "orchard", "-l", "app=x"]);
        list["items"].as_array().unwrap().clone()
    };
    let missed = until("a pod that was missed", || {
        let pods = pods();
        pods.first().cloned().ok_or_else(|| format!("{pods:?}"))
    });
    assert!(!has_credentials(&missed), "{missed}");
    let name = missed["metadata"]["name"].as_str().unwrap().to_owned();
    // It runs, as a kubelet would say: budgets are for such pods.
    let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    let patch = status.to_string();
    let target = [
        "patch",
        "pod",
        &name,
        "-n",
        "orchard",
        "--subresource=status",
    ];
    lab.kubectl(&[&target[..], &["-p", &patch]].concat());
    // The endpoint of the one that was killed is gone, and it is started again.
    let again = lab.webhook("again.log", &["--restart-unmutated", "--resync-period=2s"]);
    lab.register(&[&second, &again]);
    lab.is_asked("later");
    until("told about it", || {
        let events = lab.kubectl(&["get", "events.events.k8s.io", "-n", "orchard", "-o", "json"]);
        let told = events.contains("CredentialsNotInjected");
        if told { Ok(()) } else { Err(again.log()) }
    });
    let metric = |line: &str| {
        until("what is counted", || {
            let metrics = again.plain("/metrics").text();
            if metrics.contains(line) {
                Ok(())
            } else {
                Err(format!("{line}: {metrics}"))
            }
        });
    };
    metric("countersign_webhook_unmutated_pods 1");
    // What the budget keeps is kept, look after look.
    std::thread::sleep(std::time::Duration::from_secs(5));
    assert_eq!(
        pods()[0]["metadata"]["uid"],
        missed["metadata"]["uid"],
        "{}",
        again.log()
    );
    metric("countersign_webhook_evicted_pods_total 0");
    lab.kubectl(&["delete", "pdb", "app", "-n", "orchard"]);
    let made = until("a pod in its place", || {
        let pods = pods();
        let other = pods.iter().find(|pod| pod["metadata"]["name"] != *name);
        other.cloned().ok_or_else(|| again.log())
    });
    assert!(has_credentials(&made), "{made}\n{}", again.log());
    metric("countersign_webhook_evicted_pods_total 1");
    metric("countersign_webhook_unmutated_pods 0");
}

impl Lab {
    /// Waits until a pod gets credentials; those that did not are taken away.
    fn is_asked(&self, name: &str) {
        let mut n = 0;
        until("a pod with credentials", || {
            n += 1;
            let name = format!("{name}-{n}");
            let made = self.create_pod(&name);
            if made.is_err() {
                let _ = self.try_kubectl(&["delete", "pod", &name, "-n", "orchard"]);
            }
            made
        });
    }

    /// Makes a pod; an error when it could not be made, or came out without credentials.
    fn create_pod(&self, name: &str) -> Result<(), String> {
        let path = self.cluster.file(&format!("{name}.json"));
        std::fs::write(&path, pod(name).to_string()).unwrap();
        let path = path.display().to_string();
        let made = self.try_kubectl(&["create", "-o", "json", "-f", &path])?;
        let made: Value = serde_json::from_str(&made).unwrap();
        match has_credentials(&made) {
            true => Ok(()),
            false => Err(format!("without credentials: {made}")),
        }
    }
}
