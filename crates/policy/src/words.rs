//! Suggestions for words that are almost right.

/// The candidate within edit distance 2 of `word`, compared without ASCII case; the closest, and the first of equals.
pub(crate) fn nearest<'c>(
    word: &str,
    candidates: impl Iterator<Item = &'c str>,
) -> Option<&'c str> {
    if word.len() > 64 {
        return None;
    }
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        if candidate.len().abs_diff(word.len()) > 2 {
            continue;
        }
        let distance = distance(word, candidate);
        // Two wrong letters in a word of three is another word.
        if distance * 2 < word.len().max(candidate.len())
            && distance <= 2
            && best.is_none_or(|(least, _)| distance < least)
        {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

fn distance(left: &str, right: &str) -> usize {
    let right: Vec<u8> = right.bytes().map(|b| b.to_ascii_lowercase()).collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (line, a) in left.bytes().map(|b| b.to_ascii_lowercase()).enumerate() {
        let mut diagonal = line;
        let mut before = line + 1;
        for (b, cell) in right.iter().zip(row.iter_mut().skip(1)) {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = *cell;
            before = replaced.min(diagonal + 1).min(before + 1);
            *cell = before;
        }
        if let Some(first) = row.first_mut() {
            *first = line + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{distance, nearest};

    #[test]
    fn distance_counts_insertions_deletions_and_replacements() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "ab"), 2);
        assert_eq!(distance("Action", "action"), 0);
    }

    #[test]
    fn suggestions_stay_within_two_edits() {
        let names = ["StringEquals", "StringLike"];
        assert_eq!(
            nearest("StringEqual", names.into_iter()),
            Some("StringEquals")
        );
        assert_eq!(nearest("Strings", names.into_iter()), None);
        assert_eq!(nearest("s3", ["ec2"].into_iter()), None);
    }
}
