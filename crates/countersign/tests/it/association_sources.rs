//! `associationsFrom: eks`: the admission webhook learns associations from the EKS API of another Countersign.

use std::path::Path;

use serde_json::Value;

use crate::harness::{Running, aws_cli, client, countersign};
use crate::mutate::{ready, until};
use crate::mutate_api::{pod, review};
use crate::mutate_lab::Caller;

const TRUST: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"},"Action":["sts:AssumeRole","sts:TagSession"]}]}"#;

/// A server whose webhook asks `endpoint`, with the environment of the AWS chain.
fn asking(endpoint: &str, environment: &[(&str, &str)], other: &Running) -> Running {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config.yaml");
    std::fs::write(
        &config,
        format!(
            "countersign:\n  podIdentityWebhook: {{associationsFrom: eks, associationsCluster: demo, associationsEndpoint: \"{endpoint}\", \
             associationRefresh: 1s}}\n"
        ),
    )
    .unwrap();
    let config = config.display().to_string();
    let mut variables = other.aws_environment();
    variables.remove("AWS_ENDPOINT_URL");
    for (name, value) in environment {
        variables.insert((*name).to_owned(), (*value).to_owned());
    }
    let args = ["--config", config.as_str(), "--cluster", "elsewhere"];
    Running::start_with(dir, "up", &args, &variables)
}

fn readiness(server: &Running, expected: &str) {
    until(expected, || {
        let text = server.webhook("GET", "/readyz?verbose", &[], b"").text();
        if text.contains(expected) {
            Ok(())
        } else {
            Err(text)
        }
    });
}

#[test]
fn associations_are_those_of_another_eks_api_and_stay_while_it_is_away() {
    const TEST: &str = "associations_are_those_of_another_eks_api_and_stay_while_it_is_away";
    let Some(aws) = aws_cli(TEST) else { return };
    let mut other = Running::up(&[]);
    let environment = other.aws_environment();
    let call = |args: &[&str]| -> Value {
        let output = client(&aws, args, &environment);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {told}");
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    };
    call(&[
        "iam",
        "create-role",
        "--role-name",
        "cart",
        "--assume-role-policy-document",
        TRUST,
    ]);
    let associate = |account: &str| -> String {
        let made = call(&[
            "eks",
            "create-pod-identity-association",
            "--cluster-name",
            "demo",
            "--namespace",
            "shop",
            "--service-account",
            account,
            "--role-arn",
            "arn:aws:iam::111122223333:role/cart",
        ]);
        let id = made["association"]["associationId"].as_str();
        id.unwrap().to_owned()
    };
    let cart = associate("cart");

    let endpoint = other.field("endpointUrl");
    let server = asking(&endpoint, &[], &other);
    let decision = |account: &str| -> String {
        let mut caller = Caller::new(
            &server.field("webhookUrl"),
            Path::new(&server.field("webhookCaFile")),
        );
        let body = review("shop", &pod("p", account));
        let (status, answer) = caller.post("/mutate?timeout=10s", &body).unwrap();
        assert_eq!(status, 200, "{answer}");
        let decided = &answer["response"]["auditAnnotations"]["decision"];
        decided.as_str().unwrap_or("-").to_owned()
    };
    ready(&server);
    readiness(&server, "1 associations from eks");
    assert_eq!(decision("cart"), "association");
    assert_eq!(decision("till"), "none");
    // What is made and deleted there counts here with the next list.
    associate("till");
    until("a new association", || match decision("till") {
        decided if decided == "association" => Ok(()),
        decided => Err(decided),
    });
    call(&[
        "eks",
        "delete-pod-identity-association",
        "--cluster-name",
        "demo",
        "--association-id",
        &cart,
    ]);
    until("a deleted association", || match decision("cart") {
        decided if decided == "none" => Ok(()),
        decided => Err(decided),
    });
    // While nobody answers, what is known stays, and the webhook ready.
    other.stop();
    readiness(&server, "[!]cluster elsewhere pod-identity warning");
    readiness(&server, "1 associations from eks; the EKS API: no answer");
    ready(&server);
    assert_eq!(decision("till"), "association");
    let metrics = server.webhook("GET", "/metrics", &[], b"").text();
    for line in [
        "countersign_webhook_associations{cluster=\"elsewhere\",source=\"eks\"} 1\n",
        "countersign_webhook_association_reads_total{cluster=\"elsewhere\",source=\"eks\",result=\"ok\"} ",
        "countersign_webhook_association_reads_total{cluster=\"elsewhere\",source=\"eks\",result=\"throttled\"} 0\n",
    ] {
        assert!(metrics.contains(line), "no {line} in {metrics}");
    }
    assert!(!metrics.contains("source=\"eks\",result=\"failed\"} 0\n"));
}

#[test]
fn a_webhook_that_may_not_list_associations_is_not_ready() {
    let other = Running::up(&[]);
    let endpoint = other.field("endpointUrl");
    // Signed with another secret than the one that belongs to the key.
    let wrong = [(
        "AWS_SECRET_ACCESS_KEY",
        "wrong+wrong/wrong+wrong/wrong+wrong/wron",
    )];
    let server = asking(&endpoint, &wrong, &other);
    readiness(&server, "associations not listed yet");
    readiness(&server, "the EKS API: refused with status 403");
    let answer = server.webhook("GET", "/readyz", &[], b"");
    assert_eq!(answer.status, 503, "{}", answer.text());
}

#[test]
fn an_eks_api_needs_a_region_and_a_safe_endpoint() {
    let dir = tempfile::tempdir().unwrap();
    for (section, expected) in [
        (
            "associationsFrom: eks",
            "the EKS API to learn associations from has no region",
        ),
        (
            "associationsFrom: eks, associationsRegion: mars",
            "`mars` in `associationsRegion` is no region",
        ),
        (
            "associationsFrom: eks, associationsRegion: us-east-1, associationsEndpoint: \"http://eks.example\"",
            "it begins with https://, or is on this machine",
        ),
        (
            "associationsFrom: eks, associationsRegion: us-east-1, associationsCluster: \"../x\"",
            "`../x` is no cluster name",
        ),
        (
            "associationsFrom: crd",
            "no kubeconfig is configured, and this is not a pod",
        ),
    ] {
        let config = dir.path().join("config.yaml");
        let text = format!("countersign:\n  podIdentityWebhook: {{{section}}}\n");
        std::fs::write(&config, text).unwrap();
        let data = dir.path().join("data").display().to_string();
        let config = config.display().to_string();
        let args = [
            "up",
            "--config",
            &config,
            "--data-dir",
            &data,
            "--listen",
            "127.0.0.1:0",
            "--webhook-listen",
            "127.0.0.1:0",
        ];
        let output = countersign(&args, &Default::default());
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && told.contains(expected),
            "{section}: {told}"
        );
    }
}
