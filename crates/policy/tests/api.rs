//! The engine as the API front ends call it: the decisions of AssumeRole, denial messages, explanations.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::sync::Arc;

use countersign_policy::explain::{MessageStyle, denial_message, explain, render_tree};
use countersign_policy::{
    Action, AssumeRole, Attached, Context, Credentials, Document, Layers, Level, Outcome, Policy,
    PolicyKind, PolicySet, Principal, PrincipalIds, PrincipalSlot, Request, Source, blocked_by,
    decide, decide_assume_role,
};

const USER: &str = "arn:aws:iam::111122223333:user/team/ana";
const SESSION: &str = "arn:aws:sts::111122223333:assumed-role/dev/s1";
const ROLE: &str = "arn:aws:iam::111122223333:role/r";

fn attached(text: &str, kind: PolicyKind) -> Attached {
    Attached::new(Arc::new(Policy::parse(text, kind).unwrap()), "p")
}

#[test]
fn assuming_a_role_asks_for_tags_and_source_identity_too() {
    let trust = |actions: &str| {
        format!(
            r#"{{"Version": "2012-10-17", "Statement": {{"Effect": "Allow", "Principal": {{"AWS": "{USER}"}}, "Action": [{actions}]}}}}"#
        )
    };
    let principal = Principal::user(USER, None).unwrap();
    let action = Action::parse("sts:AssumeRole").unwrap();
    let context = Context::new();
    let request = Request::new(&principal, &action, ROLE, &context).unwrap();
    let ask = |actions: &str, asks| {
        let set = PolicySet {
            resource: Some(vec![attached(&trust(actions), PolicyKind::Trust)]),
            ..PolicySet::default()
        };
        decide_assume_role(&request, asks, &set.layers())
            .map_err(|denied| denied.action.as_str().to_owned())
    };
    let tags = AssumeRole {
        tags: true,
        ..AssumeRole::default()
    };
    let identity = AssumeRole {
        source_identity: true,
        ..AssumeRole::default()
    };
    let contexts = AssumeRole {
        provided_contexts: true,
        ..AssumeRole::default()
    };
    assert!(
        ask(r#""sts:AssumeRole""#, AssumeRole::default())
            .unwrap()
            .is_allowed()
    );
    assert_eq!(
        ask(r#""sts:AssumeRole""#, tags).unwrap_err(),
        "sts:TagSession"
    );
    assert_eq!(
        ask(r#""sts:AssumeRole""#, identity).unwrap_err(),
        "sts:SetSourceIdentity"
    );
    assert_eq!(
        ask(r#""sts:AssumeRole""#, contexts).unwrap_err(),
        "sts:SetContext"
    );
    assert_eq!(
        ask(r#""sts:TagSession""#, tags).unwrap_err(),
        "sts:AssumeRole"
    );
    assert!(ask(r#""sts:AssumeRole", "sts:TagSession""#, tags).is_ok());
    assert!(
        ask(
            r#""sts:*""#,
            AssumeRole {
                tags: true,
                source_identity: true,
                provided_contexts: true
            }
        )
        .is_ok()
    );
}

#[test]
fn a_bound_principal_is_matched_by_id_and_not_by_name() {
    let text = r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:role/p/dev"}, "Action": "sts:AssumeRole"}}"#;
    let mut ids = PrincipalIds::default();
    ids.bind(
        PrincipalSlot {
            statement: 0,
            entry: 0,
        },
        "AROAOLD",
    );
    let policy = Arc::new(Policy::compile_with_ids(
        Document::parse(text).unwrap(),
        PolicyKind::Trust,
        &ids,
    ));
    let set = PolicySet {
        resource: Some(vec![Attached::new(policy, "trust")]),
        ..PolicySet::default()
    };
    let action = Action::parse("sts:AssumeRole").unwrap();
    let context = Context::new();
    for (id, allowed) in [("AROAOLD", true), ("AROANEW", false)] {
        let principal = Principal::session(
            SESSION,
            Some("arn:aws:iam::111122223333:role/p/dev"),
            Some(id),
        )
        .unwrap();
        let request = Request::new(&principal, &action, ROLE, &context).unwrap();
        assert_eq!(
            decide(&request, &set.layers()).is_allowed(),
            allowed,
            "{id}"
        );
    }
}

const ALLOW_ALL: &str = r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}"#;
const DENY_ALL: &str =
    r#"{"Version": "2012-10-17", "Statement": {"Effect": "Deny", "Action": "*", "Resource": "*"}}"#;
const NOTHING: &str = r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "x:y", "Resource": "*"}}"#;

fn message(
    principal: &Principal,
    action: &str,
    resource: &str,
    layers: &Layers<'_>,
    style: MessageStyle,
) -> String {
    let action = Action::parse(action).unwrap();
    let context = Context::new();
    let request = Request::new(principal, &action, resource, &context).unwrap();
    let decision = decide(&request, layers);
    assert_ne!(decision.outcome, Outcome::Allowed);
    denial_message(&request, layers, &decision, style)
}

#[test]
fn denial_messages_name_one_layer() {
    let session = Principal::session(SESSION, None, None).unwrap();
    let cluster = "arn:aws:eks:eu-west-1:111122223333:cluster/c";
    let prefix = format!(
        "User: {SESSION} is not authorized to perform: eks:DescribeCluster on resource: {cluster}"
    );
    let tell = |set: &PolicySet| {
        let text = message(
            &session,
            "eks:DescribeCluster",
            cluster,
            &set.layers(),
            MessageStyle::Standard,
        );
        text.strip_prefix(&prefix).unwrap().to_owned()
    };
    let identity = |text: &str| vec![attached(text, PolicyKind::Identity)];
    let level = |text: &str| {
        vec![Level {
            target: "r".into(),
            policies: vec![attached(text, PolicyKind::Scp)],
        }]
    };
    let none = PolicySet::default();
    assert_eq!(
        tell(&none),
        " because no identity-based policy allows the eks:DescribeCluster action"
    );
    let boundary = PolicySet {
        identity: identity(ALLOW_ALL),
        boundary: Some(attached(NOTHING, PolicyKind::Boundary)),
        ..PolicySet::default()
    };
    assert_eq!(
        tell(&boundary),
        " because no permissions boundary allows the eks:DescribeCluster action"
    );
    let session_policy = PolicySet {
        identity: identity(ALLOW_ALL),
        session: Some(vec![attached(NOTHING, PolicyKind::Session)]),
        ..PolicySet::default()
    };
    assert_eq!(
        tell(&session_policy),
        " because no session policy allows the eks:DescribeCluster action"
    );
    let scp = PolicySet {
        identity: identity(ALLOW_ALL),
        scp: level(NOTHING),
        ..PolicySet::default()
    };
    assert_eq!(
        tell(&scp),
        " because no service control policy allows the eks:DescribeCluster action"
    );
    let endpoint = PolicySet {
        identity: identity(ALLOW_ALL),
        endpoint: Some(vec![attached(NOTHING, PolicyKind::Endpoint)]),
        ..PolicySet::default()
    };
    assert_eq!(
        tell(&endpoint),
        " because no VPC endpoint policy allows the eks:DescribeCluster action"
    );

    assert_eq!(
        tell(&PolicySet {
            identity: identity(DENY_ALL),
            ..PolicySet::default()
        }),
        " with an explicit deny in an identity-based policy"
    );
    assert_eq!(
        tell(&PolicySet {
            scp: level(DENY_ALL),
            identity: identity(DENY_ALL),
            ..PolicySet::default()
        }),
        " with an explicit deny in a service control policy"
    );
    assert_eq!(
        tell(&PolicySet {
            boundary: Some(attached(DENY_ALL, PolicyKind::Boundary)),
            ..PolicySet::default()
        }),
        " with an explicit deny in a permissions boundary"
    );
    assert_eq!(
        tell(&PolicySet {
            session: Some(vec![attached(DENY_ALL, PolicyKind::Session)]),
            ..PolicySet::default()
        }),
        " with an explicit deny in a session policy"
    );
    let everyone = DENY_ALL.replace("\"Action\"", "\"Principal\": \"*\", \"Action\"");
    assert_eq!(
        tell(&PolicySet {
            resource: Some(vec![attached(&everyone, PolicyKind::Resource)]),
            ..PolicySet::default()
        }),
        " with an explicit deny in a resource-based policy"
    );
    let mut managed = attached(DENY_ALL, PolicyKind::Identity);
    managed.source = Source {
        id: "Deny".into(),
        arn: Some("arn:aws:iam::111122223333:policy/Deny".into()),
        ..Source::default()
    };
    assert_eq!(
        tell(&PolicySet {
            identity: vec![managed],
            ..PolicySet::default()
        }),
        " with an explicit deny in an identity-based policy: arn:aws:iam::111122223333:policy/Deny"
    );
}

#[test]
fn denial_messages_tell_strangers_nothing() {
    let stranger = Principal::user("arn:aws:iam::444455556666:user/bo", None).unwrap();
    let none = PolicySet::default();
    assert_eq!(
        message(
            &stranger,
            "sts:AssumeRole",
            ROLE,
            &none.layers(),
            MessageStyle::Standard
        ),
        format!(
            "User: arn:aws:iam::444455556666:user/bo is not authorized to perform: sts:AssumeRole on resource: {ROLE}"
        )
    );
    let own = Principal::user(USER, None).unwrap();
    assert_eq!(
        message(
            &own,
            "sts:AssumeRole",
            ROLE,
            &none.layers(),
            MessageStyle::Short
        ),
        format!("User: {USER} is not authorized to perform: sts:AssumeRole on resource: {ROLE}")
    );
    assert_eq!(
        message(
            &own,
            "sts:AssumeRole",
            ROLE,
            &PolicySet {
                identity: vec![attached(ALLOW_ALL, PolicyKind::Identity)],
                ..PolicySet::default()
            }
            .layers(),
            MessageStyle::Standard
        ),
        format!(
            "User: {USER} is not authorized to perform: sts:AssumeRole on resource: {ROLE} because no role trust policy allows the sts:AssumeRole action"
        )
    );
    let web = Principal::federated("arn:aws:iam::111122223333:oidc-provider/i.example");
    assert_eq!(
        message(
            &web,
            "sts:AssumeRoleWithWebIdentity",
            ROLE,
            &none.layers(),
            MessageStyle::Standard
        ),
        "Not authorized to perform sts:AssumeRoleWithWebIdentity"
    );
}

#[test]
fn credentials_restrict_before_policies() {
    let everything = PolicySet {
        identity: vec![attached(ALLOW_ALL, PolicyKind::Identity)],
        session: Some(vec![attached(ALLOW_ALL, PolicyKind::Session)]),
        ..PolicySet::default()
    };
    let user = Principal::user(USER, None).unwrap();
    let token = |mfa| {
        user.clone()
            .with_credentials(Credentials::SessionToken { mfa })
    };
    let session = Principal::session(SESSION, None, None).unwrap();
    let federated =
        Principal::federated_user("arn:aws:sts::111122223333:federated-user/f", None).unwrap();
    let context = Context::new();
    for (principal, action, allowed) in [
        (&user, "iam:ListUsers", true),
        (&token(false), "iam:ListUsers", false),
        (&token(true), "iam:ListUsers", true),
        (&token(true), "sts:GetFederationToken", false),
        (&token(false), "sts:GetCallerIdentity", true),
        (&token(false), "sts:GetSessionToken", false),
        (&session, "sts:GetSessionToken", false),
        (&session, "sts:GetFederationToken", false),
        (&session, "sts:GetAccessKeyInfo", true),
        (&federated, "iam:ListUsers", false),
        (&federated, "sts:GetAccessKeyInfo", false),
        (&federated, "sts:GetCallerIdentity", true),
        (&federated, "s3:ListAllMyBuckets", true),
        (&user, "sts:GetSessionToken", true),
    ] {
        let action = Action::parse(action).unwrap();
        let request = Request::new(principal, &action, "*", &context).unwrap();
        assert_eq!(
            decide(&request, &everything.layers()).is_allowed(),
            allowed,
            "{} {}",
            principal.arn(),
            action.as_str()
        );
    }
}

#[test]
fn an_explanation_names_the_difference_and_a_way() {
    let trust = r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Principal": {"Federated": "arn:aws:iam::111122223333:oidc-provider/i.example"}, "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {"StringEquals": {"i.example:sub": "system:serviceaccount:shop:cart"}}}}"#;
    let set = PolicySet {
        resource: Some(vec![attached(trust, PolicyKind::Trust)]),
        ..PolicySet::default()
    };
    let principal = Principal::federated("arn:aws:iam::111122223333:oidc-provider/i.example");
    let action = Action::parse("sts:AssumeRoleWithWebIdentity").unwrap();
    let mut context = Context::new();
    context.set("i.example:sub", "system:serviceaccount:shop:card");
    let request = Request::new(&principal, &action, ROLE, &context).unwrap();
    let explanation = explain(&request, &set.layers());
    let text = render_tree(&explanation);
    assert!(
        text.contains("wants system:serviceaccount:shop:cart, has system:serviceaccount:shop:card"),
        "{text}"
    );
    assert_eq!(explanation.near_misses.len(), 1);
    assert!(
        explanation.near_misses[0]
            .detail
            .contains("got `system:serviceaccount:shop:card`")
    );
    assert_eq!(blocked_by(&request, &set.layers()).iter().count(), 0);

    let empty = Context::new();
    let request = Request::new(&principal, &action, ROLE, &empty).unwrap();
    let explanation = explain(&request, &set.layers());
    assert_eq!(explanation.missing_keys, ["i.example:sub"]);
    assert_eq!(explanation.conditional.len(), 1);
    assert_eq!(explanation.conditional[0].decision, Outcome::Allowed);
    let json = serde_json::to_value(&explanation).unwrap();
    for field in [
        "decision",
        "summary",
        "request",
        "layers",
        "grantedBy",
        "deniedBy",
        "blockedBy",
        "nearMisses",
        "missingKeys",
        "notes",
        "statements",
    ] {
        assert!(json.get(field).is_some(), "{field}");
    }
}
