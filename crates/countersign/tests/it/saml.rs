//! A person becomes a role with an assertion of an identity provider: AWS CLI and boto3 against the real command.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};

use crate::harness::{Running, aws_cli, client, python};
use crate::identity_provider::{ENTITY, Idp, PROVIDER, ROLE, Response, encoded};

const TRUST: &str = r#"{"Version": "2012-10-17", "Statement": [
  {"Effect": "Allow", "Principal": {"Federated": "arn:aws:iam::111122223333:saml-provider/corp"},
   "Action": ["sts:AssumeRoleWithSAML", "sts:TagSession"],
   "Condition": {"StringEquals": {"SAML:aud": "https://signin.aws.amazon.com/saml", "SAML:sub": "alice"}}}]}
"#;

/// A response that is good now, with an assertion of this id.
fn response(idp: &Idp, id: &str) -> String {
    let instant = |at: Timestamp| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let now = Timestamp::now();
    let end = now + SignedDuration::from_mins(5);
    let response =
        Response::valid(&instant(now), &instant(end)).with("PrincipalTag:Team", &["blue"]);
    let xml = response.xml().replace("\"_a\"", &format!("\"{id}\""));
    encoded(&idp.signed(&xml, id))
}

/// A megabyte of metadata: what it has beyond a few kilobytes is a comment.
fn metadata(idp: &Idp) -> String {
    format!(
        "{}<!-- {} -->\n",
        idp.metadata(),
        "0123456789abcdef ".repeat(60_000)
    )
}

#[test]
fn aws_cli_assumes_a_role_with_saml() {
    let Some(aws) = aws_cli("aws_cli_assumes_a_role_with_saml") else {
        return;
    };
    let server = Running::up(&[]);
    let admin = server.aws_environment();
    let idp = Idp::new();
    let file = |name: &str, text: &str| {
        let path = server.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        format!("file://{}", path.display())
    };
    let run = |args: &[&str]| {
        let output = client(&aws, &[args, &["--output", "json"]].concat(), &admin);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.success(),
            "{args:?}: {error}\n{}",
            server.log_tail()
        );
        serde_json::from_slice(&output.stdout).unwrap_or(serde_json::Value::Null)
    };
    let document = file("metadata.xml", &metadata(&idp));
    let made = run(&[
        "iam",
        "create-saml-provider",
        "--name",
        "corp",
        "--saml-metadata-document",
        &document,
    ]);
    assert_eq!(made["SAMLProviderArn"], PROVIDER);
    let shown = run(&["iam", "get-saml-provider", "--saml-provider-arn", PROVIDER]);
    assert_eq!(shown["SAMLMetadataDocument"], metadata(&idp));
    let listed = run(&["iam", "list-saml-providers"]);
    assert_eq!(listed["SAMLProviderList"][0]["Arn"], PROVIDER);
    let trust = file("trust.json", TRUST);
    run(&[
        "iam",
        "create-role",
        "--role-name",
        "Dev",
        "--assume-role-policy-document",
        &trust,
    ]);

    let assertion = file("assertion", &response(&idp, "_cli"));
    let assume = [
        "sts",
        "assume-role-with-saml",
        "--role-arn",
        ROLE,
        "--principal-arn",
        PROVIDER,
        "--saml-assertion",
        &assertion,
    ];
    let assumed = run(&assume);
    assert_eq!(assumed["Subject"], "alice");
    assert_eq!(assumed["SubjectType"], "persistent");
    assert_eq!(assumed["Issuer"], ENTITY);
    assert_eq!(assumed["Audience"], "https://signin.aws.amazon.com/saml");
    assert_eq!(
        assumed["NameQualifier"],
        countersign_saml::name_qualifier(ENTITY, "111122223333", "corp")
    );
    let mut session = admin.clone();
    for (name, field) in [
        ("AWS_ACCESS_KEY_ID", "AccessKeyId"),
        ("AWS_SECRET_ACCESS_KEY", "SecretAccessKey"),
        ("AWS_SESSION_TOKEN", "SessionToken"),
    ] {
        let value = assumed["Credentials"][field].as_str().unwrap();
        session.insert(name.into(), value.into());
    }
    let identity = client(&aws, &["sts", "get-caller-identity"], &session);
    let identity = String::from_utf8_lossy(&identity.stdout).into_owned();
    assert!(
        identity.contains("arn:aws:sts::111122223333:assumed-role/Dev/alice"),
        "{identity}"
    );

    let again = client(&aws, &assume, &admin);
    let error = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(
        !again.status.success() && error.contains("(InvalidIdentityToken)"),
        "{error}"
    );
    // Neither the log nor an error repeats an assertion or a secret.
    let log = server.log();
    let secret = assumed["Credentials"]["SecretAccessKey"].as_str().unwrap();
    let sent = std::fs::read_to_string(server.dir.path().join("assertion")).unwrap();
    assert!(!log.contains(secret) && !log.contains(&sent) && !error.contains(&sent));
}

/// Prints what each call came to, one line each.
const SCRIPT: &str = r#"
import sys, boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
metadata, trust, *assertions = (open(path).read() for path in sys.argv[3:])
role, provider = sys.argv[1:3]
iam = boto3.client("iam")
sts = boto3.client("sts", config=Config(signature_version=UNSIGNED))
assert iam.create_saml_provider(Name="corp", SAMLMetadataDocument=metadata)["SAMLProviderArn"] == provider
iam.create_role(RoleName="Dev", AssumeRolePolicyDocument=trust)
for assertion in assertions:
    try:
        answer = sts.assume_role_with_saml(RoleArn=role, PrincipalArn=provider, SAMLAssertion=assertion)
        print("ok", answer["AssumedRoleUser"]["Arn"], answer["Credentials"]["Expiration"].tzinfo is not None)
    except sts.exceptions.InvalidIdentityTokenException as error:
        print("invalid", error.response["Error"]["Message"])
    except sts.exceptions.ExpiredTokenException as error:
        print("expired", error.response["Error"]["Message"])
    except ClientError as error:
        print("other", error)
iam.delete_saml_provider(SAMLProviderArn=provider)
try:
    iam.get_saml_provider(SAMLProviderArn=provider)
except iam.exceptions.NoSuchEntityException as error:
    print("gone", error.response["Error"]["Message"])
"#;

#[test]
fn boto3_reads_every_answer_about_saml() {
    let Some(python) = python("boto3_reads_every_answer_about_saml") else {
        return;
    };
    let server = Running::up(&[]);
    let idp = Idp::new();
    let file = |name: &str, text: &str| {
        let path = server.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let expired = Response::valid("2026-03-14T10:26:00Z", "2026-03-14T10:31:00Z").signed_by(&idp);
    let files = [
        file("metadata.xml", &idp.metadata()),
        file("trust.json", TRUST),
        file("good", &response(&idp, "_boto")),
        file("forged", &response(&Idp::new(), "_forged")),
        file("expired", &expired),
    ];
    let mut args = vec!["-c", SCRIPT, ROLE, PROVIDER];
    args.extend(files.iter().map(String::as_str));
    let output = client(Path::new(&python), &args, &server.aws_environment());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "ok arn:aws:sts::111122223333:assumed-role/Dev/alice True",
            "invalid Response signature invalid",
            "expired Response is expired or not yet valid.",
            "gone Manifest not found for arn arn:aws:iam::111122223333:saml-provider/corp",
        ],
        "{}\n{}",
        String::from_utf8_lossy(&output.stderr),
        server.log_tail()
    );
}
