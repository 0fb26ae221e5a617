//! What closes the service for pods, ready to use (imds spec, sections 2 and 5.1): EC2's options in three forms, and the unit that
//! closes a node before kubelet starts pods.

use crate::rules::{Interface, nft_table};

/// Where the unit finds its rules.
pub const RULES_FILE: &str = "/etc/countersign/imds-guard.nft";
/// The unit's name.
pub const UNIT: &str = "countersign-imds-guard.service";
/// The taint of nodes that cannot be prepared.
pub const TAINT: &str = "countersign.dev/imds-guard:NoSchedule";

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
#[must_use]
pub fn unit() -> String {
    // nftables.service begins with `flush ruleset`.
    format!(
        "[Unit]
Description=Keep pods from the instance metadata service until the Countersign agent answers
DefaultDependencies=no
After=local-fs.target nftables.service iptables.service firewalld.service
Before=kubelet.service containerd.service crio.service k3s.service rke2-agent.service network-online.target
ConditionPathExists={RULES_FILE}

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/nft -f {RULES_FILE}

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
