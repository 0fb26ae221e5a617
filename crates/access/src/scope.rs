//! Where the policies of an association are in force (EKS API spec, sections 8.2 and 8.3).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::glob;
use crate::limits::Limits;

/// The scope of an association.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessScope {
    /// Everything the rules of the policy say.
    Cluster,
    /// Requests with a namespace that matches one of these; `*` stands for any run of characters.
    Namespace(Vec<Box<str>>),
}

/// Why EKS refuses a scope; always `InvalidParameterException`. Displayed in EKS's words where they are known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScopeFault {
    /// The type is neither of the two.
    #[error("The specified accessScope type is invalid: `{0}` is not one of [cluster, namespace]")]
    Kind(String),
    /// Scope `namespace` without namespaces.
    #[error("At least 1 namespace must be provided if the type is set as namespace")]
    NoNamespace,
    /// Scope `cluster` with namespaces.
    #[error("accessScope should not include namespaces if the type is not set as namespace")]
    Namespaces,
    /// More than the limit.
    #[error("accessScope has {0} namespaces, and at most {1} are allowed")]
    TooMany(usize, usize),
    /// Not the name of a namespace or a pattern for one.
    #[error(
        "The specified namespace is invalid: `{0}` is not 1 to 63 lower-case letters, digits, hyphens and `*` that begin and end with a letter, digit or `*`"
    )]
    Namespace(String),
}

/// Checks the scope of an association in EKS's order. Namespaces keep their order; one that is given twice counts once.
///
/// # Errors
/// The first check that fails.
pub fn check_scope(
    kind: &str,
    namespaces: &[&str],
    limits: &Limits,
) -> Result<AccessScope, ScopeFault> {
    match kind {
        "cluster" if namespaces.is_empty() => Ok(AccessScope::Cluster),
        "cluster" => Err(ScopeFault::Namespaces),
        "namespace" if namespaces.is_empty() => Err(ScopeFault::NoNamespace),
        "namespace" => {
            let mut kept: Vec<Box<str>> = Vec::new();
            let mut seen = std::collections::HashSet::new();
            for namespace in namespaces {
                if !is_namespace_pattern(namespace) {
                    let shown = namespace.chars().take(64).collect();
                    return Err(ScopeFault::Namespace(shown));
                }
                if seen.insert(*namespace) {
                    kept.push((*namespace).into());
                }
            }
            if kept.len() > limits.namespaces {
                return Err(ScopeFault::TooMany(kept.len(), limits.namespaces));
            }
            Ok(AccessScope::Namespace(kept))
        }
        other => Err(ScopeFault::Kind(other.chars().take(64).collect())),
    }
}

fn is_namespace_pattern(text: &str) -> bool {
    let end = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'*';
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && bytes.first().is_some_and(end)
        && bytes.last().is_some_and(end)
        && bytes.iter().all(|b| end(b) || *b == b'-')
}

impl AccessScope {
    /// The wire's word for the kind of scope.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Namespace(_) => "namespace",
        }
    }

    /// The namespaces and patterns; none for scope `cluster`.
    #[must_use]
    pub fn namespaces(&self) -> &[Box<str>] {
        match self {
            Self::Cluster => &[],
            Self::Namespace(patterns) => patterns,
        }
    }

    /// Whether everything inside `other` is inside this scope too. Patterns are compared one by one: several that cover
    /// another one together only count as not covering it. At most one comparison for each pair of patterns.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Cluster, _) => true,
            (Self::Namespace(_), Self::Cluster) => false,
            // A `*` of the other pattern is a character that no namespace has: only a `*` takes it.
            (Self::Namespace(own), Self::Namespace(others)) => others
                .iter()
                .all(|other| own.iter().any(|pattern| glob::matches(pattern, other))),
        }
    }

    /// Whether a request in this namespace is inside the scope. No namespace, which is the empty one, is inside scope
    /// `cluster` only, whatever the patterns.
    #[must_use]
    pub fn reaches(&self, namespace: &str) -> bool {
        match self {
            Self::Cluster => true,
            Self::Namespace(patterns) => {
                !namespace.is_empty()
                    && patterns
                        .iter()
                        .any(|pattern| glob::matches(pattern, namespace))
            }
        }
    }
}

/// `cluster`, or the first namespaces and how many more there are.
impl fmt::Display for AccessScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 4;
        let Self::Namespace(patterns) = self else {
            return f.write_str("cluster");
        };
        for (at, pattern) in patterns.iter().take(SHOWN).enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{pattern}")?;
        }
        match patterns.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, ",+{more}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_checked_in_eks_order_and_words() {
        let check = |kind: &str, namespaces: &[&str]| {
            check_scope(kind, namespaces, &Limits::default()).map_err(|fault| fault.to_string())
        };
        assert_eq!(check("cluster", &[]), Ok(AccessScope::Cluster));
        assert_eq!(
            check("namespace", &["dev-*", "a", "dev-*"]),
            Ok(AccessScope::Namespace(vec!["dev-*".into(), "a".into()]))
        );
        for (kind, namespaces, text) in [
            (
                "namespace",
                &[][..],
                "At least 1 namespace must be provided if the type is set as namespace",
            ),
            (
                "cluster",
                &["a"],
                "accessScope should not include namespaces if the type is not set as namespace",
            ),
            (
                "Cluster",
                &["a"],
                "The specified accessScope type is invalid",
            ),
            ("", &[], "The specified accessScope type is invalid"),
            (
                "namespace",
                &["a", ""],
                "The specified namespace is invalid",
            ),
            ("namespace", &["-a"], "The specified namespace is invalid"),
            ("namespace", &["a-"], "The specified namespace is invalid"),
            ("namespace", &["A"], "The specified namespace is invalid"),
            ("namespace", &["a.b"], "The specified namespace is invalid"),
            ("namespace", &["a?"], "The specified namespace is invalid"),
        ] {
            let fault = check(kind, namespaces).unwrap_err();
            assert!(fault.starts_with(text), "{kind} {namespaces:?}: {fault}");
        }
        let long = "a".repeat(64);
        assert!(check("namespace", &[&long]).is_err());
        assert!(check("namespace", &[&long[1..]]).is_ok());
        let names: Vec<String> = (0..501).map(|at| format!("n{at}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(
            check_scope("namespace", &names, &Limits::default()),
            Err(ScopeFault::TooMany(501, 500))
        );
        assert!(check("namespace", &names[1..]).is_ok());
    }

    #[test]
    fn scopes_cover_scopes() {
        let scope = |text: &str| match text {
            "cluster" => AccessScope::Cluster,
            patterns => AccessScope::Namespace(patterns.split(',').map(Into::into).collect()),
        };
        for (wide, narrow, expected) in [
            ("cluster", "cluster", true),
            ("cluster", "*", true),
            ("*", "cluster", false),
            ("*", "dev-*,a", true),
            ("a,b", "b,a,b", true),
            ("a,b", "a", true),
            ("a", "a,b", false),
            ("dev-*", "dev-a,dev-*-b", true),
            ("dev-*", "dev*", false),
            ("dev-a", "dev-*", false),
            ("*a*", "*-a-*", true),
            ("a*b", "a*", false),
            ("a**", "a*", true),
            ("a*", "a**", true),
        ] {
            assert_eq!(
                scope(wide).covers(&scope(narrow)),
                expected,
                "{wide} {narrow}"
            );
        }
    }

    #[test]
    fn no_namespace_is_inside_no_pattern() {
        let all = AccessScope::Namespace(vec!["*".into()]);
        assert!(all.reaches("dev"));
        assert!(!all.reaches(""));
        assert!(AccessScope::Cluster.reaches(""));
        assert_eq!(all.to_string(), "*");
        let many = AccessScope::Namespace(["a", "b", "c", "d", "e", "f"].map(Into::into).into());
        assert_eq!(many.to_string(), "a,b,c,d,+2");
    }
}
