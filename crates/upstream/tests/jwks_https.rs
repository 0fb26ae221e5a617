//! Documents of issuers over real TLS: what is asked, what is refused, where no connection goes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::net::IpAddr;
use std::time::Duration;

use common::tls::{Reaction, TlsServer, answer, certificate_chain};
use countersign_oidc::{Algorithm, KeySet, SigningKey};
use countersign_upstream::http::{AddressRules, is_public};
use countersign_upstream::jwks::{
    Fetch, FetchFailure, FetchOptions, FetchedKeys, HttpsKeys, IssuerOptions, KeyFetch, Thumbprint,
};

const ISSUER: &str = "https://issuer.example/id/1";
const DISCOVERY: &str = "GET /id/1/.well-known/openid-configuration ";

fn key_set() -> String {
    let key = SigningKey::generate(Algorithm::Es256).unwrap();
    KeySet::document([(key.public(), Algorithm::Es256)])
}

fn discovery(issuer: &str, jwks_uri: &str) -> String {
    countersign_oidc::discovery_document(issuer, jwks_uri, [Algorithm::Es256])
}

fn of(issuer: &str) -> Fetch {
    Fetch {
        issuer: issuer.parse().unwrap(),
        thumbprints: Vec::new(),
    }
}

/// Options by which `issuer` is at `server`.
fn at(server: &TlsServer, issuer: &str) -> FetchOptions {
    let issuer_options = IssuerOptions {
        roots_pem: Some(server.ca_pem.clone().into_bytes().into()),
        address: Some(server.address),
    };
    FetchOptions {
        issuers: [(issuer.parse().unwrap(), issuer_options)].into(),
        ..FetchOptions::default()
    }
}

async fn fetched(options: FetchOptions, issuer: &str) -> Result<FetchedKeys, FetchFailure> {
    HttpsKeys::new(options).unwrap().fetch(&of(issuer)).await
}

/// An issuer that serves its discovery document, and `keys` for everything else.
async fn issuer(keys: Vec<u8>) -> TlsServer {
    TlsServer::start(&["issuer.example", "keys.example"], move |head, _| {
        let document = discovery(ISSUER, "https://keys.example/jwks?tenant=1");
        Reaction::Send(if head.starts_with(DISCOVERY) {
            answer("200 OK", &document)
        } else {
            keys.clone()
        })
    })
    .await
}

#[tokio::test]
async fn both_documents_are_fetched() {
    let server = issuer(answer("200 OK", &key_set())).await;
    let keys = fetched(at(&server, ISSUER), ISSUER).await.unwrap();
    assert_eq!((keys.keys.len(), keys.max_age), (1, None));
    let requests = server.requests();
    assert!(requests[0].starts_with(DISCOVERY), "{requests:?}");
    assert!(
        requests[1].starts_with("GET /jwks?tenant=1 HTTP/1.1\r\n"),
        "{requests:?}"
    );
    assert!(requests[1].contains("host: keys.example\r\n"));
    assert_eq!(requests.len(), 2);
}

#[tokio::test]
async fn cache_headers_of_the_key_set_are_read() {
    let cases = [
        ("public, max-age=300", Some(300)),
        ("max-age=\"60\"", Some(60)),
        ("MAX-AGE=7", Some(7)),
        ("no-store, max-age=300", Some(0)),
        ("max-age=-1", None),
        ("max-age=x", None),
        ("private", None),
    ];
    for (header, seconds) in cases {
        let body = key_set();
        let with_header = format!(
            "HTTP/1.1 200 OK\r\ncache-control: {header}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let server = issuer(with_header.into_bytes()).await;
        let keys = fetched(at(&server, ISSUER), ISSUER).await.unwrap();
        assert_eq!(keys.max_age, seconds.map(Duration::from_secs), "{header}");
    }
}

#[tokio::test]
async fn answers_that_are_no_key_set_are_refused() {
    let status = |status| FetchFailure::Status {
        document: "key set",
        status,
    };
    let busy = FetchFailure::Unreachable {
        document: "key set",
        source: None,
    };
    let redirect =
        "HTTP/1.1 302 Found\r\nlocation: https://keys.example/other\r\ncontent-length: 0\r\n\r\n";
    let cases = [
        (answer("404 Not Found", "{}"), status(404)),
        (answer("204 No Content", ""), status(204)),
        (redirect.as_bytes().to_vec(), status(302)),
        (answer("500 Oops", ""), busy.clone()),
        (answer("503 Busy", ""), busy.clone()),
        (answer("429 Slow", ""), busy),
        (
            answer("200 OK", &" ".repeat(256 * 1024 + 1)),
            FetchFailure::TooLarge {
                document: "key set",
            },
        ),
        (
            answer("200 OK", "<html>"),
            FetchFailure::KeySet(countersign_oidc::KeySetError::Malformed),
        ),
        (
            answer("200 OK", r#"{"keys":[]}"#),
            FetchFailure::KeySet(countersign_oidc::KeySetError::NoUsableKey),
        ),
    ];
    for (reaction, expected) in cases {
        let server = issuer(reaction).await;
        let failure = fetched(at(&server, ISSUER), ISSUER).await.unwrap_err();
        assert_eq!(failure, expected);
        assert_eq!(server.requests().len(), 2, "{expected:?}");
    }
}

#[tokio::test]
async fn discovery_documents_of_others_are_refused() {
    for document in [
        discovery("https://issuer.example/id/2", "https://keys.example/jwks"),
        discovery("https://issuer.example/id/1/", "https://keys.example/jwks"),
        discovery(ISSUER, "http://keys.example/jwks"),
    ] {
        let server = TlsServer::start(&["issuer.example"], move |_, _| {
            Reaction::Send(answer("200 OK", &document))
        })
        .await;
        let failure = fetched(at(&server, ISSUER), ISSUER).await.unwrap_err();
        assert!(matches!(failure, FetchFailure::Discovery(_)), "{failure:?}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn an_issuer_that_does_not_answer_costs_no_more_than_the_time_allowed() {
    let server = TlsServer::start(&["issuer.example"], |_, _| Reaction::Nothing).await;
    let options = FetchOptions {
        timeout: Some(Duration::from_millis(300)),
        ..at(&server, ISSUER)
    };
    let begun = std::time::Instant::now();
    let failure = fetched(options, ISSUER).await.unwrap_err();
    assert!(
        matches!(
            failure,
            FetchFailure::Unreachable {
                source: Some(_),
                ..
            }
        ),
        "{failure:?}"
    );
    assert!(begun.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn private_addresses_are_not_connected_to_unless_the_host_is_listed() {
    let server = issuer_at_localhost().await;
    let url = format!("https://localhost:{}/id/1", server.address.port());
    let options = FetchOptions {
        roots_pem: Some(server.ca_pem.clone().into_bytes().into()),
        ..FetchOptions::default()
    };
    let refused = FetchFailure::PrivateAddress {
        document: "discovery document",
    };
    assert_eq!(fetched(options.clone(), &url).await.unwrap_err(), refused);
    let literal = format!("https://127.0.0.1:{}/id/1", server.address.port());
    assert_eq!(
        fetched(options.clone(), &literal).await.unwrap_err(),
        refused
    );
    assert_eq!(server.connections(), 0);

    let listed = FetchOptions {
        private_hosts: vec!["LocalHost".into()],
        ..options
    };
    // The key set is at an address that is not listed.
    let failure = fetched(listed.clone(), &url).await.unwrap_err();
    assert_eq!(
        failure,
        FetchFailure::PrivateAddress {
            document: "key set"
        }
    );
    assert_eq!(server.requests().len(), 1);
    let listed = FetchOptions {
        private_hosts: vec!["localhost".into(), "127.0.0.1".into()],
        ..listed
    };
    // Now it is asked; its certificate is not for the address.
    let failure = fetched(listed, &url).await.unwrap_err();
    assert_eq!(
        failure,
        FetchFailure::Untrusted {
            document: "key set"
        }
    );
}

/// Names its own address as the host of its keys.
async fn issuer_at_localhost() -> TlsServer {
    TlsServer::start(&["localhost"], |head, _| {
        let host = head
            .lines()
            .find_map(|line| line.strip_prefix("host: "))
            .unwrap();
        let keys = format!("https://{}/keys", host.replace("localhost", "127.0.0.1"));
        Reaction::Send(answer(
            "200 OK",
            &discovery(&format!("https://{host}/id/1"), &keys),
        ))
    })
    .await
}

#[tokio::test]
async fn certificates_are_verified_and_thumbprints_trusted_only_with_their_chain() {
    let (ca_pem, ca, config) = certificate_chain(&["localhost"], &[b"http/1.1"], Some(None));
    let (_, other_ca, _) = certificate_chain(&["localhost"], &[b"http/1.1"], None);
    let (_, _, appended) =
        certificate_chain(&["localhost"], &[b"http/1.1"], Some(Some(ca.clone())));
    let (_, _, other_name) = certificate_chain(&["elsewhere"], &[b"http/1.1"], Some(None));
    let react = |head: &str, _: usize| {
        let host = head
            .lines()
            .find_map(|line| line.strip_prefix("host: "))
            .unwrap();
        let issuer = format!("https://{host}/id/1");
        Reaction::Send(if head.starts_with(DISCOVERY) {
            answer(
                "200 OK",
                &discovery(&issuer, &format!("https://{host}/keys")),
            )
        } else {
            answer("200 OK", &key_set())
        })
    };
    let honest = TlsServer::start_with(ca_pem.clone(), config, react).await;
    let forger = TlsServer::start_with(ca_pem.clone(), appended, react).await;
    let misnamed = TlsServer::start_with(ca_pem.clone(), other_name, react).await;
    let print = |ca: &[u8]| vec![Thumbprint::of(ca)];
    // (server, thumbprints, own authority, accepted)
    let cases = [
        (&honest, vec![], false, false),
        (&honest, print(&other_ca), false, false),
        (&honest, print(&ca), false, true),
        (&honest, vec![], true, true),
        // The forger sends the certificate of somebody else's authority behind its own.
        (&forger, print(&ca), false, false),
        (&misnamed, print(&ca), false, false),
        // Where an authority is configured, thumbprints do not count.
        (&forger, print(&ca), true, false),
    ];
    for (at, (server, thumbprints, own, accepted)) in cases.into_iter().enumerate() {
        let keys = HttpsKeys::new(FetchOptions {
            private_hosts: vec!["localhost".into()],
            roots_pem: own.then(|| ca_pem.clone().into_bytes().into()),
            ..FetchOptions::default()
        })
        .unwrap();
        let fetch = Fetch {
            thumbprints,
            ..of(&format!("https://localhost:{}/id/1", server.address.port()))
        };
        let outcome = keys.fetch(&fetch).await;
        let untrusted = matches!(outcome, Err(FetchFailure::Untrusted { .. }));
        assert_eq!(
            (outcome.is_ok(), untrusted),
            (accepted, !accepted),
            "{at}: {outcome:?}"
        );
    }
}

#[test]
fn thumbprints_are_forty_digits() {
    let text = "990f4193972f2becf12ddeda5237f9c952f20d9e";
    let print: Thumbprint = text.to_uppercase().parse().unwrap();
    assert_eq!(print.to_string(), text);
    for bad in [
        "",
        "99",
        &format!("{text}00"),
        &text.replace('f', "g"),
        &"é".repeat(20),
    ] {
        assert!(bad.parse::<Thumbprint>().is_err(), "{bad}");
    }
}

#[test]
fn only_public_addresses_are_public() {
    let cases = [
        ("8.8.8.8", true),
        ("1.1.1.1", true),
        ("100.63.255.255", true),
        ("100.128.0.0", true),
        ("172.15.255.255", true),
        ("172.32.0.0", true),
        ("192.0.1.0", true),
        ("0.0.0.0", false),
        ("10.1.2.3", false),
        ("100.64.0.1", false),
        ("127.0.0.1", false),
        ("127.255.0.1", false),
        ("169.254.169.254", false),
        ("169.254.170.23", false),
        ("172.16.0.1", false),
        ("172.31.255.255", false),
        ("192.0.0.8", false),
        ("192.0.2.1", false),
        ("192.168.1.1", false),
        ("198.18.0.1", false),
        ("198.51.100.1", false),
        ("203.0.113.9", false),
        ("224.0.0.1", false),
        ("240.0.0.1", false),
        ("255.255.255.255", false),
        ("2606:4700::1", true),
        ("2a00:1450::1", true),
        ("64:ff9b::808:808", true),
        ("2002:808:808::1", true),
        ("::", false),
        ("::1", false),
        ("::ffff:127.0.0.1", false),
        ("::ffff:8.8.8.8", false),
        ("::7f00:1", false),
        ("64:ff9b::a9fe:a9fe", false),
        ("64:ff9b:1::1", false),
        ("2002:a00:1::1", false),
        ("2001::1", false),
        ("2001:db8::1", false),
        ("3fff::1", false),
        ("fc00::1", false),
        ("fd00:ec2::254", false),
        ("fe80::1", false),
        ("fec0::1", false),
        ("ff02::1", false),
        ("100::1", false),
    ];
    let rules = AddressRules::public_except(["in.example"]);
    for (text, public) in cases {
        let address: IpAddr = text.parse().unwrap();
        assert_eq!(is_public(address), public, "{text}");
        assert_eq!(rules.allow("out.example", address), public, "{text}");
        assert!(rules.allow("In.Example", address));
        assert_eq!(rules.allow_literal(text), public);
        assert_eq!(rules.allow_literal(&format!("[{text}]")), public);
    }
    assert!(rules.allow_literal("name.example"));
}
