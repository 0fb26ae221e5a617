//! The fuzz entry points over their seeds and over mutations of them; the same numbers each time.
use countersign_mapping::fuzz;

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
    "\\",
    "|\n",
    ">-\n",
    "#",
    " #",
    "&a ",
    "*a",
    "<<: *a",
    "<<: [*a, *a]",
    "!!str ",
    "!!binary ",
    "!x ",
    "? ",
    "---\n",
    "...\n",
    "%YAML 1.1\n",
    "\t",
    "\r\n",
    "~",
    "null",
    "yes",
    "012345678901",
    "\u{feff}",
    "\u{85}",
    "\u{2028}",
    "é",
    "\0",
    "{{SessionName}}",
    "{{AccountID}}",
    "rolearn",
    "sso",
    "roleMatch",
    "groups",
    "system:masters",
    "arn:aws:iam::444455556666:role/A",
    "mapRoles",
    "\\u0041",
    "''",
    "\"userid\":",
    "null,",
    "0x1f",
    "1e999",
    "data:",
];

fn run(directory: &str, target: fn(&[u8])) {
    let folder = format!(
        "{}/tests/data/corpus/{directory}",
        env!("CARGO_MANIFEST_DIR")
    );
    countersign_mutation::run(target, &countersign_mutation::corpus(folder), PIECES, 2400);
}

#[test]
fn no_config_map_makes_the_parser_panic_or_invent_a_group() {
    run("config_map", fuzz::config_map);
}

#[test]
fn no_dynamic_file_makes_the_parser_panic() {
    run("dynamic_file", fuzz::dynamic_file);
}

#[test]
fn no_template_makes_the_compiler_panic() {
    run("template", fuzz::template);
}
