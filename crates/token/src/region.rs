//! Names of regions: the known ones, and a label for metrics that an unauthenticated peer cannot grow.

use std::fmt;
use std::sync::{Arc, LazyLock};

/// The regions of the AWS SDKs' partition data, sorted; one name a line in `data/known-regions.txt`.
#[must_use]
pub fn known_regions() -> &'static [&'static str] {
    static REGIONS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
        let mut regions: Vec<_> = include_str!("../data/known-regions.txt").lines().collect();
        regions.sort_unstable();
        regions
    });
    &REGIONS
}

/// The region of a token as a metric label: a known or configured region, `global`, or `other`.
///
/// Regions in tokens are attacker-chosen within a shape; only names from closed lists may become labels
/// (authentication spec, section 2.2).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RegionLabel {
    /// A known region, `global` or `other`.
    Known(&'static str),
    /// A region of the option `regions`.
    Configured(Arc<str>),
}

impl RegionLabel {
    /// The label of the region-less endpoint.
    pub const GLOBAL: Self = Self::Known("global");
    /// The label of everything that is in no list.
    pub const OTHER: Self = Self::Known("other");

    /// The label of `region`.
    pub(crate) fn of(region: &str, configured: &[Arc<str>]) -> Self {
        let known = known_regions();
        if let Ok(index) = known.binary_search(&region)
            && let Some(name) = known.get(index)
        {
            return Self::Known(name);
        }
        configured
            .iter()
            .find(|name| &***name == region)
            .map_or(Self::OTHER, |name| Self::Configured(Arc::clone(name)))
    }

    /// The label.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Known(name) => name,
            Self::Configured(name) => name,
        }
    }
}

impl fmt::Display for RegionLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Whether `text` is a host name label: letters, digits and inner hyphens.
pub(crate) fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes
        .iter()
        .all(|b| b.is_ascii_alphanumeric() || *b == b'-')
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
}

/// The general shape of region names, `^[a-z]{2,5}(-[a-z]+)+-[0-9]{1,2}$`.
pub(crate) fn has_region_shape(text: &str) -> bool {
    let Some((words, number)) = text.rsplit_once('-') else {
        return false;
    };
    let Some((first, rest)) = words.split_once('-') else {
        return false;
    };
    let letters = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase());
    (1..=2).contains(&number.len())
        && number.bytes().all(|b| b.is_ascii_digit())
        && (2..=5).contains(&first.len())
        && letters(first)
        && rest.split('-').all(letters)
}
