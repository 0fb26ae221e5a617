//! Which service accounts can be moved, with which role.

use std::collections::BTreeMap;

use super::super::Plan;
use super::super::legacy::{self, Permitted};
use super::{Direction, From, Inventory, MigrateOptions, Move};
use crate::fact::role_parts;
use crate::pod::PodFacts;

type PodsByRole<'i> = BTreeMap<String, Vec<&'i PodFacts>>;

pub(super) fn moves(
    plan: &mut Plan,
    inventory: &Inventory,
    direction: Direction,
    options: &MigrateOptions,
) -> Vec<Move> {
    match direction.from {
        From::Irsa => {
            let annotated = inventory.accounts.iter();
            annotated
                .filter_map(|account| {
                    Some(Move {
                        namespace: account.namespace.clone(),
                        account: account.name.clone(),
                        role: account.role()?.to_owned(),
                        old: None,
                    })
                })
                .filter(|one| is_movable(plan, inventory, one))
                .collect()
        }
        From::PodIdentity => of_associations(plan, inventory),
        From::Kube2iam | From::Kiam => of_pods(plan, inventory, direction.from, options),
    }
}

/// Associations give roles of the cluster's account, and so do the ways back.
fn is_movable(plan: &mut Plan, inventory: &Inventory, one: &Move) -> bool {
    match role_parts(&one.role) {
        None => {
            plan.problem(
                one.name(),
                format!("`{}` is no role ARN", one.role),
                "correct the annotation first",
            );
            false
        }
        Some((account, _)) if account != inventory.cluster.account() => {
            plan.problem(
                one.name(),
                format!("{} is a role of another account than the cluster's", one.role),
                "associate a role of the cluster's account with this one as target: `countersign pods associate --target-role`",
            );
            false
        }
        Some(_) => true,
    }
}

fn of_associations(plan: &mut Plan, inventory: &Inventory) -> Vec<Move> {
    let mut moves = Vec::new();
    for association in &inventory.associations {
        let one = Move {
            namespace: association.namespace.clone(),
            account: association.service_account.clone(),
            role: association.role_arn.clone(),
            old: Some(association.clone()),
        };
        if let Some(owner) = &association.owner_arn {
            plan.problem(
                one.name(),
                format!("the association belongs to {owner}"),
                "change it through the add-on",
            );
        } else if let Some(target) = &association.target_role_arn {
            plan.problem(
                one.name(),
                format!("IRSA has no second hop to {target}"),
                "let the application assume it with a profile, or let it trust the cluster's provider in its own account",
            );
        } else if association.policy.is_some() {
            plan.problem(
                one.name(),
                "IRSA has no session policy",
                "put its limits into the role, or into a role of its own",
            );
        } else if !inventory
            .accounts
            .iter()
            .any(|account| account.namespace == one.namespace && account.name == one.account)
        {
            plan.problem(
                one.name(),
                "the service account does not exist, so it cannot be annotated",
                "make it first, or delete the association",
            );
        } else if is_movable(plan, inventory, &one) {
            moves.push(one);
        }
    }
    moves
}

fn of_pods(
    plan: &mut Plan,
    inventory: &Inventory,
    from: From,
    options: &MigrateOptions,
) -> Vec<Move> {
    let cluster = &inventory.cluster;
    let base = options.base_role_arn.as_deref();
    let full_base = base.map_or_else(
        || {
            format!(
                "arn:{}:iam::{}:role/",
                cluster.partition(),
                cluster.account()
            )
        },
        str::to_owned,
    );
    // Roles, and the pods without one, by account.
    let mut by_account: BTreeMap<(&str, &str), (PodsByRole<'_>, usize)> = BTreeMap::new();
    for pod in inventory.pods.iter().filter(|pod| !pod.has_ended()) {
        let key = (pod.namespace.as_str(), pod.service_account.as_str());
        let (roles, without) = by_account.entry(key).or_default();
        match legacy::role_of(&pod.annotations, cluster, base) {
            Some(role) => roles.entry(role).or_default().push(pod),
            None => *without += 1,
        }
    }
    let none = BTreeMap::new();
    let mut moves = Vec::new();
    for ((namespace, account), (roles, without)) in by_account {
        let name = format!("{namespace}/{account}");
        let mut all = roles.iter();
        let (Some((role, pods)), second) = (all.next(), all.next()) else {
            continue;
        };
        if second.is_some() {
            let names: Vec<&String> = roles.keys().collect();
            plan.problem(
                &name,
                format!(
                    "pods of one service account use {} roles: {}",
                    names.len(),
                    crate::text::enumerate(&names)
                ),
                "split it first: a service account for each role",
            );
            continue;
        }
        if without > 0 {
            plan.problem(
                &name,
                format!("{without} pods of the service account use no role, and would get {role}"),
                "split it first: a service account of its own for the pods with the role",
            );
            continue;
        }
        if let Some(id) = pods
            .iter()
            .find_map(|pod| legacy::external_id(&pod.annotations))
        {
            plan.problem(
                &name,
                format!("{role} is assumed with the external id `{id}`, which EKS Pod Identity does not send to the first role"),
                "make a role of the cluster's account for it, with this one as target",
            );
            continue;
        }
        let annotations = inventory.namespaces.get(namespace).unwrap_or(&none);
        let permitted = match from {
            From::Kiam => legacy::kiam(annotations, role),
            _ => legacy::kube2iam(annotations, role, &full_base),
        };
        match permitted {
            Permitted::Yes => {}
            Permitted::No(reason) => {
                plan.problem(
                    &name,
                    format!("{role} was not given in this namespace: {reason}"),
                    "take the annotation off the pods, or permit the role first",
                );
                continue;
            }
            Permitted::Unclear(reason) => {
                plan.problem(
                    &name,
                    format!("{role}: {reason}"),
                    "judge it, and then use `countersign pods associate`",
                );
                continue;
            }
        }
        let one = Move {
            namespace: namespace.to_owned(),
            account: account.to_owned(),
            role: role.clone(),
            old: None,
        };
        if is_movable(plan, inventory, &one) {
            moves.push(one);
        }
    }
    moves
}
