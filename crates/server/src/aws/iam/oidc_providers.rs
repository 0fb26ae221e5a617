//! OpenID Connect providers (IAM API spec, section 4.10).

use crate::aws::authorize::{creates, on};
use crate::aws::operation::{Answer, Operation, iam};
use crate::aws::shape::kinds::{ARN, CLIENT_ID, CLIENT_IDS, TAGS, THUMBPRINTS, URL};
use crate::aws::shape::{optional, required};
use crate::aws::target::Target;

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    iam(
        "CreateOpenIDConnectProvider",
        &[
            required("Url", URL),
            optional("ClientIDList", CLIENT_IDS),
            optional("ThumbprintList", THUMBPRINTS),
            optional("Tags", TAGS),
        ],
        creates(Target::OidcUrl("Url")).tagging("iam:TagOpenIDConnectProvider"),
        Answer::NotOffered,
    ),
    iam(
        "GetOpenIDConnectProvider",
        &[required("OpenIDConnectProviderArn", ARN)],
        on(Target::Arn("OpenIDConnectProviderArn")),
        Answer::NotOffered,
    ),
    iam(
        "ListOpenIDConnectProviders",
        &[],
        on(Target::Any),
        Answer::NotOffered,
    ),
    iam(
        "AddClientIDToOpenIDConnectProvider",
        &[
            required("OpenIDConnectProviderArn", ARN),
            required("ClientID", CLIENT_ID),
        ],
        on(Target::Arn("OpenIDConnectProviderArn")),
        Answer::NotOffered,
    ),
    iam(
        "RemoveClientIDFromOpenIDConnectProvider",
        &[
            required("OpenIDConnectProviderArn", ARN),
            required("ClientID", CLIENT_ID),
        ],
        on(Target::Arn("OpenIDConnectProviderArn")),
        Answer::NotOffered,
    ),
    iam(
        "UpdateOpenIDConnectProviderThumbprint",
        &[
            required("OpenIDConnectProviderArn", ARN),
            required("ThumbprintList", THUMBPRINTS),
        ],
        on(Target::Arn("OpenIDConnectProviderArn")),
        Answer::NotOffered,
    ),
    iam(
        "DeleteOpenIDConnectProvider",
        &[required("OpenIDConnectProviderArn", ARN)],
        on(Target::Arn("OpenIDConnectProviderArn")),
        Answer::NotOffered,
    ),
];
