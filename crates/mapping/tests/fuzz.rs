//! The fuzz entry points over their seeds and over mutations of them; the same numbers each time.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helper functions of tests"
)]

use countersign_mapping::fuzz;

/// A small generator with a fixed seed; quality does not matter, repeatability does.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(n.max(1)).unwrap()).unwrap()
    }
}

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

fn mutate(seed: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut data = seed.to_vec();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(data.len() + 1);
        match numbers.below(5) {
            0 => {
                let piece = PIECES[numbers.below(PIECES.len())];
                data.splice(at..at, piece.bytes());
            }
            1 if at < data.len() => {
                data.remove(at);
            }
            2 if at < data.len() => data[at] = u8::try_from(numbers.below(256)).unwrap(),
            3 => {
                let end = (at + numbers.below(40)).min(data.len());
                let copy = data[at..end].to_vec();
                let to = numbers.below(data.len() + 1);
                data.splice(to..to, copy);
            }
            _ => {
                let end = (at + numbers.below(40)).min(data.len());
                data.drain(at..end);
            }
        }
    }
    data
}

fn run(directory: &str, target: fn(&[u8])) {
    let directory = format!(
        "{}/tests/data/corpus/{directory}",
        env!("CARGO_MANIFEST_DIR")
    );
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() >= 3);
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let rounds = 2400 / files.len();
    for file in files {
        let seed = std::fs::read(file).unwrap();
        target(&seed);
        for _ in 0..rounds {
            target(&mutate(&seed, &mut numbers));
        }
    }
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
