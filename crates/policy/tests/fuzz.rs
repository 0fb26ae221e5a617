//! The fuzz targets over a small corpus and over deterministic mutations of it.
use countersign_policy::fuzz;

const PIECES: [&str; 24] = [
    "*",
    "?",
    "${",
    "}",
    "${aws:username}",
    "\"",
    "\\u00e9",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "true",
    "1e9",
    "arn:",
    "\\",
    "\u{e9}",
    "\u{0}",
    "Not",
    "ForAllValues:",
    "IfExists",
    "é",
];

fn run(target: fn(&[u8]), corpus: &[&str], rounds: usize) {
    countersign_mutation::run(target, corpus, &PIECES, rounds);
}

const DOCUMENTS: [&str; 4] = [
    r#"{"Version": "2012-10-17", "Id": "x", "Statement": [{"Sid": "a", "Effect": "Allow", "Action": ["s3:Get*", "eks:*"], "Resource": "arn:aws:s3:::b/${aws:username, 'é'}/*", "Condition": {"ForAnyValue:StringLike": {"aws:TagKeys": ["a*", "b"]}, "NumericLessThan": {"k": 5}}}]}"#,
    r#"{"Statement": {"Effect": "Deny", "NotPrincipal": {"AWS": ["111122223333", "arn:aws:iam::111122223333:role/r"], "Service": "x.y"}, "NotAction": "sts:*", "NotResource": "arn:aws:iam::*:role/*"}}"#,
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Federated":"arn:aws:iam::111122223333:oidc-provider/i.example"},"Action":"sts:AssumeRoleWithWebIdentity","Condition":{"StringEquals":{"i.example:sub":"system:serviceaccount:a:b"}}}]}"#,
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":["*","arn:aws:s3"],"Condition":{"IpAddress":{"aws:SourceIp":"::ffff:10.0.0.1/99"},"DateLessThan":{"aws:CurrentTime":"2026-01-01T00:00:00Z"},"Bool":{"aws:SecureTransport":true},"Null":{"k":"false"}}}]}"#,
];

#[test]
fn documents() {
    run(fuzz::document, &DOCUMENTS, 2000);
}

#[test]
fn patterns() {
    run(
        fuzz::pattern,
        &[
            "a*b?c\naxxbyc",
            "*${k}*?é\néé",
            "????????????????*??\naaaaaaaaaaaaaaaaaaaaaaa",
            "${*}${?}${$}\n*?$",
        ],
        4000,
    );
}

#[test]
fn conditions() {
    run(
        fuzz::condition,
        &[
            "StringLike\na*${k}\nabc",
            "NumericEquals\n1.5e3\n1500",
            "DateLessThan\n2026-01-01T00:00:00.5+01:30\n-5",
            "NotIpAddress\n10.0.0.0/8\n::1",
            "ForAllValues:ArnLike\narn:*:${k}:::x\narn:aws:s3:::x",
            "BinaryEquals\nQUI=\nQUI=",
        ],
        4000,
    );
}

#[test]
fn variables() {
    run(
        fuzz::variable,
        &["a${b}c${d, 'e'}", "${${}}${", "${k, 'a}b'}${*}"],
        4000,
    );
}

#[test]
fn simulate_files() {
    run(
        fuzz::simulate_file,
        &[
            r#"{"schemaVersion": 1, "cases": [{"id": "x", "request": {"principal": "arn:aws:iam::111122223333:user/a", "action": ["s3:GetObject"], "resource": "*", "context": {"a": ["b", 1], "c": true}}, "policies": {"identity": ["{\"Statement\": {\"Effect\": \"Allow\", \"Action\": \"*\", \"Resource\": \"*\"}}", {"file": "x"}], "scp": [{"target": "r", "policies": []}]}, "expected": {"decision": "allowed", "blockedBy": ["scp"]}}]}"#,
            "id: x\nrequest:\n  principal: anonymous\n  action: s3:GetObject\n  resource: arn:aws:s3:::b/k\n  resourceAccount: 012345678901\npolicies:\n  resource:\n    Version: '2012-10-17'\n    Statement: {Effect: Allow, Principal: '*', Action: 's3:*', Resource: '*'}\nexpected: {decision: allowed}\n",
        ],
        2000,
    );
}
