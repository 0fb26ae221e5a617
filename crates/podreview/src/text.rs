//! Text that goes to a terminal.

use std::borrow::Cow;

/// The text without control characters: names and messages come from clusters and servers, and none of them may move the cursor.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(char::is_control) {
        return Cow::Borrowed(text);
    }
    let shown = text
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c });
    Cow::Owned(shown.collect())
}

/// `one`, `one and two`, `one, two and three`; of many the first five and how many more.
pub(crate) fn enumerate<T: AsRef<str>>(items: &[T]) -> String {
    const MOST: usize = 5;
    let shown: Vec<&str> = items.iter().take(MOST).map(AsRef::as_ref).collect();
    let more = items.len().saturating_sub(MOST);
    match (shown.as_slice(), more) {
        ([], _) => "none".to_owned(),
        ([one], 0) => (*one).to_owned(),
        ([head @ .., last], 0) => format!("{} and {last}", head.join(", ")),
        (shown, more) => format!("{} and {more} more", shown.join(", ")),
    }
}
