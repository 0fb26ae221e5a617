//! Access keys (IAM API spec, section 4.2).

use crate::aws::authorize::on;
use crate::aws::operation::{Answer, Operation, iam};
use crate::aws::shape::kinds::{ACCESS_KEY_ID, KEY_STATUS, MARKER, MAX_ITEMS, NAME_128};
use crate::aws::shape::{optional, required};
use crate::aws::target::Target;
use countersign_store::AccessKeyMetadata;
use countersign_store::records::AccessKeyStatus;

use super::error::no_such_user;
use crate::aws::ApiError;
use crate::aws::operation::Call;
use crate::aws::page::PageRequest;
use crate::aws::query::Member;

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    iam(
        "CreateAccessKey",
        &[optional("UserName", NAME_128)],
        on(Target::User("UserName")),
        Answer::Write(|call| Box::pin(create_access_key(call))),
    ),
    iam(
        "ListAccessKeys",
        &[
            optional("UserName", NAME_128),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::User("UserName")),
        Answer::Read(list_access_keys),
    ),
    iam(
        "UpdateAccessKey",
        &[
            optional("UserName", NAME_128),
            required("AccessKeyId", ACCESS_KEY_ID),
            required("Status", KEY_STATUS),
        ],
        on(Target::User("UserName")),
        Answer::Write(|call| Box::pin(update_access_key(call))),
    ),
    iam(
        "DeleteAccessKey",
        &[
            optional("UserName", NAME_128),
            required("AccessKeyId", ACCESS_KEY_ID),
        ],
        on(Target::User("UserName")),
        Answer::Write(|call| Box::pin(delete_access_key(call))),
    ),
    iam(
        "GetAccessKeyLastUsed",
        &[required("AccessKeyId", ACCESS_KEY_ID)],
        on(Target::AccessKey("AccessKeyId")),
        Answer::Read(get_access_key_last_used),
    ),
];

async fn create_access_key(call: &Call<'_>) -> Result<Member, ApiError> {
    let created = call
        .directory
        .create_access_key(call.account()?, call.user_name()?, call.now)
        .await?;
    let mut members = metadata(&created.metadata);
    members.insert(
        members.len().saturating_sub(1),
        (
            "SecretAccessKey",
            Member::Text(created.secret.expose().to_owned()),
        ),
    );
    Ok(Member::Structure(vec![(
        "AccessKey",
        Member::Structure(members),
    )]))
}

fn list_access_keys(call: &Call<'_>) -> Result<Member, ApiError> {
    let name = call.user_name()?;
    let user = call
        .snapshot
        .user(call.account()?, name)
        .ok_or_else(|| no_such_user(name))?;
    let keys = call.snapshot.access_keys_of(user);
    let page = PageRequest::of(call)?.positions(call, keys)?;
    Ok(page.answer("AccessKeyMetadata", |key| {
        Member::Structure(metadata(&AccessKeyMetadata {
            id: (*key.id).into(),
            user_name: user.record.name.clone(),
            status: key.status,
            created: key.created,
        }))
    }))
}

async fn update_access_key(call: &Call<'_>) -> Result<Member, ApiError> {
    let status = match call.input.required("Status") {
        "Active" => AccessKeyStatus::Active,
        "Inactive" => AccessKeyStatus::Inactive,
        // In the service model, and only AWS itself sets it.
        other => {
            return Err(ApiError::new(
                400,
                "InvalidInput",
                format!("The status {other} cannot be set."),
            ));
        }
    };
    call.directory
        .set_access_key_status(
            call.account()?,
            call.user_name()?,
            call.input.required("AccessKeyId"),
            status,
        )
        .await?;
    Ok(Member::None)
}

async fn delete_access_key(call: &Call<'_>) -> Result<Member, ApiError> {
    call.directory
        .delete_access_key(
            call.account()?,
            call.user_name()?,
            call.input.required("AccessKeyId"),
        )
        .await?;
    Ok(Member::None)
}

/// Whose key it is was looked up when the call was authorized: an unknown one does not come here.
fn get_access_key_last_used(call: &Call<'_>) -> Result<Member, ApiError> {
    let id = call.input.required("AccessKeyId");
    let name = call
        .snapshot
        .access_key(id)
        .and_then(|found| found.owner.user())
        .map(|user| user.record.name.to_string());
    let used = call.last_used(id);
    let used = used.as_ref().and_then(|used| used.latest());
    let last = match used {
        Some((service, last)) => vec![
            ("LastUsedDate", Member::Time(last.at)),
            ("ServiceName", Member::Text(service.to_owned())),
            ("Region", Member::Text(last.region.to_string())),
        ],
        None => vec![
            ("ServiceName", Member::Text("N/A".to_owned())),
            ("Region", Member::Text("N/A".to_owned())),
        ],
    };
    let mut members: Vec<_> = name
        .map(|name| ("UserName", Member::Text(name)))
        .into_iter()
        .collect();
    members.push(("AccessKeyLastUsed", Member::Structure(last)));
    Ok(Member::Structure(members))
}

fn metadata(key: &AccessKeyMetadata) -> Vec<(&'static str, Member)> {
    vec![
        ("UserName", Member::Text(key.user_name.to_string())),
        ("AccessKeyId", Member::Text(key.id.to_string())),
        ("Status", Member::Text(key.status.as_str().to_owned())),
        ("CreateDate", Member::Time(key.created)),
    ]
}
