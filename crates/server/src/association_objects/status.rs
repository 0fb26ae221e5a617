//! What the status of an object says, for people to read.

use countersign_sources::kubernetes::AssociationObject;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::plan::Verdict;

/// Longest message.
const MAX_MESSAGE: usize = 512;
/// Our conditions. Those of others stay as they are.
const CONDITIONS: [&str; 3] = ["Accepted", "Conflict", "Refused"];

/// The status to write, or nothing where that is not decided yet, or is there already. Conditions that stay keep the time of their last
/// change.
pub(super) fn render(
    object: &AssociationObject,
    verdict: &Verdict,
    now: Timestamp,
) -> Option<Value> {
    let (at, reason, message) = match verdict {
        Verdict::Pending => return None,
        Verdict::Accepted { .. } => (
            "Accepted",
            "InForce",
            "the association is in force".to_owned(),
        ),
        Verdict::Mirrored { .. } => (
            "Accepted",
            "Mirror",
            "shows an association of the EKS API; it is changed and deleted there".to_owned(),
        ),
        Verdict::Conflict { with } => (
            "Conflict",
            "Older",
            format!("{with} is for the same service account, and counts in its place"),
        ),
        Verdict::Refused(refusal) => ("Refused", refusal.reason, refusal.message.clone()),
    };
    let message: String = message.chars().take(MAX_MESSAGE).collect();
    let before = object.status.get("conditions").and_then(Value::as_array);
    let before = before.map(Vec::as_slice).unwrap_or_default();
    let kind = |condition: &Value| {
        let kind = condition.get("type").and_then(Value::as_str);
        kind.map(str::to_owned).unwrap_or_default()
    };
    let mut conditions: Vec<Value> = before
        .iter()
        .filter(|condition| !CONDITIONS.contains(&kind(condition).as_str()))
        .cloned()
        .collect();
    for name in CONDITIONS {
        let (value, reason, message) = match (name == at, name) {
            (true, _) => ("True", reason, message.as_str()),
            (false, "Accepted") => ("False", reason, message.as_str()),
            (false, _) => ("False", "No", ""),
        };
        let since = before
            .iter()
            .find(|condition| {
                kind(condition) == name
                    && condition.get("status").and_then(Value::as_str) == Some(value)
            })
            .and_then(|condition| condition.get("lastTransitionTime").cloned())
            .unwrap_or_else(|| json!(now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()));
        let mut condition = json!({
            "type": name,
            "status": value,
            "reason": reason,
            "message": message,
            "lastTransitionTime": since,
        });
        if let (Some(generation), Some(members)) = (object.generation, condition.as_object_mut()) {
            members.insert("observedGeneration".to_owned(), json!(generation));
        }
        conditions.push(condition);
    }
    let (id, arn) = match verdict {
        Verdict::Accepted { id, arn } | Verdict::Mirrored { id, arn } => (Some(id), Some(arn)),
        Verdict::Pending | Verdict::Conflict { .. } | Verdict::Refused(_) => (None, None),
    };
    let status = json!({
        "associationId": id,
        "associationArn": arn,
        "conditions": conditions,
    });
    (!same(&status, &object.status)).then_some(status)
}

/// Whether two statuses say the same, but for times. A member that is to be null is to be absent.
pub(super) fn same(wanted: &Value, current: &Value) -> bool {
    let member = |status: &Value, name: &str| status.get(name).cloned().unwrap_or(Value::Null);
    let conditions = |status: &Value| -> Vec<Value> {
        let list = status.get("conditions").and_then(Value::as_array);
        let mut list = list.cloned().unwrap_or_default();
        for condition in &mut list {
            if let Some(condition) = condition.as_object_mut() {
                condition.remove("lastTransitionTime");
            }
        }
        list
    };
    ["associationId", "associationArn"]
        .iter()
        .all(|name| member(wanted, name) == member(current, name))
        && conditions(wanted) == conditions(current)
}
