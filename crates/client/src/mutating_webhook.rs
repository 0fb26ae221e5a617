//! The MutatingWebhookConfiguration by which kube-apiserver asks about pods (webhook spec, section 8.2).

use base64::Engine as _;

/// Name of the registration, and of what `podIdentityWebhook.webhookConfiguration` should say.
pub const NAME: &str = "countersign-pod-identity";

/// How kube-apiserver gets to the webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReachedBy {
    /// At a URL: a webhook beside the API server, which reaches it before there are Services.
    Url(String),
    /// Through a Service.
    Service {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Its port.
        port: u16,
    },
}

/// What becomes of a pod when the webhook does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum FailurePolicy {
    /// It is made without credentials; the server finds it afterwards.
    #[default]
    #[value(name = "Ignore")]
    Ignore,
    /// It is not made.
    #[value(name = "Fail")]
    Fail,
}

/// A registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Its name.
    pub name: String,
    /// How it is reached.
    pub reached_by: ReachedBy,
    /// The CAs of its certificate, PEM; empty where they are put in later.
    pub ca_bundle_pem: String,
    /// What becomes of pods without it.
    pub failure_policy: FailurePolicy,
}

impl Registration {
    /// The manifest.
    ///
    /// Left out are: pods with the skip label; mirror pods, which may not use tokens; the namespace of the webhook's own pods, which
    /// could not be made without themselves; and with `Fail` also `kube-system`, whose pods the cluster cannot do without. With
    /// `Ignore` a webhook in `kube-system` leaves that namespace in, because add-ons there need credentials: its own pods have the
    /// skip label (`deploy/kubernetes/deployment.yaml`).
    #[must_use]
    pub fn render(&self) -> String {
        let bundle = base64::engine::general_purpose::STANDARD.encode(&self.ca_bundle_pem);
        let bundle = match bundle.is_empty() {
            true => String::new(),
            false => format!("    caBundle: {bundle}\n"),
        };
        let name = quoted(&self.name);
        let (reached_by, own_namespace) = match &self.reached_by {
            ReachedBy::Url(url) => (format!("    url: {}\n", quoted(url)), None),
            ReachedBy::Service {
                namespace,
                name,
                port,
            } => (
                format!(
                    "    service: {{namespace: {}, name: {}, port: {port}, path: /mutate}}\n",
                    quoted(namespace),
                    quoted(name)
                ),
                Some(namespace.as_str()),
            ),
        };
        let fails = self.failure_policy == FailurePolicy::Fail;
        let mut left_out: Vec<String> = own_namespace
            .filter(|namespace| fails || *namespace != "kube-system")
            .map(quoted)
            .into_iter()
            .collect();
        if fails && own_namespace != Some("kube-system") {
            left_out.push(quoted("kube-system"));
        }
        let selector = match left_out.is_empty() {
            true => String::new(),
            false => format!(
                "  namespaceSelector:\n    matchExpressions:\n    - {{key: kubernetes.io/metadata.name, operator: NotIn, values: [{}]}}\n",
                left_out.join(", ")
            ),
        };
        let policy = if fails { "Fail" } else { "Ignore" };
        format!(
            "# Asks Countersign about every pod that is made: which AWS credentials it gets. docs/pod-identity-webhook.md\n\
             apiVersion: admissionregistration.k8s.io/v1\n\
             kind: MutatingWebhookConfiguration\n\
             metadata:\n  name: {name}\n\
             webhooks:\n\
             - name: pod-identity-webhook.amazonaws.com\n\
             \x20 admissionReviewVersions: [v1, v1beta1]\n\
             \x20 sideEffects: None\n\
             \x20 failurePolicy: {policy}\n\
             \x20 reinvocationPolicy: IfNeeded\n\
             \x20 matchPolicy: Equivalent\n\
             \x20 timeoutSeconds: 5\n\
             \x20 rules:\n\
             \x20 - {{apiGroups: [\"\"], apiVersions: [v1], operations: [CREATE], resources: [pods], scope: Namespaced}}\n\
             {selector}\
             \x20 objectSelector:\n\
             \x20   matchExpressions:\n\
             \x20   - {{key: eks.amazonaws.com/skip-pod-identity-webhook, operator: DoesNotExist}}\n\
             \x20 # From Kubernetes 1.30 on; take it out for older ones.\n\
             \x20 matchConditions:\n\
             \x20 - name: no-mirror-pods\n\
             \x20   expression: \"!has(object.metadata.annotations) || !('kubernetes.io/config.mirror' in object.metadata.annotations)\"\n\
             \x20 clientConfig:\n\
             {reached_by}\
             {bundle}"
        )
    }
}

/// JSON is YAML, whatever the text.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_that_are_left_out() {
        let service = |namespace: &str| ReachedBy::Service {
            namespace: namespace.to_owned(),
            name: "countersign".to_owned(),
            port: 21362,
        };
        let url = || ReachedBy::Url("https://127.0.0.1:21362/mutate".to_owned());
        let cases = [
            (url(), FailurePolicy::Ignore, None),
            (url(), FailurePolicy::Fail, Some(r#"["kube-system"]"#)),
            (service("kube-system"), FailurePolicy::Ignore, None),
            (
                service("kube-system"),
                FailurePolicy::Fail,
                Some(r#"["kube-system"]"#),
            ),
            (service("iam"), FailurePolicy::Ignore, Some(r#"["iam"]"#)),
            (
                service("iam"),
                FailurePolicy::Fail,
                Some(r#"["iam", "kube-system"]"#),
            ),
        ];
        for (reached_by, failure_policy, expected) in cases {
            let registration = Registration {
                name: NAME.to_owned(),
                reached_by,
                ca_bundle_pem: "x".to_owned(),
                failure_policy,
            };
            let text = registration.render();
            let found = text
                .lines()
                .find_map(|line| line.split_once("NotIn, values: "));
            let found = found.map(|(_, values)| values.trim_end_matches('}'));
            assert_eq!(found, expected, "{registration:?}");
            assert!(text.ends_with("caBundle: eA==\n"));
        }
    }
}
