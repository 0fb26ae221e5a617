//! What the sessions of pods are called, what tags they have and how long they last, where an association says more than EKS
//! lets it say (Pod Identity spec, sections 5.2, 6 and 9; EKS API spec, section 11).
//!
//! Left open by the specifications, and decided here:
//!
//! - Extra tags are transitive like the six: behind a target role they would be of no use otherwise.
//! - A template keeps its own characters, `{uuid}` and `{pod_uid8}` whole, and cuts its names only when the whole is too long:
//!   the longest first, until it fits. A name of one character gets a dash behind it.
//! - A template with characters that no session name may have is refused; in names they become dashes.
//! - A label that a pod does not have is no empty tag: the pod gets no session.

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use countersign_arn::Tag;
use serde::{Deserialize, Serialize};

use crate::chain::{MAX_REQUESTED_TAGS, tag_faults};
use crate::duration::MAX_CHAINED_SECONDS;
use crate::record::fold;

/// Seconds that sessions of pods may last.
pub const POD_SECONDS: RangeInclusive<u32> = 900..=43_200;
/// Characters that a session name has at most.
const MAX_NAME: usize = 64;
/// Characters that a session name has at least.
const MIN_NAME: usize = 2;
/// Characters that a template has at most.
const MAX_TEMPLATE: usize = 256;
/// Characters of a UUID, and of the first part of one.
const UUID: usize = 36;
const UID8: usize = 8;

/// The tags that EKS Pod Identity gives to sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PodTag {
    /// `eks-cluster-arn`
    #[serde(rename = "eks-cluster-arn")]
    ClusterArn,
    /// `eks-cluster-name`
    #[serde(rename = "eks-cluster-name")]
    ClusterName,
    /// `kubernetes-namespace`
    #[serde(rename = "kubernetes-namespace")]
    Namespace,
    /// `kubernetes-service-account`
    #[serde(rename = "kubernetes-service-account")]
    ServiceAccount,
    /// `kubernetes-pod-name`
    #[serde(rename = "kubernetes-pod-name")]
    PodName,
    /// `kubernetes-pod-uid`
    #[serde(rename = "kubernetes-pod-uid")]
    PodUid,
}

impl PodTag {
    /// All six, in EKS's order.
    pub const ALL: [Self; 6] = [
        Self::ClusterArn,
        Self::ClusterName,
        Self::Namespace,
        Self::ServiceAccount,
        Self::PodName,
        Self::PodUid,
    ];

    /// The key of the tag.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::ClusterArn => "eks-cluster-arn",
            Self::ClusterName => "eks-cluster-name",
            Self::Namespace => "kubernetes-namespace",
            Self::ServiceAccount => "kubernetes-service-account",
            Self::PodName => "kubernetes-pod-name",
            Self::PodUid => "kubernetes-pod-uid",
        }
    }
}

impl fmt::Display for PodTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.key())
    }
}

/// The text is the key of none of the six tags.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is none of the six session tags of EKS Pod Identity")]
pub struct NotAPodTag(Box<str>);

impl FromStr for PodTag {
    type Err = NotAPodTag;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|tag| tag.key() == text)
            .ok_or_else(|| NotAPodTag(text.chars().take(MAX_NAME).collect()))
    }
}

/// What an association says of the sessions of its pods, beyond what EKS knows. Nothing is said by default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodSessions {
    /// `sessionNameTemplate`, see [`NameTemplate`]; EKS's name without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_template: Option<Box<str>>,
    /// `sessionTags`: those of the six that sessions have; `None` for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<PodTag>>,
    /// `extraSessionTags`: tags beside the six, see [`ExtraValue`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra_tags: Vec<Tag>,
    /// `durationSeconds`, within [`POD_SECONDS`]; EKS's six hours, or one hour behind a target role, without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<u32>,
}

/// What an association cannot say of sessions. The texts name the members as they are on the wire.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPodSessions {
    /// The template cannot give a session name.
    #[error("sessionNameTemplate {0}")]
    Template(#[from] InvalidTemplate),
    /// An empty list, which could mean none or all.
    #[error(
        "sessionTags must name at least one tag; disableSessionTags is for sessions without tags"
    )]
    NoTags,
    /// A tag stands twice.
    #[error("sessionTags names {0} twice")]
    TwiceTag(PodTag),
    /// Tags of sessions that have none.
    #[error("sessionTags and extraSessionTags cannot be given while disableSessionTags is true")]
    TagsDisabled,
    /// An extra tag with the key of one of the six.
    #[error("extraSessionTags must not have the key {0}, which EKS Pod Identity sets")]
    Reserved(PodTag),
    /// Two keys that are the same to IAM, which does not tell letter case apart.
    #[error("extraSessionTags has the key {0} twice; letter case does not count")]
    TwiceExtra(Box<str>),
    /// A key or value that STS does not take.
    #[error("extraSessionTags: {key} {problem}")]
    Extra {
        /// The key.
        key: Box<str>,
        /// What is wrong.
        problem: &'static str,
    },
    /// More tags than a session may have.
    #[error("sessions have at most {MAX_REQUESTED_TAGS} tags, those of EKS Pod Identity included")]
    TooMany,
    /// Too short or too long.
    #[error("durationSeconds must be between {} and {most}{}", POD_SECONDS.start(), if *most == MAX_CHAINED_SECONDS { ", as the association has a target role" } else { "" })]
    Duration {
        /// The most that it may be.
        most: u32,
    },
}

/// What is wrong with a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTemplate {
    /// Nothing, or more than 256 characters.
    #[error("must have 1 to {MAX_TEMPLATE} characters")]
    Length,
    /// A brace without its other.
    #[error("has a brace without its other one")]
    Brace,
    /// None of the known placeholders.
    #[error(
        "has the placeholder {{{0}}}; there are {{cluster}}, {{namespace}}, {{service_account}}, {{pod}}, {{pod_uid8}} and {{uuid}}"
    )]
    Unknown(Box<str>),
    /// A character that a session name cannot have.
    #[error("has {0:?}; a session name has letters, digits and characters of _+=,.@- only")]
    Character(char),
    /// What it keeps whole is already too long.
    #[error("gives names of {0} characters or more, and a session name has at most {MAX_NAME}")]
    TooLong(usize),
    /// One character and nothing else.
    #[error("gives a name of one character, and a session name has at least {MIN_NAME}")]
    TooShort,
}

impl PodSessions {
    /// Whether it says nothing: the association is one of EKS.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether sessions have this tag, where tags are not disabled.
    #[must_use]
    pub fn has(&self, tag: PodTag) -> bool {
        self.tags.as_ref().is_none_or(|tags| tags.contains(&tag))
    }

    /// The labels that the extra tags take from the pod.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.extra_tags
            .iter()
            .filter_map(|tag| match ExtraValue::of(&tag.value) {
                ExtraValue::Label(label) => Some(label),
                ExtraValue::Constant(_) => None,
            })
    }

    /// Checks it for an association with or without tags and target role.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self, tags_disabled: bool, has_target: bool) -> Result<(), InvalidPodSessions> {
        if let Some(template) = &self.name_template {
            NameTemplate::parse(template)?;
        }
        if tags_disabled && (self.tags.is_some() || !self.extra_tags.is_empty()) {
            return Err(InvalidPodSessions::TagsDisabled);
        }
        if let Some(tags) = &self.tags {
            if tags.is_empty() {
                return Err(InvalidPodSessions::NoTags);
            }
            let mut sorted = tags.clone();
            sorted.sort_unstable();
            for pair in sorted.windows(2) {
                if let [a, b] = pair
                    && a == b
                {
                    return Err(InvalidPodSessions::TwiceTag(*a));
                }
            }
        }
        self.check_extra()?;
        let most = if has_target {
            MAX_CHAINED_SECONDS
        } else {
            *POD_SECONDS.end()
        };
        match self.duration_seconds {
            Some(seconds) if !(*POD_SECONDS.start()..=most).contains(&seconds) => {
                Err(InvalidPodSessions::Duration { most })
            }
            _ => Ok(()),
        }
    }

    fn check_extra(&self) -> Result<(), InvalidPodSessions> {
        let six = self.tags.as_ref().map_or(PodTag::ALL.len(), Vec::len);
        if self.extra_tags.len().saturating_add(six) > MAX_REQUESTED_TAGS {
            return Err(InvalidPodSessions::TooMany);
        }
        let mut keys: Vec<String> = Vec::with_capacity(self.extra_tags.len());
        for Tag { key, value } in &self.extra_tags {
            let wrong = |problem| {
                let key = key.chars().take(128).collect();
                Err(InvalidPodSessions::Extra { key, problem })
            };
            let folded = fold(key);
            if let Some(tag) = PodTag::ALL.into_iter().find(|tag| tag.key() == folded) {
                return Err(InvalidPodSessions::Reserved(tag));
            }
            if folded.starts_with("aws:") {
                return wrong("begins with aws:, which is reserved");
            }
            if keys.contains(&folded) {
                return Err(InvalidPodSessions::TwiceExtra(key.clone()));
            }
            keys.push(folded);
            let value = match ExtraValue::of(value) {
                ExtraValue::Constant(_) => value.clone(),
                ExtraValue::Label(label) if is_label_key(label) => Box::default(),
                ExtraValue::Label(_) => {
                    return wrong("names a label that no object can have");
                }
            };
            let tag = Tag {
                key: key.clone(),
                value,
            };
            let no_keys: [&str; 0] = [];
            if !tag_faults(&[tag], &no_keys).is_empty() {
                return wrong(
                    "is no tag that STS takes: keys have 1 to 128 characters, values at most 256, of letters, digits, spaces and \
                     _.:/=+-@; a value may also be {label:KEY}",
                );
            }
        }
        Ok(())
    }
}

/// The value of an extra tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtraValue<'a> {
    /// The same for all pods.
    Constant(&'a str),
    /// `{label:KEY}`: the value of this label of the pod.
    Label(&'a str),
}

impl<'a> ExtraValue<'a> {
    /// What a value means. No constant can look like a label: STS takes no braces.
    #[must_use]
    pub fn of(value: &'a str) -> Self {
        value
            .strip_prefix("{label:")
            .and_then(|rest| rest.strip_suffix('}'))
            .map_or(Self::Constant(value), Self::Label)
    }
}

/// `[PREFIX/]NAME` as Kubernetes has it: a DNS name of at most 253 characters, and at most 63 letters, digits and `-_.` with a
/// letter or digit at both ends.
fn is_label_key(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let ends = |text: &str, ok: fn(u8) -> bool| {
        [text.as_bytes().first(), text.as_bytes().last()]
            .iter()
            .all(|end| end.is_some_and(|b| ok(*b)))
    };
    let is_lower = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let is_prefix = |prefix: &str| {
        prefix.len() <= 253
            && prefix
                .split('.')
                .all(|part| ends(part, is_lower) && part.bytes().all(|b| is_lower(b) || b == b'-'))
    };
    prefix.is_none_or(is_prefix)
        && name.len() <= 63
        && ends(name, |b| b.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

// === Names ===

/// Whom a session is for, as templates see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodNames<'a> {
    /// `{cluster}`
    pub cluster: &'a str,
    /// `{namespace}`
    pub namespace: &'a str,
    /// `{service_account}`
    pub service_account: &'a str,
    /// `{pod}`
    pub pod: &'a str,
    /// `{pod_uid8}` is its first eight characters.
    pub pod_uid: &'a str,
    /// `{uuid}`, random and another one for each session.
    pub uuid: &'a str,
}

/// What the sessions of pods are called: `{cluster}`, `{namespace}`, `{service_account}`, `{pod}`, `{pod_uid8}`, `{uuid}`, and
/// characters that stand for themselves. Without `{uuid}` the name of a pod's session stays the same at each renewal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameTemplate<'t>(Vec<Part<'t>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part<'t> {
    Text(&'t str),
    Cluster,
    Namespace,
    ServiceAccount,
    Pod,
    PodUid8,
    Uuid,
}

impl<'t> NameTemplate<'t> {
    /// Reads a template.
    ///
    /// # Errors
    /// When it could give something that is no session name.
    pub fn parse(text: &'t str) -> Result<Self, InvalidTemplate> {
        if text.is_empty() || text.chars().count() > MAX_TEMPLATE {
            return Err(InvalidTemplate::Length);
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let Some((before, after)) = rest.split_once('{') else {
                parts.push(literal(rest)?);
                break;
            };
            if !before.is_empty() {
                parts.push(literal(before)?);
            }
            let (name, after) = after.split_once('}').ok_or(InvalidTemplate::Brace)?;
            parts.push(Part::named(name)?);
            rest = after;
        }
        let template = Self(parts);
        let (least, names) = template.least();
        match least {
            least if least > MAX_NAME => Err(InvalidTemplate::TooLong(least)),
            least if least < MIN_NAME && names == 0 => Err(InvalidTemplate::TooShort),
            _ => Ok(template),
        }
    }

    /// Whether two sessions of a pod are called alike.
    #[must_use]
    pub fn is_stable(&self) -> bool {
        !self.0.contains(&Part::Uuid)
    }

    /// The name of a session: always one that STS takes.
    #[must_use]
    pub fn render(&self, names: &PodNames<'_>) -> String {
        let mut parts: Vec<(Cow<'_, str>, bool)> = self
            .0
            .iter()
            .map(|part| (part.value(names), part.is_cut()))
            .collect();
        let kept: usize = parts
            .iter()
            .filter(|(_, cut)| !cut)
            .map(|(text, _)| text.len())
            .sum();
        let most = fitting(&parts, MAX_NAME.saturating_sub(kept));
        for (text, cut) in &mut parts {
            if *cut && text.len() > most {
                text.to_mut().truncate(most);
            }
        }
        let mut name: String = parts.iter().map(|(text, _)| &**text).collect();
        name.truncate(MAX_NAME);
        while name.len() < MIN_NAME {
            name.push('-');
        }
        name
    }

    /// The fewest characters of what it gives when names are cut to one character, and how many names there are.
    fn least(&self) -> (usize, usize) {
        let names = self.0.iter().filter(|part| part.is_cut()).count();
        let kept: usize = self
            .0
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.len(),
                Part::Uuid => UUID,
                Part::PodUid8 => UID8,
                Part::Cluster | Part::Namespace | Part::ServiceAccount | Part::Pod => 0,
            })
            .sum();
        (kept.saturating_add(names), names)
    }
}

/// The most characters of a name with which all names together have no more than `room`.
fn fitting(parts: &[(Cow<'_, str>, bool)], room: usize) -> usize {
    let taken = |most: usize| -> usize {
        parts
            .iter()
            .filter(|(_, cut)| *cut)
            .map(|(text, _)| text.len().min(most))
            .sum()
    };
    (0..=MAX_NAME)
        .rev()
        .find(|most| taken(*most) <= room)
        .unwrap_or_default()
}

fn literal(text: &str) -> Result<Part<'_>, InvalidTemplate> {
    match text.chars().find(|c| !is_name_char(*c)) {
        None => Ok(Part::Text(text)),
        Some('}') => Err(InvalidTemplate::Brace),
        Some(other) => Err(InvalidTemplate::Character(other)),
    }
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_+=,.@-".contains(c)
}

impl<'t> Part<'t> {
    fn named(name: &str) -> Result<Self, InvalidTemplate> {
        Ok(match name {
            "cluster" => Self::Cluster,
            "namespace" => Self::Namespace,
            "service_account" => Self::ServiceAccount,
            "pod" => Self::Pod,
            "pod_uid8" => Self::PodUid8,
            "uuid" => Self::Uuid,
            other => return Err(InvalidTemplate::Unknown(other.chars().take(64).collect())),
        })
    }

    /// Whether it is cut where the whole is too long.
    const fn is_cut(self) -> bool {
        matches!(
            self,
            Self::Cluster | Self::Namespace | Self::ServiceAccount | Self::Pod
        )
    }

    /// What stands in its place, in characters of session names.
    fn value<'a>(&'a self, names: &PodNames<'a>) -> Cow<'a, str> {
        let (text, most) = match *self {
            Self::Text(text) => return Cow::Borrowed(text),
            Self::Cluster => (names.cluster, MAX_NAME),
            Self::Namespace => (names.namespace, MAX_NAME),
            Self::ServiceAccount => (names.service_account, MAX_NAME),
            Self::Pod => (names.pod, MAX_NAME),
            Self::PodUid8 => (names.pod_uid, UID8),
            Self::Uuid => (names.uuid, UUID),
        };
        match text.get(..most.min(text.len())) {
            Some(cut) if cut.chars().all(is_name_char) => Cow::Borrowed(cut),
            _ => text
                .chars()
                .take(most)
                .map(|c| if is_name_char(c) { c } else { '-' })
                .collect::<String>()
                .into(),
        }
    }
}
