//! Questions between two patterns: does one cover the other, can both match the same text.
//!
//! Coverage is answered soundly: `true` is always right, `false` may mean that it could not be shown.

/// Whether every text that `inner` matches, `outer` matches as well. A star of `inner` is covered only by a star of `outer`, a `?` by
/// either; variables cover only themselves.
pub(crate) fn glob(outer: &str, inner: &str) -> bool {
    let (outer, inner): (Vec<Symbol<'_>>, Vec<Symbol<'_>>) = (symbols(outer), symbols(inner));
    let mut row = vec![false; inner.len() + 1];
    if let Some(first) = row.first_mut() {
        *first = true;
    }
    for symbol in &outer {
        let mut next = Vec::with_capacity(row.len());
        let mut before = *symbol == Symbol::Star && row.first() == Some(&true);
        next.push(before);
        for (at, other) in inner.iter().enumerate() {
            let consumed = row.get(at).copied().unwrap_or(false);
            let skipped = row.get(at + 1).copied().unwrap_or(false);
            let here = match (symbol, other) {
                (Symbol::Star, _) => skipped || before,
                (Symbol::One, Symbol::One | Symbol::Char(_)) => consumed,
                (Symbol::One, Symbol::Star | Symbol::Variable(_)) => false,
                (own, other) => consumed && own == other,
            };
            next.push(here);
            before = here;
        }
        row = next;
    }
    row.last().copied().unwrap_or(false)
}

/// Whether some text is matched by both patterns. Variables can be anything.
pub(crate) fn overlap(left: &str, right: &str) -> bool {
    let widen = |text: &str| -> Vec<char> {
        symbols(text)
            .into_iter()
            .map(|symbol| match symbol {
                Symbol::Star | Symbol::Variable(_) => '*',
                Symbol::One => '?',
                Symbol::Char(c) => c,
            })
            .collect()
    };
    let (left, right) = (widen(left), widen(right));
    // cell (i, j): the first i symbols of left and the first j of right can match the same text.
    let mut row = vec![false; right.len() + 1];
    for i in 0..=left.len() {
        let mut next = vec![false; right.len() + 1];
        for j in 0..=right.len() {
            let at = |row: &[bool], j: usize| row.get(j).copied().unwrap_or(false);
            let (a, b) = (
                i.checked_sub(1).and_then(|i| left.get(i)),
                j.checked_sub(1).and_then(|j| right.get(j)),
            );
            let value = match (a, b) {
                (None, None) => true,
                (Some('*'), None) => at(&row, j),
                (None, Some('*')) => at(&next, j - 1),
                (Some('*'), Some(_)) | (Some(_), Some('*')) => {
                    at(&row, j) && a == Some(&'*')
                        || at(&next, j - 1) && b == Some(&'*')
                        || at(&row, j - 1)
                        || a == Some(&'*') && at(&next, j - 1)
                        || b == Some(&'*') && at(&row, j)
                }
                (Some('?'), Some(_)) | (Some(_), Some('?')) => at(&row, j - 1),
                (Some(a), Some(b)) => a == b && at(&row, j - 1),
                _ => false,
            };
            if let Some(cell) = next.get_mut(j) {
                *cell = value;
            }
        }
        row = next;
    }
    row.last().copied().unwrap_or(false)
}

/// Whether the resource pattern `outer` covers `inner`, field by field.
pub(crate) fn resource(outer: &str, inner: &str) -> bool {
    if outer == "*" || outer == inner {
        return true;
    }
    // What stands before the first wildcard must begin the other one as well: most pairs end here.
    let literal = outer.find(['*', '?', '$']).unwrap_or(outer.len());
    let same_start = matches!(
        (outer.get(..literal), inner.get(..literal)),
        (Some(outer), Some(inner)) if outer.eq_ignore_ascii_case(inner)
    );
    if !same_start {
        return false;
    }
    let (Some(outer), Some(inner)) = (padded(outer), padded(inner)) else {
        return false;
    };
    outer
        .iter()
        .zip(&inner)
        .enumerate()
        .all(|(index, (outer, inner))| {
            if index < 5 {
                glob(&outer.to_ascii_lowercase(), &inner.to_ascii_lowercase())
            } else {
                glob(outer, inner)
            }
        })
}

/// Whether the action pattern `outer` covers `inner`.
pub(crate) fn action(outer: &str, inner: &str) -> bool {
    outer == "*" || glob(&outer.to_ascii_lowercase(), &inner.to_ascii_lowercase())
}

/// Whether a resource pattern can match an ARN of a template such as `arn:${Partition}:eks:${Region}:${Account}:cluster/${Name}`.
pub(crate) fn may_overlap_template(pattern: &str, template: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    let (Some(pattern), Some(template)) = (padded(pattern), padded(template)) else {
        return false;
    };
    pattern
        .iter()
        .zip(&template)
        .all(|(pattern, template)| overlap(pattern, template))
}

/// Whether two resource patterns can match the same ARN.
pub(crate) fn resources_overlap(left: &str, right: &str) -> bool {
    left == "*" || right == "*" || may_overlap_template(left, right)
}

fn padded(text: &str) -> Option<[&str; 6]> {
    let mut fields = text.splitn(6, ':');
    (fields.next() == Some("arn")).then(|| {
        let mut next = || fields.next().unwrap_or("*");
        ["arn", next(), next(), next(), next(), next()]
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Symbol<'t> {
    Star,
    One,
    Char(char),
    Variable(&'t str),
}

fn symbols(text: &str) -> Vec<Symbol<'_>> {
    let mut symbols = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let variable = rest
            .strip_prefix("${")
            .and_then(|inner| inner.find('}'))
            .and_then(|close| rest.get(..close + 3));
        if let Some(variable) = variable {
            symbols.push(match variable {
                "${*}" => Symbol::Char('*'),
                "${?}" => Symbol::Char('?'),
                "${$}" => Symbol::Char('$'),
                other => Symbol::Variable(other),
            });
            rest = rest.get(variable.len()..).unwrap_or_default();
            continue;
        }
        symbols.push(match first {
            '*' => Symbol::Star,
            '?' => Symbol::One,
            other => Symbol::Char(other),
        });
        rest = rest.get(first.len_utf8()..).unwrap_or_default();
    }
    symbols
}

#[cfg(test)]
mod tests {
    use super::{action, glob, overlap, resource};

    #[test]
    fn coverage_is_shown_where_it_is_plain() {
        for (outer, inner, covered) in [
            ("*", "a*b", true),
            ("a*", "ab*", true),
            ("ab*", "a*", false),
            ("a?c", "abc", true),
            ("a?c", "a?c", true),
            ("a?c", "a*c", false),
            ("a*c", "a?c", true),
            ("*a*", "xay", true),
            ("", "", true),
            ("", "a", false),
            ("${x}/*", "${x}/a", true),
            ("${x}/*", "${y}/a", false),
            ("*", "${x}", true),
            ("?", "${x}", false),
            ("*b", "*b*", false),
        ] {
            assert_eq!(glob(outer, inner), covered, "{outer} {inner}");
        }
        assert!(action("S3:Get*", "s3:getobject"));
        assert!(resource("arn:aws:s3:::b/*", "arn:aws:s3:::b/k"));
        assert!(!resource("arn:aws:s3:::b/*", "arn:aws:s3:*::b/k"));
    }

    #[test]
    fn patterns_overlap_when_a_text_fits_both() {
        for (left, right, expected) in [
            ("a*", "*b", true),
            ("a*", "b*", false),
            ("a?", "?b", true),
            ("", "*", true),
            ("", "?", false),
            ("*a*b*", "ab", true),
            ("ab", "ab", true),
            ("a*c", "ab", false),
            ("*", "*", true),
            ("x${v}", "xyz", true),
            ("a**", "a", true),
            ("?*", "", false),
        ] {
            assert_eq!(overlap(left, right), expected, "{left} {right}");
            assert_eq!(overlap(right, left), expected, "{right} {left}");
        }
    }
}
