//! From a request to a verified caller: who signed it, and what is answered when nobody did or the signature is not good.

use std::net::SocketAddr;

use countersign_sigv4::{
    AuthError, Header, Offered, Parsed, Payload, ServicePolicy, check_request,
};
use http::Method;

use super::{ApiError, Asked, AwsApi, Caller, Received, Service, Trace, throttled};
use crate::listen::Peer;

impl AwsApi {
    /// Who signed. An anonymous operation may come without a signature; one that is there is not looked at, because
    /// nothing follows from it.
    pub(super) fn authenticate(
        &self,
        received: &Received<'_>,
        asked: &Asked<'_>,
        trace: &mut Trace<'_>,
        snapshot: &countersign_store::DirectorySnapshot,
        anonymous: bool,
    ) -> Result<Option<Caller>, ApiError> {
        let headers = headers_of(received.head);
        let signed = signed_request(received.head, &headers, received.peer, received.body);
        let policy = self.policy(trace.service);
        if anonymous || Offered::by(&signed) == Offered::Nothing {
            check_request(&signed, policy)
                .map_err(|error| self.refused(received, trace, &error))?;
            if anonymous {
                return Ok(None);
            }
            let no_action =
                matches!(asked, Asked::Query(Ok(parameters)) if parameters.get("Action").is_none());
            if received.head.method == Method::GET && no_action {
                return Err(ApiError::new(
                    404,
                    "InvalidAction",
                    "A request needs an Action and a signature.",
                ));
            }
            return Err(self.refused(received, trace, &AuthError::Missing));
        }
        match self.caller(received, &signed, policy, snapshot) {
            Ok(caller) => Ok(Some(caller)),
            Err(AuthFailure::Throttled) => Err(throttled()),
            Err(AuthFailure::Refused(error)) => Err(self.refused(received, trace, &error)),
            Err(AuthFailure::Mismatch(error, strings)) => {
                let mut refusal = self.refused(received, trace, &error);
                if let Some(strings) = strings {
                    refusal.message = strings;
                }
                Err(refusal)
            }
        }
    }

    fn caller(
        &self,
        received: &Received<'_>,
        signed: &countersign_sigv4::Request<'_>,
        policy: &ServicePolicy,
        snapshot: &countersign_store::DirectorySnapshot,
    ) -> Result<Caller, AuthFailure> {
        let address = received.peer.address.ip();
        let second = received.now.as_second();
        if self.limiter.is_exhausted(address, second) {
            return Err(AuthFailure::Throttled);
        }
        let parsed =
            Parsed::from_request(signed, policy, received.now).map_err(AuthFailure::Refused)?;
        self.keys
            .verify_on(snapshot, &parsed, received.now)
            .map_err(|error| {
                self.limiter.record(address, second);
                let explain = error == AuthError::SignatureMismatch
                    && (self.debug_signatures || is_loopback(received.peer.address));
                let strings = explain.then(|| {
                    countersign_sigv4::mismatch_with_strings(
                        &parsed.canonical_request(signed.body),
                        &parsed.string_to_sign(signed.body),
                    )
                });
                AuthFailure::Mismatch(error, strings)
            })
    }

    pub(super) fn policy(&self, service: Service) -> &ServicePolicy {
        match service {
            Service::Sts => &self.sts,
            Service::Iam => &self.iam,
            Service::Eks => &self.eks,
            Service::EksAuth => &self.eks_auth,
        }
    }

    fn refused(
        &self,
        received: &Received<'_>,
        trace: &mut Trace<'_>,
        error: &AuthError,
    ) -> ApiError {
        let operation = trace
            .operation
            .map_or("unknown", |operation| operation.name);
        tracing::debug!(peer = %received.peer.address, operation, %error, "request not authenticated");
        let wire = error.wire(self.policy(trace.service).protocol);
        trace.allow = wire.allow;
        ApiError::new(wire.status, wire.code, wire.message)
    }
}

enum AuthFailure {
    Throttled,
    Refused(AuthError),
    /// Refused by key or signature; the text replaces the message where the caller may see what we computed.
    Mismatch(AuthError, Option<String>),
}

pub(super) fn headers_of(head: &http::request::Parts) -> Vec<Header<'_>> {
    let authority = head
        .uri
        .authority()
        .map(|authority| (":authority", authority.as_str().as_bytes()));
    head.headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .chain(authority)
        .collect()
}

pub(super) fn signed_request<'a>(
    head: &'a http::request::Parts,
    headers: &'a [Header<'a>],
    peer: Peer,
    body: &'a [u8],
) -> countersign_sigv4::Request<'a> {
    countersign_sigv4::Request {
        method: head.method.as_str(),
        path: head.uri.path().as_bytes(),
        query: head.uri.query().map(str::as_bytes),
        headers,
        forwarded_host: None,
        tls: peer.tls,
        body: if body.is_empty() {
            Payload::Empty
        } else {
            Payload::Bytes(body)
        },
    }
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}
