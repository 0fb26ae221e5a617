//! Compressed dumps (RFC 1952), told by their first two bytes.

use miniz_oxide::inflate::decompress_to_vec_with_limit;

/// Whether the bytes begin as a gzip file does.
pub(super) fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}

/// The content of a gzip file of one member, or why there is none.
pub(super) fn gunzip(bytes: &[u8], most: usize) -> Result<Vec<u8>, &'static str> {
    const CUT: &str = "the gzip file is cut";
    let (head, trailer) = bytes
        .len()
        .checked_sub(8)
        .and_then(|at| bytes.split_at_checked(at))
        .ok_or(CUT)?;
    let (fixed, mut rest) = head.split_at_checked(10).ok_or(CUT)?;
    let [_, _, method, flags, ..] = fixed else {
        return Err(CUT);
    };
    if *method != 8 || flags & 0xe0 != 0 {
        return Err("the gzip file is of an unknown kind");
    }
    if flags & 4 != 0 {
        let (length, after) = rest.split_first_chunk::<2>().ok_or(CUT)?;
        rest = after
            .get(usize::from(u16::from_le_bytes(*length))..)
            .ok_or(CUT)?;
    }
    // Name and comment, each ended by a zero.
    for flag in [8, 16] {
        if flags & flag != 0 {
            let end = rest.iter().position(|byte| *byte == 0).ok_or(CUT)?;
            rest = rest.get(end + 1..).ok_or(CUT)?;
        }
    }
    if flags & 2 != 0 {
        rest = rest.get(2..).ok_or(CUT)?;
    }
    let content = decompress_to_vec_with_limit(rest, most)
        .map_err(|_| "the gzip file is damaged, or its content too large")?;
    let length = trailer
        .last_chunk::<4>()
        .map(|bytes| u32::from_le_bytes(*bytes));
    let fits = length.is_some_and(|length| length as usize == content.len() & 0xffff_ffff);
    if fits {
        Ok(content)
    } else {
        Err("the gzip file is damaged")
    }
}
