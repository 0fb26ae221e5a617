//! Inline policies (IAM API spec, section 4.8).

use crate::aws::authorize::on;
use crate::aws::operation::{Answer, Operation, iam};
use crate::aws::shape::kinds::{MARKER, MAX_ITEMS, NAME_64, NAME_128, POLICY_DOCUMENT};
use crate::aws::shape::{optional, required};
use crate::aws::target::Target;

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    iam(
        "PutUserPolicy",
        &[
            required("UserName", NAME_128),
            required("PolicyName", NAME_128),
            required("PolicyDocument", POLICY_DOCUMENT),
        ],
        on(Target::User("UserName")),
        Answer::NotOffered,
    ),
    iam(
        "GetUserPolicy",
        &[
            required("UserName", NAME_128),
            required("PolicyName", NAME_128),
        ],
        on(Target::User("UserName")),
        Answer::NotOffered,
    ),
    iam(
        "ListUserPolicies",
        &[
            required("UserName", NAME_128),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::User("UserName")),
        Answer::NotOffered,
    ),
    iam(
        "DeleteUserPolicy",
        &[
            required("UserName", NAME_128),
            required("PolicyName", NAME_128),
        ],
        on(Target::User("UserName")),
        Answer::NotOffered,
    ),
    iam(
        "PutGroupPolicy",
        &[
            required("GroupName", NAME_128),
            required("PolicyName", NAME_128),
            required("PolicyDocument", POLICY_DOCUMENT),
        ],
        on(Target::Group("GroupName")),
        Answer::NotOffered,
    ),
    iam(
        "GetGroupPolicy",
        &[
            required("GroupName", NAME_128),
            required("PolicyName", NAME_128),
        ],
        on(Target::Group("GroupName")),
        Answer::NotOffered,
    ),
    iam(
        "ListGroupPolicies",
        &[
            required("GroupName", NAME_128),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::Group("GroupName")),
        Answer::NotOffered,
    ),
    iam(
        "DeleteGroupPolicy",
        &[
            required("GroupName", NAME_128),
            required("PolicyName", NAME_128),
        ],
        on(Target::Group("GroupName")),
        Answer::NotOffered,
    ),
    iam(
        "PutRolePolicy",
        &[
            required("RoleName", NAME_64),
            required("PolicyName", NAME_128),
            required("PolicyDocument", POLICY_DOCUMENT),
        ],
        on(Target::Role("RoleName")),
        Answer::NotOffered,
    ),
    iam(
        "GetRolePolicy",
        &[
            required("RoleName", NAME_64),
            required("PolicyName", NAME_128),
        ],
        on(Target::Role("RoleName")),
        Answer::NotOffered,
    ),
    iam(
        "ListRolePolicies",
        &[
            required("RoleName", NAME_64),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::Role("RoleName")),
        Answer::NotOffered,
    ),
    iam(
        "DeleteRolePolicy",
        &[
            required("RoleName", NAME_64),
            required("PolicyName", NAME_128),
        ],
        on(Target::Role("RoleName")),
        Answer::NotOffered,
    ),
];
