//! Virtual MFA devices: made, enabled for a user, used, and deleted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use countersign_arn::{AccountId, Tag};
use jiff::{SignedDuration, Timestamp};
use zeroize::Zeroizing;

use super::access_keys::find_user;
use super::accounts::find_account;
use super::totp::{Device, base32_encode, step_at};
use super::vacancy::Vacancy;
use super::{Directory, DirectoryError, Thing, missing};
use crate::records::{
    EnabledMfa, MfaDevice, RecordKey, SEED_FIELD, check_mfa_device_name, check_path, check_tags,
};
use crate::snapshot::MfaDeviceEntry;
use crate::{DirectorySnapshot, Key, Revision, SecretString, Transaction};

/// Random bytes of a seed: 64 characters of base32.
const SEED_BYTES: usize = 40;
/// Steps before and after the present one whose codes are accepted.
const WINDOW: i64 = 1;
/// Steps before and after the present one in which two codes in a row are looked for, when a device is enabled or
/// synchronised: an hour. Two codes are so many that the reach does not help who guesses.
const REACH: i64 = 120;
/// So many wrong codes of one device, in [`LOCKED_FOR`], and no code of it is accepted any more until that has passed.
const WRONG_CODES: u32 = 10;
const LOCKED_FOR: SignedDuration = SignedDuration::from_mins(10);
/// Devices whose wrong codes are counted at the same time.
const COUNTED_DEVICES: usize = 10_000;

/// A virtual MFA device to create.
#[derive(Debug, Clone)]
pub struct NewMfaDevice {
    /// The account it lives in.
    pub account: AccountId,
    /// The name, unique in the account whatever the path, with case.
    pub name: Box<str>,
    /// `/` or `/…/`.
    pub path: Box<str>,
    /// Tags.
    pub tags: Vec<Tag>,
}

/// A new virtual MFA device, with the seed that can be had only now.
#[derive(Debug)]
pub struct CreatedMfaDevice {
    /// The device.
    pub record: MfaDevice,
    /// The seed: 64 characters of base32.
    pub seed: SecretString,
}

/// Whom a device is enabled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MfaOwner<'a> {
    /// A user, by name.
    User(&'a str),
    /// The root user of the account.
    Root,
}

/// Wrong codes since when, and how many. It is of this replica and this process: what it bounds is guessing.
#[derive(Debug, Default)]
pub(super) struct WrongCodes(Mutex<HashMap<Arc<str>, (Timestamp, u32)>>);

impl WrongCodes {
    fn is_locked(&self, serial: &str, now: Timestamp) -> bool {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts
            .get(serial)
            .is_some_and(|(since, count)| *count >= WRONG_CODES && !passed(*since, now))
    }

    fn count(&self, serial: &Arc<str>, now: Timestamp) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= COUNTED_DEVICES && !counts.contains_key(serial) {
            counts.retain(|_, (since, _)| !passed(*since, now));
            if counts.len() >= COUNTED_DEVICES {
                return;
            }
        }
        let (since, count) = counts.entry(Arc::clone(serial)).or_insert((now, 0));
        if passed(*since, now) {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
    }

    fn forget(&self, serial: &str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.remove(serial);
    }
}

fn passed(since: Timestamp, now: Timestamp) -> bool {
    now.duration_since(since) >= LOCKED_FOR
}

impl Directory {
    /// Creates a virtual MFA device that is nobody's yet. The seed is sealed in the store and can be read out only here.
    ///
    /// # Errors
    /// When the account is not there, or has a device of this name; see [`DirectoryError`].
    pub async fn create_mfa_device(
        &self,
        new: NewMfaDevice,
        now: Timestamp,
    ) -> Result<CreatedMfaDevice, DirectoryError> {
        check_mfa_device_name(&new.name)?;
        check_path(&new.path)?;
        check_tags(&new.tags)?;
        let random = Zeroizing::new(self.0.random.bytes::<SEED_BYTES>()?);
        let seed = SecretString::new(base32_encode(&*random).as_str());
        // As many as users, as at AWS (IAM API spec, section 2.3 has the devices of one user).
        let limit = self.0.quotas.users_per_account;
        let record = self
            .write(|snapshot| {
                let key = RecordKey::MfaDevice {
                    account: new.account,
                    name: &new.name,
                };
                let place = Vacancy::in_account(snapshot, new.account, key)?
                    .unless(
                        snapshot.mfa_device(new.account, &new.name).is_some(),
                        || DirectoryError::exists(Thing::MfaDevice, &new.name),
                    )?
                    .within(
                        "MFADevicesPerAccount",
                        limit,
                        snapshot.mfa_devices(new.account, None).count(),
                    )?;
                let record = MfaDevice {
                    account: new.account,
                    partition: place.partition,
                    name: new.name.clone(),
                    path: new.path.clone(),
                    created: now,
                    seed: self.0.sealer.seal(&place.key, SEED_FIELD, &seed)?,
                    enabled: None,
                    last_step: None,
                    drift: 0,
                    tags: new.tags.clone(),
                };
                Ok((place.fill(record.encode()), record))
            })
            .await?;
        Ok(CreatedMfaDevice { record, seed })
    }

    /// Makes a device the user's, who shows with two codes in a row that it is in hand.
    ///
    /// # Errors
    /// When the user or the device is not there, the device is somebody's already, the user has as many as it may, or
    /// [`DirectoryError::WrongMfaCode`]; see [`DirectoryError`].
    pub async fn enable_mfa_device(
        &self,
        account: AccountId,
        owner: MfaOwner<'_>,
        serial: &str,
        codes: [&str; 2],
        now: Timestamp,
    ) -> Result<(), DirectoryError> {
        let limit = self.0.quotas.mfa_devices_per_user;
        self.write(|snapshot| {
            let holder = Holder::find(snapshot, account, owner)?;
            let (key, device) = find_device(snapshot, account, serial)?;
            if device.record.enabled.is_some() {
                return Err(DirectoryError::Exists {
                    what: Thing::EnabledMfaDevice,
                    name: serial.into(),
                });
            }
            if holder.device_count(snapshot) >= limit {
                return Err(DirectoryError::QuotaExceeded {
                    quota: "MFADevicesPerUser",
                    limit,
                });
            }
            let mut changed = synchronised(device, codes, now)?;
            changed.enabled = Some(EnabledMfa {
                user_id: holder.id(),
                at: now,
            });
            let transaction = holder
                .with_devices(|names| names.push(changed.name.clone()))
                .if_unchanged(&key, device.modified)
                .put(&key, changed.encode());
            Ok((transaction, ()))
        })
        .await
    }

    /// Finds out anew how far a device's clock is from ours, with two codes in a row.
    ///
    /// # Errors
    /// When the user is not there or has no such device, or [`DirectoryError::WrongMfaCode`]; see [`DirectoryError`].
    pub async fn resync_mfa_device(
        &self,
        account: AccountId,
        owner: MfaOwner<'_>,
        serial: &str,
        codes: [&str; 2],
        now: Timestamp,
    ) -> Result<(), DirectoryError> {
        self.write(|snapshot| {
            let holder = Holder::find(snapshot, account, owner)?;
            let (key, device) = holder.device(snapshot, account, serial)?;
            let changed = synchronised(device, codes, now)?;
            let transaction = Transaction::new()
                .if_unchanged(&key, device.modified)
                .put(&key, changed.encode());
            Ok((transaction, ()))
        })
        .await
    }

    /// Takes a device from its user. Which codes were used stays known.
    ///
    /// # Errors
    /// When the user is not there or has no such device; see [`DirectoryError`].
    pub async fn deactivate_mfa_device(
        &self,
        account: AccountId,
        owner: MfaOwner<'_>,
        serial: &str,
    ) -> Result<(), DirectoryError> {
        self.write(|snapshot| {
            let holder = Holder::find(snapshot, account, owner)?;
            let (key, device) = holder.device(snapshot, account, serial)?;
            let mut changed = device.record.clone();
            changed.enabled = None;
            let transaction = holder
                .with_devices(|names| names.retain(|name| *name != changed.name))
                .if_unchanged(&key, device.modified)
                .put(&key, changed.encode());
            Ok((transaction, ()))
        })
        .await
    }

    /// Deletes a device that is nobody's.
    ///
    /// # Errors
    /// When it is not there, or is enabled for somebody; see [`DirectoryError`].
    pub async fn delete_mfa_device(
        &self,
        account: AccountId,
        serial: &str,
    ) -> Result<(), DirectoryError> {
        self.write(|snapshot| {
            let (key, device) = find_device(snapshot, account, serial)?;
            if device.record.enabled.is_some() {
                return Err(DirectoryError::DeleteConflict {
                    what: "a user it is enabled for",
                });
            }
            let transaction = Transaction::new()
                .if_unchanged(&key, device.modified)
                .delete(&key);
            Ok((transaction, ()))
        })
        .await
    }

    /// Takes a code of a user's device, once: the step it stands for is written, so that no replica takes it again
    /// (STS spec, section 4.4). `user_id` is the account's id for the root user.
    ///
    /// After ten wrong codes no code of the device is taken for ten minutes, on this replica.
    ///
    /// # Errors
    /// [`DirectoryError::NoSuch`] when there is no such device or it is not this user's,
    /// [`DirectoryError::WrongMfaCode`] when the code is wrong, old or used; see [`DirectoryError`].
    pub async fn use_mfa_code(
        &self,
        account: AccountId,
        user_id: &str,
        serial: &str,
        code: &str,
        now: Timestamp,
    ) -> Result<(), DirectoryError> {
        let wrong_codes = &self.0.wrong_codes;
        let used = self
            .write(|snapshot| {
                let (key, device) = find_device(snapshot, account, serial)?;
                if !is_of(device, user_id) {
                    return Err(no_such_device(serial));
                }
                if wrong_codes.is_locked(serial, now) {
                    return Err(DirectoryError::WrongMfaCode);
                }
                let record = &device.record;
                let middle = step_at(now).saturating_add(record.drift);
                let step = Device::new(&device.seed).and_then(|shown| {
                    let (from, to) = (middle.saturating_sub(WINDOW), middle.saturating_add(WINDOW));
                    shown.step_of(code, from, to, record.last_step)
                });
                let Some(step) = step else {
                    wrong_codes.count(&device.arn, now);
                    return Err(DirectoryError::WrongMfaCode);
                };
                let mut changed = record.clone();
                changed.last_step = Some(step);
                let transaction = Transaction::new()
                    .if_unchanged(&key, device.modified)
                    .put(&key, changed.encode());
                Ok((transaction, ()))
            })
            .await;
        if used.is_ok() {
            wrong_codes.forget(serial);
        }
        used
    }
}

/// Who has, or gets, a device, with the record in which that stands.
enum Holder {
    User {
        key: Key,
        modified: Revision,
        record: Box<crate::records::User>,
    },
    /// The account's record is written as it is: two devices that are enabled at once meet there.
    Root {
        key: Key,
        modified: Revision,
        record: Box<crate::records::Account>,
    },
}

impl Holder {
    fn find(
        snapshot: &DirectorySnapshot,
        account: AccountId,
        owner: MfaOwner<'_>,
    ) -> Result<Self, DirectoryError> {
        Ok(match owner {
            MfaOwner::User(name) => {
                let (key, user) = find_user(snapshot, account, name)?;
                Self::User {
                    key,
                    modified: user.modified,
                    record: Box::new(user.record.clone()),
                }
            }
            MfaOwner::Root => {
                let (key, entry) = find_account(snapshot, account)?;
                Self::Root {
                    key,
                    modified: entry.modified,
                    record: Box::new(entry.record.clone()),
                }
            }
        })
    }

    fn id(&self) -> Box<str> {
        match self {
            Self::User { record, .. } => record.id.clone(),
            Self::Root { record, .. } => record.id.as_str().into(),
        }
    }

    fn device_count(&self, snapshot: &DirectorySnapshot) -> usize {
        match self {
            Self::User { record, .. } => record.mfa_devices.len(),
            Self::Root { record, .. } => snapshot
                .mfa_devices(record.id, None)
                .filter(|device| is_of(device, record.id.as_str()))
                .count(),
        }
    }

    /// The device, which has to be this holder's.
    fn device<'s>(
        &self,
        snapshot: &'s DirectorySnapshot,
        account: AccountId,
        serial: &str,
    ) -> Result<(Key, &'s MfaDeviceEntry), DirectoryError> {
        let (key, device) = find_device(snapshot, account, serial)?;
        if is_of(device, &self.id()) {
            Ok((key, device))
        } else {
            Err(no_such_device(serial))
        }
    }

    fn with_devices(self, change: impl FnOnce(&mut Vec<Box<str>>)) -> Transaction {
        let (key, modified, value) = match self {
            Self::User {
                key,
                modified,
                mut record,
            } => {
                change(&mut record.mfa_devices);
                (key, modified, record.encode())
            }
            Self::Root {
                key,
                modified,
                record,
            } => (key, modified, record.encode()),
        };
        Transaction::new()
            .if_unchanged(&key, modified)
            .put(&key, value)
    }
}

/// The device after two codes in a row, the second of which counts as used.
fn synchronised(
    device: &MfaDeviceEntry,
    codes: [&str; 2],
    now: Timestamp,
) -> Result<MfaDevice, DirectoryError> {
    let now = step_at(now);
    let first = Device::new(&device.seed)
        .and_then(|shown| shown.pair_of(codes, now, REACH, device.record.last_step))
        .ok_or(DirectoryError::WrongMfaCode)?;
    let second = first.saturating_add(1);
    let mut changed = device.record.clone();
    changed.last_step = Some(second);
    // One step is the time it takes to type two codes, and says nothing about the clock.
    let ahead = second.saturating_sub(now);
    changed.drift = if ahead.abs() > WINDOW { ahead } else { 0 };
    Ok(changed)
}

fn is_of(device: &MfaDeviceEntry, user_id: &str) -> bool {
    device
        .record
        .enabled
        .as_ref()
        .is_some_and(|enabled| *enabled.user_id == *user_id)
}

fn no_such_device(serial: &str) -> DirectoryError {
    DirectoryError::NoSuch {
        what: Thing::MfaDevice,
        name: serial.into(),
    }
}

pub(super) fn find_device<'s>(
    snapshot: &'s DirectorySnapshot,
    account: AccountId,
    serial: &str,
) -> Result<(Key, &'s MfaDeviceEntry), DirectoryError> {
    let name = serial.rsplit('/').next().unwrap_or_default();
    let key = RecordKey::MfaDevice { account, name };
    let device = snapshot
        .mfa_device_by_serial(serial)
        .filter(|device| device.record.account == account);
    match device {
        Some(device) => Ok((key.to_key()?, device)),
        None => Err(missing(snapshot, key, no_such_device(serial))),
    }
}
