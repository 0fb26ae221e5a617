//! Writing the statuses of `IAMIdentityMapping` objects, for people to read.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use countersign_mapping::crd;
use jiff::Timestamp;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::CONTROLLER;

/// What an object's status should say, and what it says.
#[derive(Debug, Clone)]
pub(super) struct Desired {
    pub(super) status: crd::Status,
    pub(super) generation: Option<i64>,
    pub(super) current: Value,
}

/// Patches statuses that differ, one by one, in the background of the watch.
pub(super) struct StatusWriter {
    api: Api<DynamicObject>,
    retry_after: Duration,
    /// What was written last for each object, and what the API server made of it. A CRD whose schema does not know our
    /// conditions drops them; writing them again and again would not bring them back.
    written: HashMap<String, (Value, Value)>,
}

impl StatusWriter {
    pub(super) fn new(api: Api<DynamicObject>, retry_after: Duration) -> Self {
        Self {
            api,
            retry_after,
            written: HashMap::new(),
        }
    }

    pub(super) async fn run(
        mut self,
        mut statuses: watch::Receiver<Arc<BTreeMap<String, Desired>>>,
        clock: impl Fn() -> Timestamp,
    ) {
        let mut failed = false;
        loop {
            if failed {
                tokio::time::sleep(self.retry_after).await;
            } else if statuses.changed().await.is_err() {
                return;
            }
            let wanted = Arc::clone(&statuses.borrow_and_update());
            self.written.retain(|name, _| wanted.contains_key(name));
            failed = false;
            for (name, desired) in wanted.iter() {
                // Something newer is there: what is written now could be outdated.
                if statuses.has_changed().unwrap_or(false) {
                    break;
                }
                failed |= !self.write(name, desired, clock()).await;
            }
        }
    }

    /// Whether nothing is left to do for the object.
    async fn write(&mut self, name: &str, desired: &Desired, now: Timestamp) -> bool {
        let status = render(desired, now);
        if same(&status, &desired.current) {
            return true;
        }
        if let Some((wrote, result)) = self.written.get(name)
            && same(wrote, &status)
            && *result == desired.current
        {
            return true;
        }
        let patch = Patch::Merge(json!({ "status": status }));
        let params = PatchParams {
            field_manager: Some(CONTROLLER.to_owned()),
            ..PatchParams::default()
        };
        match self.api.patch_status(name, &params, &patch).await {
            Ok(object) => {
                let result = object.data.get("status").cloned().unwrap_or(Value::Null);
                self.written.insert(name.to_owned(), (status, result));
                true
            }
            // It is gone meanwhile.
            Err(kube::Error::Api(error)) if error.code == 404 => true,
            Err(error) => {
                tracing::warn!(object = name, %error, "the status of an IAMIdentityMapping could not be written");
                false
            }
        }
    }
}

/// Makes a status over an arbitrary one that is there already, for fuzzing.
pub(crate) fn over(current: Value) -> bool {
    let desired = Desired {
        status: crd::Status {
            name: "x".to_owned(),
            canonical_arn: None,
            ready: false,
            error: None,
            conflicts_with: None,
        },
        generation: Some(1),
        current,
    };
    let status = render(&desired, Timestamp::UNIX_EPOCH);
    same(&status, &status) && !same(&status, &Value::Null)
}

/// The status to write. Conditions of others stay; ours keep the time of their last change.
fn render(desired: &Desired, now: Timestamp) -> Value {
    let status = &desired.status;
    let ready = match (status.ready, &status.conflicts_with) {
        (true, _) => ("True", "Mapped", "the mapping is in force".to_owned()),
        (false, Some(_)) => ("False", "Conflict", text(status)),
        (false, None) => ("False", "Invalid", text(status)),
    };
    let conflict = match &status.conflicts_with {
        Some(_) => ("True", "DuplicatePrincipal", text(status)),
        None => (
            "False",
            "Unique",
            "no older object maps the same principal".to_owned(),
        ),
    };
    let before = desired.current.get("conditions").and_then(Value::as_array);
    let before = before.map(Vec::as_slice).unwrap_or_default();
    let is =
        |condition: &Value, kind: &str| condition.get("type").and_then(Value::as_str) == Some(kind);
    let mut conditions: Vec<Value> = before
        .iter()
        .filter(|c| !is(c, "Ready") && !is(c, "Conflict"))
        .cloned()
        .collect();
    for (kind, (value, reason, message)) in [("Ready", ready), ("Conflict", conflict)] {
        let since = before
            .iter()
            .find(|c| is(c, kind) && c.get("status").and_then(Value::as_str) == Some(value))
            .and_then(|c| c.get("lastTransitionTime").cloned())
            .unwrap_or_else(|| json!(now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()));
        let mut condition = json!({
            "type": kind,
            "status": value,
            "reason": reason,
            "message": message,
            "lastTransitionTime": since,
        });
        if let (Some(generation), Some(condition)) = (desired.generation, condition.as_object_mut())
        {
            condition.insert("observedGeneration".to_owned(), json!(generation));
        }
        conditions.push(condition);
    }
    json!({ "canonicalARN": status.canonical_arn, "conditions": conditions })
}

fn text(status: &crd::Status) -> String {
    status.error.clone().unwrap_or_default()
}

/// Whether `current` says what `wanted` says, but for times. A field that is to be null is to be absent.
fn same(wanted: &Value, current: &Value) -> bool {
    let arn = |status: &Value| status.get("canonicalARN").cloned().unwrap_or(Value::Null);
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
    arn(wanted) == arn(current) && conditions(wanted) == conditions(current)
}
