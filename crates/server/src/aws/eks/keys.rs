//! The condition keys of EKS (EKS API spec, section 15.1).
//!
//! On CreateCluster the keys of settings with a default say what the cluster will have, so that a statement that denies
//! public endpoints also denies those that come from leaving the setting out. All other keys are there when their value was
//! sent.

use std::borrow::Cow;

use countersign_policy::Context;

use super::clusters::DEFAULT_VERSION;
use crate::aws::operation::Call;
use crate::aws::shape::Value;

/// Sets a key that the action has in AWS's tables.
pub(in crate::aws) fn set_key(
    call: &Call<'_>,
    action: &str,
    key: &str,
    keys: &mut Context<'static>,
) {
    let creates = action == "CreateCluster";
    let input = &call.input;
    let text = |value: Option<&str>, default: &'static str| match value {
        None if creates => Some(default.to_owned()),
        value => value.map(str::to_owned),
    };
    let boolean = |value: Option<bool>, default: bool| match value {
        None if creates => Some(default.to_string()),
        value => value.map(|value| value.to_string()),
    };
    let in_text = |parameter: &str, member: &str| input.get(parameter)?.member(member);
    let in_boolean = |parameter: &str, member: &str| input.get(parameter)?.boolean(member);
    let sent = |parameter: &str| input.get(parameter).map(|_| "true".to_owned());
    let value = match key {
        "eks:accessEntryType" => Some(input.text("type").unwrap_or("STANDARD").to_owned()),
        "eks:principalArn" => input.text("principalArn").map(str::to_owned),
        "eks:username" => input.text("username").map(str::to_owned),
        "eks:policyArn" => input.text("policyArn").map(str::to_owned),
        "eks:clientId" => in_text("oidc", "clientId").map(str::to_owned),
        "eks:issuerUrl" => in_text("oidc", "issuerUrl").map(str::to_owned),
        "eks:accessScope" => in_text("accessScope", "type").map(str::to_owned),
        "eks:authenticationMode" => {
            text(in_text("accessConfig", "authenticationMode"), "CONFIG_MAP")
        }
        "eks:bootstrapClusterCreatorAdminPermissions" => boolean(
            in_boolean("accessConfig", "bootstrapClusterCreatorAdminPermissions"),
            true,
        ),
        "eks:bootstrapSelfManagedAddons" => {
            boolean(input.boolean("bootstrapSelfManagedAddons"), true)
        }
        "eks:endpointPublicAccess" => boolean(
            in_boolean("resourcesVpcConfig", "endpointPublicAccess"),
            true,
        ),
        "eks:endpointPrivateAccess" => boolean(
            in_boolean("resourcesVpcConfig", "endpointPrivateAccess"),
            false,
        ),
        "eks:deletionProtection" => boolean(input.boolean("deletionProtection"), false),
        "eks:supportType" => text(in_text("upgradePolicy", "supportType"), "EXTENDED"),
        "eks:kubernetesVersion" => text(input.text("version"), DEFAULT_VERSION),
        "eks:controlPlaneScalingTier" => {
            text(in_text("controlPlaneScalingConfig", "tier"), "standard")
        }
        "eks:controlPlaneEgressMode" => {
            in_text("resourcesVpcConfig", "controlPlaneEgressMode").map(str::to_owned)
        }
        "eks:zonalShiftEnabled" => boolean(in_boolean("zonalShiftConfig", "enabled"), false),
        "eks:computeConfigEnabled" => boolean(in_boolean("computeConfig", "enabled"), false),
        "eks:blockStorageEnabled" => {
            boolean(enabled(input.get("storageConfig"), "blockStorage"), false)
        }
        "eks:elasticLoadBalancingEnabled" => boolean(
            enabled(input.get("kubernetesNetworkConfig"), "elasticLoadBalancing"),
            false,
        ),
        "eks:kubeApiServerConfig" => sent("kubeApiServerConfig"),
        "eks:kubeSchedulerConfig" => sent("kubeSchedulerConfig"),
        "eks:kubeControllerManagerConfig" => sent("kubeControllerManagerConfig"),
        "eks:kubernetesGroups" => return set_list(keys, key, input.texts("kubernetesGroups")),
        "eks:namespaces" => {
            let namespaces = input
                .get("accessScope")
                .and_then(|scope| scope.texts("namespaces"));
            return set_list(keys, key, namespaces.unwrap_or_default());
        }
        "eks:encryptionConfigProviderKeyArns" => {
            let arns = input
                .list("encryptionConfig")
                .iter()
                .filter_map(|one| one.value("provider")?.member("keyArn"));
            return set_list(keys, key, arns.collect());
        }
        "eks:loggingType/${type}" => return set_logging(call, keys),
        _ => None,
    };
    if let Some(value) = value {
        keys.set(key.to_owned(), value);
    }
}

/// Keys that AWS does not have: what an update makes of an entry, whose own keys say what it was before.
pub(in crate::aws) fn set_own_keys(call: &Call<'_>, action: &str, keys: &mut Context<'static>) {
    if action != "eks:UpdateAccessEntry" {
        return;
    }
    set_list(
        keys,
        "countersign:newKubernetesGroups",
        call.input.texts("kubernetesGroups"),
    );
    if let Some(username) = call.input.text("username") {
        keys.set("countersign:newUsername", username.to_owned());
    }
}

fn enabled(config: Option<&Value<'_>>, member: &str) -> Option<bool> {
    config?.value(member)?.boolean("enabled")
}

/// Lists are there only when something is in them.
fn set_list(keys: &mut Context<'static>, key: &str, values: Vec<&str>) {
    if !values.is_empty() {
        let values: Vec<Cow<'static, str>> = values
            .into_iter()
            .map(|value| Cow::Owned(value.to_owned()))
            .collect();
        keys.set_list(key.to_owned(), values);
    }
}

fn set_logging(call: &Call<'_>, keys: &mut Context<'static>) {
    let Some(Value::List(setups)) = call
        .input
        .get("logging")
        .and_then(|logging| logging.value("clusterLogging"))
    else {
        return;
    };
    for setup in setups {
        let enabled = setup.boolean("enabled").unwrap_or(false);
        for kind in setup.texts("types").unwrap_or_default() {
            keys.set(format!("eks:loggingType/{kind}"), enabled.to_string());
        }
    }
}
