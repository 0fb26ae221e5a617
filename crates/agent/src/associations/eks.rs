//! Associations read from the EKS API, one `DescribePodIdentityAssociation` each, and one `ListPodIdentityAssociations` for each
//! service account whose association has patterns (EKS API spec, section 10; Pod Identity spec, section 9).

use std::collections::HashMap;

use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use http::{Method, StatusCode};
use jiff::Timestamp;
use serde::Deserialize;

use super::{AccountName, AssociationState, Associations, AssociationsUnreadable};
use crate::auth::{AuthFailure, EksApi, Service, SetupError, cluster_name, failure};
use crate::refusal::FinalCode;

/// An association may have fifty tags and a session policy.
const SERVICE: Service = Service {
    name: "eks",
    max_answer: 64 << 10,
};
/// Questions under way at once. A node has few associations, and other nodes ask as well.
const AT_ONCE: usize = 4;

/// The associations of a cluster, by the EKS API.
///
/// The node's role needs `eks:DescribePodIdentityAssociation`, which the managed policies of AWS do not give it, and
/// `eks:ListPodIdentityAssociations` where associations have patterns, which AWS does not know. An agent with a token of its own,
/// which Countersign knows and AWS does not, needs nothing more.
pub struct EksAssociations {
    api: EksApi,
    path: String,
}

impl EksAssociations {
    /// The associations of the cluster of this name.
    ///
    /// # Errors
    /// When the name cannot be one of a cluster.
    pub fn new(cluster: &str, api: EksApi) -> Result<Self, SetupError> {
        let cluster = cluster_name(cluster)?;
        Ok(Self {
            api,
            path: format!("/clusters/{cluster}/pod-identity-associations"),
        })
    }

    /// Its state; nothing when it does not exist.
    async fn describe(&self, id: &str) -> Result<Option<AssociationState>, AssociationsUnreadable> {
        // It came in an answer, and becomes part of a path.
        if !is_id(id) {
            return Err(AssociationsUnreadable("an id is malformed".into()));
        }
        let path = format!("{}/{id}", self.path);
        let answer = self
            .api
            .send(SERVICE, Method::GET, &path, Bytes::new())
            .await
            .map_err(|failure| AssociationsUnreadable(failure.to_string()))?;
        if answer.status == StatusCode::OK {
            let mut state = state_of(&answer.body)?;
            // An agent with a token of its own is told of closer associations by the time of the change.
            state.has_patterns &= !self.api.is_bearer();
            return Ok(Some(state));
        }
        match failure(answer.status, &answer.headers, &answer.body) {
            AuthFailure::Final {
                code: FinalCode::ResourceNotFound,
                ..
            } => Ok(None),
            failure => Err(AssociationsUnreadable(failure.to_string())),
        }
    }

    /// The association in force for a service account; nothing when it has none.
    async fn of_account(
        &self,
        (namespace, name): &AccountName,
    ) -> Result<Option<Box<str>>, AssociationsUnreadable> {
        // They came in a token, and become part of a path.
        if !is_name(namespace) || !is_name(name) {
            return Err(AssociationsUnreadable("a name is malformed".into()));
        }
        let path = format!(
            "{}?matching=true&namespace={namespace}&serviceAccount={name}",
            self.path
        );
        let answer = self
            .api
            .send(SERVICE, Method::GET, &path, Bytes::new())
            .await
            .map_err(|failure| AssociationsUnreadable(failure.to_string()))?;
        if answer.status == StatusCode::OK {
            return first_listed(&answer.body);
        }
        let failure = failure(answer.status, &answer.headers, &answer.body);
        Err(AssociationsUnreadable(failure.to_string()))
    }
}

impl Associations for EksAssociations {
    fn states<'a>(
        &'a self,
        ids: &'a [Box<str>],
    ) -> BoxFuture<'a, Result<HashMap<Box<str>, AssociationState>, AssociationsUnreadable>> {
        Box::pin(async move {
            let mut all = HashMap::new();
            for some in ids.chunks(AT_ONCE) {
                let described = join_all(some.iter().map(|id| self.describe(id))).await;
                for (id, described) in some.iter().zip(described) {
                    if let Some(state) = described? {
                        all.insert(id.clone(), state);
                    }
                }
            }
            Ok(all)
        })
    }

    fn in_force<'a>(
        &'a self,
        accounts: &'a [AccountName],
    ) -> BoxFuture<'a, Result<HashMap<AccountName, Box<str>>, AssociationsUnreadable>> {
        Box::pin(async move {
            let mut all = HashMap::new();
            for some in accounts.chunks(AT_ONCE) {
                let found = join_all(some.iter().map(|account| self.of_account(account))).await;
                for (account, found) in some.iter().zip(found) {
                    if let Some(id) = found? {
                        all.insert(account.clone(), id);
                    }
                }
            }
            Ok(all)
        })
    }
}

/// `a-` and letters or digits.
fn is_id(id: &str) -> bool {
    id.strip_prefix("a-").is_some_and(|rest| {
        (1..=64).contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_alphanumeric())
    })
}

/// What a name of Kubernetes has, none of which means something in a URL.
fn is_name(name: &str) -> bool {
    (1..=253).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'))
}

fn unreadable() -> AssociationsUnreadable {
    AssociationsUnreadable("an answer is not one of the EKS API".into())
}

/// `association.modifiedAt`, seconds since 1970 as a JSON number, `disableSessionTags`, which may be absent, and whether its names
/// end with `*`.
pub(crate) fn state_of(body: &[u8]) -> Result<AssociationState, AssociationsUnreadable> {
    #[derive(Deserialize)]
    struct Described {
        association: Association,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Association {
        modified_at: f64,
        #[serde(default)]
        disable_session_tags: Option<bool>,
        #[serde(default)]
        namespace: String,
        #[serde(default)]
        service_account: String,
    }
    let described: Described = serde_json::from_slice(body).map_err(|_| unreadable())?;
    let association = described.association;
    let span = jiff::SignedDuration::try_from_secs_f64(association.modified_at);
    let modified = Timestamp::UNIX_EPOCH
        .checked_add(span.map_err(|_| unreadable())?)
        .map_err(|_| unreadable())?;
    let names = [association.namespace, association.service_account];
    Ok(AssociationState {
        modified,
        session_tags: association.disable_session_tags != Some(true),
        has_patterns: names.iter().any(|name| name.ends_with('*')),
    })
}

/// The id of the first association of a list.
pub(crate) fn first_listed(body: &[u8]) -> Result<Option<Box<str>>, AssociationsUnreadable> {
    #[derive(Deserialize)]
    struct Listed {
        associations: Vec<Association>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Association {
        association_id: Box<str>,
    }
    let listed: Listed = serde_json::from_slice(body).map_err(|_| unreadable())?;
    let first = listed.associations.into_iter().next();
    Ok(first.map(|association| association.association_id))
}
