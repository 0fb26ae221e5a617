//! Printing a report.

use std::fmt::Write as _;

use super::run::{CaseResult, Report};

/// The stable JSON form.
#[must_use]
pub fn render_json(report: &Report) -> String {
    let mut text = serde_json::to_string_pretty(report).unwrap_or_default();
    text.push('\n');
    text
}

/// A table for people: one row per answer. When cases have expectations, only those that failed, and the totals.
#[must_use]
pub fn render_table(report: &Report) -> String {
    let is_test = report
        .results
        .iter()
        .any(|result| result.expected.is_some());
    let rows: Vec<&CaseResult> = report
        .results
        .iter()
        .filter(|result| !is_test || !result.ok)
        .collect();
    let mut text = String::new();
    if !rows.is_empty() {
        let head = [
            "CASE",
            "DECISION",
            "ACTION",
            "RESOURCE",
            "BLOCKED BY",
            "REASON",
        ];
        let cells: Vec<[String; 6]> = rows.iter().map(|result| row(result)).collect();
        table(&mut text, head, &cells);
    }
    warnings(&mut text, report);
    let summary = &report.summary;
    if is_test {
        let _ = writeln!(
            text,
            "{} of {} cases as expected, {} failed",
            report.results.iter().filter(|result| result.ok).count(),
            summary.total,
            report.results.iter().filter(|result| !result.ok).count()
        );
    } else {
        let _ = writeln!(
            text,
            "{} allowed, {} denied explicitly, {} denied implicitly",
            summary.allowed, summary.explicit_deny, summary.implicit_deny
        );
    }
    text
}

fn row(result: &CaseResult) -> [String; 6] {
    let decided = result
        .decision
        .map_or("undecided", |outcome| outcome.as_str());
    let decision = match &result.expected {
        Some(expected) if Some(expected.decision) != result.decision => {
            format!("{decided}, expected {}", expected.decision.as_str())
        }
        _ => decided.to_owned(),
    };
    let layers = |layers: &[crate::evaluate::Layer]| {
        layers
            .iter()
            .map(|layer| layer.as_str())
            .collect::<Vec<_>>()
            .join(",")
    };
    let mut blocked = layers(&result.blocked_by);
    if let Some(wanted) = result
        .expected
        .as_ref()
        .filter(|expected| Some(expected.decision) == result.decision)
        .and_then(|expected| expected.blocked_by.as_ref())
    {
        blocked = format!("{blocked} (expected {})", layers(wanted));
    }
    let reason = if result.conditional {
        format!("{} [conditional]", result.reason)
    } else {
        result.reason.clone()
    };
    [
        result.id.clone(),
        decision,
        result.action.clone(),
        result.resource.clone(),
        blocked,
        reason,
    ]
}

fn table(text: &mut String, head: [&str; 6], rows: &[[String; 6]]) {
    let mut widths = head.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut line = |cells: [&str; 6]| {
        let mut row = String::new();
        for (cell, width) in cells.iter().zip(widths) {
            let _ = write!(row, "{cell:<width$}  ");
        }
        text.push_str(row.trim_end());
        text.push('\n');
    };
    line(head);
    for row in rows {
        line(row.each_ref().map(String::as_str));
    }
}

fn warnings(text: &mut String, report: &Report) {
    let mut seen: Vec<(&str, &str, &str)> = Vec::new();
    for result in &report.results {
        for warning in &result.warnings {
            let key = (&*result.id, &*warning.about, &*warning.message);
            if seen.contains(&key) || seen.len() >= 100 {
                continue;
            }
            seen.push(key);
            let place = warning.position.map_or(String::new(), |position| {
                format!(" (line {}, column {})", position.line, position.column)
            });
            let _ = writeln!(
                text,
                "warning: {}: {}: {}{place}",
                result.id, warning.about, warning.message
            );
        }
    }
}
