//! Outbound web identity federation (IAM API spec, section 4.18a).

use crate::aws::authorize::on;
use crate::aws::operation::{Answer, Operation, iam};
use crate::aws::target::Target;

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    iam(
        "EnableOutboundWebIdentityFederation",
        &[],
        on(Target::Any),
        Answer::NotOffered,
    ),
    iam(
        "GetOutboundWebIdentityFederationInfo",
        &[],
        on(Target::Any),
        Answer::NotOffered,
    ),
    iam(
        "DisableOutboundWebIdentityFederation",
        &[],
        on(Target::Any),
        Answer::NotOffered,
    ),
];
