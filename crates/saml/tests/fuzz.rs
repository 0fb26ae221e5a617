//! The fuzz entry points over seeds and some thousand mutations.
use countersign_saml::fuzz;

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

fn run(target: fn(&[u8]), seeds: &[&str], rounds: usize) {
    countersign_mutation::run(target, seeds, WORDS, rounds);
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
