//! What would change a "no": each piece is checked against the same decision functions before it is offered.

use countersign_access::RESERVED_PREFIXES;
use countersign_arn::CallerKind;
use countersign_rbac::{Action, Request, ResourceAction, Where, split_service_account};

use crate::model::Model;
use crate::principal::{Principal, Standing, User};
use crate::rbac;
use crate::report::{Help, MappingSource, Review};
use crate::snapshot::{EntryFacts, ScopeFacts, ScopeKind};

/// Pieces of advice of one kind.
const MAX_EACH: usize = 3;
/// Service accounts that are tried for impersonation.
const MAX_ACCOUNTS: usize = 100;

/// What would let a principal do it.
pub(crate) fn for_principal(
    model: &Model,
    review: &Review,
    principal: &Principal,
    entry: Option<&EntryFacts>,
    dead: Option<&EntryFacts>,
) -> Vec<Help> {
    let mut help = Vec::new();
    let cluster = cluster_name(model);
    let arn = principal.canonical();
    if principal.standing == Standing::Absent {
        help.push(Help {
            what: "the principal has to exist first".to_owned(),
            command: None,
        });
        return help;
    }
    if let Some(dead) = dead {
        rebind(model, review, dead, &mut help);
        return help;
    }
    let mapped = review.identity.is_some();
    let federated = principal.arn.kind() == CallerKind::FederatedUser;
    match entry {
        Some(entry) => {
            widen(model, review, entry, &mut help);
            let widened = !help.is_empty();
            groups(model, review, Some(entry), &mut help);
            // Another policy beside one that would do is more than is needed.
            if !widened {
                policies(model, review, entry, &mut help);
            }
        }
        None if mapped => {
            groups(model, review, None, &mut help);
            roles(review, &mut help);
        }
        None if federated => {}
        None if model.mode().reads_entries() && model.snapshot.is_some() => {
            let command = format!(
                "aws eks create-access-entry --cluster-name {cluster} --principal-arn {}",
                quoted(&arn)
            );
            help.push(Help {
                what: "an access entry for the principal".to_owned(),
                command: Some(command),
            });
            let candidates = model.policies.that_allow(&review.action.action());
            if let Some(policy) = candidates.first() {
                let scope = scope_for(review, &policy.scope);
                help.push(Help {
                    what: format!("and the access policy {} on it", policy.name),
                    command: Some(associate(&cluster, &arn, &policy.arn, &scope)),
                });
            }
        }
        None if model.snapshot.is_some() => help.push(Help {
            what: format!(
                "a row for {} in aws-auth: mode CONFIG_MAP reads nothing else",
                principal.arn.canonical_without_role_path()
            ),
            command: None,
        }),
        None => {}
    }
    help
}

/// What would let a Kubernetes user do it.
pub(crate) fn for_user(model: &Model, review: &Review, user: &User) -> Vec<Help> {
    let mut help = Vec::new();
    // Nobody puts a service account, a node or the anonymous user into a group by hand.
    if !user.name.starts_with("system:") {
        groups(model, review, None, &mut help);
    }
    roles(review, &mut help);
    help
}

/// Notes the service accounts that the caller may act as and that may do it (EKS API spec, section 9.6): `edit` and the
/// policies like it contain that right.
pub(crate) fn impersonation(
    model: &Model,
    review: &mut Review,
    user: &User,
    entry: Option<&EntryFacts>,
) {
    let action = review.action.clone();
    if action.verb.starts_with("impersonate") {
        return;
    }
    let who = model
        .index
        .who_can(&action.action(), Where::ActionNamespace, &model.catalog);
    let mut accounts: Vec<(String, String)> = Vec::new();
    for chain in &who.granted {
        let Some(subject) = chain.subject() else {
            continue;
        };
        let account = match subject.kind.as_str() {
            "ServiceAccount" => {
                let namespace = subject.namespace_in(&chain.binding.metadata.namespace);
                (namespace.to_owned(), subject.name.clone())
            }
            "User" => match split_service_account(&subject.name) {
                Some((namespace, name)) => (namespace.to_owned(), name.to_owned()),
                None => continue,
            },
            _ => continue,
        };
        if !accounts.contains(&account) && accounts.len() < MAX_ACCOUNTS {
            accounts.push(account);
        }
    }
    let mut shown = 0;
    for (namespace, name) in &accounts {
        let own = format!("system:serviceaccount:{namespace}:{name}");
        if user.name == own || shown >= MAX_EACH {
            continue;
        }
        let impersonate = Action::Resource(ResourceAction {
            verb: "impersonate",
            resource: "serviceaccounts",
            namespace,
            name,
            ..ResourceAction::default()
        });
        if allows(model, user, entry, &impersonate) {
            shown += 1;
            review.notes.push(format!(
                "may act as ServiceAccount {namespace}/{name} (verb impersonate), which may: \
                 `kubectl --as {own}`"
            ));
        }
    }
}

/// Whether user or entry is allowed an action.
fn allows(model: &Model, user: &User, entry: Option<&EntryFacts>, action: &Action<'_>) -> bool {
    let request = Request {
        user: countersign_rbac::User::new(&user.name, &user.groups),
        action: *action,
    };
    let by_policy = |entry: &EntryFacts| {
        entry.entry_type.takes_policies()
            && entry
                .associated_access_policies
                .iter()
                .any(|policy| model.policies.verdict(entry, None, policy, action).0.allows)
    };
    model.index.authorize_or_superuser(&request).is_allowed() || entry.is_some_and(by_policy)
}

fn rebind(model: &Model, review: &Review, dead: &EntryFacts, help: &mut Vec<Help>) {
    let cluster = cluster_name(model);
    let user = User::new(&*dead.username, dead.kubernetes_groups.clone(), false);
    let enough = allows(model, &user, Some(dead), &review.action.action());
    let then = if enough {
        "which then allows it"
    } else {
        "which alone does not allow it"
    };
    help.push(Help {
        what: format!("rebinding the entry to the principal that has the name now, {then}"),
        command: Some(format!(
            "countersign access rebind --cluster {cluster} {}",
            quoted(&dead.principal_arn)
        )),
    });
}

/// A policy that is there and would allow it in another scope.
fn widen(model: &Model, review: &Review, entry: &EntryFacts, help: &mut Vec<Help>) {
    let action = review.action.action();
    for policy in &entry.associated_access_policies {
        let mut wider = policy.access_scope.clone();
        let namespace = &review.action.namespace;
        if policy.access_scope.kind == ScopeKind::Namespace && !namespace.is_empty() {
            wider.namespaces.push(namespace.clone());
        } else {
            wider = ScopeFacts {
                kind: ScopeKind::Cluster,
                namespaces: Vec::new(),
            };
        }
        if wider == policy.access_scope {
            continue;
        }
        let mut changed = policy.clone();
        changed.access_scope = wider;
        if !model
            .policies
            .verdict(entry, None, &changed, &action)
            .0
            .allows
        {
            continue;
        }
        help.push(Help {
            what: format!(
                "{} with scope {} instead of {}",
                policy.name(),
                changed.access_scope,
                policy.access_scope
            ),
            command: Some(associate(
                &cluster_name(model),
                &entry.principal_arn,
                &policy.policy_arn,
                &changed.access_scope,
            )),
        });
        if help.len() >= MAX_EACH {
            return;
        }
    }
}

/// The smallest policies that would allow it.
fn policies(model: &Model, review: &Review, entry: &EntryFacts, help: &mut Vec<Help>) {
    if !entry.entry_type.takes_policies() {
        return;
    }
    let candidates = model.policies.that_allow(&review.action.action());
    let has = |arn: &str| {
        entry
            .associated_access_policies
            .iter()
            .any(|policy| policy.policy_arn == arn)
    };
    for policy in candidates.iter().filter(|p| !has(&p.arn)).take(MAX_EACH) {
        let scope = scope_for(review, &policy.scope);
        help.push(Help {
            what: format!("the access policy {}, scope {scope}", policy.name),
            command: Some(associate(
                &cluster_name(model),
                &entry.principal_arn,
                &policy.arn,
                &scope,
            )),
        });
    }
}

/// Groups that are bound to what is asked.
fn groups(model: &Model, review: &Review, entry: Option<&EntryFacts>, help: &mut Vec<Help>) {
    if entry.is_some_and(|entry| entry.entry_type != countersign_access::EntryType::Standard) {
        return;
    }
    let who = model.index.who_can(
        &review.action.action(),
        Where::ActionNamespace,
        &model.catalog,
    );
    let mut seen: Vec<&str> = Vec::new();
    for chain in &who.granted {
        let Some(subject) = chain.subject().filter(|subject| subject.kind == "Group") else {
            continue;
        };
        // Entries cannot give groups with a reserved prefix, and nobody should give away `system:masters`.
        if RESERVED_PREFIXES
            .iter()
            .any(|prefix| subject.name.starts_with(prefix))
            || seen.contains(&subject.name.as_str())
        {
            continue;
        }
        if seen.len() >= MAX_EACH {
            return;
        }
        seen.push(&subject.name);
        let role = chain.role();
        let through = format!(
            "{} -> {} {}",
            rbac::short(chain.binding),
            role.kind,
            role.metadata.name
        );
        let command = entry.map(|entry| {
            // The list replaces what is there.
            let mut groups: Vec<&str> =
                entry.kubernetes_groups.iter().map(String::as_str).collect();
            groups.push(&subject.name);
            format!(
                "aws eks update-access-entry --cluster-name {} --principal-arn {} --kubernetes-groups {}",
                cluster_name(model),
                quoted(&entry.principal_arn),
                groups.iter().map(|group| quoted(group)).collect::<Vec<_>>().join(" ")
            )
        });
        let place = match review.mapping.as_ref().map(|mapping| mapping.source) {
            Some(MappingSource::AwsAuth) => " in aws-auth",
            Some(MappingSource::AccessRule) => " in the access rule",
            _ => "",
        };
        help.push(Help {
            what: format!("the group {}{place} ({through})", subject.name),
            command,
        });
    }
}

/// The rule that is missing, for the subject of the nearest binding.
fn roles(review: &Review, help: &mut Vec<Help>) {
    let Some(identity) = &review.identity else {
        return;
    };
    if !help.is_empty() || identity.username.starts_with("system:node:") {
        return;
    }
    let own = identity
        .groups
        .iter()
        .find(|group| !group.starts_with("system:"));
    let whom = match own {
        Some(group) => format!("Group \"{group}\""),
        None if identity.username.is_empty() => return,
        None => match split_service_account(&identity.username) {
            Some((namespace, name)) => format!("ServiceAccount \"{namespace}/{name}\""),
            None => format!("User \"{}\"", identity.username),
        },
    };
    help.push(Help {
        what: format!(
            "a role with {} on {}, bound to {whom}",
            review.action.verb,
            review.action.place()
        ),
        command: None,
    });
}

fn scope_for(review: &Review, smallest: &ScopeKind) -> ScopeFacts {
    match smallest {
        ScopeKind::Cluster => ScopeFacts {
            kind: ScopeKind::Cluster,
            namespaces: Vec::new(),
        },
        ScopeKind::Namespace => ScopeFacts {
            kind: ScopeKind::Namespace,
            namespaces: vec![review.action.namespace.clone()],
        },
    }
}

fn associate(cluster: &str, arn: &str, policy: &str, scope: &ScopeFacts) -> String {
    let scope = match scope.kind {
        ScopeKind::Cluster => "type=cluster".to_owned(),
        ScopeKind::Namespace => format!("type=namespace,namespaces={}", scope.namespaces.join(",")),
    };
    format!(
        "aws eks associate-access-policy --cluster-name {cluster} --principal-arn {} --policy-arn {} --access-scope {}",
        quoted(arn),
        quoted(policy),
        quoted(&scope)
    )
}

/// As a shell takes it.
fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=,.:/@+".contains(&byte);
    match !text.is_empty() && text.bytes().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

fn cluster_name(model: &Model) -> String {
    let snapshot = model.snapshot.as_ref();
    snapshot.map_or_else(|| "CLUSTER".to_owned(), |s| quoted(&s.cluster.name))
}
