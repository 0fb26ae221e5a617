//! The paths of the node's metadata that a pod may read (imds spec, section 5.4).

use std::collections::BTreeSet;

use crate::decision::{Class, classify};
use crate::path::Path;

/// Below `/latest/meta-data/`; `<mac>` stands for any MAC address.
const DEFAULT: [&str; 17] = [
    "ami-id",
    "instance-id",
    "instance-type",
    "hostname",
    "local-hostname",
    "local-ipv4",
    "mac",
    "placement/region",
    "placement/availability-zone",
    "placement/availability-zone-id",
    "services/domain",
    "services/partition",
    "network/interfaces/macs/<mac>/vpc-id",
    "network/interfaces/macs/<mac>/subnet-id",
    "network/interfaces/macs/<mac>/device-number",
    "network/interfaces/macs/<mac>/interface-id",
    "network/interfaces/macs/<mac>/vpc-ipv4-cidr-block",
];
const MAC: &str = "<mac>";

/// More paths than anybody allows: each is a line of the node's cache.
pub const MAX_ADDED: usize = 64;

/// Why a path cannot be allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAllowable {
    /// It is no metadata path.
    #[error("`{0}` is no path below `/latest/`, such as `/latest/meta-data/block-device-mapping`")]
    NotMetadata(String),
    /// It is secret: credentials, user data, signed identity, keys, tags.
    #[error("`{0}` holds secrets of the node and is never given to pods")]
    Secret(String),
    /// There are too many.
    #[error("more than {MAX_ADDED} paths are allowed in addition")]
    TooMany,
}

/// A path of the node's metadata that is answered, written anew from the list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Harmless(Box<str>);

impl Harmless {
    /// The path, with `latest` as version.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the value stays the same as long as the instance runs. Names, addresses and what an operator added may change.
    #[must_use]
    pub fn is_constant(&self) -> bool {
        let Some(name) = self.0.strip_prefix("/latest/meta-data/") else {
            return false;
        };
        !matches!(name, "hostname" | "local-hostname" | "local-ipv4")
            && (DEFAULT.contains(&name) || name.starts_with("network/interfaces/macs/"))
    }
}

/// What a pod may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HarmlessPaths(Vec<Vec<Box<str>>>);

impl Default for HarmlessPaths {
    fn default() -> Self {
        let split = |path: &str| {
            let path = path.split('/').map(Box::from);
            std::iter::once("meta-data".into()).chain(path).collect()
        };
        Self(DEFAULT.into_iter().map(split).collect())
    }
}

impl HarmlessPaths {
    /// The defaults and these (`--imds-allow-path`).
    ///
    /// # Errors
    /// When one is no metadata path, or one of a secret, or there are more than [`MAX_ADDED`].
    pub fn with(added: &[String]) -> Result<Self, NotAllowable> {
        if added.len() > MAX_ADDED {
            return Err(NotAllowable::TooMany);
        }
        let mut paths = Self::default();
        for text in added {
            let bad = || NotAllowable::NotMetadata(text.chars().take(200).collect());
            let path = Path::normalise(text).map_err(|_| bad())?;
            if path.version.is_none() || path.segments().count() == 0 {
                return Err(bad());
            }
            match classify(&path, &paths) {
                Class::Harmless(_) => {}
                Class::Other => paths.0.push(path.segments().map(Box::from).collect()),
                Class::Secret | Class::Token | Class::Credentials(_) => {
                    return Err(NotAllowable::Secret(text.chars().take(200).collect()));
                }
                Class::Index => return Err(bad()),
            }
        }
        Ok(paths)
    }

    /// The path as it is asked of the node's service, if it is in the list.
    #[must_use]
    pub fn find(&self, path: &Path) -> Option<Harmless> {
        self.0.iter().find_map(|allowed| {
            if path.segments().count() != allowed.len() {
                return None;
            }
            let mut text = String::from("/latest");
            for (own, wanted) in path.segments().zip(allowed) {
                // A segment is taken from the list, or has a form in which nothing can hide.
                if &**wanted == MAC {
                    is_mac(own).then_some(())?;
                } else if own != &**wanted {
                    return None;
                }
                text.push('/');
                text.push_str(own);
            }
            Some(Harmless(text.into()))
        })
    }

    /// The lines of `/latest/meta-data/`: what there is to read, directories with a slash.
    #[must_use]
    pub fn index(&self, with_role: bool) -> String {
        let mut lines: BTreeSet<String> = BTreeSet::new();
        for path in &self.0 {
            match path.as_slice() {
                [root, leaf] if &**root == "meta-data" => lines.insert(leaf.to_string()),
                [root, first, ..] if &**root == "meta-data" => lines.insert(format!("{first}/")),
                _ => false,
            };
        }
        if with_role {
            lines.insert("iam/".into());
        }
        lines.into_iter().collect::<Vec<_>>().join("\n")
    }
}

/// Six pairs of hexadecimal digits with colons, as the service writes them.
fn is_mac(segment: &str) -> bool {
    segment.len() == 17
        && segment.bytes().enumerate().all(|(at, byte)| match at % 3 {
            2 => byte == b':',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}
