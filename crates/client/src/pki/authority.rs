//! A CA, and what it signs.

use base64::Engine as _;
use jiff::{Timestamp, ToSpan as _, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

use super::names::{Host, Names};
use super::{PkiError, Store};

/// How long certificates are valid.
const YEARS: i32 = 10;

/// A CA with its key.
pub(super) struct Authority {
    pub(super) der: CertificateDer<'static>,
    pub(super) pem: String,
    pub(super) validity: Validity,
    key: KeyPair,
    name: DistinguishedName,
}

impl Authority {
    pub(super) fn generate(now: Timestamp) -> Result<Self, PkiError> {
        let key = KeyPair::generate()?;
        let name = common_name(&format!(
            "countersign webhook CA {}",
            now.strftime("%Y-%m-%d")
        ));
        let mut params = CertificateParams::default();
        params.distinguished_name = name.clone();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        set_life(&mut params, now, None, None)?;
        let certificate = params.self_signed(&key)?;
        let der = certificate.der().clone();
        Ok(Self {
            validity: Validity::of_der(&der).unwrap_or(Validity { from: 0, to: 0 }),
            pem: to_pem(&der),
            der,
            key,
            name,
        })
    }

    pub(super) fn load(
        store: &Store<'_>,
        file: &'static str,
        certificates: &[CertificateDer<'static>],
        key: &str,
    ) -> Result<Self, PkiError> {
        let content = |expected| PkiError::Content {
            path: store.path(file),
            expected,
        };
        let der = certificates
            .first()
            .ok_or_else(|| content("a certificate"))?
            .clone();
        let (_, parsed) = X509Certificate::from_der(&der).map_err(|_| content("a certificate"))?;
        let key = KeyPair::from_pem(key).map_err(|_| content("the certificate of its key"))?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(content("the certificate of its key"));
        }
        let name = parsed
            .subject()
            .iter_common_name()
            .next()
            .and_then(|name| name.as_str().ok())
            .map(common_name)
            .ok_or_else(|| content("a CA certificate made by this program"))?;
        Ok(Self {
            validity: Validity::of_der(&der).ok_or_else(|| content("a certificate"))?,
            pem: to_pem(&der),
            name,
            key,
            der,
        })
    }

    pub(super) fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.key.serialize_pem())
    }

    /// A serving certificate with the CA's behind it, for so many days, or for as long as the CA.
    pub(super) fn sign_serving(
        &self,
        pair: &KeyPair,
        names: &Names,
        now: Timestamp,
        days: Option<u16>,
    ) -> Result<String, PkiError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name("countersign webhook");
        params.subject_alt_names = names
            .hosts
            .iter()
            .map(|host| {
                Ok(match host {
                    Host::Address(ip) => SanType::IpAddress(*ip),
                    Host::Dns(name) => SanType::DnsName(name.as_str().try_into()?),
                })
            })
            .collect::<Result<_, rcgen::Error>>()?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        set_life(&mut params, now, days, Some(self.validity.to))?;
        let mut issuer = CertificateParams::default();
        issuer.distinguished_name = self.name.clone();
        let issuer = Issuer::new(issuer, &self.key);
        let certificate = params.signed_by(pair, &issuer)?;
        Ok(format!("{}{}", to_pem(certificate.der()), self.pem))
    }
}

/// The span in which a certificate is valid, in seconds since the epoch.
#[derive(Clone, Copy)]
pub(super) struct Validity {
    from: i64,
    to: i64,
}

impl Validity {
    pub(super) fn of_der(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        Some(Self {
            from: parsed.validity().not_before.timestamp(),
            to: parsed.validity().not_after.timestamp(),
        })
    }

    pub(super) fn of(
        chain: &[CertificateDer<'_>],
        store: &Store<'_>,
        file: &'static str,
    ) -> Result<Self, PkiError> {
        let first = chain.first().and_then(Self::of_der);
        first.ok_or_else(|| PkiError::Content {
            path: store.path(file),
            expected: "a certificate",
        })
    }

    /// The moment at which `part` of `whole` parts have passed.
    pub(super) fn at(self, part: i64, whole: i64) -> Timestamp {
        let span = self.to.saturating_sub(self.from).max(0);
        let second = self.from.saturating_add(span / whole * part);
        Timestamp::from_second(second).unwrap_or(Timestamp::MAX)
    }
}

/// From the beginning of the day, so that a clock that runs a little behind accepts it, for so many days or for ten years, but not
/// beyond `limit`.
fn set_life(
    params: &mut CertificateParams,
    now: Timestamp,
    days: Option<u16>,
    limit: Option<i64>,
) -> Result<(), PkiError> {
    let first = now.to_zoned(TimeZone::UTC).date();
    let mut last = match days {
        Some(days) => first.saturating_add(i32::from(days).days()),
        None => first.saturating_add(YEARS.years()),
    };
    if let Some(limit) = limit.and_then(|limit| Timestamp::from_second(limit).ok()) {
        last = last.min(limit.to_zoned(TimeZone::UTC).date());
    }
    let at = |date: jiff::civil::Date| {
        let month = u8::try_from(date.month()).unwrap_or(1);
        let day = u8::try_from(date.day()).unwrap_or(1);
        rcgen::date_time_ymd(date.year().into(), month, day)
    };
    params.not_before = at(first);
    params.not_after = at(last);
    let mut serial = [0; 16];
    aws_lc_rs::rand::fill(&mut serial).map_err(|_| PkiError::Random)?;
    // Positive and not zero in the first octet, so that its encoding is never longer than 16 octets.
    if let Some(first) = serial.first_mut() {
        *first = (*first & 0x7f) | 0x40;
    }
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(())
}

fn common_name(text: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, text);
    name
}

pub(super) fn to_pem(der: &CertificateDer<'_>) -> String {
    let encoded = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in encoded.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}
