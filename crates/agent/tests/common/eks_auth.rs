//! An EKS Auth over HTTP that verifies signatures with our verifier and tokens with the cluster's keys.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use countersign_agent::{AuthLimits, EksAuth, Endpoint, NodeCredentials};
use countersign_sigv4::{KeyLookup, Parsed, Payload, Request as Signed, SecretKey, ServicePolicy};
use countersign_upstream::clock::{Clock, SystemClock};
use countersign_upstream::ec2::{AwsCredentials, CredentialsError, ProvideCredentials};
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use zeroize::Zeroizing;

use super::{answer_json, claims_of};

pub const KEY_ID: &str = "ASIANODE000000000001";
pub const NODE_SECRET: &str = "node/secret";
pub const NODE_TOKEN: &str = "node//token==";

/// Status, error type header, body.
pub type Canned = (u16, Option<&'static str>, Vec<u8>);

pub struct EksAuthServer {
    pub address: SocketAddr,
    state: Arc<State>,
}

struct State {
    /// Answers to give instead of judging, first in front.
    canned: Mutex<Vec<Canned>>,
    calls: Mutex<Vec<String>>,
    secret: Mutex<String>,
    delay: Duration,
}

impl EksAuthServer {
    pub async fn start(delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            canned: Mutex::default(),
            calls: Mutex::default(),
            secret: Mutex::new(NODE_SECRET.into()),
            delay,
        });
        let serving = Arc::clone(&state);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let state = Arc::clone(&serving);
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(move |request| {
                        let state = Arc::clone(&state);
                        async move { Ok::<_, Infallible>(state.answer(request).await) }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { address, state }
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint::of_url(&format!("http://{}", self.address)).unwrap()
    }

    /// The tokens of the calls whose signature was right.
    pub fn calls(&self) -> Vec<String> {
        self.state.calls.lock().unwrap().clone()
    }

    pub fn can(&self, answers: impl IntoIterator<Item = Canned>) {
        self.state.canned.lock().unwrap().extend(answers);
    }

    /// From now on the node has this secret.
    pub fn set_secret(&self, secret: &str) {
        *self.state.secret.lock().unwrap() = secret.into();
    }

    pub fn client(&self, node: Arc<dyn ProvideCredentials>) -> EksAuth {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        EksAuth::new(
            "orchard",
            "eu-west-1",
            self.endpoint(),
            None,
            AuthLimits::default(),
            NodeCredentials::new(node, Arc::clone(&clock)),
            clock,
        )
        .unwrap()
    }
}

impl State {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let target = head.uri.path_and_query().unwrap().as_str().to_owned();
        if target == "/" {
            return fault(404, "UnknownOperationException", "no such operation");
        }
        let headers: Vec<(&str, &[u8])> = head
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        let signed = Signed {
            headers: &headers,
            body: Payload::Bytes(&body),
            ..Signed::new(head.method.as_str(), target.as_bytes())
        };
        let policy = ServicePolicy::for_service("eks-auth");
        let secret = SecretKey::new(self.secret.lock().unwrap().as_str());
        let verified =
            Parsed::from_request(&signed, &policy, SystemClock.now()).and_then(|parsed| {
                let key = if parsed.key_id() != KEY_ID {
                    KeyLookup::Unknown
                } else if parsed.session_token() != Some(NODE_TOKEN) {
                    KeyLookup::TokenInvalid
                } else {
                    KeyLookup::Secret(&secret)
                };
                parsed.verify(key)
            });
        let verified = match verified {
            Ok(verified) => verified,
            Err(error) => return fault(403, "InvalidSignatureException", &error.to_string()),
        };
        assert_eq!(verified.scope().region, "eu-west-1");
        assert!(verified.was_signed("content-type") && verified.was_signed("x-amz-date"));
        assert_eq!(target, "/clusters/orchard/assume-role-for-pod-identity");
        assert_eq!(head.method, "POST");
        let body: Value = serde_json::from_slice(&body).unwrap();
        let token = body["token"].as_str().unwrap().to_owned();
        let call = {
            let mut calls = self.calls.lock().unwrap();
            calls.push(token.clone());
            calls.len()
        };
        tokio::time::sleep(self.delay).await;
        let canned = {
            let mut canned = self.canned.lock().unwrap();
            (!canned.is_empty()).then(|| canned.remove(0))
        };
        if let Some((status, of_type, body)) = canned {
            let mut answer = Response::builder().status(status);
            if let Some(of_type) = of_type {
                answer = answer.header("x-amzn-errortype", of_type);
            }
            return answer.body(Full::new(body.into())).unwrap();
        }
        let claims = claims_of(&token);
        let kubernetes = &claims["kubernetes.io"];
        let account = kubernetes["serviceaccount"]["name"].as_str().unwrap();
        let namespace = kubernetes["namespace"].as_str().unwrap();
        let end = SystemClock.now().as_second() + 21_600;
        let body = answer_json(account, namespace, call, end).to_string();
        Response::new(Full::new(body.into()))
    }
}

pub fn fault(status: u16, code: &str, message: &str) -> Response<Full<Bytes>> {
    let body = json!({"message": message}).to_string();
    Response::builder()
        .status(StatusCode::from_u16(status).unwrap())
        .header("x-amzn-errortype", code)
        .body(Full::new(body.into()))
        .unwrap()
}

/// The node's credentials, given by whoever asked before: counts, and can be replaced.
pub struct Node {
    pub secret: Mutex<String>,
    pub asked: Mutex<usize>,
}

impl Node {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            secret: Mutex::new(NODE_SECRET.into()),
            asked: Mutex::new(0),
        })
    }
}

impl ProvideCredentials for Node {
    fn credentials(&self) -> BoxFuture<'_, Result<AwsCredentials, CredentialsError>> {
        *self.asked.lock().unwrap() += 1;
        let secret = self.secret.lock().unwrap().clone();
        let credentials = if secret.is_empty() {
            Err(CredentialsError("instance metadata gives none".into()))
        } else {
            Ok(AwsCredentials {
                access_key_id: KEY_ID.into(),
                secret_access_key: Zeroizing::new(secret),
                session_token: Some(Zeroizing::new(NODE_TOKEN.into())),
                expires_at: Some(SystemClock.now() + jiff::SignedDuration::from_hours(6)),
            })
        };
        Box::pin(std::future::ready(credentials))
    }
}
