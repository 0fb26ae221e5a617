//! The name of a key, as it stands in every token.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

const MAX_LEN: usize = 8;

/// One to eight characters of `A-Za-z0-9_-`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kid {
    /// INVARIANT: ASCII, and zero behind the name.
    text: [u8; MAX_LEN],
}

/// The text is no name of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key name has 1 to 8 characters of A-Za-z0-9_-")]
pub struct NotAKid;

impl Kid {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let length = self.text.iter().take_while(|byte| **byte != 0).count();
        self.text
            .get(..length)
            .and_then(|text| std::str::from_utf8(text).ok())
            .unwrap_or_default()
    }

    /// Reads a name from the bytes of a token.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, NotAKid> {
        let mut text = [0u8; MAX_LEN];
        let name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        match text.get_mut(..bytes.len()) {
            Some(room) if !bytes.is_empty() && bytes.iter().all(name) => {
                room.copy_from_slice(bytes);
                Ok(Self { text })
            }
            _ => Err(NotAKid),
        }
    }

    /// `k` and three letters made of the lowest 15 bits: short, because it is in every token.
    pub(super) fn from_number(number: u32) -> Self {
        let mut text = [0u8; MAX_LEN];
        for (at, byte) in text.iter_mut().take(4).enumerate() {
            *byte = match at {
                0 => b'k',
                at => {
                    let digit = u8::try_from((number >> (5 * (3 - at))) & 31).unwrap_or(0);
                    if digit < 26 {
                        b'a' + digit
                    } else {
                        b'2' + (digit - 26)
                    }
                }
            };
        }
        Self { text }
    }
}

impl FromStr for Kid {
    type Err = NotAKid;

    fn from_str(text: &str) -> Result<Self, NotAKid> {
        Self::from_bytes(text.as_bytes())
    }
}

impl fmt::Display for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Kid {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
