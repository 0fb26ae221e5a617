//! The operations, on a directory.

use countersign_arn::{AccountId, Arn};
use countersign_session::{KeyState, KeyStatus, OpenError, RevocationTarget, open};
use countersign_store::{ClusterNameError, Directory, DirectoryError, DirectorySnapshot};
use jiff::{SignedDuration, Timestamp};

use super::access;
use super::iam_dump::IamDump;
use super::iam_import;
use super::issuer;
use super::op::{
    AdminAnswer, AdminError, AdminOp, Hidden, IssuedRootKey, KeyReport, RootKeyReport,
    SessionSelector,
};
use super::report::SessionReport;

/// Does what `op` says. Whoever calls has made sure of who asks.
///
/// For [`AdminOp::Backup`] it answers that the backup follows; the caller writes it from
/// [`Directory::store`].
///
/// # Errors
/// Says whether the answer is no, the request cannot be meant, or it could not be done now.
pub async fn execute(
    directory: &Directory,
    op: &AdminOp,
    now: Timestamp,
) -> Result<AdminAnswer, AdminError> {
    match op {
        AdminOp::InspectSession {
            token,
            access_key_id,
        } => inspect(&directory.snapshot(), token.expose(), access_key_id, now),
        AdminOp::RevokeSessions { sessions, before } => {
            let target = target(&directory.snapshot(), sessions)?;
            let row = directory
                .revoke_sessions(target, *before, now)
                .await
                .map_err(refused)?;
            tracing::info!(target = row.target.id(), before = %row.before, "sessions are revoked");
            let until = row.drop_after();
            Ok(AdminAnswer::Revoked { row, until })
        }
        AdminOp::ListRevocations {} => Ok(AdminAnswer::Revocations {
            rows: directory
                .snapshot()
                .revocations()
                .filter(|row| !row.is_over(now))
                .cloned()
                .collect(),
        }),
        AdminOp::RotateSessionKeys { revoke } => {
            if *revoke {
                directory.retire_session_keys(now).await.map_err(refused)?;
                tracing::warn!(
                    "the keys of session tokens are retired, and every session with them"
                );
            } else {
                directory.rotate_session_keys(now).await.map_err(refused)?;
                tracing::info!("the keys of session tokens are rotated");
            }
            let snapshot = directory.snapshot();
            let status = snapshot.session_keys().map(|keys| keys.ring.status(now));
            let keys = status.unwrap_or_default().iter().map(key_report).collect();
            Ok(AdminAnswer::SessionKeys { keys })
        }
        AdminOp::CreateRootKey { account } => {
            let created = directory
                .create_root_key(*account, now)
                .await
                .map_err(refused)?;
            let snapshot = directory.snapshot();
            let partition = snapshot
                .account(*account)
                .map(|account| account.record.partition)
                .unwrap_or_default();
            tracing::warn!(%account, access_key_id = &*created.metadata.id, "a root access key is made");
            Ok(AdminAnswer::RootKeyCreated(IssuedRootKey {
                arn: format!("arn:{partition}:iam::{account}:root"),
                access_key_id: created.metadata.id.into(),
                secret_access_key: Hidden::new(created.secret.expose()),
            }))
        }
        AdminOp::ListRootKeys { account } => {
            let keys = directory.root_keys(*account).map_err(refused)?;
            let keys = keys.into_iter().map(|key| RootKeyReport {
                access_key_id: key.id.into(),
                status: key.status.as_str().to_owned(),
                created: key.created,
            });
            Ok(AdminAnswer::RootKeys {
                keys: keys.collect(),
            })
        }
        AdminOp::DeleteRootKey {
            account,
            access_key_id,
        } => {
            directory
                .delete_root_key(*account, access_key_id)
                .await
                .map_err(refused)?;
            tracing::warn!(%account, access_key_id, "a root access key is deleted");
            Ok(AdminAnswer::RootKeyDeleted {})
        }
        AdminOp::ExportIam { account } => {
            let snapshot = directory.snapshot();
            let account = one_account(&snapshot, *account)?;
            let document = IamDump::of(&snapshot, account)?.to_json()?;
            Ok(AdminAnswer::IamExported { document })
        }
        AdminOp::ImportIam { document, options } => {
            let report = iam_import::import(directory, document, *options).await?;
            if !options.dry_run {
                tracing::warn!(made = report.made.len(), "entities of IAM are imported");
            }
            Ok(AdminAnswer::IamImported(report))
        }
        AdminOp::ImportAwsPolicies { policies } => {
            let done = directory
                .import_aws_policies(policies)
                .await
                .map_err(refused)?;
            Ok(AdminAnswer::PoliciesImported {
                written: done.written,
                unchanged: done.unchanged,
            })
        }
        AdminOp::ShowAccess {
            account,
            cluster,
            principal,
        } => access::show(
            &directory.snapshot(),
            *account,
            cluster.as_deref(),
            principal.as_deref(),
        ),
        AdminOp::RebindAccessEntry {
            account,
            cluster,
            principal_arn,
            from,
            to,
        } => {
            let cluster = cluster.as_deref();
            let change = (from.as_deref(), to.as_str());
            access::rebind(directory, *account, cluster, principal_arn, change, now).await
        }
        AdminOp::IssuerKeys {
            account,
            cluster,
            change,
        } => issuer::change(directory, *account, cluster.as_deref(), change, now).await,
        AdminOp::Backup {} => Ok(AdminAnswer::BackupFollows {}),
    }
}

fn inspect(
    snapshot: &DirectorySnapshot,
    token: &str,
    access_key_id: &str,
    now: Timestamp,
) -> Result<AdminAnswer, AdminError> {
    let keys = snapshot
        .session_keys()
        .ok_or_else(|| AdminError::unavailable("there are no keys of session tokens yet"))?;
    let at = |moment| {
        open(
            token.as_bytes(),
            access_key_id,
            &keys.ring,
            &keys.deployment,
            moment,
        )
    };
    let opened = match at(now) {
        // What an expired token says may still be looked at, for as long as its key is there.
        Err(OpenError::Expired(ended)) => at(ended - SignedDuration::from_secs(1)),
        other => other,
    };
    let opened = opened.map_err(|error| match error {
        OpenError::Forged(_) => AdminError::no(format!(
            "{error}: it was changed, is of another deployment, or was not issued with access key id `{}`",
            access_key_id.escape_debug()
        )),
        other => AdminError::no(other),
    })?;
    let report = SessionReport::new(snapshot, &opened, now);
    Ok(AdminAnswer::Session(Box::new(report)))
}

/// What a person calls a role or a cluster, as the list has it. Both must be there: a slip of the pen must not pass for a
/// revocation. Sessions of a role that was deleted are dead already.
fn target(
    snapshot: &DirectorySnapshot,
    sessions: &SessionSelector,
) -> Result<RevocationTarget, AdminError> {
    Ok(match sessions {
        SessionSelector::Role { account, role } => {
            let (account, name) = match role_of_arn(role)? {
                Some((of_arn, _)) if account.is_some_and(|account| account != of_arn) => {
                    return Err(AdminError::request("the role's ARN is of another account"));
                }
                Some(found) => found,
                None => (one_account(snapshot, *account)?, role.as_str()),
            };
            let entry = snapshot.role(account, name).ok_or_else(|| {
                AdminError::request(format!(
                    "there is no role `{}` in account {account}",
                    name.escape_debug()
                ))
            })?;
            RevocationTarget::Role {
                account,
                name: entry.record.name.clone(),
            }
        }
        SessionSelector::AccessKey { access_key_id } => RevocationTarget::AccessKey {
            id: access_key_id.as_str().into(),
        },
        SessionSelector::Association { association_id } => RevocationTarget::Association {
            id: association_id.as_str().into(),
        },
        SessionSelector::Cluster { account, cluster } => RevocationTarget::Cluster {
            arn: cluster_arn(snapshot, *account, cluster)?.into(),
        },
        SessionSelector::SourceIdentity {
            account,
            source_identity,
        } => RevocationTarget::SourceIdentity {
            account: *account,
            value: source_identity.as_str().into(),
        },
    })
}

/// Account and name of a role's ARN; none for what is no ARN.
fn role_of_arn(text: &str) -> Result<Option<(AccountId, &str)>, AdminError> {
    if !text.starts_with("arn:") {
        return Ok(None);
    }
    let not_a_role = || {
        AdminError::request(
            "`--role` is a role's name or its ARN, `arn:P:iam::ACCOUNT:role/PATH/NAME`",
        )
    };
    let arn = Arn::parse(text).map_err(|_| not_a_role())?;
    let account = arn.account.parse().map_err(|_| not_a_role())?;
    let name = arn
        .resource
        .strip_prefix("role/")
        .filter(|_| arn.service == "iam")
        .and_then(|path| path.rsplit('/').next())
        .ok_or_else(not_a_role)?;
    Ok(Some((account, name)))
}

fn one_account(
    snapshot: &DirectorySnapshot,
    account: Option<AccountId>,
) -> Result<AccountId, AdminError> {
    if let Some(account) = account {
        return Ok(account);
    }
    let mut accounts = snapshot.accounts();
    match (accounts.next(), accounts.next()) {
        (Some(only), None) => Ok(only.record.id),
        (None, _) => Err(AdminError::request("there is no account")),
        (Some(_), Some(_)) => Err(AdminError::request(
            "there are several accounts; name one with `--account`",
        )),
    }
}

fn cluster_arn(
    snapshot: &DirectorySnapshot,
    account: Option<AccountId>,
    cluster: &str,
) -> Result<String, AdminError> {
    if cluster.starts_with("arn:") {
        return Ok(cluster.to_owned());
    }
    let shown = cluster.escape_debug();
    let Some(account) = account else {
        return match snapshot.cluster_named(cluster) {
            Ok(entry) => Ok(entry.arn.to_string()),
            Err(ClusterNameError::Ambiguous { count }) => Err(AdminError::request(format!(
                "{count} clusters have the name `{shown}`; give the ARN of one"
            ))),
            Err(error) => Err(AdminError::request(format!("`{shown}`: {error}"))),
        };
    };
    let mut found = snapshot
        .clusters_named(cluster)
        .iter()
        .filter(|entry| entry.record.account == account);
    match (found.next(), found.next()) {
        (Some(only), None) => Ok(only.arn.to_string()),
        (None, _) => Err(AdminError::request(format!(
            "there is no cluster `{shown}` in account {account}"
        ))),
        (Some(_), Some(_)) => Err(AdminError::request(format!(
            "several regions have a cluster `{shown}`; give the ARN of one"
        ))),
    }
}

fn key_report(status: &KeyStatus) -> KeyReport {
    KeyReport {
        kid: status.kid.to_string(),
        state: match status.state {
            KeyState::Sealing => "sealing",
            KeyState::Opening => "opening",
            KeyState::Retired => "retired",
        }
        .to_owned(),
        created: status.created,
        seals_from: status.seals_from,
        opens_until: status.opens_until,
    }
}

/// Store and system are at fault for some errors, whoever asks for the others.
pub(super) fn refused(error: DirectoryError) -> AdminError {
    match error {
        DirectoryError::Store(_)
        | DirectoryError::Behind
        | DirectoryError::Contended
        | DirectoryError::Random(_)
        | DirectoryError::Seal(_)
        | DirectoryError::SessionKeys(_)
        | DirectoryError::Restoring
        | DirectoryError::Unreadable { .. } => AdminError::unavailable(error),
        other => AdminError::request(other),
    }
}
