//! Passwords (IAM API spec, section 4.16).

use crate::aws::authorize::on;
use crate::aws::operation::{Answer, Operation, iam};
use crate::aws::shape::kinds::{
    BOOLEAN, MAX_PASSWORD_AGE, MIN_PASSWORD_LENGTH, NAME_64, PASSWORD, PASSWORD_REUSE,
};
use crate::aws::shape::{optional, required};
use crate::aws::target::Target;

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    iam(
        "CreateLoginProfile",
        &[
            optional("UserName", NAME_64),
            optional("Password", PASSWORD),
            optional("PasswordResetRequired", BOOLEAN),
        ],
        on(Target::User("UserName")),
        Answer::NotOffered,
    ),
    iam(
        "GetLoginProfile",
        &[optional("UserName", NAME_64)],
        on(Target::User("UserName")),
        Answer::NotOffered,
    ),
    iam(
        "UpdateLoginProfile",
        &[
            required("UserName", NAME_64),
            optional("Password", PASSWORD),
            optional("PasswordResetRequired", BOOLEAN),
        ],
        on(Target::User("UserName")),
        Answer::NotOffered,
    ),
    iam(
        "DeleteLoginProfile",
        &[optional("UserName", NAME_64)],
        on(Target::User("UserName")),
        Answer::NotOffered,
    ),
    iam(
        "ChangePassword",
        &[
            required("OldPassword", PASSWORD),
            required("NewPassword", PASSWORD),
        ],
        on(Target::Caller),
        Answer::NotOffered,
    ),
    iam(
        "UpdateAccountPasswordPolicy",
        &[
            optional("MinimumPasswordLength", MIN_PASSWORD_LENGTH),
            optional("RequireSymbols", BOOLEAN),
            optional("RequireNumbers", BOOLEAN),
            optional("RequireUppercaseCharacters", BOOLEAN),
            optional("RequireLowercaseCharacters", BOOLEAN),
            optional("AllowUsersToChangePassword", BOOLEAN),
            optional("MaxPasswordAge", MAX_PASSWORD_AGE),
            optional("PasswordReusePrevention", PASSWORD_REUSE),
            optional("HardExpiry", BOOLEAN),
        ],
        on(Target::Any),
        Answer::NotOffered,
    ),
    iam(
        "GetAccountPasswordPolicy",
        &[],
        on(Target::Any),
        Answer::NotOffered,
    ),
    iam(
        "DeleteAccountPasswordPolicy",
        &[],
        on(Target::Any),
        Answer::NotOffered,
    ),
];
