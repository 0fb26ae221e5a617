//! The client's side: signing our own requests, and presigning URLs.

use std::fmt;

use jiff::Timestamp;

use crate::auth::{
    ALGORITHM_PARAM, CREDENTIAL_PARAM, DATE_PARAM, EXPIRES_PARAM, SIGNATURE_PARAM,
    SIGNED_HEADERS_PARAM, TOKEN_PARAM,
};
use crate::canonical::{ALGORITHM, Param, Parts, StringToSign, params, sort};
use crate::crypto::{EMPTY_SHA256, HEX, Sha256Sink, hex};
use crate::encode::{EscapeFault, Slash, encode};
use crate::key::{SecretKey, SigningKey};
use crate::policy::{PathRule, ServicePolicy};
use crate::request::{Header, Payload, Request, is_host_name};
use crate::scope::TERMINATOR;
use crate::time::AmzDate;
use crate::verify::UNSIGNED;

/// Access key as a client has it.
#[derive(Debug, Clone)]
pub struct Credentials<'a> {
    /// Access key id.
    pub key_id: &'a str,
    /// Secret access key.
    pub secret: &'a SecretKey,
    /// Session token of temporary credentials.
    pub session_token: Option<&'a str>,
}

/// Signs requests to one service in one region.
#[derive(Debug, Clone)]
pub struct Signer<'a> {
    credentials: Credentials<'a>,
    region: &'a str,
    service: &'a str,
    s3: bool,
    paths: PathRule,
}

/// Why a request cannot be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The host must be signed, so it must be given.
    #[error("the request has no `host` header to sign")]
    NoHost,
    /// The server would refuse the query, and what was signed would be unclear.
    #[error("the query has a broken percent-escape")]
    Query(EscapeFault),
}

/// Headers to add to a request that is now signed.
#[derive(Clone)]
pub struct SignedRequest {
    headers: Vec<(&'static str, String)>,
}

impl SignedRequest {
    /// Name and value, to be set, not appended: they replace headers of the same name.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
    }

    /// The `Authorization` value.
    pub fn authorization(&self) -> &str {
        self.headers
            .last()
            .map(|(_, value)| value.as_str())
            .unwrap_or_default()
    }
}

/// The names only: the values are a credential for as long as the signature is valid.
impl fmt::Debug for SignedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.headers.iter().map(|(name, _)| name))
            .finish()
    }
}

/// Headers that a hop may change, or that belong to one connection. The AWS SDKs leave out the same.
const NEVER_SIGNED: [&str; 14] = [
    "authorization",
    "connection",
    "expect",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "x-amz-date",
    "x-amz-security-token",
    "x-amzn-trace-id",
];

impl<'a> Signer<'a> {
    /// A signer with the path rules of the service.
    pub fn new(credentials: Credentials<'a>, region: &'a str, service: &'a str) -> Self {
        let s3 = ServicePolicy::for_service(service.to_owned()).s3;
        let paths = if s3 {
            PathRule::Single
        } else {
            PathRule::Normalise
        };
        Self {
            credentials,
            region,
            service,
            s3,
            paths,
        }
    }

    /// Signs with an `Authorization` header. All headers given are signed, except those that hops may change; `host`
    /// must be among them. Headers of the request that this sets itself (`x-amz-date`, `x-amz-security-token`) are
    /// ignored.
    pub fn sign(&self, request: &Request<'_>, now: Timestamp) -> Result<SignedRequest, SignError> {
        let date = AmzDate::from_timestamp(now);
        let payload = body_hash(request.body);
        let mut added = vec![("x-amz-date", date.to_string())];
        if let Some(token) = self.credentials.session_token {
            added.push(("x-amz-security-token", token.to_owned()));
        }
        if self.s3 && request.first("x-amz-content-sha256").is_none() {
            added.push((
                "x-amz-content-sha256",
                String::from_utf8_lossy(&payload).into_owned(),
            ));
        }
        let declared = request
            .first("x-amz-content-sha256")
            .map(<[u8]>::trim_ascii);
        let mut headers = signable(request)?;
        headers.extend(added.iter().map(|(name, value)| (*name, value.as_bytes())));
        let list = signed_list(&headers);
        let query = checked_params(request.query_bytes())?;
        let signature = self.signature(
            request,
            &headers,
            query,
            &list,
            declared.unwrap_or(&payload),
            date,
        );
        added.push((
            "authorization",
            format!(
                "{ALGORITHM} Credential={}/{}, SignedHeaders={list}, Signature={signature}",
                self.credentials.key_id,
                self.scope(date)
            ),
        ));
        Ok(SignedRequest { headers: added })
    }

    /// The query of a presigned URL: the request's own query and behind it the parameters of the signature, in the
    /// order that the AWS CLI writes. The headers given, such as `host` and `x-k8s-aws-id`, are signed and must be
    /// sent along. The result is a credential.
    pub fn presign(
        &self,
        request: &Request<'_>,
        expires_seconds: u32,
        now: Timestamp,
    ) -> Result<String, SignError> {
        let date = AmzDate::from_timestamp(now);
        let headers = signable(request)?;
        let list = signed_list(&headers);
        let mut query = request.query_bytes().to_vec();
        let credential = format!("{}/{}", self.credentials.key_id, self.scope(date));
        let expires = expires_seconds.to_string();
        let own = [
            (ALGORITHM_PARAM, ALGORITHM),
            (CREDENTIAL_PARAM, credential.as_str()),
            (DATE_PARAM, date.as_str()),
            (EXPIRES_PARAM, expires.as_str()),
            (SIGNED_HEADERS_PARAM, list.as_str()),
        ];
        let token = self
            .credentials
            .session_token
            .map(|token| (TOKEN_PARAM, token));
        for (name, value) in own.into_iter().chain(token) {
            push_param(&mut query, name, value);
        }
        let payload = if self.s3 {
            UNSIGNED.to_vec()
        } else {
            body_hash(request.body).to_vec()
        };
        let signature = self.signature(
            request,
            &headers,
            checked_params(&query)?,
            &list,
            &payload,
            date,
        );
        push_param(&mut query, SIGNATURE_PARAM, &signature);
        Ok(String::from_utf8_lossy(&query).into_owned())
    }

    fn scope(&self, date: AmzDate) -> String {
        format!(
            "{}/{}/{}/{TERMINATOR}",
            date.day(),
            self.region,
            self.service
        )
    }

    fn signature(
        &self,
        request: &Request<'_>,
        headers: &[Header<'_>],
        mut params: Vec<Param<'_>>,
        signed_headers: &str,
        payload: &[u8],
        date: AmzDate,
    ) -> String {
        sort(&mut params);
        let request = Request {
            headers,
            forwarded_host: None,
            ..*request
        };
        let mut hash = Sha256Sink::new();
        Parts {
            request: &request,
            path_rule: self.paths,
            params: &params,
            signed_headers,
            payload,
        }
        .write(&mut hash);
        let to_sign = StringToSign::new(
            date.as_str(),
            (date.day(), self.region, self.service),
            hash.finish(),
        );
        let key = SigningKey::derive(
            self.credentials.secret,
            date.day(),
            self.region,
            self.service,
        );
        String::from_utf8_lossy(&key.sign_hex(&to_sign.pieces())).into_owned()
    }
}

fn signable<'r>(request: &Request<'r>) -> Result<Vec<Header<'r>>, SignError> {
    if request.first("host").is_none() {
        return Err(SignError::NoHost);
    }
    let has_host = request
        .headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("host"));
    let is_left_out = |name: &str| {
        NEVER_SIGNED
            .iter()
            .any(|never| name.eq_ignore_ascii_case(never))
            || (has_host && name.eq_ignore_ascii_case(":authority"))
    };
    Ok(request
        .headers
        .iter()
        .filter(|(name, _)| !is_left_out(name))
        .map(|(name, value)| {
            if is_host_name(name) {
                ("host", *value)
            } else {
                (*name, *value)
            }
        })
        .collect())
}

/// Names in lower case, sorted, each once.
fn signed_list(headers: &[Header<'_>]) -> String {
    let mut names: Vec<String> = headers
        .iter()
        .map(|(name, _)| name.to_ascii_lowercase())
        .collect();
    names.sort_unstable();
    names.dedup();
    names.join(";")
}

fn checked_params(query: &[u8]) -> Result<Vec<Param<'_>>, SignError> {
    params(query)
        .map(|p| p.check_escapes().map(|()| p))
        .collect::<Result<_, _>>()
        .map_err(SignError::Query)
}

fn push_param(query: &mut Vec<u8>, name: &str, value: &str) {
    if !query.is_empty() {
        query.push(b'&');
    }
    query.extend_from_slice(name.as_bytes());
    query.push(b'=');
    encode(value.as_bytes(), Slash::Encode, query);
}

fn body_hash(body: Payload<'_>) -> [u8; HEX] {
    body.digest().map_or(*EMPTY_SHA256, |digest| hex(&digest))
}
