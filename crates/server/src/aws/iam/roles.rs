//! Roles (IAM API spec, section 4.4).

use crate::aws::authorize::{creates, on};
use crate::aws::operation::{Answer, Operation, iam};
use crate::aws::shape::kinds::{
    ARN, DESCRIPTION, MARKER, MAX_ITEMS, MAX_SESSION_DURATION, NAME_64, PATH, PATH_PREFIX,
    POLICY_DOCUMENT, TAGS,
};
use crate::aws::shape::{optional, required};
use crate::aws::target::Target;

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    iam(
        "CreateRole",
        &[
            optional("Path", PATH),
            required("RoleName", NAME_64),
            required("AssumeRolePolicyDocument", POLICY_DOCUMENT),
            optional("Description", DESCRIPTION),
            optional("MaxSessionDuration", MAX_SESSION_DURATION),
            optional("PermissionsBoundary", ARN),
            optional("Tags", TAGS),
        ],
        creates(Target::Role("RoleName")).tagging("iam:TagRole"),
        Answer::NotOffered,
    ),
    iam(
        "GetRole",
        &[required("RoleName", NAME_64)],
        on(Target::Role("RoleName")),
        Answer::NotOffered,
    ),
    iam(
        "ListRoles",
        &[
            optional("PathPrefix", PATH_PREFIX),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::Any),
        Answer::NotOffered,
    ),
    iam(
        "UpdateRole",
        &[
            required("RoleName", NAME_64),
            optional("Description", DESCRIPTION),
            optional("MaxSessionDuration", MAX_SESSION_DURATION),
        ],
        on(Target::Role("RoleName")),
        Answer::NotOffered,
    ),
    iam(
        "UpdateRoleDescription",
        &[
            required("RoleName", NAME_64),
            required("Description", DESCRIPTION),
        ],
        on(Target::Role("RoleName")),
        Answer::NotOffered,
    ),
    iam(
        "UpdateAssumeRolePolicy",
        &[
            required("RoleName", NAME_64),
            required("PolicyDocument", POLICY_DOCUMENT),
        ],
        on(Target::Role("RoleName")),
        Answer::NotOffered,
    ),
    iam(
        "DeleteRole",
        &[required("RoleName", NAME_64)],
        on(Target::Role("RoleName")),
        Answer::NotOffered,
    ),
];
