//! Local administration: what it does to sessions, and who may ask.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use countersign_arn::AccountId;
use countersign_server::admin::{
    AdminAnswer, AdminClient, AdminError, AdminErrorKind, AdminOp, AdminSocket, AdminSocketError,
    AskError, ConnectError, Hidden, SOCKET_NAME, SessionSelector, SessionState, execute,
};
use countersign_store::backup::BackupFile;
use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::*;

const EXPIRED: (u16, &str, &str) = (
    403,
    "ExpiredToken",
    "The security token included in the request is expired",
);

fn of_role(role: &str) -> SessionSelector {
    SessionSelector::Role {
        account: None,
        role: role.into(),
    }
}

fn of_source(account: Option<&str>, source_identity: &str) -> SessionSelector {
    SessionSelector::SourceIdentity {
        account: account.map(|account| account.parse().unwrap()),
        source_identity: source_identity.into(),
    }
}

impl World {
    async fn administer(&self, op: AdminOp, when: Timestamp) -> Result<AdminAnswer, AdminError> {
        execute(&self.directory, &op, when).await
    }

    async fn revoke(
        &self,
        sessions: SessionSelector,
        when: Timestamp,
    ) -> Result<AdminAnswer, AdminError> {
        let before = None;
        self.administer(AdminOp::RevokeSessions { sessions, before }, when)
            .await
    }

    async fn inspect(&self, keys: &Keys, when: Timestamp) -> SessionState {
        let op = AdminOp::InspectSession {
            token: Hidden::new(keys.token.clone().unwrap()),
            access_key_id: keys.id.clone(),
        };
        match self.administer(op, when).await.unwrap() {
            AdminAnswer::Session(report) => report.state,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_revocation_ends_the_sessions_it_names_at_once_and_no_others() {
    type Case = (
        &'static str,
        fn(&Keys) -> SessionSelector,
        (u16, &'static str, &'static str),
    );
    let cases: [Case; 6] = [
        (
            "role",
            |_| SessionSelector::Role {
                account: Some("111122223333".parse().unwrap()),
                role: "DEV".into(),
            },
            EXPIRED,
        ),
        (
            "role by ARN",
            |_| of_role("arn:aws:iam::111122223333:role/team/Dev"),
            EXPIRED,
        ),
        (
            "key",
            |keys| SessionSelector::AccessKey {
                access_key_id: keys.id.clone(),
            },
            INVALID,
        ),
        ("source identity", |_| of_source(None, "ana.w"), EXPIRED),
        (
            "source identity in its account",
            |_| of_source(Some("111122223333"), "ana.w"),
            EXPIRED,
        ),
        (
            "source identity in another account",
            |_| of_source(Some("444455556666"), "ana.w"),
            (200, "none", ""),
        ),
    ];
    for (what, selector, expected) in cases {
        let world = World::new().await;
        let trust = trusts(ACCOUNT, EVERYTHING, "");
        let dev = world
            .role_with("Dev", &trust, |new| new.path = "/team/".into())
            .await;
        let ops = world.role("Ops", &trust).await;
        let source = [("SourceIdentity", "ana.w")];
        let meant = world.session(&world.ana, &dev, &source, now()).await;
        let other = world.session(&world.ana, &ops, &[], now()).await;
        assert_eq!(world.whoami(&meant, after(1)).await.0, 200, "{what}");
        assert_eq!(world.inspect(&meant, after(1)).await, SessionState::Valid);

        world.revoke(selector(&meant), after(5)).await.unwrap();
        assert_eq!(
            error(&world.whoami(&meant, after(5)).await),
            expected,
            "{what}"
        );
        let state = match expected.0 {
            200 => SessionState::Valid,
            _ => SessionState::Revoked,
        };
        assert_eq!(world.inspect(&meant, after(5)).await, state, "{what}");
        assert_eq!(world.whoami(&other, after(5)).await.0, 200, "{what}");
        assert_eq!(world.whoami(&world.ana, after(5)).await.0, 200, "{what}");
        let later = world.session(&world.ana, &dev, &source, after(6)).await;
        assert_eq!(world.whoami(&later, after(6)).await.0, 200, "{what}");
    }
}

#[tokio::test]
async fn a_wrong_secret_learns_nothing_of_revocations() {
    let world = World::new().await;
    let dev = world.role("Dev", &trusts(ACCOUNT, ASSUME, "")).await;
    let session = world.session(&world.ana, &dev, &[], now()).await;
    let thief = Keys {
        secret: "x".repeat(40),
        ..session.clone()
    };
    assert_eq!(
        error(&world.whoami(&thief, after(1)).await).1,
        "SignatureDoesNotMatch"
    );
    world.revoke(of_role(&dev), after(5)).await.unwrap();
    // As with a session that is over: the token alone says so.
    assert_eq!(error(&world.whoami(&thief, after(5)).await), EXPIRED);
}

#[tokio::test]
async fn retiring_the_keys_ends_every_session_and_rotating_them_none() {
    let world = World::new().await;
    let dev = world.role("Dev", &trusts(ACCOUNT, ASSUME, "")).await;
    let session = world.session(&world.ana, &dev, &[], now()).await;
    let rotate = |revoke| AdminOp::RotateSessionKeys { revoke };
    let AdminAnswer::SessionKeys { keys } =
        world.administer(rotate(false), after(1)).await.unwrap()
    else {
        panic!()
    };
    let states: Vec<&str> = keys.iter().map(|key| key.state.as_str()).collect();
    assert_eq!(states, ["sealing", "opening"]);
    assert_eq!(world.whoami(&session, after(120)).await.0, 200);
    world.administer(rotate(true), after(200)).await.unwrap();
    assert_eq!(error(&world.whoami(&session, after(200)).await), INVALID);
    let op = AdminOp::InspectSession {
        token: Hidden::new(session.token.clone().unwrap()),
        access_key_id: session.id.clone(),
    };
    let refused = world.administer(op, after(200)).await.unwrap_err();
    assert_eq!(refused.kind, AdminErrorKind::No);
    assert!(refused.message.contains("retired"), "{refused}");
    let fresh = world.session(&world.ana, &dev, &[], after(201)).await;
    assert_eq!(world.whoami(&fresh, after(201)).await.0, 200);
}

#[tokio::test]
async fn a_session_is_told_whole_and_without_its_secret() {
    let world = World::new().await;
    let dev = world.role("Dev", &trusts(ACCOUNT, EVERYTHING, "")).await;
    let more = [
        ("Tags.member.1.Key", "team"),
        ("Tags.member.1.Value", "blue"),
        ("TransitiveTagKeys.member.1", "team"),
        ("SourceIdentity", "ana.w"),
        ("Policy", ALL),
    ];
    let session = world.session(&world.ana, &dev, &more, now()).await;
    let op = |token: &str, id: &str| AdminOp::InspectSession {
        token: Hidden::new(token),
        access_key_id: id.into(),
    };
    let token = session.token.clone().unwrap();
    let told = |when| world.administer(op(&token, &session.id), when);
    let AdminAnswer::Session(report) = told(after(1)).await.unwrap() else {
        panic!()
    };
    let json = serde_json::to_value(&report).unwrap();
    for (field, expected) in [
        ("state", "valid"),
        ("kind", "assumed-role"),
        ("account", "111122223333"),
        ("arn", "arn:aws:sts::111122223333:assumed-role/Dev/s1"),
        ("principalArn", "arn:aws:iam::111122223333:role/Dev"),
        ("sourceIdentity", "ana.w"),
        ("issued", "2026-03-14T09:26:53Z"),
        ("expires", "2026-03-14T10:26:53Z"),
        ("originAccessKeyId", &world.ana.id),
        ("accessKeyId", &session.id),
    ] {
        assert_eq!(json[field], expected, "{field}: {json}");
    }
    assert_eq!(json["depth"], 1);
    assert_eq!(json["tokenChars"], token.len());
    assert_eq!(
        json["tags"],
        serde_json::json!([{"key": "team", "value": "blue", "transitive": true, "inherited": false}])
    );
    assert!(json["policy"].as_str().unwrap().contains("Statement"));
    let text = json.to_string();
    assert!(!text.contains(&session.secret) && !text.contains(&token));
    assert!(!format!("{:?}", op(&token, &session.id)).contains(&token));

    let AdminAnswer::Session(report) = told(after(3601)).await.unwrap() else {
        panic!()
    };
    assert_eq!(report.state, SessionState::Expired);
    assert_eq!(report.source_identity.as_deref(), Some("ana.w"));
    world
        .directory
        .delete_role(world.account, "Dev")
        .await
        .unwrap();
    assert_eq!(
        world.inspect(&session, after(2)).await,
        SessionState::PrincipalGone
    );
    for (token, id) in [
        (token.as_str(), world.ana.id.as_str()),
        (&token, "ASIARTX3GSDS7RSUJJ3G"),
        ("CS1.x.AAAA", &session.id),
        ("", &session.id),
        (&"x".repeat(5000), &session.id),
    ] {
        let refused = world.administer(op(token, id), after(1)).await.unwrap_err();
        assert_eq!(refused.kind, AdminErrorKind::No, "{refused}");
    }
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused() {
    let world = World::new().await;
    world.role("Dev", &trusts(ACCOUNT, ASSUME, "")).await;
    let account = |text: &str| text.parse::<AccountId>().ok();
    let cluster = |account, cluster: &str| SessionSelector::Cluster {
        account,
        cluster: cluster.into(),
    };
    let role = |account, role: &str| SessionSelector::Role {
        account,
        role: role.into(),
    };
    for (selector, message) in [
        (role(None, "Dev"), "several accounts"),
        (
            role(account("444455556666"), "Dev"),
            "no role `Dev` in account 444455556666",
        ),
        (role(account("111122223333"), "Nobody"), "no role `Nobody`"),
        (
            role(
                account("444455556666"),
                "arn:aws:iam::111122223333:role/Dev",
            ),
            "another account",
        ),
        (
            of_role("arn:aws:iam::111122223333:user/ana"),
            "a role's name or its ARN",
        ),
        (
            of_role("arn:aws:sts::111122223333:role/Dev"),
            "a role's name or its ARN",
        ),
        (of_role("arn:x"), "a role's name or its ARN"),
        (cluster(None, "orchard"), "no cluster has this name"),
        (
            cluster(account("111122223333"), "orchard"),
            "no cluster `orchard` in account",
        ),
        (cluster(None, "arn:aws:s3:::bucket"), "must be its ARN"),
        (of_source(None, "x"), "must be 2 to 64"),
        (
            SessionSelector::AccessKey {
                access_key_id: world.ana.id.clone(),
            },
            "temporary credentials",
        ),
        (
            SessionSelector::Association {
                association_id: "x".into(),
            },
            "the association id",
        ),
    ] {
        let refused = world.revoke(selector, now()).await.unwrap_err();
        assert_eq!(refused.kind, AdminErrorKind::Request, "{refused}");
        assert!(refused.message.contains(message), "{refused}");
    }
    let op = AdminOp::RevokeSessions {
        sessions: of_source(None, "ana.w"),
        before: Some(after(60)),
    };
    let refused = world.administer(op, now()).await.unwrap_err();
    assert!(refused.message.contains("still to come"), "{refused}");
    let listed = world.administer(AdminOp::ListRevocations {}, now()).await;
    assert_eq!(listed, Ok(AdminAnswer::Revocations { rows: Vec::new() }));
}

#[tokio::test]
async fn a_root_key_is_the_account_and_dies_when_it_is_deleted() {
    let world = World::new().await;
    let account = world.account;
    let created = world
        .administer(AdminOp::CreateRootKey { account }, now())
        .await
        .unwrap();
    let AdminAnswer::RootKeyCreated(key) = created else {
        panic!()
    };
    assert_eq!(key.arn, ACCOUNT);
    let root = Keys {
        id: key.access_key_id.clone(),
        secret: key.secret_access_key.expose().to_owned(),
        token: None,
    };
    let (status, answer) = world.whoami(&root, after(1)).await;
    let identity = &answer["GetCallerIdentityResponse"]["GetCallerIdentityResult"];
    assert_eq!(status, 200, "{answer}");
    assert_eq!(identity["Arn"], ACCOUNT);
    assert_eq!(identity["UserId"], "111122223333");
    assert_eq!(identity["Account"], "111122223333");
    let dev = world.role("Dev", &trusts(ACCOUNT, ASSUME, "")).await;
    let refused = world.assume(&root, &dev, &[], after(1)).await;
    assert_eq!(
        error(&refused),
        (
            403,
            "AccessDenied",
            "Roles may not be assumed by root accounts."
        )
    );
    let op = AdminOp::DeleteRootKey {
        account,
        access_key_id: key.access_key_id,
    };
    world.administer(op, after(2)).await.unwrap();
    let dead = world.whoami(&root, after(3)).await;
    assert_eq!(error(&dead).1, "InvalidClientTokenId");
    let listed = world
        .administer(AdminOp::ListRootKeys { account }, after(3))
        .await;
    assert_eq!(listed, Ok(AdminAnswer::RootKeys { keys: Vec::new() }));
}

fn private_directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    chmod(directory.path(), 0o700);
    directory
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_socket_does_what_the_function_does_and_is_gone_with_its_server() {
    let world = World::new().await;
    let directory = private_directory();
    let path = directory.path().join(SOCKET_NAME);
    // Left behind by a server that was killed.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(matches!(
        AdminClient::connect(directory.path()).await,
        Err(ConnectError::NotRunning { .. })
    ));
    let socket = AdminSocket::bind(directory.path(), world.directory.clone()).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let ask = async |op: AdminOp| {
        let client = AdminClient::connect(directory.path()).await.unwrap();
        client.ask(&op).await
    };
    let account = world.account;
    let created = ask(AdminOp::CreateRootKey { account }).await.unwrap();
    let AdminAnswer::RootKeyCreated(created) = created else {
        panic!()
    };
    let here = world
        .administer(AdminOp::ListRootKeys { account }, now())
        .await
        .unwrap();
    assert_eq!(ask(AdminOp::ListRootKeys { account }).await.unwrap(), here);
    let Err(AskError::Refused(refused)) = ask(AdminOp::DeleteRootKey {
        account,
        access_key_id: "AKIAX".into(),
    })
    .await
    else {
        panic!()
    };
    assert_eq!(refused.kind, AdminErrorKind::Request);

    let client = AdminClient::connect(directory.path()).await.unwrap();
    let mut bytes = Vec::new();
    client.backup(&mut bytes).await.unwrap();
    let file = directory.path().join("backup");
    std::fs::write(&file, &bytes).unwrap();
    let backup = BackupFile::open(&file).unwrap();
    // Neighbours on the same etcd may have written meanwhile.
    assert!(backup.header().revision >= world.directory.feed().revision());
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.contains(&created.access_key_id));
    for secret in [
        created.secret_access_key.expose(),
        &world.ana.secret,
        &world.bob.secret,
    ] {
        assert!(!text.contains(secret), "secrets are sealed in a backup");
    }
    drop(socket);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_directory_that_others_reach_into_has_no_socket() {
    let world = World::new().await;
    let directory = private_directory();
    for mode in [0o701, 0o710, 0o755, 0o770, 0o777] {
        chmod(directory.path(), mode);
        assert!(matches!(
            AdminSocket::bind(directory.path(), world.directory.clone()),
            Err(AdminSocketError::Exposed { mode: found, .. }) if found == mode
        ));
    }
    chmod(directory.path(), 0o700);
    let _socket = AdminSocket::bind(directory.path(), world.directory.clone()).unwrap();
    chmod(directory.path(), 0o755);
    assert!(matches!(
        AdminClient::connect(directory.path()).await,
        Err(ConnectError::Directory(AdminSocketError::Exposed { .. }))
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_on_the_socket_is_refused_and_harms_nobody() {
    let world = World::new().await;
    let directory = private_directory();
    let _socket = AdminSocket::bind(directory.path(), world.directory.clone()).unwrap();
    let framed = |json: &str| {
        let length = u32::try_from(json.len()).unwrap();
        [&length.to_be_bytes()[..], json.as_bytes()].concat()
    };
    for (bytes, expected) in [
        (framed("{}"), "not one this version knows"),
        (
            framed(r#"{"op":"format-disk"}"#),
            "not one this version knows",
        ),
        (
            framed(r#"{"op":"list-revocations","and":"more"}"#),
            "not one this version knows",
        ),
        (framed("CS1.secret.secret"), "not one this version knows"),
        (u32::MAX.to_be_bytes().to_vec(), "at most 67108864"),
        (vec![0, 0, 0, 9, b'{'], ""),
        (vec![0], ""),
    ] {
        let path = directory.path().join(SOCKET_NAME);
        let mut stream = tokio::net::UnixStream::connect(path).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.contains(expected), "{answer}");
        assert!(!answer.contains("secret"), "{answer}");
        assert_eq!(expected.is_empty(), answer.is_empty(), "{answer}");
    }
    let client = AdminClient::connect(directory.path()).await.unwrap();
    client.ask(&AdminOp::ListRevocations {}).await.unwrap();
}
