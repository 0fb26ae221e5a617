//! Entry points for fuzzing; none may panic.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;

use crate::xml::{Document, Limits};
use crate::{Canonicalization, Metadata, Options, RolePair, verify};

/// `data` as a document: its canonical form must be read again and be canonical already.
///
/// # Panics
/// When it is not.
pub fn canonical(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(document) = Document::parse(text, &Limits::RESPONSE) else {
        return;
    };
    for comments in [false, true] {
        let inclusive = vec!["".into(), "a".into()];
        for inclusive in [Vec::new(), inclusive] {
            let method = Canonicalization {
                comments,
                inclusive,
            };
            let Ok(once) = method.write(document.root(), None, Limits::RESPONSE.bytes) else {
                continue;
            };
            // Namespaces are declared again where they are used.
            let wider = Limits {
                attributes: 1000,
                bindings: 1000,
                ..Limits::RESPONSE
            };
            let again = Document::parse(&once, &wider);
            let again = again.map(|again| method.write(again.root(), None, Limits::RESPONSE.bytes));
            assert_eq!(again, Ok(Ok(once)), "{text:?}");
        }
    }
}

/// `data` as metadata.
pub fn metadata(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = Metadata::parse(text);
    }
}

/// `data` as a response for the identity provider whose signed response and metadata are the test data: whatever
/// verifies has to say what that response says, for nobody else has the key.
///
/// # Panics
/// When it says something else.
pub fn response(data: &[u8]) {
    let genuine = include_str!("../tests/data/xmlsec-rsa-sha256-assertion.xml");
    let now = Timestamp::from_second(1_773_484_013).unwrap_or_default();
    let Ok(metadata) = Metadata::parse(include_str!("../tests/data/metadata.xml")) else {
        return;
    };
    let read = |text: &[u8]| verify(&STANDARD.encode(text), &metadata, now, &Options::default());
    if let Ok(assertion) = read(data) {
        assert_eq!(Ok(assertion), read(genuine.as_bytes()));
    }
}

/// `data` as a value of the attribute `Role`.
pub fn role_pair(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = RolePair::parse(text);
    }
}
