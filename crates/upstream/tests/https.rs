//! The request to STS over real TLS: what is sent, what is not followed, and what is not sent twice.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::sync::Arc;

use common::tls::{Reaction, TlsServer, answer, certificate, proxy};
use common::{CLUSTER, HOST, TestClock, signed_at, token, token_for};
use countersign_upstream::ec2::{Ec2, HttpNames};
use countersign_upstream::http::{HttpsClient, HttpsClientBuilder, TrustError};
use countersign_upstream::sts::{HttpsSts, StsOptions, StsVerifier};

fn client(server: &TlsServer) -> HttpsClientBuilder {
    HttpsClient::builder()
        .roots_pem(server.ca_pem.as_bytes())
        .unwrap()
        .danger_resolve_all_hosts_to(server.address)
}

fn verifier(client: HttpsClientBuilder) -> StsVerifier {
    let sts = HttpsSts(client.build().unwrap());
    StsVerifier::start(StsOptions::default(), Arc::new(sts), TestClock::new()).unwrap()
}

fn ok() -> Reaction {
    let identity = common::identity("ana");
    Reaction::Send(answer(
        "200 OK",
        std::str::from_utf8(&identity.body).unwrap(),
    ))
}

#[tokio::test]
async fn the_url_goes_out_byte_for_byte_with_the_two_headers() {
    let server = TlsServer::start(&[HOST], |_, _| ok()).await;
    let verifier = verifier(client(&server));
    let token = token("AKIA1", 7);
    let verified = verifier.verify(&token, CLUSTER).await.unwrap();
    assert_eq!(
        verified.identity.canonical_arn(),
        "arn:aws:iam::444455556666:role/Ops"
    );
    let requests = server.requests();
    let [request] = &requests[..] else {
        panic!("{requests:?}")
    };
    let mut lines = request.trim_end().split("\r\n");
    assert_eq!(
        lines.next().unwrap(),
        format!("GET /?{} HTTP/1.1", token.raw_query())
    );
    let mut headers: Vec<&str> = lines.collect();
    headers.sort_unstable();
    assert_eq!(
        headers,
        [
            "accept: application/json",
            &format!("host: {HOST}"),
            concat!("user-agent: countersign/", env!("CARGO_PKG_VERSION")),
            "x-k8s-aws-id: demo-cluster",
        ]
    );
}

#[tokio::test]
async fn connections_are_kept_and_used_again() {
    let server = TlsServer::start(&[HOST], |_, _| ok()).await;
    let verifier = verifier(client(&server));
    for n in 0..5 {
        verifier.verify(&token("AKIA1", n), CLUSTER).await.unwrap();
    }
    assert_eq!((server.requests().len(), server.connections()), (5, 1));
}

#[tokio::test]
async fn no_redirect_is_followed() {
    for status in [
        "301 Moved",
        "302 Found",
        "303 See Other",
        "307 Temporary",
        "308 Permanent",
    ] {
        let server = TlsServer::start(&[HOST], move |_, _| {
            let location = format!("HTTP/1.1 {status}\r\nlocation: https://{HOST}/elsewhere\r\ncontent-length: 0\r\n\r\n");
            Reaction::Send(location.into_bytes())
        })
        .await;
        let error = verifier(client(&server))
            .verify(&token("AKIA1", 1), CLUSTER)
            .await
            .unwrap_err();
        assert_eq!(error.reason(), "sts_error", "{status}");
        assert_eq!(server.requests().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn an_answer_above_64_kib_is_refused_and_one_below_is_read() {
    for (size, chunked) in [(65 * 1024, false), (65 * 1024, true), (60 * 1024, false)] {
        let server = TlsServer::start(&[HOST], move |_, _| {
            let identity = common::identity("ana");
            let mut body = String::from_utf8(identity.body.to_vec()).unwrap();
            body.push_str(&" ".repeat(size));
            if chunked {
                let chunk = format!(
                    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
                    body.len()
                );
                Reaction::SendAndClose(chunk.into_bytes())
            } else {
                Reaction::Send(answer("200 OK", &body))
            }
        })
        .await;
        let verified = verifier(client(&server))
            .verify(&token("AKIA1", 1), CLUSTER)
            .await;
        match verified {
            Ok(_) => assert!(size < 64 * 1024),
            Err(error) => {
                assert_eq!(error.reason(), "sts_bad_response");
                assert!(size > 64 * 1024);
            }
        }
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_connection_reset_before_the_answer_is_tried_once_more_and_no_oftener() {
    let server = TlsServer::start(&[HOST], |_, number| match number {
        1 => Reaction::Reset,
        2 => ok(),
        _ => Reaction::Reset,
    })
    .await;
    let verifier = verifier(client(&server));
    verifier.verify(&token("AKIA1", 1), CLUSTER).await.unwrap();
    assert_eq!(server.requests().len(), 2);
    let error = verifier
        .verify(&token("AKIA1", 2), CLUSTER)
        .await
        .unwrap_err();
    assert!(error.is_outage());
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn a_kept_connection_that_the_peer_closes_does_not_fail_the_next_token() {
    let server = TlsServer::start(&[HOST], |_, number| match number {
        1 => ok(),
        2 => Reaction::SendAndClose(Vec::new()),
        _ => ok(),
    })
    .await;
    let verifier = verifier(client(&server));
    for n in 1..=2 {
        verifier.verify(&token("AKIA1", n), CLUSTER).await.unwrap();
    }
    assert_eq!((server.requests().len(), server.connections()), (3, 2));
}

#[tokio::test]
async fn an_answer_that_began_or_an_error_status_is_not_asked_for_again() {
    for bytes in [
        "HTTP/1.1 200 OK\r\ncontent-le",
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{}",
        "SSH-2.0-OpenSSH_9.6\r\n",
        "HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 503 Slow\r\ncontent-length: 0\r\n\r\n",
    ] {
        let server = TlsServer::start(&[HOST], |_, _| {
            Reaction::SendAndClose(bytes.as_bytes().to_vec())
        })
        .await;
        let error = verifier(client(&server))
            .verify(&token("AKIA1", 1), CLUSTER)
            .await
            .unwrap_err();
        assert_eq!(error.reason(), "sts_unreachable", "{bytes}");
        assert_eq!(server.requests().len(), 1, "{bytes}");
    }
}

#[tokio::test]
async fn a_server_without_the_right_certificate_is_not_asked() {
    let other_name = TlsServer::start(&["sts.us-east-1.amazonaws.com"], |_, _| ok()).await;
    let error = verifier(client(&other_name))
        .verify(&token("AKIA1", 1), CLUSTER)
        .await
        .unwrap_err();
    assert!(error.is_outage());
    assert!(other_name.requests().is_empty());

    let other_ca = TlsServer::start(&[HOST], |_, _| ok()).await;
    let untrusting = HttpsClient::builder().danger_resolve_all_hosts_to(other_ca.address);
    let verifier = verifier(untrusting);
    let error = verifier
        .verify(&token("AKIA1", 1), CLUSTER)
        .await
        .unwrap_err();
    assert!(error.is_outage());
    assert!(other_ca.requests().is_empty());
    assert_eq!(verifier.snapshot().connection_failures["eu-west-1"], 1);
}

#[tokio::test]
async fn nobody_listening_is_an_outage() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let nobody = HttpsClient::builder().danger_resolve_all_hosts_to(address);
    let error = verifier(nobody)
        .verify(&token("AKIA1", 1), CLUSTER)
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "sts_unreachable");
}

#[tokio::test(start_paused = true)]
async fn silence_ends_at_the_deadline() {
    let server = TlsServer::start(&[HOST], |_, _| Reaction::Nothing).await;
    let started = tokio::time::Instant::now();
    let error = verifier(client(&server))
        .verify(&token("AKIA1", 1), CLUSTER)
        .await
        .unwrap_err();
    assert!(error.is_outage());
    assert_eq!(started.elapsed().as_secs(), 10);
}

#[tokio::test]
async fn each_host_of_the_table_is_asked_under_its_own_name() {
    let hosts = [
        "sts.amazonaws.com",
        "sts-fips.us-west-2.amazonaws.com",
        "sts.us-west-2.api.aws",
    ];
    let server = TlsServer::start(&hosts, |_, _| ok()).await;
    let verifier = verifier(client(&server));
    for host in hosts {
        let token = token_for(host, "AKIA1", 1, signed_at());
        let verified = verifier.verify(&token, CLUSTER).await.unwrap();
        assert_eq!(verified.identity.sts_endpoint(), host);
        let last = server.requests().pop().unwrap();
        assert!(last.contains(&format!("host: {host}\r\n")), "{last}");
    }
}

#[tokio::test]
async fn a_proxy_is_asked_to_connect_and_sees_nothing_else() {
    let server = TlsServer::start(&[HOST], |_, _| ok()).await;
    let trusting = || {
        HttpsClient::builder()
            .roots_pem(server.ca_pem.as_bytes())
            .unwrap()
    };
    let (address, heads) = proxy(server.address, None).await;
    verifier(trusting().proxy(&format!("http://{address}"), ""))
        .verify(&token("AKIA1", 1), CLUSTER)
        .await
        .unwrap();
    let seen = heads.lock().unwrap().clone();
    assert_eq!(
        seen,
        [format!(
            "CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n"
        )]
    );

    let needed = "Proxy-Authorization: Basic dXNlcjpwYXNz";
    let (address, _) = proxy(server.address, Some(needed)).await;
    verifier(trusting().proxy(&format!("http://user:pass@{address}"), ""))
        .verify(&token("AKIA1", 1), CLUSTER)
        .await
        .unwrap();
    let error = verifier(trusting().proxy(&format!("http://{address}"), ""))
        .verify(&token("AKIA1", 1), CLUSTER)
        .await
        .unwrap_err();
    assert!(error.is_outage(), "407 of the proxy");
}

#[tokio::test]
async fn no_proxy_names_hosts_that_are_asked_directly() {
    let name = |_: &str, _| Reaction::Send(answer("200 OK", r#"{"privateDnsName":"worker-1"}"#));
    let server = TlsServer::start(&["localhost"], name).await;
    let (address, heads) = proxy(server.address, None).await;
    let id = countersign_mapping::Ec2InstanceId::parse("i-12345678").unwrap();
    for (no_proxy, proxied) in [("", 1), ("example.com,localhost", 1), ("example.com", 2)] {
        let http = HttpsClient::builder()
            .roots_pem(server.ca_pem.as_bytes())
            .unwrap()
            .proxy(&format!("http://{address}"), no_proxy)
            .build()
            .unwrap();
        let url = format!("https://localhost:{}/{{instanceId}}", server.address.port());
        let names = HttpNames::new(http, &url).unwrap();
        assert_eq!(names.describe_instances(&[id]).await.unwrap().len(), 1);
        assert_eq!(heads.lock().unwrap().len(), proxied, "{no_proxy}");
    }
}

#[tokio::test]
async fn http_2_is_used_where_it_is_offered() {
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let (ca_pem, config) = certificate(&[HOST], &[b"h2", b"http/1.1"]);
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (seen, mut versions) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let tls = acceptor.accept(tcp).await.unwrap();
            let seen = seen.clone();
            let service =
                hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                    seen.send((request.version(), request.uri().clone()))
                        .unwrap();
                    let body = common::identity("ana").body;
                    async move {
                        Ok::<_, std::convert::Infallible>(http::Response::new(
                            http_body_util::Full::new(body),
                        ))
                    }
                });
            tokio::spawn(
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(tls), service),
            );
        }
    });
    let client = HttpsClient::builder()
        .roots_pem(ca_pem.as_bytes())
        .unwrap()
        .danger_resolve_all_hosts_to(address);
    let token = token("AKIA1", 1);
    verifier(client).verify(&token, CLUSTER).await.unwrap();
    let (version, uri) = versions.recv().await.unwrap();
    assert_eq!(version, http::Version::HTTP_2);
    assert_eq!(uri.query(), Some(token.raw_query()));
}

#[test]
fn a_file_without_usable_certificates_is_no_authority() {
    for pem in [
        "",
        "nothing",
        "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n",
    ] {
        let refused = HttpsClient::builder().roots_pem(pem.as_bytes());
        assert!(
            matches!(
                refused,
                Err(TrustError::Empty | TrustError::Pem(_) | TrustError::Root(_))
            ),
            "{pem}"
        );
    }
}
