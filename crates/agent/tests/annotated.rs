//! AssumeAnnotatedRoleForPod over HTTP: what the agent sends, and how it reads every answer.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use common::eks_auth::{KEY_ID, Node};
use countersign_agent::{
    AnnotatedAuth, AnnotatedRoles, AuthLimits, Endpoint, NoAnnotatedRole, NodeCredentials,
};
use countersign_upstream::clock::{Clock, SystemClock};
use http::Response;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

type Canned = (u16, Option<&'static str>, String);

/// A service that answers as it is told, and shows what it was asked.
async fn service(
    answer: Arc<Mutex<Canned>>,
    asked: Arc<Mutex<Vec<(String, String, Value)>>>,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (answer, asked) = (Arc::clone(&answer), Arc::clone(&asked));
            tokio::spawn(async move {
                let serve = hyper::service::service_fn(
                    move |request: http::Request<hyper::body::Incoming>| {
                        let (answer, asked) = (Arc::clone(&answer), Arc::clone(&asked));
                        async move {
                            let (head, body) = request.into_parts();
                            let body = body.collect().await.unwrap().to_bytes();
                            let signed = head.headers["authorization"].to_str().unwrap();
                            asked.lock().unwrap().push((
                                format!("{} {}", head.method, head.uri.path()),
                                signed.to_owned(),
                                serde_json::from_slice(&body).unwrap(),
                            ));
                            let (status, code, body) = answer.lock().unwrap().clone();
                            let mut reply = Response::builder().status(status);
                            if let Some(code) = code {
                                reply = reply.header("x-amzn-errortype", code);
                            }
                            Ok::<_, Infallible>(reply.body(Full::new(Bytes::from(body))).unwrap())
                        }
                    },
                );
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), serve)
                    .await;
            });
        }
    });
    url
}

fn good() -> Value {
    json!({
        "subject": {"namespace": "orchard", "serviceAccount": "picker"},
        "audience": "pods.eks.amazonaws.com",
        "annotatedRole": {"roleArn": "arn:aws:iam::210987654321:role/team/reader", "name": "team/reader", "isDefault": false},
        "assumedRoleUser": {"arn": "arn:aws:sts::210987654321:assumed-role/reader/kiam-night", "assumeRoleId": "AROA1:kiam-night"},
        "credentials": {"accessKeyId": "ASIA1", "secretAccessKey": common::SECRET, "sessionToken": common::SESSION_TOKEN, "expiration": 1_893_459_600.5},
    })
}

#[tokio::test]
async fn every_answer_of_the_service_is_classed() {
    let answer = Arc::new(Mutex::new((200, None, good().to_string())));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let url = service(Arc::clone(&answer), Arc::clone(&asked)).await;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let auth = AnnotatedAuth::new(
        "orchard",
        "eu-west-1",
        Endpoint::of_url(&url).unwrap(),
        None,
        AuthLimits::default(),
        NodeCredentials::new(Node::new(), Arc::clone(&clock)),
        clock,
    )
    .unwrap();
    let role = auth.assume("aaa.bbb.ccc").await.unwrap();
    assert_eq!(
        (&*role.shown, &*role.service_account, &*role.role_id),
        ("team/reader", "picker", "AROA1:kiam-night")
    );
    assert_eq!(role.expires_at.as_second(), 1_893_459_600);
    let shown = format!("{role:?}");
    assert!(!shown.contains(common::SECRET) && !shown.contains(common::SESSION_TOKEN));
    {
        let asked = asked.lock().unwrap();
        let (line, signed, body) = &asked[0];
        assert_eq!(line, "POST /clusters/orchard/assume-annotated-role-for-pod");
        assert!(signed.contains(KEY_ID) && signed.contains("/eu-west-1/eks-auth/aws4_request"));
        assert_eq!(*body, json!({"token": "aaa.bbb.ccc"}));
    }
    let word = |refusal: NoAnnotatedRole| match refusal {
        NoAnnotatedRole::None(_) => "none",
        NoAnnotatedRole::NotAllowed(_) => "not allowed",
        NoAnnotatedRole::Forbidden(_) => "forbidden",
        NoAnnotatedRole::Token(_) => "token",
        NoAnnotatedRole::NotOffered(_) => "not offered",
        NoAnnotatedRole::Unavailable(_) => "unavailable",
        other => panic!("{other}"),
    };
    let without = |path: [&str; 2]| {
        let mut answer = good();
        answer[path[0]][path[1]] = "".into();
        answer.to_string()
    };
    let cases: [(u16, Option<&'static str>, String, &str); 19] = [
        (
            404,
            Some("ResourceNotFoundException"),
            String::new(),
            "none",
        ),
        (
            400,
            Some("RoleNotAllowedException"),
            String::new(),
            "not allowed",
        ),
        (
            400,
            Some("AccessDeniedException"),
            String::new(),
            "forbidden",
        ),
        (400, Some("InvalidTokenException"), String::new(), "token"),
        (400, Some("ExpiredTokenException"), String::new(), "token"),
        (
            400,
            Some("AnnotatedRolesNotConfiguredException"),
            String::new(),
            "not offered",
        ),
        // A service without the operation, in several tongues.
        (
            404,
            Some("UnknownOperationException"),
            String::new(),
            "not offered",
        ),
        (404, None, "<html>".into(), "not offered"),
        (
            403,
            None,
            r#"{"message":"Missing Authentication Token"}"#.into(),
            "not offered",
        ),
        (
            403,
            Some("MissingAuthenticationTokenException"),
            String::new(),
            "not offered",
        ),
        (
            403,
            Some("InvalidSignatureException"),
            String::new(),
            "unavailable",
        ),
        (
            429,
            Some("ThrottlingException"),
            String::new(),
            "unavailable",
        ),
        (
            503,
            Some("ServiceUnavailableException"),
            String::new(),
            "unavailable",
        ),
        (500, None, String::new(), "unavailable"),
        // A code that only a status of 4xx makes final.
        (
            500,
            Some("RoleNotAllowedException"),
            String::new(),
            "unavailable",
        ),
        (200, None, "{}".into(), "unavailable"),
        (200, None, without(["annotatedRole", "name"]), "unavailable"),
        (
            200,
            None,
            without(["assumedRoleUser", "arn"]),
            "unavailable",
        ),
        (
            200,
            None,
            good()
                .to_string()
                .replace("team/reader\"", "team\\nreader\""),
            "unavailable",
        ),
    ];
    for (status, code, body, expected) in cases {
        let case = format!("{status} {code:?} {body}");
        *answer.lock().unwrap() = (status, code, body);
        let refusal = auth.assume("aaa.bbb.ccc").await.unwrap_err();
        assert_eq!(word(refusal), expected, "{case}");
    }
    assert_eq!(word(auth.assume("a b").await.unwrap_err()), "token");
}
