//! MFA devices (IAM API spec, section 4.17).

use crate::aws::authorize::{creates, on};
use crate::aws::operation::{Answer, Operation, iam};
use crate::aws::shape::kinds::{
    ASSIGNMENT_STATUS, AUTHENTICATION_CODE, MARKER, MAX_ITEMS, NAME_64, NAME_128, NAME_ANY, PATH,
    SERIAL_NUMBER, TAGS,
};
use crate::aws::shape::{optional, required};
use crate::aws::target::Target;

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    iam(
        "CreateVirtualMFADevice",
        &[
            optional("Path", PATH),
            required("VirtualMFADeviceName", NAME_ANY),
            optional("Tags", TAGS),
        ],
        creates(Target::MfaName("VirtualMFADeviceName")).tagging("iam:TagMFADevice"),
        Answer::NotOffered,
    ),
    iam(
        "EnableMFADevice",
        &[
            required("UserName", NAME_128),
            required("SerialNumber", SERIAL_NUMBER),
            required("AuthenticationCode1", AUTHENTICATION_CODE),
            required("AuthenticationCode2", AUTHENTICATION_CODE),
        ],
        on(Target::User("UserName")),
        Answer::NotOffered,
    ),
    iam(
        "ResyncMFADevice",
        &[
            required("UserName", NAME_128),
            required("SerialNumber", SERIAL_NUMBER),
            required("AuthenticationCode1", AUTHENTICATION_CODE),
            required("AuthenticationCode2", AUTHENTICATION_CODE),
        ],
        on(Target::User("UserName")),
        Answer::NotOffered,
    ),
    iam(
        "DeactivateMFADevice",
        &[
            optional("UserName", NAME_128),
            required("SerialNumber", SERIAL_NUMBER),
        ],
        on(Target::User("UserName")),
        Answer::NotOffered,
    ),
    iam(
        "DeleteVirtualMFADevice",
        &[required("SerialNumber", SERIAL_NUMBER)],
        on(Target::Serial("SerialNumber")),
        Answer::NotOffered,
    ),
    iam(
        "ListMFADevices",
        &[
            optional("UserName", NAME_128),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::User("UserName")),
        Answer::NotOffered,
    ),
    iam(
        "ListVirtualMFADevices",
        &[
            optional("AssignmentStatus", ASSIGNMENT_STATUS),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::Any),
        Answer::NotOffered,
    ),
    iam(
        "GetMFADevice",
        &[
            required("SerialNumber", SERIAL_NUMBER),
            optional("UserName", NAME_64),
        ],
        on(Target::User("UserName")),
        Answer::NotOffered,
    ),
];
