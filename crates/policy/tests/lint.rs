//! Lint: each code has a document that shows it, good documents are clean, and the three renderings hold what they should.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::collections::BTreeSet;

use countersign_policy::PolicyKind;
use countersign_policy::lint::{
    Finding, FindingType, LintOptions, lint, render_json, render_sarif, render_table, rules, worst,
};
use serde_json::Value;

fn cases() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/lint.json");
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    file["cases"].as_array().unwrap().clone()
}

fn strings(value: &Value) -> Vec<String> {
    value
        .as_array()
        .map(|list| {
            list.iter()
                .map(|item| item.as_str().unwrap().to_owned())
                .collect()
        })
        .unwrap_or_default()
}

fn run(case: &Value) -> Vec<Finding> {
    let text = match &case["document"] {
        Value::String(text) => text.clone(),
        document => serde_json::to_string_pretty(document).unwrap(),
    };
    let options = &case["options"];
    let text_of = |key: &str| options[key].as_str().map(str::to_owned);
    lint(
        &text,
        &LintOptions {
            kind: case["kind"]
                .as_str()
                .map(|kind| PolicyKind::parse(kind).unwrap()),
            account: text_of("account"),
            role_arn: text_of("roleArn"),
            role_policies: strings(&options["rolePolicies"]),
            node_roles: strings(&options["nodeRoles"]),
            service_accounts: strings(&options["serviceAccounts"]),
            without_risk: false,
        },
    )
}

#[test]
fn each_document_has_the_findings_it_shows() {
    let mut wrong = Vec::new();
    for case in cases() {
        let findings = run(&case);
        let codes: Vec<&str> = findings.iter().map(|finding| finding.code).collect();
        let wanted = strings(&case["finds"]);
        let absent = strings(&case["absent"]);
        let missing: Vec<_> = wanted
            .iter()
            .filter(|code| !codes.contains(&&***code))
            .collect();
        let extra: Vec<_> = absent
            .iter()
            .filter(|code| codes.contains(&&***code))
            .collect();
        let dirty = wanted.is_empty() && absent.is_empty() && !codes.is_empty();
        if !missing.is_empty() || !extra.is_empty() || dirty {
            wrong.push(format!(
                "{}: missing {missing:?}, found {codes:?}",
                case["name"]
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_code_is_shown_by_a_document_and_is_in_the_catalogue() {
    let mut seen: BTreeSet<String> = cases()
        .iter()
        .flat_map(run)
        .map(|finding| finding.code.to_owned())
        .collect();
    let many = vec!["\"s3:GetObject\""; 10_001].join(",");
    let too_large = format!(
        r#"{{"Version": "2012-10-17", "Statement": {{"Effect": "Allow", "Action": [{many}], "Resource": "arn:aws:s3:::b/k"}}}}"#
    );
    seen.extend(
        lint(&too_large, &LintOptions::default())
            .iter()
            .map(|finding| finding.code.to_owned()),
    );
    let known: BTreeSet<String> = rules().iter().map(|rule| rule.code.clone()).collect();
    assert_eq!(
        seen.difference(&known).collect::<Vec<_>>(),
        Vec::<&String>::new()
    );
    assert_eq!(
        known.difference(&seen).collect::<Vec<_>>(),
        Vec::<&String>::new()
    );
}

#[test]
fn findings_say_where_and_what_to_do() {
    for case in cases() {
        for finding in run(&case) {
            assert!(
                !finding.message.is_empty() && !finding.fix.is_empty(),
                "{finding:?}"
            );
            assert!(
                finding.start <= finding.end && finding.start.line >= 1,
                "{finding:?}"
            );
            assert!(!finding.message.ends_with('.'), "{finding:?}");
        }
    }
}

#[test]
fn a_finding_points_at_its_value() {
    let text = "{\n  \"Version\": \"2012-10-17\",\n  \"Statement\": [\n    {\"Effect\": \"Allow\", \"Action\": [\"s3:Get*\", \"eks:DescribeClutser\"],\n     \"Resource\": \"arn:aws:s3:::b/k\"}\n  ]\n}";
    let findings = lint(text, &LintOptions::default());
    let finding = findings
        .iter()
        .find(|finding| finding.code == "INVALID_ACTION")
        .unwrap();
    assert_eq!((finding.start.line, finding.start.column), (4, 47));
    assert_eq!((finding.end.line, finding.end.column), (4, 68));
    assert_eq!(finding.path, "Statement[0].Action[1]");
    assert!(
        finding.fix.contains("eks:DescribeCluster"),
        "{}",
        finding.fix
    );
}

#[test]
fn yaml_documents_are_linted_too() {
    let text = "Version: '2012-10-17'\nStatement:\n  - Effect: Allow\n    Action: eks:DescribeClutser\n    Resource: '*'\n";
    let findings = lint(text, &LintOptions::default());
    let finding = findings
        .iter()
        .find(|finding| finding.code == "INVALID_ACTION")
        .unwrap();
    assert_eq!((finding.start.line, finding.start.column), (4, 13));
}

#[test]
fn renderings_name_file_place_and_code() {
    let text = r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "nothing", "Resource": "*"}}"#;
    let findings = lint(text, &LintOptions::default());
    assert_eq!(worst(&findings), Some(FindingType::Error));
    let files = vec![("dir/p.json".to_owned(), findings)];
    let table = render_table(&files);
    assert!(
        table.contains("dir/p.json:1:70: ERROR INVALID_ACTION"),
        "{table}"
    );
    assert!(table.contains("    fix: "), "{table}");
    let json: Value = serde_json::from_str(&render_json(&files)).unwrap();
    assert_eq!(json[0]["file"], "dir/p.json");
    assert_eq!(json[0]["findings"][0]["type"], "ERROR");
    let sarif: Value = serde_json::from_str(&render_sarif(&files, "0.1.0")).unwrap();
    assert_eq!(sarif["version"], "2.1.0");
    let result = &sarif["runs"][0]["results"][0];
    let location = &result["locations"][0]["physicalLocation"];
    assert_eq!(location["artifactLocation"]["uri"], "dir/p.json");
    assert_eq!(
        (
            &location["region"]["startLine"],
            &location["region"]["startColumn"]
        ),
        (&1.into(), &70.into())
    );
    let ids: Vec<&Value> = sarif["runs"][0]["tool"]["driver"]["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| &rule["id"])
        .collect();
    assert!(ids.contains(&&result["ruleId"]));
    assert_eq!(result["level"], "error");
}
