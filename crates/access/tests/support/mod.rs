//! What several tests write entries and requests with.
#![allow(dead_code, reason = "not every test uses everything")]
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helper functions of tests"
)]

use countersign_access::{AccessScope, Catalogue, CompiledPolicies, EntryType, EntryView};
use countersign_rbac::{Action, ResourceAction};

pub const PRINCIPAL_ARN: &str = "arn:aws:iam::111122223333:role/team/Dev";
pub const PRINCIPAL_ID: &str = "AROADEV0000000000001";

/// Policy ARN and scope.
pub type Association = (String, AccessScope);

/// `View@a; Edit@b,c-*` as the worked decisions write it: names without `AmazonEKS` and `Policy`, or whole.
pub fn associations(text: &str) -> Vec<Association> {
    let mut all: Vec<Association> = text
        .split(';')
        .map(|one| {
            let (name, scope) = one.trim().split_once('@').expect("name@scope");
            let scope = match scope {
                "cluster" => AccessScope::Cluster,
                patterns => AccessScope::Namespace(patterns.split(',').map(Into::into).collect()),
            };
            (policy_arn(name), scope)
        })
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

pub fn policy_arn(short: &str) -> String {
    let names = [
        short.to_owned(),
        format!("AmazonEKS{short}Policy"),
        short.replace("FullAccessFor", "FullAccessPolicyFor"),
    ];
    let name = names
        .iter()
        .find(|name| Catalogue::builtin().named(name).is_some())
        .unwrap_or_else(|| panic!("no policy {short}"));
    format!("arn:aws:eks::aws:cluster-access-policy/{name}")
}

pub fn view(
    associations: &[Association],
) -> EntryView<'_, impl Iterator<Item = (&str, &AccessScope)> + Clone> {
    EntryView {
        principal_arn: PRINCIPAL_ARN,
        principal_id: PRINCIPAL_ID,
        entry_type: EntryType::Standard,
        associations: associations
            .iter()
            .map(|(arn, scope)| (arn.as_str(), scope)),
    }
}

pub fn is_allowed(associations: &[Association], action: &Action<'_>) -> bool {
    CompiledPolicies::builtin()
        .authorize(&view(associations), action)
        .is_allowed()
}

/// `get pods/log.group name=x ns=dev`, or `get /metrics`.
pub fn action(text: &str) -> Action<'_> {
    let mut words = text.split_whitespace();
    let verb = words.next().expect("verb");
    let target = words.next().expect("target");
    if target.starts_with('/') {
        return Action::NonResource { verb, path: target };
    }
    let (resource, group) = target.split_once('.').unwrap_or((target, ""));
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let mut action = ResourceAction {
        verb,
        group,
        resource,
        subresource,
        ..ResourceAction::default()
    };
    for word in words {
        match word.split_once('=').expect("key=value") {
            ("name", name) => action.name = name,
            ("ns", "(empty)") => {}
            ("ns", namespace) => action.namespace = namespace,
            (key, _) => panic!("{key}"),
        }
    }
    action.into()
}
