//! What admission would add to the pod as it is now: the webhook's own decision, asked again.

use countersign_pods::patch::Str;
use countersign_pods::{
    AccountFact, AccountSettings, AssociationFact, ContainerOutcome, Decision, Facts as Known,
    Mode, Options, Outcome, Part, Review, Unmodified, Webhook,
};

use super::Facts;
use crate::ANNOTATION_PREFIX;
use crate::fact::Fact;

/// The webhook's decision, as far as the explanation needs it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Admission {
    /// The mechanism that the pod should have.
    pub(super) wanted: Option<Wanted>,
    /// Why nothing would be added, where that is not because everything is there.
    pub(super) left_alone: Option<String>,
    /// Whether the whole pod was missed.
    pub(super) missed: bool,
    /// Containers by name and what each lacks.
    pub(super) containers: Vec<(String, Lack)>,
    /// Warnings of the decision.
    pub(super) warnings: Vec<String>,
}

/// The mechanism that the pod should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// IRSA with this role.
    Irsa(String),
    /// EKS Pod Identity.
    PodIdentity,
}

/// What a container lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lack {
    /// Nothing.
    Nothing,
    /// The pod asks to skip it.
    Skipped,
    /// It would get the variables.
    Credentials,
    /// It has variables of its own, and would get the mount.
    Mount,
    /// It has everything of its own.
    Own,
}

impl Admission {
    pub(super) fn of(facts: &Facts) -> Result<Self, String> {
        let webhook = Webhook::new(Options::default()).map_err(|error| error.to_string())?;
        let body = facts.object.to_string();
        let namespace = facts.pod.namespace.as_str();
        let review =
            Review::of_pod(namespace, body.as_bytes()).map_err(|error| error.to_string())?;
        let settings = facts.account.known().map(|account| {
            let annotations = account.annotations.iter();
            AccountSettings::from_annotations(
                ANNOTATION_PREFIX,
                annotations.map(|(key, value)| (key.as_str(), value.as_str())),
            )
        });
        let pattern = facts.association.known().and_then(|found| found.pattern());
        let known = Known {
            account: match (&facts.account, &settings) {
                (_, Some(settings)) => AccountFact::Known(settings),
                (Fact::Missing, None) => AccountFact::Missing,
                (_, None) => AccountFact::Unread,
            },
            association: facts
                .association
                .known()
                .map(|association| AssociationFact {
                    id: Some(&association.id),
                    pattern: pattern.as_deref(),
                }),
            ..Known::NOTHING
        };
        let decision = webhook.decide(&review, &known);
        Ok(Self::read(&decision))
    }

    fn read(decision: &Decision<'_>) -> Self {
        let wanted = decision
            .credentials
            .as_ref()
            .map(|credentials| match &credentials.mode {
                Mode::Irsa { role, .. } => Wanted::Irsa(match role {
                    Str::Borrowed(role) => (*role).to_owned(),
                    Str::Shared(role) => role.to_string(),
                }),
                Mode::ContainerCredentials(_) => Wanted::PodIdentity,
            });
        let left_alone = match &decision.outcome {
            Outcome::Unmodified(
                Unmodified::NothingToAdd
                | Unmodified::NoCredentials
                | Unmodified::UnknownAccount
                | Unmodified::AccountUnread,
            )
            | Outcome::Mutated => None,
            other => Some(other.to_string()),
        };
        let containers = decision.containers.iter().map(|plan| {
            let lack = match plan.outcome {
                ContainerOutcome::Skipped => Lack::Skipped,
                ContainerOutcome::LeftAlone { .. } => Lack::Own,
                ContainerOutcome::Filled {
                    credentials: Part::Added,
                    ..
                } => Lack::Credentials,
                ContainerOutcome::Filled {
                    mount: Part::Added, ..
                } => Lack::Mount,
                ContainerOutcome::Filled { .. } => Lack::Nothing,
            };
            (plan.name.to_owned(), lack)
        });
        Self {
            wanted,
            left_alone,
            missed: decision.lacks_credentials(),
            containers: containers.collect(),
            warnings: decision.notes.warnings(),
        }
    }

    pub(super) fn lack(&self, container: &str) -> Option<Lack> {
        let mut all = self.containers.iter();
        all.find(|(name, _)| name == container)
            .map(|(_, lack)| *lack)
    }
}
