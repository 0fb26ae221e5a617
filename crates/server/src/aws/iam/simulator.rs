//! The policy simulator and context keys (IAM API spec, section 4.13).

use crate::aws::authorize::on;
use crate::aws::operation::{Answer, Operation, iam};
use crate::aws::shape::kinds::{
    ACTION_NAMES, ARN, CONTEXT_ENTRIES, EXCLUSIONS, MARKER, MAX_ITEMS, ORGANIZATION_LEVELS,
    POLICY_DOCUMENT, POLICY_DOCUMENTS, RESOURCE, RESOURCE_HANDLING, RESOURCES,
};
use crate::aws::shape::{optional, required};
use crate::aws::target::Target;

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    iam(
        "SimulateCustomPolicy",
        &[
            required("PolicyInputList", POLICY_DOCUMENTS),
            optional("PermissionsBoundaryPolicyInputList", POLICY_DOCUMENTS),
            optional("OrderedOrganizationPolicyInputList", ORGANIZATION_LEVELS),
            required("ActionNames", ACTION_NAMES),
            optional("ResourceArns", RESOURCES),
            optional("ResourcePolicy", POLICY_DOCUMENT),
            optional("ResourceOwner", RESOURCE),
            optional("CallerArn", RESOURCE),
            optional("ContextEntries", CONTEXT_ENTRIES),
            optional("ResourceHandlingOption", RESOURCE_HANDLING),
            optional("MaxItems", MAX_ITEMS),
            optional("Marker", MARKER),
        ],
        on(Target::Any),
        Answer::NotOffered,
    ),
    iam(
        "SimulatePrincipalPolicy",
        &[
            required("PolicySourceArn", ARN),
            optional("PolicyInputList", POLICY_DOCUMENTS),
            optional("PermissionsBoundaryPolicyInputList", POLICY_DOCUMENTS),
            optional("PolicyExclusionList", EXCLUSIONS),
            required("ActionNames", ACTION_NAMES),
            optional("ResourceArns", RESOURCES),
            optional("ResourcePolicy", POLICY_DOCUMENT),
            optional("ResourceOwner", RESOURCE),
            optional("CallerArn", RESOURCE),
            optional("ContextEntries", CONTEXT_ENTRIES),
            optional("ResourceHandlingOption", RESOURCE_HANDLING),
            optional("MaxItems", MAX_ITEMS),
            optional("Marker", MARKER),
        ],
        on(Target::Arn("PolicySourceArn")),
        Answer::NotOffered,
    ),
    iam(
        "GetContextKeysForCustomPolicy",
        &[required("PolicyInputList", POLICY_DOCUMENTS)],
        on(Target::Any),
        Answer::NotOffered,
    ),
    iam(
        "GetContextKeysForPrincipalPolicy",
        &[
            required("PolicySourceArn", ARN),
            optional("PolicyInputList", POLICY_DOCUMENTS),
        ],
        on(Target::Arn("PolicySourceArn")),
        Answer::NotOffered,
    ),
];
