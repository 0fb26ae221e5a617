//! What pods get in `serve`: their own role, over both families, with and without session tokens.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign_agent::FinalCode;
use countersign_agent::guard::PodEvent;
use countersign_agent::guard::capture::FilterKind;
use countersign_imds::decision::Mode;

use crate::common::namespace::inside;
use crate::common::{Answer, SECRET, SESSION_TOKEN};
use crate::node::{FOUR, LIST, Node, SIX, curl, programs};
use crate::world::{Api, at, redirected, runtime, show, world};

#[test]
fn pods_get_their_own_role_over_both_families_and_nothing_of_the_node() {
    let name = "roles::pods_get_their_own_role_over_both_families_and_nothing_of_the_node";
    if !programs(name) || !inside(name) {
        return;
    }
    let node = Node::new(3);
    // Without a guard they reach everything.
    let token = node.token(1, FOUR, "60");
    assert_eq!(node.get(1, FOUR, &token, LIST).1, "node-role");
    let open = node.packets();
    assert!(open > 0);
    let before = node.requests().lines().count();
    runtime().block_on(async {
        let api = Arc::new(Api::default());
        let world = world(&node, Mode::Serve, FilterKind::Nft, Arc::clone(&api), false).await;
        show(&world, vec![at(1, 1), at(2, 2)]);
        redirected(&world).await;
        for base in [FOUR, SIX] {
            // Rows 1, 3, 7, 8, 9, 10, 11 and 12.
            let token = node.token(1, base, "60");
            assert!(token.len() <= 128);
            assert_eq!(
                node.get(1, base, &token, LIST),
                (200, "orchard-reader".into())
            );
            let (status, body) = node.get(1, base, &token, &format!("{LIST}orchard-reader"));
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!((status, &body["Code"]), (200, &"Success".into()));
            assert_eq!(
                (&body["SecretAccessKey"], &body["Token"]),
                (&SECRET.into(), &SESSION_TOKEN.into())
            );
            for (path, expected) in [
                (format!("{LIST}node-role"), 404),
                (
                    format!("{LIST}arn:aws:iam::210987654321:role%2forchard-reader"),
                    200,
                ),
                (
                    "/latest//meta-data/iam/security-credentials".to_owned(),
                    200,
                ),
                (
                    "/latest/meta-data/placement/../iam/security-credentials/".to_owned(),
                    400,
                ),
                (format!("{LIST}%2e%2e/x"), 400),
                ("/latest/user-data".to_owned(), 403),
                ("/latest/dynamic/instance-identity/document".to_owned(), 403),
                ("/latest/meta-data/iam/info".to_owned(), 200),
                ("/latest/meta-data/ami-launch-index".to_owned(), 404),
            ] {
                assert_eq!(node.get(1, base, &token, &path).0, expected, "{base}{path}");
            }
            assert_eq!(
                node.get(1, base, &token, "/latest/meta-data/placement/region"),
                (200, "eu-west-1".into())
            );
            assert_eq!(
                node.get(1, base, &token, "/1.0/meta-data/instance-id").0,
                200
            );
            // Row 4: the token of another pod. Row 25: forwarded.
            assert_eq!(node.get(2, base, &token, LIST).0, 401);
            let header = format!("X-aws-ec2-metadata-token: {token}");
            let url = format!("{base}{LIST}");
            assert_eq!(
                node.curl(1, &["-H", &header, "-H", "X-Forwarded-For: 10.0.0.1", &url])
                    .0,
                403
            );
            assert_eq!(
                node.curl(1, &["-H", &header, "-H", "Host: evil.example", &url])
                    .0,
                403
            );
            assert_eq!(node.curl(1, &[&url]).0, 401);
            // Rows 5, 13 and 14.
            for ttl in ["0", "21601", "abc"] {
                let header = format!("X-aws-ec2-metadata-token-ttl-seconds: {ttl}");
                let put = [
                    "-X",
                    "PUT",
                    "-H",
                    &header,
                    &format!("{base}/latest/api/token"),
                ];
                assert_eq!(node.curl(1, &put).0, 400, "{ttl}");
            }
            let ttl = "X-aws-ec2-metadata-token-ttl-seconds: 60";
            for (path, expected) in [("/2021-03-23/api/token", 403), ("/token", 404)] {
                assert_eq!(
                    node.curl(1, &["-X", "PUT", "-H", ttl, &format!("{base}{path}")])
                        .0,
                    expected
                );
            }
            assert_eq!(node.curl(1, &["-X", "POST", &url]).0, 405);
            // Row 6.
            let short = node.token(1, base, "1");
            tokio::time::sleep(Duration::from_millis(1100)).await;
            assert_eq!(node.get(1, base, &short, LIST).0, 401);
            // A pod that nobody knows.
            let put = ["-X", "PUT", "-H", ttl, &format!("{base}/latest/api/token")];
            assert_eq!(node.curl(3, &put).0, 404);
            // Other ports, and UDP, go nowhere.
            assert_eq!(node.curl(1, &["-m", "1", &format!("{base}:81/")]).0, 0);
        }
        // Row 2: a pod without a role.
        world.auth.set(Answer::Refuse(FinalCode::ResourceNotFound));
        show(&world, vec![at(1, 1), at(2, 9)]);
        let token = node.token(2, FOUR, "60");
        assert_eq!(node.get(2, FOUR, &token, LIST).0, 404);
        // The trust policy refuses; the auth service is down.
        world.auth.set(Answer::Refuse(FinalCode::AccessDenied));
        show(&world, vec![at(2, 10)]);
        let token = node.token(2, FOUR, "60");
        let (status, body) = node.get(2, FOUR, &token, LIST);
        assert!(
            status == 500 && body.contains("AssumeRoleUnauthorizedAccess"),
            "{status} {body}"
        );
        world.auth.set(Answer::Down);
        show(&world, vec![at(2, 11)]);
        let token = node.token(2, FOUR, "60");
        assert_eq!(node.get(2, FOUR, &token, LIST).0, 503);
        let events = api.events.lock().unwrap().clone();
        for event in [
            PodEvent::NodeRoleBlocked,
            PodEvent::RoleForbidden,
            PodEvent::CredentialError,
        ] {
            assert!(events.iter().any(|(_, other)| *other == event), "{event:?}");
        }
        world.agent.stop().await;
    });
    assert_eq!(node.packets(), open, "a pod's packet reached the service");
    // The agent itself asked for two values and tokens to ask with, and for nothing secret.
    let asked = node.requests();
    let asked: Vec<&str> = asked.lines().skip(before).collect();
    assert!(asked.len() <= 4, "{asked:?}");
    assert!(
        asked
            .iter()
            .all(|line| !line.contains("iam") && !line.contains("user-data")),
        "{asked:?}"
    );
}

#[test]
fn clients_get_the_pods_role_without_a_variable() {
    let name = "roles::clients_get_the_pods_role_without_a_variable";
    if !programs(name) || !inside(name) {
        return;
    }
    let node = Node::new(1);
    runtime().block_on(async {
        let world = world(&node, Mode::Serve, FilterKind::Nft, Arc::default(), true).await;
        show(&world, vec![at(1, 1)]);
        redirected(&world).await;
        assert_eq!(node.curl(1, &[&format!("{FOUR}{LIST}")]), (200, "orchard-reader".into()));
        // Row 5.4: a bad token is refused even so.
        assert_eq!(node.get(1, FOUR, "wrong", LIST).0, 401);
        let script = "import boto3\nc = boto3.Session().get_credentials()\nprint(c.method, c.get_frozen_credentials().secret_key)";
        let role = format!("iam-role {SECRET}");
        let go = "COUNTERSIGN_TEST_GO";
        for (variable, program, arguments, expected) in [
            ("COUNTERSIGN_TEST_PYTHON", None, ["-c", script].as_slice(), [role.as_str()].as_slice()),
            // It shows the end of the key, and where it comes from.
            ("COUNTERSIGN_TEST_AWS2", None, &["configure", "list"], &["****************0001", "iam-role"]),
            (go, Some("aws-sdk-go-v1"), &["credentials"], &[SECRET]),
            (go, Some("aws-sdk-go-v2"), &["credentials"], &[SECRET]),
        ] {
            let path = std::env::var_os(variable).map(PathBuf::from);
            let path = path.map(|path| program.map_or_else(|| path.clone(), |program| path.join(program)));
            let Some(path) = path.filter(|path| path.exists()) else {
                eprintln!("SKIPPED a part of {name}: {variable} is not set to what exists");
                continue;
            };
            for family in ["IPv4", "IPv6"] {
                let output = Command::new("ip")
                    .args(["netns", "exec", &node.names[1]])
                    .arg(&path)
                    .args(arguments)
                    .env_clear()
                    .env("HOME", node.directory.path())
                    .env("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", family)
                    .output()
                    .unwrap();
                let text = String::from_utf8_lossy(&output.stdout);
                for part in expected {
                    assert!(text.contains(part), "{} {family}: {output:?}", path.display());
                }
            }
        }
        world.agent.stop().await;
    });
    assert_eq!(node.packets(), 0);
}

#[test]
fn a_hundred_first_requests_make_one_call_and_a_late_watch_is_waited_for() {
    let name = "roles::a_hundred_first_requests_make_one_call_and_a_late_watch_is_waited_for";
    if !programs(name) || !inside(name) {
        return;
    }
    let node = Node::new(2);
    runtime().block_on(async {
        let api = Arc::new(Api::default());
        let world = world(&node, Mode::Serve, FilterKind::Nft, Arc::clone(&api), true).await;
        redirected(&world).await;
        // Row 15: the pod asks before the watch knows it.
        let late = tokio::task::spawn_blocking({
            let name = node.names[1].clone();
            move || curl(Some(&name), &[&format!("{FOUR}{LIST}")])
        });
        tokio::time::sleep(Duration::from_millis(1000)).await;
        show(&world, vec![at(1, 1)]);
        assert_eq!(late.await.unwrap(), (200, "orchard-reader".into()));
        // The watch is silent, and a read of the API knows the pod.
        api.pods.lock().unwrap().push(at(2, 2));
        let started = Instant::now();
        let put = [
            "-X",
            "PUT",
            "-H",
            "X-aws-ec2-metadata-token-ttl-seconds: 60",
            &format!("{FOUR}/latest/api/token"),
        ];
        assert_eq!(node.curl(2, &put).0, 200);
        assert!(
            started.elapsed() < Duration::from_millis(1700),
            "{:?}",
            started.elapsed()
        );
        // Row 26, within the pod's limit of 40 at once.
        show(&world, vec![at(1, 5)]);
        let calls = world.auth.count();
        let url = format!("{FOUR}{LIST}");
        let urls = [url.as_str()];
        let mut all = Vec::new();
        for _ in 0..30 {
            let (name, urls) = (
                node.names[1].clone(),
                urls.iter().map(|u| (*u).to_owned()).collect::<Vec<_>>(),
            );
            all.push(tokio::task::spawn_blocking(move || {
                let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
                curl(Some(&name), &urls)
            }));
        }
        for one in all {
            assert_eq!(one.await.unwrap().0, 200);
        }
        assert_eq!(world.auth.count() - calls, 1);
        world.agent.stop().await;
    });
    assert_eq!(node.packets(), 0);
}
