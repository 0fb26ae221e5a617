//! The issuers of clusters: whose keys verify their service account tokens, the documents by which others verify them, and
//! whether what a token is bound to is still there (IRSA spec, sections 2 and 4).
//!
//! ```text
//!   uploaded · pulled from the API server · generated ──▶ store ──▶ snapshot ──▶ verify · documents
//!                          ▲                                            │
//!                          └── every minute, and once for an unknown key ┘
//! ```

mod api;
mod bound;
mod counters;
mod documents;
mod labels;
mod pull;
mod rotation;

use std::fmt;
use std::sync::Arc;

use countersign_oidc::{
    Claims, InvalidIssuer, IssuerUrl, TokenError, UnverifiedToken, VerifiedToken,
};
use countersign_store::records::{Cluster, ClusterKeySource};
use countersign_store::{ClusterEntry, ClusterKeysEntry, Directory, DirectorySnapshot};
use jiff::{SignedDuration, Timestamp};

pub use api::{ApiFuture, ClusterApi};
pub use bound::{Bound, BoundCheck, UnknownBoundCheck};
pub(crate) use counters::{Counted, IssuerCounters};
pub(crate) use documents::{conditional, document, entity_tag, not_allowed};
pub(crate) use labels::LabelsUnknown;
use pull::Reachable;
pub use rotation::{RotationStep, step_of};

use crate::webhook::entries::Registered;

/// Issuers begin with this where nothing else is configured: kube-apiserver and IAM want `https` and no port, and our own
/// STS reads the keys from memory, so that nobody has to be there.
pub const DEFAULT_PUBLIC_URL: &str = "https://issuer.countersign.internal";

/// Where clusters' issuers are, below the public URL.
const PREFIX: &str = "/id/";
/// Characters of a cluster's id.
const ID_CHARS: usize = 32;
/// How long keys of an API server are used that it did not confirm since.
const MAX_AGE: SignedDuration = SignedDuration::from_hours(24);
/// After so long without a confirmation keys count as old: some refreshes failed.
const STALE_AFTER: SignedDuration = SignedDuration::from_mins(5);

/// Settings of [`ClusterIssuers`].
#[derive(Debug, Default)]
pub struct IssuerOptions {
    /// The URL that issuers begin with: `https`, no port, no final slash. [`DEFAULT_PUBLIC_URL`] when empty.
    pub public_url: String,
    /// What is done about tokens whose pod is gone.
    pub bound_check: BoundCheck,
    /// The clusters whose API server can be asked.
    pub clusters: Vec<(Registered, Arc<dyn ClusterApi>)>,
}

/// The URL cannot be that of an issuer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPublicUrl {
    /// It is none of an issuer.
    #[error("`{url}`: {reason}")]
    Issuer {
        /// The URL.
        url: String,
        /// Why.
        reason: InvalidIssuer,
    },
    /// IAM has no providers with a port.
    #[error("`{0}`: the URL of an issuer has no port at IAM")]
    Port(String),
}

/// The issuers of all clusters.
pub struct ClusterIssuers {
    base: Box<str>,
    /// The path of the public URL, under which requests arrive where nothing takes it away.
    base_path: Box<str>,
    mode: BoundCheck,
    directory: Directory,
    reachable: Vec<Reachable>,
    counters: IssuerCounters,
}

impl ClusterIssuers {
    /// The issuers of the clusters of `directory`.
    ///
    /// # Errors
    /// When the public URL cannot be that of an issuer.
    pub fn new(directory: Directory, options: IssuerOptions) -> Result<Self, InvalidPublicUrl> {
        let base = match options.public_url.trim_end_matches('/') {
            "" => DEFAULT_PUBLIC_URL,
            url => url,
        };
        // As long as it gets, so that every cluster's fits.
        let longest = format!("{base}{PREFIX}{:0>ID_CHARS$}", "");
        let url: IssuerUrl = longest.parse().map_err(|reason| InvalidPublicUrl::Issuer {
            url: base.to_owned(),
            reason,
        })?;
        let rest = base.strip_prefix("https://").unwrap_or_default();
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if authority != url.host() {
            return Err(InvalidPublicUrl::Port(base.to_owned()));
        }
        // As IAM stores providers, so that `iss` and provider are the same.
        let base = base.replacen(authority, &authority.to_ascii_lowercase(), 1);
        Ok(Self {
            base_path: match path {
                "" => "".into(),
                path => format!("/{path}").into(),
            },
            base: base.into(),
            mode: options.bound_check,
            directory,
            reachable: options
                .clusters
                .into_iter()
                .map(|(registered, api)| Reachable::new(registered, api))
                .collect(),
            counters: IssuerCounters::default(),
        })
    }

    /// The URL that issuers of clusters begin with.
    #[must_use]
    pub fn public_url(&self) -> &str {
        &self.base
    }

    /// The issuer of a cluster's tokens: `iss`, and the URL of the provider at IAM.
    #[must_use]
    pub fn issuer_url(&self, cluster: &Cluster) -> String {
        self.url_of(&cluster.id)
    }

    fn url_of(&self, id: &str) -> String {
        format!("{}{PREFIX}{id}", self.base)
    }

    /// The cluster whose issuer this is; none while it is being deleted. Compared byte for byte: a final slash makes
    /// another issuer.
    #[must_use]
    pub fn cluster_of<'s>(
        &self,
        snapshot: &'s DirectorySnapshot,
        issuer: &str,
    ) -> Option<&'s Arc<ClusterEntry>> {
        let id = issuer.strip_prefix(&*self.base)?.strip_prefix(PREFIX)?;
        snapshot
            .cluster_by_id(id)
            .filter(|cluster| cluster.record.deleting.is_none())
    }

    /// Whether it begins as issuers of clusters do: nobody has to be asked for its keys.
    #[must_use]
    pub fn is_own(&self, issuer: &str) -> bool {
        issuer
            .strip_prefix(&*self.base)
            .is_some_and(|rest| rest.starts_with(PREFIX))
    }

    /// Verifies the signature of a token by the keys of `cluster`, whatever issuer it names: who calls has made sure of
    /// which cluster it is to be of. A key that is not known makes the API server be asked once more, where keys come from
    /// there: once for all who wait, and at most every 30 s.
    ///
    /// # Errors
    /// When the cluster has no keys, or none that verifies.
    pub async fn verify<'t>(
        &self,
        cluster: &Cluster,
        token: &'t UnverifiedToken<'_>,
        now: Timestamp,
    ) -> Result<VerifiedToken<'t>, TokenError> {
        let known = self.directory.snapshot().cluster_keys(&cluster.id).cloned();
        let reachable = self.reachable(cluster);
        let unreachable = || TokenError::IssuerUnreachable {
            issuer: self.issuer_url(cluster).into(),
        };
        let refused = match &known {
            None => TokenError::UnknownKey("the cluster has no keys"),
            Some(entry) => match self.age(entry, reachable, now) {
                Some(age) if age > MAX_AGE => unreachable(),
                age => match token.verify(&entry.keys) {
                    Ok(verified) => {
                        if age.is_some_and(|age| age > STALE_AFTER) {
                            self.counters.stale_keys(&self.issuer_url(cluster));
                        }
                        return Ok(verified);
                    }
                    Err(refused) => refused,
                },
            },
        };
        let may_help = match &refused {
            TokenError::UnknownKey(_) | TokenError::IssuerUnreachable { .. } => true,
            // A token that names no key was tried with the only one there is, which may have been replaced.
            TokenError::BadSignature => token.key_id().is_none(),
            _ => false,
        };
        let pulled = known
            .as_ref()
            .is_none_or(|entry| entry.record.source == ClusterKeySource::ApiServer);
        let Some(reachable) = reachable.filter(|_| may_help && pulled) else {
            return Err(refused);
        };
        let seen = known.as_ref().map(|entry| entry.modified);
        match self.beyond(reachable, cluster, seen, now).await {
            Ok(Some(newer)) => token.verify(&newer.keys),
            Ok(None) => Err(refused),
            Err(_) => Err(unreachable()),
        }
    }

    /// Whether what a token of `cluster` is bound to is there. To be asked only of a token that is verified.
    pub async fn bound(&self, cluster: &Cluster, token: &str, claims: &Claims) -> Bound {
        if self.mode == BoundCheck::Off {
            return Bound::NotChecked;
        }
        let Some(reachable) = self.reachable(cluster) else {
            return Bound::NotChecked;
        };
        let (bound, old) = reachable.bound.check(&*reachable.api, token, claims).await;
        if old {
            self.counters.stale_bound(&cluster.arn());
        }
        bound
    }

    /// What follows from [`ClusterIssuers::bound`] in the mode that is set.
    ///
    /// # Errors
    /// In mode `enforce`: [`TokenError::Gone`] for what is gone; [`TokenError::IssuerUnreachable`], after which clients try
    /// again, when the API server does not say.
    pub fn admit(&self, cluster: &Cluster, bound: &Bound) -> Result<(), TokenError> {
        let refused = match bound {
            Bound::Alive | Bound::NotChecked => return Ok(()),
            Bound::Gone(reason) => TokenError::Gone {
                reason: reason.as_str().into(),
            },
            Bound::Unknown(_) => TokenError::IssuerUnreachable {
                issuer: self.issuer_url(cluster).into(),
            },
        };
        let (what, reason) = match bound {
            Bound::Gone(reason) => ("gone", reason.as_str()),
            Bound::Unknown(reason) => ("unknown", reason.as_str()),
            Bound::Alive | Bound::NotChecked => ("", ""),
        };
        self.counters.not_alive(&cluster.arn(), what);
        if self.mode == BoundCheck::Enforce {
            tracing::info!(
                cluster = &*cluster.name,
                what,
                reason,
                "a token is refused: what it is bound to"
            );
            return Err(refused);
        }
        tracing::warn!(
            cluster = &*cluster.name,
            what,
            reason,
            "a token is accepted although what it is bound to may not be there"
        );
        Ok(())
    }

    /// What happened since the start.
    pub(crate) const fn counters(&self) -> &IssuerCounters {
        &self.counters
    }

    /// The directory with the clusters.
    pub(crate) const fn directory(&self) -> &Directory {
        &self.directory
    }

    fn reachable(&self, cluster: &Cluster) -> Option<&Reachable> {
        self.reachable
            .iter()
            .find(|reachable| reachable.is_for(cluster))
    }

    /// How long ago the API server was last known to have these keys; none for keys of other sources, which are as they are.
    fn age(
        &self,
        entry: &ClusterKeysEntry,
        reachable: Option<&Reachable>,
        now: Timestamp,
    ) -> Option<SignedDuration> {
        if entry.record.source != ClusterKeySource::ApiServer {
            return None;
        }
        Some(now.duration_since(self.confirmed(entry, reachable)))
    }

    /// When the API server was last known to have these keys, as far as this server was told.
    fn confirmed(&self, entry: &ClusterKeysEntry, reachable: Option<&Reachable>) -> Timestamp {
        let here = reachable.and_then(|reachable| reachable.confirmed(&entry.record.cluster_id));
        here.map_or(entry.record.confirmed, |at| at.max(entry.record.confirmed))
    }
}

impl fmt::Debug for ClusterIssuers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterIssuers")
            .field("base", &self.base)
            .field("mode", &self.mode)
            .field("reachable", &self.reachable.len())
            .finish_non_exhaustive()
    }
}
