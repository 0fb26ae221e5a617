//! Random bytes, as an argument: a test fixes them.

use std::fmt;
use std::sync::Arc;

/// Where ids and secrets come from.
#[derive(Clone)]
pub struct Random(Arc<Fill>);

type Fill = dyn Fn(&mut [u8]) -> Result<(), RandomUnavailable> + Send + Sync;

/// The system gives no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random bytes")]
pub struct RandomUnavailable;

impl Random {
    /// The random generator of the cryptography library.
    #[must_use]
    pub fn system() -> Self {
        Self(Arc::new(|bytes| {
            aws_lc_rs::rand::fill(bytes).map_err(|_| RandomUnavailable)
        }))
    }

    /// Bytes chosen by the caller. For tests: whoever can foresee them knows every secret made with them.
    #[must_use]
    pub fn danger_predictable(
        fill: impl Fn(&mut [u8]) -> Result<(), RandomUnavailable> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(fill))
    }

    /// Fills the array.
    ///
    /// # Errors
    /// When there are no random bytes; what is in the array must not be used then.
    pub fn bytes<const N: usize>(&self) -> Result<[u8; N], RandomUnavailable> {
        let mut bytes = [0; N];
        (self.0)(&mut bytes)?;
        Ok(bytes)
    }
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Random")
    }
}
