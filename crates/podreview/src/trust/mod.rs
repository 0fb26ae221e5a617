//! Trust policies of roles that pods take (IRSA spec, section 7; Pod Identity spec, section 6).

mod check;
mod decide;
mod write;

pub use check::{CheckFacts, Level, TrustFinding, check, namespaces};
pub use decide::{
    PodCall, TrustDecision, Verdict, WebCall, decide_pod_identity, decide_web_identity,
};
pub use write::{
    Change, MAX_TRUST_POLICY, Merged, NewTrust, PodIdentityTrust, TrustError, WebIdentityTrust,
    merge, without_subject,
};
