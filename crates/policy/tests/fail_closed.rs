//! Nothing that fails to parse or to evaluate turns a deny into an allow: a case each.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::sync::Arc;

use countersign_policy::explain::explain;
use countersign_policy::simulate;
use countersign_policy::validate::{NoDirectory, validate};
use countersign_policy::{
    Action, Attached, Context, Policy, PolicyKind, PolicySet, Principal, Request, decide,
};
use serde_json::{Value, json};

#[test]
fn what_cannot_be_evaluated_never_grants_and_never_loses_a_deny() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/fail-closed.json");
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let cases = file["cases"].as_array().unwrap();
    assert!(cases.len() > 40);
    for case in cases {
        let text = match case["text"].as_str() {
            Some(text) => text.to_owned(),
            None => case["document"].to_string(),
        };
        let parsed = Policy::parse(&*text, PolicyKind::Identity);
        if case["outcome"] == "refused" {
            assert!(parsed.is_err(), "{case}");
            assert!(
                validate(&text, PolicyKind::Identity, &NoDirectory).is_err(),
                "{case}"
            );
            continue;
        }
        let policy = Arc::new(parsed.unwrap());
        if let Some(code) = case["reported"].as_str() {
            assert!(
                policy
                    .document()
                    .reported()
                    .iter()
                    .any(|problem| problem.code == code),
                "{case}"
            );
            assert!(
                validate(&text, PolicyKind::Identity, &NoDirectory).is_err(),
                "{case}"
            );
        }
        let set = PolicySet {
            identity: vec![Attached::new(policy, "p")],
            ..PolicySet::default()
        };
        let principal = Principal::parse("arn:aws:iam::111122223333:user/ana", None).unwrap();
        let action = Action::parse("s3:GetObject").unwrap();
        let mut context = Context::new();
        for (key, value) in case["context"].as_object().into_iter().flatten() {
            match value {
                Value::Array(values) => context.set_list(
                    key.clone(),
                    values.iter().map(|v| v.as_str().unwrap().to_owned()),
                ),
                value => context.set(key.clone(), value.as_str().unwrap().to_owned()),
            }
        }
        let request = Request::new(&principal, &action, "arn:aws:s3:::b/k", &context).unwrap();
        let decision = decide(&request, &set.layers());
        assert_eq!(decision.outcome.as_str(), case["outcome"], "{case}");
        let explanation = explain(&request, &set.layers());
        assert_eq!(explanation.decision, decision.outcome);
        if case["reported"].is_string() {
            assert!(
                explanation
                    .notes
                    .iter()
                    .any(|note| note.contains("no condition operator")),
                "{case}"
            );
        }
    }
}

fn simulate_text(text: &str) -> Result<simulate::Report, Box<simulate::SimulateError>> {
    let load = |name: &str| Err(format!("`{name}` is not there"));
    simulate::parse("case.json", text, &load)
        .map(|cases| simulate::run(&cases, &simulate::Options::default()))
}

#[test]
fn a_simulate_file_that_cannot_be_read_is_refused_with_place_and_fix() {
    let policy = json!({"Version": "2012-10-17", "Statement": {"Effect": "Deny", "Action": "*", "Resource": "*"}});
    let case = |request: Value, policies: Value| {
        json!({"id": "x", "request": request, "policies": policies}).to_string()
    };
    let request = json!({"principal": "arn:aws:iam::111122223333:user/ana", "action": "s3:GetObject", "resource": "*"});
    assert!(simulate_text(&case(request.clone(), json!({"identity": [policy]}))).is_ok());
    for (text, message) in [
        ("{".to_owned(), "expected a key in double quotes"),
        (
            case(request.clone(), json!({"identities": [policy]})),
            "`identities` is not a policy layer; known: identity, resource, boundary, session, scp, rcp, endpoint",
        ),
        (
            case(request.clone(), json!({"identity": 5})),
            "expected a policy: an object or its JSON text, found a number",
        ),
        (
            case(
                request.clone(),
                json!({"identity": [{"Statement": {"Effect": "deny", "Action": "*", "Resource": "*"}}]}),
            ),
            "`Effect` is neither \"Allow\" nor \"Deny\"",
        ),
        (
            case(request.clone(), json!({"identity": ["{\"Statement\": ["]})),
            "the text ends where a value should stand (line 1, column 16 of the policy text)",
        ),
        (
            case(
                request.clone(),
                json!({"identity": [{"file": "gone.json"}]}),
            ),
            "could not read `gone.json`: `gone.json` is not there",
        ),
        (
            case(request.clone(), json!({"boundary": [policy, policy]})),
            "a principal has at most one permissions boundary",
        ),
        (
            case(request.clone(), json!({"scp": [policy]})),
            "a level has a `target` and a list of `policies`",
        ),
        (
            case(
                json!({"principal": "ana", "action": "s3:GetObject", "resource": "*"}),
                json!({}),
            ),
            "`ana` is no principal: expected an ARN, a service such as `eks.amazonaws.com`, or `anonymous`",
        ),
        (
            case(
                json!({"action": "s3:GetObject", "resource": "*"}),
                json!({}),
            ),
            "the request has no `principal`",
        ),
        (
            case(
                json!({"principal": "anonymous", "action": [], "resource": "*"}),
                json!({}),
            ),
            "the list is empty",
        ),
        (
            case(
                json!({"principal": "anonymous", "action": "s3:GetObject", "resource": "*", "context": {"a": null}}),
                json!({}),
            ),
            "expected a string, number or boolean, found null",
        ),
        (
            case(
                json!({"principal": "anonymous", "action": "s3:GetObject", "resource": "*", "context": {"a": "1", "A": "2"}}),
                json!({}),
            ),
            "key `a` appears twice, in different case",
        ),
        (
            "{\"schemaVersion\": 2, \"cases\": []}".to_owned(),
            "the file is of another schema version; this program knows 1",
        ),
        ("request: [".to_owned(), ""),
        (
            "a: &x 1\nb: *x".to_owned(),
            "anchors, aliases, tags and merge keys are not supported",
        ),
        (
            "a: 1\na: 2".to_owned(),
            "key `a` appears twice in one mapping",
        ),
        (
            "---\na: 1\n---\nb: 1".to_owned(),
            "the text holds more than one YAML document",
        ),
        (
            json!([{"id": "x", "request": request, "expected": {"decision": "denied"}}])
                .to_string(),
            "a decision is allowed, explicitDeny or implicitDeny",
        ),
    ] {
        let error = simulate_text(&text).unwrap_err();
        assert!(
            message.is_empty() || error.message == message,
            "{text}\n{error}"
        );
        assert!(error.position.line >= 1 && error.position.column >= 1);
        assert!(error.to_string().starts_with("case.json:"), "{error}");
    }
}

#[test]
fn a_question_that_makes_no_sense_is_undecided_and_never_allowed() {
    let text = json!({"id": "x", "request": {"principal": "arn:aws:iam::111122223333:user/ana", "action": ["s3:Get*", "GetObject", "s3:GetObject"], "resource": ["not an arn", "*"]},
        "policies": {"identity": [{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}]}}).to_string();
    let report = simulate_text(&text).unwrap();
    assert_eq!(
        (
            report.summary.total,
            report.summary.allowed,
            report.summary.undecided
        ),
        (6, 1, 5)
    );
    assert_eq!(report.exit_code(), 3);
}

#[test]
fn strict_refuses_what_iam_would_refuse() {
    let text = json!({"id": "x", "request": {"principal": "arn:aws:iam::111122223333:user/ana", "action": "s3:GetObject", "resource": "*"},
        "policies": {"identity": [{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}]}}).to_string();
    let cases = simulate::parse("f", &text, &|_| Err(String::new())).unwrap();
    let lenient = simulate::run(&cases, &simulate::Options::default());
    assert_eq!(
        (lenient.summary.allowed, lenient.results[0].warnings.len()),
        (1, 1)
    );
    assert_eq!(
        lenient.results[0].warnings[0].message,
        "Policy document must be version 2012-10-17 or greater."
    );
    let error = simulate::require_writable("f", &cases).unwrap_err();
    assert_eq!(
        error.message,
        "identity.1 of `x`: Policy document must be version 2012-10-17 or greater."
    );
    assert_eq!(error.position.line, 1);
}
