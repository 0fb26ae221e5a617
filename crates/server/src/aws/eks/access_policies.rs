//! Access policies and their associations with entries (EKS API spec, section 8).

use countersign_access::{AccessScope, PolicyArnFault, check_scope};
use countersign_store::records::PolicyAssociation;

use super::access_entries::{CLUSTER, PRINCIPAL, entry, entry_resource};
use super::describe::{text, texts};
use super::error::{not_associated, standard_only, worded};
use super::{invalid, not_found, place};
use crate::aws::ApiError;
use crate::aws::authorize::on;
use crate::aws::operation::{Answer, Call, Operation, eks};
use crate::aws::page::PageRequest;
use crate::aws::query::Member;
use crate::aws::shape::eks_kinds::{ACCESS_SCOPE, MAX_RESULTS, NEXT_TOKEN, TEXT};
use crate::aws::shape::{label, required};
use crate::aws::target::Target;

/// Pairs of namespaces that two scopes are compared by; beyond, a change is not told apart further.
const MAX_PAIRS: usize = 10_000;

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    eks(
        "ListAccessPolicies",
        ("GET", "/access-policies"),
        &[MAX_RESULTS, NEXT_TOKEN],
        on(Target::Any),
        Answer::Read(list_access_policies),
    ),
    eks(
        "AssociateAccessPolicy",
        (
            "POST",
            "/clusters/{name}/access-entries/{principalArn}/access-policies",
        ),
        &[
            CLUSTER,
            PRINCIPAL,
            required("policyArn", TEXT),
            required("accessScope", ACCESS_SCOPE),
        ],
        on(Target::Custom(entry_resource)),
        Answer::Write(|call| Box::pin(associate_access_policy(call))),
    ),
    eks(
        "DisassociateAccessPolicy",
        (
            "DELETE",
            "/clusters/{name}/access-entries/{principalArn}/access-policies/{policyArn}",
        ),
        &[CLUSTER, PRINCIPAL, label("policyArn", "policyArn", TEXT)],
        on(Target::Custom(entry_resource)),
        Answer::Write(|call| Box::pin(disassociate_access_policy(call))),
    ),
    eks(
        "ListAssociatedAccessPolicies",
        (
            "GET",
            "/clusters/{name}/access-entries/{principalArn}/access-policies",
        ),
        &[CLUSTER, PRINCIPAL, MAX_RESULTS, NEXT_TOKEN],
        on(Target::Custom(entry_resource)),
        Answer::Read(list_associated_access_policies),
    ),
];

/// A policy as it is stored: its ARN, if the caller's account may use it.
///
/// # Errors
/// In the order and with the codes of section 8.3.
pub(super) fn check_policy(call: &Call<'_>, text: &str) -> Result<String, ApiError> {
    let policies = call.eks.policies.current();
    let known = policies
        .catalogue()
        .check(text, call.partition())
        .and_then(|(arn, policy)| {
            let own = policy.arn(
                call.partition(),
                call.account().map_err(|_| PolicyArnFault::Unknown)?,
            );
            if own.as_ref() == Some(&arn) {
                Ok(arn)
            } else {
                Err(PolicyArnFault::Unknown)
            }
        });
    match known {
        Ok(arn) => Ok(arn.to_string()),
        Err(fault @ PolicyArnFault::Unknown) => Err(not_found(fault.to_string())),
        Err(fault @ (PolicyArnFault::Format | PolicyArnFault::ServiceLinkedRolesOnly)) => {
            Err(invalid(fault.to_string()))
        }
    }
}

fn list_access_policies(call: &Call<'_>) -> Result<Member, ApiError> {
    let page = PageRequest::of(call)?;
    let in_force = call.eks.policies.current();
    let mut policies: Vec<(&str, String)> = in_force
        .catalogue()
        .list(call.partition(), call.account()?)
        .collect();
    // AWS's come first: `aws` is behind every account in byte order.
    let key = |(_, arn): &(&str, String)| {
        let rank = if arn.contains(":aws:cluster-access-policy/") {
            'a'
        } else {
            'b'
        };
        format!("{rank}{arn}")
    };
    policies.sort_by_cached_key(key);
    let rest = policies
        .into_iter()
        .filter(|policy| page.after().is_none_or(|after| *key(policy) > *after));
    let page = page.page(call, rest, key)?;
    Ok(Member::Structure(
        page.with_token("accessPolicies", |(name, arn)| {
            Member::Structure(vec![("name", text(name)), ("arn", text(arn))])
        }),
    ))
}

async fn associate_access_policy(call: &Call<'_>) -> Result<Member, ApiError> {
    let input = &call.input;
    let scope = input.get("accessScope");
    let kind = scope.and_then(|scope| scope.member("type"));
    let namespaces = scope
        .and_then(|scope| scope.texts("namespaces"))
        .unwrap_or_default();
    let scope = check_scope(kind.unwrap_or_default(), &namespaces, &call.eks.limits)
        .map_err(|fault| invalid(fault.to_string()))?;
    let policy = check_policy(call, input.required("policyArn"))?;
    let (cluster, entry) = entry(call)?;
    if !entry.record.entry_type.takes_policies() {
        return Err(standard_only());
    }
    let principal = input.required("principalArn");
    let associated = call
        .directory
        .associate_access_policy(place(call)?, principal, &policy, &scope, call.now)
        .await
        .map_err(worded)?;
    call_out_change(call, &policy, associated.replaced.as_ref(), &scope);
    let catalogue = call.eks.policies.catalogue();
    if let Ok((_, known)) = catalogue.check(&policy, call.partition())
        && known.grants_nothing(catalogue.derived())
    {
        call.warn(format!(
            "no rules of {policy} are known here: it grants nothing"
        ));
        tracing::warn!(
            request_id = call.request_id,
            cluster = &*cluster.record.name,
            principal,
            policy,
            "an access policy was associated whose rules AWS does not publish; it grants nothing"
        );
    }
    Ok(Member::Structure(vec![
        ("clusterName", text(&*cluster.record.name)),
        ("principalArn", text(principal)),
        (
            "associatedAccessPolicy",
            association_member(&associated.association),
        ),
    ]))
}

/// EKS replaces a scope without a word (section 19).
fn call_out_change(call: &Call<'_>, policy: &str, before: Option<&AccessScope>, now: &AccessScope) {
    let Some(before) = before else {
        return;
    };
    let pairs = before
        .namespaces()
        .len()
        .saturating_mul(now.namespaces().len());
    let change = if pairs > MAX_PAIRS {
        if before == now {
            return;
        }
        "changed"
    } else {
        match (before.covers(now), now.covers(before)) {
            (true, true) => return,
            (true, false) => "narrowed",
            (false, true) => "widened",
            (false, false) => "narrowed in part and widened in part",
        }
    };
    call.warn(format!(
        "the scope of {policy} is {change}: from {before} to {now}"
    ));
}

/// The operation declares no error for malformed parameters: such a policy is one that the entry does not have.
async fn disassociate_access_policy(call: &Call<'_>) -> Result<Member, ApiError> {
    let input = &call.input;
    let policy = input.required("policyArn");
    let (_, entry) = entry(call)?;
    if entry.record.association(policy).is_none() {
        return Err(not_associated());
    }
    call.directory
        .disassociate_access_policy(
            place(call)?,
            input.required("principalArn"),
            policy,
            call.now,
        )
        .await
        .map_err(worded)?;
    Ok(Member::None)
}

fn list_associated_access_policies(call: &Call<'_>) -> Result<Member, ApiError> {
    let (cluster, entry) = entry(call)?;
    let page = PageRequest::of(call)?;
    let associations = entry.record.associations.iter().filter(|association| {
        page.after()
            .is_none_or(|after| *association.policy_arn > *after)
    });
    let page = page.page(call, associations, |association| {
        association.policy_arn.to_string()
    })?;
    let mut members = page.with_token("associatedAccessPolicies", association_member);
    members.push(("clusterName", text(&*cluster.record.name)));
    members.push(("principalArn", text(&*entry.record.principal_arn)));
    Ok(Member::Structure(members))
}

fn association_member(association: &PolicyAssociation) -> Member {
    let scope = &association.scope;
    Member::Structure(vec![
        ("policyArn", text(&*association.policy_arn)),
        (
            "accessScope",
            Member::Structure(vec![
                ("type", text(scope.kind())),
                ("namespaces", texts(scope.namespaces())),
            ]),
        ),
        ("associatedAt", Member::Time(association.associated)),
        ("modifiedAt", Member::Time(association.modified)),
    ])
}
