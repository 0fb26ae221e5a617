//! Connections that came in by another interface than the one which the route to their source leads to (imds spec, section 5.2,
//! `--verify-interface`). The packet filter sends them to a port of their own; here they are refused and counted.

use std::sync::Arc;

use http::Request;
use hyper::body::Incoming;

use super::server::WRONG_INTERFACE;
use crate::listen::{Answer, Handler};
use crate::metrics::Metrics;
use crate::pods::Caller;

#[derive(Clone)]
pub(crate) struct Strays(pub(crate) Arc<Metrics>);

impl Handler for Strays {
    async fn handle(&self, caller: Caller, request: Request<Incoming>) -> Answer {
        tracing::debug!(address = %caller.address, "a request came in by an interface that its source is not behind");
        self.0.guard.blocked(WRONG_INTERFACE.reason);
        let head = request.method() == http::Method::HEAD;
        let mut answer = WRONG_INTERFACE.into_answer();
        if head {
            *answer.body_mut() = http_body_util::Full::default();
        }
        answer
    }
}
