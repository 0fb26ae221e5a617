//! Findings as SARIF 2.1.0, for code scanning.

use serde_json::{Value, json};

use super::{Finding, FindingType, rules};

/// One SARIF log with one run over all files.
#[must_use]
pub fn render_sarif(files: &[(String, Vec<Finding>)], version: &str) -> String {
    let used = |code: &str| {
        files
            .iter()
            .flat_map(|(_, findings)| findings)
            .any(|finding| finding.code == code)
    };
    let descriptors: Vec<Value> = rules()
        .iter()
        .filter(|rule| used(&rule.code))
        .map(|rule| {
            json!({
                "id": rule.code,
                "shortDescription": {"text": rule.what},
                "help": {"text": rule.fix},
                "defaultConfiguration": {"level": level(rule.kind)},
            })
        })
        .collect();
    let results: Vec<Value> = files
        .iter()
        .flat_map(|(file, findings)| findings.iter().map(move |finding| result(file, finding)))
        .collect();
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "countersign policy lint",
                "version": version,
                "rules": descriptors,
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    });
    let mut text = serde_json::to_string_pretty(&log).unwrap_or_default();
    text.push('\n');
    text
}

fn result(file: &str, finding: &Finding) -> Value {
    let text = if finding.fix.is_empty() {
        finding.message.clone()
    } else {
        format!("{}. Fix: {}", finding.message, finding.fix)
    };
    json!({
        "ruleId": finding.code,
        "level": level(finding.kind),
        "message": {"text": text},
        "locations": [{
            "physicalLocation": {
                "artifactLocation": {"uri": file},
                "region": {
                    "startLine": finding.start.line,
                    "startColumn": finding.start.column,
                    "endLine": finding.end.line,
                    "endColumn": finding.end.column,
                },
            },
            "logicalLocations": [{"fullyQualifiedName": finding.path}],
        }],
        "properties": {"type": finding.kind.as_str()},
    })
}

fn level(kind: FindingType) -> &'static str {
    match kind {
        FindingType::Error => "error",
        FindingType::SecurityWarning | FindingType::Warning => "warning",
        FindingType::Suggestion => "note",
    }
}
