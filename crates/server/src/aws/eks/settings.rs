//! The settings of clusters as requests have them, and the checks that need no state (EKS API spec, section 3.1).

use countersign_arn::Arn;
use countersign_store::records::{
    AuthenticationMode, ClusterSettings, ComputeConfig, EncryptionConfig, IpFamily,
    KubernetesNetworkConfig, OutpostConfig, RemoteNetworkConfig, VpcConfig,
};

use super::invalid;
use super::networks::{Cidr, check_public};
use crate::aws::ApiError;
use crate::aws::operation::Call;
use crate::aws::shape::{Input, Value};

/// Most subnets of a cluster. EKS documents none.
const MAX_SUBNETS: usize = 64;
/// Security groups of the control plane (section 2.2).
const MAX_SECURITY_GROUPS: usize = 4;
/// Ranges of each remote network (section 2.2).
const MAX_REMOTE_CIDRS: usize = 15;
const RFC_1918: &str = "must be within RFC1918 range";

/// Refuses the settings that this service knows of and cannot keep: a caller who sets one must not believe that it holds.
///
/// # Errors
/// `InvalidParameterException` with the name of the first.
pub(super) fn check_offered(input: &Input<'_>) -> Result<(), ApiError> {
    let within = |parameter: &str, path: &[&str]| {
        let mut value = input.get(parameter);
        for member in path {
            value = value.and_then(|value| value.value(member));
        }
        value.is_some()
    };
    for (parameter, path) in [
        ("kubeApiServerConfig", &[][..]),
        ("kubeSchedulerConfig", &[]),
        ("kubeControllerManagerConfig", &[]),
        ("rollbackConfig", &[]),
        ("resourcesVpcConfig", &["controlPlaneEgressMode"]),
        (
            "kubernetesNetworkConfig",
            &["elasticLoadBalancing", "gatewayApi"],
        ),
        ("outpostConfig", &["controlPlanePlacement", "spreadLevel"]),
        ("outpostConfig", &["etcdInstanceType"]),
        ("outpostConfig", &["etcdPlacement"]),
    ] {
        if within(parameter, path) {
            let name = path.last().unwrap_or(&parameter);
            return Err(invalid(format!(
                "The parameter {name} is not offered: nothing here acts on it."
            )));
        }
    }
    Ok(())
}

/// The mode of a request, if it has one.
pub(super) fn authentication_mode(input: &Input<'_>) -> Option<AuthenticationMode> {
    let config = input.get("accessConfig")?;
    config.member("authenticationMode")?.parse().ok()
}

/// The settings of a cluster to be made, checked in the order of the specification.
///
/// # Errors
/// `InvalidParameterException`, or what is wrong with a role.
pub(super) fn of_new_cluster(
    call: &Call<'_>,
    mode: AuthenticationMode,
) -> Result<ClusterSettings, ApiError> {
    let input = &call.input;
    check_offered(input)?;
    let network = network(input);
    let ipv6 = network
        .as_ref()
        .is_some_and(|network| network.ip_family == Some(IpFamily::Ipv6));
    let vpc = vpc(input, ipv6)?;
    let compute = compute(call)?;
    let automatic = compute.as_ref().and_then(|compute| compute.enabled);
    let block_storage = block_storage(input);
    let load_balancing = network
        .as_ref()
        .and_then(|network| network.elastic_load_balancing);
    if automatic == Some(true) && mode == AuthenticationMode::ConfigMap {
        return Err(invalid(
            "When EKS Auto Mode is enabled, you must use an EKS access config authentication mode of API_AND_CONFIG_MAP or API",
        ));
    }
    check_auto_mode([automatic, load_balancing, block_storage]).map_err(invalid)?;
    let remote_network = remote_network(input)?;
    if remote_network.is_some() && mode == AuthenticationMode::ConfigMap {
        return Err(invalid(
            "AccessConfig AuthMode must be API_AND_CONFIG_MAP or API when remoteNetworkConfig is specified",
        ));
    }
    check_service_range(network.as_ref())?;
    Ok(ClusterSettings {
        client_request_token: input.text("clientRequestToken").map(Into::into),
        vpc: Some(vpc),
        network,
        logs: logging(input)
            .into_iter()
            .filter(|(_, enabled)| *enabled)
            .map(|(log, _)| log)
            .collect(),
        encryption: encryption(input)?,
        support_type: input
            .get("upgradePolicy")
            .and_then(|policy| policy.member("supportType")?.parse().ok()),
        zonal_shift: input
            .get("zonalShiftConfig")
            .and_then(|config| config.boolean("enabled")),
        remote_network,
        compute,
        block_storage,
        outpost: outpost(input),
        bootstrap_self_managed_addons: input.boolean("bootstrapSelfManagedAddons"),
        scaling_tier: input
            .get("controlPlaneScalingConfig")
            .and_then(|config| config.member("tier")?.parse().ok()),
    })
}

/// `resourcesVpcConfig` of a new cluster; what is left out is EKS's default.
fn vpc(input: &Input<'_>, ipv6: bool) -> Result<VpcConfig, ApiError> {
    let given = input.get("resourcesVpcConfig");
    let texts = |name| given.and_then(|given| given.texts(name));
    let boolean = |name| given.and_then(|given| given.boolean(name));
    let mut vpc = VpcConfig {
        endpoint_public_access: boolean("endpointPublicAccess").unwrap_or(true),
        endpoint_private_access: boolean("endpointPrivateAccess").unwrap_or(false),
        ..VpcConfig::default()
    };
    if ipv6 {
        vpc.public_access_cidrs.push("::/0".into());
    }
    if !(vpc.endpoint_public_access || vpc.endpoint_private_access) {
        return Err(invalid(
            "Private and public endpoint access cannot be false",
        ));
    }
    vpc.subnet_ids = subnets(&texts("subnetIds").unwrap_or_default())?;
    vpc.security_group_ids = security_groups(&texts("securityGroupIds").unwrap_or_default())?;
    if let Some(cidrs) = texts("publicAccessCidrs").filter(|cidrs| !cidrs.is_empty()) {
        check_public(&cidrs, ipv6).map_err(invalid)?;
        vpc.public_access_cidrs = boxed(&cidrs);
    }
    Ok(vpc)
}

/// `subnetIds`. Any will do: nothing here knows the subnets of a network.
///
/// # Errors
/// `InvalidParameterException` for what is no id of a subnet.
pub(super) fn subnets(ids: &[&str]) -> Result<Vec<Box<str>>, ApiError> {
    check_ids(ids, "subnet", MAX_SUBNETS)
}

/// `securityGroupIds`
///
/// # Errors
/// As [`subnets`].
pub(super) fn security_groups(ids: &[&str]) -> Result<Vec<Box<str>>, ApiError> {
    check_ids(ids, "sg", MAX_SECURITY_GROUPS)
}

fn check_ids(ids: &[&str], kind: &str, most: usize) -> Result<Vec<Box<str>>, ApiError> {
    if ids.len() > most {
        return Err(invalid(format!(
            "{} {kind} IDs, and at most {most} are allowed",
            ids.len()
        )));
    }
    let is_id = |id: &&str| {
        id.strip_prefix(kind)
            .and_then(|rest| rest.strip_prefix('-'))
            .is_some_and(|rest| {
                (1..=64).contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_alphanumeric())
            })
    };
    match ids.iter().find(|id| !is_id(id)) {
        None => Ok(boxed(ids)),
        Some(id) => {
            let id: String = id.chars().take(80).collect();
            Err(invalid(format!("The {kind} ID '{id}' does not exist")))
        }
    }
}

/// `kubernetesNetworkConfig`
fn network(input: &Input<'_>) -> Option<KubernetesNetworkConfig> {
    let given = input.get("kubernetesNetworkConfig")?;
    Some(KubernetesNetworkConfig {
        service_ipv4_cidr: given.member("serviceIpv4Cidr").map(Into::into),
        service_ipv6_cidr: None,
        ip_family: given
            .member("ipFamily")
            .and_then(|family| family.parse().ok()),
        elastic_load_balancing: load_balancing(input),
    })
}

/// `kubernetesNetworkConfig.elasticLoadBalancing.enabled`
pub(super) fn load_balancing(input: &Input<'_>) -> Option<bool> {
    input
        .get("kubernetesNetworkConfig")?
        .value("elasticLoadBalancing")?
        .boolean("enabled")
}

/// `storageConfig.blockStorage.enabled`
pub(super) fn block_storage(input: &Input<'_>) -> Option<bool> {
    input
        .get("storageConfig")?
        .value("blockStorage")?
        .boolean("enabled")
}

fn check_service_range(network: Option<&KubernetesNetworkConfig>) -> Result<(), ApiError> {
    let Some(network) = network else {
        return Ok(());
    };
    let Some(text) = &network.service_ipv4_cidr else {
        return Ok(());
    };
    if network.ip_family == Some(IpFamily::Ipv6) {
        return Err(invalid(
            "serviceIpv4Cidr cannot be specified when ipFamily is ipv6",
        ));
    }
    let is_good =
        Cidr::parse(text).is_some_and(|cidr| cidr.is_private() && (12..=24).contains(&cidr.prefix));
    if is_good {
        return Ok(());
    }
    let shown: String = text.chars().take(64).collect();
    Err(invalid(format!(
        "serviceIpv4Cidr {shown} is not valid: it {RFC_1918}, with a prefix length of 12 to 24"
    )))
}

/// The three parts of Auto Mode are on together, or off together.
///
/// # Errors
/// EKS's text.
pub(super) fn check_auto_mode(parts: [Option<bool>; 3]) -> Result<(), &'static str> {
    let on = parts.iter().filter(|part| **part == Some(true)).count();
    if on == 0 || on == parts.len() {
        Ok(())
    } else {
        Err(
            "For EKS Auto Mode, please ensure that all required configs, including computeConfig, kubernetesNetworkConfig, and blockStorage are all either fully enabled or fully disabled.",
        )
    }
}

/// `computeConfig`
///
/// # Errors
/// What is wrong with the role of the nodes.
pub(super) fn compute(call: &Call<'_>) -> Result<Option<ComputeConfig>, ApiError> {
    let Some(given) = call.input.get("computeConfig") else {
        return Ok(None);
    };
    let role = given.member("nodeRoleArn");
    if let Some(role) = role {
        check_role(call, "nodeRoleArn", role)?;
    }
    let pools = given.texts("nodePools").unwrap_or_default();
    if let Some(pool) = pools
        .iter()
        .find(|pool| !matches!(**pool, "general-purpose" | "system"))
    {
        let pool: String = pool.chars().take(64).collect();
        return Err(invalid(format!(
            "The node pool {pool} is not one of [general-purpose, system]"
        )));
    }
    Ok(Some(ComputeConfig {
        enabled: given.boolean("enabled"),
        node_pools: boxed(&pools),
        node_role_arn: role.map(Into::into),
    }))
}

/// `remoteNetworkConfig`
///
/// # Errors
/// `InvalidParameterException` for what is no range of IPv4 addresses, and for too many.
pub(super) fn remote_network(input: &Input<'_>) -> Result<Option<RemoteNetworkConfig>, ApiError> {
    let Some(given) = input.get("remoteNetworkConfig") else {
        return Ok(None);
    };
    let networks = |name: &str| {
        let Some(Value::List(networks)) = given.value(name) else {
            return Ok(Vec::new());
        };
        let mut all = Vec::with_capacity(networks.len());
        for network in networks {
            let cidrs = network.texts("cidrs").unwrap_or_default();
            if cidrs.len() > MAX_REMOTE_CIDRS {
                return Err(invalid(format!(
                    "{name} has {} CIDRs, and at most {MAX_REMOTE_CIDRS} are allowed",
                    cidrs.len()
                )));
            }
            let is_good =
                |text: &&str| Cidr::parse(text).is_some_and(|cidr| cidr.address.is_ipv4());
            if let Some(text) = cidrs.iter().find(|text| !is_good(text)) {
                let text: String = text.chars().take(64).collect();
                return Err(invalid(format!("The CIDR {text} in {name} is not valid")));
            }
            all.push(boxed(&cidrs));
        }
        Ok(all)
    };
    Ok(Some(RemoteNetworkConfig {
        node_networks: networks("remoteNodeNetworks")?,
        pod_networks: networks("remotePodNetworks")?,
    }))
}

/// The logs of a request and whether each is to be on; the last word on a log counts.
pub(super) fn logging(input: &Input<'_>) -> Vec<(countersign_store::records::LogType, bool)> {
    let Some(Value::List(setups)) = input
        .get("logging")
        .and_then(|logging| logging.value("clusterLogging"))
    else {
        return Vec::new();
    };
    let mut logs = std::collections::BTreeMap::new();
    for setup in setups {
        let enabled = setup.boolean("enabled").unwrap_or(false);
        for log in setup.texts("types").unwrap_or_default() {
            if let Ok(log) = log.parse() {
                logs.insert(log, enabled);
            }
        }
    }
    logs.into_iter().collect()
}

fn encryption(input: &Input<'_>) -> Result<Vec<EncryptionConfig>, ApiError> {
    let mut all = Vec::new();
    for given in input.list("encryptionConfig") {
        let resources = given.texts("resources").unwrap_or_default();
        let key = given
            .value("provider")
            .and_then(|provider| provider.member("keyArn"))
            .unwrap_or_default();
        if resources != ["secrets"] {
            return Err(invalid(
                "The resources of encryptionConfig must be [secrets]",
            ));
        }
        let is_key =
            Arn::parse(key).is_ok_and(|arn| arn.service == "kms" && !arn.resource.is_empty());
        if !is_key || key.len() > 2048 {
            return Err(invalid("The keyArn of encryptionConfig is not valid"));
        }
        all.push(EncryptionConfig {
            resources: boxed(&resources),
            key_arn: key.into(),
        });
    }
    Ok(all)
}

fn outpost(input: &Input<'_>) -> Option<OutpostConfig> {
    let given = input.get("outpostConfig")?;
    Some(OutpostConfig {
        outpost_arns: boxed(&given.texts("outpostArns").unwrap_or_default()),
        control_plane_instance_type: given.member("controlPlaneInstanceType").map(Into::into),
        placement_group: given
            .value("controlPlanePlacement")
            .and_then(|placement| placement.member("groupName"))
            .map(Into::into),
    })
}

/// A role that a cluster is given: one of the caller's account, which is there.
///
/// # Errors
/// `AccessDeniedException` for a role of another account, `InvalidParameterException` for what is no role.
pub(super) fn check_role(call: &Call<'_>, parameter: &str, text: &str) -> Result<(), ApiError> {
    let malformed = || invalid(format!("The {parameter} parameter format is not valid"));
    let arn = Arn::parse(text).map_err(|_| malformed())?;
    let name = arn
        .resource
        .strip_prefix("role/")
        .and_then(|path| path.rsplit('/').next())
        .filter(|name| !name.is_empty() && arn.service == "iam" && arn.region.is_empty())
        .ok_or_else(malformed)?;
    let account = call.account()?;
    if arn.account != account.as_str() {
        return Err(ApiError::new(
            403,
            "AccessDeniedException",
            "Cross-account pass role is not allowed.",
        ));
    }
    match call.snapshot.role(account, name) {
        Some(role) if *role.arn == *text => Ok(()),
        _ => Err(invalid(format!(
            "Role with arn: {text}, could not be assumed because it does not exist or the trusted entity is not correct"
        ))),
    }
}

pub(super) fn boxed(texts: &[&str]) -> Vec<Box<str>> {
    texts.iter().map(|text| (*text).into()).collect()
}
