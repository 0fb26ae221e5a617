//! Session tags.

use countersign_arn::Tag;
use serde::Serialize;

use super::InvalidRecord;

/// Most tags that one session carries, inherited ones included. A call may pass 50; the size of a token bounds the rest.
const MAX_TAGS: usize = 200;

/// One tag of a session.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct SessionTag {
    /// Key and value.
    #[serde(flatten)]
    pub tag: Tag,
    /// Handed on to sessions made with this one.
    pub transitive: bool,
    /// Came from the calling session, and therefore cannot be replaced.
    pub inherited: bool,
}

/// The tags of a session: no two keys are equal without regard to case, and inherited tags are transitive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct SessionTags(Vec<SessionTag>);

impl SessionTags {
    /// Takes tags that obey the rules of the type, as an unsealed token's do.
    ///
    /// # Errors
    /// When two keys are equal, an inherited tag is not transitive, a key or value has a wrong length or character, or
    /// there are more than 200.
    pub fn new(tags: Vec<SessionTag>) -> Result<Self, InvalidRecord> {
        let rule = |holds: bool, rule| {
            if holds {
                Ok(())
            } else {
                Err(InvalidRecord {
                    field: "tags",
                    rule,
                })
            }
        };
        rule(tags.len() <= MAX_TAGS, "more than 200 tags")?;
        let mut keys: Vec<String> = tags.iter().map(|tag| fold(&tag.tag.key)).collect();
        keys.sort_unstable();
        keys.dedup();
        rule(keys.len() == tags.len(), "two tags have the same key")?;
        for SessionTag {
            tag,
            transitive,
            inherited,
        } in &tags
        {
            rule(
                *transitive || !inherited,
                "an inherited tag is not transitive",
            )?;
            rule(
                (1..=128).contains(&tag.key.chars().count()),
                "a tag key has 1 to 128 characters",
            )?;
            rule(
                tag.value.chars().count() <= 256,
                "a tag value has at most 256 characters",
            )?;
            rule(
                is_tag_text(&tag.key) && is_tag_text(&tag.value),
                "a tag has a character outside [\\p{L}\\p{Z}\\p{N}_.:/=+\\-@]",
            )?;
        }
        Ok(Self(tags))
    }

    /// All tags, inherited ones first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &SessionTag> {
        self.0.iter()
    }

    /// The tags that a session made with this one inherits.
    pub fn transitive(&self) -> impl Iterator<Item = &Tag> {
        self.0
            .iter()
            .filter(|tag| tag.transitive)
            .map(|tag| &tag.tag)
    }

    /// The tags that came from the calling session.
    pub fn inherited(&self) -> impl Iterator<Item = &Tag> {
        self.0
            .iter()
            .filter(|tag| tag.inherited)
            .map(|tag| &tag.tag)
    }

    /// The tags that were passed in the call: `aws:RequestTag/…` and `aws:TagKeys` of the evaluation of that call.
    pub fn requested(&self) -> impl Iterator<Item = &Tag> {
        self.0
            .iter()
            .filter(|tag| !tag.inherited)
            .map(|tag| &tag.tag)
    }

    /// The keys that the call marked transitive: `sts:TransitiveTagKeys`. Inherited ones are not among them.
    pub fn requested_transitive_keys(&self) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(|tag| tag.transitive && !tag.inherited)
            .map(|tag| &*tag.tag.key)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of tags.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// The form in which keys are compared: IAM disregards case.
pub(crate) fn fold(key: &str) -> String {
    key.to_lowercase()
}

pub(crate) fn same_key(a: &str, b: &str) -> bool {
    if a.is_ascii() && b.is_ascii() {
        a.eq_ignore_ascii_case(b)
    } else {
        fold(a) == fold(b)
    }
}

/// Whether every character of `text` is one that AWS allows in a tag: `[\p{L}\p{Z}\p{N}_.:/=+\-@]`.
///
/// Letters are taken as Unicode's `Alphabetic`, which is what the standard library knows: `\p{L}` and in addition vowel
/// signs and other marks that only occur inside words of some scripts.
#[must_use]
pub fn is_tag_text(text: &str) -> bool {
    text.chars().all(|c| {
        c.is_alphanumeric()
            || "_.:/=+-@".contains(c)
            || matches!(
                c,
                ' ' | '\u{a0}' | '\u{1680}' | '\u{2000}'
                    ..='\u{200a}' | '\u{2028}' | '\u{2029}' | '\u{202f}' | '\u{205f}' | '\u{3000}'
            )
    })
}
