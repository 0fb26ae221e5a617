//! Writing into a fixed buffer, so that plaintext never lies around in memory that was outgrown.

use super::{ARRAY, BYTES, MAP, TEXT, UINT};

/// A writer that goes on counting when the buffer is full, so that only the end has to be checked.
pub(crate) struct Encoder<'b> {
    out: &'b mut [u8],
    at: usize,
    overflow: bool,
}

impl<'b> Encoder<'b> {
    pub(crate) fn new(out: &'b mut [u8]) -> Self {
        Self {
            out,
            at: 0,
            overflow: false,
        }
    }

    /// The number of bytes written, or else the number that would have been needed.
    pub(crate) fn finish(self) -> Result<usize, usize> {
        if self.overflow || self.at > self.out.len() {
            Err(self.at)
        } else {
            Ok(self.at)
        }
    }

    pub(crate) fn uint(&mut self, number: u64) {
        self.head(UINT, number);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.head(BYTES, length(bytes.len()));
        self.put(bytes);
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.head(TEXT, length(text.len()));
        self.put(text.as_bytes());
    }

    /// Begins an array; exactly `items` items must follow.
    pub(crate) fn array(&mut self, items: usize) {
        self.head(ARRAY, length(items));
    }

    /// Writes a map of fewer than 24 entries, which `fill` writes in ascending order of keys.
    pub(crate) fn map(&mut self, fill: impl FnOnce(&mut MapWriter<'_, 'b>)) {
        let head = self.at;
        self.head(MAP, 0);
        let mut map = MapWriter {
            encoder: self,
            entries: 0,
            last: None,
        };
        fill(&mut map);
        let entries = map.entries;
        if let Some(byte) = self.out.get_mut(head) {
            *byte = (MAP << 5) | entries;
        }
        self.overflow |= entries >= 24;
    }

    fn head(&mut self, major: u8, number: u64) {
        let major = major << 5;
        match number {
            0..24 => self.put(&[major | u8::try_from(number).unwrap_or(0)]),
            24..0x100 => {
                self.put(&[major | 24]);
                self.put(&u8::try_from(number).unwrap_or(0).to_be_bytes());
            }
            0x100..0x1_0000 => {
                self.put(&[major | 25]);
                self.put(&u16::try_from(number).unwrap_or(0).to_be_bytes());
            }
            0x1_0000..0x1_0000_0000 => {
                self.put(&[major | 26]);
                self.put(&u32::try_from(number).unwrap_or(0).to_be_bytes());
            }
            _ => {
                self.put(&[major | 27]);
                self.put(&number.to_be_bytes());
            }
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        let end = self.at.saturating_add(bytes.len());
        if let Some(room) = self.out.get_mut(self.at..end) {
            room.copy_from_slice(bytes);
        }
        self.at = end;
    }
}

/// Writes the entries of one map.
pub(crate) struct MapWriter<'e, 'b> {
    encoder: &'e mut Encoder<'b>,
    entries: u8,
    last: Option<u64>,
}

impl<'b> MapWriter<'_, 'b> {
    /// Writes `key` and gives the encoder for its value.
    pub(crate) fn key(&mut self, key: u64) -> &mut Encoder<'b> {
        debug_assert!(self.last.is_none_or(|last| last < key), "keys ascend");
        self.last = Some(key);
        self.entries = self.entries.saturating_add(1);
        self.encoder.uint(key);
        self.encoder
    }

    pub(crate) fn text_if(&mut self, key: u64, text: Option<&str>) {
        if let Some(text) = text {
            self.key(key).text(text);
        }
    }

    /// Writes the number unless it is zero, which its absence means.
    pub(crate) fn uint_unless_zero(&mut self, key: u64, number: u64) {
        if number != 0 {
            self.key(key).uint(number);
        }
    }
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
