//! Usernames of access entries: templates, defaults and expansion (EKS API spec, section 7.5).

use crate::entry::reserved_prefix;
use crate::entry_type::EntryType;
use crate::principal::{Principal, PrincipalKind};

/// What stands for the session name with every `@` replaced by `-`.
const SESSION_NAME: &str = "SessionName";
/// What stands for the session name as it is.
const SESSION_NAME_RAW: &str = "SessionNameRaw";
/// What stands for the private DNS name of the node; only in the default usernames of nodes.
const NODE_NAME: &str = "EC2PrivateDNSName";

/// The username EKS gives an entry that names none: a template for roles, the ARN for users and roots.
#[must_use]
pub fn default_username(principal: &Principal, entry_type: EntryType) -> String {
    match entry_type {
        EntryType::Standard => match principal.kind() {
            PrincipalKind::Role => format!(
                "arn:{}:sts::{}:assumed-role/{}/{{{{SessionName}}}}",
                principal.partition(),
                principal.account(),
                principal.name()
            ),
            PrincipalKind::User | PrincipalKind::Root => principal.arn().to_owned(),
        },
        EntryType::Ec2Linux | EntryType::Ec2Windows | EntryType::Ec2 => {
            "system:node:{{EC2PrivateDNSName}}".to_owned()
        }
        EntryType::FargateLinux | EntryType::HybridLinux | EntryType::HyperpodLinux => {
            "system:node:{{SessionName}}".to_owned()
        }
    }
}

/// What is wrong with the text of a username that a caller gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateFault {
    /// A brace that belongs to no placeholder.
    #[error(
        "a brace that belongs to no placeholder; the placeholders are {{{{SessionName}}}} and {{{{SessionNameRaw}}}}"
    )]
    Brace,
    /// A placeholder that EKS does not offer to callers.
    #[error("only the placeholders {{{{SessionName}}}} and {{{{SessionNameRaw}}}} may be used")]
    Placeholder,
    /// No colon stands before the placeholder.
    #[error("a colon must stand somewhere before {{{{SessionName}}}} or {{{{SessionNameRaw}}}}")]
    NoColon,
    /// Users and roots have no session name.
    #[error("a placeholder may only be used when the principal is an IAM role")]
    NotARole,
}

/// Checks the braces of a username that a caller gave for an entry of type STANDARD.
///
/// Because of the colon no session name, which whoever assumes the role chooses, can make up the whole username or
/// begin it with a reserved prefix.
pub(crate) fn check_template(text: &str, kind: PrincipalKind) -> Result<(), TemplateFault> {
    check_placeholders(text, &[SESSION_NAME, SESSION_NAME_RAW])?;
    if kind != PrincipalKind::Role && text.contains('{') {
        return Err(TemplateFault::NotARole);
    }
    Ok(())
}

/// Checks that all braces belong to placeholders from a list, and that a colon stands before a session name.
pub(crate) fn check_placeholders(text: &str, known: &[&str]) -> Result<(), TemplateFault> {
    let mut has_colon = false;
    for piece in pieces(text) {
        match piece {
            Piece::Literal(literal) if literal.contains(['{', '}']) => {
                return Err(TemplateFault::Brace);
            }
            Piece::Literal(literal) => has_colon |= literal.contains(':'),
            Piece::Placeholder(name) if !known.contains(&name) => {
                return Err(TemplateFault::Placeholder);
            }
            Piece::Placeholder(SESSION_NAME | SESSION_NAME_RAW) if !has_colon => {
                return Err(TemplateFault::NoColon);
            }
            Piece::Placeholder(_) => {}
        }
    }
    Ok(())
}

/// Why a username cannot be made for a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExpandFault {
    /// The private DNS name of the node is needed and not known.
    #[error("the private DNS name of the node is not known")]
    NoNodeName,
    /// The caller has no session name: it is a user or a root.
    #[error("the caller has no session name")]
    NoSessionName,
    /// The template names something that has no value.
    #[error("the username template has an unknown placeholder")]
    Unknown,
    /// A value makes the username begin with a reserved prefix.
    #[error("the username would begin with {0}, which is reserved")]
    Reserved(&'static str),
}

/// What a username template is expanded with.
#[derive(Debug, Clone, Copy, Default)]
pub struct UsernameFacts<'a> {
    /// The session name; empty for users and roots.
    pub session_name: &'a str,
    /// The private DNS name of the instance whose id the session name is, if known.
    pub node_name: Option<&'a str>,
    /// The name of the role without its path; only templates of access rules name it.
    pub role_name: &'a str,
    /// The account of the caller; only templates of access rules name it.
    pub account: &'a str,
}

/// Whether expanding needs [`UsernameFacts::node_name`].
#[must_use]
pub fn needs_node_name(template: &str) -> bool {
    pieces(template).any(|piece| piece == Piece::Placeholder(NODE_NAME))
}

/// Expands the username of an entry, in one pass: what a placeholder stands for is never looked at again.
///
/// Nodes of Auto Mode (`EC2`) whose private DNS name is not known are called by their session name if that is an
/// instance id.
///
/// # Errors
/// When a value is missing. The caller is then not authenticated.
pub fn expand_username(
    template: &str,
    entry_type: EntryType,
    facts: &UsernameFacts<'_>,
) -> Result<String, ExpandFault> {
    let mut out = String::with_capacity(template.len() + facts.session_name.len());
    let present = |value: &str| match value {
        "" => Err(ExpandFault::NoSessionName),
        _ => Ok(()),
    };
    for piece in pieces(template) {
        match piece {
            Piece::Literal(literal) => out.push_str(literal),
            Piece::Placeholder(SESSION_NAME) => {
                present(facts.session_name)?;
                let session = facts.session_name.chars();
                out.extend(session.map(|c| if c == '@' { '-' } else { c }));
            }
            Piece::Placeholder(SESSION_NAME_RAW) => {
                present(facts.session_name)?;
                out.push_str(facts.session_name);
            }
            Piece::Placeholder(NODE_NAME) => {
                out.push_str(node_name(entry_type, facts).ok_or(ExpandFault::NoNodeName)?);
            }
            Piece::Placeholder(ROLE_NAME) if !facts.role_name.is_empty() => {
                out.push_str(facts.role_name);
            }
            Piece::Placeholder(ACCOUNT_ID) if !facts.account.is_empty() => {
                out.push_str(facts.account);
            }
            Piece::Placeholder(_) => return Err(ExpandFault::Unknown),
        }
    }
    // Only the server makes usernames that begin so literally: those of nodes.
    match reserved_prefix(&out) {
        Some(prefix) if !template.starts_with(prefix) => Err(ExpandFault::Reserved(prefix)),
        _ => Ok(out),
    }
}

/// The role's name, in templates of access rules.
const ROLE_NAME: &str = "RoleName";
/// The caller's account, in templates of access rules.
const ACCOUNT_ID: &str = "AccountID";

/// What templates of access rules may name.
pub(crate) const OF_RULES: [&str; 4] = [SESSION_NAME, SESSION_NAME_RAW, ROLE_NAME, ACCOUNT_ID];

/// Whether the text names what tells the callers of a rule apart.
pub(crate) fn tells_callers_apart(template: &str) -> bool {
    let apart = [SESSION_NAME, SESSION_NAME_RAW, ROLE_NAME];
    pieces(template).any(|piece| matches!(piece, Piece::Placeholder(name) if apart.contains(&name)))
}

fn node_name<'a>(entry_type: EntryType, facts: &UsernameFacts<'a>) -> Option<&'a str> {
    let known = facts.node_name.filter(|name| !name.is_empty());
    let instance = || Some(facts.session_name).filter(|session| is_instance_id(session));
    match entry_type {
        EntryType::Ec2 => known.or_else(instance),
        _ => known,
    }
}

/// `i-` and 8 or 17 hexadecimal digits.
fn is_instance_id(text: &str) -> bool {
    text.strip_prefix("i-").is_some_and(|digits| {
        matches!(digits.len(), 8 | 17)
            && digits
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece<'a> {
    Literal(&'a str),
    Placeholder(&'a str),
}

/// The text cut at its `{{name}}`. Braces that belong to none stay in the literal pieces.
fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = text;
    let mut held: Option<&str> = None;
    std::iter::from_fn(move || {
        if let Some(name) = held.take() {
            return Some(Piece::Placeholder(name));
        }
        if rest.is_empty() {
            return None;
        }
        let found = rest.find("{{").and_then(|start| {
            let inner = rest.get(start + 2..)?;
            let length = inner.find(['{', '}'])?;
            let behind = inner.get(length..)?.strip_prefix("}}")?;
            Some((rest.get(..start)?, inner.get(..length)?, behind))
        });
        let Some((before, name, behind)) = found else {
            return Some(Piece::Literal(std::mem::take(&mut rest)));
        };
        rest = behind;
        if before.is_empty() {
            return Some(Piece::Placeholder(name));
        }
        held = Some(name);
        Some(Piece::Literal(before))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(rest: &str) -> Principal {
        Principal::parse(&format!("arn:aws-cn:iam::111122223333:{rest}")).unwrap()
    }

    #[test]
    fn defaults_by_type_and_principal() {
        for (rest, entry_type, expected) in [
            (
                "role/team/Dev",
                EntryType::Standard,
                "arn:aws-cn:sts::111122223333:assumed-role/Dev/{{SessionName}}",
            ),
            (
                "user/a/ci",
                EntryType::Standard,
                "arn:aws-cn:iam::111122223333:user/a/ci",
            ),
            (
                "root",
                EntryType::Standard,
                "arn:aws-cn:iam::111122223333:root",
            ),
            (
                "role/N",
                EntryType::Ec2Linux,
                "system:node:{{EC2PrivateDNSName}}",
            ),
            (
                "role/N",
                EntryType::Ec2Windows,
                "system:node:{{EC2PrivateDNSName}}",
            ),
            (
                "role/N",
                EntryType::Ec2,
                "system:node:{{EC2PrivateDNSName}}",
            ),
            (
                "role/N",
                EntryType::FargateLinux,
                "system:node:{{SessionName}}",
            ),
            (
                "role/N",
                EntryType::HybridLinux,
                "system:node:{{SessionName}}",
            ),
            (
                "role/N",
                EntryType::HyperpodLinux,
                "system:node:{{SessionName}}",
            ),
        ] {
            assert_eq!(default_username(&principal(rest), entry_type), expected);
        }
    }

    #[test]
    fn placeholders_need_a_colon_before_them_and_a_role() {
        use TemplateFault::{Brace, NoColon, NotARole, Placeholder};
        for (text, kind, expected) in [
            ("ops:{{SessionName}}", PrincipalKind::Role, Ok(())),
            ("ops:{{SessionNameRaw}}-x", PrincipalKind::Role, Ok(())),
            (
                "a:{{SessionName}}{{SessionNameRaw}}",
                PrincipalKind::Role,
                Ok(()),
            ),
            ("plain", PrincipalKind::User, Ok(())),
            ("{{SessionName}}", PrincipalKind::Role, Err(NoColon)),
            ("ops-{{SessionName}}", PrincipalKind::Role, Err(NoColon)),
            ("ops-{{SessionName}}:", PrincipalKind::Role, Err(NoColon)),
            ("a:{{AccountID}}", PrincipalKind::Role, Err(Placeholder)),
            (
                "a:{{EC2PrivateDNSName}}",
                PrincipalKind::Role,
                Err(Placeholder),
            ),
            ("a:{{ SessionName }}", PrincipalKind::Role, Err(Placeholder)),
            ("a:{{}}", PrincipalKind::Role, Err(Placeholder)),
            ("a:{{SessionName}", PrincipalKind::Role, Err(Brace)),
            ("a:{{{SessionName}}}", PrincipalKind::Role, Err(Brace)),
            ("a:}}{{SessionName}}", PrincipalKind::Role, Err(Brace)),
            ("a{", PrincipalKind::Role, Err(Brace)),
            ("a:{{SessionName}}", PrincipalKind::User, Err(NotARole)),
            ("a:{{SessionName}}", PrincipalKind::Root, Err(NotARole)),
        ] {
            assert_eq!(check_template(text, kind), expected, "{text}");
        }
    }

    #[test]
    fn expansion_is_one_pass() {
        let facts = |session_name, node_name| UsernameFacts {
            session_name,
            node_name,
            ..UsernameFacts::default()
        };
        use EntryType::{Ec2, Ec2Linux, FargateLinux, Standard};
        let node = "system:node:{{EC2PrivateDNSName}}";
        for (template, entry_type, session, node_name, expected) in [
            ("a:{{SessionName}}", Standard, "ana@x", None, Ok("a:ana-x")),
            (
                "a:{{SessionNameRaw}}",
                Standard,
                "ana@x",
                None,
                Ok("a:ana@x"),
            ),
            (
                "a:{{SessionNameRaw}}",
                Standard,
                "{{SessionName}}",
                None,
                Ok("a:{{SessionName}}"),
            ),
            (
                "arn:aws:iam::1:user/ci",
                Standard,
                "",
                None,
                Ok("arn:aws:iam::1:user/ci"),
            ),
            (
                "a:{{SessionName}}",
                Standard,
                "",
                None,
                Err(ExpandFault::NoSessionName),
            ),
            (
                node,
                Ec2Linux,
                "i-0123456789abcdef0",
                Some("n.internal"),
                Ok("system:node:n.internal"),
            ),
            (
                node,
                Ec2Linux,
                "i-0123456789abcdef0",
                None,
                Err(ExpandFault::NoNodeName),
            ),
            (
                node,
                Ec2Linux,
                "i-0123456789abcdef0",
                Some(""),
                Err(ExpandFault::NoNodeName),
            ),
            (
                node,
                Ec2,
                "i-0123456789abcdef0",
                None,
                Ok("system:node:i-0123456789abcdef0"),
            ),
            (node, Ec2, "ana", None, Err(ExpandFault::NoNodeName)),
            (
                "system:node:{{SessionName}}",
                FargateLinux,
                "fp",
                None,
                Ok("system:node:fp"),
            ),
            ("a:{{Else}}", Standard, "x", None, Err(ExpandFault::Unknown)),
        ] {
            let expanded = expand_username(template, entry_type, &facts(session, node_name));
            assert_eq!(
                expanded,
                expected.map(str::to_owned),
                "{template} {session}"
            );
        }
        assert!(needs_node_name(node) && !needs_node_name("a:{{SessionName}}"));
    }
}
