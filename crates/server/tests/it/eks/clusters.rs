//! Clusters (EKS API spec, section 3).

use countersign_server::aws::EksOptions;
use countersign_store::records::AuthenticationMode::{Api, ConfigMap};
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::*;

#[tokio::test]
async fn a_cluster_is_created_described_and_deleted() {
    let world = World::new().await;
    world
        .role("control-plane", &trusts(ACCOUNT, ASSUME, ""))
        .await;
    let body = create(
        "c1",
        json!({
            "version": "1.33",
            "tags": {"Team": "blue"},
            "accessConfig": {"authenticationMode": "API"},
            "logging": {"clusterLogging": [{"types": ["audit", "api"], "enabled": true}]},
            "deletionProtection": true,
            "clientRequestToken": "t1",
        }),
    );
    let made = world.eks(&world.ana, "POST", "/clusters", &body).await.ok();
    let made = &made["cluster"];
    assert_eq!(made["status"], "CREATING");
    assert_eq!(made["certificateAuthority"], json!({}));
    assert!(made.get("endpoint").is_none());
    let found = world
        .eks(&world.ana, "GET", "/clusters/c1", &Value::Null)
        .await
        .ok();
    let found = &found["cluster"];
    for (pointer, expected) in [
        ("/name", json!("c1")),
        (
            "/arn",
            json!("arn:aws:eks:us-east-1:111122223333:cluster/c1"),
        ),
        ("/status", json!("ACTIVE")),
        ("/version", json!("1.33")),
        ("/roleArn", json!(CONTROL_PLANE)),
        ("/tags", json!({"Team": "blue"})),
        (
            "/accessConfig",
            json!({"authenticationMode": "API", "bootstrapClusterCreatorAdminPermissions": true}),
        ),
        (
            "/resourcesVpcConfig",
            json!({
                "subnetIds": ["subnet-1", "subnet-2"],
                "securityGroupIds": [],
                "endpointPublicAccess": true,
                "endpointPrivateAccess": false,
                "publicAccessCidrs": ["0.0.0.0/0"],
            }),
        ),
        (
            "/kubernetesNetworkConfig",
            json!({"ipFamily": "ipv4", "serviceIpv4Cidr": "10.100.0.0/16", "elasticLoadBalancing": {"enabled": false}}),
        ),
        (
            "/logging",
            json!({"clusterLogging": [
                {"types": ["api", "audit"], "enabled": true},
                {"types": ["authenticator", "controllerManager", "scheduler"], "enabled": false},
            ]}),
        ),
        ("/upgradePolicy", json!({"supportType": "EXTENDED"})),
        ("/deletionProtection", json!(true)),
        ("/health", json!({"issues": []})),
        ("/certificateAuthority/data", json!("")),
    ] {
        assert_eq!(
            found.pointer(pointer),
            Some(&expected),
            "{pointer}: {found}"
        );
    }
    let endpoint = found["endpoint"].as_str().unwrap();
    assert!(endpoint.starts_with("https://"), "{endpoint}");

    let delete = async || {
        world
            .eks(&world.ana, "DELETE", "/clusters/c1", &Value::Null)
            .await
    };
    delete().await.refused(
        400,
        "InvalidRequestException",
        "Cluster c1 has deletion protection enabled.",
    );
    let update = json!({"deletionProtection": false});
    world
        .eks(&world.ana, "POST", "/clusters/c1/update-config", &update)
        .await
        .ok();
    let gone = delete().await.ok();
    assert_eq!(gone["cluster"]["status"], "DELETING");
    delete().await.not_found("No cluster found for name: c1.");
    // The name is free, and its next owner gets nothing of the old one.
    let body = create("c1", json!({}));
    world.eks(&world.ana, "POST", "/clusters", &body).await.ok();
}

#[tokio::test]
async fn what_cannot_be_is_refused_in_words_that_clients_know() {
    let world = World::new().await;
    world.cluster("there", Api).await;
    let access = |mode: &str, more: Value| {
        let mut body = json!({"accessConfig": {"authenticationMode": mode}});
        for (member, value) in more.as_object().unwrap() {
            body[member] = value.clone();
        }
        body
    };
    let vpc = |more: Value| json!({ "resourcesVpcConfig": more });
    let network = |more: Value| json!({ "kubernetesNetworkConfig": more });
    let remote =
        json!({"remoteNetworkConfig": {"remoteNodeNetworks": [{"cidrs": ["10.0.0.0/16"]}]}});
    let automatic = json!({
        "computeConfig": {"enabled": true},
        "kubernetesNetworkConfig": {"elasticLoadBalancing": {"enabled": true}},
        "storageConfig": {"blockStorage": {"enabled": true}},
    });
    let half = json!({"computeConfig": {"enabled": true}});
    for (name, more, message) in [
        (
            "-c",
            json!({}),
            "The parameter name contains invalid characters. It should conform to the regular expression ^[0-9A-Za-z]",
        ),
        (
            "",
            json!({}),
            "The parameter name contains invalid characters.",
        ),
        (
            &*"a".repeat(101),
            json!({}),
            "The parameter name contains invalid characters.",
        ),
        (
            "a.b",
            json!({}),
            "The parameter name contains invalid characters.",
        ),
        (
            "c",
            json!({"roleArn": null}),
            "The parameter roleArn is required",
        ),
        (
            "c",
            json!({"resourcesVpcConfig": null}),
            "The parameter resourcesVpcConfig is required",
        ),
        (
            "c",
            json!({"accessConfig": {"authenticationMode": "ALL"}}),
            "The parameter accessConfig.authenticationMode must be one of [API, API_AND_CONFIG_MAP, CONFIG_MAP]",
        ),
        (
            "c",
            json!({"accessConfig": {"bootstrapClusterCreatorAdminPermissions": false}}),
            "bootstrapClusterCreatorAdminPermissions must be true if cluster authentication mode is set to CONFIG_MAP",
        ),
        (
            "c",
            vpc(json!({"endpointPublicAccess": false})),
            "Private and public endpoint access cannot be false",
        ),
        (
            "c",
            json!({"version": "1.9"}),
            "unsupported Kubernetes version 1.9",
        ),
        (
            "c",
            json!({"version": "1.33.2"}),
            "unsupported Kubernetes version 1.33.2",
        ),
        (
            "c",
            vpc(json!({"subnetIds": ["vpc-1"]})),
            "The subnet ID 'vpc-1' does not exist",
        ),
        (
            "c",
            vpc(json!({"securityGroupIds": ["sg-1", "sg-2", "sg-3", "sg-4", "sg-5"]})),
            "5 sg IDs, and at most 4 are allowed",
        ),
        (
            "c",
            vpc(json!({"publicAccessCidrs": ["10.0.0.0/8"]})),
            "The following CIDRs are invalid in publicAccessCidrs: [10.0.0.0/8]",
        ),
        (
            "c",
            vpc(json!({"publicAccessCidrs": ["2001:db8::/32"]})),
            "The following CIDRs are invalid in publicAccessCidrs",
        ),
        (
            "c",
            vpc(json!({"controlPlaneEgressMode": "CUSTOMER_ISOLATED"})),
            "The parameter controlPlaneEgressMode is not offered",
        ),
        (
            "c",
            json!({"kubeApiServerConfig": {}}),
            "The parameter kubeApiServerConfig is not offered",
        ),
        (
            "c",
            access("CONFIG_MAP", automatic.clone()),
            "When EKS Auto Mode is enabled, you must use an EKS access config authentication mode of API_AND_CONFIG_MAP or API",
        ),
        (
            "c",
            access("API", half),
            "For EKS Auto Mode, please ensure that all required configs",
        ),
        (
            "c",
            access("CONFIG_MAP", remote.clone()),
            "AccessConfig AuthMode must be API_AND_CONFIG_MAP or API when remoteNetworkConfig is specified",
        ),
        (
            "c",
            network(json!({"serviceIpv4Cidr": "100.64.0.0/16"})),
            "serviceIpv4Cidr 100.64.0.0/16 is not valid: it must be within RFC1918 range",
        ),
        (
            "c",
            network(json!({"serviceIpv4Cidr": "10.0.0.0/25"})),
            "serviceIpv4Cidr 10.0.0.0/25 is not valid",
        ),
        (
            "c",
            network(json!({"serviceIpv4Cidr": "10.0.0.0/8"})),
            "serviceIpv4Cidr 10.0.0.0/8 is not valid",
        ),
        (
            "c",
            network(json!({"ipFamily": "ipv6", "serviceIpv4Cidr": "10.0.0.0/16"})),
            "serviceIpv4Cidr cannot be specified",
        ),
        (
            "c",
            json!({"encryptionConfig": [{"resources": ["pods"], "provider": {"keyArn": "arn:aws:kms:us-east-1:111122223333:key/1"}}]}),
            "The resources of encryptionConfig must be [secrets]",
        ),
        (
            "c",
            json!({"encryptionConfig": [{}, {}]}),
            "The parameter encryptionConfig must have 0 to 1 members",
        ),
        (
            "c",
            json!({"tags": {"AWS:x": "y"}}),
            "Tag keys beginning with aws: are reserved",
        ),
        (
            "c",
            json!({"tags": {"a\n": "y"}}),
            "Tag keys must not have control characters",
        ),
        (
            "c",
            json!({"clientRequestToken": ""}),
            "clientRequestToken must have 1 to 128 characters",
        ),
        (
            "c",
            json!({"roleArn": "arn:aws:iam::111122223333:role/none"}),
            "Role with arn: arn:aws:iam::111122223333:role/none, could not be assumed",
        ),
        (
            "c",
            json!({"roleArn": "arn:aws:iam::111122223333:user/ana"}),
            "The roleArn parameter format is not valid",
        ),
    ] {
        let body = create(name, more);
        let reply = world.eks(&world.ana, "POST", "/clusters", &body).await;
        reply.invalid(message);
        assert_eq!(reply.body["clusterName"], name, "{body}");
    }
    let other = create(
        "c",
        json!({"roleArn": "arn:aws:iam::444455556666:role/none"}),
    );
    let reply = world.eks(&world.ana, "POST", "/clusters", &other).await;
    reply.refused(
        403,
        "AccessDeniedException",
        "Cross-account pass role is not allowed.",
    );
    let reply = world
        .eks(&world.ana, "POST", "/clusters", &create("there", json!({})))
        .await;
    reply.refused(
        409,
        "ResourceInUseException",
        "Cluster already exists with name: there",
    );
    for more in [
        access("API", automatic),
        access("API_AND_CONFIG_MAP", remote),
        network(json!({"ipFamily": "ipv6"})),
        json!({"tags": {}}),
    ] {
        let name = format!("ok-{}", more.to_string().len());
        let body = create(&name, more);
        world.eks(&world.ana, "POST", "/clusters", &body).await.ok();
    }
}

#[tokio::test]
async fn the_creator_is_the_identity_behind_the_call() {
    let world = World::new().await;
    world
        .role("control-plane", &trusts(ACCOUNT, ASSUME, ""))
        .await;
    let role = world
        .role_with("Ops", &trusts(ACCOUNT, ASSUME, ""), |role| {
            role.path = "/team/".into();
        })
        .await;
    world.allow_role("Ops", ALL).await;
    let session = world.session(&world.ana, &role, &[], now()).await;
    let root = world.root().await;
    for (name, keys, arn) in [
        ("by-user", &world.ana, "arn:aws:iam::111122223333:user/ana"),
        ("by-role", &session, &*role),
        ("by-root", &root, "arn:aws:iam::111122223333:root"),
    ] {
        let body = create(name, json!({"accessConfig": {"authenticationMode": "API"}}));
        world.eks(keys, "POST", "/clusters", &body).await.ok();
        let path = format!("{}/access-policies", entry(name, arn));
        let found = world.eks(&world.ana, "GET", &path, &Value::Null).await.ok();
        let policies = found["associatedAccessPolicies"].as_array().unwrap();
        assert_eq!(policies.len(), 1);
        assert_eq!(policies[0]["policyArn"], CLUSTER_ADMIN);
        assert_eq!(
            policies[0]["accessScope"],
            json!({"type": "cluster", "namespaces": []})
        );
        let again = json!({ "principalArn": arn });
        let target = format!("/clusters/{name}/access-entries");
        let reply = world.eks(&world.ana, "POST", &target, &again).await;
        reply.refused(
            409,
            "ResourceInUseException",
            "The specified access entry resource is already in use on this cluster. It is the entry that the creator of the cluster was given.",
        );
    }
}

#[tokio::test]
async fn a_request_with_a_token_is_done_once() {
    let world = World::new().await;
    world
        .role("control-plane", &trusts(ACCOUNT, ASSUME, ""))
        .await;
    let body = create("c1", json!({"clientRequestToken": "t1"}));
    let first = world.eks(&world.ana, "POST", "/clusters", &body).await.ok();
    let again = world.eks(&world.ana, "POST", "/clusters", &body).await.ok();
    assert_eq!(first, again);
    let shown = world
        .eks(&world.ana, "GET", "/clusters/c1", &Value::Null)
        .await
        .ok();
    for answer in [&first, &shown] {
        assert_eq!(answer["cluster"]["clientRequestToken"], "t1");
    }
    let other = create("c1", json!({"clientRequestToken": "t1", "version": "1.32"}));
    let reply = world.eks(&world.ana, "POST", "/clusters", &other).await;
    reply.invalid("clientRequestToken was already used with different parameters");
    let without = create("c1", json!({"clientRequestToken": "t2"}));
    let reply = world.eks(&world.ana, "POST", "/clusters", &without).await;
    reply.refused(
        409,
        "ResourceInUseException",
        "Cluster already exists with name: c1",
    );
    // What failed is not remembered.
    let second = create("c2", json!({"clientRequestToken": "t2"}));
    world
        .eks(&world.ana, "POST", "/clusters", &second)
        .await
        .ok();
}

#[tokio::test]
async fn a_cluster_that_takes_its_time_passes_through_its_states() {
    let mut world = World::new().await;
    let minute = SignedDuration::from_secs(60);
    world.api = world.api.with_eks(EksOptions {
        settling: minute,
        ..EksOptions::default()
    });
    world.cluster("c1", ConfigMap).await;
    let get = async |seconds: i64| {
        world
            .rest(
                (&world.ana, "eks"),
                ("GET", "/clusters/c1"),
                b"",
                after(seconds),
            )
            .await
    };
    // The clock of a call is the one of its signature here.
    let status = async || {
        let found = get(0).await.ok();
        found["cluster"]["status"].as_str().unwrap().to_owned()
    };
    assert_eq!(status().await, "CREATING");
    let mode = json!({"accessConfig": {"authenticationMode": "API_AND_CONFIG_MAP"}});
    let target = "/clusters/c1/update-config";
    let reply = world.eks(&world.ana, "POST", target, &mode).await;
    reply.refused(
        409,
        "ResourceInUseException",
        "Cluster c1 is not in a state",
    );
    let gone = world
        .eks(&world.ana, "DELETE", "/clusters/c1", &Value::Null)
        .await
        .ok();
    assert_eq!(gone["cluster"]["status"], "DELETING");
    assert_eq!(status().await, "DELETING");
    for (method, target, body) in [
        ("POST", "/clusters/c1/update-config", mode),
        ("DELETE", "/clusters/c1", Value::Null),
        (
            "POST",
            "/clusters/c1/access-entries",
            json!({"principalArn": "arn:aws:iam::111122223333:user/bob"}),
        ),
    ] {
        let reply = world.eks(&world.ana, method, target, &body).await;
        reply.refused(
            400,
            "InvalidRequestException",
            "The cluster c1 is being deleted.",
        );
    }
}
