//! Local administration with the real command: on a running server, through its socket, and on a store that none holds.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use countersign_sigv4::{Credentials, Request, SecretKey, Signer};
use countersign_store::{Key, RedbOptions, RedbStore, Store, Transaction, Value};
use jiff::Timestamp;
use serde_json::Value as Json;

use crate::harness::{BINARY, Running, clean_environment, countersign};

const CONFIG: &str = r#"
server:
  mapRoles:
  - rolearn: arn:aws:iam::111122223333:role/Dev
    username: dev:{{SessionName}}
    groups: [developers]
countersign:
  bootstrap:
    roles:
    - name: Dev
      trustPolicy: |
        {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "sts:AssumeRole",
         "Principal": {"AWS": "arn:aws:iam::111122223333:root"}}}
"#;

fn start(dir: tempfile::TempDir) -> Running {
    let config = dir.path().join("config.yaml");
    std::fs::write(&config, CONFIG).unwrap();
    let config = config.display().to_string();
    Running::start_in(dir, "up", &["--config", &config])
}

/// Stops the server as an operator does, and starts another on its data.
fn restart(server: Running) -> Running {
    start(stop(server))
}

fn stop(server: Running) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (server.dir.path().join("data"), dir.path().join("data"));
    std::fs::rename(from, to).unwrap();
    server.signal("TERM");
    let socket = dir.path().join("data/admin.sock");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    drop(server);
    // The server knew its socket by the old path; what is left is as after a kill.
    while socket.exists() && std::time::Instant::now() < deadline {
        let _ = std::fs::remove_file(&socket);
    }
    dir
}

#[derive(Clone, Debug)]
struct Keys {
    id: String,
    secret: String,
    token: Option<String>,
}

impl Keys {
    fn admin(server: &Running) -> Self {
        Self {
            id: server.field("admin.accessKeyId"),
            secret: server.field("admin.secretAccessKey"),
            token: None,
        }
    }

    /// A presigned URL of STS.
    fn presign(&self, server: &Running, query: &str, cluster: Option<&str>) -> String {
        let endpoint = server.field("endpointUrl");
        let host = endpoint.split_once("://").unwrap().1.to_owned();
        let mut headers = vec![("host", host.as_bytes())];
        headers.extend(cluster.map(|cluster| ("x-k8s-aws-id", cluster.as_bytes())));
        let target = format!("/?{query}&Version=2011-06-15");
        let mut request = Request::new("GET", target.as_bytes());
        request.headers = &headers;
        let secret = SecretKey::new(&self.secret);
        let credentials = Credentials {
            key_id: &self.id,
            secret: &secret,
            session_token: self.token.as_deref(),
        };
        let signed = Signer::new(credentials, "us-east-1", "sts")
            .presign(&request, 60, Timestamp::now())
            .unwrap();
        format!("{endpoint}/?{signed}")
    }

    fn call(&self, server: &Running, query: &str) -> (u16, Json) {
        let url = self.presign(server, query, None);
        let path = url.strip_prefix(&server.field("endpointUrl")).unwrap();
        let answer = server.aws("GET", path, &[("Accept", "application/json")], b"");
        let body = serde_json::from_slice(&answer.body).unwrap_or(Json::Null);
        (answer.status, body)
    }

    /// What GetCallerIdentity says: the ARN, or the code of the error.
    fn whoami(&self, server: &Running) -> String {
        let (status, body) = self.call(server, "Action=GetCallerIdentity");
        let said = match status {
            200 => &body["GetCallerIdentityResponse"]["GetCallerIdentityResult"]["Arn"],
            _ => &body["Error"]["Code"],
        };
        said.as_str().unwrap_or_default().to_owned()
    }

    fn assume_dev(&self, server: &Running) -> Self {
        let query = "Action=AssumeRole&RoleArn=arn%3Aaws%3Aiam%3A%3A111122223333%3Arole%2FDev&RoleSessionName=alice";
        let (status, body) = self.call(server, query);
        assert_eq!(status, 200, "{body}");
        let keys = &body["AssumeRoleResponse"]["AssumeRoleResult"]["Credentials"];
        let text = |name: &str| keys[name].as_str().unwrap().to_owned();
        Self {
            id: text("AccessKeyId"),
            secret: text("SecretAccessKey"),
            token: Some(text("SessionToken")),
        }
    }

    /// The Kubernetes user, or what the review says against it.
    fn kubernetes(&self, server: &Running) -> String {
        let url = self.presign(server, "Action=GetCallerIdentity", Some("demo"));
        let token = countersign_token::mint(&url);
        let (_, review) = server.review("/authenticate", &token);
        let status = &review["status"];
        let said = match status["authenticated"].as_bool() {
            Some(true) => &status["user"]["username"],
            _ => &status["error"],
        };
        said.as_str().unwrap_or_default().to_owned()
    }
}

const DEV: &str = "arn:aws:sts::111122223333:assumed-role/Dev/alice";

/// Runs the command on a data directory; gives code, stdout and stderr.
fn run(data: &Path, args: &[&str]) -> (i32, String, String) {
    let environment = [(
        "COUNTERSIGN_DATA_DIR".to_owned(),
        data.display().to_string(),
    )];
    outcome(&countersign(args, &BTreeMap::from(environment)))
}

fn outcome(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

fn json(data: &Path, args: &[&str]) -> Json {
    let mut all = args.to_vec();
    all.extend(["-o", "json"]);
    let (code, stdout, stderr) = run(data, &all);
    assert_eq!(code, 0, "{args:?}: {stderr}");
    serde_json::from_str(&stdout).unwrap()
}

fn inspect(data: &Path, input: &str, args: &[&str]) -> (i32, Json, String) {
    let mut command = Command::new(BINARY);
    clean_environment(&mut command);
    let mut child = command
        .args(["sessions", "inspect", "-", "-o", "json", "--data-dir"])
        .arg(data)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let (code, stdout, stderr) = outcome(&child.wait_with_output().unwrap());
    (
        code,
        serde_json::from_str(&stdout).unwrap_or(Json::Null),
        stderr,
    )
}

#[test]
fn a_role_is_revoked_at_once_for_aws_and_kubernetes_and_stays_so_after_a_restart() {
    let server = start(tempfile::tempdir().unwrap());
    let data = server.dir.path().join("data");
    let admin = Keys::admin(&server);
    let session = admin.assume_dev(&server);
    assert_eq!(session.whoami(&server), DEV);
    assert_eq!(session.kubernetes(&server), "dev:alice");
    let token = session.token.clone().unwrap();
    let (code, report, _) = inspect(&data, &token, &["--key-id", &session.id]);
    assert_eq!((code, &report["state"]), (0, &"valid".into()), "{report}");
    assert_eq!(report["arn"], DEV);
    assert_eq!(report["originAccessKeyId"], admin.id);
    assert!(!report.to_string().contains(&session.secret));
    let kubernetes = session.presign(&server, "Action=GetCallerIdentity", Some("demo"));
    let (code, report, _) = inspect(&data, &countersign_token::mint(&kubernetes), &[]);
    assert_eq!((code, &report["arn"]), (0, &DEV.into()), "{report}");

    // Issued in the second before the revocation at the latest.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let revoked = json(&data, &["sessions", "revoke", "--role", "Dev"]);
    assert_eq!(revoked["revocation"]["by"], "role");
    assert_eq!(session.whoami(&server), "ExpiredToken");
    assert!(session.kubernetes(&server).contains("ExpiredToken"));
    let (code, report, _) = inspect(&data, &token, &["--key-id", &session.id]);
    assert_eq!((code, &report["state"]), (1, &"revoked".into()), "{report}");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let fresh = admin.assume_dev(&server);
    assert_eq!(fresh.whoami(&server), DEV);

    json(&data, &["sessions", "revoke", "--key", &fresh.id]);
    assert_eq!(fresh.whoami(&server), "InvalidClientTokenId");
    assert!(fresh.kubernetes(&server).contains("InvalidClientTokenId"));

    let server = restart(server);
    let data = server.dir.path().join("data");
    assert_eq!(session.whoami(&server), "ExpiredToken");
    assert_eq!(fresh.whoami(&server), "InvalidClientTokenId");
    let listed = json(&data, &["sessions", "revocations"]);
    assert_eq!(listed["revocations"].as_array().unwrap().len(), 2);

    let last = Keys::admin(&server).assume_dev(&server);
    assert_eq!(last.whoami(&server), DEV);
    json(&data, &["sessions", "rotate-keys"]);
    assert_eq!(last.whoami(&server), DEV);
    let keys = json(&data, &["sessions", "rotate-keys", "--revoke"]);
    let states: Vec<&str> = keys["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| key["state"].as_str().unwrap())
        .collect();
    assert_eq!(
        states.iter().filter(|state| **state == "sealing").count(),
        1
    );
    assert!(!states.contains(&"opening"), "{states:?}");
    assert_eq!(last.whoami(&server), "InvalidClientTokenId");
    assert_eq!(
        Keys::admin(&server).whoami(&server),
        server.field("admin.arn")
    );
}

#[test]
fn root_keys_are_made_on_the_machine_with_and_without_a_server() {
    let server = start(tempfile::tempdir().unwrap());
    let data = server.dir.path().join("data");
    let account = ["--account", "111122223333"];
    let args = |verb: &'static str| [&["root-key", verb][..], &account].concat();
    let created = json(&data, &args("create"));
    let text = |name: &str| created[name].as_str().unwrap().to_owned();
    let root = Keys {
        id: text("accessKeyId"),
        secret: text("secretAccessKey"),
        token: None,
    };
    assert_eq!(root.whoami(&server), "arn:aws:iam::111122223333:root");
    assert!(!server.log().contains(&root.secret));
    let dir = stop(server);
    let data = dir.path().join("data");
    let second = json(&data, &args("create"));
    let (code, _, stderr) = run(&data, &args("create"));
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("AccessKeysPerUser: 2"), "{stderr}");
    let listed = json(&data, &args("list"));
    assert_eq!(listed["accessKeys"].as_array().unwrap().len(), 2);
    let server = start(dir);
    let data = server.dir.path().join("data");
    for id in [root.id.as_str(), second["accessKeyId"].as_str().unwrap()] {
        let args = [&args("delete")[..], &["--key-id", id]].concat();
        let (code, _, stderr) = run(&data, &args);
        assert_eq!(code, 0, "{stderr}");
    }
    assert_eq!(root.whoami(&server), "InvalidClientTokenId");
    let (code, _, stderr) = run(&data, &["root-key", "create", "--account", "999999999999"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("no account `999999999999`"), "{stderr}");
}

#[test]
fn a_backup_of_a_running_server_restores_twice_to_the_same_bytes() {
    let server = start(tempfile::tempdir().unwrap());
    let data = server.dir.path().join("data");
    let work = tempfile::tempdir().unwrap();
    let path = |name: &str| work.path().join(name);
    let text = |path: &Path| path.display().to_string();
    let file = text(&path("backup"));
    let told = json(&data, &["store", "backup", "--to", &file]);
    let secret = server.field("admin.secretAccessKey");
    let content = std::fs::read_to_string(&file).unwrap();
    assert!(!content.contains(&secret));
    let root_key = std::fs::read_to_string(data.join("root.key")).unwrap();
    assert!(!content.contains(root_key.trim()));
    let (code, _, stderr) = run(&data, &["store", "backup", "--to", &file]);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("--overwrite"), "{stderr}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), content);
    let verified = json(&data, &["store", "verify", &file]);
    assert_eq!(verified, told);

    let mut exports = Vec::new();
    for name in ["one", "two"] {
        let target = path(name);
        let restored = json(&target, &["store", "restore", "--from", &file]);
        assert_eq!(restored["content"], told["content"]);
        let (code, export, stderr) = run(&target, &["store", "export"]);
        assert_eq!(code, 0, "{stderr}");
        exports.push(export);
    }
    let (_, of_server, _) = run(&data, &["store", "export"]);
    let (_, of_file, _) = run(&data, &["store", "export", "--from", &file]);
    exports.extend([of_server, of_file]);
    assert!(exports[0].contains("\"key\":\"user/111122223333/admin\""));
    assert!(exports.iter().all(|export| *export == exports[0]));

    let (code, _, stderr) = run(&path("one"), &["store", "restore", "--from", &file]);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("--replace"), "{stderr}");
    let replace = ["store", "restore", "--from", &file, "--replace"];
    let (code, _, stderr) = run(&path("one"), &replace);
    assert_eq!(code, 0, "{stderr}");
    let id = told["rootKeys"][0].as_str().unwrap();
    assert!(
        stderr.contains(id),
        "says which root key is needed: {stderr}"
    );
    let (code, _, stderr) = run(&data, &replace);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("in use by another process"), "{stderr}");

    // The restored store with the root key is the server that it was.
    let dir = tempfile::tempdir().unwrap();
    std::fs::rename(path("one"), dir.path().join("data")).unwrap();
    std::fs::copy(data.join("root.key"), dir.path().join("data/root.key")).unwrap();
    drop(server);
    let again = start(dir);
    assert_eq!(again.field("admin.secretAccessKey"), secret);
}

#[test]
fn a_damaged_backup_changes_nothing() {
    let server = start(tempfile::tempdir().unwrap());
    let data = server.dir.path().join("data");
    let work = tempfile::tempdir().unwrap();
    let file = work.path().join("backup");
    let (code, _, stderr) = run(&data, &["store", "backup", "--to", file.to_str().unwrap()]);
    assert_eq!(code, 0, "{stderr}");
    let whole = std::fs::read(&file).unwrap();
    let mut changed = whole.clone();
    changed[whole.len() / 2] ^= 1;
    for (what, bytes, said) in [
        ("cut", &whole[..whole.len() - 20], "cut off"),
        ("changed", &changed[..], "damaged"),
        ("empty", &[][..], "no backup"),
    ] {
        std::fs::write(&file, bytes).unwrap();
        let target = work.path().join(what);
        for args in [
            &["store", "restore", "--from", file.to_str().unwrap()][..],
            &["store", "verify", file.to_str().unwrap()],
        ] {
            let (code, stdout, stderr) = run(&target, args);
            assert_eq!(code, 2, "{what}: {stderr}");
            assert!(stderr.contains(said), "{what}: {stderr}");
            assert_eq!(stdout, "");
        }
        assert!(!target.join("store.redb").exists(), "{what}");
    }
}

#[test]
fn stores_migrate_when_no_server_holds_them() {
    let server = start(tempfile::tempdir().unwrap());
    let data = server.dir.path().join("data");
    let work = tempfile::tempdir().unwrap();
    let to = format!("redb:{}", work.path().join("new").display());
    let migrate = |from: &Path| {
        let from = format!("redb:{}", from.display());
        run(
            from.as_ref(),
            &["store", "migrate", "--from", &from, "--to", &to],
        )
    };
    let (code, _, stderr) = migrate(&data);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("stop the server"), "{stderr}");
    let dir = stop(server);
    let data: PathBuf = dir.path().join("data");
    let (code, _, stderr) = migrate(&data);
    assert_eq!(code, 0, "{stderr}");
    let export = |data: &Path| run(data, &["store", "export"]);
    let exported = export(&data);
    assert_eq!(exported.0, 0, "{}", exported.2);
    assert_eq!(exported.1, export(&work.path().join("new")).1);
    let (code, _, stderr) = migrate(&work.path().join("nowhere"));
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("there is no store"), "{stderr}");
    assert!(!work.path().join("nowhere").exists());
}

#[test]
fn a_server_does_not_start_on_half_a_restore() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let path = data.join("store.redb");
    let key = Key::new("meta/restore").unwrap();
    let mark = &br#"{"v":1,"started":"2026-03-14T09:26:53Z","from":"`/backup/today`"}"#[..];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = RedbStore::open(&path, &RedbOptions::default()).unwrap();
        let transaction = Transaction::new().put(&key, Value::from(mark));
        store.commit(transaction).await.unwrap();
    });
    std::fs::write(data.join("root.key"), format!("{}\n", "ab".repeat(32))).unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(data.join("root.key"), mode).unwrap();
    let up = [
        "up",
        "--listen",
        "127.0.0.1:0",
        "--webhook-listen",
        "127.0.0.1:0",
    ];
    for args in [&up[..], &["sessions", "revocations"]] {
        let (code, _, stderr) = run(&data, args);
        assert_eq!(code, 2, "{stderr}");
        assert!(stderr.contains("restore of `/backup/today`"), "{stderr}");
        assert!(stderr.contains("--replace"), "{stderr}");
    }
    let (code, _, stderr) = run(&data, &["store", "export"]);
    assert_eq!(code, 2, "{stderr}");
}

#[test]
fn wrong_usage_and_missing_stores_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("nowhere");
    for (args, code, said) in [
        (&["sessions", "revocations"][..], 2, "there is no store in"),
        (&["sessions", "revoke"], 2, "required"),
        (
            &["sessions", "revoke", "--role", "a", "--cluster", "b"],
            2,
            "cannot be used with",
        ),
        (&["sessions", "inspect", "CS1.x.y"], 2, "--key-id"),
        (&["root-key", "list", "--account", "12"], 2, "invalid value"),
        (
            &["store", "migrate", "--from", "here", "--to", "redb:x"],
            2,
            "a store is `redb:DIR`",
        ),
        (
            &["store", "migrate", "--from", "redb:x", "--to", "redb:x"],
            2,
            "one store",
        ),
    ] {
        let (found, _, stderr) = run(&nowhere, args);
        assert_eq!(found, code, "{args:?}: {stderr}");
        assert!(stderr.contains(said), "{args:?}: {stderr}");
    }
    assert!(!nowhere.exists(), "a slip of the pen makes no store");
}
