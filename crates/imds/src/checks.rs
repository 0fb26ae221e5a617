//! The checks of a cluster against pods that reach the node's role (imds spec, section 3): pure functions over facts. M1 to M4
//! need a probe in a pod, see [`crate::probe`]; M11 looks at a node, see [`crate::node`].

use serde::{Deserialize, Serialize};

use crate::compat::Predecessor;
use crate::network_policy::{NamespaceState, State};

/// A finding: what is wrong where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check: `M1` to `M12`.
    pub check: &'static str,
    /// What it is about: an instance, a namespace, a pod, a role.
    pub subject: String,
    /// What is wrong.
    pub text: String,
    /// What to do.
    pub fix: String,
}

/// Metadata options of an instance, a launch template, an account or an image, as the EC2 API has them. What is absent is decided
/// elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MetadataOptions {
    /// `enabled`, `disabled`.
    pub http_endpoint: Option<String>,
    /// `optional`, `required`; `no-preference` in account settings.
    pub http_tokens: Option<String>,
    /// 1 to 64; -1 in account settings for no preference.
    pub http_put_response_hop_limit: Option<i32>,
    /// `enabled`, `disabled`.
    pub http_protocol_ipv6: Option<String>,
    /// Of an account: `enabled` makes launches with `optional` fail.
    pub http_tokens_enforced: Option<String>,
}

impl MetadataOptions {
    /// The options that hold: each value on its own from the instance or launch template, or else the account's setting of the
    /// region, or else the image (section 2).
    #[must_use]
    pub fn effective(own: &Self, account: &Self, image: &Self) -> Self {
        fn said(value: Option<&String>) -> Option<String> {
            value.filter(|value| *value != "no-preference").cloned()
        }
        let pick =
            |field: fn(&Self) -> Option<&String>| said(field(own)).or_else(|| said(field(account)));
        let hops = |options: &Self| options.http_put_response_hop_limit.filter(|hops| *hops > 0);
        Self {
            http_endpoint: pick(|options| options.http_endpoint.as_ref()),
            http_tokens: pick(|options| options.http_tokens.as_ref())
                .or_else(|| said(image.http_tokens.as_ref())),
            http_put_response_hop_limit: hops(own)
                .or_else(|| hops(account))
                .or_else(|| hops(image)),
            http_protocol_ipv6: pick(|options| options.http_protocol_ipv6.as_ref()),
            http_tokens_enforced: account.http_tokens_enforced.clone(),
        }
    }
}

/// M5: an instance or launch template that answers version 1, or whose token answers cross a hop. Values that nobody has set are
/// EC2's own: `optional` and 1.
#[must_use]
pub fn metadata_options(subject: &str, options: &MetadataOptions) -> Vec<Finding> {
    if options.http_endpoint.as_deref() == Some("disabled") {
        return Vec::new();
    }
    let change = || {
        if subject.starts_with("i-") {
            crate::advise::modify_options(subject)
        } else {
            "set http_tokens = \"required\" and http_put_response_hop_limit = 1, and replace the nodes".into()
        }
    };
    let mut findings = Vec::new();
    if options.http_tokens.as_deref() != Some("required") {
        findings.push(Finding {
            check: "M5",
            subject: subject.into(),
            text: "answers without a session token (HttpTokens is not `required`); version 1 knows no hop limit, so every pod gets the node's role".into(),
            fix: change(),
        });
    }
    let hops = options.http_put_response_hop_limit.unwrap_or(1);
    if hops > 1 {
        findings.push(Finding {
            check: "M5",
            subject: subject.into(),
            text: format!(
                "HttpPutResponseHopLimit is {hops}: session tokens reach pods behind a bridge or veth"
            ),
            fix: change(),
        });
    }
    findings
}

/// M6: what the account gives to instances that say nothing.
#[must_use]
pub fn account_defaults(region: &str, options: &MetadataOptions) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut found = |text: &str, flag: &str| {
        findings.push(Finding {
            check: "M6",
            subject: format!("account settings of {region}"),
            text: text.into(),
            fix: format!("aws ec2 modify-instance-metadata-defaults --region {region} {flag}"),
        });
    };
    if options.http_tokens.as_deref() != Some("required") {
        found(
            "new instances may answer without a session token",
            "--http-tokens required",
        );
    }
    if options.http_put_response_hop_limit != Some(1) {
        found(
            "new instances may give session tokens to pods",
            "--http-put-response-hop-limit 1",
        );
    }
    if options.http_tokens_enforced.as_deref() != Some("enabled") {
        found(
            "an instance may be launched with tokens optional",
            "--http-tokens-enforced enabled",
        );
    }
    findings
}

/// M7: namespaces whose pods may reach the service.
#[must_use]
pub fn namespaces(states: &[NamespaceState]) -> Vec<Finding> {
    states
        .iter()
        .filter_map(|namespace| {
            let finding = |text: String, fix: String| Finding {
                check: "M7",
                subject: format!("namespace {}", namespace.namespace),
                text,
                fix,
            };
            match &namespace.state {
                State::Closed => None,
                State::Unguarded { manifest } => Some(finding(
                    "no egress policy selects its pods".into(),
                    format!("kubectl apply -f - <<'EOF'\n{manifest}EOF"),
                )),
                State::Opened { by, .. } => {
                    let each = by.iter().map(|opening| match (&opening.cidr, &opening.except) {
                        (Some(cidr), Some(except)) => format!(
                            "policy {} allows {cidr}: add \"{except}\" to its `except`",
                            opening.policy
                        ),
                        _ => format!(
                            "policy {} has an egress rule for everybody: name its peers",
                            opening.policy
                        ),
                    });
                    Some(finding(
                        "egress policies allow the service's address".into(),
                        each.collect::<Vec<_>>().join("\n"),
                    ))
                }
                State::Mixed { unselected } => Some(finding(
                    format!(
                        "some pods are under an egress policy and others under none{}",
                        if unselected.is_empty() {
                            String::new()
                        } else {
                            format!(": {}", unselected.iter().take(10).cloned().collect::<Vec<_>>().join(", "))
                        }
                    ),
                    "select the others too, by their labels; a policy for all pods that allows 0.0.0.0/0 would open to the first what is closed to them now".into(),
                )),
            }
        })
        .collect()
}

/// M8: pods on the host's network, which neither policies nor the guard keep from the service, and that nobody has named.
/// `allowed` are `NAMESPACE/SERVICEACCOUNT`, or `NAMESPACE/*`.
#[must_use]
pub fn host_network<'p>(
    pods: impl IntoIterator<Item = (&'p str, &'p str, &'p str)>,
    allowed: &[String],
) -> Vec<Finding> {
    pods.into_iter()
        .filter(|(namespace, account, _)| {
            !allowed.iter().any(|entry| {
                entry.split_once('/').is_some_and(|(own, name)| {
                    own == *namespace && (name == "*" || name == *account)
                })
            })
        })
        .map(|(namespace, account, pod)| Finding {
            check: "M8",
            subject: format!("pod {namespace}/{pod}"),
            text: format!(
                "is on the host's network (service account {account}) and has the node's role"
            ),
            fix: format!(
                "take `hostNetwork` out, or allow it: --allow-host-network {namespace}/{account}"
            ),
        })
        .collect()
}

/// Policies that a node's role needs: worker, registry read, the CNI's where the plugin has no role of its own, and SSM.
pub const NODE_POLICIES: [&str; 6] = [
    "AmazonEKSWorkerNodePolicy",
    "AmazonEKSWorkerNodeMinimalPolicy",
    "AmazonEC2ContainerRegistryReadOnly",
    "AmazonEC2ContainerRegistryPullOnly",
    "AmazonSSMManagedInstanceCore",
    "AmazonEKS_CNI_Policy",
];

/// M9: what a node's role may do beyond that. `policies` are names of attached managed policies.
#[must_use]
pub fn node_role(role: &str, policies: &[String], inline: &[String]) -> Vec<Finding> {
    let finding = |text: String, fix: &str| Finding {
        check: "M9",
        subject: format!("role {role}"),
        text,
        fix: fix.into(),
    };
    let extra = policies
        .iter()
        .filter(|policy| !NODE_POLICIES.contains(&policy.as_str()))
        .map(|policy| {
            finding(
                format!(
                    "has {policy} attached, which every node process and host-network pod uses"
                ),
                "give the workload that needs it a role of its own, and detach it",
            )
        });
    let cni = policies
        .iter()
        .filter(|policy| *policy == "AmazonEKS_CNI_Policy")
        .map(|_| {
            finding(
                "has AmazonEKS_CNI_Policy attached".into(),
                "give the service account kube-system/aws-node a role of its own, and detach it",
            )
        });
    let inline = inline.iter().map(|policy| {
        finding(
            format!("has the inline policy {policy}"),
            "look at what it allows; give workloads roles of their own",
        )
    });
    extra.chain(cni).chain(inline).collect()
}

/// A pod with containers that should have been given credentials and were not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotInjected {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// Its service account.
    pub service_account: String,
    /// The role of the account's annotation; `None` where it has an association.
    pub role_arn: Option<String>,
    /// The containers.
    pub containers: Vec<String>,
}

/// M10: pods whose SDKs end at instance metadata although their service account has a role of its own. Which containers those are
/// is the webhook's own decision, asked again.
#[must_use]
pub fn not_injected(pods: &[NotInjected]) -> Vec<Finding> {
    pods.iter()
        .map(|pod| {
            let NotInjected {
                namespace,
                pod: name,
                service_account,
                role_arn,
                containers,
            } = pod;
            let by = match role_arn {
                Some(role) => format!("the annotation {role}"),
                None => "a pod identity association".to_owned(),
            };
            Finding {
                check: "M10",
                subject: format!("pod {namespace}/{name}"),
                text: format!(
                    "its service account {service_account} has {by}, and nothing was injected into {}: SDKs there ask instance metadata for the node's role",
                    containers.join(", ")
                ),
                fix: format!(
                    "see that the webhook runs (countersign pods explain {namespace}/{name}), then have the pod made again"
                ),
            }
        })
        .collect()
}

/// A DaemonSet's containers: image and arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Which of the two it is.
    pub kind: Predecessor,
    /// Its arguments.
    pub arguments: Vec<String>,
}

impl Agent {
    /// Recognises kube2iam or kiam by the image's name.
    #[must_use]
    pub fn recognise(
        namespace: &str,
        name: &str,
        image: &str,
        arguments: Vec<String>,
    ) -> Option<Self> {
        let image = image.split('@').next().unwrap_or_default();
        let last = image.rsplit('/').next().unwrap_or_default();
        let kind = match last.split(':').next().unwrap_or_default() {
            "kube2iam" => Predecessor::Kube2iam,
            "kiam" => Predecessor::Kiam,
            _ => return None,
        };
        Some(Self {
            namespace: namespace.into(),
            name: name.into(),
            kind,
            arguments,
        })
    }

    /// The value of `--flag=value` or `--flag value`; empty for a flag without one.
    #[must_use]
    pub fn flag(&self, name: &str) -> Option<&str> {
        let mut arguments = self.arguments.iter().map(String::as_str).peekable();
        while let Some(argument) = arguments.next() {
            let Some(rest) = argument.trim_start_matches('-').strip_prefix(name) else {
                continue;
            };
            if let Some(value) = rest.strip_prefix('=') {
                return Some(value);
            }
            if rest.is_empty() {
                let next = arguments.peek().filter(|next| !next.starts_with('-'));
                return Some(next.copied().unwrap_or_default());
            }
        }
        None
    }

    /// Whether a boolean flag is on.
    #[must_use]
    pub fn is_on(&self, name: &str) -> bool {
        self.flag(name)
            .is_some_and(|value| matches!(value, "" | "true" | "1" | "t" | "TRUE" | "True"))
    }
}

/// M12: kube2iam or kiam is there; worse, kube2iam without its namespace restrictions.
#[must_use]
pub fn predecessors(agents: &[Agent]) -> Vec<Finding> {
    agents
        .iter()
        .map(|agent| {
            let open =
                agent.kind == Predecessor::Kube2iam && !agent.is_on("namespace-restrictions");
            Finding {
                check: "M12",
                subject: format!("daemonset {}/{}", agent.namespace, agent.name),
                text: if open {
                    "is kube2iam without --namespace-restrictions: whoever makes a pod picks any role that the node may assume".into()
                } else {
                    format!(
                        "is {}: the node's role may assume every role of its pods",
                        agent.kind.as_str()
                    )
                },
                fix: format!("countersign imds plan --from {}", agent.kind.as_str()),
            }
        })
        .collect()
}
