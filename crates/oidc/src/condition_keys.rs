//! The keys `<issuer>:<claim>` that trust policies see (IRSA spec, section 6.4; policy language spec, section 7.5).

use crate::check::AcceptedToken;

/// A condition key with what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConditionKey {
    /// The whole key, such as `issuer.example/id/1:sub`.
    pub name: String,
    /// What it holds.
    pub value: KeyValue,
}

/// The value of a condition key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyValue {
    /// A key with one value.
    One(String),
    /// A key with any number of values.
    Many(Vec<String>),
}

impl AcceptedToken<'_> {
    /// The keys of the token under `prefix`, which is the provider's URL without `https://`: `aud`, `sub`, and where the
    /// token has them `amr` and `oaud`.
    ///
    /// `oaud` is what `aud` was before `azp` took its place. It has one value, so a token whose `aud` has several has no
    /// `oaud`: a condition on it is then false rather than true of one of them.
    ///
    /// With `kubernetes`, which only issuers of registered clusters may have and only when that is configured, also
    /// `kubernetes.io/namespace`, `kubernetes.io/serviceaccount/name`, `kubernetes.io/pod/name` and
    /// `kubernetes.io/node/name`. Policies with these are not portable to AWS.
    #[must_use]
    pub fn condition_keys(&self, prefix: &str, kubernetes: bool) -> Vec<ConditionKey> {
        let claims = self.claims();
        let mut keys = Vec::new();
        let mut one = |claim: &str, value: &str| {
            keys.push(ConditionKey {
                name: format!("{prefix}:{claim}"),
                value: KeyValue::One(value.to_owned()),
            });
        };
        one("aud", self.audience());
        one("sub", &claims.subject);
        if claims.authorized_party.is_some()
            && let [original] = claims.audiences.as_slice()
        {
            one("oaud", original);
        }
        if kubernetes && let Some(facts) = &claims.kubernetes {
            one("kubernetes.io/namespace", &facts.namespace);
            one(
                "kubernetes.io/serviceaccount/name",
                &facts.service_account.name,
            );
            if let Some(pod) = &facts.pod {
                one("kubernetes.io/pod/name", &pod.name);
            }
            if let Some(node) = &facts.node {
                one("kubernetes.io/node/name", &node.name);
            }
        }
        if !claims.authentication_methods.is_empty() {
            keys.push(ConditionKey {
                name: format!("{prefix}:amr"),
                value: KeyValue::Many(
                    claims
                        .authentication_methods
                        .iter()
                        .map(ToString::to_string)
                        .collect(),
                ),
            });
        }
        keys
    }
}
