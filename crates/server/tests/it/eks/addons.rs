//! Add-ons: shapes, checks, updates, the associations they own, permissions (EKS API spec, section 14).

use countersign_store::records::AuthenticationMode::Api;
use serde_json::{Value, json};

use super::*;

const ADDONS: &str = "/clusters/c1/addons";
const POD_TRUST: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"},"Action":["sts:AssumeRole","sts:TagSession"]}]}"#;
const AGENT_VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"), "-eksbuild.1");

fn addon(name: &str) -> String {
    format!("{ADDONS}/{name}")
}

impl World {
    async fn addon(&self, method: &str, target: &str, body: &Value) -> Reply {
        self.eks(&self.ana, method, target, body).await
    }

    async fn create_addon(&self, body: &Value) -> Reply {
        self.addon("POST", ADDONS, body).await
    }

    async fn associations(&self) -> Vec<Value> {
        let target = "/clusters/c1/pod-identity-associations";
        let all = self.addon("GET", target, &Value::Null).await.ok();
        all["associations"].as_array().unwrap().clone()
    }
}

#[tokio::test]
async fn an_addon_from_creation_to_deletion() {
    let world = World::new().await;
    world.cluster("c1", Api).await;
    let missing = world
        .addon("GET", &addon("eks-pod-identity-agent"), &Value::Null)
        .await;
    missing.not_found("No addon: eks-pod-identity-agent found in cluster: c1");
    assert_eq!(missing.body["addonName"], "eks-pod-identity-agent");
    let body = json!({
        "addonName": "eks-pod-identity-agent", "tags": {"a": "1"}, "configurationValues": "{}",
        "resolveConflicts": "OVERWRITE",
    });
    let made = world.create_addon(&body).await.ok()["addon"].clone();
    assert_eq!(made["status"], "CREATING");
    let arn = made["addonArn"].as_str().unwrap();
    let begin = "arn:aws:eks:us-east-1:111122223333:addon/c1/eks-pod-identity-agent/";
    assert_eq!(arn.strip_prefix(begin).unwrap().len(), 36);
    world
        .create_addon(&body)
        .await
        .refused(409, "ResourceInUseException", "Addon already exists.");
    let shown = world
        .addon("GET", &addon("eks-pod-identity-agent"), &Value::Null)
        .await
        .ok()["addon"]
        .clone();
    assert_eq!(shown["status"], "ACTIVE");
    assert_eq!(shown["addonVersion"], AGENT_VERSION);
    assert_eq!(shown["health"]["issues"][0]["code"], "ClusterUnreachable");
    assert_eq!(
        shown["namespaceConfig"],
        json!({"namespace": "kube-system"})
    );
    assert_eq!(shown["podIdentityAssociations"], json!([]));
    assert_eq!(
        (
            &shown["publisher"],
            &shown["owner"],
            &shown["tags"],
            &shown["configurationValues"]
        ),
        (
            &json!("eks"),
            &json!("aws"),
            &json!({"a": "1"}),
            &json!("{}")
        )
    );
    assert!(shown.get("serviceAccountRoleArn").is_none());
    let tags = format!("/tags/{}", escape(arn));
    world
        .addon("POST", &tags, &json!({"tags": {"b": "2"}}))
        .await
        .ok();
    let got = world.addon("GET", &tags, &Value::Null).await.ok();
    assert_eq!(got, json!({"tags": {"a": "1", "b": "2"}}));
    for name in ["vpc-cni", "coredns"] {
        world
            .create_addon(&json!({"addonName": name, "addonVersion": "v9.9.9-eksbuild.7"}))
            .await
            .ok();
    }
    let listed = world.addon("GET", ADDONS, &Value::Null).await.ok();
    assert_eq!(
        listed,
        json!({"addons": ["coredns", "eks-pod-identity-agent", "vpc-cni"]})
    );
    let page = world
        .addon("GET", &format!("{ADDONS}?maxResults=2"), &Value::Null)
        .await
        .ok();
    let next = escape(page["nextToken"].as_str().unwrap());
    let page = world
        .addon(
            "GET",
            &format!("{ADDONS}?maxResults=2&nextToken={next}"),
            &Value::Null,
        )
        .await
        .ok();
    assert_eq!(page, json!({"addons": ["vpc-cni"]}));
    // An update is the add-on's, and found with its name only.
    let update = addon("vpc-cni") + "/update";
    let change = json!({"addonVersion": "v10.0.0-eksbuild.1", "resolveConflicts": "PRESERVE", "configurationValues": "env: {A: b}"});
    let started = world.addon("POST", &update, &change).await.ok()["update"].clone();
    assert_eq!(
        (&started["type"], &started["status"]),
        (&json!("AddonUpdate"), &json!("InProgress"))
    );
    assert_eq!(
        started["params"],
        json!([
            {"type": "AddonVersion", "value": "v10.0.0-eksbuild.1"},
            {"type": "ResolveConflicts", "value": "PRESERVE"},
            {"type": "ConfigurationValues", "value": "env: {A: b}"},
        ])
    );
    let id = started["id"].as_str().unwrap();
    let one = format!("/clusters/c1/updates/{id}");
    world
        .addon("GET", &one, &Value::Null)
        .await
        .not_found("No update found for ID: ");
    world
        .addon("GET", &format!("{one}?addonName=coredns"), &Value::Null)
        .await
        .not_found("No update found for ID: ");
    let done = world
        .addon("GET", &format!("{one}?addonName=vpc-cni"), &Value::Null)
        .await
        .ok();
    assert_eq!(done["update"]["status"], "Successful");
    let updates = "/clusters/c1/updates";
    assert_eq!(
        world.addon("GET", updates, &Value::Null).await.ok(),
        json!({"updateIds": []})
    );
    let of_addon = world
        .addon("GET", &format!("{updates}?addonName=vpc-cni"), &Value::Null)
        .await
        .ok();
    assert_eq!(of_addon, json!({"updateIds": [id]}));
    let shown = world
        .addon("GET", &addon("vpc-cni"), &Value::Null)
        .await
        .ok()["addon"]
        .clone();
    assert_eq!(
        (&shown["addonVersion"], &shown["configurationValues"]),
        (&json!("v10.0.0-eksbuild.1"), &json!("env: {A: b}"))
    );
    assert_eq!(shown["health"]["issues"], json!([]));
    let target = addon("vpc-cni") + "?preserve=true";
    let gone = world.addon("DELETE", &target, &Value::Null).await.ok();
    assert_eq!(gone["addon"]["status"], "DELETING");
    for (method, target) in [
        ("GET", addon("vpc-cni")),
        ("DELETE", target),
        ("POST", update),
    ] {
        let reply = world
            .addon(
                method,
                &target,
                &if method == "POST" {
                    change.clone()
                } else {
                    Value::Null
                },
            )
            .await;
        reply.not_found("No addon: vpc-cni found in cluster: c1");
    }
}

#[tokio::test]
async fn an_addon_owns_its_associations() {
    let world = World::new().await;
    world.cluster("c1", Api).await;
    let role = world.role("ebs", POD_TRUST).await;
    let other = world.role("ebs2", POD_TRUST).await;
    let pair = |role: &str| json!([{"serviceAccount": "ebs-csi-controller-sa", "roleArn": role}]);
    let body = json!({
        "addonName": "aws-ebs-csi-driver", "podIdentityAssociations": pair(&role),
        "namespaceConfig": {"namespace": "storage"},
    });
    let arn = world.create_addon(&body).await.ok()["addon"]["addonArn"].clone();
    let owned = world.associations().await;
    assert_eq!(owned.len(), 1);
    assert_eq!(
        (
            &owned[0]["namespace"],
            &owned[0]["serviceAccount"],
            &owned[0]["ownerArn"]
        ),
        (&json!("storage"), &json!("ebs-csi-controller-sa"), &arn)
    );
    let shown = world
        .addon("GET", &addon("aws-ebs-csi-driver"), &Value::Null)
        .await
        .ok()["addon"]
        .clone();
    assert_eq!(
        shown["podIdentityAssociations"],
        json!([owned[0]["associationArn"]])
    );
    assert_eq!(shown["namespaceConfig"], json!({"namespace": "storage"}));
    // Nobody else changes it.
    let id = owned[0]["associationId"].as_str().unwrap();
    let direct = format!("/clusters/c1/pod-identity-associations/{id}");
    let reply = world.addon("DELETE", &direct, &Value::Null).await;
    reply.refused(400, "InvalidRequestException", "");
    let update = addon("aws-ebs-csi-driver") + "/update";
    // Absent is no change; another role changes the association in its place; an empty list takes it away.
    let version = json!({"addonVersion": "v1.40.0-eksbuild.1"});
    world.addon("POST", &update, &version).await.ok();
    assert_eq!(world.associations().await, owned);
    let change = json!({ "podIdentityAssociations": pair(&other) });
    let started = world.addon("POST", &update, &change).await.ok()["update"].clone();
    assert_eq!(
        started["params"],
        json!([{
            "type": "PodIdentityAssociations",
            "value": format!("[{{\"roleArn\":\"{other}\",\"serviceAccount\":\"ebs-csi-controller-sa\"}}]"),
        }])
    );
    assert_eq!(world.associations().await, owned);
    let association = world.addon("GET", &direct, &Value::Null).await.ok()["association"].clone();
    assert_eq!(association["roleArn"], json!(other));
    let both = json!({ "serviceAccountRoleArn": role });
    world
        .addon("POST", &update, &both)
        .await
        .invalid("The service account of the addon cannot have both");
    let none = json!({"podIdentityAssociations": []});
    world.addon("POST", &update, &none).await.ok();
    assert_eq!(world.associations().await, Vec::<Value>::new());
    world.addon("POST", &update, &both).await.ok();
    world
        .addon("POST", &update, &change)
        .await
        .invalid("The service account of the addon cannot have both");
    // Deleting the add-on deletes what it owns.
    world
        .addon("DELETE", &addon("aws-ebs-csi-driver"), &Value::Null)
        .await
        .ok();
    world.create_addon(&body).await.ok();
    assert_eq!(world.associations().await.len(), 1);
    world
        .addon(
            "DELETE",
            &(addon("aws-ebs-csi-driver") + "?preserve=true"),
            &Value::Null,
        )
        .await
        .ok();
    assert_eq!(world.associations().await, Vec::<Value>::new());
    // An association that is there already stays whose it is, and nothing is made.
    let taken =
        json!({"namespace": "storage", "serviceAccount": "ebs-csi-controller-sa", "roleArn": role});
    world
        .addon("POST", "/clusters/c1/pod-identity-associations", &taken)
        .await
        .ok();
    world.create_addon(&body).await.refused(
        409,
        "ResourceInUseException",
        "Association already exists: a-",
    );
    assert_eq!(
        world.addon("GET", ADDONS, &Value::Null).await.ok(),
        json!({"addons": []})
    );
}

#[tokio::test]
async fn the_checks_and_their_texts() {
    let world = World::new().await;
    let ebs = "aws-ebs-csi-driver";
    let role = world.role("ebs", POD_TRUST).await;
    let untrusting = world.role("plain", &trusts(ACCOUNT, ASSUME, "")).await;
    let pair = |account: &str, role: &str| json!({"serviceAccount": account, "roleArn": role});
    let account = "ebs-csi-controller-sa";
    let unsupported = "Addon version specified is not supported";
    // What is wrong in itself comes before the cluster, which is not there.
    for (body, text) in [
        (
            json!({"addonName": "adot"}),
            "Addon adot specified is not supported.",
        ),
        (
            json!({"addonName": ""}),
            "Addon  specified is not supported.",
        ),
        (
            json!({"addonName": "vpc-cni", "addonVersion": "latest"}),
            unsupported,
        ),
        (
            json!({"addonName": "eks-pod-identity-agent", "addonVersion": "v1.3.4-eksbuild.1"}),
            unsupported,
        ),
        (
            json!({"addonName": "vpc-cni", "configurationValues": "[1]"}),
            "ConfigurationValue provided in request is not supported",
        ),
        (
            json!({"addonName": "vpc-cni", "configurationValues": "{\"a\":"}),
            "ConfigurationValue provided in request is not supported",
        ),
        (
            json!({"addonName": "vpc-cni", "resolveConflicts": "MAYBE"}),
            "",
        ),
        (
            json!({"addonName": "vpc-cni", "serviceAccountRoleArn": "role/x"}),
            "The roleArn parameter format is not valid",
        ),
        (
            json!({"addonName": "coredns", "podIdentityAssociations": [pair("coredns", &role)]}),
            "The service account coredns is not one of the addon coredns",
        ),
        (
            json!({"addonName": ebs, "podIdentityAssociations": [pair(account, &role), pair(account, &role)]}),
            "The service account ebs-csi-controller-sa has more than one",
        ),
        (
            json!({"addonName": ebs, "podIdentityAssociations": [pair(account, &role)], "serviceAccountRoleArn": role}),
            "The service account of the addon cannot have both",
        ),
    ] {
        let reply = world.create_addon(&body).await;
        reply.invalid(text);
        assert_eq!(reply.body["clusterName"], "c1", "{reply:?}");
    }
    let elsewhere = "arn:aws:iam::444455556666:role/x";
    for body in [
        json!({"addonName": ebs, "serviceAccountRoleArn": elsewhere}),
        json!({"addonName": ebs, "podIdentityAssociations": [pair(account, elsewhere)]}),
    ] {
        let reply = world.create_addon(&body).await;
        reply.refused(
            403,
            "AccessDeniedException",
            "Cross-account pass role is not allowed.",
        );
    }
    world
        .create_addon(&json!({"addonName": "vpc-cni"}))
        .await
        .not_found("No cluster found for name: c1.");
    world
        .eks(
            &world.ana,
            "POST",
            "/clusters/-c1/addons",
            &json!({"addonName": "vpc-cni"}),
        )
        .await
        .invalid("");
    world.cluster("c1", Api).await;
    let body = json!({"addonName": ebs, "podIdentityAssociations": [pair(account, &untrusting)]});
    world
        .create_addon(&body)
        .await
        .invalid("Trust policy of the role provided is invalid.");
    world
        .create_addon(&json!({"addonName": ebs, "serviceAccountRoleArn": role}))
        .await
        .ok();
    let update = addon(ebs) + "/update";
    world
        .addon("POST", &update, &json!({}))
        .await
        .invalid("At least one of addonVersion");
    world
        .addon("POST", &update, &json!({"addonVersion": "1"}))
        .await
        .invalid(unsupported);
    world
        .addon(
            "POST",
            &(addon("adot") + "/update"),
            &json!({"addonVersion": "1"}),
        )
        .await
        .not_found("No addon: adot found");
    let once = json!({"addonName": "coredns", "clientRequestToken": "t"});
    let first = world.create_addon(&once).await.ok();
    assert_eq!(world.create_addon(&once).await.ok(), first);
}

#[tokio::test]
async fn the_catalogue_is_told_in_versions_and_schemas() {
    let world = World::new().await;
    let target = "/addons/supported-versions";
    let all = world.addon("GET", target, &Value::Null).await.ok();
    let names = |answer: &Value| -> Vec<String> {
        let addons = answer["addons"].as_array().unwrap().iter();
        addons
            .map(|addon| addon["addonName"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        names(&all),
        [
            "aws-ebs-csi-driver",
            "aws-efs-csi-driver",
            "coredns",
            "eks-pod-identity-agent",
            "kube-proxy",
            "vpc-cni"
        ]
    );
    for (query, expected) in [
        ("addonName=vpc-cni", 1),
        ("addonName=none", 0),
        ("types=storage", 2),
        ("types=storage&types=security", 3),
        ("publishers=eks&owners=aws", 6),
        ("owners=aws-marketplace", 0),
        ("kubernetesVersion=1.33", 6),
        ("maxResults=4", 4),
    ] {
        let answer = world
            .addon("GET", &format!("{target}?{query}"), &Value::Null)
            .await
            .ok();
        assert_eq!(names(&answer).len(), expected, "{query}");
    }
    let one = world
        .addon(
            "GET",
            &format!("{target}?addonName=eks-pod-identity-agent&kubernetesVersion=1.33"),
            &Value::Null,
        )
        .await
        .ok();
    let version = &one["addons"][0]["addonVersions"][0];
    assert_eq!(version["addonVersion"], AGENT_VERSION);
    assert_eq!(
        version["compatibilities"],
        json!([{"clusterVersion": "1.33", "platformVersions": ["*"], "defaultVersion": true}])
    );
    world
        .addon(
            "GET",
            &format!("{target}?kubernetesVersion=2.0"),
            &Value::Null,
        )
        .await
        .invalid("unsupported Kubernetes version 2.0");
    let schemas = "/addons/configuration-schemas";
    let query = format!("{schemas}?addonName=aws-ebs-csi-driver&addonVersion=v1.37.0-eksbuild.1");
    let shown = world.addon("GET", &query, &Value::Null).await.ok();
    let schema: Value =
        serde_json::from_str(shown["configurationSchema"].as_str().unwrap()).unwrap();
    assert_eq!(schema["type"], "object");
    assert_eq!(
        shown["podIdentityConfiguration"][0]["serviceAccount"],
        "ebs-csi-controller-sa"
    );
    let query = format!("{schemas}?addonName=none&addonVersion=v1.37.0-eksbuild.1");
    world
        .addon("GET", &query, &Value::Null)
        .await
        .invalid("Addon none specified is not supported.");
    world.addon("GET", schemas, &Value::Null).await.invalid("");
}

#[tokio::test]
async fn roles_and_tags_need_more_than_the_action() {
    let world = World::new().await;
    world.cluster("c1", Api).await;
    let role = world.role("ebs", POD_TRUST).await;
    let statement = |action: &str, resource: &str, service: Option<&str>| {
        let mut statement = json!({"Effect": "Allow", "Action": action, "Resource": resource});
        if let Some(service) = service {
            statement["Condition"] = json!({"StringEquals": {"iam:PassedToService": service}});
        }
        statement
    };
    let cluster = "arn:aws:eks:us-east-1:111122223333:cluster/c1";
    let addons = "arn:aws:eks:us-east-1:111122223333:addon/c1/*";
    let ebs = json!({"addonName": "aws-ebs-csi-driver"});
    let with = |member: &str, value: Value| {
        let mut body = ebs.clone();
        body[member] = value;
        body
    };
    let irsa = with("serviceAccountRoleArn", json!(role));
    let pair = json!([{"serviceAccount": "ebs-csi-controller-sa", "roleArn": role}]);
    let pods = with("podIdentityAssociations", pair);
    let tagged = with("tags", json!({"a": "1"}));
    let create = statement("eks:CreateAddon", cluster, None);
    let associate = statement("eks:CreatePodIdentityAssociation", cluster, None);
    let to_eks = statement("iam:PassRole", "*", Some("eks.amazonaws.com"));
    let to_pods = statement("iam:PassRole", "*", Some("pods.eks.amazonaws.com"));
    let tag = statement("eks:TagResource", addons, None);
    for (statements, body, allowed) in [
        (vec![], &ebs, false),
        (vec![&create], &ebs, true),
        (vec![&create], &irsa, false),
        (vec![&create, &to_pods], &irsa, false),
        (vec![&create, &to_eks], &irsa, true),
        (vec![&create, &to_pods], &pods, false),
        (vec![&create, &associate], &pods, false),
        (vec![&create, &associate, &to_eks], &pods, false),
        (vec![&create, &associate, &to_pods], &pods, true),
        (vec![&create], &tagged, false),
        (vec![&create, &tag], &tagged, true),
    ] {
        let document = json!({"Version": "2012-10-17", "Statement": statements});
        let nothing = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "none:None", "Resource": "*"}]});
        let document = if statements.is_empty() {
            nothing
        } else {
            document
        };
        world.allow_user("bob", &document.to_string()).await;
        let reply = world.eks(&world.bob, "POST", ADDONS, body).await;
        if allowed {
            reply.ok();
            world
                .addon("DELETE", &addon("aws-ebs-csi-driver"), &Value::Null)
                .await
                .ok();
        } else {
            reply.denied();
        }
    }
}
