//! Changes of credentials as plans: steps in order, each with what undoes it. Making a plan changes nothing; carrying it out twice
//! changes nothing the second time, since steps whose end is there already are told as such.

mod addon;
mod associate;
mod legacy;
mod migrate;

use std::fmt;

use serde::Serialize;

pub use addon::{Addon, AddonFacts, AddonRequest, enable_irsa};
pub use associate::{AssociateRequest, associate};
pub use migrate::{Direction, From, Inventory, MigrateOptions, To, migrate, wanted_roles};

use crate::json_text::pretty;
use crate::sessions::SessionSettings;
use crate::text::printable;

/// A plan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The steps, in the order in which they are safe.
    pub steps: Vec<Step>,
    /// What is left out, and why; these want a person.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
    /// What else is worth knowing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Something that is left out of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// The service account or role.
    pub subject: String,
    /// What is wrong.
    pub reason: String,
    /// What to do first.
    #[serde(rename = "do")]
    pub advice: String,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// What is done.
    #[serde(flatten)]
    pub action: Action,
    /// How far it is.
    pub state: State,
    /// What goes beside it, such as why nothing is to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// How far a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// It would be done.
    Planned,
    /// Nothing is to do: it is so already.
    There,
    /// It is done.
    Done,
    /// It did not work.
    Failed,
    /// A step before it did not work.
    NotReached,
    /// A person does it, or gives the flag for it.
    Left,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    tag = "action"
)]
pub enum Action {
    /// Make an OpenID Connect provider.
    CreateProvider {
        /// ARN it will have.
        arn: String,
        /// The issuer.
        url: String,
        /// The audience.
        audience: String,
    },
    /// Let a provider take another audience.
    AddAudience {
        /// The provider.
        arn: String,
        /// The audience.
        audience: String,
    },
    /// Make a role.
    CreateRole {
        /// ARN it will have.
        role_arn: String,
        /// Its trust policy.
        trust: String,
    },
    /// Change a trust policy.
    UpdateTrust {
        /// The role.
        role_arn: String,
        /// The document before.
        before: String,
        /// The document after.
        after: String,
        /// What is different, in a few words.
        what: String,
    },
    /// Attach a managed policy to a role.
    AttachPolicy {
        /// The role.
        role_arn: String,
        /// The policy.
        policy_arn: String,
    },
    /// Detach a managed policy from a role.
    DetachPolicy {
        /// The role.
        role_arn: String,
        /// The policy.
        policy_arn: String,
    },
    /// Make an association.
    CreateAssociation(Association),
    /// Change an association.
    UpdateAssociation {
        /// Its id.
        id: String,
        /// As it is.
        before: Association,
        /// As it will be.
        after: Association,
    },
    /// Delete an association.
    DeleteAssociation {
        /// Its id.
        id: String,
        /// As it is.
        before: Association,
    },
    /// Set or remove an annotation of a service account.
    Annotate {
        /// The namespace.
        namespace: String,
        /// The service account.
        service_account: String,
        /// The annotation.
        key: String,
        /// Its new value; removed without one.
        value: Option<String>,
        /// Its value before.
        before: Option<String>,
    },
    /// Have the pods of a workload made again.
    Restart {
        /// The namespace.
        namespace: String,
        /// `Deployment`, `StatefulSet` or `DaemonSet`; others cannot be restarted by a change of theirs.
        kind: String,
        /// Its name.
        name: String,
    },
    /// Wait until every pod of a DaemonSet is new, ready and has a variable.
    WaitReady {
        /// The namespace.
        namespace: String,
        /// The DaemonSet.
        name: String,
        /// The role that its pods have then.
        role_arn: String,
    },
}

/// An association as a plan sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Association {
    /// The cluster.
    pub cluster: String,
    /// The namespace.
    pub namespace: String,
    /// The service account.
    pub service_account: String,
    /// The role.
    pub role_arn: String,
    /// The role of the second hop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_role_arn: Option<String>,
    /// Whether sessions carry no tags; absent where nobody said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disable_session_tags: Option<bool>,
    /// The session policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// What it says of sessions beyond what EKS knows.
    #[serde(flatten)]
    pub sessions: Box<SessionSettings>,
}

impl Plan {
    /// How many steps would be done.
    #[must_use]
    pub fn planned(&self) -> usize {
        let planned = self.steps.iter();
        planned.filter(|step| step.state == State::Planned).count()
    }

    pub(crate) fn push(&mut self, state: State, action: Action) {
        self.noted(state, action, None);
    }

    pub(crate) fn noted(&mut self, state: State, action: Action, note: Option<String>) {
        let step = Step {
            action,
            state,
            note,
        };
        if !self.steps.contains(&step) {
            self.steps.push(step);
        }
    }

    pub(crate) fn problem(
        &mut self,
        subject: impl Into<String>,
        reason: impl Into<String>,
        advice: impl Into<String>,
    ) {
        let problem = Problem {
            subject: subject.into(),
            reason: reason.into(),
            advice: advice.into(),
        };
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }
}

impl Action {
    /// A word for what is done.
    #[must_use]
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::CreateProvider { .. } => "create provider",
            Self::AddAudience { .. } => "add audience",
            Self::CreateRole { .. } => "create role",
            Self::UpdateTrust { .. } => "change trust",
            Self::AttachPolicy { .. } => "attach policy",
            Self::DetachPolicy { .. } => "detach policy",
            Self::CreateAssociation(_) => "create association",
            Self::UpdateAssociation { .. } => "change association",
            Self::DeleteAssociation { .. } => "delete association",
            Self::Annotate { value: Some(_), .. } => "annotate",
            Self::Annotate { value: None, .. } => "remove annotation",
            Self::Restart { .. } => "restart",
            Self::WaitReady { .. } => "wait for",
        }
    }

    /// What it is done to.
    #[must_use]
    pub fn target(&self) -> String {
        match self {
            Self::CreateProvider { arn, .. } | Self::AddAudience { arn, .. } => arn.clone(),
            Self::CreateRole { role_arn, .. }
            | Self::UpdateTrust { role_arn, .. }
            | Self::AttachPolicy { role_arn, .. }
            | Self::DetachPolicy { role_arn, .. } => role_arn.clone(),
            Self::CreateAssociation(association)
            | Self::UpdateAssociation {
                after: association, ..
            }
            | Self::DeleteAssociation {
                before: association,
                ..
            } => format!("{}/{}", association.namespace, association.service_account),
            Self::Annotate {
                namespace,
                service_account,
                ..
            } => format!("{namespace}/{service_account}"),
            Self::Restart {
                namespace,
                kind,
                name,
            } => format!("{namespace}/{} {name}", kind.to_lowercase()),
            Self::WaitReady {
                namespace, name, ..
            } => format!("{namespace}/daemonset {name}"),
        }
    }

    /// With what, or from what to what.
    #[must_use]
    pub fn detail(&self) -> String {
        match self {
            Self::CreateProvider { audience, .. } | Self::AddAudience { audience, .. } => {
                format!("for {audience}")
            }
            Self::CreateRole { .. } => "with the trust policy below".to_owned(),
            Self::UpdateTrust { what, .. } => what.clone(),
            Self::AttachPolicy { policy_arn, .. } | Self::DetachPolicy { policy_arn, .. } => {
                policy_arn.clone()
            }
            Self::CreateAssociation(association) => association.detail(),
            Self::UpdateAssociation { id, before, after } => {
                format!("{id}: {} -> {}", before.detail(), after.detail())
            }
            Self::DeleteAssociation { id, before } => format!("{id}: {}", before.detail()),
            Self::Annotate {
                key, value, before, ..
            } => match (value, before) {
                (Some(value), _) => format!("{key}={value}"),
                (None, Some(before)) => format!("{key} (was {before})"),
                (None, None) => key.clone(),
            },
            Self::Restart { .. } => "so that its pods are mutated anew".to_owned(),
            Self::WaitReady { .. } => "every pod new, ready and with the role".to_owned(),
        }
    }

    /// The commands that undo the step once it is done; none where nothing needs to be. `created` is the id of what the step made.
    #[must_use]
    pub fn undo(&self, created: Option<&str>) -> Vec<String> {
        let name = |arn: &str| shell(arn.rsplit('/').next().unwrap_or_default());
        match self {
            Self::CreateProvider { arn, .. } => vec![format!(
                "aws iam delete-open-id-connect-provider --open-id-connect-provider-arn {}",
                shell(arn)
            )],
            Self::AddAudience { arn, audience } => vec![format!(
                "aws iam remove-client-id-from-open-id-connect-provider --open-id-connect-provider-arn {} --client-id {}",
                shell(arn),
                shell(audience)
            )],
            Self::CreateRole { role_arn, .. } => {
                vec![format!(
                    "aws iam delete-role --role-name {}",
                    name(role_arn)
                )]
            }
            Self::UpdateTrust {
                role_arn, before, ..
            } => vec![format!(
                "aws iam update-assume-role-policy --role-name {} --policy-document {}",
                name(role_arn),
                shell(&compact(before))
            )],
            Self::AttachPolicy {
                role_arn,
                policy_arn,
            } => vec![format!(
                "aws iam detach-role-policy --role-name {} --policy-arn {}",
                name(role_arn),
                shell(policy_arn)
            )],
            Self::DetachPolicy {
                role_arn,
                policy_arn,
            } => vec![format!(
                "aws iam attach-role-policy --role-name {} --policy-arn {}",
                name(role_arn),
                shell(policy_arn)
            )],
            Self::CreateAssociation(association) => {
                let id = created.unwrap_or("ASSOCIATION_ID");
                vec![format!(
                    "aws eks delete-pod-identity-association --cluster-name {} --association-id {}",
                    shell(&association.cluster),
                    shell(id)
                )]
            }
            Self::UpdateAssociation { before, after, .. } if before.sessions != after.sessions => {
                vec![format!("{} --update", before.command())]
            }
            Self::UpdateAssociation { id, before, after } => {
                let mut command = format!(
                    "aws eks update-pod-identity-association --cluster-name {} --association-id {} --role-arn {}",
                    shell(&before.cluster),
                    shell(id),
                    shell(&before.role_arn)
                );
                if before.target_role_arn != after.target_role_arn {
                    let target = before.target_role_arn.as_deref().unwrap_or_default();
                    command.push_str(&format!(" --target-role-arn {}", shell(target)));
                }
                if before.disable_session_tags != after.disable_session_tags {
                    command.push_str(match before.disable_session_tags {
                        Some(true) => " --disable-session-tags",
                        _ => " --no-disable-session-tags",
                    });
                }
                if let Some(policy) = before
                    .policy
                    .as_ref()
                    .filter(|_| before.policy != after.policy)
                {
                    command.push_str(&format!(" --policy {}", shell(policy)));
                }
                vec![command]
            }
            Self::DeleteAssociation { before, .. } if !before.sessions.is_empty() => {
                vec![before.command()]
            }
            Self::DeleteAssociation { before, .. } => {
                let mut command = format!(
                    "aws eks create-pod-identity-association --cluster-name {} --namespace {} --service-account {} --role-arn {}",
                    shell(&before.cluster),
                    shell(&before.namespace),
                    shell(&before.service_account),
                    shell(&before.role_arn)
                );
                if let Some(target) = &before.target_role_arn {
                    command.push_str(&format!(" --target-role-arn {}", shell(target)));
                }
                if before.disable_session_tags == Some(true) {
                    command.push_str(" --disable-session-tags");
                }
                if let Some(policy) = &before.policy {
                    command.push_str(&format!(" --policy {}", shell(policy)));
                }
                vec![command]
            }
            Self::Annotate {
                namespace,
                service_account,
                key,
                before,
                ..
            } => vec![match before {
                Some(before) => format!(
                    "kubectl annotate serviceaccount {} -n {} --overwrite {}",
                    shell(service_account),
                    shell(namespace),
                    shell(&format!("{key}={before}"))
                ),
                None => format!(
                    "kubectl annotate serviceaccount {} -n {} {key}-",
                    shell(service_account),
                    shell(namespace)
                ),
            }],
            Self::Restart { .. } | Self::WaitReady { .. } => Vec::new(),
        }
    }
}

impl Association {
    fn detail(&self) -> String {
        let mut text = self.role_arn.clone();
        if let Some(target) = &self.target_role_arn {
            text.push_str(&format!(", then {target}"));
        }
        if self.disable_session_tags == Some(true) {
            text.push_str(", without session tags");
        }
        if self.policy.is_some() {
            text.push_str(", with a session policy");
        }
        text.push_str(&self.sessions.detail());
        text
    }

    /// The command that makes it so. AWS's does not know all of it.
    fn command(&self) -> String {
        let mut words = vec![
            "--cluster".to_owned(),
            self.cluster.clone(),
            "--namespace".to_owned(),
            self.namespace.clone(),
            "--service-account".to_owned(),
            self.service_account.clone(),
            "--role".to_owned(),
            self.role_arn.clone(),
        ];
        if let Some(target) = &self.target_role_arn {
            words.extend(["--target-role".to_owned(), target.clone()]);
        }
        if self.disable_session_tags == Some(true) {
            words.push("--disable-session-tags".to_owned());
        }
        words.extend(self.sessions.flags());
        let words: Vec<_> = words.iter().map(|word| shell(word)).collect();
        let command = format!("countersign pods associate {} --yes", words.join(" "));
        match &self.policy {
            Some(policy) => format!("echo {} | {command} --policy -", shell(policy)),
            None => command,
        }
    }
}

impl State {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::There => "there",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::NotReached => "not reached",
            Self::Left => "left to you",
        }
    }
}

/// Steps as rows, trust policies that are new or changed below, problems and notes last.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: Vec<[String; 4]> = self
            .steps
            .iter()
            .map(|step| {
                let mut detail = step.action.detail();
                if let Some(note) = &step.note {
                    detail.push_str(&format!(" ({note})"));
                }
                [
                    step.state.as_str().to_owned(),
                    step.action.verb().to_owned(),
                    step.action.target(),
                    detail,
                ]
                .map(|cell| printable(&cell).into_owned())
            })
            .collect();
        let mut widths = [0_usize; 3];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let [state, verb, target] = widths;
        if rows.is_empty() && self.problems.is_empty() {
            writeln!(f, "nothing to do")?;
        }
        for (at, [a, b, c, d]) in rows.iter().enumerate() {
            writeln!(f, "{:2}. {a:state$}  {b:verb$}  {c:target$}  {d}", at + 1)?;
        }
        for step in &self.steps {
            let (role, document) = match (&step.action, step.state) {
                (
                    Action::UpdateTrust {
                        role_arn, after, ..
                    },
                    State::Planned,
                ) => (role_arn, after),
                (Action::CreateRole { role_arn, trust }, State::Planned) => (role_arn, trust),
                _ => continue,
            };
            writeln!(f, "\ntrust policy of {}:", printable(role))?;
            for line in pretty(document).lines() {
                writeln!(f, "  {}", printable(line))?;
            }
        }
        if !self.problems.is_empty() {
            let gap = if rows.is_empty() { "" } else { "\n" };
            writeln!(f, "{gap}left out:")?;
        }
        for problem in &self.problems {
            writeln!(
                f,
                "  {}: {}",
                printable(&problem.subject),
                printable(&problem.reason)
            )?;
            writeln!(f, "    do: {}", printable(&problem.advice))?;
        }
        for note in &self.notes {
            writeln!(f, "\nnote: {}", printable(note))?;
        }
        Ok(())
    }
}

/// JSON without white space between its parts.
fn compact(document: &str) -> String {
    let mut out = String::with_capacity(document.len());
    let (mut inside, mut escaped) = (false, false);
    for c in document.chars() {
        if inside {
            match (escaped, c) {
                (false, '"') => inside = false,
                (false, '\\') => escaped = true,
                _ => escaped = false,
            }
        } else if c.is_ascii_whitespace() {
            continue;
        } else if c == '"' {
            inside = true;
        }
        out.push(c);
    }
    out
}

/// A word of a shell command; quoted unless every shell takes it as it is.
pub(crate) fn shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    let word: String = word.chars().filter(|c| !c.is_control()).collect();
    format!("'{}'", word.replace('\'', r"'\''"))
}
