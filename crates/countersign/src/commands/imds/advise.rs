//! `imds advise`.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use countersign_imds::advise;
use countersign_imds::checks::{self, Finding, MetadataOptions};
use countersign_imds::network_policy::{NetworkPolicy, PodLabels, evaluate};
use countersign_imds::rules::Interface;
use serde::{Deserialize, Serialize};

use super::facts::{Cluster, ClusterArgs, Pod, json};
use crate::exit::Exit;
use crate::output::OutputFormat;
use crate::report::Failure;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  countersign imds advise\n  countersign imds advise --no-cluster --instances instances.json   with `aws ec2 describe-instances > instances.json`"
)]
pub(crate) struct AdviseArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Look at no cluster.
    #[arg(long, conflicts_with = "objects")]
    no_cluster: bool,
    /// Answer of `aws ec2 describe-instances`.
    #[arg(long, value_name = "FILE")]
    instances: Option<PathBuf>,
    /// Answer of `aws ec2 describe-launch-template-versions`.
    #[arg(long, value_name = "FILE")]
    launch_templates: Option<PathBuf>,
    /// Answer of `aws ec2 get-instance-metadata-defaults`.
    #[arg(long, value_name = "FILE", requires = "region")]
    account_defaults: Option<PathBuf>,
    /// The region of the account's settings.
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// Answer of `aws iam list-attached-role-policies` for the nodes' role.
    #[arg(long, value_name = "FILE")]
    node_role_policies: Option<PathBuf>,
    /// NAMESPACE/SERVICEACCOUNT, or NAMESPACE/*, that may be on the host's network. Repeatable.
    #[arg(long, value_name = "NAME", default_value = "kube-system/*")]
    allow_host_network: Vec<String>,
    /// Nodes have IPv6.
    #[arg(long)]
    ipv6: bool,
    /// An interface that the node's unit leaves alone. Repeatable.
    #[arg(long, value_name = "NAME")]
    exempt_interface: Vec<Interface>,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

/// What is printed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Advice {
    findings: Vec<Finding>,
    launch_template_data: String,
    terraform: String,
    modify_instance: String,
    unit: Text,
    unit_rules: Text,
    taint: &'static str,
}

#[derive(Serialize)]
struct Text {
    file: String,
    text: String,
}

pub(super) fn run(args: &AdviseArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let mut findings = of_account(args)?;
    if !args.no_cluster {
        findings.extend(of_cluster(args)?);
    }
    let advice = Advice {
        findings,
        launch_template_data: advise::launch_template(args.ipv6),
        terraform: advise::terraform(args.ipv6),
        modify_instance: advise::modify_options("i-INSTANCE"),
        unit: Text {
            file: format!("/etc/systemd/system/{}", advise::UNIT),
            text: advise::unit(),
        },
        unit_rules: Text {
            file: advise::RULES_FILE.into(),
            text: advise::unit_rules(&args.exempt_interface),
        },
        taint: advise::TAINT,
    };
    args.output.write(out, &advice, |out| table(out, &advice))?;
    Ok(if advice.findings.is_empty() {
        Exit::Fine
    } else {
        Exit::No
    })
}

fn of_account(args: &AdviseArgs) -> Result<Vec<Finding>, Failure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Instances {
        reservations: Vec<Reservation>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Reservation {
        instances: Vec<Instance>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Instance {
        instance_id: String,
        #[serde(default)]
        metadata_options: MetadataOptions,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Templates {
        launch_template_versions: Vec<Template>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Template {
        launch_template_id: String,
        version_number: u64,
        #[serde(default)]
        launch_template_data: Data,
    }
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "PascalCase", default)]
    struct Data {
        metadata_options: MetadataOptions,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Defaults {
        #[serde(default)]
        account_level: MetadataOptions,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Attached {
        attached_policies: Vec<Policy>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Policy {
        policy_name: String,
    }
    let mut findings = Vec::new();
    let account = match &args.account_defaults {
        None => MetadataOptions::default(),
        Some(path) => {
            let defaults: Defaults = json(path)?;
            let region = args.region.as_deref().unwrap_or_default();
            findings.extend(checks::account_defaults(region, &defaults.account_level));
            defaults.account_level
        }
    };
    let none = MetadataOptions::default();
    if let Some(path) = &args.instances {
        let instances: Instances = json(path)?;
        let all = instances.reservations.iter().flat_map(|r| &r.instances);
        for instance in all {
            let options = MetadataOptions::effective(&instance.metadata_options, &none, &none);
            findings.extend(checks::metadata_options(&instance.instance_id, &options));
        }
    }
    if let Some(path) = &args.launch_templates {
        let templates: Templates = json(path)?;
        for template in templates.launch_template_versions {
            let own = &template.launch_template_data.metadata_options;
            let options = MetadataOptions::effective(own, &account, &none);
            let subject = format!(
                "{} version {}",
                template.launch_template_id, template.version_number
            );
            findings.extend(checks::metadata_options(&subject, &options));
        }
    }
    if let Some(path) = &args.node_role_policies {
        let attached: Attached = json(path)?;
        let names: Vec<String> = attached
            .attached_policies
            .into_iter()
            .map(|policy| policy.policy_name)
            .collect();
        findings.extend(checks::node_role("of the nodes", &names, &[]));
    }
    Ok(findings)
}

fn of_cluster(args: &AdviseArgs) -> Result<Vec<Finding>, Failure> {
    let cluster = Cluster::read(&args.cluster)?;
    let mut pods: Vec<Pod> = cluster.of("Pod");
    pods.retain(|pod| !pod.is_over());
    let labelled: Vec<PodLabels> = pods
        .iter()
        .map(|pod| PodLabels {
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            labels: pod.metadata.labels.clone().unwrap_or_default(),
            host_network: pod.spec.host_network,
        })
        .collect();
    let namespaces: Vec<String> = cluster
        .namespaces()
        .into_iter()
        .map(|namespace| namespace.name)
        .collect();
    let policies: Vec<NetworkPolicy> = cluster.of("NetworkPolicy");
    let mut findings = checks::namespaces(&evaluate(&namespaces, &policies, &labelled));
    let host = pods.iter().filter(|pod| pod.spec.host_network).map(|pod| {
        (
            pod.metadata.namespace.as_str(),
            pod.account(),
            pod.metadata.name.as_str(),
        )
    });
    findings.extend(checks::host_network(host, &args.allow_host_network));
    findings.extend(checks::predecessors(&cluster.predecessors()));
    Ok(findings)
}

fn table(out: &mut dyn Write, advice: &Advice) -> std::io::Result<()> {
    let plain = |text: &str| text.replace(|c: char| c.is_control() && c != '\n', " ");
    for finding in &advice.findings {
        writeln!(
            out,
            "{} {}: {}",
            finding.check,
            plain(&finding.subject),
            plain(&finding.text)
        )?;
        for line in plain(&finding.fix).lines() {
            writeln!(out, "    {line}")?;
        }
    }
    if advice.findings.is_empty() {
        writeln!(
            out,
            "Nothing that was looked at lets pods reach the node's role."
        )?;
    }
    let sections = [
        ("One instance", advice.modify_instance.as_str()),
        ("Launch template data", &advice.launch_template_data),
        ("Terraform", &advice.terraform),
        (&advice.unit.file, &advice.unit.text),
        (&advice.unit_rules.file, &advice.unit_rules.text),
    ];
    for (title, text) in sections {
        writeln!(out, "\n# {title}\n{}", text.trim_end())?;
    }
    writeln!(
        out,
        "\n# Nodes that cannot be prepared: start them with the taint {}, and take it away when the agent is ready.",
        advice.taint
    )
}
