//! Rules for many roles at once that cannot cross an account (authentication spec, section 3.11).
//!
//! The account is always literal and a glob is matched against the role's *name* only, so no glob, however wide, can
//! admit a role of an account that the rule does not list.

use std::fmt;

use countersign_arn::{AccountId, CallerIdentity, CallerKind, Partition};

use crate::entry::known_role_path;

/// A glob over names: `*` is any number of characters, `?` is exactly one. Case does not count, as in IAM role names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NameGlob {
    text: Box<str>,
}

impl NameGlob {
    /// Takes `text` as it is; every text is a glob.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self { text: text.into() }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether there is a `*` or `?` in it.
    #[must_use]
    pub fn has_wildcard(&self) -> bool {
        self.text.contains(['*', '?'])
    }

    /// How many characters stand before the first wildcard.
    #[must_use]
    pub fn literal_prefix_len(&self) -> usize {
        self.text.find(['*', '?']).unwrap_or(self.text.len())
    }

    /// How many characters are literal.
    #[must_use]
    pub fn literal_len(&self) -> usize {
        self.text.bytes().filter(|b| !b"*?".contains(b)).count()
    }

    /// Whether the whole of `name` matches. At most `glob × name` steps, without recursion: after a mismatch only the
    /// last `*` takes one character more.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let glob = self.text.as_bytes();
        let name = name.as_bytes();
        let (mut g, mut n) = (0, 0);
        let mut retry: Option<(usize, usize)> = None;
        while let Some(c) = name.get(n) {
            match glob.get(g) {
                Some(b'*') => {
                    retry = Some((g + 1, n));
                    g += 1;
                }
                Some(b'?') => {
                    g += 1;
                    n += 1;
                }
                Some(literal) if literal.eq_ignore_ascii_case(c) => {
                    g += 1;
                    n += 1;
                }
                _ => {
                    let Some((after_star, taken)) = retry else {
                        return false;
                    };
                    retry = Some((after_star, taken + 1));
                    g = after_star;
                    n = taken + 1;
                }
            }
        }
        glob.get(g..)
            .unwrap_or_default()
            .iter()
            .all(|rest| *rest == b'*')
    }
}

impl fmt::Display for NameGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

/// Roles of the listed accounts whose names match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolePattern {
    /// The accounts; never empty.
    pub accounts: Box<[AccountId]>,
    /// The partition.
    pub partition: Partition,
    /// The name.
    pub name: NameGlob,
    /// The beginning of the role's path, such as `teams/`; compared only where the real path is known.
    pub path: Option<Box<str>>,
    /// Names that are left out; globs as well.
    pub exclude: Box<[NameGlob]>,
}

impl RolePattern {
    /// Whether `identity` is a session of a role that the rule is for.
    #[must_use]
    pub fn matches(&self, identity: &CallerIdentity) -> bool {
        self.is_for(identity) && !self.excludes(identity.caller().name())
    }

    /// Whether the role would match if no name were left out.
    pub(crate) fn is_for(&self, identity: &CallerIdentity) -> bool {
        let caller = identity.caller();
        let path_fits = || match &self.path {
            None => true,
            Some(prefix) => {
                known_role_path(identity).is_some_and(|real| real.starts_with(&**prefix))
            }
        };
        caller.kind() == CallerKind::AssumedRole
            && caller.path_and_name() == caller.name()
            && caller.partition() == self.partition
            && self.accounts.contains(&caller.account())
            && self.name.matches(caller.name())
            && path_fits()
    }

    pub(crate) fn excludes(&self, name: &str) -> bool {
        self.exclude.iter().any(|glob| glob.matches(name))
    }
}

impl fmt::Display for RolePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "roles `{}` of account", self.name)?;
        if self.accounts.len() > 1 {
            f.write_str("s")?;
        }
        for account in &self.accounts {
            write!(f, " {account}")?;
        }
        Ok(())
    }
}
