//! What a session hands on to the next one: transitive tags, source identity, depth (STS spec, sections 4.1 and 5).

use countersign_arn::{Tag, is_session_name};

use crate::duration;
use crate::error::{Code, Fault, Refusal};
use crate::record::{
    SessionPrincipal, SessionRecord, SessionTag, SessionTags, fold, is_tag_text, same_key,
};

/// Most role sessions in a row.
pub const MAX_DEPTH: u8 = 10;
/// Most tags, and most transitive keys, of one call.
pub const MAX_REQUESTED_TAGS: usize = 50;

const KEY_PATTERN: &str = r"satisfy regular expression pattern: [\p{L}\p{Z}\p{N}_.:/=+\-@]+";
const VALUE_PATTERN: &str = r"satisfy regular expression pattern: [\p{L}\p{Z}\p{N}_.:/=+\-@]*";

/// The calling session of a call that makes a new one, or that there is none: a long-term key, a web identity, a service.
#[derive(Debug, Clone, Copy)]
pub struct Chain<'c> {
    caller: Option<&'c SessionRecord>,
}

/// The permissions that a call needs beside the one to assume the role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtraPermissions {
    /// `sts:TagSession` in the role's trust policy: tags are passed or inherited.
    pub tag_session_in_trust: bool,
    /// `sts:TagSession` in the caller's identity policies, where these count: tags are passed.
    pub tag_session_in_identity: bool,
    /// `sts:SetSourceIdentity` on both sides: a source identity is passed or inherited.
    pub set_source_identity: bool,
}

impl<'c> Chain<'c> {
    /// The chain that `caller` continues.
    #[must_use]
    pub const fn of(caller: Option<&'c SessionRecord>) -> Self {
        Self { caller }
    }

    /// Whether a role assumed in this call is chained, which caps its session at an hour: the caller is itself a role
    /// session, however it was made. Sessions of GetSessionToken do not count.
    #[must_use]
    pub const fn is_chained(&self) -> bool {
        matches!(
            self.caller,
            Some(SessionRecord {
                principal: SessionPrincipal::Role { .. },
                ..
            })
        )
    }

    /// The depth of the new role session.
    ///
    /// # Errors
    /// `AccessDenied` beyond ten sessions.
    pub fn next_depth(&self) -> Result<u8, Refusal> {
        let depth = self.caller.map_or(0, |session| session.depth);
        match depth.checked_add(1) {
            Some(next) if next <= MAX_DEPTH => Ok(next),
            _ => Err(Refusal::new(
                Code::AccessDenied,
                "A chain of roles has at most 10 sessions.",
            )),
        }
    }

    /// The life of the new role session, see [`duration::role_seconds`].
    ///
    /// # Errors
    /// `ValidationError` with the texts recorded from AWS.
    pub fn role_seconds(
        &self,
        requested: Option<i64>,
        max_session_duration: u32,
    ) -> Result<u32, Refusal> {
        duration::role_seconds(requested, max_session_duration, self.is_chained())
    }

    /// The tags that the new session inherits.
    pub fn inherited_tags(&self) -> impl Iterator<Item = &'c Tag> + use<'c> {
        self.caller
            .into_iter()
            .flat_map(|session| session.tags.transitive())
    }

    /// The tags of the new session: inherited ones, which stay transitive, and the requested ones.
    ///
    /// # Errors
    /// `ValidationError` for lengths and characters, then `InvalidParameterValue` with AWS's texts for equal keys,
    /// transitive keys without a tag, the reserved prefix, and tags that are inherited already.
    pub fn session_tags(
        &self,
        requested: &[Tag],
        transitive_keys: &[impl AsRef<str>],
    ) -> Result<SessionTags, Refusal> {
        let faults = tag_faults(requested, transitive_keys);
        if !faults.is_empty() {
            return Err(Refusal::validation(&faults));
        }
        let refuse = |text| Err(Refusal::new(Code::InvalidParameterValue, text));
        let mut keys: Vec<String> = requested.iter().map(|tag| fold(&tag.key)).collect();
        keys.sort_unstable();
        if keys.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) {
            return refuse(
                "Duplicate tag keys found. Please note that Tag keys are case insensitive.",
            );
        }
        let transitive: Vec<String> = transitive_keys
            .iter()
            .map(|key| fold(key.as_ref()))
            .collect();
        if transitive
            .iter()
            .any(|key| keys.binary_search(key).is_err())
        {
            return refuse(
                "The specified transitive tag key must be included in the requested tags.",
            );
        }
        if keys.iter().any(|key| key.starts_with("aws:")) {
            return refuse("Tag keys must not begin with aws:, which is reserved.");
        }
        let inherited: Vec<&Tag> = self.inherited_tags().collect();
        if inherited
            .iter()
            .any(|tag| keys.binary_search(&fold(&tag.key)).is_ok())
        {
            return refuse(
                "One of the specified transitive tag keys can't be set because it conflicts with a transitive tag key from the calling session.",
            );
        }
        let inherited = inherited.into_iter().map(|tag| SessionTag {
            tag: tag.clone(),
            transitive: true,
            inherited: true,
        });
        let requested = requested.iter().map(|tag| SessionTag {
            tag: tag.clone(),
            transitive: transitive.contains(&fold(&tag.key)),
            inherited: false,
        });
        SessionTags::new(inherited.chain(requested).collect())
            .map_err(|broken| Refusal::new(Code::InvalidParameterValue, broken.rule))
    }

    /// The source identity of the new session: the inherited one, or the one that is requested.
    ///
    /// # Errors
    /// `ValidationError` for its characters (which rule out the reserved `aws:`), `AccessDenied` for another one than
    /// the calling session's.
    pub fn source_identity(&self, requested: Option<&str>) -> Result<Option<Box<str>>, Refusal> {
        if let Some(fault) = requested.and_then(source_identity_fault) {
            return Err(Refusal::validation(&[fault]));
        }
        let inherited = self
            .caller
            .and_then(|session| session.source_identity.as_deref());
        match (inherited, requested) {
            (Some(inherited), Some(requested)) if inherited != requested => Err(Refusal::new(
                Code::AccessDenied,
                "The source identity of the calling session cannot be changed.",
            )),
            (inherited, requested) => Ok(inherited.or(requested).map(Into::into)),
        }
    }

    /// What the call needs beside the permission to assume the role, given what the new session will have.
    #[must_use]
    pub fn extra_permissions(
        &self,
        tags: &SessionTags,
        source_identity: Option<&str>,
    ) -> ExtraPermissions {
        ExtraPermissions {
            tag_session_in_trust: !tags.is_empty(),
            tag_session_in_identity: tags.requested().next().is_some(),
            set_source_identity: source_identity.is_some(),
        }
    }

    /// The tags of the target role as its trust policy sees them in `aws:ResourceTag/…` and `iam:ResourceTag/…`:
    /// inherited tags override the role's own of the same key (policy language spec, section 7.4).
    #[must_use]
    pub fn target_role_tags(&self, role_tags: &[Tag]) -> Vec<Tag> {
        role_tags
            .iter()
            .map(|own| {
                self.inherited_tags()
                    .find(|tag| same_key(&tag.key, &own.key))
                    .unwrap_or(own)
                    .clone()
            })
            .collect()
    }
}

/// The tags of a principal in a session, as policies see them in `aws:PrincipalTag/…`: the tags of the role or user,
/// overridden by the session's tags of the same key (policy language spec, section 7.4).
#[must_use]
pub fn effective_tags(principal_tags: &[Tag], session_tags: &SessionTags) -> Vec<Tag> {
    let overridden = |own: &&Tag| {
        !session_tags
            .iter()
            .any(|session| same_key(&session.tag.key, &own.key))
    };
    principal_tags
        .iter()
        .filter(overridden)
        .chain(session_tags.iter().map(|session| &session.tag))
        .cloned()
        .collect()
}

/// Every constraint that tags and transitive keys of a call break (STS spec, sections 1.6 and 2).
#[must_use]
pub fn tag_faults(requested: &[Tag], transitive_keys: &[impl AsRef<str>]) -> Vec<Fault> {
    let mut faults = Vec::new();
    if requested.len() > MAX_REQUESTED_TAGS {
        faults.push(too_many("tags", requested.len()));
    }
    if transitive_keys.len() > MAX_REQUESTED_TAGS {
        faults.push(too_many("transitiveTagKeys", transitive_keys.len()));
    }
    if !faults.is_empty() {
        return faults;
    }
    for (at, Tag { key, value }) in requested.iter().enumerate() {
        key_faults(&format!("tags.{}.member.key", at + 1), key, &mut faults);
        let member = format!("tags.{}.member.value", at + 1);
        if value.chars().count() > 256 {
            faults.push(Fault::new(
                member.as_str(),
                value,
                "have length less than or equal to 256",
            ));
        }
        if !is_tag_text(value) {
            faults.push(Fault::new(member, value, VALUE_PATTERN));
        }
    }
    for (at, key) in transitive_keys.iter().enumerate() {
        let member = format!("transitiveTagKeys.{}.member", at + 1);
        key_faults(&member, key.as_ref(), &mut faults);
    }
    faults
}

fn key_faults(member: &str, key: &str, faults: &mut Vec<Fault>) {
    let mut fault = |constraint| faults.push(Fault::new(member, key, constraint));
    if key.is_empty() {
        fault("have length greater than or equal to 1");
    }
    if key.chars().count() > 128 {
        fault("have length less than or equal to 128");
    }
    if key.is_empty() || !is_tag_text(key) {
        fault(KEY_PATTERN);
    }
}

/// The number stands for the list, which may be long.
fn too_many(member: &str, count: usize) -> Fault {
    Fault::new(
        member,
        format_args!("[{count} members]"),
        "have length less than or equal to 50",
    )
}

fn source_identity_fault(text: &str) -> Option<Fault> {
    if is_session_name(text) {
        return None;
    }
    let constraint = match text.chars().count() {
        0..2 => "have length greater than or equal to 2",
        65.. => "have length less than or equal to 64",
        _ => r"satisfy regular expression pattern: [\w+=,.@-]*",
    };
    Some(Fault::new("sourceIdentity", text, constraint))
}
