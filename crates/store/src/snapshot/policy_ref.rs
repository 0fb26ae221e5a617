//! What a managed policy is, wherever it comes from.

use std::borrow::Cow;

use countersign_arn::Partition;
use countersign_policy::tables;
use jiff::Timestamp;

use super::{DirectorySnapshot, PolicyRef};
use crate::records::AwsPolicy;

/// A version of a managed policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyVersionRef<'s> {
    /// 3 for `v3`.
    pub number: u32,
    /// When it was made; see [`PolicyRef::created`].
    pub created: Timestamp,
    /// The text as it is kept: for policies of AWS, that of partition `aws`.
    pub document: &'s str,
}

impl<'s> PolicyRef<'s> {
    /// The ARN; for policies of AWS, that in the given partition.
    #[must_use]
    pub fn arn_in(self, partition: Partition) -> String {
        match self {
            Self::Customer(policy) => policy.arn.to_string(),
            Self::Imported(_) | Self::Shipped(_) => format!(
                "arn:{partition}:iam::aws:policy{}{}",
                self.path(),
                self.name()
            ),
        }
    }

    /// `ANPA…`. Shipped policies have an id of ours, which follows from their name and is the same everywhere.
    #[must_use]
    pub fn id(self) -> Cow<'s, str> {
        match self {
            Self::Customer(policy) => (&*policy.record.id).into(),
            Self::Imported(policy) => (&*policy.record.id).into(),
            Self::Shipped(policy) => AwsPolicy::stand_in_id(&policy.name).into(),
        }
    }

    /// What it is for.
    #[must_use]
    pub fn description(self) -> Option<&'s str> {
        match self {
            Self::Customer(policy) => policy.record.description.as_deref(),
            Self::Imported(policy) => policy.record.description.as_deref(),
            Self::Shipped(_) => None,
        }
    }

    /// When it was made; for shipped policies, when AWS began to have any.
    #[must_use]
    pub fn created(self) -> Timestamp {
        match self {
            Self::Customer(policy) => policy.record.created,
            Self::Imported(policy) => policy.record.created,
            Self::Shipped(_) => AwsPolicy::unknown_date(),
        }
    }

    /// When its newest version was made, or its default version changed.
    #[must_use]
    pub fn updated(self) -> Timestamp {
        match self {
            Self::Customer(policy) => policy.record.updated,
            Self::Imported(policy) => policy.record.updated,
            Self::Shipped(_) => AwsPolicy::unknown_date(),
        }
    }

    /// Number of the version in force.
    #[must_use]
    pub fn default_version(self) -> u32 {
        match self {
            Self::Customer(policy) => policy.record.default_version,
            Self::Imported(policy) => policy.record.default_version,
            Self::Shipped(policy) => policy
                .version
                .strip_prefix('v')
                .and_then(|number| number.parse().ok())
                .unwrap_or(1),
        }
    }

    /// All versions that are known, in the order of their numbers.
    #[must_use]
    pub fn versions(self) -> Vec<PolicyVersionRef<'s>> {
        let versions = match self {
            Self::Customer(policy) => &policy.record.versions,
            Self::Imported(policy) => &policy.record.versions,
            Self::Shipped(policy) => {
                return vec![PolicyVersionRef {
                    number: self.default_version(),
                    created: AwsPolicy::unknown_date(),
                    document: policy.document(),
                }];
            }
        };
        versions
            .iter()
            .map(|version| PolicyVersionRef {
                number: version.number,
                created: version.created,
                document: &version.document,
            })
            .collect()
    }

    /// Whether a customer may attach it. The policies of service-linked roles are for those only (IAM API spec, section
    /// 4.7).
    #[must_use]
    pub fn is_attachable(self) -> bool {
        !(self.is_aws() && self.path().starts_with("/aws-service-role/"))
    }

    /// A document of this policy as it holds in a partition: the documents of AWS are kept for `aws`, and elsewhere their
    /// ARNs are of the other partition (IAM API spec, section 6). Those of customers stay as they are.
    #[must_use]
    pub fn document_in<'t>(self, partition: Partition, document: &'t str) -> Cow<'t, str> {
        in_partition(self.is_aws(), partition, document)
    }

    /// The document in force as it holds in a partition.
    #[must_use]
    pub fn default_document_in(self, partition: Partition) -> Cow<'s, str> {
        in_partition(self.is_aws(), partition, self.default_document())
    }
}

impl DirectorySnapshot {
    /// All managed policies of AWS, imported or shipped, in the order of their names in lower case.
    #[must_use]
    pub fn policies_of_aws(&self) -> Vec<PolicyRef<'_>> {
        let shipped = tables::managed_policies()
            .iter()
            .filter(|policy| self.aws_policy(&policy.name).is_none())
            .map(PolicyRef::Shipped);
        let mut all: Vec<_> = self
            .aws_policies()
            .map(PolicyRef::Imported)
            .chain(shipped)
            .collect();
        all.sort_by_cached_key(|policy| (policy.name().to_ascii_lowercase(), policy.name()));
        all
    }
}

fn in_partition(of_aws: bool, partition: Partition, document: &str) -> Cow<'_, str> {
    if !of_aws || partition == Partition::Aws || !document.contains("arn:aws:") {
        return Cow::Borrowed(document);
    }
    Cow::Owned(document.replace("arn:aws:", &format!("arn:{partition}:")))
}
