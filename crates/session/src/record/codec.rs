//! A record as deterministic CBOR: a map with integer keys in ascending order.
//!
//! | key | field | | key | field |
//! | --- | --- | --- | --- | --- |
//! | 1 | kind | | 12 | inline policy, deflated |
//! | 2 | partition; absent: `aws` | | 13 | policy ARNs |
//! | 3 | account; absent: as in the id | | 14 | tags: flags, key, value, … |
//! | 4 | principal id | | 15 | source identity |
//! | 5 | name | | 16 | MFA time |
//! | 6 | path; absent: `/` | | 17 | federation |
//! | 7 | session name | | 18 | depth; absent: 1 |
//! | 8 | issued | | 19 | origin: key id, without the account when it is the same |
//! | 9 | lifetime in seconds | | 20 | origin: request id |
//! | 10 | seed of the secret | | 21 | binding |
//! | 11 | inline policy | | 22 | network |
//!
//! A new field takes the next number, or one from 1000 on when a reader that does not know it must refuse the token.

use std::net::IpAddr;

use countersign_arn::unique_id::{Kind, account_of};
use countersign_arn::{AccountId, Partition, Tag};
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::pack::{pack_id, pack_uuid, unpack_id, unpack_uuid};
use super::{
    Binding, Cidr, Federation, InvalidRecord, MAX_POLICY_ARNS, MAX_POLICY_BYTES, Origin,
    SessionKind, SessionPolicies, SessionPrincipal, SessionRecord, SessionTag, SessionTags,
};
use crate::cbor::{CborError, Decoder, Encoder, MapReader};
use crate::crypto::SEED;
use crate::deflate::{deflate, inflate};

/// Most bytes of plaintext: what still fits a token of the greatest length.
pub(crate) const MAX_PLAINTEXT: usize = 1768;

/// Why unsealed bytes are not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeRecordError {
    /// Not the encoding we write.
    #[error("the record {0}")]
    Cbor(#[from] CborError),
    /// A value that no record has.
    #[error(transparent)]
    Invalid(#[from] InvalidRecord),
    /// A field that every record has is missing.
    #[error("the record has no {0}")]
    Missing(&'static str),
}

/// Writes `record` and the seed of its secret into `out` and returns the length; when it does not fit, the length it has.
pub(crate) fn encode(
    record: &SessionRecord,
    seed: &[u8; SEED],
    out: &mut [u8],
) -> Result<Result<usize, usize>, InvalidRecord> {
    record.validate()?;
    let inline = record.policies.inline.as_deref();
    let packed_policy = inline
        .map(|text| deflate(text.as_bytes()))
        .filter(|packed| inline.is_some_and(|text| packed.len() < text.len()));
    let mut encoder = Encoder::new(out);
    encoder.map(|map| {
        map.key(1).uint(number_of(&SessionKind::ALL, record.kind));
        map.uint_unless_zero(2, number_of(&Partition::ALL, record.partition));
        let id = record.principal.unique_id();
        if id.and_then(account_of) != Some(record.account) {
            map.key(3).uint(record.account.as_number());
        }
        if let Some(id) = id {
            put_id(map.key(4), id, None);
        }
        let (name, path, session) = match &record.principal {
            SessionPrincipal::Role {
                path,
                name,
                session_name,
                ..
            } => (Some(name), Some(path), Some(session_name)),
            SessionPrincipal::User { path, name, .. } => (Some(name), Some(path), None),
            SessionPrincipal::Root => (None, None, None),
            SessionPrincipal::FederatedUser { name, .. } => (Some(name), None, None),
        };
        map.text_if(5, name.map(|name| &**name));
        map.text_if(6, path.map(|path| &**path).filter(|path| *path != "/"));
        map.text_if(7, session.map(|session| &**session));
        let (issued, expires) = (record.issued.as_second(), record.expires.as_second());
        map.key(8).uint(unsigned(issued));
        map.key(9).uint(unsigned(expires - issued));
        map.key(10).bytes(seed);
        match &packed_policy {
            Some(packed) => map.key(12).bytes(packed),
            None => map.text_if(11, inline),
        }
        if !record.policies.arns.is_empty() {
            put_texts(map.key(13), &record.policies.arns);
        }
        if !record.tags.is_empty() {
            put_tags(map.key(14), &record.tags);
        }
        map.text_if(15, record.source_identity.as_deref());
        if let Some(at) = record.mfa_at {
            map.key(16).uint(unsigned(at.as_second()));
        }
        if let Some(federation) = &record.federation {
            put_federation(map.key(17), federation);
        }
        if record.depth != 1 {
            map.key(18).uint(record.depth.into());
        }
        if let Some(id) = record.origin.access_key_id.as_deref() {
            put_id(map.key(19), id, Some(record.account));
        }
        if let Some(id) = record.origin.request_id.as_deref() {
            put_uuid(map.key(20), id);
        }
        if !record.binding.is_empty() {
            put_binding(map.key(21), &record.binding);
        }
        if let Some(network) = record.network {
            let encoder = map.key(22);
            encoder.array(2);
            match network.address() {
                IpAddr::V4(address) => encoder.bytes(&address.octets()),
                IpAddr::V6(address) => encoder.bytes(&address.octets()),
            }
            encoder.uint(network.prefix().into());
        }
    });
    Ok(encoder.finish())
}

fn put_id(encoder: &mut Encoder<'_>, id: &str, account: Option<AccountId>) {
    let packed = pack_id(id, account);
    match packed
        .as_ref()
        .and_then(|(bytes, length)| bytes.get(..*length))
    {
        Some(bytes) => encoder.bytes(bytes),
        None => encoder.text(id),
    }
}

fn put_uuid(encoder: &mut Encoder<'_>, text: &str) {
    match pack_uuid(text) {
        Some(bytes) => encoder.bytes(&bytes),
        None => encoder.text(text),
    }
}

fn put_texts(encoder: &mut Encoder<'_>, texts: &[Box<str>]) {
    encoder.array(texts.len());
    for text in texts {
        encoder.text(text);
    }
}

fn put_tags(encoder: &mut Encoder<'_>, tags: &SessionTags) {
    encoder.array(3 * tags.len());
    for SessionTag {
        tag,
        transitive,
        inherited,
    } in tags.iter()
    {
        encoder.uint(u64::from(*transitive) | (u64::from(*inherited) << 1));
        encoder.text(&tag.key);
        encoder.text(&tag.value);
    }
}

fn put_federation(encoder: &mut Encoder<'_>, federation: &Federation) {
    encoder.map(|map| match federation {
        Federation::Oidc {
            provider,
            issuer,
            audience,
            subject,
            amr,
        } => {
            map.key(0).text(provider);
            map.key(1).text(issuer);
            map.key(2).text(audience);
            map.key(3).text(subject);
            if !amr.is_empty() {
                put_texts(map.key(4), amr);
            }
        }
        Federation::Saml {
            provider,
            issuer,
            subject,
            subject_type,
            name_qualifier,
        } => {
            map.key(0).text(provider);
            map.key(5).text(issuer);
            map.key(6).text(subject);
            map.text_if(7, subject_type.as_deref());
            map.text_if(8, name_qualifier.as_deref());
        }
    });
}

fn put_binding(encoder: &mut Encoder<'_>, binding: &Binding) {
    encoder.map(|map| {
        map.text_if(0, binding.cluster.as_deref());
        map.text_if(1, binding.namespace.as_deref());
        map.text_if(2, binding.service_account.as_deref());
        if let Some(uid) = binding.pod_uid.as_deref() {
            put_uuid(map.key(3), uid);
        }
        map.text_if(4, binding.node.as_deref());
        map.text_if(5, binding.association_id.as_deref());
    });
}

/// Reads what [`encode`] wrote. The record is checked like one that is about to be sealed.
pub(crate) fn decode(
    plaintext: &[u8],
) -> Result<(SessionRecord, Zeroizing<[u8; SEED]>), DecodeRecordError> {
    let mut fields = Fields::default();
    let mut decoder = Decoder::new(plaintext);
    let decoder = &mut decoder;
    let mut map = decoder.map()?;
    while let Some(key) = map.next(decoder)? {
        fields.read(key, decoder)?;
    }
    decoder.end()?;
    fields.into_record()
}

#[derive(Default)]
struct Fields {
    kind: Option<SessionKind>,
    partition: Partition,
    account: Option<AccountId>,
    id: Option<Box<str>>,
    name: Option<Box<str>>,
    path: Option<Box<str>>,
    session: Option<Box<str>>,
    issued: Option<u64>,
    lifetime: Option<u64>,
    seed: Option<Zeroizing<[u8; SEED]>>,
    policies: SessionPolicies,
    tags: SessionTags,
    source_identity: Option<Box<str>>,
    mfa_at: Option<Timestamp>,
    federation: Option<Federation>,
    depth: Option<u8>,
    origin: Origin,
    binding: Binding,
    network: Option<Cidr>,
}

impl Fields {
    fn read(&mut self, key: u64, decoder: &mut Decoder<'_>) -> Result<(), DecodeRecordError> {
        match key {
            1 => self.kind = Some(one_of(&SessionKind::ALL, decoder)?),
            2 => self.partition = one_of(&Partition::ALL, decoder)?,
            3 => self.account = Some(account(decoder)?),
            4 => self.id = Some(id(decoder, None)?),
            5 => self.name = Some(decoder.text()?.into()),
            6 => self.path = Some(decoder.text()?.into()),
            7 => self.session = Some(decoder.text()?.into()),
            8 => self.issued = Some(decoder.uint()?),
            9 => self.lifetime = Some(decoder.uint()?),
            10 => self.seed = Some(Zeroizing::new(*decoder.bytes_of()?)),
            11 => self.policies.inline = Some(decoder.text()?.into()),
            12 => self.policies.inline = Some(inflated(decoder.bytes()?)?),
            13 => self.policies.arns = texts(decoder, MAX_POLICY_ARNS)?,
            14 => self.tags = tags(decoder)?,
            15 => self.source_identity = Some(decoder.text()?.into()),
            16 => self.mfa_at = Some(instant(decoder.uint()?)?),
            17 => self.federation = Some(federation(decoder)?),
            18 => self.depth = Some(u8::try_from(decoder.uint()?).map_err(|_| CborError::Type)?),
            19 => self.origin.access_key_id = Some(id(decoder, self.account())?),
            20 => self.origin.request_id = Some(uuid(decoder)?),
            21 => self.binding = binding(decoder)?,
            22 => self.network = Some(network(decoder)?),
            _ => MapReader::unknown(key, decoder)?,
        }
        Ok(())
    }

    fn account(&self) -> Option<AccountId> {
        self.account
            .or_else(|| self.id.as_deref().and_then(account_of))
    }

    fn into_record(self) -> Result<(SessionRecord, Zeroizing<[u8; SEED]>), DecodeRecordError> {
        use DecodeRecordError::Missing;
        let kind = self.kind.ok_or(Missing("kind"))?;
        let account = self.account().ok_or(Missing("account"))?;
        let path = self.path.unwrap_or_else(|| "/".into());
        let principal = match (kind, self.id) {
            (SessionKind::Federation, creator_id) => SessionPrincipal::FederatedUser {
                creator_id,
                name: self.name.ok_or(Missing("name"))?,
            },
            (_, None) => SessionPrincipal::Root,
            (_, Some(id)) if Kind::of(&id) == Some(Kind::User) => SessionPrincipal::User {
                id,
                path,
                name: self.name.ok_or(Missing("name"))?,
            },
            (_, Some(id)) => SessionPrincipal::Role {
                id,
                path,
                name: self.name.ok_or(Missing("name"))?,
                session_name: self.session.ok_or(Missing("session name"))?,
            },
        };
        let issued = self.issued.ok_or(Missing("time of issue"))?;
        let lifetime = self.lifetime.ok_or(Missing("lifetime"))?;
        let record = SessionRecord {
            kind,
            partition: self.partition,
            account,
            principal,
            issued: instant(issued)?,
            expires: instant(issued.saturating_add(lifetime))?,
            policies: self.policies,
            tags: self.tags,
            source_identity: self.source_identity,
            mfa_at: self.mfa_at,
            federation: self.federation,
            depth: self.depth.unwrap_or(1),
            origin: self.origin,
            binding: self.binding,
            network: self.network,
        };
        record.validate()?;
        Ok((record, self.seed.ok_or(Missing("seed"))?))
    }
}

fn one_of<T: Copy>(all: &[T], decoder: &mut Decoder<'_>) -> Result<T, CborError> {
    usize::try_from(decoder.uint()?)
        .ok()
        .and_then(|at| all.get(at))
        .copied()
        .ok_or(CborError::Type)
}

fn account(decoder: &mut Decoder<'_>) -> Result<AccountId, CborError> {
    AccountId::from_number(decoder.uint()?).ok_or(CborError::Type)
}

fn id(decoder: &mut Decoder<'_>, account: Option<AccountId>) -> Result<Box<str>, CborError> {
    if decoder.at_text() {
        return Ok(decoder.text()?.into());
    }
    unpack_id(decoder.bytes()?, account).ok_or(CborError::Type)
}

fn uuid(decoder: &mut Decoder<'_>) -> Result<Box<str>, CborError> {
    if decoder.at_text() {
        return Ok(decoder.text()?.into());
    }
    Ok(unpack_uuid(decoder.bytes_of()?))
}

fn inflated(packed: &[u8]) -> Result<Box<str>, DecodeRecordError> {
    let plain = inflate(packed, MAX_POLICY_BYTES).ok_or(InvalidRecord {
        field: "policies",
        rule: "the inline policy does not inflate",
    })?;
    Ok(String::from_utf8(plain)
        .map_err(|_| CborError::Utf8)?
        .into())
}

fn texts(decoder: &mut Decoder<'_>, most: usize) -> Result<Vec<Box<str>>, CborError> {
    let items = decoder.array()?;
    if items > most {
        return Err(CborError::Type);
    }
    (0..items).map(|_| Ok(decoder.text()?.into())).collect()
}

fn tags(decoder: &mut Decoder<'_>) -> Result<SessionTags, DecodeRecordError> {
    let items = decoder.array()?;
    if !items.is_multiple_of(3) {
        return Err(CborError::Type.into());
    }
    let tags: Result<Vec<_>, CborError> = (0..items / 3)
        .map(|_| {
            let flags = decoder.uint()?;
            if flags > 3 {
                return Err(CborError::Type);
            }
            Ok(SessionTag {
                tag: Tag {
                    key: decoder.text()?.into(),
                    value: decoder.text()?.into(),
                },
                transitive: flags & 1 != 0,
                inherited: flags & 2 != 0,
            })
        })
        .collect();
    Ok(SessionTags::new(tags?)?)
}

fn federation(decoder: &mut Decoder<'_>) -> Result<Federation, DecodeRecordError> {
    let mut fields: [Option<Box<str>>; 9] = Default::default();
    let mut amr = Vec::new();
    let mut map = decoder.map()?;
    while let Some(key) = map.next(decoder)? {
        let slot = usize::try_from(key)
            .ok()
            .and_then(|key| fields.get_mut(key));
        match slot {
            Some(_) if key == 4 => amr = texts(decoder, 64)?,
            Some(slot) => *slot = Some(decoder.text()?.into()),
            None => MapReader::unknown(key, decoder)?,
        }
    }
    let missing = DecodeRecordError::Missing("federation");
    match fields {
        [provider, Some(issuer), audience, subject, ..] => Ok(Federation::Oidc {
            provider: provider.ok_or(missing)?,
            issuer,
            audience: audience.ok_or(missing)?,
            subject: subject.ok_or(missing)?,
            amr,
        }),
        [
            provider,
            None,
            _,
            _,
            _,
            issuer,
            subject,
            subject_type,
            name_qualifier,
        ] => Ok(Federation::Saml {
            provider: provider.ok_or(missing)?,
            issuer: issuer.ok_or(missing)?,
            subject: subject.ok_or(missing)?,
            subject_type,
            name_qualifier,
        }),
    }
}

fn binding(decoder: &mut Decoder<'_>) -> Result<Binding, CborError> {
    let mut binding = Binding::default();
    let mut map = decoder.map()?;
    while let Some(key) = map.next(decoder)? {
        match key {
            0 => binding.cluster = Some(decoder.text()?.into()),
            1 => binding.namespace = Some(decoder.text()?.into()),
            2 => binding.service_account = Some(decoder.text()?.into()),
            3 => binding.pod_uid = Some(uuid(decoder)?),
            4 => binding.node = Some(decoder.text()?.into()),
            5 => binding.association_id = Some(decoder.text()?.into()),
            _ => MapReader::unknown(key, decoder)?,
        }
    }
    Ok(binding)
}

fn network(decoder: &mut Decoder<'_>) -> Result<Cidr, CborError> {
    if decoder.array()? != 2 {
        return Err(CborError::Type);
    }
    let bytes = decoder.bytes()?;
    let address = match (<[u8; 4]>::try_from(bytes), <[u8; 16]>::try_from(bytes)) {
        (Ok(v4), _) => IpAddr::from(v4),
        (_, Ok(v6)) => IpAddr::from(v6),
        _ => return Err(CborError::Type),
    };
    let prefix = u8::try_from(decoder.uint()?).map_err(|_| CborError::Type)?;
    Cidr::new(address, prefix).map_err(|_| CborError::Type)
}

fn instant(seconds: u64) -> Result<Timestamp, CborError> {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .ok_or(CborError::Type)
}

fn number_of<T: PartialEq>(all: &[T], one: T) -> u64 {
    all.iter()
        .position(|known| *known == one)
        .and_then(|at| u64::try_from(at).ok())
        .unwrap_or(u64::MAX)
}

/// Records are validated before this: their times are not negative.
fn unsigned(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap_or(0)
}
