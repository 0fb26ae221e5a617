//! `countersign policy` as a person uses it: the documented examples, wrong input, exit codes.

use std::path::{Path, PathBuf};
use std::process::Output;

use crate::harness::countersign;

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples/policy")
}

fn policy(args: &[&str]) -> (Option<i32>, String, String) {
    let mut all = vec!["policy"];
    all.extend(args);
    let Output {
        status,
        stdout,
        stderr,
    } = countersign(&all, &Default::default());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn policy_documented_examples_decide_as_they_say() {
    let mut files = 0;
    for entry in std::fs::read_dir(examples()).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        if !text.contains("\"expected\"") && !text.contains("expected:") {
            continue;
        }
        let (code, stdout, stderr) = policy(&["simulate", path.to_str().unwrap()]);
        assert_eq!(code, Some(0), "{path:?}\n{stdout}\n{stderr}");
        let (code, stdout, stderr) = policy(&[
            "simulate",
            path.to_str().unwrap(),
            "--explain",
            "-o",
            "json",
        ]);
        assert_eq!(code, Some(0), "{path:?}\n{stderr}");
        let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        for result in report["results"].as_array().unwrap() {
            assert_eq!(result["ok"], true, "{path:?}: {result}");
            assert!(
                !result["explanation"]["summary"]
                    .as_str()
                    .unwrap()
                    .is_empty(),
                "{path:?}: {result}"
            );
        }
        files += 1;
    }
    assert!(
        files >= 3,
        "IRSA, Pod Identity and the bucket policy are documented"
    );
}

#[test]
fn policy_lint_finds_a_trust_policy_open_to_the_whole_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trust.json");
    let issuer = "oidc.eks.eu-west-1.amazonaws.com/id/ABC";
    let text = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"Federated":"arn:aws:iam::111122223333:oidc-provider/{issuer}"}},"Action":"sts:AssumeRoleWithWebIdentity","Condition":{{"StringEquals":{{"{issuer}:aud":"sts.amazonaws.com"}}}}}}]}}"#
    );
    std::fs::write(&path, &text).unwrap();
    let file = path.to_str().unwrap();
    let (code, stdout, _) = policy(&["lint", file]);
    assert_eq!(code, Some(1), "{stdout}");
    assert!(
        stdout.contains("IRSA_SUB_MISSING") && stdout.contains("fix:"),
        "{stdout}"
    );
    assert_eq!(policy(&["lint", file, "--fail-on", "error"]).0, Some(0));
    let (_, sarif, _) = policy(&["lint", file, "-o", "sarif"]);
    let sarif: serde_json::Value = serde_json::from_str(&sarif).unwrap();
    assert_eq!(sarif["version"], "2.1.0");
    let region = &sarif["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["region"];
    assert!(
        region["startLine"].as_u64().is_some() && region["startColumn"].as_u64().is_some(),
        "{sarif}"
    );
}

#[test]
fn policy_diff_shows_a_witness_and_says_no() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, actions: &str| {
        let path = dir.path().join(name);
        let text = format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Action":{actions},"Resource":"arn:aws:s3:::b/*"}}]}}"#
        );
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (narrow, wide) = (
        write("narrow.json", r#""s3:GetObject""#),
        write("wide.json", r#"["s3:GetObject","s3:PutObject"]"#),
    );
    let (code, stdout, _) = policy(&["diff", &narrow, &wide]);
    assert_eq!(code, Some(1), "{stdout}");
    assert!(stdout.contains("s3:PutObject"), "{stdout}");
    assert_eq!(
        policy(&["diff", &wide, &narrow]).0,
        Some(0),
        "nothing new is allowed"
    );
    assert_eq!(policy(&["diff", &narrow, &narrow]).0, Some(0));
}

#[test]
fn policy_wrong_input_is_refused_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let cut = at("cut.json", "{\"request\": ");
    let layer = at(
        "layer.json",
        r#"{"request":{"principal":"anonymous","action":"s3:GetObject","resource":"*"},"policies":{"identiy":[]}}"#,
    );
    let strict = at(
        "strict.json",
        r#"{"request":{"principal":"anonymous","action":"s3:GetObject","resource":"*"},"policies":{"identity":[{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"GetObject","Resource":"*"}]}]}}"#,
    );
    for (args, text) in [
        (vec!["simulate", cut.as_str()], "cut.json:1:"),
        (vec!["simulate", layer.as_str()], "identiy"),
        (vec!["simulate", strict.as_str(), "--strict"], ""),
        (vec!["simulate", "/no/such/file"], "/no/such/file"),
        (vec!["diff", cut.as_str(), cut.as_str()], "cut.json"),
        (
            vec!["simulate", strict.as_str(), "--assume", "nonsense"],
            "KEY=VALUE",
        ),
    ] {
        let (code, stdout, stderr) = policy(&args);
        assert_eq!(code, Some(2), "{args:?}\n{stdout}\n{stderr}");
        assert!(
            format!("{stdout}{stderr}").contains(text),
            "{args:?}\n{stdout}\n{stderr}"
        );
    }
}

#[test]
fn policy_lint_finds_a_star_that_is_compared_as_a_star() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trust.json");
    let issuer = "issuer.countersign.internal/id/0A1B2C3D4E5F60718293A4B5C6D7E8F9";
    for (operator, found) in [("StringEquals", true), ("StringLike", false)] {
        let text = format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"Federated":"arn:aws:iam::111122223333:oidc-provider/{issuer}"}},"Action":"sts:AssumeRoleWithWebIdentity","Condition":{{"{operator}":{{"{issuer}:sub":"system:serviceaccount:orchard:*","{issuer}:aud":"sts.amazonaws.com"}}}}}}]}}"#
        );
        std::fs::write(&path, &text).unwrap();
        let (_, stdout, _) = policy(&["lint", path.to_str().unwrap()]);
        let has = stdout.contains("IRSA_SUB_STRINGEQUALS_WILDCARD");
        assert_eq!(has, found, "{operator}: {stdout}");
    }
}
