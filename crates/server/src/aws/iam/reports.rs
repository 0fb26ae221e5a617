//! Reports (IAM API spec, section 4.18).

use super::{credential_report, last_accessed};
use crate::aws::authorize::on;
use crate::aws::operation::{Answer, Operation, iam};
use crate::aws::shape::kinds::{
    ARN, GRANULARITY, JOB_ID, MARKER, MAX_ITEMS, SERVICE_NAMESPACE, SERVICE_NAMESPACES,
};
use crate::aws::shape::{optional, required};
use crate::aws::target::Target;

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    iam(
        "GenerateCredentialReport",
        &[],
        on(Target::Any),
        Answer::Write(|call| Box::pin(credential_report::generate(call))),
    ),
    iam(
        "GetCredentialReport",
        &[],
        on(Target::Any),
        Answer::Read(credential_report::get),
    ),
    iam(
        "GenerateServiceLastAccessedDetails",
        &[required("Arn", ARN), optional("Granularity", GRANULARITY)],
        on(Target::Arn("Arn")),
        Answer::Write(|call| Box::pin(last_accessed::generate(call))),
    ),
    iam(
        "GetServiceLastAccessedDetails",
        &[
            required("JobId", JOB_ID),
            optional("MaxItems", MAX_ITEMS),
            optional("Marker", MARKER),
        ],
        on(Target::Any),
        Answer::Read(last_accessed::get),
    ),
    iam(
        "GetServiceLastAccessedDetailsWithEntities",
        &[
            required("JobId", JOB_ID),
            required("ServiceNamespace", SERVICE_NAMESPACE),
            optional("MaxItems", MAX_ITEMS),
            optional("Marker", MARKER),
        ],
        on(Target::Any),
        Answer::Read(last_accessed::get_with_entities),
    ),
    iam(
        "ListPoliciesGrantingServiceAccess",
        &[
            optional("Marker", MARKER),
            required("Arn", ARN),
            required("ServiceNamespaces", SERVICE_NAMESPACES),
        ],
        on(Target::Arn("Arn")),
        Answer::Read(last_accessed::policies_granting),
    ),
];
