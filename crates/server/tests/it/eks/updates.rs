//! UpdateClusterConfig, UpdateClusterVersion, and the records of updates (EKS API spec, sections 4.1, 5 and 6).

use countersign_store::records::AuthenticationMode::{Api, ApiAndConfigMap, ConfigMap};
use serde_json::{Value, json};

use super::*;

const CONFIG: &str = "/clusters/c1/update-config";

#[tokio::test]
async fn every_kind_of_change_is_recorded_and_shown() {
    let world = World::new().await;
    world.cluster("c1", ApiAndConfigMap).await;
    let node_role = world.role("nodes", &trusts(ACCOUNT, ASSUME, "")).await;
    let public = json!(["203.0.113.5/32"]);
    let remote =
        json!({"remoteNodeNetworks": [{"cidrs": ["10.9.0.0/16"]}], "remotePodNetworks": []});
    let auto = json!({"enabled": true, "nodePools": ["system"], "nodeRoleArn": node_role});
    let on = json!({"enabled": true});
    let mut ids = Vec::new();
    for (body, kind, params, pointer, shown) in [
        (
            json!({"resourcesVpcConfig": {"endpointPublicAccess": true, "endpointPrivateAccess": true, "publicAccessCidrs": public}}),
            "EndpointAccessUpdate",
            json!({"EndpointPublicAccess": "true", "EndpointPrivateAccess": "true", "PublicAccessCidrs": "[\"203.0.113.5/32\"]"}),
            "/resourcesVpcConfig/publicAccessCidrs",
            public,
        ),
        (
            json!({"resourcesVpcConfig": {"endpointPrivateAccess": false}}),
            "EndpointAccessUpdate",
            json!({"EndpointPrivateAccess": "false"}),
            "/resourcesVpcConfig/endpointPrivateAccess",
            json!(false),
        ),
        (
            json!({"resourcesVpcConfig": {"subnetIds": ["subnet-9"], "securityGroupIds": ["sg-1"]}}),
            "VpcConfigUpdate",
            json!({"Subnets": "[\"subnet-9\"]", "SecurityGroups": "[\"sg-1\"]"}),
            "/resourcesVpcConfig/subnetIds",
            json!(["subnet-9"]),
        ),
        (
            json!({"logging": {"clusterLogging": [{"types": ["audit"], "enabled": true}]}}),
            "LoggingUpdate",
            json!({"ClusterLogging": "{\"clusterLogging\":[{\"types\":[\"audit\"],\"enabled\":true}]}"}),
            "/logging/clusterLogging/0",
            json!({"types": ["audit"], "enabled": true}),
        ),
        (
            json!({"logging": {"clusterLogging": [{"types": ["api"], "enabled": true}]}}),
            "LoggingUpdate",
            json!({"ClusterLogging": "{\"clusterLogging\":[{\"types\":[\"api\"],\"enabled\":true}]}"}),
            // Logs that are not named keep their state.
            "/logging/clusterLogging/0/types",
            json!(["api", "audit"]),
        ),
        (
            json!({"accessConfig": {"authenticationMode": "API", "bootstrapClusterCreatorAdminPermissions": true}}),
            "AccessConfigUpdate",
            json!({"AuthenticationMode": "\"API\""}),
            "/accessConfig",
            json!({"authenticationMode": "API", "bootstrapClusterCreatorAdminPermissions": false}),
        ),
        (
            json!({"upgradePolicy": {"supportType": "STANDARD"}}),
            "UpgradePolicyUpdate",
            json!({"UpgradePolicy": "{\"supportType\":\"STANDARD\"}"}),
            "/upgradePolicy",
            json!({"supportType": "STANDARD"}),
        ),
        (
            json!({"zonalShiftConfig": on}),
            "ZonalShiftConfigUpdate",
            json!({"ZonalShiftConfig": "{\"enabled\":true}"}),
            "/zonalShiftConfig",
            on.clone(),
        ),
        (
            json!({
                "computeConfig": auto,
                "kubernetesNetworkConfig": {"elasticLoadBalancing": on},
                "storageConfig": {"blockStorage": on},
            }),
            "AutoModeUpdate",
            json!({
                "ComputeConfig": format!("{{\"enabled\":true,\"nodePools\":[\"system\"],\"nodeRoleArn\":\"{node_role}\"}}"),
                "KubernetesNetworkConfig": "{\"elasticLoadBalancing\":{\"enabled\":true}}",
                "StorageConfig": "{\"blockStorage\":{\"enabled\":true}}",
            }),
            "/computeConfig",
            auto,
        ),
        (
            json!({"remoteNetworkConfig": remote}),
            "RemoteNetworkConfigUpdate",
            json!({"RemoteNetworkConfig": "{\"remoteNodeNetworks\":[{\"cidrs\":[\"10.9.0.0/16\"]}],\"remotePodNetworks\":[]}"}),
            "/remoteNetworkConfig",
            remote,
        ),
        (
            json!({"deletionProtection": true}),
            "DeletionProtectionUpdate",
            json!({"DeletionProtection": "true"}),
            "/deletionProtection",
            json!(true),
        ),
        (
            json!({"controlPlaneScalingConfig": {"tier": "tier-xl"}}),
            "ControlPlaneScalingConfigUpdate",
            json!({"UpdatedTier": "tier-xl", "PreviousTier": "standard"}),
            "/controlPlaneScalingConfig/tier",
            json!("tier-xl"),
        ),
    ] {
        let answer = world.eks(&world.ana, "POST", CONFIG, &body).await.ok();
        let update = &answer["update"];
        assert_eq!(
            (&update["status"], &update["type"], &update["errors"]),
            (&json!("InProgress"), &json!(kind), &json!([])),
            "{body}"
        );
        let given: serde_json::Map<String, Value> = update["params"]
            .as_array()
            .unwrap()
            .iter()
            .map(|param| {
                (
                    param["type"].as_str().unwrap().to_owned(),
                    param["value"].clone(),
                )
            })
            .collect();
        assert_eq!(Value::Object(given), params, "{body}");
        let id = update["id"].as_str().unwrap().to_owned();
        let found = world
            .eks(
                &world.ana,
                "GET",
                &format!("/clusters/c1/updates/{id}"),
                &Value::Null,
            )
            .await
            .ok();
        assert_eq!(found["update"]["status"], "Successful");
        ids.push(id);
        let found = world
            .eks(&world.ana, "GET", "/clusters/c1", &Value::Null)
            .await
            .ok();
        assert_eq!(found["cluster"]["status"], "ACTIVE");
        assert_eq!(found["cluster"].pointer(pointer), Some(&shown), "{body}");
    }
    // All of them at one time, so that only their ids tell them apart; in pages, each once.
    let mut listed = Vec::new();
    let mut target = "/clusters/c1/updates?maxResults=5".to_owned();
    loop {
        let page = world
            .eks(&world.ana, "GET", &target, &Value::Null)
            .await
            .ok();
        listed.extend(
            page["updateIds"]
                .as_array()
                .unwrap()
                .iter()
                .map(|id| id.as_str().unwrap().to_owned()),
        );
        let Some(token) = page["nextToken"].as_str() else {
            break;
        };
        target = format!(
            "/clusters/c1/updates?maxResults=5&nextToken={}",
            escape(token)
        );
    }
    ids.sort_unstable();
    assert_eq!(listed, ids);
}

#[tokio::test]
async fn what_changes_nothing_or_too_much_is_refused() {
    let world = World::new().await;
    world.cluster("c1", ConfigMap).await;
    let cidrs: Vec<String> = (0..41).map(|at| format!("203.0.113.{at}/32")).collect();
    for (body, message) in [
        (json!({}), "Invalid type for cluster update."),
        (
            json!({"accessConfig": {}}),
            "Invalid type for cluster update.",
        ),
        (
            json!({"logging": {"clusterLogging": []}}),
            "Invalid type for cluster update.",
        ),
        (
            json!({"deletionProtection": true, "zonalShiftConfig": {"enabled": true}}),
            "Only one type of update can be allowed",
        ),
        (
            json!({"resourcesVpcConfig": {"endpointPrivateAccess": true, "subnetIds": ["subnet-1"]}}),
            "Only one type of update can be allowed",
        ),
        (
            json!({"resourcesVpcConfig": {"endpointPublicAccess": true}}),
            "Cluster is already at the desired configuration with endpointPrivateAccess: false , endpointPublicAccess: true, and Public Endpoint Restrictions: [0.0.0.0/0]",
        ),
        (
            json!({"resourcesVpcConfig": {"endpointPublicAccess": false}}),
            "Private and public endpoint access cannot be false",
        ),
        (
            json!({"resourcesVpcConfig": {"publicAccessCidrs": ["192.168.0.0/24", "x"]}}),
            "The following CIDRs are invalid in publicAccessCidrs: [192.168.0.0/24, x]",
        ),
        (
            json!({"resourcesVpcConfig": {"publicAccessCidrs": ["::/0"]}}),
            "The following CIDRs are invalid in publicAccessCidrs: [::/0]",
        ),
        (
            json!({"resourcesVpcConfig": {"publicAccessCidrs": cidrs}}),
            "publicAccessCidrs has 41 CIDRs, and at most 40 are allowed",
        ),
        (
            json!({"resourcesVpcConfig": {"subnetIds": ["subnet-1", "subnet-2"]}}),
            "No changes needed for the resourcesVpcConfig provided",
        ),
        (
            json!({"logging": {"clusterLogging": [{"types": ["api"], "enabled": false}]}}),
            "No changes needed for the logging config provided",
        ),
        (
            json!({"upgradePolicy": {"supportType": "EXTENDED"}}),
            "No changes needed for the upgradePolicy provided",
        ),
        (
            json!({"deletionProtection": false}),
            "No changes needed for the deletionProtection provided",
        ),
        (
            json!({"remoteNetworkConfig": {"remoteNodeNetworks": []}}),
            "AccessConfig AuthMode must be API_AND_CONFIG_MAP or API when remoteNetworkConfig is specified",
        ),
        (
            json!({"computeConfig": {"enabled": true}}),
            "For EKS Auto Mode, please ensure that all required configs",
        ),
        (
            json!({"kubernetesNetworkConfig": {"serviceIpv4Cidr": "10.0.0.0/16"}}),
            "The serviceIpv4Cidr of a cluster cannot be changed",
        ),
        (
            json!({"kubeSchedulerConfig": {}}),
            "The parameter kubeSchedulerConfig is not offered",
        ),
    ] {
        world
            .eks(&world.ana, "POST", CONFIG, &body)
            .await
            .invalid(message);
    }
    let nowhere = world
        .eks(
            &world.ana,
            "POST",
            "/clusters/none/update-config",
            &json!({"deletionProtection": true}),
        )
        .await;
    nowhere.not_found("No cluster found for name: none.");
}

#[tokio::test]
async fn the_mode_goes_one_step_forward_and_the_creator_comes_along() {
    let modes = [ConfigMap, ApiAndConfigMap, Api];
    for from in modes {
        let world = World::new().await;
        world.cluster("c1", from).await;
        for to in modes {
            if from.may_become(to) {
                continue;
            }
            let body = json!({"accessConfig": {"authenticationMode": to.as_str()}});
            let reply = world.eks(&world.ana, "POST", CONFIG, &body).await;
            reply.invalid(&format!(
                "Unsupported authentication mode update from {from} to {to}"
            ));
        }
    }
    let world = World::new().await;
    world.cluster("c1", ConfigMap).await;
    let gate = "The cluster's authentication mode must be set to one of [API, API_AND_CONFIG_MAP] to perform this operation.";
    let ana = entry("c1", "arn:aws:iam::111122223333:user/ana");
    for (method, target, body) in [
        ("GET", "/clusters/c1/access-entries".to_owned(), Value::Null),
        (
            "POST",
            "/clusters/c1/access-entries".to_owned(),
            json!({"principalArn": "arn:aws:iam::111122223333:user/ana"}),
        ),
        ("GET", ana.clone(), Value::Null),
        ("POST", ana.clone(), json!({})),
        ("DELETE", ana.clone(), Value::Null),
        ("GET", format!("{ana}/access-policies"), Value::Null),
        (
            "POST",
            format!("{ana}/access-policies"),
            json!({"policyArn": VIEW, "accessScope": {"type": "cluster"}}),
        ),
        (
            "DELETE",
            format!("{ana}/access-policies/{}", escape(VIEW)),
            Value::Null,
        ),
    ] {
        let reply = world.eks(&world.ana, method, &target, &body).await;
        reply.refused(400, "InvalidRequestException", gate);
    }
    let step = json!({
        "accessConfig": {"authenticationMode": "API_AND_CONFIG_MAP"},
        "clientRequestToken": "step",
    });
    let first = world.eks(&world.ana, "POST", CONFIG, &step).await.ok();
    let again = world.eks(&world.ana, "POST", CONFIG, &step).await.ok();
    assert_eq!(first, again);
    let found = world
        .eks(
            &world.ana,
            "GET",
            &format!("{ana}/access-policies"),
            &Value::Null,
        )
        .await
        .ok();
    assert_eq!(
        found["associatedAccessPolicies"][0]["policyArn"],
        CLUSTER_ADMIN
    );
}

#[tokio::test]
async fn versions_go_one_minor_forward() {
    let world = World::new().await;
    world
        .role("control-plane", &trusts(ACCOUNT, ASSUME, ""))
        .await;
    let body = create("c1", json!({"version": "1.32"}));
    world.eks(&world.ana, "POST", "/clusters", &body).await.ok();
    let target = "/clusters/c1/updates";
    for (version, message) in [
        ("1.32", "Cluster is already at the desired version 1.32"),
        (
            "1.34",
            "Unsupported Kubernetes minor version update from 1.32 to 1.34",
        ),
        (
            "1.31",
            "Unsupported Kubernetes minor version update from 1.32 to 1.31",
        ),
        ("2.0", "unsupported Kubernetes version 2.0"),
        ("1.33.1", "unsupported Kubernetes version 1.33.1"),
    ] {
        let body = json!({ "version": version });
        world
            .eks(&world.ana, "POST", target, &body)
            .await
            .invalid(message);
    }
    let next = json!({"version": "1.33"});
    let answer = world.eks(&world.ana, "POST", target, &next).await.ok();
    assert_eq!(answer["update"]["type"], "VersionUpdate");
    assert_eq!(
        answer["update"]["params"],
        json!([{"type": "Version", "value": "1.33"}])
    );
    let id = answer["update"]["id"].as_str().unwrap().to_owned();
    for (query, message) in [
        ("", ""),
        (
            "?addonName=vpc-cni",
            "No addon: vpc-cni found in cluster: c1",
        ),
        ("?nodegroupName=n", "No node group found for name: n."),
    ] {
        let target = format!("/clusters/c1/updates/{id}{query}");
        let reply = world.eks(&world.ana, "GET", &target, &Value::Null).await;
        if message.is_empty() {
            assert_eq!(reply.ok()["update"]["id"], *id);
        } else {
            reply.not_found(message);
        }
    }
    let reply = world
        .eks(&world.ana, "GET", "/clusters/c1/updates/none", &Value::Null)
        .await;
    reply.not_found("No update found for ID: none");
}
