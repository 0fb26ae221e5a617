//! Real AWS STS and EC2, asked with limits, caches and coalescing.
//!
//! Both services are shared with everybody else in the account and throttle; both are asked because of what strangers send.
//! So each question is asked once for all who wait for it, answers are kept for as long as that is safe, and whatever a
//! caller can choose is bounded: queue, shares, tables, labels, answer sizes.
//!
//! ```text
//!   PresignedToken ──▶ sts::StsVerifier ──▶ CallerIdentity         GET https://sts.REGION.DOMAIN/?…
//!   instance id    ──▶ ec2::InstanceLookup ──▶ InstanceFacts       DescribeInstances, GetInstanceProfile
//! ```
//!
//! Nothing here decides who may do what.

pub mod clock;
pub mod ec2;
pub mod http;
mod lru;
pub mod sts;

#[doc(hidden)]
pub mod fuzz;
