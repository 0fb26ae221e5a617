//! Groups, passwords, MFA devices and the account, as IAM answers them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_store::records::InlinePolicy;
use countersign_store::{SecretString, totp_code};
use jiff::Timestamp;

use crate::world::{Keys, World, after, now, trusts};

const IAM: (&str, &str) = ("iam", "2010-05-08");

fn part<'t>(text: &'t str, name: &str) -> &'t str {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    text.split_once(&open)
        .and_then(|(_, rest)| rest.split_once(&close))
        .map_or("", |(inner, _)| inner)
}

fn parts(text: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    text.split(&open)
        .skip(1)
        .filter_map(|rest| rest.split_once(&close))
        .map(|(inner, _)| inner.to_owned())
        .collect()
}

/// One call; the parameters are `Name=Value`.
async fn at(world: &World, keys: &Keys, call: &str, when: Timestamp) -> (u16, String) {
    let mut words = call.split(' ');
    let mut given = vec![("Action", words.next().unwrap())];
    given.extend(words.map(|word| word.split_once('=').unwrap()));
    let (status, _, body) = world.send(keys, IAM, &given, when).await;
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn ok(world: &World, call: &str) -> String {
    let (status, body) = at(world, &world.ana, call, now()).await;
    assert_eq!(status, 200, "{call}: {body}");
    body
}

/// `STATUS CODE: message`
async fn refused_to(world: &World, keys: &Keys, call: &str) -> String {
    let (status, body) = at(world, keys, call, now()).await;
    let message = part(&body, "Message")
        .replace("&quot;", "\"")
        .replace("&amp;", "&");
    format!("{status} {}: {message}", part(&body, "Code"))
}

async fn refused(world: &World, call: &str) -> String {
    refused_to(world, &world.ana, call).await
}

async fn allow(world: &World, user: &str, document: &str) {
    let policy = InlinePolicy {
        name: "p".into(),
        document: document.into(),
    };
    world
        .directory
        .put_user_policy(world.account, user, policy)
        .await
        .unwrap();
}

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

/// All entries of a list, page by page of one.
async fn paged(world: &World, call: &str, member: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut marker = String::new();
    for _ in 0..200 {
        let more = if marker.is_empty() {
            String::new()
        } else {
            format!(" Marker={marker}")
        };
        let body = ok(world, &format!("{call} MaxItems=1{more}")).await;
        let found = parts(&body, member);
        assert!(found.len() <= 1, "{call}: {body}");
        all.extend(found);
        if part(&body, "IsTruncated") == "false" {
            assert!(!body.contains("<Marker>"), "{body}");
            return all;
        }
        marker = part(&body, "Marker").to_owned();
        assert!((1..=320).contains(&marker.len()), "{marker}");
    }
    panic!("{call} does not end");
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

#[tokio::test]
async fn texts_of_passwords() {
    let world = World::new().await;
    for (call, text) in [
        (
            "GetLoginProfile UserName=Bob",
            "404 NoSuchEntity: Login Profile for User Bob cannot be found.",
        ),
        (
            "UpdateLoginProfile UserName=Bob",
            "404 NoSuchEntity: Login Profile for User Bob cannot be found.",
        ),
        (
            "DeleteLoginProfile UserName=Bob",
            "404 NoSuchEntity: Login Profile for User Bob cannot be found.",
        ),
        (
            "GetLoginProfile UserName=x",
            "404 NoSuchEntity: The user with name x cannot be found.",
        ),
        (
            "CreateLoginProfile UserName=bob",
            "400 ValidationError: 1 validation error detected: Value at 'password' failed to satisfy constraint: Member must not be null",
        ),
        (
            "CreateLoginProfile UserName=bob Password=abc",
            "400 PasswordPolicyViolation: Password does not conform to the account password policy.",
        ),
        (
            "GetAccountPasswordPolicy",
            "404 NoSuchEntity: The Password Policy with domain name 111122223333 cannot be found.",
        ),
        (
            "DeleteAccountPasswordPolicy",
            "404 NoSuchEntity: The account policy with name PasswordPolicy cannot be found.",
        ),
        (
            "UpdateAccountPasswordPolicy MinimumPasswordLength=5",
            "400 ValidationError: 1 validation error detected: Value at 'minimumPasswordLength' failed to satisfy constraint: Member must have value greater than or equal to 6",
        ),
    ] {
        assert_eq!(refused(&world, call).await, text, "{call}");
    }
    let made = ok(&world, "CreateLoginProfile UserName=Bob Password=Abcdef12").await;
    assert_eq!(part(&made, "UserName"), "bob");
    assert_eq!(part(&made, "PasswordResetRequired"), "false");
    assert!(!made.contains("Abcdef12"));
    assert_eq!(
        refused(&world, "CreateLoginProfile UserName=Bob Password=Abcdef12").await,
        "409 EntityAlreadyExists: Login Profile for user Bob already exists."
    );
    assert_eq!(
        refused(&world, "DeleteUser UserName=bob").await,
        "409 DeleteConflict: Cannot delete entity, must remove referenced objects first."
    );
    ok(
        &world,
        "UpdateLoginProfile UserName=bob PasswordResetRequired=true",
    )
    .await;
    let got = ok(&world, "GetLoginProfile UserName=bob").await;
    assert_eq!(part(&got, "PasswordResetRequired"), "true");
    // All of the policy is set; what is left out goes back.
    let all = "RequireSymbols=true RequireNumbers=true RequireUppercaseCharacters=true RequireLowercaseCharacters=true";
    ok(&world, &format!("UpdateAccountPasswordPolicy MinimumPasswordLength=14 MaxPasswordAge=90 PasswordReusePrevention=3 HardExpiry=true {all}")).await;
    let policy = ok(&world, "GetAccountPasswordPolicy").await;
    for (name, value) in [
        ("MinimumPasswordLength", "14"),
        ("RequireSymbols", "true"),
        ("ExpirePasswords", "true"),
        ("MaxPasswordAge", "90"),
        ("PasswordReusePrevention", "3"),
        ("HardExpiry", "true"),
        ("AllowUsersToChangePassword", "false"),
    ] {
        assert_eq!(part(&policy, name), value, "{name}");
    }
    for (password, text) in [
        (
            "Abcdefghijk1!",
            "Password should have a minimum length of 14",
        ),
        (
            "abcdefghijklm1!",
            "Password should have at least one uppercase letter",
        ),
        (
            "ABCDEFGHIJKLM1!",
            "Password should have at least one lowercase letter",
        ),
        (
            "Abcdefghijklmn!",
            "Password should have at least one number",
        ),
        (
            "Abcdefghijklmn1",
            "Password should have at least one symbol",
        ),
    ] {
        assert_eq!(
            refused(
                &world,
                &format!("UpdateLoginProfile UserName=bob Password={password}")
            )
            .await,
            format!("400 PasswordPolicyViolation: {text}")
        );
    }
    ok(&world, "UpdateAccountPasswordPolicy").await;
    let policy = ok(&world, "GetAccountPasswordPolicy").await;
    assert_eq!(part(&policy, "MinimumPasswordLength"), "6");
    assert_eq!(part(&policy, "ExpirePasswords"), "false");
    assert!(!policy.contains("MaxPasswordAge") && !policy.contains("HardExpiry"));
    ok(&world, "DeleteAccountPasswordPolicy").await;
    ok(&world, "DeleteLoginProfile UserName=bob").await;
}

#[tokio::test]
async fn users_change_their_own_password_when_a_policy_or_the_account_allows_it() {
    let world = World::new().await;
    ok(&world, "CreateLoginProfile UserName=bob Password=Abcdef12").await;
    let change = "ChangePassword OldPassword=Abcdef12 NewPassword=Abcdef12";
    let denied = refused_to(&world, &world.bob, change).await;
    assert!(denied.starts_with("403 AccessDenied"), "{denied}");
    ok(
        &world,
        "UpdateAccountPasswordPolicy AllowUsersToChangePassword=true",
    )
    .await;
    let (status, body) = at(&world, &world.bob, change, now()).await;
    assert_eq!(status, 200, "{body}");
    let (status, body) = at(&world, &world.bob, "GetAccountPasswordPolicy", now()).await;
    assert_eq!(status, 200, "{body}");
    // Nothing else is allowed by it.
    let denied = refused_to(&world, &world.bob, "GetLoginProfile").await;
    assert!(denied.starts_with("403 AccessDenied"), "{denied}");
    assert_eq!(
        refused_to(
            &world,
            &world.bob,
            "ChangePassword OldPassword=wrong NewPassword=Abcdef12"
        )
        .await,
        "403 AccessDenied: The old password was incorrect."
    );
    // A denial holds against the account's permission.
    allow(
        &world,
        "bob",
        r#"{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"iam:ChangePassword","Resource":"*"}}"#,
    )
    .await;
    let denied = refused_to(&world, &world.bob, change).await;
    assert!(denied.contains("with an explicit deny"), "{denied}");
    // Sessions of roles have no password.
    let role = world
        .role(
            "r",
            &trusts(crate::world::ACCOUNT, crate::world::ASSUME, ""),
        )
        .await;
    let session = world.session(&world.ana, &role, &[], now()).await;
    assert_eq!(
        refused_to(&world, &session, change).await,
        "400 InvalidUserType: Only IAM Users can change their own password."
    );
}

struct Device {
    serial: String,
    seed: SecretString,
}

impl Device {
    async fn new(world: &World, name: &str) -> Self {
        let made = ok(
            world,
            &format!("CreateVirtualMFADevice VirtualMFADeviceName={name}"),
        )
        .await;
        let seed = STANDARD.decode(part(&made, "Base32StringSeed")).unwrap();
        let picture = STANDARD.decode(part(&made, "QRCodePNG")).unwrap();
        assert!(picture.starts_with(b"\x89PNG\r\n\x1a\n"));
        Self {
            serial: part(&made, "SerialNumber").to_owned(),
            seed: SecretString::new(String::from_utf8(seed).unwrap()),
        }
    }

    fn code(&self, seconds: i64) -> String {
        totp_code(&self.seed, after(seconds)).unwrap()
    }

    fn codes(&self, seconds: i64) -> String {
        format!(
            "SerialNumber={} AuthenticationCode1={} AuthenticationCode2={}",
            self.serial,
            self.code(seconds),
            self.code(seconds + 30)
        )
    }
}

#[tokio::test]
async fn texts_of_mfa_devices() {
    let world = World::new().await;
    let device = Device::new(&world, "phone").await;
    let serial = &device.serial;
    assert_eq!(serial, "arn:aws:iam::111122223333:mfa/phone");
    let other = "arn:aws:iam::111122223333:mfa/other";
    let missing =
        format!("404 NoSuchEntity: MFA Device with serial number {other} does not exist.");
    let wrong = "AuthenticationCode1=000000 AuthenticationCode2=000000";
    let enable = format!("EnableMFADevice UserName=bob {}", device.codes(-60));
    for (call, text) in [
        (
            "CreateVirtualMFADevice VirtualMFADeviceName=phone".to_owned(),
            "409 EntityAlreadyExists: MFA device already exists.",
        ),
        (
            format!("EnableMFADevice UserName=bob SerialNumber={other} {wrong}"),
            &*missing,
        ),
        (
            format!("ResyncMFADevice UserName=bob SerialNumber={other} {wrong}"),
            &missing,
        ),
        (
            format!("DeactivateMFADevice UserName=bob SerialNumber={other}"),
            &missing,
        ),
        (
            format!("DeleteVirtualMFADevice SerialNumber={other}"),
            &missing,
        ),
        (
            format!("GetMFADevice UserName=bob SerialNumber={other}"),
            &missing,
        ),
        (
            format!("EnableMFADevice UserName=bob SerialNumber={serial} {wrong}"),
            "403 InvalidAuthenticationCode: Authentication code for device is not valid.",
        ),
        (
            format!("EnableMFADevice UserName=y {}", device.codes(-60)),
            "404 NoSuchEntity: The user with name y cannot be found.",
        ),
    ] {
        assert_eq!(refused(&world, &call).await, text, "{call}");
    }
    ok(&world, &enable).await;
    for (call, text) in [
        (
            format!("EnableMFADevice UserName=ana {}", device.codes(0)),
            "409 EntityAlreadyExists: MFA Device is already in use.",
        ),
        (
            format!("DeleteVirtualMFADevice SerialNumber={serial}"),
            "409 DeleteConflict: MFA VirtualDevice in use. Must deactivate first.",
        ),
        (
            format!("ResyncMFADevice UserName=bob SerialNumber={serial} {wrong}"),
            "403 InvalidAuthenticationCode: Authentication code for device is not valid.",
        ),
    ] {
        assert_eq!(refused(&world, &call).await, text, "{call}");
    }
    let listed = ok(&world, "ListMFADevices UserName=BOB").await;
    assert_eq!(parts(&listed, "UserName"), ["bob"]);
    assert_eq!(part(&listed, "EnableDate"), "2026-03-14T09:26:53Z");
    let assigned = ok(&world, "ListVirtualMFADevices AssignmentStatus=Assigned").await;
    assert_eq!(part(&assigned, "UserName"), "bob");
    assert!(!assigned.contains("Seed"));
    assert!(
        ok(&world, "ListVirtualMFADevices AssignmentStatus=Unassigned")
            .await
            .contains("<VirtualMFADevices/>")
    );
    let got = ok(
        &world,
        &format!("GetMFADevice UserName=bob SerialNumber={serial}"),
    )
    .await;
    assert_eq!(part(&got, "UserName"), "bob");
    ok(
        &world,
        &format!("ResyncMFADevice UserName=bob {}", device.codes(30)),
    )
    .await;
    ok(
        &world,
        &format!("DeactivateMFADevice UserName=bob SerialNumber={serial}"),
    )
    .await;
    ok(
        &world,
        &format!("DeleteVirtualMFADevice SerialNumber={serial}"),
    )
    .await;
}

#[tokio::test]
async fn a_role_that_asks_for_mfa_is_assumed_with_a_code_once() {
    let world = World::new().await;
    let device = Device::new(&world, "phone").await;
    ok(
        &world,
        &format!("EnableMFADevice UserName=ana {}", device.codes(-60)),
    )
    .await;
    let condition = r#"{"Bool":{"aws:MultiFactorAuthPresent":"true"},"NumericLessThan":{"aws:MultiFactorAuthAge":"300"}}"#;
    let role = world
        .role(
            "r",
            &trusts(crate::world::ACCOUNT, crate::world::ASSUME, condition),
        )
        .await;
    let plain = world
        .role(
            "plain",
            &trusts(crate::world::ACCOUNT, crate::world::ASSUME, ""),
        )
        .await;
    let wrong = "MultiFactorAuthentication failed with invalid MFA one time pass code.";
    let half = "MultiFactorAuthentication failed, must provide both MFA serial number and one time pass code.";
    let unknown = "MultiFactorAuthentication failed, unable to validate MFA code.  Please verify your MFA serial number is valid and associated with this user.";
    let not_allowed = "is not authorized to perform: sts:AssumeRole";
    let serial = ("SerialNumber", &*device.serial);
    let (now_code, next_code) = (device.code(0), device.code(30));
    let (good, next) = (("TokenCode", &*now_code), ("TokenCode", &*next_code));
    let bad = ("TokenCode", "000000");
    let foreign = ("SerialNumber", "arn:aws:iam::111122223333:mfa/other");
    let hardware = ("SerialNumber", "GAHT12345678");
    for (keys, role, more, expected) in [
        (&world.ana, &role, &[][..], Some(not_allowed)),
        (&world.ana, &role, &[serial], Some(half)),
        (&world.ana, &role, &[good], Some(half)),
        (&world.ana, &role, &[serial, bad], Some(wrong)),
        (&world.ana, &plain, &[serial, bad], Some(wrong)),
        (&world.ana, &role, &[foreign, good], Some(unknown)),
        (&world.ana, &role, &[hardware, good], Some(unknown)),
        (&world.bob, &role, &[serial, good], Some(unknown)),
        (&world.ana, &role, &[serial, good], None),
        (&world.ana, &role, &[serial, good], Some(wrong)),
        (&world.ana, &role, &[serial, next], None),
    ] {
        let (status, answer) = world.assume(keys, role, more, now()).await;
        match expected {
            None => assert_eq!(status, 200, "{more:?}: {answer}"),
            Some(text) => {
                assert_eq!(status, 403, "{more:?}: {answer}");
                assert_eq!(answer["Error"]["Code"], "AccessDenied");
                let message = answer["Error"]["Message"].as_str().unwrap();
                assert!(message.contains(text), "{more:?}: {message}");
            }
        }
    }
    // The session knows of the code, and how long ago it was.
    world
        .allow_role(
            "r",
            r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iam:ListGroups","Resource":"*","Condition":{"Bool":{"aws:MultiFactorAuthPresent":"true"},"NumericLessThan":{"aws:MultiFactorAuthAge":"60"}}}}"#,
        )
        .await;
    let code = device.code(60);
    let more = [serial, ("TokenCode", &*code)];
    let session = world.session(&world.ana, &role, &more, after(60)).await;
    for (seconds, status) in [(61, 200), (119, 200), (121, 403)] {
        let (got, body) = at(&world, &session, "ListGroups", after(seconds)).await;
        assert_eq!(got, status, "{seconds}: {body}");
    }
    // A session of a role has no device.
    let more = [serial, ("TokenCode", "123456")];
    let (status, answer) = world.assume(&session, &plain, &more, after(62)).await;
    assert_eq!(status, 403);
    assert!(
        answer["Error"]["Message"]
            .as_str()
            .unwrap()
            .contains(unknown)
    );
}

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
