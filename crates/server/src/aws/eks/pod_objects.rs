//! The checks of an association that no call asks for but an object of the cluster: those of `CreatePodIdentityAssociation` that
//! need no caller (EKS API spec, section 10.2, checks 1 to 4 and 7 to 9).

use countersign_arn::{AccountId, Arn};
use countersign_policy::Document;
use countersign_store::records::{Cluster, check_eks_tags, check_role_name, check_service_account};
use countersign_store::{DirectorySnapshot, NewPodIdentityAssociation};

use super::pod_identity::check_policy;
use super::pod_trust::{SERVICE, may_trust};
use crate::aws::sts::find_role;

/// Why an object gives nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ObjectRefusal {
    /// In one word, as conditions of Kubernetes have it.
    pub(crate) reason: &'static str,
    /// In a sentence.
    pub(crate) message: String,
}

impl ObjectRefusal {
    pub(crate) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }

    /// The object cannot be meant.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new("InvalidSpec", message)
    }
}

/// Checks an association of a cluster. Roles that are not here are somebody else's to check where `roles_elsewhere`; what EKS does
/// not know is refused without `extensions`.
///
/// # Errors
/// What is the matter with it.
pub(crate) fn check_association_object(
    snapshot: &DirectorySnapshot,
    cluster: &Cluster,
    new: &NewPodIdentityAssociation,
    roles_elsewhere: bool,
    extensions: bool,
) -> Result<(), ObjectRefusal> {
    let invalid = |message: String| ObjectRefusal::invalid(message);
    check_service_account(&new.service_account).map_err(|error| invalid(error.to_string()))?;
    check_eks_tags(&new.tags).map_err(|error| invalid(error.to_string()))?;
    if !extensions && !new.sessions.is_empty() {
        return Err(ObjectRefusal::new(
            "ExtensionsOff",
            "it says of sessions what EKS does not know, and `podIdentity.extensions` is off",
        ));
    }
    let partition = cluster.partition.id();
    let no_role = |member: &str| invalid(format!("`spec.{member}` is no role ARN of {partition}"));
    let account = role_account(partition, &new.role_arn).ok_or_else(|| no_role("roleArn"))?;
    if account != cluster.account {
        return Err(invalid(format!(
            "`spec.roleArn` is of account {account}, and the cluster of {}; a role of another account is a `targetRoleArn`",
            cluster.account
        )));
    }
    if let Some(target) = &new.target_role_arn {
        role_account(partition, target).ok_or_else(|| no_role("targetRoleArn"))?;
    }
    if new.policy.is_some() && new.disable_session_tags != Some(true) {
        return Err(invalid(
            "`spec.policy` needs `disableSessionTags: true`".to_owned(),
        ));
    }
    check_policy(new.policy.as_deref()).map_err(|error| invalid(error.message))?;
    let Some(role) = find_role(snapshot, &new.role_arn) else {
        if roles_elsewhere {
            return Ok(());
        }
        return Err(ObjectRefusal::new(
            "RoleNotFound",
            "there is no role with this ARN, path and letter case included",
        ));
    };
    let untrusted = |message: String| ObjectRefusal::new("RoleNotTrusting", message);
    let document = Document::parse(&*role.record.trust.document)
        .map_err(|_| untrusted("the trust policy of the role cannot be read".to_owned()))?;
    may_trust(&document, &role.arn).map_err(|refused| {
        untrusted(format!(
            "the trust policy of the role must let {SERVICE} do sts:AssumeRole and sts:TagSession, and it does not allow {}",
            refused.action
        ))
    })
}

/// The account in the ARN of a role of this partition.
fn role_account(partition: &str, arn: &str) -> Option<AccountId> {
    let arn = Arn::parse(arn).ok()?;
    let name = arn.resource.strip_prefix("role/")?.rsplit('/').next()?;
    let is_role = arn.partition == partition
        && arn.service == "iam"
        && arn.region.is_empty()
        && check_role_name(name).is_ok();
    arn.account.parse().ok().filter(|_| is_role)
}
