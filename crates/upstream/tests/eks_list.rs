//! ListPodIdentityAssociations over HTTP: what is sent, how it is signed, and what is made of the answers.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::sync::{Arc, Mutex};

use common::TestClock;
use countersign_arn::Partition;
use countersign_sigv4::{KeyLookup, Parsed, Payload, Request, SecretKey, ServicePolicy};
use countersign_upstream::clock::Clock;
use countersign_upstream::ec2::{AwsCredentials, AwsError};
use countersign_upstream::eks::{
    EksAssociations, EksListOptions, ListAssociations, ListedAssociation,
};
use countersign_upstream::http::{ExchangeFailure, HttpsClient};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

const SECRET: &str = "countersign/example+secret/key0000000001";

type Seen = Arc<Mutex<Vec<http::request::Parts>>>;
/// Status, `x-amzn-errortype` and body, by the number of the request.
type Answer = dyn Fn(usize) -> (u16, &'static str, String) + Send + Sync;

async fn serve(
    answer: impl Fn(usize) -> (u16, &'static str, String) + Send + Sync + 'static,
) -> (http::Uri, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}/under/", listener.local_addr().unwrap());
    let seen = Seen::default();
    let (log, answer): (_, Arc<Answer>) = (Arc::clone(&seen), Arc::new(answer));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
            let service = hyper::service::service_fn(move |request: http::Request<Incoming>| {
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                async move {
                    let number = {
                        let mut log = log.lock().unwrap();
                        log.push(request.into_parts().0);
                        log.len()
                    };
                    let (status, code, body) = answer(number);
                    let mut response = http::Response::builder().status(status);
                    if !code.is_empty() {
                        response = response.header("x-amzn-errortype", code);
                    }
                    Ok::<_, std::convert::Infallible>(
                        response.body(Full::new(bytes::Bytes::from(body))).unwrap(),
                    )
                }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    (uri.parse().unwrap(), seen)
}

fn api(endpoint: &http::Uri, clock: &Arc<TestClock>) -> EksAssociations {
    let options = EksListOptions {
        partition: Partition::Aws,
        region: "eu-west-1".to_owned(),
        cluster: "orchard".to_owned(),
        credentials: Arc::new(AwsCredentials {
            access_key_id: "AKIDCOUNTERSIGN00001".to_owned(),
            secret_access_key: SECRET.to_owned().into(),
            session_token: Some("session+token/=".to_owned().into()),
            expires_at: None,
        }),
        endpoint: Some(endpoint.clone()),
    };
    let http = HttpsClient::builder().build().unwrap();
    EksAssociations::new(http, Arc::<TestClock>::clone(clock), &options).unwrap()
}

fn summary(namespace: &str, account: &str, id: &str) -> String {
    format!(
        r#"{{"clusterName":"orchard","namespace":"{namespace}","serviceAccount":"{account}","associationId":"{id}","associationArn":"x"}}"#
    )
}

#[tokio::test]
async fn all_pages_are_asked_for_and_signed() {
    let clock = TestClock::new();
    let (endpoint, seen) = serve(|number| {
        let body = match number {
            1 => format!(
                r#"{{"associations":[{}],"nextToken":"a/b+c="}}"#,
                summary("shop", "cart", "a-1")
            ),
            // One that no pod can mean is left out, whatever it would do in a table.
            2 => format!(
                r#"{{"associations":[{},{},{}],"nextToken":"last"}}"#,
                summary("shop/x", "cart", "a-2"),
                summary("Shop", "cart", "a-3"),
                summary("test-*", "*", "a-4")
            ),
            _ => r#"{"associations":[],"nextToken":null}"#.to_owned(),
        };
        (200, "", body)
    })
    .await;
    let listed = api(&endpoint, &clock).list().await.unwrap();
    let association = |namespace: &str, account: &str, id: &str| ListedAssociation {
        namespace: namespace.into(),
        service_account: account.into(),
        id: id.into(),
    };
    assert_eq!(
        listed,
        [
            association("shop", "cart", "a-1"),
            association("test-*", "*", "a-4")
        ]
    );
    let seen = seen.lock().unwrap();
    let queries: Vec<_> = seen.iter().map(|head| head.uri.query().unwrap()).collect();
    assert_eq!(
        queries,
        [
            "maxResults=100",
            "maxResults=100&nextToken=a%2Fb%2Bc%3D",
            "maxResults=100&nextToken=last"
        ]
    );
    for head in seen.iter() {
        assert_eq!(
            head.uri.path(),
            "/under/clusters/orchard/pod-identity-associations"
        );
        let headers: Vec<(&str, &[u8])> = head
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        let mut request = Request::new("GET", head.uri.path().as_bytes());
        request.query = head.uri.query().map(str::as_bytes);
        request.headers = &headers;
        request.body = Payload::Empty;
        let policy = ServicePolicy::for_service("eks");
        let parsed = Parsed::from_request(&request, &policy, clock.now()).unwrap();
        assert_eq!(parsed.scope().region, "eu-west-1");
        assert_eq!(parsed.session_token(), Some("session+token/="));
        parsed
            .verify(KeyLookup::Secret(&SecretKey::new(SECRET)))
            .unwrap();
    }
}

#[tokio::test]
async fn what_is_no_list_is_told_apart() {
    let clock = TestClock::new();
    let throttled = AwsError::Throttled {
        code: "ThrottlingException".into(),
    };
    let refused = |status, code: &str| AwsError::Refused {
        status,
        code: code.into(),
    };
    for (status, code, body, expected) in [
        (429, "ThrottlingException:http://x", "{}", throttled),
        (
            400,
            "TooManyRequestsException",
            "{}",
            AwsError::Throttled {
                code: "TooManyRequestsException".into(),
            },
        ),
        (
            403,
            "AccessDeniedException",
            "{}",
            refused(403, "AccessDeniedException"),
        ),
        (
            404,
            "ResourceNotFoundException",
            "{}",
            refused(404, "ResourceNotFoundException"),
        ),
        (403, "<script>", "{}", refused(403, "Unknown")),
        (302, "", "", refused(302, "Unknown")),
        (503, "", "", AwsError::Failed { status: 503 }),
        (200, "", "", AwsError::BadAnswer),
        (200, "", r#"{"associations":7}"#, AwsError::BadAnswer),
        // The same page for ever.
        (
            200,
            "",
            r#"{"associations":[],"nextToken":"x"}"#,
            AwsError::BadAnswer,
        ),
    ] {
        let (endpoint, seen) = serve(move |_| (status, code, body.to_owned())).await;
        let error = api(&endpoint, &clock).list().await.unwrap_err();
        assert_eq!(error, expected, "{status} {code} {body}");
        assert!(seen.lock().unwrap().len() <= 2);
    }
    let (endpoint, _) = serve(|_| (200, "", " ".repeat(2 << 20))).await;
    let error = api(&endpoint, &clock).list().await.unwrap_err();
    assert!(matches!(
        error,
        AwsError::Unreachable(ExchangeFailure::TooLarge { .. })
    ));
}

#[tokio::test]
async fn a_list_without_an_end_is_given_up() {
    let clock = TestClock::new();
    let (endpoint, seen) = serve(|number| {
        let body = format!(r#"{{"associations":[],"nextToken":"{number}"}}"#);
        (200, "", body)
    })
    .await;
    let error = api(&endpoint, &clock).list().await.unwrap_err();
    assert_eq!(error, AwsError::BadAnswer);
    assert_eq!(seen.lock().unwrap().len(), 1_000);
}

#[test]
fn endpoints_and_names_that_cannot_be_asked() {
    for (endpoint, cluster, expected) in [
        ("ftp://eks.example", "demo", "no URL with a host"),
        ("https://user@eks.example", "demo", "no URL with a host"),
        ("https://eks.example/?x=y", "demo", "no URL with a host"),
        ("https://eks.example", "a/b", "no cluster name"),
        ("https://eks.example", "", "no cluster name"),
    ] {
        let options = EksListOptions {
            partition: Partition::Aws,
            region: "eu-west-1".to_owned(),
            cluster: cluster.to_owned(),
            credentials: Arc::new(AwsCredentials {
                access_key_id: String::new(),
                secret_access_key: String::new().into(),
                session_token: None,
                expires_at: None,
            }),
            endpoint: Some(endpoint.parse().unwrap()),
        };
        let http = HttpsClient::builder().build().unwrap();
        let error = EksAssociations::new(http, TestClock::new(), &options).unwrap_err();
        assert!(error.to_string().contains(expected), "{endpoint}: {error}");
    }
}
