//! The alias, the summary and the authorization details.

use super::*;

#[tokio::test]
async fn the_account_has_one_alias_and_a_summary() {
    let world = World::new().await;
    assert!(
        ok(&world, "ListAccountAliases")
            .await
            .contains("<AccountAliases/>")
    );
    ok(&world, "CreateAccountAlias AccountAlias=dev").await;
    ok(&world, "CreateAccountAlias AccountAlias=prod").await;
    assert_eq!(
        parts(&ok(&world, "ListAccountAliases").await, "member"),
        ["prod"]
    );
    world
        .directory
        .set_account_alias("444455556666".parse().unwrap(), "taken")
        .await
        .unwrap();
    for (call, text) in [
        (
            "CreateAccountAlias AccountAlias=taken",
            "409 EntityAlreadyExists: The account alias taken already exists.",
        ),
        (
            "DeleteAccountAlias AccountAlias=dev",
            "404 NoSuchEntity: The account alias with name dev cannot be found.",
        ),
    ] {
        assert_eq!(refused(&world, call).await, text, "{call}");
    }
    let device = Device::new(&world, "phone").await;
    Device::new(&world, "tablet").await;
    ok(
        &world,
        &format!("EnableMFADevice UserName=ana {}", device.codes(-60)),
    )
    .await;
    ok(&world, "CreateGroup GroupName=ops").await;
    let summary = ok(&world, "GetAccountSummary").await;
    for (key, value) in [
        ("Users", 2),
        ("UsersQuota", 5000),
        ("Groups", 1),
        ("GroupsQuota", 300),
        ("MFADevices", 2),
        ("MFADevicesInUse", 1),
        ("AccountMFAEnabled", 0),
        ("AccountAccessKeysPresent", 0),
        ("Providers", 0),
        ("PolicySizeQuota", 6144),
        ("GlobalEndpointTokenVersion", 1),
    ] {
        let entry: String = summary.split_whitespace().collect();
        let entry_text = format!("<entry><key>{key}</key><value>{value}</value></entry>");
        assert!(entry.contains(&entry_text), "{key}: {summary}");
    }
    assert_eq!(parts(&summary, "key").len(), 34);
    ok(&world, "DeleteAccountAlias AccountAlias=prod").await;
}

#[tokio::test]
async fn authorization_details_are_filtered_and_go_through_four_lists() {
    let world = World::new().await;
    ok(&world, "CreateGroup GroupName=ops").await;
    ok(&world, "AddUserToGroup GroupName=ops UserName=ana").await;
    world
        .role(
            "r",
            &trusts(crate::world::ACCOUNT, crate::world::ASSUME, ""),
        )
        .await;
    let all = ok(&world, "GetAccountAuthorizationDetails").await;
    assert!(part(&all, "PolicyDocument").starts_with("%7B%22Version%22%3A%22"));
    assert!(part(&all, "AssumeRolePolicyDocument").starts_with("%7B%22Version%22"));
    assert_eq!(part(part(&all, "GroupList"), "member"), "ops");
    assert!(all.contains("<RoleLastUsed/>") && all.contains("<Policies/>"));
    for (filter, counts) in [
        ("User", [2, 0, 0, 0]),
        ("Group", [0, 1, 0, 0]),
        ("Role", [0, 0, 1, 0]),
        ("LocalManagedPolicy", [0, 0, 0, 0]),
        ("AWSManagedPolicy", [0, 0, 0, 42]),
    ] {
        let call = format!("GetAccountAuthorizationDetails Filter.member.1={filter} MaxItems=1000");
        let body = ok(&world, &call).await;
        let found = ["UserId", "GroupId", "RoleId", "PolicyId"].map(|id| parts(&body, id).len());
        assert_eq!(found, counts, "{filter}");
        for list in [
            "UserDetailList",
            "GroupDetailList",
            "RoleDetailList",
            "Policies",
        ] {
            let here = body.contains(&format!("<{list}/>")) || body.contains(&format!("<{list}>"));
            assert!(here, "{filter}: {list}");
        }
    }
    let names = paged(
        &world,
        "GetAccountAuthorizationDetails Filter.member.1=User Filter.member.2=Role Filter.member.3=Group",
        "CreateDate",
    )
    .await;
    assert_eq!(names.len(), 4);
    let aws = paged(
        &world,
        "GetAccountAuthorizationDetails Filter.member.1=AWSManagedPolicy",
        "PolicyName",
    )
    .await;
    assert_eq!(aws.len(), 42);
}
