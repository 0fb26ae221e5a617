//! A ring as bytes, for a sealed store value or a mounted secret.
//!
//! A CBOR map {0: format (1), 1: [key, …]}; a key is a map {0: kid, 1: created, 2: seals from, 3: retired, 4: secret} in
//! which either 3 or 4 is there. The bytes hold the secrets in clear: whoever stores them seals them first.

use std::sync::Arc;

use jiff::Timestamp;
use zeroize::Zeroizing;

use super::{Key, KeyRing, Kid, MAX_KEYS};
use crate::cbor::{CborError, Decoder, Encoder, MapReader};
use crate::crypto::{Material, SECRET};

const FORMAT: u64 = 1;
/// Most bytes of one key: heads of map, keys and values, 8 characters, two or three times, a secret.
const MAX_KEY_BYTES: usize = 96;

/// Why bytes are not a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeRingError {
    /// Not the encoding we write.
    #[error("the key ring {0}")]
    Cbor(#[from] CborError),
    /// Written in a form that this version does not know.
    #[error("the key ring has format {0}, and 1 is known")]
    Format(u64),
    /// Not a ring as a ring must be.
    #[error("the key ring is not valid: {0}")]
    Invalid(&'static str),
}

impl KeyRing {
    /// The ring as bytes with all secrets; wiped on drop.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(vec![0u8; 16 + self.keys.len() * MAX_KEY_BYTES]);
        let mut encoder = Encoder::new(bytes.as_mut_slice());
        encoder.map(|ring| {
            ring.key(0).uint(FORMAT);
            let encoder = ring.key(1);
            encoder.array(self.keys.len());
            for key in &self.keys {
                encoder.map(|map| {
                    map.key(0).text(key.kid.as_str());
                    map.key(1).uint(seconds(key.created));
                    map.key(2).uint(seconds(key.seals_from));
                    match (&key.material, key.retired) {
                        (Some(material), None) => map.key(4).bytes(material.secret()),
                        (_, retired) => {
                            map.key(3).uint(seconds(retired.unwrap_or(key.seals_from)));
                        }
                    }
                });
            }
        });
        let length = encoder.finish().unwrap_or(0);
        bytes.truncate(length);
        bytes
    }

    /// Reads what [`KeyRing::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are no ring, two keys have one name, there are more than 64, or none that could seal.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeRingError> {
        let mut decoder = Decoder::new(bytes);
        let mut map = decoder.map()?;
        let mut format = None;
        let mut keys = Vec::new();
        while let Some(field) = map.next(&mut decoder)? {
            match field {
                0 => format = Some(decoder.uint()?),
                1 => {
                    let items = decoder.array()?;
                    if items > MAX_KEYS {
                        return Err(DecodeRingError::Invalid("more than 64 keys"));
                    }
                    for _ in 0..items {
                        keys.push(key(&mut decoder)?);
                    }
                }
                _ => MapReader::unknown(field, &mut decoder)?,
            }
        }
        decoder.end()?;
        match format {
            Some(FORMAT) => {}
            Some(other) => return Err(DecodeRingError::Format(other)),
            None => return Err(DecodeRingError::Invalid("no format")),
        }
        let mut ring = Self { keys };
        ring.sort();
        ring.validate()?;
        Ok(ring)
    }

    fn validate(&self) -> Result<(), DecodeRingError> {
        let mut kids: Vec<Kid> = self.keys.iter().map(|key| key.kid).collect();
        kids.sort_unstable();
        kids.dedup();
        if kids.len() != self.keys.len() {
            return Err(DecodeRingError::Invalid("two keys have one name"));
        }
        if self.keys.iter().all(|key| key.material.is_none()) {
            return Err(DecodeRingError::Invalid("no key that could seal"));
        }
        Ok(())
    }
}

fn key(decoder: &mut Decoder<'_>) -> Result<Key, DecodeRingError> {
    let (mut kid, mut created, mut seals_from, mut retired, mut secret) =
        (None, None, None, None, None);
    let mut map = decoder.map()?;
    while let Some(field) = map.next(decoder)? {
        match field {
            0 => kid = Some(decoder.text()?),
            1 => created = Some(moment(decoder)?),
            2 => seals_from = Some(moment(decoder)?),
            3 => retired = Some(moment(decoder)?),
            4 => secret = Some(decoder.bytes_of::<SECRET>()?),
            _ => MapReader::unknown(field, decoder)?,
        }
    }
    let missing = DecodeRingError::Invalid("a key lacks its name or times");
    let material = match (secret, retired) {
        (Some(secret), None) => Some(Arc::new(
            Material::new(Zeroizing::new(*secret))
                .map_err(|_| DecodeRingError::Invalid("a key cannot be used"))?,
        )),
        (None, Some(_)) => None,
        _ => {
            return Err(DecodeRingError::Invalid(
                "a key has a secret or a time of retirement, not both",
            ));
        }
    };
    Ok(Key {
        kid: kid
            .ok_or(missing)?
            .parse()
            .map_err(|_| DecodeRingError::Invalid("a key's name is not 1 to 8 of A-Za-z0-9_-"))?,
        created: created.ok_or(missing)?,
        seals_from: seals_from.ok_or(missing)?,
        retired,
        material,
    })
}

fn moment(decoder: &mut Decoder<'_>) -> Result<Timestamp, CborError> {
    i64::try_from(decoder.uint()?)
        .ok()
        .and_then(|second| Timestamp::from_second(second).ok())
        .ok_or(CborError::Type)
}

fn seconds(moment: Timestamp) -> u64 {
    u64::try_from(moment.as_second()).unwrap_or(0)
}
