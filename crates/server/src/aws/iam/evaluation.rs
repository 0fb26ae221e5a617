//! The answers of the policy simulator (policy language spec, section 11.3).

use countersign_policy::simulator::{EvaluationResult, MatchedStatement, ResourceResult};
use countersign_policy::{Outcome, Position};

use crate::aws::query::Member;

/// An `EvaluationResult`.
pub(super) fn evaluation(result: &EvaluationResult) -> Member {
    let mut members = vec![
        ("EvalActionName", Member::Text(result.action.to_string())),
        (
            "EvalResourceName",
            Member::Text(result.resource.to_string()),
        ),
        ("EvalDecision", decision(result.decision)),
    ];
    let deciding = result
        .resources
        .iter()
        .filter(|resource| resource.decision == result.decision)
        .flat_map(|resource| &resource.matched);
    let mut matched: Vec<&MatchedStatement> = Vec::new();
    for statement in deciding {
        if !matched.contains(&statement) {
            matched.push(statement);
        }
    }
    members.push((
        "MatchedStatements",
        Member::List(matched.into_iter().map(statement).collect()),
    ));
    let only = match result.resources.as_slice() {
        [only] if !result.names_resources => Some(only),
        _ => None,
    };
    let missing: &[Box<str>] = only.map_or(&[], |only| &only.missing);
    members.push(("MissingContextValues", texts(missing)));
    let organizations = result
        .resources
        .iter()
        .filter_map(|resource| resource.allowed_by_organizations)
        .reduce(|a, b| a && b);
    if let Some(allowed) = organizations {
        let detail = vec![("AllowedByOrganizations", Member::Bool(allowed))];
        members.push(("OrganizationsDecisionDetail", Member::Structure(detail)));
    }
    if let Some(only) = only {
        members.extend(boundary_detail(only));
        return Member::Structure(members);
    }
    members.push((
        "ResourceSpecificResults",
        Member::List(result.resources.iter().map(on_resource).collect()),
    ));
    Member::Structure(members)
}

fn on_resource(result: &ResourceResult) -> Member {
    let mut members = vec![
        (
            "EvalResourceName",
            Member::Text(result.resource.to_string()),
        ),
        ("EvalResourceDecision", decision(result.decision)),
        (
            "MatchedStatements",
            Member::List(result.matched.iter().map(statement).collect()),
        ),
        ("MissingContextValues", texts(&result.missing)),
    ];
    if let Some(details) = &result.details {
        let details = details
            .iter()
            .map(|(source, outcome)| ((*source).to_owned(), decision(*outcome)));
        members.push(("EvalDecisionDetails", Member::Map(details.collect())));
    }
    members.extend(boundary_detail(result));
    Member::Structure(members)
}

fn boundary_detail(result: &ResourceResult) -> Option<(&'static str, Member)> {
    let allowed = result.allowed_by_boundary?;
    let detail = vec![("AllowedByPermissionsBoundary", Member::Bool(allowed))];
    Some((
        "PermissionsBoundaryDecisionDetail",
        Member::Structure(detail),
    ))
}

fn decision(outcome: Outcome) -> Member {
    Member::Text(outcome.as_str().to_owned())
}

fn texts(all: &[Box<str>]) -> Member {
    Member::List(
        all.iter()
            .map(|text| Member::Text(text.to_string()))
            .collect(),
    )
}

fn statement(statement: &MatchedStatement) -> Member {
    let mut members = vec![(
        "SourcePolicyId",
        Member::Text(statement.policy_id.to_string()),
    )];
    if let Some(kind) = &statement.policy_type {
        members.push(("SourcePolicyType", Member::Text(kind.to_string())));
    }
    members.push(("StartPosition", position(statement.start)));
    members.push(("EndPosition", position(statement.end)));
    Member::Structure(members)
}

fn position(at: Position) -> Member {
    Member::Structure(vec![
        ("Line", Member::Number(i64::from(at.line))),
        ("Column", Member::Number(i64::from(at.column))),
    ])
}
