//! JSON laid out for people with the order of its members kept, which a tree of sorted maps would lose.

/// Deepest nesting that is indented; deeper texts are given back as they are.
const MAX_DEPTH: usize = 64;

/// A JSON text with two spaces of indentation. What is no JSON comes back as it is, trimmed.
#[must_use]
pub fn pretty(text: &str) -> String {
    let text = text.trim();
    if serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() * 2);
    let mut depth = 0_usize;
    let mut chars = text.chars().peekable();
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        for _ in 0..depth {
            out.push_str("  ");
        }
    };
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                out.push('"');
                let mut escaped = false;
                for c in chars.by_ref() {
                    out.push(c);
                    match (escaped, c) {
                        (false, '"') => break,
                        (false, '\\') => escaped = true,
                        _ => escaped = false,
                    }
                }
            }
            '{' | '[' => {
                out.push(c);
                while chars.next_if(|c| c.is_ascii_whitespace()).is_some() {}
                match chars.next_if(|c| matches!(c, '}' | ']')) {
                    Some(close) => out.push(close),
                    None => {
                        depth += 1;
                        if depth > MAX_DEPTH {
                            return text.to_owned();
                        }
                        line(&mut out, depth);
                    }
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(',');
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::pretty;

    #[test]
    fn layout_keeps_order_and_content() {
        let rows = [
            ("{}", "{}"),
            ("[ ]", "[]"),
            (
                r#"{"b":1,"a":[true,"x,y:{\"z\"}"],"c":{ }}"#,
                "{\n  \"b\": 1,\n  \"a\": [\n    true,\n    \"x,y:{\\\"z\\\"}\"\n  ],\n  \"c\": {}\n}",
            ),
            (" not json ", "not json"),
        ];
        for (text, wanted) in rows {
            assert_eq!(pretty(text), wanted, "{text}");
        }
    }
}
