//! The simulator of the IAM API: decisions, deciding statements with their positions, missing keys, both sides.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;

use countersign_policy::simulator::{EvaluationResult, Simulation, simulate_action};
use countersign_policy::{
    Action, Attached, Context, Layers, Outcome, Policy, PolicyKind, Principal,
};

fn attached(text: &str, kind: PolicyKind, id: &str) -> Attached {
    Attached::new(Arc::new(Policy::parse(text, kind).unwrap()), id)
}

struct World {
    caller: &'static str,
    identity: Vec<&'static str>,
    boundary: Option<&'static str>,
    resource_policy: Option<&'static str>,
    resources: Vec<&'static str>,
    context: Vec<(&'static str, &'static str)>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            caller: "arn:aws:iam::111122223333:user/ana",
            identity: Vec::new(),
            boundary: None,
            resource_policy: None,
            resources: Vec::new(),
            context: Vec::new(),
        }
    }
}

fn simulate(world: &World, action: &str) -> EvaluationResult {
    let identity: Vec<Attached> = (1..)
        .zip(&world.identity)
        .map(|(n, text)| attached(text, PolicyKind::Identity, &format!("PolicyInputList.{n}")))
        .collect();
    let boundary = world.boundary.map(|text| {
        attached(
            text,
            PolicyKind::Identity,
            "PermissionsBoundaryPolicyInputList.1",
        )
    });
    let resource: Option<Vec<Attached>> = world
        .resource_policy
        .map(|text| vec![attached(text, PolicyKind::Resource, "ResourcePolicy")]);
    let mut context = Context::new();
    for (key, value) in &world.context {
        context.set(*key, *value);
    }
    let principal = Principal::user(world.caller, None).unwrap();
    let action = Action::parse(action).unwrap();
    let simulation = Simulation {
        principal: &principal,
        resources: &world.resources,
        resource_owner: None,
        context: &context,
        layers: Layers {
            identity: &identity,
            boundary: boundary.as_ref(),
            ..Layers::default()
        },
        resource_policy: &|_| resource.as_deref(),
    };
    simulate_action(&simulation, &action).unwrap()
}

const DATED: &str = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"dynamodb:*","Resource":"*","Condition":{"DateGreaterThan":{"aws:CurrentTime":"2018-08-16T12:00:00Z"}}}}"#;

#[test]
fn the_published_positions_come_out() {
    let world = World {
        identity: vec![DATED],
        context: vec![("aws:CurrentTime", "2018-09-01T00:00:00Z")],
        ..World::default()
    };
    let result = simulate(&world, "dynamodb:CreateBackup");
    assert_eq!(result.decision, Outcome::Allowed);
    let statement = &result.resources[0].matched[0];
    assert_eq!(&*statement.policy_id, "PolicyInputList.1");
    assert_eq!(statement.policy_type, None);
    assert_eq!((statement.start.line, statement.start.column), (1, 38));
    assert_eq!((statement.end.line, statement.end.column), (1, 167));
    assert_eq!(result.resources[0].details, None, "absent for `*`");
}

#[test]
fn missing_keys_are_named_and_deny_implicitly() {
    let world = World {
        identity: vec![DATED],
        ..World::default()
    };
    let result = simulate(&world, "dynamodb:CreateBackup");
    assert_eq!(result.decision, Outcome::ImplicitDeny);
    assert!(result.resources[0].matched.is_empty());
    assert_eq!(*result.resources[0].missing, ["aws:CurrentTime".into()]);
}

const ALLOW_ALL: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;

#[test]
fn one_denied_resource_denies_the_action_and_only_denies_are_shown() {
    let world = World {
        identity: vec![
            ALLOW_ALL,
            r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"s3:*","Resource":"arn:aws:s3:::b/x"}]}"#,
        ],
        resources: vec!["arn:aws:s3:::b/x", "arn:aws:s3:::b/y"],
        ..World::default()
    };
    let result = simulate(&world, "s3:GetObject");
    assert_eq!(result.decision, Outcome::ExplicitDeny);
    assert_eq!(&*result.resource, "*");
    let [x, y] = &result.resources[..] else {
        unreachable!()
    };
    assert_eq!(x.decision, Outcome::ExplicitDeny);
    assert_eq!(x.matched.len(), 1);
    assert_eq!(&*x.matched[0].policy_id, "PolicyInputList.2");
    assert_eq!(y.decision, Outcome::Allowed);
    assert_eq!(y.details, Some(Vec::new()), "empty within one account");
}

#[test]
fn boundary_and_resource_policy_have_their_say() {
    let mut world = World {
        identity: vec![ALLOW_ALL],
        boundary: Some(
            r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}"#,
        ),
        ..World::default()
    };
    let allowed = simulate(&world, "s3:GetObject");
    assert_eq!(allowed.resources[0].allowed_by_boundary, Some(true));
    let denied = simulate(&world, "ec2:RunInstances");
    assert_eq!(denied.decision, Outcome::ImplicitDeny);
    assert_eq!(denied.resources[0].allowed_by_boundary, Some(false));

    world.boundary = None;
    world.resources = vec!["arn:aws:sqs:eu-west-1:444455556666:q"];
    let across = simulate(&world, "sqs:SendMessage");
    assert_eq!(across.decision, Outcome::ImplicitDeny);
    assert_eq!(
        across.resources[0].details,
        Some(vec![
            ("IAM Policy", Outcome::Allowed),
            ("Resource Policy", Outcome::ImplicitDeny)
        ])
    );
    world.resource_policy = Some(
        r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:user/ana"},"Action":"sqs:SendMessage","Resource":"*"}}"#,
    );
    let across = simulate(&world, "sqs:SendMessage");
    assert_eq!(across.decision, Outcome::Allowed);
    let documents: Vec<&str> = across.resources[0]
        .matched
        .iter()
        .map(|statement| &*statement.policy_id)
        .collect();
    assert_eq!(documents, ["PolicyInputList.1", "ResourcePolicy"]);
}
