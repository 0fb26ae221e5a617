//! The fuzz entry points over seeds and some thousand mutations.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "functions beside the tests"
)]

use countersign_saml::fuzz;

/// A small generator of numbers (xorshift): the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }
}

const WORDS: &[&str] = &[
    "<",
    ">",
    "/",
    "\"",
    "'",
    "&",
    "&#13;",
    "&amp;",
    "<!--",
    "-->",
    "<![CDATA[",
    "]]>",
    "<!DOCTYPE a>",
    "<?a?>",
    "xmlns:a=\"urn:1\"",
    "xmlns=\"\"",
    " ",
    "\r\n",
    "a:",
    "ID=\"_assertion\"",
    "<saml:Assertion>",
    "</saml:Assertion>",
    "<ds:Signature>",
    "<a/>",
    "x=\"1\" ",
];

fn mutated(seed: &str, random: &mut Random) -> Vec<u8> {
    let mut bytes = seed.as_bytes().to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len());
        match random.below(7) {
            0 => bytes.truncate(at),
            1 | 2 => {
                let word = WORDS[random.below(WORDS.len())];
                bytes.splice(at..at, word.bytes());
            }
            3 => {
                // A part again in another place.
                let to = (at + random.below(900)).min(bytes.len());
                let part = bytes[at..to].to_vec();
                let place = random.below(bytes.len());
                bytes.splice(place..place, part);
            }
            4 => {
                let to = (at + random.below(300)).min(bytes.len());
                bytes.drain(at..to);
            }
            _ if !bytes.is_empty() => {
                bytes[at] = u8::try_from(random.below(128)).unwrap();
            }
            _ => {}
        }
    }
    bytes
}

fn run(target: fn(&[u8]), seeds: &[&str], rounds: usize) {
    let mut random = Random(42);
    for seed in seeds {
        target(seed.as_bytes());
        for _ in 0..rounds / seeds.len() {
            target(&mutated(seed, &mut random));
        }
    }
}

const RESPONSES: &[&str] = &[
    include_str!("data/xmlsec-rsa-sha256-assertion.xml"),
    include_str!("data/xmlsec-rsa-sha384-response.xml"),
    include_str!("data/xmlsec-rsa-sha512-both.xml"),
];

#[test]
fn nothing_verifies_that_says_anything_else() {
    run(fuzz::response, RESPONSES, 2400);
}

#[test]
fn canonical_forms_are_canonical() {
    let small = [
        "<a xmlns='urn:1'><b xmlns=''>t</b><!--c--><a:c xmlns:a='urn:2' a:d='&lt;'/></a>",
        "<a><![CDATA[<]]>&#13;</a>",
    ];
    run(
        fuzz::canonical,
        &[small.as_slice(), RESPONSES].concat(),
        2400,
    );
}

#[test]
fn hostile_metadata_is_refused() {
    run(fuzz::metadata, &[include_str!("data/metadata.xml")], 1500);
}

#[test]
fn hostile_role_values_are_no_pairs() {
    let pair = "arn:aws:iam::111122223333:role/Dev,arn:aws:iam::111122223333:saml-provider/corp";
    run(fuzz::role_pair, &[pair, ",", ""], 1000);
}
