//! The fuzz entry points over their seeds and over mutations of them; the same numbers each time.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helper functions of tests"
)]

use countersign_access::fuzz;

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
