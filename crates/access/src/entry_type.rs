//! The types of access entries (EKS API spec, section 7.2).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The type of an access entry. It never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum EntryType {
    /// People and programs; the only type with groups and a username of its own.
    #[default]
    #[serde(rename = "STANDARD")]
    Standard,
    /// Linux nodes on EC2.
    #[serde(rename = "EC2_LINUX")]
    Ec2Linux,
    /// Windows nodes on EC2.
    #[serde(rename = "EC2_WINDOWS")]
    Ec2Windows,
    /// Fargate pods.
    #[serde(rename = "FARGATE_LINUX")]
    FargateLinux,
    /// Hybrid nodes.
    #[serde(rename = "HYBRID_LINUX")]
    HybridLinux,
    /// Nodes of Auto Mode; the only node type with access policies.
    #[serde(rename = "EC2")]
    Ec2,
    /// Nodes of SageMaker HyperPod.
    #[serde(rename = "HYPERPOD_LINUX")]
    HyperpodLinux,
}

/// The text is no type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown access entry type `{0}`")]
pub struct UnknownEntryType(pub String);

impl EntryType {
    /// Every type.
    pub const ALL: [Self; 7] = [
        Self::Standard,
        Self::Ec2Linux,
        Self::Ec2Windows,
        Self::FargateLinux,
        Self::HybridLinux,
        Self::Ec2,
        Self::HyperpodLinux,
    ];

    /// The word the EKS API has for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "STANDARD",
            Self::Ec2Linux => "EC2_LINUX",
            Self::Ec2Windows => "EC2_WINDOWS",
            Self::FargateLinux => "FARGATE_LINUX",
            Self::HybridLinux => "HYBRID_LINUX",
            Self::Ec2 => "EC2",
            Self::HyperpodLinux => "HYPERPOD_LINUX",
        }
    }

    /// Whether an entry of this type may have access policies.
    #[must_use]
    pub const fn takes_policies(self) -> bool {
        matches!(self, Self::Standard | Self::Ec2)
    }
}

impl fmt::Display for EntryType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for EntryType {
    type Err = UnknownEntryType;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| UnknownEntryType(text.chars().take(64).collect()))
    }
}
