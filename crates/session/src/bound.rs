//! What a sealed text is bound to besides its content: the associated data.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::ring::Kid;

const MAX_PART: usize = 128;
const MAX_BOUND: usize = 4 * (MAX_PART + 1);

/// The name of a deployment: replicas that share state share it, and tokens of one deployment do not open in another,
/// even one that was started from a copy of its keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DeploymentId(Arc<str>);

/// The text names no deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a deployment id has 1 to 128 printable ASCII characters")]
pub struct NotADeploymentId;

impl DeploymentId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DeploymentId {
    type Err = NotADeploymentId;

    fn from_str(text: &str) -> Result<Self, NotADeploymentId> {
        if (1..=MAX_PART).contains(&text.len()) && text.bytes().all(|b| (0x21..=0x7e).contains(&b))
        {
            Ok(Self(text.into()))
        } else {
            Err(NotADeploymentId)
        }
    }
}

impl fmt::Display for DeploymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// `domain ‖ deployment id ‖ kid ‖ owner`, where a zero byte ends each part: no part contains one, so different parts
/// never make the same bytes.
pub(crate) struct Bound {
    bytes: [u8; MAX_BOUND],
    length: usize,
}

impl Bound {
    /// Nothing when a part has a zero byte or more than 128.
    pub(crate) fn new(
        domain: &str,
        deployment: &DeploymentId,
        kid: &Kid,
        owner: &[u8],
    ) -> Option<Self> {
        let mut bound = Self {
            bytes: [0; MAX_BOUND],
            length: 0,
        };
        for part in [
            domain.as_bytes(),
            deployment.as_str().as_bytes(),
            kid.as_str().as_bytes(),
            owner,
        ] {
            if part.len() > MAX_PART || part.contains(&0) {
                return None;
            }
            let end = bound.length + part.len();
            bound
                .bytes
                .get_mut(bound.length..end)?
                .copy_from_slice(part);
            bound.length = end + 1;
        }
        Some(bound)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_parts_never_make_the_same_bytes() {
        let bytes = |deployment: &str, kid: &str, owner: &[u8]| {
            Bound::new(
                "d",
                &deployment.parse().unwrap(),
                &kid.parse().unwrap(),
                owner,
            )
            .map(|bound| bound.as_bytes().to_vec())
        };
        assert_eq!(bytes("ab", "c", b"d").unwrap(), b"d\0ab\0c\0d\0");
        assert_ne!(bytes("ab", "c", b"d"), bytes("a", "bc", b"d"));
        assert_eq!(bytes("a", "b", b"c\0d"), None);
        assert_eq!(bytes("a", "b", &[b'x'; 129]), None);
        assert_eq!(
            bytes(&"a".repeat(128), "kkkkkkkk", &[b'x'; 128]).map(|bytes| bytes.len()),
            Some(1 + 128 + 8 + 128 + 4)
        );
    }
}
