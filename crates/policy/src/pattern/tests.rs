use proptest::prelude::*;

use super::{Pattern, Syntax};
use crate::context::Context;

const GLOB: Syntax = Syntax {
    wildcards: true,
    variables: true,
};

/// The plain definition, by dynamic programming over characters: slow, obviously right.
fn reference(pattern: &str, text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let mut row = vec![false; text.len() + 1];
    row[0] = true;
    for symbol in pattern.chars() {
        let mut next = vec![false; text.len() + 1];
        next[0] = symbol == '*' && row[0];
        for (i, c) in text.iter().enumerate() {
            next[i + 1] = match symbol {
                '*' => row[i + 1] || next[i],
                '?' => row[i],
                literal => row[i] && literal == *c,
            };
        }
        row = next;
    }
    row[text.len()]
}

fn matches(pattern: &str, text: &str) -> bool {
    Pattern::compile(pattern, GLOB).matches(text, &Context::new())
}

#[test]
fn stars_and_question_marks() {
    for (pattern, text, expected) in [
        ("*", "", true),
        ("", "", true),
        ("", "a", false),
        ("a*c", "abbc", true),
        ("a*c", "ac", true),
        ("a*c", "ab", false),
        ("?", "", false),
        ("?", "é", true),
        ("??", "é", false),
        ("*?é*", "xé", true),
        ("a?c/*", "abc/", true),
        ("*a*b*", "ab", true),
        ("*ab*ab", "ab", false),
        ("a,b", "a", false),
        ("[ab]", "a", false),
        ("**a**", "xax", true),
        ("*é?", "aééb", true),
        ("a*?*b", "ab", false),
    ] {
        assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
    }
}

#[test]
fn substituted_values_are_literal() {
    let mut context = Context::new();
    context.set("k", "*");
    context.set("empty", "");
    context.set_list("list", ["a"]);
    let check = |pattern: &str, text: &str| Pattern::compile(pattern, GLOB).matches(text, &context);
    assert!(check("a/${k}/*", "a/*/b"));
    assert!(!check("a/${k}/*", "a/x/b"));
    assert!(check("*x${k}?z*", "..x*yz.."));
    assert!(!check("*x${k}?z*", "..xyyz.."));
    assert!(!check("${missing}", ""));
    assert!(!check("*${missing}*", "anything"));
    assert!(!check("${empty}", ""));
    assert!(!check("${list}", "a"));
    assert!(check("${missing, 'd*'}x", "d*x"));
    assert!(check("${list, 'd'}", "d"));
    assert!(check("a${*}b*", "a*bc"));
    assert!(!check("a${*}b*", "axbc"));
}

#[test]
fn segments_longer_than_the_stack_layout_still_match() {
    let long = "ab".repeat(1500);
    assert!(matches(&format!("*{long}?*"), &format!("x{long}yz")));
    assert!(!matches(&format!("*{long}?*"), &long));
    let wide = format!("*{}?*", "a".repeat(300));
    assert!(matches(&wide, &format!("b{}c", "a".repeat(300))));
    assert!(!matches(&wide, &format!("b{}c", "a".repeat(298))));
}

fn pattern_text() -> impl Strategy<Value = String> {
    proptest::collection::vec(
        prop_oneof![3 => Just("a"), 2 => Just("b"), 1 => Just("é"), 2 => Just("*"), 2 => Just("?"),
                    1 => Just("abababababab"), 1 => Just("aaaaaaaaaaaaaaaa")],
        0..12,
    )
    .prop_map(|pieces| pieces.concat())
}

fn plain_text() -> impl Strategy<Value = String> {
    proptest::collection::vec(
        prop_oneof![4 => Just("a"), 3 => Just("b"), 1 => Just("é"), 1 => Just("€"), 1 => Just("*"), 1 => Just("ababababababab"),
                    1 => Just("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")],
        0..24,
    )
    .prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn compiled_patterns_match_what_the_definition_says(pattern in pattern_text(), text in plain_text()) {
        prop_assert_eq!(matches(&pattern, &text), reference(&pattern, &text));
    }

    #[test]
    fn a_text_matches_itself_with_runs_replaced_by_stars(text in plain_text(), cut in 0usize..30, len in 0usize..30) {
        let chars: Vec<char> = text.chars().collect();
        let cut = cut.min(chars.len());
        let end = (cut + len).min(chars.len());
        let pattern: String = chars[..cut].iter().chain(&['*']).chain(&chars[end..]).collect();
        prop_assert!(matches(&pattern, &text));
    }
}
