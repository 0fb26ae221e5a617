//! The annotations of kube2iam and kiam: which role a pod names, and whether its namespace may have it (imds spec, sections 4
//! and 5.3).
//!
//! The rules are those of the predecessors without their holes: the namespace's list is required, every pattern is anchored at
//! both ends and compared with the whole ARN, and an expression that is broken or too large allows nothing.

use regex::RegexBuilder;

/// Longest pattern, and longest ARN that is compared.
pub const MAX_PATTERN_BYTES: usize = 1024;
/// Most patterns of one namespace.
pub const MAX_PATTERNS: usize = 256;
/// Bytes that a compiled expression may take; more is refused, so that an annotation costs bounded memory and time.
const MAX_COMPILED: usize = 256 << 10;

/// Annotation of a pod: its role.
pub const ROLE: &str = "iam.amazonaws.com/role";
/// Annotation of a pod: the external id to assume it with.
pub const EXTERNAL_ID: &str = "iam.amazonaws.com/external-id";
/// Annotation of a pod, kiam: the session's name.
pub const SESSION_NAME: &str = "iam.amazonaws.com/session-name";
/// Annotation of a namespace, kube2iam: a JSON list of patterns.
pub const ALLOWED_ROLES: &str = "iam.amazonaws.com/allowed-roles";
/// Annotation of a namespace, kiam: one expression.
pub const PERMITTED: &str = "iam.amazonaws.com/permitted";

/// Whose annotations are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Predecessor {
    /// jtblin/kube2iam.
    Kube2iam,
    /// uswitch/kiam.
    Kiam,
}

impl Predecessor {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kube2iam => "kube2iam",
            Self::Kiam => "kiam",
        }
    }
}

/// The form of kube2iam's patterns (`--namespace-restriction-format`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `*` and `?`.
    #[default]
    Glob,
    /// Regular expressions.
    Regexp,
}

/// How the predecessor was configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compat {
    /// Whose annotations.
    pub predecessor: Predecessor,
    /// What is put before names, such as `arn:aws:iam::111122223333:role/` (`--base-role-arn`, `--role-base-arn`).
    pub base_arn: Option<String>,
    /// The form of kube2iam's patterns.
    pub format: Format,
    /// The role of pods without annotation, allowed in every namespace; only when an operator sets it.
    pub default_role: Option<String>,
}

/// The role that a pod names and may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its ARN.
    pub arn: String,
    /// Whether it is the default.
    pub is_default: bool,
}

/// Why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The pod names no role.
    #[error("the pod has no annotation `iam.amazonaws.com/role`, and there is no default role")]
    NoRole,
    /// It names a role by a name, and there is no base.
    #[error("the role is given by its name, and there is no base ARN to put before it")]
    NoBase,
    /// The role is longer than any.
    #[error("the role is longer than 1024 characters")]
    TooLong,
    /// The namespace has no list.
    #[error("the namespace has no list of allowed roles")]
    NoList,
    /// The list is none.
    #[error("the namespace's list of allowed roles cannot be read, or has more than 256 entries")]
    BadList,
    /// The role is not in the list.
    #[error("the namespace does not allow the role")]
    NotAllowed,
}

impl Compat {
    /// The role that a pod with this annotation gets in a namespace with this list.
    ///
    /// # Errors
    /// When it gets none.
    pub fn resolve(&self, role: Option<&str>, list: Option<&str>) -> Result<Named, Denied> {
        let Some(role) = role.map(str::trim).filter(|role| !role.is_empty()) else {
            let default = self.default_role.as_deref().ok_or(Denied::NoRole)?;
            return Ok(Named {
                arn: self.expand(default)?,
                is_default: true,
            });
        };
        let arn = self.expand(role)?;
        if let Some(default) = &self.default_role
            && self.expand(default).as_deref() == Ok(&*arn)
        {
            return Ok(Named {
                arn,
                is_default: true,
            });
        }
        let list = list.ok_or(Denied::NoList)?;
        let allowed = match self.predecessor {
            Predecessor::Kiam => matches_expression(list, &arn),
            Predecessor::Kube2iam => {
                let patterns: Vec<String> =
                    serde_json::from_str(list).map_err(|_| Denied::BadList)?;
                if patterns.len() > MAX_PATTERNS {
                    return Err(Denied::BadList);
                }
                patterns.iter().any(|pattern| self.matches(pattern, &arn))
            }
        };
        if !allowed {
            return Err(Denied::NotAllowed);
        }
        Ok(Named {
            arn,
            is_default: false,
        })
    }

    /// The ARN of a role given by name, path and name, or ARN.
    ///
    /// # Errors
    /// When it is a name and there is no base, or it is too long.
    pub fn expand(&self, role: &str) -> Result<String, Denied> {
        let arn = if is_arn(role) {
            role.to_owned()
        } else {
            let base = self.base_arn.as_deref().ok_or(Denied::NoBase)?;
            format!("{}{}", with_slash(base), role.trim_start_matches('/'))
        };
        if arn.len() > MAX_PATTERN_BYTES {
            return Err(Denied::TooLong);
        }
        Ok(arn)
    }

    /// The role as the list path shows it: its ARN with the base cut off, or the whole ARN when it lies outside the base.
    #[must_use]
    pub fn shown<'a>(&self, arn: &'a str) -> &'a str {
        let base = self.base_arn.as_deref().map(with_slash);
        base.and_then(|base| arn.strip_prefix(&*base))
            .unwrap_or(arn)
    }

    /// One entry of kube2iam's list. Those that do not begin with `arn:` get the base in front; without a base they match
    /// nothing, where kube2iam looked for them anywhere.
    fn matches(&self, pattern: &str, arn: &str) -> bool {
        let base = self.base_arn.as_deref().map(with_slash);
        match (self.format, is_arn(pattern), base) {
            (Format::Glob, true, _) => matches_glob(pattern, arn),
            (Format::Regexp, true, _) => matches_expression(pattern, arn),
            (Format::Glob, false, Some(base)) => arn
                .strip_prefix(&*base)
                .is_some_and(|rest| matches_glob(pattern, rest)),
            (Format::Regexp, false, Some(base)) => arn
                .strip_prefix(&*base)
                .is_some_and(|rest| matches_expression(pattern, rest)),
            (_, false, None) => false,
        }
    }
}

fn is_arn(text: &str) -> bool {
    text.get(..4)
        .is_some_and(|head| head.eq_ignore_ascii_case("arn:"))
}

fn with_slash(base: &str) -> std::borrow::Cow<'_, str> {
    if base.ends_with('/') {
        base.into()
    } else {
        format!("{base}/").into()
    }
}

/// `*` stands for any text, slashes included, `?` for one character. Linear in the product of the two lengths.
#[must_use]
pub fn matches_glob(pattern: &str, text: &str) -> bool {
    if pattern.len() > MAX_PATTERN_BYTES || text.len() > MAX_PATTERN_BYTES {
        return false;
    }
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut at, mut in_text) = (0, 0);
    // Where to go on when the star takes one character more.
    let mut star: Option<(usize, usize)> = None;
    while let Some(have) = text.get(in_text) {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, in_text));
                at += 1;
            }
            Some(want) if *want == '?' || want == have => {
                at += 1;
                in_text += 1;
            }
            _ => match &mut star {
                Some((begin, taken)) => {
                    *taken += 1;
                    in_text = *taken;
                    at = *begin + 1;
                }
                None => return false,
            },
        }
    }
    pattern
        .get(at..)
        .is_some_and(|rest| rest.iter().all(|c| *c == '*'))
}

/// The whole text, by an expression that is grouped first, so that an alternation is anchored in all its branches. An expression
/// that is broken, too long, or too large when compiled matches nothing.
#[must_use]
pub fn matches_expression(expression: &str, text: &str) -> bool {
    if expression.len() > MAX_PATTERN_BYTES || text.len() > MAX_PATTERN_BYTES {
        return false;
    }
    // Alone first: what closes the group early, or comments its end away, is no expression of its own.
    let compile = |text: &str| {
        RegexBuilder::new(text)
            .size_limit(MAX_COMPILED)
            .dfa_size_limit(MAX_COMPILED)
            .nest_limit(32)
            .build()
    };
    if compile(expression).is_err() {
        return false;
    }
    compile(&format!(r"\A(?:{expression})\z")).is_ok_and(|regex| regex.is_match(text))
}
