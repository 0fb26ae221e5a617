//! Randomness, given in, so that a test can fix it.

/// Gives numbers that nobody can foresee, or that a test chose.
pub trait Chance: Send + Sync + 'static {
    /// A number from 0 up to, and without, 1.
    fn unit(&self) -> f64;
}

/// The system's randomness.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemChance;

impl Chance for SystemChance {
    fn unit(&self) -> f64 {
        let mut bytes = [0; 4];
        // Jitter is no secret; should the system have no randomness, there is none.
        let _ = aws_lc_rs::rand::fill(&mut bytes);
        f64::from(u32::from_ne_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
    }
}

/// A random UUID, version 4 (RFC 9562), in its text form: the id of a request.
pub(crate) fn request_id() -> String {
    let mut bytes = [0u8; 16];
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
        }
    }
    text
}
