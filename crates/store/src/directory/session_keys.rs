//! The keys of session tokens, one ring for the deployment (STS spec, section 8.4).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use countersign_session::{KeyRing, NewKey, ROTATE_EVERY};
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::{Directory, DirectoryError, readable};
use crate::records::{RecordKey, SESSION_KEYS_FIELD, SessionKeys};
use crate::{SecretString, Transaction};

impl Directory {
    /// Makes what is due at `now`: the deployment id and the first key when there is none, a new key when the sealing one
    /// is a week old, and keys that open nothing any more without their secrets. Revocations that can mean no session any
    /// more are dropped with them, and what is left of clusters
    /// ([`sweep_clusters`](Self::sweep_clusters)). Cheap when nothing is due; to be called at start and every hour, on every replica.
    /// Replicas that find the same thing due agree on one of them.
    ///
    /// # Errors
    /// When the record is of a later version or damaged; see [`DirectoryError`].
    pub async fn maintain_session_keys(&self, now: Timestamp) -> Result<(), DirectoryError> {
        self.change_session_keys(|ring, new| match ring {
            Some(ring) => ring.maintained(new, ROTATE_EVERY, now),
            None => KeyRing::bootstrap(new, now).map(Some),
        })
        .await?;
        self.drop_ended_revocations(now).await?;
        self.sweep_clusters(now).await?;
        Ok(())
    }

    /// Makes a new key before one is due. It seals after a minute, when every replica has it; what the keys before it
    /// sealed lives on.
    ///
    /// # Errors
    /// As [`maintain_session_keys`](Self::maintain_session_keys).
    pub async fn rotate_session_keys(&self, now: Timestamp) -> Result<(), DirectoryError> {
        self.change_session_keys(|ring, new| match ring {
            Some(ring) => ring.rotated(new, now).map(Some),
            None => KeyRing::bootstrap(new, now).map(Some),
        })
        .await
    }

    /// Ends every session at once: all keys are retired, and a new one seals from now on.
    ///
    /// # Errors
    /// As [`maintain_session_keys`](Self::maintain_session_keys).
    pub async fn retire_session_keys(&self, now: Timestamp) -> Result<(), DirectoryError> {
        self.change_session_keys(|ring, new| match ring {
            Some(ring) => ring.all_retired(new, now).map(Some),
            None => KeyRing::bootstrap(new, now).map(Some),
        })
        .await
    }

    async fn change_session_keys(
        &self,
        mut change: impl FnMut(
            Option<&KeyRing>,
            &NewKey,
        ) -> Result<Option<KeyRing>, countersign_session::RingError>,
    ) -> Result<(), DirectoryError> {
        self.write(|snapshot| {
            let key = readable(snapshot, RecordKey::SessionKeys)?;
            let known = snapshot.session_keys();
            let random = Zeroizing::new(self.0.random.bytes::<36>()?);
            let ring = change(
                known.map(|known| &known.ring),
                &NewKey::from_random(&random),
            )?;
            let Some(ring) = ring else {
                // Nothing is due; a transaction without changes takes no revision.
                return Ok((Transaction::new(), ()));
            };
            let deployment = match known {
                Some(known) => known.deployment.as_str().into(),
                None => self.new_deployment_id()?,
            };
            let text = SecretString::new(STANDARD_NO_PAD.encode(&*ring.encode()));
            let record = SessionKeys {
                deployment,
                ring: self.0.sealer.seal(&key, SESSION_KEYS_FIELD, &text)?,
            };
            let transaction = match known {
                Some(known) => Transaction::new().if_unchanged(&key, known.modified),
                None => Transaction::new().if_absent(&key),
            };
            Ok((transaction.put(&key, record.encode()), ()))
        })
        .await
    }

    fn new_deployment_id(&self) -> Result<Box<str>, DirectoryError> {
        let random = self.0.random.bytes::<16>()?;
        let hex: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(format!("d-{hex}").into())
    }
}
