//! Users (IAM API spec, section 4.1).

use crate::aws::authorize::{creates, on};
use crate::aws::operation::{Answer, Operation, iam};
use crate::aws::shape::kinds::{
    ARN, MARKER, MAX_ITEMS, NAME_64, NAME_128, PATH, PATH_PREFIX, TAGS,
};
use crate::aws::shape::{optional, required};
use crate::aws::target::Target;
use countersign_arn::CallerKind;
use countersign_store::records::User;
use countersign_store::{NewUser, UserChange};

use super::error::no_such_user;
use super::{new_tags, tag_list};
use crate::aws::ApiError;
use crate::aws::operation::Call;
use crate::aws::page::PageRequest;
use crate::aws::query::Member;

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    iam(
        "CreateUser",
        &[
            optional("Path", PATH),
            required("UserName", NAME_64),
            optional("PermissionsBoundary", ARN),
            optional("Tags", TAGS),
        ],
        creates(Target::User("UserName")).tagging("iam:TagUser"),
        Answer::Write(|call| Box::pin(create_user(call))),
    ),
    iam(
        "GetUser",
        &[optional("UserName", NAME_128)],
        on(Target::User("UserName")),
        Answer::Read(get_user),
    ),
    iam(
        "ListUsers",
        &[
            optional("PathPrefix", PATH_PREFIX),
            optional("Marker", MARKER),
            optional("MaxItems", MAX_ITEMS),
        ],
        on(Target::Any),
        Answer::Read(list_users),
    ),
    iam(
        "UpdateUser",
        &[
            required("UserName", NAME_128),
            optional("NewPath", PATH),
            optional("NewUserName", NAME_64),
        ],
        on(Target::User("UserName")),
        Answer::Write(|call| Box::pin(update_user(call))),
    ),
    iam(
        "DeleteUser",
        &[required("UserName", NAME_128)],
        on(Target::User("UserName")),
        Answer::Write(|call| Box::pin(delete_user(call))),
    ),
];

async fn create_user(call: &Call<'_>) -> Result<Member, ApiError> {
    let input = &call.input;
    if let Some(boundary) = input.text("PermissionsBoundary") {
        super::check_boundary(call, boundary)?;
    }
    let new = NewUser {
        account: call.account()?,
        name: input.required("UserName").into(),
        path: input.text("Path").unwrap_or("/").into(),
        tags: new_tags(call)?,
    };
    let boundary = input.text("PermissionsBoundary").map(Into::into);
    let user = call
        .directory
        .create_bounded_user(new, boundary, call.now)
        .await?;
    Ok(Member::Structure(vec![("User", user_detail(&user))]))
}

fn get_user(call: &Call<'_>) -> Result<Member, ApiError> {
    let caller = call.caller()?.identity();
    if call.input.text("UserName").is_none() && caller.caller().kind() == CallerKind::Root {
        let account = call
            .snapshot
            .account(caller.account())
            .ok_or_else(crate::aws::internal_failure)?;
        // The root user has neither a name nor a path; AWS fills the path all the same.
        return Ok(Member::Structure(vec![(
            "User",
            Member::Structure(vec![
                ("UserId", Member::Text(caller.account().to_string())),
                ("Arn", Member::Text(caller.arn().to_owned())),
                ("CreateDate", Member::Time(account.record.created)),
            ]),
        )]));
    }
    let name = call.user_name()?;
    let user = call
        .snapshot
        .user(call.account()?, name)
        .ok_or_else(|| no_such_user(name))?;
    let mut members = listed(call, &user.record);
    members.extend(detail(&user.record));
    Ok(Member::Structure(vec![(
        "User",
        Member::Structure(members),
    )]))
}

fn list_users(call: &Call<'_>) -> Result<Member, ApiError> {
    let page = PageRequest::of(call)?;
    let prefix = call.input.text("PathPrefix").unwrap_or("/");
    let users = call
        .snapshot
        .users(call.account()?, page.after())
        .filter(|user| user.record.path.starts_with(prefix));
    let page = page.page(call, users, |user| user.record.name.to_string())?;
    Ok(page.answer("Users", |user| {
        Member::Structure(listed(call, &user.record))
    }))
}

async fn update_user(call: &Call<'_>) -> Result<Member, ApiError> {
    let input = &call.input;
    let change = UserChange {
        name: input.text("NewUserName").map(Into::into),
        path: input.text("NewPath").map(Into::into),
    };
    call.directory
        .update_user(call.account()?, input.required("UserName"), change)
        .await?;
    Ok(Member::None)
}

async fn delete_user(call: &Call<'_>) -> Result<Member, ApiError> {
    call.directory
        .delete_user(call.account()?, call.input.required("UserName"))
        .await?;
    Ok(Member::None)
}

/// A user as lists have it: without tags and boundary.
pub(super) fn basic(user: &User) -> Vec<(&'static str, Member)> {
    vec![
        ("Path", Member::Text(user.path.to_string())),
        ("UserName", Member::Text(user.name.to_string())),
        ("UserId", Member::Text(user.id.to_string())),
        ("Arn", Member::Text(user.arn())),
        ("CreateDate", Member::Time(user.created)),
    ]
}

/// The same with when the password was last used, if it ever was.
pub(super) fn listed(call: &Call<'_>, user: &User) -> Vec<(&'static str, Member)> {
    let mut members = basic(user);
    let used = call.last_used(&user.id).and_then(|used| used.password);
    members.extend(used.map(|at| ("PasswordLastUsed", Member::Time(at))));
    members
}

/// A user as CreateUser has it.
fn user_detail(user: &User) -> Member {
    let mut members = basic(user);
    members.extend(detail(user));
    Member::Structure(members)
}

/// What lists leave out.
fn detail(user: &User) -> impl Iterator<Item = (&'static str, Member)> {
    let tags = (!user.tags.is_empty()).then(|| ("Tags", tag_list(&user.tags)));
    super::boundary_member(user.boundary.as_deref())
        .into_iter()
        .chain(tags)
}
