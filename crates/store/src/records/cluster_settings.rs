//! What a cluster has been told about itself and tells again (EKS API spec, section 3.1).

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The text is none of the words that EKS knows there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} `{text}`; one of {known}")]
pub struct UnknownWord {
    /// What was to be said.
    pub what: &'static str,
    /// The text, shortened.
    pub text: Box<str>,
    /// The words there are.
    pub known: &'static str,
}

/// An enumeration of EKS with the words for it.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $what:literal { $first:ident = $first_word:literal, $($variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            #[doc = concat!("`", $first_word, "`")]
            #[serde(rename = $first_word)]
            $first,
            $(
                #[doc = concat!("`", $word, "`")]
                #[serde(rename = $word)]
                $variant,
            )*
        }

        impl $name {
            /// Every value, in the order of the specification.
            pub const ALL: &[Self] = &[Self::$first, $(Self::$variant,)*];

            /// The word the EKS API has for it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    Self::$first => $first_word,
                    $(Self::$variant => $word,)*
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::ALL
                    .iter()
                    .copied()
                    .find(|value| value.as_str() == text)
                    .ok_or_else(|| UnknownWord {
                        what: $what,
                        text: text.chars().take(64).collect(),
                        known: concat!($first_word, $(", ", $word,)*),
                    })
            }
        }
    };
}

words! {
    /// A log of the control plane that is switched by itself.
    LogType, "log type" {
        Api = "api",
        Audit = "audit",
        Authenticator = "authenticator",
        ControllerManager = "controllerManager",
        Scheduler = "scheduler",
    }
}

words! {
    /// The addresses that pods and services have.
    IpFamily, "IP family" {
        Ipv4 = "ipv4",
        Ipv6 = "ipv6",
    }
}

words! {
    /// How long a Kubernetes version is supported.
    SupportType, "support type" {
        Standard = "STANDARD",
        Extended = "EXTENDED",
    }
}

words! {
    /// How large the control plane is at least.
    ScalingTier, "scaling tier" {
        Standard = "standard",
        TierXl = "tier-xl",
        Tier2xl = "tier-2xl",
        Tier4xl = "tier-4xl",
        Tier8xl = "tier-8xl",
    }
}

/// Everything that DescribeCluster echoes and nothing here acts on by itself. `None` is what was never said; the API
/// answers with EKS's default then.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterSettings {
    /// `resourcesVpcConfig`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vpc: Option<VpcConfig>,
    /// `kubernetesNetworkConfig`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<KubernetesNetworkConfig>,
    /// `logging`: the logs that are on; all others are off.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub logs: BTreeSet<LogType>,
    /// `encryptionConfig`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub encryption: Vec<EncryptionConfig>,
    /// `upgradePolicy.supportType`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub support_type: Option<SupportType>,
    /// `zonalShiftConfig.enabled`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zonal_shift: Option<bool>,
    /// `remoteNetworkConfig`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_network: Option<RemoteNetworkConfig>,
    /// `computeConfig`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compute: Option<ComputeConfig>,
    /// `storageConfig.blockStorage.enabled`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_storage: Option<bool>,
    /// `outpostConfig`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outpost: Option<OutpostConfig>,
    /// `bootstrapSelfManagedAddons`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bootstrap_self_managed_addons: Option<bool>,
    /// `controlPlaneScalingConfig.tier`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scaling_tier: Option<ScalingTier>,
    /// `clientRequestToken` of CreateCluster
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_request_token: Option<Box<str>>,
}

impl ClusterSettings {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// `resourcesVpcConfig`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VpcConfig {
    /// `subnetIds`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subnet_ids: Vec<Box<str>>,
    /// `securityGroupIds`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub security_group_ids: Vec<Box<str>>,
    /// `clusterSecurityGroupId`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_security_group_id: Option<Box<str>>,
    /// `vpcId`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vpc_id: Option<Box<str>>,
    /// `endpointPublicAccess`
    pub endpoint_public_access: bool,
    /// `endpointPrivateAccess`
    pub endpoint_private_access: bool,
    /// `publicAccessCidrs`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub public_access_cidrs: Vec<Box<str>>,
}

impl Default for VpcConfig {
    /// EKS's defaults: the public endpoint is on, for everybody, and the private one off.
    fn default() -> Self {
        Self {
            subnet_ids: Vec::new(),
            security_group_ids: Vec::new(),
            cluster_security_group_id: None,
            vpc_id: None,
            endpoint_public_access: true,
            endpoint_private_access: false,
            public_access_cidrs: vec!["0.0.0.0/0".into()],
        }
    }
}

/// `kubernetesNetworkConfig`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KubernetesNetworkConfig {
    /// `serviceIpv4Cidr`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_ipv4_cidr: Option<Box<str>>,
    /// `serviceIpv6Cidr`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_ipv6_cidr: Option<Box<str>>,
    /// `ipFamily`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_family: Option<IpFamily>,
    /// `elasticLoadBalancing.enabled`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elastic_load_balancing: Option<bool>,
}

/// One member of `encryptionConfig`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncryptionConfig {
    /// `resources`
    pub resources: Vec<Box<str>>,
    /// `provider.keyArn`
    pub key_arn: Box<str>,
}

/// `remoteNetworkConfig`: the CIDRs of each network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RemoteNetworkConfig {
    /// `remoteNodeNetworks[].cidrs`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub node_networks: Vec<Vec<Box<str>>>,
    /// `remotePodNetworks[].cidrs`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pod_networks: Vec<Vec<Box<str>>>,
}

/// `computeConfig`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ComputeConfig {
    /// `enabled`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// `nodePools`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub node_pools: Vec<Box<str>>,
    /// `nodeRoleArn`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_role_arn: Option<Box<str>>,
}

/// `outpostConfig`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OutpostConfig {
    /// `outpostArns`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outpost_arns: Vec<Box<str>>,
    /// `controlPlaneInstanceType`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_plane_instance_type: Option<Box<str>>,
    /// `controlPlanePlacement.groupName`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement_group: Option<Box<str>>,
}
