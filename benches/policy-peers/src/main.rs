//! The engine beside iam-rs (the same documents) and Cedar (policies of the same meaning in its own language).
//!
//! `cargo run --release` in this directory. Each line: median and least nanoseconds of one decision.

use std::hint::black_box;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Instant;

use cedar_policy::{
    Authorizer, Context as CedarContext, Decision as CedarDecision, Entities, EntityUid,
    Policy as CedarPolicy, PolicyId, PolicySet as CedarPolicies, Request as CedarRequest,
};
use countersign_policy::{
    Action, Attached, Context, Outcome, Policy, PolicyKind, PolicySet, Principal, Request, decide,
};

const USER: &str = "arn:aws:iam::111122223333:user/ana";

const THREE: &str = r#"{"Version": "2012-10-17", "Statement": [
    {"Effect": "Deny", "Action": "s3:DeleteBucket", "Resource": "*"},
    {"Effect": "Allow", "Action": ["s3:Get*", "s3:List*"], "Resource": "arn:aws:s3:::data/${aws:username}/*",
     "Condition": {"StringEquals": {"aws:PrincipalTag/team": "red"}}},
    {"Effect": "Allow", "Action": "ec2:Describe*", "Resource": "*"}]}"#;

const THREE_CEDAR: &str = r#"
forbid(principal, action == Action::"s3:DeleteBucket", resource);
permit(principal, action in Action::"s3:Read", resource) when { context has arn && context.arn like "arn:aws:s3:::data/ana/*" && context.team == "red" };
permit(principal, action in Action::"ec2:Describe", resource);"#;

fn main() {
    println!("3 statements, 1 condition");
    questions(&[THREE.to_owned()], THREE_CEDAR);
    println!("300 statements in 10 documents, 5 of them about the service");
    let (documents, cedar) = three_hundred();
    questions(&documents, &cedar);
}

/// The same three questions to each engine: one that is allowed, one denied explicitly, one that nothing grants.
fn questions(documents: &[String], cedar: &str) {
    let asked = [
        ("allow", "s3:GetObject", "arn:aws:s3:::data/ana/report.csv"),
        ("explicit deny", "s3:DeleteBucket", "arn:aws:s3:::data"),
        ("implicit deny", "s3:GetObject", "arn:aws:s3:::data/eve/report.csv"),
    ];
    for (name, action, resource) in asked {
        ours(name, documents, action, resource);
        iam_rs_engine(name, documents, action, resource);
        cedar_engine(name, cedar, action, resource);
    }
}

fn ours(name: &str, documents: &[String], action: &str, resource: &str) {
    let set = PolicySet {
        identity: documents
            .iter()
            .map(|text| Attached::new(Arc::new(Policy::parse(&**text, PolicyKind::Identity).unwrap()), "p"))
            .collect(),
        ..PolicySet::default()
    };
    let principal = Principal::parse(USER, None).unwrap();
    let action = Action::parse(action).unwrap();
    let mut context = Context::new();
    for (key, value) in [("aws:username", "ana"), ("aws:PrincipalTag/team", "red"), ("aws:RequestedRegion", "eu-west-1")] {
        context.set(key, value);
    }
    let request = Request::new(&principal, &action, resource, &context).unwrap();
    let layers = set.layers();
    let outcome = decide(&request, &layers).outcome;
    check(name, outcome == Outcome::Allowed);
    report("countersign", name, || decide(black_box(&request), &layers));
}

fn iam_rs_engine(name: &str, documents: &[String], action: &str, resource: &str) {
    let policies = documents.iter().map(|text| iam_rs::IAMPolicy::from_json(text).unwrap()).collect();
    let evaluator = iam_rs::PolicyEvaluator::with_policies(policies);
    let context = iam_rs::Context::new()
        .with_string("aws:username", "ana")
        .with_string("aws:PrincipalTag/team", "red")
        .with_string("aws:RequestedRegion", "eu-west-1");
    let request = iam_rs::IAMRequest::new_with_context(
        iam_rs::Principal::Aws(iam_rs::PrincipalId::String(USER.to_owned())),
        action,
        iam_rs::Arn::parse(resource).unwrap(),
        context,
    );
    let result = evaluator.evaluate(&request).unwrap();
    check(name, result.decision == iam_rs::Decision::Allow);
    report("iam-rs", name, || evaluator.evaluate(black_box(&request)));
}

fn cedar_engine(name: &str, text: &str, action: &str, resource: &str) {
    let mut policies = CedarPolicies::new();
    for (index, source) in text.split(';').map(str::trim).filter(|source| !source.is_empty()).enumerate() {
        let id = PolicyId::new(format!("p{index}"));
        policies.add(CedarPolicy::parse(Some(id), format!("{source};")).unwrap()).unwrap();
    }
    let entities = Entities::from_json_value(
        serde_json::json!([
            {"uid": {"type": "Action", "id": "s3:GetObject"}, "attrs": {}, "parents": [{"type": "Action", "id": "s3:Read"}]},
            {"uid": {"type": "Action", "id": "s3:Read"}, "attrs": {}, "parents": []},
            {"uid": {"type": "Action", "id": "s3:DeleteBucket"}, "attrs": {}, "parents": []},
            {"uid": {"type": "User", "id": "ana"}, "attrs": {}, "parents": []},
        ]),
        None,
    )
    .unwrap();
    let uid = |text: &str| EntityUid::from_str(text).unwrap();
    let context = CedarContext::from_json_value(
        serde_json::json!({"arn": resource, "team": "red", "region": "eu-west-1"}),
        None,
    )
    .unwrap();
    let request = CedarRequest::new(
        uid("User::\"ana\""),
        uid(&format!("Action::\"{action}\"")),
        uid(&format!("Object::\"{resource}\"")),
        context,
        None,
    )
    .unwrap();
    let authorizer = Authorizer::new();
    let response = authorizer.is_authorized(&request, &policies, &entities);
    check(name, response.decision() == CedarDecision::Allow);
    report("cedar", name, || authorizer.is_authorized(black_box(&request), &policies, &entities));
}

fn three_hundred() -> (Vec<String>, String) {
    let mut cedar = String::new();
    let documents = (0..10)
        .map(|document| {
            let statements: Vec<String> = (0..30)
                .map(|statement| {
                    let number = document * 30 + statement;
                    if number % 60 == 7 {
                        let (effect, action) = match number {
                            7 => ("Deny", "s3:DeleteBucket"),
                            67 | 127 => ("Allow", "s3:Put*"),
                            _ => ("Allow", "s3:Get*"),
                        };
                        let folder = if number > 200 { "ana" } else { "bo" };
                        let resource = if effect == "Deny" { "*".to_owned() } else { format!("arn:aws:s3:::data/{folder}/*") };
                        cedar.push_str(&match (effect, action) {
                            ("Deny", _) => "forbid(principal, action == Action::\"s3:DeleteBucket\", resource);\n".to_owned(),
                            (_, "s3:Put*") => format!("permit(principal, action == Action::\"s3:PutObject\", resource) when {{ context.arn like \"{resource}\" }};\n"),
                            _ => format!("permit(principal, action in Action::\"s3:Read\", resource) when {{ context.arn like \"{resource}\" }};\n"),
                        });
                        return format!(r#"{{"Effect": "{effect}", "Action": ["{action}", "s3:X{number}"], "Resource": "{resource}"}}"#);
                    }
                    let service = format!("service{}", number % 60);
                    cedar.push_str(&format!(
                        "permit(principal, action == Action::\"{service}:Get{number}\", resource) when {{ context.region == \"eu-west-1\" && context.arn like \"arn:aws:{service}:*:111122223333:thing/{number}/*\" }};\n"
                    ));
                    format!(
                        r#"{{"Effect": "Allow", "Action": ["{service}:Describe*", "{service}:Get{number}"], "Resource": "arn:aws:{service}:*:111122223333:thing/{number}/*", "Condition": {{"StringEquals": {{"aws:RequestedRegion": "eu-west-1"}}}}}}"#
                    )
                })
                .collect();
            format!(r#"{{"Version": "2012-10-17", "Statement": [{}]}}"#, statements.join(","))
        })
        .collect();
    (documents, cedar)
}

fn check(name: &str, allowed: bool) {
    assert_eq!(allowed, name == "allow", "{name}");
}

fn report<T>(engine: &str, name: &str, mut round: impl FnMut() -> T) {
    let started = Instant::now();
    let mut rounds = 0u32;
    while started.elapsed().as_millis() < 50 {
        black_box(round());
        rounds += 1;
    }
    let batch = (rounds / 50).max(1);
    let mut samples: Vec<f64> = (0..101)
        .map(|_| {
            let started = Instant::now();
            for _ in 0..batch {
                black_box(round());
            }
            started.elapsed().as_nanos() as f64 / f64::from(batch)
        })
        .collect();
    samples.sort_by(f64::total_cmp);
    println!("  {name:<14} {engine:<12} {:>10.0} ns, least {:>10.0} ns", samples[50], samples[0]);
}
