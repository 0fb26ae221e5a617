//! Where the admission webhook of a whole server has its facts from: associations that come late, and further clusters.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Running, aws_cli, client};
use crate::mutate::{decision, ready, up};
use crate::mutate_api::{Api, ROLE, pod, review};
use crate::mutate_lab::{Caller, patch};

fn caller(server: &Running) -> Caller {
    Caller::new(
        &server.field("webhookUrl"),
        Path::new(&server.field("webhookCaFile")),
    )
}

/// The review of a pod of an account, with the time that the API server would wait.
fn ask(server: &Running, account: &str, seconds: u32) -> Value {
    let body = review("orchard", &pod("p", account));
    let path = format!("/mutate?timeout={seconds}s");
    let (status, answer) = caller(server).post(&path, &body).unwrap();
    assert_eq!(status, 200, "{answer}");
    answer
}

#[test]
fn a_pod_waits_for_the_association_that_its_account_expects() {
    const TEST: &str = "a_pod_waits_for_the_association_that_its_account_expects";
    let Some(aws) = aws_cli(TEST) else { return };
    let api = Api::start(Duration::ZERO);
    let expects = json!({"eks.amazonaws.com/expect-association": "true"});
    api.annotated("orchard", "packer", expects.clone());
    api.annotated("orchard", "never", expects);
    api.account("orchard", "picker", None);
    let server = up(&api, "{waitForAssociation: 25s}", &[]);
    let mut environment = server.aws_environment();
    environment.insert("AWS_PAGER".into(), String::new());
    let call = |args: &[&str]| {
        let output = client(&aws, args, &environment);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "aws {args:?}: {stderr}");
    };
    let trust = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Action": ["sts:AssumeRole", "sts:TagSession"],
        "Principal": {"Service": "pods.eks.amazonaws.com"},
    }]})
    .to_string();
    let mut create = vec!["iam", "create-role", "--role-name", "packing"];
    create.extend(["--assume-role-policy-document", &trust]);
    call(&create);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| ask(&server, "packer", 30));
        std::thread::sleep(Duration::from_millis(500));
        // Whose account expects none is answered while the other waits.
        assert_eq!(decision(&ask(&server, "picker", 30)), "none");
        assert!(!waiting.is_finished());
        let mut create = vec!["eks", "create-pod-identity-association"];
        create.extend(["--cluster-name", "demo", "--namespace", "orchard"]);
        create.extend(["--service-account", "packer", "--role-arn"]);
        create.push("arn:aws:iam::111122223333:role/packing");
        call(&create);
        let answer = waiting.join().unwrap();
        assert_eq!(decision(&answer), "association", "{answer}");
        assert!(patch(&answer).is_some());
    });
    // One that never comes holds the pod no longer than the API server waits, and the pod is let in.
    let asked = Instant::now();
    let answer = ask(&server, "never", 2);
    assert!(asked.elapsed() >= Duration::from_millis(900));
    assert_eq!(decision(&answer), "none");
    assert_eq!(answer["response"]["allowed"], true);
}

#[test]
fn each_cluster_has_its_own_accounts() {
    let [home, west] = [(); 2].map(|()| Api::start(Duration::ZERO));
    let other = "arn:aws:iam::111122223333:role/west-reader";
    home.account("orchard", "picker", Some(ROLE));
    west.account("orchard", "picker", Some(other));
    west.account("orchard", "packer", Some(other));
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    };
    let (state, home_dir, west_dir) = (at("state"), at("home"), at("west"));
    let mapping = dir.path().join("mapping.yaml");
    std::fs::write(&mapping, "server:\n  mapUsers: []\n").unwrap();
    let config = dir.path().join("config.yaml");
    let text = format!(
        "clusterID: demo\nserver:\n  port: 0\n  stateDir: {state}\n  generateKubeconfig: {state}/kubeconfig.yaml\n  kubeconfig: {}\n\
         countersign:\n  healthListen: \"off\"\n  podIdentityWebhook: {{}}\n  clusters:\n    west: {{kubeconfig: {}, mappingFile: {}}}\n",
        home.kubeconfig(&home_dir),
        west.kubeconfig(&west_dir),
        mapping.display(),
        state = state.display(),
    );
    std::fs::write(&config, text).unwrap();
    let config = config.display().to_string();
    let server = Running::start_in(dir, "serve", &["--config", &config]);
    ready(&server);
    let mut caller = caller(&server);
    for (path, account, role) in [
        ("/mutate", "picker", Some(ROLE)),
        ("/clusters/demo/mutate", "picker", Some(ROLE)),
        ("/clusters/west/mutate", "picker", Some(other)),
        ("/clusters/west/mutate", "packer", Some(other)),
        ("/mutate", "packer", None),
    ] {
        let body = review("orchard", &pod("p", account));
        let (status, answer) = caller.post(path, &body).unwrap();
        assert_eq!(status, 200, "{path} {answer}");
        let patch = patch(&answer).map(|patch| patch.to_string());
        let given = [ROLE, other].into_iter().find(|role| {
            patch
                .as_ref()
                .is_some_and(|patch| patch.contains(&format!("{role}\"")))
        });
        assert_eq!(given, role, "{path} {account}: {answer}");
    }
    let body = review("orchard", &pod("p", "picker"));
    let (status, _) = caller.post("/clusters/north/mutate", &body).unwrap();
    assert_eq!(status, 404);
    // What is known of each is told by itself.
    let report = server.webhook("GET", "/readyz?verbose", &[], b"").text();
    for line in [
        "[+]cluster demo pod-identity ok: 1 service accounts",
        "[+]cluster west pod-identity ok: 2 service accounts",
    ] {
        assert!(report.contains(line), "{report}");
    }
}
