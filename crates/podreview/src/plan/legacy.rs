//! What pods and namespaces of kube2iam and kiam say (instance metadata spec, section 4).

use std::collections::BTreeMap;

use crate::fact::ClusterFacts;

/// The annotation of pods, the same for both.
pub(super) const ROLE: &str = "iam.amazonaws.com/role";
const EXTERNAL_ID: &str = "iam.amazonaws.com/external-id";
const ALLOWED: &str = "iam.amazonaws.com/allowed-roles";
const PERMITTED: &str = "iam.amazonaws.com/permitted";

/// The role that a pod asks for, as an ARN; short names are completed with `base`, else with the cluster's account.
pub(super) fn role_of(
    annotations: &BTreeMap<String, String>,
    cluster: &ClusterFacts,
    base: Option<&str>,
) -> Option<String> {
    let role = annotations.get(ROLE).filter(|role| !role.is_empty())?;
    if role
        .get(..4)
        .is_some_and(|head| head.eq_ignore_ascii_case("arn:"))
    {
        return Some(role.clone());
    }
    let role = role.trim_start_matches('/');
    Some(match base {
        Some(base) => format!("{base}{role}"),
        None => format!(
            "arn:{}:iam::{}:role/{role}",
            cluster.partition(),
            cluster.account()
        ),
    })
}

/// The external id that a pod wants its role to be assumed with.
pub(super) fn external_id(annotations: &BTreeMap<String, String>) -> Option<&str> {
    annotations.get(EXTERNAL_ID).map(String::as_str)
}

/// Whether the old tool gave the role in this namespace. A role that it refused must not come by an association.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Permitted {
    /// It did, or had no limits.
    Yes,
    /// It did not, for this reason.
    No(String),
    /// The expression has to be judged by a person.
    Unclear(String),
}

/// kube2iam: a list of globs, in force where the tool runs with `--namespace-restrictions`; without the annotation it allowed every
/// role unless it was told to restrict, which only its arguments tell.
pub(super) fn kube2iam(namespace: &BTreeMap<String, String>, role: &str, base: &str) -> Permitted {
    let Some(text) = namespace.get(ALLOWED) else {
        return Permitted::Yes;
    };
    let Ok(list) = serde_json::from_str::<Vec<String>>(text) else {
        return Permitted::No(format!(
            "{ALLOWED} of the namespace is no JSON list of texts"
        ));
    };
    let matches = list.iter().any(|pattern| {
        let full = match pattern.starts_with("arn:") {
            true => pattern.clone(),
            false => format!("{base}{pattern}"),
        };
        glob(&full, role)
    });
    match matches {
        true => Permitted::Yes,
        false => Permitted::No(format!("{ALLOWED} of the namespace does not list it")),
    }
}

/// kiam: a required expression, anchored. Plain names and `.*` are judged here; others are not.
pub(super) fn kiam(namespace: &BTreeMap<String, String>, role: &str) -> Permitted {
    let Some(text) = namespace.get(PERMITTED).filter(|text| !text.is_empty()) else {
        return Permitted::No(format!(
            "the namespace has no {PERMITTED}, so kiam gave no role"
        ));
    };
    let plain = text.trim_start_matches('^').trim_end_matches('$');
    let name = role.rsplit('/').next().unwrap_or(role);
    let is_literal = plain
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "-_/:@=,".contains(c));
    match plain {
        ".*" | ".+" => Permitted::Yes,
        literal if literal == role || literal == name => Permitted::Yes,
        _ if is_literal => Permitted::No(format!("{PERMITTED} of the namespace does not match it")),
        _ => Permitted::Unclear(format!(
            "whether {PERMITTED} `{text}` of the namespace matches it was not judged"
        )),
    }
}

/// `*` and `?`, anchored.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(c) = text.get(t) {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(wanted) if *wanted == '?' || wanted == c => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    p = at + 1;
                    t = from + 1;
                    star = Some((at, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespace_limits_of_both_tools() {
        let role = "arn:aws:iam::111122223333:role/orchard-reader";
        let base = "arn:aws:iam::111122223333:role/";
        let with = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let rows = [
            (r#"["orchard-*"]"#, true),
            (r#"["reader"]"#, false),
            (r#"["arn:aws:iam::*:role/orchard-reade?"]"#, true),
            ("orchard-reader", false),
            ("[]", false),
        ];
        for (list, wanted) in rows {
            let answer = kube2iam(&with(ALLOWED, list), role, base);
            assert_eq!(answer == Permitted::Yes, wanted, "{list}: {answer:?}");
        }
        assert_eq!(kube2iam(&BTreeMap::new(), role, base), Permitted::Yes);
        assert!(matches!(kiam(&BTreeMap::new(), role), Permitted::No(_)));
        let rows = [
            (".*", 0),
            ("^orchard-reader$", 0),
            ("other", 1),
            ("orchard-(reader|writer)", 2),
        ];
        for (expression, wanted) in rows {
            let answer = match kiam(&with(PERMITTED, expression), role) {
                Permitted::Yes => 0,
                Permitted::No(_) => 1,
                Permitted::Unclear(_) => 2,
            };
            assert_eq!(answer, wanted, "{expression}");
        }
    }
}
