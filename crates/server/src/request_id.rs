//! Request ids: random UUIDs, version 4 (RFC 9562).

/// A fresh id in its text form.
#[must_use]
pub(crate) fn fresh() -> String {
    let mut bytes = [0u8; 16];
    // An id is no secret; should the system have no randomness, zeros are as good as any id.
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
