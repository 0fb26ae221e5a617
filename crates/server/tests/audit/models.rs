//! The log against the service models of botocore: every operation, every parameter, every member of every answer.

use std::process::Command;

use countersign_server::audit::{Class, class};
use countersign_server::aws::query::Member;
use serde::Deserialize;

use super::call::Finished;

const SCRIPT: &str = r#"
import json, botocore.session
loader = botocore.session.get_session().get_component("data_loader")
for service in ("sts", "iam"):
    model = loader.load_service_model(service, "service-2")
    shapes = model["shapes"]
    def walk(name, path, secret, seen, out):
        shape = shapes[name]
        secret = secret or shape.get("sensitive", False)
        if shape["type"] == "structure":
            if name in seen: return
            for member, ref in shape["members"].items():
                walk(ref["shape"], path + [member], secret, seen | {name}, out)
        elif shape["type"] == "list":
            walk(shape["member"]["shape"], path + ["[]"], secret, seen, out)
        elif shape["type"] != "map":
            out.append({"path": path, "type": shape["type"], "secret": secret})
    for name, operation in model["operations"].items():
        request, answer = [], []
        if "input" in operation: walk(operation["input"]["shape"], [], False, frozenset(), request)
        if "output" in operation: walk(operation["output"]["shape"], [], False, frozenset(), answer)
        print(json.dumps({"service": service, "name": name, "request": request, "answer": answer}))
"#;

/// Secrets that the models do not call so.
const OUR_SECRETS: &[&str] = &[
    "AuthenticationCode1",
    "AuthenticationCode2",
    "ConsoleDeepLink",
    "ContextAssertion",
    "DecodedMessage",
    "EncodedMessage",
    "ExternalId",
    "SessionToken",
    "TokenCode",
];

#[derive(Deserialize)]
struct Operation {
    service: String,
    name: String,
    request: Vec<Leaf>,
    answer: Vec<Leaf>,
}

#[derive(Deserialize)]
struct Leaf {
    path: Vec<String>,
    r#type: String,
    secret: bool,
}

impl Leaf {
    fn is_secret(&self) -> bool {
        self.secret
            || self
                .path
                .iter()
                .any(|name| OUR_SECRETS.contains(&name.as_str()))
    }

    fn value(&self, number: usize) -> String {
        match self.r#type.as_str() {
            "integer" | "long" => (70_000 + number).to_string(),
            "boolean" => "true".into(),
            _ => format!("sentinel-{number}-"),
        }
    }
}

fn models(test: &str) -> Option<Vec<Operation>> {
    let Ok(python) = std::env::var("COUNTERSIGN_TEST_PYTHON") else {
        let reason = format!("{test}: COUNTERSIGN_TEST_PYTHON names no Python with botocore");
        eprintln!("SKIPPED: {reason}");
        if let Some(path) = std::env::var_os("COUNTERSIGN_TEST_SKIPS") {
            use std::io::Write as _;
            let mut file = std::fs::OpenOptions::new()
                .append(true)
                .create(true)
                .open(path)
                .unwrap();
            writeln!(file, "{reason}").unwrap();
        }
        return None;
    };
    let output = Command::new(python).args(["-c", SCRIPT]).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    Some(
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect(),
    )
}

fn leak(text: &str) -> &'static str {
    text.to_owned().leak()
}

#[test]
fn no_secret_of_any_operation_is_logged_and_everything_else_is() {
    let Some(operations) = models("audit log against the service models") else {
        return;
    };
    assert!(operations.len() > 180);
    for operation in &operations {
        let form: Vec<String> = operation
            .request
            .iter()
            .enumerate()
            .map(|(number, leaf)| {
                let name: Vec<&str> = leaf
                    .path
                    .iter()
                    .map(|part| if part == "[]" { "member.1" } else { part })
                    .collect();
                format!("{}={}", name.join("."), leaf.value(number))
            })
            .collect();
        let line = Finished::new(
            leak(&operation.service),
            leak(&operation.name),
            &form.join("&"),
        )
        .line();
        let about = format!("{}: {line}", operation.name);
        assert!(!line.contains("unknownParameters"), "{about}");
        for (number, leaf) in operation.request.iter().enumerate() {
            let shown = match leaf.r#type.as_str() {
                "boolean" => true,
                _ => line.contains(&leaf.value(number)),
            };
            assert_eq!(shown, !leaf.is_secret(), "{:?} of {about}", leaf.path);
        }
    }
}

#[test]
fn no_secret_of_any_answer_is_logged_and_answers_of_reads_are_not() {
    let Some(operations) = models("audit log against the answers of the service models") else {
        return;
    };
    for operation in &operations {
        let read = class(&operation.service, &operation.name).unwrap() == Class::Read;
        let mut answer = Member::Structure(Vec::new());
        for (number, leaf) in operation.answer.iter().enumerate() {
            put(&mut answer, &leaf.path, leaf.value(number));
        }
        let line = Finished::new(leak(&operation.service), leak(&operation.name), "")
            .answered(answer)
            .line();
        let about = format!("{}: {line}", operation.name);
        if read {
            assert!(line.contains(r#""responseElements":null"#), "{about}");
        }
        for (number, leaf) in operation.answer.iter().enumerate() {
            if leaf.r#type != "boolean" {
                let shown = line.contains(&leaf.value(number));
                assert_eq!(
                    shown,
                    !read && !leaf.is_secret(),
                    "{:?} of {about}",
                    leaf.path
                );
            }
        }
    }
}

fn put(to: &mut Member, path: &[String], value: String) {
    let Some((first, rest)) = path.split_first() else {
        *to = Member::Text(value);
        return;
    };
    if first == "[]" {
        if !matches!(to, Member::List(_)) {
            *to = Member::List(vec![Member::Structure(Vec::new())]);
        }
        if let Member::List(items) = to {
            put(&mut items[0], rest, value);
        }
        return;
    }
    let Member::Structure(members) = to else {
        panic!("{path:?}");
    };
    if !members.iter().any(|(name, _)| name == first) {
        members.push((leak(first), Member::Structure(Vec::new())));
    }
    let (_, member) = members.iter_mut().find(|(name, _)| name == first).unwrap();
    put(member, rest, value);
}

#[test]
fn every_operation_has_a_class() {
    let Some(operations) = models("classes of the service models' operations") else {
        return;
    };
    for operation in &operations {
        let class = class(&operation.service, &operation.name);
        let prefixed = |prefixes: &[&str]| prefixes.iter().any(|p| operation.name.starts_with(p));
        let gives = operation
            .answer
            .iter()
            .any(|leaf| leaf.secret || leaf.path.last().is_some_and(|name| name == "SessionToken"));
        let expected = match operation.service.as_str() {
            "sts" if gives => Class::Issue,
            "sts" => Class::Read,
            _ if prefixed(&["Get", "List", "Simulate", "Generate"]) => Class::Read,
            _ => Class::Write,
        };
        assert_eq!(class, Some(expected), "{}", operation.name);
    }
    assert_eq!(class("iam", "AssumeRole"), None);
    assert_eq!(class("iam", "Nonsense"), None);
}
