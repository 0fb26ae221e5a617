//! Principals are stored by unique id (policy language spec, section 1.6).
//!
//! When a trust policy is saved, a user or role ARN becomes that entity's unique id, so that a later entity of the same name is not
//! trusted. The text stays; the ids stand beside it, and reading shows each id as the ARN its entity has at that time.

use std::collections::BTreeMap;

use super::{Document, PrincipalEntry};

/// The place of one principal entry: statement and entry, both counted from 0 over all kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PrincipalSlot {
    /// Index of the statement.
    pub statement: usize,
    /// Index of the entry inside its `Principal` or `NotPrincipal`.
    pub entry: usize,
}

/// The unique ids that stand behind the user and role ARNs of one stored document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PrincipalIds(BTreeMap<PrincipalSlot, Box<str>>);

impl PrincipalIds {
    /// Remembers that the entry at `slot` means the entity with this unique id.
    pub fn bind(&mut self, slot: PrincipalSlot, unique_id: impl Into<Box<str>>) {
        self.0.insert(slot, unique_id.into());
    }

    /// The unique id behind an entry.
    #[must_use]
    pub fn get(&self, slot: PrincipalSlot) -> Option<&str> {
        self.0.get(&slot).map(|id| &**id)
    }

    /// All bindings, in document order; this is what a store keeps beside the text.
    pub fn iter(&self) -> impl Iterator<Item = (PrincipalSlot, &str)> {
        self.0.iter().map(|(slot, id)| (*slot, &**id))
    }

    /// Whether no entry is bound.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(PrincipalSlot, Box<str>)> for PrincipalIds {
    fn from_iter<I: IntoIterator<Item = (PrincipalSlot, Box<str>)>>(bindings: I) -> Self {
        Self(bindings.into_iter().collect())
    }
}

impl Document {
    /// Every principal of every statement, with its place.
    pub fn principals(&self) -> impl Iterator<Item = (PrincipalSlot, &PrincipalEntry)> {
        self.statements
            .iter()
            .enumerate()
            .flat_map(|(statement, content)| {
                content
                    .principal
                    .iter()
                    .flat_map(|element| &element.entries)
                    .enumerate()
                    .map(move |(entry, text)| (PrincipalSlot { statement, entry }, text))
            })
    }

    /// The text with principals replaced: `shown` answers with the ARN that an entity has now, with its bare unique id once the
    /// entity is gone, or with `None` to leave the entry as submitted. Everything else stays byte for byte.
    #[must_use]
    pub fn text_with_principals(
        &self,
        mut shown: impl FnMut(PrincipalSlot, &PrincipalEntry) -> Option<String>,
    ) -> String {
        let source = self.source();
        let mut text = String::with_capacity(self.text().len());
        let mut done = self.span.start as usize;
        for (slot, entry) in self.principals() {
            let Some(replacement) = shown(slot, entry) else {
                continue;
            };
            let Ok(quoted) = serde_json::to_string(&replacement) else {
                continue;
            };
            text.push_str(
                source
                    .get(done..entry.text.span.start as usize)
                    .unwrap_or_default(),
            );
            text.push_str(&quoted);
            done = entry.text.span.end as usize;
        }
        text.push_str(source.get(done..self.span.end as usize).unwrap_or_default());
        text
    }
}
