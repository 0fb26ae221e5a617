//! The eight AWS partitions, their regions and domains.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A group of AWS regions that share accounts, ARNs and domains.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub enum Partition {
    /// Commercial regions.
    #[default]
    #[serde(rename = "aws")]
    Aws,
    /// China.
    #[serde(rename = "aws-cn")]
    China,
    /// GovCloud (US).
    #[serde(rename = "aws-us-gov")]
    GovCloud,
    /// Secret and top-secret regions (US).
    #[serde(rename = "aws-iso")]
    Iso,
    /// ISO-B (US).
    #[serde(rename = "aws-iso-b")]
    IsoB,
    /// ISO-E (Europe).
    #[serde(rename = "aws-iso-e")]
    IsoE,
    /// ISO-F (US).
    #[serde(rename = "aws-iso-f")]
    IsoF,
    /// European Sovereign Cloud.
    #[serde(rename = "aws-eusc")]
    EuropeanSovereign,
}

/// The text names none of the eight partitions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown partition `{0}`; one of aws, aws-cn, aws-us-gov, aws-iso, aws-iso-b, aws-iso-e, aws-iso-f, aws-eusc"
)]
pub struct UnknownPartition(pub String);

impl Partition {
    /// All partitions, in the order of the authentication spec's table 1.4.
    pub const ALL: [Self; 8] = [
        Self::Aws,
        Self::China,
        Self::GovCloud,
        Self::Iso,
        Self::IsoB,
        Self::IsoE,
        Self::IsoF,
        Self::EuropeanSovereign,
    ];

    /// The name inside ARNs.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::China => "aws-cn",
            Self::GovCloud => "aws-us-gov",
            Self::Iso => "aws-iso",
            Self::IsoB => "aws-iso-b",
            Self::IsoE => "aws-iso-e",
            Self::IsoF => "aws-iso-f",
            Self::EuropeanSovereign => "aws-eusc",
        }
    }

    /// Domain of the plain endpoints, such as `amazonaws.com`.
    #[must_use]
    pub const fn plain_domain(self) -> &'static str {
        match self {
            Self::Aws | Self::GovCloud => "amazonaws.com",
            Self::China => "amazonaws.com.cn",
            Self::Iso => "c2s.ic.gov",
            Self::IsoB => "sc2s.sgov.gov",
            Self::IsoE => "cloud.adc-e.uk",
            Self::IsoF => "csp.hci.ic.gov",
            Self::EuropeanSovereign => "amazonaws.eu",
        }
    }

    /// Domain of the dual-stack endpoints, such as `api.aws`.
    #[must_use]
    pub const fn dual_stack_domain(self) -> &'static str {
        match self {
            Self::Aws | Self::GovCloud => "api.aws",
            Self::China => "api.amazonwebservices.com.cn",
            Self::Iso => "api.aws.ic.gov",
            Self::IsoB => "api.aws.scloud",
            Self::IsoE => "api.cloud-aws.adc-e.uk",
            Self::IsoF => "api.aws.hci.ic.gov",
            Self::EuropeanSovereign => "api.amazonwebservices.eu",
        }
    }

    /// Whether `region` has the shape of this partition's regions (the patterns of the AWS SDKs' partition data).
    #[must_use]
    pub fn has_region(self, region: &str) -> bool {
        let behind = |prefix: &str| region.strip_prefix(prefix).is_some_and(word_and_number);
        match self {
            Self::Aws => [
                "us-", "eu-", "ap-", "sa-", "ca-", "me-", "af-", "il-", "mx-",
            ]
            .iter()
            .any(|prefix| behind(prefix)),
            Self::China => behind("cn-"),
            Self::GovCloud => behind("us-gov-"),
            Self::Iso => behind("us-iso-"),
            Self::IsoB => behind("us-isob-"),
            Self::IsoE => behind("eu-isoe-"),
            Self::IsoF => behind("us-isof-"),
            Self::EuropeanSovereign => behind("eusc-de-"),
        }
    }

    /// The partition whose region pattern `region` matches, if any.
    #[must_use]
    pub fn of_region(region: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.has_region(region))
    }
}

/// `\w+-\d+`, anchored, ASCII.
fn word_and_number(text: &str) -> bool {
    text.split_once('-').is_some_and(|(word, number)| {
        !word.is_empty()
            && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && !number.is_empty()
            && number.bytes().all(|b| b.is_ascii_digit())
    })
}

impl FromStr for Partition {
    type Err = UnknownPartition;

    fn from_str(text: &str) -> Result<Self, UnknownPartition> {
        Self::ALL
            .into_iter()
            .find(|p| p.id() == text)
            .ok_or_else(|| UnknownPartition(text.chars().take(64).collect()))
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.id())
    }
}
