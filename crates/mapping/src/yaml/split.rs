//! The items of a block list, cut out of a text that does not parse as a whole.

/// The items of the outermost block list in `text`, each with the number of lines before it.
///
/// An item begins at every line with the indentation of the first dash and a dash; a block scalar inside an item is
/// always indented further, so no item begins inside one.
pub(crate) fn items(text: &str) -> Vec<(u32, &str)> {
    let mut items = Vec::new();
    let mut indentation = None;
    let mut start: Option<(u32, usize)> = None;
    let mut offset = 0;
    for (number, line) in (0u32..).zip(text.split_inclusive('\n')) {
        let body = line.trim_start_matches(' ');
        let spaces = line.len() - body.len();
        let dash = body
            .strip_prefix('-')
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\r', '\n']));
        if dash && indentation.is_none_or(|wanted| wanted == spaces) {
            indentation = Some(spaces);
            if let Some((line_number, from)) = start.replace((number, offset)) {
                items.push((line_number, text.get(from..offset).unwrap_or_default()));
            }
        }
        offset += line.len();
    }
    if let Some((line_number, from)) = start {
        items.push((line_number, text.get(from..).unwrap_or_default()));
    }
    items
}
