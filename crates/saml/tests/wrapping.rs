//! Signature wrapping (Somorovsky and others, "On Breaking SAML"): the signed assertion is moved to where the signature
//! still finds it, and a forged one takes its place. And what else people do to signatures.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "functions beside the tests"
)]

mod common;

use common::*;
use countersign_saml::{Assertion, Metadata, Options, Refusal, verify};
use jiff::Timestamp;

fn now() -> Timestamp {
    "2026-03-14T10:26:53Z".parse().unwrap()
}

fn genuine() -> Response {
    Response::valid("2026-03-14T10:26:00Z", "2026-03-14T10:31:00Z")
}

fn check(idp: &Idp, document: &str) -> Result<Assertion, Refusal> {
    let metadata = Metadata::parse(&idp.metadata()).unwrap();
    verify(&encoded(document), &metadata, now(), &Options::default())
}

/// From `start` to the end of `end`, and the document around it.
fn cut<'d>(document: &'d str, start: &str, end: &str) -> (&'d str, &'d str, &'d str) {
    let from = document.find(start).unwrap();
    let to = from + document[from..].find(end).unwrap() + end.len();
    (&document[..from], &document[from..to], &document[to..])
}

struct Material {
    /// The response with its assertion signed.
    document: String,
    before: String,
    /// The signed assertion, with and without its signature.
    assertion: String,
    bare: String,
    signature: String,
    after: String,
    /// The same assertion with another subject and another ID.
    forged: String,
    /// The response signed, not the assertion: with and without the signature.
    response: String,
    response_bare: String,
    response_signature: String,
}

impl Material {
    fn new(idp: &Idp) -> Self {
        let document = idp.signed(&genuine().xml(), "_a");
        let (before, assertion, after) = cut(&document, "<saml:Assertion", "</saml:Assertion>");
        let (_, signature, _) = cut(assertion, "<ds:Signature ", "</ds:Signature>");
        let bare = assertion.replace(signature, "");
        let forged = bare
            .replace("alice", "mallory")
            .replace("\"_a\"", "\"_evil\"");
        let response_bare = genuine().xml();
        let response = idp.signed(&response_bare, "_r");
        let (_, response_signature, _) = cut(&response, "<ds:Signature ", "</ds:Signature>");
        Self {
            before: before.to_owned(),
            assertion: assertion.to_owned(),
            bare,
            signature: signature.to_owned(),
            after: after.to_owned(),
            forged,
            response_signature: response_signature.to_owned(),
            response: response.clone(),
            response_bare,
            document: document.clone(),
        }
    }

    fn around(&self, inside: &str) -> String {
        format!("{}{inside}{}", self.before, self.after)
    }
}

/// `what` as the last thing in `element`.
fn inside(element: &str, what: &str) -> String {
    let at = element.rfind("</").unwrap();
    format!("{}{what}{}", &element[..at], &element[at..])
}

fn in_object(signature: &str, what: &str) -> String {
    inside(signature, &format!("<ds:Object>{what}</ds:Object>"))
}

#[test]
fn wrapped_assertions_are_refused() {
    let idp = Idp::new();
    let m = Material::new(&idp);
    let assertion = check(&idp, &m.document).unwrap();
    assert_eq!(&*assertion.subject, "alice");
    assert!(check(&idp, &m.response).is_ok());

    let evil_response = m
        .response_bare
        .replace("alice", "mallory")
        .replace("\"_r\"", "\"_evil\"");
    let signed_forged = |signature: &str| behind_issuer(&m.forged, "_evil", signature);
    let extensions = |what: &str| format!("<samlp:Extensions>{what}</samlp:Extensions>");
    let cases = [
        // XSW1: the original response inside the signature of a forged response
        (
            "XSW1",
            behind_issuer(
                &evil_response,
                "_evil",
                &inside(&m.response_signature, &m.response_bare),
            ),
        ),
        // XSW2: the original response before the detached signature
        (
            "XSW2",
            behind_issuer(
                &evil_response,
                "_evil",
                &format!("{}{}", m.response_bare, m.response_signature),
            ),
        ),
        // XSW3: the forged assertion before the original one
        ("XSW3", m.around(&format!("{}{}", m.forged, m.assertion))),
        // XSW4: the original one inside the forged one
        ("XSW4", m.around(&inside(&m.forged, &m.assertion))),
        // XSW5: the forged one has the signature, the original one follows the response's content
        (
            "XSW5",
            m.around(&format!("{}{}", signed_forged(&m.signature), m.bare)),
        ),
        // XSW6: the original one inside the signature inside the forged one
        (
            "XSW6",
            m.around(&signed_forged(&inside(&m.signature, &m.bare))),
        ),
        // XSW7: the forged one in Extensions, in front
        (
            "XSW7",
            m.around(&format!("{}{}", extensions(&m.forged), m.assertion)),
        ),
        // XSW8: the original one in an Object of the signature in the forged one
        (
            "XSW8",
            m.around(&signed_forged(&in_object(&m.signature, &m.bare))),
        ),
        // and relatives
        (
            "original in Extensions",
            m.around(&format!("{}{}", extensions(&m.assertion), m.forged)),
        ),
        (
            "forged last",
            m.around(&format!("{}{}", m.assertion, m.forged)),
        ),
        (
            "same ID",
            m.around(&format!(
                "{}{}",
                m.forged.replace("_evil", "_a"),
                m.assertion
            )),
        ),
        (
            "same ID in another spelling",
            m.around(
                &m.assertion
                    .replace("<saml:Subject>", "<saml:Subject Id=\"_a\">"),
            ),
        ),
        (
            "forged in Object",
            m.document.replace(
                "</ds:KeyInfo>",
                &format!("</ds:KeyInfo><ds:Object>{}</ds:Object>", m.forged),
            ),
        ),
        (
            "forged in KeyInfo",
            m.document
                .replace("</ds:KeyInfo>", &format!("{}</ds:KeyInfo>", m.forged)),
        ),
        ("signature removed", m.around(&m.bare)),
        (
            "signature moved to the response",
            behind_issuer(&m.around(&m.bare), "_r", &m.signature),
        ),
        (
            "forged, signature kept",
            m.document.replace("alice", "mallory"),
        ),
        (
            "signature twice",
            m.around(&behind_issuer(&m.assertion, "_a", &m.signature)),
        ),
        (
            "response signature over an assertion exchanged",
            m.response.replace("alice", "mallory"),
        ),
        (
            "response signed, assertion forged and signed in it by nobody",
            m.response
                .replace("<saml:Subject>", &format!("{}<saml:Subject>", m.signature))
                .replace("alice", "mallory"),
        ),
        (
            "a bad signature on the response beside a good one on the assertion",
            behind_issuer(&m.document, "_r", &m.response_signature),
        ),
        (
            "the assertion in Advice of a forged one",
            m.around(&inside(
                &m.forged,
                &format!("<saml:Advice>{}</saml:Advice>", m.assertion),
            )),
        ),
        (
            "comment in the subject",
            m.document.replace("alice<", "alice<!-- x -->x<"),
        ),
        (
            "namespace of the subject exchanged",
            m.document
                .replace("<saml:NameID", "<saml:NameID xmlns:saml=\"urn:x\""),
        ),
    ];
    for (name, document) in cases {
        assert_ne!(document, m.document, "{name}");
        let refusal = check(&idp, &document);
        assert!(
            matches!(
                refusal,
                Err(Refusal::Form(_)
                    | Refusal::Signature { .. }
                    | Refusal::Unsigned
                    | Refusal::Malformed(_))
            ),
            "{name}: {refusal:?}"
        );
    }
}

#[test]
fn what_is_not_signed_may_change_and_changes_nothing() {
    let idp = Idp::new();
    let m = Material::new(&idp);
    let original = check(&idp, &m.document).unwrap();
    let cases = [
        (
            "comment",
            m.document
                .replace("alice<", "al<!-- x --><!---->ice<!-- y --><"),
        ),
        (
            "CDATA",
            m.document.replace(">alice<", "><![CDATA[ali]]>c&#101;<"),
        ),
        (
            "attribute order",
            m.document
                .replace(r#"ID="_a" Version="2.0""#, "Version = '2.0'\n ID='&#95;a'"),
        ),
        (
            "unused namespace",
            m.document
                .replace("<saml:Subject>", "<saml:Subject xmlns:unused=\"urn:x\">"),
        ),
        (
            "declaration",
            format!(
                "<?xml version=\"1.0\" encoding='UTF-8'?>\n<!-- hello -->{}",
                m.document
            ),
        ),
        (
            "the key in KeyInfo",
            m.document
                .replace(&idp.certificate(), &Idp::new().certificate()),
        ),
    ];
    for (name, document) in cases {
        assert_ne!(document, m.document, "{name}");
        assert_eq!(check(&idp, &document), Ok(original.clone()), "{name}");
    }
}

#[test]
fn only_keys_in_the_metadata_of_the_issuer_sign() {
    let idp = Idp::new();
    let other = Idp::new();
    // The right issuer, the key of another one, which comes along in KeyInfo.
    let document = other.signed(&genuine().xml(), "_a");
    assert!(matches!(
        check(&idp, &document),
        Err(Refusal::Signature { .. })
    ));

    // Two entities in one document: one may not speak for the other.
    let second = Idp::named("https://second.example.com/");
    let both = format!(
        r#"<md:EntitiesDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata">{}{}</md:EntitiesDescriptor>"#,
        idp.metadata(),
        second.metadata()
    );
    let metadata = Metadata::parse(&both).unwrap();
    let mut of_second = genuine();
    of_second.issuer = "https://second.example.com/".into();
    let cases = [
        (genuine().signed_by(&idp), true),
        (genuine().signed_by(&second), false),
        (of_second.signed_by(&second), true),
        (of_second.signed_by(&idp), false),
    ];
    for (number, (response, good)) in cases.into_iter().enumerate() {
        let verified = verify(&response, &metadata, now(), &Options::default());
        assert_eq!(verified.is_ok(), good, "{number}: {verified:?}");
    }
}

#[test]
fn signatures_of_another_form_are_refused_though_they_verify() {
    let idp = Idp::new();
    let xml = genuine().xml();
    let good = idp.signature(&xml, "_a");
    let (_, info, _) = cut(&good, "<ds:SignedInfo", "</ds:SignedInfo>");
    let (_, reference, _) = cut(info, "<ds:Reference", "</ds:Reference>");
    let enveloped =
        "<ds:Transform Algorithm=\"http://www.w3.org/2000/09/xmldsig#enveloped-signature\"/>";
    let exclusive = format!("<ds:Transform Algorithm=\"{EXCLUSIVE}\"/>");
    let xpath = "<ds:Transform Algorithm=\"http://www.w3.org/TR/1999/REC-xpath-19991116\"><ds:XPath>true()</ds:XPath></ds:Transform>";
    let xslt = "<ds:Transform Algorithm=\"http://www.w3.org/TR/1999/REC-xslt-19991116\"/>";
    let inclusive = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315";
    let hmac = "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256";
    let cases = [
        ("as it is", info.to_owned()),
        (
            "two references",
            info.replace(reference, &format!("{reference}{reference}")),
        ),
        ("no reference", info.replace(reference, "")),
        (
            "the whole document",
            info.replace("URI=\"#_a\"", "URI=\"\""),
        ),
        ("no URI", info.replace(" URI=\"#_a\"", "")),
        ("another element", info.replace("#_a", "#_r")),
        ("XPointer", info.replace("#_a", "#xpointer(id('_a'))")),
        (
            "elsewhere",
            info.replace("#_a", "https://evil.example.com/"),
        ),
        ("not enveloped", info.replace(enveloped, "")),
        ("no canonicalization", info.replace(&exclusive, "")),
        (
            "other order",
            info.replace(
                &format!("{enveloped}{exclusive}"),
                &format!("{exclusive}{enveloped}"),
            ),
        ),
        (
            "three transforms",
            info.replace(&exclusive, &format!("{exclusive}{exclusive}")),
        ),
        ("XPath", info.replace(enveloped, xpath)),
        ("XSLT", info.replace(&exclusive, xslt)),
        (
            "no transforms",
            info.replace(
                &format!("<ds:Transforms>{enveloped}{exclusive}</ds:Transforms>"),
                "",
            ),
        ),
        (
            "inclusive canonicalization",
            info.replace(EXCLUSIVE, inclusive),
        ),
        (
            "HMAC",
            info.replace("http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256", hmac),
        ),
        (
            "none",
            info.replace("http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256", ""),
        ),
        (
            "the method of another key",
            info.replace("#ecdsa-sha256", "#rsa-sha256"),
        ),
        (
            "a parameter",
            info.replace(
                "#ecdsa-sha256\"/>",
                "#ecdsa-sha256\"><ds:HMACOutputLength>0</ds:HMACOutputLength></ds:SignatureMethod>",
            ),
        ),
        (
            "SHA-1",
            info.replace(
                "http://www.w3.org/2001/04/xmlenc#sha256",
                "http://www.w3.org/2000/09/xmldsig#sha1",
            ),
        ),
        ("empty digest", {
            let (before, _, after) = cut(info, "<ds:DigestValue>", "</ds:DigestValue>");
            format!("{before}<ds:DigestValue></ds:DigestValue>{after}")
        }),
    ];
    for (name, info) in cases {
        let document = behind_issuer(&xml, "_a", &idp.signature_over(&info));
        let verified = check(&idp, &document);
        match name {
            "as it is" => assert!(verified.is_ok(), "{verified:?}"),
            _ => assert!(
                matches!(verified, Err(Refusal::Signature { .. })),
                "{name}: {verified:?}"
            ),
        }
    }
}

#[test]
fn a_signed_text_that_grows_is_refused() {
    // A namespace that is declared once is written at every element that uses it.
    let idp = Idp::new();
    let uri = "x".repeat(4000);
    let many = "<p:a/>".repeat(1000);
    let xml = genuine()
        .xml()
        .replace(
            "<saml:Assertion ",
            &format!("<saml:Assertion xmlns:p=\"urn:{uri}\" "),
        )
        .replace(
            "</saml:Subject>",
            &format!("</saml:Subject><saml:Advice>{many}</saml:Advice>"),
        );
    let signature = idp.signature_of("whatever", "#_a");
    let refusal = check(&idp, &behind_issuer(&xml, "_a", &signature)).unwrap_err();
    assert!(
        refusal.to_string().contains("more than 262144 bytes"),
        "{refusal}"
    );
}
