//! Every check of a response, as tables (STS spec, section 2.4).
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "functions beside the tests"
)]

mod common;

use common::*;
use countersign_saml::xml::{Document, Limits};
use countersign_saml::{Assertion, Claims, Code, Metadata, Options, Refusal, RolePair, verify};
use jiff::Timestamp;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    at("2026-03-14T10:26:53Z")
}

fn genuine() -> Response {
    Response::valid("2026-03-14T10:26:00Z", "2026-03-14T10:31:00Z")
}

fn check(idp: &Idp, response: &Response) -> Result<Assertion, Refusal> {
    let metadata = Metadata::parse(&idp.metadata()).unwrap();
    verify(
        &response.signed_by(idp),
        &metadata,
        now(),
        &Options::default(),
    )
}

#[test]
fn an_assertion_is_read_whole() {
    let idp = Idp::new();
    let mut response = genuine()
        .with("SessionDuration", &["7200"])
        .with("PrincipalTag:Team", &["blue"])
        .with("PrincipalTag:Cost Center", &[""])
        .with("TransitiveTagKeys", &["Team", "Cost Center"])
        .with("SourceIdentity", &["alice.w"])
        .with("SomethingNew", &["x", "y"])
        .with(
            "Role",
            &["", "nonsense", &format!(" {PROVIDER} ,\n {ROLE} ")],
        )
        .with_attribute("urn:oid:2.5.4.3", &["Alice", "Alice W"])
        .with_attribute("urn:oid:0.9.2342.19200300.100.1.3", &["alice@example.com"])
        .with_attribute("groups", &["admins"]);
    response.statements = r#"<saml:AuthnStatement AuthnInstant="2026-03-14T10:26:00Z" SessionNotOnOrAfter="2026-03-14T18:00:00Z"/><saml:AuthnStatement AuthnInstant="2026-03-14T10:26:00Z" SessionNotOnOrAfter="2026-03-14T17:00:00Z"/>"#.into();
    let assertion = check(&idp, &response).unwrap();
    assert_eq!(&*assertion.id, "_a");
    assert_eq!(&*assertion.issuer, ENTITY);
    assert_eq!(&*assertion.subject, "alice");
    assert_eq!(&*assertion.subject_type, "persistent");
    assert_eq!(&*assertion.recipient, "https://signin.aws.amazon.com/saml");
    assert_eq!(assertion.not_after, at("2026-03-14T10:36:00Z"));
    assert_eq!(
        assertion.session_not_after,
        Some(at("2026-03-14T17:00:00Z"))
    );
    assert_eq!(
        assertion.claims,
        Claims {
            roles: vec![RolePair {
                role: ROLE.into(),
                provider: PROVIDER.into()
            }],
            session_name: "alice".into(),
            session_duration: Some(7200),
            tags: vec![
                ("Team".into(), "blue".into()),
                ("Cost Center".into(), "".into())
            ],
            transitive_tag_keys: vec!["Team".into(), "Cost Center".into()],
            source_identity: Some("alice.w".into()),
        }
    );
    assert_eq!(
        assertion.context,
        [
            ("cn", vec!["Alice".into(), "Alice W".into()]),
            ("mail", vec!["alice@example.com".into()])
        ]
    );
    assert!(assertion.offers(ROLE, PROVIDER));
    assert!(!assertion.offers("arn:aws:iam::111122223333:role/dev", PROVIDER));
    assert!(!assertion.offers(ROLE, "arn:aws:iam::444455556666:saml-provider/corp"));
}

#[test]
fn rsa_signs_as_well() {
    let idp = Idp::with_rsa(ENTITY);
    assert!(check(&idp, &genuine()).is_ok());
}

#[test]
fn subjects_have_a_name_and_a_type() {
    let idp = Idp::new();
    let id =
        |attributes: &str, text: &str| format!("<saml:NameID{attributes}>{text}</saml:NameID>");
    let long = "x".repeat(1025);
    let cases = [
        (
            id("", " bob\n"),
            Some((
                "bob",
                "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified",
            )),
        ),
        (
            id(r#" Format="""#, "bob"),
            Some((
                "bob",
                "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified",
            )),
        ),
        (
            id(
                r#" Format="urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress""#,
                "b@example.com",
            ),
            Some((
                "b@example.com",
                "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress",
            )),
        ),
        (
            id(
                r#" Format="urn:oasis:names:tc:SAML:2.0:nameid-format:transient""#,
                "_1",
            ),
            Some(("_1", "transient")),
        ),
        (id("", ""), None),
        (id("", "  "), None),
        (id("", &long), None),
        (id("", "a<saml:b/>"), None),
        (String::new(), None),
        (format!("{}{}", id("", "a"), id("", "b")), None),
        ("<saml:BaseID/>".to_owned(), None),
    ];
    for (name_id, expected) in cases {
        let mut response = genuine();
        response.name_id = name_id.clone();
        let verified = check(&idp, &response);
        match expected {
            Some((subject, subject_type)) => {
                let assertion = verified.unwrap();
                assert_eq!(
                    (&*assertion.subject, &*assertion.subject_type),
                    (subject, subject_type)
                );
            }
            None => assert_eq!(verified, Err(Refusal::Malformed("NameID")), "{name_id}"),
        }
    }
}

#[test]
fn times_are_kept_with_five_minutes_of_tolerance() {
    let idp = Idp::new();
    let metadata = Metadata::parse(&idp.metadata()).unwrap();
    let mut response = genuine();
    response.confirmation = response.confirmation.replace(
        "NotOnOrAfter",
        "NotBefore=\"2026-03-14T10:20:00Z\" NotOnOrAfter",
    );
    response.statements =
        r#"<saml:AuthnStatement SessionNotOnOrAfter="2026-03-14T10:40:00Z"/>"#.into();
    let ends = |conditions: &str, confirmation: &str, session: &str| {
        let mut response = response.clone();
        response.conditions = response.conditions.replace("10:31", conditions);
        response.confirmation = response.confirmation.replace("10:31", confirmation);
        response.statements = response.statements.replace("10:40", session);
        response.signed_by(&idp)
    };
    let begins = |conditions: &str, confirmation: &str| {
        let mut response = response.clone();
        response.conditions = response.conditions.replace("10:26", conditions);
        response.confirmation = response.confirmation.replace("10:20", confirmation);
        response.signed_by(&idp)
    };
    let cases = [
        (ends("10:31", "10:31", "10:40"), "10:26:00", None),
        (ends("10:31", "10:31", "10:40"), "10:35:59", None),
        (
            ends("10:31", "10:31", "10:40"),
            "10:36:00",
            Some("NotOnOrAfter of the conditions"),
        ),
        (
            ends("10:39", "10:31", "10:40"),
            "10:36:00",
            Some("NotOnOrAfter of the subject confirmation"),
        ),
        (ends("10:39", "10:39", "10:40"), "10:39:59", None),
        (
            ends("10:39", "10:39", "10:40"),
            "10:40:00",
            Some("SessionNotOnOrAfter"),
        ),
        (begins("10:26", "10:20"), "10:21:00", None),
        (
            begins("10:26", "10:20"),
            "10:20:59",
            Some("NotBefore of the conditions"),
        ),
        (
            begins("10:10", "10:20"),
            "10:14:59",
            Some("NotBefore of the subject confirmation"),
        ),
    ];
    for (number, (response, time, expected)) in cases.into_iter().enumerate() {
        let now = at(&format!("2026-03-14T{time}Z"));
        let verified = verify(&response, &metadata, now, &Options::default());
        match (expected, &verified) {
            (None, Ok(assertion)) => assert!(assertion.not_after > now),
            (Some(expected), Err(refusal @ Refusal::Time { what, .. })) => {
                assert_eq!(*what, expected, "{number}");
                assert_eq!(refusal.code(), Code::ExpiredTokenException);
            }
            _ => panic!("{number}: {verified:?}"),
        }
    }
}

#[test]
fn metadata_ends() {
    let idp = Idp::new();
    let text = idp.metadata_with(" validUntil=\"2026-03-14T10:26:53Z\"");
    let metadata = Metadata::parse(&text).unwrap();
    let response = genuine().signed_by(&idp);
    let check = |now| verify(&response, &metadata, now, &Options::default());
    assert!(check(at("2026-03-14T10:26:52Z")).is_ok());
    let refusal = check(now()).unwrap_err();
    assert_eq!(refusal, Refusal::MetadataExpired { until: now() });
    assert_eq!(refusal.code(), Code::InvalidIdentityToken);
}

/// A change to the genuine response and the refusal it meets: code, message, part of what the operator reads.
type Case = (
    &'static str,
    fn(&mut Response),
    Code,
    &'static str,
    &'static str,
);

const FORM: &str = "Invalid SAML response: it is not a SAML 2.0 response with one assertion.";

#[rustfmt::skip]
const CASES: &[Case] = &[
    ("failed", |r| r.status = "urn:oasis:names:tc:SAML:2.0:status:Responder".into(),
        Code::IdpRejectedClaim, "The identity provider reported that authentication failed.", "status:Responder"),
    ("issuer", |r| r.issuer = "https://other.example.com/".into(),
        Code::InvalidIdentityToken, "Issuer not present in specified provider", "`https://other.example.com/`"),
    ("no confirmation", |r| r.confirmation.clear(),
        Code::InvalidIdentityToken, FORM, "bearer SubjectConfirmation"),
    ("two confirmations", |r| r.confirmation = r.confirmation.repeat(2),
        Code::InvalidIdentityToken, FORM, "bearer SubjectConfirmation"),
    ("holder of key", |r| r.confirmation = r.confirmation.replace("cm:bearer", "cm:holder-of-key"),
        Code::InvalidIdentityToken, FORM, "bearer SubjectConfirmation"),
    ("no end of the confirmation", |r| r.confirmation = r.confirmation.replace("NotOnOrAfter", "InResponseTo"),
        Code::InvalidIdentityToken, FORM, "NotOnOrAfter in SubjectConfirmationData"),
    ("no instant", |r| r.confirmation = r.confirmation.replace("2026-03-14T10:31:00Z", "tomorrow"),
        Code::InvalidIdentityToken, FORM, "NotOnOrAfter"),
    ("no recipient", |r| r.confirmation = r.confirmation.replace("Recipient", "Address"),
        Code::InvalidIdentityToken, FORM, "Recipient"),
    ("other recipient", |r| r.confirmation = r.confirmation.replace("signin.aws", "signin.example"),
        Code::InvalidIdentityToken, "Response does not contain the required recipient.", "none of this service's"),
    ("recipient with a slash", |r| r.confirmation = r.confirmation.replace("com/saml", "com/saml/"),
        Code::InvalidIdentityToken, "Response does not contain the required recipient.", "none of this service's"),
    ("no conditions", |r| r.conditions.clear(),
        Code::InvalidIdentityToken, FORM, "Conditions"),
    ("no audience", |r| r.conditions = "<saml:Conditions/>".into(),
        Code::InvalidIdentityToken, "Response does not contain the required audience.", "no AudienceRestriction"),
    ("other audience", |r| r.conditions = r.conditions.replace("urn:amazon", "urn:other"),
        Code::InvalidIdentityToken, "Response does not contain the required audience.", "no AudienceRestriction"),
    ("one of two restrictions", |r| r.conditions = r.conditions.replace("</saml:Conditions>",
            "<saml:AudienceRestriction><saml:Audience>urn:other</saml:Audience></saml:AudienceRestriction></saml:Conditions>"),
        Code::InvalidIdentityToken, "Response does not contain the required audience.", "no AudienceRestriction"),
    ("unknown condition", |r| r.conditions = r.conditions.replace("</saml:Conditions>", "<saml:Condition/></saml:Conditions>"),
        Code::InvalidIdentityToken, "Response contains a condition that is not supported.", "`Condition`"),
    ("no session name", |r| r.attributes.retain(|(name, _)| !name.ends_with("RoleSessionName")),
        Code::InvalidIdentityToken, "RoleSessionName is required in AuthnResponse", "missing"),
    ("two session names", |r| *r = r.clone().with("RoleSessionName", &["alice", "bob"]),
        Code::InvalidIdentityToken, "RoleSessionName is required in AuthnResponse", "more than one"),
    ("session name too short", |r| *r = r.clone().with("RoleSessionName", &["a"]),
        Code::InvalidIdentityToken, "RoleSessionName in AuthnResponse must match [a-zA-Z_0-9+=,.@-]{2,64}", "not a session name"),
    ("session name with a slash", |r| *r = r.clone().with("RoleSessionName", &["a/b"]),
        Code::InvalidIdentityToken, "RoleSessionName in AuthnResponse must match [a-zA-Z_0-9+=,.@-]{2,64}", "not a session name"),
    ("source identity of AWS", |r| *r = r.clone().with("SourceIdentity", &["aws:alice"]),
        Code::InvalidIdentityToken, "Source Identity must match [a-zA-Z_0-9+=,.@-]{2,64} and not begin with \"aws:\"", "SourceIdentity"),
    ("two source identities", |r| *r = r.clone().with("SourceIdentity", &["alice", "bob"]),
        Code::InvalidIdentityToken, "Source Identity must match [a-zA-Z_0-9+=,.@-]{2,64} and not begin with \"aws:\"", "SourceIdentity"),
    ("duration", |r| *r = r.clone().with("SessionDuration", &["899"]),
        Code::InvalidIdentityToken, "SessionDuration in AuthnResponse must be one number from 900 to 43200", "SessionDuration"),
    ("signed duration", |r| *r = r.clone().with("SessionDuration", &["+900"]),
        Code::InvalidIdentityToken, "SessionDuration in AuthnResponse must be one number from 900 to 43200", "SessionDuration"),
    ("tag with two values", |r| *r = r.clone().with("PrincipalTag:Team", &["a", "b"]),
        Code::InvalidIdentityToken, "PrincipalTag:Team in AuthnResponse must have exactly one value, which is text", "PrincipalTag:Team"),
    ("tag with an element", |r| *r = r.clone().with("PrincipalTag:Team", &["<saml:b/>"]),
        Code::InvalidIdentityToken, "PrincipalTag:Team in AuthnResponse must have exactly one value, which is text", "PrincipalTag:Team"),
    ("transitive element", |r| *r = r.clone().with("TransitiveTagKeys", &["<saml:b/>"]),
        Code::InvalidIdentityToken, "TransitiveTagKeys in AuthnResponse must hold text only", "TransitiveTagKeys"),
    ("encrypted attribute", |r| r.statements.push_str("<saml:AttributeStatement><saml:EncryptedAttribute/></saml:AttributeStatement>"),
        Code::InvalidIdentityToken, "Invalid SAML response: encrypted assertions are not supported.", "encrypted"),
    ("encrypted subject", |r| r.name_id = "<saml:EncryptedID/>".into(),
        Code::InvalidIdentityToken, "Invalid SAML response: encrypted assertions are not supported.", "encrypted"),
];

#[test]
fn what_is_wrong_is_refused_and_named() {
    let idp = Idp::new();
    for (name, change, code, message, detail) in CASES {
        let mut response = genuine();
        change(&mut response);
        let refusal = check(&idp, &response).expect_err(name);
        assert_eq!(refusal.code(), *code, "{name}: {refusal}");
        assert_eq!(refusal.message(), *message, "{name}");
        assert!(refusal.to_string().contains(detail), "{name}: {refusal}");
    }
}

#[test]
fn audiences_and_recipients_can_be_ours() {
    let idp = Idp::new();
    let metadata = Metadata::parse(&idp.metadata()).unwrap();
    let ours = Options {
        recipients: vec!["https://sts.example.com/saml".into()],
        audiences: vec!["urn:example:sts".into()],
    };
    let mut response = genuine();
    assert!(verify(&response.signed_by(&idp), &metadata, now(), &ours).is_err());
    response.confirmation = response.confirmation.replace(
        "https://signin.aws.amazon.com/saml",
        "https://sts.example.com/saml",
    );
    response.conditions = response
        .conditions
        .replace("urn:amazon:webservices", "urn:example:sts");
    let assertion = verify(&response.signed_by(&idp), &metadata, now(), &ours).unwrap();
    assert_eq!(&*assertion.recipient, "https://sts.example.com/saml");
    assert!(
        verify(
            &response.signed_by(&idp),
            &metadata,
            now(),
            &Options::default()
        )
        .is_err()
    );
}

#[test]
fn documents_that_are_no_response_are_refused() {
    let idp = Idp::new();
    let metadata = Metadata::parse(&idp.metadata()).unwrap();
    let good = idp.signed(&genuine().xml(), "_a");
    let doctype = "<!DOCTYPE x [<!ENTITY a \"alice\">]>";
    let deep = format!("{}{}", "<a>".repeat(40), "</a>".repeat(40));
    let cases = [
        (
            "document type",
            encoded(&format!("{doctype}{good}")),
            "document type",
        ),
        (
            "document type in lower case",
            encoded(&format!("<!doctype x>{good}")),
            "document type",
        ),
        (
            "entity",
            encoded(&good.replace(">alice<", ">&a;<")),
            "unknown entity",
        ),
        (
            "instruction",
            encoded(&good.replace("<samlp:Status>", "<?x y?><samlp:Status>")),
            "processing instruction",
        ),
        (
            "two roots",
            encoded(&format!("{good}<a/>")),
            "outside of the root",
        ),
        (
            "text behind",
            encoded(&format!("{good}x")),
            "outside of the root",
        ),
        (
            "cut off",
            encoded(good.strip_suffix("</samlp:Response>").unwrap()),
            "does not end",
        ),
        (
            "other encoding",
            encoded(&format!(
                "<?xml version=\"1.0\" encoding=\"UTF-16\"?>{good}"
            )),
            "XML declaration",
        ),
        (
            "other version",
            encoded(&format!("<?xml version=\"1.1\"?>{good}")),
            "XML declaration",
        ),
        (
            "deep",
            encoded(&good.replace("<samlp:Status>", &format!("{deep}<samlp:Status>"))),
            "more levels",
        ),
        (
            "wide",
            encoded(&good.replace(
                "<samlp:Status>",
                &format!("{}<samlp:Status>", "<a/>".repeat(9000)),
            )),
            "more elements",
        ),
        (
            "long",
            encoded(&format!("{good}{}", " ".repeat(300_000))),
            "more bytes",
        ),
        (
            "undeclared prefix",
            encoded(&good.replace("<samlp:Status>", "<x:y/><samlp:Status>")),
            "undeclared",
        ),
        ("empty", String::new(), "outside of the root"),
        ("not base64", "%%%".to_owned(), "not base64"),
        ("not UTF-8", "/////w==".to_owned(), "not base64 of UTF-8"),
        (
            "assertion alone",
            {
                let from = good.find("<saml:Assertion").unwrap();
                let to = good.find("</samlp:Response>").unwrap();
                let alone = good[from..to].replacen(
                    ' ',
                    " xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\" ",
                    1,
                );
                encoded(&alone)
            },
            "not a Response",
        ),
        (
            "SAML 1",
            encoded(&good.replacen("Version=\"2.0\"", "Version=\"1.1\"", 1)),
            "version 2.0",
        ),
        (
            "no status",
            encoded(&good.replace("samlp:Status", "samlp:State")),
            "no status",
        ),
        (
            "no assertion",
            encoded(&good.replace("saml:Assertion", "saml:Insertion")),
            "signature outside",
        ),
    ];
    for (name, response, expected) in cases {
        let refusal = verify(&response, &metadata, now(), &Options::default()).expect_err(name);
        assert!(refusal.to_string().contains(expected), "{name}: {refusal}");
        assert_eq!(refusal.code(), Code::InvalidIdentityToken, "{name}");
    }
}

#[test]
fn what_is_not_well_formed_is_no_document() {
    let cases = [
        ("<a b='1' b='2'/>", "twice"),
        (
            "<a xmlns:p='urn:1' xmlns:q='urn:1' p:b='1' q:b='2'/>",
            "twice",
        ),
        ("<a xmlns='urn:1' xmlns='urn:2'/>", "twice"),
        ("<a xmlns:p=''/>", "declaration"),
        ("<a xmlns:xmlns='urn:1'/>", "declaration"),
        ("<a xmlns:xml='urn:1'/>", "declaration"),
        (
            "<a xmlns:p='http://www.w3.org/XML/1998/namespace'/>",
            "declaration",
        ),
        (
            "<a xmlns:p='http://www.w3.org/2000/xmlns/'/>",
            "declaration",
        ),
        ("<xmlns:a/>", "undeclared"),
        ("<a b='1'c='2'/>", "attribute"),
        ("<a b=1/>", "attribute"),
        ("<a b/>", "attribute"),
        ("<a b='<'/>", "not allowed"),
        ("<a b='&x;'/>", "reference"),
        ("<a b='&amp'/>", "reference"),
        ("<a>&#0;</a>", "reference"),
        ("<a>&#xFFFF;</a>", "reference"),
        ("<a>\u{1}</a>", "not allowed"),
        ("<a>\u{ffff}</a>", "not allowed"),
        ("<a>]]></a>", "not allowed"),
        ("<a><!-- -- --></a>", "malformed"),
        ("<a><!-- ---></a>", "malformed"),
        ("<a></b>", "malformed"),
        ("<a", "malformed"),
        ("<a>&amp", "malformed"),
        ("<1/>", "name"),
        ("<a:b:c/>", "name"),
        ("<a \u{a0}='1'/>", "name"),
        (" <?xml version='1.0'?><a/>", "XML declaration"),
        ("<a/><![CDATA[x]]>", "outside"),
        ("&#32;<a/>", "outside"),
        ("", "outside"),
    ];
    for (text, expected) in cases {
        let error = Document::parse(text, &Limits::RESPONSE).expect_err(text);
        assert!(error.to_string().contains(expected), "{text}: {error}");
    }
}
