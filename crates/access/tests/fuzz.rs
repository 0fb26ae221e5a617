//! The fuzz entry points over their seeds and over mutations of them; the same numbers each time.
use countersign_access::fuzz;

/// Pieces that mean something to one of the parsers.
const PIECES: &[&str] = &[
    "{{",
    "}}",
    "{",
    "}",
    "[",
    "]",
    "- ",
    "\n",
    "\n  ",
    ": ",
    ":",
    ",",
    "'",
    "\"",
    "#",
    "&a ",
    "*a",
    "<<: *a",
    "!!str ",
    "---\n",
    "~",
    "null",
    "true",
    "system:",
    "system:masters",
    "countersign:entry:",
    "{{SessionName}}",
    "{{RoleName}}",
    "*",
    "?",
    "/",
    "arn:aws:iam::",
    "arn:aws:eks::aws:cluster-access-policy/",
    "111122223333",
    "everyone: true",
    "scope: cluster",
    "aggregate: true",
    "principalId",
    "principalid",
    "aws-iam-authenticator:",
    "\u{feff}",
    "é",
    "\0",
    "99999999999999999999",
    "policies:\n",
    "accessRules:\n",
];

fn run(directory: &str, target: fn(&[u8])) {
    let folder = format!(
        "{}/tests/data/corpus/{directory}",
        env!("CARGO_MANIFEST_DIR")
    );
    countersign_mutation::run(target, &countersign_mutation::corpus(folder), PIECES, 2400);
}

#[test]
fn no_file_makes_the_parser_panic_or_gives_a_system_group() {
    run("file", fuzz::file);
}

#[test]
fn no_review_makes_its_caller_believed_without_the_key() {
    run("caller", fuzz::caller);
}

#[test]
fn no_values_make_the_checks_panic_or_a_reserved_username() {
    run("values", fuzz::values);
}
