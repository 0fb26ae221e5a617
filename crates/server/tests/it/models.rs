//! The tables of operations against the service models of botocore.

use std::collections::BTreeMap;
use std::process::Command;

use countersign_server::audit::{Class, class};
use countersign_server::aws::operation_catalogue;
use serde_json::{Value, json};

/// Prints the models in the form of the catalogue.
const MODELS: &str = r#"
import json, botocore.session
session = botocore.session.get_session()
def kind(shape):
    name, rules = shape.type_name, shape.metadata
    if name in ("string", "blob"):
        return {"type": "string", "min": rules.get("min", 0), "max": rules.get("max"), "pattern": rules.get("pattern"), "enum": list(getattr(shape, "enum", None) or [])}
    if name in ("integer", "long"):
        return {"type": "integer", "min": rules.get("min"), "max": rules.get("max")}
    if name == "boolean":
        return {"type": "boolean"}
    if name == "list":
        return {"type": "list", "min": rules.get("min", 0), "max": rules.get("max"), "of": kind(shape.member)}
    if name == "map":
        return {"type": "map", "min": rules.get("min", 0), "max": rules.get("max"), "key": kind(shape.key), "value": kind(shape.value)}
    return {"type": "structure", "members": members(shape)}
def place(shape):
    location = shape.serialization.get("location")
    if location == "uri":
        return {"label": shape.serialization["name"]}
    return "query" if location == "querystring" else "body"
def members(shape):
    return [{"name": n, "required": n in shape.required_members, "place": place(s), "kind": kind(s)} for n, s in (shape.members.items() if shape else [])]
print(json.dumps([
    {"service": service, "name": name, "parameters": members(operation.input_shape),
     "method": operation.http["method"] if service.startswith("eks") else None,
     "path": operation.http["requestUri"] if service.startswith("eks") else None}
    for service in ("sts", "iam", "eks", "eks-auth")
    for model in [session.get_service_model(service)]
    for name in model.operation_names
    for operation in [model.operation_model(name)]
]))
"#;

fn by_name(rows: &Value) -> BTreeMap<(String, String), &Value> {
    rows.as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let text = |name: &str| row[name].as_str().unwrap().to_owned();
            ((text("service"), text("name")), row)
        })
        .collect()
}

/// What the model does not say and we do: documented bounds, and what is secret.
fn comparable(mut parameters: Value) -> Value {
    for parameter in parameters.as_array_mut().into_iter().flatten() {
        if parameter["name"] == "PolicyArns" {
            assert_eq!(parameter["kind"]["max"], json!(10));
            parameter["kind"]["max"] = Value::Null;
        }
        without_secret(&mut parameter["kind"]);
    }
    parameters
}

fn without_secret(kind: &mut Value) {
    kind.as_object_mut().unwrap().remove("secret");
    for inner in ["of", "key", "value"] {
        if let Some(of) = kind.get_mut(inner) {
            without_secret(of);
        }
    }
    if let Some(members) = kind.get_mut("members").and_then(Value::as_array_mut) {
        members
            .iter_mut()
            .for_each(|member| without_secret(&mut member["kind"]));
    }
}

#[test]
fn every_operation_of_the_service_models_is_in_the_tables_with_its_constraints() {
    let Ok(python) = std::env::var("COUNTERSIGN_TEST_PYTHON") else {
        eprintln!("COUNTERSIGN_TEST_PYTHON is not set: the service models are not compared");
        return;
    };
    let printed = Command::new(python).args(["-c", MODELS]).output().unwrap();
    assert!(
        printed.status.success(),
        "{}",
        String::from_utf8_lossy(&printed.stderr)
    );
    let models: Value = serde_json::from_slice(&printed.stdout).unwrap();
    let models = by_name(&models);
    let mut ours = operation_catalogue();
    // An operation of our own, beside those of AWS.
    let rows = ours.as_array_mut().unwrap();
    let all = rows.len();
    rows.retain(|row| row["name"] != "AssumeAnnotatedRoleForPod");
    assert_eq!(all - rows.len(), 1);
    let ours = by_name(&ours);
    assert!(ours.keys().eq(models.keys()), "names differ: {:?}", {
        let missing: Vec<_> = models
            .keys()
            .filter(|key| !ours.contains_key(*key))
            .collect();
        let extra: Vec<_> = ours
            .keys()
            .filter(|key| !models.contains_key(*key))
            .collect();
        (missing, extra)
    });
    let mut compared = 0;
    for (name, row) in &ours {
        for part in ["method", "path"] {
            assert_eq!(row[part], models[name][part], "{name:?}");
        }
        let (service, operation) = name;
        if service == "eks" {
            let reads = operation.starts_with("Describe") || operation.starts_with("List");
            let expected = if reads { Class::Read } else { Class::Write };
            assert_eq!(class(service, operation), Some(expected), "{name:?}");
        }
        if row["parameters"].is_null() {
            assert_eq!(row["offered"], json!(false), "{name:?}");
            continue;
        }
        assert_eq!(
            comparable(row["parameters"].clone()),
            models[name]["parameters"],
            "{name:?}"
        );
        compared += 1;
    }
    assert!(compared > 170, "{compared}");
}
