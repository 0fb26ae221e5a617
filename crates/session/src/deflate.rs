//! Raw deflate (RFC 1951), bounded in both directions.

/// `bytes` compressed; no bytes compress to none.
pub(crate) fn deflate(bytes: &[u8]) -> Vec<u8> {
    if bytes.is_empty() {
        return Vec::new();
    }
    miniz_oxide::deflate::compress_to_vec(bytes, 9)
}

/// The inverse of [`deflate`], unless the result would be longer than `limit` bytes.
pub(crate) fn inflate(bytes: &[u8], limit: usize) -> Option<Vec<u8>> {
    miniz_oxide::inflate::decompress_to_vec_with_limit(bytes, limit).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deflate_bomb_stops_at_the_limit() {
        let bomb = deflate(&vec![0u8; 1 << 20]);
        assert!(bomb.len() < 2048);
        assert_eq!(inflate(&bomb, 8192), None);
        assert_eq!(inflate(&bomb, 1 << 20).map(|all| all.len()), Some(1 << 20));
    }

    #[test]
    fn nothing_deflates_to_nothing() {
        assert!(deflate(b"").is_empty());
    }
}
