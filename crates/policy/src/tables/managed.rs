//! A small set of AWS managed policies, for clusters and their tools that attach them by ARN.

use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::value::RawValue;

/// One AWS managed policy, in its default version.
#[derive(Debug, Clone, Deserialize)]
pub struct ManagedPolicy {
    /// `AdministratorAccess`
    pub name: String,
    /// `/`, `/service-role/`, `/aws-service-role/`, `/root-task/`, ...
    pub path: String,
    /// In partition `aws`; in others the partition differs, here and inside the document.
    pub arn: String,
    /// `v1`, ...
    pub version: String,
    document: Box<RawValue>,
}

impl ManagedPolicy {
    /// The document's JSON text.
    #[must_use]
    pub fn document(&self) -> &str {
        self.document.get()
    }
}

#[derive(Deserialize)]
struct File {
    policies: Vec<ManagedPolicy>,
}

static POLICIES: LazyLock<Vec<ManagedPolicy>> = LazyLock::new(|| {
    serde_json::from_str::<File>(include_str!("../../data/aws-managed-policies.json"))
        .map(|file| file.policies)
        .unwrap_or_default()
});

/// The managed policies that we ship.
#[must_use]
pub fn managed_policies() -> &'static [ManagedPolicy] {
    &POLICIES
}
