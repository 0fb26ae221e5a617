//! Tags (IAM API spec, section 4.11).

use super::saml_providers;
use crate::aws::authorize::on;
use crate::aws::operation::{Answer, Operation, iam};
use crate::aws::shape::kinds::{
    ARN, MARKER, MAX_ITEMS, NAME_64, NAME_128, SERIAL_NUMBER, TAG_KEYS, TAGS,
};
use crate::aws::shape::{optional, required};
use crate::aws::target::Target;

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    iam(
        "TagUser",
        &[required("UserName", NAME_128), required("Tags", TAGS)],
        on(Target::User("UserName")),
        Answer::NotOffered,
    ),
    iam(
        "UntagUser",
        &[
            required("UserName", NAME_128),
            required("TagKeys", TAG_KEYS),
        ],
        on(Target::User("UserName")),
        Answer::NotOffered,
    ),
    iam(
        "ListUserTags",
        &[
            required("UserName", NAME_128),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::User("UserName")),
        Answer::NotOffered,
    ),
    iam(
        "TagRole",
        &[required("RoleName", NAME_64), required("Tags", TAGS)],
        on(Target::Role("RoleName")),
        Answer::NotOffered,
    ),
    iam(
        "UntagRole",
        &[required("RoleName", NAME_64), required("TagKeys", TAG_KEYS)],
        on(Target::Role("RoleName")),
        Answer::NotOffered,
    ),
    iam(
        "ListRoleTags",
        &[
            required("RoleName", NAME_64),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::Role("RoleName")),
        Answer::NotOffered,
    ),
    iam(
        "TagPolicy",
        &[required("PolicyArn", ARN), required("Tags", TAGS)],
        on(Target::Arn("PolicyArn")),
        Answer::NotOffered,
    ),
    iam(
        "UntagPolicy",
        &[required("PolicyArn", ARN), required("TagKeys", TAG_KEYS)],
        on(Target::Arn("PolicyArn")),
        Answer::NotOffered,
    ),
    iam(
        "ListPolicyTags",
        &[
            required("PolicyArn", ARN),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::Arn("PolicyArn")),
        Answer::NotOffered,
    ),
    iam(
        "TagInstanceProfile",
        &[
            required("InstanceProfileName", NAME_128),
            required("Tags", TAGS),
        ],
        on(Target::InstanceProfile("InstanceProfileName")),
        Answer::NotOffered,
    ),
    iam(
        "UntagInstanceProfile",
        &[
            required("InstanceProfileName", NAME_128),
            required("TagKeys", TAG_KEYS),
        ],
        on(Target::InstanceProfile("InstanceProfileName")),
        Answer::NotOffered,
    ),
    iam(
        "ListInstanceProfileTags",
        &[
            required("InstanceProfileName", NAME_128),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::InstanceProfile("InstanceProfileName")),
        Answer::NotOffered,
    ),
    iam(
        "TagOpenIDConnectProvider",
        &[
            required("OpenIDConnectProviderArn", ARN),
            required("Tags", TAGS),
        ],
        on(Target::Arn("OpenIDConnectProviderArn")),
        Answer::NotOffered,
    ),
    iam(
        "UntagOpenIDConnectProvider",
        &[
            required("OpenIDConnectProviderArn", ARN),
            required("TagKeys", TAG_KEYS),
        ],
        on(Target::Arn("OpenIDConnectProviderArn")),
        Answer::NotOffered,
    ),
    iam(
        "ListOpenIDConnectProviderTags",
        &[
            required("OpenIDConnectProviderArn", ARN),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::Arn("OpenIDConnectProviderArn")),
        Answer::NotOffered,
    ),
    iam(
        "TagSAMLProvider",
        &[required("SAMLProviderArn", ARN), required("Tags", TAGS)],
        on(Target::Arn("SAMLProviderArn")),
        Answer::Write(|call| Box::pin(saml_providers::tag(call))),
    ),
    iam(
        "UntagSAMLProvider",
        &[
            required("SAMLProviderArn", ARN),
            required("TagKeys", TAG_KEYS),
        ],
        on(Target::Arn("SAMLProviderArn")),
        Answer::Write(|call| Box::pin(saml_providers::untag(call))),
    ),
    iam(
        "ListSAMLProviderTags",
        &[
            required("SAMLProviderArn", ARN),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::Arn("SAMLProviderArn")),
        Answer::Read(saml_providers::list_tags),
    ),
    iam(
        "TagMFADevice",
        &[
            required("SerialNumber", SERIAL_NUMBER),
            required("Tags", TAGS),
        ],
        on(Target::Serial("SerialNumber")),
        Answer::NotOffered,
    ),
    iam(
        "UntagMFADevice",
        &[
            required("SerialNumber", SERIAL_NUMBER),
            required("TagKeys", TAG_KEYS),
        ],
        on(Target::Serial("SerialNumber")),
        Answer::NotOffered,
    ),
    iam(
        "ListMFADeviceTags",
        &[
            required("SerialNumber", SERIAL_NUMBER),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::Serial("SerialNumber")),
        Answer::NotOffered,
    ),
    iam(
        "TagServerCertificate",
        &[
            required("ServerCertificateName", NAME_128),
            required("Tags", TAGS),
        ],
        on(Target::ServerCertificate("ServerCertificateName")),
        Answer::NotOffered,
    ),
    iam(
        "UntagServerCertificate",
        &[
            required("ServerCertificateName", NAME_128),
            required("TagKeys", TAG_KEYS),
        ],
        on(Target::ServerCertificate("ServerCertificateName")),
        Answer::NotOffered,
    ),
    iam(
        "ListServerCertificateTags",
        &[
            required("ServerCertificateName", NAME_128),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::ServerCertificate("ServerCertificateName")),
        Answer::NotOffered,
    ),
];
