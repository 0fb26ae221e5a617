//! The reports of IAM: the credential report and the access advisor.

use countersign_store::records::InlinePolicy;

use super::api::{Recorded, element};
use super::world::{Keys, World, after, now};

#[tokio::test]
async fn the_credential_report_is_started_complete_and_expired() {
    let recorded = Recorded::new().await;
    let world = &recorded.world;
    let ana = &world.ana;
    let get = async |when| {
        recorded
            .iam(ana, &[("Action", "GetCredentialReport")], when)
            .await
    };
    let generate = async |when| {
        recorded
            .iam(ana, &[("Action", "GenerateCredentialReport")], when)
            .await
            .1
    };
    let (status, body) = get(now()).await;
    assert_eq!(
        (status, element(&body, "Code"), element(&body, "Message")),
        (410, Some("ReportNotPresent"), None)
    );
    let started = generate(now()).await;
    assert_eq!(element(&started, "State"), Some("STARTED"));
    assert_eq!(
        element(&started, "Description"),
        Some("No report exists. Starting a new report generation task")
    );
    let complete = generate(after(3 * 3600)).await;
    assert_eq!(
        (
            element(&complete, "State"),
            element(&complete, "Description")
        ),
        (Some("COMPLETE"), None)
    );
    world.whoami(&world.bob, after(90)).await;
    let (status, body) = get(after(100)).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(element(&body, "ReportFormat"), Some("text/csv"));
    assert_eq!(
        element(&body, "GeneratedTime"),
        Some("2026-03-14T09:26:53Z")
    );
    let report = decode(element(&body, "Content").unwrap());
    let lines: Vec<&str> = report.lines().collect();
    assert_eq!(lines.len(), 4, "{report}");
    assert!(
        lines[0].starts_with("user,arn,user_creation_time,password_enabled,password_last_used,")
    );
    assert!(
        lines[0].ends_with(",cert_1_active,cert_1_last_rotated,cert_2_active,cert_2_last_rotated")
    );
    assert_eq!(
        lines[1],
        "<root_account>,arn:aws:iam::111122223333:root,2026-03-14T09:26:53+00:00,not_supported,no_information,not_supported,not_supported,false,false,N/A,N/A,N/A,N/A,false,N/A,N/A,N/A,N/A,false,N/A,false,N/A"
    );
    assert!(lines[2].starts_with("ana,arn:aws:iam::111122223333:user/ana,2026-03-14T09:26:53+00:00,false,N/A,N/A,N/A,false,true,"), "{}", lines[2]);
    assert_eq!(
        lines[3],
        "bob,arn:aws:iam::111122223333:user/bob,2026-03-14T09:26:53+00:00,false,N/A,N/A,N/A,false,true,2026-03-14T09:26:53+00:00,2026-03-14T09:28:23+00:00,us-east-1,sts,false,N/A,N/A,N/A,N/A,false,N/A,false,N/A"
    );
    let (status, body) = get(after(4 * 3600 + 1)).await;
    assert_eq!(
        (status, element(&body, "Code")),
        (410, Some("ReportExpired"))
    );
    assert_eq!(
        element(&generate(after(4 * 3600 + 2)).await, "State"),
        Some("STARTED")
    );
    let (status, body) = recorded
        .iam(&world.bob, &[("Action", "GetCredentialReport")], after(101))
        .await;
    assert_eq!(
        (status, element(&body, "Code")),
        (403, Some("AccessDenied"))
    );
}

/// Base64 with padding.
fn decode(text: &str) -> String {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bits = 0_u32;
    let mut count = 0;
    let mut bytes = Vec::new();
    for byte in text.bytes().filter(|byte| *byte != b'=') {
        let value = alphabet.iter().position(|known| *known == byte).unwrap();
        bits = bits << 6 | u32::try_from(value).unwrap();
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    String::from_utf8(bytes).unwrap()
}

async fn policy(world: &World, name: &str, document: &str) {
    let policy = InlinePolicy {
        name: name.into(),
        document: document.into(),
    };
    world
        .directory
        .put_user_policy(world.account, "bob", policy)
        .await
        .unwrap();
}

#[tokio::test]
async fn the_access_advisor_lists_what_is_allowed_and_what_was_used() {
    let recorded = Recorded::new().await;
    let world = &recorded.world;
    let ana = &world.ana;
    let document = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iam:Get*","s3:*","madeup:Do"],"Resource":"*"},{"Effect":"Deny","Action":"s3:*","Resource":"*"}]}"#;
    policy(world, "some", document).await;
    let arn = "arn:aws:iam::111122223333:user/bob";
    recorded
        .iam(
            &world.bob,
            &[("Action", "GetUser"), ("UserName", "bob")],
            after(30),
        )
        .await;
    let generate = async |keys: &Keys, granularity: &str| {
        let parameters = [
            ("Action", "GenerateServiceLastAccessedDetails"),
            ("Arn", arn),
            ("Granularity", granularity),
        ];
        let (status, body) = recorded.iam(keys, &parameters, after(60)).await;
        assert_eq!(status, 200, "{body}");
        element(&body, "JobId").unwrap().to_owned()
    };
    let get = async |keys: &Keys, job: &str, when| {
        let parameters = [("Action", "GetServiceLastAccessedDetails"), ("JobId", job)];
        recorded.iam(keys, &parameters, when).await
    };
    let job = generate(ana, "SERVICE_LEVEL").await;
    assert_eq!(job.len(), 36);
    let (status, body) = get(ana, &job, after(61)).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(element(&body, "JobStatus"), Some("COMPLETED"));
    assert_eq!(element(&body, "JobType"), Some("SERVICE_LEVEL"));
    assert_eq!(
        element(&body, "JobCreationDate"),
        Some("2026-03-14T09:27:53Z")
    );
    assert_eq!(element(&body, "IsTruncated"), Some("false"));
    let names: Vec<&str> = body
        .split("<ServiceNamespace>")
        .skip(1)
        .map(|rest| rest.split_once('<').unwrap().0)
        .collect();
    assert_eq!(names, ["iam", "madeup"], "s3 is denied altogether");
    assert_eq!(
        element(&body, "ServiceName"),
        Some("AWS Identity and Access Management")
    );
    assert_eq!(
        element(&body, "LastAuthenticated"),
        Some("2026-03-14T09:27:23Z")
    );
    assert_eq!(element(&body, "LastAuthenticatedEntity"), Some(arn));
    assert_eq!(element(&body, "LastAuthenticatedRegion"), Some("us-east-1"));
    assert_eq!(element(&body, "TotalAuthenticatedEntities"), Some("1"));
    assert!(!body.contains("TrackedActions"));

    let job = generate(ana, "ACTION_LEVEL").await;
    let (_, body) = get(ana, &job, after(62)).await;
    let actions: Vec<&str> = body
        .split("<ActionName>")
        .skip(1)
        .map(|rest| rest.split_once('<').unwrap().0)
        .collect();
    assert!(
        actions.contains(&"GetUser") && actions.contains(&"GetRole"),
        "{actions:?}"
    );
    assert!(
        !actions.iter().any(|action| !action.starts_with("Get")),
        "{actions:?}"
    );
    assert_eq!(body.matches("<LastAccessedTime>").count(), 1);
    let (_, used) = body.split_once("<ActionName>GetUser</ActionName>").unwrap();
    assert_eq!(element(used, "LastAccessedEntity"), Some(arn));
    assert_eq!(
        element(used, "LastAccessedTime"),
        Some("2026-03-14T09:27:23Z")
    );

    // Only who asked may look, and for a week.
    let all = InlinePolicy {
        name: "all".into(),
        document: super::world::ALL.into(),
    };
    world
        .directory
        .put_user_policy(world.account, "bob", all)
        .await
        .unwrap();
    for (keys, job, when) in [
        (&world.bob, job.as_str(), after(63)),
        (ana, "00000000-0000-4000-8000-000000000000", after(63)),
        (ana, job.as_str(), after(8 * 24 * 3600)),
    ] {
        let (status, body) = get(keys, job, when).await;
        assert_eq!(
            (status, element(&body, "Code")),
            (404, Some("NoSuchEntity"))
        );
    }
    let parameters = [
        ("Action", "GetServiceLastAccessedDetailsWithEntities"),
        ("JobId", job.as_str()),
        ("ServiceNamespace", "iam"),
    ];
    let (status, body) = recorded.iam(ana, &parameters, after(64)).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(element(&body, "Type"), Some("USER"));
    assert_eq!(element(&body, "Name"), Some("bob"));
    assert_eq!(
        element(&body, "LastAuthenticated"),
        Some("2026-03-14T09:27:56Z")
    );
}

#[tokio::test]
async fn lists_of_services_have_pages() {
    let recorded = Recorded::new().await;
    let ana = &recorded.world.ana;
    let arn = "arn:aws:iam::111122223333:user/ana";
    let (_, body) = recorded
        .iam(
            ana,
            &[
                ("Action", "GenerateServiceLastAccessedDetails"),
                ("Arn", arn),
            ],
            now(),
        )
        .await;
    let job = element(&body, "JobId").unwrap().to_owned();
    let mut names: Vec<String> = Vec::new();
    let mut marker: Option<String> = None;
    loop {
        let mut parameters = vec![
            ("Action", "GetServiceLastAccessedDetails"),
            ("JobId", job.as_str()),
            ("MaxItems", "50"),
        ];
        parameters.extend(marker.as_deref().map(|marker| ("Marker", marker)));
        let (status, body) = recorded.iam(ana, &parameters, now()).await;
        assert_eq!(status, 200, "{body}");
        names.extend(
            body.split("<ServiceNamespace>")
                .skip(1)
                .map(|rest| rest.split_once('<').unwrap().0.to_owned()),
        );
        marker = element(&body, "Marker").map(str::to_owned);
        if marker.is_none() {
            break;
        }
    }
    assert!(names.len() > 200, "{}", names.len());
    let mut sorted = names.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!(names, sorted);
    assert!(names.iter().any(|name| name == "eks"));
}

#[tokio::test]
async fn policies_that_grant_a_service_are_named() {
    let recorded = Recorded::new().await;
    let world = &recorded.world;
    for (name, statement) in [
        ("star", r#"{"Effect":"Allow","Action":"*","Resource":"*"}"#),
        (
            "some",
            r#"{"Effect":"Allow","Action":"s3:Get*","Resource":"arn:aws:s3:::home/*"}"#,
        ),
        (
            "all-but-iam",
            r#"{"Effect":"Allow","NotAction":"iam:*","Resource":"*"}"#,
        ),
        (
            "all-but-a-read",
            r#"{"Effect":"Allow","NotAction":["IAM:GetUser"],"Resource":"*"}"#,
        ),
        (
            "taken-back",
            r#"{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"*","Resource":"*"}"#,
        ),
        (
            "taken-back-in-part",
            r#"{"Effect":"Allow","Action":"iam:*","Resource":"*"},{"Effect":"Deny","Action":"iam:*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"false"}}}"#,
        ),
        (
            "only-iam-stays",
            r#"{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","NotAction":"iam:*","Resource":"*"}"#,
        ),
        (
            "nothing",
            r#"{"Effect":"Deny","Action":"*","Resource":"*"}"#,
        ),
    ] {
        policy(
            world,
            name,
            &format!(r#"{{"Version":"2012-10-17","Statement":[{statement}]}}"#),
        )
        .await;
    }
    let arn = "arn:aws:iam::111122223333:user/bob";
    let parameters = [
        ("Action", "ListPoliciesGrantingServiceAccess"),
        ("Arn", arn),
        ("ServiceNamespaces.member.1", "s3"),
        ("ServiceNamespaces.member.2", "iam"),
    ];
    let (status, body) = recorded.iam(&world.ana, &parameters, now()).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(element(&body, "IsTruncated"), Some("false"));
    let (s3, iam) = body
        .split_once("<ServiceNamespace>iam</ServiceNamespace>")
        .unwrap();
    let names = |part: &str| -> Vec<String> {
        let mut names: Vec<String> = part
            .split("<PolicyName>")
            .skip(1)
            .map(|rest| rest.split_once('<').unwrap().0.to_owned())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(s3), ["all-but-a-read", "all-but-iam", "some", "star"]);
    assert_eq!(
        names(iam),
        [
            "all-but-a-read",
            "only-iam-stays",
            "star",
            "taken-back-in-part"
        ]
    );
    assert_eq!(element(iam, "PolicyType"), Some("INLINE"));
    assert_eq!(element(iam, "EntityType"), Some("USER"));
    assert_eq!(element(iam, "EntityName"), Some("bob"));
    for (arn, status, code) in [
        ("arn:aws:iam::111122223333:user/nobody", 404, "NoSuchEntity"),
        ("arn:aws:iam::444455556666:user/bob", 403, "AccessDenied"),
        (
            "arn:aws:iam::aws:policy/AdministratorAccess",
            400,
            "InvalidInput",
        ),
        ("arn:aws:iam::111122223333:mfa/device", 400, "InvalidInput"),
    ] {
        let parameters = [
            ("Action", "ListPoliciesGrantingServiceAccess"),
            ("Arn", arn),
            ("ServiceNamespaces.member.1", "s3"),
        ];
        let (got, body) = recorded.iam(&world.ana, &parameters, now()).await;
        assert_eq!(
            (got, element(&body, "Code")),
            (status, Some(code)),
            "{arn}: {body}"
        );
    }
}
