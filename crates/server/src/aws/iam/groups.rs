//! Groups (IAM API spec, section 4.3).

use crate::aws::authorize::{creates, on};
use crate::aws::operation::{Answer, Operation, iam};
use crate::aws::shape::kinds::{MARKER, MAX_ITEMS, NAME_128, PATH, PATH_PREFIX};
use crate::aws::shape::{optional, required};
use crate::aws::target::Target;

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    iam(
        "CreateGroup",
        &[optional("Path", PATH), required("GroupName", NAME_128)],
        creates(Target::Group("GroupName")),
        Answer::NotOffered,
    ),
    iam(
        "GetGroup",
        &[
            required("GroupName", NAME_128),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::Group("GroupName")),
        Answer::NotOffered,
    ),
    iam(
        "ListGroups",
        &[
            optional("PathPrefix", PATH_PREFIX),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::Any),
        Answer::NotOffered,
    ),
    iam(
        "UpdateGroup",
        &[
            required("GroupName", NAME_128),
            optional("NewPath", PATH),
            optional("NewGroupName", NAME_128),
        ],
        on(Target::Group("GroupName")),
        Answer::NotOffered,
    ),
    iam(
        "DeleteGroup",
        &[required("GroupName", NAME_128)],
        on(Target::Group("GroupName")),
        Answer::NotOffered,
    ),
    iam(
        "AddUserToGroup",
        &[
            required("GroupName", NAME_128),
            required("UserName", NAME_128),
        ],
        on(Target::Group("GroupName")),
        Answer::NotOffered,
    ),
    iam(
        "RemoveUserFromGroup",
        &[
            required("GroupName", NAME_128),
            required("UserName", NAME_128),
        ],
        on(Target::Group("GroupName")),
        Answer::NotOffered,
    ),
    iam(
        "ListGroupsForUser",
        &[
            required("UserName", NAME_128),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::User("UserName")),
        Answer::NotOffered,
    ),
];
