//! A Kubernetes API server that answers nothing by itself: the test takes each call, checks it, and answers it.

use std::time::Duration;

use bytes::Bytes;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use kube::{Client, Config};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

type Body = BoxBody<Bytes, std::io::Error>;

pub struct ApiServer {
    url: String,
    calls: mpsc::UnboundedReceiver<Call>,
}

/// A call that waits for its answer.
pub struct Call {
    pub line: String,
    pub body: Value,
    answer: oneshot::Sender<Response<Body>>,
}

/// A watch that the test feeds. Dropping it ends the watch in order.
pub struct Watch(UnboundedSender<Result<Frame<Bytes>, std::io::Error>>);

impl ApiServer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, calls) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let sender = sender.clone();
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    let sender = sender.clone();
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await.unwrap().to_bytes();
                        let (answer, answered) = oneshot::channel();
                        let call = Call {
                            line: format!("{} {}", head.method, head.uri),
                            body: serde_json::from_slice(&body).unwrap_or(Value::Null),
                            answer,
                        };
                        let _ = sender.send(call);
                        answered.await
                    }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { url, calls }
    }

    pub fn client(&self) -> Client {
        let mut config = Config::new(self.url.parse().unwrap());
        config.default_retry = false;
        Client::try_from(config).unwrap()
    }

    /// The next call.
    pub async fn next(&mut self) -> Call {
        tokio::time::timeout(Duration::from_secs(20), self.calls.recv())
            .await
            .expect("another call")
            .expect("a running server")
    }

    /// The next call, which must be this one.
    pub async fn expect(&mut self, line: &str) -> Call {
        let call = self.next().await;
        assert_eq!(call.line, line);
        call
    }

    /// A call that came already, if any.
    pub fn unexpected(&mut self) -> Option<String> {
        self.calls.try_recv().ok().map(|call| call.line)
    }
}

impl Call {
    pub fn answer(self, status: u16, body: &Value) {
        let body = Full::new(Bytes::from(body.to_string()));
        let response = Response::builder()
            .status(status)
            .header("content-type", "application/json")
            .body(body.map_err(|never| match never {}).boxed());
        let _ = self.answer.send(response.unwrap());
    }

    /// Answers with a `Status`, as the API server refuses.
    pub fn refuse(self, status: u16, reason: &str) {
        let body = serde_json::json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure",
            "message": "no", "reason": reason, "code": status,
        });
        self.answer(status, &body);
    }

    /// Breaks the connection.
    pub fn hang_up(self) {
        drop(self);
    }

    pub fn watch(self) -> Watch {
        let (sender, receiver) = unbounded();
        let body = StreamBody::new(receiver);
        let response = Response::builder()
            .header("content-type", "application/json")
            .body(BodyExt::boxed(body));
        let _ = self.answer.send(response.unwrap());
        Watch(sender)
    }
}

impl Watch {
    pub fn send(&self, kind: &str, object: &Value) {
        let line = format!("{}\n", serde_json::json!({"type": kind, "object": object}));
        let _ = self.0.unbounded_send(Ok(Frame::data(Bytes::from(line))));
    }

    /// Breaks the connection in the middle.
    pub fn hang_up(self) {
        let error = std::io::Error::other("gone");
        let _ = self.0.unbounded_send(Err(error));
    }
}
