//! The fuzz targets over a small corpus, and over fixed pseudo-random changes of it: nothing may panic.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test helpers")]

mod common;

use common::vectors;
use countersign_sigv4::fuzz;

const PIECES: [&[u8]; 16] = [
    b"%",
    b"&",
    b"=",
    b";",
    b",",
    b"/",
    b"\n",
    b"\r\n",
    b"'",
    b"\"",
    b"\\",
    b"\xff",
    b"X-Amz-Algorithm",
    b"..",
    b" ",
    b"\0",
];

fn run(target: fn(&[u8]), corpus: &[Vec<u8>], rounds: usize) {
    countersign_mutation::run(target, corpus, &PIECES, rounds);
}

#[test]
fn presigned_queries_never_panic() {
    let mut corpus: Vec<Vec<u8>> = vectors()
        .vectors
        .iter()
        .filter_map(|v| Some(v.message.target.split_once('?')?.1.as_bytes().to_vec()))
        .collect();
    corpus.extend([b"".to_vec(), b"&&=&=".to_vec(), b"%".to_vec()]);
    run(fuzz::presigned_query, &corpus, 2000);
}

#[test]
fn header_signatures_never_panic() {
    let all = vectors();
    let messages = all
        .vectors
        .iter()
        .map(|v| &v.message)
        .chain(all.mutations.iter().map(|m| &m.message));
    let corpus: Vec<Vec<u8>> = messages
        .map(|m| {
            let lines: Vec<String> = m.headers.iter().map(|(n, v)| format!("{n}:{v}")).collect();
            format!("{} {}\n{}", m.method, m.target, lines.join("\n")).into_bytes()
        })
        .collect();
    run(fuzz::header_signature, &corpus, 2000);
}

#[test]
fn captures_never_panic() {
    let corpus: Vec<Vec<u8>> = [
        include_str!("data/capture.raw"),
        include_str!("data/capture.curl"),
        include_str!("data/capture.har"),
        "GET / HTTP/1.1",
        "curl -sSXGET $'http://a/\\u0021' -d @x",
        "{\"log\":{\"entries\":[]}}",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    run(fuzz::capture, &corpus, 2000);
}

#[test]
fn dates_never_panic() {
    let corpus: Vec<Vec<u8>> = [
        "20260314T092653Z",
        "Sat, 14 Mar 2026 09:26:53 GMT",
        "99991231T235959Z",
        "00000101T000000Z",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    run(fuzz::date, &corpus, 4000);
}
