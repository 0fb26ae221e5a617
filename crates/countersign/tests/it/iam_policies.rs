//! Roles, policies, attachments, boundaries, instance profiles, tags and service-linked roles with boto3 and the AWS CLI; and
//! the import of AWS's managed policies.

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::harness::{Running, aws_cli, client, countersign, python};

/// Calls every operation, compares what it answers, and lists everything with pages of one entry.
const SCRIPT: &str = r#"
import boto3, json
from botocore.exceptions import ClientError
iam = boto3.client("iam")
account = boto3.client("sts").get_caller_identity()["Account"]
arn = lambda rest: f"arn:aws:iam::{account}:{rest}"

def fails(code, call, **given):
    try:
        call(**given)
    except ClientError as error:
        assert error.response["Error"]["Code"] == code, error
        return error.response["Error"]["Message"]
    raise AssertionError(f"{call} {given} succeeded")

def pages(name, key, **given):
    found = []
    for page in iam.get_paginator(name).paginate(PaginationConfig={"PageSize": 1}, **given):
        assert len(page[key]) <= 1, page
        found += page[key]
    return found

text = ' {\n\t"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:Get*", "Resource": "arn:aws:s3:::b\u00fccher/*"}]} '
document = json.loads(text)
trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": account}, "Action": "sts:AssumeRole"}]}

# managed policies
policy = iam.create_policy(PolicyName="Deploy", Path="/team/", PolicyDocument=text, Description="d", Tags=[{"Key": "a", "Value": "1"}])["Policy"]
assert policy["Arn"] == arn("policy/team/Deploy") and policy["DefaultVersionId"] == "v1" and policy["Tags"] == [{"Key": "a", "Value": "1"}], policy
assert "Description" not in policy, policy
deploy = policy["Arn"]
got = iam.get_policy(PolicyArn=deploy)["Policy"]
assert got["Description"] == "d" and got["PolicyId"] == policy["PolicyId"] and got["CreateDate"] == policy["CreateDate"], got
iam.get_waiter("policy_exists").wait(PolicyArn=deploy)
version = iam.create_policy_version(PolicyArn=deploy, PolicyDocument=json.dumps(document), SetAsDefault=True)["PolicyVersion"]
assert version["VersionId"] == "v2" and version["IsDefaultVersion"] and "Document" not in version, version
assert iam.get_policy_version(PolicyArn=deploy, VersionId="v1")["PolicyVersion"]["Document"] == document
assert [v["VersionId"] for v in pages("list_policy_versions", "Versions", PolicyArn=deploy)] == ["v1", "v2"]
iam.set_default_policy_version(PolicyArn=deploy, VersionId="v1")
iam.delete_policy_version(PolicyArn=deploy, VersionId="v2")
fails("NoSuchEntity", iam.get_policy_version, PolicyArn=deploy, VersionId="v2")
iam.tag_policy(PolicyArn=deploy, Tags=[{"Key": "A", "Value": "2"}])
assert [t["Key"] for t in pages("list_policy_tags", "Tags", PolicyArn=deploy)] == ["a", "A"]
iam.untag_policy(PolicyArn=deploy, TagKeys=["a"])
assert iam.list_policy_tags(PolicyArn=deploy)["Tags"] == [{"Key": "A", "Value": "2"}]

# roles
role = iam.create_role(RoleName="Reader", Path="/team/", AssumeRolePolicyDocument=json.dumps(trust), Description="r", MaxSessionDuration=7200,
    PermissionsBoundary=deploy, Tags=[{"Key": "t", "Value": "1"}])["Role"]
assert role["AssumeRolePolicyDocument"] == trust and role["PermissionsBoundary"]["PermissionsBoundaryArn"] == deploy, role
iam.get_waiter("role_exists").wait(RoleName="Reader")
got = iam.get_role(RoleName="reader")["Role"]
assert got["MaxSessionDuration"] == 7200 and got["RoleLastUsed"] == {} and got["Tags"] == [{"Key": "t", "Value": "1"}], got
assert [r["RoleName"] for r in pages("list_roles", "Roles", PathPrefix="/team/")] == ["Reader"]
iam.update_role(RoleName="Reader", Description="again")
assert iam.get_role(RoleName="Reader")["Role"]["MaxSessionDuration"] == 7200
assert iam.update_role_description(RoleName="Reader", Description="once more")["Role"]["Description"] == "once more"
iam.update_assume_role_policy(RoleName="Reader", PolicyDocument=json.dumps(trust))
iam.tag_role(RoleName="Reader", Tags=[{"Key": "T", "Value": "2"}, {"Key": "u", "Value": ""}])
assert [t["Key"] for t in pages("list_role_tags", "Tags", RoleName="Reader")] == ["T", "u"]
iam.untag_role(RoleName="Reader", TagKeys=["u", "none"])
iam.delete_role_permissions_boundary(RoleName="Reader")
iam.put_role_permissions_boundary(RoleName="Reader", PermissionsBoundary="arn:aws:iam::aws:policy/PowerUserAccess")
assert iam.get_role(RoleName="Reader")["Role"]["PermissionsBoundary"]["PermissionsBoundaryArn"].endswith("PowerUserAccess")

# attachments and inline policies
iam.create_user(UserName="ana")
iam.create_group(GroupName="devs")
worker = "arn:aws:iam::aws:policy/AmazonEKSWorkerNodePolicy"
for kind, name in (("user", "ana"), ("role", "Reader"), ("group", "devs")):
    of = {f"{kind.capitalize()}Name": name}
    call = lambda template: getattr(iam, template.format(kind))
    for policy in (deploy, worker, deploy):
        call("attach_{}_policy")(PolicyArn=policy, **of)
    attached = pages(f"list_attached_{kind}_policies", "AttachedPolicies", **of)
    assert [p["PolicyArn"] for p in attached] == [worker, deploy], attached
    for name in ("b", "a", "B"):
        call("put_{}_policy")(PolicyName=name, PolicyDocument=text, **of)
    assert call("get_{}_policy")(PolicyName="B", **of)["PolicyDocument"] == document
    assert pages(f"list_{kind}_policies", "PolicyNames", **of) == ["a", "B", "b"]
    fails("DeleteConflict", call("delete_{}"), **of)
    for name in ("b", "a", "B"):
        call("delete_{}_policy")(PolicyName=name, **of)
    assert fails("NoSuchEntity", call("get_{}_policy"), PolicyName="b", **of) == f"The {kind} policy with name b cannot be found."
entities = iam.get_paginator("list_entities_for_policy").paginate(PolicyArn=deploy, PaginationConfig={"PageSize": 1}).build_full_result()
assert [u["UserName"] for u in entities["PolicyUsers"]] == ["ana"] and [r["RoleName"] for r in entities["PolicyRoles"]] == ["Reader"], entities
assert [g["GroupName"] for g in entities["PolicyGroups"]] == ["devs"], entities
assert iam.get_policy(PolicyArn=deploy)["Policy"]["AttachmentCount"] == 3
assert fails("DeleteConflict", iam.delete_policy, PolicyArn=deploy) == "Cannot delete a policy attached to entities."
iam.put_user_permissions_boundary(UserName="ana", PermissionsBoundary=deploy)
assert [p["PolicyName"] for p in iam.list_policies(PolicyUsageFilter="PermissionsBoundary", Scope="Local")["Policies"]] == ["Deploy"]
iam.delete_user_permissions_boundary(UserName="ana")
for policy in (deploy, worker):
    iam.detach_user_policy(UserName="ana", PolicyArn=policy)
    iam.detach_role_policy(RoleName="Reader", PolicyArn=policy)
    iam.detach_group_policy(GroupName="devs", PolicyArn=policy)
assert fails("NoSuchEntity", iam.detach_role_policy, RoleName="Reader", PolicyArn=deploy) == f"Policy {deploy} was not found."
names = [p["PolicyName"] for p in pages("list_policies", "Policies")]
assert "AdministratorAccess" in names and names[-1] == "Deploy" and len(names) == len(set(names)), names

# instance profiles
profile = iam.create_instance_profile(InstanceProfileName="Nodes", Path="/eks/")["InstanceProfile"]
assert profile["Roles"] == [] and profile["Arn"] == arn("instance-profile/eks/Nodes"), profile
iam.get_waiter("instance_profile_exists").wait(InstanceProfileName="Nodes")
iam.add_role_to_instance_profile(InstanceProfileName="Nodes", RoleName="Reader")
iam.tag_instance_profile(InstanceProfileName="Nodes", Tags=[{"Key": "k", "Value": "v"}])
got = iam.get_instance_profile(InstanceProfileName="nodes")["InstanceProfile"]
assert got["Roles"][0]["RoleName"] == "Reader" and got["Tags"] == [{"Key": "k", "Value": "v"}], got
assert pages("list_instance_profile_tags", "Tags", InstanceProfileName="Nodes") == [{"Key": "k", "Value": "v"}]
iam.untag_instance_profile(InstanceProfileName="Nodes", TagKeys=["K"])
for listed in (pages("list_instance_profiles", "InstanceProfiles"), pages("list_instance_profiles_for_role", "InstanceProfiles", RoleName="Reader")):
    assert [p["InstanceProfileName"] for p in listed] == ["Nodes"], listed
fails("DeleteConflict", iam.delete_role, RoleName="Reader")
iam.remove_role_from_instance_profile(InstanceProfileName="Nodes", RoleName="Reader")
iam.delete_instance_profile(InstanceProfileName="Nodes")
iam.delete_role(RoleName="Reader")
iam.delete_policy(PolicyArn=deploy)

# users' tags
iam.tag_user(UserName="ana", Tags=[{"Key": "k", "Value": "v"}])
assert pages("list_user_tags", "Tags", UserName="ana") == [{"Key": "k", "Value": "v"}]
iam.untag_user(UserName="ana", TagKeys=["k"])

# service-linked roles
role = iam.create_service_linked_role(AWSServiceName="eks-nodegroup.amazonaws.com")["Role"]
assert role["Path"] == "/aws-service-role/eks-nodegroup.amazonaws.com/", role
assert role["AssumeRolePolicyDocument"]["Statement"][0]["Principal"]["Service"] == ["eks-nodegroup.amazonaws.com"], role
assert fails("UnmodifiableEntity", iam.delete_role, RoleName=role["RoleName"]).startswith("Cannot perform the operation on the protected role")
task = iam.delete_service_linked_role(RoleName=role["RoleName"])["DeletionTaskId"]
assert iam.get_service_linked_role_deletion_status(DeletionTaskId=task)["Status"] == "SUCCEEDED"
print("done")
"#;

#[test]
fn boto3_manages_roles_and_policies() {
    let Some(python) = python("boto3_manages_roles_and_policies") else {
        return;
    };
    let server = Running::up(&[]);
    let output = client(&python, &["-c", SCRIPT], &server.aws_environment());
    assert!(
        output.status.success() && output.stdout.ends_with(b"done\n"),
        "{}\n{}",
        String::from_utf8_lossy(&output.stderr),
        server.log_tail()
    );
}

#[test]
fn aws_cli_gives_a_role_a_policy_with_a_document_that_comes_back_exactly() {
    let Some(aws) =
        aws_cli("aws_cli_gives_a_role_a_policy_with_a_document_that_comes_back_exactly")
    else {
        return;
    };
    let server = Running::up(&[]);
    let run = |args: &[&str]| {
        let output = client(&aws, args, &server.aws_environment());
        assert!(
            output.status.success(),
            "{args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice::<Value>(&output.stdout).unwrap_or(Value::Null)
    };
    let trust = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}]});
    let made = run(&[
        "iam",
        "create-role",
        "--role-name",
        "node",
        "--assume-role-policy-document",
        &trust.to_string(),
        "--output",
        "json",
    ]);
    assert_eq!(made["Role"]["AssumeRolePolicyDocument"], trust);
    let policy = "arn:aws:iam::aws:policy/AmazonEKS_CNI_Policy";
    run(&[
        "iam",
        "attach-role-policy",
        "--role-name",
        "node",
        "--policy-arn",
        policy,
    ]);
    let attached = run(&[
        "iam",
        "list-attached-role-policies",
        "--role-name",
        "node",
        "--output",
        "json",
    ]);
    assert_eq!(
        attached["AttachedPolicies"],
        json!([{"PolicyName": "AmazonEKS_CNI_Policy", "PolicyArn": policy}])
    );
}

fn import(from: &Path, data_dir: &Path) -> (Option<i32>, String, String) {
    let args = [
        "iam",
        "managed-policies",
        "import",
        from.to_str().unwrap(),
        "--data-dir",
        data_dir.to_str().unwrap(),
    ];
    let Output {
        status,
        stdout,
        stderr,
    } = countersign(&args, &Default::default());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

fn stopped() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Running::up(&["--data-dir", data.to_str().unwrap()]);
    drop(server);
    dir
}

#[test]
fn a_dump_of_aws_policies_is_imported_once_and_its_policies_can_be_attached() {
    let dir = stopped();
    let data = dir.path().join("data");
    let policy = |name: &str, path: &str, document: Value| {
        json!({
            "PolicyName": name, "PolicyId": "ANPAIWMBCKSKIEE64ZLYK", "Arn": format!("arn:aws:iam::aws:policy{path}{name}"), "Path": path,
            "DefaultVersionId": "v2", "AttachmentCount": 0, "PermissionsBoundaryUsageCount": 0, "IsAttachable": true,
            "CreateDate": "2015-02-06T18:39:46+00:00", "UpdateDate": "2020-02-06T18:39:46Z",
            "PolicyVersionList": [{"Document": document, "VersionId": "v2", "IsDefaultVersion": true, "CreateDate": "2020-02-06T18:39:46+00:00"}]
        })
    };
    let allow = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iam:List*", "Resource": "*"}]});
    let encoded = allow
        .to_string()
        .replace('"', "%22")
        .replace('{', "%7B")
        .replace('}', "%7d");
    let first = json!({"UserDetailList": [], "Policies": [
        policy("ViewOnlyAccess", "/job-function/", allow.clone()),
        {"PolicyName": "mine", "PolicyId": "ANPA1", "Arn": "arn:aws:iam::111122223333:policy/mine", "Path": "/", "DefaultVersionId": "v1",
         "CreateDate": "2015-02-06T18:39:46Z", "UpdateDate": "2015-02-06T18:39:46Z", "PolicyVersionList": []},
    ]});
    let second = json!({"Policies": [policy("Encoded", "/", json!(encoded))]});
    let file = dir.path().join("gaad.json");
    std::fs::write(
        &file,
        format!(
            "{}\n{second}",
            serde_json::to_string_pretty(&first).unwrap()
        ),
    )
    .unwrap();
    for expected in [
        "2 policies imported, 0 were there already\n",
        "0 policies imported, 2 were there already\n",
    ] {
        let (code, stdout, stderr) = import(&file, &data);
        assert_eq!((code, &*stdout), (Some(0), expected), "{stderr}");
    }
    let documents = dir.path().join("documents");
    std::fs::create_dir_all(documents.join("service-role")).unwrap();
    std::fs::write(documents.join("Plain.json"), allow.to_string()).unwrap();
    let version = json!({"PolicyVersion": {"Document": allow, "VersionId": "v7", "IsDefaultVersion": true, "CreateDate": "2020-02-06T18:39:46Z"}});
    std::fs::write(
        documents.join("service-role/Versioned.json"),
        version.to_string(),
    )
    .unwrap();
    for expected in [
        "2 policies imported, 0 were there already\n",
        "0 policies imported, 2 were there already\n",
    ] {
        let (code, stdout, stderr) = import(&documents, &data);
        assert_eq!((code, &*stdout), (Some(0), expected), "{stderr}");
    }
    let Some(python) =
        python("a_dump_of_aws_policies_is_imported_once_and_its_policies_can_be_attached")
    else {
        return;
    };
    let server = Running::start_in(dir, "up", &["--data-dir", data.to_str().unwrap()]);
    let script = r#"
import boto3
iam = boto3.client("iam")
for arn, version in (("job-function/ViewOnlyAccess", "v2"), ("Encoded", "v2"), ("Plain", "v1"), ("service-role/Versioned", "v7")):
    arn = f"arn:aws:iam::aws:policy/{arn}"
    got = iam.get_policy(PolicyArn=arn)["Policy"]
    assert got["DefaultVersionId"] == version and got["Arn"] == arn, got
    document = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
    assert document["Statement"][0]["Action"] == "iam:List*", document
    iam.attach_user_policy(UserName="admin", PolicyArn=arn)
print("done")
"#;
    let output = client(&python, &["-c", script], &server.aws_environment());
    assert!(
        output.stdout.ends_with(b"done\n"),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn what_cannot_be_imported_is_refused_and_changes_nothing() {
    let dir = stopped();
    let data = dir.path().join("data");
    let cases = [
        ("not JSON", "error: "),
        ("{}", "missing field"),
        (
            r#"{"Policies": []}"#,
            "there is no managed policy of AWS in",
        ),
        (
            r#"{"Policies": [{"PolicyName": "x", "PolicyId": "ANPA1", "Arn": "arn:aws:iam::aws:policy/y", "Path": "/",
                "DefaultVersionId": "v1", "CreateDate": "2020-02-06T18:39:46Z", "UpdateDate": "2020-02-06T18:39:46Z",
                "PolicyVersionList": []}]}"#,
            "its ARN `arn:aws:iam::aws:policy/y` has another path or name",
        ),
        (
            r#"{"Policies": [{"PolicyName": "x", "PolicyId": "ANPA1", "Arn": "arn:aws:iam::aws:policy/x", "Path": "/",
                "DefaultVersionId": "v1", "CreateDate": "2020-02-06T18:39:46Z", "UpdateDate": "2020-02-06T18:39:46Z",
                "PolicyVersionList": [{"VersionId": "v1", "Document": {"Statement": 7}}]}]}"#,
            "its document is no policy",
        ),
        (
            r#"{"Policies": [{"PolicyName": "x", "PolicyId": "ANPA1", "Arn": "arn:aws:iam::aws:policy/x", "Path": "/",
                "DefaultVersionId": "v1", "CreateDate": "2020-02-06T18:39:46Z", "UpdateDate": "2020-02-06T18:39:46Z",
                "PolicyVersionList": []}]}"#,
            "the default version of a policy of AWS must be one of its versions",
        ),
    ];
    for (text, expected) in cases {
        let file = dir.path().join("gaad.json");
        std::fs::write(&file, text).unwrap();
        let (code, stdout, stderr) = import(&file, &data);
        assert_eq!(code, Some(2), "{text}: {stderr}");
        assert!(stderr.contains(expected), "{text}: {stderr}");
        assert_eq!(stdout, "");
    }
    let nowhere = dir.path().join("nowhere");
    let (code, _, stderr) = import(&dir.path().join("gaad.json"), &nowhere);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(!nowhere.exists());
}
