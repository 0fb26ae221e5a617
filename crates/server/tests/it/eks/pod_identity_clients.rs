//! Pod identity associations with boto3 and the AWS CLI, unmodified.

use serde_json::{Value, json};

use super::clients::{client, printed, running};

const SCRIPT: &str = r#"
import boto3, botocore, json, os, datetime
eks = boto3.client("eks")
iam = boto3.client("iam", endpoint_url=os.environ["AWS_ENDPOINT_URL_EKS"])
warnings = []
eks.meta.events.register("after-call.eks", lambda http_response, **_: warnings.extend(v for k, v in http_response.headers.items() if k.lower() == "x-countersign-warning"))
def code(call):
    try:
        call()
    except botocore.exceptions.ClientError as error:
        return [error.response["Error"]["Code"], error.response["Error"]["Message"].split(".")[0], error.response.get("clusterName"), error.response["ResponseMetadata"]["HTTPStatusCode"]]
    return None
trust = lambda actions: json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "pods.eks.amazonaws.com"}, "Action": actions}]})
role = iam.create_role(RoleName="picker", Path="/team/", AssumeRolePolicyDocument=trust(["sts:AssumeRole", "sts:TagSession"]))["Role"]["Arn"]
half = iam.create_role(RoleName="half", AssumeRolePolicyDocument=trust("sts:AssumeRole"))["Role"]["Arn"]
eks.create_cluster(name="c1", roleArn="arn:aws:iam::111122223333:role/control-plane", resourcesVpcConfig={"subnetIds": ["subnet-1"]})
eks.get_waiter("cluster_active").wait(name="c1")
out = {}
made = eks.create_pod_identity_association(clusterName="c1", namespace="orchard", serviceAccount="picker", roleArn=role, tags={"k": "v"})["association"]
assert isinstance(made["createdAt"], datetime.datetime)
out["made"] = [made["roleArn"], made["tags"], made["associationArn"].endswith("/c1/" + made["associationId"])]
out["warnings"] = [w.split("%")[1] for w in warnings]
out["again"] = code(lambda: eks.create_pod_identity_association(clusterName="c1", namespace="orchard", serviceAccount="picker", roleArn=role))
out["again"][1] = out["again"][1].replace(made["associationId"], "ID")
out["half"] = code(lambda: eks.create_pod_identity_association(clusterName="c1", namespace="orchard", serviceAccount="other", roleArn=half))
out["foreign"] = code(lambda: eks.create_pod_identity_association(clusterName="c1", namespace="orchard", serviceAccount="other", roleArn="arn:aws:iam::444455556666:role/x"))
for name in "cab":
    eks.create_pod_identity_association(clusterName="c1", namespace="meadow", serviceAccount=name, roleArn=role)
pages = list(eks.get_paginator("list_pod_identity_associations").paginate(clusterName="c1", PaginationConfig={"PageSize": 2}))
out["pages"] = [len(page["associations"]) for page in pages]
out["listed"] = [a["namespace"] + "/" + a["serviceAccount"] for page in pages for a in page["associations"]]
out["filtered"] = [a["serviceAccount"] for a in eks.list_pod_identity_associations(clusterName="c1", namespace="orchard")["associations"]]
found = eks.describe_pod_identity_association(clusterName="c1", associationId=made["associationId"])["association"]
assert found == made, (found, made)
target = "arn:aws:iam::444455556666:role/target"
changed = eks.update_pod_identity_association(clusterName="c1", associationId=made["associationId"], targetRoleArn=target, disableSessionTags=True)["association"]
out["changed"] = [changed["targetRoleArn"], changed["externalId"], changed["disableSessionTags"]]
arn = made["associationArn"]
eks.tag_resource(resourceArn=arn, tags={"x": "y"})
eks.untag_resource(resourceArn=arn, tagKeys=["k"])
out["tags"] = eks.list_tags_for_resource(resourceArn=arn)["tags"]
gone = eks.delete_pod_identity_association(clusterName="c1", associationId=made["associationId"])["association"]
out["gone"] = gone["associationId"] == made["associationId"]
out["missing"] = code(lambda: eks.describe_pod_identity_association(clusterName="c1", associationId="a-1"))
print(json.dumps(out))
"#;

#[tokio::test(flavor = "multi_thread")]
async fn boto3_manages_associations() {
    let Some(python) = client("COUNTERSIGN_TEST_PYTHON") else {
        return;
    };
    let server = running().await;
    let home = tempfile::tempdir().unwrap();
    let output = server.run(&python, &["-c", SCRIPT], home.path()).await;
    let out: Value = serde_json::from_str(&printed(&output)).unwrap();
    let role = "arn:aws:iam::111122223333:role/team/picker";
    let untrusted = "Trust policy of the role provided is invalid";
    for (name, expected) in [
        ("made", json!([role, {"k": "v"}, true])),
        (
            "warnings",
            json!([
                " of the packed policy size, with a pod name of 253 characters; AWS counts about 74"
            ]),
        ),
        (
            "again",
            json!([
                "ResourceInUseException",
                "Association already exists: ID",
                "c1",
                409
            ]),
        ),
        (
            "half",
            json!(["InvalidParameterException", untrusted, "c1", 400]),
        ),
        (
            "foreign",
            json!([
                "AccessDeniedException",
                "Cross-account pass role is not allowed",
                null,
                403
            ]),
        ),
        ("pages", json!([2, 2])),
        (
            "listed",
            json!(["meadow/a", "meadow/b", "meadow/c", "orchard/picker"]),
        ),
        ("filtered", json!(["picker"])),
        (
            "changed",
            json!([
                "arn:aws:iam::444455556666:role/target",
                "us-east-1/111122223333/c1/orchard/picker",
                true
            ]),
        ),
        ("tags", json!({"x": "y"})),
        ("gone", json!(true)),
        (
            "missing",
            json!([
                "ResourceNotFoundException",
                "No pod identity association found for ID: a-1",
                "c1",
                404
            ]),
        ),
    ] {
        assert_eq!(out[name], expected, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_aws_cli_manages_associations() {
    let Some(aws) = client("COUNTERSIGN_TEST_AWS") else {
        return;
    };
    let server = running().await;
    let home = tempfile::tempdir().unwrap();
    let trust = json!({"Version": "2012-10-17", "Statement": {
        "Effect": "Allow",
        "Principal": {"Service": "pods.eks.amazonaws.com"},
        "Action": ["sts:AssumeRole", "sts:TagSession"],
    }})
    .to_string();
    let run = async |args: &[&str]| -> Value {
        let output = server.run(&aws, args, home.path()).await;
        serde_json::from_str(&printed(&output)).unwrap_or(Value::Null)
    };
    let endpoint = server.url();
    let role = run(&[
        "iam",
        "create-role",
        "--role-name",
        "picker",
        "--assume-role-policy-document",
        &trust,
        "--endpoint-url",
        endpoint,
    ])
    .await;
    let role = role["Role"]["Arn"].as_str().unwrap().to_owned();
    let cluster = [
        "eks",
        "create-cluster",
        "--name",
        "c1",
        "--role-arn",
        super::CONTROL_PLANE,
        "--resources-vpc-config",
        "subnetIds=subnet-1",
    ];
    run(&cluster).await;
    run(&["eks", "wait", "cluster-active", "--name", "c1"]).await;
    let subject = ["--cluster-name", "c1", "--namespace", "orchard"];
    let made = run(&[
        &["eks", "create-pod-identity-association"][..],
        &subject,
        &[
            "--service-account",
            "picker",
            "--role-arn",
            &role,
            "--tags",
            "k=v",
        ],
    ]
    .concat())
    .await;
    let id = made["association"]["associationId"]
        .as_str()
        .unwrap()
        .to_owned();
    let listed = run(&[&["eks", "list-pod-identity-associations"][..], &subject].concat()).await;
    assert_eq!(listed["associations"][0]["associationId"], *id);
    let one = ["--cluster-name", "c1", "--association-id", &id];
    let found = run(&[&["eks", "describe-pod-identity-association"][..], &one].concat()).await;
    assert_eq!(found, made);
    let change = ["--disable-session-tags"];
    let changed = run(&[
        &["eks", "update-pod-identity-association"][..],
        &one,
        &change,
    ]
    .concat())
    .await;
    assert_eq!(changed["association"]["disableSessionTags"], true);
    let deleted = run(&[&["eks", "delete-pod-identity-association"][..], &one].concat()).await;
    assert_eq!(deleted, changed);
}
