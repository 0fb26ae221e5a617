//! Tables of single rules: one policy, one request, one answer each.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::sync::Arc;

use countersign_policy::{
    Action, Attached, Context, Decision, Outcome, Policy, PolicyKind, PolicySet, Principal,
    Request, decide, explain::explain,
};
use serde_json::{Value, json};

fn cases(file: &str) -> Vec<Value> {
    let path = format!("{}/tests/data/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    file["cases"].as_array().unwrap().clone()
}

fn ask(document: &Value, resource: &str, context: &Context<'_>) -> Decision {
    let policy = Policy::parse(document.to_string(), PolicyKind::Identity).unwrap();
    let set = PolicySet {
        identity: vec![Attached::new(Arc::new(policy), "p")],
        ..PolicySet::default()
    };
    let principal = Principal::parse("arn:aws:iam::111122223333:user/ana", None).unwrap();
    let action = Action::parse("service:Do").unwrap();
    let request = Request::new(&principal, &action, resource, context)
        .unwrap()
        .owned_by("111122223333");
    let decision = decide(&request, &set.layers());
    assert_eq!(explain(&request, &set.layers()).decision, decision.outcome);
    decision
}

#[test]
fn resource_patterns_match_as_the_table_says() {
    let cases = cases("resource-matching.json");
    assert_eq!(cases.len(), 13);
    for case in cases {
        let document = json!({"Version": "2012-10-17", "Statement": {
            "Effect": "Allow", "Action": "*", "Resource": case["pattern"]}});
        let decision = ask(
            &document,
            case["resource"].as_str().unwrap(),
            &Context::new(),
        );
        assert_eq!(
            decision.outcome == Outcome::Allowed,
            case["matches"].as_bool().unwrap(),
            "{case}"
        );
    }
}

#[test]
fn conditions_hold_as_the_table_says_for_allow_and_deny_alike() {
    let cases = cases("conditions.json");
    assert!(cases.len() > 100);
    for case in cases {
        let mut context = Context::new();
        match case.get("request") {
            None => {}
            Some(Value::Array(values)) => context.set_list(
                "test:key",
                values
                    .iter()
                    .map(|value| value.as_str().unwrap().to_owned()),
            ),
            Some(value) => context.set("test:key", value.as_str().unwrap().to_owned()),
        }
        let condition = json!({case["operator"].as_str().unwrap(): {"Test:Key": case["values"]}});
        let holds = case["holds"].as_bool().unwrap();
        let allow = json!({"Version": "2012-10-17", "Statement": {
            "Effect": "Allow", "Action": "*", "Resource": "*", "Condition": condition}});
        let outcome = ask(&allow, "*", &context).outcome;
        assert_eq!(outcome == Outcome::Allowed, holds, "Allow: {case}");
        let deny = json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": condition},
            {"Effect": "Allow", "Action": "*", "Resource": "*"}]});
        let outcome = ask(&deny, "*", &context).outcome;
        assert_eq!(outcome == Outcome::ExplicitDeny, holds, "Deny: {case}");
    }
}
