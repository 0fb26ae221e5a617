//! `imds plan`.

use std::io::Write;
use std::path::PathBuf;

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use countersign_imds::compat::{
    ALLOWED_ROLES, Compat, EXTERNAL_ID, Format, PERMITTED, Predecessor, ROLE,
};
use countersign_imds::plan::{Facts, Plan, PodFacts, RoleFacts, plan};
use serde::Deserialize;
use serde_json::Value;

use super::facts::{Cluster, ClusterArgs, Pod, json};
use crate::exit::Exit;
use crate::output::{OutputFormat, columns};
use crate::report::Failure;

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// What runs now.
    #[arg(long, value_enum)]
    from: From,
    /// The cluster's name, for the commands.
    #[arg(long, value_name = "NAME")]
    cluster_name: String,
    /// What is put before role names, where the DaemonSet does not say it.
    #[arg(long, value_name = "ARN")]
    base_role_arn: Option<String>,
    /// Answer of `aws iam list-roles`.
    #[arg(long, value_name = "FILE", requires = "node_role")]
    roles: Option<PathBuf>,
    /// ARN of the nodes' role, to find the roles that trust it.
    #[arg(long, value_name = "ARN")]
    node_role: Option<String>,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum From {
    Kube2iam,
    Kiam,
}

pub(super) fn run(args: &PlanArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let predecessor = match args.from {
        From::Kube2iam => Predecessor::Kube2iam,
        From::Kiam => Predecessor::Kiam,
    };
    let cluster = Cluster::read(&args.cluster)?;
    let mut agents = cluster.predecessors();
    agents.retain(|agent| agent.kind == predecessor);
    let mut compat = agents.first().map_or(
        Compat {
            predecessor,
            base_arn: None,
            format: Format::Glob,
            default_role: None,
        },
        Compat::of_agent,
    );
    // kiam's base is an argument of its server, which may be another DaemonSet or a Deployment.
    let said = agents
        .iter()
        .find_map(|agent| Compat::of_agent(agent).base_arn);
    compat.base_arn = args.base_role_arn.clone().or(said);
    let restricted = match predecessor {
        Predecessor::Kiam => true,
        Predecessor::Kube2iam => agents
            .iter()
            .all(|agent| agent.is_on("namespace-restrictions")),
    };
    let key = match predecessor {
        Predecessor::Kube2iam => ALLOWED_ROLES,
        Predecessor::Kiam => PERMITTED,
    };
    let lists = cluster
        .namespaces()
        .into_iter()
        .filter_map(|namespace| {
            let list = namespace.annotations?.remove(key)?;
            Some((namespace.name, list))
        })
        .collect();
    let pods: Vec<Pod> = cluster.of("Pod");
    let facts = Facts {
        cluster: args.cluster_name.clone(),
        compat,
        restricted,
        agents: agents
            .iter()
            .map(|agent| (agent.namespace.clone(), agent.name.clone()))
            .collect(),
        pods: pods
            .iter()
            .filter(|pod| !pod.is_over())
            .map(|pod| PodFacts {
                namespace: pod.metadata.namespace.clone(),
                name: pod.metadata.name.clone(),
                service_account: pod.account().to_owned(),
                role: pod.annotation(ROLE),
                external_id: pod.annotation(EXTERNAL_ID),
                host_network: pod.spec.host_network,
            })
            .collect(),
        lists,
        roles: roles(args)?,
    };
    let made = plan(&facts);
    args.output.write(out, &made, |out| table(out, &made))?;
    Ok(if made.problems.is_empty() {
        Exit::Fine
    } else {
        Exit::No
    })
}

fn roles(args: &PlanArgs) -> Result<Option<Vec<RoleFacts>>, Failure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Roles {
        roles: Vec<Role>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Role {
        arn: String,
        assume_role_policy_document: Value,
    }
    let Some(path) = &args.roles else {
        return Ok(None);
    };
    let node = args
        .node_role
        .as_deref()
        .ok_or_else(|| Failure::usage(anyhow!("--roles needs --node-role")))?;
    let read: Roles = json(path)?;
    let facts = read.roles.into_iter().map(|role| {
        let document = &role.assume_role_policy_document;
        RoleFacts {
            trusts_pods: allows(
                document,
                "Service",
                "pods.eks.amazonaws.com",
                &["sts:AssumeRole", "sts:TagSession"],
            ),
            trusts_node: allows(document, "AWS", node, &["sts:AssumeRole"]),
            arn: role.arn,
        }
    });
    Ok(Some(facts.collect()))
}

/// Whether statements of a trust policy allow all actions to the principal, whatever their conditions.
fn allows(document: &Value, kind: &str, principal: &str, actions: &[&str]) -> bool {
    let list = |value: Option<&Value>| -> Vec<String> {
        match value {
            Some(Value::String(text)) => vec![text.clone()],
            Some(Value::Array(all)) => {
                let texts = all.iter().filter_map(Value::as_str);
                texts.map(str::to_owned).collect()
            }
            _ => Vec::new(),
        }
    };
    let statements = match document.get("Statement") {
        Some(Value::Array(all)) => all.clone(),
        Some(one) => vec![one.clone()],
        None => Vec::new(),
    };
    actions.iter().all(|action| {
        statements.iter().any(|statement| {
            let principals = statement.get("Principal").and_then(|all| all.get(kind));
            statement.get("Effect").and_then(Value::as_str) == Some("Allow")
                && list(principals).iter().any(|own| own == principal)
                && list(statement.get("Action")).iter().any(|own| {
                    own.eq_ignore_ascii_case(action)
                        || own == "*"
                        || own.eq_ignore_ascii_case("sts:*")
                })
        })
    })
}

fn table(out: &mut dyn Write, plan: &Plan) -> std::io::Result<()> {
    let plain = |text: &str| text.replace(char::is_control, " ");
    let rows = plan.pods.iter().map(|row| {
        [
            row.pod.clone(),
            row.service_account.clone(),
            row.role.clone().unwrap_or_default(),
            if row.allowed { "yes" } else { "no" }.to_owned(),
            row.reason.clone().unwrap_or_default(),
        ]
    });
    columns(
        out,
        ["POD", "SERVICE ACCOUNT", "ROLE", "ALLOWED", "WHY NOT"],
        rows,
    )?;
    if !plan.problems.is_empty() {
        writeln!(out, "\nTo be settled first:")?;
    }
    for problem in &plan.problems {
        writeln!(
            out,
            "- {}: {}",
            plain(&problem.subject),
            plain(&problem.text)
        )?;
    }
    if !plan.unused_roles.is_empty() {
        writeln!(out, "\nRoles that trust the node and that no pod names:")?;
    }
    for role in &plan.unused_roles {
        writeln!(out, "- {}", plain(role))?;
    }
    for (number, step) in plan.steps.iter().enumerate() {
        writeln!(out, "\n{}. {}", number + 1, plain(&step.title))?;
        for line in &step.run {
            writeln!(out, "     {}", plain(line))?;
        }
        for line in &step.undo {
            writeln!(out, "   undo: {}", plain(line))?;
        }
    }
    Ok(())
}
