//! Text that must not be seen.

use std::fmt;

use subtle::{Choice, ConstantTimeEq};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A secret in memory: not printed, not compared with `==`, overwritten when dropped.
///
/// It does not implement `Clone` or `Serialize`, so that every copy and every way out of the process is written down.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct SecretString(Box<str>);

impl SecretString {
    /// Takes the text. The caller's own copies are the caller's to overwrite.
    #[must_use]
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The secret itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// A second copy, for the one place that has to hand a secret out and keep it.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self(self.0.clone())
    }
}

impl ConstantTimeEq for SecretString {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.as_bytes().ct_eq(other.0.as_bytes())
    }
}

impl fmt::Debug for SecretString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretString(…)")
    }
}
