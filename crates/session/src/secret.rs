//! The secret access key of a session.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The forty characters that sign requests. Never prints itself; wiped on drop; compared in constant time.
#[derive(Clone)]
pub struct SecretAccessKey(Zeroizing<[u8; 40]>);

impl SecretAccessKey {
    /// `text` is base64, therefore ASCII.
    pub(crate) fn from_ascii(text: Zeroizing<[u8; 40]>) -> Self {
        Self(text)
    }

    /// The secret as text: to answer the call that makes the session, and to derive signing keys.
    #[must_use]
    pub fn expose(&self) -> &str {
        std::str::from_utf8(&*self.0).unwrap_or_default()
    }
}

impl PartialEq for SecretAccessKey {
    fn eq(&self, other: &Self) -> bool {
        bool::from(self.0.ct_eq(&*other.0))
    }
}

impl Eq for SecretAccessKey {}

impl fmt::Debug for SecretAccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretAccessKey(redacted)")
    }
}
