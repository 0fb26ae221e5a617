//! Node names for clusters off AWS: a fixed table, or a lookup over HTTP.

use std::collections::HashMap;
use std::sync::Arc;

use countersign_mapping::Ec2InstanceId;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt};
use http::header::{ACCEPT, USER_AGENT};
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::Full;
use serde::Deserialize;

use super::query::AwsError;
use super::{Ec2, Instance};
use crate::http::{ExchangeFailure, HttpsClient, USER_AGENT as PRODUCT};

/// A table from instance id to node name (`nodeNames`), before another source if there is one.
///
/// An id in the table is never asked for elsewhere. Owner, state and role of such an instance cannot be told.
pub struct NamesFirst {
    /// The table.
    pub names: HashMap<Ec2InstanceId, String>,
    /// Whom to ask about ids that are not in it.
    pub then: Option<Arc<dyn Ec2>>,
}

impl Ec2 for NamesFirst {
    fn describe_instances<'a>(
        &'a self,
        ids: &'a [Ec2InstanceId],
    ) -> BoxFuture<'a, Result<Vec<Instance>, AwsError>> {
        Box::pin(async move {
            let (mut found, mut others) = (Vec::new(), Vec::new());
            for id in ids {
                match self.names.get(id) {
                    Some(name) => found.push(Instance::named(*id, name.as_str())),
                    None => others.push(*id),
                }
            }
            if let Some(then) = &self.then
                && !others.is_empty()
            {
                match then.describe_instances(&others).await {
                    Ok(instances) => found.extend(instances),
                    // The table's answers stand. An instance without a name is asked for again, which the others need.
                    Err(error) if error.is_transient() && !found.is_empty() => {
                        found.extend(
                            others
                                .into_iter()
                                .map(|id| Instance::named(id, String::new())),
                        );
                    }
                    Err(error) => return Err(error),
                }
            }
            Ok(found)
        })
    }

    fn profile_roles<'a>(
        &'a self,
        profile_arn: &'a str,
    ) -> BoxFuture<'a, Result<Vec<String>, AwsError>> {
        match &self.then {
            Some(then) => then.profile_roles(profile_arn),
            None => Box::pin(std::future::ready(Ok(Vec::new()))),
        }
    }
}

/// Asks an HTTP server for each id: `GET` of a URL with `{instanceId}` in it, answered 200 and
/// `{"privateDnsName": "worker-3"}`, or 404 (410, 400) for an id that does not exist.
///
/// Answers are kept and lookups limited as for EC2. The server is trusted as much as EC2 would be: it names nodes.
#[derive(Debug)]
pub struct HttpNames {
    http: HttpsClient,
    template: String,
}

/// The lookup URL cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no http or https URL with `{{instanceId}}` behind its host")]
pub struct InvalidNamesUrl(pub String);

/// Where the id goes in the URL.
const PLACEHOLDER: &str = "{instanceId}";
/// Body bytes that are read.
const MAX_BODY: usize = 64 * 1024;
/// Time for one request.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(4);
/// Requests at once for one batch.
const CONCURRENT: usize = 8;

impl HttpNames {
    /// Takes a URL with the placeholder `{instanceId}` in its path or query.
    ///
    /// # Errors
    /// When it is no such URL.
    pub fn new(http: HttpsClient, template: &str) -> Result<Self, InvalidNamesUrl> {
        let invalid = || InvalidNamesUrl(template.to_owned());
        let example = template.replace(PLACEHOLDER, "i-0123456789abcdef0");
        let uri: Uri = example.parse().map_err(|_| invalid())?;
        let host = uri.authority().map_or("", |authority| authority.as_str());
        let sound = example != template
            && matches!(uri.scheme_str(), Some("http" | "https"))
            && !host.is_empty()
            && !host.contains("i-0123456789abcdef0");
        sound
            .then(|| Self {
                http,
                template: template.to_owned(),
            })
            .ok_or_else(invalid)
    }

    async fn ask(&self, id: &Ec2InstanceId) -> Result<Option<Instance>, AwsError> {
        let url = self.template.replace(PLACEHOLDER, id.as_str());
        let mut request = Request::new(Full::default());
        *request.uri_mut() = url.parse().map_err(|_| AwsError::BadAnswer)?;
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, PRODUCT);
        let answer = self
            .http
            .exchange(request, MAX_BODY, DEADLINE)
            .await
            .map_err(AwsError::Unreachable)?;
        match answer.status {
            StatusCode::OK => node_name_of(&answer.body)
                .map(|name| Some(Instance::named(*id, name)))
                .ok_or(AwsError::BadAnswer),
            StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::BAD_REQUEST => Ok(None),
            StatusCode::TOO_MANY_REQUESTS => Err(AwsError::Throttled {
                code: "429".to_owned(),
            }),
            status if status.is_server_error() => {
                Err(AwsError::Unreachable(ExchangeFailure::Broken))
            }
            status => Err(AwsError::Refused {
                status: status.as_u16(),
                code: "Unknown".to_owned(),
            }),
        }
    }
}

impl Ec2 for HttpNames {
    fn describe_instances<'a>(
        &'a self,
        ids: &'a [Ec2InstanceId],
    ) -> BoxFuture<'a, Result<Vec<Instance>, AwsError>> {
        Box::pin(async move {
            let answers: Vec<_> = stream::iter(ids.to_vec())
                .map(|id| async move {
                    let answer = self.ask(&id).await;
                    (id, answer)
                })
                .buffer_unordered(CONCURRENT)
                .collect()
                .await;
            let answered = answers.iter().any(|(_, answer)| answer.is_ok());
            let mut found = Vec::new();
            for (id, answer) in answers {
                match answer {
                    Ok(instance) => found.extend(instance),
                    // One id that makes the server fail must not fail the others. Without a name it is asked for again.
                    Err(_) if answered => found.push(Instance::named(id, String::new())),
                    Err(error) => return Err(error),
                }
            }
            Ok(found)
        })
    }

    fn profile_roles<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<String>, AwsError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
}

/// The name in an answer of the HTTP lookup.
pub(crate) fn node_name_of(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        private_dns_name: String,
    }
    let name = serde_json::from_slice::<Answer>(body)
        .ok()?
        .private_dns_name;
    let sound = name.len() <= 253
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
    sound.then_some(name)
}
