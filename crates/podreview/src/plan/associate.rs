//! `pods associate`: one association, with the trust policy that it needs.

use super::{Action, Association, Plan, State};
use crate::fact::{AssociationFacts, ClusterFacts, Fact, RoleFacts, role_parts};
use crate::trust::{
    Change, MAX_TRUST_POLICY, Merged, NewTrust, PodCall, PodIdentityTrust, Verdict,
    decide_pod_identity, merge,
};

/// What is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AssociateRequest {
    /// The association.
    pub association: Association,
    /// Change an association that is another one.
    pub update: bool,
    /// Add the statement that the trust policy lacks.
    pub create_trust: bool,
}

/// Plans an association: the trust policy is judged first, since the API refuses an association that it does not let in.
#[must_use]
pub fn associate(
    request: &AssociateRequest,
    cluster: &ClusterFacts,
    existing: Option<&AssociationFacts>,
    role: &Fact<RoleFacts>,
) -> Plan {
    let mut plan = Plan::default();
    let wanted = &request.association;
    let subject = format!("{}/{}", wanted.namespace, wanted.service_account);
    if role_parts(&wanted.role_arn).is_none_or(|(account, _)| account != cluster.account()) {
        plan.problem(
            &wanted.role_arn,
            format!(
                "the role is not one of the cluster's account {}",
                cluster.account()
            ),
            "name a role of that account; one of another account goes with --target-role",
        );
        return plan;
    }
    if wanted.policy.is_some() && wanted.disable_session_tags != Some(true) {
        plan.problem(
            &subject,
            "a session policy needs sessions without tags",
            "give --disable-session-tags as well",
        );
        return plan;
    }
    let left =
        existing.filter(|existing| !request.update && change(cluster, wanted, existing).is_some());
    if let Some(existing) = left {
        // The trust policy is left alone with it.
        update(&mut plan, request, cluster, existing);
        return plan;
    }
    let trusted = trust(
        &mut plan,
        cluster,
        wanted,
        role,
        request.create_trust,
        "give --create-trust, or see `countersign pods trust`",
    );
    if !trusted {
        return plan;
    }
    match existing {
        None => plan.push(State::Planned, Action::CreateAssociation(wanted.clone())),
        Some(existing) => update(&mut plan, request, cluster, existing),
    }
    plan
}

fn update(
    plan: &mut Plan,
    request: &AssociateRequest,
    cluster: &ClusterFacts,
    existing: &AssociationFacts,
) {
    let Some((before, after)) = change(cluster, &request.association, existing) else {
        let note = Some(existing.id.clone());
        let there = of_facts(cluster, existing);
        return plan.noted(State::There, Action::CreateAssociation(there), note);
    };
    let action = Action::UpdateAssociation {
        id: existing.id.clone(),
        before,
        after,
    };
    if let Some(owner) = &existing.owner_arn {
        plan.problem(
            &existing.id,
            format!("the association belongs to {owner}"),
            "change it through the add-on",
        );
    } else if request.update {
        plan.push(State::Planned, action);
    } else {
        plan.noted(
            State::Left,
            action,
            Some("give --update to change it".to_owned()),
        );
    }
}

/// The association as it is and as it is wanted, where these differ. What is not asked for stays: the switch of tags is off only where
/// it was never on.
fn change(
    cluster: &ClusterFacts,
    wanted: &Association,
    existing: &AssociationFacts,
) -> Option<(Association, Association)> {
    let before = of_facts(cluster, existing);
    let after = Association {
        disable_session_tags: wanted.disable_session_tags.or(before.disable_session_tags),
        ..wanted.clone()
    };
    (before != after).then_some((before, after))
}

/// An association as a plan sees it. What was never said and what was said to be no are one.
pub(super) fn of_facts(cluster: &ClusterFacts, facts: &AssociationFacts) -> Association {
    Association {
        cluster: cluster.name.clone(),
        namespace: facts.namespace.clone(),
        service_account: facts.service_account.clone(),
        role_arn: facts.role_arn.clone(),
        target_role_arn: facts.target_role_arn.clone(),
        disable_session_tags: facts.disable_session_tags.then_some(true),
        policy: facts.policy.clone(),
        sessions: Box::new(facts.sessions.clone()),
    }
}

/// The trust statement for an association. Whether the association may be made after it.
pub(super) fn trust(
    plan: &mut Plan,
    cluster: &ClusterFacts,
    association: &Association,
    role: &Fact<RoleFacts>,
    create: bool,
    advice: &str,
) -> bool {
    let arn = &association.role_arn;
    let role = match role {
        Fact::Known(role) => role,
        Fact::Missing => {
            plan.problem(arn, "the role does not exist", "make the role first");
            return false;
        }
        other => {
            let reason = other.unread().unwrap_or_default();
            plan.notes.push(format!(
                "the trust policy of {arn} was not checked: {reason}; the API checks it when the association is made"
            ));
            return true;
        }
    };
    let tags = association.disable_session_tags != Some(true);
    let call = PodCall {
        role_arn: &role.arn,
        cluster_arn: &cluster.arn,
        cluster_name: &cluster.name,
        namespace: &association.namespace,
        service_account: &association.service_account,
        pod: None,
        tags,
        sessions: &association.sessions,
        role_tags: &role.tags,
    };
    // Statements of roles that several accounts of one migration share pile up: judge what is there after the steps before.
    let current = after_steps(plan, arn).unwrap_or_else(|| role.trust.clone());
    let decision = match decide_pod_identity(&current, &call) {
        Ok(decision) => decision,
        Err(error) => {
            plan.problem(arn, error.to_string(), "correct the trust policy first");
            return false;
        }
    };
    match decision.verdict {
        Verdict::Allowed => return true,
        Verdict::Depends => {
            plan.notes
                .push(format!("trust policy of {arn}: {}", decision.reason));
            return true;
        }
        Verdict::Denied => {}
    }
    let new = pod_trust(cluster, association);
    match (create, merge(&current, &new)) {
        (true, Ok(merged)) => put_trust(
            plan,
            arn,
            current,
            merged,
            "lets in EKS Pod Identity for the service account",
        ),
        (_, Err(error)) => {
            plan.problem(arn, error.to_string(), "correct the trust policy first");
            false
        }
        (false, Ok(_)) => {
            plan.problem(arn, decision.reason, advice);
            false
        }
    }
}

/// Adds the step that changes a trust policy, one for each role. Whether it can be done.
pub(super) fn put_trust(
    plan: &mut Plan,
    arn: &str,
    before: String,
    merged: Merged,
    what: &str,
) -> bool {
    if merged.change == Change::Unchanged {
        plan.problem(
            arn,
            "the trust policy has the statement, and another one denies what it allows",
            "see `countersign pods trust --check`",
        );
        return false;
    }
    if merged.size > MAX_TRUST_POLICY {
        plan.notes.push(format!(
            "the trust policy of {arn} would have {} characters; IAM takes {MAX_TRUST_POLICY} unless the quota was raised",
            merged.size
        ));
    }
    let known = plan
        .steps
        .iter_mut()
        .find_map(|step| match &mut step.action {
            Action::UpdateTrust {
                role_arn, after, ..
            } if role_arn == arn => Some(after),
            _ => None,
        });
    if let Some(after) = known {
        *after = merged.document;
        return true;
    }
    plan.push(
        State::Planned,
        Action::UpdateTrust {
            role_arn: arn.to_owned(),
            before,
            after: merged.document,
            what: what.to_owned(),
        },
    );
    true
}

/// The trust policy of a role after the steps that are planned.
pub(super) fn after_steps(plan: &Plan, arn: &str) -> Option<String> {
    plan.steps.iter().find_map(|step| match &step.action {
        Action::UpdateTrust {
            role_arn, after, ..
        } if role_arn == arn => Some(after.clone()),
        _ => None,
    })
}

/// The narrowest statement that lets an association in: the cluster, and with tags also namespace and account.
pub(super) fn pod_trust(cluster: &ClusterFacts, association: &Association) -> NewTrust {
    let mut trust = PodIdentityTrust {
        source_account: Some(cluster.account().to_owned()),
        source_arn: Some(cluster.arn.clone()),
        ..PodIdentityTrust::default()
    };
    if association.disable_session_tags != Some(true) {
        for (tag, value) in [
            ("kubernetes-namespace", &association.namespace),
            ("kubernetes-service-account", &association.service_account),
        ] {
            if association.sessions.has_tag(tag) {
                trust.request_tags.insert(tag.to_owned(), value.clone());
            }
        }
    }
    NewTrust::Pods(trust)
}
