//! Login profiles: the passwords of users, and the policy for them.

use std::sync::Arc;

use countersign_arn::AccountId;
use jiff::Timestamp;

use super::access_keys::find_user;
use super::accounts::find_account;
use super::password_hash;
use super::password_rules::check_policy;
use super::{
    Directory, DirectoryError, PasswordFault, PasswordState, Thing, check_password, password_state,
};
use crate::records::{InvalidField, LoginProfile, PasswordPolicy};
use crate::snapshot::{AccountEntry, UserEntry};
use crate::{DirectorySnapshot, Key, Random, SecretString, Transaction};

/// The most that a password policy remembers, whatever it asks for today: it may ask for more tomorrow.
const REMEMBERED: usize = 24;
/// Characters of the password parameters.
const PASSWORD_CHARS: usize = 128;

/// What changes about a login profile; what is `None` stays.
#[derive(Debug, Default)]
pub struct LoginChange {
    /// Another password.
    pub password: Option<SecretString>,
    /// Whether it has to be changed at the next sign-in.
    pub reset_required: Option<bool>,
}

impl Directory {
    /// Gives a user a password.
    ///
    /// # Errors
    /// When the user is not there or has one, or the account's policy does not take it; see [`DirectoryError`].
    pub async fn create_login_profile(
        &self,
        account: AccountId,
        user_name: &str,
        password: SecretString,
        reset_required: bool,
        now: Timestamp,
    ) -> Result<LoginProfile, DirectoryError> {
        let password = Arc::new(password);
        // What the answer depends on is looked at before the work of hashing, and again when it is written.
        let look = |snapshot: &DirectorySnapshot| {
            let (key, user) = find_user(snapshot, account, user_name)?;
            if user.record.login.is_some() {
                return Err(DirectoryError::Exists {
                    what: Thing::LoginProfile,
                    name: user_name.into(),
                });
            }
            let (account_key, entry) = policy_takes(snapshot, account, &password)?;
            let transaction = Transaction::new()
                .if_unchanged(&account_key, entry.modified)
                .if_unchanged(&key, user.modified);
            Ok((transaction, key, user.record.clone()))
        };
        look(&self.snapshot())?;
        let hash = self.hash(&password).await?;
        self.write(|snapshot| {
            let (compared, key, mut changed) = look(snapshot)?;
            let login = LoginProfile {
                created: now,
                hash: hash.clone(),
                changed: now,
                reset_required,
                previous: Vec::new(),
            };
            changed.login = Some(login.clone());
            Ok((compared.put(&key, changed.encode()), login))
        })
        .await
    }

    /// Sets another password for a user, or whether it has to be changed, as an administrator does.
    ///
    /// # Errors
    /// When the user is not there or has no password, or the account's policy does not take the new one; see
    /// [`DirectoryError`].
    pub async fn update_login_profile(
        &self,
        account: AccountId,
        user_name: &str,
        change: LoginChange,
        now: Timestamp,
    ) -> Result<(), DirectoryError> {
        let snapshot = self.snapshot();
        let (_, user) = find_user(&snapshot, account, user_name)?;
        let before = login_of(user, user_name)?.clone();
        let new = match change.password {
            Some(password) => {
                let password = Arc::new(password);
                let hash = self.new_password(&snapshot, account, &before, &password);
                Some(hash.await?)
            }
            None => None,
        };
        self.replace_login(account, user_name, &before, |login| {
            if let Some(hash) = &new {
                set_hash(login, hash, now);
            }
            if let Some(reset_required) = change.reset_required {
                login.reset_required = reset_required;
            }
        })
        .await
    }

    /// Sets another password for the user that knows the present one.
    ///
    /// The account's policy says who may: that is decided where the request is authorized. A password that expired hard
    /// is not changed here.
    ///
    /// # Errors
    /// [`DirectoryError::WrongPassword`] when the old password is wrong; when the user is not there or has no password,
    /// or the account's policy does not take the new one, see [`DirectoryError`].
    pub async fn change_password(
        &self,
        account: AccountId,
        user_name: &str,
        old: SecretString,
        new: SecretString,
        now: Timestamp,
    ) -> Result<(), DirectoryError> {
        let snapshot = self.snapshot();
        let (_, user) = find_user(&snapshot, account, user_name)?;
        let before = login_of(user, user_name)?.clone();
        let hash: Box<str> = before.hash.clone();
        let right = self
            .0
            .passwords
            .run(move || password_hash::matches(&old, &hash))
            .await?;
        if !right || state(&snapshot, account, &before, now) == PasswordState::Locked {
            return Err(DirectoryError::WrongPassword);
        }
        let new = Arc::new(new);
        let hash = self.new_password(&snapshot, account, &before, &new).await?;
        self.replace_login(account, user_name, &before, |login| {
            set_hash(login, &hash, now);
            login.reset_required = false;
        })
        .await
    }

    /// Takes the password from a user.
    ///
    /// # Errors
    /// When the user is not there or has none; see [`DirectoryError`].
    pub async fn delete_login_profile(
        &self,
        account: AccountId,
        user_name: &str,
    ) -> Result<(), DirectoryError> {
        self.write(|snapshot| {
            let (key, user) = find_user(snapshot, account, user_name)?;
            login_of(user, user_name)?;
            let mut changed = user.record.clone();
            changed.login = None;
            let transaction = Transaction::new()
                .if_unchanged(&key, user.modified)
                .put(&key, changed.encode());
            Ok((transaction, ()))
        })
        .await
    }

    /// Whether a password is a user's, and what may be done with it, for pages where people sign in.
    ///
    /// A wrong password, a user without one and a user that is not there are the same answer, and take the same time.
    ///
    /// # Errors
    /// [`DirectoryError::WrongPassword`] when it is not; [`DirectoryError::Busy`] when too many are verified already.
    pub async fn verify_password(
        &self,
        account: AccountId,
        user_name: &str,
        password: SecretString,
        now: Timestamp,
    ) -> Result<PasswordState, DirectoryError> {
        let snapshot = self.snapshot();
        let login = snapshot
            .user(account, user_name)
            .and_then(|user| user.record.login.clone());
        let hash = login.as_ref().map(|login| login.hash.clone());
        let right = self
            .0
            .passwords
            .run(move || match hash {
                Some(hash) => password_hash::matches(&password, &hash),
                None => password_hash::match_nothing(&password),
            })
            .await?;
        match login {
            Some(login) if right => Ok(state(&snapshot, account, &login, now)),
            _ => Err(DirectoryError::WrongPassword),
        }
    }

    /// Sets the password policy of an account, all of it. It holds for passwords that are set from now on.
    ///
    /// # Errors
    /// When the account is not there, or a number is out of bounds; see [`DirectoryError`].
    pub async fn set_password_policy(
        &self,
        account: AccountId,
        policy: PasswordPolicy,
    ) -> Result<(), DirectoryError> {
        check_policy(&policy)?;
        self.write(|snapshot| {
            let (key, entry) = find_account(snapshot, account)?;
            let mut changed = entry.record.clone();
            changed.password_policy = Some(policy.clone());
            let transaction = Transaction::new()
                .if_unchanged(&key, entry.modified)
                .put(&key, changed.encode());
            Ok((transaction, ()))
        })
        .await
    }

    /// Takes the password policy from an account, which has IAM's default one then.
    ///
    /// # Errors
    /// When the account is not there or has none; see [`DirectoryError`].
    pub async fn delete_password_policy(&self, account: AccountId) -> Result<(), DirectoryError> {
        self.write(|snapshot| {
            let (key, entry) = find_account(snapshot, account)?;
            let mut changed = entry.record.clone();
            if changed.password_policy.take().is_none() {
                return Err(DirectoryError::NoSuch {
                    what: Thing::PasswordPolicy,
                    name: account.as_str().into(),
                });
            }
            let transaction = Transaction::new()
                .if_unchanged(&key, entry.modified)
                .put(&key, changed.encode());
            Ok((transaction, ()))
        })
        .await
    }

    async fn hash(&self, password: &Arc<SecretString>) -> Result<Box<str>, DirectoryError> {
        let (password, random): (_, Random) = (Arc::clone(password), self.0.random.clone());
        self.0
            .passwords
            .run(move || password_hash::hash(&password, &random))
            .await?
    }
}

impl Directory {
    /// The hash of a password that takes the place of another, if the account's policy takes it.
    async fn new_password(
        &self,
        snapshot: &DirectorySnapshot,
        account: AccountId,
        before: &LoginProfile,
        password: &Arc<SecretString>,
    ) -> Result<Box<str>, DirectoryError> {
        let (_, entry) = policy_takes(snapshot, account, password)?;
        let remembered = entry
            .record
            .password_policy
            .as_ref()
            .and_then(|policy| policy.reuse_prevention)
            .map_or(0, |count| usize::try_from(count).unwrap_or(REMEMBERED));
        // The present password is the first of those that may not come again.
        let hashes: Vec<Box<str>> = std::iter::once(&before.hash)
            .chain(&before.previous)
            .take(remembered)
            .cloned()
            .collect();
        if !hashes.is_empty() {
            let password = Arc::clone(password);
            let reused = move || {
                hashes
                    .iter()
                    .any(|hash| password_hash::matches(&password, hash))
            };
            if self.0.passwords.run(reused).await? {
                return Err(PasswordFault::Reused.into());
            }
        }
        self.hash(password).await
    }

    /// Writes a changed profile, unless it is no longer the one that was looked at.
    async fn replace_login(
        &self,
        account: AccountId,
        user_name: &str,
        before: &LoginProfile,
        change: impl Fn(&mut LoginProfile),
    ) -> Result<(), DirectoryError> {
        self.write(|snapshot| {
            let (key, user) = find_user(snapshot, account, user_name)?;
            if login_of(user, user_name)? != before {
                // Somebody set another password meanwhile: what was verified is not what would be replaced.
                return Err(DirectoryError::Contended);
            }
            let mut changed = user.record.clone();
            if let Some(login) = &mut changed.login {
                change(login);
            }
            let transaction = Transaction::new()
                .if_unchanged(&key, user.modified)
                .put(&key, changed.encode());
            Ok((transaction, ()))
        })
        .await
    }
}

/// The account with its key, if its policy takes the password.
fn policy_takes<'s>(
    snapshot: &'s DirectorySnapshot,
    account: AccountId,
    password: &SecretString,
) -> Result<(Key, &'s AccountEntry), DirectoryError> {
    let text = password.expose();
    // Bounds the work of hashing; the API says the same before.
    if text.is_empty() || text.chars().count() > PASSWORD_CHARS {
        return Err(DirectoryError::Invalid(InvalidField {
            field: "the password",
            expected: "1 to 128 characters",
        }));
    }
    let (key, entry) = find_account(snapshot, account)?;
    let record = &entry.record;
    check_password(
        record.password_policy.as_ref(),
        record.alias.as_deref(),
        text,
    )?;
    Ok((key, entry))
}

fn set_hash(login: &mut LoginProfile, hash: &str, now: Timestamp) {
    let before = std::mem::replace(&mut login.hash, hash.into());
    login.previous.insert(0, before);
    login.previous.truncate(REMEMBERED);
    login.changed = now;
}

fn login_of<'s>(user: &'s UserEntry, name: &str) -> Result<&'s LoginProfile, DirectoryError> {
    user.record
        .login
        .as_ref()
        .ok_or_else(|| DirectoryError::NoSuch {
            what: Thing::LoginProfile,
            name: name.into(),
        })
}

fn state(
    snapshot: &DirectorySnapshot,
    account: AccountId,
    login: &LoginProfile,
    now: Timestamp,
) -> PasswordState {
    let policy = snapshot
        .account(account)
        .and_then(|account| account.record.password_policy.as_ref());
    password_state(policy, login, now)
}
