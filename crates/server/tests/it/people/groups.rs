//! Permissions, groups and lists.

use super::*;

#[tokio::test]
async fn nobody_without_permission_gets_any_of_it_or_learns_what_is_there() {
    let world = World::new().await;
    ok(&world, "CreateGroup GroupName=dev").await;
    let (group, user, any) = ("group/NAME", "user/NAME", "*");
    let code = "AuthenticationCode1=123456 AuthenticationCode2=123456";
    let serial = "SerialNumber=arn:aws:iam::111122223333:mfa/phone";
    for (call, resource) in [
        ("CreateGroup GroupName=NAME", group),
        ("GetGroup GroupName=NAME", group),
        ("ListGroups", any),
        ("UpdateGroup GroupName=NAME NewPath=/x/", group),
        ("DeleteGroup GroupName=NAME", group),
        ("AddUserToGroup GroupName=NAME UserName=ana", group),
        ("RemoveUserFromGroup GroupName=NAME UserName=ana", group),
        ("ListGroupsForUser UserName=NAME", user),
        ("CreateLoginProfile UserName=NAME Password=Abcdef12", user),
        ("GetLoginProfile UserName=NAME", user),
        ("UpdateLoginProfile UserName=NAME", user),
        ("DeleteLoginProfile UserName=NAME", user),
        ("ChangePassword OldPassword=a NewPassword=b", "user/bob"),
        ("UpdateAccountPasswordPolicy", any),
        ("GetAccountPasswordPolicy", any),
        ("DeleteAccountPasswordPolicy", any),
        (
            "CreateVirtualMFADevice VirtualMFADeviceName=NAME",
            "mfa/NAME",
        ),
        (
            &*format!("EnableMFADevice UserName=NAME {serial} {code}"),
            user,
        ),
        (
            &*format!("ResyncMFADevice UserName=NAME {serial} {code}"),
            user,
        ),
        (
            &*format!("DeactivateMFADevice UserName=NAME {serial}"),
            user,
        ),
        (&*format!("DeleteVirtualMFADevice {serial}"), "mfa/phone"),
        ("ListMFADevices UserName=NAME", user),
        ("ListVirtualMFADevices", any),
        (&*format!("GetMFADevice UserName=NAME {serial}"), user),
        ("CreateAccountAlias AccountAlias=dev", any),
        ("ListAccountAliases", any),
        ("DeleteAccountAlias AccountAlias=dev", any),
        ("GetAccountSummary", any),
        ("GetAccountAuthorizationDetails", any),
    ] {
        // The group `dev` and the user `ana` are there, `nothing` is not: the answers differ by the name only.
        for name in ["dev", "ana", "nothing"] {
            let call = call.replace("NAME", name);
            let action = call.split(' ').next().unwrap();
            let resource = match resource {
                "*" => "*".to_owned(),
                path => format!("arn:aws:iam::111122223333:{}", path.replace("NAME", name)),
            };
            assert_eq!(
                refused_to(&world, &world.bob, &call).await,
                format!(
                    "403 AccessDenied: User: arn:aws:iam::111122223333:user/bob is not authorized to perform: \
                     iam:{action} on resource: {resource} because no identity-based policy allows the iam:{action} action"
                ),
            );
        }
    }
}

#[tokio::test]
async fn texts_of_groups() {
    let world = World::new().await;
    let made = ok(&world, "CreateGroup GroupName=Ops Path=/team/").await;
    assert_eq!(
        part(&made, "Arn"),
        "arn:aws:iam::111122223333:group/team/Ops"
    );
    assert!(
        !ok(&world, "AddUserToGroup GroupName=ops UserName=Bob")
            .await
            .contains("Result")
    );
    for (call, text) in [
        (
            "CreateGroup GroupName=OPS",
            "409 EntityAlreadyExists: Group with name OPS already exists.",
        ),
        (
            "GetGroup GroupName=Dev",
            "404 NoSuchEntity: The group with name Dev cannot be found.",
        ),
        (
            "UpdateGroup GroupName=Dev",
            "404 NoSuchEntity: The group with name Dev cannot be found.",
        ),
        (
            "DeleteGroup GroupName=Dev",
            "404 NoSuchEntity: The group with name Dev cannot be found.",
        ),
        (
            "DeleteGroup GroupName=Ops",
            "409 DeleteConflict: Cannot delete entity, must remove users from group first.",
        ),
        (
            "AddUserToGroup GroupName=x UserName=y",
            "404 NoSuchEntity: The user with name y cannot be found.",
        ),
        (
            "RemoveUserFromGroup GroupName=x UserName=y",
            "404 NoSuchEntity: The user with name y cannot be found.",
        ),
        (
            "RemoveUserFromGroup GroupName=x UserName=ana",
            "404 NoSuchEntity: The group with name x cannot be found.",
        ),
        (
            "ListGroupsForUser UserName=y",
            "404 NoSuchEntity: The user with name y cannot be found.",
        ),
        (
            "CreateGroup GroupName=a Path=x",
            "400 ValidationError: The specified value for path is invalid. It must begin and end with / and contain only alphanumeric characters and/or / characters.",
        ),
        (
            "ListGroups Marker=x",
            "400 ValidationError: Invalid Marker.",
        ),
    ] {
        assert_eq!(refused(&world, call).await, text, "{call}");
    }
    // Twice is once, and taking out who is not in it is nothing.
    for call in [
        "AddUserToGroup GroupName=Ops UserName=bob",
        "RemoveUserFromGroup GroupName=Ops UserName=ana",
        "UpdateGroup GroupName=ops NewGroupName=Sre NewPath=/",
    ] {
        ok(&world, call).await;
    }
    let group = ok(&world, "GetGroup GroupName=sre").await;
    assert_eq!(parts(&group, "UserName"), ["bob"]);
    assert_eq!(part(&group, "GroupId"), part(&made, "GroupId"));
    assert_eq!(part(&group, "IsTruncated"), "false");
    ok(&world, "RemoveUserFromGroup GroupName=Sre UserName=bob").await;
    ok(&world, "DeleteGroup GroupName=Sre").await;
    assert!(ok(&world, "ListGroups").await.contains("<Groups/>"));
}

#[tokio::test]
async fn a_groups_policy_counts_for_its_members_only() {
    let world = World::new().await;
    ok(&world, "CreateGroup GroupName=ops").await;
    let document = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iam:ListGroups","Resource":"*"}}"#;
    let body = [
        ("Action", "PutGroupPolicy"),
        ("GroupName", "ops"),
        ("PolicyName", "p"),
        ("PolicyDocument", document),
    ];
    let entity = countersign_store::Entity::group(world.account, "ops");
    let policy = InlinePolicy {
        name: body[2].1.into(),
        document: document.into(),
    };
    world
        .directory
        .put_inline_policy(entity, policy)
        .await
        .unwrap();
    for (call, status) in [
        ("", 403),
        ("AddUserToGroup GroupName=ops UserName=bob", 200),
        ("UpdateGroup GroupName=ops NewGroupName=sre", 200),
        ("RemoveUserFromGroup GroupName=sre UserName=bob", 403),
    ] {
        if !call.is_empty() {
            ok(&world, call).await;
        }
        let (got, body) = at(&world, &world.bob, "ListGroups", now()).await;
        assert_eq!(got, status, "{call}: {body}");
    }
}

#[tokio::test]
async fn lists_in_pages_of_one_are_the_whole_list_in_order() {
    let world = World::new().await;
    let long = "z".repeat(128);
    for name in ["dev", "Ops", "admin", &long] {
        ok(&world, &format!("CreateGroup GroupName={name}")).await;
        ok(
            &world,
            &format!("AddUserToGroup GroupName={name} UserName=ana"),
        )
        .await;
    }
    ok(&world, "AddUserToGroup GroupName=dev UserName=bob").await;
    for name in ["b", "A", "c"] {
        ok(
            &world,
            &format!("CreateVirtualMFADevice VirtualMFADeviceName={name}"),
        )
        .await;
    }
    ok(&world, "CreateAccountAlias AccountAlias=dev-account").await;
    let sorted = ["admin", "dev", "Ops", &long];
    for (call, member, expected) in [
        ("ListGroups", "GroupName", &sorted[..]),
        ("ListGroupsForUser UserName=ana", "GroupName", &sorted),
        ("GetGroup GroupName=dev", "UserName", &["ana", "bob"]),
        ("ListAccountAliases", "member", &["dev-account"]),
        ("ListMFADevices UserName=ana", "SerialNumber", &[]),
        (
            "ListVirtualMFADevices AssignmentStatus=Assigned",
            "SerialNumber",
            &[],
        ),
        (
            "ListVirtualMFADevices",
            "SerialNumber",
            &[
                "arn:aws:iam::111122223333:mfa/A",
                "arn:aws:iam::111122223333:mfa/b",
                "arn:aws:iam::111122223333:mfa/c",
            ],
        ),
        (
            "GetAccountAuthorizationDetails Filter.member.1=Group",
            "GroupName",
            &sorted,
        ),
    ] {
        assert_eq!(paged(&world, call, member).await, expected, "{call}");
    }
    // A marker belongs to its operation and filters.
    let page = ok(&world, "ListGroups MaxItems=1").await;
    let marker = part(&page, "Marker");
    for call in ["ListVirtualMFADevices", "ListGroups PathPrefix=/x"] {
        assert_eq!(
            refused(&world, &format!("{call} Marker={marker}")).await,
            "400 ValidationError: Invalid Marker."
        );
    }
}
