//! What a document comes to at most, while only some condition keys are known.
#![allow(clippy::unwrap_used, reason = "tests")]

use countersign_policy::{
    Action, Attached, Context, Document, Layers, Policy, PolicyKind, Principal, Request, decide,
};

const SERVICE: &str = "pods.eks.amazonaws.com";
const ROLE: &str = "arn:aws:iam::111122223333:role/r";

fn allows(document: Document, keys: &Context<'_>) -> bool {
    let trust = [Attached::new(
        Policy::compile(document, PolicyKind::Trust).into(),
        "trust",
    )];
    let principal = Principal::service(SERVICE);
    let action = Action::parse("sts:AssumeRole").unwrap();
    let request = Request::new(&principal, &action, ROLE, keys).unwrap();
    let layers = Layers {
        resource: Some(&trust),
        ..Layers::default()
    };
    decide(&request, &layers).is_allowed()
}

/// A document of statements `(effect, condition)` for the service.
fn document(statements: &[(&str, &str)]) -> Document {
    let statements: Vec<String> = statements
        .iter()
        .map(|(effect, condition)| {
            format!(
                r#"{{"Effect":"{effect}","Principal":{{"Service":"{SERVICE}"}},"Action":"sts:*","Condition":{condition}}}"#
            )
        })
        .collect();
    let text = format!(
        r#"{{"Version":"2012-10-17","Statement":[{}]}}"#,
        statements.join(",")
    );
    Document::parse(text).unwrap()
}

/// `aws:SourceAccount` is known to be 111122223333; nothing is known of any other key.
#[test]
fn unknown_conditions_are_hoped_for_and_known_ones_decided() {
    let own = r#"{"StringEquals":{"aws:SourceAccount":"111122223333"}}"#;
    let other = r#"{"StringEquals":{"AWS:sourceaccount":"444455556666"}}"#;
    let unknown = r#"{"StringEquals":{"aws:RequestTag/a":"b"}}"#;
    let both = r#"{"StringEquals":{"aws:SourceAccount":"444455556666","aws:RequestTag/a":"b"}}"#;
    let variable = r#"{"StringEquals":{"aws:SourceAccount":"${aws:RequestTag/a}"}}"#;
    for (statements, expected) in [
        (&[("Allow", "{}")][..], true),
        (&[("Allow", own)], true),
        (&[("Allow", other)], false),
        (&[("Allow", unknown)], true),
        (&[("Allow", both)], false),
        (&[("Allow", variable)], true),
        (&[("Allow", own), ("Deny", own)], false),
        (&[("Allow", own), ("Deny", other)], true),
        (&[("Allow", own), ("Deny", unknown)], true),
        (&[("Allow", own), ("Deny", variable)], true),
        (&[("Allow", own), ("Deny", "{}")], false),
        (&[("Deny", unknown)], false),
    ] {
        let document = document(statements);
        let at_most = document.at_most(|key| key == "aws:sourceaccount");
        let mut keys = Context::new();
        keys.set("aws:SourceAccount", "111122223333");
        assert_eq!(allows(at_most, &keys), expected, "{}", document.text());
        // Whatever the unknown keys are: what is denied now is denied then.
        for value in [None, Some("b"), Some("111122223333")] {
            let mut keys = keys.clone();
            if let Some(value) = value {
                keys.set("aws:RequestTag/a", value);
            }
            let then = allows(document.clone(), &keys);
            assert!(expected || !then, "{} {value:?}", document.text());
        }
    }
}
