//! The keys of clusters' service account tokens: shown, added, made, rotated and removed (IRSA spec, sections 2.4 and 2.5).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_arn::AccountId;
use countersign_oidc::{Algorithm, KeySet, KeyStage, Schedule};
use countersign_store::{ClusterPlace, Directory, DirectorySnapshot};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::access;
use super::execute::refused;
use super::op::{AdminAnswer, AdminError, Hidden};
use crate::issuer::step_of;

/// What is to be done with the keys of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "do",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum IssuerChange {
    /// Nothing: they are shown.
    Show {},
    /// Public keys are added.
    Add {
        /// A key set, JSON.
        document: String,
    },
    /// The keys are those that the API server publishes.
    Pulled {
        /// Its key set, JSON.
        document: String,
        /// Whether they take the place of keys of another source.
        replace: bool,
    },
    /// The first signing key is made.
    Generate {
        /// `RS256`, `ES256` or `ES384`.
        algorithm: String,
    },
    /// The next signing key is made.
    Rotate {},
    /// One is removed.
    Remove {
        /// Its id.
        kid: String,
        /// Whether also one that is in use.
        force: bool,
    },
    /// All are taken away.
    Clear {},
    /// Nothing: they are shown with the private key that signs now.
    SigningKey {},
}

/// The keys of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IssuerReport {
    /// The cluster's ARN.
    pub cluster: String,
    /// The cluster's id, which its issuer ends with.
    pub id: String,
    /// `uploaded`, `api-server`, `generated`; none without keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// When the keys last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<Timestamp>,
    /// The step of a rotation that is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_step: Option<String>,
    /// The keys.
    pub keys: Vec<IssuerKeyReport>,
    /// The key set that is published, JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<String>,
    /// The algorithms of the keys.
    pub algorithms: Vec<String>,
    /// All public keys, PEM, as kube-apiserver reads them.
    pub public_keys: String,
    /// The private key that signs now, PKCS #8 as PEM; only where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_key: Option<Hidden>,
}

/// A key of a cluster's tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IssuerKeyReport {
    /// Its id; empty for a key that names none.
    pub kid: String,
    /// `RSA`, `P-256`, `P-384`, `P-521`.
    pub key_type: String,
    /// `verifies` for a key that others made; of generated ones `published` (waits to sign), `signs`, `retired` (its
    /// tokens live), `over`.
    pub state: String,
    /// From when it may sign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signs_from: Option<Timestamp>,
    /// Until when tokens it signed live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needed_until: Option<Timestamp>,
}

pub(super) async fn change(
    directory: &Directory,
    account: Option<AccountId>,
    wanted: Option<&str>,
    change: &IssuerChange,
    now: Timestamp,
) -> Result<AdminAnswer, AdminError> {
    let cluster = access::cluster(&directory.snapshot(), account, wanted)?
        .record
        .clone();
    let place = ClusterPlace {
        account: cluster.account,
        region: &cluster.region,
        name: &cluster.name,
    };
    let parsed = |document: &str| KeySet::parse(document.as_bytes()).map_err(AdminError::request);
    let changed = match change {
        IssuerChange::Show {} | IssuerChange::SigningKey {} => Ok(()),
        IssuerChange::Add { document } => {
            let keys = parsed(document)?;
            let added = directory.add_cluster_keys(place, &keys, now).await;
            added.map(drop)
        }
        IssuerChange::Pulled { document, replace } => {
            let keys = parsed(document)?;
            let pulled = directory.pulled_cluster_keys(place, &keys, *replace, now);
            pulled.await.map(drop)
        }
        IssuerChange::Generate { algorithm } => {
            let algorithm = Algorithm::from_name(algorithm)
                .filter(|known| {
                    matches!(
                        known,
                        Algorithm::Rs256 | Algorithm::Es256 | Algorithm::Es384
                    )
                })
                .ok_or_else(|| {
                    AdminError::request("tokens are signed with RS256, ES256 or ES384")
                })?;
            let made = directory.generate_cluster_keys(place, algorithm, now);
            made.await.map(drop)
        }
        IssuerChange::Rotate {} => directory.rotate_cluster_keys(place, now).await.map(drop),
        IssuerChange::Remove { kid, force } => {
            let removed = directory.remove_cluster_key(place, kid, *force, now);
            removed.await.map(drop)
        }
        IssuerChange::Clear {} => directory.clear_cluster_keys(place, now).await,
    };
    changed.map_err(refused)?;
    if !matches!(change, IssuerChange::Show {} | IssuerChange::SigningKey {}) {
        tracing::warn!(
            cluster = &*cluster.name,
            "the keys of service account tokens are changed"
        );
    }
    let private = matches!(change, IssuerChange::SigningKey {});
    let report = report(
        &directory.snapshot(),
        &cluster.id,
        cluster.arn(),
        private,
        now,
    )?;
    Ok(AdminAnswer::IssuerKeys(Box::new(report)))
}

fn report(
    snapshot: &DirectorySnapshot,
    cluster_id: &str,
    arn: String,
    private: bool,
    now: Timestamp,
) -> Result<IssuerReport, AdminError> {
    let mut report = IssuerReport {
        cluster: arn,
        id: cluster_id.to_owned(),
        source: None,
        modified: None,
        next_step: None,
        keys: Vec::new(),
        document: None,
        algorithms: Vec::new(),
        public_keys: String::new(),
        signing_key: None,
    };
    let Some(entry) = snapshot.cluster_keys(cluster_id) else {
        return Ok(report);
    };
    report.source = Some(entry.record.source.as_str().to_owned());
    report.modified = Some(entry.record.modified);
    let name = report.cluster.rsplit('/').next().unwrap_or_default();
    report.next_step = step_of(name, entry, now).map(|step| step.text);
    report.document = Some(entry.document.to_string());
    report.algorithms = entry
        .keys
        .algorithms()
        .map(|algorithm| algorithm.name().to_owned())
        .collect();
    report.algorithms.sort();
    report.algorithms.dedup();
    for (id, public) in entry.keys.keys() {
        let id = id.unwrap_or_default();
        let life = entry
            .signing
            .lives(Schedule::CLUSTER, now)
            .find(|life| life.key.id() == id);
        let time = |seconds: i64| Timestamp::from_second(seconds).ok();
        let kind = public.key_type();
        report.keys.push(IssuerKeyReport {
            kid: id.to_owned(),
            key_type: kind.curve().unwrap_or(kind.kty()).to_owned(),
            state: life
                .map_or("verifies", |life| match life.stage {
                    KeyStage::Published => "published",
                    KeyStage::Signs => "signs",
                    KeyStage::Retired => "retired",
                    KeyStage::Over => "over",
                })
                .to_owned(),
            signs_from: life.and_then(|life| time(life.signs_from)),
            needed_until: life.and_then(|life| life.needed_until).and_then(time),
        });
        report
            .public_keys
            .push_str(&pem("PUBLIC KEY", &public.spki()));
        if private && life.is_some_and(|life| life.stage == KeyStage::Signs) {
            let der = life.map(|life| life.key.pkcs8()).transpose();
            let der = der
                .ok()
                .flatten()
                .ok_or_else(|| AdminError::unavailable("the signing key cannot be written"))?;
            report.signing_key = Some(Hidden::new(pem("PRIVATE KEY", &der).as_str()));
        }
    }
    Ok(report)
}

/// A block of PEM (RFC 7468).
fn pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    let body = Zeroizing::new(STANDARD.encode(der));
    // As long as it gets, so that no part of it is left behind by growing.
    let mut text = Zeroizing::new(String::with_capacity(
        body.len().saturating_mul(2).saturating_add(128),
    ));
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    for (at, character) in body.chars().enumerate() {
        if at > 0 && at.is_multiple_of(64) {
            text.push('\n');
        }
        text.push(character);
    }
    text.push_str("\n-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}
