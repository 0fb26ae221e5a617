//! The admission webhook of the real command: recorded reviews, races, restarts, certificates, ConfigMap (webhook spec,
//! section 14).

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::Running;
use crate::mutate_api::{Api, ROLE, pod, review};
use crate::mutate_lab::{Caller, patch};

/// `up` with the webhook section and the Kubernetes API of a test.
pub fn up(api: &Api, section: &str, args: &[&str]) -> Running {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config.yaml");
    let text = format!(
        "server:\n  kubeconfig: {}\ncountersign:\n  podIdentityWebhook: {section}\n",
        api.kubeconfig(dir.path())
    );
    std::fs::write(&config, text).unwrap();
    let config = config.display().to_string();
    let mut all = vec!["--config", config.as_str()];
    all.extend_from_slice(args);
    let running = Running::start_in(dir, "up", &all);
    ready(&running);
    running
}

pub fn ready(running: &Running) {
    until("ready", || {
        let answer = running.webhook("GET", "/readyz", &[], b"");
        if answer.status == 200 {
            Ok(())
        } else {
            Err(answer.text())
        }
    });
}

pub fn until<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) => assert!(Instant::now() < deadline, "{what}: {seen}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn caller(running: &Running) -> Caller {
    Caller::new(
        &running.field("webhookUrl"),
        Path::new(&running.field("webhookCaFile")),
    )
}

fn metric(running: &Running, name: &str) -> f64 {
    let text = running.webhook("GET", "/metrics", &[], b"").text();
    let line = text.lines().find(|line| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(' '))
    });
    let line = line.unwrap_or_else(|| panic!("no {name} in\n{text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

pub fn decision(answer: &Value) -> &str {
    answer["response"]["auditAnnotations"]["decision"]
        .as_str()
        .unwrap_or("-")
}

#[test]
fn recorded_reviews_are_answered_as_the_spec_says() {
    let api = Api::start(Duration::ZERO);
    api.account("lab-a", "robot", Some(ROLE));
    api.account("lab-a", "default", None);
    let server = up(&api, "{}", &[]);
    let mut caller = caller(&server);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pods/tests/data/kube-1.36");
    let expected = [
        ("pod-create", "irsa:annotation"),
        ("pod-update", "irsa:annotation"),
        ("pod-create-by-user", "none"),
        ("pod-create-dryrun", "none"),
        ("deployment-pod-generatename", "none"),
        ("pod-delete", "none"),
        ("configmap-create", "none"),
        ("pod-exec-connect", "none"),
        ("serviceaccount-create-irsa", "none"),
        ("clusterrolebinding-delete", "none"),
    ];
    for (name, decided) in expected {
        let path = folder.join(format!("admissionreview-v1-{name}.json"));
        let body = std::fs::read(path).unwrap();
        let request: Value = serde_json::from_slice(&body).unwrap();
        for version in ["v1", "v1beta1"] {
            let mut request = request.clone();
            request["apiVersion"] = json!(format!("admission.k8s.io/{version}"));
            let body = request.to_string();
            let (status, answer) = caller.post("/mutate?timeout=10s", body.as_bytes()).unwrap();
            assert_eq!(status, 200, "{name} {answer}");
            assert_eq!(answer["apiVersion"], request["apiVersion"], "{name}");
            assert_eq!(
                answer["response"]["uid"], request["request"]["uid"],
                "{name}"
            );
            assert_eq!(answer["response"]["allowed"], true, "{name}");
            assert_eq!(decision(&answer), decided, "{name} {answer}");
            let patched = patch(&answer)
                .map(|patch| patch.to_string())
                .unwrap_or_default();
            assert_eq!(
                patched.contains(ROLE),
                decided == "irsa:annotation",
                "{name}"
            );
        }
    }
    assert_eq!(api.reads(), 0, "all accounts were known by the watch");
    assert_eq!(
        metric(
            &server,
            "pod_identity_webhook_pod_count{method=\"sts_web_identity\"}"
        ),
        4.0
    );
    assert_eq!(metric(&server, "pod_identity_webhook_used"), 1.0);
    assert_eq!(
        metric(
            &server,
            "http_request_count{verb=\"POST\",path=\"/mutate\",code=\"200\"}"
        ),
        20.0
    );
    let dry = "countersign_webhook_decisions_total{decision=\"none\",dry_run=\"true\"}";
    assert_eq!(metric(&server, dry), 2.0);
    assert!(metric(&server, "countersign_webhook_certificate_expiry_seconds") > 86400.0);
    assert_eq!(
        metric(
            &server,
            "countersign_webhook_cache_objects{kind=\"service_account\"}"
        ),
        2.0
    );
    let event = server.wait_for_log("\"event\":\"mutate\"");
    assert!(!event.contains(ROLE), "{event}");
}

#[test]
fn the_envelope_of_bad_requests() {
    let api = Api::start(Duration::ZERO);
    let server = up(&api, "{}", &[]);
    let good = review("orchard", &pod("p", "picker"));
    let json = ("Content-Type", "application/json");
    type Case<'a> = (&'a str, &'a str, Vec<(&'a str, &'a str)>, &'a [u8], u16);
    let cases: Vec<Case<'_>> = vec![
        (
            "POST",
            "/mutate",
            vec![("Content-Type", "text/plain")],
            &good,
            415,
        ),
        ("POST", "/mutate", vec![], &good, 415),
        (
            "POST",
            "/mutate",
            vec![("Content-Type", "application/json; charset=utf-8")],
            &good,
            200,
        ),
        ("POST", "/mutate", vec![json, json], &good, 415),
        ("GET", "/mutate", vec![json], b"", 405),
        ("POST", "/mutate", vec![json], b"", 400),
        ("POST", "/mutate", vec![json], b"{", 400),
        (
            "POST",
            "/mutate",
            vec![json],
            b"{\"kind\":\"AdmissionReview\",\"apiVersion\":\"admission.k8s.io/v1\"}",
            400,
        ),
        ("POST", "/clusters/demo/mutate", vec![json], &good, 200),
        ("POST", "/clusters/other/mutate", vec![json], &good, 404),
        ("POST", "/clusters/demo/x/mutate", vec![json], &good, 404),
    ];
    for (method, path, headers, body, status) in cases {
        let answer = server.webhook(method, path, &headers, body);
        assert_eq!(
            answer.status,
            status,
            "{method} {path} {headers:?}: {}",
            answer.text()
        );
        if status == 400 {
            let review: Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(review["response"]["allowed"], false);
        }
    }
    // A body that is too long is refused by its length alone.
    let told = caller(&server).announce("/mutate", (8 << 20) + 1).unwrap();
    assert_eq!(told, 413);
    // An account that is nowhere was asked for, and the pod let in.
    let (status, answer) = caller(&server).post("/mutate", &good).unwrap();
    assert_eq!(
        (status, &answer["response"]["allowed"]),
        (200, &json!(true))
    );
    assert_eq!(decision(&answer), "none");
    assert!(api.reads() >= 1);
}

/// Acceptance 5: the watch is two seconds behind, and no pod comes out without credentials.
#[test]
fn ten_thousand_pods_right_after_their_accounts() {
    const PODS: usize = 10_000;
    const CALLERS: usize = 12;
    const LAG: Duration = Duration::from_secs(2);
    let api = Api::start(LAG);
    let server = up(&api, "{}", &["--events", "off"]);
    let next = AtomicUsize::new(0);
    let latest = Mutex::new(Duration::ZERO);
    std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                let mut caller = caller(&server);
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= PODS {
                        return;
                    }
                    let name = format!("account-{n}");
                    api.account("orchard", &name, Some(&format!("{ROLE}-{n}")));
                    let made = Instant::now();
                    let body = review("orchard", &pod("p", &name));
                    let (status, answer) = caller.post("/mutate?timeout=10s", &body).unwrap();
                    let took = made.elapsed();
                    let mut latest = latest.lock().unwrap();
                    *latest = took.max(*latest);
                    drop(latest);
                    assert_eq!(status, 200);
                    let patch = patch(&answer).unwrap_or_else(|| panic!("{n}: {answer}"));
                    assert!(
                        patch.to_string().contains(&format!("{ROLE}-{n}\"")),
                        "{patch}"
                    );
                }
            });
        }
    });
    // Decided, all of it, before the watch could have told.
    let latest = *latest.lock().unwrap();
    assert!(latest < LAG, "{latest:?}");
    // Once each, and again where the first call took too long.
    assert!(api.reads() >= PODS);
    assert_eq!(
        metric(
            &server,
            "pod_identity_webhook_pod_count{method=\"sts_web_identity\"}"
        ),
        PODS as f64
    );
    let found = "countersign_webhook_api_reads_total{result=\"found\"}";
    assert_eq!(metric(&server, found), PODS as f64);
}

/// Acceptance 6, through the webhook.
#[test]
fn config_map_replaced_broken_and_deleted() {
    let api = Api::start(Duration::ZERO);
    api.account("orchard", "picker", None);
    api.role_map(Some(
        r#"{"orchard/picker":{"RoleARN":"arn:aws:iam::111122223333:role/a"}}"#,
    ));
    let server = up(
        &api,
        "{watchConfigMap: true, extraEnv: {AWS_ENDPOINT_URL_STS: \"https://sts.orchard.test\"}}",
        &[],
    );
    let mut caller = caller(&server);
    let body = review("orchard", &pod("p", "picker"));
    let mut becomes = |expected: Option<&str>| {
        until("the role map", || {
            let (_, answer) = caller.post("/mutate", &body).unwrap();
            let patch = patch(&answer).map(|patch| patch.to_string());
            let fits = match (expected, &patch) {
                (None, None) => true,
                (Some(role), Some(patch)) => {
                    patch.contains(&format!("role/{role}\""))
                        && patch.contains("https://sts.orchard.test")
                        && decision(&answer) == "irsa:configmap"
                }
                _ => false,
            };
            if fits {
                Ok(())
            } else {
                Err(format!("{answer}"))
            }
        });
    };
    becomes(Some("a"));
    api.role_map(Some(
        r#"{"*/picker":{"RoleARN":"arn:aws:iam::111122223333:role/b"}}"#,
    ));
    becomes(Some("b"));
    api.role_map(Some("{broken"));
    let written = until("an event", || api.written().ok_or_else(String::new));
    assert_eq!(
        written.0,
        "POST /apis/events.k8s.io/v1/namespaces/eks/events"
    );
    becomes(Some("b"));
    let ready = server.webhook("GET", "/readyz?verbose", &[], b"").text();
    assert!(ready.contains("[!]cluster demo pod-identity"), "{ready}");
    assert_eq!(
        metric(&server, "countersign_webhook_config_errors_total"),
        1.0
    );
    api.role_map(None);
    becomes(None);
    api.role_map(Some(
        r#"{"orchard/picker":{"RoleARN":"arn:aws:iam::111122223333:role/c"}}"#,
    ));
    becomes(Some("c"));
}

/// Acceptance 7: the certificate and its CA are replaced, and no call fails. Each call makes a connection of its own, and trusts
/// the old and the new CA, as the bundle has them before the first certificate of the new one is served.
#[test]
fn certificate_rotation_under_load() {
    let api = Api::start(Duration::ZERO);
    api.account("orchard", "picker", Some(ROLE));
    let server = up(&api, "{}", &["--events", "off"]);
    let ca = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let new_ca = authority.self_signed(&ca).unwrap().pem();
    let issuer = rcgen::Issuer::new(authority, ca);
    let key = rcgen::KeyPair::generate().unwrap();
    let parameters = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = parameters.signed_by(&key, &issuer).unwrap().pem();
    let old_ca = PathBuf::from(server.field("webhookCaFile"));
    let both = server.dir.path().join("both.pem");
    let old = std::fs::read_to_string(&old_ca).unwrap();
    std::fs::write(&both, format!("{new_ca}{old}")).unwrap();
    let only_new = server.dir.path().join("new.pem");
    std::fs::write(&only_new, &new_ca).unwrap();
    let body = review("orchard", &pod("p", "picker"));
    let stop = AtomicBool::new(false);
    let calls = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut caller = Caller::new(&server.field("webhookUrl"), &both);
                while !stop.load(Ordering::Relaxed) {
                    let (status, answer) = caller.post("/mutate", &body).unwrap();
                    assert!(
                        status == 200 && patch(&answer).is_some(),
                        "{status} {answer}"
                    );
                    calls.fetch_add(1, Ordering::Relaxed);
                    caller.hang_up();
                }
            });
        }
        std::thread::sleep(Duration::from_millis(500));
        let data = server.dir.path().join("data");
        std::fs::write(data.join("key.pem"), key.serialize_pem()).unwrap();
        // Half a pair, longer than the files are left alone: it is not used.
        std::thread::sleep(Duration::from_secs(3));
        std::fs::write(data.join("cert.pem"), &certificate).unwrap();
        until("the new certificate", || {
            Caller::new(&server.field("webhookUrl"), &only_new)
                .post("/mutate", &body)
                .map_err(|error| error.to_string())
        });
        std::thread::sleep(Duration::from_millis(500));
        stop.store(true, Ordering::Relaxed);
    });
    assert!(calls.load(Ordering::Relaxed) > 50);
    std::fs::copy(&both, &old_ca).unwrap();
    let expiry = metric(&server, "countersign_webhook_certificate_expiry_seconds");
    assert!(
        expiry > 10.0 * 365.0 * 86400.0,
        "that of the new one: {expiry}"
    );
    let rotated = metric(&server, "certificate_manager_server_rotation_seconds_count");
    assert_eq!(rotated, 1.0);
}

/// Acceptance 8: of two replicas one is taken out, stopped, started and put in again; no pod comes out without credentials.
#[test]
fn restart_of_one_of_two_replicas_under_load() {
    let api = Api::start(Duration::ZERO);
    for n in 0..50 {
        api.account("orchard", &format!("account-{n}"), Some(ROLE));
    }
    let replicas: Vec<_> = (0..2)
        .map(|_| up(&api, "{}", &["--events", "off"]))
        .collect();
    let (urls, cas): (Vec<_>, Vec<_>) = replicas
        .iter()
        .map(|replica| (replica.field("webhookUrl"), replica.field("webhookCaFile")))
        .unzip();
    // As the endpoints of a Service.
    let endpoints = Arc::new(Mutex::new(vec![0, 1]));
    let stop = AtomicBool::new(false);
    let calls = [AtomicUsize::new(0), AtomicUsize::new(0)];
    let mut replicas: Vec<_> = replicas.into_iter().map(Some).collect();
    let held = std::thread::scope(|scope| {
        for worker in 0..4_usize {
            let (endpoints, stop, calls, urls, cas) =
                (Arc::clone(&endpoints), &stop, &calls, &urls, &cas);
            scope.spawn(move || {
                let mut callers: Vec<_> = urls
                    .iter()
                    .zip(cas)
                    .map(|(url, ca)| Caller::new(url, Path::new(ca)))
                    .collect();
                let mut n = worker;
                while !stop.load(Ordering::Relaxed) {
                    n += 1;
                    let replica = {
                        let endpoints = endpoints.lock().unwrap();
                        endpoints[n % endpoints.len()]
                    };
                    let body = review("orchard", &pod("p", &format!("account-{}", n % 50)));
                    let (status, answer) = callers[replica].post("/mutate", &body).unwrap();
                    assert!(
                        status == 200 && patch(&answer).is_some(),
                        "{status} {answer}"
                    );
                    calls[replica].fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        std::thread::sleep(Duration::from_millis(500));
        *endpoints.lock().unwrap() = vec![1];
        // What the Deployment has a `preStop` for: calls that were on their way arrive.
        std::thread::sleep(Duration::from_secs(1));
        let mut first = replicas[0].take().unwrap();
        let listen = first
            .field("webhookUrl")
            .strip_prefix("https://")
            .unwrap()
            .to_owned();
        first.stop();
        let data = first.dir.path().join("data").display().to_string();
        let again = up(
            &api,
            "{}",
            &[
                "--events",
                "off",
                "--data-dir",
                &data,
                "--webhook-listen",
                &listen,
            ],
        );
        let before = calls[0].load(Ordering::Relaxed);
        *endpoints.lock().unwrap() = vec![0, 1];
        until("calls to the first again", || {
            let now = calls[0].load(Ordering::Relaxed);
            if now > before + 20 {
                Ok(())
            } else {
                Err(String::new())
            }
        });
        stop.store(true, Ordering::Relaxed);
        // They answer until the last call has ended.
        (first, again)
    });
    drop(held);
    assert!(calls[1].load(Ordering::Relaxed) > 100);
}

/// Pods that came out without credentials are told about, and evicted where that is asked for.
#[test]
fn pods_that_were_missed_are_found() {
    let api = Api::start(Duration::ZERO);
    api.account("orchard", "picker", Some(ROLE));
    let owner = |uid: &str, kind: &str| json!([{"apiVersion": "apps/v1", "kind": kind, "name": format!("owner-{uid}"), "uid": uid, "controller": true}]);
    let running = |name: &str, owners: Value| {
        let mut pod = pod(name, "picker");
        pod["metadata"]["namespace"] = json!("orchard");
        pod["metadata"]["uid"] = json!(format!("uid-{name}"));
        pod["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        pod["metadata"]["ownerReferences"] = owners;
        pod["status"] = json!({"phase": "Running"});
        pod
    };
    let mut fine = running("fine", owner("1", "ReplicaSet"));
    fine["spec"]["volumes"] = json!([{"name": "aws-iam-token", "projected": {"sources": [
        {"serviceAccountToken": {"audience": "sts.amazonaws.com", "expirationSeconds": 86400, "path": "token"}}]}}]);
    fine["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
    api.pod("fine", Some(fine));
    api.pod("missed", Some(running("missed", owner("1", "ReplicaSet"))));
    api.pod("bare", Some(running("bare", Value::Null)));
    api.pod("job", Some(running("job", owner("2", "Job"))));
    let server = up(&api, "{resyncPeriod: 1s, restartUnmutated: true}", &[]);
    until("counted", || {
        let pods = metric(&server, "countersign_webhook_unmutated_pods");
        if pods == 3.0 {
            Ok(())
        } else {
            Err(pods.to_string())
        }
    });
    let mut told = Vec::new();
    let evicted = until("an eviction", || {
        while let Some((line, body)) = api.written() {
            if line.ends_with("/eviction") {
                return Ok((line, body));
            }
            assert_eq!(body["reason"], "CredentialsNotInjected");
            told.push(body["regarding"]["name"].as_str().unwrap().to_owned());
        }
        Err(server.log_tail())
    });
    assert_eq!(told, ["bare", "owner-2", "owner-1"]);
    assert_eq!(
        evicted.0,
        "POST /api/v1/namespaces/orchard/pods/missed/eviction"
    );
    assert_eq!(
        evicted.1["deleteOptions"]["preconditions"]["uid"],
        "uid-missed"
    );
    // The pod in its place lacks them too: evicting it would help nothing, and bare pods and those of jobs are nobody's to evict.
    api.pod("missed", None);
    let mut again = running("missed-2", owner("1", "ReplicaSet"));
    again["metadata"]["creationTimestamp"] = json!("2099-01-01T00:00:00Z");
    api.pod("missed-2", Some(again));
    until("told about the new one", || {
        while let Some((line, body)) = api.written() {
            assert!(line.ends_with("/events"), "{line}");
            if body["related"]["name"] == "missed-2" {
                return Ok(());
            }
        }
        Err(String::new())
    });
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(api.written(), None);
    let ready = server.webhook("GET", "/readyz?verbose", &[], b"").text();
    assert!(ready.contains("3 pods lack their credentials"), "{ready}");
}

/// Without a way to the service accounts nothing is certain: associations count, other pods are let in with a warning, or refused.
#[test]
fn accounts_that_cannot_be_read() {
    let body = review("orchard", &pod("p", "picker"));
    for (section, allowed, message) in [
        (
            "",
            true,
            "pod identity: the service account could not be read",
        ),
        (
            "countersign:\n  podIdentityWebhook: {failureMode: fail}\n",
            false,
            "pod identity: service account orchard/picker could not be read; try again",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config.yaml");
        std::fs::write(&config, section).unwrap();
        let config = config.display().to_string();
        let server = Running::start_in(dir, "up", &["--config", &config]);
        let (status, answer) = caller(&server).post("/mutate", &body).unwrap();
        assert_eq!(status, 200);
        let response = &answer["response"];
        assert_eq!(response["allowed"], allowed, "{answer}");
        let told = match allowed {
            true => &response["warnings"][0],
            false => &response["status"]["message"],
        };
        assert_eq!(told, message);
        assert_eq!(patch(&answer), None);
        let missing = metric(&server, "pod_identity_webhook_missing_sa_count");
        assert_eq!(missing, 1.0);
    }
}
