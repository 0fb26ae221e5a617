//! The list of containers to leave out: one CSV record (webhook spec, section 3.1).

use std::borrow::Cow;

/// Names of the annotation `skip-containers`, sorted for looking up.
#[derive(Debug, Default)]
pub(crate) struct SkipList<'a> {
    names: Vec<Cow<'a, str>>,
}

/// All annotations of an object together may have as many bytes.
const MAX_BYTES: usize = 256 << 10;

/// A quote in the wrong place, or more text than annotations can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BrokenRecord;

impl<'a> SkipList<'a> {
    /// Reads the first record of a CSV text. Unlike the reference it takes blanks around a name for nothing: a space
    /// after the comma is the commonest mistake, and would hand credentials to the container that was to be left out.
    pub(crate) fn parse(text: &'a str) -> Result<Self, BrokenRecord> {
        if text.len() > MAX_BYTES {
            return Err(BrokenRecord);
        }
        let mut names = Vec::new();
        let mut rest = text.trim_start_matches(['\r', '\n']);
        loop {
            rest = rest.trim_start_matches([' ', '\t']);
            let (name, after) = match rest.strip_prefix('"') {
                Some(quoted) => quoted_field(quoted)?,
                None => plain_field(rest)?,
            };
            if !name.is_empty() {
                names.push(name);
            }
            match after.strip_prefix(',') {
                Some(more) => rest = more,
                None => break,
            }
        }
        names.sort_unstable();
        names.dedup();
        Ok(Self { names })
    }

    pub(crate) fn contains(&self, container: &str) -> bool {
        let found = self.names.binary_search_by(|name| (**name).cmp(container));
        found.is_ok()
    }

    pub(crate) fn into_owned(self) -> SkipList<'static> {
        let names = self.names.into_iter();
        SkipList {
            names: names.map(|name| Cow::Owned(name.into_owned())).collect(),
        }
    }

    /// Names of the list that are not among these, in their order.
    pub(crate) fn missing_from<'n>(
        &self,
        containers: impl Iterator<Item = &'n str>,
    ) -> Vec<String> {
        let mut containers: Vec<&str> = containers.collect();
        containers.sort_unstable();
        let unknown = self.names.iter().filter(|name| {
            let found = containers.binary_search_by(|container| (*container).cmp(name));
            found.is_err()
        });
        unknown
            .map(|name| name.chars().take(64).collect())
            .collect()
    }
}

/// A field without quotes, and what follows it.
fn plain_field(text: &str) -> Result<(Cow<'_, str>, &str), BrokenRecord> {
    let end = text.find([',', '\n']).unwrap_or(text.len());
    let (field, after) = text.split_at_checked(end).unwrap_or((text, ""));
    match field.contains('"') {
        true => Err(BrokenRecord),
        false => Ok((Cow::Borrowed(field.trim_matches([' ', '\t', '\r'])), after)),
    }
}

/// A field behind its opening quote, and what follows the closing one.
fn quoted_field(text: &str) -> Result<(Cow<'_, str>, &str), BrokenRecord> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (part, after) = rest.split_once('"').ok_or(BrokenRecord)?;
        field.push_str(part);
        match after.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                rest = more;
            }
            None => {
                let after = after.trim_start_matches([' ', '\t', '\r']);
                let ended = after.is_empty() || after.starts_with([',', '\n']);
                let name = field.trim_matches([' ', '\t']).to_owned();
                return ended
                    .then_some((Cow::Owned(name), after))
                    .ok_or(BrokenRecord);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_record_of_names() {
        let cases: &[(&str, Result<&[&str], BrokenRecord>)] = &[
            ("", Ok(&[])),
            ("mesh", Ok(&["mesh"])),
            ("mesh,log", Ok(&["log", "mesh"])),
            ("mesh, log ", Ok(&["log", "mesh"])),
            (" mesh\t,,log", Ok(&["log", "mesh"])),
            ("\"mesh\", \"log\"", Ok(&["log", "mesh"])),
            ("\"a,b\",c", Ok(&["a,b", "c"])),
            ("\"a\"\"b\"", Ok(&["a\"b"])),
            ("\nmesh\nlog", Ok(&["mesh"])),
            ("mesh\r\n", Ok(&["mesh"])),
            ("a\"b", Err(BrokenRecord)),
            ("\"a", Err(BrokenRecord)),
            ("\"a\"b", Err(BrokenRecord)),
            ("a,\"b\" c", Err(BrokenRecord)),
            (",", Ok(&[])),
        ];
        for (text, expected) in cases {
            let list = SkipList::parse(text).map(|list| list.names);
            let expected = expected.map(|names| names.iter().map(|n| Cow::Borrowed(*n)).collect());
            assert_eq!(list, expected, "{text:?}");
        }
    }
}
