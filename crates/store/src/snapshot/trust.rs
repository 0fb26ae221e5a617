//! Principals of trust policies: who they are when a policy is written, and what is shown of them when it is read (policy
//! language spec, section 1.6).

use std::borrow::Cow;

use countersign_arn::Arn;
use countersign_policy::validate::{Existence, PrincipalDirectory};
use countersign_policy::{Document, PrincipalKind};

use super::{DirectorySnapshot, Principal};
use crate::records::TrustPolicy;

/// Users and roles of all accounts, by ARN with path and case. One of an account that is not there does not exist: left as
/// text, it would mean whoever gets that name later.
impl PrincipalDirectory for DirectorySnapshot {
    fn look_up(&self, arn: &str) -> Existence {
        let found = || {
            let parsed = Arn::parse(arn).ok()?;
            let account = parsed.account.parse().ok()?;
            let (kind, path) = parsed.resource.split_once('/')?;
            let name = path.rsplit('/').next()?;
            let (id, known) = match kind {
                "user" => {
                    let user = self.user(account, name)?;
                    (&user.record.id, &user.arn)
                }
                "role" => {
                    let role = self.role(account, name)?;
                    (&role.record.id, &role.arn)
                }
                _ => return None,
            };
            (**known == *arn).then(|| id.to_string())
        };
        found().map_or(Existence::Missing, Existence::Has)
    }

    fn knows_id(&self, unique_id: &str) -> bool {
        self.arn_of(unique_id).is_some()
    }
}

impl DirectorySnapshot {
    /// A trust policy as it is shown: principals that exist with the ARN they have now, deleted ones as their unique ids,
    /// everything else byte for byte.
    #[must_use]
    pub fn shown_trust_policy<'t>(&self, trust: &'t TrustPolicy) -> Cow<'t, str> {
        let written = &*trust.document;
        let may_differ = !trust.principals.is_empty()
            || ["AIDA", "AROA"]
                .iter()
                .any(|prefix| written.contains(prefix));
        if !may_differ {
            return Cow::Borrowed(written);
        }
        let Ok(document) = Document::parse(written) else {
            return Cow::Borrowed(written);
        };
        let mut differs = false;
        let shown = document.text_with_principals(|slot, entry| {
            let text = &*entry.text.value;
            let bound = trust
                .principals
                .iter()
                .find(|bound| bound.statement == slot.statement && bound.entry == slot.entry);
            let now = match bound {
                Some(bound) => self.arn_of(&bound.id).unwrap_or(&bound.id),
                None if entry.kind == PrincipalKind::Aws => self.arn_of(text)?,
                None => return None,
            };
            (*now != *text).then(|| {
                differs = true;
                now.to_owned()
            })
        });
        if !differs {
            return Cow::Borrowed(written);
        }
        // The document itself has no white space around it.
        let is_space = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r');
        let behind_before = written.trim_start_matches(is_space);
        let (before, _) = written
            .split_at_checked(written.len() - behind_before.len())
            .unwrap_or_default();
        let (_, after) = written
            .split_at_checked(written.trim_end_matches(is_space).len())
            .unwrap_or_default();
        Cow::Owned(format!("{before}{shown}{after}"))
    }

    /// The ARN of the user or role with this unique id.
    fn arn_of(&self, unique_id: &str) -> Option<&str> {
        match self.principal(unique_id)? {
            Principal::User(user) => Some(&user.arn),
            Principal::Role(role) => Some(&role.arn),
            Principal::Group(_) => None,
        }
    }
}
