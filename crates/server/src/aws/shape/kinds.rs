//! The kinds of parameters of IAM and STS, each with the constraints of the service model.

use super::pattern::{
    ACCOUNT_ALIAS as ALIAS, DESCRIPTION as DESCRIPTION_TEXT, DIGITS, DIGITS_OR_NOTHING, DOCUMENT,
    EXTERNAL_ID as EXTERNAL_ID_TEXT, MARKER as MARKER_TEXT, NAME, NAME_OR_NOTHING, NAMESPACE,
    PATH as PATH_TEXT, PATH_PREFIX as PREFIX, POLICY_PATH as POLICY_PATH_TEXT, PRIVATE_KEY_ID,
    PROVIDER_NAME as PROVIDER, SERIAL_NUMBER as SERIAL, SERIAL_NUMBER_OR_NOTHING,
    STS_ARN as ARN_TEXT, TAG_KEY as TAG_KEY_TEXT, TAG_VALUE as TAG_VALUE_TEXT,
    VERSION_ID as VERSION, WORD, WORD_OR_NOTHING,
};
use super::{ANY_NUMBER, Kind, optional, required};

// === Names, paths, ARNs ===

/// Names of users to be made, of roles, and of users in some other operations.
pub(crate) const NAME_64: Kind = Kind::matching(1, 64, &NAME);
/// All other names; those of existing users may be as long.
pub(crate) const NAME_128: Kind = Kind::matching(1, 128, &NAME);
pub(crate) const NAME_ANY: Kind = Kind::matching(1, ANY_NUMBER, &NAME);
pub(crate) const PROVIDER_NAME: Kind = Kind::matching(1, 128, &PROVIDER);
pub(crate) const PATH: Kind = Kind::matching(1, 512, &PATH_TEXT);
pub(crate) const PATH_PREFIX: Kind = Kind::matching(1, 512, &PREFIX);
pub(crate) const POLICY_PATH: Kind = Kind::matching(1, 512, &POLICY_PATH_TEXT);
pub(crate) const ARN: Kind = Kind::text(20, 2048);
pub(crate) const RESOURCE: Kind = Kind::text(1, 2048);
pub(crate) const RESOURCES: Kind = Kind::list(0, ANY_NUMBER, &RESOURCE);
pub(crate) const ACCESS_KEY_ID: Kind = Kind::matching(16, 128, &WORD);
pub(crate) const SERIAL_NUMBER: Kind = Kind::matching(9, 256, &SERIAL);
pub(crate) const VERSION_ID: Kind = Kind::matching(0, ANY_NUMBER, &VERSION);
pub(crate) const URL: Kind = Kind::text(1, 255);
pub(crate) const ACCOUNT_ALIAS: Kind = Kind::matching(3, 63, &ALIAS);

// === Texts ===

pub(crate) const POLICY_DOCUMENT: Kind = Kind::matching(1, 131_072, &DOCUMENT);
pub(crate) const POLICY_DOCUMENTS: Kind = Kind::list(0, ANY_NUMBER, &POLICY_DOCUMENT);
pub(crate) const DESCRIPTION: Kind = Kind::matching(0, 1000, &DESCRIPTION_TEXT);
pub(crate) const ANY_DESCRIPTION: Kind = Kind::text(0, 1000);
pub(crate) const ANY_TEXT: Kind = Kind::text(0, ANY_NUMBER);
pub(crate) const ANY_TEXTS: Kind = Kind::list(0, ANY_NUMBER, &ANY_TEXT);

// === Lists ===

pub(crate) const MARKER: Kind = Kind::matching(1, 320, &MARKER_TEXT);
pub(crate) const MAX_ITEMS: Kind = Kind::Integer {
    least: 1,
    most: 1000,
};
const TAG_KEY: Kind = Kind::matching(1, 128, &TAG_KEY_TEXT);
const TAG_VALUE: Kind = Kind::matching(0, 256, &TAG_VALUE_TEXT);
const TAG: Kind = Kind::Structure(&[required("Key", TAG_KEY), required("Value", TAG_VALUE)]);
pub(crate) const TAGS: Kind = Kind::list(0, 50, &TAG);
pub(crate) const TAG_KEYS: Kind = Kind::list(0, 50, &TAG_KEY);
pub(crate) const CLIENT_ID: Kind = Kind::text(1, 255);
pub(crate) const CLIENT_IDS: Kind = Kind::list(0, ANY_NUMBER, &CLIENT_ID);
const THUMBPRINT: Kind = Kind::text(40, 40);
pub(crate) const THUMBPRINTS: Kind = Kind::list(0, ANY_NUMBER, &THUMBPRINT);

// === Choices ===

pub(crate) const BOOLEAN: Kind = Kind::Boolean;
pub(crate) const KEY_STATUS: Kind = Kind::choice(&["Active", "Inactive", "Expired"]);
pub(crate) const POLICY_SCOPE: Kind = Kind::choice(&["All", "AWS", "Local"]);
pub(crate) const POLICY_USAGE: Kind = Kind::choice(&["PermissionsPolicy", "PermissionsBoundary"]);
pub(crate) const ENTITY_FILTER: Kind = Kind::choice(&[
    "User",
    "Role",
    "Group",
    "LocalManagedPolicy",
    "AWSManagedPolicy",
]);
pub(crate) const ENTITY_FILTERS: Kind = Kind::list(0, ANY_NUMBER, &ENTITY_FILTER);
pub(crate) const ENCRYPTION_MODE: Kind = Kind::choice(&["Required", "Allowed"]);
pub(crate) const ASSIGNMENT_STATUS: Kind = Kind::choice(&["Assigned", "Unassigned", "Any"]);
pub(crate) const GRANULARITY: Kind = Kind::choice(&["SERVICE_LEVEL", "ACTION_LEVEL"]);

// === Single operations ===

pub(crate) const MAX_SESSION_DURATION: Kind = Kind::Integer {
    least: 3600,
    most: 43_200,
};
pub(crate) const MIN_PASSWORD_LENGTH: Kind = Kind::Integer {
    least: 6,
    most: 128,
};
pub(crate) const MAX_PASSWORD_AGE: Kind = Kind::Integer {
    least: 1,
    most: 1095,
};
pub(crate) const PASSWORD_REUSE: Kind = Kind::Integer { least: 1, most: 24 };
pub(crate) const PASSWORD: Kind = Kind::matching(1, 128, &DOCUMENT).secret();
pub(crate) const AUTHENTICATION_CODE: Kind = Kind::matching(6, 6, &DIGITS).secret();
pub(crate) const SAML_METADATA: Kind = Kind::text(1000, 10_000_000);
pub(crate) const PRIVATE_KEY: Kind = Kind::matching(1, 16_384, &DOCUMENT).secret();
pub(crate) const KEY_TO_REMOVE: Kind = Kind::matching(22, 64, &PRIVATE_KEY_ID);
pub(crate) const DELETION_TASK_ID: Kind = Kind::text(1, 1000);
pub(crate) const JOB_ID: Kind = Kind::text(36, 36);
pub(crate) const SERVICE_NAMESPACE: Kind = Kind::matching(1, 64, &NAMESPACE);
pub(crate) const SERVICE_NAMESPACES: Kind = Kind::list(1, 200, &SERVICE_NAMESPACE);
const ACTION_NAME: Kind = Kind::text(3, 128);
pub(crate) const ACTION_NAMES: Kind = Kind::list(0, ANY_NUMBER, &ACTION_NAME);
pub(crate) const RESOURCE_HANDLING: Kind = Kind::text(1, 64);
const CONTEXT_ENTRY: Kind = Kind::Structure(&[
    optional("ContextKeyName", Kind::text(5, 256)),
    optional("ContextKeyValues", ANY_TEXTS),
    optional(
        "ContextKeyType",
        Kind::choice(&[
            "string",
            "stringList",
            "numeric",
            "numericList",
            "boolean",
            "booleanList",
            "ip",
            "ipList",
            "binary",
            "binaryList",
            "date",
            "dateList",
        ]),
    ),
]);
pub(crate) const CONTEXT_ENTRIES: Kind = Kind::list(0, ANY_NUMBER, &CONTEXT_ENTRY);
const ORGANIZATION_LEVEL: Kind =
    Kind::Structure(&[optional("ServiceControlPolicyInputList", POLICY_DOCUMENTS)]);
pub(crate) const ORGANIZATION_LEVELS: Kind = Kind::list(0, 7, &ORGANIZATION_LEVEL);
const EXCLUSION: Kind = Kind::Structure(&[
    optional(
        "PolicyType",
        Kind::choice(&[
            "inline",
            "aws-managed",
            "user-managed",
            "permission-boundary",
            "scp",
            "rcp",
        ]),
    ),
    optional("PolicyArn", ARN),
    optional(
        "InlinePolicyIdentifier",
        Kind::Structure(&[
            required("PolicyName", NAME_128),
            required("AttachmentType", Kind::choice(&["user", "group", "role"])),
            required("AttachmentName", NAME_128),
        ]),
    ),
]);
pub(crate) const EXCLUSIONS: Kind = Kind::list(0, 256, &EXCLUSION);

// === STS ===

pub(crate) const STS_ARN: Kind = Kind::matching(20, 2048, &ARN_TEXT);
pub(crate) const STS_NAME: Kind = Kind::matching(2, 64, &NAME_OR_NOTHING);
pub(crate) const FEDERATION_NAME: Kind = Kind::matching(2, 32, &NAME_OR_NOTHING);
/// The model has no upper bound for AssumeRole; the plain size together with the ARNs is checked apart.
pub(crate) const SESSION_POLICY: Kind = Kind::matching(1, ANY_NUMBER, &DOCUMENT);
pub(crate) const SESSION_POLICY_2048: Kind = Kind::matching(1, 2048, &DOCUMENT);
pub(crate) const POLICY_ARN: Kind = Kind::Structure(&[optional("arn", STS_ARN)]);
/// The bound is documented and not in the model.
pub(crate) const POLICY_ARNS: Kind = Kind::list(0, 10, &POLICY_ARN);
pub(crate) const ROLE_DURATION: Kind = Kind::Integer {
    least: 900,
    most: 43_200,
};
pub(crate) const USER_DURATION: Kind = Kind::Integer {
    least: 900,
    most: 129_600,
};
pub(crate) const ROOT_DURATION: Kind = Kind::Integer {
    least: 0,
    most: 900,
};
pub(crate) const TOKEN_DURATION: Kind = Kind::Integer {
    least: 60,
    most: 3600,
};
/// Never printed: whoever reads an error message need not learn what partners agreed on.
pub(crate) const EXTERNAL_ID: Kind = Kind::matching(2, 1224, &EXTERNAL_ID_TEXT).secret();
pub(crate) const STS_SERIAL_NUMBER: Kind = Kind::matching(9, 256, &SERIAL_NUMBER_OR_NOTHING);
pub(crate) const TOKEN_CODE: Kind = Kind::matching(6, 6, &DIGITS_OR_NOTHING).secret();
const PROVIDED_CONTEXT: Kind = Kind::Structure(&[
    optional("ProviderArn", STS_ARN),
    optional("ContextAssertion", Kind::text(4, 2048).secret()),
]);
pub(crate) const PROVIDED_CONTEXTS: Kind = Kind::list(1, 5, &PROVIDED_CONTEXT);
pub(crate) const TOKEN_SIZE: Kind = Kind::Integer {
    least: 0,
    most: 4096,
};
pub(crate) const WEB_IDENTITY_TOKEN: Kind = Kind::text(4, 20_000).secret();
pub(crate) const SAML_ASSERTION: Kind = Kind::text(4, 100_000).secret();
pub(crate) const PROVIDER_ID: Kind = Kind::text(4, 2048);
pub(crate) const TARGET_PRINCIPAL: Kind = Kind::text(12, 2048);
pub(crate) const ENCODED_MESSAGE: Kind = Kind::text(1, 10_240).secret();
pub(crate) const STS_ACCESS_KEY_ID: Kind = Kind::matching(16, 128, &WORD_OR_NOTHING);
const AUDIENCE: Kind = Kind::text(1, 1000);
pub(crate) const AUDIENCES: Kind = Kind::list(1, 10, &AUDIENCE);
pub(crate) const SIGNING_ALGORITHM: Kind = Kind::text(5, 5);
