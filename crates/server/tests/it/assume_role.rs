//! AssumeRole in process, with a clock moved by hand: every check, chains, and what ends a session.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use countersign_arn::{AccountId, Partition, Tag};
use countersign_mapping::{BackendKind, MappingOptions, MappingTable, mounted_file};
use countersign_server::aws::{AwsApi, KeyRing};
use countersign_server::listen::Peer;
use countersign_server::metrics::Metrics;
use countersign_server::webhook::authenticate::{ClusterAuthenticator, ClusterOptions, Verifier};
use countersign_server::webhook::denial::DenyMode;
use countersign_sigv4::{Credentials, Payload, Request, SecretKey, Signer};
use countersign_sources::{Mappings, MappingsOptions};
use countersign_store::records::{InlinePolicy, TrustPolicy, TrustedPrincipal};
use countersign_store::{
    Directory, NewAccount, NewRole, NewUser, Quotas, Random, RedbStore, RootKey, Sealer,
};
use countersign_token::{Options, Rules, mint};
use http_body_util::BodyExt as _;
use jiff::{SignedDuration, Timestamp};

const ENDPOINT: &str = "https://sts.cs.example:8443/";
const HOST: &str = "sts.cs.example:8443";
const ALL: &str =
    r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#;

/// A trust statement for an AWS principal.
fn trusts(principal: &str, actions: &str, condition: &str) -> String {
    let condition = if condition.is_empty() {
        String::new()
    } else {
        format!(r#","Condition":{condition}"#)
    };
    format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"AWS":"{principal}"}},"Action":{actions}{condition}}}]}}"#
    )
}

const ASSUME: &str = r#""sts:AssumeRole""#;
const EVERYTHING: &str = r#"["sts:AssumeRole","sts:TagSession","sts:SetSourceIdentity"]"#;
const ACCOUNT: &str = "arn:aws:iam::111122223333:root";

#[derive(Clone)]
struct Keys {
    id: String,
    secret: String,
    token: Option<String>,
}

struct World {
    directory: Directory,
    account: AccountId,
    ana: Keys,
    bob: Keys,
    keys: Arc<KeyRing>,
    api: AwsApi,
}

fn now() -> Timestamp {
    "2026-03-14T09:26:53.25Z".parse().unwrap()
}

fn after(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

fn tag(key: &str, value: &str) -> Tag {
    Tag {
        key: key.into(),
        value: value.into(),
    }
}

/// Parameters of a call.
type Given<'a> = &'a [(&'a str, &'a str)];

/// Status, and code with message, or the whole body of a success.
type Answered = (u16, serde_json::Value);

impl World {
    /// `ana` may do everything, `bob` nothing.
    async fn new() -> Self {
        let account: AccountId = "111122223333".parse().unwrap();
        let store = Arc::new(RedbStore::in_memory().unwrap());
        let sealer = Sealer::new(&RootKey::from_bytes([7; 32]), &[]).unwrap();
        let directory = Directory::open(store, sealer, Random::system(), Quotas::default())
            .await
            .unwrap();
        directory.maintain_session_keys(now()).await.unwrap();
        for id in ["111122223333", "444455556666"] {
            let organization_id = (id == "111122223333").then(|| "o-exampleorg1".into());
            let new = NewAccount {
                id: id.parse().unwrap(),
                partition: Partition::Aws,
                alias: None,
                organization_id,
            };
            directory.create_account(new, now()).await.unwrap();
        }
        let mut users = Vec::new();
        for name in ["ana", "bob"] {
            let new = NewUser {
                account,
                name: name.into(),
                path: "/".into(),
                tags: vec![tag("Team", "blue")],
            };
            directory.create_user(new, now()).await.unwrap();
            let key = directory
                .create_access_key(account, name, now())
                .await
                .unwrap();
            users.push(Keys {
                id: key.metadata.id.to_string(),
                secret: key.secret.expose().to_owned(),
                token: None,
            });
        }
        let all = InlinePolicy {
            name: "all".into(),
            document: ALL.into(),
        };
        directory
            .put_user_policy(account, "ana", all)
            .await
            .unwrap();
        let keys = Arc::new(KeyRing::new(directory.feed().clone()));
        let api = AwsApi::new(Arc::clone(&keys), Arc::new(Metrics::new()), 0, false);
        let bob = users.pop().unwrap();
        Self {
            directory,
            account,
            ana: users.pop().unwrap(),
            bob,
            keys,
            api,
        }
    }

    async fn role(&self, name: &str, trust: &str) -> String {
        self.role_with(name, trust, |_| ()).await
    }

    async fn role_with(
        &self,
        name: &str,
        trust: &str,
        change: impl FnOnce(&mut NewRole),
    ) -> String {
        let mut new = NewRole {
            account: self.account,
            name: name.into(),
            path: "/".into(),
            trust: TrustPolicy {
                document: trust.into(),
                principals: Vec::new(),
            },
            max_session_duration: 43_200,
            description: None,
            tags: Vec::new(),
        };
        change(&mut new);
        self.directory.create_role(new, now()).await.unwrap().arn()
    }

    async fn allow_role(&self, name: &str, document: &str) {
        let policy = InlinePolicy {
            name: "p".into(),
            document: document.into(),
        };
        self.directory
            .put_role_policy(self.account, name, policy)
            .await
            .unwrap();
    }

    /// One signed call.
    async fn call(&self, keys: &Keys, parameters: &[(&str, &str)], when: Timestamp) -> Answered {
        let secret = SecretKey::new(&keys.secret);
        let mut pairs = vec![("Version", "2011-06-15")];
        pairs.extend(parameters);
        let body: Vec<String> = pairs
            .iter()
            .map(|(name, value)| format!("{name}={}", escape(value)))
            .collect();
        let body = body.join("&");
        let form = "application/x-www-form-urlencoded; charset=utf-8";
        let all: [(&str, &[u8]); 2] =
            [("host", HOST.as_bytes()), ("content-type", form.as_bytes())];
        let mut request = Request::new("POST", b"/");
        request.headers = &all;
        request.body = Payload::Bytes(body.as_bytes());
        let credentials = Credentials {
            key_id: &keys.id,
            secret: &secret,
            session_token: keys.token.as_deref(),
        };
        let signed = Signer::new(credentials, "us-east-1", "sts")
            .sign(&request, when)
            .unwrap();
        let mut head = http::Request::post("/")
            .header("host", HOST)
            .header("content-type", form)
            .header("accept", "application/json")
            .header("user-agent", "test/1");
        for (name, value) in signed.headers() {
            head = head.header(name, value);
        }
        let (head, ()) = head.body(()).unwrap().into_parts();
        let peer = Peer {
            address: SocketAddr::from(([192, 0, 2, 7], 40_000)),
            tls: true,
        };
        let answer = self
            .api
            .answer(&head, &Bytes::from(body.clone()), peer, when, "request-1");
        let status = answer.status().as_u16();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    async fn assume(
        &self,
        keys: &Keys,
        role: &str,
        more: &[(&str, &str)],
        when: Timestamp,
    ) -> Answered {
        let mut parameters = vec![("Action", "AssumeRole"), ("RoleArn", role)];
        if !more.iter().any(|(name, _)| *name == "RoleSessionName") {
            parameters.push(("RoleSessionName", "s1"));
        }
        parameters.extend(more);
        self.call(keys, &parameters, when).await
    }

    /// The keys of a session that must be given.
    async fn session(
        &self,
        keys: &Keys,
        role: &str,
        more: &[(&str, &str)],
        when: Timestamp,
    ) -> Keys {
        let (status, answer) = self.assume(keys, role, more, when).await;
        assert_eq!(status, 200, "{role}: {answer}");
        let credentials = &result(&answer)["Credentials"];
        let text = |name: &str| credentials[name].as_str().unwrap().to_owned();
        Keys {
            id: text("AccessKeyId"),
            secret: text("SecretAccessKey"),
            token: Some(text("SessionToken")),
        }
    }

    async fn whoami(&self, keys: &Keys, when: Timestamp) -> Answered {
        self.call(keys, &[("Action", "GetCallerIdentity")], when)
            .await
    }
}

fn escape(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(b).to_string()
            }
            _ => format!("%{b:02X}"),
        })
        .collect()
}

fn result(answer: &serde_json::Value) -> &serde_json::Value {
    &answer["AssumeRoleResponse"]["AssumeRoleResult"]
}

fn error(answered: &Answered) -> (u16, &str, &str) {
    let error = &answered.1["Error"];
    (
        answered.0,
        error["Code"].as_str().unwrap_or("none"),
        error["Message"].as_str().unwrap_or_default(),
    )
}

const INVALID: (u16, &str, &str) = (
    403,
    "InvalidClientTokenId",
    "The security token included in the request is invalid",
);

fn not_authorized(caller: &str, action: &str, role: &str) -> String {
    format!("User: arn:aws:{caller} is not authorized to perform: {action} on resource: {role}")
}

#[tokio::test]
async fn an_answer_has_all_members_and_its_keys_are_the_role() {
    let world = World::new().await;
    let role = world
        .role_with("Dev", &trusts(ACCOUNT, EVERYTHING, ""), |new| {
            new.path = "/team/".into()
        })
        .await;
    let (status, answer) = world.assume(&world.ana, &role, &[], now()).await;
    assert_eq!(status, 200, "{answer}");
    let members = result(&answer);
    assert_eq!(
        members["Credentials"]["Expiration"], 1773484013.0,
        "whole seconds, an hour later"
    );
    assert!(members["PackedPolicySize"].is_null() && members["SourceIdentity"].is_null());
    assert_eq!(
        members["AssumedRoleUser"]["Arn"],
        "arn:aws:sts::111122223333:assumed-role/Dev/s1"
    );
    assert!(
        members["Credentials"]["AccessKeyId"]
            .as_str()
            .unwrap()
            .starts_with("ASIARTX3GSDS")
    );
    assert!(
        members["Credentials"]["SessionToken"]
            .as_str()
            .unwrap()
            .len()
            <= 320
    );

    let keys = world.session(&world.ana, &role, &[], now()).await;
    let (_, answer) = world.whoami(&keys, after(3599)).await;
    let identity = &answer["GetCallerIdentityResponse"]["GetCallerIdentityResult"];
    assert_eq!(
        identity["Arn"],
        "arn:aws:sts::111122223333:assumed-role/Dev/s1"
    );
    let id = world
        .directory
        .snapshot()
        .role(world.account, "dev")
        .unwrap()
        .record
        .id
        .clone();
    assert_eq!(identity["UserId"], format!("{id}:s1"));
}

#[tokio::test]
async fn constraints_are_answered_together_with_awss_texts() {
    let world = World::new().await;
    let role = world.role("Dev", &trusts(ACCOUNT, EVERYTHING, "")).await;
    let long = "a".repeat(65);
    let cases: &[(&[(&str, &str)], &str)] = &[
        (
            &[("RoleSessionName", "Session1:2")],
            r"1 validation error detected: Value 'Session1:2' at 'roleSessionName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\w+=,.@-]*",
        ),
        (
            &[("RoleSessionName", &long), ("DurationSeconds", "899")],
            "2 validation errors detected: Value '",
        ),
        (
            &[("DurationSeconds", "43201")],
            "1 validation error detected: Value '43201' at 'durationSeconds' failed to satisfy constraint: Member must have value less than or equal to 43200",
        ),
        (
            &[("DurationSeconds", "1h")],
            "1 validation error detected: Value '1h' at 'durationSeconds'",
        ),
        (
            &[("ExternalId", "x")],
            "1 validation error detected: Value at 'externalId' failed to satisfy constraint: Member must have length greater than or equal to 2",
        ),
        (
            &[("TokenCode", "12345")],
            "1 validation error detected: Value at 'tokenCode'",
        ),
        (
            &[("SourceIdentity", "a:b")],
            "1 validation error detected: Value 'a:b' at 'sourceIdentity'",
        ),
        (
            &[("Tags.member.1.Key", "a")],
            "1 validation error detected: Value null at 'tags.1.member.value' failed to satisfy constraint: Member must not be null",
        ),
        (
            &[("Tags.member.7.Key", "a*"), ("Tags.member.7.Value", "")],
            "1 validation error detected: Value 'a*' at 'tags.1.member.key'",
        ),
        (
            &[("Policy", "\u{100}")],
            "1 validation error detected: Value '\u{100}' at 'policy'",
        ),
        (
            &[("PolicyArns.member.1.arn", "x")],
            "1 validation error detected: Value 'x' at 'policyArns.1.member.arn'",
        ),
        (
            &[("ProvidedContexts.member.1.ProviderArn", "x")],
            "Provided contexts are not supported.",
        ),
    ];
    for (more, expected) in cases {
        let answered = world.assume(&world.ana, &role, more, now()).await;
        let (status, code, message) = error(&answered);
        assert_eq!((status, code), (400, "ValidationError"), "{more:?}");
        assert!(message.starts_with(expected), "{more:?}: {message}");
    }
    for arn in [
        "nothing-valid-in-here",
        "arn::b:::something/test-role",
        "arn:a::::something/test-role",
        "arn:a:::something/test-role",
        "arn:a:a::aaaaaaaaaa:",
    ] {
        let answered = world.assume(&world.ana, arn, &[], now()).await;
        assert_eq!(
            error(&answered),
            (400, "ValidationError", &*format!("{arn} is invalid"))
        );
    }
    let answered = world
        .call(&world.ana, &[("Action", "AssumeRole")], now())
        .await;
    assert_eq!(
        error(&answered).2,
        "2 validation errors detected: Value null at 'roleArn' failed to satisfy constraint: Member must not be null; \
         Value null at 'roleSessionName' failed to satisfy constraint: Member must not be null"
    );
}

#[tokio::test]
async fn tags_mfa_durations_and_policies_are_refused_as_aws_refuses_them() {
    let world = World::new().await;
    let role = world
        .role_with("Dev", &trusts(ACCOUNT, EVERYTHING, ""), |new| {
            new.max_session_duration = 7200
        })
        .await;
    let large = format!(
        r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Action":"a:{}","Resource":"*"}}}}"#,
        "x".repeat(2048)
    );
    let cases: &[(Given<'_>, u16, &str, &str)] = &[
        (
            &[
                ("Tags.member.1.Key", "A"),
                ("Tags.member.1.Value", "1"),
                ("Tags.member.2.Key", "a"),
                ("Tags.member.2.Value", "2"),
            ],
            400,
            "InvalidParameterValue",
            "Duplicate tag keys found. Please note that Tag keys are case insensitive.",
        ),
        (
            &[("TransitiveTagKeys.member.1", "team")],
            400,
            "InvalidParameterValue",
            "The specified transitive tag key must be included in the requested tags.",
        ),
        (
            &[("Tags.member.1.Key", "aws:x"), ("Tags.member.1.Value", "1")],
            400,
            "InvalidParameterValue",
            "Tag keys must not begin with aws:",
        ),
        (
            &[
                ("SerialNumber", "arn:aws:iam::111122223333:mfa/ana"),
                ("TokenCode", "123456"),
            ],
            403,
            "AccessDenied",
            "MultiFactorAuthentication failed, unable to validate MFA code.  Please verify your MFA serial number is valid and associated with this user.",
        ),
        (
            &[("TokenCode", "123456")],
            403,
            "AccessDenied",
            "MultiFactorAuthentication failed, must provide both MFA serial number and one time pass code.",
        ),
        (
            &[("DurationSeconds", "7201")],
            400,
            "ValidationError",
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
        ),
        (
            &[("Policy", "{")],
            400,
            "MalformedPolicyDocument",
            "Syntax errors in policy.",
        ),
        (
            &[(
                "PolicyArns.member.1.arn",
                "arn:aws:iam::aws:policy/NoSuchPolicy",
            )],
            400,
            "MalformedPolicyDocument",
            "Policy arn:aws:iam::aws:policy/NoSuchPolicy",
        ),
        (
            &[(
                "PolicyArns.member.1.arn",
                "arn:aws:iam::111122223333:policy/Own",
            )],
            400,
            "MalformedPolicyDocument",
            "Policy arn:aws:iam::111122223333:policy/Own",
        ),
        (
            &[("Policy", &large)],
            400,
            "PackedPolicyTooLarge",
            "Packed policy consumes ",
        ),
    ];
    for (more, status, code, text) in cases {
        let answered = world.assume(&world.ana, &role, more, now()).await;
        let (got_status, got_code, message) = error(&answered);
        assert_eq!(
            (got_status, got_code),
            (*status, *code),
            "{more:?}: {message}"
        );
        assert!(message.starts_with(text), "{more:?}: {message}");
    }
    let good: &[(&str, &str)] = &[
        ("Policy", ALL),
        (
            "PolicyArns.member.1.arn",
            "arn:aws:iam::aws:policy/AdministratorAccess",
        ),
        ("Tags.member.1.Key", "SessionTag1"),
        ("Tags.member.1.Value", "v"),
        ("TransitiveTagKeys.member.1", "sessiontag1"),
        ("SourceIdentity", "ana"),
        ("DurationSeconds", "900"),
    ];
    let (status, answer) = world.assume(&world.ana, &role, good, now()).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(result(&answer)["SourceIdentity"], "ana");
    assert!((1..=100).contains(&result(&answer)["PackedPolicySize"].as_i64().unwrap()));
}

#[tokio::test]
async fn trust_and_identity_policies_decide_and_every_refusal_looks_alike() {
    let world = World::new().await;
    let bob = "arn:aws:iam::111122223333:user/bob";
    let yes = |key: &str, value: &str| format!(r#"{{"StringEquals":{{"{key}":"{value}"}}}}"#);
    let roles = [
        ("Account", trusts(ACCOUNT, ASSUME, "")),
        ("Bob", trusts(bob, ASSUME, "")),
        (
            "Nobody",
            trusts("arn:aws:iam::444455556666:root", ASSUME, ""),
        ),
        (
            "External",
            trusts(bob, ASSUME, &yes("sts:ExternalId", "4711")),
        ),
        (
            "Session",
            trusts(bob, ASSUME, &yes("sts:RoleSessionName", "${aws:username}")),
        ),
        (
            "Team",
            trusts(bob, ASSUME, &yes("aws:PrincipalTag/team", "blue")),
        ),
        (
            "Org",
            trusts(bob, ASSUME, &yes("aws:PrincipalOrgID", "o-exampleorg1")),
        ),
        (
            "Address",
            trusts(
                bob,
                ASSUME,
                r#"{"IpAddress":{"aws:SourceIp":"192.0.2.0/24"},"Bool":{"aws:SecureTransport":"true"}}"#,
            ),
        ),
        (
            "Mfa",
            trusts(
                bob,
                ASSUME,
                r#"{"Bool":{"aws:MultiFactorAuthPresent":"true"}}"#,
            ),
        ),
        (
            "Later",
            trusts(
                bob,
                ASSUME,
                r#"{"DateGreaterThan":{"aws:CurrentTime":"2026-03-14T09:30:00Z"}}"#,
            ),
        ),
        (
            "Tagged",
            trusts(bob, EVERYTHING, &yes("aws:RequestTag/team", "red")),
        ),
    ];
    for (name, trust) in &roles {
        world.role(name, trust).await;
    }
    let tagged: &[(&str, &str)] = &[
        ("Tags.member.1.Key", "team"),
        ("Tags.member.1.Value", "red"),
    ];
    let source: &[(&str, &str)] = &[("SourceIdentity", "bob")];
    let cases: &[(&Keys, &str, Given<'_>, Option<&str>)] = &[
        (&world.ana, "Account", &[], None),
        (&world.bob, "Account", &[], Some("sts:AssumeRole")),
        (&world.bob, "Bob", &[], None),
        (&world.ana, "Bob", &[], Some("sts:AssumeRole")),
        (&world.ana, "Nobody", &[], Some("sts:AssumeRole")),
        (&world.ana, "Unknown", &[], Some("sts:AssumeRole")),
        (&world.ana, "path/Account", &[], Some("sts:AssumeRole")),
        (&world.ana, "account", &[], Some("sts:AssumeRole")),
        (&world.bob, "External", &[], Some("sts:AssumeRole")),
        (
            &world.bob,
            "External",
            &[("ExternalId", "4712")],
            Some("sts:AssumeRole"),
        ),
        (&world.bob, "External", &[("ExternalId", "4711")], None),
        (&world.bob, "Session", &[], Some("sts:AssumeRole")),
        (&world.bob, "Session", &[("RoleSessionName", "bob")], None),
        (&world.bob, "Team", &[], None),
        (&world.bob, "Org", &[], None),
        (&world.bob, "Address", &[], None),
        (&world.bob, "Mfa", &[], Some("sts:AssumeRole")),
        (&world.bob, "Later", &[], Some("sts:AssumeRole")),
        (&world.bob, "Tagged", tagged, None),
        (&world.bob, "Tagged", &[], Some("sts:AssumeRole")),
        (&world.bob, "Bob", tagged, Some("sts:TagSession")),
        (&world.bob, "Bob", source, Some("sts:SetSourceIdentity")),
        (&world.ana, "Account", source, Some("sts:SetSourceIdentity")),
    ];
    for (keys, name, more, refused) in cases {
        let role = format!("arn:aws:iam::111122223333:role/{name}");
        let answered = world.assume(keys, &role, more, now()).await;
        let user = if keys.id == world.ana.id {
            "ana"
        } else {
            "bob"
        };
        match refused {
            None => assert_eq!(answered.0, 200, "{user} {name} {more:?}: {}", answered.1),
            Some(action) => {
                let message =
                    not_authorized(&format!("iam::111122223333:user/{user}"), action, &role);
                assert_eq!(
                    error(&answered),
                    (403, "AccessDenied", &*message),
                    "{user} {name} {more:?}"
                );
            }
        }
    }
    let later = world
        .assume(
            &world.bob,
            "arn:aws:iam::111122223333:role/Later",
            &[],
            after(600),
        )
        .await;
    assert_eq!(later.0, 200, "{}", later.1);
}

#[tokio::test]
async fn a_changed_trust_policy_counts_at_once() {
    let world = World::new().await;
    let role = world.role("Dev", &trusts(ACCOUNT, ASSUME, "")).await;
    assert_eq!(world.assume(&world.ana, &role, &[], now()).await.0, 200);
    let nobody = trusts("arn:aws:iam::444455556666:root", ASSUME, "");
    let trust = TrustPolicy {
        document: nobody.into(),
        principals: Vec::new(),
    };
    world
        .directory
        .set_trust_policy(world.account, "Dev", trust)
        .await
        .unwrap();
    assert_eq!(world.assume(&world.ana, &role, &[], now()).await.0, 403);
}

#[tokio::test]
async fn a_trusted_name_is_the_entity_that_had_it_when_the_policy_was_written() {
    let world = World::new().await;
    let bob = world
        .directory
        .snapshot()
        .user(world.account, "bob")
        .unwrap()
        .record
        .id
        .clone();
    let trust = trusts("arn:aws:iam::111122223333:user/bob", ASSUME, "");
    let bound = |id: &str| {
        vec![TrustedPrincipal {
            statement: 0,
            entry: 0,
            id: id.into(),
        }]
    };
    let old = world
        .role_with("Old", &trust, |new| {
            new.trust.principals = bound("AIDARTX3GSDSXFDOCIS2A")
        })
        .await;
    let new = world
        .role_with("New", &trust, |new| new.trust.principals = bound(&bob))
        .await;
    assert_eq!(world.assume(&world.bob, &old, &[], now()).await.0, 403);
    assert_eq!(world.assume(&world.bob, &new, &[], now()).await.0, 200);
}

#[tokio::test]
async fn across_accounts_both_sides_must_allow() {
    let world = World::new().await;
    let trust = TrustPolicy {
        document: trusts(ACCOUNT, ASSUME, "").into(),
        principals: Vec::new(),
    };
    let new = NewRole {
        account: "444455556666".parse().unwrap(),
        name: "Far".into(),
        path: "/".into(),
        trust,
        max_session_duration: 3600,
        description: None,
        tags: Vec::new(),
    };
    let role = world.directory.create_role(new, now()).await.unwrap().arn();
    let (status, answer) = world.assume(&world.ana, &role, &[], now()).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(
        result(&answer)["AssumedRoleUser"]["Arn"],
        "arn:aws:sts::444455556666:assumed-role/Far/s1"
    );
    let refused = world.assume(&world.bob, &role, &[], now()).await;
    let message = not_authorized("iam::111122223333:user/bob", "sts:AssumeRole", &role);
    assert_eq!(error(&refused), (403, "AccessDenied", &*message));
}

#[tokio::test]
async fn a_chain_keeps_transitive_tags_and_source_identity_and_lasts_an_hour() {
    let world = World::new().await;
    let (a, b) = (
        world
            .role_with("A", &trusts(ACCOUNT, EVERYTHING, ""), |new| {
                new.tags = vec![tag("Heart", "1")]
            })
            .await,
        world
            .role_with(
                "B",
                &trusts(
                    ACCOUNT,
                    EVERYTHING,
                    r#"{"StringEquals":{"aws:PrincipalTag/Star":"1"}}"#,
                ),
                |new| {
                    new.tags = vec![tag("Sun", "2")];
                },
            )
            .await,
    );
    let condition = r#"{"StringEquals":{"aws:PrincipalTag/Star":"1","aws:PrincipalTag/Heart":"1","aws:PrincipalTag/Sun":"2","sts:SourceIdentity":"ana","aws:SourceIdentity":"ana"},"Null":{"aws:RequestTag/Star":"true"}}"#;
    let c = world
        .role("C", &trusts(ACCOUNT, EVERYTHING, condition))
        .await;
    for name in ["A", "B", "C"] {
        world.allow_role(name, ALL).await;
    }
    let transitive: &[(&str, &str)] = &[
        ("Tags.member.1.Key", "Star"),
        ("Tags.member.1.Value", "1"),
        ("Tags.member.2.Key", "Heart"),
        ("Tags.member.2.Value", "1"),
        ("TransitiveTagKeys.member.1", "Star"),
        ("TransitiveTagKeys.member.2", "Heart"),
        ("SourceIdentity", "ana"),
        ("DurationSeconds", "43200"),
    ];
    let first = world.session(&world.ana, &a, transitive, now()).await;
    let again = world
        .assume(
            &first,
            &b,
            &[("Tags.member.1.Key", "sTAR"), ("Tags.member.1.Value", "2")],
            now(),
        )
        .await;
    assert_eq!(
        error(&again),
        (
            400,
            "InvalidParameterValue",
            "One of the specified transitive tag keys can't be set because it conflicts with a transitive tag key from the calling session."
        )
    );
    let other = world
        .assume(&first, &b, &[("SourceIdentity", "bob")], now())
        .await;
    assert_eq!(error(&other).1, "AccessDenied");
    let long = world
        .assume(&first, &b, &[("DurationSeconds", "3601")], now())
        .await;
    assert_eq!(
        error(&long),
        (
            400,
            "ValidationError",
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining."
        )
    );
    let second = world
        .session(&first, &b, &[("SourceIdentity", "ana")], now())
        .await;
    let (status, answer) = world.assume(&second, &c, &[], now()).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(result(&answer)["SourceIdentity"], "ana");
    let plain = world.role("Plain", &trusts(ACCOUNT, ASSUME, "")).await;
    let refused = world.assume(&second, &plain, &[], now()).await;
    let message = not_authorized(
        "sts::111122223333:assumed-role/B/s1",
        "sts:TagSession",
        &plain,
    );
    assert_eq!(
        error(&refused),
        (403, "AccessDenied", &*message),
        "inherited tags need sts:TagSession"
    );
}

#[tokio::test]
async fn session_policies_limit_what_the_session_may_assume() {
    let world = World::new().await;
    let a = world.role("A", &trusts(ACCOUNT, ASSUME, "")).await;
    let b = world.role("B", &trusts(ACCOUNT, ASSUME, "")).await;
    let own = world
        .role(
            "Own",
            &trusts("arn:aws:sts::111122223333:assumed-role/A/s1", ASSUME, ""),
        )
        .await;
    world.allow_role("A", ALL).await;
    let only_eks = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"eks:*","Resource":"*"}}"#;
    let free = world.session(&world.ana, &a, &[], now()).await;
    let limited = world
        .session(&world.ana, &a, &[("Policy", only_eks)], now())
        .await;
    let by_arn = [(
        "PolicyArns.member.1.arn",
        "arn:aws:iam::aws:policy/AdministratorAccess",
    )];
    let admin = world.session(&world.ana, &a, &by_arn, now()).await;
    assert_eq!(world.assume(&free, &b, &[], now()).await.0, 200);
    assert_eq!(world.assume(&limited, &b, &[], now()).await.0, 403);
    assert_eq!(world.assume(&admin, &b, &[], now()).await.0, 200);
    let direct = world.assume(&limited, &own, &[], now()).await;
    assert_eq!(
        direct.0, 200,
        "a grant to the session itself is not limited: {}",
        direct.1
    );
}

#[tokio::test]
async fn a_chain_has_at_most_ten_sessions() {
    let world = World::new().await;
    let role = world.role("Loop", &trusts(ACCOUNT, ASSUME, "")).await;
    world.allow_role("Loop", ALL).await;
    let mut keys = world.ana.clone();
    for _ in 0..10 {
        keys = world.session(&keys, &role, &[], now()).await;
    }
    let answered = world.assume(&keys, &role, &[], now()).await;
    assert_eq!(
        error(&answered),
        (
            403,
            "AccessDenied",
            "A chain of roles has at most 10 sessions."
        )
    );
}

#[tokio::test]
async fn a_session_ends_with_its_time_its_role_and_its_key() {
    let world = World::new().await;
    let trust = trusts(ACCOUNT, ASSUME, "");
    let role = world.role("Dev", &trust).await;
    let keys = world.session(&world.ana, &role, &[], now()).await;
    assert_eq!(world.whoami(&keys, after(3599)).await.0, 200);
    let over = world.whoami(&keys, after(3600)).await;
    assert_eq!(
        error(&over),
        (
            403,
            "ExpiredToken",
            "The security token included in the request is expired"
        )
    );
    world
        .directory
        .delete_role(world.account, "Dev")
        .await
        .unwrap();
    assert_eq!(error(&world.whoami(&keys, now()).await), INVALID);
    world.role("Dev", &trust).await;
    assert_eq!(
        error(&world.whoami(&keys, now()).await),
        INVALID,
        "another role of the same name"
    );
    let keys = world.session(&world.ana, &role, &[], now()).await;
    assert_eq!(world.whoami(&keys, now()).await.0, 200);
    world.directory.retire_session_keys(now()).await.unwrap();
    assert_eq!(error(&world.whoami(&keys, now()).await), INVALID);
    let keys = world.session(&world.ana, &role, &[], now()).await;
    assert_eq!(world.whoami(&keys, now()).await.0, 200);
}

#[tokio::test]
async fn a_token_is_good_with_its_own_key_whole_and_unchanged() {
    let world = World::new().await;
    let role = world.role("Dev", &trusts(ACCOUNT, ASSUME, "")).await;
    let (one, two) = (
        world.session(&world.ana, &role, &[], now()).await,
        world.session(&world.ana, &role, &[], now()).await,
    );
    assert_ne!(one.token, two.token);
    let swapped = Keys {
        token: two.token.clone(),
        ..one.clone()
    };
    assert_eq!(error(&world.whoami(&swapped, now()).await), INVALID);
    let long_term = Keys {
        token: one.token.clone(),
        ..world.ana.clone()
    };
    assert_eq!(error(&world.whoami(&long_term, now()).await), INVALID);
    let full_stop = format!("{}.", INVALID.2);
    let bare = Keys {
        token: None,
        ..one.clone()
    };
    assert_eq!(
        error(&world.whoami(&bare, now()).await),
        (403, INVALID.1, &*full_stop)
    );
    let stolen = Keys {
        secret: "x".repeat(40),
        ..one.clone()
    };
    assert_eq!(
        error(&world.whoami(&stolen, now()).await).1,
        "SignatureDoesNotMatch"
    );
    let token = one.token.clone().unwrap();
    for at in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let changed = Keys {
            token: Some(String::from_utf8(bytes).unwrap()),
            ..one.clone()
        };
        let answered = world.whoami(&changed, now()).await;
        // The last character carries bits that are no part of the content; a decoder that took them would accept it.
        assert_eq!(error(&answered), INVALID, "character {at}");
    }
    assert_eq!(world.whoami(&one, now()).await.0, 200);
}

#[tokio::test]
async fn a_role_sessions_kubernetes_token_is_mapped_by_its_role() {
    let world = World::new().await;
    let role = world
        .role_with("Dev", &trusts(ACCOUNT, EVERYTHING, ""), |new| {
            new.path = "/team/".into()
        })
        .await;
    let keys = world
        .session(
            &world.ana,
            &role,
            &[("RoleSessionName", "alice"), ("SourceIdentity", "ana")],
            now(),
        )
        .await;
    let options = MappingOptions::default();
    let text = "server:\n  mapRoles:\n  - rolearn: arn:aws:iam::111122223333:role/Dev\n    username: dev:{{SessionName}}\n    groups: [developers]\n";
    let entries = mounted_file::parse(text, &options).unwrap().entries;
    let mappings = Mappings::new(&[BackendKind::MountedFile], MappingsOptions::default());
    mappings.set_table(
        MappingTable::new(BackendKind::MountedFile, entries, &options),
        "1",
        now(),
    );
    let cluster = ClusterAuthenticator::new(ClusterOptions {
        name: "demo".into(),
        cluster_id: "demo".into(),
        rules: Rules::new(Options {
            trusted_endpoints: vec![ENDPOINT.into()],
            ..Options::default()
        })
        .unwrap(),
        verifiers: vec![Verifier::Embedded(Arc::clone(&world.keys))],
        mappings,
        nodes: None,
        deny_mode: DenyMode::Review,
        upstream_failure_status: 500,
    });
    let presigned = |keys: &Keys, when| {
        let secret = SecretKey::new(&keys.secret);
        let headers: [(&str, &[u8]); 2] = [("host", HOST.as_bytes()), ("x-k8s-aws-id", b"demo")];
        let mut request = Request::new("GET", b"/?Action=GetCallerIdentity&Version=2011-06-15");
        request.headers = &headers;
        let credentials = Credentials {
            key_id: &keys.id,
            secret: &secret,
            session_token: keys.token.as_deref(),
        };
        let signed = Signer::new(credentials, "us-east-1", "sts")
            .presign(&request, 60, when)
            .unwrap();
        mint(&format!("{ENDPOINT}?{signed}")).to_string()
    };
    let token = presigned(&keys, now());
    assert!(
        token.len() < 4096,
        "authenticators in the field take no longer ones"
    );
    let accepted = cluster.review(&token, now()).await.outcome.unwrap();
    assert_eq!(accepted.username(), "dev:alice");
    assert_eq!(accepted.groups(), ["developers"]);
    let extra = |key: &str| {
        let extra = accepted
            .identity()
            .extra
            .iter()
            .find(|extra| extra.key == key);
        extra
            .map(|extra| extra.values.join(","))
            .unwrap_or_default()
    };
    assert_eq!(extra("sessionName"), "alice");
    assert_eq!(extra("countersign.io/source-identity"), "ana");
    assert_eq!(extra("accessKeyId"), keys.id);
    let reason = async |token: &str, when| match cluster.review(token, when).await.outcome {
        Ok(accepted) => format!("user {}", accepted.username()),
        Err(denial) => denial.reason.into_owned(),
    };
    assert_eq!(
        reason(&presigned(&keys, after(3599)), after(3599)).await,
        "user dev:alice"
    );
    assert_eq!(
        reason(&presigned(&keys, after(3600)), after(3600)).await,
        "sts_rejected:ExpiredToken"
    );
    let forged = Keys {
        token: Some(format!("{}A", keys.token.clone().unwrap())),
        ..keys.clone()
    };
    assert_eq!(
        reason(&presigned(&forged, now()), now()).await,
        "sts_rejected:InvalidClientTokenId"
    );
    world
        .directory
        .delete_role(world.account, "Dev")
        .await
        .unwrap();
    assert_eq!(
        reason(&token, now()).await,
        "sts_rejected:InvalidClientTokenId"
    );
}
