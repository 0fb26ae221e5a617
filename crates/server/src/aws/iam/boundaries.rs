//! Permissions boundaries (IAM API spec, section 4.9).

use crate::aws::authorize::on;
use crate::aws::operation::{Answer, Operation, iam};
use crate::aws::shape::kinds::{ARN, NAME_64};
use crate::aws::shape::required;
use crate::aws::target::Target;
use countersign_store::EntityKind;

use super::{changeable, check_boundary};
use crate::aws::ApiError;
use crate::aws::operation::Call;
use crate::aws::query::Member;

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    iam(
        "PutUserPermissionsBoundary",
        &[
            required("UserName", NAME_64),
            required("PermissionsBoundary", ARN),
        ],
        on(Target::User("UserName")),
        Answer::Write(|call| Box::pin(put(call, EntityKind::User))),
    ),
    iam(
        "DeleteUserPermissionsBoundary",
        &[required("UserName", NAME_64)],
        on(Target::User("UserName")),
        Answer::Write(|call| Box::pin(delete(call, EntityKind::User))),
    ),
    iam(
        "PutRolePermissionsBoundary",
        &[
            required("RoleName", NAME_64),
            required("PermissionsBoundary", ARN),
        ],
        on(Target::Role("RoleName")),
        Answer::Write(|call| Box::pin(put(call, EntityKind::Role))),
    ),
    iam(
        "DeleteRolePermissionsBoundary",
        &[required("RoleName", NAME_64)],
        on(Target::Role("RoleName")),
        Answer::Write(|call| Box::pin(delete(call, EntityKind::Role))),
    ),
];

async fn put(call: &Call<'_>, kind: EntityKind) -> Result<Member, ApiError> {
    let entity = changeable(call, kind)?;
    let arn = call.input.required("PermissionsBoundary");
    check_boundary(call, arn)?;
    call.directory.put_boundary(entity, arn).await?;
    Ok(Member::None)
}

/// Without a boundary nothing changes, and the call succeeds.
async fn delete(call: &Call<'_>, kind: EntityKind) -> Result<Member, ApiError> {
    let entity = changeable(call, kind)?;
    call.directory.delete_boundary(entity).await?;
    Ok(Member::None)
}
