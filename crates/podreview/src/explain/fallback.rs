//! Containers that should have been given credentials and were not: what runs in them asks instance metadata.

use super::Facts;
use super::inject::{Admission, Lack, Wanted};
use super::sdk::{First, first};

/// Containers of one pod that were missed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fallback {
    /// The role of the annotation; `None` where the account has an association of EKS Pod Identity.
    pub role_arn: Option<String>,
    /// Names of the containers, init containers first.
    pub containers: Vec<String>,
}

/// The containers of a pod that admission would give credentials now, that have none, and whose SDKs therefore end at instance
/// metadata (check M10, imds spec, section 3). Only pod, account and association are looked at; an account or an association that
/// is not known gives nothing to expect.
///
/// Variables of an `envFrom` are not known. A container with one counts: whatever they are, it was missed.
///
/// # Errors
/// In words, when the pod cannot be shown to admission.
pub fn fallback(facts: &Facts) -> Result<Option<Fallback>, String> {
    let admission = Admission::of(facts)?;
    let Some(wanted) = &admission.wanted else {
        return Ok(None);
    };
    let asks_metadata = |name: &str| {
        let mut all = facts.pod.containers.iter();
        let container = all.find(|container| container.name == name);
        container.is_some_and(|container| {
            matches!(first(container), First::Metadata { disabled: false })
        })
    };
    let containers: Vec<String> = admission
        .containers
        .iter()
        .filter(|(name, lack)| *lack == Lack::Credentials && asks_metadata(name))
        .map(|(name, _)| name.clone())
        .collect();
    Ok((!containers.is_empty()).then(|| Fallback {
        role_arn: match wanted {
            Wanted::Irsa(role) => Some(role.clone()),
            Wanted::PodIdentity => None,
        },
        containers,
    }))
}
