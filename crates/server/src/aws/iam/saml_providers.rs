//! SAML providers (IAM API spec, section 4.15).

use crate::aws::authorize::{creates, on};
use crate::aws::operation::{Answer, Operation, iam};
use crate::aws::shape::kinds::{
    ARN, ENCRYPTION_MODE, KEY_TO_REMOVE, PRIVATE_KEY, PROVIDER_NAME, SAML_METADATA, TAGS,
};
use crate::aws::shape::{optional, required};
use crate::aws::target::Target;

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    iam(
        "CreateSAMLProvider",
        &[
            required("SAMLMetadataDocument", SAML_METADATA),
            required("Name", PROVIDER_NAME),
            optional("Tags", TAGS),
            optional("AssertionEncryptionMode", ENCRYPTION_MODE),
            optional("AddPrivateKey", PRIVATE_KEY),
        ],
        creates(Target::SamlName("Name")).tagging("iam:TagSAMLProvider"),
        Answer::NotOffered,
    ),
    iam(
        "GetSAMLProvider",
        &[required("SAMLProviderArn", ARN)],
        on(Target::Arn("SAMLProviderArn")),
        Answer::NotOffered,
    ),
    iam(
        "ListSAMLProviders",
        &[],
        on(Target::Any),
        Answer::NotOffered,
    ),
    iam(
        "UpdateSAMLProvider",
        &[
            optional("SAMLMetadataDocument", SAML_METADATA),
            required("SAMLProviderArn", ARN),
            optional("AssertionEncryptionMode", ENCRYPTION_MODE),
            optional("AddPrivateKey", PRIVATE_KEY),
            optional("RemovePrivateKey", KEY_TO_REMOVE),
        ],
        on(Target::Arn("SAMLProviderArn")),
        Answer::NotOffered,
    ),
    iam(
        "DeleteSAMLProvider",
        &[required("SAMLProviderArn", ARN)],
        on(Target::Arn("SAMLProviderArn")),
        Answer::NotOffered,
    ),
];
