//! An identity provider for tests: it makes metadata and signs responses.
#![allow(dead_code, reason = "shared by tests that each use a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "functions beside the tests"
)]

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_saml::Canonicalization;
use countersign_saml::xml::{Document, Element, Limits};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};

pub(crate) const ENTITY: &str = "https://idp.example.com/metadata";
pub(crate) const ROLE: &str = "arn:aws:iam::111122223333:role/Dev";
pub(crate) const PROVIDER: &str = "arn:aws:iam::111122223333:saml-provider/corp";
pub(crate) const EXCLUSIVE: &str = "http://www.w3.org/2001/10/xml-exc-c14n#";
const ATTRIBUTES: &str = "https://aws.amazon.com/SAML/Attributes/";

/// An identity provider with one key.
pub(crate) struct Idp {
    entity_id: String,
    key: KeyPair,
    rsa: bool,
    certificate: Vec<u8>,
}

impl Idp {
    pub(crate) fn new() -> Self {
        Self::named(ENTITY)
    }

    pub(crate) fn named(entity_id: &str) -> Self {
        Self::with_key(
            entity_id,
            KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(),
            false,
        )
    }

    pub(crate) fn with_rsa(entity_id: &str) -> Self {
        Self::with_key(
            entity_id,
            KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap(),
            true,
        )
    }

    fn with_key(entity_id: &str, key: KeyPair, rsa: bool) -> Self {
        let certificate = CertificateParams::default().self_signed(&key).unwrap();
        Self {
            entity_id: entity_id.to_owned(),
            certificate: certificate.der().to_vec(),
            key,
            rsa,
        }
    }

    pub(crate) fn certificate(&self) -> String {
        STANDARD.encode(&self.certificate)
    }

    /// `EntityDescriptor`; `attributes` are added to its start tag.
    pub(crate) fn metadata_with(&self, attributes: &str) -> String {
        let Self { entity_id, .. } = self;
        let certificate = self.certificate();
        format!(
            r#"<md:EntityDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata" entityID="{entity_id}"{attributes}>
  <md:IDPSSODescriptor protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol">
    <md:KeyDescriptor use="signing"><ds:KeyInfo xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><ds:X509Data>
      <ds:X509Certificate>{certificate}</ds:X509Certificate>
    </ds:X509Data></ds:KeyInfo></md:KeyDescriptor>
    <md:SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST" Location="https://idp.example.com/sso"/>
    <md:SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect" Location="https://idp.example.com/sso"/>
  </md:IDPSSODescriptor>
</md:EntityDescriptor>
"#
        )
    }

    pub(crate) fn metadata(&self) -> String {
        self.metadata_with("")
    }

    /// `Signature` over the element `id` of `document`.
    pub(crate) fn signature(&self, document: &str, id: &str) -> String {
        let document = Document::parse(document, &Limits::RESPONSE).unwrap();
        let element = with_id(&document, id);
        let octets = Canonicalization::default()
            .write(element, None, 1 << 20)
            .unwrap();
        self.signature_of(&octets, &format!("#{id}"))
    }

    /// `Signature` with a reference to `uri` whose digest is that of `octets`.
    pub(crate) fn signature_of(&self, octets: &str, uri: &str) -> String {
        let digest = STANDARD.encode(digest(&SHA256, octets.as_bytes()));
        let method = if self.rsa { "rsa" } else { "ecdsa" };
        let info = format!(
            r#"<ds:SignedInfo xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><ds:CanonicalizationMethod Algorithm="{EXCLUSIVE}"/><ds:SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#{method}-sha256"/><ds:Reference URI="{uri}"><ds:Transforms><ds:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"/><ds:Transform Algorithm="{EXCLUSIVE}"/></ds:Transforms><ds:DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"/><ds:DigestValue>{digest}</ds:DigestValue></ds:Reference></ds:SignedInfo>"#
        );
        self.signature_over(&info)
    }

    /// `Signature` around `info`, whatever that says.
    pub(crate) fn signature_over(&self, info: &str) -> String {
        let document = Document::parse(info, &Limits::RESPONSE).unwrap();
        let octets = Canonicalization::default()
            .write(document.root(), None, 1 << 20)
            .unwrap();
        let value = STANDARD.encode(self.sign_bytes(octets.as_bytes()));
        format!(
            r#"<ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#">{info}<ds:SignatureValue>{value}</ds:SignatureValue><ds:KeyInfo><ds:X509Data><ds:X509Certificate>{}</ds:X509Certificate></ds:X509Data></ds:KeyInfo></ds:Signature>"#,
            self.certificate()
        )
    }

    fn sign_bytes(&self, message: &[u8]) -> Vec<u8> {
        let pkcs8 = self.key.serialize_der();
        if self.rsa {
            let key = RsaKeyPair::from_pkcs8(&pkcs8).unwrap();
            let mut signature = vec![0; key.public_modulus_len()];
            key.sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                message,
                &mut signature,
            )
            .unwrap();
            return signature;
        }
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8).unwrap();
        key.sign(&SystemRandom::new(), message)
            .unwrap()
            .as_ref()
            .to_vec()
    }

    /// `document` with the element `id` signed.
    pub(crate) fn signed(&self, document: &str, id: &str) -> String {
        let signature = self.signature(document, id);
        behind_issuer(document, id, &signature)
    }
}

/// `document` with `what` behind the `Issuer` of the element `id`.
pub(crate) fn behind_issuer(document: &str, id: &str, what: &str) -> String {
    let element = document.find(&format!("ID=\"{id}\"")).unwrap();
    let issuer = "</saml:Issuer>";
    let at = element + document[element..].find(issuer).unwrap() + issuer.len();
    format!("{}{what}{}", &document[..at], &document[at..])
}

pub(crate) fn with_id<'d>(document: &'d Document, id: &str) -> Element<'d> {
    let mut elements = document.elements();
    elements
        .find(|element| element.attribute("ID") == Some(id))
        .unwrap()
}

pub(crate) fn encoded(document: &str) -> String {
    STANDARD.encode(document)
}

/// A response, part by part. Its IDs are `_r` and `_a`.
#[derive(Clone)]
pub(crate) struct Response {
    pub(crate) issuer: String,
    pub(crate) status: String,
    pub(crate) name_id: String,
    pub(crate) confirmation: String,
    pub(crate) conditions: String,
    pub(crate) statements: String,
    pub(crate) attributes: Vec<(String, Vec<String>)>,
}

impl Response {
    /// One that is good at `now`, given as an instant of SAML, until `end`.
    pub(crate) fn valid(now: &str, end: &str) -> Self {
        Self {
            issuer: ENTITY.to_owned(),
            status: "urn:oasis:names:tc:SAML:2.0:status:Success".to_owned(),
            name_id: r#"<saml:NameID Format="urn:oasis:names:tc:SAML:2.0:nameid-format:persistent">alice</saml:NameID>"#.to_owned(),
            confirmation: format!(
                r#"<saml:SubjectConfirmation Method="urn:oasis:names:tc:SAML:2.0:cm:bearer"><saml:SubjectConfirmationData NotOnOrAfter="{end}" Recipient="https://signin.aws.amazon.com/saml"/></saml:SubjectConfirmation>"#
            ),
            conditions: format!(
                r#"<saml:Conditions NotBefore="{now}" NotOnOrAfter="{end}"><saml:AudienceRestriction><saml:Audience>urn:amazon:webservices</saml:Audience></saml:AudienceRestriction></saml:Conditions>"#
            ),
            statements: format!(r#"<saml:AuthnStatement AuthnInstant="{now}"/>"#),
            attributes: Vec::new(),
        }
        .with("Role", &[&format!("{ROLE},{PROVIDER}")])
        .with("RoleSessionName", &["alice"])
    }

    /// With the attribute `name` of AWS instead of what it was.
    pub(crate) fn with(self, name: &str, values: &[&str]) -> Self {
        self.with_attribute(&format!("{ATTRIBUTES}{name}"), values)
    }

    pub(crate) fn with_attribute(mut self, name: &str, values: &[&str]) -> Self {
        self.attributes.retain(|(known, _)| known != name);
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        self.attributes.push((name.to_owned(), values));
        self
    }

    /// As XML, not signed.
    pub(crate) fn xml(&self) -> String {
        let mut attributes = String::new();
        for (name, values) in &self.attributes {
            write!(attributes, r#"<saml:Attribute Name="{name}">"#).unwrap();
            for value in values {
                write!(
                    attributes,
                    r#"<saml:AttributeValue xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:xs="http://www.w3.org/2001/XMLSchema" xsi:type="xs:string">{value}</saml:AttributeValue>"#
                )
                .unwrap();
            }
            attributes.push_str("</saml:Attribute>");
        }
        let Self {
            issuer,
            status,
            name_id,
            confirmation,
            conditions,
            statements,
            ..
        } = self;
        format!(
            r#"<samlp:Response xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" ID="_r" Version="2.0"><saml:Issuer>{issuer}</saml:Issuer><samlp:Status><samlp:StatusCode Value="{status}"/></samlp:Status><saml:Assertion ID="_a" Version="2.0"><saml:Issuer>{issuer}</saml:Issuer><saml:Subject>{name_id}{confirmation}</saml:Subject>{conditions}{statements}<saml:AttributeStatement>{attributes}</saml:AttributeStatement></saml:Assertion></samlp:Response>"#
        )
    }

    /// With the assertion signed by `idp`, in base64.
    pub(crate) fn signed_by(&self, idp: &Idp) -> String {
        encoded(&idp.signed(&self.xml(), "_a"))
    }
}
