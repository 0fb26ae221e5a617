//! `agent network-policy`: what lets pods reach the endpoint where network policies stand in the way (agent spec, section 3).

use std::io::Write;

use clap::{Args, ValueEnum};
use countersign_agent::link::{IPV4, IPV6};

use crate::exit::Exit;
use crate::report::Failure;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  countersign agent network-policy\n  countersign agent network-policy --network cilium --namespace orchard | kubectl apply -f -"
)]
pub(crate) struct NetworkPolicyArgs {
    /// The network of the cluster.
    #[arg(long, value_enum, default_value_t)]
    network: Network,
    /// Namespace of the pods.
    #[arg(long, default_value = "default", value_parser = label, value_name = "NAMESPACE")]
    namespace: String,
    /// Port of the endpoint.
    #[arg(long, default_value_t = 80, value_name = "PORT")]
    port: u16,
    /// Print the variables that keep the endpoint out of HTTP proxies instead.
    #[arg(long)]
    no_proxy: bool,
}

/// The network of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Network {
    /// Networks in which an `ipBlock` matches addresses of the node: Calico, the Amazon VPC CNI, Antrea and most others.
    #[default]
    Kubernetes,
    /// Cilium, in which the endpoint is the host and no address block matches it.
    Cilium,
    /// Calico's own policies.
    Calico,
}

pub(super) fn run(args: &NetworkPolicyArgs, stdout: &mut dyn Write) -> Result<Exit, Failure> {
    let text = if args.no_proxy {
        no_proxy()
    } else {
        policy(args.network, &args.namespace, args.port)
    };
    stdout.write_all(text.as_bytes())?;
    Ok(Exit::Fine)
}

/// Clients differ in whether brackets belong to the address, and none minds both.
fn no_proxy() -> String {
    format!("NO_PROXY={IPV4},[{IPV6}],{IPV6}\nno_proxy={IPV4},[{IPV6}],{IPV6}\n")
}

fn policy(network: Network, namespace: &str, port: u16) -> String {
    match network {
        Network::Kubernetes => format!(
            "# All pods of the namespace may reach the credentials endpoint of their node. Policies add up: what else they may reach\n\
             # is said by other policies; with this one alone it is nothing else.\n\
             # In Cilium no ipBlock matches the node: use --network cilium.\n\
             apiVersion: networking.k8s.io/v1\n\
             kind: NetworkPolicy\n\
             metadata:\n\
             \x20 name: pod-identity-agent\n\
             \x20 namespace: {namespace}\n\
             spec:\n\
             \x20 podSelector: {{}}\n\
             \x20 policyTypes: [Egress]\n\
             \x20 egress:\n\
             \x20 - to:\n\
             \x20   - ipBlock: {{cidr: {IPV4}/32}}\n\
             \x20   - ipBlock: {{cidr: \"{IPV6}/128\"}}\n\
             \x20   ports:\n\
             \x20   - {{protocol: TCP, port: {port}}}\n"
        ),
        Network::Cilium => format!(
            "# In Cilium the endpoint's addresses are those of the host, which no address block matches.\n\
             # With this policy alone the pods may reach nothing else.\n\
             apiVersion: cilium.io/v2\n\
             kind: CiliumNetworkPolicy\n\
             metadata:\n\
             \x20 name: pod-identity-agent\n\
             \x20 namespace: {namespace}\n\
             spec:\n\
             \x20 endpointSelector: {{}}\n\
             \x20 egress:\n\
             \x20 - toEntities: [host]\n\
             \x20   toPorts:\n\
             \x20   - ports:\n\
             \x20     - {{port: \"{port}\", protocol: TCP}}\n"
        ),
        Network::Calico => format!(
            "# With this policy alone the pods may reach nothing else.\n\
             apiVersion: projectcalico.org/v3\n\
             kind: NetworkPolicy\n\
             metadata:\n\
             \x20 name: pod-identity-agent\n\
             \x20 namespace: {namespace}\n\
             spec:\n\
             \x20 selector: all()\n\
             \x20 types: [Egress]\n\
             \x20 egress:\n\
             \x20 - action: Allow\n\
             \x20   protocol: TCP\n\
             \x20   destination:\n\
             \x20     nets: [\"{IPV4}/32\"]\n\
             \x20     ports: [{port}]\n\
             \x20 - action: Allow\n\
             \x20   protocol: TCP\n\
             \x20   destination:\n\
             \x20     nets: [\"{IPV6}/128\"]\n\
             \x20     ports: [{port}]\n"
        ),
    }
}

/// A name of one label, as namespaces have: it becomes part of a document.
pub(super) fn label(text: &str) -> Result<String, String> {
    let fine = (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-');
    if fine {
        Ok(text.to_owned())
    } else {
        Err("write 1 to 63 lower-case letters, digits and inner hyphens".to_owned())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    fn parsed(network: Network) -> serde_json::Value {
        serde_saphyr::from_str(&policy(network, "orchard", 80)).unwrap()
    }

    #[test]
    fn each_network_gets_a_policy_that_names_both_addresses_or_the_host() {
        let kubernetes = parsed(Network::Kubernetes);
        let to = &kubernetes["spec"]["egress"][0]["to"];
        assert_eq!(to[0]["ipBlock"]["cidr"], "169.254.170.23/32");
        assert_eq!(to[1]["ipBlock"]["cidr"], "fd00:ec2::23/128");
        assert_eq!(kubernetes["metadata"]["namespace"], "orchard");
        let cilium = parsed(Network::Cilium);
        assert_eq!(cilium["spec"]["egress"][0]["toEntities"][0], "host");
        let port = &cilium["spec"]["egress"][0]["toPorts"][0]["ports"][0];
        assert_eq!(port["port"], "80");
        let calico = parsed(Network::Calico);
        for (rule, net) in [(0, "169.254.170.23/32"), (1, "fd00:ec2::23/128")] {
            assert_eq!(
                calico["spec"]["egress"][rule]["destination"]["nets"][0],
                net
            );
        }
        assert!(no_proxy().contains("NO_PROXY=169.254.170.23,[fd00:ec2::23]"));
    }

    #[test]
    fn namespaces_that_are_none_are_refused() {
        for text in ["", "A", "a b", "-a", "a\nkind: x", &"a".repeat(64)] {
            assert!(label(text).is_err(), "{text}");
        }
        assert!(label("kube-system").is_ok());
    }
}
