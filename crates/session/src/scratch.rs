//! A stack buffer for plaintext, wiped as far as it was used.

use zeroize::Zeroize;

pub(crate) struct Scratch<const N: usize> {
    bytes: [u8; N],
    used: usize,
}

impl<const N: usize> Scratch<N> {
    pub(crate) const fn new() -> Self {
        Self {
            bytes: [0; N],
            used: N,
        }
    }

    pub(crate) fn whole(&mut self) -> &mut [u8] {
        self.used = N;
        &mut self.bytes
    }

    /// The first `length` bytes; nothing behind them was written.
    pub(crate) fn first(&mut self, length: usize) -> &mut [u8] {
        self.used = length.min(N);
        let (used, _) = self.bytes.split_at_mut(self.used);
        used
    }
}

impl<const N: usize> Drop for Scratch<N> {
    fn drop(&mut self) {
        let (used, _) = self.bytes.split_at_mut(self.used);
        used.zeroize();
    }
}
