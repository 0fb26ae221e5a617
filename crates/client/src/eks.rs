//! The EKS API and IAM, AWS's or any other that speaks like them: one signed request at a time.

use jiff::Timestamp;
use serde_json::Value;

use crate::chain::{self, ChainError};
use crate::credentials::{self, Credentials, CredentialsError};
use crate::endpoint::{Endpoint, EndpointError, Service};
use crate::get_token::Process;
use crate::http::{HttpClient, HttpError};
use crate::profile::{ProfileError, Profiles};
use crate::session::{Io, Session};
use crate::sts::{self, StsError, percent_encode, printable};

/// Pages of one list.
const MAX_PAGES: usize = 1000;

/// Where the EKS API is and as whom to ask it; what is absent comes from the environment and the profile.
#[derive(Debug, Clone, Copy, Default)]
pub struct EksOptions<'a> {
    /// The region.
    pub region: Option<&'a str>,
    /// The profile.
    pub profile: Option<&'a str>,
    /// Another endpoint than the region's.
    pub endpoint_url: Option<&'a str>,
}

/// Why the EKS API did not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EksError {
    /// No region is named.
    #[error("no region: give --region, or set AWS_REGION")]
    NoRegion,
    /// The shared files are broken.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The credentials that are configured make no sense.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// There are no credentials.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The endpoint is malformed.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The HTTP client could not be set up.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// No answer, or a refusal.
    #[error(transparent)]
    Api(#[from] StsError),
    /// A list that does not end.
    #[error("{0} gives more than {MAX_PAGES} pages")]
    TooLong(&'static str),
}

/// A client of the EKS API, and of IAM with the same credentials.
pub struct EksReader<'p> {
    http: HttpClient,
    endpoint: Endpoint,
    iam: Endpoint,
    credentials: Credentials,
    clock: &'p dyn Fn() -> Timestamp,
}

impl std::fmt::Debug for EksReader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EksReader")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// What IAM answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IamAnswer(String);

impl IamAnswer {
    /// The text of the first element of this name; `None` if there is none, or it is empty.
    #[must_use]
    pub fn text(&self, element: &str) -> Option<String> {
        sts::element(&self.0, element)
    }

    /// The texts of all `inner` elements inside of the first `outer` element.
    #[must_use]
    pub fn texts(&self, outer: &str, inner: &str) -> Vec<String> {
        let Some((_, rest)) = self.0.split_once(&format!("<{outer}>")) else {
            return Vec::new();
        };
        let (inside, _) = rest
            .split_once(&format!("</{outer}>"))
            .unwrap_or((rest, ""));
        let (open, close) = (format!("<{inner}>"), format!("</{inner}>"));
        let mut found = Vec::new();
        for part in inside.split(&close) {
            let Some((_, text)) = part.rsplit_once(&open) else {
                continue;
            };
            found.extend(sts::element(&format!("{open}{text}{close}"), inner));
        }
        found
    }
}

impl EksError {
    /// The code of a refusal.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Api(StsError::Refused { code, .. }) => Some(code),
            _ => None,
        }
    }

    /// Whether what was asked for is known not to be there.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(
            self.code(),
            Some("ResourceNotFoundException" | "NoSuchEntity" | "NoSuchEntityException")
        )
    }
}

impl<'p> EksReader<'p> {
    /// Finds region, endpoint and credentials. Blocks, and starts runtimes of its own: call it outside of any.
    ///
    /// # Errors
    /// When one of them is missing or malformed; see [`EksError`].
    pub fn new(
        options: &EksOptions<'_>,
        process: &'p Process<'p>,
        io: &mut Io<'_>,
    ) -> Result<Self, EksError> {
        let profiles = Profiles::load(&process.env, options.profile)?;
        let session = Session {
            env: &process.env,
            profiles: &profiles,
            clock: process.clock,
        };
        let plan = credentials::plan(session.env, session.profiles)?;
        let named = session.region(options.region);
        let resolved = chain::resolve(&session, &plan, named.as_deref(), io)?;
        let region = named
            .or(resolved.region_of_machine)
            .ok_or(EksError::NoRegion)?;
        let at = |service: Service| match options.endpoint_url {
            Some(url) => Endpoint::at(url, service.signing_region(&region)),
            None => Endpoint::resolve(service, &region, session.env, &session.profile()),
        };
        Ok(Self {
            http: HttpClient::new(session.env, &session.profile())?,
            endpoint: at(Service::Eks)?,
            iam: at(Service::Iam)?,
            credentials: resolved.credentials,
            clock: process.clock,
        })
    }

    /// One answer. Each of `path` is one element, which is escaped; so are the values of `query`.
    ///
    /// # Errors
    /// When the API refuses, or gives no answer or no JSON; see [`EksError`].
    pub fn get(
        &self,
        operation: &'static str,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<Value, EksError> {
        self.send("GET", operation, path, query, None)
    }

    /// One answer to a request with any method, and with a JSON body where one is given. A POST that was not answered is sent again
    /// as it is: give a request token where the operation takes one.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn send(
        &self,
        method: &str,
        operation: &'static str,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Value, EksError> {
        let mut target = self.endpoint.path().trim_end_matches('/').to_owned();
        for element in path {
            target.push('/');
            percent_encode(element, &mut target);
        }
        for (at, (name, value)) in query.iter().enumerate() {
            target.push(if at == 0 { '?' } else { '&' });
            target.push_str(name);
            target.push('=');
            percent_encode(value, &mut target);
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        let answer = sts::send_signed_as(
            &self.http,
            &self.endpoint,
            Service::Eks,
            &self.credentials,
            (method, &target, &body, "application/json"),
            (self.clock)(),
        )?;
        let unusable = || StsError::Answer {
            endpoint: self.endpoint.to_string(),
            operation,
            status: answer.status,
        };
        if answer.status != 200 {
            let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            let text = |name: &str| body.get(name).and_then(Value::as_str);
            let of_body = text("__type").or_else(|| text("code"));
            let code = answer.error_type.as_deref().or(of_body);
            let message = text("message").or_else(|| text("Message"));
            return Err(match (code, message) {
                (None, None) => unusable(),
                (code, message) => StsError::Refused {
                    operation,
                    code: code.map_or_else(
                        || format!("HTTP {}", answer.status),
                        |code| printable(code.rsplit('#').next().unwrap_or(code)),
                    ),
                    message: printable(message.unwrap_or_default()),
                },
            }
            .into());
        }
        Ok(serde_json::from_slice(&answer.body).map_err(|_| unusable())?)
    }

    /// One answer of IAM: the XML text.
    ///
    /// # Errors
    /// When IAM refuses, or gives no answer; see [`EksError`].
    pub fn iam(
        &self,
        operation: &'static str,
        parameters: &[(&str, &str)],
    ) -> Result<IamAnswer, EksError> {
        let mut form = format!("Action={operation}&Version=2010-05-08");
        for (name, value) in parameters {
            form.push('&');
            form.push_str(name);
            form.push('=');
            percent_encode(value, &mut form);
        }
        let answer = sts::send_signed(
            &self.http,
            &self.iam,
            Service::Iam,
            &self.credentials,
            ("POST", self.iam.path(), &form),
            (self.clock)(),
        )?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        match (answer.status, sts::element(&text, "Code")) {
            (200, _) => Ok(IamAnswer(text)),
            (_, Some(code)) => Err(StsError::Refused {
                operation,
                code: printable(&code),
                message: printable(&sts::element(&text, "Message").unwrap_or_default()),
            }
            .into()),
            (status, None) => Err(StsError::Answer {
                endpoint: self.iam.to_string(),
                operation,
                status,
            }
            .into()),
        }
    }

    /// All items of a list, page by page.
    ///
    /// # Errors
    /// As [`get`](Self::get), and when the list does not end.
    pub fn list(
        &self,
        operation: &'static str,
        path: &[&str],
        member: &str,
    ) -> Result<Vec<Value>, EksError> {
        let mut items = Vec::new();
        let mut token: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let query: Vec<(&str, &str)> =
                token.iter().map(|t| ("nextToken", t.as_str())).collect();
            let mut page = self.get(operation, path, &query)?;
            if let Some(Value::Array(list)) = page.get_mut(member).map(Value::take) {
                items.extend(list);
            }
            token = match page.get("nextToken").and_then(Value::as_str) {
                Some(next) if !next.is_empty() => Some(next.to_owned()),
                _ => return Ok(items),
            };
        }
        Err(EksError::TooLong(operation))
    }
}
