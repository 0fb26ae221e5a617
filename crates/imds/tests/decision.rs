//! The rows of the specification's sections 5.4 and 5.8 that a decision is made of, as tables.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests"
)]

use countersign_imds::decision::{
    CredentialsPath, Decision, Mode, Refusal, Request, Session, Settings, decide,
};
use countersign_imds::fuzz::nothing_secret_is_forwarded;
use countersign_imds::harmless::{HarmlessPaths, NotAllowable};
use countersign_imds::path::{Path, PathFault};
use proptest::prelude::*;

fn settings(mode: Mode) -> Settings {
    Settings {
        mode,
        v1: false,
        harmless: HarmlessPaths::default(),
    }
}

fn get(path: &str) -> Request<'_> {
    Request {
        method: "GET",
        path,
        host: Some("169.254.169.254"),
        forwarded: false,
        ttl: None,
        session: Session::Valid,
    }
}

fn decided(request: &Request<'_>, mode: Mode) -> Decision {
    decide(request, &settings(mode)).decision
}

fn status(request: &Request<'_>, mode: Mode) -> u16 {
    match decided(request, mode) {
        Decision::Refuse(refusal) => refusal.status(),
        _ => 200,
    }
}

#[test]
fn paths_get_the_answers_of_their_mode() {
    const LIST: &str = "/latest/meta-data/iam/security-credentials/";
    // Path, `serve`, `block`.
    let cases = [
        (LIST, 200, 404),
        ("/latest/meta-data/iam/security-credentials", 200, 404),
        ("/latest//meta-data/iam/security-credentials/", 200, 404),
        (
            "/latest/meta-data/iam/security-credentials/reader",
            200,
            404,
        ),
        (
            "/latest/meta-data/iam/%73ecurity-credentials/reader",
            200,
            404,
        ),
        ("/latest/meta-data/iam/info", 200, 404),
        ("/latest/meta-data/iam/", 404, 404),
        (
            "/latest/meta-data/placement/../iam/security-credentials/",
            400,
            400,
        ),
        (
            "/latest/meta-data/iam/security-credentials/%2e%2e/x",
            400,
            400,
        ),
        ("/latest/meta-data/iam/security-credentials/.%2E", 400, 400),
        ("/latest/./user-data", 400, 400),
        ("/latest/user-data%0a", 400, 400),
        ("/latest/user-data%zz", 400, 400),
        ("/latest/user-data%", 400, 400),
        ("latest/user-data", 400, 400),
        ("/latest/user-data", 403, 403),
        ("/latest/user-data/", 403, 403),
        ("/latest//user-data", 403, 403),
        ("/latest/%75ser-data", 403, 403),
        ("/latest/%2575ser-data", 404, 404),
        ("/latest/User-Data", 404, 404),
        ("/1.0/user-data", 403, 403),
        ("/2021-03-23/user-data", 403, 403),
        ("/2021-3-23/user-data", 404, 404),
        ("/user-data", 404, 404),
        ("/latest/dynamic/instance-identity/document", 403, 403),
        ("/latest/dynamic/instance-identity/", 403, 403),
        ("/latest/dynamic/", 404, 404),
        (
            "/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance",
            403,
            403,
        ),
        ("/latest/meta-data/public-keys/0/openssh-key", 403, 403),
        ("/latest/meta-data/tags/instance/Name", 403, 403),
        ("/latest/meta-data/placement/region", 200, 200),
        ("/latest/meta-data/placement/region/", 200, 200),
        ("/latest/meta-data/placement/", 404, 404),
        ("/1.0/meta-data/instance-id", 200, 200),
        ("/latest/meta-data/", 200, 200),
        ("/latest/meta-data", 200, 200),
        (
            "/latest/meta-data/network/interfaces/macs/0e:49:61:0f:c3:11/vpc-id",
            200,
            200,
        ),
        (
            "/latest/meta-data/network/interfaces/macs/0e:49:61:0f:c3:11/security-groups",
            404,
            404,
        ),
        (
            "/latest/meta-data/network/interfaces/macs/..%2f/vpc-id",
            400,
            400,
        ),
        (
            "/latest/meta-data/network/interfaces/macs/0e:49:61:0f:c3:1g/vpc-id",
            404,
            404,
        ),
        ("/latest/api/token", 404, 404),
        ("/latest/", 404, 404),
        ("/", 404, 404),
    ];
    for (path, serve, block) in cases {
        assert_eq!(status(&get(path), Mode::Serve), serve, "serve {path}");
        assert_eq!(status(&get(path), Mode::Block), block, "block {path}");
        let head = Request {
            method: "HEAD",
            ..get(path)
        };
        assert_eq!(
            decided(&head, Mode::Serve),
            decided(&get(path), Mode::Serve)
        );
    }
    assert_eq!(
        decided(
            &get(
                "/latest/meta-data/iam/security-credentials/arn%3aaws:iam::111122223333:role%2fteam/reader"
            ),
            Mode::Serve
        ),
        Decision::Role(CredentialsPath::Role(
            "arn:aws:iam::111122223333:role/team/reader".into()
        )),
    );
    let long = format!("/latest/{}", "a".repeat(4096));
    assert_eq!(Path::normalise(&long), Err(PathFault::TooLong));
}

#[test]
fn sessions_are_required_and_tokens_have_a_life() {
    let path = "/latest/meta-data/instance-id";
    for mode in [Mode::Block, Mode::Serve] {
        let with = |session| Request {
            session,
            ..get(path)
        };
        assert_eq!(status(&with(Session::Absent), mode), 401);
        assert_eq!(status(&with(Session::Invalid), mode), 401);
        let lax = Settings {
            v1: true,
            ..settings(mode)
        };
        assert!(matches!(
            decide(&with(Session::Absent), &lax).decision,
            Decision::Harmless(_)
        ));
        assert_eq!(
            decide(&with(Session::Invalid), &lax).decision,
            Decision::Refuse(Refusal::Session)
        );
        let forwarded = Request {
            forwarded: true,
            ..get(path)
        };
        assert_eq!(status(&forwarded, mode), 403);

        let put = |path, ttl| Request {
            method: "PUT",
            ttl,
            session: Session::Absent,
            ..get(path)
        };
        let token = "/latest/api/token";
        for (ttl, expected) in [
            (Some("0"), 400),
            (Some("21601"), 400),
            (Some("abc"), 400),
            (None, 400),
            (Some(""), 400),
            (Some("-1"), 400),
            (Some("1.0"), 400),
            (Some("99999999999"), 400),
            (Some("1"), 200),
            (Some("21600"), 200),
            (Some(" 60 "), 200),
        ] {
            assert_eq!(status(&put(token, ttl), mode), expected, "{ttl:?}");
        }
        assert_eq!(status(&put("/2021-03-23/api/token", Some("60")), mode), 403);
        assert_eq!(status(&put("/token", Some("60")), mode), 404);
        assert_eq!(
            status(&put("/latest/meta-data/instance-id", Some("60")), mode),
            404
        );
        let forwarded = Request {
            forwarded: true,
            ..put(token, Some("60"))
        };
        assert_eq!(status(&forwarded, mode), 403);
    }
}

#[test]
fn other_methods_and_other_hosts_are_refused() {
    for method in [
        "POST", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE", "get",
    ] {
        let request = Request {
            method,
            ..get("/latest/meta-data/instance-id")
        };
        assert_eq!(status(&request, Mode::Serve), 405, "{method}");
    }
    for (host, expected) in [
        (None, 200),
        (Some("169.254.169.254"), 200),
        (Some("169.254.169.254:80"), 200),
        (Some("[fd00:ec2::254]"), 200),
        (Some("[fd00:ec2::254]:80"), 200),
        (Some("instance-data"), 200),
        (Some("instance-data.ec2.internal"), 200),
        (Some("169.254.169.254.evil.example"), 403),
        (Some("evil.example"), 403),
        (Some(""), 403),
        (Some("[fd00"), 403),
        (Some("169.254.169.254:x"), 403),
        (Some("\0"), 403),
        (Some("169.254.169.254@evil.example"), 403),
    ] {
        let request = Request {
            host,
            ..get("/latest/meta-data/instance-id")
        };
        assert_eq!(status(&request, Mode::Block), expected, "{host:?}");
    }
}

#[test]
fn audit_passes_on_what_is_written_anew() {
    for (path, expected) in [
        ("/latest//user-data", "/latest/user-data"),
        (
            "/latest/meta-data/iam/security-credentials/",
            "/latest/meta-data/iam/security-credentials/",
        ),
        (
            "/2021-03-23/meta-data/%69am/info",
            "/2021-03-23/meta-data/iam/info",
        ),
        ("/latest/a%20b%3fc%23d", "/latest/a%20b%3Fc%23d"),
    ] {
        let request = Request {
            session: Session::Absent,
            ..get(path)
        };
        assert_eq!(
            decided(&request, Mode::Audit),
            Decision::PassOn {
                path: expected.into()
            }
        );
    }
    assert_eq!(status(&get("/latest/../user-data"), Mode::Audit), 400);
}

#[test]
fn the_operator_can_allow_paths_but_no_secrets() {
    let allowed =
        HarmlessPaths::with(&["/latest/meta-data/block-device-mapping/ami".to_owned()]).unwrap();
    let settings = Settings {
        harmless: allowed,
        ..settings(Mode::Block)
    };
    let request = get("/latest/meta-data/block-device-mapping/ami");
    assert!(matches!(
        decide(&request, &settings).decision,
        Decision::Harmless(_)
    ));
    for secret in [
        "/latest/user-data",
        "/latest/meta-data/iam/info",
        "/latest/meta-data/iam/security-credentials/x",
        "/latest//%75ser-data",
        "/latest/meta-data/tags/instance",
    ] {
        assert!(
            matches!(
                HarmlessPaths::with(&[secret.to_owned()]),
                Err(NotAllowable::Secret(_))
            ),
            "{secret}"
        );
    }
    for bad in ["", "x", "/x", "/latest", "/latest/../x"] {
        assert!(
            matches!(
                HarmlessPaths::with(&[bad.to_owned()]),
                Err(NotAllowable::NotMetadata(_))
            ),
            "{bad}"
        );
    }
}

proptest! {
    /// Encoding any characters, doubling slashes and adding one at the end changes no decision.
    #[test]
    fn decisions_depend_on_the_normalised_path_alone(
        segments in prop::collection::vec("meta-data|iam|security-credentials|user-data|placement|region|instance-id|dynamic|instance-identity|[a-z.%]{1,4}", 0..5),
        encode in prop::collection::vec(any::<bool>(), 100),
        slashes in prop::collection::vec(1usize..3, 8),
        last in any::<bool>(),
    ) {
        let plain: String = std::iter::once("latest".to_owned()).chain(segments).map(|segment| format!("/{}", segment.replace('%', "%25"))).collect();
        let mut odd = String::new();
        let (mut at, mut slash) = (0, 0);
        for character in plain.chars() {
            if character == '/' {
                odd.push_str(&"/".repeat(slashes[slash % slashes.len()]));
                slash += 1;
            } else if character != '%' && encode[at % encode.len()] && !odd.ends_with("%2") && !odd.ends_with('%') {
                odd.push_str(&format!("%{:02x}", u32::from(character)));
            } else {
                odd.push(character);
            }
            at += 1;
        }
        if last { odd.push('/'); }
        for mode in [Mode::Block, Mode::Serve] {
            let (one, two) = (decided(&get(&plain), mode), decided(&get(&odd), mode));
            prop_assert_eq!(one, two, "{} and {}", plain, odd);
        }
    }

    #[test]
    fn nothing_secret_is_ever_forwarded(path in "(/(latest|1\\.0|2021-03-23))?(/|/[a-z-]{1,12}|/meta-data|/iam|/user-data|/%2e%2e|/\\.\\.|%2f|/dynamic|/instance-identity|[ -~]){0,8}", method in "GET|HEAD|PUT|POST", v1 in any::<bool>()) {
        for mode in [Mode::Block, Mode::Serve, Mode::Audit] {
            let settings = Settings { v1, ..settings(mode) };
            let request = Request { method: &method, ..get(&path) };
            nothing_secret_is_forwarded(&decide(&request, &settings).decision, &settings);
        }
    }
}
