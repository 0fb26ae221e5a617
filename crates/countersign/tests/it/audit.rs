//! The audit log, and the reports of IAM on what was used, through the real command and boto3.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::harness::{Running, client, python};

const REPORTS: &str = r#"
import boto3, csv, io, json, time
from botocore.exceptions import ClientError

iam, sts = boto3.client("iam"), boto3.client("sts")
out = {}

def refused(call, **parameters):
    try:
        call(**parameters)
    except ClientError as error:
        return [error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]]

iam.create_user(UserName="bob")
key = iam.create_access_key(UserName="bob")["AccessKey"]
out["secret"] = key["SecretAccessKey"]
out["never"] = iam.get_access_key_last_used(AccessKeyId=key["AccessKeyId"])["AccessKeyLastUsed"]
as_bob = dict(aws_access_key_id=key["AccessKeyId"], aws_secret_access_key=key["SecretAccessKey"])
boto3.client("sts", **as_bob).get_caller_identity()
used = iam.get_access_key_last_used(AccessKeyId=key["AccessKeyId"])
out["used"] = [used["UserName"], used["AccessKeyLastUsed"]["ServiceName"], used["AccessKeyLastUsed"]["Region"],
               abs(used["AccessKeyLastUsed"]["LastUsedDate"].timestamp() - time.time()) < 60]

out["absent"] = refused(iam.get_credential_report)
out["started"] = iam.generate_credential_report()["State"]
out["complete"] = iam.generate_credential_report()["State"]
report = iam.get_credential_report()
out["format"] = report["ReportFormat"]
rows = list(csv.DictReader(io.StringIO(report["Content"].decode())))
out["users"] = [row["user"] for row in rows]
out["bob"] = [rows[-1]["access_key_1_last_used_service"], rows[-1]["access_key_1_active"], rows[-1]["access_key_2_active"]]

arn = sts.get_caller_identity()["Arn"]
job = iam.generate_service_last_accessed_details(Arn=arn, Granularity="ACTION_LEVEL")["JobId"]
services, marker = [], {}
while True:
    page = iam.get_service_last_accessed_details(JobId=job, MaxItems=100, **marker)
    services += page["ServicesLastAccessed"]
    if not page["IsTruncated"]:
        break
    marker = {"Marker": page["Marker"]}
out["job"] = [page["JobStatus"], page["JobType"]]
by_name = {service["ServiceNamespace"]: service for service in services}
out["iam"] = [by_name["iam"]["ServiceName"], by_name["iam"]["LastAuthenticatedEntity"] == arn, by_name["iam"]["TotalAuthenticatedEntities"]]
out["actions"] = sorted(a["ActionName"] for a in by_name["iam"]["TrackedActionsLastAccessed"] if "LastAccessedTime" in a)
out["s3"] = "LastAuthenticated" in by_name["s3"]
details = iam.get_service_last_accessed_details_with_entities(JobId=job, ServiceNamespace="iam")
out["entities"] = [[e["EntityInfo"]["Arn"] == arn, e["EntityInfo"]["Type"], "LastAuthenticated" in e] for e in details["EntityDetailsList"]]
out["unknown"] = refused(iam.get_service_last_accessed_details, JobId="00000000-0000-4000-8000-000000000000")
granting = iam.list_policies_granting_service_access(Arn=arn, ServiceNamespaces=["iam", "s3"])
out["granting"] = [[p["ServiceNamespace"], len(p["Policies"]) > 0] for p in granting["PoliciesGrantingServiceAccess"]]
bob = boto3.client("iam", **as_bob)
out["forbidden"] = [refused(bob.generate_credential_report), refused(bob.get_credential_report),
    refused(bob.generate_service_last_accessed_details, Arn=arn),
    refused(bob.get_service_last_accessed_details, JobId=job),
    refused(bob.get_service_last_accessed_details_with_entities, JobId=job, ServiceNamespace="iam"),
    refused(bob.list_policies_granting_service_access, Arn=arn, ServiceNamespaces=["iam"]),
    refused(bob.get_access_key_last_used, AccessKeyId=key["AccessKeyId"])]
print(json.dumps(out, default=str))
"#;

fn run(server: &Running, python: &Path, script: &str) -> Value {
    let output = client(python, &["-c", script], &server.aws_environment());
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stderr),
        server.log_tail()
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

fn records(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn log_of(server: &Running) -> PathBuf {
    server.dir.path().join("data/audit.json")
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < end, "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn boto3_reads_reports_and_every_call_is_in_the_log() {
    let Some(python) = python("boto3_reads_reports_and_every_call_is_in_the_log") else {
        return;
    };
    let server = Running::up(&[]);
    let mut out = run(&server, &python, REPORTS);
    let secret = out["secret"].take();
    let expected = serde_json::json!({
        "secret": null,
        "never": {"ServiceName": "N/A", "Region": "N/A"},
        "used": ["bob", "sts", "us-east-1", true],
        "absent": [410, "ReportNotPresent"],
        "started": "STARTED",
        "complete": "COMPLETE",
        "format": "text/csv",
        "users": ["<root_account>", "admin", "bob"],
        "bob": ["sts", "true", "false"],
        "job": ["COMPLETED", "ACTION_LEVEL"],
        "iam": ["AWS Identity and Access Management", true, 1],
        "actions": ["CreateAccessKey", "CreateUser", "GenerateCredentialReport", "GenerateServiceLastAccessedDetails",
                    "GetAccessKeyLastUsed", "GetCredentialReport", "GetServiceLastAccessedDetails"],
        "s3": false,
        "entities": [[true, "USER", true]],
        "unknown": [404, "NoSuchEntity"],
        "granting": [["iam", true], ["s3", true]],
        "forbidden": vec![[Value::from(403), "AccessDenied".into()]; 7],
    });
    assert_eq!(out, expected);

    let log = log_of(&server);
    let is_last = |record: &Value| {
        record["eventName"] == "GetAccessKeyLastUsed" && record["errorCode"] == "AccessDenied"
    };
    eventually("the last call is recorded", || {
        records(&log).last().is_some_and(is_last)
    });
    let records = records(&log);
    let created = records
        .iter()
        .find(|record| record["eventName"] == "CreateAccessKey")
        .unwrap();
    assert!(created["userAgent"].as_str().unwrap().starts_with("Boto3/"));
    assert_eq!(created["responseElements"]["accessKey"]["userName"], "bob");
    assert_eq!(
        records
            .iter()
            .filter(|record| record["errorCode"] == "AccessDenied")
            .count(),
        7
    );
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(!text.contains(secret.as_str().unwrap()));
    assert!(!text.contains(&server.field("admin.secretAccessKey")));
}

#[test]
fn what_was_used_survives_a_restart() {
    let Some(python) = python("what_was_used_survives_a_restart") else {
        return;
    };
    let ask = "import boto3, json, os\n\
        key = os.environ['AWS_ACCESS_KEY_ID']\n\
        print(json.dumps(boto3.client('iam').get_access_key_last_used(AccessKeyId=key)['AccessKeyLastUsed'], default=str))";
    let data = tempfile::tempdir().unwrap();
    let path = data.path().display().to_string();
    let up = || Running::up(&["--data-dir", &path]);
    let mut server = up();
    run(
        &server,
        &python,
        "import boto3; boto3.client('sts').get_caller_identity(); print('null')",
    );
    let before = run(&server, &python, ask);
    // Ended in peace, it stores what is left, and the log is whole.
    server.stop();
    assert_eq!(records(&data.path().join("audit.json")).len(), 2);
    let server = up();
    // Its own call is the last use by then, of the service that was the last before.
    let after = run(&server, &python, ask);
    assert_eq!(after["ServiceName"], "iam");
    assert!(after["LastUsedDate"].as_str() >= before["LastUsedDate"].as_str());
}

#[test]
fn with_audit_strict_a_full_disk_stops_calls_and_readiness() {
    let Some(python) = python("with_audit_strict_a_full_disk_stops_calls_and_readiness") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config.yaml");
    std::fs::write(&config, "countersign:\n  audit: {path: /dev/full}\n").unwrap();
    let config = config.display().to_string();
    let server = Running::start_in(dir, "up", &["--config", &config, "--audit-strict"]);
    let script = r#"
import boto3, json, time
from botocore.exceptions import ClientError
iam = boto3.client("iam")
iam.create_user(UserName="first")
codes = []
for _ in range(50):
    try:
        iam.create_user(UserName="second")
        iam.delete_user(UserName="second")
    except ClientError as error:
        codes.append([error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]])
        break
    time.sleep(0.05)
print(json.dumps(codes))
"#;
    let codes = run(&server, &python, script);
    assert_eq!(codes, serde_json::json!([[503, "ServiceUnavailable"]]));
    let answer = server.aws("GET", "/readyz?verbose", &[], b"");
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(answer.status, 503, "{text}");
    assert!(
        text.contains("[-]audit failed: cannot be written, calls are refused: "),
        "{text}"
    );
    let metrics = server.aws("GET", "/metrics", &[], b"");
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    assert!(
        metrics.contains("countersign_audit_refused_calls_total 1"),
        "{metrics}"
    );
}
