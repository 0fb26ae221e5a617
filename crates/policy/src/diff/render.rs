//! Printing a comparison.

use std::fmt::Write as _;

use super::{Change, Comparison, Reason, Verdict, Witness};

/// The stable JSON form.
#[must_use]
pub fn render_json(comparison: &Comparison) -> String {
    let mut text = serde_json::to_string_pretty(comparison).unwrap_or_default();
    text.push('\n');
    text
}

/// For people. `first` and `second` are what the documents are called.
#[must_use]
pub fn render_text(comparison: &Comparison, first: &str, second: &str) -> String {
    let mut text = String::new();
    let verdict = match comparison.verdict {
        Verdict::Same => format!("{second} allows the same as {first}"),
        Verdict::Wider => format!("{second} allows more than {first}"),
        Verdict::Narrower => format!("{second} allows less than {first}"),
        Verdict::Different => {
            format!("{second} allows some things more and some less than {first}")
        }
        Verdict::Undecided => {
            format!("{second} may allow more or less than {first}: neither could be shown")
        }
    };
    let _ = writeln!(
        text,
        "{verdict} (read as {} policies)",
        comparison.kind.as_str()
    );
    section(&mut text, "wider", &comparison.wider, second, first);
    section(&mut text, "narrower", &comparison.narrower, first, second);
    text
}

fn section(text: &mut String, title: &str, changes: &[Change], grants: &str, other: &str) {
    if changes.is_empty() {
        return;
    }
    let _ = writeln!(text, "{title}:");
    for change in changes {
        let owner = match change.reason {
            Reason::Allow => grants,
            Reason::MissingDeny => other,
        };
        let what = match change.reason {
            Reason::Allow => "allows",
            Reason::MissingDeny => "no longer denied:",
        };
        let resource = change
            .resource
            .as_ref()
            .map_or(String::new(), |resource| format!(" on {resource}"));
        let sid = change
            .sid
            .as_ref()
            .map_or(String::new(), |sid| format!(" `{sid}`"));
        let _ = writeln!(
            text,
            "  {what} {}{resource} ({owner}, statement {}{sid}, line {})",
            change.action, change.statement, change.start.line
        );
        match &change.witness {
            Some(witness) => witness_line(text, witness, grants, other),
            None => {
                let _ = writeln!(
                    text,
                    "    may grant more than {other}; no request was found that shows it"
                );
            }
        }
    }
}

fn witness_line(text: &mut String, witness: &Witness, grants: &str, other: &str) {
    let denied = if witness.first == crate::evaluate::Outcome::Allowed {
        witness.second
    } else {
        witness.first
    };
    let _ = writeln!(
        text,
        "    for example: {} asks for {} on {}",
        witness.principal, witness.action, witness.resource
    );
    for (key, value) in &witness.context {
        let _ = writeln!(text, "      with {key} = {value}");
    }
    let _ = writeln!(
        text,
        "      {grants}: allowed; {other}: {}",
        denied.as_str()
    );
}
