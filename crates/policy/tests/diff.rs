//! Comparing policies.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use countersign_policy::diff::{Change, diff, render_json, render_text};
use countersign_policy::{Outcome, PolicyKind};
use serde_json::Value;

#[test]
fn policies_compare_as_the_table_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/diff.json");
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let cases = file["cases"].as_array().unwrap();
    assert!(cases.len() > 25);
    let mut wrong = Vec::new();
    for case in cases {
        let text = |key: &str| serde_json::to_string_pretty(&case[key]).unwrap();
        let kind = case["kind"]
            .as_str()
            .map(|kind| PolicyKind::parse(kind).unwrap());
        let comparison = diff(&text("first"), &text("second"), kind).unwrap();
        let verdict = serde_json::to_value(comparison.verdict).unwrap();
        let rendered = render_text(&comparison, "old.json", "new.json");
        if verdict != case["verdict"] {
            wrong.push(format!("{}: {verdict}\n{rendered}", case["name"]));
            continue;
        }
        for change in &comparison.wider {
            check(change, Outcome::Allowed, |witness| {
                (witness.second, witness.first)
            });
        }
        for change in &comparison.narrower {
            check(change, Outcome::Allowed, |witness| {
                (witness.first, witness.second)
            });
        }
        if let Some(wanted) = case["witness"].as_object() {
            let witnesses: Vec<Value> = comparison
                .wider
                .iter()
                .chain(&comparison.narrower)
                .filter_map(|change| change.witness.as_ref())
                .map(|witness| serde_json::to_value(witness).unwrap())
                .collect();
            let holds = |witness: &Value| wanted.iter().all(|(key, value)| witness[key] == *value);
            if !witnesses.iter().any(holds) {
                wrong.push(format!(
                    "{}: no such witness in {witnesses:?}",
                    case["name"]
                ));
            }
        }
        let json: Value = serde_json::from_str(&render_json(&comparison)).unwrap();
        assert_eq!(json["verdict"], case["verdict"]);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn check(
    change: &Change,
    allowed: Outcome,
    sides: impl Fn(&countersign_policy::diff::Witness) -> (Outcome, Outcome),
) {
    if let Some(witness) = &change.witness {
        let (grants, other) = sides(witness);
        assert_eq!(grants, allowed);
        assert_ne!(other, allowed);
    }
}

#[test]
fn the_document_that_cannot_be_read_is_named() {
    let good = r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}"#;
    assert_eq!(diff("{", good, None).unwrap_err().0, 1);
    assert_eq!(diff(good, "[]", None).unwrap_err().0, 2);
}

#[test]
fn the_text_shows_place_and_example() {
    let first = r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "eks:ListClusters", "Resource": "*"}}"#;
    let second = "{\"Version\": \"2012-10-17\", \"Statement\": [\n {\"Effect\": \"Allow\", \"Action\": \"eks:ListClusters\", \"Resource\": \"*\"},\n {\"Sid\": \"More\", \"Effect\": \"Allow\", \"Action\": \"eks:DeleteCluster\", \"Resource\": \"*\"}]}";
    let text = render_text(&diff(first, second, None).unwrap(), "a.json", "b.json");
    assert!(
        text.starts_with("b.json allows more than a.json (read as identity policies)\n"),
        "{text}"
    );
    assert!(
        text.contains("allows eks:DeleteCluster on * (b.json, statement 1 `More`, line 3)"),
        "{text}"
    );
    assert!(
        text.contains("b.json: allowed; a.json: implicitDeny"),
        "{text}"
    );
}
