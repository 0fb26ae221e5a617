//! A person becomes a role with the AWS CLI, and the role becomes a Kubernetes user.

use std::collections::BTreeMap;
use std::path::Path;

use crate::clients::{clients, every_client_is};
use crate::harness::{Running, aws_cli, client, countersign, exec_token};

const CONFIG: &str = r#"
server:
  mapRoles:
  - rolearn: arn:aws:iam::111122223333:role/Dev
    username: dev:{{SessionName}}
    groups: [developers]
countersign:
  bootstrap:
    users:
    - name: eve
      accessKeyFile: KEYFILE
    roles:
    # Named before the role it trusts: the order does not matter.
    - name: Deployer
      trustPolicy: |
        {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": ["sts:AssumeRole", "sts:SetSourceIdentity"],
         "Principal": {"AWS": "arn:aws:iam::111122223333:role/team/Dev"}}}
    - name: Dev
      path: /team/
      trustPolicyFile: TRUSTFILE
      maxSessionDuration: 7200
"#;

const TRUST: &str = r#"{"Version": "2012-10-17", "Statement": [
  {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:root"},
   "Action": ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]}]}
"#;

fn start(dir: tempfile::TempDir) -> Running {
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(path("trust.json"), TRUST).unwrap();
    let config = CONFIG
        .replace("KEYFILE", &path("eve.json"))
        .replace("TRUSTFILE", &path("trust.json"));
    std::fs::write(path("config.yaml"), config).unwrap();
    let config = path("config.yaml");
    Running::start_in(dir, "up", &["--config", &config])
}

fn assume(
    aws: &Path,
    role: &str,
    more: &[&str],
    environment: &BTreeMap<String, String>,
) -> std::process::Output {
    let arn = format!("arn:aws:iam::111122223333:role/{role}");
    let mut args = vec![
        "sts",
        "assume-role",
        "--role-arn",
        &arn,
        "--role-session-name",
        "alice",
        "--output",
        "json",
    ];
    args.extend(more);
    client(aws, &args, environment)
}

/// The environment with the credentials of an answer in the place of its own.
fn with_session(
    environment: &BTreeMap<String, String>,
    answer: &serde_json::Value,
) -> BTreeMap<String, String> {
    let mut environment = environment.clone();
    for (name, field) in [
        ("AWS_ACCESS_KEY_ID", "AccessKeyId"),
        ("AWS_SECRET_ACCESS_KEY", "SecretAccessKey"),
        ("AWS_SESSION_TOKEN", "SessionToken"),
    ] {
        environment.insert(
            name.into(),
            answer["Credentials"][field].as_str().unwrap().into(),
        );
    }
    environment
}

fn answer(output: &std::process::Output) -> serde_json::Value {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_client_assumes_a_role_by_its_profile_and_the_roles_token_is_the_mapped_users() {
    let test = "every_client_assumes_a_role_by_its_profile_and_the_roles_token_is_the_mapped_users";
    let server = start(tempfile::tempdir().unwrap());
    let mut environment = server.aws_environment();
    let id = environment.remove("AWS_ACCESS_KEY_ID").unwrap();
    let secret = environment.remove("AWS_SECRET_ACCESS_KEY").unwrap();
    let keys = format!("[admin]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
    let profiles = "[profile dev]\nsource_profile = admin\nrole_arn = arn:aws:iam::111122223333:role/team/Dev\nrole_session_name = alice\n\
                    [profile deployer]\nsource_profile = dev\nrole_arn = arn:aws:iam::111122223333:role/Deployer\nrole_session_name = alice\n";
    for (variable, name, text) in [
        ("AWS_SHARED_CREDENTIALS_FILE", "credentials", keys.as_str()),
        ("AWS_CONFIG_FILE", "config", profiles),
    ] {
        let path = server.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        environment.insert(variable.into(), path.display().to_string());
    }
    // One role, and a role by the role before it.
    for (profile, expected) in [
        ("dev", "arn:aws:sts::111122223333:assumed-role/Dev/alice"),
        (
            "deployer",
            "arn:aws:sts::111122223333:assumed-role/Deployer/alice",
        ),
    ] {
        environment.insert("AWS_PROFILE".into(), profile.into());
        every_client_is(test, &environment, expected);
    }
    environment.insert("AWS_PROFILE".into(), "dev".into());
    // The SDK for Rust asks for the role before `get-token` makes the token.
    let ours = countersign(&["get-token", "--cluster-name", "demo"], &environment);
    let mut tokens = vec![("the AWS SDK for Rust", exec_token(&ours))];
    for client in clients(test) {
        let token = client.token(&environment);
        tokens.extend(token.map(|token| (client.name, token)));
    }
    for (name, token) in tokens {
        let (_, review) = server.review("/authenticate", &token);
        let user = &review["status"]["user"];
        assert_eq!(user["username"], "dev:alice", "{name}: {review}");
        assert_eq!(user["groups"], serde_json::json!(["developers"]));
    }
}

#[test]
fn aws_cli_assumes_a_role_whose_token_becomes_the_mapped_user() {
    let Some(aws) = aws_cli("aws_cli_assumes_a_role_whose_token_becomes_the_mapped_user") else {
        return;
    };
    let server = start(tempfile::tempdir().unwrap());
    let admin = server.aws_environment();
    let more = [
        "--duration-seconds",
        "7200",
        "--source-identity",
        "alice.w",
        "--tags",
        "Key=team,Value=blue",
    ];
    let assumed = answer(&assume(&aws, "team/Dev", &more, &admin));
    assert_eq!(
        assumed["AssumedRoleUser"]["Arn"],
        "arn:aws:sts::111122223333:assumed-role/Dev/alice"
    );
    assert!(
        assumed["AssumedRoleUser"]["AssumedRoleId"]
            .as_str()
            .unwrap()
            .ends_with(":alice")
    );
    assert_eq!(assumed["SourceIdentity"], "alice.w");
    assert!(
        assumed["PackedPolicySize"]
            .as_i64()
            .is_some_and(|percent| (1..100).contains(&percent))
    );

    let session = with_session(&admin, &assumed);
    let identity = answer(&client(
        &aws,
        &["sts", "get-caller-identity", "--output", "json"],
        &session,
    ));
    assert_eq!(
        identity["Arn"],
        "arn:aws:sts::111122223333:assumed-role/Dev/alice"
    );
    assert_eq!(
        identity["UserId"],
        assumed["AssumedRoleUser"]["AssumedRoleId"]
    );

    let token = exec_token(&client(
        &aws,
        &["eks", "get-token", "--cluster-name", "demo"],
        &session,
    ));
    assert!(
        token.len() < 4096,
        "authenticators in the field take no longer ones: {}",
        token.len()
    );
    let (status, review) = server.review("/authenticate", &token);
    assert_eq!(
        (status, &review["status"]["authenticated"]),
        (200, &true.into()),
        "{review}\n{}",
        server.log_tail()
    );
    let user = &review["status"]["user"];
    assert_eq!(user["username"], "dev:alice");
    assert_eq!(user["groups"], serde_json::json!(["developers"]));
    for (key, value) in [
        ("sessionName", "alice"),
        ("arn", "arn:aws:sts::111122223333:assumed-role/Dev/alice"),
        ("canonicalArn", "arn:aws:iam::111122223333:role/Dev"),
        (
            "accessKeyId",
            assumed["Credentials"]["AccessKeyId"].as_str().unwrap(),
        ),
        ("countersign.io/source-identity", "alice.w"),
    ] {
        assert_eq!(
            user["extra"][key],
            serde_json::json!([value]),
            "{key}: {user}"
        );
    }

    let chained = answer(&assume(&aws, "Deployer", &[], &session));
    assert_eq!(
        chained["SourceIdentity"], "alice.w",
        "the source identity goes on"
    );
    assert!(
        !server.log().contains(session["AWS_SESSION_TOKEN"].as_str()),
        "the log must not hold tokens"
    );
}

#[test]
fn refusals_have_iams_text_and_do_not_tell_whether_the_role_exists() {
    let Some(aws) = aws_cli("refusals_have_iams_text_and_do_not_tell_whether_the_role_exists")
    else {
        return;
    };
    let server = start(tempfile::tempdir().unwrap());
    let key: serde_json::Value =
        serde_json::from_slice(&std::fs::read(server.dir.path().join("eve.json")).unwrap())
            .unwrap();
    let mut eve = server.aws_environment();
    eve.insert(
        "AWS_ACCESS_KEY_ID".into(),
        key["AccessKeyId"].as_str().unwrap().into(),
    );
    eve.insert(
        "AWS_SECRET_ACCESS_KEY".into(),
        key["SecretAccessKey"].as_str().unwrap().into(),
    );
    for role in ["team/Dev", "Dev", "Deployer", "Nobody"] {
        let output = assume(&aws, role, &[], &eve);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let expected = format!(
            "An error occurred (AccessDenied) when calling the AssumeRole operation: User: \
             arn:aws:iam::111122223333:user/eve is not authorized to perform: sts:AssumeRole on resource: \
             arn:aws:iam::111122223333:role/{role}"
        );
        assert!(stderr.trim().ends_with(&expected), "{role}: {stderr}");
    }
    let output = assume(
        &aws,
        "team/Dev",
        &["--duration-seconds", "7201"],
        &server.aws_environment(),
    );
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        stderr.contains("exceeds the MaxSessionDuration set for this role."),
        "{stderr}"
    );
}

#[test]
fn roles_sessions_and_their_keys_survive_a_restart() {
    let Some(aws) = aws_cli("roles_sessions_and_their_keys_survive_a_restart") else {
        return;
    };
    let mut server = start(tempfile::tempdir().unwrap());
    let session = with_session(
        &server.aws_environment(),
        &answer(&assume(&aws, "team/Dev", &[], &server.aws_environment())),
    );
    let dir = std::mem::replace(&mut server.dir, tempfile::tempdir().unwrap());
    drop(server);
    let server = start(dir);
    let mut moved = session.clone();
    moved.insert("AWS_ENDPOINT_URL".into(), server.field("endpointUrl"));
    let identity = answer(&client(
        &aws,
        &["sts", "get-caller-identity", "--output", "json"],
        &moved,
    ));
    assert_eq!(
        identity["Arn"],
        "arn:aws:sts::111122223333:assumed-role/Dev/alice"
    );
}

#[test]
fn a_malformed_policy_refuses_the_start_with_its_place() {
    let cases = [
        (
            "trustPolicy: '{'",
            "MalformedPolicyDocument: This policy contains invalid Json",
        ),
        ("trustPolicyFile: FILE", "bad.json:3:"),
        ("path: /team/", "needs `trustPolicyFile` or `trustPolicy`"),
        (
            "trustPolicy: '{\"Version\":\"2012-10-17\",\"Statement\":{\"Effect\":\"Allow\",\"Action\":\"sts:AssumeRole\",\"Principal\":{\"AWS\":\"arn:aws:iam::111122223333:user/nobody\"}}}'",
            "Invalid principal in policy: \"AWS\":\"arn:aws:iam::111122223333:user/nobody\"",
        ),
    ];
    for (line, expected) in cases {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("bad.json");
        std::fs::write(
            &file,
            "{\"Version\": \"2012-10-17\",\n \"Statement\": [\n  {\"Effect\": \"Permit\"}]}\n",
        )
        .unwrap();
        let line = line.replace("FILE", &file.display().to_string());
        let config = dir.path().join("config.yaml");
        std::fs::write(
            &config,
            format!("countersign:\n  bootstrap:\n    roles:\n    - name: Dev\n      {line}\n"),
        )
        .unwrap();
        let data = dir.path().join("data").display().to_string();
        let config = config.display().to_string();
        let output = crate::harness::countersign(
            &[
                "up",
                "--data-dir",
                &data,
                "--listen",
                "127.0.0.1:0",
                "--webhook-listen",
                "127.0.0.1:0",
                "--config",
                &config,
            ],
            &BTreeMap::new(),
        );
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && stderr.contains(expected),
            "{line}: {stderr}"
        );
    }
}
