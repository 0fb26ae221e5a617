//! The condition keys of a call (policy language spec, section 7). A key is there only when the specification says so:
//! negated operators are true on absence.

use countersign_arn::{CallerKind, Partition, Tag};
use countersign_policy as policy;
use countersign_session::{ContextFacts, context_facts};
use countersign_store::DirectorySnapshot;
use jiff::Timestamp;

use super::operation::Call;
use super::target::Resource;
use super::{ApiError, Service, keys};

/// The keys of the caller and of the request itself, which every call has.
///
/// # Errors
/// `InvalidClientTokenId` when the caller is not there any more.
pub(crate) fn of_call(call: &Call<'_>) -> Result<policy::Context<'static>, ApiError> {
    let mut keys = policy::Context::new();
    of_caller(call, &mut keys)?;
    of_request(call, &mut keys);
    Ok(keys)
}

/// The keys of an action on a resource that identity policies govern.
///
/// # Errors
/// As [`of_call`].
pub(crate) fn of_action(
    call: &Call<'_>,
    action: &str,
    resource: &Resource,
    passed_to: Option<&str>,
) -> Result<policy::Context<'static>, ApiError> {
    let mut keys = of_call(call)?;
    of_resource(call, resource, &mut keys);
    let (prefix, name) = action.split_once(':').unwrap_or_default();
    let defined: &[String] = policy::tables::service(prefix)
        .and_then(|service| service.action(name))
        .map_or(&[], |(_, info)| &info.keys);
    let input = &call.input;
    for key in defined {
        match key.as_str() {
            "aws:RequestTag/${TagKey}" => {
                set_tags(&mut keys, "aws:RequestTag/", input.request_tags().iter());
            }
            "aws:TagKeys" => {
                let mut named: Vec<String> = input
                    .request_tags()
                    .iter()
                    .map(|tag| tag.key.to_string())
                    .collect();
                for parameter in ["TagKeys", "tagKeys"] {
                    named.extend(input.texts(parameter).into_iter().map(str::to_owned));
                }
                if !named.is_empty() {
                    keys.set_list("aws:TagKeys", named);
                }
            }
            "iam:PolicyARN" => {
                if let Some(arn) = input.text("PolicyArn") {
                    keys.set("iam:PolicyARN", arn.to_owned());
                }
            }
            "iam:PermissionsBoundary" => {
                let asked = input.text("PermissionsBoundary");
                if let Some(arn) = asked.or(resource.boundary.as_deref()) {
                    keys.set("iam:PermissionsBoundary", arn.to_owned());
                }
            }
            "iam:AWSServiceName" => {
                if let Some(service) = input.text("AWSServiceName") {
                    keys.set("iam:AWSServiceName", service.to_owned());
                }
            }
            "sts:TaskPolicyArn" => {
                let policy = input.get("TaskPolicyArn");
                if let Some(arn) = policy.and_then(|policy| policy.member("arn")) {
                    keys.set("sts:TaskPolicyArn", arn.to_owned());
                }
            }
            "iam:PassedToService" => {
                if let Some(service) = passed_to {
                    keys.set("iam:PassedToService", service.to_owned());
                }
            }
            "sts:IdentityTokenAudience" => {
                let audiences = input.texts("Audience").into_iter().map(str::to_owned);
                keys.set_list("sts:IdentityTokenAudience", audiences);
            }
            "sts:DurationSeconds" => {
                let range = countersign_session::duration::DurationOf::WebIdentityToken;
                let seconds = input
                    .integer("DurationSeconds")
                    .unwrap_or_else(|| i64::from(range.default_seconds()));
                keys.set("sts:DurationSeconds", seconds.to_string());
            }
            "sts:SigningAlgorithm" => {
                if let Some(algorithm) = input.text("SigningAlgorithm") {
                    keys.set("sts:SigningAlgorithm", algorithm.to_owned());
                }
            }
            key if key.starts_with("eks:") => super::eks::set_key(call, name, key, &mut keys),
            _ => {}
        }
    }
    for (key, values) in &resource.keys {
        if policy::tables::is_list_key(key) {
            keys.set_list(*key, values.iter().cloned());
        } else if let Some(value) = values.first() {
            keys.set(*key, value.clone());
        }
    }
    super::eks::set_own_keys(call, action, &mut keys);
    Ok(keys)
}

/// Tags under a prefix.
pub(crate) fn set_tags<'t>(
    keys: &mut policy::Context<'static>,
    prefix: &str,
    tags: impl Iterator<Item = &'t Tag>,
) {
    for tag in tags {
        keys.set_tag(prefix, &tag.key, tag.value.to_string());
    }
}

/// The organization of an account.
pub(crate) fn organization_of(
    snapshot: &DirectorySnapshot,
    account: countersign_arn::AccountId,
) -> Option<String> {
    snapshot
        .account(account)?
        .record
        .organization_id
        .as_deref()
        .map(Into::into)
}

fn of_caller(call: &Call<'_>, keys: &mut policy::Context<'static>) -> Result<(), ApiError> {
    let Some(caller) = &call.signer else {
        keys.set("aws:PrincipalAccount", "anonymous");
        keys.set("aws:PrincipalType", "Anonymous");
        keys.set("aws:userid", "anonymous");
        return Ok(());
    };
    let account = caller.identity().account();
    keys.set("aws:PrincipalAccount", account.to_string());
    keys.set("aws:PrincipalIsAWSService", "false");
    if let Some(organization) = organization_of(&call.snapshot, account) {
        keys.set("aws:PrincipalOrgID", organization);
    }
    if let Some(session) = caller.session() {
        let live = keys::live_principal(&call.snapshot, session);
        if let Ok(facts) = context_facts(session, live.as_ref(), call.now) {
            of_session(facts, keys);
        }
    } else if caller.identity().caller().kind() == CallerKind::Root {
        keys.set("aws:PrincipalArn", caller.identity().arn().to_owned());
        keys.set("aws:PrincipalType", "Account");
        keys.set("aws:userid", account.to_string());
    } else if let Some(user) = &call.holder()?.user {
        keys.set("aws:PrincipalArn", user.arn.to_string());
        keys.set("aws:PrincipalType", "User");
        keys.set("aws:userid", user.record.id.to_string());
        keys.set("aws:username", user.record.name.to_string());
        set_tags(keys, "aws:PrincipalTag/", user.record.tags.iter());
    }
    Ok(())
}

fn of_request(call: &Call<'_>, keys: &mut policy::Context<'static>) {
    keys.set(
        "aws:SourceIp",
        call.peer.address.ip().to_canonical().to_string(),
    );
    keys.set("aws:SecureTransport", call.peer.tls.to_string());
    keys.set("aws:CurrentTime", instant(call.now));
    keys.set("aws:EpochTime", call.now.as_second().to_string());
    let region = requested_region(call);
    if !region.is_empty() {
        keys.set("aws:RequestedRegion", region.to_owned());
    }
    keys.set("aws:ViaAWSService", "false");
    for (key, header) in [
        ("aws:UserAgent", http::header::USER_AGENT),
        ("aws:referer", http::header::REFERER),
    ] {
        if let Some(text) = call
            .headers
            .get(header)
            .and_then(|value| value.to_str().ok())
        {
            keys.set(key, text.to_owned());
        }
    }
}

/// IAM is in one region of each partition, whatever region a request was signed for.
fn requested_region<'a>(call: &'a Call<'_>) -> &'a str {
    match (call.operation.service, call.partition()) {
        (Service::Sts | Service::Eks, _) => call.region(),
        (Service::Iam, Partition::Aws) => "us-east-1",
        (Service::Iam, Partition::China) => "cn-north-1",
        (Service::Iam, Partition::GovCloud) => "us-gov-west-1",
        (Service::Iam, _) => call.region(),
    }
}

fn of_resource(call: &Call<'_>, resource: &Resource, keys: &mut policy::Context<'static>) {
    let owner = match resource.arn.split(':').nth(4).unwrap_or_default() {
        "" => call
            .signer
            .as_ref()
            .map(|caller| caller.identity().account()),
        account => account.parse().ok(),
    };
    if let Some(owner) = owner {
        keys.set("aws:ResourceAccount", owner.to_string());
        if let Some(organization) = organization_of(&call.snapshot, owner) {
            keys.set("aws:ResourceOrgID", organization);
        }
    }
    set_tags(keys, "aws:ResourceTag/", resource.tags.iter());
    let kind = resource.arn.split(':').nth(5).unwrap_or_default();
    if kind.starts_with("user/") || kind.starts_with("role/") {
        set_tags(keys, "iam:ResourceTag/", resource.tags.iter());
    }
}

fn of_session(facts: ContextFacts, keys: &mut policy::Context<'static>) {
    keys.set("aws:PrincipalArn", facts.principal_arn);
    keys.set("aws:PrincipalType", facts.principal_type);
    keys.set("aws:userid", facts.user_id);
    keys.set("aws:TokenIssueTime", instant(facts.token_issue_time));
    set_tags(keys, "aws:PrincipalTag/", facts.principal_tags.iter());
    let optional = [
        ("aws:username", facts.user_name),
        (
            "aws:MultiFactorAuthPresent",
            facts.mfa_present.map(|present| present.to_string()),
        ),
        (
            "aws:MultiFactorAuthAge",
            facts.mfa_age.map(|age| age.to_string()),
        ),
        ("aws:SourceIdentity", facts.source_identity),
        ("aws:FederatedProvider", facts.federated_provider),
        (
            "aws:AssumedRoot",
            facts.assumed_root.then(|| "true".to_owned()),
        ),
    ];
    for (key, value) in optional {
        if let Some(value) = value {
            keys.set(key, value);
        }
    }
    for (key, values) in facts.provider_keys {
        if policy::tables::is_list_key(&key) {
            keys.set_list(key, values);
        } else if let Some(value) = values.into_iter().next() {
            keys.set(key, value);
        }
    }
}

/// A moment as policies compare it.
pub(crate) fn instant(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
