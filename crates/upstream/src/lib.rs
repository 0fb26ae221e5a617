//! Real AWS STS and EC2 and the issuers of web identities, asked with limits, caches and coalescing.
//!
//! The services are shared with everybody else in the account and throttle; all are asked because of what strangers send.
//! So each question is asked once for all who wait for it, answers are kept for as long as that is safe, and whatever a
//! caller can choose is bounded: queue, shares, tables, labels, answer sizes.
//!
//! ```text
//!   PresignedToken ──▶ sts::StsVerifier ──▶ CallerIdentity         GET https://sts.REGION.DOMAIN/?…
//!   instance id    ──▶ ec2::InstanceLookup ──▶ InstanceFacts       DescribeInstances, GetInstanceProfile
//!   role           ──▶ roles::StsRoles ──▶ RoleSession          AssumeRole, for pods
//!   web identity   ──▶ web_identity::StsWebIdentity ──▶ RoleSession   AssumeRoleWithWebIdentity, for pods
//!   cluster        ──▶ eks::EksAssociations ──▶ associations      ListPodIdentityAssociations, all pages
//!   issuer         ──▶ jwks::KeySource ──▶ KeySet                  GET discovery document, key set
//! ```
//!
//! Nothing here decides who may do what.

pub mod clock;
pub mod ec2;
pub mod eks;
pub mod http;
pub mod jwks;
mod lru;
pub mod roles;
pub mod sts;
pub mod web_identity;

#[doc(hidden)]
pub mod fuzz;
