//! Records as files: one for each kind of caller and for each kind of thing that is hidden.
//!
//! `COUNTERSIGN_BLESS=1` writes the files anew; the difference is what a reviewer looks at.

use countersign_server::audit::{MAX_RECORD, Outcome, TlsFacts};
use countersign_server::aws::query::Member;
use countersign_session::{Binding, Federation, SessionKind, SessionPrincipal};

use super::call::{Finished, Who, cart, credentials, holder, session, structure, text, time};

const ASSUME: &str = "Action=AssumeRole&Version=2011-06-15&RoleArn=arn:aws:iam::444455556666:role/reader&RoleSessionName=cart";

fn assume() -> Finished {
    let mut call = Finished::new("sts", "AssumeRole", ASSUME).answered(credentials(vec![(
        "AssumedRoleUser",
        structure(vec![
            ("AssumedRoleId", text("AROARZPUZDIKKJDEGXDNA:cart")),
            (
                "Arn",
                text("arn:aws:sts::444455556666:assumed-role/reader/cart"),
            ),
        ]),
    )]));
    call.resources = vec!["arn:aws:iam::444455556666:role/reader"];
    call.matched = vec!["role/cart:inline/app#0"];
    call.host = "sts.eu-west-1.amazonaws.com";
    call.tls = Some(TlsFacts {
        version: "TLSv1.3",
        cipher: "TLS_AES_128_GCM_SHA256",
    });
    call.user_agent = "aws-sdk-go-v2/1.40".into();
    call
}

fn get_user() -> Finished {
    Finished::new("iam", "GetUser", "Action=GetUser&UserName=bob").answered(structure(vec![(
        "User",
        structure(vec![("UserName", text("bob"))]),
    )]))
}

fn callers() -> Vec<(&'static str, Finished)> {
    let role =
        |kind, change: fn(&mut countersign_session::SessionRecord)| session(kind, cart(), change);
    let ana = || SessionPrincipal::User {
        id: "AIDARTX3GSDSURLGMXGED".into(),
        path: "/team/".into(),
        name: "ana".into(),
    };
    let federated = |creator: Option<&str>| SessionPrincipal::FederatedUser {
        creator_id: creator.map(Into::into),
        name: "guest".into(),
    };
    let mut by_user = session(
        SessionKind::Federation,
        federated(Some("AIDARTX3GSDSURLGMXGED")),
        |_| {},
    );
    if let Who::Caller { issuer, .. } = &mut by_user {
        *issuer = Some("arn:aws:iam::111122223333:user/team/ana");
    }
    vec![
        ("caller-user", get_user()),
        (
            "caller-root",
            get_user().by(holder(
                "arn:aws:iam::111122223333:root",
                "111122223333",
                "AKIARTX3GSDSXFDOCIS2",
            )),
        ),
        (
            "caller-root-session",
            get_user().by(session(SessionKind::RootTask, SessionPrincipal::Root, |_| {})),
        ),
        (
            "caller-session-token-with-mfa",
            get_user().by(session(SessionKind::SessionToken, ana(), |session| {
                session.mfa_at = Some(time("2026-03-04T10:00:00Z"));
            })),
        ),
        (
            "caller-role-session",
            assume().by(role(SessionKind::AssumedRole, |session| session.depth = 1)),
        ),
        (
            "caller-role-session-with-source-identity",
            get_user().by(role(SessionKind::AssumedRole, |session| {
                session.depth = 2;
                session.source_identity = Some("alice.w".into());
            })),
        ),
        (
            "caller-web-identity-session",
            get_user().by(role(SessionKind::WebIdentity, |session| {
                session.federation = Some(Federation::Oidc {
                    provider: "arn:aws:iam::111122223333:oidc-provider/oidc.cs.example/id/AB12"
                        .into(),
                    issuer: "https://oidc.cs.example/id/AB12".into(),
                    audience: "sts.amazonaws.com".into(),
                    subject: "system:serviceaccount:shop:cart".into(),
                    amr: Vec::new(),
                });
            })),
        ),
        (
            "caller-pod-identity-session",
            get_user().by(role(SessionKind::PodIdentity, |session| {
                session.binding = Binding {
                    cluster: Some("arn:aws:eks:eu-west-1:111122223333:cluster/shop".into()),
                    namespace: Some("shop".into()),
                    service_account: Some("cart".into()),
                    pod_uid: Some("0d6f1b1e-7d43-4a3e-8c3f-2b8f2f5f3a10".into()),
                    node: Some("node-1".into()),
                    association_id: Some("a-abcdefghijklmnop1".into()),
                };
            })),
        ),
        ("caller-federated-user", get_user().by(by_user)),
        (
            "caller-federated-user-of-root",
            get_user().by(session(SessionKind::Federation, federated(None), |_| {})),
        ),
        (
            "caller-web-identity",
            Finished::new(
                "sts",
                "AssumeRoleWithWebIdentity",
                "RoleArn=arn:aws:iam::444455556666:role/reader&RoleSessionName=cart&WebIdentityToken=eyJhbGciOiJSUzI1NiJ9.SECRET.SECRET",
            )
            .by(Who::WebIdentity)
            .answered(credentials(vec![
                (
                    "SubjectFromWebIdentityToken",
                    text("system:serviceaccount:shop:cart"),
                ),
                ("Audience", text("sts.amazonaws.com")),
            ])),
        ),
        (
            "caller-saml",
            Finished::new(
                "sts",
                "AssumeRoleWithSAML",
                "RoleArn=arn:aws:iam::444455556666:role/reader&PrincipalArn=arn:aws:iam::444455556666:saml-provider/corp&SAMLAssertion=U0VDUkVU",
            )
            .by(Who::Saml)
            .answered(credentials(vec![
                ("Issuer", text("https://idp.corp.example/metadata")),
                ("Subject", text("alice@corp.example")),
                ("SubjectType", text("persistent")),
            ])),
        ),
        ("caller-service", assume().by(Who::Service)),
        (
            "caller-unknown",
            get_user()
                .by(Who::Unknown(Some("AKIARTX3GSDSXFDOCIS2")))
                .failed(
                    "SignatureDoesNotMatch",
                    "The request signature we calculated does not match the signature you provided.\n\nThe Canonical String for this request should have been\n'POST\n/\n\nx-amz-security-token:SECRET'\n",
                ),
        ),
        (
            "caller-claims-nonsense",
            get_user()
                .by(Who::Unknown(Some("hunter2 SECRET")))
                .failed("InvalidClientTokenId", "The security token included in the request is invalid."),
        ),
    ]
}

fn hidden() -> Vec<(&'static str, Finished)> {
    let long = "x".repeat(4097);
    let mut calls = vec![
        (
            "hidden-password",
            Finished::new(
                "iam",
                "CreateLoginProfile",
                "UserName=bob&Password=SECRET&PasswordResetRequired=true",
            )
            .answered(structure(vec![(
                "LoginProfile",
                structure(vec![
                    ("UserName", text("bob")),
                    ("CreateDate", Member::Time(time("2026-03-04T10:11:12Z"))),
                    ("PasswordResetRequired", Member::Bool(true)),
                ]),
            )])),
        ),
        (
            "hidden-changed-password",
            Finished::new("iam", "ChangePassword", "OldPassword=SECRET&NewPassword=SECRET2"),
        ),
        (
            "hidden-mfa-codes",
            Finished::new(
                "iam",
                "EnableMFADevice",
                "UserName=bob&SerialNumber=arn:aws:iam::111122223333:mfa/bob&AuthenticationCode1=123456&AuthenticationCode2=654321",
            ),
        ),
        (
            "hidden-mfa-seed",
            Finished::new("iam", "CreateVirtualMFADevice", "VirtualMFADeviceName=bob").answered(
                structure(vec![(
                    "VirtualMFADevice",
                    structure(vec![
                        ("SerialNumber", text("arn:aws:iam::111122223333:mfa/bob")),
                        ("Base32StringSeed", text("SECRET")),
                        ("QRCodePNG", text("SECRET")),
                    ]),
                )]),
            ),
        ),
        (
            "hidden-secret-access-key",
            Finished::new("iam", "CreateAccessKey", "UserName=bob").answered(structure(vec![(
                "AccessKey",
                structure(vec![
                    ("UserName", text("bob")),
                    ("AccessKeyId", text("AKIARTX3GSDSBBBBCCCC")),
                    ("Status", text("Active")),
                    ("SecretAccessKey", text("SECRET")),
                    ("CreateDate", Member::Time(time("2026-03-04T22:01:02Z"))),
                ]),
            )])),
        ),
        (
            "hidden-private-key",
            Finished::new(
                "iam",
                "CreateSAMLProvider",
                "Name=corp&SAMLMetadataDocument=<EntityDescriptor/>&AddPrivateKey=SECRET",
            ),
        ),
        (
            "hidden-external-id-and-token-code",
            Finished::new(
                "sts",
                "AssumeRole",
                &format!(
                    "{ASSUME}&ExternalId=SECRET&SerialNumber=arn:aws:iam::111122223333:mfa/ana&TokenCode=123456&DurationSeconds=900"
                ),
            )
            .answered(credentials(Vec::new())),
        ),
        (
            "hidden-long-document",
            Finished::new(
                "iam",
                "CreateRole",
                &format!(
                    "RoleName=reader&AssumeRolePolicyDocument={long}&Tags.member.2.Key=b&Tags.member.2.Value=2&Tags.member.1.Key=a&Tags.member.1.Value=1&MaxSessionDuration=7200"
                ),
            )
            .answered(structure(vec![(
                "Role",
                structure(vec![
                    ("RoleName", text("reader")),
                    ("AssumeRolePolicyDocument", text(&long)),
                    (
                        "Tags",
                        Member::List(vec![structure(vec![
                            ("Key", text("a")),
                            ("Value", text("1")),
                        ])]),
                    ),
                ]),
            )])),
        ),
        (
            "hidden-too-much",
            Finished::new(
                "iam",
                "SimulateCustomPolicy",
                &(1..=20)
                    .map(|n| format!("PolicyInputList.member.{n}={}&", "y".repeat(4000)))
                    .collect::<String>(),
            ),
        ),
        (
            "hidden-unknown-parameters",
            Finished::new("iam", "GetUser", "UserName=bob&Pasword=SECRET&{\"password\":\"SECRET\"}&X-Amz-Security-Token=SECRET&Tags.member.x.Key=SECRET"),
        ),
        (
            "hidden-unknown-operation",
            Finished::new("iam", "CreateSecret", "UserName=SECRET&Password=SECRET")
                .failed("InvalidAction", "Could not find operation CreateSecret for version 2010-05-08"),
        ),
        (
            "hidden-operation-that-is-none",
            Finished::new("iam", "hunter2: my SECRET", "UserName=SECRET")
                .by(Who::Unknown(None))
                .failed("InvalidAction", "Could not find the operation"),
        ),
    ];
    let mut denied = Finished::new("sts", "AssumeRole", ASSUME).failed(
        "AccessDenied",
        "User: arn:aws:iam::111122223333:user/team/ana is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::444455556666:role/reader",
    );
    denied.outcome = Some(Outcome::ImplicitDeny);
    denied.matched = Vec::new();
    denied.reason = Some("there is no such role");
    denied.resources = vec!["arn:aws:iam::444455556666:role/reader"];
    calls.push(("denied", denied));
    let mut by_machine = Finished::new(
        "sts",
        "AssumeRole",
        "RoleArn=arn:aws:iam::111122223333:role/Ops&RoleSessionName=botocore-session-1772618400",
    )
    .answered(credentials(Vec::new()));
    by_machine.resources = vec!["arn:aws:iam::111122223333:role/Ops"];
    calls.push(("machine-made-session-name", by_machine));
    calls.push((
        "empty-list",
        Finished::new(
            "sts",
            "AssumeRole",
            &format!("{ASSUME}&Tags=&TransitiveTagKeys.member.1=a"),
        ),
    ));
    calls
}

#[test]
fn records_are_what_the_files_say() {
    let bless = std::env::var_os("COUNTERSIGN_BLESS").is_some();
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/audit");
    for (name, call) in callers().into_iter().chain(hidden()) {
        let line = call.line();
        assert!(!line.contains('\n'), "{name}");
        assert!(!line.contains("SECRET"), "{name}: {line}");
        assert!(line.len() <= MAX_RECORD, "{name}");
        let path = format!("{directory}/{name}.json");
        if bless {
            std::fs::write(&path, format!("{line}\n")).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(line, golden.trim_end(), "{name}");
    }
}

/// The record that the specification shows, field by field and in its order.
#[test]
fn the_record_has_the_form_of_cloudtrail() {
    let call = assume().by(session(SessionKind::AssumedRole, cart(), |s| s.depth = 1));
    let expected = concat!(
        r#"{"eventVersion":"1.11","userIdentity":{"type":"AssumedRole","principalId":"AROARTX3GSDSURLGMXGED:eks-shop-cart-7d9","arn":"arn:aws:sts::111122223333:assumed-role/cart/eks-shop-cart-7d9","accountId":"111122223333","accessKeyId":"ASIARTX3GSDS7RSUJJ3G","#,
        r#""sessionContext":{"sessionIssuer":{"type":"Role","principalId":"AROARTX3GSDSURLGMXGED","arn":"arn:aws:iam::111122223333:role/shop/cart","accountId":"111122223333","userName":"cart"},"attributes":{"creationDate":"2026-03-04T10:00:00Z","mfaAuthenticated":"false"}}},"#,
        r#""eventTime":"2026-03-04T10:11:12Z","eventSource":"sts.amazonaws.com","eventName":"AssumeRole","awsRegion":"eu-west-1","sourceIPAddress":"10.0.3.7","userAgent":"aws-sdk-go-v2/1.40","requestParameters":{"roleArn":"arn:aws:iam::444455556666:role/reader","roleSessionName":"cart"},"#,
        r#""responseElements":{"credentials":{"accessKeyId":"ASIARTX3GSDSAAAABBBB","expiration":"Mar 4, 2026, 11:11:12 AM"},"assumedRoleUser":{"assumedRoleId":"AROARZPUZDIKKJDEGXDNA:cart","arn":"arn:aws:sts::444455556666:assumed-role/reader/cart"}},"#,
        r#""additionalEventData":{"countersign":{"decision":"allowed","matched":["role/cart:inline/app#0"],"podIdentity":null}},"requestID":"0b7d1c52-7f7e-4c46-9f39-6d2f8c0e51aa","eventID":"5f1d6c7e-1e0b-4a8f-9d53-0a2f3f7c9b11","readOnly":true,"#,
        r#""resources":[{"accountId":"444455556666","type":"AWS::IAM::Role","ARN":"arn:aws:iam::444455556666:role/reader"}],"eventType":"AwsApiCall","managementEvent":true,"recipientAccountId":"111122223333","eventCategory":"Management","#,
        r#""tlsDetails":{"tlsVersion":"TLSv1.3","cipherSuite":"TLS_AES_128_GCM_SHA256","clientProvidedHostHeader":"sts.eu-west-1.amazonaws.com"}}"#,
    );
    assert_eq!(call.line(), expected);
}

#[test]
fn texts_of_strangers_are_bounded_and_escaped() {
    let mut call = get_user().failed("ValidationError", "é".repeat(3000));
    call.user_agent = "\"\u{7}é".repeat(3000);
    let json = call.json();
    let length = |name: &str| json[name].as_str().unwrap().len();
    assert!((1000..=1024).contains(&length("errorMessage")));
    assert!((1000..=1024).contains(&length("userAgent")));
}

#[test]
fn no_record_is_longer_than_the_longest() {
    let tags: String = (1..=500)
        .map(|n| format!("Tags.member.{n}.Value={}&", "\u{1}".repeat(4000)))
        .collect();
    let mut call = Finished::new("iam", "TagUser", &format!("UserName=bob&{tags}"))
        .failed("ValidationError", "\u{1}".repeat(5000))
        .by(Who::WebIdentity);
    call.user_agent = "\u{1}".repeat(5000);
    let matched = "s".repeat(5000).leak();
    call.matched = vec![&*matched; 100];
    let arn = format!("arn:aws:iam::111122223333:role/{}", "r".repeat(2000)).leak();
    call.resources = vec![&*arn; 100];
    assert!(call.line().len() <= MAX_RECORD);
}
