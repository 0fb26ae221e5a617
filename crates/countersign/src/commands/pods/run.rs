//! Plans: shown, or carried out step by step.

use std::io::IsTerminal as _;
use std::thread;
use std::time::Duration;

use anyhow::anyhow;
use countersign_client::Io;
use countersign_client::eks::EksError;
use countersign_podreview::Fact;
use countersign_podreview::plan::{Action, Association, Plan, State};
use countersign_podreview::printable;
use countersign_sources::kubernetes::{WorkloadKind, Workloads};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::aws::Aws;
use super::wait;
use crate::exit::Exit;
use crate::output::OutputFormat;
use crate::report::Failure;

/// A trust policy of AWS is in force some seconds after it was written; an association that needs it is tried again until then.
const TRUST_TRIES: u32 = 10;
const TRUST_PAUSE: Duration = Duration::from_secs(2);

/// How a plan is carried out.
pub(super) struct Runner<'a, 'p> {
    pub(super) aws: &'a Aws<'p>,
    pub(super) kubernetes: Option<&'a Workloads>,
    pub(super) clock: &'a dyn Fn() -> Timestamp,
    /// How long a step may wait for pods.
    pub(super) patience: Duration,
}

/// A plan and what became of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    #[serde(flatten)]
    plan: &'a Plan,
    /// Whether it was carried out.
    approved: bool,
    /// Commands that undo what was done, in this order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    undo: Vec<String>,
}

/// Shows the plan, or carries it out where that is approved; the exit code.
pub(super) fn finish(
    mut plan: Plan,
    approved: bool,
    runner: &Runner<'_, '_>,
    output: OutputFormat,
    io: &mut Io<'_>,
) -> Result<Exit, Failure> {
    let mut undo = Vec::new();
    if approved {
        carry_out(&mut plan, runner, &mut undo, io);
        undo.reverse();
        restart_again(&plan, &mut undo);
    }
    let report = Report {
        plan: &plan,
        approved,
        undo,
    };
    let waiting = plan.planned();
    output.write(io.stdout, &report, |out| {
        write!(out, "{plan}")?;
        if waiting > 0 {
            writeln!(out, "\nnothing is changed yet: give --yes to do it")?;
        }
        if !report.undo.is_empty() {
            writeln!(out, "\nto undo it, in this order:")?;
        }
        for command in &report.undo {
            writeln!(out, "  {}", printable(command))?;
        }
        Ok(())
    })?;
    let has = |state| plan.steps.iter().any(|step| step.state == state);
    // A restart that is left to a person is no refusal; a change that is left is.
    let left = plan
        .steps
        .iter()
        .any(|step| step.state == State::Left && !matches!(step.action, Action::Restart { .. }));
    Ok(if has(State::Failed) {
        Exit::Unknown
    } else if waiting > 0 || left || !plan.problems.is_empty() {
        Exit::No
    } else {
        Exit::Fine
    })
}

/// Pods have to be made anew once more when what mutates them is undone, and before the roles they have lose their rights.
fn restart_again(plan: &Plan, undo: &mut Vec<String>) {
    let mutates = |command: &String| {
        command.starts_with("kubectl annotate") || command.contains("pod-identity-association")
    };
    let at = undo.iter().rposition(mutates).map_or(0, |last| last + 1);
    let done = plan.steps.iter().filter(|step| step.state == State::Done);
    let restarts: Vec<String> = done
        .filter_map(|step| match &step.action {
            Action::Restart {
                namespace,
                kind,
                name,
            } => Some(format!(
                "kubectl rollout restart {}/{name} -n {namespace}",
                kind.to_lowercase()
            )),
            _ => None,
        })
        .collect();
    undo.splice(at..at, restarts);
}

/// Every planned step, until one fails.
fn carry_out(plan: &mut Plan, runner: &Runner<'_, '_>, undo: &mut Vec<String>, io: &mut Io<'_>) {
    let mut failed = false;
    let tell = std::io::stderr().is_terminal();
    for step in &mut plan.steps {
        if step.state != State::Planned {
            continue;
        }
        if failed {
            step.state = State::NotReached;
            continue;
        }
        if tell {
            let (verb, target) = (step.action.verb(), step.action.target());
            // Nothing is lost when nobody reads it.
            let _ = writeln!(io.stderr, "{verb} {}", printable(&target));
        }
        match runner.run(&step.action) {
            Ok(created) => {
                step.state = State::Done;
                let mut commands = step.action.undo(created.as_deref());
                commands.reverse();
                undo.extend(commands);
            }
            Err(failure) => {
                failed = true;
                step.state = State::Failed;
                let text = failure.render();
                let text = text.trim().strip_prefix("error: ").unwrap_or(text.trim());
                step.note = Some(text.replace('\n', "; "));
            }
        }
    }
}

impl Runner<'_, '_> {
    /// Does one step; the id of what it made.
    fn run(&self, action: &Action) -> Result<Option<String>, Failure> {
        let name = |arn: &str| arn.rsplit('/').next().unwrap_or_default().to_owned();
        match action {
            Action::CreateProvider { url, audience, .. } => {
                let parameters = [("Url", url.as_str()), ("ClientIDList.member.1", audience)];
                self.iam("CreateOpenIDConnectProvider", &parameters)
            }
            Action::AddAudience { arn, audience } => {
                let parameters = [
                    ("OpenIDConnectProviderArn", arn.as_str()),
                    ("ClientID", audience),
                ];
                self.iam("AddClientIDToOpenIDConnectProvider", &parameters)
            }
            Action::CreateRole { role_arn, trust } => {
                let parameters = [
                    ("RoleName", &*name(role_arn)),
                    ("AssumeRolePolicyDocument", trust),
                ];
                self.iam("CreateRole", &parameters)
            }
            Action::UpdateTrust {
                role_arn,
                before,
                after,
                ..
            } => {
                let name = name(role_arn);
                match self.aws.role_named(&name) {
                    Fact::Known(role) if role.trust == *before => {}
                    Fact::Known(_) => {
                        return Err(Failure::unknown(anyhow!(
                            "the trust policy was changed by somebody else meanwhile"
                        ))
                        .hint("run it again"));
                    }
                    other => {
                        let reason = other.unread().unwrap_or("the role is gone").to_owned();
                        return Err(Failure::unknown(anyhow!(reason)));
                    }
                }
                let parameters = [("RoleName", &*name), ("PolicyDocument", after)];
                self.iam("UpdateAssumeRolePolicy", &parameters)
            }
            Action::AttachPolicy {
                role_arn,
                policy_arn,
            } => {
                let parameters = [("RoleName", &*name(role_arn)), ("PolicyArn", policy_arn)];
                self.iam("AttachRolePolicy", &parameters)
            }
            Action::DetachPolicy {
                role_arn,
                policy_arn,
            } => {
                let parameters = [("RoleName", &*name(role_arn)), ("PolicyArn", policy_arn)];
                self.iam("DetachRolePolicy", &parameters)
            }
            Action::CreateAssociation(association) => self.associate(association),
            Action::UpdateAssociation { id, before, after } => {
                let path = ["clusters", &after.cluster, "pod-identity-associations", id];
                let body = changes(before, after);
                let operation = "UpdatePodIdentityAssociation";
                self.trusted(|| {
                    self.aws
                        .api
                        .send("POST", operation, &path, &[], Some(&body))
                })?;
                Ok(None)
            }
            Action::DeleteAssociation { id, before } => {
                let path = ["clusters", &before.cluster, "pod-identity-associations", id];
                let operation = "DeletePodIdentityAssociation";
                self.aws.api.send("DELETE", operation, &path, &[], None)?;
                Ok(None)
            }
            Action::Annotate {
                namespace,
                service_account,
                key,
                value,
                ..
            } => {
                let annotation = (key.as_str(), value.as_deref());
                let kind = WorkloadKind::ServiceAccount;
                self.kubernetes()?
                    .annotate(kind, namespace, service_account, annotation)?;
                Ok(None)
            }
            Action::Restart {
                namespace,
                kind,
                name,
            } => {
                let kind = WorkloadKind::workload(kind)
                    .ok_or_else(|| Failure::unknown(anyhow!("a {kind} cannot be restarted")))?;
                let at = (self.clock)().to_string();
                self.kubernetes()?.restart(kind, namespace, name, &at)?;
                Ok(None)
            }
            Action::WaitReady {
                namespace,
                name,
                role_arn,
            } => {
                let kubernetes = self.kubernetes()?;
                wait::until_ready(kubernetes, namespace, name, role_arn, self.patience)?;
                Ok(None)
            }
        }
    }

    fn kubernetes(&self) -> Result<&Workloads, Failure> {
        self.kubernetes
            .ok_or_else(|| Failure::unknown(anyhow!("no cluster is connected")))
    }

    fn iam(
        &self,
        operation: &'static str,
        parameters: &[(&str, &str)],
    ) -> Result<Option<String>, Failure> {
        self.aws.api.iam(operation, parameters)?;
        Ok(None)
    }

    fn associate(&self, association: &Association) -> Result<Option<String>, Failure> {
        let path = [
            "clusters",
            &association.cluster,
            "pod-identity-associations",
        ];
        let mut body = Map::new();
        let mut member = |name: &str, value: Value| body.insert(name.to_owned(), value);
        member("namespace", json!(association.namespace));
        member("serviceAccount", json!(association.service_account));
        member("roleArn", json!(association.role_arn));
        let token = format!("countersign-{}", (self.clock)().as_nanosecond());
        member("clientRequestToken", json!(token));
        if let Some(target) = &association.target_role_arn {
            member("targetRoleArn", json!(target));
        }
        if let Some(disable) = association.disable_session_tags {
            member("disableSessionTags", json!(disable));
        }
        if let Some(policy) = &association.policy {
            member("policy", json!(policy));
        }
        body.extend(association.sessions.members());
        let body = Value::Object(body);
        let operation = "CreatePodIdentityAssociation";
        let answer = self.trusted(|| {
            self.aws
                .api
                .send("POST", operation, &path, &[], Some(&body))
        })?;
        let id = answer.pointer("/association/associationId");
        Ok(id.and_then(Value::as_str).map(str::to_owned))
    }

    /// Tries again while the API still sees the trust policy of before.
    fn trusted(&self, call: impl Fn() -> Result<Value, EksError>) -> Result<Value, Failure> {
        let mut tries = 1;
        loop {
            match call() {
                Err(error)
                    if tries < TRUST_TRIES
                        && error.code() == Some("InvalidParameterException")
                        && error.to_string().contains("Trust policy") =>
                {
                    tries += 1;
                    thread::sleep(TRUST_PAUSE);
                }
                other => return Ok(other?),
            }
        }
    }
}

/// The members that an update changes. What is given and empty is taken away.
fn changes(before: &Association, after: &Association) -> Value {
    let mut body = Map::new();
    if before.role_arn != after.role_arn {
        body.insert("roleArn".to_owned(), json!(after.role_arn));
    }
    if before.target_role_arn != after.target_role_arn {
        let target = after.target_role_arn.as_deref().unwrap_or_default();
        body.insert("targetRoleArn".to_owned(), json!(target));
    }
    if before.disable_session_tags != after.disable_session_tags {
        let disable = after.disable_session_tags.unwrap_or(false);
        body.insert("disableSessionTags".to_owned(), json!(disable));
    }
    if before.policy != after.policy {
        let policy = after.policy.as_deref().unwrap_or_default();
        body.insert("policy".to_owned(), json!(policy));
    }
    body.extend(before.sessions.changes(&after.sessions));
    Value::Object(body)
}
