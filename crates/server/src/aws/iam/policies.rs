//! Customer managed policies (IAM API spec, section 4.6).

use crate::aws::authorize::{creates, on};
use crate::aws::operation::{Answer, Operation, iam};
use crate::aws::shape::kinds::{
    ANY_DESCRIPTION, ARN, BOOLEAN, ENTITY_FILTER, MARKER, MAX_ITEMS, NAME_128, PATH,
    POLICY_DOCUMENT, POLICY_PATH, POLICY_SCOPE, POLICY_USAGE, TAGS, VERSION_ID,
};
use crate::aws::shape::{optional, required};
use crate::aws::target::Target;

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    iam(
        "CreatePolicy",
        &[
            required("PolicyName", NAME_128),
            optional("Path", POLICY_PATH),
            required("PolicyDocument", POLICY_DOCUMENT),
            optional("Description", ANY_DESCRIPTION),
            optional("Tags", TAGS),
        ],
        creates(Target::Policy("PolicyName")).tagging("iam:TagPolicy"),
        Answer::NotOffered,
    ),
    iam(
        "GetPolicy",
        &[required("PolicyArn", ARN)],
        on(Target::Arn("PolicyArn")),
        Answer::NotOffered,
    ),
    iam(
        "ListPolicies",
        &[
            optional("Scope", POLICY_SCOPE),
            optional("OnlyAttached", BOOLEAN),
            optional("PathPrefix", POLICY_PATH),
            optional("PolicyUsageFilter", POLICY_USAGE),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::Any),
        Answer::NotOffered,
    ),
    iam(
        "DeletePolicy",
        &[required("PolicyArn", ARN)],
        on(Target::Arn("PolicyArn")),
        Answer::NotOffered,
    ),
    iam(
        "CreatePolicyVersion",
        &[
            required("PolicyArn", ARN),
            required("PolicyDocument", POLICY_DOCUMENT),
            optional("SetAsDefault", BOOLEAN),
        ],
        on(Target::Arn("PolicyArn")),
        Answer::NotOffered,
    ),
    iam(
        "GetPolicyVersion",
        &[
            required("PolicyArn", ARN),
            required("VersionId", VERSION_ID),
        ],
        on(Target::Arn("PolicyArn")),
        Answer::NotOffered,
    ),
    iam(
        "ListPolicyVersions",
        &[
            required("PolicyArn", ARN),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::Arn("PolicyArn")),
        Answer::NotOffered,
    ),
    iam(
        "SetDefaultPolicyVersion",
        &[
            required("PolicyArn", ARN),
            required("VersionId", VERSION_ID),
        ],
        on(Target::Arn("PolicyArn")),
        Answer::NotOffered,
    ),
    iam(
        "DeletePolicyVersion",
        &[
            required("PolicyArn", ARN),
            required("VersionId", VERSION_ID),
        ],
        on(Target::Arn("PolicyArn")),
        Answer::NotOffered,
    ),
    iam(
        "ListEntitiesForPolicy",
        &[
            required("PolicyArn", ARN),
            optional("EntityFilter", ENTITY_FILTER),
            optional("PathPrefix", PATH),
            optional("PolicyUsageFilter", POLICY_USAGE),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::Arn("PolicyArn")),
        Answer::NotOffered,
    ),
];
