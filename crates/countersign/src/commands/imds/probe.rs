//! `imds advise --probe`: what a process here gets from instance metadata; and the pod that runs it.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use clap::Args;
use countersign_imds::checks::Finding;
use countersign_imds::probe::{MAX_ANSWER, Outcome, Reply, Seen, addresses, findings};
use countersign_podreview::{is_account_name, is_namespace};
use serde::Serialize;
use zeroize::Zeroizing;

use super::advise::write_findings;
use crate::exit::Exit;
use crate::output::{OutputFormat, columns};
use crate::report::Failure;

/// Time for a request, from connecting to the end of its answer.
const LIMIT: Duration = Duration::from_secs(1);
/// "Address family not supported by protocol": a kernel without IPv6.
const NO_FAMILY: i32 = 97;

#[derive(Debug, Args)]
#[command(next_help_heading = "Probe")]
pub(super) struct ProbeArgs {
    /// Ask instance metadata from here, over IPv4 and IPv6: is it answered without a token (M1), does it give tokens (M2), does it
    /// list the node's role (M3, M4)? Credentials are not asked for. Run it in a pod: the node itself always reaches its service.
    #[arg(long, conflicts_with_all = ["node", "objects", "no_cluster", "probe_manifest"])]
    pub(super) probe: bool,
    /// Print a pod that runs the probe, with the least it needs.
    #[arg(long, requires = "probe_image", conflicts_with_all = ["node", "objects", "no_cluster"])]
    pub(super) probe_manifest: bool,
    /// The image of that pod, with this program in it.
    #[arg(long, value_name = "IMAGE", requires = "probe_manifest")]
    probe_image: Option<String>,
    /// The namespace of that pod: network policies may differ.
    #[arg(long, value_name = "NAMESPACE", default_value = "default")]
    probe_namespace: String,
    /// The node of that pod; any if absent.
    #[arg(long, value_name = "NODE", requires = "probe_manifest")]
    probe_node: Option<String>,
}

/// What is printed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    seen: Vec<Seen>,
    findings: Vec<Finding>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_found_out: Vec<String>,
}

pub(super) fn probe(output: OutputFormat, out: &mut dyn Write) -> Result<Exit, Failure> {
    let seen: Vec<Seen> = addresses()
        .into_iter()
        .map(|address| Seen::look(address, |to, request| ask(to, request.as_bytes())))
        .collect();
    let (findings, not_found_out) = findings(&seen);
    let report = Report {
        seen,
        findings,
        not_found_out,
    };
    output.write(out, &report, |out| {
        let head = ["ADDRESS", "WITHOUT TOKEN", "TOKEN", "LIST OF ROLES", "ROLE"];
        let rows = report.seen.iter().map(|seen| {
            [
                seen.address.to_string(),
                seen.version1.to_string(),
                seen.token.to_string(),
                seen.list.to_string(),
                seen.role.clone().unwrap_or_default(),
            ]
        });
        columns(out, head, rows)?;
        writeln!(out)?;
        if report.findings.is_empty() && report.not_found_out.is_empty() {
            writeln!(
                out,
                "Nothing of the node is given to whoever asks from here."
            )?;
        }
        write_findings(out, &report.findings, &report.not_found_out)
    })?;
    Ok(exit(&report.findings, &report.not_found_out))
}

/// Findings are a "no", also where something else could not be found out.
pub(super) fn exit(findings: &[Finding], not_found_out: &[String]) -> Exit {
    match (findings.is_empty(), not_found_out.is_empty()) {
        (false, _) => Exit::No,
        (true, false) => Exit::Unknown,
        (true, true) => Exit::Fine,
    }
}

/// One request and its answer, directly: whatever proxy is configured.
fn ask(to: SocketAddr, request: &[u8]) -> Reply {
    let until = Instant::now() + LIMIT;
    let mut answer = Zeroizing::new(Vec::with_capacity(1024));
    match exchange(to, request, until, &mut answer) {
        Ok(()) => Reply::parse(&answer),
        // What came before is an answer where it is a whole one; a connection that is kept open is no fault.
        Err(error) => match Reply::parse(&answer) {
            whole @ Reply {
                outcome: Outcome::Answered { .. },
                ..
            } => whole,
            _ => Reply::from(class(&error)),
        },
    }
}

fn exchange(
    to: SocketAddr,
    request: &[u8],
    until: Instant,
    answer: &mut Zeroizing<Vec<u8>>,
) -> std::io::Result<()> {
    let left = || {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            Err(std::io::Error::from(ErrorKind::TimedOut))
        } else {
            Ok(left)
        }
    };
    let mut stream = TcpStream::connect_timeout(&to, left()?)?;
    stream.set_write_timeout(Some(left()?))?;
    stream.write_all(request)?;
    let mut part = Zeroizing::new([0; 2048]);
    while answer.len() < MAX_ANSWER {
        stream.set_read_timeout(Some(left()?))?;
        match stream.read(&mut *part)? {
            0 => break,
            read => answer.extend_from_slice(part.get(..read).unwrap_or_default()),
        }
    }
    Ok(())
}

fn class(error: &std::io::Error) -> Outcome {
    match error.kind() {
        ErrorKind::ConnectionRefused
        | ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted => Outcome::Refused,
        ErrorKind::TimedOut | ErrorKind::WouldBlock => Outcome::TimedOut,
        ErrorKind::NetworkUnreachable
        | ErrorKind::HostUnreachable
        | ErrorKind::AddrNotAvailable => Outcome::Unreachable,
        _ if error.raw_os_error() == Some(NO_FAMILY) => Outcome::Unreachable,
        _ => Outcome::Unclear {
            reason: error.to_string(),
        },
    }
}

pub(super) fn manifest(args: &ProbeArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let image = args.probe_image.as_deref().unwrap_or_default();
    let namespace = args.probe_namespace.as_str();
    if !is_namespace(namespace) {
        return Err(Failure::usage(anyhow!("`{namespace}` is no namespace")));
    }
    let node = match args.probe_node.as_deref() {
        None => String::new(),
        Some(node) if is_account_name(node) => format!("\n  nodeName: {node}"),
        Some(node) => return Err(Failure::usage(anyhow!("`{node}` is no name of a node"))),
    };
    // A JSON string is a YAML string, whatever characters it has.
    let image = serde_json::Value::from(image).to_string();
    write!(
        out,
        "# What pods get from instance metadata. It asks from a pod's own network, without a token of Kubernetes and without rights.
#
#   kubectl apply -f probe.yaml
#   kubectl logs -n {namespace} countersign-imds-probe --follow --pod-running-timeout=60s
#   kubectl get pod -n {namespace} countersign-imds-probe -o jsonpath='{{.status.containerStatuses[0].state.terminated.exitCode}}'
#   kubectl delete -f probe.yaml
#
# It succeeds when pods get nothing of the node, and fails with code 1 when they do, and with 3 when it could not find out.
apiVersion: v1
kind: Pod
metadata:
  name: countersign-imds-probe
  namespace: {namespace}
  labels:
    app.kubernetes.io/name: countersign-imds-probe
spec:{node}
  restartPolicy: Never
  activeDeadlineSeconds: 60
  hostNetwork: false
  automountServiceAccountToken: false
  enableServiceLinks: false
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    seccompProfile:
      type: RuntimeDefault
  containers:
  - name: probe
    image: {image}
    args: [imds, advise, --probe, --output=json]
    terminationMessagePolicy: FallbackToLogsOnError
    securityContext:
      privileged: false
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities:
        drop: [ALL]
    resources:
      requests: {{cpu: 10m, memory: 16Mi}}
      limits: {{memory: 64Mi}}
"
    )?;
    Ok(Exit::Fine)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    fn args(namespace: &str, node: Option<&str>) -> ProbeArgs {
        ProbeArgs {
            probe: false,
            probe_manifest: true,
            probe_image: Some("registry.example/countersign:1 # \"odd\"".into()),
            probe_namespace: namespace.into(),
            probe_node: node.map(str::to_owned),
        }
    }

    #[test]
    fn the_pod_has_the_least_it_needs() {
        for node in [None, Some("node-a.example")] {
            let mut text = Vec::new();
            manifest(&args("orchard", node), &mut text).unwrap();
            let pod: serde_json::Value =
                serde_saphyr::from_str(std::str::from_utf8(&text).unwrap()).unwrap();
            let spec = &pod["spec"];
            assert_eq!(pod["metadata"]["namespace"], "orchard");
            assert_eq!(spec["nodeName"].as_str(), node);
            assert_eq!(spec["hostNetwork"], false);
            assert_eq!(spec["automountServiceAccountToken"], false);
            assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
            let container = &spec["containers"][0];
            assert_eq!(
                container["image"],
                "registry.example/countersign:1 # \"odd\""
            );
            let security = &container["securityContext"];
            assert_eq!(
                security["capabilities"],
                serde_json::json!({"drop": ["ALL"]})
            );
            assert_eq!(security["allowPrivilegeEscalation"], false);
            assert_eq!(security["readOnlyRootFilesystem"], true);
            assert_eq!(spec["volumes"], serde_json::Value::Null);
        }
        for (namespace, node) in [("a\nb", None), ("", None), ("n", Some("a b"))] {
            assert!(manifest(&args(namespace, node), &mut Vec::new()).is_err());
        }
    }

    #[test]
    fn failures_are_told_apart() {
        let of = |kind| class(&std::io::Error::from(kind));
        assert_eq!(of(ErrorKind::ConnectionRefused), Outcome::Refused);
        assert_eq!(of(ErrorKind::WouldBlock), Outcome::TimedOut);
        assert_eq!(of(ErrorKind::NetworkUnreachable), Outcome::Unreachable);
        assert_eq!(
            class(&std::io::Error::from_raw_os_error(NO_FAMILY)),
            Outcome::Unreachable
        );
        assert!(matches!(
            of(ErrorKind::PermissionDenied),
            Outcome::Unclear { .. }
        ));
    }
}
