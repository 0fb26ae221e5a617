//! Two caches on disk: credentials, in the file and format of aws-iam-authenticator, and minted tokens.
//!
//! Both hold secrets: directory 0700, file 0600, and a file that group or others can read is refused. Both are used under an advisory
//! lock on the file itself, which is then changed in place, as the reference does: replacing the file would split the lock in two.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use countersign_sigv4::SecretKey;
use jiff::{SignedDuration, Timestamp};
use zeroize::Zeroizing;

use crate::credentials::Credentials;
use crate::env::Environment;
use crate::files::{self, Patience};
use crate::yaml::{self, Node};

/// Longest cache file that is read.
const MAX_LEN: u64 = 4 << 20;

/// A cached token is used again while at least this much of its life is left.
const TOKEN_MARGIN: SignedDuration = SignedDuration::from_mins(2);

/// Why a cache is not used; never a reason to fail.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// No home directory and no path given.
    #[error("no home directory")]
    NoHome,
    /// The file system refused.
    #[error("could not use {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Group or others can read the file.
    #[error("cache file {} is not private", .0.display())]
    NotPrivate(PathBuf),
    /// Another process keeps the file locked.
    #[error("unable to lock {}", .0.display())]
    Locked(PathBuf),
    /// The file does not parse.
    #[error("unable to parse file {}", .0.display())]
    Parse(PathBuf),
}

/// A cache file, locked.
struct Locked {
    file: File,
    path: PathBuf,
}

impl Locked {
    /// Opens and locks the file; `None` if it is missing and nothing is to be written.
    fn open(path: &Path, write: bool) -> Result<Option<Self>, CacheError> {
        let fail = |source| CacheError::Io {
            path: path.to_owned(),
            source,
        };
        if write {
            if let Some(directory) = path.parent() {
                files::create_private_directory(directory).map_err(fail)?;
            }
        } else if !path.try_exists().map_err(fail)? {
            return Ok(None);
        }
        let file = files::open_private(path).map_err(fail)?;
        if !files::is_private(&file).map_err(fail)? {
            return Err(CacheError::NotPrivate(path.to_owned()));
        }
        if !files::lock(&file, write, Patience::ONE_SECOND).map_err(fail)? {
            return Err(CacheError::Locked(path.to_owned()));
        }
        Ok(Some(Self {
            file,
            path: path.to_owned(),
        }))
    }

    fn read(&mut self) -> Result<Zeroizing<String>, CacheError> {
        let mut text = Zeroizing::new(String::new());
        let read = (&self.file).take(MAX_LEN).read_to_string(&mut text);
        read.map_err(|source| self.fail(source))?;
        Ok(text)
    }

    fn replace(&mut self, text: &str) -> Result<(), CacheError> {
        let replaced = (|| {
            self.file.rewind()?;
            self.file.set_len(0)?;
            self.file.write_all(text.as_bytes())?;
            self.file.sync_all()
        })();
        replaced.map_err(|source| self.fail(source))
    }

    fn fail(&self, source: io::Error) -> CacheError {
        CacheError::Io {
            path: self.path.clone(),
            source,
        }
    }
}

/// The credential cache of `token --cache` (authentication spec, section 6.3).
///
/// It keeps the *base* credentials, before `--role`, and only those that expire: it spares MFA and SSO dances.
#[derive(Debug, Clone)]
pub struct CredentialCache {
    path: PathBuf,
}

/// Where in the cache credentials stand.
#[derive(Debug, Clone, Copy)]
pub struct CacheKey<'a> {
    /// The cluster id.
    pub cluster_id: &'a str,
    /// `AWS_PROFILE` or `default`.
    pub profile: &'a str,
    /// The role that will be assumed, or empty.
    pub role_arn: &'a str,
}

impl CredentialCache {
    /// `AWS_IAM_AUTHENTICATOR_CACHE_FILE`, else `~/.kube/cache/aws-iam-authenticator/credentials.yaml`.
    ///
    /// # Errors
    /// Without a home directory.
    pub fn of_environment(env: &Environment) -> Result<Self, CacheError> {
        let path = match env.get("AWS_IAM_AUTHENTICATOR_CACHE_FILE") {
            Some(path) => PathBuf::from(path),
            None => env
                .home()
                .ok_or(CacheError::NoHome)?
                .join(".kube/cache/aws-iam-authenticator/credentials.yaml"),
        };
        Ok(Self { path })
    }

    /// The credentials under `key`, whenever they end; `None` if there are none.
    ///
    /// # Errors
    /// When the file is not private, locked or unreadable.
    pub fn get(&self, key: &CacheKey<'_>) -> Result<Option<Credentials>, CacheError> {
        let Some(mut locked) = Locked::open(&self.path, false)? else {
            return Ok(None);
        };
        let text = locked.read()?;
        let tree = yaml::parse(&text).map_err(|_| CacheError::Parse(self.path.clone()))?;
        let path = ["clusters", key.cluster_id, key.profile, key.role_arn];
        let entry = path
            .into_iter()
            .try_fold(&tree, |node, name| node.get(name));
        Ok(entry.and_then(read_credentials))
    }

    /// Keeps `credentials` under `key`; those that do not expire are not kept.
    ///
    /// # Errors
    /// When the file is not private, locked or cannot be written. What does not parse is written anew.
    pub fn put(&self, key: &CacheKey<'_>, credentials: &Credentials) -> Result<(), CacheError> {
        let Some(expires_at) = credentials.expires_at else {
            return Ok(());
        };
        let Some(mut locked) = Locked::open(&self.path, true)? else {
            return Ok(());
        };
        let mut tree = yaml::parse(&locked.read()?)
            .ok()
            .filter(|tree| tree.pairs().is_some() && !tree.has_properties())
            .unwrap_or_else(Node::empty_mapping);
        let mut node = &mut tree;
        for name in ["clusters", key.cluster_id, key.profile] {
            let Some(child) = node.entry(name, Node::empty_mapping) else {
                return Err(CacheError::Parse(self.path.clone()));
            };
            if child.pairs().is_none() {
                *child = Node::empty_mapping();
            }
            node = child;
        }
        node.set(key.role_arn, write_credentials(credentials, expires_at));
        let mut text = Zeroizing::new(String::new());
        yaml::emit(&tree, 0, &mut text);
        locked.replace(&text)
    }
}

fn read_credentials(node: &Node) -> Option<Credentials> {
    let get = |name| node.get(name).and_then(Node::text).unwrap_or_default();
    let can_expire = get("canexpire").eq_ignore_ascii_case("true");
    let access_key_id = get("accesskeyid");
    let secret = get("secretaccesskey");
    let expires_at: Timestamp = get("expires").parse().ok()?;
    if access_key_id.is_empty() || secret.is_empty() || !can_expire {
        return None;
    }
    let token = get("sessiontoken");
    Some(Credentials {
        access_key_id: access_key_id.to_owned(),
        secret: SecretKey::new(secret),
        session_token: (!token.is_empty()).then(|| Zeroizing::new(token.to_owned())),
        expires_at: Some(expires_at),
        source: get("source").to_owned(),
    })
}

fn write_credentials(credentials: &Credentials, expires_at: Timestamp) -> Node {
    let token = credentials.session_token.as_ref();
    Node::mapping([
        ("accesskeyid", Node::string(&credentials.access_key_id)),
        ("secretaccesskey", Node::string(credentials.secret.expose())),
        (
            "sessiontoken",
            Node::string(token.map(|t| t.as_str()).unwrap_or_default()),
        ),
        ("source", Node::string(&credentials.source)),
        ("canexpire", Node::plain("true")),
        (
            "expires",
            Node::plain(&expires_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
        ),
        ("accountid", Node::string("")),
    ])
}

/// The cache of minted tokens; used together with `--cache`. It spares the AssumeRole call of `--role`.
#[derive(Debug, Clone)]
pub struct TokenCache {
    path: PathBuf,
}

/// What a token was minted for; any difference makes another token.
#[derive(Debug, Clone, Copy)]
pub struct TokenKey<'a> {
    /// The cluster id.
    pub cluster_id: &'a str,
    /// The URL of the STS endpoint.
    pub endpoint: &'a str,
    /// The access key id of the base credentials.
    pub access_key_id: &'a str,
    /// The role assumed, or empty.
    pub role_arn: &'a str,
    /// The external id, or empty.
    pub external_id: &'a str,
    /// The session name asked for, or empty.
    pub session_name: &'a str,
}

impl TokenCache {
    /// `COUNTERSIGN_TOKEN_CACHE_FILE`, else `~/.kube/cache/countersign/tokens.yaml`.
    ///
    /// # Errors
    /// Without a home directory.
    pub fn of_environment(env: &Environment) -> Result<Self, CacheError> {
        let path = match env.get("COUNTERSIGN_TOKEN_CACHE_FILE") {
            Some(path) => PathBuf::from(path),
            None => env
                .home()
                .ok_or(CacheError::NoHome)?
                .join(".kube/cache/countersign/tokens.yaml"),
        };
        Ok(Self { path })
    }

    /// A token for `key` that has at least two minutes left, with its announced end.
    ///
    /// # Errors
    /// When the file is not private, locked or unreadable.
    pub fn get(
        &self,
        key: &TokenKey<'_>,
        now: Timestamp,
    ) -> Result<Option<(Zeroizing<String>, Timestamp)>, CacheError> {
        let Some(mut locked) = Locked::open(&self.path, false)? else {
            return Ok(None);
        };
        let text = locked.read()?;
        let tree = yaml::parse(&text).map_err(|_| CacheError::Parse(self.path.clone()))?;
        let found = tree.get("tokens").and_then(Node::items).and_then(|tokens| {
            tokens
                .iter()
                .filter(|entry| key.names(entry))
                .find_map(read_token)
        });
        Ok(found.filter(|(_, end)| end.duration_since(now) >= TOKEN_MARGIN))
    }

    /// Keeps a token; those that ended are dropped.
    ///
    /// # Errors
    /// When the file is not private, locked or cannot be written.
    pub fn put(
        &self,
        key: &TokenKey<'_>,
        token: &str,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<(), CacheError> {
        let Some(mut locked) = Locked::open(&self.path, true)? else {
            return Ok(());
        };
        let tree = yaml::parse(&locked.read()?).ok();
        let kept = tree
            .as_ref()
            .and_then(|tree| tree.get("tokens"))
            .and_then(Node::items)
            .unwrap_or_default()
            .iter()
            .filter(|entry| !key.names(entry) && !entry.has_properties())
            .filter(|entry| read_token(entry).is_some_and(|(_, end)| end > now))
            .cloned();
        let tokens = kept.chain([key.entry(token, expires_at)]).collect();
        let mut text = Zeroizing::new(String::new());
        yaml::emit(
            &Node::mapping([("tokens", Node::sequence(tokens))]),
            0,
            &mut text,
        );
        locked.replace(&text)
    }
}

impl<'a> TokenKey<'a> {
    const fn fields(&self) -> [(&'static str, &'a str); 6] {
        [
            ("cluster", self.cluster_id),
            ("endpoint", self.endpoint),
            ("accesskeyid", self.access_key_id),
            ("role", self.role_arn),
            ("externalid", self.external_id),
            ("sessionname", self.session_name),
        ]
    }

    fn names(&self, entry: &Node) -> bool {
        self.fields()
            .into_iter()
            .all(|(name, value)| entry.get(name).and_then(Node::text) == Some(value))
    }

    fn entry(&self, token: &str, expires_at: Timestamp) -> Node {
        let mut entry = Node::empty_mapping();
        for (name, value) in self.fields() {
            entry.set(name, Node::string(value));
        }
        entry.set(
            "expires",
            Node::plain(&expires_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
        );
        entry.set("token", Node::string(token));
        entry
    }
}

fn read_token(entry: &Node) -> Option<(Zeroizing<String>, Timestamp)> {
    let token = entry.get("token")?.text()?;
    let end = entry.get("expires")?.text()?.parse().ok()?;
    Some((Zeroizing::new(token.to_owned()), end))
}
