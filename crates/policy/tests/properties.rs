//! Properties over generated policies and requests.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod reference;

use std::collections::BTreeMap;
use std::sync::Arc;

use countersign_policy::explain::explain;
use countersign_policy::{
    Action, Attached, Context, Decision, Effect, Layers, Level, Outcome, Policy, PolicyKind,
    PolicySet, Principal, Request, blocked_by, decide,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use reference::{Answer, Ask, Caller, Kind, World};
use serde_json::{Value, json};

const A: &str = "111122223333";
const B: &str = "444455556666";

fn callers() -> Vec<Caller> {
    let caller = |kind, arn: &str, account: &str| Caller {
        kind,
        arn: arn.to_owned(),
        account: account.to_owned(),
    };
    vec![
        caller(Kind::User, "arn:aws:iam::111122223333:user/ana", A),
        caller(Kind::User, "arn:aws:iam::444455556666:user/bo", B),
        caller(
            Kind::Session,
            "arn:aws:sts::111122223333:assumed-role/dev/s1",
            A,
        ),
        caller(Kind::Root, "arn:aws:iam::111122223333:root", A),
        caller(Kind::Service, "pods.eks.amazonaws.com", ""),
        caller(Kind::Anonymous, "anonymous", ""),
        caller(
            Kind::Federated,
            "arn:aws:iam::111122223333:oidc-provider/i.example",
            "",
        ),
    ]
}

fn principal(caller: &Caller) -> Principal {
    match caller.kind {
        Kind::Federated => Principal::federated(&caller.arn),
        _ => Principal::parse(&caller.arn, None).unwrap(),
    }
}

fn action_list() -> impl Strategy<Value = Value> {
    vec(
        select(vec![
            "*",
            "s3:*",
            "s3:Get*",
            "S3:getobject",
            "s3:?utObject",
            "eks:*",
            "*:Get*",
            "bad",
            "sts:Assume*",
            "sts:*",
            ":x",
            "s3:",
            "e?s:Describe*",
            "s3:PutObject",
            "eks:DescribeCluster",
            "sts:TagSession",
        ]),
        0..3,
    )
    .prop_map(|list| json!(list))
}

fn resource_list() -> impl Strategy<Value = Value> {
    vec(
        select(vec![
            "*",
            "arn:aws:s3:::b/*",
            "arn:aws:s3:::b/${aws:username}/*",
            "arn:aws:s3:::b/${aws:PrincipalTag/team, 'ana'}/?",
            "arn:aws:s3",
            "arn:aws:s3*",
            "arn:aws:*:*:*:role/*",
            "ARN:aws:s3:::b/k",
            "arn:AWS:IAM::111122223333:role/r",
            "arn:aws:iam::111122223333:role/R",
            "arn:aws:s3:::b/a${*}/*",
            "arn:aws:s3:::b/?na/*",
            "arn:aws-cn:s3:::b/*",
            "bucket",
        ]),
        0..3,
    )
    .prop_map(|list| json!(list))
}

fn principal_element() -> impl Strategy<Value = Value> {
    let aws = vec(
        select(vec![
            "*",
            A,
            B,
            "arn:aws:iam::111122223333:root",
            "arn:aws:iam::111122223333:user/ana",
            "arn:aws:iam::444455556666:user/bo",
            "arn:aws:iam::111122223333:role/path/DEV",
            "arn:aws:sts::111122223333:assumed-role/dev/s1",
            "arn:aws:iam::111122223333:user/*",
            "nobody",
        ]),
        0..3,
    );
    prop_oneof![
        1 => Just(json!("*")),
        4 => aws.prop_map(|list| json!({"AWS": list})),
        1 => Just(json!({"Service": "pods.eks.amazonaws.com"})),
        1 => select(vec!["arn:aws:iam::111122223333:oidc-provider/i.example", "arn:aws:iam::444455556666:oidc-provider/i.example"]).prop_map(|p| json!({"Federated": p})),
    ]
}

fn condition() -> impl Strategy<Value = Value> {
    let operator = (
        select(vec!["", "", "ForAllValues:", "ForAnyValue:"]),
        select(vec![
            "StringEquals",
            "StringNotEquals",
            "StringEqualsIgnoreCase",
            "StringNotEqualsIgnoreCase",
            "StringLike",
            "StringNotLike",
            "NumericEquals",
            "NumericNotEquals",
            "NumericLessThan",
            "NumericGreaterThanEquals",
            "Bool",
            "IpAddress",
            "NotIpAddress",
            "ArnLike",
            "ArnNotLike",
            "Null",
            "Unknown",
        ]),
        select(vec!["", "", "IfExists"]),
    )
        .prop_map(|(set, base, suffix)| format!("{set}{base}{suffix}"));
    let key = select(vec![
        "aws:username",
        "AWS:UserName",
        "aws:TagKeys",
        "aws:PrincipalTag/team",
        "test:value",
    ]);
    let values = vec(
        select(vec![
            "ana",
            "ANA",
            "a*",
            "*",
            "red",
            "${aws:username}",
            "${aws:PrincipalTag/team, 'red'}",
            "5",
            "10",
            "true",
            "false",
            "10.0.0.0/8",
            "10.1.2.3",
            "arn:aws:iam::*:role/${aws:username}",
            "arn:aws:iam::1:role/ana",
            "",
        ]),
        0..3,
    );
    (operator, key, values).prop_map(|(operator, key, values)| json!({operator: {key: values}}))
}

fn statement(named: bool) -> impl Strategy<Value = Value> {
    (
        select(vec!["Allow", "Allow", "Deny"]),
        any::<[bool; 3]>(),
        action_list(),
        resource_list(),
        option::weighted(0.5, condition()),
        principal_element(),
        0u8..10,
    )
        .prop_map(
            move |(effect, [a, b, c], actions, resources, condition, principal, rare)| {
                let rarely = |flag: bool| flag && rare < 4;
                let mut statement = json!({"Effect": effect});
                statement[if rarely(a) { "NotAction" } else { "Action" }] = actions;
                statement[if rarely(b) { "NotResource" } else { "Resource" }] = resources;
                if let Some(condition) = condition {
                    statement["Condition"] = condition;
                }
                if named && rare != 9 {
                    statement[if rarely(c) {
                        "NotPrincipal"
                    } else {
                        "Principal"
                    }] = principal;
                }
                statement
            },
        )
}

fn document(named: bool) -> impl Strategy<Value = Value> {
    (
        select(vec!["2012-10-17", "2012-10-17", "2008-10-17"]),
        vec(statement(named), 1..4),
    )
        .prop_map(|(version, statements)| json!({"Version": version, "Statement": statements}))
}

fn world() -> impl Strategy<Value = World> {
    (
        vec(document(false), 0..3),
        option::weighted(0.3, document(false)),
        option::weighted(0.3, vec(document(false), 1..3)),
        option::weighted(0.3, vec(vec(document(false), 0..3), 1..3)),
        option::weighted(0.2, vec(vec(document(true), 0..2), 1..2)),
        option::weighted(0.2, vec(document(true), 1..2)),
        option::weighted(0.7, vec(document(true), 1..3)),
    )
        .prop_map(
            |(identity, boundary, session, scp, rcp, endpoint, resource)| World {
                identity,
                boundary,
                session,
                scp: scp.unwrap_or_default(),
                rcp: rcp.unwrap_or_default(),
                endpoint,
                resource,
            },
        )
}

fn ask() -> impl Strategy<Value = Ask> {
    let values = select(vec![
        "ana",
        "ANA",
        "red",
        "*",
        "5",
        "7.5",
        "true",
        "10.1.2.3",
        "arn:aws:iam::1:role/ana",
        "",
        "nonsense",
    ]);
    (
        select(callers()),
        select(vec![
            "s3:GetObject",
            "s3:PutObject",
            "eks:DescribeCluster",
            "sts:AssumeRole",
            "sts:GetCallerIdentity",
            "sts:TagSession",
            "S3:GETOBJECT",
        ]),
        select(vec![
            "arn:aws:s3:::b/k",
            "arn:aws:s3:::b/ana/x",
            "arn:aws:iam::111122223333:role/r",
            "*",
            "arn:AWS:s3:::b/a*/x",
            "arn:aws-cn:s3:::b/k",
        ]),
        select(vec![A, B]),
        option::of(values.clone()),
        option::of(vec(values.clone(), 0..3)),
        option::of(values.clone()),
        option::of(values),
    )
        .prop_map(
            |(caller, action, resource, owner, name, tags, team, value)| {
                let mut context = BTreeMap::new();
                let mut put = |key: &str, value: Option<Value>| {
                    if let Some(value) = value {
                        context.insert(key.to_owned(), value);
                    }
                };
                put("aws:username", name.map(Value::from));
                put("aws:TagKeys", tags.map(Value::from));
                put("aws:PrincipalTag/team", team.map(Value::from));
                put("test:value", value.map(Value::from));
                Ask {
                    caller,
                    action: action.to_owned(),
                    resource: resource.to_owned(),
                    owner: owner.to_owned(),
                    context,
                }
            },
        )
}

fn attach(document: &Value, kind: PolicyKind) -> Attached {
    Attached::new(
        Arc::new(Policy::parse(document.to_string(), kind).unwrap()),
        "p",
    )
}

fn compile(world: &World) -> PolicySet {
    let all = |documents: &[Value], kind| {
        documents
            .iter()
            .map(|d| attach(d, kind))
            .collect::<Vec<_>>()
    };
    let levels = |levels: &[Vec<Value>], kind| {
        levels
            .iter()
            .map(|level| Level {
                target: "t".into(),
                policies: all(level, kind),
            })
            .collect()
    };
    PolicySet {
        identity: all(&world.identity, PolicyKind::Identity),
        boundary: world
            .boundary
            .as_ref()
            .map(|d| attach(d, PolicyKind::Boundary)),
        session: world.session.as_ref().map(|d| all(d, PolicyKind::Session)),
        scp: levels(&world.scp, PolicyKind::Scp),
        rcp: levels(&world.rcp, PolicyKind::Rcp),
        endpoint: world
            .endpoint
            .as_ref()
            .map(|d| all(d, PolicyKind::Endpoint)),
        resource: world
            .resource
            .as_ref()
            .map(|d| all(d, PolicyKind::Resource)),
    }
}

fn with_request<T>(ask: &Ask, use_it: impl FnOnce(&Request<'_>) -> T) -> T {
    let principal = principal(&ask.caller);
    let action = Action::parse(&ask.action).unwrap();
    let mut context = Context::new();
    for (key, value) in &ask.context {
        match value {
            Value::Array(values) => {
                context.set_list(&**key, values.iter().map(|v| v.as_str().unwrap()))
            }
            value => context.set(&**key, value.as_str().unwrap()),
        }
    }
    let request = Request::new(&principal, &action, &ask.resource, &context)
        .unwrap()
        .owned_by(&ask.owner);
    use_it(&request)
}

fn engine(ask: &Ask, world: &World) -> Decision {
    let set = compile(world);
    with_request(ask, |request| decide(request, &set.layers()))
}

/// Whether a decision names a statement of the right effect.
fn is_decisive(decision: &Decision, layers: &Layers<'_>) -> bool {
    let effect = |at: countersign_policy::StatementAt| {
        at.policy(layers)
            .map(|attached| attached.policy.document().statements()[at.statement as usize].effect)
    };
    match decision.outcome {
        Outcome::ExplicitDeny => decision.determining.and_then(effect) == Some(Effect::Deny),
        Outcome::Allowed => {
            decision
                .determining
                .is_none_or(|at| effect(at) == Some(Effect::Allow))
                && decision
                    .second
                    .is_none_or(|at| effect(at) == Some(Effect::Allow))
        }
        Outcome::ImplicitDeny => decision.determining.is_none(),
    }
}

fn shuffled(world: &World) -> World {
    let flip = |documents: &Vec<Value>| -> Vec<Value> {
        documents
            .iter()
            .rev()
            .map(|document| {
                let mut document = document.clone();
                document["Statement"].as_array_mut().unwrap().reverse();
                document
            })
            .collect()
    };
    World {
        identity: flip(&world.identity),
        boundary: world.boundary.clone().map(|d| flip(&vec![d]).remove(0)),
        session: world.session.as_ref().map(flip),
        scp: world.scp.iter().rev().map(flip).collect(),
        rcp: world.rcp.iter().rev().map(flip).collect(),
        endpoint: world.endpoint.as_ref().map(flip),
        resource: world.resource.as_ref().map(flip),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

    #[test]
    fn the_engine_decides_as_the_reference_does(ask in ask(), world in world()) {
        let expected = match reference::answer(&ask, &world) {
            Answer::Allowed => Outcome::Allowed,
            Answer::ExplicitDeny => Outcome::ExplicitDeny,
            Answer::ImplicitDeny => Outcome::ImplicitDeny,
        };
        let set = compile(&world);
        let layers = set.layers();
        with_request(&ask, |request| {
            let decision = decide(request, &layers);
            prop_assert_eq!(decision.outcome, expected);
            prop_assert!(is_decisive(&decision, &layers), "{:?}", decision);
            let explanation = explain(request, &layers);
            prop_assert_eq!(explanation.decision, decision.outcome);
            prop_assert_eq!(explanation.denied_by.is_empty(), decision.outcome != Outcome::ExplicitDeny && !explanation.statements.iter().any(|s| s.effect == Effect::Deny && s.applies));
            let blocked = blocked_by(request, &layers);
            prop_assert!(decision.outcome != Outcome::Allowed || blocked.is_empty());
            Ok(())
        })?;
    }

    #[test]
    fn order_never_matters(ask in ask(), world in world()) {
        let blocked = |world: &World| {
            let set = compile(world);
            with_request(&ask, |request| blocked_by(request, &set.layers()))
        };
        let flipped = shuffled(&world);
        prop_assert_eq!(engine(&ask, &world).outcome, engine(&ask, &flipped).outcome);
        prop_assert_eq!(blocked(&world), blocked(&flipped));
    }

    #[test]
    fn a_deny_never_allows_more(ask in ask(), world in world(), mut deny in statement(true), layer in 0usize..4) {
        deny["Effect"] = "Deny".into();
        if layer != 1 {
            let fields = deny.as_object_mut().unwrap();
            fields.remove("Principal");
            fields.remove("NotPrincipal");
        }
        let document = json!({"Version": "2012-10-17", "Statement": [deny]});
        let mut stricter = world.clone();
        match layer {
            0 => stricter.identity.push(document),
            1 => stricter.resource.get_or_insert_default().push(document),
            2 => stricter.scp.iter_mut().for_each(|level| level.push(document.clone())),
            _ => stricter.session.iter_mut().for_each(|session| session.push(document.clone())),
        }
        let (before, after) = (engine(&ask, &world), engine(&ask, &stricter));
        prop_assert!(before.is_allowed() || !after.is_allowed());
        prop_assert!(before.outcome != Outcome::ExplicitDeny || after.outcome == Outcome::ExplicitDeny);
    }

    #[test]
    fn a_boundary_or_session_policy_never_adds(ask in ask(), world in world(), limit in document(false), session in any::<bool>()) {
        let mut limited = world.clone();
        if session {
            limited.session = Some(vec![limit]);
        } else {
            limited.boundary = Some(limit);
        }
        let free = World { boundary: None, session: None, ..world.clone() };
        let only = World { boundary: limited.boundary.clone().filter(|_| !session), session: limited.session.clone().filter(|_| session), ..world };
        prop_assert!(engine(&ask, &free).is_allowed() || !engine(&ask, &only).is_allowed());
    }

    #[test]
    fn a_policy_shown_to_be_no_wider_never_allows_more(ask in ask(), first in document(false), second in document(false), extra in statement(false)) {
        let mut grown = first.clone();
        grown["Statement"].as_array_mut().unwrap().push(extra);
        for other in [&second, &grown] {
            let comparison = countersign_policy::diff::diff(&first.to_string(), &other.to_string(), Some(PolicyKind::Identity)).unwrap();
            let of = |document: &Value| {
                let world = World { identity: vec![document.clone()], ..World::default() };
                engine(&ask, &world).is_allowed()
            };
            let (before, after) = (of(&first), of(other));
            prop_assert!(before || !after || !comparison.has_no_new_access());
            prop_assert!(after || !before || !comparison.narrower.is_empty());
        }
    }
}
