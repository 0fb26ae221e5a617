//! Passwords and the policy about them.

use super::*;

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
