//! Groups, passwords, MFA devices and the account with boto3 and the AWS CLI; IAM as one document beside a running server.

use serde_json::Value;

use crate::harness::{Running, aws_cli, client, countersign, python};

const SCRIPT: &str = r#"
import base64, hashlib, hmac, json, struct, time
import boto3
from botocore.exceptions import ClientError

iam, sts = boto3.client("iam"), boto3.client("sts")

def code(seed, step):
    mac = hmac.new(base64.b32decode(seed), struct.pack(">q", step), hashlib.sha1).digest()
    at = mac[-1] & 15
    return "%06d" % ((struct.unpack(">I", mac[at:at + 4])[0] & 0x7fffffff) % 1000000)

def refused(name, call, **given):
    try:
        call(**given)
    except ClientError as error:
        assert error.response["Error"]["Code"] == name, error
        return
    raise AssertionError(name + " was expected")

def paged(operation, member, **given):
    pages = iam.get_paginator(operation).paginate(PaginationConfig={"PageSize": 1}, **given)
    return [entry for page in pages for entry in page[member]]

for name in ("ana", "bob"):
    iam.create_user(UserName=name)
for name in ("dev", "ops"):
    assert iam.create_group(GroupName=name)["Group"]["GroupName"] == name
    for user in ("ana", "bob"):
        iam.add_user_to_group(GroupName=name, UserName=user)
assert [g["GroupName"] for g in paged("list_groups", "Groups")] == ["dev", "ops"]
assert [u["UserName"] for u in paged("get_group", "Users", GroupName="dev")] == ["ana", "bob"]
iam.update_group(GroupName="dev", NewGroupName="devs", NewPath="/x/")
assert [g["GroupName"] for g in paged("list_groups_for_user", "Groups", UserName="ana")] == ["devs", "ops"]
refused("DeleteConflict", iam.delete_group, GroupName="ops")
iam.remove_user_from_group(GroupName="ops", UserName="ana")

iam.update_account_password_policy(MinimumPasswordLength=10, AllowUsersToChangePassword=True)
assert iam.get_account_password_policy()["PasswordPolicy"]["MinimumPasswordLength"] == 10
refused("PasswordPolicyViolation", iam.create_login_profile, UserName="ana", Password="short")
iam.create_login_profile(UserName="ana", Password="long enough", PasswordResetRequired=True)
assert iam.get_login_profile(UserName="ana")["LoginProfile"]["PasswordResetRequired"] is True
iam.update_login_profile(UserName="ana", PasswordResetRequired=False)
key = iam.create_access_key(UserName="ana")["AccessKey"]
ana = boto3.client("iam", aws_access_key_id=key["AccessKeyId"], aws_secret_access_key=key["SecretAccessKey"])
ana.change_password(OldPassword="long enough", NewPassword="longer than that")
refused("AccessDenied", ana.change_password, OldPassword="wrong", NewPassword="longer than that")
refused("AccessDenied", ana.list_users)
iam.delete_login_profile(UserName="ana")
iam.delete_account_password_policy()

device = iam.create_virtual_mfa_device(VirtualMFADeviceName="phone")["VirtualMFADevice"]
seed = device["Base32StringSeed"]
assert len(seed) == 64 and device["QRCodePNG"].startswith(b"\x89PNG"), device
serial, step = device["SerialNumber"], int(time.time()) // 30
iam.enable_mfa_device(UserName="ana", SerialNumber=serial, AuthenticationCode1=code(seed, step - 2), AuthenticationCode2=code(seed, step - 1))
assert [d["SerialNumber"] for d in paged("list_mfa_devices", "MFADevices", UserName="ana")] == [serial]
assert paged("list_virtual_mfa_devices", "VirtualMFADevices", AssignmentStatus="Assigned")[0]["User"]["UserName"] == "ana"
assert iam.get_mfa_device(UserName="ana", SerialNumber=serial)["UserName"] == "ana"
account = sts.get_caller_identity()["Account"]
trust = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::%s:root" % account},
         "Action": "sts:AssumeRole", "Condition": {"Bool": {"aws:MultiFactorAuthPresent": "true"}}}}
role = iam.create_role(RoleName="careful", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
allow = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": role}}
iam.put_user_policy(UserName="ana", PolicyName="assume", PolicyDocument=json.dumps(allow))
ana = boto3.client("sts", aws_access_key_id=key["AccessKeyId"], aws_secret_access_key=key["SecretAccessKey"])
refused("AccessDenied", ana.assume_role, RoleArn=role, RoleSessionName="s1")
given = dict(RoleArn=role, RoleSessionName="s1", SerialNumber=serial, TokenCode=code(seed, int(time.time()) // 30))
assert ana.assume_role(**given)["AssumedRoleUser"]["Arn"].endswith("/careful/s1")
refused("AccessDenied", ana.assume_role, **given)
refused("DeleteConflict", iam.delete_virtual_mfa_device, SerialNumber=serial)
iam.deactivate_mfa_device(UserName="ana", SerialNumber=serial)
iam.delete_virtual_mfa_device(SerialNumber=serial)

iam.create_account_alias(AccountAlias="first-alias")
iam.create_account_alias(AccountAlias="second-alias")
assert iam.list_account_aliases()["AccountAliases"] == ["second-alias"]
refused("NoSuchEntity", iam.delete_account_alias, AccountAlias="first-alias")
summary = iam.get_account_summary()["SummaryMap"]
assert summary["Groups"] == 2 and summary["GroupsQuota"] == 300, summary
users = [u["UserName"] for u in paged("get_account_authorization_details", "UserDetailList")]
assert "ana" in users and "bob" in users, users
print("done")
"#;

#[test]
fn boto3_manages_groups_passwords_mfa_devices_and_the_account() {
    let Some(python) = python("boto3_manages_groups_passwords_mfa_devices_and_the_account") else {
        return;
    };
    let server = Running::up(&[]);
    let output = client(&python, &["-c", SCRIPT], &server.aws_environment());
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stderr),
        server.log_tail()
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "done");
}

/// Without what our document adds.
fn as_aws_has_it(mut document: Value) -> Value {
    for role in document["RoleDetailList"].as_array_mut().unwrap() {
        let role = role.as_object_mut().unwrap();
        role.remove("MaxSessionDuration");
        role.remove("Description");
    }
    document
}

#[test]
fn an_export_is_what_the_aws_cli_prints_and_is_imported_into_another_store() {
    let Some(aws) =
        aws_cli("an_export_is_what_the_aws_cli_prints_and_is_imported_into_another_store")
    else {
        return;
    };
    let server = Running::up(&[]);
    // Version 2 of the AWS CLI prints times so by default, version 1 when it is told to.
    let config = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(config.path(), "[default]\ncli_timestamp_format = iso8601\n").unwrap();
    let mut environment = server.aws_environment();
    let config_path = config.path().display().to_string();
    environment.insert("AWS_CONFIG_FILE".into(), config_path);
    let run = |args: &[&str]| {
        let output = client(&aws, args, &environment);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{args:?}: {stderr}");
        output.stdout
    };
    run(&[
        "iam",
        "create-group",
        "--group-name",
        "ops",
        "--path",
        "/team/",
    ]);
    run(&[
        "iam",
        "create-user",
        "--user-name",
        "bob",
        "--tags",
        "Key=a,Value=b",
    ]);
    run(&[
        "iam",
        "add-user-to-group",
        "--group-name",
        "ops",
        "--user-name",
        "bob",
    ]);
    let printed = run(&[
        "iam",
        "get-account-authorization-details",
        "--output",
        "json",
    ]);
    let data_dir = server.field("dataDir");
    let local = |args: &[&str]| {
        let output = countersign(args, &Default::default());
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{args:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    };
    let exported = local(&["iam", "export", "--data-dir", &data_dir, "-o", "json"]);
    let printed: Value = serde_json::from_slice(&printed).unwrap();
    let ours: Value = serde_json::from_str(&exported).unwrap();
    assert_eq!(as_aws_has_it(ours), printed);

    // Through a running server, whose account has the same number.
    let other = Running::up(&[]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &exported).unwrap();
    let other_dir = other.field("dataDir");
    let import = |more: &[&str]| {
        let from = file.path().display().to_string();
        let mut args = vec!["iam", "import", "--from", &from, "--data-dir", &other_dir];
        args.extend(more);
        local(&args)
    };
    let planned = import(&["--keep-ids", "--skip-existing", "--dry-run"]);
    assert!(planned.contains("would make  arn:aws:iam::"), "{planned}");
    let made = import(&["--keep-ids", "--skip-existing"]);
    assert_eq!(made, planned.replace("would make", "made"));
    let again = local(&["iam", "export", "--data-dir", &other_dir]);
    let of = |text: &str, list: &str| serde_json::from_str::<Value>(text).unwrap()[list].clone();
    assert_eq!(
        of(&again, "GroupDetailList"),
        of(&exported, "GroupDetailList")
    );
    let bob = |text: &str| {
        let users = of(text, "UserDetailList");
        let mut users = users.as_array().unwrap().clone().into_iter();
        users.find(|user| user["UserName"] == "bob").unwrap()
    };
    assert_eq!(bob(&again), bob(&exported));
}
