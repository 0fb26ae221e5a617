//! Entry points for fuzzing; none may panic.

use std::sync::Arc;

use crate::compiled::{Policy, PolicyKind};
use crate::condition::{Decimal, Instant, Network};
use crate::context::Context;
use crate::diff;
use crate::document::Document;
use crate::evaluate::{Attached, PolicySet, blocked_by, decide};
use crate::explain::{explain, render_tree};
use crate::lint::{LintOptions, lint};
use crate::pattern::{Pattern, Syntax};
use crate::request::{Action, Principal, Request};
use crate::simulate;
use crate::validate::{NoDirectory, validate};
use crate::variable;

/// A document: read, validated, linted, compiled, decided, explained, compared with itself.
pub fn document(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    for kind in PolicyKind::ALL {
        let written = validate(text, kind, &NoDirectory);
        let read = Document::parse(text);
        assert!(written.is_err() || read.is_ok());
        let options = LintOptions {
            kind: Some(kind),
            ..LintOptions::default()
        };
        let _ = lint(text, &options);
        if let Ok(document) = read {
            assert_eq!(document.text(), text.trim_matches([' ', '\t', '\n', '\r']));
            for index in 0..document.statements().len() {
                assert!(document.simulator_positions(index).is_some());
            }
            assert!(diff::compare(&document, &document, Some(kind)).has_no_new_access());
            ask(document, kind);
        }
    }
}

fn ask(document: Document, kind: PolicyKind) {
    let attached = Attached::new(Arc::new(Policy::compile(document, kind)), "fuzz");
    let set = PolicySet {
        identity: vec![attached.clone()],
        boundary: Some(attached.clone()),
        session: Some(vec![attached.clone()]),
        resource: Some(vec![attached]),
        ..PolicySet::default()
    };
    let mut context = Context::new();
    context.set("aws:username", "ana*?${x}");
    context.set_list("aws:TagKeys", ["a", "é"]);
    for (principal, action, resource) in [
        (
            "arn:aws:iam::111122223333:user/ana",
            "s3:GetObject",
            "arn:aws:s3:::b/é/k",
        ),
        (
            "arn:aws:sts::111122223333:assumed-role/r/s",
            "sts:AssumeRole",
            "arn:aws:iam::111122223333:role/r",
        ),
        ("anonymous", "eks:ListClusters", "*"),
    ] {
        let (Ok(principal), Ok(action)) =
            (Principal::parse(principal, None), Action::parse(action))
        else {
            continue;
        };
        let Ok(request) = Request::new(&principal, &action, resource, &context) else {
            continue;
        };
        let decision = decide(&request, &set.layers());
        let explanation = explain(&request, &set.layers());
        assert_eq!(explanation.decision, decision.outcome);
        assert!(!decision.is_allowed() || blocked_by(&request, &set.layers()).is_empty());
        let _ = render_tree(&explanation);
    }
}

/// A pattern and a text, divided by a line feed.
pub fn pattern(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (pattern, text) = text.split_once('\n').unwrap_or((text, ""));
    let mut context = Context::new();
    context.set("k", text);
    for wildcards in [false, true] {
        for variables in [false, true] {
            let compiled = Pattern::compile(
                pattern,
                Syntax {
                    wildcards,
                    variables,
                },
            );
            let matches = compiled.matches(text, &context);
            if !wildcards && !variables {
                assert_eq!(matches, pattern == text);
            }
            let _ = compiled.substituted(&context);
            let _ = compiled.equals_folded(text, &context);
        }
    }
    let _ = crate::cover::glob(pattern, text);
    assert_eq!(
        crate::cover::overlap(pattern, text),
        crate::cover::overlap(text, pattern)
    );
}

/// A condition: operator, policy value and request value, divided by line feeds.
pub fn condition(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut fields = text.splitn(3, '\n');
    let (operator, wanted, own) = (
        fields.next().unwrap_or_default(),
        fields.next().unwrap_or_default(),
        fields.next().unwrap_or_default(),
    );
    for value in [wanted, own] {
        let _ = Network::parse(value);
        let _ = Instant::parse(value);
        if let Some(number) = Decimal::parse(value) {
            assert!(number.compare(&number).is_eq());
        }
    }
    let condition = serde_json::json!({"Version": "2012-10-17", "Statement": {
        "Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {operator: {"k": wanted}}}});
    let Ok(policy) = Policy::parse(condition.to_string(), PolicyKind::Identity) else {
        return;
    };
    let mut context = Context::new();
    context.set("k", own);
    let holds = policy
        .statements()
        .iter()
        .all(|statement| statement.conditions_hold(&context));
    let again = policy
        .statements()
        .iter()
        .all(|statement| statement.conditions_hold(&context));
    assert_eq!(holds, again);
}

/// A text with policy variables.
pub fn variable(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let parts = variable::parts(text);
    let plain: usize = parts
        .iter()
        .map(|part| match part {
            variable::Part::Text(text) => text.len(),
            variable::Part::Escaped(_) | variable::Part::Variable(_) => 0,
        })
        .sum();
    assert!(plain <= text.len());
    let _ = variable::has_unclosed(text);
}

/// A simulate file.
pub fn simulate_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let refuse = |_: &str| Err("no files here".to_owned());
    if let Ok(cases) = simulate::parse("fuzz", text, &refuse) {
        let options = simulate::Options {
            explain: true,
            fill_context: true,
            ..simulate::Options::default()
        };
        let report = simulate::run(&cases, &options);
        let _ = simulate::render_json(&report);
        let _ = simulate::render_table(&report);
    }
}
