//! What the configuration wants from the first start on: users, roles and their policies. What exists is left alone.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use countersign_arn::{AccountId, Arn};
use countersign_oidc::IssuerUrl;
use countersign_policy::validate::{
    Existence, NoDirectory, PrincipalDirectory, Quota, Rejection, Validated, check_quota, validate,
};
use countersign_policy::{Lines, PolicyKind};
use countersign_server::config::{Bootstrap, BootstrapRole, BootstrapUser};
use countersign_store::records::{InlinePolicy, TrustPolicy, TrustedPrincipal};
use countersign_store::{Directory, DirectorySnapshot, NewOidcProvider, NewRole, NewUser};
use jiff::Timestamp;

use super::settings::write_atomically;
use crate::report::Failure;

/// The name of the inline policy that comes from a `policyFile`.
const POLICY: &str = "bootstrap";
const DEFAULT_SESSION: u32 = 3600;
/// AWS raises the quota of trust policies from 2,048 to this on request; the store's own quota stays in force.
const TRUST_QUOTA: usize = 2048;

/// A policy document and where it came from, for messages.
struct Source {
    place: String,
    text: String,
}

/// A role that is not there yet.
struct Pending<'b> {
    role: &'b BootstrapRole,
    trust: Source,
    policy: Option<Source>,
}

/// Makes what is not there. Every document is checked before anything is made, so that a mistake leaves nothing half done.
pub(super) async fn run(
    directory: &Directory,
    account: AccountId,
    bootstrap: &Bootstrap,
    now: Timestamp,
) -> Result<(), Failure> {
    let snapshot = directory.snapshot();
    let mut users = Vec::new();
    for user in bootstrap
        .users
        .iter()
        .filter(|user| snapshot.user(account, &user.name).is_none())
    {
        let policy = read_policy(user.policy_file.as_deref(), Quota::User(&user.name))?;
        users.push((user, policy));
    }
    let mut roles = Vec::new();
    for role in bootstrap
        .roles
        .iter()
        .filter(|role| snapshot.role(account, &role.name).is_none())
    {
        let trust = trust_source(role)?;
        check(
            &trust,
            PolicyKind::Trust,
            Quota::Trust { limit: TRUST_QUOTA },
            &NoDirectory,
        )?;
        let policy = read_policy(role.policy_file.as_deref(), Quota::Role(&role.name))?;
        roles.push(Pending {
            role,
            trust,
            policy,
        });
    }
    let mut providers = Vec::new();
    for provider in &bootstrap.oidc_providers {
        let url: IssuerUrl = provider
            .url
            .parse()
            .map_err(|error| Failure::usage(anyhow!("provider `{}`: {error}", provider.url)))?;
        if snapshot
            .oidc_provider(account, url.without_scheme())
            .is_none()
        {
            providers.push((provider, url));
        }
    }
    for (provider, url) in providers {
        let texts = |texts: &[String]| texts.iter().map(|text| text.as_str().into()).collect();
        let new = NewOidcProvider {
            account,
            url: url.without_scheme().into(),
            client_ids: texts(&provider.client_ids),
            thumbprints: texts(&provider.thumbprints),
            tags: Vec::new(),
        };
        directory
            .create_oidc_provider(new, now)
            .await
            .map_err(Failure::usage)?;
    }
    for (user, policy) in users {
        make_user(directory, account, user, policy, now).await?;
    }
    make_roles(directory, account, roles, now).await
}

async fn make_user(
    directory: &Directory,
    account: AccountId,
    user: &BootstrapUser,
    policy: Option<Source>,
    now: Timestamp,
) -> Result<(), Failure> {
    let new = NewUser {
        account,
        name: user.name.as_str().into(),
        path: user.path.as_deref().unwrap_or("/").into(),
        tags: Vec::new(),
    };
    directory
        .create_user(new, now)
        .await
        .map_err(Failure::usage)?;
    if let Some(policy) = policy {
        directory
            .put_user_policy(account, &user.name, inline(policy))
            .await
            .map_err(Failure::usage)?;
    }
    if let Some(file) = &user.access_key_file {
        let key = directory
            .create_access_key(account, &user.name, now)
            .await
            .map_err(Failure::usage)?;
        let text = serde_json::json!({
            "UserName": user.name,
            "AccessKeyId": key.metadata.id,
            "SecretAccessKey": key.secret.expose(),
        });
        write_atomically(file, &serde_json::to_vec_pretty(&text)?)?;
    }
    Ok(())
}

/// Roles may trust each other, and a trust policy names entities that exist: whatever can be made is made, round after
/// round, until nothing is left or nothing moves.
async fn make_roles(
    directory: &Directory,
    account: AccountId,
    mut pending: Vec<Pending<'_>>,
    now: Timestamp,
) -> Result<(), Failure> {
    while !pending.is_empty() {
        let before = pending.len();
        let mut waiting = Vec::new();
        let mut first_failure = None;
        for one in pending {
            let snapshot = directory.snapshot();
            let checked = check(
                &one.trust,
                PolicyKind::Trust,
                Quota::Trust { limit: TRUST_QUOTA },
                &Entities(&snapshot),
            );
            match checked {
                Ok(validated) => make_role(directory, account, one, &validated, now).await?,
                Err(failure) => {
                    first_failure.get_or_insert(failure);
                    waiting.push(one);
                }
            }
        }
        pending = waiting;
        if let (Some(failure), true) = (first_failure, pending.len() == before) {
            return Err(failure);
        }
    }
    Ok(())
}

async fn make_role(
    directory: &Directory,
    account: AccountId,
    pending: Pending<'_>,
    validated: &Validated,
    now: Timestamp,
) -> Result<(), Failure> {
    let Pending {
        role,
        trust,
        policy,
    } = pending;
    let principals = validated.principal_ids.iter();
    let new = NewRole {
        account,
        name: role.name.as_str().into(),
        path: role.path.as_deref().unwrap_or("/").into(),
        trust: TrustPolicy {
            document: trust.text.into(),
            principals: principals
                .map(|(slot, id)| TrustedPrincipal {
                    statement: slot.statement,
                    entry: slot.entry,
                    id: id.into(),
                })
                .collect(),
        },
        max_session_duration: role.max_session_duration.unwrap_or(DEFAULT_SESSION),
        description: None,
        tags: Vec::new(),
        boundary: None,
    };
    directory
        .create_role(new, now)
        .await
        .map_err(Failure::usage)?;
    if let Some(policy) = policy {
        directory
            .put_role_policy(account, &role.name, inline(policy))
            .await
            .map_err(Failure::usage)?;
    }
    Ok(())
}

fn inline(policy: Source) -> InlinePolicy {
    InlinePolicy {
        name: POLICY.into(),
        document: policy.text.into(),
    }
}

fn trust_source(role: &BootstrapRole) -> Result<Source, Failure> {
    match (&role.trust_policy_file, &role.trust_policy) {
        (Some(file), None) => read(file),
        (None, Some(text)) => Ok(Source {
            place: format!("`trustPolicy` of role `{}`", role.name),
            text: text.clone(),
        }),
        _ => Err(Failure::usage(anyhow!(
            "role `{}` needs `trustPolicyFile` or `trustPolicy`, and not both",
            role.name
        ))
        .hint("`trustPolicy` is JSON as a text: write `trustPolicy: |` and the document below it")),
    }
}

fn read_policy(file: Option<&Path>, quota: Quota<'_>) -> Result<Option<Source>, Failure> {
    let Some(file) = file else { return Ok(None) };
    let source = read(file)?;
    check(&source, PolicyKind::Identity, quota, &NoDirectory)?;
    Ok(Some(source))
}

fn read(file: &Path) -> Result<Source, Failure> {
    let text = fs::read_to_string(file)
        .with_context(|| format!("could not read the policy `{}`", file.display()))
        .map_err(Failure::usage)?;
    Ok(Source {
        place: file.display().to_string(),
        text,
    })
}

fn check(
    source: &Source,
    kind: PolicyKind,
    quota: Quota<'_>,
    directory: &dyn PrincipalDirectory,
) -> Result<Validated, Failure> {
    let refused = |rejection: Box<Rejection>| {
        let at = Lines::new(source.text.as_str()).position(rejection.problem.span.start);
        let failure = Failure::usage(anyhow!(
            "{}:{}:{}: {}: {} ({})",
            source.place,
            at.line,
            at.column,
            rejection.code.as_str(),
            rejection.message,
            rejection.problem.message
        ));
        match rejection.problem.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    };
    let validated = validate(&source.text, kind, directory).map_err(refused)?;
    check_quota(&source.text, 0, quota).map_err(refused)?;
    Ok(validated)
}

/// The users and roles of the store. Of accounts that are not in it nobody can tell, as of those of a real AWS.
struct Entities<'s>(&'s DirectorySnapshot);

impl PrincipalDirectory for Entities<'_> {
    fn look_up(&self, arn: &str) -> Existence {
        let Ok(parsed) = Arn::parse(arn) else {
            return Existence::Missing;
        };
        let Ok(account) = parsed.account.parse::<AccountId>() else {
            return Existence::Missing;
        };
        if self.0.account(account).is_none() {
            return Existence::NotChecked;
        }
        let name = parsed.resource.rsplit('/').next().unwrap_or_default();
        let found = if parsed.resource.starts_with("role/") {
            self.0
                .role(account, name)
                .filter(|role| *role.arn == *arn)
                .map(|role| &role.record.id)
        } else {
            self.0
                .user(account, name)
                .filter(|user| *user.arn == *arn)
                .map(|user| &user.record.id)
        };
        found.map_or(Existence::Missing, |id| Existence::Has(id.to_string()))
    }

    fn knows_id(&self, unique_id: &str) -> bool {
        self.0.principal(unique_id).is_some()
    }
}
