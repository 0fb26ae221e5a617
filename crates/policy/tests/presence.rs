//! Contexts from facts: which key is present when (policy language spec, section 7).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use countersign_policy::{
    AssumeFacts, CallFacts, CallerFacts, Claim, Context, ContextValue, Credentials, Mfa,
    Organization, Principal, ResourceFacts, ServiceSource, session_tags,
};

const USER: &str = "arn:aws:iam::111122223333:user/team/ana";
const SESSION: &str = "arn:aws:sts::111122223333:assumed-role/dev/s1";

fn one<'c>(context: &'c Context<'_>, key: &str) -> Option<&'c str> {
    match context.get(key) {
        Some(ContextValue::One(text)) => Some(text),
        Some(ContextValue::Many(_)) => panic!("{key} is a list"),
        None => None,
    }
}

fn many<'c>(context: &'c Context<'_>, key: &str) -> Option<Vec<&'c str>> {
    match context.get(key) {
        Some(ContextValue::Many(texts)) => Some(texts.iter().map(AsRef::as_ref).collect()),
        Some(ContextValue::One(_)) => panic!("{key} is no list"),
        None => None,
    }
}

#[test]
fn identity_keys_are_those_of_the_table_by_caller() {
    let callers = [
        (
            Principal::root("arn:aws:iam::111122223333:root").unwrap(),
            Some("arn:aws:iam::111122223333:root"),
            None,
            Some("111122223333"),
            "Account",
        ),
        (
            Principal::user(USER, Some("AIDAX")).unwrap(),
            Some(USER),
            Some("ana"),
            Some("AIDAX"),
            "User",
        ),
        (
            Principal::federated_user("arn:aws:sts::111122223333:federated-user/f", None).unwrap(),
            Some("arn:aws:sts::111122223333:federated-user/f"),
            None,
            Some("111122223333:f"),
            "FederatedUser",
        ),
        (
            Principal::session(
                SESSION,
                Some("arn:aws:iam::111122223333:role/p/dev"),
                Some("AROAX"),
            )
            .unwrap(),
            Some("arn:aws:iam::111122223333:role/p/dev"),
            None,
            Some("AROAX:s1"),
            "AssumedRole",
        ),
        (
            Principal::anonymous(),
            None,
            None,
            Some("anonymous"),
            "Anonymous",
        ),
        (
            Principal::federated("accounts.google.com"),
            None,
            None,
            Some("anonymous"),
            "Anonymous",
        ),
        (
            Principal::service("pods.eks.amazonaws.com"),
            None,
            None,
            None,
            "Service",
        ),
    ];
    for (caller, arn, username, userid, kind) in &callers {
        let mut context = Context::new();
        context.add_caller(caller, &CallerFacts::default());
        assert_eq!(one(&context, "aws:PrincipalArn"), *arn, "{kind}");
        assert_eq!(one(&context, "aws:username"), *username, "{kind}");
        assert_eq!(one(&context, "aws:userid"), *userid, "{kind}");
        assert_eq!(one(&context, "aws:PrincipalType"), Some(*kind));
        let signed = *kind != "Anonymous";
        let service = *kind == "Service";
        assert_eq!(
            one(&context, "aws:PrincipalIsAWSService"),
            signed.then_some(if service { "true" } else { "false" })
        );
        assert_eq!(one(&context, "aws:PrincipalServiceName").is_some(), service);
        assert_eq!(
            many(&context, "aws:PrincipalServiceNamesList").is_some(),
            service
        );
        assert_eq!(one(&context, "aws:PrincipalAccount").is_none(), service);
    }
}

#[test]
fn keys_of_temporary_credentials_are_absent_with_long_term_keys() {
    let organization = Organization {
        id: "o-x",
        path: "o-x/r-x/ou-1/",
    };
    let facts = CallerFacts {
        organization: Some(organization),
        tags: &[("team", "red")],
        token_issue_time: Some("2026-01-01T00:00:00Z"),
        mfa: Some(Mfa::Present { age_seconds: 5 }),
        source_identity: Some("ana"),
        ..CallerFacts::default()
    };
    let keys = |caller: &Principal, facts: &CallerFacts<'_>| {
        let mut context = Context::new();
        context.add_caller(caller, facts);
        [
            "aws:TokenIssueTime",
            "aws:MultiFactorAuthPresent",
            "aws:MultiFactorAuthAge",
            "aws:SourceIdentity",
        ]
        .map(|key| context.get(key).is_some())
    };
    let user = Principal::user(USER, None).unwrap();
    let session = Principal::session(SESSION, None, None).unwrap();
    assert_eq!(keys(&user, &facts), [false; 4]);
    let with_token = user
        .clone()
        .with_credentials(Credentials::SessionToken { mfa: true });
    assert_eq!(keys(&with_token, &facts), [true, true, true, false]);
    assert_eq!(keys(&session, &facts), [true; 4]);
    let absent = CallerFacts {
        mfa: Some(Mfa::Absent),
        ..facts
    };
    assert_eq!(keys(&session, &absent), [true, true, false, true]);
    let web = CallerFacts {
        federated_provider: Some("accounts.google.com"),
        ..facts
    };
    assert_eq!(keys(&session, &web), [true, false, false, true]);

    let mut context = Context::new();
    context.add_caller(&session, &facts);
    assert_eq!(one(&context, "aws:principaltag/TEAM"), Some("red"));
    assert_eq!(one(&context, "aws:PrincipalOrgID"), Some("o-x"));
    assert_eq!(
        many(&context, "aws:PrincipalOrgPaths"),
        Some(vec!["o-x/r-x/ou-1/"])
    );
}

#[test]
fn an_assume_role_call_shows_its_own_tags_and_the_targets_under_the_inherited_ones() {
    let mut context = Context::new();
    context.add_assume_role(&AssumeFacts {
        session_name: "s1",
        external_id: Some("x1"),
        tags: &[("cost", "1")],
        transitive_keys: &["cost"],
        role_tags: &[("Team", "blue"), ("env", "prod")],
        inherited_tags: &[("team", "red")],
        ..AssumeFacts::default()
    });
    assert_eq!(one(&context, "aws:RequestTag/cost"), Some("1"));
    assert_eq!(context.get("aws:RequestTag/team"), None);
    assert_eq!(many(&context, "aws:TagKeys"), Some(vec!["cost"]));
    assert_eq!(many(&context, "sts:TransitiveTagKeys"), Some(vec!["cost"]));
    assert_eq!(one(&context, "aws:ResourceTag/team"), Some("red"));
    assert_eq!(one(&context, "iam:ResourceTag/env"), Some("prod"));
    assert_eq!(one(&context, "sts:ExternalId"), Some("x1"));
    assert_eq!(context.get("sts:SourceIdentity"), None);

    let mut plain = Context::new();
    plain.add_assume_role(&AssumeFacts {
        session_name: "s1",
        ..AssumeFacts::default()
    });
    for key in ["aws:TagKeys", "sts:TransitiveTagKeys", "sts:ExternalId"] {
        assert_eq!(plain.get(key), None, "{key}");
    }
}

#[test]
fn session_tags_stand_over_role_tags_and_inherited_ones_over_both() {
    let tags = session_tags(
        &[("Star", "3"), ("Lightning", "3")],
        &[("lightning", "4")],
        &[("Heart", "1"), ("star", "1")],
    );
    assert_eq!(tags, [("Heart", "1"), ("star", "1"), ("lightning", "4")]);
}

#[test]
fn other_facts_fill_their_keys_and_no_others() {
    let mut context = Context::new();
    context.add_call(&CallFacts {
        region: "eu-west-1",
        current_time: "2026-01-01T00:00:00Z",
        epoch_seconds: 1_767_225_600,
        secure_transport: true,
        source_ip: None,
        user_agent: Some("kubectl"),
        referer: None,
    });
    context.add_resource(&ResourceFacts {
        account: Some("111122223333"),
        organization: None,
        tags: &[("a", "b")],
    });
    context.add_service_source(&ServiceSource {
        arn: "arn:aws:eks:eu-west-1:111122223333:cluster/c",
        account: "111122223333",
        organization: None,
    });
    context.add_claim("issuer.example/", "sub", Claim::One("x"));
    context.add_claim("issuer.example/", "amr", Claim::Many(&["pwd"]));
    let mut keys: Vec<&str> = context.iter().map(|(key, _)| key).collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "aws:CurrentTime",
            "aws:EpochTime",
            "aws:RequestedRegion",
            "aws:ResourceAccount",
            "aws:ResourceTag/a",
            "aws:SecureTransport",
            "aws:SourceAccount",
            "aws:SourceArn",
            "aws:UserAgent",
            "aws:ViaAWSService",
            "issuer.example/:amr",
            "issuer.example/:sub",
        ]
    );
    context.remove("AWS:useragent");
    assert_eq!(context.len(), 11);
    assert!(!context.is_empty());
}
