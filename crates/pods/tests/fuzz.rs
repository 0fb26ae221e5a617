//! The fuzz entry points over their seeds and over mutations of them; the same numbers each time.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helper functions of tests"
)]

use countersign_pods::fuzz;

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

fn mutate(seed: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut data = seed.to_vec();
    for _ in 0..=numbers.below(3) {
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
                let end = (at + numbers.below(60)).min(data.len());
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
    let rounds = 3000 / files.len();
    for file in files {
        let seed = std::fs::read(file).unwrap();
        target(&seed);
        for _ in 0..rounds {
            target(&mutate(&seed, &mut numbers));
        }
    }
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

#[test]
fn no_profile_begins_a_setting_of_its_own() {
    run("profiles", fuzz::profiles);
}

#[test]
fn no_object_makes_the_reader_of_associations_panic_or_changes_when_written() {
    run("association_object", fuzz::association_object);
}
