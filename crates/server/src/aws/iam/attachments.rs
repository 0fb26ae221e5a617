//! Attached managed policies (IAM API spec, section 4.7).

use crate::aws::authorize::on;
use crate::aws::operation::{Answer, Operation, iam};
use crate::aws::shape::kinds::{ARN, MARKER, MAX_ITEMS, NAME_64, NAME_128, POLICY_PATH};
use crate::aws::shape::{optional, required};
use crate::aws::target::Target;

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    iam(
        "AttachUserPolicy",
        &[required("UserName", NAME_64), required("PolicyArn", ARN)],
        on(Target::User("UserName")),
        Answer::NotOffered,
    ),
    iam(
        "DetachUserPolicy",
        &[required("UserName", NAME_64), required("PolicyArn", ARN)],
        on(Target::User("UserName")),
        Answer::NotOffered,
    ),
    iam(
        "ListAttachedUserPolicies",
        &[
            required("UserName", NAME_64),
            optional("PathPrefix", POLICY_PATH),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::User("UserName")),
        Answer::NotOffered,
    ),
    iam(
        "AttachGroupPolicy",
        &[required("GroupName", NAME_128), required("PolicyArn", ARN)],
        on(Target::Group("GroupName")),
        Answer::NotOffered,
    ),
    iam(
        "DetachGroupPolicy",
        &[required("GroupName", NAME_128), required("PolicyArn", ARN)],
        on(Target::Group("GroupName")),
        Answer::NotOffered,
    ),
    iam(
        "ListAttachedGroupPolicies",
        &[
            required("GroupName", NAME_128),
            optional("PathPrefix", POLICY_PATH),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::Group("GroupName")),
        Answer::NotOffered,
    ),
    iam(
        "AttachRolePolicy",
        &[required("RoleName", NAME_64), required("PolicyArn", ARN)],
        on(Target::Role("RoleName")),
        Answer::NotOffered,
    ),
    iam(
        "DetachRolePolicy",
        &[required("RoleName", NAME_64), required("PolicyArn", ARN)],
        on(Target::Role("RoleName")),
        Answer::NotOffered,
    ),
    iam(
        "ListAttachedRolePolicies",
        &[
            required("RoleName", NAME_64),
            optional("PathPrefix", POLICY_PATH),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::Role("RoleName")),
        Answer::NotOffered,
    ),
];
