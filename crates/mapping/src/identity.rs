//! What Kubernetes is told about a caller (authentication spec, section 5.3).

use std::borrow::Cow;

use countersign_arn::CallerIdentity;
use serde::Serialize;

use crate::entry::RuleReference;
use crate::options::ChainOptions;

/// A user as a TokenReview has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubernetesIdentity {
    /// The username.
    pub username: String,
    /// `aws-iam-authenticator:<account>:<user id>`.
    pub uid: String,
    /// The groups; kube-apiserver adds `system:authenticated`.
    pub groups: Vec<String>,
    /// Further attributes, in the order in which they are written.
    pub extra: Vec<Extra>,
    /// The caller belongs to a scrubbed account: nothing about it may be logged but username and uid.
    pub scrubbed: bool,
}

/// One attribute and its values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Extra {
    /// The key.
    pub key: Cow<'static, str>,
    /// The values.
    pub values: Vec<String>,
}

impl KubernetesIdentity {
    /// Builds the identity around a username and groups.
    ///
    /// Every attribute is a list of one, also when it is empty: audit queries rely on `user.extra.sessionName.0`.
    /// Our own attributes have our domain: `countersign.io/source-identity` when the STS told one, and the backend and
    /// rule that matched when [`ChainOptions::mapping_extras`] asks for them.
    pub(crate) fn new(
        username: String,
        groups: Vec<String>,
        identity: &CallerIdentity,
        rule: &RuleReference,
        options: &ChainOptions,
    ) -> Self {
        if options.scrubbed_accounts.contains(&identity.account()) {
            return Self {
                uid: format!("aws-iam-authenticator:administrative:{username}"),
                username,
                groups,
                extra: Vec::new(),
                scrubbed: true,
            };
        }
        let mut extra = Vec::with_capacity(8);
        let mut add = |key: &'static str, value: &str| {
            extra.push(Extra {
                key: Cow::Borrowed(key),
                values: vec![value.to_owned()],
            });
        };
        add("arn", identity.arn());
        add("canonicalArn", identity.canonical_arn());
        add("sessionName", identity.session_name());
        add("accessKeyId", identity.access_key_id());
        add("principalId", identity.user_id());
        add(PRINCIPAL_ID, identity.user_id());
        if let Some(source) = identity
            .facts()
            .and_then(|facts| facts.source_identity.as_deref())
        {
            add(SOURCE_IDENTITY, source);
        }
        if options.mapping_extras {
            add(MAPPING_BACKEND, rule.backend.name());
            add(MAPPING_RULE, &rule.to_string());
        }
        Self {
            uid: format!(
                "aws-iam-authenticator:{}:{}",
                identity.account(),
                identity.user_id()
            ),
            username,
            groups,
            extra,
            scrubbed: false,
        }
    }

    /// Adds an attribute; scrubbed identities keep none.
    #[must_use]
    pub fn with_extra(
        mut self,
        key: impl Into<Cow<'static, str>>,
        value: impl Into<String>,
    ) -> Self {
        if !self.scrubbed {
            self.extra.push(Extra {
                key: key.into(),
                values: vec![value.into()],
            });
        }
        self
    }

    /// The first value of an attribute.
    #[must_use]
    pub fn extra(&self, key: &str) -> Option<&str> {
        self.extra
            .iter()
            .find(|extra| extra.key == key)
            .and_then(|extra| extra.values.first())
            .map(String::as_str)
    }
}

/// The unique id under the key that newer versions of the reference write.
pub const PRINCIPAL_ID: &str = "sigs.k8s.io/aws-iam-authenticator/principalId";
/// The source identity of the session.
pub const SOURCE_IDENTITY: &str = "countersign.io/source-identity";
/// The backend that matched.
pub const MAPPING_BACKEND: &str = "countersign.io/mapping-backend";
/// The rule that matched.
pub const MAPPING_RULE: &str = "countersign.io/mapping-rule";
