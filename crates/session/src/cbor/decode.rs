//! Strict, borrowing, bounded reading.

use super::{ARRAY, BYTES, CRITICAL, CborError, MAP, NEGATIVE, SIMPLE, TAG, TEXT, UINT};

const MAX_DEPTH: u8 = 8;

/// A reader of one buffer.
pub(crate) struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Checks that nothing is left.
    pub(crate) fn end(&self) -> Result<(), CborError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(CborError::Trailing)
        }
    }

    pub(crate) fn uint(&mut self) -> Result<u64, CborError> {
        self.head_of(UINT)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], CborError> {
        let length = self.head_of(BYTES)?;
        self.take(length)
    }

    /// A byte string of exactly `N` bytes.
    pub(crate) fn bytes_of<const N: usize>(&mut self) -> Result<&'a [u8; N], CborError> {
        self.bytes()?.try_into().map_err(|_| CborError::Type)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, CborError> {
        let length = self.head_of(TEXT)?;
        std::str::from_utf8(self.take(length)?).map_err(|_| CborError::Utf8)
    }

    /// Whether a text string comes next.
    pub(crate) fn at_text(&self) -> bool {
        self.rest.first().is_some_and(|byte| byte >> 5 == TEXT)
    }

    /// Begins an array and returns the number of its items, which is at most the number of bytes left.
    pub(crate) fn array(&mut self) -> Result<usize, CborError> {
        let items = self.head_of(ARRAY)?;
        self.room_for(items)
    }

    /// Begins a map.
    pub(crate) fn map(&mut self) -> Result<MapReader, CborError> {
        let pairs = self.head_of(MAP)?;
        self.room_for(pairs.saturating_mul(2))?;
        Ok(MapReader { pairs, last: None })
    }

    /// Steps over one well-formed item of any type.
    pub(crate) fn skip(&mut self) -> Result<(), CborError> {
        self.skip_nested(0)
    }

    fn skip_nested(&mut self, depth: u8) -> Result<(), CborError> {
        if depth > MAX_DEPTH {
            return Err(CborError::Depth);
        }
        if self.rest.first().is_some_and(|byte| byte >> 5 == SIMPLE) {
            return self.skip_simple();
        }
        let (major, number) = self.head()?;
        let items = match major {
            UINT | NEGATIVE => 0,
            BYTES => {
                self.take(number)?;
                0
            }
            TEXT => {
                std::str::from_utf8(self.take(number)?).map_err(|_| CborError::Utf8)?;
                0
            }
            ARRAY => self.room_for(number)?,
            MAP => self.room_for(number.saturating_mul(2))?,
            TAG => 1,
            _ => return Err(CborError::Type),
        };
        for _ in 0..items {
            self.skip_nested(depth + 1)?;
        }
        Ok(())
    }

    fn skip_simple(&mut self) -> Result<(), CborError> {
        let [first] = *self.take_array::<1>()?;
        match first & 31 {
            0..24 => {}
            24 => _ = self.take_array::<1>()?,
            25 => _ = self.take_array::<2>()?,
            26 => _ = self.take_array::<4>()?,
            27 => _ = self.take_array::<8>()?,
            _ => return Err(CborError::Indefinite),
        }
        Ok(())
    }

    fn head_of(&mut self, wanted: u8) -> Result<u64, CborError> {
        let (major, number) = self.head()?;
        if major == wanted {
            Ok(number)
        } else {
            Err(CborError::Type)
        }
    }

    fn head(&mut self) -> Result<(u8, u64), CborError> {
        let [first] = *self.take_array::<1>()?;
        let (number, least) = match first & 31 {
            small @ 0..24 => (u64::from(small), 0),
            24 => (u64::from(u8::from_be_bytes(*self.take_array()?)), 24),
            25 => (u64::from(u16::from_be_bytes(*self.take_array()?)), 0x100),
            26 => (u64::from(u32::from_be_bytes(*self.take_array()?)), 0x1_0000),
            27 => (u64::from_be_bytes(*self.take_array()?), 0x1_0000_0000),
            _ => return Err(CborError::Indefinite),
        };
        if number < least {
            return Err(CborError::NotMinimal);
        }
        Ok((first >> 5, number))
    }

    fn room_for(&self, items: u64) -> Result<usize, CborError> {
        match usize::try_from(items) {
            Ok(items) if items <= self.rest.len() => Ok(items),
            _ => Err(CborError::Truncated),
        }
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], CborError> {
        let length = usize::try_from(length).map_err(|_| CborError::Truncated)?;
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(CborError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn take_array<const N: usize>(&mut self) -> Result<&'a [u8; N], CborError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(CborError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }
}

/// Walks the entries of one map in their order.
pub(crate) struct MapReader {
    pairs: u64,
    last: Option<u64>,
}

impl MapReader {
    /// The next key; its value must then be read from, or skipped with, the same decoder.
    pub(crate) fn next(&mut self, decoder: &mut Decoder<'_>) -> Result<Option<u64>, CborError> {
        let Some(left) = self.pairs.checked_sub(1) else {
            return Ok(None);
        };
        self.pairs = left;
        let key = decoder.uint()?;
        if self.last.is_some_and(|last| last >= key) {
            return Err(CborError::KeyOrder);
        }
        self.last = Some(key);
        Ok(Some(key))
    }

    /// What to do with a key that nobody knows: step over its value, or refuse when the key is critical.
    pub(crate) fn unknown(key: u64, decoder: &mut Decoder<'_>) -> Result<(), CborError> {
        if key >= CRITICAL {
            return Err(CborError::Critical(key));
        }
        decoder.skip()
    }
}
