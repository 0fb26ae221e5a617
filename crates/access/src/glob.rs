//! Patterns with wildcards.

/// Whether the whole of `text` matches `pattern`, where `*` stands for any run of characters, also an empty one, and
/// every other character for itself. Case counts.
///
/// At most `pattern × text` steps, without recursion: after a mismatch only the last `*` takes one character more.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    run(pattern.as_bytes(), text.as_bytes(), |wanted, found| {
        wanted == found
    })
}

/// As [`matches`], with `?` for exactly one character and without regard to the case of ASCII letters: the names of IAM
/// are unique whatever their case.
pub(crate) fn matches_name(pattern: &str, text: &str) -> bool {
    run(pattern.as_bytes(), text.as_bytes(), |wanted, found| {
        wanted == b'?' || wanted.eq_ignore_ascii_case(&found)
    })
}

fn run(pattern: &[u8], text: &[u8], fits: impl Fn(u8, u8) -> bool) -> bool {
    let (mut at, mut read) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while let Some(found) = text.get(read) {
        match pattern.get(at) {
            Some(b'*') => {
                at += 1;
                retry = Some((at, read));
            }
            Some(wanted) if fits(*wanted, *found) => {
                at += 1;
                read += 1;
            }
            _ => {
                let Some((behind_star, taken)) = retry else {
                    return false;
                };
                retry = Some((behind_star, taken + 1));
                at = behind_star;
                read = taken + 1;
            }
        }
    }
    pattern
        .get(at..)
        .unwrap_or_default()
        .iter()
        .all(|rest| *rest == b'*')
}

#[cfg(test)]
mod tests {
    use super::{matches, matches_name};

    #[test]
    fn a_star_is_any_run_and_everything_else_is_literal() {
        for (pattern, text, expected) in [
            ("dev-*", "dev-", true),
            ("dev-*", "dev-a", true),
            ("dev-*", "dev", false),
            ("*-prod", "a-prod", true),
            ("*-prod", "-prod", true),
            ("*-prod", "a-prod-b", false),
            ("*", "", true),
            ("*", "anything", true),
            ("", "", true),
            ("", "a", false),
            ("a*b*c", "abc", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("a*a", "a", false),
            ("**", "", true),
            ("a?", "ab", false),
            ("a?", "a?", true),
            ("Dev", "dev", false),
            ("*ab", "aab", true),
            ("*a*b", "abab", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn names_take_question_marks_and_any_case() {
        for (pattern, text, expected) in [
            ("team-?", "team-a", true),
            ("team-?", "team-", false),
            ("team-*", "TEAM-a", true),
            ("*@example.com", "ana@Example.com", true),
            ("?", "", false),
        ] {
            assert_eq!(matches_name(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn stars_do_not_multiply_the_work() {
        let pattern = "*a".repeat(200);
        let text = "a".repeat(199);
        assert!(!matches(&pattern, &text));
    }
}
