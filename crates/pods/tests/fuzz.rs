//! The fuzz entry points over their seeds and over mutations of them; the same numbers each time.
use countersign_pods::fuzz;

/// Pieces that mean something to one of the parsers.
const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"",
    ",",
    ":",
    "null",
    "{}",
    "[]",
    "\\u0041",
    "\\ud800",
    "\\",
    "\n",
    "\0",
    "é",
    "\u{202e}",
    "\"spec\":",
    "\"containers\":",
    "\"env\":",
    "\"env\":null,",
    "\"volumes\":[],",
    "\"name\":\"AWS_ROLE_ARN\"",
    "{\"name\":\"app\"},",
    "\"volumeMounts\":[{\"name\":\"aws-iam-token\"}],",
    "\"kind\":\"Pod\",",
    "\"object\":null,",
    "9223372036854775807",
    "-1",
    "1e400",
    "\"os\":{\"name\":\"windows\"},",
    "*",
    "/",
    "a\"b",
    "--",
    "=",
    "-v",
    "s",
    "in (",
];

fn run(directory: &str, target: fn(&[u8])) {
    let folder = format!(
        "{}/tests/data/corpus/{directory}",
        env!("CARGO_MANIFEST_DIR")
    );
    countersign_mutation::run(target, &countersign_mutation::corpus(folder), PIECES, 3000);
}

#[test]
fn no_review_makes_the_webhook_panic() {
    run("review", fuzz::review);
}

#[test]
fn no_config_map_or_identities_file_makes_the_parsers_panic() {
    run("sources", fuzz::sources);
}

#[test]
fn no_command_line_makes_the_parser_panic_or_yields_options_that_cannot_be_used() {
    run("flags", fuzz::flags);
}
