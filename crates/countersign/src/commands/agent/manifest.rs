//! `agent manifest`: the DaemonSet with the least it needs (agent spec, section 10).

use std::fmt::Write as _;
use std::io::Write;

use clap::{Args, ValueEnum as _};

use super::flags::Auth;
use super::guard::ImdsMode;
use super::network_policy::label;
use super::roles::{CompatRule, IrsaRule};
use crate::exit::Exit;
use crate::report::Failure;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  countersign agent manifest -c prod --image registry.example/countersign:1 --region eu-west-1 | kubectl apply -f -\n  \
                  countersign agent manifest -c home --image registry.example/countersign:1 --region eu-west-1 --auth bearer --endpoint https://countersign.example:4600"
)]
pub(crate) struct ManifestArgs {
    /// The cluster whose pods get credentials.
    #[arg(short, long, value_name = "NAME")]
    cluster_name: String,
    /// The image.
    #[arg(long, value_name = "IMAGE")]
    image: String,
    /// The region.
    #[arg(long, value_name = "REGION")]
    region: String,
    /// Namespace of the DaemonSet.
    #[arg(long, default_value = "kube-system", value_parser = label, value_name = "NAMESPACE")]
    namespace: String,
    /// As whom the auth service is asked.
    #[arg(long, value_enum, default_value_t)]
    auth: Auth,
    /// URL of the auth service, in the place of the region's.
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// What pods get from instance metadata, as in `agent run`. If absent: `block` where the image has nft or iptables.
    #[arg(long, value_enum, value_name = "MODE")]
    imds: Option<ImdsMode>,
    /// Nodes start with the taint countersign.dev/imds-guard:NoSchedule, and the agent takes it away when pods' requests reach it.
    #[arg(long)]
    imds_remove_taint: bool,
    /// Whether `--imds serve` gives roles by annotations of service accounts, as in `agent run`.
    #[arg(long, value_enum, default_value_t, value_name = "RULE")]
    irsa: IrsaRule,
    /// Whose annotations of pods give roles in `--imds serve`, as in `agent run`. The auth service reads them, not the agent.
    #[arg(long, value_enum, value_name = "PREDECESSOR")]
    compat: Option<CompatRule>,
    /// Hand over sockets at an update: a new pod of the agent serves before the old one ends. Mounts /run/countersign-agent of the node.
    #[arg(long)]
    handover: bool,
    /// Further flags of `agent run`, after `--`.
    #[arg(last = true, value_name = "FLAG")]
    flags: Vec<String>,
}

pub(super) fn run(args: &ManifestArgs, stdout: &mut dyn Write) -> Result<Exit, Failure> {
    if args.imds_remove_taint && args.imds == Some(ImdsMode::Off) {
        return Err(Failure::usage(anyhow::anyhow!(
            "--imds-remove-taint is for nodes with a guard: no --imds off"
        )));
    }
    stdout.write_all(manifest(args).as_bytes())?;
    Ok(Exit::Fine)
}

fn manifest(args: &ManifestArgs) -> String {
    let namespace = &args.namespace;
    let mut flags = vec![
        "agent".to_owned(),
        "run".to_owned(),
        format!("--cluster-name={}", args.cluster_name),
    ];
    if args.auth == Auth::Bearer {
        flags.push("--auth=bearer".to_owned());
    }
    if let Some(endpoint) = &args.endpoint {
        flags.push(format!("--endpoint={endpoint}"));
    }
    if let Some(mode) = args.imds.and_then(|mode| mode.to_possible_value()) {
        flags.push(format!("--imds={}", mode.get_name()));
    }
    if args.imds_remove_taint {
        flags.push("--imds-remove-taint".to_owned());
    }
    if args.irsa == IrsaRule::Off {
        flags.push("--irsa=off".to_owned());
    }
    if let Some(compat) = args.compat.and_then(|compat| compat.to_possible_value()) {
        flags.push(format!("--compat={}", compat.get_name()));
    }
    if args.handover {
        flags.push(format!("--handover-dir={HANDOVER_DIR}/handover"));
    }
    flags.extend_from_slice(&args.flags);
    let guard = Guard::of(args.imds, args.irsa, args.imds_remove_taint);
    let mut container_args = String::new();
    for flag in &flags {
        let _ = write!(container_args, "\n        - {}", quoted(flag));
    }
    let (mounts, volumes) = match args.auth {
        Auth::Sigv4 => (String::new(), String::new()),
        Auth::Bearer => (
            format!("\n        - {{name: eks-auth, mountPath: {TOKEN_DIR}, readOnly: true}}"),
            "\n      # Shows the auth service which node asks. Good for nothing else: no other audience takes it.\n\
             \x20     - name: eks-auth\n\
             \x20       projected:\n\
             \x20         sources:\n\
             \x20         - serviceAccountToken: {path: token, audience: eks-auth.countersign.dev, expirationSeconds: 3600}"
                .to_owned(),
        ),
    };
    let (strategy, handover_mount, handover_volume) = if args.handover {
        (
            "# Both pods are there for a moment: no port is declared that would keep the new one away, and it takes the sockets of the old one.\n\
             \x20   rollingUpdate: {maxSurge: 10%, maxUnavailable: 0}",
            format!("\n        - {{name: handover, mountPath: {HANDOVER_DIR}}}"),
            format!(
                "\n      # The agent makes a directory in it that only it may enter.\n\
                 \x20     - name: handover\n\
                 \x20       hostPath: {{path: {HANDOVER_DIR}, type: DirectoryOrCreate}}"
            ),
        )
    } else {
        (
            "rollingUpdate: {maxUnavailable: 10%}",
            String::new(),
            String::new(),
        )
    };
    format!(
        "# The node agent of EKS Pod Identity. The mutating webhook of the pods and the auth service are elsewhere.
apiVersion: v1
kind: ServiceAccount
metadata:
  name: countersign-agent
  namespace: {namespace}
automountServiceAccountToken: false
---
# To see the pods of its node, so that credentials go with their pod and a stolen token is noticed. RBAC knows no nodes: the agent asks
# for those of its own by a field selector.
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: countersign-agent
rules:
- apiGroups: [\"\"]
  resources: [pods]
  verbs: [get, list, watch]{rules}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: countersign-agent
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: countersign-agent}}
subjects:
- {{kind: ServiceAccount, name: countersign-agent, namespace: {namespace}}}
---
# To read the keys that sign the tokens of pods. Kubernetes gives this to every service account unless somebody took it away.
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: countersign-agent-issuer-discovery
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: system:service-account-issuer-discovery}}
subjects:
- {{kind: ServiceAccount, name: countersign-agent, namespace: {namespace}}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: countersign-agent
  namespace: {namespace}
  labels:
    app.kubernetes.io/name: countersign-agent
spec:
  selector:
    matchLabels:
      app.kubernetes.io/name: countersign-agent
  updateStrategy:
    {strategy}
  template:
    metadata:
      labels:
        app.kubernetes.io/name: countersign-agent
    spec:
      # The endpoint's addresses are the node's. No port is declared: the scheduler would keep others that have a port 80 away.
      hostNetwork: true
      dnsPolicy: ClusterFirstWithHostNet
      serviceAccountName: countersign-agent
      automountServiceAccountToken: false
      priorityClassName: system-node-critical
      terminationGracePeriodSeconds: 30
      tolerations:
      - operator: Exists
      affinity:
        nodeAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
            nodeSelectorTerms:
            - matchExpressions:
              - {{key: kubernetes.io/os, operator: In, values: [linux]}}
              - {{key: kubernetes.io/arch, operator: In, values: [amd64, arm64]}}
              - {{key: eks.amazonaws.com/compute-type, operator: NotIn, values: [fargate, auto]}}
      securityContext:
        seccompProfile:
          type: RuntimeDefault
      containers:
      - name: agent
        image: {image}
        args:{container_args}
        env:
        - {{name: AWS_REGION, value: {region}}}
        - name: NODE_NAME
          valueFrom:
            fieldRef: {{fieldPath: spec.nodeName}}
        - name: HOST_IP
          valueFrom:
            fieldRef: {{fieldPath: status.hostIP}}
        # Kubernetes gives added capabilities to the user 0 alone. It has these two and nothing else: no files of others, no other
        # processes, no way to get more.
        securityContext:
          runAsUser: 0
          runAsGroup: 65532
          privileged: false
          allowPrivilegeEscalation: false
          readOnlyRootFilesystem: true
          capabilities:
            drop: [ALL]
            add: [NET_ADMIN, NET_BIND_SERVICE]
        resources:
          requests: {{cpu: 10m, memory: 24Mi}}
          limits: {{memory: 64Mi}}
        livenessProbe:
          httpGet: {{host: localhost, path: /healthz, port: 2703}}
          initialDelaySeconds: 30
          timeoutSeconds: 10
          failureThreshold: 3
        readinessProbe:
          httpGet: {{host: localhost, path: /readyz, port: 2703}}
          initialDelaySeconds: 1
          timeoutSeconds: 10
          failureThreshold: 30
        volumeMounts:
        - {{name: kubernetes-api, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}}{mounts}{guard_mount}{handover_mount}
      volumes:
      - name: kubernetes-api
        projected:
          sources:
          - serviceAccountToken: {{path: token, expirationSeconds: 3600}}
          - configMap:
              name: kube-root-ca.crt
              items: [{{key: ca.crt, path: ca.crt}}]
          - downwardAPI:
              items: [{{path: namespace, fieldRef: {{fieldPath: metadata.namespace}}}}]{volumes}{guard_volume}{handover_volume}
",
        rules = guard.rules,
        guard_mount = guard.mount,
        guard_volume = guard.volume,
        image = quoted(&args.image),
        region = quoted(&args.region),
    )
}

/// What the metadata guard needs beside the rest.
#[derive(Default)]
struct Guard {
    rules: String,
    mount: &'static str,
    volume: &'static str,
}

impl Guard {
    fn of(mode: Option<ImdsMode>, irsa: IrsaRule, remove_taint: bool) -> Self {
        if mode == Some(ImdsMode::Off) {
            return Self::default();
        }
        let mut rules = "
# To tell a pod's owner why its requests for instance metadata are refused.
- apiGroups: [\"\"]
  resources: [events]
  verbs: [create]"
            .to_owned();
        if mode == Some(ImdsMode::Serve) {
            rules.push_str(
                "
# To ask for a token bound to a pod, which the auth service exchanges for the credentials of its role. RBAC knows no nodes: this is a token
# of any service account, so let an admission policy hold it to pods of the agent's own node.
- apiGroups: [\"\"]
  resources: [serviceaccounts/token]
  verbs: [create]",
            );
            if irsa == IrsaRule::On {
                rules.push_str(
                    "
# To read which role the annotation of a service account names, of one account at a time.
- apiGroups: [\"\"]
  resources: [serviceaccounts]
  verbs: [get]",
                );
            }
        }
        if remove_taint {
            rules.push_str(
                "
# To take the taint countersign.dev/imds-guard from its node once the guard answers. RBAC knows no nodes: this reaches every node, and more of
# it than its taints, so let an admission policy hold it to that taint and the agent's own node.
- apiGroups: [\"\"]
  resources: [nodes]
  verbs: [get, patch]",
            );
        }
        Self {
            rules,
            mount: "\n        - {name: state, mountPath: /run/countersign}",
            // The key of session tokens outlives the container, and goes with a reboot.
            volume: "\n      - name: state\n        hostPath: {path: /run/countersign, type: DirectoryOrCreate}",
        }
    }
}

/// Of the node. What is in it goes with a reboot, as the processes do.
const HANDOVER_DIR: &str = "/run/countersign-agent";

const TOKEN_DIR: &str = "/var/run/secrets/eks-auth.countersign.dev/serviceaccount";

/// A JSON string is a YAML string, whatever characters it has.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    fn documents(auth: Auth, flags: &[&str]) -> Vec<serde_json::Value> {
        guarded(auth, flags, Some(ImdsMode::Off))
    }

    fn guarded(auth: Auth, flags: &[&str], imds: Option<ImdsMode>) -> Vec<serde_json::Value> {
        with(auth, flags, imds, IrsaRule::On)
    }

    fn with(
        auth: Auth,
        flags: &[&str],
        imds: Option<ImdsMode>,
        irsa: IrsaRule,
    ) -> Vec<serde_json::Value> {
        let text = manifest(&ManifestArgs {
            cluster_name: "home".into(),
            image: "registry.example/countersign:1".into(),
            region: "eu-west-1".into(),
            namespace: "agents".into(),
            auth,
            endpoint: Some("https://countersign.example:4600".into()),
            imds,
            imds_remove_taint: false,
            irsa,
            compat: (irsa == IrsaRule::Off).then_some(CompatRule::Kiam),
            handover: false,
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
        });
        text.split("---\n")
            .map(|document| serde_saphyr::from_str(document).unwrap())
            .collect()
    }

    #[test]
    fn the_daemon_set_has_the_least_it_needs() {
        let documents = documents(Auth::Sigv4, &["--bind-source=enforce", "odd: \"flag\""]);
        let kinds: Vec<&str> = documents
            .iter()
            .map(|d| d["kind"].as_str().unwrap())
            .collect();
        let expected = [
            "ServiceAccount",
            "ClusterRole",
            "ClusterRoleBinding",
            "ClusterRoleBinding",
            "DaemonSet",
        ];
        assert_eq!(kinds, expected);
        let rules = serde_json::json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]);
        assert_eq!(documents[1]["rules"], rules);
        let pod = &documents[4]["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        assert_eq!(pod["hostNetwork"], true);
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert_eq!(pod["priorityClassName"], "system-node-critical");
        assert_eq!(pod["initContainers"], serde_json::Value::Null);
        assert_eq!(container["ports"], serde_json::Value::Null);
        let security = &container["securityContext"];
        assert_eq!(security["capabilities"]["drop"], serde_json::json!(["ALL"]));
        assert_eq!(
            security["capabilities"]["add"],
            serde_json::json!(["NET_ADMIN", "NET_BIND_SERVICE"])
        );
        assert_eq!(security["allowPrivilegeEscalation"], false);
        assert_eq!(security["readOnlyRootFilesystem"], true);
        assert_eq!(container["resources"]["limits"]["memory"], "64Mi");
        let args = container["args"].as_array().unwrap();
        assert_eq!(args.last().unwrap(), "odd: \"flag\"");
        assert_eq!(pod["volumes"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn the_guard_has_what_its_mode_needs() {
        for (imds, resources, flag) in [
            (None, vec!["pods", "events"], None),
            (
                Some(ImdsMode::Block),
                vec!["pods", "events"],
                Some("--imds=block"),
            ),
            (
                Some(ImdsMode::Serve),
                vec!["pods", "events", "serviceaccounts/token", "serviceaccounts"],
                Some("--imds=serve"),
            ),
            (Some(ImdsMode::Off), vec!["pods"], Some("--imds=off")),
        ] {
            let documents = guarded(Auth::Sigv4, &[], imds);
            let rules = documents[1]["rules"].as_array().unwrap();
            let given: Vec<&str> = rules
                .iter()
                .map(|rule| rule["resources"][0].as_str().unwrap())
                .collect();
            assert_eq!(given, resources, "{imds:?}");
            let pod = &documents[4]["spec"]["template"]["spec"];
            let has_state = pod["volumes"]
                .as_array()
                .unwrap()
                .iter()
                .any(|volume| volume["hostPath"]["path"] == "/run/countersign");
            let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
            let is_mounted = mounts
                .iter()
                .any(|mount| mount["mountPath"] == "/run/countersign");
            assert_eq!(
                (has_state, is_mounted),
                (resources.len() > 1, resources.len() > 1),
                "{imds:?}"
            );
            let args = pod["containers"][0]["args"].as_array().unwrap();
            let given = args
                .iter()
                .filter_map(|arg| arg.as_str())
                .find(|arg| arg.starts_with("--imds"));
            assert_eq!(given, flag);
        }
    }

    #[test]
    fn the_taint_needs_nodes_and_nothing_else_does() {
        for (imds_remove_taint, nodes) in [(false, 0), (true, 1)] {
            let text = manifest(&ManifestArgs {
                cluster_name: "home".into(),
                image: "registry.example/countersign:1".into(),
                region: "eu-west-1".into(),
                namespace: "agents".into(),
                auth: Auth::Sigv4,
                endpoint: None,
                imds: None,
                imds_remove_taint,
                irsa: IrsaRule::default(),
                compat: None,
                handover: false,
                flags: vec![],
            });
            let documents: Vec<serde_json::Value> = text
                .split("---\n")
                .map(|document| serde_saphyr::from_str(document).unwrap())
                .collect();
            let rules = documents[1]["rules"].as_array().unwrap();
            let of_nodes: Vec<&serde_json::Value> = rules
                .iter()
                .filter(|rule| rule["resources"] == serde_json::json!(["nodes"]))
                .collect();
            assert_eq!(of_nodes.len(), nodes);
            for rule in of_nodes {
                assert_eq!(rule["verbs"], serde_json::json!(["get", "patch"]));
            }
            let args = &documents[4]["spec"]["template"]["spec"]["containers"][0]["args"];
            let has_flag = args
                .as_array()
                .unwrap()
                .contains(&"--imds-remove-taint".into());
            assert_eq!(has_flag, imds_remove_taint);
        }
    }

    #[test]
    fn without_irsa_it_reads_no_service_accounts() {
        let documents = with(Auth::Sigv4, &[], Some(ImdsMode::Serve), IrsaRule::Off);
        let text = documents[1]["rules"].to_string();
        assert!(text.contains("serviceaccounts/token") && !text.contains("\"serviceaccounts\""));
        let container = &documents[4]["spec"]["template"]["spec"]["containers"][0];
        let args = container["args"].as_array().unwrap();
        let has = |flag: &str| args.iter().any(|arg| arg == flag);
        assert!(has("--irsa=off") && has("--compat=kiam"));
    }

    #[test]
    fn sockets_are_handed_over_only_when_asked_for() {
        for handover in [false, true] {
            let text = manifest(&ManifestArgs {
                cluster_name: "home".into(),
                image: "registry.example/countersign:1".into(),
                region: "eu-west-1".into(),
                namespace: "agents".into(),
                auth: Auth::Sigv4,
                endpoint: None,
                imds: Some(ImdsMode::Off),
                imds_remove_taint: false,
                irsa: IrsaRule::default(),
                compat: None,
                handover,
                flags: Vec::new(),
            });
            let daemon_set: serde_json::Value =
                serde_saphyr::from_str(text.split("---\n").last().unwrap()).unwrap();
            let spec = &daemon_set["spec"]["template"]["spec"];
            let args = spec["containers"][0]["args"].as_array().unwrap();
            let flag = "--handover-dir=/run/countersign-agent/handover";
            assert_eq!(args.iter().any(|arg| arg == flag), handover);
            let of_host = |list: &serde_json::Value, member: &str| {
                let list = list.as_array().unwrap();
                let found = list.iter().find(|one| one["name"] == "handover");
                found.map(|one| one[member].clone())
            };
            let path = serde_json::json!({"path": HANDOVER_DIR, "type": "DirectoryOrCreate"});
            assert_eq!(
                of_host(&spec["volumes"], "hostPath"),
                handover.then_some(path)
            );
            assert_eq!(
                of_host(&spec["containers"][0]["volumeMounts"], "mountPath"),
                handover.then(|| HANDOVER_DIR.into())
            );
            let update = if handover {
                serde_json::json!({"maxSurge": "10%", "maxUnavailable": 0})
            } else {
                serde_json::json!({"maxUnavailable": "10%"})
            };
            assert_eq!(
                daemon_set["spec"]["updateStrategy"]["rollingUpdate"],
                update
            );
        }
    }

    #[test]
    fn outside_aws_it_has_a_token_for_the_auth_service() {
        let documents = documents(Auth::Bearer, &[]);
        let pod = &documents[4]["spec"]["template"]["spec"];
        let token = &pod["volumes"][1]["projected"]["sources"][0]["serviceAccountToken"];
        assert_eq!(token["audience"], "eks-auth.countersign.dev");
        let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
        assert_eq!(mounts[1]["mountPath"], TOKEN_DIR);
        let args = pod["containers"][0]["args"].as_array().unwrap();
        assert!(args.iter().any(|arg| arg == "--auth=bearer"));
    }
}
