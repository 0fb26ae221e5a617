//! Service-linked roles (IAM API spec, section 4.14).

use std::collections::BTreeMap;

use countersign_store::records::{JobKind, TrustPolicy};
use countersign_store::{DirectoryError, NewRole};

use super::error::no_such;
use crate::aws::ApiError;
use crate::aws::authorize::on;
use crate::aws::operation::Call;
use crate::aws::operation::{Answer, Operation, iam};
use crate::aws::query::Member;
use crate::aws::shape::kinds::{DELETION_TASK_ID, DESCRIPTION, NAME_64, NAME_128};
use crate::aws::shape::{optional, required};
use crate::aws::target::Target;
use crate::aws::target::{Resource, iam_arn};

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    iam(
        "CreateServiceLinkedRole",
        &[
            required("AWSServiceName", NAME_128),
            optional("Description", DESCRIPTION),
            optional("CustomSuffix", NAME_64),
        ],
        on(Target::Custom(role_to_make)),
        Answer::Write(|call| Box::pin(create(call))),
    ),
    iam(
        "DeleteServiceLinkedRole",
        &[required("RoleName", NAME_64)],
        on(Target::Role("RoleName")),
        Answer::Write(|call| Box::pin(delete(call))),
    ),
    iam(
        "GetServiceLinkedRoleDeletionStatus",
        &[required("DeletionTaskId", DELETION_TASK_ID)],
        on(Target::Custom(role_of_task)),
        Answer::Read(deletion_status),
    ),
];

/// The services that have a role of their own: their principal, the role's name, and its policy.
pub(super) const SERVICES: &[(&str, &str, &str)] = &[
    (
        "eks.amazonaws.com",
        "AWSServiceRoleForAmazonEKS",
        "AmazonEKSServiceRolePolicy",
    ),
    (
        "eks-nodegroup.amazonaws.com",
        "AWSServiceRoleForAmazonEKSNodegroup",
        "AWSServiceRoleForAmazonEKSNodegroup",
    ),
    (
        "eks-fargate.amazonaws.com",
        "AWSServiceRoleForAmazonEKSForFargate",
        "AmazonEKSForFargateServiceRolePolicy",
    ),
    (
        "eks-connector.amazonaws.com",
        "AWSServiceRoleForAmazonEKSConnector",
        "AmazonEKSConnectorServiceRolePolicy",
    ),
    (
        "autoscaling.amazonaws.com",
        "AWSServiceRoleForAutoScaling",
        "AutoScalingServiceRolePolicy",
    ),
    (
        "elasticloadbalancing.amazonaws.com",
        "AWSServiceRoleForElasticLoadBalancing",
        "AWSElasticLoadBalancingServiceRolePolicy",
    ),
    (
        "sso.amazonaws.com",
        "AWSServiceRoleForSSO",
        "AWSSSOServiceRolePolicy",
    ),
];

/// The ARN of the role that a call makes, so that policies can allow it by name. For a service that is not known the
/// name ends where the service's part would begin.
fn role_to_make(call: &Call<'_>) -> Result<Resource, ApiError> {
    let service = call.input.required("AWSServiceName");
    let name = SERVICES
        .iter()
        .find(|(known, ..)| *known == service)
        .map_or("AWSServiceRoleFor", |(_, name, _)| name);
    let suffix = call
        .input
        .text("CustomSuffix")
        .map_or(String::new(), |suffix| format!("_{suffix}"));
    let resource = format!("role/aws-service-role/{service}/{name}{suffix}");
    Ok(Resource::named(iam_arn(call, call.account()?, &resource)))
}

/// The role that a deletion task `task/aws-service-role/SERVICE/ROLE/UUID` is about.
fn role_of_task(call: &Call<'_>) -> Result<Resource, ApiError> {
    let task = call.input.required("DeletionTaskId");
    let role = task
        .strip_prefix("task/")
        .and_then(|rest| rest.rsplit_once('/'))
        .map_or(task, |(role, _)| role);
    Ok(Resource::named(iam_arn(
        call,
        call.account()?,
        &format!("role/{role}"),
    )))
}

async fn create(call: &Call<'_>) -> Result<Member, ApiError> {
    let input = &call.input;
    let asked = input.required("AWSServiceName");
    let Some((service, role, policy)) = SERVICES.iter().find(|(known, ..)| *known == asked) else {
        return Err(super::invalid_input(format!(
            "{asked} has no service-linked role."
        )));
    };
    let name = match input.text("CustomSuffix") {
        None => (*role).to_owned(),
        Some(suffix) if WITH_SUFFIX.contains(service) => format!("{role}_{suffix}"),
        Some(_) => {
            return Err(super::invalid_input(format!(
                "Custom suffix is not allowed for {service}"
            )));
        }
    };
    let trust = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"Service":["{service}"]}},"Action":["sts:AssumeRole"]}}]}}"#
    );
    let new = NewRole {
        account: call.account()?,
        name: name.as_str().into(),
        path: format!("/aws-service-role/{service}/").into(),
        trust: TrustPolicy {
            document: trust.into(),
            principals: Vec::new(),
        },
        max_session_duration: 3600,
        description: input
            .text("Description")
            .filter(|text| !text.is_empty())
            .map(Into::into),
        tags: Vec::new(),
        boundary: None,
    };
    let policy = format!(
        "arn:{}:iam::aws:policy/aws-service-role/{policy}",
        call.partition()
    );
    let role = call
        .directory
        .create_service_linked_role(new, &policy, call.now)
        .await
        .map_err(|error| match error {
            DirectoryError::RoleExists(name) => super::invalid_input(format!(
                "Service role name {name} has been taken in this account, please try a different suffix."
            )),
            other => other.into(),
        })?;
    Ok(Member::Structure(vec![(
        "Role",
        Member::Structure(super::roles::created(call, &role)),
    )]))
}

async fn delete(call: &Call<'_>) -> Result<Member, ApiError> {
    let by = call.caller()?.identity().user_id();
    let task = call
        .directory
        .delete_service_linked_role(
            call.account()?,
            call.input.required("RoleName"),
            by,
            call.now,
        )
        .await?;
    Ok(Member::Structure(vec![(
        "DeletionTaskId",
        Member::Text(task.into()),
    )]))
}

fn deletion_status(call: &Call<'_>) -> Result<Member, ApiError> {
    let id = call.input.required("DeletionTaskId");
    let job = call.snapshot.job(call.account()?, id);
    let Some(JobKind::ServiceLinkedRoleDeletion { failed, .. }) = job.map(|job| &job.record.kind)
    else {
        return Err(no_such(format!(
            "The deletion task with id {id} cannot be found."
        )));
    };
    let Some(failure) = failed else {
        return Ok(Member::Structure(vec![(
            "Status",
            Member::Text("SUCCEEDED".to_owned()),
        )]));
    };
    let mut by_region: BTreeMap<&str, Vec<Member>> = BTreeMap::new();
    for (region, resource) in &failure.resources {
        let resources = by_region.entry(region).or_default();
        resources.push(Member::Text(resource.to_string()));
    }
    let usage = by_region.into_iter().map(|(region, resources)| {
        Member::Structure(vec![
            ("Region", Member::Text(region.to_owned())),
            ("Resources", Member::List(resources)),
        ])
    });
    Ok(Member::Structure(vec![
        ("Status", Member::Text("FAILED".to_owned())),
        (
            "Reason",
            Member::Structure(vec![
                ("Reason", Member::Text(failure.reason.to_string())),
                ("RoleUsageList", Member::List(usage.collect())),
            ]),
        ),
    ]))
}

/// The services that have as many roles as they have suffixes.
const WITH_SUFFIX: &[&str] = &["autoscaling.amazonaws.com"];
