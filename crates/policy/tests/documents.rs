//! Documents: reading, write-time validation, positions, and stored principals.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use countersign_policy::validate::{
    Existence, NoDirectory, PrincipalDirectory, Quota, RejectionCode, check_document_text,
    check_quota, validate,
};
use countersign_policy::{Document, DocumentError, PolicyKind, Position, size_without_whitespace};
use serde_json::Value;

struct Directory;

impl PrincipalDirectory for Directory {
    fn look_up(&self, arn: &str) -> Existence {
        if arn.ends_with(":role/known") {
            Existence::Has("AROAKNOWNKNOWNKNOWN12".to_owned())
        } else {
            Existence::Missing
        }
    }

    fn knows_id(&self, unique_id: &str) -> bool {
        unique_id == "AROAKNOWNKNOWNKNOWN12"
    }
}

#[test]
fn documents_are_refused_in_iams_words() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/validation.json");
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let cases = file["cases"].as_array().unwrap();
    assert!(cases.len() > 100);
    let mut wrong = Vec::new();
    for case in cases {
        let kind = PolicyKind::parse(case["kind"].as_str().unwrap()).unwrap();
        let text = case["document"].as_str().unwrap();
        let answer = validate(text, kind, &Directory);
        let message = answer.as_ref().err().map(|rejection| &*rejection.message);
        if message != case["message"].as_str() {
            wrong.push(format!("{case}\n  got {message:?}"));
        }
        if let Err(rejection) = answer {
            assert_eq!(rejection.code, RejectionCode::MalformedPolicyDocument);
            assert!(!rejection.problem.message.is_empty());
            assert!(!rejection.problem.code.is_empty());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_duplicate_key_is_refused_with_both_places() {
    let text = "{\"Version\": \"2012-10-17\",\n \"Statement\": {\"Effect\": \"Deny\",\n  \"Effect\": \"Allow\", \"Action\": \"*\", \"Resource\": \"*\"}}";
    let Err(DocumentError::Syntax(error)) = Document::parse(text) else {
        panic!("accepted");
    };
    assert_eq!(error.position, Position { line: 3, column: 3 });
    assert_eq!(error.path, "Statement.Effect");
    assert!(
        error.message.contains("line 2, column 16"),
        "{}",
        error.message
    );
    assert!(error.hint.is_some());
}

#[test]
fn syntax_errors_say_where_and_what_to_do() {
    for (text, line, column, path) in [
        ("{\"Version\": \"2012-10-17\",}", 1, 26, "$"),
        (
            "{\n\t\"Statement\": [\r\n{\"Effect\": 'Allow'}]}",
            3,
            12,
            "Statement[0].Effect",
        ),
        ("{\"é\": x}", 1, 7, "[\"é\"]"),
        ("{\"a\": \"b", 1, 7, "a"),
        ("", 1, 1, "$"),
        ("{} {}", 1, 4, "$"),
        ("{\"a\": 012}", 1, 7, "a"),
        ("{\"a\": \"\\ud800\"}", 1, 8, "a"),
        ("\u{feff}{}", 1, 1, "$"),
    ] {
        let Err(DocumentError::Syntax(error)) = Document::parse(text) else {
            panic!("accepted {text}");
        };
        assert_eq!(
            (error.position.line, error.position.column, &*error.path),
            (line, column, path),
            "{text}"
        );
    }
}

#[test]
fn nesting_is_bounded() {
    let text = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(matches!(
        Document::parse(text),
        Err(DocumentError::Syntax(_))
    ));
}

#[test]
fn the_text_is_kept_exactly() {
    let text = "{ \"Version\":\"2012-10-17\",\r\n\t\"Statement\" : {\"Effect\":\"Allow\",\"Action\":\"\\u0073s:x\",\"Resource\":\"*\"}  }";
    assert_eq!(Document::parse(text).unwrap().text(), text);
}

#[test]
fn positions_are_those_the_simulator_prints() {
    let object = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"dynamodb:*","Resource":"*","Condition":{"DateGreaterThan":{"aws:CurrentTime":"2018-08-16T12:00:00Z"}}}}"#;
    let at = |line, column| Position { line, column };
    let document = Document::parse(object).unwrap();
    assert_eq!(
        document.simulator_positions(0),
        Some((at(1, 38), at(1, 167)))
    );

    let list = "{\n    \"Version\": \"2012-10-17\",\n    \"Statement\": [\n        {\n            \"Effect\": \"Allow\",\n            \"Action\": \"*\",\n            \"Resource\": \"*\"\n\n        },\n        {\"Effect\": \"Deny\", \"Action\": \"*\", \"Resource\": \"*\"}\n    ]\n}";
    let document = Document::parse(list).unwrap();
    assert_eq!(
        document.simulator_positions(0),
        Some((at(3, 19), at(9, 10)))
    );
    assert_eq!(
        document.simulator_positions(1),
        Some((at(9, 11), at(10, 59)))
    );
    assert_eq!(document.simulator_positions(2), None);
}

#[test]
fn columns_count_characters_with_crlf_tabs_and_latin_1() {
    let text = "{\"Version\": \"2012-10-17\", \"Id\": \"éé\",\r\n\t\"Statement\": [{\"Sid\": \"\", \"Effect\": \"Allow\", \"Action\": \"é:é\", \"Resource\": \"*\"}]}";
    let document = Document::parse(text).unwrap();
    let lines = document.lines();
    let statement = &document.statements()[0];
    assert_eq!(
        lines.position(statement.span.start),
        Position {
            line: 2,
            column: 16
        }
    );
    let action = &statement.action.as_ref().unwrap().entries[0];
    assert_eq!(
        lines.position(action.span.start),
        Position {
            line: 2,
            column: 57
        }
    );
    assert_eq!(
        lines.position(action.span.end),
        Position {
            line: 2,
            column: 62
        }
    );
}

#[test]
fn white_space_outside_of_strings_is_free() {
    assert_eq!(size_without_whitespace("{ \"a b\" :\n\t\"c \\\" d\" }"), 16);
    assert_eq!(size_without_whitespace("é"), 1);
}

#[test]
fn quotas_are_refused_in_iams_words() {
    let text = format!("\"{}\"", "a".repeat(6142));
    assert!(check_quota(&text, 0, Quota::Managed).is_ok());
    for (quota, used, message) in [
        (
            Quota::Managed,
            1,
            "Cannot exceed quota for PolicySize: 6144",
        ),
        (
            Quota::User("ana"),
            0,
            "Maximum policy size of 2048 bytes exceeded for user ana",
        ),
        (
            Quota::Group("g"),
            0,
            "Maximum policy size of 5120 bytes exceeded for group g",
        ),
        (
            Quota::Role("r"),
            5000,
            "Maximum policy size of 10240 bytes exceeded for role r",
        ),
        (
            Quota::Trust { limit: 2048 },
            0,
            "Cannot exceed quota for ACLSizePerRole: 2048",
        ),
    ] {
        let rejection = check_quota(&text, used, quota).unwrap_err();
        assert_eq!(
            (
                &*rejection.message,
                rejection.code.as_str(),
                rejection.code.http_status()
            ),
            (message, "LimitExceeded", 409)
        );
    }
}

#[test]
fn document_parameters_hold_latin_1_only() {
    assert_eq!(check_document_text("{\"a\":\t\"\u{ff}\"}\r\n"), Ok(()));
    assert_eq!(check_document_text("a\u{100}"), Err((Some('\u{100}'), 1)));
    assert_eq!(check_document_text("a\u{1}"), Err((Some('\u{1}'), 1)));
    assert_eq!(check_document_text(""), Err((None, 0)));
    assert_eq!(
        check_document_text(&"a".repeat(131_073)),
        Err((None, 131_073))
    );
}

#[test]
fn stored_principals_are_ids_and_show_as_arns() {
    let text = r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com", "AWS": ["arn:aws:iam::111122223333:role/known", "444455556666"]}, "Action": "sts:AssumeRole"}]}"#;
    let stored = validate(text, PolicyKind::Trust, &Directory).unwrap();
    let bound: Vec<_> = stored
        .principal_ids
        .iter()
        .map(|(slot, id)| (slot.statement, slot.entry, id.to_owned()))
        .collect();
    assert_eq!(bound, [(0, 1, "AROAKNOWNKNOWNKNOWN12".to_owned())]);
    // Alive: the ARN it has now. Gone: the bare id.
    let shown = |now: &str| {
        stored
            .document
            .text_with_principals(|slot, _| stored.principal_ids.get(slot).map(|_| now.to_owned()))
    };
    assert_eq!(shown("arn:aws:iam::111122223333:role/known"), text);
    assert_eq!(
        shown("arn:aws:iam::111122223333:role/moved/known"),
        text.replace("role/known", "role/moved/known")
    );
    assert_eq!(
        shown("AROAKNOWNKNOWNKNOWN12"),
        text.replace(
            "arn:aws:iam::111122223333:role/known",
            "AROAKNOWNKNOWNKNOWN12"
        )
    );
}

#[test]
fn without_a_directory_principals_stay_text() {
    let text = r#"{"Statement": {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:role/any"}, "Action": "sts:AssumeRole"}}"#;
    assert!(
        validate(text, PolicyKind::Trust, &NoDirectory)
            .unwrap()
            .principal_ids
            .is_empty()
    );
}
