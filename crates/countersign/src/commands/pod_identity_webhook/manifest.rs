//! `pod-identity-webhook manifest`: two replicas with the least rights that their flags take (webhook spec, sections 8.2 and 8.4).

use std::fmt::Write as _;

use anyhow::anyhow;
use countersign_client::mutating_webhook::{FailurePolicy, ReachedBy, Registration};
use countersign_pods::{ASSOCIATION_GROUP, ASSOCIATION_PLURAL, Flags, Source};

use crate::report::Failure;

/// Where it listens in the pod unless a flag says so: a port for which no right is needed.
const PORT: &str = "--port=8443";

/// What is asked of a manifest besides the flags of the webhook.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Order {
    image: Option<String>,
    failure_policy: FailurePolicy,
}

impl Order {
    /// Takes its own flags out of the arguments.
    pub(super) fn take<'a>(arguments: &[&'a str]) -> Result<(Self, Vec<&'a str>), Failure> {
        let mut order = Self::default();
        let mut rest = Vec::new();
        let mut arguments = arguments.iter().copied();
        while let Some(argument) = arguments.next() {
            let (name, given) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (argument, None),
            };
            if !matches!(name, "--image" | "--failure-policy") {
                rest.push(argument);
                continue;
            }
            let value = given.or_else(|| arguments.next());
            let value = value.ok_or_else(|| Failure::usage(anyhow!("{name} needs a value")))?;
            match (name, value) {
                ("--image", image) => order.image = Some(image.to_owned()),
                (_, "Ignore") => order.failure_policy = FailurePolicy::Ignore,
                (_, "Fail") => order.failure_policy = FailurePolicy::Fail,
                (_, other) => {
                    let other: String = other.chars().take(64).collect();
                    return Err(Failure::usage(anyhow!(
                        "--failure-policy `{other}`: expected Ignore or Fail"
                    )));
                }
            }
        }
        Ok((order, rest))
    }
}

/// The manifests, in the order in which they are applied.
pub(super) fn render(order: &Order, flags: &Flags, arguments: &[&str]) -> Result<String, Failure> {
    let image = order.image.as_deref();
    let image = image.ok_or_else(|| {
        Failure::usage(anyhow!("--image is missing"))
            .hint("countersign pod-identity-webhook manifest --image=IMAGE [FLAGS]")
    })?;
    let serving = &flags.serving;
    let is_label = |text: &str| {
        (1..=63).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-')
    };
    for (flag, text) in [
        ("namespace", &serving.namespace),
        ("service-name", &serving.service_name),
    ] {
        if !is_label(text) {
            return Err(Failure::usage(anyhow!(
                "--{flag}: expected up to 63 of a-z, 0-9 and `-`"
            )));
        }
    }
    let names_port = arguments.iter().any(|arg| arg.starts_with("--port"));
    let (port, port_flag) = match names_port {
        true => (serving.port, None),
        false => (8443, Some(PORT)),
    };
    let mut args = String::new();
    for argument in ["pod-identity-webhook"]
        .into_iter()
        .chain(port_flag)
        .chain(arguments.iter().copied())
    {
        let _ = write!(args, "\n        - {}", quoted(argument));
    }
    let registration = serving.webhook_configuration.as_deref();
    let registration = registration.unwrap_or(&serving.service_name);
    let parts = Parts {
        name: &serving.service_name,
        namespace: &serving.namespace,
        image: &quoted(image),
        args: &args,
        port,
        metrics_port: serving.metrics_port,
    };
    let manifest = Registration {
        name: registration.to_owned(),
        reached_by: ReachedBy::Service {
            namespace: serving.namespace.clone(),
            name: serving.service_name.clone(),
            port: 443,
        },
        ca_bundle_pem: String::new(),
        failure_policy: order.failure_policy,
    };
    Ok(format!(
        "{}{}{}---\n{}",
        parts.identity(),
        parts.rights(flags, registration),
        parts.workload(flags),
        manifest.render()
    ))
}

struct Parts<'a> {
    name: &'a str,
    namespace: &'a str,
    image: &'a str,
    args: &'a str,
    port: u16,
    metrics_port: u16,
}

impl Parts<'_> {
    fn identity(&self) -> String {
        let Self {
            name, namespace, ..
        } = self;
        format!(
            "# The pod identity webhook. Without --in-cluster=false it makes its certificate by itself, and puts its CA into the registration.
apiVersion: v1
kind: Namespace
metadata:
  name: {namespace}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {name}
  namespace: {namespace}
"
        )
    }

    fn rights(&self, flags: &Flags, registration: &str) -> String {
        let serving = &flags.serving;
        let keeps_certificate = serving.in_cluster;
        let mut cluster = vec![
            "# Annotations of service accounts say which role their pods get.".to_owned(),
            rule("\"\"", "serviceaccounts", None, "get, list, watch"),
        ];
        if serving.reconcile {
            cluster.extend([
                "# --reconcile: pods that came out without credentials, and Events about them."
                    .to_owned(),
                rule("\"\"", "pods", None, "list"),
                rule("events.k8s.io", "events", None, "create"),
            ]);
        }
        if serving.restart_unmutated {
            cluster.extend([
                "# --restart-unmutated: evicts them, under their disruption budgets.".to_owned(),
                rule("\"\"", "pods/eviction", None, "create"),
            ]);
        }
        if keeps_certificate || serving.webhook_configuration.is_some() {
            cluster.extend([
                "# caBundle of its own registration.".to_owned(),
                rule(
                    "admissionregistration.k8s.io",
                    "mutatingwebhookconfigurations",
                    Some(registration),
                    "get, patch",
                ),
            ]);
        }
        if serving.associations_from == Source::Crd {
            cluster.extend([
                "# --associations-from=crd: which service accounts have an association.".to_owned(),
                rule(ASSOCIATION_GROUP, ASSOCIATION_PLURAL, None, "list, watch"),
            ]);
        }
        let mut own = Vec::new();
        if keeps_certificate {
            own.extend([
                "# --tls-secret: certificate and CA. Rights to create cannot be given by name."
                    .to_owned(),
                rule("\"\"", "secrets", Some(&serving.tls_secret), "get, patch"),
                rule("\"\"", "secrets", None, "create"),
            ]);
        }
        if serving.watch_config_map {
            own.extend([
                "# --watch-config-map: roles by ConfigMap, and Events about mistakes in it."
                    .to_owned(),
                rule(
                    "\"\"",
                    "configmaps",
                    Some(countersign_pods::ROLE_MAP_CONFIG_MAP),
                    "get, list, watch",
                ),
                rule("events.k8s.io", "events", None, "create"),
            ]);
        }
        let mut text = self.bound("ClusterRole", &cluster);
        if !own.is_empty() {
            text.push_str(&self.bound("Role", &own));
        }
        text
    }

    /// A role with its binding.
    fn bound(&self, kind: &str, rules: &[String]) -> String {
        let Self {
            name, namespace, ..
        } = self;
        let scope = match kind {
            "Role" => format!("\n  namespace: {namespace}"),
            _ => String::new(),
        };
        // Two webhooks in two namespaces do not share one.
        let own = match kind {
            "Role" => (*name).to_owned(),
            _ => format!("{namespace}-{name}"),
        };
        format!(
            "---
apiVersion: rbac.authorization.k8s.io/v1
kind: {kind}
metadata:
  name: {own}{scope}
rules:
{}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {kind}Binding
metadata:
  name: {own}{scope}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: {kind}, name: {own}}}
subjects:
- {{kind: ServiceAccount, name: {name}, namespace: {namespace}}}
",
            rules.join("\n")
        )
    }

    fn workload(&self, flags: &Flags) -> String {
        let Self {
            name,
            namespace,
            image,
            args,
            port,
            metrics_port,
        } = self;
        let serving = &flags.serving;
        // As the reference is deployed with cert-manager.
        let (mounts, volumes) = match serving.in_cluster {
            true => (String::new(), String::new()),
            false => {
                let directory = serving.tls_cert.parent().unwrap_or(&serving.tls_cert);
                (
                    format!(
                        "\n        volumeMounts:\n        - {{name: cert, mountPath: {}, readOnly: true}}",
                        quoted(&directory.display().to_string())
                    ),
                    format!(
                        "\n      volumes:\n      - name: cert\n        secret: {{secretName: {}, defaultMode: 0440}}",
                        quoted(&serving.tls_secret)
                    ),
                )
            }
        };
        format!(
            "---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {name}
  namespace: {namespace}
  labels: {{app.kubernetes.io/name: {name}}}
spec:
  replicas: 2
  selector:
    matchLabels: {{app.kubernetes.io/name: {name}}}
  strategy:
    rollingUpdate: {{maxUnavailable: 0, maxSurge: 1}}
  template:
    metadata:
      labels:
        app.kubernetes.io/name: {name}
        # The webhook is not asked about the pods that answer for it.
        eks.amazonaws.com/skip-pod-identity-webhook: \"true\"
    spec:
      serviceAccountName: {name}
      priorityClassName: system-cluster-critical
      topologySpreadConstraints:
      - maxSkew: 1
        topologyKey: kubernetes.io/hostname
        whenUnsatisfiable: ScheduleAnyway
        labelSelector:
          matchLabels: {{app.kubernetes.io/name: {name}}}
      securityContext:
        runAsNonRoot: true
        runAsUser: 65532
        runAsGroup: 65532
        fsGroup: 65532
        seccompProfile: {{type: RuntimeDefault}}
      containers:
      - name: webhook
        image: {image}
        args:{args}
        ports:
        - {{name: webhook, containerPort: {port}}}
        - {{name: metrics, containerPort: {metrics_port}}}
        securityContext:
          allowPrivilegeEscalation: false
          readOnlyRootFilesystem: true
          capabilities: {{drop: [ALL]}}
        resources:
          requests: {{cpu: 20m, memory: 32Mi}}
          limits: {{memory: 256Mi}}
        livenessProbe:
          httpGet: {{path: /healthz, port: webhook, scheme: HTTPS}}
          periodSeconds: 10
          failureThreshold: 6
        readinessProbe:
          httpGet: {{path: /readyz, port: webhook, scheme: HTTPS}}
          periodSeconds: 5
        # Until the endpoints are known to be gone everywhere, calls still come (Kubernetes 1.30; take it out for older ones).
        lifecycle:
          preStop:
            sleep: {{seconds: 5}}{mounts}{volumes}
---
apiVersion: v1
kind: Service
metadata:
  name: {name}
  namespace: {namespace}
  labels: {{app.kubernetes.io/name: {name}}}
spec:
  selector: {{app.kubernetes.io/name: {name}}}
  ports:
  - {{name: webhook, port: 443, targetPort: webhook}}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {name}
  namespace: {namespace}
spec:
  minAvailable: 1
  selector:
    matchLabels: {{app.kubernetes.io/name: {name}}}
"
        )
    }
}

fn rule(group: &str, resource: &str, name: Option<&str>, verbs: &str) -> String {
    let name = name.map_or(String::new(), |name| {
        format!("\n  resourceNames: [{}]", quoted(name))
    });
    format!("- apiGroups: [{group}]\n  resources: [{resource}]{name}\n  verbs: [{verbs}]")
}

/// JSON is YAML, whatever the text.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(arguments: &[&str]) -> String {
        let (order, rest) = Order::take(arguments).unwrap();
        let flags = Flags::parse(rest.iter().copied()).unwrap();
        render(&order, &flags, &rest).unwrap()
    }

    /// Each right stands there with the flag that takes it, and not without.
    #[test]
    fn rights_follow_the_flags() {
        let rights = [
            ("resources: [serviceaccounts]", &[][..], &[][..]),
            ("resources: [pods]\n", &[], &["--reconcile=false"]),
            ("resources: [pods/eviction]", &["--restart-unmutated"], &[]),
            ("resources: [secrets]", &[], &["--in-cluster=false"]),
            (
                "resources: [mutatingwebhookconfigurations]",
                &[],
                &["--in-cluster=false"],
            ),
            ("resources: [configmaps]", &["--watch-config-map"], &[]),
            (
                "resources: [podidentityassociations]",
                &["--associations-from=crd"],
                &[],
            ),
        ];
        for (right, with, without) in rights {
            let flags = |more: &[&'static str]| [&["--image=i"], more].concat();
            assert!(rendered(&flags(with)).contains(right), "{right}");
            if with != without {
                assert!(!rendered(&flags(without)).contains(right), "{right}");
            }
        }
    }

    #[test]
    fn flags_of_the_webhook_are_its_arguments() {
        let text = rendered(&[
            "--image",
            "registry.example/countersign:1",
            "--namespace=iam",
            "--failure-policy=Fail",
            "--extra-env=A=\"x\": y",
        ]);
        assert!(text.contains("image: \"registry.example/countersign:1\""));
        assert!(text.contains("- \"--port=8443\"\n        - \"--namespace=iam\"\n"));
        assert!(text.contains(r#"- "--extra-env=A=\"x\": y""#));
        assert!(text.contains("failurePolicy: Fail") && !text.contains("caBundle:"));
        assert!(text.contains(r#"values: ["iam", "kube-system"]"#));
    }

    #[test]
    fn what_cannot_be_made() {
        let cases: [(&[&str], &str); 4] = [
            (&[], "--image is missing"),
            (&["--image"], "--image needs a value"),
            (&["--failure-policy=Maybe"], "expected Ignore or Fail"),
            (&["--image=i", "--namespace=A B"], "--namespace: expected"),
        ];
        for (arguments, message) in cases {
            let made = Order::take(arguments).and_then(|(order, rest)| {
                let flags = Flags::parse(rest.iter().copied()).map_err(Failure::usage)?;
                render(&order, &flags, &rest)
            });
            let error = made.unwrap_err().render();
            assert!(error.contains(message), "{arguments:?}: {error}");
        }
    }
}
