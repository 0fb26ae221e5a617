//! Hashing passwords with Argon2id: off the threads that answer requests, and few at a time.

use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use tokio::sync::Semaphore;

use super::DirectoryError;
use crate::{Random, SecretString};

/// KiB of memory of one hash: the second of the parameter sets that OWASP recommends for Argon2id.
const MEMORY_KIB: u32 = 19 * 1024;
/// Passes over the memory.
const PASSES: u32 = 2;
/// Lanes.
const LANES: u32 = 1;
/// Bytes of a salt.
const SALT_BYTES: usize = 16;
/// A stored hash that asks for more memory or passes than this was not made here, and is not computed.
const MOST_MEMORY_KIB: u32 = 128 * 1024;
const MOST_PASSES: u32 = 8;
/// How many hash at the same time; bounds their memory.
const AT_ONCE: usize = 2;
/// How many may wait for their turn. One that comes when so many wait is told to come again.
const WAITING: usize = 64;

/// Hashes and verifies.
#[derive(Debug, Clone)]
pub(super) struct Passwords {
    running: Arc<Semaphore>,
    admitted: Arc<Semaphore>,
}

impl Default for Passwords {
    fn default() -> Self {
        Self {
            running: Arc::new(Semaphore::new(AT_ONCE)),
            admitted: Arc::new(Semaphore::new(AT_ONCE.saturating_add(WAITING))),
        }
    }
}

impl Passwords {
    /// Runs work that hashes where it holds up nobody.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, DirectoryError> {
        let admitted = Arc::clone(&self.admitted)
            .try_acquire_owned()
            .map_err(|_| DirectoryError::Busy)?;
        let running = Arc::clone(&self.running)
            .acquire_owned()
            .await
            .map_err(|_| DirectoryError::Busy)?;
        // The permits go with the work: a caller that stops waiting frees no place for another hash.
        tokio::task::spawn_blocking(move || {
            let _permits = (admitted, running);
            work()
        })
        .await
        .map_err(|_| DirectoryError::Busy)
    }
}

/// The hash of a password with a new salt, in the PHC string form.
pub(super) fn hash(password: &SecretString, random: &Random) -> Result<Box<str>, DirectoryError> {
    let salt = random.bytes::<SALT_BYTES>()?;
    let hash = hasher()?
        .hash_password_with_salt(password.expose().as_bytes(), &salt)
        .map_err(|_| DirectoryError::PasswordHash)?;
    Ok(hash.to_string().into())
}

/// Whether this is the password of a hash. What cannot be read is the hash of no password.
pub(super) fn matches(password: &SecretString, hash: &str) -> bool {
    let Ok(parsed) = PasswordHash::new(hash) else {
        return false;
    };
    let modest = Params::try_from(&parsed).is_ok_and(|params| {
        params.m_cost() <= MOST_MEMORY_KIB
            && params.t_cost() <= MOST_PASSES
            && params.p_cost() <= LANES
    });
    modest
        && hasher().is_ok_and(|hasher| {
            hasher
                .verify_password(password.expose().as_bytes(), &parsed)
                .is_ok()
        })
}

/// As much work as [`matches`], for a user that is not there or has no password: the answer takes as long as for one that has.
pub(super) fn match_nothing(password: &SecretString) -> bool {
    let worked = hasher().is_ok_and(|hasher| {
        hasher
            .hash_password_with_salt(password.expose().as_bytes(), &[0; SALT_BYTES])
            .is_ok()
    });
    // The result must not be known to be unused.
    std::hint::black_box(worked);
    false
}

fn hasher() -> Result<Argon2<'static>, DirectoryError> {
    let params =
        Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|_| DirectoryError::PasswordHash)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}
