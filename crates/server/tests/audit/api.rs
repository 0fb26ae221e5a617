//! Calls of the APIs, their records and what they used, through the server in process.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use countersign_server::audit::{Audit, Health, OnFailure, Output, Settings};
use countersign_server::aws::{AwsApi, operation_catalogue};
use countersign_server::metrics::Metrics;
use countersign_server::usage::Usage;
use jiff::Timestamp;
use serde_json::Value;

use super::file::{directory, eventually};
use super::world::{ACCOUNT, ASSUME, Keys, World, after, now, signed, signed_with, trusts};

pub(crate) struct Recorded {
    pub(crate) world: World,
    pub(crate) audit: Audit,
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Recorded {
    pub(crate) async fn new() -> Self {
        let directory = directory("api");
        let path = directory.path().join("audit.json");
        let audit = Audit::start(Settings::new(Output::File(path.clone()))).unwrap();
        let mut world = World::new().await;
        world.api = api(&world, audit.clone());
        Self {
            world,
            audit,
            path,
            _directory: directory,
        }
    }

    /// A call of IAM at a time: status and body.
    pub(crate) async fn iam(
        &self,
        keys: &Keys,
        parameters: &[(&str, &str)],
        when: Timestamp,
    ) -> (u16, String) {
        let (status, _, body) = self
            .world
            .send(keys, ("iam", "2010-05-08"), parameters, when)
            .await;
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// The log, complete. Nothing is recorded any more.
    fn text(&self) -> String {
        assert!(self.audit.stop(Duration::from_secs(10)));
        std::fs::read_to_string(&self.path).unwrap()
    }
}

fn api(world: &World, audit: Audit) -> AwsApi {
    AwsApi::new(
        Arc::clone(&world.keys),
        world.directory.clone(),
        Arc::new(Metrics::new()),
        0,
        false,
    )
    .recorded_in(audit, Arc::new(Usage::default()), "eu-west-1")
}

/// The text of the first element of this name.
pub(crate) fn element<'x>(xml: &'x str, name: &str) -> Option<&'x str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    Some(rest.split_once(&format!("</{name}>"))?.0)
}

fn records(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn allowed_denied_and_failed_calls_leave_a_record() {
    let recorded = Recorded::new().await;
    let world = &recorded.world;
    let role = world.role("reader", &trusts(ACCOUNT, ASSUME, "")).await;
    let (ana, bob) = (&world.ana, &world.bob);
    world.whoami(ana, now()).await;
    recorded
        .iam(ana, &[("Action", "CreateUser"), ("UserName", "eve")], now())
        .await;
    recorded
        .iam(
            bob,
            &[("Action", "CreateUser"), ("UserName", "mallory")],
            now(),
        )
        .await;
    recorded
        .iam(ana, &[("Action", "CreateUser"), ("UserName", "eve")], now())
        .await;
    recorded
        .iam(ana, &[("Action", "CreateUser"), ("UserName", "*")], now())
        .await;
    recorded
        .iam(ana, &[("Action", "MakeUser"), ("UserName", "eve")], now())
        .await;
    let session = world
        .session(ana, &role, &[("ExternalId", "partner-17")], now())
        .await;
    world.whoami(&session, now()).await;
    world
        .assume(ana, "arn:aws:iam::111122223333:role/nobody", &[], now())
        .await;
    let forged = Keys {
        secret: "not the secret of anybody at all, is it?".into(),
        ..ana.clone()
    };
    world.whoami(&forged, now()).await;

    let records = records(&recorded.text());
    let seen: Vec<(String, &str, &str, Option<&str>, &Value)> = records
        .iter()
        .map(|record| {
            let decision = &record["additionalEventData"]["countersign"]["decision"];
            let text = |name: &str| record[name].as_str().unwrap_or_default();
            let who = record["userIdentity"]["type"].as_str().unwrap();
            (
                text("eventName").to_owned(),
                who,
                text("eventSource"),
                record["errorCode"].as_str(),
                decision,
            )
        })
        .collect();
    let allowed = Value::from("allowed");
    let denied = Value::from("implicitDeny");
    let row = |name: &str, who, service, error, decision| {
        (name.to_owned(), who, service, error, decision)
    };
    let (iam, sts) = ("iam.amazonaws.com", "sts.amazonaws.com");
    assert_eq!(
        seen,
        [
            row("GetCallerIdentity", "IAMUser", sts, None, &Value::Null),
            row("CreateUser", "IAMUser", iam, None, &allowed),
            row("CreateUser", "IAMUser", iam, Some("AccessDenied"), &denied),
            row(
                "CreateUser",
                "IAMUser",
                iam,
                Some("EntityAlreadyExists"),
                &allowed
            ),
            row(
                "CreateUser",
                "IAMUser",
                iam,
                Some("ValidationError"),
                &Value::Null
            ),
            row(
                "MakeUser",
                "IAMUser",
                iam,
                Some("InvalidAction"),
                &Value::Null
            ),
            row("AssumeRole", "IAMUser", sts, None, &allowed),
            row("GetCallerIdentity", "AssumedRole", sts, None, &Value::Null),
            row("AssumeRole", "IAMUser", sts, Some("AccessDenied"), &denied),
            row(
                "GetCallerIdentity",
                "Unknown",
                sts,
                Some("SignatureDoesNotMatch"),
                &Value::Null
            ),
        ]
    );
    let created = &records[1];
    assert_eq!(created["requestParameters"]["userName"], "eve");
    assert_eq!(
        created["responseElements"]["user"]["arn"],
        "arn:aws:iam::111122223333:user/eve"
    );
    assert_eq!(created["resources"][0]["type"], "AWS::IAM::User");
    assert_eq!(
        created["additionalEventData"]["countersign"]["matched"][0],
        "identity:all#0"
    );
    assert_eq!(
        created["awsRegion"], "us-east-1",
        "the region of the signature"
    );
    assert_eq!(created["sourceIPAddress"], "192.0.2.7");
    assert_eq!(created["userAgent"], "test/1");
    let refused = records[2]["errorMessage"].as_str().unwrap();
    assert!(refused.starts_with("User: arn:aws:iam::111122223333:user/bob is not authorized to perform: iam:CreateUser on resource: "), "{refused}");
    assert!(records[2]["additionalEventData"]["countersign"]["encodedMessage"].is_string());
    // The new key id joins the session's call to the one that made it.
    assert_eq!(
        records[6]["responseElements"]["credentials"]["accessKeyId"],
        session.id.as_str()
    );
    assert_eq!(
        records[7]["userIdentity"]["accessKeyId"],
        session.id.as_str()
    );
    assert_eq!(
        records[8]["additionalEventData"]["countersign"]["reason"],
        "there is no such role"
    );
    assert_eq!(records[9]["userIdentity"]["accessKeyId"], ana.id.as_str());
    let ids: std::collections::HashSet<&str> = records
        .iter()
        .map(|record| record["eventID"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), records.len());
}

#[tokio::test]
async fn no_secret_of_a_run_of_all_operations_is_in_the_log() {
    let recorded = Recorded::new().await;
    let world = &recorded.world;
    let role = world.role("reader", &trusts(ACCOUNT, ASSUME, "")).await;
    let mut secrets = vec![world.ana.secret.clone(), world.bob.secret.clone()];
    let (status, created) = recorded
        .iam(
            &world.ana,
            &[("Action", "CreateAccessKey"), ("UserName", "bob")],
            now(),
        )
        .await;
    assert_eq!(status, 200, "{created}");
    secrets.push(element(&created, "SecretAccessKey").unwrap().to_owned());
    let session = world
        .session(
            &world.ana,
            &role,
            &[("ExternalId", "sentinel-external")],
            now(),
        )
        .await;
    secrets.extend([
        session.secret.clone(),
        session.token.clone().unwrap(),
        "sentinel-external".into(),
    ]);

    let secret_names = [
        "AddPrivateKey",
        "AuthenticationCode1",
        "AuthenticationCode2",
        "EncodedMessage",
        "ExternalId",
        "NewPassword",
        "OldPassword",
        "Password",
        "SAMLAssertion",
        "TokenCode",
        "WebIdentityToken",
    ];
    let catalogue = operation_catalogue();
    let mut calls = 0;
    for operation in catalogue.as_array().unwrap() {
        let text = |name: &str| operation[name].as_str().unwrap();
        let Some(parameters) = operation["parameters"].as_array() else {
            continue;
        };
        // Operations of EKS are no forms, and have no secrets.
        if text("service") == "eks" {
            continue;
        }
        let name = text("name");
        let mut given = vec![("Action".to_owned(), name.to_owned())];
        for parameter in parameters {
            let parameter_name = parameter["name"].as_str().unwrap();
            let value = if secret_names.contains(&parameter_name) {
                // Digits only, for the codes that have to be; each is a text of its own.
                let secret = format!("9{:05}", 71_003 + 13 * secrets.len());
                secrets.push(secret.clone());
                secret
            } else {
                match parameter["kind"]["type"].as_str().unwrap() {
                    "string" => parameter["kind"]["enum"][0]
                        .as_str()
                        .unwrap_or("bob")
                        .to_owned(),
                    "integer" => "3600".into(),
                    "boolean" => "true".into(),
                    _ => continue,
                }
            };
            given.push((parameter_name.to_owned(), value));
        }
        given.push(("Nonsense".into(), "sentinel-nonsense".into()));
        let given: Vec<(&str, &str)> = given
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        let version = if text("service") == "sts" {
            "2011-06-15"
        } else {
            "2010-05-08"
        };
        for keys in [&world.ana, &session] {
            world
                .send(keys, (text("service"), version), &given, now())
                .await;
            calls += 1;
        }
    }
    secrets.push("sentinel-nonsense".into());
    assert!(calls > 200, "{calls}");
    let log = recorded.text();
    assert_eq!(log.lines().count(), calls + 2);
    for secret in &secrets {
        assert!(!log.contains(&**secret), "{secret} is in the log");
    }
}

#[tokio::test]
async fn under_refuse_nothing_is_written_that_cannot_be_recorded() {
    let mut world = World::new().await;
    let mut settings = Settings::new(Output::File("/dev/full".into()));
    settings.on_failure = OnFailure::Refuse;
    let audit = Audit::start(settings).unwrap();
    world.api = api(&world, audit.clone());
    let create = |name| [("Action", "CreateUser"), ("UserName", name)];
    let (status, _, _) = world.iam(&world.ana, &create("first")).await;
    assert_eq!(status, 200, "its record is queued");
    eventually("the failure is seen", || {
        matches!(audit.health(), Some(Health::Failing { .. }))
    });
    let (status, _, body) = world.iam(&world.ana, &create("second")).await;
    assert_eq!(status, 503, "{body}");
    assert_eq!(element(&body, "Code"), Some("ServiceUnavailable"));
    let message = "The request could not be recorded in the audit log. Try again later.";
    assert_eq!(element(&body, "Message"), Some(message));
    assert!(
        world
            .directory
            .snapshot()
            .user(world.account, "second")
            .is_none()
    );
    // Reads are refused as well, and so is what would have been denied.
    assert_eq!(world.whoami(&world.ana, now()).await.0, 503);
    assert_eq!(world.iam(&world.bob, &create("third")).await.0, 503);
}

#[tokio::test]
async fn a_key_a_user_and_a_role_know_when_they_were_used() {
    let recorded = Recorded::new().await;
    let world = &recorded.world;
    let ask = async |id: &str, when| {
        let parameters = [("Action", "GetAccessKeyLastUsed"), ("AccessKeyId", id)];
        recorded.iam(&world.ana, &parameters, when).await.1
    };
    let never = ask(&world.bob.id, now()).await;
    assert_eq!(element(&never, "UserName"), Some("bob"));
    assert_eq!(element(&never, "Region"), Some("N/A"));
    assert_eq!(element(&never, "ServiceName"), Some("N/A"));
    assert_eq!(element(&never, "LastUsedDate"), None);
    world.whoami(&world.bob, after(60)).await;
    let used = ask(&world.bob.id, after(61)).await;
    assert_eq!(element(&used, "LastUsedDate"), Some("2026-03-14T09:27:53Z"));
    assert_eq!(element(&used, "Region"), Some("us-east-1"));
    assert_eq!(element(&used, "ServiceName"), Some("sts"));
    // An attempt that is denied counts; one that is not authenticated does not.
    recorded
        .iam(&world.bob, &[("Action", "ListUsers")], after(120))
        .await;
    let forged = Keys {
        secret: "not the secret of anybody at all, is it?".into(),
        ..world.bob.clone()
    };
    world.whoami(&forged, after(180)).await;
    let used = ask(&world.bob.id, after(181)).await;
    assert_eq!(element(&used, "LastUsedDate"), Some("2026-03-14T09:28:53Z"));
    assert_eq!(element(&used, "ServiceName"), Some("iam"));
}

#[tokio::test]
async fn calls_of_eks_are_recorded_with_their_parameters_and_answers() {
    let recorded = Recorded::new().await;
    let world = &recorded.world;
    world.role("c", &trusts(ACCOUNT, ASSUME, "")).await;
    let new = r#"{"name":"c1","roleArn":"arn:aws:iam::111122223333:role/c","resourcesVpcConfig":{"subnetIds":["subnet-1"]},"tags":{"k":"v"},"unknown":"sentinel"}"#;
    let cluster = "/clusters/c1";
    for (keys, method, target, body, expected) in [
        (&world.ana, "POST", "/clusters", new, 200),
        (&world.ana, "GET", cluster, "", 200),
        (&world.bob, "DELETE", cluster, "", 403),
        (&world.ana, "GET", "/clusters/c2", "", 404),
        (&world.ana, "POST", "/clusters", "{", 400),
    ] {
        let headers = signed(keys, "eks", (method, target), body.as_bytes(), now());
        let (status, ..) = world
            .send_rest((method, target), body.as_bytes(), &headers)
            .await;
        assert_eq!(status, expected, "{method} {target}");
    }
    let dry = [("x-countersign-dry-run", "true")];
    let at = ("DELETE", cluster);
    let headers = signed_with(&world.ana, "eks", at, b"", now(), &dry);
    assert_eq!(world.send_rest(at, b"", &headers).await.0, 200);
    let text = recorded.text();
    assert!(!text.contains("sentinel"), "{text}");
    let records = records(&text);
    let names: Vec<&Value> = records.iter().map(|record| &record["eventName"]).collect();
    assert_eq!(
        names,
        [
            "CreateCluster",
            "DescribeCluster",
            "DeleteCluster",
            "DescribeCluster",
            "CreateCluster",
            "DeleteCluster"
        ]
    );
    for (at, pointer, expected) in [
        (0, "/eventSource", "eks.amazonaws.com".into()),
        (0, "/readOnly", false.into()),
        (0, "/additionalEventData/countersign/dryRun", Value::Null),
        (5, "/additionalEventData/countersign/dryRun", true.into()),
        (5, "/readOnly", true.into()),
        (5, "/responseElements", Value::Null),
        (5, "/requestParameters/name", "c1".into()),
        (0, "/requestParameters/name", "c1".into()),
        (0, "/requestParameters/tags/k", "v".into()),
        (
            0,
            "/requestParameters/resourcesVpcConfig/subnetIds/0",
            "subnet-1".into(),
        ),
        (0, "/responseElements/cluster/status", "CREATING".into()),
        (1, "/readOnly", true.into()),
        (1, "/responseElements", Value::Null),
        (1, "/requestParameters/name", "c1".into()),
        (2, "/errorCode", "AccessDeniedException".into()),
        (
            2,
            "/additionalEventData/countersign/decision",
            "implicitDeny".into(),
        ),
        (
            2,
            "/resources/0/ARN",
            "arn:aws:eks:us-east-1:111122223333:cluster/c1".into(),
        ),
        (3, "/errorCode", "ResourceNotFoundException".into()),
        (4, "/errorCode", "SerializationException".into()),
        (4, "/requestParameters", Value::Null),
    ] {
        assert_eq!(
            records[at].pointer(pointer).unwrap_or(&Value::Null),
            &expected,
            "{at} {pointer}: {}",
            records[at]
        );
    }
}
