//! The EC2, IAM and STS Query APIs over HTTP: what is sent, how it is signed, and what is made of the answers.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use common::TestClock;
use countersign_mapping::{Ec2InstanceId, InstanceState, NodeNameSource};
use countersign_sigv4::{KeyLookup, Parsed, Payload, Request, SecretKey, ServicePolicy};
use countersign_upstream::clock::Clock;
use countersign_upstream::ec2::{
    AwsCredentials, AwsError, CredentialsError, Ec2, Ec2Api, Ec2ApiOptions, HttpNames,
    InstanceLookup, LookupError, LookupOptions, Profile, ProvideCredentials,
};
use countersign_upstream::http::HttpsClient;
use futures::future::BoxFuture;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

const SECRET: &str = "countersign/example+secret/key0000000001";

/// What a request was.
#[derive(Debug, Clone)]
struct Seen {
    head: http::request::Parts,
    body: String,
}

impl Seen {
    fn header(&self, name: &str) -> &str {
        self.head
            .headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        self.body
            .split('&')
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }

    /// Checks the signature as a server would.
    fn assert_signed(&self, service: &'static str, region: &str, secret: &str, clock: &TestClock) {
        let headers: Vec<(&str, &[u8])> = self
            .head
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        let mut request = Request::new("POST", self.head.uri.path().as_bytes());
        request.headers = &headers;
        request.body = Payload::Bytes(self.body.as_bytes());
        let policy = ServicePolicy::for_service(service);
        let parsed = Parsed::from_request(&request, &policy, clock.now()).unwrap();
        assert_eq!(parsed.scope().region, region);
        assert_eq!(
            parsed.session_token().unwrap_or_default(),
            self.header("x-amz-security-token")
        );
        parsed
            .verify(KeyLookup::Secret(&SecretKey::new(secret)))
            .unwrap();
    }
}

type Answer = dyn Fn(&Seen, usize) -> (u16, String) + Send + Sync;

/// A server for all three APIs.
async fn serve(
    answer: impl Fn(&Seen, usize) -> (u16, String) + Send + Sync + 'static,
) -> (http::Uri, Arc<Mutex<Vec<Seen>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}/", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (log, answer): (_, Arc<Answer>) = (Arc::clone(&seen), Arc::new(answer));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
            let service = hyper::service::service_fn(move |request: http::Request<Incoming>| {
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes().to_vec();
                    let seen = Seen {
                        head,
                        body: String::from_utf8(body).unwrap(),
                    };
                    let number = {
                        let mut log = log.lock().unwrap();
                        log.push(seen.clone());
                        log.len()
                    };
                    let (status, body) = answer(&seen, number);
                    let response = http::Response::builder()
                        .status(status)
                        .body(Full::new(bytes::Bytes::from(body)));
                    Ok::<_, std::convert::Infallible>(response.unwrap())
                }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    (uri, seen)
}

fn credentials(token: Option<&str>) -> AwsCredentials {
    AwsCredentials {
        access_key_id: "AKIDCOUNTERSIGN00001".to_owned(),
        secret_access_key: SECRET.to_owned().into(),
        session_token: token.map(|token| token.to_owned().into()),
        expires_at: None,
    }
}

fn options(endpoint: &http::Uri) -> Ec2ApiOptions {
    Ec2ApiOptions {
        partition: countersign_arn::Partition::Aws,
        region: "eu-west-1".to_owned(),
        credentials: Arc::new(credentials(Some("session+token/="))),
        role_arn: None,
        source_arn: None,
        ec2_endpoint: Some(endpoint.clone()),
        iam_endpoint: Some(endpoint.clone()),
        sts_endpoint: Some(endpoint.clone()),
    }
}

fn http() -> HttpsClient {
    HttpsClient::builder().build().unwrap()
}

fn id(text: &str) -> Ec2InstanceId {
    Ec2InstanceId::parse(text).unwrap()
}

const INSTANCES: &str = include_str!("data/describe-instances.xml");

#[tokio::test]
async fn describe_instances_is_asked_by_filter_signed_and_read() {
    let (endpoint, seen) = serve(|_, _| (200, INSTANCES.to_owned())).await;
    let clock = TestClock::new();
    let api = Ec2Api::new(http(), clock.clone(), &options(&endpoint)).unwrap();
    let ids = [
        id("i-0123456789abcdef0"),
        id("i-0fedcba9876543210"),
        id("i-12345678"),
    ];
    let instances = api.describe_instances(&ids).await.unwrap();
    let [request] = &seen.lock().unwrap()[..] else {
        panic!()
    };
    assert_eq!(
        request.body,
        "Action=DescribeInstances&Version=2016-11-15&Filter.1.Name=instance-id\
         &Filter.1.Value.1=i-0123456789abcdef0&Filter.1.Value.2=i-0fedcba9876543210&Filter.1.Value.3=i-12345678"
    );
    request.assert_signed("ec2", "eu-west-1", SECRET, &clock);
    assert_eq!(request.header("x-amz-security-token"), "session+token/=");
    assert!(request.header("user-agent").starts_with("countersign/"));

    assert_eq!(instances.len(), 2, "an item without a sound id is left out");
    let node = &instances[0];
    assert_eq!(node.id, ids[0]);
    assert_eq!(
        node.private_dns_name,
        "ip-10-0-1-23.eu-west-1.compute.internal"
    );
    assert_eq!(
        node.state.as_deref().map(InstanceState::of),
        Some(InstanceState::Running)
    );
    assert_eq!(node.owner, "444455556666".parse().ok());
    let profile = "arn:aws:iam::444455556666:instance-profile/team/nodes";
    assert_eq!(node.profile, Profile::Arn(profile.to_owned()));
    assert_eq!(node.tags, [("Name".to_owned(), "a & b".to_owned())]);
    let launching = &instances[1];
    assert_eq!(launching.private_dns_name, "");
    assert_eq!(launching.profile, Profile::Absent);
}

#[tokio::test]
async fn further_pages_are_read_but_not_without_end() {
    let page = |token: &str| {
        INSTANCES.replace(
            "</reservationSet>",
            &format!("</reservationSet><nextToken>{token}</nextToken>"),
        )
    };
    let (endpoint, seen) = serve(move |request, _| {
        let last = request.parameter("NextToken") == Some("two%2F2");
        (
            200,
            if last {
                INSTANCES.to_owned()
            } else {
                page("two/2")
            },
        )
    })
    .await;
    let api = Ec2Api::new(http(), TestClock::new(), &options(&endpoint)).unwrap();
    let instances = api.describe_instances(&[id("i-12345678")]).await.unwrap();
    assert_eq!((instances.len(), seen.lock().unwrap().len()), (4, 2));

    let (endpoint, seen) = serve(move |_, _| (200, page("more"))).await;
    let api = Ec2Api::new(http(), TestClock::new(), &options(&endpoint)).unwrap();
    let endless = api.describe_instances(&[id("i-12345678")]).await;
    assert_eq!(endless, Err(AwsError::BadAnswer));
    assert_eq!(seen.lock().unwrap().len(), 8);
}

#[tokio::test]
async fn errors_are_told_apart() {
    let ec2 = |code: &str| {
        format!(
            "<Response><Errors><Error><Code>{code}</Code><Message>m</Message></Error></Errors><RequestID>r</RequestID></Response>"
        )
    };
    let iam = |code: &str| {
        format!(
            "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code></Error></ErrorResponse>"
        )
    };
    let refused = |status, code: &str| AwsError::Refused {
        status,
        code: code.to_owned(),
    };
    let throttled = |code: &str| AwsError::Throttled {
        code: code.to_owned(),
    };
    for (status, body, expected) in [
        (
            503,
            ec2("RequestLimitExceeded"),
            throttled("RequestLimitExceeded"),
        ),
        (400, iam("Throttling"), throttled("Throttling")),
        (429, String::new(), throttled("Unknown")),
        (
            403,
            ec2("UnauthorizedOperation"),
            refused(403, "UnauthorizedOperation"),
        ),
        (403, "<not xml".to_owned(), refused(403, "Unknown")),
        (400, ec2("in valid<b/>"), refused(400, "Unknown")),
        (500, ec2("InternalError"), AwsError::Failed { status: 500 }),
        (200, "<html></html>".to_owned(), AwsError::BadAnswer),
        (200, "{}".to_owned(), AwsError::BadAnswer),
        (
            200,
            "<!DOCTYPE x [<!ENTITY a 'b'>]><DescribeInstancesResponse/>".to_owned(),
            AwsError::BadAnswer,
        ),
        (302, String::new(), refused(302, "Unknown")),
    ] {
        let answer = body.clone();
        let (endpoint, seen) = serve(move |_, _| (status, answer.clone())).await;
        let api = Ec2Api::new(http(), TestClock::new(), &options(&endpoint)).unwrap();
        let result = api.describe_instances(&[id("i-12345678")]).await;
        assert_eq!(result, Err(expected), "{status} {body}");
        assert_eq!(seen.lock().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn the_role_of_a_profile_is_asked_of_iam_by_name_and_its_arn_must_be_the_one() {
    let (endpoint, seen) = serve(|_, _| {
        (
            200,
            include_str!("data/get-instance-profile.xml").to_owned(),
        )
    })
    .await;
    let clock = TestClock::new();
    let api = Ec2Api::new(http(), clock.clone(), &options(&endpoint)).unwrap();
    let arn = "arn:aws:iam::444455556666:instance-profile/team/nodes";
    assert_eq!(api.profile_roles(arn).await.unwrap(), ["NodeRole"]);
    let request = seen.lock().unwrap()[0].clone();
    request.assert_signed("iam", "us-east-1", SECRET, &clock);
    assert_eq!(request.parameter("InstanceProfileName"), Some("nodes"));
    for other in [
        "arn:aws:iam::111122223333:instance-profile/team/nodes",
        "arn:aws:iam::444455556666:instance-profile/nodes",
        "arn:aws:iam::444455556666:role/nodes",
        "nodes",
    ] {
        assert_eq!(
            api.profile_roles(other).await,
            Err(AwsError::BadAnswer),
            "{other}"
        );
    }
}

/// Answers AssumeRole with credentials that end after so many seconds, and DescribeInstances with the sample.
fn assumable(
    seconds: i64,
    clock: &Arc<TestClock>,
) -> impl Fn(&Seen, usize) -> (u16, String) + Send + Sync + use<> {
    let clock = Arc::clone(clock);
    move |request, number| {
        if request.parameter("Action") != Some("AssumeRole") {
            return (200, INSTANCES.to_owned());
        }
        let ends = clock.now() + jiff::SignedDuration::from_secs(seconds);
        let body = include_str!("data/assume-role.xml")
            .replace("EXPIRATION", &ends.to_string())
            .replace("NUMBER", &number.to_string());
        (200, body)
    }
}

#[tokio::test]
async fn the_role_is_assumed_with_its_source_and_renewed_before_its_end() {
    let clock = TestClock::new();
    let (endpoint, seen) = serve(assumable(3600, &clock)).await;
    let options = Ec2ApiOptions {
        role_arn: Some("arn:aws:iam::111122223333:role/describe".to_owned()),
        source_arn: Some("arn:aws:eks:eu-west-1:444455556666:cluster/demo".to_owned()),
        ..options(&endpoint)
    };
    let api = Ec2Api::new(http(), clock.clone(), &options).unwrap();
    for _ in 0..3 {
        api.describe_instances(&[id("i-12345678")]).await.unwrap();
    }
    let requests = seen.lock().unwrap().clone();
    assert_eq!(requests.len(), 4, "one AssumeRole for all");
    let assume = &requests[0];
    assume.assert_signed("sts", "eu-west-1", SECRET, &clock);
    assert_eq!(
        assume.body,
        "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A111122223333%3Arole%2Fdescribe\
         &RoleSessionName=countersign-ec2-lookup&DurationSeconds=3600"
    );
    assert_eq!(
        assume.header("x-amz-source-arn"),
        "arn:aws:eks:eu-west-1:444455556666:cluster/demo"
    );
    assert_eq!(assume.header("x-amz-source-account"), "444455556666");
    assert!(
        assume
            .header("authorization")
            .contains("x-amz-source-account;x-amz-source-arn")
    );
    requests[1].assert_signed("ec2", "eu-west-1", "secret-1", &clock);

    clock.jump(3301);
    api.describe_instances(&[id("i-12345678")]).await.unwrap();
    let requests = seen.lock().unwrap().clone();
    assert_eq!(requests[4].parameter("Action"), Some("AssumeRole"));
    requests[5].assert_signed("ec2", "eu-west-1", "secret-5", &clock);
}

#[tokio::test]
async fn credentials_that_still_work_bridge_a_failing_renewal() {
    let clock = TestClock::new();
    let failing = Arc::new(AtomicUsize::new(0));
    let (answer, fails) = (assumable(3600, &clock), Arc::clone(&failing));
    let (endpoint, _) = serve(move |request, number| {
        let assume = request.parameter("Action") == Some("AssumeRole");
        if assume && fails.load(Ordering::SeqCst) > 0 {
            return (500, String::new());
        }
        answer(request, number)
    })
    .await;
    let options = Ec2ApiOptions {
        role_arn: Some("arn:aws:iam::111122223333:role/describe".to_owned()),
        ..options(&endpoint)
    };
    let api = Ec2Api::new(http(), clock.clone(), &options).unwrap();
    api.describe_instances(&[id("i-12345678")]).await.unwrap();
    failing.store(1, Ordering::SeqCst);
    clock.jump(3400);
    assert!(api.describe_instances(&[id("i-12345678")]).await.is_ok());
    clock.jump(200);
    let error = api
        .describe_instances(&[id("i-12345678")])
        .await
        .unwrap_err();
    assert!(matches!(error, AwsError::Credentials(_)), "{error}");
}

#[tokio::test]
async fn settings_that_are_no_role_no_arn_or_no_url_are_refused_at_start() {
    let endpoint: http::Uri = "http://127.0.0.1:1/".parse().unwrap();
    for role in [
        "role/describe",
        "arn:aws:iam::111122223333:user/x",
        "arn:aws:iam::1:role/x",
        "arn:xx:iam::111122223333:role/x",
    ] {
        let options = Ec2ApiOptions {
            role_arn: Some(role.to_owned()),
            ..options(&endpoint)
        };
        assert!(
            Ec2Api::new(http(), TestClock::new(), &options).is_err(),
            "{role}"
        );
    }
    let options = |endpoint| Ec2ApiOptions {
        ec2_endpoint: Some(endpoint),
        ..options(&"http://x/".parse().unwrap())
    };
    for bad in ["/path", "host:1", "ftp://host/", "http://host/?query"] {
        let options = options(bad.parse().unwrap());
        assert!(
            Ec2Api::new(http(), TestClock::new(), &options).is_err(),
            "{bad}"
        );
    }
}

struct NoCredentials;

impl ProvideCredentials for NoCredentials {
    fn credentials(&self) -> BoxFuture<'_, Result<AwsCredentials, CredentialsError>> {
        Box::pin(std::future::ready(Err(CredentialsError(
            "nothing configured".to_owned(),
        ))))
    }
}

#[tokio::test]
async fn without_credentials_nothing_is_sent() {
    let (endpoint, seen) = serve(|_, _| (200, INSTANCES.to_owned())).await;
    let options = Ec2ApiOptions {
        credentials: Arc::new(NoCredentials),
        ..options(&endpoint)
    };
    let api = Ec2Api::new(http(), TestClock::new(), &options).unwrap();
    let error = api
        .describe_instances(&[id("i-12345678")])
        .await
        .unwrap_err();
    assert_eq!(
        error,
        AwsError::Credentials("nothing configured".to_owned())
    );
    assert!(seen.lock().unwrap().is_empty());
}

#[test]
fn credentials_do_not_print() {
    let shown = format!("{:?}", credentials(Some("session-token-1")));
    assert!(
        !shown.contains(SECRET) && !shown.contains("session-token-1"),
        "{shown}"
    );
}

#[tokio::test]
async fn node_names_are_looked_up_over_http() {
    let (endpoint, seen) = serve(|request, _| match request.head.uri.path() {
        "/names/i-00000001" => (
            200,
            r#"{"privateDnsName": "worker-1", "more": 1}"#.to_owned(),
        ),
        "/names/i-00000003" => (500, String::new()),
        "/names/i-00000004" => (200, r#"{"privateDnsName": "Robert'); DROP"}"#.to_owned()),
        _ => (404, String::new()),
    })
    .await;
    let names = HttpNames::new(http(), &format!("{endpoint}names/{{instanceId}}?x=1")).unwrap();
    let options = LookupOptions {
        deadline: std::time::Duration::from_millis(900),
        ..LookupOptions::default()
    };
    let lookup = InstanceLookup::start(Arc::new(names), options);
    let ask = async |text| {
        lookup
            .facts(id(text), &NodeNameSource::PrivateDnsName)
            .await
    };
    let (one, two, three, four) = tokio::join!(
        ask("i-00000001"),
        ask("i-00000002"),
        ask("i-00000003"),
        ask("i-00000004")
    );
    assert_eq!(one.unwrap().private_dns_name.as_deref(), Some("worker-1"));
    assert_eq!(two, Err(LookupError::NotFound));
    assert_eq!(
        three,
        Err(LookupError::NoNameYet),
        "one that fails does not fail the others"
    );
    assert_eq!(four, Err(LookupError::NoNameYet));
    assert!(
        seen.lock()
            .unwrap()
            .iter()
            .all(|r| r.head.uri.query() == Some("x=1") && r.head.method == "GET")
    );
    for bad in [
        "",
        "http://h/",
        "{instanceId}",
        "http://{instanceId}/",
        "http://{instanceId}.h/x",
        "file:///{instanceId}",
        "https:///{instanceId}",
    ] {
        assert!(HttpNames::new(http(), bad).is_err(), "{bad}");
    }
}
