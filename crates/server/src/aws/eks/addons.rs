//! Add-ons (EKS API spec, section 14).
//!
//! Left open by the specification, and decided here: an add-on is a record, and this server installs nothing, so that it is
//! `ACTIVE` and the agent's says with `ClusterUnreachable` what has to be done; deleting one deletes the pod identity
//! associations that it owns, also with `preserve`; a role for a service account of an add-on is given one way, by
//! `serviceAccountRoleArn` or by `podIdentityAssociations`, not both; an update needs something to change.

use countersign_store::records::{Addon, Cluster, ClusterStatus, ClusterUpdate, UpdateStatus};
use countersign_store::{
    AddonAssociation, AddonChange, AddonEntry, ClusterEntry, NewAddon, UpdateParams,
};
use serde_json::json;

use super::addon_catalogue::{ADDONS, AGENT, CatalogueAddon, kubernetes_versions};
use super::clusters::{DEFAULT_VERSION, version};
use super::describe::{tag_map, text, update_member};
use super::error::{no_such_addon, worded};
use super::idempotency::{answered, kept, once, token};
use super::pod_identity::{check_own_role, check_trust, may_pass};
use super::{
    NO_UUID, arn, check_tags, cluster, cluster_name, cluster_resource, existing_cluster, invalid,
    open_cluster, place,
};
use crate::aws::ApiError;
use crate::aws::authorize::{ask, on};
use crate::aws::operation::{Answer, Call, Operation, eks};
use crate::aws::page::PageRequest;
use crate::aws::query::Member;
use crate::aws::shape::eks_kinds::{
    ADDON_ASSOCIATIONS, CLIENT_TOKEN, CLUSTER_NAME, MAX_RESULTS, NAMESPACE_CONFIG, NEXT_TOKEN,
    RESOLVE_CONFLICTS, ROLE_ARN, TAGS, TEXT, TEXTS,
};
use crate::aws::shape::{Kind, Parameter, Value, in_query, label, optional, required};
use crate::aws::target::{Resource, Target, by_arn};

const CLUSTER: Parameter = label("clusterName", "name", CLUSTER_NAME);
const ADDON: Parameter = label("addonName", "addonName", TEXT);
/// Who gets the role of `serviceAccountRoleArn`.
const SERVICE: &str = "eks.amazonaws.com";
/// Bytes of `configurationValues`; far more than any add-on of EKS takes.
const MAX_VALUES_BYTES: usize = 64 << 10;
/// What all add-ons have in common.
const PUBLISHER: &str = "eks";
const OWNER: &str = "aws";

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    eks(
        "CreateAddon",
        ("POST", "/clusters/{name}/addons"),
        &[
            CLUSTER,
            required("addonName", TEXT),
            optional("addonVersion", TEXT),
            optional("serviceAccountRoleArn", ROLE_ARN),
            optional("resolveConflicts", RESOLVE_CONFLICTS),
            CLIENT_TOKEN,
            optional("tags", TAGS),
            optional("configurationValues", TEXT),
            optional("podIdentityAssociations", ADDON_ASSOCIATIONS),
            optional("namespaceConfig", NAMESPACE_CONFIG),
        ],
        on(Target::Custom(cluster_resource)).and(may_create),
        Answer::Write(|call| Box::pin(create_addon(call))),
    ),
    eks(
        "DescribeAddon",
        ("GET", "/clusters/{name}/addons/{addonName}"),
        &[CLUSTER, ADDON],
        on(Target::Custom(addon_resource)),
        Answer::Read(describe_addon),
    ),
    eks(
        "ListAddons",
        ("GET", "/clusters/{name}/addons"),
        &[CLUSTER, MAX_RESULTS, NEXT_TOKEN],
        on(Target::Custom(cluster_resource)),
        Answer::Read(list_addons),
    ),
    eks(
        "UpdateAddon",
        ("POST", "/clusters/{name}/addons/{addonName}/update"),
        &[
            CLUSTER,
            ADDON,
            optional("addonVersion", TEXT),
            optional("serviceAccountRoleArn", ROLE_ARN),
            optional("resolveConflicts", RESOLVE_CONFLICTS),
            CLIENT_TOKEN,
            optional("configurationValues", TEXT),
            optional("podIdentityAssociations", ADDON_ASSOCIATIONS),
        ],
        on(Target::Custom(addon_resource)).and(may_give_roles),
        Answer::Write(|call| Box::pin(update_addon(call))),
    ),
    eks(
        "DeleteAddon",
        ("DELETE", "/clusters/{name}/addons/{addonName}"),
        &[CLUSTER, ADDON, in_query("preserve", Kind::Boolean)],
        on(Target::Custom(addon_resource)),
        Answer::Write(|call| Box::pin(delete_addon(call))),
    ),
    eks(
        "DescribeAddonVersions",
        ("GET", "/addons/supported-versions"),
        &[
            in_query("kubernetesVersion", TEXT),
            MAX_RESULTS,
            NEXT_TOKEN,
            in_query("addonName", TEXT),
            in_query("types", TEXTS),
            in_query("publishers", TEXTS),
            in_query("owners", TEXTS),
        ],
        on(Target::Any),
        Answer::Read(describe_addon_versions),
    ),
    eks(
        "DescribeAddonConfiguration",
        ("GET", "/addons/configuration-schemas"),
        &[
            in_query("addonName", TEXT).needed(),
            in_query("addonVersion", TEXT).needed(),
        ],
        on(Target::Any),
        Answer::Read(describe_addon_configuration),
    ),
];

// === Permission ===

/// The add-on of a call as policies see it, whether it is there or not (section 15.1).
fn addon_resource(call: &Call<'_>) -> Result<Resource, ApiError> {
    let name = call.input.required("addonName");
    if let Some(cluster) = existing_cluster(call)?
        && let Some(addon) = existing(call, cluster, name)
    {
        let record = &addon.record;
        return Ok(Resource::tagged(record.arn(&cluster.record), &record.tags));
    }
    absent(call, name)
}

fn absent(call: &Call<'_>, name: &str) -> Result<Resource, ApiError> {
    let cluster = cluster_name(call);
    arn(call, &format!("addon/{cluster}/{name}/{NO_UUID}")).map(Resource::named)
}

/// Tags and roles need more than the action itself (section 15.2).
fn may_create(call: &Call<'_>) -> Result<(), ApiError> {
    if !call.input.request_tags().is_empty() {
        let addon = absent(call, call.input.required("addonName"))?;
        ask(call, "eks:TagResource", &addon, None)?;
    }
    may_give_roles(call)
}

/// Roles are handed to who gets them, and associations are made on the cluster. A role of another account is refused for
/// that, whoever asks; nobody is asked for what is no role.
fn may_give_roles(call: &Call<'_>) -> Result<(), ApiError> {
    if let Some(role) = call.input.text("serviceAccountRoleArn") {
        check_own_role(call, role)?;
        ask(call, "iam:PassRole", &by_arn(call, role)?, Some(SERVICE))?;
    }
    let asked = call.input.list("podIdentityAssociations");
    if !asked.is_empty() {
        let cluster = cluster_resource(call)?;
        ask(call, "eks:CreatePodIdentityAssociation", &cluster, None)?;
    }
    for one in asked {
        let role = one.member("roleArn").unwrap_or_default();
        check_own_role(call, role)?;
        may_pass(call, role)?;
    }
    Ok(())
}

// === Operations ===

async fn create_addon(call: &Call<'_>) -> Result<Member, ApiError> {
    let input = &call.input;
    let token = token(call)?;
    let known = in_catalogue(input.required("addonName"))?;
    let version = checked_version(known, input.text("addonVersion"))?;
    check_values(input.text("configurationValues"))?;
    let namespace = input
        .get("namespaceConfig")
        .and_then(|config| config.member("namespace"));
    let associations = associations(call, known, namespace.unwrap_or(known.namespace))?;
    let role = input.text("serviceAccountRoleArn");
    check_one_way(role, associations.as_deref())?;
    let tags = check_tags(input.tags("tags"))?;
    let cluster = open_cluster(call)?;
    check_roles(call, associations.as_deref())?;
    let new = NewAddon {
        name: known.name.into(),
        version: version.unwrap_or(known.version()).into(),
        service_account_role_arn: role.map(Into::into),
        configuration_values: input.text("configurationValues").map(Into::into),
        namespace: namespace.map(Into::into),
        associations: associations.unwrap_or_default(),
        tags,
    };
    // The associations that are made have no ids before the call is done; the next describe tells their ARNs.
    let answer = |addon: &Addon| one(call, &cluster.record, addon, ClusterStatus::Creating);
    let keep = |addon: &Addon| kept(&answer(addon));
    let once = once(token.as_ref(), &keep);
    let outcome = call
        .directory
        .create_addon(
            place(call)?,
            new,
            call.eks.settling,
            once.as_ref(),
            call.now,
        )
        .await
        .map_err(worded)?;
    answered(outcome, answer)
}

fn describe_addon(call: &Call<'_>) -> Result<Member, ApiError> {
    let cluster = cluster(call)?;
    let addon = found(call, cluster)?;
    let status = addon.record.status(call.now);
    Ok(one(
        call,
        &cluster.record,
        &addon.record,
        status.unwrap_or(ClusterStatus::Deleting),
    ))
}

fn list_addons(call: &Call<'_>) -> Result<Member, ApiError> {
    let cluster = cluster(call)?;
    let page = PageRequest::of(call)?;
    let addons = call
        .snapshot
        .addons(&cluster.record.id, page.after())
        .map(|addon| &addon.record)
        .filter(|record| record.status(call.now).is_some());
    let page = page.page(call, addons, |last| last.name.to_string())?;
    Ok(Member::Structure(
        page.with_token("addons", |record| text(&*record.name)),
    ))
}

async fn update_addon(call: &Call<'_>) -> Result<Member, ApiError> {
    let input = &call.input;
    let token = token(call)?;
    let name = input.required("addonName");
    let known = CatalogueAddon::of(name);
    if let Some(known) = known {
        checked_version(known, input.text("addonVersion"))?;
    }
    check_values(input.text("configurationValues"))?;
    let params = params(call);
    if params.is_empty() {
        return Err(invalid(
            "At least one of addonVersion, serviceAccountRoleArn, resolveConflicts, configurationValues and podIdentityAssociations must be given",
        ));
    }
    let cluster = open_cluster(call)?;
    let addon = found(call, cluster)?;
    let known = known.ok_or_else(|| no_such_addon(&cluster.record.name, name))?;
    let namespace = addon.record.namespace.as_deref().unwrap_or(known.namespace);
    let associations = associations(call, known, namespace)?;
    let role = input.text("serviceAccountRoleArn");
    check_one_way(
        role.or(addon.record.service_account_role_arn.as_deref()),
        associations.as_deref(),
    )?;
    if role.is_some() && associations.is_none() && owns_associations(call, cluster, addon) {
        return Err(two_ways());
    }
    check_roles(call, associations.as_deref())?;
    let change = AddonChange {
        version: input.text("addonVersion").map(Into::into),
        service_account_role_arn: role.map(Into::into),
        configuration_values: input.text("configurationValues").map(Into::into),
        associations,
        params,
    };
    let answer = |update: &ClusterUpdate| update_member(update, UpdateStatus::InProgress);
    let keep = |update: &ClusterUpdate| kept(&answer(update));
    let once = once(token.as_ref(), &keep);
    let (place, settling) = (place(call)?, call.eks.settling);
    let outcome = call
        .directory
        .update_addon(place, name, &change, settling, once.as_ref(), call.now)
        .await
        .map_err(worded)?;
    answered(outcome, answer)
}

async fn delete_addon(call: &Call<'_>) -> Result<Member, ApiError> {
    let cluster = open_cluster(call)?;
    let addon = found(call, cluster)?;
    let deleted = call
        .directory
        .delete_addon(
            place(call)?,
            &addon.record.name,
            call.eks.settling,
            call.now,
        )
        .await
        .map_err(worded)?;
    Ok(one(
        call,
        &cluster.record,
        &deleted,
        ClusterStatus::Deleting,
    ))
}

/// What an add-on goes with is the Kubernetes version that was asked for, whatever it is: nothing is installed.
fn describe_addon_versions(call: &Call<'_>) -> Result<Member, ApiError> {
    let input = &call.input;
    let versions = match input.text("kubernetesVersion") {
        Some(asked) => vec![version(asked)?.to_owned()],
        None => kubernetes_versions(DEFAULT_VERSION),
    };
    let name = input.text("addonName");
    let among = |parameter: &str, value: &str| {
        let asked = input.texts(parameter);
        asked.is_empty() || asked.contains(&value)
    };
    let page = PageRequest::of(call)?;
    let after = page.after();
    let addons = ADDONS.iter().filter(|addon| {
        name.is_none_or(|name| addon.name == name)
            && among("types", addon.kind)
            && among("publishers", PUBLISHER)
            && among("owners", OWNER)
            && after.is_none_or(|after| addon.name > after)
    });
    let page = page.page(call, addons, |last| last.name.to_owned())?;
    Ok(Member::Structure(
        page.with_token("addons", |addon| info(addon, &versions)),
    ))
}

fn describe_addon_configuration(call: &Call<'_>) -> Result<Member, ApiError> {
    let known = in_catalogue(call.input.required("addonName"))?;
    let version = call.input.required("addonVersion");
    checked_version(known, Some(version))?;
    let accounts = known.service_accounts.iter().map(|(account, policies)| {
        let policies = policies.iter().map(|policy| text(*policy)).collect();
        Member::Structure(vec![
            ("serviceAccount", text(*account)),
            ("recommendedManagedPolicies", Member::List(policies)),
        ])
    });
    Ok(Member::Structure(vec![
        ("addonName", text(known.name)),
        ("addonVersion", text(version)),
        ("configurationSchema", text(known.schema())),
        ("podIdentityConfiguration", Member::List(accounts.collect())),
    ]))
}

// === Checks ===

fn existing<'c>(call: &'c Call<'_>, cluster: &ClusterEntry, name: &str) -> Option<&'c AddonEntry> {
    call.snapshot
        .addon(&cluster.record.id, name)
        .map(AsRef::as_ref)
        .filter(|addon| addon.record.status(call.now).is_some())
}

/// The add-on that a call names.
///
/// # Errors
/// `ResourceNotFoundException`, by which eksctl decides whether to install the agent.
fn found<'c>(call: &'c Call<'_>, cluster: &ClusterEntry) -> Result<&'c AddonEntry, ApiError> {
    let name = call.input.required("addonName");
    existing(call, cluster, name).ok_or_else(|| no_such_addon(&cluster.record.name, name))
}

fn in_catalogue(name: &str) -> Result<&'static CatalogueAddon, ApiError> {
    CatalogueAddon::of(name).ok_or_else(|| {
        let known: Vec<&str> = ADDONS.iter().map(|addon| addon.name).collect();
        let shown: String = name.chars().take(100).collect();
        invalid(format!(
            "Addon {shown} specified is not supported. There are: {}.",
            known.join(", ")
        ))
    })
}

fn checked_version<'v>(
    addon: &CatalogueAddon,
    version: Option<&'v str>,
) -> Result<Option<&'v str>, ApiError> {
    match version {
        Some(version) if !addon.takes(version) => {
            let text = "Addon version specified is not supported";
            Err(invalid(if addon.name == AGENT {
                format!("{text}. The agent of this server is {}.", addon.version())
            } else {
                format!("{text}. A version is vX.Y.Z-eksbuild.N.")
            }))
        }
        version => Ok(version),
    }
}

/// JSON or YAML text of an object; an empty text is none.
fn check_values(values: Option<&str>) -> Result<(), ApiError> {
    let Some(values) = values.filter(|values| !values.trim().is_empty()) else {
        return Ok(());
    };
    if values.len() > MAX_VALUES_BYTES {
        return Err(invalid(format!(
            "ConfigurationValue provided in request is longer than {MAX_VALUES_BYTES} bytes"
        )));
    }
    // JSON is YAML, but for what only a reader of JSON says well.
    let object = if values.trim_start().starts_with('{') {
        serde_json::from_str::<serde_json::Value>(values).is_ok_and(|value| value.is_object())
    } else {
        serde_saphyr::from_str::<serde_json::Value>(values).is_ok_and(|value| value.is_object())
    };
    if object {
        Ok(())
    } else {
        Err(invalid(
            "ConfigurationValue provided in request is not supported: it is no JSON or YAML of an object",
        ))
    }
}

/// The associations that were asked for; nothing when the parameter was left out.
fn associations(
    call: &Call<'_>,
    addon: &CatalogueAddon,
    namespace: &str,
) -> Result<Option<Vec<AddonAssociation>>, ApiError> {
    let Some(Value::List(asked)) = call.input.get("podIdentityAssociations") else {
        return Ok(None);
    };
    let mut associations: Vec<AddonAssociation> = Vec::new();
    for one in asked {
        let account = one.member("serviceAccount").unwrap_or_default();
        let shown: String = account.chars().take(253).collect();
        if !addon
            .service_accounts
            .iter()
            .any(|(known, _)| *known == account)
        {
            return Err(invalid(format!(
                "The service account {shown} is not one of the addon {}",
                addon.name
            )));
        }
        if associations
            .iter()
            .any(|known| *known.service_account == *account)
        {
            return Err(invalid(format!(
                "The service account {shown} has more than one pod identity association"
            )));
        }
        associations.push(AddonAssociation {
            namespace: namespace.into(),
            service_account: account.into(),
            role_arn: one.member("roleArn").unwrap_or_default().into(),
        });
    }
    Ok(Some(associations))
}

fn check_one_way(
    role: Option<&str>,
    associations: Option<&[AddonAssociation]>,
) -> Result<(), ApiError> {
    if role.is_some() && associations.is_some_and(|all| !all.is_empty()) {
        return Err(two_ways());
    }
    Ok(())
}

fn two_ways() -> ApiError {
    invalid(
        "The service account of the addon cannot have both serviceAccountRoleArn and podIdentityAssociations",
    )
}

fn owns_associations(call: &Call<'_>, cluster: &ClusterEntry, addon: &AddonEntry) -> bool {
    let owner = addon.record.arn(&cluster.record);
    call.snapshot
        .pod_identity_associations_of(&cluster.record.id, &owner)
        .next()
        .is_some()
}

fn check_roles(call: &Call<'_>, associations: Option<&[AddonAssociation]>) -> Result<(), ApiError> {
    associations
        .unwrap_or_default()
        .iter()
        .try_for_each(|association| check_trust(call, &association.role_arn).map(drop))
}

/// What an update says of itself: what was sent.
fn params(call: &Call<'_>) -> UpdateParams {
    let input = &call.input;
    let mut params = UpdateParams::new();
    for (kind, parameter) in [
        ("AddonVersion", "addonVersion"),
        ("ServiceAccountRoleArn", "serviceAccountRoleArn"),
        ("ResolveConflicts", "resolveConflicts"),
        ("ConfigurationValues", "configurationValues"),
    ] {
        params.extend(
            input
                .text(parameter)
                .map(|value| (kind.into(), value.into())),
        );
    }
    if let Some(Value::List(asked)) = input.get("podIdentityAssociations") {
        let member = |one: &Value<'_>, name| one.member(name).unwrap_or_default().to_owned();
        let asked: Vec<serde_json::Value> = asked
            .iter()
            .map(|one| {
                json!({
                    "serviceAccount": member(one, "serviceAccount"),
                    "roleArn": member(one, "roleArn"),
                })
            })
            .collect();
        let value = serde_json::Value::from(asked).to_string();
        params.push(("PodIdentityAssociations".into(), value.into()));
    }
    params
}

// === Answers ===

fn one(call: &Call<'_>, cluster: &Cluster, addon: &Addon, status: ClusterStatus) -> Member {
    let arn = addon.arn(cluster);
    let known = CatalogueAddon::of(&addon.name);
    let owned = call
        .snapshot
        .pod_identity_associations_of(&cluster.id, &arn)
        .map(|owned| text(owned.record.arn(cluster)))
        .collect();
    let namespace = addon
        .namespace
        .as_deref()
        .or_else(|| known.map(|known| known.namespace))
        .unwrap_or_default();
    let mut members = vec![
        ("addonName", text(&*addon.name)),
        ("clusterName", text(&*cluster.name)),
        ("status", text(status.as_str())),
        ("addonVersion", text(&*addon.version)),
        (
            "health",
            Member::Structure(vec![("issues", Member::List(issues(cluster, addon)))]),
        ),
        ("addonArn", text(arn)),
        ("createdAt", Member::Time(addon.created)),
        ("modifiedAt", Member::Time(addon.modified)),
        ("tags", tag_map(&addon.tags)),
        ("publisher", text(PUBLISHER)),
        ("owner", text(OWNER)),
        ("podIdentityAssociations", Member::List(owned)),
        (
            "namespaceConfig",
            Member::Structure(vec![("namespace", text(namespace))]),
        ),
    ];
    for (name, value) in [
        ("serviceAccountRoleArn", &addon.service_account_role_arn),
        ("configurationValues", &addon.configuration_values),
    ] {
        members.extend(value.as_deref().map(|value| (name, text(value))));
    }
    Member::Structure(vec![("addon", Member::Structure(members))])
}

/// The agent has to be installed by somebody else; the other add-ons are somebody else's altogether.
fn issues(cluster: &Cluster, addon: &Addon) -> Vec<Member> {
    if *addon.name != *AGENT {
        return Vec::new();
    }
    vec![Member::Structure(vec![
        ("code", text("ClusterUnreachable")),
        (
            "message",
            text(format!(
                "This server has no rights in the cluster {name} to install the agent. Run: countersign agent manifest -c {name} --region {} --image IMAGE | kubectl apply -f -",
                cluster.region,
                name = cluster.name,
            )),
        ),
        ("resourceIds", Member::List(Vec::new())),
    ])]
}

fn info(addon: &CatalogueAddon, versions: &[String]) -> Member {
    let compatible = versions.iter().map(|version| {
        Member::Structure(vec![
            ("clusterVersion", text(version.as_str())),
            ("platformVersions", Member::List(vec![text("*")])),
            ("defaultVersion", Member::Bool(true)),
        ])
    });
    let version = Member::Structure(vec![
        ("addonVersion", text(addon.version())),
        (
            "architecture",
            Member::List(vec![text("amd64"), text("arm64")]),
        ),
        ("computeTypes", Member::List(vec![text("ec2")])),
        ("compatibilities", Member::List(compatible.collect())),
        ("requiresConfiguration", Member::Bool(false)),
        (
            "requiresIamPermissions",
            Member::Bool(!addon.service_accounts.is_empty()),
        ),
    ]);
    Member::Structure(vec![
        ("addonName", text(addon.name)),
        ("type", text(addon.kind)),
        ("addonVersions", Member::List(vec![version])),
        ("publisher", text(PUBLISHER)),
        ("owner", text(OWNER)),
        ("defaultNamespace", text(addon.namespace)),
    ])
}
