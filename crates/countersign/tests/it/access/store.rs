//! On a store, on the server that runs on it, and by its own EKS API.

use super::*;

/// Entries of the cluster `demo`, made while no server runs: one bound to Dev with View in `shop`, one bound to a role
/// Gone that is made again afterwards.
fn seed(data: &Path) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let random = Random::system();
        let opened = DataDir::open(
            data,
            RootKeySource::DataDir,
            &random,
            &RedbOptions::default(),
        )
        .unwrap();
        let sealer = Sealer::new(&opened.root_key, &[]).unwrap();
        let directory = Directory::open(Arc::new(opened.store), sealer, random, Quotas::default())
            .await
            .unwrap();
        let now = Timestamp::now();
        let account = "111122223333".parse().unwrap();
        let place = ClusterPlace {
            account,
            region: "us-east-1",
            name: "demo",
        };
        let snapshot = directory.snapshot();
        let cluster = place
            .find(&snapshot, now)
            .unwrap()
            .record
            .authentication_mode;
        if cluster == AuthenticationMode::ConfigMap {
            let mode = AuthenticationMode::ApiAndConfigMap;
            let settling = SignedDuration::ZERO;
            directory
                .set_authentication_mode(place, mode, settling, None, now)
                .await
                .unwrap();
        }
        for (arn, name) in [(DEV, "Dev"), (GONE, "Gone")] {
            let id = snapshot.role(account, name).unwrap().record.id.clone();
            let new = NewAccessEntry {
                principal_arn: arn.into(),
                principal_id: Some(id),
                entry_type: EntryType::Standard,
                groups: vec!["devs".into()],
                username: Some("dev:{{SessionName}}".into()),
                tags: Vec::new(),
            };
            directory
                .create_access_entry(place, new, None, now)
                .await
                .unwrap();
        }
        let scope = AccessScope::Namespace(vec!["shop".into()]);
        directory
            .associate_access_policy(place, DEV, VIEW, &scope, now)
            .await
            .unwrap();
        let old = snapshot.role(account, "Gone").unwrap().record.clone();
        directory.delete_role(account, "Gone").await.unwrap();
        let again = NewRole {
            account,
            name: old.name,
            path: old.path,
            trust: old.trust,
            max_session_duration: old.max_session_duration,
            description: None,
            tags: Vec::new(),
            boundary: None,
        };
        directory.create_role(again, now).await.unwrap();
    });
}

#[test]
fn entries_of_a_store_and_of_the_server_on_it_are_the_same_and_a_dead_one_is_rebound() {
    let directory = tempfile::tempdir().unwrap();
    let (data, config) = (
        directory.path().join("data"),
        directory.path().join("config.yaml"),
    );
    std::fs::write(&config, CONFIG).unwrap();
    let data_dir = data.display().to_string();
    let config = config.display().to_string();
    let start = || Running::up(&["--data-dir", &data_dir, "--config", &config]);
    start().stop();
    seed(&data);
    let shop = example("shop.yaml");
    let list = ["list", "--data-dir", &data_dir, "--cluster", "demo"];
    let (code, offline, stderr) = access(&list, &[]);
    assert_eq!(code, 0, "{stderr}");
    assert!(
        offline.starts_with("cluster demo (API_AND_CONFIG_MAP)\n"),
        "{offline}"
    );
    let row = |text: &str, arn: &str| -> Vec<String> {
        let line = text.lines().find(|line| line.starts_with(arn));
        let line = line.unwrap_or_else(|| panic!("{arn} in\n{text}"));
        cells(line).iter().map(|cell| (*cell).to_owned()).collect()
    };
    let dev = row(&offline, DEV);
    assert_eq!(
        dev[1..5],
        [
            "STANDARD",
            "dev:{{SessionName}}",
            "devs",
            "AmazonEKSViewPolicy@shop"
        ]
    );
    assert!(dev[5].starts_with("bound AROA"), "{dev:?}");
    let gone = row(&offline, GONE);
    assert!(
        gone[5].starts_with("dead AROA") && gone[5].contains("(now AROA"),
        "{gone:?}"
    );

    let server = start();
    let (_, online, _) = access(&list, &[]);
    assert_eq!(
        online, offline,
        "through the socket, and on the store itself"
    );
    let (code, only, _) = access(&["list", "--data-dir", &data_dir, "--dead"], &[]);
    assert_eq!(code, 1, "there are dead entries");
    assert!(only.contains(GONE) && !only.contains(DEV), "{only}");

    // The snapshot answers the same where there is no server.
    let (_, snapshot, _) = access(&["list", "--data-dir", &data_dir, "-o", "json"], &[]);
    let file = directory.path().join("snapshot.json");
    std::fs::write(&file, snapshot).unwrap();
    let file = file.display().to_string();
    let session = "arn:aws:sts::111122223333:assumed-role/Dev/lea";
    for source in [
        ["--data-dir", data_dir.as_str()],
        ["--entries", file.as_str()],
    ] {
        let ask = |namespace: &str, principal: &str| {
            let mut args = vec![
                "why", principal, "list", "services", "-n", namespace, "-f", &shop,
            ];
            args.extend(source);
            access(&args, &[])
        };
        let (code, chain, stderr) = ask("shop", session);
        assert_eq!(code, 0, "{chain}{stderr}");
        assert!(
            chain.contains("user \"dev:lea\", groups devs, system:authenticated"),
            "{chain}"
        );
        assert!(
            chain.contains("EKS Access Policy: allowed by RoleBinding"),
            "{chain}"
        );
        let (code, chain, _) = ask("pay", session);
        assert_eq!(code, 1);
        assert!(
            chain.contains("AmazonEKSViewPolicy with scope shop,pay instead of shop"),
            "{chain}"
        );
        let (code, chain, _) = ask("shop", GONE);
        assert_eq!(code, 1);
        assert!(chain.contains("is dead: it is bound to AROA"), "{chain}");
        assert!(
            chain.contains(&format!("countersign access rebind --cluster demo {GONE}")),
            "{chain}"
        );
    }

    let rebind = ["rebind", "--data-dir", &data_dir, "--cluster", "demo", GONE];
    let (code, stdout, _) = access(&rebind, &[]);
    assert_eq!(code, 1);
    assert!(stdout.contains("nothing is changed yet"), "{stdout}");
    let (code, _, stderr) = access(
        &[&rebind[..], &["--to", "AROAANOTHER000000001", "--yes"]].concat(),
        &[],
    );
    assert_eq!(code, 2, "another id than the principal's: {stderr}");
    let (code, _, stderr) = access(
        &[
            "rebind",
            "--data-dir",
            &data_dir,
            "arn:aws:iam::111122223333:role/No",
        ],
        &[],
    );
    assert_eq!(code, 2, "{stderr}");
    let (code, stdout, stderr) = access(&[&rebind[..], &["--yes"]].concat(), &[]);
    assert_eq!(code, 0, "{stdout}{stderr}");
    server.wait_for_log("an access entry is bound to another principal");
    let (code, stdout, _) = access(&[&rebind[..], &["--yes"]].concat(), &[]);
    assert_eq!(code, 0);
    assert!(
        stdout.starts_with("bound to AROA") && stdout.ends_with(" already\n"),
        "{stdout}"
    );
    assert_eq!(
        access(&["list", "--data-dir", &data_dir, "--dead"], &[]).0,
        0
    );
}

/// A call of our own EKS API as the admin, which must succeed.
fn call_eks(server: &Running, method: &str, path: &str, body: &Value) -> Value {
    use countersign_sigv4::{Credentials, Payload, Request, SecretKey, Signer};
    let url = server.field("endpointUrl");
    let host = url.strip_prefix("http://").unwrap();
    let body = body.to_string();
    let headers = [("host", host.as_bytes())];
    let mut request = Request::new(method, path.as_bytes());
    request.headers = &headers;
    request.body = Payload::Bytes(body.as_bytes());
    let secret = SecretKey::new(server.field("admin.secretAccessKey"));
    let credentials = Credentials {
        key_id: &server.field("admin.accessKeyId"),
        secret: &secret,
        session_token: None,
    };
    let signed = Signer::new(credentials, &server.field("region"), "eks")
        .sign(&request, Timestamp::now())
        .unwrap();
    let headers: Vec<(&str, &str)> = signed.headers().collect();
    let answer = server.aws(method, path, &headers, body.as_bytes());
    assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

#[test]
fn our_own_eks_api_tells_what_the_administration_socket_tells() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("config.yaml");
    std::fs::write(&config, CONFIG).unwrap();
    let server = Running::up(&["--config", &config.display().to_string()]);
    let entries = "/clusters/demo/access-entries";
    let path_of = |arn: &str| {
        let escaped = arn.replace(':', "%3A").replace('/', "%2F");
        format!("{entries}/{escaped}")
    };
    let dev = json!({"principalArn": DEV, "kubernetesGroups": ["devs"], "username": "dev:{{SessionName}}"});
    let nodes = json!({"principalArn": GONE, "type": "EC2_LINUX"});
    for body in [&dev, &nodes] {
        call_eks(&server, "POST", entries, body);
    }
    let scope = json!({"type": "namespace", "namespaces": ["shop", "dev-*"]});
    call_eks(
        &server,
        "POST",
        &format!("{}/access-policies", path_of(DEV)),
        &json!({"policyArn": VIEW, "accessScope": scope}),
    );

    let (key, secret) = (
        server.field("admin.accessKeyId"),
        server.field("admin.secretAccessKey"),
    );
    let credentials = [
        ("AWS_ACCESS_KEY_ID", key.as_str()),
        ("AWS_SECRET_ACCESS_KEY", secret.as_str()),
    ];
    let (url, region) = (server.field("endpointUrl"), server.field("region"));
    let eks = [
        "--eks",
        "--cluster",
        "demo",
        "--region",
        &region,
        "--endpoint-url",
        &url,
    ];
    let data_dir = server.dir.path().join("data").display().to_string();
    let socket = ["--cluster", "demo", "--data-dir", &data_dir];
    let listed = |source: &[&str]| {
        let (code, list, stderr) =
            access(&[&["list", "-o", "json"], source].concat(), &credentials);
        assert_eq!(code, 0, "{list}{stderr}");
        let mut list: Value = serde_json::from_str(&list).unwrap();
        let entries = list["entries"].take();
        let mut entries = entries.as_array().unwrap().clone();
        // The API tells neither the binding nor more than milliseconds.
        for entry in &mut entries {
            let entry = entry.as_object_mut().unwrap();
            for unlike in ["binding", "createdAt", "modifiedAt"] {
                entry.remove(unlike);
            }
            for policy in entry["associatedAccessPolicies"].as_array_mut().unwrap() {
                let policy = policy.as_object_mut().unwrap();
                policy.remove("associatedAt").unwrap();
                policy.remove("modifiedAt").unwrap();
            }
        }
        (list["cluster"]["authenticationMode"].take(), entries)
    };
    let told = listed(&eks);
    assert_eq!(told, listed(&socket));
    assert!(told.1.len() >= 2, "{told:?}");
    let entry = |arn: &str| told.1.iter().find(|e| e["principalArn"] == arn).unwrap();
    assert_eq!(entry(DEV)["username"], "dev:{{SessionName}}");
    assert_eq!(entry(DEV)["kubernetesGroups"], json!(["devs"]));
    assert_eq!(
        entry(DEV)["associatedAccessPolicies"],
        json!([{"policyArn": VIEW, "accessScope": scope}])
    );
    assert_eq!(entry(GONE)["type"], "EC2_LINUX");
    assert_eq!(entry(GONE)["kubernetesGroups"], json!(["system:nodes"]));

    let shop = example("shop.yaml");
    let session = "arn:aws:sts::111122223333:assumed-role/Dev/lea";
    for (verb, namespace, code, said) in [
        (
            "list",
            "shop",
            0,
            "EKS Access Policy: allowed by RoleBinding",
        ),
        (
            "list",
            "dev-1",
            0,
            "EKS Access Policy: allowed by RoleBinding",
        ),
        (
            "list",
            "pay",
            1,
            "AmazonEKSViewPolicy with scope shop,dev-*,pay instead of shop,dev-*",
        ),
    ] {
        for source in [&eks[..], &socket] {
            let question = [
                "why", session, verb, "services", "-n", namespace, "-f", &shop,
            ];
            let (found, chain, stderr) = access(&[&question, source].concat(), &credentials);
            assert_eq!(found, code, "{namespace} {source:?}: {chain}{stderr}");
            assert!(chain.contains(said), "{namespace} {source:?}: {chain}");
            assert!(chain.contains("user \"dev:lea\", groups devs"), "{chain}");
        }
        let question = [
            "can-i",
            verb,
            "services",
            "-n",
            namespace,
            "-f",
            &shop,
            "--principal",
            session,
        ];
        let (found, answer, stderr) = access(&[&question, &eks[..]].concat(), &credentials);
        assert_eq!(found, code, "{namespace}: {answer}{stderr}");
    }
    // Somebody the API refuses is told so, and gets no "no".
    let wrong = [credentials[0], ("AWS_SECRET_ACCESS_KEY", "x")];
    let (code, _, stderr) = access(&[&["list"], &eks[..]].concat(), &wrong);
    assert_eq!(code, 3, "{stderr}");
    assert!(
        stderr.contains("InvalidSignatureException") && !stderr.contains(&secret),
        "{stderr}"
    );
}
