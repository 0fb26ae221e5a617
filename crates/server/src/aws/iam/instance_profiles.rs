//! Instance profiles (IAM API spec, section 4.5).

use crate::aws::authorize::{creates, on};
use crate::aws::operation::{Answer, Operation, iam};
use crate::aws::shape::kinds::{MARKER, MAX_ITEMS, NAME_64, NAME_128, PATH, PATH_PREFIX, TAGS};
use crate::aws::shape::{optional, required};
use crate::aws::target::Target;

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    iam(
        "CreateInstanceProfile",
        &[
            required("InstanceProfileName", NAME_128),
            optional("Path", PATH),
            optional("Tags", TAGS),
        ],
        creates(Target::InstanceProfile("InstanceProfileName")).tagging("iam:TagInstanceProfile"),
        Answer::NotOffered,
    ),
    iam(
        "GetInstanceProfile",
        &[required("InstanceProfileName", NAME_128)],
        on(Target::InstanceProfile("InstanceProfileName")),
        Answer::NotOffered,
    ),
    iam(
        "ListInstanceProfiles",
        &[
            optional("PathPrefix", PATH_PREFIX),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::Any),
        Answer::NotOffered,
    ),
    iam(
        "ListInstanceProfilesForRole",
        &[
            required("RoleName", NAME_64),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::Role("RoleName")),
        Answer::NotOffered,
    ),
    iam(
        "AddRoleToInstanceProfile",
        &[
            required("InstanceProfileName", NAME_128),
            required("RoleName", NAME_64),
        ],
        on(Target::InstanceProfile("InstanceProfileName")).passing("RoleName", "ec2.amazonaws.com"),
        Answer::NotOffered,
    ),
    iam(
        "RemoveRoleFromInstanceProfile",
        &[
            required("InstanceProfileName", NAME_128),
            required("RoleName", NAME_64),
        ],
        on(Target::InstanceProfile("InstanceProfileName")),
        Answer::NotOffered,
    ),
    iam(
        "DeleteInstanceProfile",
        &[required("InstanceProfileName", NAME_128)],
        on(Target::InstanceProfile("InstanceProfileName")),
        Answer::NotOffered,
    ),
];
