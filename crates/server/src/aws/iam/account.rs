//! The account (IAM API spec, section 4.12).

use crate::aws::authorize::on;
use crate::aws::operation::{Answer, Operation, iam};
use crate::aws::shape::kinds::{ACCOUNT_ALIAS, ENTITY_FILTERS, MARKER, MAX_ITEMS};
use crate::aws::shape::{optional, required};
use crate::aws::target::Target;

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    iam(
        "CreateAccountAlias",
        &[required("AccountAlias", ACCOUNT_ALIAS)],
        on(Target::Any),
        Answer::NotOffered,
    ),
    iam(
        "ListAccountAliases",
        &[optional("Marker", MARKER), optional("MaxItems", MAX_ITEMS)],
        on(Target::Any),
        Answer::NotOffered,
    ),
    iam(
        "DeleteAccountAlias",
        &[required("AccountAlias", ACCOUNT_ALIAS)],
        on(Target::Any),
        Answer::NotOffered,
    ),
    iam(
        "GetAccountSummary",
        &[],
        on(Target::Any),
        Answer::NotOffered,
    ),
    iam(
        "GetAccountAuthorizationDetails",
        &[
            optional("Filter", ENTITY_FILTERS),
            optional("MaxItems", MAX_ITEMS),
            optional("Marker", MARKER),
        ],
        on(Target::Any),
        Answer::NotOffered,
    ),
];
