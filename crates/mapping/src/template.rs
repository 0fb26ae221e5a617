//! Templates of usernames and groups (authentication spec, section 3.6).

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use countersign_arn::{CallerIdentity, CallerKind, SessionFacts, Tag};
use serde::{Serialize, Serializer};

use crate::yaml::MAX_VARIABLE;

/// A text with variables, compiled once.
///
/// `{{X}}` that is no variable stays as it is written. Rendering is one pass: what a variable stands for is never
/// looked at again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Template(Arc<Compiled>);

/// Shared, because thousands of entries have the same few groups.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Compiled {
    text: Box<str>,
    /// Empty when the text has no variables.
    segments: Box<[Segment]>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Segment {
    Literal(Range<u32>),
    Variable(Variable),
}

/// What a template can name. Spelling is exact and without inner spaces.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Variable {
    /// `{{AccountID}}`
    AccountId,
    /// `{{SessionName}}`: every `@` replaced by `-`; empty for users.
    SessionName,
    /// `{{SessionNameRaw}}`: unchanged; empty for users.
    SessionNameRaw,
    /// `{{AccessKeyID}}`
    AccessKeyId,
    /// `{{EC2PrivateDNSName}}`: of the instance whose id is the session name.
    Ec2PrivateDnsName,
    /// `{{RoleName}}`: without its path.
    RoleName,
    /// `{{UserName}}`: without its path.
    UserName,
    /// `{{SourceIdentity}}`, from the embedded STS.
    SourceIdentity,
    /// `{{SessionTag:key}}`, from the embedded STS.
    SessionTag(Box<str>),
    /// `{{PrincipalTag:key}}`, from the embedded STS.
    PrincipalTag(Box<str>),
}

impl Variable {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "AccountID" => Self::AccountId,
            "SessionName" => Self::SessionName,
            "SessionNameRaw" => Self::SessionNameRaw,
            "AccessKeyID" => Self::AccessKeyId,
            "EC2PrivateDNSName" => Self::Ec2PrivateDnsName,
            "RoleName" => Self::RoleName,
            "UserName" => Self::UserName,
            "SourceIdentity" => Self::SourceIdentity,
            _ => {
                let (kind, key) = name.split_once(':')?;
                match kind {
                    _ if key.is_empty() => return None,
                    "SessionTag" => Self::SessionTag(key.into()),
                    "PrincipalTag" => Self::PrincipalTag(key.into()),
                    _ => return None,
                }
            }
        })
    }

    /// Whether only an STS that issued the session can supply it.
    #[must_use]
    pub const fn needs_embedded_sts(&self) -> bool {
        matches!(
            self,
            Self::SourceIdentity | Self::SessionTag(_) | Self::PrincipalTag(_)
        )
    }
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AccountId => f.write_str("{{AccountID}}"),
            Self::SessionName => f.write_str("{{SessionName}}"),
            Self::SessionNameRaw => f.write_str("{{SessionNameRaw}}"),
            Self::AccessKeyId => f.write_str("{{AccessKeyID}}"),
            Self::Ec2PrivateDnsName => f.write_str("{{EC2PrivateDNSName}}"),
            Self::RoleName => f.write_str("{{RoleName}}"),
            Self::UserName => f.write_str("{{UserName}}"),
            Self::SourceIdentity => f.write_str("{{SourceIdentity}}"),
            Self::SessionTag(key) => write!(f, "{{{{SessionTag:{key}}}}}"),
            Self::PrincipalTag(key) => write!(f, "{{{{PrincipalTag:{key}}}}}"),
        }
    }
}

/// Why a template cannot be rendered for a caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RenderError {
    /// No instance facts were given.
    #[error("the private DNS name of the instance is not known")]
    NoInstanceName,
    /// The variable belongs to another kind of principal.
    #[error("{0} has no value for this kind of principal")]
    WrongPrincipal(Variable),
    /// Only the embedded STS can supply the variable.
    #[error("{0} can only be supplied by the embedded STS")]
    NeedsEmbeddedSts(Variable),
    /// The session or principal has no such attribute.
    #[error("{0} is not set on this session")]
    NotSet(Variable),
    /// The value has characters that do not belong into a username or group.
    #[error("the value of {0} does not match [\\w+=,.@:/ -]{{1,256}}")]
    Value(Variable),
    /// The beginning `system:` comes from a variable.
    #[error("`system:` at the beginning must be literal, not the value of a variable")]
    SystemPrefix,
}

impl Template {
    /// Longest template accepted, in bytes; what it renders to may have at most 1,024.
    pub const MAX_LEN: usize = 2048;

    /// Compiles `text`. Every text is a template.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut segments = Vec::new();
        let mut literal = 0;
        for (range, name) in placeholders(text) {
            let Some(variable) = Variable::parse(name) else {
                continue;
            };
            if literal < range.start {
                segments.push(Segment::Literal(narrow(literal..range.start)));
            }
            literal = range.end;
            segments.push(Segment::Variable(variable));
        }
        if !segments.is_empty() && literal < text.len() {
            segments.push(Segment::Literal(narrow(literal..text.len())));
        }
        Self(Arc::new(Compiled {
            text: text.into(),
            segments: segments.into(),
        }))
    }

    /// A text without variables, whatever braces it has: groups of access entries are no templates, or whoever chooses a
    /// session name would choose a group.
    #[must_use]
    pub fn literal(text: &str) -> Self {
        Self(Arc::new(Compiled {
            text: text.into(),
            segments: Box::default(),
        }))
    }

    /// The text as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// The variables, in the order of the text.
    pub fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.0.segments.iter().filter_map(|segment| match segment {
            Segment::Variable(variable) => Some(variable),
            Segment::Literal(_) => None,
        })
    }

    /// `{{X}}` in the text that are no variables, without their braces.
    pub fn unknown_variables(&self) -> impl Iterator<Item = &str> {
        placeholders(&self.0.text)
            .map(|(_, name)| name)
            .filter(|name| Variable::parse(name).is_none())
    }

    /// The literal text before the first variable.
    #[must_use]
    pub fn literal_prefix(&self) -> &str {
        match self.0.segments.first() {
            None => &self.0.text,
            Some(Segment::Literal(range)) => self.slice(range),
            Some(Segment::Variable(_)) => "",
        }
    }

    /// Whether the text has a variable that `wanted` accepts.
    pub(crate) fn has(&self, wanted: impl Fn(&Variable) -> bool) -> bool {
        self.variables().any(wanted)
    }

    /// The text with the caller's values in place of the variables.
    ///
    /// `node_name` stands for `{{EC2PrivateDNSName}}`.
    ///
    /// # Errors
    /// When a value is missing, has forbidden characters, or makes the result begin with `system:`.
    pub fn render(
        &self,
        identity: &CallerIdentity,
        node_name: Option<&str>,
    ) -> Result<String, RenderError> {
        if self.0.segments.is_empty() {
            return Ok(self.0.text.to_string());
        }
        let mut out = String::with_capacity(self.0.text.len() + 32);
        for segment in &self.0.segments {
            match segment {
                Segment::Literal(range) => out.push_str(self.slice(range)),
                Segment::Variable(variable) => push(&mut out, variable, identity, node_name)?,
            }
        }
        // A caller who may choose a session name or tag must not choose a name that Kubernetes trusts.
        if out.starts_with(SYSTEM) && !self.literal_prefix().starts_with(SYSTEM) {
            return Err(RenderError::SystemPrefix);
        }
        Ok(out)
    }

    fn slice(&self, range: &Range<u32>) -> &str {
        self.0
            .text
            .get(range.start as usize..range.end as usize)
            .unwrap_or_default()
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.text)
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.text)
    }
}

const SYSTEM: &str = "system:";

fn push(
    out: &mut String,
    variable: &Variable,
    identity: &CallerIdentity,
    node_name: Option<&str>,
) -> Result<(), RenderError> {
    let facts = || {
        identity
            .facts()
            .ok_or_else(|| RenderError::NeedsEmbeddedSts(variable.clone()))
    };
    let named = |wanted: &[CallerKind]| {
        if wanted.contains(&identity.caller().kind()) {
            Ok(identity.caller().name())
        } else {
            Err(RenderError::WrongPrincipal(variable.clone()))
        }
    };
    match variable {
        Variable::AccountId => out.push_str(identity.account().as_str()),
        Variable::SessionName => out.extend(
            identity
                .session_name()
                .chars()
                .map(|c| if c == '@' { '-' } else { c }),
        ),
        Variable::SessionNameRaw => out.push_str(identity.session_name()),
        Variable::AccessKeyId => out.push_str(identity.access_key_id()),
        Variable::Ec2PrivateDnsName => {
            out.push_str(node_name.ok_or(RenderError::NoInstanceName)?);
        }
        Variable::RoleName => checked(
            out,
            variable,
            named(&[CallerKind::AssumedRole, CallerKind::Role])?,
        )?,
        Variable::UserName => checked(out, variable, named(&[CallerKind::User])?)?,
        Variable::SourceIdentity => {
            let value = facts()?.source_identity.as_deref();
            checked(out, variable, value.ok_or_else(|| not_set(variable))?)?;
        }
        Variable::SessionTag(key) => {
            let facts: &SessionFacts = facts()?;
            checked(out, variable, tag(&facts.session_tags, key, variable)?)?;
        }
        Variable::PrincipalTag(key) => {
            let facts: &SessionFacts = facts()?;
            checked(out, variable, tag(&facts.principal_tags, key, variable)?)?;
        }
    }
    Ok(())
}

fn not_set(variable: &Variable) -> RenderError {
    RenderError::NotSet(variable.clone())
}

/// Tag keys differ by more than case within one principal, so the first is the only one.
fn tag<'t>(tags: &'t [Tag], key: &str, variable: &Variable) -> Result<&'t str, RenderError> {
    tags.iter()
        .find(|tag| tag.key.eq_ignore_ascii_case(key))
        .map(|tag| &*tag.value)
        .ok_or_else(|| not_set(variable))
}

fn checked(out: &mut String, variable: &Variable, value: &str) -> Result<(), RenderError> {
    let fits = (1..=256).contains(&value.len())
        && value
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_+=,.@:/ -".contains(&b));
    if !fits {
        return Err(RenderError::Value(variable.clone()));
    }
    out.push_str(value);
    Ok(())
}

fn narrow(range: Range<usize>) -> Range<u32> {
    // INVARIANT: entries come from texts of at most a few MiB.
    u32::try_from(range.start).unwrap_or(u32::MAX)..u32::try_from(range.end).unwrap_or(u32::MAX)
}

/// Every innermost `{{name}}` of `text`, with its place.
fn placeholders(text: &str) -> impl Iterator<Item = (Range<usize>, &str)> {
    let mut from = 0;
    std::iter::from_fn(move || {
        loop {
            let start = from + text.get(from..)?.find("{{")?;
            let inner = text.get(start + 2..)?;
            // Looking no further than the longest name keeps this linear.
            let length = inner
                .bytes()
                .take(MAX_VARIABLE)
                .position(|b| matches!(b, b'{' | b'}'));
            match length {
                Some(length) if inner.get(length..).is_some_and(|end| end.starts_with("}}")) => {
                    from = start + 2 + length + 2;
                    return Some((start..from, inner.get(..length)?));
                }
                // `{{{Name}}` begins one byte later.
                _ => from = start + 1,
            }
        }
    })
}
