//! What is legal in an entry and still not what its author wants.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use countersign_arn::CallerKind;

use crate::decode::Context;
use crate::entry::{AccountEntry, Entry, Matcher};
use crate::finding::{Code, Findings, Place, Position, note, shown};
use crate::{BackendKind, Template, Variable};

/// Where the parts of an entry stand.
pub(crate) struct Places<'a> {
    pub(crate) entry: &'a Place,
    pub(crate) username: &'a Place,
    pub(crate) groups: &'a [Option<Position>],
}

/// Username that makes a node of every session whose name is an instance id.
pub(crate) const NODE_BY_DNS_NAME: &str = "system:node:{{EC2PrivateDNSName}}";
/// Username that makes a node of every session, named by itself.
pub(crate) const NODE_BY_SESSION: &str = "system:node:{{SessionName}}";
pub(crate) const NODE_PREFIX: &str = "system:node:";
pub(crate) const NODES: &str = "system:nodes";
const BOOTSTRAPPERS: &str = "system:bootstrappers";
const MASTERS: &str = "system:masters";

/// Looks at one entry.
pub(crate) fn entry(
    entry: &Entry,
    places: &Places<'_>,
    context: Context<'_>,
    findings: &mut Findings,
) {
    username(entry, places.username, findings);
    let node = entry.username.as_str().starts_with(NODE_PREFIX);
    for (n, group) in entry.groups.iter().enumerate() {
        let at = places
            .entry
            .clone()
            .at(places.groups.get(n).copied().flatten());
        self::group(group, node, &at, findings);
        if n < 128
            && entry
                .groups
                .iter()
                .take(n)
                .any(|earlier| earlier.as_str() == group.as_str())
        {
            findings.push(Code::DuplicateGroup, &at, || {
                note(format!("group {} stands twice", shown(group.as_str())))
            });
        }
    }
    if entry.groups.len() > 100 {
        findings.push(Code::TooManyGroups, places.entry, || {
            note(format!("{} groups in one entry", entry.groups.len()))
        });
    }
    if node {
        node_entry(entry, places.username, context, findings);
    }
    if !entry.conditions.session_names.is_empty() {
        findings.push(Code::SessionNamesAdvisory, places.entry, || {
            note("whoever may assume the role chooses the session name, unless the trust policy pins `sts:RoleSessionName`")
        });
    }
    if let Matcher::Sso(_) = entry.matcher {
        findings.push(Code::SsoNotPortable, places.entry, || {
            note("`sso` entries are ignored by EKS, and by aws-iam-authenticator without the feature gate SSORoleMatch or with a `partition`")
        });
    }
}

fn username(entry: &Entry, at: &Place, findings: &mut Findings) {
    let username = &entry.username;
    unknown_variables(username, at, findings);
    let text = username.as_str();
    let names_session = username.has(|v| {
        matches!(
            v,
            Variable::SessionName | Variable::SessionNameRaw | Variable::SourceIdentity
        )
    });
    let node = text.starts_with(NODE_PREFIX);
    if username.has(|v| *v == Variable::AccessKeyId) {
        findings.push(Code::AccessKeyIdInUsername, at, || {
            note("an access key id is no secret and changes with every session; give no rights to such a username")
        });
    }
    if username.has(|v| *v == Variable::SessionName) && !node {
        findings.push(Code::SessionNameConflates, at, || {
            note("{{SessionName}} writes `a@b` and `a-b` alike").hint("use {{SessionNameRaw}}")
        });
    }
    if names_session && !username.literal_prefix().contains(':') && !colon_before_session(username)
    {
        findings.push(Code::UsernameWithoutPrefix, at, || {
            note("whoever chooses the session name chooses the username")
                .hint("put a literal prefix with a colon before it: `ops:{{SessionNameRaw}}`")
        });
    }
    if username.literal_prefix().starts_with("system:") && !node {
        findings.push(Code::SystemUsername, at, || {
            note(format!(
                "{} lies in the space of names that Kubernetes trusts",
                shown(text)
            ))
            .hint("only nodes have usernames that begin with `system:`")
        });
    }
    let of_role = match &entry.matcher {
        Matcher::Arn(arn) => arn
            .caller
            .as_ref()
            .is_some_and(|c| matches!(c.kind(), CallerKind::Role | CallerKind::AssumedRole)),
        Matcher::Sso(_) => true,
        Matcher::Pattern(_) => false,
    };
    if of_role && !node && !names_session && !username.has(|v| *v == Variable::AccessKeyId) {
        findings.push(Code::SharedUsername, at, || {
            note(format!(
                "all sessions of the role share the username {}, which hides who acted",
                shown(text)
            ))
            .hint("add {{SessionNameRaw}} behind a prefix with a colon")
        });
    }
}

/// Whether literal text with a colon stands somewhere before the first session variable.
fn colon_before_session(username: &Template) -> bool {
    let text = username.as_str();
    [
        "{{SessionName}}",
        "{{SessionNameRaw}}",
        "{{SourceIdentity}}",
    ]
    .iter()
    .filter_map(|variable| text.find(variable))
    .min()
    .and_then(|at| text.get(..at))
    .is_some_and(|before| before.contains(':'))
}

fn group(group: &Template, node: bool, at: &Place, findings: &mut Findings) {
    unknown_variables(group, at, findings);
    let text = group.as_str();
    if group.has(|v| matches!(v, Variable::SessionName | Variable::SessionNameRaw)) {
        findings.push(Code::SessionNameInGroup, at, || {
            note("the session name decides about a group, and whoever may assume the role chooses it")
                .hint("pin `sts:RoleSessionName` in the role's trust policy, or name the group literally")
        });
    }
    if group.has(|v| *v == Variable::AccessKeyId) {
        findings.push(Code::AccessKeyIdInGroup, at, || {
            note("an access key id is no secret; it must not decide about a group")
        });
    }
    if text.contains(char::is_whitespace) || text.contains(',') {
        findings.push(Code::GroupWhiteSpace, at, || {
            note(format!("{} is one group", shown(text)))
                .hint("if two are meant, write each as its own item, with the same indentation")
        });
    }
    if text == MASTERS {
        findings.push(Code::SystemMasters, at, || {
            note("`system:masters` may do everything, and RBAC cannot limit it")
                .hint("bind an own group to the ClusterRole that is needed")
        });
    }
    if !node && matches!(text, NODES | BOOTSTRAPPERS) {
        findings.push(Code::NodeGroups, at, || {
            note(format!("{} on an entry that is not a node's", shown(text)))
        });
    }
}

fn node_entry(entry: &Entry, at: &Place, context: Context<'_>, findings: &mut Findings) {
    let text = entry.username.as_str();
    let has = |wanted: &str| entry.groups.iter().any(|group| group.as_str() == wanted);
    // Entries that EKS writes into a DynamicFile have `system:nodes` alone.
    let bootstraps = matches!(
        context.backend,
        BackendKind::EksConfigMap | BackendKind::MountedFile
    );
    if !matches!(text, NODE_BY_DNS_NAME | NODE_BY_SESSION) {
        findings.push(Code::NodeEntryIncomplete, at, || {
            note(format!("{} is an odd username for a node", shown(text))).hint(format!(
                "use `{NODE_BY_DNS_NAME}`, or `{NODE_BY_SESSION}` for Fargate and hybrid nodes"
            ))
        });
    } else if !has(NODES) || (bootstraps && !has(BOOTSTRAPPERS)) {
        findings.push(Code::NodeEntryIncomplete, at, || {
            note(format!(
                "nodes need the groups `{NODES}` and `{BOOTSTRAPPERS}` to join"
            ))
        });
    }
    if text == NODE_BY_SESSION {
        findings.push(Code::NodeNameFromSession, at, || {
            note("the session name is the node's name: safe only if the role's trust policy lets nobody choose it")
        });
    }
}

fn unknown_variables(template: &Template, at: &Place, findings: &mut Findings) {
    for name in template.unknown_variables() {
        findings.push(Code::UnknownVariable, at, || {
            let finding = note(format!(
                "{} is no variable and stays as it is",
                shown(&format!("{{{{{name}}}}}"))
            ));
            match crate::finding::did_you_mean(name.trim(), VARIABLES) {
                Some(meant) => finding.hint(format!("did you mean `{{{{{meant}}}}}`?")),
                None => finding,
            }
        });
    }
}

const VARIABLES: &[&str] = &[
    "AccountID",
    "SessionName",
    "SessionNameRaw",
    "AccessKeyID",
    "EC2PrivateDNSName",
    "RoleName",
    "UserName",
    "SourceIdentity",
];

/// Looks for the same principal in several entries of one list (rule P15: the last one wins completely).
pub(crate) fn duplicates(entries: &[Arc<Entry>], by_user_id: bool, findings: &mut Findings) {
    let mut seen: HashMap<Cow<'_, str>, &Entry> = HashMap::with_capacity(entries.len());
    for entry in entries {
        let (code, key) = if by_user_id {
            match &entry.conditions.user_id {
                Some(id) => (Code::DuplicateUserId, Cow::Borrowed(&**id)),
                None => continue,
            }
        } else {
            match key(&entry.matcher) {
                Some(key) => (Code::DuplicateArn, key),
                None => continue,
            }
        };
        let Some(earlier) = seen.insert(key, entry) else {
            continue;
        };
        // One entry for all sessions and one for some of them, or for others, do not shadow each other.
        let (a, b) = (
            &earlier.conditions.session_names,
            &entry.conditions.session_names,
        );
        let apart = a.is_empty() != b.is_empty()
            || (!a.is_empty() && a.iter().all(|name| !b.contains(name)));
        if apart {
            continue;
        }
        findings.push(code, &earlier.rule.place(), || {
            let same = earlier.username == entry.username && earlier.groups == entry.groups;
            let place = match entry.rule.position {
                Some(position) => format!("entry {} (line {})", entry.rule.index, position.line),
                None => format!("entry {}", entry.rule.index),
            };
            let finding = note(format!(
                "{} is mapped again by {place}, which wins completely; groups are not merged",
                entry.matcher
            ));
            if same {
                finding.hint("remove one of them; they are equal")
            } else {
                finding.hint(format!(
                    "remove entry {}, or merge it into the other",
                    earlier.rule.index
                ))
            }
        });
    }
}

fn key(matcher: &Matcher) -> Option<Cow<'_, str>> {
    match matcher {
        Matcher::Arn(arn) => arn.key.as_deref().map(Cow::Borrowed),
        Matcher::Sso(sso) => Some(Cow::Owned(format!(
            "{}/{}/{}",
            sso.partition,
            sso.account,
            sso.permission_set.to_ascii_lowercase()
        ))),
        Matcher::Pattern(_) => None,
    }
}

/// Looks at the accounts.
pub(crate) fn accounts(accounts: &[AccountEntry], findings: &mut Findings) {
    let mut seen = HashMap::new();
    for entry in accounts {
        let account = entry.account;
        findings.push(Code::AccountMapped, &entry.rule.place(), || {
            note(format!(
                "every principal of account {account} authenticates, and all sessions of a role share one username"
            ))
            .hint("map the roles that need access")
        });
        if let Some(earlier) = seen.insert(account, entry.rule.index) {
            findings.push(Code::DuplicateAccount, &entry.rule.place(), || {
                note(format!("account {account} is entry {earlier} already"))
            });
        }
    }
}
