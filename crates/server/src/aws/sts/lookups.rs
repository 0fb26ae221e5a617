//! Operations that tell something: GetCallerIdentity, GetAccessKeyInfo, DecodeAuthorizationMessage (STS spec, sections 2.1,
//! 2.7 and 2.8).

use countersign_arn::AccountId;
use countersign_arn::unique_id::{self, Kind};
use countersign_session::{Purpose, open_message};

use crate::aws::ApiError;
use crate::aws::operation::Call;
use crate::aws::query::Member;

/// Needs no permission, and no policy can deny it.
pub(super) fn get_caller_identity(call: &Call<'_>) -> Result<Member, ApiError> {
    let identity = call.caller()?.identity();
    let user_id = match identity.session_name() {
        "" => identity.user_id().to_owned(),
        session => format!("{}:{session}", identity.user_id()),
    };
    Ok(Member::Structure(vec![
        ("UserId", Member::Text(user_id)),
        ("Account", Member::Text(identity.account().to_string())),
        ("Arn", Member::Text(identity.arn().to_owned())),
    ]))
}

/// The account of a key: the directory's word for keys it has, else what the id itself says, which holds for keys that were
/// deleted and for those of other deployments. Nothing is said about whether the key is good.
pub(super) fn get_access_key_info(call: &Call<'_>) -> Result<Member, ApiError> {
    let id = call.input.required("AccessKeyId");
    let known = call.snapshot.access_key(id).map(|found| found.key.account);
    let account = known.or_else(|| account_inside(id)).ok_or_else(|| {
        ApiError::new(
            400,
            "ValidationError",
            format!("The access key ID {id} does not say which account it is of."),
        )
    })?;
    Ok(Member::Structure(vec![(
        "Account",
        Member::Text(account.to_string()),
    )]))
}

/// Only ids of access keys have an answer, though ids of users and roles hold the account in the same place. Keys of the
/// old kind, `AKIAI…` and `AKIAJ…`, hold none.
fn account_inside(id: &str) -> Option<AccountId> {
    let kind = Kind::of(id)?;
    let key = matches!(kind, Kind::AccessKey | Kind::TemporaryAccessKey);
    if !key || id.len() != kind.id_len() {
        return None;
    }
    unique_id::account_of(id)
}

/// Opens the explanation that came with a denial of the caller's own account.
pub(super) fn decode_authorization_message(call: &Call<'_>) -> Result<Member, ApiError> {
    let account = call.account()?;
    let invalid = || {
        ApiError::new(
            400,
            "InvalidAuthorizationMessageException",
            "Message is not valid",
        )
    };
    let keys = call.snapshot.session_keys().ok_or_else(invalid)?;
    let plain = open_message(
        Purpose::AuthorizationMessage,
        account.as_str(),
        call.input.required("EncodedMessage"),
        &keys.ring,
        &keys.deployment,
        call.now,
    )
    .map_err(|_| invalid())?;
    let text = std::str::from_utf8(&plain).map_err(|_| invalid())?;
    Ok(Member::Structure(vec![(
        "DecodedMessage",
        Member::Text(text.to_owned()),
    )]))
}
