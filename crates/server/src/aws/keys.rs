//! Who holds a key: from a signature to a verified caller, against the directory snapshot.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use countersign_arn::{CallerIdentity, SessionFacts};
use countersign_session::{
    DEFAULT_CAPACITY, LivePrincipal, OpenCache, OpenError, Opened, Revoked, SessionPrincipal,
    SessionRecord,
};
use countersign_sigv4::{
    AuthError, CacheKey, KeyLookup, Parsed, Presigned, Protocol, SecretKey, ServicePolicy,
    SigningKey, SigningKeyCache, Verified,
};
use countersign_store::{AccessKeyLookup, DirectorySnapshot, KeyOwner, Principal, SnapshotFeed};
use countersign_token::{CLUSTER_ID_HEADER, Parameter, PresignedToken};
use jiff::Timestamp;

/// The version of the STS API.
pub(super) const STS_VERSION: &str = "2011-06-15";

/// A caller whose request signature was verified. Only [`KeyRing::verify`] makes one.
#[derive(Debug, Clone)]
pub struct Caller {
    identity: Arc<CallerIdentity>,
    verified: Verified,
    session: Option<Arc<Opened>>,
}

impl Caller {
    /// Who calls.
    #[must_use]
    pub fn identity(&self) -> &CallerIdentity {
        &self.identity
    }

    /// What was signed: scope, headers, date.
    #[must_use]
    pub fn verified(&self) -> &Verified {
        &self.verified
    }

    /// The session behind temporary credentials; none for a long-term key.
    #[must_use]
    pub fn session(&self) -> Option<&SessionRecord> {
        self.session.as_deref().map(Opened::record)
    }
}

/// The access keys of the directory, with the signing keys derived from them.
#[derive(Debug)]
pub struct KeyRing {
    directory: SnapshotFeed,
    cache: SigningKeyCache,
    tokens: ServicePolicy,
    /// Made when the first session token comes: the deployment id is in the store, and never changes.
    sessions: OnceLock<OpenCache>,
}

/// Why the embedded STS refuses a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefused {
    /// Key, session token or signature are not good.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The request is for another version of the API than the one there is.
    #[error("API version `{0}` does not exist")]
    Version(String),
}

impl TokenRefused {
    /// Code and message, as STS answers them.
    #[must_use]
    pub fn wire(&self) -> (&'static str, String) {
        match self {
            Self::Auth(error) => {
                let wire = error.wire(Protocol::Query);
                (wire.code, wire.message.into_owned())
            }
            Self::Version(version) => {
                let version = if version.is_empty() {
                    "NO_VERSION_SPECIFIED"
                } else {
                    version
                };
                (
                    "InvalidAction",
                    format!("Could not find operation GetCallerIdentity for version {version}"),
                )
            }
        }
    }
}

/// What the directory says about a key, with the signing key for one scope.
enum Found {
    Active(Arc<SigningKey>),
    /// A temporary key whose token opened. Whose it is, and whether they still exist, is asked when the signature is right.
    Session(Arc<SigningKey>, Arc<Opened>),
    Inactive,
    Unknown,
    /// A session token came with a long-term key, or a temporary key came without one that we issued.
    Token {
        sent: bool,
    },
    /// The session is over.
    Expired,
}

impl Found {
    fn lookup(&self) -> KeyLookup<'_> {
        match self {
            Self::Active(key) | Self::Session(key, _) => KeyLookup::SigningKey(key),
            Self::Inactive => KeyLookup::Inactive,
            Self::Unknown => KeyLookup::Unknown,
            Self::Token { sent: true } => KeyLookup::TokenInvalid,
            Self::Token { sent: false } => KeyLookup::TokenMissing,
            Self::Expired => KeyLookup::TokenExpired,
        }
    }
}

/// Day, region and service of a signature.
#[derive(Clone, Copy)]
struct SigningScope<'a> {
    date: &'a str,
    region: &'a str,
    service: &'a str,
}

impl KeyRing {
    /// The keys of a directory.
    #[must_use]
    pub fn new(directory: SnapshotFeed) -> Self {
        Self {
            directory,
            cache: SigningKeyCache::default(),
            tokens: ServicePolicy::for_service("sts"),
            sessions: OnceLock::new(),
        }
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &SnapshotFeed {
        &self.directory
    }

    /// Steps 14 to 16 for a request, and who calls.
    ///
    /// # Errors
    /// What AWS answers: the key, the session token or the signature is not good.
    pub fn verify(&self, parsed: &Parsed<'_>, now: Timestamp) -> Result<Caller, AuthError> {
        self.verify_on(&self.directory.load(), parsed, now)
    }

    /// The same on a snapshot that the rest of the call is decided on.
    pub(super) fn verify_on(
        &self,
        snapshot: &DirectorySnapshot,
        parsed: &Parsed<'_>,
        now: Timestamp,
    ) -> Result<Caller, AuthError> {
        let scope = parsed.scope();
        let scope = SigningScope {
            date: &scope.date,
            region: &scope.region,
            service: &scope.service,
        };
        let found = self.find(
            snapshot,
            parsed.key_id(),
            scope,
            parsed.session_token(),
            now,
        );
        let verified = parsed.verify(found.lookup())?;
        let identity = found.identity(snapshot, parsed.key_id(), "")?;
        Ok(Caller {
            identity,
            verified,
            session: found.into_session(),
        })
    }

    /// Verifies the presigned request inside a `k8s-aws-v1` token that was made for `cluster_id`.
    ///
    /// # Errors
    /// As [`KeyRing::verify`], and what STS answers to another API version.
    pub fn verify_token(
        &self,
        token: &PresignedToken,
        cluster_id: &str,
        now: Timestamp,
    ) -> Result<Arc<CallerIdentity>, TokenRefused> {
        let version = token.parameter(Parameter::Version).unwrap_or_default();
        if version != STS_VERSION {
            return Err(TokenRefused::Version(version.chars().take(32).collect()));
        }
        if !is_written_one_way(token.raw_query()) {
            return Err(AuthError::SignatureMismatch.into());
        }
        let presigned = Presigned::from_query(token.raw_query(), &self.tokens, now)?;
        let credential = presigned.credential();
        let scope = SigningScope {
            date: credential.date,
            region: credential.region,
            service: credential.service,
        };
        let snapshot = self.directory.load();
        let session_token = presigned.session_token();
        let found = self.find(
            &snapshot,
            credential.key_id,
            scope,
            session_token.as_deref(),
            now,
        );
        let headers = [
            (CLUSTER_ID_HEADER, cluster_id),
            ("accept", "application/json"),
        ];
        let verified = presigned.verify(
            signed_host(token),
            token.path(),
            &headers,
            &self.tokens,
            found.lookup(),
        )?;
        // The local rules demanded it; a token without it would be good for every cluster.
        if !verified.was_signed(CLUSTER_ID_HEADER) {
            return Err(AuthError::SignatureMismatch.into());
        }
        Ok(found.identity(&snapshot, verified.key_id(), token.host())?)
    }

    fn find(
        &self,
        snapshot: &DirectorySnapshot,
        key_id: &str,
        scope: SigningScope<'_>,
        token: Option<&str>,
        now: Timestamp,
    ) -> Found {
        let key = CacheKey {
            key_id,
            token_sha256: None,
            date: scope.date,
            region: scope.region,
            service: scope.service,
        };
        let Some(AccessKeyLookup { key: entry, .. }) = snapshot.access_key(key_id) else {
            if self.cache.get(&key, now).is_some() {
                self.cache.forget(key_id);
            }
            // Long-term keys never come with a token; whether an `ASIA` key is ours only its token can tell.
            return match (token, key_id.starts_with("ASIA")) {
                (Some(token), _) => self.open(snapshot, key, token, now),
                (None, true) => Found::Token { sent: false },
                (None, false) => Found::Unknown,
            };
        };
        if token.is_some() {
            return Found::Token { sent: true };
        }
        let Some(secret) = entry.active_secret() else {
            self.cache.forget(key_id);
            return Found::Inactive;
        };
        match self
            .cache
            .get_or_derive(&key, now, || Some(SecretKey::new(secret.expose())))
        {
            Some(signing_key) => Found::Active(signing_key),
            None => Found::Unknown,
        }
    }

    /// Opens a session token: step 14, and the signing key of the secret that follows from it.
    fn open(
        &self,
        snapshot: &DirectorySnapshot,
        key: CacheKey<'_>,
        token: &str,
        now: Timestamp,
    ) -> Found {
        let Some(keys) = snapshot.session_keys() else {
            return Found::Token { sent: true };
        };
        let cache = self
            .sessions
            .get_or_init(|| OpenCache::new(DEFAULT_CAPACITY, keys.deployment.clone()));
        let opened = match cache.open(token.as_bytes(), key.key_id, &keys.ring, now) {
            Ok(opened) => opened,
            Err(OpenError::Expired(_)) => return Found::Expired,
            Err(error) => {
                tracing::debug!(key_id = key.key_id, %error, "session token does not open");
                return Found::Token { sent: true };
            }
        };
        if let Some(revoked) = snapshot.revoked(opened.record(), key.key_id) {
            tracing::debug!(
                key_id = key.key_id,
                ?revoked,
                "session was ended before its time"
            );
            return match revoked {
                Revoked::Key => Found::Token { sent: true },
                Revoked::Session { .. } => Found::Expired,
            };
        }
        // Another token under the same key id has another secret, and must not meet this entry.
        let key = CacheKey {
            token_sha256: Some(opened.token_sha256()),
            ..key
        };
        match self
            .cache
            .get_or_derive(&key, now, || Some(SecretKey::new(opened.secret().expose())))
        {
            Some(signing_key) => Found::Session(signing_key, opened),
            None => Found::Unknown,
        }
    }
}

/// The host as clients sign it: without the port that the scheme implies.
fn signed_host(token: &PresignedToken) -> &str {
    let host = token.host();
    let implied = if token.scheme() == "https" {
        ":443"
    } else {
        ":80"
    };
    host.strip_suffix(implied).unwrap_or(host)
}

/// Whether escapes and the name of the signature are written as clients write them.
///
/// The signature covers decoded text, and not its own parameter's name, so `%2f` for `%2F` would verify as well. A token has one
/// spelling: nobody can make another valid token out of it.
fn is_written_one_way(query: &str) -> bool {
    let upper_hex = |byte: Option<u8>| match byte {
        Some(digit @ b'0'..=b'9') => Some(digit - b'0'),
        Some(digit @ b'A'..=b'F') => Some(digit - b'A' + 10),
        _ => None,
    };
    let mut bytes = query.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            continue;
        }
        let (Some(high), Some(low)) = (upper_hex(bytes.next()), upper_hex(bytes.next())) else {
            return false;
        };
        let escaped = high << 4 | low;
        if escaped.is_ascii_alphanumeric() || b"-._~".contains(&escaped) {
            return false;
        }
    }
    query
        .split('&')
        .any(|pair| pair.starts_with("X-Amz-Signature=") || pair.starts_with("x-amz-signature="))
}

impl Found {
    /// The identity of a key's holder, from the snapshot the key was found in. Step 17: a session whose role or user was
    /// deleted, or made again under the same name, has none.
    fn identity(
        &self,
        snapshot: &DirectorySnapshot,
        key_id: &str,
        endpoint: &str,
    ) -> Result<Arc<CallerIdentity>, AuthError> {
        let Self::Session(_, opened) = self else {
            return user_identity(snapshot, key_id, endpoint);
        };
        let record = opened.record();
        countersign_session::caller_identity(
            record,
            key_id,
            live_principal(snapshot, record).as_ref(),
            endpoint,
        )
        .map(Arc::new)
        .map_err(|error| {
            tracing::debug!(key_id, %error, "session has no identity");
            AuthError::TokenInvalid
        })
    }

    fn into_session(self) -> Option<Arc<Opened>> {
        match self {
            Self::Session(_, opened) => Some(opened),
            Self::Active(_)
            | Self::Inactive
            | Self::Unknown
            | Self::Token { .. }
            | Self::Expired => None,
        }
    }
}

/// The user or role of a session as it is now: same unique id, kind and account.
pub(crate) fn live_principal<'s>(
    snapshot: &'s DirectorySnapshot,
    session: &SessionRecord,
) -> Option<LivePrincipal<'s>> {
    match (
        snapshot.principal(session.principal.unique_id()?)?,
        &session.principal,
    ) {
        (Principal::Role(role), SessionPrincipal::Role { .. })
            if role.record.account == session.account =>
        {
            let role = &role.record;
            Some(LivePrincipal {
                id: &role.id,
                path: &role.path,
                name: &role.name,
                tags: &role.tags,
            })
        }
        (
            Principal::User(user),
            SessionPrincipal::User { .. } | SessionPrincipal::FederatedUser { .. },
        ) if user.record.account == session.account => {
            let user = &user.record;
            Some(LivePrincipal {
                id: &user.id,
                path: &user.path,
                name: &user.name,
                tags: &user.tags,
            })
        }
        _ => None,
    }
}

fn user_identity(
    snapshot: &DirectorySnapshot,
    key_id: &str,
    endpoint: &str,
) -> Result<Arc<CallerIdentity>, AuthError> {
    let owner = snapshot
        .access_key(key_id)
        .ok_or(AuthError::KeyInvalid)?
        .owner;
    let (arn, account, id): (Cow<'_, str>, _, &str) = match owner {
        KeyOwner::User(user) => (
            Cow::Borrowed(&*user.arn),
            user.record.account,
            &user.record.id,
        ),
        KeyOwner::Root(account) => {
            let record = &account.record;
            let arn = format!("arn:{}:iam::{}:root", record.partition, record.id);
            (Cow::Owned(arn), record.id, record.id.as_str())
        }
    };
    let identity = CallerIdentity::new(&arn, account.as_str(), id, key_id, endpoint)
        .map_err(|_| AuthError::KeyInvalid)?;
    let facts = SessionFacts {
        principal_arn: arn.into_owned(),
        ..SessionFacts::default()
    };
    Ok(Arc::new(identity.with_facts(Arc::new(facts))))
}
