//! Text as Go's `%q` prints it, since Kubernetes' reasons and messages are made with it.

use std::fmt;

/// Prints a string in Go's double-quoted form.
///
/// Go escapes what its Unicode tables call not printable. We escape control characters, the two Unicode line breaks,
/// format characters that hide or reorder text, and spaces other than the ASCII space, which covers every such
/// character that appears in names in practice.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

/// Prints a list of strings as Go prints `[]string` with `%q`: `["get" "list"]`.
pub(crate) struct QuotedList<I>(pub(crate) I);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        let mut plain = 0;
        for (at, c) in self.0.char_indices() {
            let short = match c {
                '"' => "\\\"",
                '\\' => "\\\\",
                '\u{7}' => "\\a",
                '\u{8}' => "\\b",
                '\u{c}' => "\\f",
                '\n' => "\\n",
                '\r' => "\\r",
                '\t' => "\\t",
                '\u{b}' => "\\v",
                _ if !is_hidden(c) => continue,
                _ => "",
            };
            f.write_str(self.0.get(plain..at).unwrap_or_default())?;
            plain = at + c.len_utf8();
            match u32::from(c) {
                _ if !short.is_empty() => f.write_str(short)?,
                code if code < 0x80 => write!(f, "\\x{code:02x}")?,
                code if code < 0x1_0000 => write!(f, "\\u{code:04x}")?,
                code => write!(f, "\\U{code:08x}")?,
            }
        }
        f.write_str(self.0.get(plain..).unwrap_or_default())?;
        f.write_str("\"")
    }
}

fn is_hidden(c: char) -> bool {
    c.is_control()
        || (c.is_whitespace() && c != ' ')
        || matches!(u32::from(c), 0xad | 0x61c | 0x180e | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0xfeff | 0xfff9..=0xfffb | 0xe000..=0xf8ff | 0xe0001..=0xe007f | 0xf_0000..)
}

impl<'a, I> fmt::Display for QuotedList<I>
where
    I: Iterator<Item = &'a str> + Clone,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (index, item) in self.0.clone().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            Quoted(item).fmt(f)?;
        }
        f.write_str("]")
    }
}
