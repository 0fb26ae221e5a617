//! Passwords (IAM API spec, section 4.16).

use countersign_store::records::{LoginProfile, PasswordPolicy};
use countersign_store::{LoginChange, SecretString};

use super::error::{no_such, no_such_user};
use crate::aws::authorize::on;
use crate::aws::operation::{Answer, Call, Operation, iam};
use crate::aws::query::Member;
use crate::aws::shape::kinds::{
    BOOLEAN, MAX_PASSWORD_AGE, MIN_PASSWORD_LENGTH, NAME_64, PASSWORD, PASSWORD_REUSE,
};
use crate::aws::shape::{optional, required};
use crate::aws::target::{Resource, Target};
use crate::aws::{ApiError, internal_failure};

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
        Answer::Write(|call| Box::pin(create_login_profile(call))),
    ),
    iam(
        "GetLoginProfile",
        &[optional("UserName", NAME_64)],
        on(Target::User("UserName")),
        Answer::Read(get_login_profile),
    ),
    iam(
        "UpdateLoginProfile",
        &[
            required("UserName", NAME_64),
            optional("Password", PASSWORD),
            optional("PasswordResetRequired", BOOLEAN),
        ],
        on(Target::User("UserName")),
        Answer::Write(|call| Box::pin(update_login_profile(call))),
    ),
    iam(
        "DeleteLoginProfile",
        &[optional("UserName", NAME_64)],
        on(Target::User("UserName")),
        Answer::Write(|call| Box::pin(delete_login_profile(call))),
    ),
    iam(
        "ChangePassword",
        &[
            required("OldPassword", PASSWORD),
            required("NewPassword", PASSWORD),
        ],
        on(Target::Custom(calling_user)),
        Answer::Write(|call| Box::pin(change_password(call))),
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
        Answer::Write(|call| Box::pin(update_password_policy(call))),
    ),
    iam(
        "GetAccountPasswordPolicy",
        &[],
        on(Target::Any),
        Answer::Read(get_password_policy),
    ),
    iam(
        "DeleteAccountPasswordPolicy",
        &[],
        on(Target::Any),
        Answer::Write(|call| Box::pin(delete_password_policy(call))),
    ),
];

/// The shortest password of a policy that does not say it.
const MINIMUM_LENGTH: u32 = 6;

async fn create_login_profile(call: &Call<'_>) -> Result<Member, ApiError> {
    let name = call.user_name()?;
    // AWS makes it optional for a task of the root user, which has no password here.
    let password = call.input.text("Password").ok_or_else(|| {
        ApiError::new(
            400,
            "ValidationError",
            "1 validation error detected: Value at 'password' failed to satisfy constraint: Member must not be null",
        )
    })?;
    let reset = call.input.boolean("PasswordResetRequired").unwrap_or(false);
    let (account, password) = (call.account()?, SecretString::new(password));
    let login = call
        .directory
        .create_login_profile(account, name, password, reset, call.now)
        .await?;
    Ok(profile(call, name, &login))
}

fn get_login_profile(call: &Call<'_>) -> Result<Member, ApiError> {
    let name = call.user_name()?;
    let user = call
        .snapshot
        .user(call.account()?, name)
        .ok_or_else(|| no_such_user(name))?;
    let login = user
        .record
        .login
        .as_ref()
        .ok_or_else(|| no_such(format!("Login Profile for User {name} cannot be found.")))?;
    Ok(profile(call, name, login))
}

async fn update_login_profile(call: &Call<'_>) -> Result<Member, ApiError> {
    let input = &call.input;
    let change = LoginChange {
        password: input.text("Password").map(SecretString::new),
        reset_required: input.boolean("PasswordResetRequired"),
    };
    call.directory
        .update_login_profile(
            call.account()?,
            input.required("UserName"),
            change,
            call.now,
        )
        .await?;
    Ok(Member::None)
}

async fn delete_login_profile(call: &Call<'_>) -> Result<Member, ApiError> {
    call.directory
        .delete_login_profile(call.account()?, call.user_name()?)
        .await?;
    Ok(Member::None)
}

async fn change_password(call: &Call<'_>) -> Result<Member, ApiError> {
    let (old, new) = (
        SecretString::new(call.input.required("OldPassword")),
        SecretString::new(call.input.required("NewPassword")),
    );
    call.directory
        .change_password(call.account()?, call.own_user_name()?, old, new, call.now)
        .await?;
    Ok(Member::None)
}

/// Sets all of the policy: what is left out goes back to its default.
async fn update_password_policy(call: &Call<'_>) -> Result<Member, ApiError> {
    let input = &call.input;
    let number = |name| input.integer(name).and_then(|n| u32::try_from(n).ok());
    let flag = |name| input.boolean(name).unwrap_or(false);
    let policy = PasswordPolicy {
        minimum_length: number("MinimumPasswordLength").unwrap_or(MINIMUM_LENGTH),
        require_symbols: flag("RequireSymbols"),
        require_numbers: flag("RequireNumbers"),
        require_uppercase: flag("RequireUppercaseCharacters"),
        require_lowercase: flag("RequireLowercaseCharacters"),
        allow_users_to_change: flag("AllowUsersToChangePassword"),
        max_age_days: number("MaxPasswordAge"),
        reuse_prevention: number("PasswordReusePrevention"),
        hard_expiry: input.boolean("HardExpiry"),
    };
    call.directory
        .set_password_policy(call.account()?, policy)
        .await?;
    Ok(Member::None)
}

fn get_password_policy(call: &Call<'_>) -> Result<Member, ApiError> {
    let account = call.account()?;
    let entry = call
        .snapshot
        .account(account)
        .ok_or_else(internal_failure)?;
    let policy = entry.record.password_policy.as_ref().ok_or_else(|| {
        no_such(format!(
            "The Password Policy with domain name {account} cannot be found."
        ))
    })?;
    let number = |n: u32| Member::Number(i64::from(n));
    let flag = Member::Bool;
    let mut members = vec![
        ("MinimumPasswordLength", number(policy.minimum_length)),
        ("RequireSymbols", flag(policy.require_symbols)),
        ("RequireNumbers", flag(policy.require_numbers)),
        ("RequireUppercaseCharacters", flag(policy.require_uppercase)),
        ("RequireLowercaseCharacters", flag(policy.require_lowercase)),
        (
            "AllowUsersToChangePassword",
            flag(policy.allow_users_to_change),
        ),
        ("ExpirePasswords", flag(policy.max_age_days.is_some())),
    ];
    let optional = [
        ("MaxPasswordAge", policy.max_age_days.map(number)),
        (
            "PasswordReusePrevention",
            policy.reuse_prevention.map(number),
        ),
        ("HardExpiry", policy.hard_expiry.map(flag)),
    ];
    members.extend(
        optional
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    Ok(Member::Structure(vec![(
        "PasswordPolicy",
        Member::Structure(members),
    )]))
}

async fn delete_password_policy(call: &Call<'_>) -> Result<Member, ApiError> {
    call.directory
        .delete_password_policy(call.account()?)
        .await?;
    Ok(Member::None)
}

/// The user that calls: nobody else has a password to change.
fn calling_user(call: &Call<'_>) -> Result<Resource, ApiError> {
    if call.own_user_name().is_err() {
        return Err(ApiError::new(
            400,
            "InvalidUserType",
            "Only IAM Users can change their own password.",
        ));
    }
    Target::Caller.resource(call, false)
}

fn profile(call: &Call<'_>, name: &str, login: &LoginProfile) -> Member {
    let stored = call
        .account()
        .ok()
        .and_then(|account| call.snapshot.user(account, name))
        .map_or(name, |user| &user.record.name);
    let members = vec![
        ("UserName", Member::Text(stored.to_owned())),
        ("CreateDate", Member::Time(login.created)),
        ("PasswordResetRequired", Member::Bool(login.reset_required)),
    ];
    Member::Structure(vec![("LoginProfile", Member::Structure(members))])
}
