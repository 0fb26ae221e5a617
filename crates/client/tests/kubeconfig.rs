//! `kubeconfig` as a person runs it, with files in a home directory and an EKS API on loopback.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails should panic"
)]

mod common;

use common::{Fake, Output, Shell, mode, parse};
use countersign_client::kubeconfig::{self, KubeconfigArgs};

const ARN: &str = "arn:aws:eks:eu-west-1:444455556666:cluster/demo";

fn kubeconfig(shell: &Shell, line: &[&str]) -> Output {
    let mut full = vec!["--name", "demo"];
    full.extend(line);
    let args: KubeconfigArgs = parse(&full);
    shell.run(|process, io| kubeconfig::run(&args, process, io))
}

const GIVEN: [&str; 6] = [
    "--endpoint",
    "https://k8s.example",
    "--arn",
    ARN,
    "--region",
    "us-east-1",
];

#[test]
fn the_first_entry_makes_the_file() {
    let shell = Shell::new().file("ca.pem", "-----BEGIN CERTIFICATE-----\n");
    let ca = shell.path("ca.pem");
    let mut line = GIVEN.to_vec();
    line.extend(["--certificate-authority", ca.to_str().unwrap()]);
    let out = kubeconfig(&shell, &line);
    let path = shell.path(".kube/config");
    assert_eq!(out.code, 0, "{out:?}");
    assert_eq!(
        out.stdout,
        format!("Added new context {ARN} to {}\n", path.display())
    );
    assert_eq!(mode(&path), 0o600);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(
        text.contains("certificate-authority-data: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCg=="),
        "{text}"
    );
    // The region is that of the ARN, whatever the flag says, as in the AWS CLI.
    assert!(text.contains("- --region\n      - eu-west-1\n"), "{text}");
    let out = kubeconfig(&shell, &GIVEN);
    assert_eq!(
        out.stdout,
        format!("Updated context {ARN} in {}\n", path.display())
    );
    let again = std::fs::read_to_string(&path).unwrap();
    assert!(!again.contains("certificate-authority-data"));
}

#[test]
fn a_dry_run_prints_what_would_be_written_and_writes_nothing() {
    let shell = Shell::new();
    let mut line = GIVEN.to_vec();
    line.push("--dry-run");
    let dry = kubeconfig(&shell, &line);
    assert!(!shell.path(".kube").exists());
    kubeconfig(&shell, &GIVEN);
    let text = std::fs::read_to_string(shell.path(".kube/config")).unwrap();
    assert_eq!(dry.stdout, text);
}

#[test]
fn the_file_that_has_the_cluster_is_chosen_else_the_first() {
    let with = format!("clusters:\n- name: {ARN}\n  cluster: {{server: old}}\n");
    let shell = Shell::new()
        .file("broken", "clusters: {}\n")
        .file("first", "clusters: []\n")
        .file("second", &with);
    let path = |name: &str| shell.path(name).to_str().unwrap().to_owned();
    let list = |names: &[&str]| names.iter().map(|n| path(n)).collect::<Vec<_>>().join(":");
    let run = |kubeconfig_env: String, line: &[&str]| {
        let mut shell = Shell::new().set("KUBECONFIG", &kubeconfig_env);
        shell.home = tempfile::tempdir().unwrap();
        kubeconfig(&shell, line)
    };
    let out = run(list(&["broken", "first", "second"]), &GIVEN);
    assert_eq!(
        out.stdout,
        format!("Updated context {ARN} in {}\n", path("second"))
    );
    assert!(
        out.stderr.starts_with("warning: cannot change")
            && out.stderr.contains("`clusters` is not a list"),
        "{}",
        out.stderr
    );
    let out = run(format!(":{}", list(&["first", "missing"])), &GIVEN);
    assert_eq!(
        out.stdout,
        format!("Added new context {ARN} to {}\n", path("first"))
    );
    let out = run(list(&["broken"]), &GIVEN);
    assert_eq!((out.code, out.stdout.as_str()), (1, ""));
    let third = path("third");
    let mut line = GIVEN.to_vec();
    line.extend(["--kubeconfig", &third]);
    let out = run(list(&["second"]), &line);
    assert_eq!(out.stdout, format!("Added new context {ARN} to {third}\n"));
}

#[test]
fn a_profile_and_a_role_are_written_into_the_entry() {
    let shell = Shell::new()
        .file(".aws/config", "[profile dev]\nregion = eu-west-1\n")
        .set("AWS_PROFILE", "dev");
    let mut line = GIVEN.to_vec();
    line.extend([
        "--role-arn",
        "arn:aws:iam::444455556666:role/Ops",
        "--alias",
        "demo",
    ]);
    kubeconfig(&shell, &line);
    let text = std::fs::read_to_string(shell.path(".kube/config")).unwrap();
    assert!(
        text.contains("      - --role\n      - arn:aws:iam::444455556666:role/Ops\n"),
        "{text}"
    );
    assert!(
        text.contains("      env:\n      - name: AWS_PROFILE\n        value: dev\n"),
        "{text}"
    );
    assert!(text.contains("current-context: demo\n"), "{text}");
}

#[test]
fn a_link_stays_a_link() {
    let shell = Shell::new()
        .file("dotfiles/kubeconfig", "clusters: []\n")
        .file(".kube/x", "");
    let link = shell.path(".kube/config");
    std::os::unix::fs::symlink(shell.path("dotfiles/kubeconfig"), &link).unwrap();
    assert_eq!(kubeconfig(&shell, &GIVEN).code, 0);
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    let text = std::fs::read_to_string(shell.path("dotfiles/kubeconfig")).unwrap();
    assert!(text.contains(ARN));
}

fn describing(status: u16, body: &str) -> (Fake, Shell) {
    let body = body.to_owned();
    let fake = Fake::new(move |_| (status, body.clone()));
    let shell = Shell::with_keys()
        .set("AWS_REGION", "eu-west-1")
        .set("AWS_ENDPOINT_URL_EKS", &format!("{}/eks/", fake.url))
        .set("NO_PROXY", "127.0.0.1");
    (fake, shell)
}

#[test]
fn without_an_endpoint_the_eks_api_is_asked() {
    let (fake, shell) = describing(
        200,
        &format!(
            r#"{{"cluster":{{"status":"ACTIVE","arn":"{ARN}","endpoint":"https://k8s.example","certificateAuthority":{{"data":"QUFB"}}}}}}"#
        ),
    );
    let out = kubeconfig(&shell, &[]);
    assert_eq!(out.code, 0, "{out:?}");
    let seen = fake.seen();
    assert_eq!(seen[0].line, "GET /eks/clusters/demo HTTP/1.1");
    assert!(
        seen[0]
            .header("authorization")
            .contains("/20260102/eu-west-1/eks/aws4_request")
    );
    let text = std::fs::read_to_string(shell.path(".kube/config")).unwrap();
    assert!(text.contains("server: https://k8s.example"), "{text}");
}

#[test]
fn refusals_of_the_eks_api_write_nothing() {
    for (status, body, error) in [
        (
            404,
            r#"{"__type":"ResourceNotFoundException","message":"No cluster found for name: demo."}"#,
            "error: An error occurred (ResourceNotFoundException) when calling the DescribeCluster operation: No cluster found for name: demo.\n",
        ),
        (403, "<html>", "(HTTP 403)"),
        (
            200,
            r#"{"cluster":{"status":"CREATING","arn":"x"}}"#,
            "Cluster status is CREATING",
        ),
        (200, "{}", "gave no usable answer to DescribeCluster"),
    ] {
        let (_fake, shell) = describing(status, body);
        let out = kubeconfig(&shell, &[]);
        assert_eq!((out.code, out.stdout.as_str()), (1, ""), "{body}");
        assert!(out.stderr.contains(error), "{}", out.stderr);
        assert!(!shell.path(".kube").exists());
    }
}

#[test]
fn without_a_region_nothing_is_written() {
    let shell = Shell::new();
    let out = kubeconfig(&shell, &["--endpoint", "https://k8s.example"]);
    assert_eq!(out.code, 1);
    assert!(
        out.stderr.contains("no region is configured"),
        "{}",
        out.stderr
    );
}
