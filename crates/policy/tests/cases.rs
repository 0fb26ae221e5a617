//! Simulate files with expectations: the worked examples and the traps of the policy language spec, and the documented examples.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::path::{Path, PathBuf};

use countersign_policy::explain::explain;
use countersign_policy::simulate::{self, Options, Report};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

fn run(path: &Path) -> Report {
    let text = std::fs::read_to_string(path).unwrap();
    let directory = path.parent().unwrap().to_owned();
    let load = |name: &str| {
        std::fs::read_to_string(directory.join(name)).map_err(|error| error.to_string())
    };
    let name = path.file_name().unwrap().to_str().unwrap();
    let cases = simulate::parse(name, &text, &load)
        .unwrap_or_else(|error| panic!("{error} at {}", error.path));
    let report = simulate::run(&cases, &Options::default());
    for case in &cases {
        // The explanation is a second pass and must come to the same answer.
        let explanation = simulate::explain_case(case, &Options::default()).unwrap();
        let first = report
            .results
            .iter()
            .find(|result| result.id == case.id)
            .unwrap();
        assert_eq!(Some(explanation.decision), first.decision, "{}", case.id);
    }
    let _ = explain;
    report
}

fn assert_all(name: &str, least: usize) {
    let report = run(&data(name));
    let failed: Vec<_> = report
        .results
        .iter()
        .filter(|result| !result.ok || result.expected.is_none())
        .map(|result| {
            format!(
                "{}: {:?} blocked by {:?}: {}",
                result.id, result.decision, result.blocked_by, result.reason
            )
        })
        .collect();
    assert!(failed.is_empty(), "{name}:\n{}", failed.join("\n"));
    assert!(
        report.results.len() >= least,
        "{} cases in {name}",
        report.results.len()
    );
}

#[test]
fn worked_examples_of_evaluation() {
    assert_all("evaluation.yaml", 19);
}

#[test]
fn traps_and_further_rules() {
    assert_all("traps.json", 100);
}

#[test]
fn every_trap_has_a_case_or_says_where_it_is_tested() {
    let text = std::fs::read_to_string(data("traps.json")).unwrap();
    let file: serde_json::Value = serde_json::from_str(&text).unwrap();
    for trap in 1..=40 {
        let id = format!("trap-{trap}");
        let here = file["cases"].as_array().unwrap().iter().any(|case| {
            let case = case["id"].as_str().unwrap();
            case == id || case.starts_with(&format!("{id}-"))
        });
        assert!(
            here || file["elsewhere"].get(trap.to_string()).is_some(),
            "{id}"
        );
    }
}
