//! Finding a segment that holds `?` or variables.

use memchr::memmem;

use super::{Piece, strip_pieces};
use crate::context::Context;

/// Longest segment that is laid out on the stack. Resources have at most 2,048 characters, so a longer segment matches none.
const MOST: usize = 2048;
/// How many places are tried one by one before a search is prepared: most segments are found, or the text ends, within these.
const FIRST_PLACES: usize = 48;

/// What remains behind the leftmost place of the pieces in `text`.
pub(super) fn find_mixed<'t>(
    pieces: &[Piece],
    text: &'t [u8],
    context: &Context<'_>,
) -> Option<&'t [u8]> {
    let places = if pieces.len() <= 8 { FIRST_PLACES } else { 0 };
    let (found, rest) = try_places(pieces, text, places, context);
    if found.is_some() {
        return found;
    }
    let text = rest?;
    let mut layout = Layout {
        bytes: [0; MOST],
        any: [0; MOST / 64],
        len: 0,
        has_any: false,
    };
    for piece in pieces {
        let fits = match piece {
            Piece::Literal(literal) => layout.literal(literal),
            Piece::Slot(variable) => layout.literal(variable.resolve(context)?.as_bytes()),
            Piece::One(count) => layout.any(*count),
        };
        if !fits {
            return if text.len() < MOST {
                None
            } else {
                try_places(pieces, text, usize::MAX, context).0
            };
        }
    }
    if layout.len > text.len() {
        return None;
    }
    if !layout.has_any {
        let needle = layout.bytes.get(..layout.len)?;
        let at = memmem::find(text, needle)?;
        return text.get(at + needle.len()..);
    }
    match layout.len {
        0..=64 => layout.scan::<1>(text),
        65..=256 => layout.scan::<4>(text),
        _ => layout.scan::<{ MOST / 64 }>(text),
    }
}

/// Tries the first `places` places. Yields what remains behind the first that fits; else the text from the first place that was not
/// tried, if there is one.
fn try_places<'t>(
    pieces: &[Piece],
    text: &'t [u8],
    places: usize,
    context: &Context<'_>,
) -> (Option<&'t [u8]>, Option<&'t [u8]>) {
    let starts = (0..=text.len())
        .filter_map(|start| text.get(start..))
        .filter(|rest| rest.first().is_none_or(|b| b & 0xC0 != 0x80));
    for (tried, rest) in starts.enumerate() {
        if tried == places {
            return (None, Some(rest));
        }
        if let Some(behind) = strip_pieces(pieces, rest, context) {
            return (Some(behind), None);
        }
    }
    (None, None)
}

/// A segment as one run of bytes; bits in `any` mark the places of `?`.
struct Layout {
    bytes: [u8; MOST],
    any: [u64; MOST / 64],
    len: usize,
    has_any: bool,
}

impl Layout {
    fn literal(&mut self, literal: &[u8]) -> bool {
        match self.bytes.get_mut(self.len..self.len + literal.len()) {
            Some(place) => {
                place.copy_from_slice(literal);
                self.len += literal.len();
                true
            }
            None => false,
        }
    }

    fn any(&mut self, count: usize) -> bool {
        if count > MOST - self.len {
            return false;
        }
        for place in self.len..self.len + count {
            if let Some(word) = self.any.get_mut(place / 64) {
                *word |= 1 << (place % 64);
            }
        }
        self.len += count;
        self.has_any = true;
        true
    }

    /// Shift-And: bit p of the state says that the first p+1 characters of the segment end at this byte of the text. A `?` is
    /// entered by the first byte of a character and kept through its continuation bytes.
    #[expect(
        clippy::indexing_slicing,
        reason = "bytes index a table of 256 rows; words stay below W because len <= 64 * W"
    )]
    fn scan<'t, const W: usize>(&self, text: &'t [u8]) -> Option<&'t [u8]> {
        let mut accepts = [[0u64; W]; 256];
        for (place, byte) in self.bytes.iter().take(self.len).enumerate() {
            let bit = 1u64 << (place % 64);
            if self.any[place / 64] & bit == 0 {
                accepts[usize::from(*byte)][place / 64] |= bit;
            }
        }
        let mut state = [0u64; W];
        let last = self.len - 1;
        for (at, byte) in text.iter().enumerate() {
            let continues = byte & 0xC0 == 0x80;
            let row = &accepts[usize::from(*byte)];
            let mut carry = 1;
            for (word, (accepted, any)) in state.iter_mut().zip(row.iter().zip(&self.any)) {
                let before = *word;
                let shifted = before << 1 | carry;
                carry = before >> 63;
                *word = if continues {
                    shifted & accepted | before & any
                } else {
                    shifted & (accepted | any)
                };
            }
            if state[last / 64] >> (last % 64) & 1 == 1 {
                let rest = text.get(at + 1..)?;
                let width = rest
                    .iter()
                    .position(|b| b & 0xC0 != 0x80)
                    .unwrap_or(rest.len());
                return rest.get(width..);
            }
        }
        None
    }
}
