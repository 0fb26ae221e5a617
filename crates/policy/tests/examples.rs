//! The documented examples: trust of pods, and a bucket policy over session tags, after the EKS best-practices guide. Each case has its
//! answer and its reason.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use countersign_policy::explain::{explain, render_tree};
use countersign_policy::lint::{FindingType, LintOptions, lint, rules};
use countersign_policy::simulate::{self, Options};
use serde_json::Value;

fn docs(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs")
        .join(name)
}

fn run(name: &str) {
    let path = docs("examples/policy").join(name);
    let text = std::fs::read_to_string(&path).unwrap();
    let reasons: Value = serde_json::from_str(&text).unwrap();
    let load = |file: &str| {
        std::fs::read_to_string(docs("examples/policy").join(file))
            .map_err(|error| error.to_string())
    };
    let cases = simulate::parse(name, &text, &load).unwrap();
    assert!(cases.len() >= 5);
    let report = simulate::run(
        &cases,
        &Options {
            explain: true,
            ..Options::default()
        },
    );
    for result in &report.results {
        assert!(
            result.ok,
            "{name} {}: {:?} {}",
            result.id, result.decision, result.reason
        );
        assert!(
            result.warnings.is_empty(),
            "{name} {}: {:?}",
            result.id,
            result.warnings
        );
        let case = reasons
            .as_array()
            .unwrap()
            .iter()
            .find(|case| case["id"] == *result.id)
            .unwrap();
        let wanted = case["reason"].as_str().unwrap();
        assert!(
            result.reason.contains(wanted),
            "{name} {}: {}",
            result.id,
            result.reason
        );
        let tree = render_tree(result.explanation.as_ref().unwrap());
        assert!(tree.contains(&result.reason));
    }
    let _ = explain;
}

#[test]
fn roles_for_service_accounts() {
    run("irsa.json");
}

#[test]
fn pod_identity() {
    run("pod-identity.json");
}

#[test]
fn a_bucket_policy_over_session_tags() {
    run("abac.json");
}

#[test]
fn the_example_policies_have_no_errors_or_security_warnings() {
    for name in [
        "irsa-trust.json",
        "pod-identity-trust.json",
        "abac-bucket-policy.json",
        "abac-role-policy.json",
    ] {
        let text = std::fs::read_to_string(docs("examples/policy").join(name)).unwrap();
        let bad: Vec<_> = lint(&text, &LintOptions::default())
            .into_iter()
            .filter(|finding| finding.kind <= FindingType::SecurityWarning)
            .collect();
        assert!(bad.is_empty(), "{name}: {bad:?}");
    }
}

/// The page that findings point to is written from the catalogue; `COUNTERSIGN_BLESS=1` writes it again.
#[test]
fn the_page_of_findings_is_up_to_date() {
    let mut page = String::from(
        "# Findings of `countersign policy lint`\n\nWritten from `crates/policy/data/findings.json`; do not edit.\n",
    );
    for kind in [
        FindingType::Error,
        FindingType::SecurityWarning,
        FindingType::Warning,
        FindingType::Suggestion,
    ] {
        let _ = write!(page, "\n## {}\n", kind.as_str());
        for rule in rules().iter().filter(|rule| rule.kind == kind) {
            let _ = write!(
                page,
                "\n### {}\n\n{}.\nFix: {}.\n",
                rule.code, rule.what, rule.fix
            );
        }
    }
    let path = docs("policy-findings.md");
    if std::env::var_os("COUNTERSIGN_BLESS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(&path).unwrap_or_default(),
        page,
        "run again with COUNTERSIGN_BLESS=1"
    );
}
