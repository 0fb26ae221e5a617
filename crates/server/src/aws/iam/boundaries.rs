//! Permissions boundaries (IAM API spec, section 4.9).

use crate::aws::authorize::on;
use crate::aws::operation::{Answer, Operation, iam};
use crate::aws::shape::kinds::{ARN, NAME_64};
use crate::aws::shape::required;
use crate::aws::target::Target;

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    iam(
        "PutUserPermissionsBoundary",
        &[
            required("UserName", NAME_64),
            required("PermissionsBoundary", ARN),
        ],
        on(Target::User("UserName")),
        Answer::NotOffered,
    ),
    iam(
        "DeleteUserPermissionsBoundary",
        &[required("UserName", NAME_64)],
        on(Target::User("UserName")),
        Answer::NotOffered,
    ),
    iam(
        "PutRolePermissionsBoundary",
        &[
            required("RoleName", NAME_64),
            required("PermissionsBoundary", ARN),
        ],
        on(Target::Role("RoleName")),
        Answer::NotOffered,
    ),
    iam(
        "DeleteRolePermissionsBoundary",
        &[required("RoleName", NAME_64)],
        on(Target::Role("RoleName")),
        Answer::NotOffered,
    ),
];
