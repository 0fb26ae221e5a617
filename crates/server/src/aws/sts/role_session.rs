//! What all ways to a role session have in common: the role by its ARN, its session policies, and the credentials.

use std::sync::Arc;

use countersign_arn::{AccountId, Arn, Partition};
use countersign_policy::PolicyKind;
use countersign_policy::validate::{NoDirectory, validate};
use countersign_session::{
    Binding, Federation, Origin, SessionKind, SessionPolicies, SessionPrincipal, SessionRecord,
    SessionTags, check_plain_policy_size, packed_policy_percent,
};
use countersign_store::{DirectorySnapshot, RoleEntry};

use super::issue::{assumed_role_user, credentials, lifetime, seal};
use crate::aws::ApiError;
use crate::aws::operation::Call;
use crate::aws::query::Member;

/// A role session that was decided on.
pub(super) struct NewSession<'a> {
    pub(super) kind: SessionKind,
    pub(super) role: &'a RoleEntry,
    pub(super) name: &'a str,
    pub(super) seconds: u32,
    pub(super) policies: SessionPolicies,
    pub(super) tags: SessionTags,
    pub(super) source_identity: Option<Box<str>>,
    pub(super) federation: Option<Federation>,
    pub(super) binding: Binding,
    /// Whether the call showed an MFA code.
    pub(super) mfa: bool,
    /// Role sessions on the way here, this one included.
    pub(super) depth: u8,
    /// The key that signed the call; nothing for unsigned calls.
    pub(super) signed_with: Option<&'a str>,
}

/// A role session that was issued, as answers show it.
pub(super) struct Issued {
    pub(super) access_key_id: Box<str>,
    /// `Credentials`
    pub(super) credentials: (&'static str, Member),
    /// `AssumedRoleUser`
    pub(super) assumed_role_user: (&'static str, Member),
}

impl NewSession<'_> {
    /// Seals the session; nothing is written.
    ///
    /// # Errors
    /// `ServiceUnavailable` without keys, `PackedPolicyTooLarge` when the token would be too long.
    pub(super) fn issue(self, call: &Call<'_>) -> Result<Issued, ApiError> {
        let (issued, expires) = lifetime(call.now, self.seconds);
        let role = &self.role.record;
        let principal = SessionPrincipal::Role {
            id: role.id.clone(),
            path: role.path.clone(),
            name: role.name.clone(),
            session_name: self.name.into(),
        };
        let assumed_role_user = assumed_role_user(&principal, role.partition, role.account);
        let mut record = SessionRecord::new(
            self.kind,
            role.partition,
            role.account,
            principal,
            issued,
            expires,
        );
        record.policies = self.policies;
        record.tags = self.tags;
        record.source_identity = self.source_identity;
        record.federation = self.federation;
        record.binding = self.binding;
        record.depth = self.depth;
        record.mfa_at = self.mfa.then_some(issued);
        record.origin = Origin {
            access_key_id: self.signed_with.map(Into::into),
            request_id: Some(call.request_id.into()),
        };
        let sealed = seal(call, &record)?;
        Ok(Issued {
            access_key_id: sealed.access_key_id.clone(),
            credentials: credentials(sealed),
            assumed_role_user,
        })
    }
}

/// The role whose ARN this is, path and case included.
pub(in crate::aws) fn find_role<'s>(
    snapshot: &'s DirectorySnapshot,
    arn: &str,
) -> Option<&'s Arc<RoleEntry>> {
    let parsed = Arn::parse(arn).ok()?;
    let name = parsed.resource.strip_prefix("role/")?.rsplit('/').next()?;
    let role = snapshot.role(parsed.account.parse().ok()?, name)?;
    (*role.arn == *arn).then_some(role)
}

/// The session policies of a call that makes a session of `role`, see [`policies_in`].
///
/// # Errors
/// As [`policies_in`].
pub(super) fn session_policies(
    call: &Call<'_>,
    role: &RoleEntry,
    inline: Option<&str>,
    arns: &[&str],
    tags: &SessionTags,
) -> Result<(SessionPolicies, Option<u8>), ApiError> {
    let owner = (role.record.partition, role.record.account);
    policies_in(call, owner, inline, arns, tags)
}

/// The session policies of a call: the inline policy, minified, and managed policies that exist, of AWS or of the account
/// in which the session is. With them the share of the space that they and the requested tags take (STS spec, section 9).
///
/// # Errors
/// `MalformedPolicyDocument`, `PackedPolicyTooLarge`.
pub(super) fn policies_in(
    call: &Call<'_>,
    (partition, account): (Partition, AccountId),
    inline: Option<&str>,
    arns: &[&str],
    tags: &SessionTags,
) -> Result<(SessionPolicies, Option<u8>), ApiError> {
    let malformed = |message: String| ApiError::new(400, "MalformedPolicyDocument", message);
    if let Some(text) = inline {
        validate(text, PolicyKind::Session, &NoDirectory)
            .map_err(|rejection| malformed(rejection.message))?;
    }
    let of_aws = format!("arn:{partition}:iam::aws:policy/");
    let own = format!("arn:{partition}:iam::{account}:policy/");
    for arn in arns {
        let usable = arn.starts_with(&of_aws) || arn.starts_with(&own);
        if !usable || call.snapshot.policy_by_arn(arn).is_none() {
            return Err(malformed(format!(
                "Policy {arn} does not exist or is not attachable."
            )));
        }
    }
    check_plain_policy_size(inline, arns.iter().copied())?;
    let policies = SessionPolicies {
        inline: inline.map(|text| minified(text).into()),
        arns: arns.iter().map(|arn| (*arn).into()).collect(),
    };
    let percent = packed_policy_percent(&policies, tags.requested())?;
    Ok((policies, percent))
}

/// JSON without the white space outside its texts.
pub(in crate::aws) fn minified(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut inside, mut escaped) = (false, false);
    for c in text.chars() {
        if !inside && matches!(c, ' ' | '\t' | '\n' | '\r') {
            continue;
        }
        out.push(c);
        if escaped {
            escaped = false;
        } else if inside && c == '\\' {
            escaped = true;
        } else if c == '"' {
            inside = !inside;
        }
    }
    out
}
