//! `imds advise`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use countersign_client::{Io, Process};
use countersign_imds::advise;
use countersign_imds::checks::{self, Finding, MetadataOptions, NotInjected};
use countersign_imds::network_policy::{NetworkPolicy, PodLabels, evaluate};
use countersign_imds::rules::Interface;
use countersign_podreview::explain::{Facts, fallback};
use countersign_podreview::{AccountFacts, AssociationFacts, Fact, PodFacts};
use serde::{Deserialize, Serialize};

use super::facts::{Cluster, ClusterArgs, Pod, json};
use super::probe::ProbeArgs;
use super::{node, probe};
use crate::commands::pods::AwsArgs;
use crate::exit::Exit;
use crate::output::OutputFormat;
use crate::report::Failure;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  countersign imds advise --cluster demo\n  countersign imds advise --no-cluster --instances instances.json   with `aws ec2 describe-instances > instances.json`\n  \
                  countersign imds advise --probe                                   in a pod\n  \
                  countersign imds advise --probe-manifest --probe-image registry.example/countersign:1 | kubectl apply -f -\n  \
                  countersign imds advise --node                                    on a node, as root\n\n\
                  Exit codes: 0 nothing found, 1 findings, 2 usage, 3 could not find out."
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
    /// Answer of `aws eks list-pod-identity-associations`, in the place of asking for those of `--cluster`.
    #[arg(long, value_name = "FILE")]
    associations: Option<PathBuf>,
    #[command(flatten)]
    aws: AwsArgs,
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
    /// Look at this node alone: are the guard's rules in the packet filter, and does the unit put them in before kubelet (M11)?
    #[arg(long, conflicts_with_all = ["objects", "no_cluster"])]
    node: bool,
    /// Where the node's files are, for --node: in a container, or of an image.
    #[arg(long, value_name = "DIR", requires = "node")]
    root: Option<PathBuf>,
    #[command(flatten)]
    probe: ProbeArgs,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

/// What is printed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Advice {
    findings: Vec<Finding>,
    not_looked_at: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_found_out: Vec<String>,
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

pub(super) fn run(
    args: &AdviseArgs,
    process: &Process<'_>,
    io: &mut Io<'_>,
) -> Result<Exit, Failure> {
    if args.probe.probe {
        return probe::probe(args.output, io.stdout);
    }
    if args.probe.probe_manifest {
        return probe::manifest(&args.probe, io.stdout);
    }
    if args.node {
        return node::run(args.root.as_deref(), args.output, io.stdout);
    }
    let mut findings = of_account(args)?;
    let mut limits = Limits {
        not_looked_at: vec![
            "M1 to M4: run `countersign imds advise --probe` in a pod".into(),
            "M11: run `countersign imds advise --node` on a node".into(),
        ],
        not_found_out: Vec::new(),
    };
    if !args.no_cluster {
        findings.extend(of_cluster(args, process, io, &mut limits)?);
    }
    let advice = Advice {
        findings,
        not_looked_at: limits.not_looked_at,
        not_found_out: limits.not_found_out,
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
    args.output
        .write(io.stdout, &advice, |out| table(out, &advice))?;
    Ok(probe::exit(&advice.findings, &advice.not_found_out))
}

/// What the findings do not say anything about.
struct Limits {
    /// Nobody asked.
    not_looked_at: Vec<String>,
    /// It was asked for, and there was no answer.
    not_found_out: Vec<String>,
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
            let region = args.aws.region.as_deref().unwrap_or_default();
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

fn of_cluster(
    args: &AdviseArgs,
    process: &Process<'_>,
    io: &mut Io<'_>,
    limits: &mut Limits,
) -> Result<Vec<Finding>, Failure> {
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
    let known = associations(args, process, io, limits)?;
    findings.extend(checks::not_injected(&not_injected(
        &cluster, &known, limits,
    )));
    findings.extend(checks::predecessors(&cluster.predecessors()));
    Ok(findings)
}

/// Associations by namespace and service account; why not, where they are not known.
type Associations = Result<BTreeMap<(String, String), AssociationFacts>, String>;

fn associations(
    args: &AdviseArgs,
    process: &Process<'_>,
    io: &mut Io<'_>,
    limits: &mut Limits,
) -> Result<Associations, Failure> {
    #[derive(Deserialize)]
    struct Listed {
        associations: Vec<Summary>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Summary {
        association_id: String,
        namespace: String,
        service_account: String,
    }
    let listed: Vec<AssociationFacts> = if let Some(path) = &args.associations {
        let listed: Listed = json(path)?;
        let each = listed.associations.into_iter();
        each.map(|summary| AssociationFacts {
            id: summary.association_id,
            namespace: summary.namespace,
            service_account: summary.service_account,
            ..AssociationFacts::default()
        })
        .collect()
    } else if let Some((name, _)) = args.aws.named() {
        countersign_server::install_crypto();
        let api = args.aws.connect(process, io);
        match api.and_then(|api| api.association_list(name)) {
            Ok(listed) => listed,
            Err(error) => {
                let reason = error.to_string();
                limits.not_found_out.push(format!(
                    "M10, pod identity associations of {name}: {reason}"
                ));
                return Ok(Err(reason));
            }
        }
    } else {
        limits
            .not_looked_at
            .push("M10, pod identity associations: give --cluster or --associations".into());
        return Ok(Err("no cluster is named".into()));
    };
    let by_account = listed.into_iter().map(|association| {
        let key = (
            association.namespace.clone(),
            association.service_account.clone(),
        );
        (key, association)
    });
    Ok(Ok(by_account.collect()))
}

/// Pods that admission would give credentials now, and did not.
fn not_injected(
    cluster: &Cluster,
    associations: &Associations,
    limits: &mut Limits,
) -> Vec<NotInjected> {
    let accounts: BTreeMap<(String, String), AccountFacts> = cluster
        .raw("ServiceAccount")
        .map(|object| {
            let account = AccountFacts::of_object(object);
            ((account.namespace.clone(), account.name.clone()), account)
        })
        .collect();
    if accounts.is_empty() {
        // No cluster is without one.
        limits.not_looked_at.push(
            "M10: the objects have no service accounts; add `sa` to what kubectl gets".into(),
        );
        return Vec::new();
    }
    let mut found = Vec::new();
    for object in cluster.raw("Pod") {
        let Ok(pod) = PodFacts::of_object(object) else {
            continue;
        };
        if pod.has_ended() || pod.is_deleted {
            continue;
        }
        let key = (pod.namespace.clone(), pod.service_account.clone());
        let facts = Facts {
            object: object.clone(),
            account: accounts
                .get(&key)
                .map_or(Fact::Missing, |account| Fact::Known(account.clone())),
            association: match associations {
                Ok(known) => known
                    .get(&key)
                    .map_or(Fact::Missing, |known| Fact::Known(known.clone())),
                Err(reason) => Fact::Unread(reason.clone()),
            },
            pod,
            ..Facts::default()
        };
        match fallback(&facts) {
            Ok(None) => {}
            Ok(Some(missed)) => found.push(NotInjected {
                namespace: facts.pod.namespace,
                pod: facts.pod.name,
                service_account: facts.pod.service_account,
                role_arn: missed.role_arn,
                containers: missed.containers,
            }),
            Err(reason) => limits.not_found_out.push(format!(
                "M10, pod {}/{}: {reason}",
                facts.pod.namespace, facts.pod.name
            )),
        }
    }
    found
}

/// Findings for people, and what could not be found out.
pub(super) fn write_findings(
    out: &mut dyn Write,
    findings: &[Finding],
    not_found_out: &[String],
) -> std::io::Result<()> {
    let plain = |text: &str| text.replace(|c: char| c.is_control() && c != '\n', " ");
    for finding in findings {
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
    for reason in not_found_out {
        writeln!(out, "not found out: {}", plain(reason).replace('\n', " "))?;
    }
    Ok(())
}

fn table(out: &mut dyn Write, advice: &Advice) -> std::io::Result<()> {
    write_findings(out, &advice.findings, &advice.not_found_out)?;
    if advice.findings.is_empty() {
        writeln!(
            out,
            "Nothing that was looked at lets pods reach the node's role."
        )?;
    }
    for what in &advice.not_looked_at {
        writeln!(out, "not looked at: {what}")?;
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
        "\n# Nodes that cannot be prepared: start them with the taint {}; the agent takes it away with --imds-remove-taint.",
        advice.taint
    )
}
