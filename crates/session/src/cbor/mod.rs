//! The part of CBOR (RFC 8949) that tokens and key rings use: unsigned integers, byte and text strings, arrays, and maps
//! with integer keys, in deterministic encoding.
//!
//! Written here because reading must be strict and bounded: lengths are checked against the bytes that are there before
//! anything is allocated, integers are minimal, keys ascend (so none repeats), nothing is indefinite. Bytes that decode
//! therefore have exactly one meaning, and a meaning has exactly one encoding.

mod decode;
mod encode;

pub(crate) use decode::{Decoder, MapReader};
pub(crate) use encode::Encoder;

const UINT: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
const SIMPLE: u8 = 7;

/// Keys from here on must be understood: a reader that does not know one refuses the whole map.
pub(crate) const CRITICAL: u64 = 1000;

/// Why bytes are not CBOR as we write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CborError {
    /// The bytes end inside an item.
    #[error("ends inside an item")]
    Truncated,
    /// An integer or length is longer than it must be.
    #[error("an integer is not in its shortest form")]
    NotMinimal,
    /// An item of another type than the one that belongs there.
    #[error("an item has the wrong type")]
    Type,
    /// An item of unknown length, or a reserved form.
    #[error("an item of indefinite length")]
    Indefinite,
    /// A text that is not UTF-8.
    #[error("a text is not UTF-8")]
    Utf8,
    /// Map keys that repeat or do not ascend.
    #[error("map keys do not ascend")]
    KeyOrder,
    /// An unknown item that is nested more than eight deep.
    #[error("nested too deep")]
    Depth,
    /// Bytes behind the end.
    #[error("bytes behind the end")]
    Trailing,
    /// A key of the critical range that this version does not know.
    #[error("key {0} is critical and unknown")]
    Critical(u64),
}

#[cfg(test)]
mod tests;
