//! Service-linked roles (IAM API spec, section 4.14).

use crate::aws::ApiError;
use crate::aws::authorize::{creates, on};
use crate::aws::operation::Call;
use crate::aws::operation::{Answer, Operation, iam};
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
        creates(Target::Custom(role_to_make)),
        Answer::NotOffered,
    ),
    iam(
        "DeleteServiceLinkedRole",
        &[required("RoleName", NAME_64)],
        on(Target::Role("RoleName")),
        Answer::NotOffered,
    ),
    iam(
        "GetServiceLinkedRoleDeletionStatus",
        &[required("DeletionTaskId", DELETION_TASK_ID)],
        on(Target::Custom(role_of_task)),
        Answer::NotOffered,
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
