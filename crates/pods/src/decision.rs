//! What was decided, and why.

use std::fmt;

use crate::container::ContainerPlan;
use crate::note::{Notes, Origin};
use crate::patch::{MAX_PATCH_BYTES, Operation, Str};
use crate::review::AccountKey;
use crate::text::{name, value};
use crate::webhook::MAX_CONTAINERS;

/// The decision on one request. `Display` prints the whole of it, over several lines.
#[derive(Debug)]
pub struct Decision<'a> {
    /// What happens to the request.
    pub outcome: Outcome<'a>,
    /// Whose pod it is, when it is one.
    pub account: Option<AccountKey<'a>>,
    /// The credentials chosen, also when in the end nothing had to be added for them.
    pub credentials: Option<Credentials<'a>>,
    /// What was decided for each container, in the order of the lists.
    pub containers: Vec<ContainerPlan<'a>>,
    /// What was decided for the volume, when it came to that.
    pub volume: Option<VolumeOutcome>,
    /// What looked wrong on the way.
    pub notes: Notes<'a>,
    /// The patch; present exactly when the outcome is [`Outcome::Mutated`].
    pub patch: Option<Patch<'a>>,
}

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// Allowed, with a patch.
    Mutated,
    /// Allowed as it is.
    Unmodified(Unmodified<'a>),
    /// Not allowed.
    Refused(Refusal<'a>),
}

/// Why a request is left as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unmodified<'a> {
    /// The object is no pod.
    OtherKind(&'a str),
    /// The request carries no object, as deletions do not.
    NoObject,
    /// The request is for a subresource that is not mutated.
    Subresource(&'a str),
    /// The namespace is excluded, by this name or pattern.
    ExcludedNamespace(&'a str),
    /// The pod only mirrors what a kubelet runs by itself; such pods may not use tokens.
    MirrorPod,
    /// The pod carries the label that asks to be left alone.
    SkipLabel,
    /// There is no container to add to.
    NoContainers,
    /// The account is known, and neither it nor anything else gives it a role.
    NoCredentials,
    /// The account does not exist, and nothing else gives it a role.
    UnknownAccount,
    /// The account could not be read, and pods are admitted then.
    AccountUnread,
    /// The pod asks to skip each of its containers.
    AllSkipped,
    /// Everything is there: from an earlier call, or because the author of the pod wrote it.
    NothingToAdd,
    /// A running pod cannot get a volume, and this one has none.
    NoTokenVolume,
}

/// Why a request is not allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal<'a> {
    /// Pods live in namespaces, and credentials depend on them.
    NoNamespace,
    /// More than [`MAX_CONTAINERS`] of something.
    TooMany {
        /// Containers or volumes.
        what: &'static str,
        /// How many the pod has.
        count: usize,
    },
    /// The patch would be longer than [`MAX_PATCH_BYTES`].
    PatchTooLong,
    /// The role is no role ARN, and such pods are denied.
    RoleIsNoArn(String),
    /// The account could not be read, and such pods are denied.
    AccountUnread(AccountKey<'a>),
}

/// The credentials of a pod, with where each setting comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials<'a> {
    /// By which mechanism.
    pub mode: Mode<'a>,
    /// Audience of the token.
    pub audience: Setting<&'a str>,
    /// Lifetime of the token in seconds.
    pub lifetime: Setting<u32>,
    /// Whether the lifetime was drawn, so that tokens of pods made together are not renewed together.
    pub is_lifetime_drawn: bool,
    /// Whether SDKs are told to use the regional STS.
    pub regional_sts: Setting<bool>,
    /// What told that the pod is for Windows, if it is.
    pub windows: Option<WindowsSign>,
}

/// The mechanism of credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode<'a> {
    /// The pod itself calls AssumeRoleWithWebIdentity.
    Irsa {
        /// The role as it is handed to the pod.
        role: Str<'a>,
        /// Where it comes from.
        source: RoleSource<'a>,
    },
    /// The pod asks the agent of its node (EKS Pod Identity).
    ContainerCredentials(AssociationFact<'a>),
}

/// Where the role of an account comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleSource<'a> {
    /// The annotation of the service account.
    Annotation,
    /// This key of the ConfigMap.
    ConfigMap(&'a str),
}

/// The association that was found for an account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AssociationFact<'a> {
    /// Its id; identities of a file have none.
    pub id: Option<&'a str>,
    /// The pattern that matched, when it was one.
    pub pattern: Option<&'a str>,
}

/// A value, and who set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting<T> {
    /// The value.
    pub value: T,
    /// Who set it.
    pub origin: Origin,
}

/// What tells that a pod is for Windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowsSign {
    /// `spec.os.name`.
    OsName,
    /// A label of the node, by node selector or required affinity.
    NodeLabel(&'static str),
}

/// What becomes of the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeOutcome {
    /// It is added.
    Added,
    /// One of this name is there.
    Present,
    /// No container mounts it.
    NotNeeded,
}

/// The patch of a decision.
#[derive(Debug)]
pub struct Patch<'a> {
    pub(crate) operations: Vec<Operation<'a>>,
    pub(crate) json: Vec<u8>,
}

// === impl Decision ===

impl<'a> Decision<'a> {
    /// Whether the request is allowed.
    pub fn is_allowed(&self) -> bool {
        !matches!(self.outcome, Outcome::Refused(_))
    }

    /// Whether the pod should have credentials and has no volume for them: asked about a pod that runs, this is one that
    /// was missed when it was made.
    pub fn lacks_credentials(&self) -> bool {
        self.volume == Some(VolumeOutcome::Added)
    }

    /// A word for the audit log and for counting, from a closed set: `irsa:annotation`, `irsa:configmap`,
    /// `association`, `skipped`, `none`.
    pub fn code(&self) -> &'static str {
        match &self.outcome {
            Outcome::Unmodified(
                Unmodified::ExcludedNamespace(_)
                | Unmodified::MirrorPod
                | Unmodified::SkipLabel
                | Unmodified::AllSkipped,
            ) => return "skipped",
            Outcome::Refused(_) => return "none",
            Outcome::Mutated | Outcome::Unmodified(_) => {}
        }
        match self
            .credentials
            .as_ref()
            .map(|credentials| &credentials.mode)
        {
            Some(Mode::Irsa {
                source: RoleSource::Annotation,
                ..
            }) => "irsa:annotation",
            Some(Mode::Irsa {
                source: RoleSource::ConfigMap(_),
                ..
            }) => "irsa:configmap",
            Some(Mode::ContainerCredentials(_)) => "association",
            None => "none",
        }
    }
}

impl<'a> Patch<'a> {
    /// The operations, in order.
    pub fn operations(&self) -> &[Operation<'a>] {
        &self.operations
    }

    /// The patch as JSON text.
    pub fn json(&self) -> &[u8] {
        &self.json
    }
}

impl fmt::Display for Decision<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(account) = &self.account {
            writeln!(f, "account: {account}")?;
        }
        if let Some(credentials) = &self.credentials {
            writeln!(f, "{credentials}")?;
        }
        for container in &self.containers {
            writeln!(f, "{container}")?;
        }
        if let Some(volume) = &self.volume {
            writeln!(f, "{volume}")?;
        }
        for note in self.notes.iter() {
            let kind = if note.is_warning() { "warning" } else { "note" };
            writeln!(f, "{kind}: {note}")?;
        }
        write!(f, "{}", self.outcome)
    }
}

impl fmt::Display for Outcome<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mutated => f.write_str("mutated"),
            Self::Unmodified(why) => write!(f, "unmodified: {why}"),
            Self::Refused(why) => write!(f, "refused: {why}"),
        }
    }
}

impl fmt::Display for Unmodified<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherKind(kind) => write!(f, "the object is a `{}`, not a Pod", value(kind)),
            Self::NoObject => f.write_str("the request carries no object"),
            Self::Subresource(subresource) => {
                write!(f, "requests for pods/{} are not mutated", name(subresource))
            }
            Self::ExcludedNamespace(pattern) => {
                write!(f, "the namespace is excluded by `{}`", value(pattern))
            }
            Self::MirrorPod => f.write_str("mirror pods may not use tokens"),
            Self::SkipLabel => {
                write!(f, "the pod has the label {}", crate::webhook::SKIP_LABEL)
            }
            Self::NoContainers => f.write_str("the pod has no containers"),
            Self::NoCredentials => f.write_str(
                "the service account has no association and no role, by annotation or ConfigMap",
            ),
            Self::UnknownAccount => {
                f.write_str("the service account does not exist, and nothing else gives it a role")
            }
            Self::AccountUnread => f.write_str("the service account could not be read"),
            Self::AllSkipped => f.write_str("the pod asks to skip each of its containers"),
            Self::NothingToAdd => f.write_str("everything is there already"),
            Self::NoTokenVolume => {
                f.write_str("the pod runs without the token volume and cannot get one any more")
            }
        }
    }
}

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNamespace => f.write_str("the request names no namespace"),
            Self::TooMany { what, count } => {
                write!(f, "the pod has {count} {what}, more than {MAX_CONTAINERS}")
            }
            Self::PatchTooLong => {
                write!(
                    f,
                    "the patch has more than {MAX_PATCH_BYTES} bytes; is the role or audience that long?"
                )
            }
            Self::RoleIsNoArn(role) => write!(
                f,
                "role `{}` of the service account is no role ARN; correct the annotation role-arn or the ConfigMap",
                value(role)
            ),
            Self::AccountUnread(account) => {
                write!(f, "service account {account} could not be read; try again")
            }
        }
    }
}

impl fmt::Display for AccountKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", value(self.namespace), value(self.name))
    }
}

impl fmt::Display for Credentials<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = crate::text::Excerpt {
            text: self.audience.value,
            max: 128,
        };
        match &self.mode {
            Mode::Irsa { role, source } => {
                let role = crate::text::Excerpt {
                    text: role.as_str(),
                    max: 640,
                };
                writeln!(f, "IRSA: role {role}, from {source}")?;
            }
            Mode::ContainerCredentials(association) => writeln!(f, "Pod Identity: {association}")?,
        }
        writeln!(f, "audience: {shown}, from {}", self.audience.origin)?;
        let drawn = if self.is_lifetime_drawn {
            ", drawn"
        } else {
            ""
        };
        writeln!(
            f,
            "token lifetime: {} s, from {}{drawn}",
            self.lifetime.value, self.lifetime.origin
        )?;
        write!(
            f,
            "regional STS: {}, from {}",
            self.regional_sts.value, self.regional_sts.origin
        )?;
        match self.windows {
            Some(sign) => write!(f, "\nfor Windows, by {sign}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for RoleSource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Annotation => f.write_str("the annotation of the service account"),
            Self::ConfigMap(key) => write!(f, "key `{}` of the ConfigMap", value(key)),
        }
    }
}

impl fmt::Display for AssociationFact<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.id {
            Some(id) => write!(f, "association {}", value(id))?,
            None => f.write_str("an identity of the identities file")?,
        }
        match self.pattern {
            Some(pattern) => write!(f, ", by pattern `{}`", value(pattern)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for WindowsSign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OsName => f.write_str("spec.os.name"),
            Self::NodeLabel(label) => write!(f, "node label {label}"),
        }
    }
}

impl fmt::Display for VolumeOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Added => "volume: added",
            Self::Present => "volume: one of this name is there",
            Self::NotNeeded => "volume: no container mounts it",
        })
    }
}
