//! OIDC identity provider configs: whose tokens of people a cluster takes (EKS API spec, section 12).
//!
//! Left open by the specification, and decided here: a parameter that is an empty text counts as one that was not given; names
//! have the form that one segment of an ARN has room for; the 12 KB that EKS allows are those of one config.

use std::collections::BTreeMap;

use countersign_oidc::IssuerUrl;
use countersign_store::records::{Cluster, ClusterUpdate, IdentityProviderConfig, UpdateStatus};
use countersign_store::{
    ClusterEntry, DirectoryError, IdentityProviderConfigEntry, NewIdentityProviderConfig, Outcome,
    Thing,
};
use countersign_upstream::jwks::FetchFailure;

use super::describe::{issuer, tag_map, text, update_member};
use super::error::{no_such_config, worded};
use super::idempotency::{answered, kept, once, token};
use super::{
    NO_UUID, arn, check_tags, cluster, cluster_name, cluster_resource, existing_cluster, invalid,
    open_cluster, out_of_state, place,
};
use crate::aws::ApiError;
use crate::aws::authorize::{ask, on};
use crate::aws::operation::{Answer, Call, Operation, eks};
use crate::aws::page::PageRequest;
use crate::aws::query::Member;
use crate::aws::shape::eks_kinds::{
    CLIENT_TOKEN, MAX_RESULTS, NEXT_TOKEN, OIDC_CONFIG, PROVIDER_CONFIG, TAGS, TEXT,
};
use crate::aws::shape::{Parameter, Value, label, optional, required};
use crate::aws::target::{Resource, Target};

const CLUSTER: Parameter = label("clusterName", "name", TEXT);
/// Bytes of a config with all its texts, as EKS documents it.
const MAX_CONFIG_BYTES: usize = 12 << 10;
/// What names of Kubernetes itself begin with.
const SYSTEM: &str = "system:";

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    eks(
        "AssociateIdentityProviderConfig",
        (
            "POST",
            "/clusters/{name}/identity-provider-configs/associate",
        ),
        &[
            CLUSTER,
            required("oidc", OIDC_CONFIG),
            optional("tags", TAGS),
            CLIENT_TOKEN,
        ],
        on(Target::Custom(cluster_resource)).and(may_tag),
        Answer::Write(|call| Box::pin(associate(call))),
    ),
    eks(
        "DisassociateIdentityProviderConfig",
        (
            "POST",
            "/clusters/{name}/identity-provider-configs/disassociate",
        ),
        &[
            CLUSTER,
            required("identityProviderConfig", PROVIDER_CONFIG),
            CLIENT_TOKEN,
        ],
        on(Target::Custom(config_resource)),
        Answer::Write(|call| Box::pin(disassociate(call))),
    ),
    eks(
        "DescribeIdentityProviderConfig",
        (
            "POST",
            "/clusters/{name}/identity-provider-configs/describe",
        ),
        &[CLUSTER, required("identityProviderConfig", PROVIDER_CONFIG)],
        on(Target::Custom(config_resource)),
        Answer::Read(describe),
    ),
    eks(
        "ListIdentityProviderConfigs",
        ("GET", "/clusters/{name}/identity-provider-configs"),
        &[CLUSTER, MAX_RESULTS, NEXT_TOKEN],
        on(Target::Custom(cluster_resource)),
        Answer::Read(list),
    ),
];

// === Permission ===

/// Type and name of the config that a call names.
fn named<'c>(call: &'c Call<'_>) -> (&'c str, &'c str) {
    let config = call.input.get("identityProviderConfig");
    let member = |name| {
        config
            .and_then(|config| config.member(name))
            .unwrap_or_default()
    };
    (member("type"), member("name"))
}

/// The config of a call as policies see it, whether it is there or not (section 15.1).
fn config_resource(call: &Call<'_>) -> Result<Resource, ApiError> {
    let (kind, name) = named(call);
    if kind == "oidc"
        && let Some(cluster) = existing_cluster(call)?
        && let Some(config) = existing(call, cluster, name)
    {
        let record = &config.record;
        return Ok(Resource::tagged(record.arn(&cluster.record), &record.tags));
    }
    absent(call, kind, name)
}

fn absent(call: &Call<'_>, kind: &str, name: &str) -> Result<Resource, ApiError> {
    let cluster = cluster_name(call);
    let resource = format!("identityproviderconfig/{cluster}/{kind}/{name}/{NO_UUID}");
    arn(call, &resource).map(Resource::named)
}

/// Tags need more than the action itself (section 15.2).
fn may_tag(call: &Call<'_>) -> Result<(), ApiError> {
    if call.input.request_tags().is_empty() {
        return Ok(());
    }
    let name = member(call, "identityProviderConfigName").unwrap_or_default();
    ask(call, "eks:TagResource", &absent(call, "oidc", name)?, None)
}

// === Operations ===

async fn associate(call: &Call<'_>) -> Result<Member, ApiError> {
    let token = token(call)?;
    let tags = check_tags(call.input.tags("tags"))?;
    // EKS looks the cluster up before it looks at the values (section 1.7).
    let cluster = open_cluster(call)?;
    let mut new = new_config(call, &cluster.record)?;
    new.tags = tags;
    let issuer: IssuerUrl = new
        .issuer_url
        .parse()
        .map_err(|error| invalid(format!("The issuerUrl provided is invalid: {error}")))?;
    if new.username_prefix.as_deref() == Some("-")
        && !matches!(new.username_claim.as_deref(), None | Some("sub" | "email"))
    {
        call.warn(format!(
            "usernames are the claim {} without a prefix: whoever sets it at the issuer chooses any username but those of system:",
            new.username_claim.as_deref().unwrap_or_default()
        ));
    }
    let answer = |update: &ClusterUpdate| {
        let mut answer = update_member(update, UpdateStatus::InProgress);
        if let Member::Structure(members) = &mut answer {
            members.push(("tags", tag_map(&new.tags)));
        }
        answer
    };
    let keep = |update: &ClusterUpdate| kept(&answer(update));
    let once = once(token.as_ref(), &keep);
    let (place, settling) = (place(call)?, call.eks.settling);
    let refused = |error| refused(error, &cluster.record);
    // The issuer is asked only for what would be done else: not for a request that was answered, or that is refused.
    let planned = call
        .directory
        .without_effect()
        .associate_identity_provider_config(place, new.clone(), settling, once.as_ref(), call.now)
        .await
        .map_err(refused)?;
    if matches!(planned, Outcome::Done(_)) {
        check_issuer(call, &issuer).await?;
    }
    let outcome = call
        .directory
        .associate_identity_provider_config(place, new.clone(), settling, once.as_ref(), call.now)
        .await
        .map_err(refused)?;
    answered(outcome, answer)
}

async fn disassociate(call: &Call<'_>) -> Result<Member, ApiError> {
    let token = token(call)?;
    let cluster = open_cluster(call)?;
    let name = checked_name(call)?;
    let answer = |update: &ClusterUpdate| update_member(update, UpdateStatus::InProgress);
    let keep = |update: &ClusterUpdate| kept(&answer(update));
    let once = once(token.as_ref(), &keep);
    let outcome = call
        .directory
        .disassociate_identity_provider_config(
            place(call)?,
            name,
            call.eks.settling,
            once.as_ref(),
            call.now,
        )
        .await
        .map_err(|error| refused(error, &cluster.record))?;
    answered(outcome, answer)
}

fn describe(call: &Call<'_>) -> Result<Member, ApiError> {
    let cluster = cluster(call)?;
    let name = checked_name(call)?;
    let config =
        existing(call, cluster, name).ok_or_else(|| no_such_config(&cluster.record.name, name))?;
    Ok(one(call, &cluster.record, &config.record))
}

fn list(call: &Call<'_>) -> Result<Member, ApiError> {
    let cluster = cluster(call)?;
    let page = PageRequest::of(call)?;
    let configs = call
        .snapshot
        .identity_provider_configs(&cluster.record.id, page.after())
        .map(|config| &config.record)
        .filter(|record| record.status(call.now).is_some());
    let page = page.page(call, configs, |last| last.name.to_string())?;
    Ok(Member::Structure(
        page.with_token("identityProviderConfigs", |record| {
            Member::Structure(vec![("type", text("oidc")), ("name", text(&*record.name))])
        }),
    ))
}

// === Checks ===

fn existing<'c>(
    call: &'c Call<'_>,
    cluster: &ClusterEntry,
    name: &str,
) -> Option<&'c IdentityProviderConfigEntry> {
    call.snapshot
        .identity_provider_config(&cluster.record.id, name)
        .map(AsRef::as_ref)
        .filter(|config| config.record.status(call.now).is_some())
}

/// The name of the config that a call names, which must be of the only type there is.
fn checked_name<'c>(call: &'c Call<'_>) -> Result<&'c str, ApiError> {
    match named(call) {
        ("oidc", name) => Ok(name),
        (kind, _) => {
            let shown: String = kind.chars().take(64).collect();
            Err(invalid(format!(
                "The identity provider config type {shown} is not supported. The supported type is oidc."
            )))
        }
    }
}

fn member<'c>(call: &'c Call<'_>, name: &str) -> Option<&'c str> {
    call.input.get("oidc")?.member(name)
}

/// The config that was sent, with the checks of section 12 that need nothing but the cluster.
fn new_config(call: &Call<'_>, cluster: &Cluster) -> Result<NewIdentityProviderConfig, ApiError> {
    let given = |name: &str| member(call, name).filter(|text| !text.is_empty());
    let needed = |name: &str| {
        given(name).ok_or_else(|| invalid(format!("The parameter {name} must not be empty")))
    };
    let issuer_url = needed("issuerUrl")?;
    if !issuer_url.starts_with("https://") {
        return Err(invalid("IssuerURL must use https:// scheme."));
    }
    let (username_prefix, groups_prefix) = (given("usernamePrefix"), given("groupsPrefix"));
    let is_reserved = |prefix: &str| prefix.starts_with(SYSTEM);
    if username_prefix.is_some_and(is_reserved) || groups_prefix.is_some_and(is_reserved) {
        return Err(invalid(
            "The prefix system: is reserved for Kubernetes system use",
        ));
    }
    let bare = |url: &str| url.trim_end_matches('/').to_owned();
    if issuer(call, cluster).is_some_and(|own| bare(&own) == bare(issuer_url)) {
        return Err(invalid(
            "Incorrect Identity Provider URL configuration. The Identity Provider URL cannot be same as OpenID Connect (OIDC) issuer URL",
        ));
    }
    let boxed = |text: Option<&str>| text.map(Into::into);
    let new = NewIdentityProviderConfig {
        name: needed("identityProviderConfigName")?.into(),
        issuer_url: issuer_url.into(),
        client_id: needed("clientId")?.into(),
        username_claim: boxed(given("usernameClaim")),
        username_prefix: boxed(username_prefix),
        groups_claim: boxed(given("groupsClaim")),
        groups_prefix: boxed(groups_prefix),
        required_claims: required_claims(call),
        tags: Vec::new(),
    };
    check_texts(&new)?;
    Ok(new)
}

fn required_claims(call: &Call<'_>) -> BTreeMap<Box<str>, Box<str>> {
    let claims = call
        .input
        .get("oidc")
        .and_then(|oidc| oidc.value("requiredClaims"));
    let Some(Value::Map(claims)) = claims else {
        return BTreeMap::new();
    };
    claims
        .iter()
        .filter_map(|(name, value)| match value {
            Value::Text(value) => Some(((*name).into(), (*value).into())),
            _ => None,
        })
        .collect()
}

/// All texts together are bounded, and none has control characters.
fn check_texts(new: &NewIdentityProviderConfig) -> Result<(), ApiError> {
    let fixed = [
        Some(&new.name),
        Some(&new.issuer_url),
        Some(&new.client_id),
        new.username_claim.as_ref(),
        new.username_prefix.as_ref(),
        new.groups_claim.as_ref(),
        new.groups_prefix.as_ref(),
    ];
    let claims = new
        .required_claims
        .iter()
        .flat_map(|(name, value)| [name, value]);
    let mut bytes = 0_usize;
    for text in fixed.into_iter().flatten().chain(claims) {
        if text.chars().any(char::is_control) {
            return Err(invalid(
                "The OIDC configuration must not have control characters",
            ));
        }
        bytes = bytes.saturating_add(text.len());
    }
    if bytes > MAX_CONFIG_BYTES {
        return Err(invalid(format!(
            "The OIDC configuration has {bytes} bytes, at most {MAX_CONFIG_BYTES} are allowed"
        )));
    }
    Ok(())
}

/// Asks the issuer for its documents, so that nobody gets a config that silently never works. What it answered otherwise is
/// not told: it is for whoever may read that host.
async fn check_issuer(call: &Call<'_>, issuer: &IssuerUrl) -> Result<(), ApiError> {
    let Some(web_identity) = call.web_identity.filter(|_| call.eks.check_issuers) else {
        return Ok(());
    };
    let Err(failure) = web_identity.keys().keys(issuer, &[]).await else {
        return Ok(());
    };
    let detail = match &failure {
        FetchFailure::Discovery(countersign_oidc::DiscoveryError::OtherIssuer { .. }) => {
            "the discovery document names another issuer; a final slash makes a difference"
                .to_owned()
        }
        FetchFailure::Discovery(error) => error.to_string(),
        FetchFailure::KeySet(error) => error.to_string(),
        other => other.to_string(),
    };
    Err(invalid(format!(
        "The issuerUrl provided cannot be used: {detail}."
    )))
}

fn refused(error: DirectoryError, cluster: &Cluster) -> ApiError {
    match error {
        DirectoryError::NoSuch {
            what: Thing::IdentityProviderConfig,
            name,
        } => no_such_config(&cluster.name, &name),
        DirectoryError::QuotaExceeded {
            quota: "IdentityProviderConfigsPerCluster",
            limit,
        } => out_of_state(format!(
            "The cluster {} has {limit} identity provider configs, which is as many as it may have.",
            cluster.name
        )),
        other => worded(other),
    }
}

fn one(call: &Call<'_>, cluster: &Cluster, record: &IdentityProviderConfig) -> Member {
    let claims = record
        .required_claims
        .iter()
        .map(|(name, value)| (name.to_string(), text(&**value)))
        .collect();
    let status = record
        .status(call.now)
        .map_or("DELETING", |status| status.as_str());
    let mut members = vec![
        ("identityProviderConfigName", text(&*record.name)),
        ("identityProviderConfigArn", text(record.arn(cluster))),
        ("clusterName", text(&*cluster.name)),
        ("issuerUrl", text(&*record.issuer_url)),
        ("clientId", text(&*record.client_id)),
        ("requiredClaims", Member::Map(claims)),
        ("tags", tag_map(&record.tags)),
        ("status", text(status)),
    ];
    for (name, value) in [
        ("usernameClaim", &record.username_claim),
        ("usernamePrefix", &record.username_prefix),
        ("groupsClaim", &record.groups_claim),
        ("groupsPrefix", &record.groups_prefix),
    ] {
        members.extend(value.as_deref().map(|value| (name, text(value))));
    }
    let oidc = Member::Structure(vec![("oidc", Member::Structure(members))]);
    Member::Structure(vec![("identityProviderConfig", oidc)])
}
