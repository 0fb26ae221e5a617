//! Tags of everything that has some (IAM API spec, section 2.5).

use countersign_arn::Tag;

use super::DirectoryError;

/// Most tags of one entity.
const TAGS: usize = 50;

/// Whether two keys that differ only by case are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyCase {
    /// They are: users, roles, instance profiles, providers, MFA devices.
    Ignored,
    /// They are two: managed policies.
    Counts,
}

impl KeyCase {
    fn same(self, a: &str, b: &str) -> bool {
        match self {
            Self::Ignored => a == b || a.to_lowercase() == b.to_lowercase(),
            Self::Counts => a == b,
        }
    }
}

/// Sets tags: a key that is there gets the new value, and the case it is given now.
pub(super) fn put(tags: &mut Vec<Tag>, new: &[Tag], case: KeyCase) -> Result<(), DirectoryError> {
    for tag in new {
        match tags
            .iter_mut()
            .find(|known| case.same(&known.key, &tag.key))
        {
            Some(known) => known.clone_from(tag),
            None => tags.push(tag.clone()),
        }
    }
    if tags.len() > TAGS {
        return Err(DirectoryError::QuotaExceeded {
            quota: "Tags",
            limit: TAGS,
        });
    }
    Ok(())
}

/// Removes tags; keys that are not there are passed over.
pub(super) fn remove(tags: &mut Vec<Tag>, keys: &[Box<str>], case: KeyCase) {
    tags.retain(|tag| !keys.iter().any(|key| case.same(&tag.key, key)));
}
