//! What closes the service for pods, ready to use (imds spec, sections 2 and 5.1): EC2's options in three forms, and the unit that
//! closes a node before kubelet starts pods.

use crate::node::KUBELETS;
use crate::rules::{Interface, nft_table};

/// Where the unit finds its rules.
pub const RULES_FILE: &str = "/etc/countersign/imds-guard.nft";
/// The unit's name.
pub const UNIT: &str = "countersign-imds-guard.service";
/// The taint of nodes that cannot be prepared.
pub const TAINT: &str = "countersign.dev/imds-guard:NoSchedule";
/// Its key and its effect.
pub const TAINT_PARTS: (&str, &str) = ("countersign.dev/imds-guard", "NoSchedule");

/// The command for one instance. An id that is none is replaced by a placeholder: the text is pasted into shells.
#[must_use]
pub fn modify_options(instance: &str) -> String {
    let is_id = instance.len() <= 32
        && instance
            .strip_prefix("i-")
            .is_some_and(|id| !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric()));
    let id = if is_id { instance } else { "i-INSTANCE" };
    format!(
        "aws ec2 modify-instance-metadata-options --instance-id {id} --http-endpoint enabled --http-tokens required --http-put-response-hop-limit 1"
    )
}

/// The launch template's data, as `aws ec2 create-launch-template-version --launch-template-data` takes it.
#[must_use]
pub fn launch_template(ipv6: bool) -> String {
    let data = serde_json::json!({
        "MetadataOptions": {
            "HttpEndpoint": "enabled",
            "HttpTokens": "required",
            "HttpPutResponseHopLimit": 1,
            "HttpProtocolIpv6": if ipv6 { "enabled" } else { "disabled" },
            "InstanceMetadataTags": "disabled",
        }
    });
    serde_json::to_string_pretty(&data).unwrap_or_default()
}

/// The same for Terraform's `aws_launch_template` and `aws_instance`.
#[must_use]
pub fn terraform(ipv6: bool) -> String {
    format!(
        "metadata_options {{
  http_endpoint               = \"enabled\"
  http_tokens                 = \"required\"
  http_put_response_hop_limit = 1
  http_protocol_ipv6          = \"{}\"
  instance_metadata_tags      = \"disabled\"
}}
",
        if ipv6 { "enabled" } else { "disabled" }
    )
}

/// The unit that puts the drop in before kubelet starts, and leaves it when it stops. The agent turns the drop into its redirect.
///
/// This form needs nothing but nft on the node, and the rules in [`RULES_FILE`].
#[must_use]
pub fn unit() -> String {
    unit_that_runs(&format!("/usr/sbin/nft -f {RULES_FILE}"))
}

/// The same unit for a node that has the program, at this absolute path: `imds drop` takes whichever packet filter the node has.
/// `None` for a path that is none, or that systemd would read as something else.
#[must_use]
pub fn unit_of_program(
    program: &str,
    filter: Option<&'static str>,
    exempt: &[Interface],
) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte);
    if !program.starts_with('/') || program.ends_with('/') || !program.bytes().all(plain) {
        return None;
    }
    let mut command = format!("{program} imds drop");
    if let Some(filter) = filter {
        command.push_str(" --filter ");
        command.push_str(filter);
    }
    for interface in exempt {
        command.push_str(" --exempt-interface ");
        command.push_str(interface.as_str());
    }
    Some(unit_that_runs(&command))
}

/// A node whose rules cannot be put in starts no kubelet: what fails here must not leave pods with the node's role.
fn unit_that_runs(command: &str) -> String {
    let kubelets = KUBELETS.join(" ");
    // nftables.service begins with `flush ruleset`.
    format!(
        "[Unit]
Description=Keep pods from the instance metadata service until the Countersign agent answers
DefaultDependencies=no
After=local-fs.target nftables.service iptables.service firewalld.service
Before={kubelets} containerd.service crio.service network-online.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={command}

[Install]
WantedBy=multi-user.target
RequiredBy=kubelet.service
"
    )
}

/// The rules that the unit loads: [`RULES_FILE`].
#[must_use]
pub fn unit_rules(exempt: &[Interface]) -> String {
    nft_table(None, exempt)
}
