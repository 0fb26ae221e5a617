//! MFA devices.

use super::*;

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
