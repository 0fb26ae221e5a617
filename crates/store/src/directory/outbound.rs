//! Tokens for outside services: the switch of an account, and the keys of all (STS spec, section 2.9).

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use countersign_arn::AccountId;
use countersign_oidc::{Algorithm, IssuerKeys, Schedule, SigningKey};
use jiff::Timestamp;

use super::{Directory, DirectoryError, readable};
use crate::records::{Account, OUTBOUND_KEYS_FIELD, OutboundFederation, OutboundKeys, RecordKey};
use crate::{DirectorySnapshot, SecretString, Transaction};

/// What tokens can be signed with.
const ALGORITHMS: [Algorithm; 2] = [Algorithm::Rs256, Algorithm::Es384];

impl Directory {
    /// Switches the tokens of an account on or off. Nothing when they are so already. The issuer's last part is made the
    /// first time and stays.
    ///
    /// # Errors
    /// When there is no such account; see [`DirectoryError`].
    pub async fn set_outbound_federation(
        &self,
        account: AccountId,
        enabled: bool,
    ) -> Result<Option<OutboundFederation>, DirectoryError> {
        self.write(|snapshot| {
            let key = readable(snapshot, RecordKey::Account(account))?;
            let entry = snapshot
                .account(account)
                .ok_or(DirectoryError::NoSuchAccount(account))?;
            let known = entry.record.outbound_federation.as_ref();
            if known.is_some_and(|known| known.enabled) == enabled {
                return Ok((Transaction::new(), None));
            }
            let hash = match known {
                Some(known) => known.hash.clone(),
                None => {
                    let random = self.0.random.bytes::<16>()?;
                    let hex: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
                    hex.into()
                }
            };
            let switched = OutboundFederation { hash, enabled };
            let record = Account {
                outbound_federation: Some(switched.clone()),
                ..entry.record.clone()
            };
            let transaction = Transaction::new()
                .if_unchanged(&key, entry.modified)
                .put(&key, record.encode());
            Ok((transaction, Some(switched)))
        })
        .await
    }

    /// Makes the signing keys that are due at `now`, if any account has its tokens on: the first ones, and successors of
    /// those that are a week old. Cheap when nothing is due; to be called at start and every hour, on every replica.
    /// Replicas that find the same thing due agree on one of them.
    ///
    /// # Errors
    /// When a key cannot be made, or the record is of a later version or damaged; see [`DirectoryError`].
    pub async fn maintain_outbound_keys(&self, now: Timestamp) -> Result<(), DirectoryError> {
        let due = due(&self.snapshot(), now);
        if due.is_empty() {
            return Ok(());
        }
        // An RSA key takes a moment, which must not hold up requests.
        let made = tokio::task::spawn_blocking(move || {
            due.into_iter()
                .map(|algorithm| SigningKey::generate(algorithm).map(Arc::new))
                .collect::<Result<Vec<_>, _>>()
        })
        .await
        .map_err(|_| DirectoryError::OutboundKeys)?
        .map_err(|_| DirectoryError::OutboundKeys)?;
        self.write(|snapshot| {
            let key = readable(snapshot, RecordKey::OutboundKeys)?;
            let known = snapshot.outbound_keys();
            let mut keys = known.map_or_else(IssuerKeys::default, |known| known.keys.clone());
            let still_due = due_of(&keys, now);
            let mut wanted = made
                .iter()
                .filter(|made| still_due.contains(&made.algorithm()))
                .peekable();
            if wanted.peek().is_none() {
                // Another replica was faster.
                return Ok((Transaction::new(), ()));
            }
            for key in wanted {
                keys = keys
                    .rotated(Arc::clone(key), Schedule::OUTBOUND, now)
                    .map_err(|_| DirectoryError::OutboundKeys)?;
            }
            let plain = keys.encode().map_err(|_| DirectoryError::OutboundKeys)?;
            let text = SecretString::new(STANDARD_NO_PAD.encode(&*plain));
            let record = OutboundKeys {
                keys: self.0.sealer.seal(&key, OUTBOUND_KEYS_FIELD, &text)?,
            };
            let transaction = match known {
                Some(known) => Transaction::new().if_unchanged(&key, known.modified),
                None => Transaction::new().if_absent(&key),
            };
            Ok((transaction.put(&key, record.encode()), ()))
        })
        .await
    }
}

fn due(snapshot: &DirectorySnapshot, now: Timestamp) -> Vec<Algorithm> {
    let is_on = |federation: &OutboundFederation| federation.enabled;
    let used = snapshot.accounts().any(|account| {
        account
            .record
            .outbound_federation
            .as_ref()
            .is_some_and(is_on)
    });
    match snapshot.outbound_keys() {
        _ if !used => Vec::new(),
        None => ALGORITHMS.to_vec(),
        Some(known) => due_of(&known.keys, now),
    }
}

fn due_of(keys: &IssuerKeys, now: Timestamp) -> Vec<Algorithm> {
    ALGORITHMS
        .into_iter()
        .filter(|algorithm| keys.is_due(*algorithm, Schedule::OUTBOUND, now))
        .collect()
}
