//! What UpdateClusterConfig changes (EKS API spec, section 5).

use countersign_store::UpdateParams;
use countersign_store::records::{
    AuthenticationMode, Cluster, ComputeConfig, IpFamily, KubernetesNetworkConfig, LogType,
    RemoteNetworkConfig, ScalingTier, SupportType, VpcConfig,
};
use serde_json::json;

use super::networks::check_public;
use super::settings::{self, boxed, check_auto_mode, security_groups, subnets};
use super::{invalid, settings::block_storage};
use crate::aws::ApiError;
use crate::aws::operation::Call;
use crate::aws::shape::Value;

/// One kind of change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    Endpoint {
        public: Option<bool>,
        private: Option<bool>,
        cidrs: Option<Vec<Box<str>>>,
    },
    Vpc {
        subnets: Option<Vec<Box<str>>>,
        security_groups: Option<Vec<Box<str>>>,
    },
    Logging {
        logs: Vec<(LogType, bool)>,
        /// `logging` as it was sent.
        sent: String,
    },
    Access(AuthenticationMode),
    Upgrade(SupportType),
    ZonalShift(bool),
    Auto {
        compute: Option<ComputeConfig>,
        load_balancing: Option<bool>,
        block_storage: Option<bool>,
        /// The parts as they were sent, with their types in `params`.
        sent: Vec<(&'static str, String)>,
    },
    RemoteNetwork {
        config: RemoteNetworkConfig,
        sent: String,
    },
    DeletionProtection(bool),
    Scaling(ScalingTier),
    Version(Box<str>),
}

impl Wanted {
    /// The one change that a request asks for.
    ///
    /// # Errors
    /// `InvalidParameterException` when there is none, or more than one, or its values are wrong in themselves.
    pub(super) fn of(call: &Call<'_>) -> Result<Self, ApiError> {
        let input = &call.input;
        let mut all = Vec::new();
        if let Some(vpc) = input.get("resourcesVpcConfig") {
            all.extend(endpoint(vpc));
            all.extend(network_interfaces(vpc)?);
        }
        if let Some(logging) = input.get("logging") {
            let logs = settings::logging(input);
            if !logs.is_empty() {
                let sent = compact(logging);
                all.push(Self::Logging { logs, sent });
            }
        }
        all.extend(settings::authentication_mode(input).map(Self::Access));
        let member = |parameter: &str, name: &str| input.get(parameter)?.member(name);
        all.extend(
            member("upgradePolicy", "supportType")
                .and_then(|word| word.parse().ok())
                .map(Self::Upgrade),
        );
        all.extend(
            input
                .get("zonalShiftConfig")
                .and_then(|config| config.boolean("enabled"))
                .map(Self::ZonalShift),
        );
        all.extend(auto_mode(call)?);
        if let Some(config) = settings::remote_network(input)? {
            let sent = input
                .get("remoteNetworkConfig")
                .map(compact)
                .unwrap_or_default();
            all.push(Self::RemoteNetwork { config, sent });
        }
        all.extend(
            input
                .boolean("deletionProtection")
                .map(Self::DeletionProtection),
        );
        all.extend(
            member("controlPlaneScalingConfig", "tier")
                .and_then(|word| word.parse().ok())
                .map(Self::Scaling),
        );
        let mut all = all.into_iter();
        match (all.next(), all.next()) {
            (Some(one), None) => Ok(one),
            (None, _) => Err(invalid("Invalid type for cluster update.")),
            (Some(_), Some(_)) => Err(invalid("Only one type of update can be allowed")),
        }
    }

    /// EKS's word for the change.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Endpoint { .. } => "EndpointAccessUpdate",
            Self::Vpc { .. } => "VpcConfigUpdate",
            Self::Logging { .. } => "LoggingUpdate",
            Self::Access(_) => "AccessConfigUpdate",
            Self::Upgrade(_) => "UpgradePolicyUpdate",
            Self::ZonalShift(_) => "ZonalShiftConfigUpdate",
            Self::Auto { .. } => "AutoModeUpdate",
            Self::RemoteNetwork { .. } => "RemoteNetworkConfigUpdate",
            Self::DeletionProtection(_) => "DeletionProtectionUpdate",
            Self::Scaling(_) => "ControlPlaneScalingConfigUpdate",
            Self::Version(_) => "VersionUpdate",
        }
    }

    /// Changes a cluster, and says what the update's params are: those that were sent. Changes of the authentication mode
    /// are the directory's.
    ///
    /// # Errors
    /// Why the cluster is not changed, in EKS's words where they are known.
    pub(super) fn apply(&self, cluster: &mut Cluster) -> Result<UpdateParams, String> {
        let before = cluster.clone();
        let params = self.change(cluster)?;
        if *cluster == before {
            return Err(format!(
                "No changes needed for the {} provided",
                self.setting()
            ));
        }
        Ok(params
            .into_iter()
            .map(|(kind, value)| (kind.into(), value.into()))
            .collect())
    }

    const fn setting(&self) -> &'static str {
        match self {
            Self::Endpoint { .. } | Self::Vpc { .. } => "resourcesVpcConfig",
            Self::Logging { .. } => "logging config",
            Self::Access(_) => "accessConfig",
            Self::Upgrade(_) => "upgradePolicy",
            Self::ZonalShift(_) => "zonalShiftConfig",
            Self::Auto { .. } => "Auto Mode config",
            Self::RemoteNetwork { .. } => "remoteNetworkConfig",
            Self::DeletionProtection(_) => "deletionProtection",
            Self::Scaling(_) => "controlPlaneScalingConfig",
            Self::Version(_) => "version",
        }
    }

    fn change(&self, cluster: &mut Cluster) -> Result<Vec<(&'static str, String)>, String> {
        let settings = &mut cluster.settings;
        Ok(match self {
            Self::Endpoint {
                public,
                private,
                cidrs,
            } => {
                let ipv6 = settings
                    .network
                    .as_ref()
                    .is_some_and(|network| network.ip_family == Some(IpFamily::Ipv6));
                let vpc = settings.vpc.get_or_insert_with(VpcConfig::default);
                set_endpoint(vpc, ipv6, (*public, *private, cidrs.as_deref()))?
            }
            Self::Vpc {
                subnets,
                security_groups,
            } => {
                let vpc = settings.vpc.get_or_insert_with(VpcConfig::default);
                let mut params = Vec::new();
                if let Some(ids) = subnets {
                    vpc.subnet_ids.clone_from(ids);
                    params.push(("Subnets", json!(ids).to_string()));
                }
                if let Some(ids) = security_groups {
                    vpc.security_group_ids.clone_from(ids);
                    params.push(("SecurityGroups", json!(ids).to_string()));
                }
                params
            }
            Self::Logging { logs, sent } => {
                for (log, enabled) in logs {
                    if *enabled {
                        settings.logs.insert(*log);
                    } else {
                        settings.logs.remove(log);
                    }
                }
                vec![("ClusterLogging", sent.clone())]
            }
            Self::Access(_) => Vec::new(),
            Self::Upgrade(support) => {
                let now = settings.support_type.unwrap_or(SupportType::Extended);
                if now != *support {
                    settings.support_type = Some(*support);
                }
                let value = json!({ "supportType": support.as_str() });
                vec![("UpgradePolicy", value.to_string())]
            }
            Self::ZonalShift(enabled) => {
                if settings.zonal_shift.unwrap_or(false) != *enabled {
                    settings.zonal_shift = Some(*enabled);
                }
                let value = json!({ "enabled": enabled });
                vec![("ZonalShiftConfig", value.to_string())]
            }
            Self::Auto {
                compute,
                load_balancing,
                block_storage,
                sent,
            } => {
                set_auto_mode(cluster, compute.as_ref(), *load_balancing, *block_storage)?;
                sent.clone()
            }
            Self::RemoteNetwork { config, sent } => {
                if cluster.authentication_mode == AuthenticationMode::ConfigMap {
                    return Err(
                        "AccessConfig AuthMode must be API_AND_CONFIG_MAP or API when remoteNetworkConfig is specified"
                            .to_owned(),
                    );
                }
                settings.remote_network = Some(config.clone());
                vec![("RemoteNetworkConfig", sent.clone())]
            }
            Self::DeletionProtection(enabled) => {
                cluster.deletion_protection = *enabled;
                vec![("DeletionProtection", enabled.to_string())]
            }
            Self::Scaling(tier) => {
                let previous = settings.scaling_tier.unwrap_or(ScalingTier::Standard);
                if previous != *tier {
                    settings.scaling_tier = Some(*tier);
                }
                vec![
                    ("UpdatedTier", tier.as_str().to_owned()),
                    ("PreviousTier", previous.as_str().to_owned()),
                ]
            }
            Self::Version(version) => {
                set_version(cluster, version)?;
                vec![("Version", version.to_string())]
            }
        })
    }
}

/// The flags and ranges of the endpoint, if one of them is there.
fn endpoint(vpc: &Value<'_>) -> Option<Wanted> {
    let public = vpc.boolean("endpointPublicAccess");
    let private = vpc.boolean("endpointPrivateAccess");
    let cidrs = vpc
        .texts("publicAccessCidrs")
        .filter(|cidrs| !cidrs.is_empty())
        .map(|cidrs| boxed(&cidrs));
    (public.is_some() || private.is_some() || cidrs.is_some()).then_some(Wanted::Endpoint {
        public,
        private,
        cidrs,
    })
}

fn network_interfaces(vpc: &Value<'_>) -> Result<Option<Wanted>, ApiError> {
    let ids = |name: &str| vpc.texts(name).filter(|ids| !ids.is_empty());
    let (subnet_ids, group_ids) = (ids("subnetIds"), ids("securityGroupIds"));
    if subnet_ids.is_none() && group_ids.is_none() {
        return Ok(None);
    }
    Ok(Some(Wanted::Vpc {
        subnets: subnet_ids.map(|ids| subnets(&ids)).transpose()?,
        security_groups: group_ids.map(|ids| security_groups(&ids)).transpose()?,
    }))
}

fn auto_mode(call: &Call<'_>) -> Result<Option<Wanted>, ApiError> {
    let input = &call.input;
    let parts = [
        ("ComputeConfig", input.get("computeConfig")),
        (
            "KubernetesNetworkConfig",
            input.get("kubernetesNetworkConfig"),
        ),
        ("StorageConfig", input.get("storageConfig")),
    ];
    let sent: Vec<(&'static str, String)> = parts
        .into_iter()
        .filter_map(|(name, part)| Some((name, compact(part?))))
        .collect();
    if sent.is_empty() {
        return Ok(None);
    }
    let network = input.get("kubernetesNetworkConfig");
    for fixed in ["serviceIpv4Cidr", "ipFamily"] {
        if network.is_some_and(|network| network.member(fixed).is_some()) {
            return Err(invalid(format!(
                "The {fixed} of a cluster cannot be changed"
            )));
        }
    }
    Ok(Some(Wanted::Auto {
        compute: settings::compute(call)?,
        load_balancing: settings::load_balancing(input),
        block_storage: block_storage(input),
        sent,
    }))
}

type Endpoint<'a> = (Option<bool>, Option<bool>, Option<&'a [Box<str>]>);

fn set_endpoint(
    vpc: &mut VpcConfig,
    ipv6: bool,
    (public, private, cidrs): Endpoint<'_>,
) -> Result<Vec<(&'static str, String)>, String> {
    let before = vpc.clone();
    let mut params = Vec::new();
    if let Some(public) = public {
        vpc.endpoint_public_access = public;
        params.push(("EndpointPublicAccess", public.to_string()));
    }
    if let Some(private) = private {
        vpc.endpoint_private_access = private;
        params.push(("EndpointPrivateAccess", private.to_string()));
    }
    if !(vpc.endpoint_public_access || vpc.endpoint_private_access) {
        return Err("Private and public endpoint access cannot be false".to_owned());
    }
    if let Some(cidrs) = cidrs {
        let texts: Vec<&str> = cidrs.iter().map(|cidr| &**cidr).collect();
        check_public(&texts, ipv6)?;
        vpc.public_access_cidrs = cidrs.to_vec();
        params.push(("PublicAccessCidrs", json!(texts).to_string()));
    }
    if *vpc == before {
        return Err(format!(
            "Cluster is already at the desired configuration with endpointPrivateAccess: {} , endpointPublicAccess: {}, and Public Endpoint Restrictions: [{}]",
            vpc.endpoint_private_access,
            vpc.endpoint_public_access,
            vpc.public_access_cidrs.join(", ")
        ));
    }
    Ok(params)
}

/// Parts that were not sent keep their state.
fn set_auto_mode(
    cluster: &mut Cluster,
    compute: Option<&ComputeConfig>,
    load_balancing: Option<bool>,
    block_storage: Option<bool>,
) -> Result<(), String> {
    let settings = &mut cluster.settings;
    if let Some(compute) = compute {
        let known = settings.compute.get_or_insert_with(ComputeConfig::default);
        known.enabled = compute.enabled.or(known.enabled);
        if !compute.node_pools.is_empty() {
            known.node_pools.clone_from(&compute.node_pools);
        }
        if compute.node_role_arn.is_some() {
            known.node_role_arn.clone_from(&compute.node_role_arn);
        }
    }
    if let Some(enabled) = load_balancing {
        settings
            .network
            .get_or_insert_with(KubernetesNetworkConfig::default)
            .elastic_load_balancing = Some(enabled);
    }
    settings.block_storage = block_storage.or(settings.block_storage);
    let enabled = settings.compute.as_ref().and_then(|known| known.enabled);
    let balancing = settings
        .network
        .as_ref()
        .and_then(|network| network.elastic_load_balancing);
    check_auto_mode([enabled, balancing, settings.block_storage])?;
    if enabled == Some(true) && cluster.authentication_mode == AuthenticationMode::ConfigMap {
        return Err(
            "When EKS Auto Mode is enabled, you must use an EKS access config authentication mode of API_AND_CONFIG_MAP or API"
                .to_owned(),
        );
    }
    Ok(())
}

/// One minor version forward, as EKS allows; a cluster that never named its version takes any.
fn set_version(cluster: &mut Cluster, version: &str) -> Result<(), String> {
    let minor = |text: &str| text.strip_prefix("1.")?.parse::<u32>().ok();
    if let (Some(known), Some(next)) = (cluster.version.as_deref().and_then(minor), minor(version))
    {
        if next == known {
            return Err(format!(
                "Cluster is already at the desired version {version}"
            ));
        }
        if next != known.saturating_add(1) {
            return Err(format!(
                "Unsupported Kubernetes minor version update from 1.{known} to {version}"
            ));
        }
    }
    cluster.version = Some(version.into());
    Ok(())
}

/// A value as JSON, its members in the order of the model.
fn compact(value: &Value<'_>) -> String {
    match value {
        Value::Text(text) => json!(text).to_string(),
        Value::Integer(number) => number.to_string(),
        Value::Boolean(value) => value.to_string(),
        Value::List(members) => {
            let members: Vec<String> = members.iter().map(compact).collect();
            format!("[{}]", members.join(","))
        }
        Value::Structure(members) => {
            let members: Vec<String> = members
                .iter()
                .map(|(name, member)| format!("\"{name}\":{}", compact(member)))
                .collect();
            format!("{{{}}}", members.join(","))
        }
        Value::Map(members) => {
            let members: Vec<String> = members
                .iter()
                .map(|(name, member)| format!("{}:{}", json!(name), compact(member)))
                .collect();
            format!("{{{}}}", members.join(","))
        }
    }
}
