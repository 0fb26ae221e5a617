//! The two calls to STS that a client makes: who am I, and assume a role.

use std::fmt::Write as _;

use bytes::Bytes;
use countersign_sigv4::{Payload, Request, SecretKey, SignError, Signer};
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::credentials::Credentials;
use crate::endpoint::{Endpoint, Service};
use crate::http::{Answer, HttpClient, HttpError};

/// Why STS did not answer what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StsError {
    /// No answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The request could not be signed.
    #[error("could not sign the request")]
    Sign(#[from] SignError),
    /// The request could not be made.
    #[error("could not make the request to {endpoint}")]
    Request {
        /// The endpoint.
        endpoint: String,
        /// Why not.
        #[source]
        source: http::Error,
    },
    /// STS refused.
    #[error("An error occurred ({code}) when calling the {operation} operation: {message}")]
    Refused {
        /// The operation.
        operation: &'static str,
        /// The error code of STS.
        code: String,
        /// Its message.
        message: String,
    },
    /// The answer is not that of STS.
    #[error("{endpoint} gave no usable answer to {operation} (HTTP {status})")]
    Answer {
        /// The endpoint.
        endpoint: String,
        /// The operation.
        operation: &'static str,
        /// The status.
        status: u16,
    },
}

/// Who the caller is, as GetCallerIdentity reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) arn: String,
    /// `AROA…:session` for role sessions.
    pub(crate) user_id: String,
}

/// What AssumeRole is asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct AssumeRole<'a> {
    pub(crate) role_arn: &'a str,
    pub(crate) session_name: &'a str,
    pub(crate) external_id: Option<&'a str>,
    /// At least 900.
    pub(crate) duration_seconds: u32,
    /// Device and code.
    pub(crate) mfa: Option<(&'a str, &'a str)>,
}

/// STS as a client of it.
pub(crate) struct Sts<'a> {
    pub(crate) http: &'a HttpClient,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) credentials: &'a Credentials,
}

impl Sts<'_> {
    pub(crate) fn caller(&self, now: Timestamp) -> Result<Caller, StsError> {
        let operation = "GetCallerIdentity";
        let (status, body) = self.call(operation, &[], now)?;
        let get = |name| element(&body, name).ok_or_else(|| self.unusable(operation, status));
        Ok(Caller {
            arn: get("Arn")?,
            user_id: get("UserId")?,
        })
    }

    pub(crate) fn assume_role(
        &self,
        role: &AssumeRole<'_>,
        now: Timestamp,
    ) -> Result<Credentials, StsError> {
        let operation = "AssumeRole";
        let duration = role.duration_seconds.to_string();
        let mut parameters = vec![
            ("RoleArn", role.role_arn),
            ("RoleSessionName", role.session_name),
            ("DurationSeconds", duration.as_str()),
        ];
        parameters.extend(role.external_id.map(|id| ("ExternalId", id)));
        if let Some((serial, code)) = role.mfa {
            parameters.extend([("SerialNumber", serial), ("TokenCode", code)]);
        }
        let (status, body) = self.call(operation, &parameters, now)?;
        let get = |name| element(&body, name).ok_or_else(|| self.unusable(operation, status));
        let expires_at = get("Expiration")?
            .parse()
            .map_err(|_| self.unusable(operation, status))?;
        Ok(Credentials {
            access_key_id: get("AccessKeyId")?,
            secret: SecretKey::new(get("SecretAccessKey")?),
            session_token: Some(Zeroizing::new(get("SessionToken")?)),
            expires_at: Some(expires_at),
            source: "AssumeRoleProvider".to_owned(),
        })
    }

    fn call(
        &self,
        operation: &'static str,
        parameters: &[(&str, &str)],
        now: Timestamp,
    ) -> Result<(u16, Zeroizing<String>), StsError> {
        let mut form = format!("Action={operation}&Version=2011-06-15");
        for (name, value) in parameters {
            form.push('&');
            form.push_str(name);
            form.push('=');
            percent_encode(value, &mut form);
        }
        let answer = send_signed(
            self.http,
            self.endpoint,
            Service::Sts,
            self.credentials,
            ("POST", self.endpoint.path(), &form),
            now,
        )?;
        let body = Zeroizing::new(String::from_utf8_lossy(&answer.body).into_owned());
        match answer.status {
            200 => Ok((200, body)),
            status => Err(match element(&body, "Code") {
                Some(code) => StsError::Refused {
                    operation,
                    code: printable(&code),
                    message: printable(&element(&body, "Message").unwrap_or_default()),
                },
                None => self.unusable(operation, status),
            }),
        }
    }

    fn unusable(&self, operation: &'static str, status: u16) -> StsError {
        StsError::Answer {
            endpoint: self.endpoint.to_string(),
            operation,
            status,
        }
    }
}

const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// Signs and sends one request: method, path and form body (empty for none).
pub(crate) fn send_signed(
    http: &HttpClient,
    endpoint: &Endpoint,
    service: Service,
    credentials: &Credentials,
    (method, path, body): (&str, &str, &str),
    now: Timestamp,
) -> Result<Answer, StsError> {
    let request = (method, path, body, FORM);
    send_signed_as(http, endpoint, service, credentials, request, now)
}

/// The same with a content type for the body.
pub(crate) fn send_signed_as(
    http: &HttpClient,
    endpoint: &Endpoint,
    service: Service,
    credentials: &Credentials,
    (method, path, body, content_type): (&str, &str, &str, &str),
    now: Timestamp,
) -> Result<Answer, StsError> {
    let mut headers = vec![("host", endpoint.host_header().as_bytes())];
    if !body.is_empty() {
        headers.push(("content-type", content_type.as_bytes()));
    }
    let mut request = Request::new(method, path.as_bytes());
    request.headers = &headers;
    if !body.is_empty() {
        request.body = Payload::Bytes(body.as_bytes());
    }
    let signed = Signer::new(credentials.for_signing(), endpoint.region(), service.name())
        .sign(&request, now)?;
    let origin_len = endpoint.url().len() - endpoint.path().len();
    let origin = endpoint.url().get(..origin_len).unwrap_or_default();
    let mut builder = http::Request::builder()
        .method(method)
        .uri(format!("{origin}{path}"))
        .header(
            "user-agent",
            concat!("countersign/", env!("CARGO_PKG_VERSION")),
        );
    for (name, value) in &headers {
        builder = builder.header(*name, *value);
    }
    for (name, value) in signed.headers() {
        builder = builder.header(name, value);
    }
    let request = builder
        .body(Bytes::copy_from_slice(body.as_bytes()))
        .map_err(|source| StsError::Request {
            endpoint: endpoint.to_string(),
            source,
        })?;
    Ok(http.send(&request)?)
}

/// Escapes everything that is not unreserved.
pub(crate) fn percent_encode(value: &str, out: &mut String) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

/// The text of the first element of this name, entities resolved; `None` if there is none or it is empty.
pub(crate) fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    let text = text
        .trim()
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&#34;", "\"")
        .replace("&#39;", "'")
        .replace("&amp;", "&");
    (!text.is_empty()).then_some(text)
}

/// At most 1,000 characters without control characters: the text goes to a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .take(1000)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
