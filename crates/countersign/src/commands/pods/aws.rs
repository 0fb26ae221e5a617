//! Facts from the EKS API and IAM, and the changes that plans make there.

use anyhow::anyhow;
use countersign_client::eks::{EksError, EksOptions, EksReader};
use countersign_client::{Io, Process};
use countersign_podreview::{
    AssociationFacts, ClusterFacts, Fact, ProviderFacts, RoleFacts, SessionSettings,
};
use serde::Deserialize;
use serde_json::Value;

use super::AwsArgs;
use crate::report::Failure;

/// Pages of a list of IAM.
const MAX_PAGES: usize = 100;

/// The APIs, with the caller's credentials.
pub(super) struct Aws<'p> {
    pub(super) api: EksReader<'p>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Association {
    association_id: String,
    namespace: String,
    service_account: String,
    #[serde(default)]
    role_arn: String,
    #[serde(default)]
    target_role_arn: Option<String>,
    #[serde(default)]
    external_id: Option<String>,
    #[serde(default)]
    disable_session_tags: Option<bool>,
    #[serde(default)]
    policy: Option<String>,
    #[serde(default)]
    owner_arn: Option<String>,
    #[serde(default)]
    created_at: Option<f64>,
    #[serde(flatten)]
    sessions: SessionSettings,
}

impl From<Association> for AssociationFacts {
    fn from(association: Association) -> Self {
        Self {
            id: association.association_id,
            namespace: association.namespace,
            service_account: association.service_account,
            role_arn: association.role_arn,
            target_role_arn: association.target_role_arn.filter(|arn| !arn.is_empty()),
            external_id: association.external_id,
            disable_session_tags: association.disable_session_tags.unwrap_or(false),
            policy: association.policy.filter(|policy| !policy.is_empty()),
            owner_arn: association.owner_arn,
            sessions: association.sessions,
            // Parts of a second do not matter here, and numbers beyond the range are cut.
            created_at: association.created_at.map(|seconds| seconds.floor() as i64),
        }
    }
}

impl AwsArgs {
    /// The name of the cluster, and the region of its ARN.
    pub(super) fn named(&self) -> Option<(&str, Option<&str>)> {
        let wanted = self.cluster.as_deref()?;
        Some(match wanted.split_once(":cluster/") {
            Some((head, name)) => (name, head.split(':').nth(3)),
            None => (wanted, None),
        })
    }

    pub(super) fn required(&self) -> Result<&str, Failure> {
        self.named().map(|(name, _)| name).ok_or_else(|| {
            Failure::usage(anyhow!("no cluster is named")).hint("name it with `--cluster NAME`")
        })
    }

    pub(super) fn connect<'p>(
        &self,
        process: &'p Process<'p>,
        io: &mut Io<'_>,
    ) -> Result<Aws<'p>, EksError> {
        let options = EksOptions {
            region: self
                .region
                .as_deref()
                .or_else(|| self.named().and_then(|(_, region)| region)),
            profile: self.profile.as_deref(),
            endpoint_url: self.endpoint_url.as_deref(),
        };
        Ok(Aws {
            api: EksReader::new(&options, process, io)?,
        })
    }
}

impl Aws<'_> {
    pub(super) fn cluster(&self, name: &str) -> Fact<ClusterFacts> {
        fact(
            self.api
                .get("DescribeCluster", &["clusters", name], &[])
                .map(|answer| {
                    let text = |path: &str| {
                        let value = answer.pointer(path).and_then(Value::as_str);
                        value.map(str::to_owned)
                    };
                    ClusterFacts {
                        name: text("/cluster/name").unwrap_or_else(|| name.to_owned()),
                        arn: text("/cluster/arn").unwrap_or_default(),
                        issuer: text("/cluster/identity/oidc/issuer"),
                    }
                }),
        )
    }

    /// The cluster, which a plan cannot do without.
    pub(super) fn required_cluster(&self, name: &str) -> Result<ClusterFacts, Failure> {
        match self.cluster(name) {
            Fact::Known(cluster) => Ok(cluster),
            Fact::Missing => Err(Failure::no(anyhow!("the EKS API has no cluster `{name}`"))),
            other => {
                let reason = other.unread().unwrap_or_default().to_owned();
                Err(Failure::unknown(anyhow!(
                    "the cluster `{name}` could not be read: {reason}"
                )))
            }
        }
    }

    /// The association that is in force for a service account, and what others are for it, `NAMESPACE/NAME (ID)`. AWS, which
    /// knows no patterns, takes no notice of the question for them.
    pub(super) fn association_in_force(
        &self,
        cluster: &str,
        namespace: &str,
        account: &str,
    ) -> (Fact<AssociationFacts>, Vec<String>) {
        let query = [
            ("namespace", namespace),
            ("serviceAccount", account),
            ("matching", "true"),
        ];
        let path = ["clusters", cluster, "pod-identity-associations"];
        let listed = self.api.get("ListPodIdentityAssociations", &path, &query);
        let listed = match listed {
            Ok(listed) => listed,
            Err(error) => return (Fact::Unread(error.to_string()), Vec::new()),
        };
        let listed = listed.pointer("/associations").and_then(Value::as_array);
        let text = |one: &Value, name: &str| {
            let value = one.get(name).and_then(Value::as_str);
            value.unwrap_or_default().to_owned()
        };
        let Some((first, others)) = listed.and_then(|all| all.split_first()) else {
            return (Fact::Missing, Vec::new());
        };
        let others = others
            .iter()
            .map(|one| {
                let (namespace, name) = (text(one, "namespace"), text(one, "serviceAccount"));
                format!("{namespace}/{name} ({})", text(one, "associationId"))
            })
            .collect();
        (
            self.describe(cluster, &text(first, "associationId")),
            others,
        )
    }

    /// The association of exactly these names, which may be patterns.
    pub(super) fn association(
        &self,
        cluster: &str,
        namespace: &str,
        account: &str,
    ) -> Fact<AssociationFacts> {
        let query = [("namespace", namespace), ("serviceAccount", account)];
        let path = ["clusters", cluster, "pod-identity-associations"];
        let listed = self.api.get("ListPodIdentityAssociations", &path, &query);
        let listed = match listed {
            Ok(listed) => listed,
            Err(error) => return Fact::Unread(error.to_string()),
        };
        let id = listed
            .pointer("/associations/0/associationId")
            .and_then(Value::as_str);
        match id {
            None => Fact::Missing,
            Some(id) => self.describe(cluster, id),
        }
    }

    /// Every association of a cluster, or of one namespace.
    pub(super) fn associations(
        &self,
        cluster: &str,
        namespace: Option<&str>,
    ) -> Result<Vec<AssociationFacts>, Failure> {
        let path = ["clusters", cluster, "pod-identity-associations"];
        let listed = self
            .api
            .list("ListPodIdentityAssociations", &path, "associations")?;
        let mut all = Vec::new();
        for summary in &listed {
            let text = |name: &str| summary.get(name).and_then(Value::as_str);
            if namespace.is_some_and(|namespace| text("namespace") != Some(namespace)) {
                continue;
            }
            let Some(id) = text("associationId") else {
                continue;
            };
            match self.describe(cluster, id) {
                Fact::Known(association) => all.push(association),
                // Gone since it was listed.
                Fact::Missing => {}
                other => {
                    let reason = other.unread().unwrap_or_default().to_owned();
                    return Err(Failure::unknown(anyhow!(
                        "association {id} could not be read: {reason}"
                    )));
                }
            }
        }
        Ok(all)
    }

    fn describe(&self, cluster: &str, id: &str) -> Fact<AssociationFacts> {
        let path = ["clusters", cluster, "pod-identity-associations", id];
        match self.api.get("DescribePodIdentityAssociation", &path, &[]) {
            Ok(mut answer) => {
                let value = answer.get_mut("association").map(Value::take);
                match serde_json::from_value::<Association>(value.unwrap_or_default()) {
                    Ok(association) => Fact::Known(association.into()),
                    Err(error) => {
                        Fact::Unread(format!("the EKS API gave no usable association: {error}"))
                    }
                }
            }
            Err(error) => failed(&error),
        }
    }

    /// A role by its ARN. IAM finds roles by name in the caller's own account: a role of another account is not asked for.
    pub(super) fn role(&self, arn: &str, own_account: Option<&str>) -> Fact<RoleFacts> {
        let mut fields = arn.split(':');
        let account = fields.nth(4).unwrap_or_default();
        if let Some(own) = own_account.filter(|own| *own != account) {
            return Fact::Unread(format!(
                "it belongs to account {account}, and the credentials to {own}: ask with a profile of that account"
            ));
        }
        self.role_named(arn.rsplit('/').next().unwrap_or_default())
    }

    /// A role by its name.
    pub(super) fn role_named(&self, name: &str) -> Fact<RoleFacts> {
        let answer = match self.api.iam("GetRole", &[("RoleName", name)]) {
            Ok(answer) => answer,
            Err(error) => return failed(&error),
        };
        let trust = answer
            .text("AssumeRolePolicyDocument")
            .and_then(|text| percent_decode(&text));
        match (answer.text("Arn"), trust) {
            (Some(arn), Some(trust)) => Fact::Known(RoleFacts {
                arn,
                trust,
                tags: answer
                    .texts("Tags", "Key")
                    .into_iter()
                    .zip(answer.texts("Tags", "Value"))
                    .collect(),
            }),
            _ => Fact::Unread("IAM gave no usable role".to_owned()),
        }
    }

    pub(super) fn provider(&self, arn: &str, own_account: Option<&str>) -> Fact<ProviderFacts> {
        let account = arn.split(':').nth(4).unwrap_or_default();
        if let Some(own) = own_account.filter(|own| *own != account) {
            return Fact::Unread(format!(
                "it belongs to account {account}, and the credentials to {own}: ask with a profile of that account"
            ));
        }
        let parameters = [("OpenIDConnectProviderArn", arn)];
        match self.api.iam("GetOpenIDConnectProvider", &parameters) {
            Ok(answer) => Fact::Known(ProviderFacts {
                arn: arn.to_owned(),
                client_ids: answer.texts("ClientIDList", "member"),
            }),
            Err(error) => failed(&error),
        }
    }

    /// ARNs of all providers of the account.
    pub(super) fn providers(&self) -> Result<Vec<String>, EksError> {
        let answer = self.api.iam("ListOpenIDConnectProviders", &[])?;
        Ok(answer.texts("OpenIDConnectProviderList", "Arn"))
    }

    /// ARNs of the managed policies attached to a role; none for a role that does not exist.
    pub(super) fn attached(&self, role_name: &str) -> Result<Vec<String>, EksError> {
        let mut all = Vec::new();
        let mut marker: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let mut parameters = vec![("RoleName", role_name)];
            parameters.extend(marker.as_deref().map(|marker| ("Marker", marker)));
            let answer = match self.api.iam("ListAttachedRolePolicies", &parameters) {
                Ok(answer) => answer,
                Err(error) if error.is_missing() => return Ok(all),
                Err(error) => return Err(error),
            };
            all.extend(answer.texts("AttachedPolicies", "PolicyArn"));
            marker = answer.text("Marker");
            if marker.is_none() {
                break;
            }
        }
        Ok(all)
    }
}

fn fact<T>(answer: Result<T, EksError>) -> Fact<T> {
    match answer {
        Ok(value) => Fact::Known(value),
        Err(error) => failed(&error),
    }
}

fn failed<T>(error: &EksError) -> Fact<T> {
    if error.is_missing() {
        Fact::Missing
    } else {
        Fact::Unread(error.to_string())
    }
}

/// IAM sends documents with everything escaped.
fn percent_decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                u8::try_from(high * 16 + low).ok()?
            }
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::percent_decode;

    #[test]
    fn documents_are_unescaped() {
        let rows = [
            ("%7B%22a%22%3A%20%22b%2Bc%22%7D", Some(r#"{"a": "b+c"}"#)),
            ("plain", Some("plain")),
            ("%7", None),
            ("%zz", None),
            ("%ff", None),
        ];
        for (text, wanted) in rows {
            assert_eq!(percent_decode(text).as_deref(), wanted, "{text}");
        }
    }
}
