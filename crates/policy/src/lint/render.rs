//! Printing findings.

use std::fmt::Write as _;

use serde::Serialize;

use super::{Finding, FindingType};

/// The findings of one file.
#[derive(Serialize)]
struct FileFindings<'f> {
    file: &'f str,
    findings: &'f [Finding],
}

/// The stable JSON form: one object per file.
#[must_use]
pub fn render_json(files: &[(String, Vec<Finding>)]) -> String {
    let files: Vec<FileFindings<'_>> = files
        .iter()
        .map(|(file, findings)| FileFindings { file, findings })
        .collect();
    let mut text = serde_json::to_string_pretty(&files).unwrap_or_default();
    text.push('\n');
    text
}

/// For people: place, type and code, then what is wrong and what to do.
#[must_use]
pub fn render_table(files: &[(String, Vec<Finding>)]) -> String {
    let mut text = String::new();
    for (file, findings) in files {
        for finding in findings {
            let _ = writeln!(
                text,
                "{file}:{}:{}: {} {}",
                finding.start.line,
                finding.start.column,
                finding.kind.as_str(),
                finding.code
            );
            let _ = writeln!(text, "    {} ({})", finding.message, finding.path);
            if !finding.fix.is_empty() {
                let _ = writeln!(text, "    fix: {}", finding.fix);
            }
        }
    }
    let count = |kind| {
        files
            .iter()
            .flat_map(|(_, findings)| findings)
            .filter(|finding| finding.kind == kind)
            .count()
    };
    let _ = writeln!(
        text,
        "{} errors, {} security warnings, {} warnings, {} suggestions in {} files",
        count(FindingType::Error),
        count(FindingType::SecurityWarning),
        count(FindingType::Warning),
        count(FindingType::Suggestion),
        files.len()
    );
    text
}
