//! ARNs of access policies (EKS API spec, sections 2.1 and 8.3).

use std::fmt;

use countersign_arn::{AccountId, Arn, Partition};

/// `arn:P:eks::aws:cluster-access-policy/NAME`, or with an account instead of `aws` for a custom policy.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PolicyArn {
    /// The partition, which is the cluster's.
    pub partition: Partition,
    /// Whose policy it is.
    pub owner: PolicyOwner,
    /// The name, not empty.
    pub name: Box<str>,
}

/// Whose access policy it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PolicyOwner {
    /// AWS's own.
    Aws,
    /// A custom policy of this account.
    Account(AccountId),
}

/// Why a text is not the ARN of an access policy. Displayed in EKS's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PolicyArnFault {
    /// Not an access policy of EKS at all: `InvalidParameterException`.
    #[error("The policyArn parameter format is not valid")]
    Format,
    /// Of the right service, but no policy has that ARN: `ResourceNotFoundException`.
    #[error(
        "The specified policyArn could not be found. You can view your available access policies with 'list-access-policies'"
    )]
    Unknown,
    /// A policy that customers may not hand out: `InvalidParameterException`.
    #[error("The specified policyArn can only be associated with service-linked roles")]
    ServiceLinkedRolesOnly,
}

pub(crate) const RESOURCE: &str = "cluster-access-policy/";

impl PolicyArn {
    /// Parses `text` for a cluster of `partition`.
    ///
    /// # Errors
    /// [`PolicyArnFault::Format`] for another service or free text; [`PolicyArnFault::Unknown`] for the wrong number of
    /// colons, another partition, or an owner that nobody is.
    pub fn parse(text: &str, partition: Partition) -> Result<Self, PolicyArnFault> {
        let service = text.split(':').nth(2);
        let last = text.rsplit(':').next().unwrap_or_default();
        if !text.starts_with("arn:") || service != Some("eks") || !last.starts_with(RESOURCE) {
            return Err(PolicyArnFault::Format);
        }
        let arn = Arn::parse(text).map_err(|_| PolicyArnFault::Unknown)?;
        let owner = match arn.account {
            "aws" => PolicyOwner::Aws,
            account => PolicyOwner::Account(account.parse().map_err(|_| PolicyArnFault::Unknown)?),
        };
        let name = arn.resource.strip_prefix(RESOURCE).unwrap_or_default();
        if arn.partition != partition.id() || !arn.region.is_empty() || name.is_empty() {
            return Err(PolicyArnFault::Unknown);
        }
        Ok(Self {
            partition,
            owner,
            name: name.into(),
        })
    }
}

impl fmt::Display for PolicyArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            partition,
            owner,
            name,
        } = self;
        write!(f, "arn:{partition}:eks::{owner}:{RESOURCE}{name}")
    }
}

impl fmt::Display for PolicyOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aws => f.write_str("aws"),
            Self::Account(account) => account.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_are_told_apart_as_eks_tells_them_apart() {
        use PolicyArnFault::{Format, Unknown};
        for (text, expected) in [
            (
                "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy",
                Ok(()),
            ),
            (
                "arn:aws:eks::111122223333:cluster-access-policy/Readers",
                Ok(()),
            ),
            ("", Err(Format)),
            ("AmazonEKSViewPolicy", Err(Format)),
            (
                "arn:aws:iam::aws:policy/AmazonEKSClusterPolicy",
                Err(Format),
            ),
            (
                "arn:aws:iam::aws:cluster-access-policy/AmazonEKSViewPolicy",
                Err(Format),
            ),
            ("arn:aws:eks::aws:policy/AmazonEKSViewPolicy", Err(Format)),
            (
                "arn:aws:eks:aws:cluster-access-policy/AmazonEKSViewPolicy",
                Err(Unknown),
            ),
            (
                "arn:aws:eks:::cluster-access-policy/AmazonEKSViewPolicy",
                Err(Unknown),
            ),
            (
                "arn:aws:eks:::aws:cluster-access-policy/AmazonEKSViewPolicy",
                Err(Unknown),
            ),
            (
                "arn:aws:eks:us-east-1:aws:cluster-access-policy/AmazonEKSViewPolicy",
                Err(Unknown),
            ),
            (
                "arn:aws-cn:eks::aws:cluster-access-policy/AmazonEKSViewPolicy",
                Err(Unknown),
            ),
            (
                "arn:aws:eks::amazon:cluster-access-policy/AmazonEKSViewPolicy",
                Err(Unknown),
            ),
            ("arn:aws:eks::aws:cluster-access-policy/", Err(Unknown)),
            ("arn:aws:eks::aws:cluster-access-policy/a b", Err(Unknown)),
        ] {
            let parsed = PolicyArn::parse(text, Partition::Aws);
            assert_eq!(parsed.clone().map(|_| ()), expected, "{text}");
            if let Ok(arn) = parsed {
                assert_eq!(arn.to_string(), text);
            }
        }
    }
}
