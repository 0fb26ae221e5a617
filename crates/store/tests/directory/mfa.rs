//! Virtual MFA devices and their codes.

use countersign_store::{
    CreatedMfaDevice, DirectoryError, MfaOwner, NewMfaDevice, Quotas, Random, Thing, totp_code,
};
use jiff::SignedDuration;
use std::sync::Arc;

use super::*;

fn new_device(name: &str) -> NewMfaDevice {
    NewMfaDevice {
        account: account(0),
        name: name.into(),
        path: "/".into(),
        tags: Vec::new(),
    }
}

fn later(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

/// What the device shows so many seconds from now.
fn code(device: &CreatedMfaDevice, seconds: i64) -> String {
    totp_code(&device.seed, later(seconds)).unwrap()
}

async fn with_device() -> (Arc<TestStore>, Directory, CreatedMfaDevice, String) {
    let (store, directory) = with_account().await;
    for name in ["ana", "bob"] {
        directory.create_user(new_user(name), now()).await.unwrap();
    }
    let device = directory
        .create_mfa_device(new_device("phone"), now())
        .await
        .unwrap();
    let user_id = directory
        .snapshot()
        .user(account(0), "ana")
        .unwrap()
        .record
        .id
        .to_string();
    (store, directory, device, user_id)
}

async fn enable(
    directory: &Directory,
    owner: MfaOwner<'_>,
    device: &CreatedMfaDevice,
    from: i64,
) -> Result<(), DirectoryError> {
    let (one, two) = (code(device, from), code(device, from + 30));
    directory
        .enable_mfa_device(account(0), owner, &device.record.arn(), [&one, &two], now())
        .await
}

#[tokio::test]
async fn a_device_goes_from_made_to_enabled_to_deleted() {
    let (_, directory, device, _) = with_device().await;
    let serial = device.record.arn();
    assert_eq!(serial, "arn:aws:iam::111122223333:mfa/phone");
    assert_eq!(device.seed.expose().len(), 64);
    assert!(!format!("{device:?}").contains(device.seed.expose()));
    assert!(matches!(
        directory.create_mfa_device(new_device("phone"), now()).await,
        Err(DirectoryError::Exists { what: Thing::MfaDevice, name }) if &*name == "phone"
    ));
    let ana = MfaOwner::User("ana");
    let wrong = directory
        .enable_mfa_device(account(0), ana, &serial, ["000000", "000000"], now())
        .await;
    assert!(matches!(wrong, Err(DirectoryError::WrongMfaCode)));
    enable(&directory, ana, &device, -30).await.unwrap();
    assert!(matches!(
        enable(&directory, MfaOwner::User("bob"), &device, 30).await,
        Err(DirectoryError::Exists {
            what: Thing::EnabledMfaDevice,
            ..
        })
    ));
    let stays = directory.delete_mfa_device(account(0), &serial).await;
    assert!(matches!(stays, Err(DirectoryError::DeleteConflict { .. })));
    assert!(directory.delete_user(account(0), "ana").await.is_err());
    // It is not bob's to take away or synchronise, and nobody's under another path or account.
    for (owner, serial) in [
        (MfaOwner::User("bob"), &*serial),
        (MfaOwner::Root, &serial),
        (ana, "arn:aws:iam::111122223333:mfa/x/phone"),
        (ana, "arn:aws:iam::111122223334:mfa/phone"),
        (ana, "phone"),
        (ana, ""),
    ] {
        let codes = [code(&device, 60), code(&device, 90)];
        let codes = [&*codes[0], &*codes[1]];
        for error in [
            directory
                .deactivate_mfa_device(account(0), owner, serial)
                .await,
            directory
                .resync_mfa_device(account(0), owner, serial, codes, now())
                .await,
        ] {
            assert!(
                matches!(&error, Err(DirectoryError::NoSuch { what: Thing::MfaDevice, name }) if **name == *serial),
                "{error:?}"
            );
        }
    }
    directory
        .deactivate_mfa_device(account(0), ana, &serial)
        .await
        .unwrap();
    // Codes that enabled it once do not enable it again; later ones do.
    assert!(matches!(
        enable(&directory, ana, &device, -30).await,
        Err(DirectoryError::WrongMfaCode)
    ));
    enable(&directory, ana, &device, 30).await.unwrap();
    directory
        .deactivate_mfa_device(account(0), ana, &serial)
        .await
        .unwrap();
    directory
        .delete_mfa_device(account(0), &serial)
        .await
        .unwrap();
    directory.delete_user(account(0), "ana").await.unwrap();
    assert!(matches!(
        directory.delete_mfa_device(account(0), &serial).await,
        Err(DirectoryError::NoSuch { .. })
    ));
}

#[tokio::test]
async fn a_code_is_good_for_its_window_once() {
    let (_, directory, device, user_id) = with_device().await;
    enable(&directory, MfaOwner::User("ana"), &device, -60)
        .await
        .unwrap();
    let serial = device.record.arn();
    // The step whose code is used, in seconds from now; the time it is used at; and whether it is taken. In order.
    for (shown, at, taken) in [
        // It enabled the device.
        (-30, 0, false),
        (60, 0, false),
        (0, 0, true),
        (0, 0, false),
        (0, 29, false),
        (30, 0, true),
        // The one before was used by now, whatever the window.
        (0, 30, false),
        (90, 120, true),
        (90, 120, false),
        (150, 240, false),
    ] {
        let code = code(&device, shown);
        let used = directory
            .use_mfa_code(account(0), &user_id, &serial, &code, later(at))
            .await;
        match used {
            Ok(()) => assert!(taken, "{shown} at {at}"),
            Err(DirectoryError::WrongMfaCode) => assert!(!taken, "{shown} at {at}"),
            Err(error) => panic!("{shown} at {at}: {error}"),
        }
    }
}

#[tokio::test]
async fn only_the_user_whose_device_it_is_uses_its_codes() {
    let (_, directory, device, user_id) = with_device().await;
    let serial = device.record.arn();
    let other = directory
        .snapshot()
        .user(account(0), "bob")
        .unwrap()
        .record
        .id
        .to_string();
    let code_now = code(&device, 30);
    let uses = |user_id: String, serial: String| {
        let (directory, code) = (directory.clone(), code_now.clone());
        async move {
            directory
                .use_mfa_code(account(0), &user_id, &serial, &code, now())
                .await
        }
    };
    // Before it is enabled it is nobody's.
    assert!(matches!(
        uses(user_id.clone(), serial.clone()).await,
        Err(DirectoryError::NoSuch {
            what: Thing::MfaDevice,
            ..
        })
    ));
    enable(&directory, MfaOwner::User("ana"), &device, -60)
        .await
        .unwrap();
    for (user, serial) in [
        (other, serial.clone()),
        (account(0).as_str().to_owned(), serial.clone()),
        (
            user_id.clone(),
            "arn:aws:iam::111122223333:mfa/PHONE".to_owned(),
        ),
        (user_id.clone(), "GAHT12345678".to_owned()),
    ] {
        assert!(matches!(
            uses(user, serial).await,
            Err(DirectoryError::NoSuch {
                what: Thing::MfaDevice,
                ..
            })
        ));
    }
    uses(user_id, serial).await.unwrap();
}

#[tokio::test]
async fn a_clock_that_is_off_is_found_out_by_two_codes() {
    let (_, directory, device, user_id) = with_device().await;
    let serial = device.record.arn();
    // The device is ten minutes ahead.
    enable(&directory, MfaOwner::User("ana"), &device, 600)
        .await
        .unwrap();
    let use_code = |shown: i64, at: i64| {
        let (directory, code) = (directory.clone(), code(&device, shown));
        let (serial, user_id) = (serial.clone(), user_id.clone());
        async move {
            directory
                .use_mfa_code(account(0), &user_id, &serial, &code, later(at))
                .await
        }
    };
    assert!(use_code(90, 90).await.is_err());
    use_code(690, 90).await.unwrap();
    // Then it is set right, but what it shows now was over long ago.
    let (one, two) = (code(&device, 120), code(&device, 150));
    let old = directory
        .resync_mfa_device(
            account(0),
            MfaOwner::User("ana"),
            &serial,
            [&one, &two],
            later(150),
        )
        .await;
    assert!(matches!(old, Err(DirectoryError::WrongMfaCode)));
    let (one, two) = (code(&device, 780), code(&device, 810));
    directory
        .resync_mfa_device(
            account(0),
            MfaOwner::User("ana"),
            &serial,
            [&one, &two],
            later(810),
        )
        .await
        .unwrap();
    use_code(840, 840).await.unwrap();
    // Further than an hour is not looked.
    let far = directory
        .create_mfa_device(new_device("far"), now())
        .await
        .unwrap();
    assert!(
        enable(&directory, MfaOwner::User("ana"), &far, 3630)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn ten_wrong_codes_close_the_device_for_ten_minutes() {
    let (_, directory, device, user_id) = with_device().await;
    let serial = device.record.arn();
    enable(&directory, MfaOwner::User("ana"), &device, -60)
        .await
        .unwrap();
    let use_text = |text: String, at: i64| {
        let (directory, serial, user_id) = (directory.clone(), serial.clone(), user_id.clone());
        async move {
            directory
                .use_mfa_code(account(0), &user_id, &serial, &text, later(at))
                .await
        }
    };
    for _ in 0..9 {
        assert!(use_text("no".into(), 0).await.is_err());
    }
    // Nine are forgiven.
    use_text(code(&device, 0), 0).await.unwrap();
    for _ in 0..10 {
        assert!(use_text("no".into(), 30).await.is_err());
    }
    assert!(use_text(code(&device, 30), 30).await.is_err());
    assert!(use_text(code(&device, 600), 600).await.is_err());
    use_text(code(&device, 630), 630).await.unwrap();
}

#[tokio::test]
async fn root_has_devices_and_each_has_as_many_as_it_may() {
    let quotas = Quotas {
        mfa_devices_per_user: 1,
        ..Quotas::default()
    };
    let store = Arc::new(TestStore::in_memory().unwrap());
    let directory = Directory::open(store, sealer(1), Random::system(), quotas)
        .await
        .unwrap();
    directory
        .create_account(new_account(0), now())
        .await
        .unwrap();
    directory.create_user(new_user("ana"), now()).await.unwrap();
    let mut devices = Vec::new();
    for name in ["a", "b", "c"] {
        let device = directory
            .create_mfa_device(new_device(name), now())
            .await
            .unwrap();
        devices.push(device);
    }
    for owner in [MfaOwner::Root, MfaOwner::User("ana")] {
        let device = devices.remove(0);
        enable(&directory, owner, &device, -30).await.unwrap();
        let full = enable(&directory, owner, &devices[0], -30).await;
        assert_eq!(
            full.unwrap_err().to_string(),
            "cannot exceed quota for MFADevicesPerUser: 1"
        );
        if owner == MfaOwner::Root {
            let (root, code) = (account(0), code(&device, 30));
            directory
                .use_mfa_code(root, root.as_str(), &device.record.arn(), &code, now())
                .await
                .unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_replicas_one_takes_a_code() {
    let (store, directory, device, user_id) = with_device().await;
    let other = open(&store).await;
    enable(&directory, MfaOwner::User("ana"), &device, -60)
        .await
        .unwrap();
    let serial = device.record.arn();
    for round in 0..20 {
        let (code, at) = (code(&device, round * 30), later(round * 30));
        other
            .feed()
            .wait_for(directory.snapshot().revision())
            .await
            .unwrap();
        let (one, two) = tokio::join!(
            directory.use_mfa_code(account(0), &user_id, &serial, &code, at),
            other.use_mfa_code(account(0), &user_id, &serial, &code, at),
        );
        assert_ne!(one.is_ok(), two.is_ok(), "{one:?} {two:?}");
        directory
            .feed()
            .wait_for(other.snapshot().revision())
            .await
            .unwrap();
    }
}
