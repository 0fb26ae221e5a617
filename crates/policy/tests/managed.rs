//! AWS managed policies: every one can be written, linted without an error, and compiled.
//!
//! The set we ship always; with `COUNTERSIGN_TEST_PYTHON` naming a Python that has `moto` installed, also the whole set that moto ships.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests"
)]

use std::process::Command;

use countersign_policy::lint::{FindingType, LintOptions, lint};
use countersign_policy::tables::managed_policies;
use countersign_policy::validate::{NoDirectory, validate};
use countersign_policy::{Policy, PolicyKind};

fn problems(name: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if let Err(rejection) = validate(text, PolicyKind::Identity, &NoDirectory) {
        problems.push(format!(
            "{name}: {} {:?}",
            rejection.message, rejection.problem
        ));
    }
    if let Err(error) = Policy::parse(text, PolicyKind::Identity) {
        problems.push(format!("{name}: {error}"));
    }
    let findings = lint(text, &LintOptions::default());
    problems.extend(
        findings
            .iter()
            .filter(|finding| finding.kind == FindingType::Error)
            .map(|finding| format!("{name}: {} {}", finding.code, finding.message)),
    );
    problems
}

#[test]
fn shipped_managed_policies_have_no_errors() {
    let policies = managed_policies();
    assert_eq!(policies.len(), 42);
    let problems: Vec<String> = policies
        .iter()
        .flat_map(|policy| problems(&policy.name, policy.document()))
        .collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn managed_policies_of_moto_have_no_errors() {
    let Ok(python) = std::env::var("COUNTERSIGN_TEST_PYTHON") else {
        eprintln!(
            "SKIPPED: set COUNTERSIGN_TEST_PYTHON to a Python that has moto to check its 1,485 policies"
        );
        return;
    };
    let script = "import json, sys, importlib.util, importlib.metadata as m\n\
        path = next(p for p in m.files('moto') if str(p).endswith('iam/aws_managed_policies.py')).locate()\n\
        spec = importlib.util.spec_from_file_location('data', path)\n\
        data = importlib.util.module_from_spec(spec); spec.loader.exec_module(data)\n\
        for name, policy in json.loads(data.aws_managed_policies_data).items():\n\
        \x20   print(name + '\\t' + json.dumps(policy['Document'], ensure_ascii=False))\n";
    let output = Command::new(python).args(["-c", script]).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let mut count = 0;
    let mut all = Vec::new();
    for line in text.lines() {
        let (name, document) = line.split_once('\t').unwrap();
        count += 1;
        all.extend(problems(name, document));
    }
    assert!(count > 1000, "only {count} policies");
    assert!(all.is_empty(), "{} problems\n{}", all.len(), all.join("\n"));
}
