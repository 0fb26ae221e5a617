//! What kube-apiserver is started with: the chain of its authorizers, who may come without a name, and the flags
//! (EKS API spec, section 9.7; authentication spec, sections 7 and 9.4).

use std::path::Path;

/// Where the pieces are, as kube-apiserver sees them.
#[derive(Debug, Clone, Copy)]
pub struct ApiServerFiles<'a> {
    /// Kubeconfig of the token webhook.
    pub token_kubeconfig: &'a Path,
    /// Kubeconfig of the authorization webhook.
    pub authorization_kubeconfig: &'a Path,
    /// The AuthorizationConfiguration.
    pub authorization_config: &'a Path,
    /// The AuthenticationConfiguration.
    pub authentication_config: &'a Path,
}

/// Users of an OpenID Connect issuer whom kube-apiserver itself verifies. Tokens of the same issuer must not be verified by the
/// webhook as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtIssuer {
    /// `https` URL, as in the tokens.
    pub url: String,
    /// The audience.
    pub client_id: String,
    /// The claim with the username.
    pub username_claim: String,
    /// What is put before the username.
    pub username_prefix: String,
    /// The claim with the groups, if there is one.
    pub groups_claim: Option<String>,
    /// What is put before each group.
    pub groups_prefix: String,
}

/// Caches of kube-apiserver, shorter than its defaults: how long a deleted entry still opens the door, a disassociated policy
/// still allows, and a new one does not yet.
const TOKEN_TTL: &str = "10s";
const AUTHORIZED_TTL: &str = "10s";
const UNAUTHORIZED_TTL: &str = "5s";

/// The AuthorizationConfiguration: Node, access policies, RBAC. An outage of the webhook leaves RBAC working, and its match
/// condition keeps nodes and service accounts, nearly all of the traffic, away from it.
///
/// Kubernetes 1.32 and later; [`legacy_authorization_flags`] is for those before.
#[must_use]
pub fn authorization_configuration(kubeconfig: &Path) -> String {
    format!(
        "apiVersion: apiserver.config.k8s.io/v1
kind: AuthorizationConfiguration
authorizers:
- type: Node
  name: node
- type: Webhook
  name: access-policies
  webhook:
    timeout: 3s
    authorizedTTL: {AUTHORIZED_TTL}
    unauthorizedTTL: {UNAUTHORIZED_TTL}
    failurePolicy: NoOpinion
    subjectAccessReviewVersion: v1
    matchConditionSubjectAccessReviewVersion: v1
    connectionInfo:
      type: KubeConfigFile
      kubeConfigFile: {kubeconfig}
    matchConditions:
    - expression: \"has(request.extra) && ('principalId' in request.extra || 'principalid' in request.extra)\"
- type: RBAC
  name: rbac
",
        kubeconfig = quoted(&kubeconfig.to_string_lossy())
    )
}

/// The AuthenticationConfiguration: requests without a name reach the health endpoints and nothing else, and users of `issuers`
/// come in under names that Kubernetes does not keep for itself.
///
/// It stands beside the token webhook, which has flags of its own, and excludes `--oidc-*` and `--anonymous-auth`. Kubernetes
/// 1.34 and later as it is; with `v1beta1` also 1.32 and 1.33.
#[must_use]
pub fn authentication_configuration(issuers: &[JwtIssuer]) -> String {
    let mut text = String::from(
        "apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
anonymous:
  enabled: true
  conditions:
  - path: /livez
  - path: /readyz
  - path: /healthz
",
    );
    if !issuers.is_empty() {
        text.push_str("jwt:\n");
    }
    for issuer in issuers {
        text.push_str(&format!(
            "- issuer:
    url: {url}
    audiences: [{audience}]
  claimMappings:
    username:
      claim: {username}
      prefix: {username_prefix}
",
            url = quoted(&issuer.url),
            audience = quoted(&issuer.client_id),
            username = quoted(&issuer.username_claim),
            username_prefix = quoted(&issuer.username_prefix),
        ));
        if let Some(claim) = &issuer.groups_claim {
            text.push_str(&format!(
                "    groups:
      claim: {}
      prefix: {}
",
                quoted(claim),
                quoted(&issuer.groups_prefix)
            ));
        }
        text.push_str(
            "  userValidationRules:
  - expression: \"!user.username.startsWith('system:')\"
    message: username is reserved
  - expression: \"user.groups.all(g, !g.startsWith('system:'))\"
    message: group is reserved
",
        );
    }
    text
}

/// The flags of a kube-apiserver that knows structured authorization.
#[must_use]
pub fn flags(files: &ApiServerFiles<'_>) -> Vec<String> {
    let mut flags = token_flags(files);
    flags.push(format!(
        "--authorization-config={}",
        files.authorization_config.display()
    ));
    flags
}

/// The flags of one before 1.32.
#[must_use]
pub fn legacy_authorization_flags(files: &ApiServerFiles<'_>) -> Vec<String> {
    vec![
        "--authorization-mode=Node,Webhook,RBAC".into(),
        format!(
            "--authorization-webhook-config-file={}",
            files.authorization_kubeconfig.display()
        ),
        "--authorization-webhook-version=v1".into(),
        format!("--authorization-webhook-cache-authorized-ttl={AUTHORIZED_TTL}"),
        format!("--authorization-webhook-cache-unauthorized-ttl={UNAUTHORIZED_TTL}"),
    ]
}

fn token_flags(files: &ApiServerFiles<'_>) -> Vec<String> {
    vec![
        format!(
            "--authentication-token-webhook-config-file={}",
            files.token_kubeconfig.display()
        ),
        "--authentication-token-webhook-version=v1".into(),
        format!("--authentication-token-webhook-cache-ttl={TOKEN_TTL}"),
    ]
}

/// A JSON string is a YAML string, whatever characters it has.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
