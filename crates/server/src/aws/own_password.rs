//! What a password policy with `AllowUsersToChangePassword` allows (IAM API spec, section 4.16).
//!
//! It counts as one more identity policy of every user in the account: boundaries, session policies and denials hold.

use std::sync::LazyLock;

use countersign_policy::{Attached, PolicyKind};

use super::holder::Holder;
use super::operation::Call;
use super::policies;

const DOCUMENT: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:ChangePassword","Resource":"arn:*:iam::*:user/${aws:username}"},{"Effect":"Allow","Action":"iam:ChangePassword","Resource":"arn:*:iam::*:user/*/${aws:username}"},{"Effect":"Allow","Action":"iam:GetAccountPasswordPolicy","Resource":"*"}]}"#;

static POLICY: LazyLock<Vec<Attached>> = LazyLock::new(|| {
    policies::compile(
        [("account-password-policy", DOCUMENT)],
        PolicyKind::Identity,
    )
});

/// The identity policies of the caller with that one, for the two actions it is about, where it holds.
pub(super) fn widened(call: &Call<'_>, holder: &Holder, action: &str) -> Option<Vec<Attached>> {
    if !matches!(
        action,
        "iam:ChangePassword" | "iam:GetAccountPasswordPolicy"
    ) {
        return None;
    }
    let user = holder.user.as_ref()?;
    let account = call.snapshot.account(user.record.account)?;
    let policy = account.record.password_policy.as_ref()?;
    policy.allow_users_to_change.then(|| {
        let own = holder.compiled.identity.iter();
        own.chain(POLICY.iter()).cloned().collect()
    })
}
