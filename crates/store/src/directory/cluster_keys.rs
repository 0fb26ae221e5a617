//! The keys of clusters' service account tokens (IRSA spec, sections 2.4 and 2.5).

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use countersign_oidc::{Algorithm, IssuerKeys, KeySet, KeyStage, Schedule, SigningKey};
use jiff::{SignedDuration, Timestamp};

use super::{ClusterPlace, Directory, DirectoryError, readable};
use crate::records::{CLUSTER_SIGNING_KEYS_FIELD, ClusterKeySource, ClusterKeys, RecordKey};
use crate::snapshot::{ClusterEntry, ClusterKeysEntry};
use crate::{DirectorySnapshot, Key, SecretString, Transaction};

/// How long keys that stay the same are not written again.
const CONFIRM_EVERY: SignedDuration = SignedDuration::from_hours(1);

/// A change of a cluster's keys that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterKeysRefused {
    /// The API server says what the keys are.
    #[error(
        "the keys are pulled from the cluster's API server; take them away first to give others"
    )]
    Pulled,
    /// Keys of another source are there.
    #[error("the cluster has keys that are {}; take them away first, or replace them", .0.as_str())]
    OtherSource(ClusterKeySource),
    /// There are none that were made here.
    #[error("the cluster has no generated keys to rotate")]
    NotGenerated,
    /// There are already.
    #[error("the cluster has generated keys; rotate them")]
    Generated,
    /// The next key does not sign yet.
    #[error("the key `{id}` was published for this already; it signs from {signs_from} on")]
    RotationUnderWay {
        /// Its id.
        id: Box<str>,
        /// From when it may sign.
        signs_from: Timestamp,
    },
    /// No key has the id.
    #[error("the cluster has no key `{0}`")]
    NoSuchKey(Box<str>),
    /// Tokens of the key live, or may be made at any time.
    #[error("the key `{id}` {why}; removing it now ends tokens that are in use")]
    InUse {
        /// Its id.
        id: Box<str>,
        /// What it is needed for.
        why: Box<str>,
    },
    /// More keys than a set has.
    #[error("the cluster would have too many keys: {0}")]
    TooMany(Box<str>),
    /// The library failed.
    #[error("the signing key could not be made")]
    NotMade,
}

impl Directory {
    /// Adds public keys to those of a cluster. Its own generated ones stay beside them.
    ///
    /// # Errors
    /// When the keys are pulled from the API server, or are too many; see [`DirectoryError`].
    pub async fn add_cluster_keys(
        &self,
        place: ClusterPlace<'_>,
        document: &KeySet,
        now: Timestamp,
    ) -> Result<ClusterKeys, DirectoryError> {
        self.change_cluster_keys(place, now, |found| {
            let source = match found.source() {
                None => ClusterKeySource::Uploaded,
                Some(ClusterKeySource::ApiServer) => return Err(ClusterKeysRefused::Pulled.into()),
                Some(source) => source,
            };
            let known = found.uploaded();
            let both = known.and(parsed(&document.to_document()));
            Ok(found.with(source, &both, found.signing(), now))
        })
        .await
    }

    /// Takes over the keys that the API server of a cluster publishes. `first` makes it the source of a cluster that has no
    /// keys; `replace` takes the place of others. Without a change nothing is written for an hour.
    ///
    /// # Errors
    /// When keys of another source are there, or these are too many; see [`DirectoryError`].
    pub async fn pulled_cluster_keys(
        &self,
        place: ClusterPlace<'_>,
        document: &KeySet,
        replace: bool,
        now: Timestamp,
    ) -> Result<ClusterKeys, DirectoryError> {
        let text = document.to_document();
        self.change_cluster_keys(place, now, |found| {
            match found.known {
                Some(known) if known.record.source == ClusterKeySource::ApiServer => {
                    let same = *known.record.document == *text;
                    if same && now.duration_since(known.record.confirmed) < CONFIRM_EVERY {
                        return Ok(known.record.clone());
                    }
                    if same {
                        return Ok(ClusterKeys {
                            confirmed: now,
                            ..known.record.clone()
                        });
                    }
                }
                Some(known) if !replace => {
                    return Err(ClusterKeysRefused::OtherSource(known.record.source).into());
                }
                Some(_) | None => {}
            }
            Ok(found.with(ClusterKeySource::ApiServer, document, None, now))
        })
        .await
    }

    /// Makes the first signing key of a cluster. Uploaded keys stay beside it, for tokens that were signed before.
    ///
    /// # Errors
    /// When there are generated keys, or the API server says what the keys are; see [`DirectoryError`].
    pub async fn generate_cluster_keys(
        &self,
        place: ClusterPlace<'_>,
        algorithm: Algorithm,
        now: Timestamp,
    ) -> Result<ClusterKeys, DirectoryError> {
        let made = make(algorithm).await?;
        self.change_cluster_keys(place, now, |found| {
            match found.source() {
                Some(ClusterKeySource::ApiServer) => return Err(ClusterKeysRefused::Pulled.into()),
                Some(ClusterKeySource::Generated) => {
                    return Err(ClusterKeysRefused::Generated.into());
                }
                Some(ClusterKeySource::Uploaded) | None => {}
            }
            self.rotated(found, &IssuerKeys::default(), &made, now)
        })
        .await
    }

    /// Makes and publishes the next signing key of a cluster, of the algorithm of the one before. It signs from
    /// [`Schedule::CLUSTER`]'s `publish_before` on; the others stay until they are removed.
    ///
    /// # Errors
    /// When there are no generated keys, or the next one waits already; see [`DirectoryError`].
    pub async fn rotate_cluster_keys(
        &self,
        place: ClusterPlace<'_>,
        now: Timestamp,
    ) -> Result<ClusterKeys, DirectoryError> {
        let algorithm = {
            let snapshot = self.snapshot();
            let cluster = place.find(&snapshot, now)?;
            let known = snapshot.cluster_keys(&cluster.record.id);
            let newest = known.and_then(|known| known.signing.all().last());
            newest
                .map(|key| key.algorithm())
                .ok_or(ClusterKeysRefused::NotGenerated)?
        };
        let made = make(algorithm).await?;
        self.change_cluster_keys(place, now, |found| {
            let known = found.known.ok_or(ClusterKeysRefused::NotGenerated)?;
            if known.signing.is_empty() {
                return Err(ClusterKeysRefused::NotGenerated.into());
            }
            let waiting = known
                .signing
                .lives(Schedule::CLUSTER, now)
                .find(|life| life.stage == KeyStage::Published);
            if let Some(life) = waiting {
                return Err(ClusterKeysRefused::RotationUnderWay {
                    id: life.key.id().into(),
                    signs_from: Timestamp::from_second(life.signs_from).unwrap_or(Timestamp::MAX),
                }
                .into());
            }
            self.rotated(found, &known.signing, &made, now)
        })
        .await
    }

    /// Removes a key. `force` removes one that is in use too: for a key that became known to others.
    ///
    /// # Errors
    /// When there is no such key, it is in use, or keys are pulled from the API server; see [`DirectoryError`].
    pub async fn remove_cluster_key(
        &self,
        place: ClusterPlace<'_>,
        id: &str,
        force: bool,
        now: Timestamp,
    ) -> Result<ClusterKeys, DirectoryError> {
        self.change_cluster_keys(place, now, |found| {
            let no_such = || ClusterKeysRefused::NoSuchKey(id.into());
            let known = found.known.ok_or_else(no_such)?;
            if known.record.source == ClusterKeySource::ApiServer {
                return Err(ClusterKeysRefused::Pulled.into());
            }
            if !known.keys.ids().any(|known| known == id) {
                return Err(no_such().into());
            }
            let life = known
                .signing
                .lives(Schedule::CLUSTER, now)
                .find(|life| life.key.id() == id);
            let why = match life.map(|life| (life.stage, life.needed_until)) {
                Some((KeyStage::Signs, _)) => Some("is the one that signs".to_owned()),
                Some((KeyStage::Retired, Some(until))) => {
                    let until = Timestamp::from_second(until).unwrap_or(Timestamp::MAX);
                    Some(format!("signed tokens that live until {until}"))
                }
                _ => None,
            };
            if let Some(why) = why.filter(|_| !force) {
                return Err(ClusterKeysRefused::InUse {
                    id: id.into(),
                    why: why.into(),
                }
                .into());
            }
            let signing = known.signing.without(id);
            let sealed = if signing.is_empty() {
                None
            } else {
                Some(self.sealed(found.key, &signing)?)
            };
            let source = if sealed.is_some() {
                ClusterKeySource::Generated
            } else {
                ClusterKeySource::Uploaded
            };
            let uploaded = found.uploaded().without(id);
            Ok(found.with(source, &uploaded, sealed, now))
        })
        .await
    }

    /// Takes all keys of a cluster away: none of its tokens verifies any more.
    ///
    /// # Errors
    /// When the cluster is not there, or is being deleted; see [`DirectoryError`].
    pub async fn clear_cluster_keys(
        &self,
        place: ClusterPlace<'_>,
        now: Timestamp,
    ) -> Result<(), DirectoryError> {
        self.write(|snapshot| {
            let (_, cluster) = place.open(snapshot, now)?;
            let key = key_of(snapshot, cluster)?;
            let Some(known) = snapshot.cluster_keys(&cluster.record.id) else {
                return Ok((Transaction::new(), ()));
            };
            let transaction = Transaction::new()
                .if_unchanged(&key, known.modified)
                .delete(&key);
            Ok((transaction, ()))
        })
        .await
    }

    fn rotated(
        &self,
        found: &Found<'_>,
        keys: &IssuerKeys,
        made: &Arc<SigningKey>,
        now: Timestamp,
    ) -> Result<ClusterKeys, DirectoryError> {
        // Nothing goes away by itself, see the schedule.
        let forever = Schedule {
            keep_after: i64::MAX,
            ..Schedule::CLUSTER
        };
        let keys = keys
            .rotated(Arc::clone(made), forever, now)
            .map_err(|error| ClusterKeysRefused::TooMany(error.to_string().into()))?;
        let sealed = self.sealed(found.key, &keys)?;
        let source = ClusterKeySource::Generated;
        Ok(found.with(source, &found.uploaded(), Some(sealed), now))
    }

    fn sealed(&self, key: &Key, keys: &IssuerKeys) -> Result<crate::SealedSecret, DirectoryError> {
        let plain = keys.encode().map_err(|_| ClusterKeysRefused::NotMade)?;
        let text = SecretString::new(STANDARD_NO_PAD.encode(&*plain));
        Ok(self.0.sealer.seal(key, CLUSTER_SIGNING_KEYS_FIELD, &text)?)
    }

    async fn change_cluster_keys(
        &self,
        place: ClusterPlace<'_>,
        now: Timestamp,
        change: impl Fn(&Found<'_>) -> Result<ClusterKeys, DirectoryError>,
    ) -> Result<ClusterKeys, DirectoryError> {
        self.write(|snapshot| {
            let (cluster_key, cluster) = place.open(snapshot, now)?;
            let key = key_of(snapshot, cluster)?;
            let known = snapshot.cluster_keys(&cluster.record.id);
            let found = Found {
                cluster,
                key: &key,
                known,
            };
            let changed = change(&found)?;
            if known.is_some_and(|known| known.record == changed) {
                return Ok((Transaction::new(), changed));
            }
            // What every replica will refuse to read must not be written.
            let all = parsed(&changed.document);
            let beside = known.map_or(0, |known| known.signing.all().count());
            let made = usize::from(changed.signing.is_some());
            if all.len().saturating_add(beside).saturating_add(made)
                > countersign_oidc::MAX_KEYS_OF_A_KIND
            {
                let most = countersign_oidc::MAX_KEYS_OF_A_KIND;
                let why = format!("at most {most} are published");
                return Err(ClusterKeysRefused::TooMany(why.into()).into());
            }
            let transaction = Transaction::new().if_unchanged(&cluster_key, cluster.modified);
            let transaction = match known {
                Some(known) => transaction.if_unchanged(&key, known.modified),
                None => transaction.if_absent(&key),
            };
            Ok((transaction.put(&key, changed.encode()), changed))
        })
        .await
    }
}

/// What is there before a change.
struct Found<'s> {
    cluster: &'s Arc<ClusterEntry>,
    key: &'s Key,
    known: Option<&'s Arc<ClusterKeysEntry>>,
}

impl Found<'_> {
    fn source(&self) -> Option<ClusterKeySource> {
        self.known.map(|known| known.record.source)
    }

    /// The keys that were not made here.
    fn uploaded(&self) -> KeySet {
        self.known
            .map_or_else(KeySet::default, |known| parsed(&known.record.document))
    }

    fn signing(&self) -> Option<crate::SealedSecret> {
        self.known.and_then(|known| known.record.signing.clone())
    }

    fn with(
        &self,
        source: ClusterKeySource,
        document: &KeySet,
        signing: Option<crate::SealedSecret>,
        now: Timestamp,
    ) -> ClusterKeys {
        ClusterKeys {
            account: self.cluster.record.account,
            cluster_id: self.cluster.record.id.clone(),
            source,
            document: document.to_document().into(),
            signing,
            confirmed: now,
            modified: now,
        }
    }
}

/// A document that was written here; one that cannot be read is not in the snapshot.
fn parsed(document: &str) -> KeySet {
    KeySet::with_generated(document.as_bytes(), []).unwrap_or_default()
}

fn key_of(snapshot: &DirectorySnapshot, cluster: &ClusterEntry) -> Result<Key, DirectoryError> {
    readable(
        snapshot,
        RecordKey::ClusterKeys {
            account: cluster.record.account,
            cluster_id: &cluster.record.id,
        },
    )
}

/// An RSA key takes a moment, which must not hold up requests.
async fn make(algorithm: Algorithm) -> Result<Arc<SigningKey>, DirectoryError> {
    let made = tokio::task::spawn_blocking(move || SigningKey::generate(algorithm).map(Arc::new));
    match made.await {
        Ok(Ok(key)) => Ok(key),
        Ok(Err(_)) | Err(_) => Err(ClusterKeysRefused::NotMade.into()),
    }
}
