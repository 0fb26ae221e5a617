//! The way from kube2iam or kiam to EKS Pod Identity (imds spec, section 6): who has which role and who may, what is in the way,
//! and the steps in their order, each with its undo.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::checks::Agent;
use crate::compat::{Compat, Denied, Format, Predecessor};

/// A pod, as far as the plan is concerned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PodFacts {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its service account.
    pub service_account: String,
    /// Its annotation `iam.amazonaws.com/role`.
    pub role: Option<String>,
    /// Its annotation `iam.amazonaws.com/external-id`.
    pub external_id: Option<String>,
    /// Whether it is on the host's network, where neither predecessor sees it.
    pub host_network: bool,
}

/// A role, as IAM lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleFacts {
    /// Its ARN.
    pub arn: String,
    /// Whether its trust policy lets `pods.eks.amazonaws.com` assume it and tag the session.
    pub trusts_pods: bool,
    /// Whether its trust policy names one of the nodes' roles.
    pub trusts_node: bool,
}

/// What the plan is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The cluster's name.
    pub cluster: String,
    /// How the predecessor is configured.
    pub compat: Compat,
    /// Whether it looks at the namespaces' lists; kiam always does.
    pub restricted: bool,
    /// Its DaemonSets.
    pub agents: Vec<(String, String)>,
    /// All pods.
    pub pods: Vec<PodFacts>,
    /// The list of each namespace that has one.
    pub lists: BTreeMap<String, String>,
    /// The roles of the account, if they were read.
    pub roles: Option<Vec<RoleFacts>>,
}

/// What a pod has by its annotations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodRow {
    /// `NAMESPACE/POD`.
    pub pod: String,
    /// Its service account.
    pub service_account: String,
    /// The role that it names, or the default.
    pub role: Option<String>,
    /// Whether the namespace allows it under the rules that Countersign reads the lists by.
    pub allowed: bool,
    /// Why not.
    pub reason: Option<String>,
}

/// Something that has to be settled by a person first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What it is about.
    pub subject: String,
    /// What it is.
    pub text: String,
}

/// A step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What it is for.
    pub title: String,
    /// What to run.
    pub run: Vec<String>,
    /// What takes it back.
    pub undo: Vec<String>,
}

/// The plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// From which predecessor.
    pub from: &'static str,
    /// Pods with a role, or with one that they may not have.
    pub pods: Vec<PodRow>,
    /// What is in the way.
    pub problems: Vec<Problem>,
    /// Roles that trust the node and that no pod names.
    pub unused_roles: Vec<String>,
    /// What to do.
    pub steps: Vec<Step>,
}

impl Compat {
    /// The configuration of a running predecessor, read from its arguments.
    #[must_use]
    pub fn of_agent(agent: &Agent) -> Self {
        let said = |name: &str| {
            let value = agent.flag(name).filter(|value| !value.is_empty());
            value.map(str::to_owned)
        };
        let base_arn = match agent.kind {
            Predecessor::Kube2iam => said("base-role-arn"),
            Predecessor::Kiam => said("role-base-arn"),
        };
        Self {
            predecessor: agent.kind,
            base_arn,
            format: match said("namespace-restriction-format").as_deref() {
                Some("regexp") => Format::Regexp,
                _ => Format::Glob,
            },
            default_role: match agent.kind {
                Predecessor::Kube2iam => said("default-role"),
                Predecessor::Kiam => None,
            },
        }
    }
}

/// Makes the plan.
#[must_use]
pub fn plan(facts: &Facts) -> Plan {
    let mut problems = Vec::new();
    let mut rows = Vec::new();
    // The roles of each service account: allowed ones, and whether some pods have none.
    let mut accounts: BTreeMap<(String, String), (BTreeSet<String>, bool)> = BTreeMap::new();
    for pod in facts.pods.iter().filter(|pod| !pod.host_network) {
        let list = facts.lists.get(&pod.namespace).map(String::as_str);
        let resolved = facts.compat.resolve(pod.role.as_deref(), list);
        let key = (pod.namespace.clone(), pod.service_account.clone());
        let account = accounts.entry(key).or_default();
        if resolved == Err(Denied::NoRole) {
            account.1 = true;
            continue;
        }
        let named = match &resolved {
            Ok(named) => Some(named.arn.clone()),
            Err(_) => pod.role.as_deref().map(|role| {
                facts
                    .compat
                    .expand(role)
                    .unwrap_or_else(|_| role.to_owned())
            }),
        };
        if let (Err(denied), false) = (&resolved, facts.restricted) {
            problems.push(Problem {
                subject: format!("pod {}/{}", pod.namespace, pod.name),
                text: format!(
                    "has its role today only because {} does not look at namespaces: {denied}. Decide whether it may have it",
                    facts.compat.predecessor.as_str()
                ),
            });
        }
        // Whoever has a role today keeps it in the plan; a person decides over the problems.
        if (resolved.is_ok() || !facts.restricted)
            && let Some(arn) = &named
        {
            account.0.insert(arn.clone());
        }
        if pod.external_id.is_some() {
            problems.push(Problem {
                subject: format!("pod {}/{}", pod.namespace, pod.name),
                text: "its role is assumed with an external id. Pod identity sends none on the first hop: take the condition out, or make the role the association's target role, where an external id is sent".into(),
            });
        }
        rows.push(PodRow {
            pod: format!("{}/{}", pod.namespace, pod.name),
            service_account: pod.service_account.clone(),
            role: named,
            allowed: resolved.is_ok(),
            reason: resolved.err().map(|denied| denied.to_string()),
        });
    }
    let mut associations = Vec::new();
    let mut roles: BTreeSet<String> = BTreeSet::new();
    for ((namespace, account), (arns, some_without)) in &accounts {
        let mut arns_of = arns.iter();
        let (Some(arn), more) = (arns_of.next(), arns_of.next().is_some()) else {
            continue;
        };
        let subject = || format!("service account {namespace}/{account}");
        if more {
            let names: Vec<&str> = arns.iter().map(String::as_str).collect();
            problems.push(Problem {
                subject: subject(),
                text: format!(
                    "its pods have different roles ({}). Give each its own service account first",
                    names.join(", ")
                ),
            });
            continue;
        }
        if *some_without || account == "default" {
            problems.push(Problem {
                subject: subject(),
                text: format!(
                    "pods without a role use it too, and would get {arn}. Give the pods with the role a service account of their own first"
                ),
            });
            continue;
        }
        roles.insert(arn.clone());
        associations.push((namespace.clone(), account.clone(), arn.clone()));
    }
    let unused_roles = facts
        .roles
        .iter()
        .flatten()
        .filter(|role| {
            role.trusts_node && !rows.iter().any(|row| row.role.as_ref() == Some(&role.arn))
        })
        .map(|role| role.arn.clone())
        .collect();
    Plan {
        from: facts.compat.predecessor.as_str(),
        steps: steps(facts, &associations, &roles),
        pods: rows,
        problems,
        unused_roles,
    }
}

fn steps(
    facts: &Facts,
    associations: &[(String, String, String)],
    roles: &BTreeSet<String>,
) -> Vec<Step> {
    let from = facts.compat.predecessor.as_str();
    let cluster = word(&facts.cluster);
    let mut steps = Vec::new();
    for arn in roles {
        let known = facts.roles.iter().flatten().find(|role| role.arn == *arn);
        if known.is_some_and(|role| role.trusts_pods) {
            continue;
        }
        let name = word(arn.rsplit('/').next().unwrap_or_default());
        steps.push(Step {
            title: format!("let pods.eks.amazonaws.com assume {arn}, beside who may now"),
            run: vec![
                format!(
                    "aws iam get-role --role-name {name} --query Role.AssumeRolePolicyDocument > {name}.trust.json"
                ),
                format!(
                    "add to Statement of a copy {name}.trust.new.json: {}",
                    serde_json::json!({
                        "Sid": "AllowEksAuthToAssumeRoleForPodIdentity", "Effect": "Allow",
                        "Principal": {"Service": "pods.eks.amazonaws.com"},
                        "Action": ["sts:AssumeRole", "sts:TagSession"],
                    })
                ),
                format!(
                    "aws iam update-assume-role-policy --role-name {name} --policy-document file://{name}.trust.new.json"
                ),
            ],
            undo: vec![format!(
                "aws iam update-assume-role-policy --role-name {name} --policy-document file://{name}.trust.json"
            )],
        });
    }
    for (namespace, account, arn) in associations {
        let (namespace, account, arn) = (word(namespace), word(account), word(arn));
        steps.push(Step {
            title: format!("give service account {namespace}/{account} its role"),
            run: vec![format!(
                "aws eks create-pod-identity-association --cluster-name {cluster} --namespace {namespace} --service-account {account} --role-arn {arn}"
            )],
            undo: vec![
                format!(
                    "id=$(aws eks list-pod-identity-associations --cluster-name {cluster} --namespace {namespace} --service-account {account} --query 'associations[0].associationId' --output text)"
                ),
                format!(
                    "aws eks delete-pod-identity-association --cluster-name {cluster} --association-id \"$id\""
                ),
            ],
        });
    }
    let agents: Vec<(String, String)> = facts
        .agents
        .iter()
        .map(|(namespace, name)| (word(namespace), word(name)))
        .collect();
    steps.push(Step {
        title: "run the agent with the guard answering pods with their own roles; on each node its rules come before those of the predecessor, whose own it removes once its own work".into(),
        run: vec![format!(
            "countersign agent manifest --help; deploy the DaemonSet with: countersign agent run --cluster-name {cluster} --imds serve --imds-v1 allow"
        ), format!(
            "with Countersign's auth service, for pods whose accounts have no association yet: `annotatedRoles: {{style: {from}, …}}` in its configuration, and --compat {from}"
        )],
        undo: vec![
            "delete the DaemonSet of the agent; on each node: nft delete table inet countersign_imds".into(),
            format!("restart the pods of {from}, so that it puts its rule back"),
        ],
    });
    for (namespace, name) in &agents {
        steps.push(Step {
            title: format!("take {from} away from the nodes where the agent is ready"),
            run: vec![format!(
                "kubectl -n {namespace} patch daemonset {name} --type merge -p '{{\"spec\":{{\"template\":{{\"spec\":{{\"nodeSelector\":{{\"countersign.dev/{from}\":\"keep\"}}}}}}}}}}'"
            )],
            undo: vec![format!(
                "kubectl -n {namespace} patch daemonset {name} --type json -p '[{{\"op\":\"remove\",\"path\":\"/spec/template/spec/nodeSelector/countersign.dev~1{from}\"}}]'"
            )],
        });
    }
    steps.push(Step {
        title: "restart the workloads: their pods get the variables of pod identity and stop using instance metadata".into(),
        run: vec!["kubectl -n NAMESPACE rollout restart deployment,statefulset,daemonset".into()],
        undo: vec!["nothing to take back: pods with the variables go on with the association, and without it with instance metadata".into()],
    });
    steps.push(Step {
        title: "when nobody uses instance metadata for credentials any more (`countersign imds blocked`, countersign_imds_requests_total{class=\"credentials\"}), block".into(),
        run: vec!["in the agent's DaemonSet: --imds block".into()],
        undo: vec!["in the agent's DaemonSet: --imds serve".into()],
    });
    let mut last = Vec::new();
    for (namespace, name) in &agents {
        last.push(format!(
            "kubectl -n {namespace} get daemonset {name} -o yaml > {from}-{name}.yaml"
        ));
        last.push(format!("kubectl -n {namespace} delete daemonset {name}"));
    }
    last.push("take `sts:AssumeRole` out of the policies of the nodes' role, and the nodes' role out of the trust policies (keep copies)".into());
    let mut undo: Vec<String> = agents
        .iter()
        .map(|(_, name)| format!("kubectl apply -f {from}-{name}.yaml"))
        .collect();
    undo.push(
        "put the copies back: aws iam put-role-policy, aws iam update-assume-role-policy".into(),
    );
    steps.push(Step {
        title: format!("remove {from} and the rights it needed"),
        run: last,
        undo,
    });
    steps
}

/// A word of a command: names of Kubernetes and IAM as they are, anything else in quotes.
fn word(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/:+=@,".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) && !text.starts_with('-') {
        text.to_owned()
    } else {
        format!(
            "'{}'",
            text.replace(char::is_control, " ").replace('\'', "'\\''")
        )
    }
}
