//! Identity provider configs and add-ons with boto3 and the AWS CLI, and people who come in with ID tokens of a real issuer.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;

use countersign_oidc::{Algorithm, SigningKey};
use serde_json::{Value, json};

use crate::harness::{Running, aws_cli, client, python};
use crate::web_identity::{ISSUER, Issuer};

const CONFIG: &str = r#"
countersign:
  webIdentity:
    issuerTimeoutMs: 2000
    issuers:
    - url: https://issuer.example/id/1
      caFile: CAFILE
      connectTo: ADDRESS
"#;

const CONFIGS: &str = r#"
import boto3, json, os
eks = boto3.client("eks")
cluster, issuer = os.environ["CLUSTER"], os.environ["ISSUER"]
out = {}
def code(call):
    try:
        call()
    except Exception as error:
        return [type(error).__name__, error.response["Error"]["Message"]]
def config(name, url):
    return dict(clusterName=cluster, oidc=dict(identityProviderConfigName=name, issuerUrl=url, clientId="kubernetes",
        usernameClaim="email", usernamePrefix="corp:", groupsClaim="groups", groupsPrefix="corp:",
        requiredClaims={"hd": "corp.example"}))
# An issuer that does not answer, and one at an address that is not public, say so at once.
out["silent"] = code(lambda: eks.associate_identity_provider_config(**config("silent", issuer + "/none")))
out["private"] = code(lambda: eks.associate_identity_provider_config(**config("private", "https://127.0.0.1/")))
made = eks.associate_identity_provider_config(**config("corp", issuer), tags={"team": "a"})
update = eks.describe_update(name=cluster, updateId=made["update"]["id"])["update"]
out["update"] = [made["update"]["status"], update["status"], update["type"], json.loads(update["params"][0]["value"]), made["tags"]]
named = dict(clusterName=cluster, identityProviderConfig={"type": "oidc", "name": "corp"})
shown = eks.describe_identity_provider_config(**named)["identityProviderConfig"]["oidc"]
out["shown"] = [shown["status"], shown["issuerUrl"], shown["requiredClaims"], shown["tags"]]
eks.tag_resource(resourceArn=shown["identityProviderConfigArn"], tags={"b": "2"})
out["tags"] = eks.list_tags_for_resource(resourceArn=shown["identityProviderConfigArn"])["tags"]
pages = eks.get_paginator("list_identity_provider_configs").paginate(clusterName=cluster, PaginationConfig={"PageSize": 1})
out["list"] = [one for page in pages for one in page["identityProviderConfigs"]]
out["again"] = code(lambda: eks.associate_identity_provider_config(**config("corp", issuer)))
print(json.dumps(out))
"#;

const ADDONS: &str = r#"
import boto3, json, os
eks, iam = boto3.client("eks"), boto3.client("iam")
cluster = os.environ["CLUSTER"]
out = {}
def code(call):
    try:
        call()
    except Exception as error:
        return type(error).__name__
role = iam.create_role(RoleName="ebs", AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Principal": {"Service": "pods.eks.amazonaws.com"}, "Action": ["sts:AssumeRole", "sts:TagSession"]}]}))["Role"]["Arn"]
one = dict(clusterName=cluster, addonName="aws-ebs-csi-driver")
out["missing"] = code(lambda: eks.describe_addon(**one))
version = eks.describe_addon_versions(addonName="aws-ebs-csi-driver")["addons"][0]["addonVersions"][0]["addonVersion"]
schema = eks.describe_addon_configuration(addonName="aws-ebs-csi-driver", addonVersion=version)
account = schema["podIdentityConfiguration"][0]["serviceAccount"]
made = eks.create_addon(**one, addonVersion=version, resolveConflicts="OVERWRITE", configurationValues="controller: {}",
    podIdentityAssociations=[{"serviceAccount": account, "roleArn": role}], tags={"a": "1"})["addon"]
out["made"] = made["status"]
eks.get_waiter("addon_active").wait(**one)
shown = eks.describe_addon(**one)["addon"]
associations = eks.list_pod_identity_associations(clusterName=cluster)["associations"]
out["owned"] = [[a["associationArn"] for a in associations] == shown["podIdentityAssociations"], associations[0]["ownerArn"] == shown["addonArn"]]
update = eks.update_addon(**one, podIdentityAssociations=[])["update"]
out["update"] = eks.describe_update(name=cluster, updateId=update["id"], addonName="aws-ebs-csi-driver")["update"]["status"]
out["left"] = eks.list_pod_identity_associations(clusterName=cluster)["associations"]
out["list"] = eks.list_addons(clusterName=cluster)["addons"]
eks.delete_addon(**one, preserve=True)
eks.get_waiter("addon_deleted").wait(**one)
eks.create_addon(clusterName=cluster, addonName="eks-pod-identity-agent")
eks.get_waiter("addon_active").wait(clusterName=cluster, addonName="eks-pod-identity-agent")
agent = eks.describe_addon(clusterName=cluster, addonName="eks-pod-identity-agent")["addon"]
out["agent"] = [agent["status"], agent["health"]["issues"][0]["code"]]
print(json.dumps(out))
"#;

fn start(issuer: &Issuer) -> Running {
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("issuer-ca.pem");
    std::fs::write(&ca, &issuer.ca_pem).unwrap();
    let config = CONFIG
        .replace("CAFILE", &ca.display().to_string())
        .replace("ADDRESS", &issuer.address.to_string());
    let file = dir.path().join("config.yaml");
    std::fs::write(&file, config).unwrap();
    let file = file.display().to_string();
    Running::start_in(dir, "up", &["--config", &file])
}

fn environment(server: &Running) -> BTreeMap<String, String> {
    let mut environment = server.aws_environment();
    environment.insert("CLUSTER".into(), server.field("cluster"));
    environment.insert("ISSUER".into(), ISSUER.into());
    environment
}

fn run(program: &Path, args: &[&str], server: &Running) -> Value {
    let output = client(program, args, &environment(server));
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stderr),
        server.log_tail()
    );
    if output.stdout.is_empty() {
        return Value::Null;
    }
    serde_json::from_slice(&output.stdout).unwrap()
}

fn token(key: &SigningKey, more: Value) -> String {
    let now = jiff::Timestamp::now().as_second();
    let mut claims = json!({
        "iss": ISSUER, "sub": "1234", "aud": "kubernetes", "exp": now + 600, "email": "ana@corp.example",
        "email_verified": true, "groups": ["dev"], "hd": "corp.example", "jti": "t-1",
    });
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    key.sign(&claims).unwrap()
}

#[test]
fn boto3_associates_an_issuer_whose_people_are_let_in_at_once() {
    let Some(python) = python("boto3_associates_an_issuer_whose_people_are_let_in_at_once") else {
        return;
    };
    let key = SigningKey::generate(Algorithm::Rs256).unwrap();
    let issuer = Issuer::start(&key);
    let server = start(&issuer);
    let good = token(&key, json!({}));
    let refused = |review: &(u16, Value)| review.1["status"]["authenticated"] == json!(false);
    assert!(refused(&server.review("/authenticate", &good)));
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 0);
    let out = run(&python, &["-c", CONFIGS], &server);
    assert_eq!(out["silent"][0], "InvalidParameterException");
    assert_eq!(out["private"][0], "InvalidParameterException");
    assert_eq!(
        out["update"],
        json!([
            "InProgress", "Successful", "AssociateIdentityProviderConfig",
            [{"type": "oidc", "name": "corp"}], {"team": "a"},
        ])
    );
    assert_eq!(
        out["shown"],
        json!(["ACTIVE", ISSUER, {"hd": "corp.example"}, {"team": "a"}])
    );
    assert_eq!(out["tags"], json!({"team": "a", "b": "2"}));
    assert_eq!(out["list"], json!([{"type": "oidc", "name": "corp"}]));
    assert_eq!(out["again"][0], "ResourceInUseException");
    let (status, review) = server.review("/authenticate", &good);
    assert_eq!(status, 200, "{review}");
    assert_eq!(
        review["status"],
        json!({"authenticated": true, "user": {
            "username": "corp:ana@corp.example", "groups": ["corp:dev"],
            "extra": {"authentication.kubernetes.io/credential-id": ["JTI=t-1"]},
        }})
    );
    for (what, bad) in [
        ("another audience", token(&key, json!({"aud": "other"}))),
        ("expired", token(&key, json!({"exp": 1}))),
        (
            "not verified",
            token(&key, json!({"email_verified": false})),
        ),
        ("another domain", token(&key, json!({"hd": "evil.example"}))),
        (
            "a stranger's",
            token(&SigningKey::generate(Algorithm::Rs256).unwrap(), json!({})),
        ),
    ] {
        let review = server.review("/authenticate", &bad);
        assert!(refused(&review), "{what}: {review:?}");
        let error = review.1["status"]["error"].as_str().unwrap();
        assert!(error.starts_with("oidc: "), "{what}: {error}");
    }
    // The issuer may be away; a new key of it is found when it is back.
    issuer.down.store(true, Ordering::SeqCst);
    assert_eq!(
        server.review("/authenticate", &good).1["status"]["authenticated"],
        true
    );
    issuer.down.store(false, Ordering::SeqCst);
}

#[test]
fn aws_cli_disassociates_an_issuer_and_its_people_are_out_at_once() {
    let Some(aws) = aws_cli("aws_cli_disassociates_an_issuer_and_its_people_are_out_at_once")
    else {
        return;
    };
    let key = SigningKey::generate(Algorithm::Es256).unwrap();
    let issuer = Issuer::start(&key);
    let server = start(&issuer);
    let cluster = server.field("cluster");
    let good = token(&key, json!({}));
    let oidc = format!(
        "identityProviderConfigName=corp,issuerUrl={ISSUER},clientId=kubernetes,usernamePrefix=-"
    );
    let eks = |args: &[&str]| {
        let args: Vec<&str> = ["eks"]
            .iter()
            .chain(args)
            .copied()
            .chain(["--output", "json"])
            .collect();
        run(&aws, &args, &server)
    };
    let made = eks(&[
        "associate-identity-provider-config",
        "--cluster-name",
        &cluster,
        "--oidc",
        &oidc,
    ]);
    assert_eq!(made["update"]["type"], "AssociateIdentityProviderConfig");
    let (_, review) = server.review("/authenticate", &good);
    assert_eq!(review["status"]["user"]["username"], "1234", "{review}");
    let named = [
        "--cluster-name",
        &cluster,
        "--identity-provider-config",
        "type=oidc,name=corp",
    ];
    let gone = eks(&[&["disassociate-identity-provider-config"][..], &named[..]].concat());
    assert_eq!(gone["update"]["params"][0]["value"], "[]");
    let (_, review) = server.review("/authenticate", &good);
    assert_eq!(review["status"]["authenticated"], false, "{review}");
    let listed = eks(&["list-identity-provider-configs", "--cluster-name", &cluster]);
    assert_eq!(listed["identityProviderConfigs"], json!([]));
    eks(&[
        "create-addon",
        "--cluster-name",
        &cluster,
        "--addon-name",
        "coredns",
    ]);
    eks(&[
        "wait",
        "addon-active",
        "--cluster-name",
        &cluster,
        "--addon-name",
        "coredns",
    ]);
    eks(&[
        "delete-addon",
        "--cluster-name",
        &cluster,
        "--addon-name",
        "coredns",
    ]);
    eks(&[
        "wait",
        "addon-deleted",
        "--cluster-name",
        &cluster,
        "--addon-name",
        "coredns",
    ]);
}

#[test]
fn boto3_manages_addons_and_its_waiters_come_back() {
    let Some(python) = python("boto3_manages_addons_and_its_waiters_come_back") else {
        return;
    };
    let server = Running::up(&[]);
    let out = run(&python, &["-c", ADDONS], &server);
    assert_eq!(
        out,
        json!({
            "missing": "ResourceNotFoundException", "made": "CREATING", "owned": [true, true],
            "update": "Successful", "left": [], "list": ["aws-ebs-csi-driver"],
            "agent": ["ACTIVE", "ClusterUnreachable"],
        })
    );
}
