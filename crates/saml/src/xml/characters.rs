//! Which characters may stand where (XML 1.0, fifth edition, and Namespaces in XML 1.0).

/// Whether `c` is a character of XML 1.0.
pub(super) const fn is_character(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// Whether `c` is white space of XML.
pub(crate) const fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

const fn starts_name(c: char) -> bool {
    matches!(
        c,
        'A'..='Z' | 'a'..='z' | '_'
            | '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{2ff}'
            | '\u{370}'..='\u{37d}' | '\u{37f}'..='\u{1fff}' | '\u{200c}'..='\u{200d}'
            | '\u{2070}'..='\u{218f}' | '\u{2c00}'..='\u{2fef}' | '\u{3001}'..='\u{d7ff}'
            | '\u{f900}'..='\u{fdcf}' | '\u{fdf0}'..='\u{fffd}' | '\u{10000}'..='\u{effff}'
    )
}

const fn continues_name(c: char) -> bool {
    starts_name(c)
        || matches!(
            c,
            '-' | '.' | '0'..='9' | '\u{b7}' | '\u{300}'..='\u{36f}' | '\u{203f}'..='\u{2040}'
        )
}

/// Whether `name` is a name without a colon.
pub(crate) fn is_ncname(name: &str) -> bool {
    let mut characters = name.chars();
    characters.next().is_some_and(starts_name) && characters.all(continues_name)
}

/// Prefix and local name of a qualified name.
pub(super) fn qualified(name: &str) -> Option<(&str, &str)> {
    let (prefix, local) = match name.split_once(':') {
        Some((prefix, local)) if is_ncname(prefix) => (prefix, local),
        Some(_) => return None,
        None => ("", name),
    };
    is_ncname(local).then_some((prefix, local))
}

/// The character that `&reference;` stands for: one of the five entities of XML or a character reference.
pub(super) fn referenced(reference: &str) -> Option<char> {
    match reference {
        "lt" => return Some('<'),
        "gt" => return Some('>'),
        "amp" => return Some('&'),
        "apos" => return Some('\''),
        "quot" => return Some('"'),
        _ => {}
    }
    let number = reference.strip_prefix('#')?;
    let (digits, radix) = match number.strip_prefix('x') {
        Some(digits) => (digits, 16),
        None => (number, 10),
    };
    // `from_str_radix` takes a sign.
    if !digits.chars().all(|digit| digit.is_digit(radix)) {
        return None;
    }
    let code = u32::from_str_radix(digits, radix).ok()?;
    char::from_u32(code).filter(|c| is_character(*c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_the_five_entities_and_allowed_characters() {
        let cases = [
            ("lt", Some('<')),
            ("quot", Some('"')),
            ("LT", None),
            ("nbsp", None),
            ("", None),
            ("#", None),
            ("#x", None),
            ("#65", Some('A')),
            ("#x41", Some('A')),
            ("#X41", None),
            ("#+65", None),
            ("#-1", None),
            ("#0", None),
            ("#xD", Some('\r')),
            ("#x1F600", Some('\u{1f600}')),
            ("#xD800", None),
            ("#xFFFE", None),
            ("#x8", None),
            ("#99999999999", None),
        ];
        for (reference, expected) in cases {
            assert_eq!(referenced(reference), expected, "{reference}");
        }
    }

    #[test]
    fn names_have_at_most_one_colon_between_two_names() {
        let cases = [
            ("a", Some(("", "a"))),
            ("saml:Assertion", Some(("saml", "Assertion"))),
            ("_1.-x", Some(("", "_1.-x"))),
            ("é", Some(("", "é"))),
            ("", None),
            (":a", None),
            ("a:", None),
            ("a:b:c", None),
            ("1a", None),
            ("-a", None),
            ("a b", None),
            ("a\"", None),
            ("a=", None),
        ];
        for (name, expected) in cases {
            assert_eq!(qualified(name), expected, "{name}");
        }
    }
}
