//! The fuzz targets over a small corpus and over deterministic mutations of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use countersign_policy::fuzz;

/// xorshift64*: the same mutations on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let value = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(value).unwrap() % limit.max(1)
    }
}

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

fn mutate(seed: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        match random.below(4) {
            0 => {
                let piece = PIECES[random.below(PIECES.len())].bytes();
                bytes.splice(at..at, piece);
            }
            1 if at < bytes.len() => bytes[at] = u8::try_from(random.below(256)).unwrap(),
            2 => {
                let end = (at + random.below(12)).min(bytes.len());
                bytes.drain(at..end);
            }
            _ => {
                let end = (at + random.below(40)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                let to = random.below(bytes.len() + 1);
                bytes.splice(to..to, copy);
            }
        }
    }
    bytes
}

fn run(target: fn(&[u8]), corpus: &[&str], rounds: usize) {
    // A longer run for those who have the time: COUNTERSIGN_FUZZ_FACTOR=100.
    let factor: usize = std::env::var("COUNTERSIGN_FUZZ_FACTOR")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1);
    let rounds = rounds * factor;
    let mut random = Random(0x5EED_0FC0_FFEE);
    for seed in corpus {
        target(seed.as_bytes());
    }
    for round in 0..rounds {
        let seed = corpus[round % corpus.len()];
        target(&mutate(seed.as_bytes(), &mut random));
    }
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
