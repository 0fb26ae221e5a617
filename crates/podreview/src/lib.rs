//! Credentials of pods, reviewed: why a pod has them or not, who a role trusts, and plans that change either.
//!
//! ```text
//!   Kubernetes ── pod, service account ──┐
//!   EKS API ───── cluster, association ──┼──► Facts ──► explain ──► Explanation: steps, a verdict for each container
//!   IAM API ───── provider, roles ───────┤
//!                                        └──► Inventory ──► plan ──► Plan: steps in order, each with its undo
//!   trust policy ──► trust::{decide, merge, check}
//! ```
//!
//! It joins [`countersign_pods`] (what admission would add to a pod) and [`countersign_policy`] (what a trust policy decides), and is a
//! crate of its own because it needs both, while neither needs the other. Facts that nobody could read are told as such, and never
//! become a "yes" or a "no".
//!
//! Nothing here reads a clock, a socket or a file.

pub mod explain;
mod fact;
mod json_text;
pub mod plan;
mod pod;
mod sessions;
mod text;
pub mod trust;

pub use fact::{
    AccountFacts, AgentFacts, AssociationFacts, ClusterFacts, Fact, ProviderFacts, RoleFacts,
};
pub use json_text::pretty;
pub use pod::{ContainerFacts, NotAPod, Owner, PodFacts, TokenFacts};
pub use sessions::{SessionSettings, is_pattern};
pub use text::printable;

#[doc(hidden)]
pub mod fuzz;

/// Prefix of the annotations of service accounts.
pub const ANNOTATION_PREFIX: &str = "eks.amazonaws.com";
/// The annotation with a service account's role.
pub const ROLE_ANNOTATION: &str = "eks.amazonaws.com/role-arn";
/// Audience of tokens for AssumeRoleWithWebIdentity.
pub const STS_AUDIENCE: &str = "sts.amazonaws.com";
/// Audience of tokens for the agent of EKS Pod Identity, and the service that assumes roles for pods.
pub const PODS_SERVICE: &str = "pods.eks.amazonaws.com";

/// `system:serviceaccount:NAMESPACE:NAME`, the subject of a service account's tokens.
#[must_use]
pub fn subject(namespace: &str, account: &str) -> String {
    format!("system:serviceaccount:{namespace}:{account}")
}

/// Whether the text can be a namespace (EKS API spec, section 10.2).
#[must_use]
pub fn is_namespace(text: &str) -> bool {
    (1..=63).contains(&text.len()) && is_label(text)
}

/// Whether the text can be the name of a service account (EKS API spec, section 10.2).
#[must_use]
pub fn is_account_name(text: &str) -> bool {
    (1..=253).contains(&text.len()) && text.split('.').all(is_label)
}

fn is_label(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && text.bytes().all(plain) && !text.starts_with('-') && !text.ends_with('-')
}
